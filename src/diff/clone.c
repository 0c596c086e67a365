// SPDX-License-Identifier: MIT
/*
 * The output: what is reachable from new code and not already in the running program.
 *
 * Roots are the changed and new functions and new global data. From there each reference is asked what
 * it means for code that will run beside the old program:
 *
 *	a string, a constant, a jump table		copied
 *	a place inside a function of the output	the new one: its own labels
 *	a call of a function of the output		the new one, directly
 *	the address of a changed function		the old one: pointers of before and after
 *						compare equal, and its entry leads to the new one
 *	an unchanged function, a matched variable	the old one
 *	anything new					copied
 *
 * "The old one" is an undefined symbol whose `origin` is the old object's symbol. Order is that of the
 * new object and then of discovery, so the same input gives the same bytes.
 */
#include <elf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "diff/internal.h"

/** Where an atom stands in the output. */
struct copy {
	struct object_section *section; // NULL: not there
	struct object_symbol *symbol;
	uint64_t offset; // in @section
	int64_t bias;    // from @symbol to the atom's start
};

struct clone {
	struct side *old_side, *new_side;
	struct findings *findings;
	struct object *object;
	struct copy *copies; // by atom index of the new side
	VEC(struct atom *) work; // atoms in the output, in order
	VEC(struct atom *) functions;
	struct hashmap *strings;   // content to 1 + offset
	struct object_section *string_section;
	struct hashmap *constants; // owner's name to section
	struct hashmap *names;     // undefined symbols by name
	struct hashmap *origins;   // and by origin
};

struct object *clone_object(const struct clone *clone)
{
	return clone->object;
}

struct side *clone_side(const struct clone *clone)
{
	return clone->new_side;
}

/* ---- sections ------------------------------------------------------------------------------- */

static uint64_t atom_align(const struct atom *atom)
{
	uint64_t align = atom->section->align ? atom->section->align : 1;
	while (align > 1 && atom->start % align)
		align /= 2;
	return align;
}

static const char *section_prefix(const struct atom *atom)
{
	if (section_is_exception_table(atom->section))
		return ".gcc_except_table";
	switch (atom->kind) {
	case ATOM_FUNCTION:
		return ".text";
	case ATOM_RODATA:
		return atom->section->flags & SHF_WRITE ? ".data.rel.ro" : ".rodata";
	default:
		return atom->section->type == SHT_NOBITS ? ".bss" : ".data";
	}
}

static uint64_t section_flags(const struct atom *atom)
{
	if (atom->kind == ATOM_FUNCTION)
		return SHF_ALLOC | SHF_EXECINSTR;
	return SHF_ALLOC | (atom->section->flags & SHF_WRITE);
}

static struct object_section *own_section(struct clone *clone, struct atom *atom)
{
	uint64_t align = atom_align(atom);
	if (atom->kind == ATOM_FUNCTION && align < clone->object->arch->function_align)
		align = clone->object->arch->function_align;
	bool nobits = atom->section->type == SHT_NOBITS;
	char *name = xasprintf("%s.%s", section_prefix(atom), atom_describe(atom));
	struct object_section *section =
		object_section_add(clone->object, name, nobits ? SHT_NOBITS : SHT_PROGBITS,
				   section_flags(atom), align, nobits ? NULL : atom_bytes(atom),
				   atom->size);
	free(name);
	return section;
}

// Constants without a name: one section for those that one function brought along.
static struct object_section *constant_section(struct clone *clone, const struct atom *atom,
					       struct atom *owner)
{
	char *name = xasprintf("%s.%s", section_prefix(atom), atom_describe(owner));
	struct object_section *section = hashmap_get_string(clone->constants, name);
	if (!section) {
		section = object_section_add(clone->object, name, SHT_PROGBITS,
					     section_flags(atom), 1, NULL, 0);
		hashmap_set_string(clone->constants, name, section);
	}
	free(name);
	return section;
}

/* ---- atoms ---------------------------------------------------------------------------------- */

static void add_string(struct clone *clone, struct atom *atom, struct copy *copy)
{
	if (!clone->string_section)
		clone->string_section = object_section_add(clone->object, ".rodata.str",
							   SHT_PROGBITS, SHF_ALLOC, 1, NULL, 0);
	const uint8_t *bytes = atom_bytes(atom);
	uint64_t align = atom_align(atom);
	_cleanup_buffer_ struct buffer key = { 0 };
	buffer_append(&key, &align, sizeof(align));
	buffer_append(&key, bytes, atom->size);
	uintptr_t known = (uintptr_t)hashmap_get(clone->strings, key.bytes, key.size);
	if (!known) {
		known = object_section_append(clone->string_section, bytes, atom->size, align) + 1;
		hashmap_set(clone->strings, key.bytes, key.size, (void *)known);
	}
	copy->section = clone->string_section;
	copy->symbol = clone->string_section->section_symbol;
	copy->offset = known - 1;
	copy->bias = (int64_t)copy->offset;
}

