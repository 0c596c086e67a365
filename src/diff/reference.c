// SPDX-License-Identifier: MIT
/*
 * What an atom reaches: each of its relocations, and each branch or address that the assembler resolved
 * and that leaves the atom, as (field, target atom, addend).
 *
 * Assemblers write a reference to a local symbol as "section + addend". Which atom that is follows
 * from the real offset, and for a PC-relative operand that needs the end of the instruction: the
 * addend holds -4, or -5 and -8 where an immediate follows the field. Decoding costs more than
 * everything else here, so an atom is decoded only where a section holds more than one candidate;
 * with one section per function and datum that is rare.
 */
#include <elf.h>
#include <string.h>

#include "diff/internal.h"

static bool counts_from_place(enum relocation_kind kind)
{
	switch (kind) {
	case RELOCATION_RELATIVE:
	case RELOCATION_CALL:
	case RELOCATION_GOT:
	case RELOCATION_GOT_RELAX:
	case RELOCATION_GOT_BASE:
	case RELOCATION_TLS_GD:
	case RELOCATION_TLS_LD:
	case RELOCATION_TLS_IE:
	case RELOCATION_TLS_DESC:
		return true;
	default:
		return false;
	}
}

struct list {
	VEC(struct reference) references;
};

static const struct section_info *info_of(const struct atom *atom,
					  const struct object_section *section)
{
	return &atom->side->sections[section->index];
}

// An unnamed table of distances (".long .L3 - .L1") counts from the table's start, which is where its
// users point; R_*_PC32 counts from the field.
static int64_t table_adjust(const struct atom *atom, uint64_t field)
{
	const struct section_info *info = info_of(atom, atom->section);
	uint64_t base = atom->start;
	if (section_is_exception_table(atom->section))
		return 0;
	size_t low = 0, high = info->cut_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (info->cuts[middle] <= field)
			low = middle + 1;
		else
			high = middle;
	}
	if (low > 0 && info->cuts[low - 1] > base)
		base = info->cuts[low - 1];
	return -(int64_t)(field - base);
}

static void resolve_target(const struct side *side, struct reference *reference,
			   const struct object_relocation *relocation)
{
	const struct object_symbol *symbol = relocation->symbol;
	reference->symbol = symbol;
	reference->addend = relocation->addend;
	if (!symbol->section)
		return;
	if (symbol->type != STT_SECTION) {
		reference->target = side_symbol_atom(side, symbol);
		if (reference->target)
			reference->addend =
				addend_add(reference->addend,
					   (int64_t)(symbol->value - reference->target->start));
		return;
	}

	const struct section_info *info = &side->sections[symbol->section->index];
	if (info->count == 0)
		return;
	int64_t place = addend_add(relocation->addend, reference->adjust);
	// In front of a section's start: `table[i - 4]` with a constant folded in.
	uint64_t offset = place < 0 ? 0 : (uint64_t)place;
	if (info->count > 1 && reference->adjust < 0 && offset > symbol->section->size)
		offset = (uint64_t)relocation->addend;
	reference->target = side_atom_at(side, symbol->section, offset);
	reference->addend = addend_add(reference->addend, -(int64_t)reference->target->start);
}

static bool is_direct(enum arch_flow flow)
{
	return flow == ARCH_FLOW_JUMP || flow == ARCH_FLOW_BRANCH || flow == ARCH_FLOW_CALL;
}

uint32_t reference_made_type(const struct arch *arch, enum relocation_kind kind, uint8_t size)
{
	for (uint32_t type = 1; type < 256; type++) {
		const struct arch_relocation *row = arch->relocation(type);
		if (row && row->kind == kind && row->size == size)
			return type;
	}
	return arch->relocation_none;
}

// A branch out of the atom, or the address of another function, that the assembler knew.
static void add_made_reference(struct atom *atom, struct list *list, uint64_t at,
			    const struct arch_instruction *instruction)
{
	uint64_t target = instruction->target;
	if (target >= atom->start && target < atom->start + atom->size)
		return;
	if (target >= atom->section->size)
		return;
	struct atom *reached = side_atom_at(atom->side, atom->section, target);
	if (!reached || reached == atom)
		return;
	int64_t to_end = instruction->length - instruction->pcrel_offset;
	bool branch = is_direct(instruction->flow);
	enum relocation_kind kind = branch ? RELOCATION_CALL : RELOCATION_RELATIVE;
	vec_push(&list->references,
		 (struct reference){
			 .offset = at + instruction->pcrel_offset,
			 .type = reference_made_type(atom->side->object->arch, kind,
						     instruction->pcrel_size),
			 .kind = kind,
			 .size = instruction->pcrel_size,
			 .made = true,
			 .branch = branch,
			 .target = reached,
			 .addend = (int64_t)(target - reached->start) - to_end,
			 .adjust = to_end,
		 });
}

