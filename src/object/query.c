// SPDX-License-Identifier: MIT
/*
 * Questions about the graph: by name, by offset, and where a relocation leads.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "object/internal.h"

/* ---- names -------------------------------------------------------------------------------- */

struct object_section *object_section_find(const struct object *object, const char *name)
{
	struct object_whole *whole = object_whole(object);
	if (!whole->section_names) {
		whole->section_names = hashmap_create();
		// From the end, so that the first of a name is what stays.
		for (size_t i = object->sections.count; i-- > 0;)
			hashmap_set_string(whole->section_names, object->sections.items[i]->name,
					   object->sections.items[i]);
	}
	return hashmap_get_string(whole->section_names, name);
}

struct object_symbol *object_symbol_find(const struct object *object, const char *name)
{
	struct object_whole *whole = object_whole(object);
	if (!whole->symbol_names) {
		whole->symbol_names = hashmap_create();
		for (size_t i = object->symbols.count; i-- > 0;) {
			struct object_symbol *symbol = object->symbols.items[i];
			if (symbol->type != STT_SECTION && *symbol->name)
				hashmap_set_string(whole->symbol_names, symbol->name, symbol);
		}
	}
	return hashmap_get_string(whole->symbol_names, name);
}

/* ---- offsets ------------------------------------------------------------------------------ */

static bool covers(const struct object_symbol *symbol, uint64_t offset)
{
	return symbol->size > 0 && *symbol->name && symbol->type != STT_SECTION &&
	       offset >= symbol->value && offset - symbol->value < symbol->size;
}

// The one that starts last, and of those the largest and then the first: the innermost of nested
// ones, and of aliases always the same.
struct object_symbol *object_symbol_covering(const struct object_section *section, uint64_t offset)
{
	const struct section_whole *whole = section_whole(section);
	size_t low = 0, high = section->symbols.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (section->symbols.items[middle]->value <= offset)
			low = middle + 1;
		else
			high = middle;
	}

	struct object_symbol *found = NULL;
	for (size_t i = low; i-- > 0;) {
		struct object_symbol *symbol = section->symbols.items[i];
		if (found && symbol->value != found->value)
			break;
		if (covers(symbol, offset))
			found = symbol;
		// Nothing from here down reaches so far.
		if (i < whole->reach_count && whole->reach[i] <= offset)
			break;
	}
	return found;
}

static size_t first_relocation(const struct object_section *section, uint64_t offset)
{
	size_t low = 0, high = section->relocations.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (section->relocations.items[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct object_relocation *object_relocations_in(const struct object_section *section,
						uint64_t start, uint64_t end, size_t *ret_count)
{
	size_t first = first_relocation(section, start);
	size_t last = end > start ? first_relocation(section, end) : first;
	*ret_count = last - first;
	return *ret_count ? &section->relocations.items[first] : NULL;
}

/* ---- relocation targets ------------------------------------------------------------------- */

static void decode_run(const struct object_section *section, uint64_t start, uint64_t end,
		       uint8_t *to_end)
{
	const struct arch *arch = section->object->arch;
	for (uint64_t at = start; at < end;) {
		struct arch_instruction instruction;
		if (!arch->decode(section->data + at, section->size - at, at, &instruction)) {
			at++; // data in text, or an instruction that the decoder does not know
			continue;
		}
		if (instruction.has_pcrel)
			to_end[at + instruction.pcrel_offset] =
				instruction.length - instruction.pcrel_offset;
		at += instruction.length;
	}
}

// Instructions are decoded once per section, afresh from each symbol: an entry or a label is the
// start of one, so that data in text misleads only up to the next.
static const uint8_t *instruction_ends(const struct object_section *section)
{
	struct section_whole *whole = section_whole(section);
	if (whole->to_end)
		return whole->to_end;
	whole->to_end = xcalloc(section->size, 1);

	uint64_t start = 0;
	for (size_t i = 0; i < section->symbols.count; i++) {
		const struct object_symbol *symbol = section->symbols.items[i];
		if (symbol->value == start)
			continue;
		decode_run(section, start, symbol->value, whole->to_end);
		start = symbol->value;
	}
	decode_run(section, start, section->size, whole->to_end);
	return whole->to_end;
}

static bool counts_from_instruction_end(enum relocation_kind kind)
{
	switch (kind) {
	case RELOCATION_RELATIVE:
	case RELOCATION_CALL:
	case RELOCATION_GOT:
	case RELOCATION_GOT_RELAX:
	case RELOCATION_TLS_GD:
	case RELOCATION_TLS_LD:
	case RELOCATION_TLS_IE:
	case RELOCATION_TLS_DESC:
		return true;
	default:
		return false;
	}
}

bool object_relocation_target(const struct object_section *section,
			      const struct object_relocation *relocation,
			      struct object_section **ret_section, uint64_t *ret_offset)
{
	const struct object_symbol *symbol = relocation->symbol;
	if (!symbol->section)
		return false;

	uint64_t offset = symbol->value + (uint64_t)relocation->addend;
	const struct arch_relocation *row = section->object->arch->relocation(relocation->type);
	if (row && counts_from_instruction_end(row->kind) && object_section_is_text(section) &&
	    section->data && range_within(relocation->offset, row->size, section->size)) {
		uint8_t to_end = instruction_ends(section)[relocation->offset];
		// Where no operand is: a word of data in text counts from itself; the other kinds stand
		// only in instructions, here one that the decoder does not know.
		if (to_end == 0 && row->kind != RELOCATION_RELATIVE)
			to_end = row->size;
		offset += to_end;
	}
	*ret_section = symbol->section;
	*ret_offset = offset;
	return true;
}

/* ---- predicates --------------------------------------------------------------------------- */

bool object_section_is_text(const struct object_section *section)
{
	const uint64_t text = SHF_ALLOC | SHF_EXECINSTR;
	return (section->flags & text) == text;
}

bool object_section_is_readonly(const struct object_section *section)
{
	return (section->flags & (SHF_ALLOC | SHF_WRITE | SHF_EXECINSTR)) == SHF_ALLOC;
}

bool object_section_is_strings(const struct object_section *section)
{
	const uint64_t strings = SHF_MERGE | SHF_STRINGS;
	return (section->flags & strings) == strings;
}

bool object_section_is_tls(const struct object_section *section)
{
	return section->flags & SHF_TLS;
}

bool object_section_is_debug(const struct object_section *section)
{
	static const char *const prefixes[] = {".debug", ".zdebug", ".gnu.debug", ".stab"};
	if (section->flags & SHF_ALLOC)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (string_starts_with(section->name, prefixes[i]))
			return true;
	return false;
}

bool object_symbol_is_function(const struct object_symbol *symbol)
{
	return symbol->section && (symbol->type == STT_FUNC || symbol->type == STT_GNU_IFUNC);
}

bool object_symbol_is_local_label(const struct object_symbol *symbol)
{
	const char *name = symbol->name;
	if (symbol->type == STT_SECTION)
		return false;
	if (*name == '\0' || string_starts_with(name, ".L"))
		return true;
	// Mapping symbols of Arm and RISC-V: $x, $d, $x.7, $xrv64i...
	return symbol->bind == STB_LOCAL && symbol->type == STT_NOTYPE && symbol->size == 0 &&
	       name[0] == '$' && name[1] != '\0' && strchr("xdat", name[1]) &&
	       (name[2] == '\0' || name[2] == '.' || string_starts_with(name, "$xrv"));
}