static struct object_symbol *define(struct clone *clone, const struct object_symbol *like,
				    struct object_section *section, uint64_t value)
{
	struct object_symbol *symbol = object_symbol_add(clone->object, like->name, like->type,
							 like->bind, section, value, like->size);
	symbol->visibility = like->visibility;
	symbol->other = like->other;
	return symbol;
}

// Other names under which other objects may know it.
static void add_aliases(struct clone *clone, const struct atom *atom, const struct copy *copy)
{
	const struct object_section *from = atom->section;
	for (size_t i = 0; i < from->symbols.count; i++) {
		const struct object_symbol *symbol = from->symbols.items[i];
		if (symbol == atom->symbol || symbol->bind == STB_LOCAL ||
		    side_symbol_atom(atom->side, symbol) != atom)
			continue;
		define(clone, symbol, copy->section, copy->offset + symbol->value - atom->start);
	}
}

static struct copy *include(struct clone *clone, struct atom *atom, struct atom *owner)
{
	struct copy *copy = &clone->copies[atom->index];
	if (copy->section)
		return copy;
	if (atom->string && !atom->symbol) {
		add_string(clone, atom, copy);
		return copy;
	}
	bool constant = !atom->symbol && atom->kind != ATOM_FUNCTION &&
			atom->section->type != SHT_NOBITS;
	if (constant) {
		copy->section = constant_section(clone, atom, owner);
		copy->offset = object_section_append(copy->section, atom_bytes(atom), atom->size,
						     atom_align(atom));
		copy->symbol = copy->section->section_symbol;
		copy->bias = (int64_t)copy->offset;
	} else {
		copy->section = own_section(clone, atom);
		if (!atom->symbol) {
			copy->symbol = copy->section->section_symbol;
		} else {
			copy->symbol = define(clone, atom->symbol, copy->section,
					      atom->symbol->value - atom->start);
			copy->bias = -(int64_t)copy->symbol->value;
			if (atom->kind == ATOM_FUNCTION && atom->twin && !atom->cold)
				copy->symbol->origin = atom->twin->symbol;
			if (atom->symbol->bind != STB_LOCAL)
				add_aliases(clone, atom, copy);
		}
	}
	atom->output = copy->symbol;
	vec_push(&clone->work, atom);
	if (atom->kind == ATOM_FUNCTION)
		vec_push(&clone->functions, atom);
	return copy;
}

struct object_symbol *clone_place(struct clone *clone, struct atom *atom, int64_t *ret_bias)
{
	struct copy *copy = include(clone, atom, atom);
	*ret_bias = copy->bias;
	return copy->symbol;
}

/* ---- what is elsewhere ---------------------------------------------------------------------- */

static struct object_symbol *undefined(struct clone *clone, const struct object_symbol *like)
{
	struct object_symbol *symbol = hashmap_get_string(clone->names, like->name);
	if (symbol)
		return symbol;
	uint8_t bind = like->bind == STB_WEAK && !like->section ? STB_WEAK : STB_GLOBAL;
	uint8_t type = like->type == STT_COMMON ? STT_OBJECT : like->type;
	symbol = object_symbol_add(clone->object, like->name, type, bind, NULL, 0, 0);
	symbol->visibility = like->visibility;
	hashmap_set_string(clone->names, like->name, symbol);
	return symbol;
}

static struct object_symbol *origin(struct clone *clone, const struct object_symbol *old_symbol)
{
	struct object_symbol *symbol =
		hashmap_get(clone->origins, &old_symbol, sizeof(old_symbol));
	if (symbol)
		return symbol;
	// An undefined symbol is global by the gABI.
	symbol = object_symbol_add(clone->object, old_symbol->name, old_symbol->type, STB_GLOBAL,
				   NULL, 0, 0);
	symbol->visibility = old_symbol->visibility;
	symbol->origin = old_symbol;
	hashmap_set(clone->origins, &old_symbol, sizeof(old_symbol), symbol);
	return symbol;
}

// The name by which the new code calls it, if the old object knows that too; else its first name.
static const struct object_symbol *old_name(const struct clone *clone, const struct atom *old_atom,
					    const struct reference *reference)
{
	const struct object_symbol *used = reference->symbol;
	if (!used || used->type == STT_SECTION || string_equal(used->name, old_atom->symbol->name))
		return old_atom->symbol;
	const struct object_symbol *same = object_symbol_find(old_atom->side->object, used->name);
	if (same && side_symbol_atom(clone->old_side, same) == old_atom &&
	    same->value == old_atom->start)
		return same;
	return old_atom->symbol;
}