static struct reference reference_of(const struct atom *atom,
				     const struct object_relocation *relocation)
{
	const struct arch_relocation *row = atom->side->object->arch->relocation(relocation->type);
	return (struct reference){
		.offset = relocation->offset - atom->start,
		.type = relocation->type,
		.kind = row ? row->kind : RELOCATION_NONE,
		.size = row ? row->size : 0,
	};
}

// Markers have no field and mean nothing to the program: R_*_NONE keeps a section alive.
static bool is_marker(const struct atom *atom, const struct object_relocation *relocation)
{
	const struct arch_relocation *row = atom->side->object->arch->relocation(relocation->type);
	return row && row->kind == RELOCATION_NONE;
}

// Relocations and instructions side by side.
static void resolve_code(struct atom *atom, const struct object_relocation *relocations,
			 size_t count, struct list *list)
{
	const struct arch *arch = atom->side->object->arch;
	const uint8_t *bytes = atom_bytes(atom);
	bool neighbours = info_of(atom, atom->section)->count > 1;
	size_t next = 0;
	for (uint64_t at = 0; at < atom->size;) {
		struct arch_instruction instruction;
		bool decoded = arch->decode(bytes + at, atom->size - at, atom->start + at,
					    &instruction);
		if (!decoded)
			instruction = (struct arch_instruction){ .length = 1 };
		uint64_t end = at + instruction.length;
		uint64_t operand = at + instruction.pcrel_offset;
		bool relocated = false;
		for (; next < count && relocations[next].offset < atom->start + end; next++) {
			if (is_marker(atom, &relocations[next]))
				continue;
			struct reference reference = reference_of(atom, &relocations[next]);
			if (counts_from_place(reference.kind)) {
				bool is_operand = instruction.has_pcrel &&
						  reference.offset == operand;
				// No operand is there: a word of data in text counts from itself.
				if (is_operand)
					reference.adjust = (int64_t)(end - reference.offset);
				else if (reference.kind != RELOCATION_RELATIVE)
					reference.adjust = reference.size;
				reference.branch = is_operand && is_direct(instruction.flow);
			}
			relocated |= reference.offset == operand;
			resolve_target(atom->side, &reference, &relocations[next]);
			vec_push(&list->references, reference);
		}
		if (neighbours && instruction.has_pcrel && !relocated)
			add_made_reference(atom, list, at, &instruction);
		at = end;
	}
}

static void resolve_plain(struct atom *atom, const struct object_relocation *relocations,
			  size_t count, struct list *list)
{
	bool table = atom->kind != ATOM_FUNCTION && atom->by_content;
	for (size_t i = 0; i < count; i++) {
		if (is_marker(atom, &relocations[i]))
			continue;
		struct reference reference = reference_of(atom, &relocations[i]);
		if (table && reference.kind == RELOCATION_RELATIVE)
			reference.adjust = table_adjust(atom, relocations[i].offset);
		resolve_target(atom->side, &reference, &relocations[i]);
		vec_push(&list->references, reference);
	}
}

static bool needs_decoding(const struct atom *atom, const struct object_relocation *relocations,
			   size_t count)
{
	if (atom->kind != ATOM_FUNCTION || !atom->section->data)
		return false;
	if (info_of(atom, atom->section)->count > 1)
		return true;
	for (size_t i = 0; i < count; i++) {
		const struct object_symbol *symbol = relocations[i].symbol;
		if (symbol->section && symbol->type == STT_SECTION &&
		    info_of(atom, symbol->section)->count > 1 &&
		    counts_from_place(reference_of(atom, &relocations[i]).kind))
			return true;
	}
	return false;
}

static void resolve(struct atom *atom, bool decode)
{
	size_t count;
	const struct object_relocation *relocations = object_relocations_in(
		atom->section, atom->start, atom->start + atom->size, &count);
	bool code = atom->kind == ATOM_FUNCTION && atom->section->data;
	decode = code && (decode || needs_decoding(atom, relocations, count));

	struct list list = { 0 };
	if (decode)
		resolve_code(atom, relocations, count, &list);
	else
		resolve_plain(atom, relocations, count, &list);
	atom->reference_count = list.references.count;
	atom->references = NULL;
	if (list.references.count > 0)
		atom->references =
			arena_memdup(atom->side->arena, list.references.items,
				     list.references.count * sizeof(*list.references.items));
	vec_deinit(&list.references);
	atom->resolved = true;
	atom->decoded = decode || !code;
}

void atom_resolve(struct atom *atom)
{
	if (!atom->resolved)
		resolve(atom, false);
}

void atom_decode(struct atom *atom)
{
	if (!atom->decoded)
		resolve(atom, true);
}

size_t atom_reference_from(const struct atom *atom, uint64_t offset)
{
	size_t low = 0, high = atom->reference_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (atom->references[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct reference side_reference(const struct side *side, const struct object_relocation *relocation)
{
	const struct arch_relocation *row = side->object->arch->relocation(relocation->type);
	struct reference reference = {
		.offset = relocation->offset,
		.type = relocation->type,
		.kind = row ? row->kind : RELOCATION_NONE,
		.size = row ? row->size : 0,
	};
	resolve_target(side, &reference, relocation);
	return reference;
}