static struct object_symbol *old_one(struct clone *clone, const struct atom *old_atom,
				     const struct reference *reference, int64_t *ret_bias)
{
	const struct object_symbol *symbol = old_name(clone, old_atom, reference);
	*ret_bias = (int64_t)(old_atom->start - symbol->value);
	return origin(clone, symbol);
}

// COMMON and absolute symbols; others are undefined.
static struct object_symbol *special(struct clone *clone, const struct object_symbol *symbol)
{
	struct object_symbol *known = hashmap_get_string(clone->names, symbol->name);
	if (known)
		return known;
	if (symbol->special == SHN_ABS && symbol->bind == STB_LOCAL) {
		known = define(clone, symbol, NULL, symbol->value);
		known->special = SHN_ABS;
	} else if (symbol->special == SHN_COMMON &&
		   !object_symbol_find(clone->old_side->object, symbol->name)) {
		char *name = xasprintf(".bss.%s", symbol->name);
		// Of a common symbol st_value is the alignment (gABI, "Symbol Values").
		struct object_section *section =
			object_section_add(clone->object, name, SHT_NOBITS, SHF_ALLOC | SHF_WRITE,
					   symbol->value ? symbol->value : 1, NULL, symbol->size);
		free(name);
		known = define(clone, symbol, section, 0);
	} else {
		return undefined(clone, symbol);
	}
	hashmap_set_string(clone->names, symbol->name, known);
	return known;
}

/* ---- references ----------------------------------------------------------------------------- */

// Is it an entry of a table of places in @function, rather than its address? The entry at offset 0
// alone does not say; its neighbours do.
static bool is_label_table(const struct atom *table, const struct atom *function)
{
	for (size_t i = 0; i < table->reference_count; i++)
		if (table->references[i].target == function &&
		    reference_place(&table->references[i]) != 0)
			return true;
	return false;
}

static bool wants_new_code(const struct atom *from, const struct reference *reference)
{
	const struct atom *target = reference->target;
	if (!target->twin || target->cold || reference->branch ||
	    reference->kind == RELOCATION_CALL || reference_place(reference) != 0)
		return true;
	if (from->kind == ATOM_FUNCTION)
		return false;
	return is_label_table(from, target) ||
	       (from->by_content && reference->kind == RELOCATION_RELATIVE);
}

static struct object_symbol *function_target(struct clone *clone, struct atom *from,
					     const struct reference *reference, int64_t *ret_bias)
{
	struct atom *target = reference->target;
	bool copied = target->included || (target->by_content && !target->symbol);
	if (!copied && target->twin)
		return old_one(clone, target->twin, reference, ret_bias);
	if (wants_new_code(from, reference))
		return clone_place(clone, target, ret_bias);
	return old_one(clone, target->twin, reference, ret_bias);
}

// Unnamed and writable: what compilers put there are constants that hold addresses (initialisers of
// local arrays by gcc, pointers for exception tables by clang); a variable has a name. In assembly,
// which leaves no compiler's name in the object, it may be anything.
static bool is_unnamed_state(const struct atom *target)
{
	if (target->symbol || (target->kind != ATOM_DATA && target->kind != ATOM_TLS))
		return false;
	size_t count;
	object_relocations_in(target->section, target->start, target->start + target->size, &count);
	return target->kind == ATOM_TLS || count == 0 || !target->side->object->compiler;
}

static struct object_symbol *data_target(struct clone *clone, struct atom *from,
					 const struct reference *reference, int64_t *ret_bias)
{
	struct atom *target = reference->target;
	if (!target->by_content) {
		if (target->twin && !target->fresh)
			return old_one(clone, target->twin, reference, ret_bias);
		// Defined here now and elsewhere before: the program has it.
		if (!target->twin && atom_is_visible(target) &&
		    object_symbol_find(clone->old_side->object, target->name)) {
			*ret_bias = (int64_t)(target->start - target->symbol->value);
			return undefined(clone, target->symbol);
		}
	}
	if (is_unnamed_state(target))
		findings_add(clone->findings, FINDING_KIND_SECTION_UNKNOWN, target->section->name,
			     "'%s' refers to writable data without a name at 0x%" PRIx64,
			     atom_describe(from), target->start);
	struct atom *owner = from->kind == ATOM_FUNCTION && from->parent ? from->parent : from;
	struct copy *copy = include(clone, target, owner);
	*ret_bias = copy->bias;
	return copy->symbol;
}

struct object_symbol *clone_target(struct clone *clone, struct atom *from,
				   const struct reference *reference, int64_t *ret_addend)
{
	int64_t bias = 0;
	struct object_symbol *symbol;
	if (!reference->target) {
		if (reference->symbol == clone->new_side->object->null_symbol) {
			symbol = clone->object->null_symbol;
		} else if (reference->symbol->section) {
			findings_add(clone->findings, FINDING_KIND_SECTION_UNKNOWN,
				     reference->symbol->section->name,
				     "'%s' refers to it, and it is nothing that a patch can hold",
				     atom_describe(from));
			return NULL;
		} else {
			symbol = special(clone, reference->symbol);
		}
	} else if (reference->target->kind == ATOM_FUNCTION) {
		symbol = function_target(clone, from, reference, &bias);
	} else {
		symbol = data_target(clone, from, reference, &bias);
	}
	*ret_addend = addend_add(reference->addend, bias);
	return symbol;
}

// A short jump to a neighbour, which is near no more: to a long jump behind the function's end.
static bool lengthen(struct clone *clone, struct atom *atom, const struct reference *reference)
{
	const struct arch *arch = clone->object->arch;
	struct copy *copy = &clone->copies[atom->index];
	struct arch_instruction instruction;
	uint8_t jump[ARCH_JUMP_MAX];
	uint64_t at = copy->section->size;
	uint64_t end = copy->offset + reference->offset + (uint64_t)reference->adjust;
	if (reference->size != 1 || at - end > (uint64_t)arch->short_jump_reach ||
	    !arch->jump_write(jump, arch->jump_size, 0, 0) ||
	    !arch->decode(jump, arch->jump_size, 0, &instruction))
		return false;

	struct reference far = *reference;
	far.type = reference_made_type(arch, RELOCATION_CALL, instruction.pcrel_size);
	far.size = instruction.pcrel_size;
	far.adjust = instruction.length - instruction.pcrel_offset;
	far.addend = addend_add(reference_place(reference), -far.adjust);
	int64_t addend;
	struct object_symbol *symbol = clone_target(clone, atom, &far, &addend);
	if (far.type == arch->relocation_none || !symbol)
		return false;
	object_section_append(copy->section, jump, instruction.length, 1);
	memset(copy->section->data + at + instruction.pcrel_offset, 0, far.size);
	object_relocation_add(copy->section, at + instruction.pcrel_offset, far.type, symbol, addend);
	copy->section->data[copy->offset + reference->offset] = (uint8_t)(at - end);
	if (atom->symbol)
		copy->symbol->size = copy->section->size - copy->symbol->value;
	return true;
}

static void relocate(struct clone *clone, struct atom *atom)
{
	struct copy *copy = &clone->copies[atom->index];
	atom_decode(atom);
	for (size_t i = 0; i < atom->reference_count; i++) {
		const struct reference *reference = &atom->references[i];
		if (reference->made && reference->type == clone->object->arch->relocation_none) {
			if (!lengthen(clone, atom, reference))
				findings_add(clone->findings, FINDING_KIND_SECTION_UNKNOWN,
					     atom->name,
					     "a short jump at 0x%" PRIx64 " leads to '%s' in the same "
					     "section: compile with one section per function",
					     reference->offset, atom_describe(reference->target));
			continue;
		}
		int64_t addend;
		struct object_symbol *symbol = clone_target(clone, atom, reference, &addend);
		if (!symbol)
			continue;
		uint64_t offset = copy->offset + reference->offset;
		object_relocation_add(copy->section, offset, reference->type, symbol, addend);
		if (reference->made)
			memset(copy->section->data + offset, 0, reference->size);
	}
	if (atom->kind == ATOM_FUNCTION)
		ehframe_need(clone, atom);
}

struct object *clone_output(struct side *old_side, struct side *new_side, struct findings *findings,
			    const char *path)
{
	struct clone clone = {
		.old_side = old_side,
		.new_side = new_side,
		.findings = findings,
		.object = object_create(new_side->object->arch, path),
		.copies = xcalloc(new_side->atoms.count + 1, sizeof(*clone.copies)),
		.strings = hashmap_create(),
		.constants = hashmap_create(),
		.names = hashmap_create(),
		.origins = hashmap_create(),
	};
	clone.object->elf_flags = new_side->object->elf_flags;

	for (size_t i = 0; i < new_side->atoms.count; i++)
		if (new_side->atoms.items[i]->included)
			include(&clone, new_side->atoms.items[i], new_side->atoms.items[i]);
	for (size_t i = 0; i < clone.work.count; i++)
		relocate(&clone, clone.work.items[i]);
	// From here on: nothing is added.
	ehframe_write(&clone, clone.functions.items, clone.functions.count);
	object_index(clone.object);

	struct object *object = clone.object;
	if (clone.work.count == 0 || findings_refuse(findings)) {
		object_free(object);
		object = NULL;
	}
	free(clone.copies);
	vec_deinit(&clone.work);
	vec_deinit(&clone.functions);
	hashmap_free(clone.strings);
	hashmap_free(clone.constants);
	hashmap_free(clone.names);
	hashmap_free(clone.origins);
	return object;
}
