// SPDX-License-Identifier: MIT
/*
 * Two functions that differ and yet do the same: what another function's size did to them.
 *
 * In an object with several functions per section the assembler picks a short or a long jump by the
 * distance, so a change in one function makes a jump in its neighbour longer, and the code behind it
 * moves. Without optimisation string literals stand in one .rodata, and a longer one moves all behind
 * it. Neither is a change: replacing such a function would be of no use, and where it is a main loop
 * it would keep the patch from ever being applied. The jump tables of all functions stand in one range,
 * too, of which each function reads its own.
 *
 * So the instructions are walked side by side. Filling is passed over; a direct jump equals one of
 * another length with the same condition and the same destination (inside the function: the
 * instruction of the same number); everything else must be equal to the byte.
 */
#include <string.h>

#include "diff/internal.h"

/** The instructions of a function that are not filling, by their place. */
struct walk {
	struct atom *atom;
	const uint8_t *bytes;
	VEC(uint64_t) places;
};

static bool walk_init(struct walk *walk, struct atom *atom)
{
	*walk = (struct walk){ .atom = atom, .bytes = atom_bytes(atom) };
	if (!walk->bytes)
		return false;
	atom_decode(atom);
	for (uint64_t at = 0; at < atom->size;) {
		struct arch_instruction instruction;
		if (!atom->side->object->arch->decode(walk->bytes + at, atom->size - at,
						      atom->start + at, &instruction))
			return false;
		if (!instruction.is_nop)
			vec_push(&walk->places, at);
		at += instruction.length;
	}
	return true;
}

/** The number of the first instruction that is run from @place on; places.count: the end. */
static size_t number_at(const struct walk *walk, uint64_t place)
{
	size_t low = 0, high = walk->places.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (walk->places.items[middle] < place)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/** "jnz", "call": the instruction without its operands. */
static void mnemonic(const struct walk *walk, uint64_t at, char *text, size_t size)
{
	walk->atom->side->object->arch->format(walk->bytes + at, walk->atom->size - at, at, text,
					       size);
	text[strcspn(text, " ")] = '\0';
}

static bool is_direct(const struct arch_instruction *instruction)
{
	return instruction->flow == ARCH_FLOW_JUMP || instruction->flow == ARCH_FLOW_BRANCH ||
	       instruction->flow == ARCH_FLOW_CALL;
}

/** The one reference of an instruction, NULL when there is none, false when there are several. */
static bool only_reference(const struct atom *atom, uint64_t at, uint64_t length,
			   const struct reference **ret)
{
	size_t first = atom_reference_from(atom, at), last = atom_reference_from(atom, at + length);
	*ret = last > first ? &atom->references[first] : NULL;
	return last - first <= 1;
}

static bool same_branch(const struct walk *a, const struct walk *b, uint64_t at_a, uint64_t at_b,
			const struct arch_instruction *x, const struct arch_instruction *y)
{
	char text_a[64], text_b[64];
	mnemonic(a, at_a, text_a, sizeof(text_a));
	mnemonic(b, at_b, text_b, sizeof(text_b));
	if (!string_equal(text_a, text_b))
		return false;
	const struct reference *reference_a, *reference_b;
	if (!only_reference(a->atom, at_a, x->length, &reference_a) ||
	    !only_reference(b->atom, at_b, y->length, &reference_b) ||
	    !reference_a != !reference_b)
		return false;
	if (reference_a)
		return reference_place(reference_a) == reference_place(reference_b) &&
		       same_target(a->atom, b->atom, reference_a, reference_b, 0);
	uint64_t to_a = x->target - a->atom->start, to_b = y->target - b->atom->start;
	return to_a < a->atom->size && to_b < b->atom->size &&
	       number_at(a, to_a) == number_at(b, to_b);
}

/**
 * The text that a reference leads to: up to where something else begins, without the filling behind
 * it. A literal may hold a NUL, so what ends it is the next place that somebody refers to.
 */
static bool literal_at(const struct reference *reference, const uint8_t **ret, uint64_t *ret_size)
{
	const struct atom *atom = reference->target;
	if (!atom || !atom->by_content || atom->symbol || atom->kind != ATOM_RODATA ||
	    side_has_strings(atom->side))
		return false;
	int64_t place = reference_place(reference);
	const uint8_t *bytes = atom_bytes(atom);
	if (!bytes || place < 0 || (uint64_t)place >= atom->size)
		return false;
	uint64_t start = atom->start + (uint64_t)place;
	uint64_t end = side_next_cut(atom->side, atom->section, start);
	if (end > atom->start + atom->size)
		end = atom->start + atom->size;
	size_t count;
	object_relocations_in(atom->section, start, end, &count);
	const uint8_t *text = bytes + place;
	uint64_t size = end - start;
	if (count > 0 || size == 0 || text[size - 1] != '\0')
		return false;
	while (size > 0 && text[size - 1] == '\0')
		size--;
	// Tables hold other bytes than text.
	for (uint64_t i = 0; i < size; i++)
		if ((text[i] > 0 && text[i] < ' ' && !strchr("\t\n\r\033", text[i])) ||
		    text[i] == 0x7f)
			return false;
	*ret = text;
	*ret_size = size;
	return size > 0;
}

/** A string literal that stands among other constants, in an object without a section of strings. */
static bool same_literal(const struct reference *a, const struct reference *b)
{
	const uint8_t *text_a, *text_b;
	uint64_t size_a, size_b;
	return literal_at(a, &text_a, &size_a) && literal_at(b, &text_b, &size_b) &&
	       size_a == size_b && memcmp(text_a, text_b, size_a) == 0;
}

/** Entry @number of the jump table of @walk's function that @reference leads to, or NULL. */
static const struct reference *table_entry(const struct walk *walk, const struct reference *reference,
					   size_t number)
{
	struct atom *table = reference->target;
	int64_t place = reference_place(reference);
	if (!table || !table->by_content || table->kind != ATOM_RODATA || table->string || place < 0)
		return NULL;
	atom_resolve(table);
	size_t first = atom_reference_from(table, (uint64_t)place);
	if (number >= table->reference_count - first)
		return NULL;
	const struct reference *entry = &table->references[first + number];
	if (entry->offset != (uint64_t)place + number * table->references[first].size ||
	    !entry->target ||
	    (entry->target != walk->atom && entry->target->parent != walk->atom))
		return NULL;
	return entry;
}

/**
 * Without a section per function the tables of all functions stand in one range. Only this function's
 * own entries matter to it: they are those that lead into it, from where it points to.
 */
static bool same_jump_table(const struct walk *a, const struct walk *b, const struct reference *x,
			    const struct reference *y)
{
	for (size_t i = 0;; i++) {
		const struct reference *entry_a = table_entry(a, x, i), *entry_b = table_entry(b, y, i);
		if (!entry_a || !entry_b)
			return i > 0 && !entry_a && !entry_b;
		if (entry_a->type != entry_b->type)
			return false;
		int64_t place_a = reference_place(entry_a), place_b = reference_place(entry_b);
		if (entry_a->target == a->atom && entry_b->target == b->atom) {
			if (place_a < 0 || place_b < 0 ||
			    number_at(a, (uint64_t)place_a) != number_at(b, (uint64_t)place_b))
				return false;
		} else if (entry_a->target->twin != entry_b->target || place_a != place_b) {
			return false;
		}
	}
}

static bool same_operands(const struct walk *a, const struct walk *b, uint64_t at_a, uint64_t at_b,
			  const struct arch_instruction *x, const struct arch_instruction *y)
{
	size_t first_a = atom_reference_from(a->atom, at_a);
	size_t first_b = atom_reference_from(b->atom, at_b);
	size_t count = atom_reference_from(a->atom, at_a + x->length) - first_a;
	if (x->length != y->length ||
	    count != atom_reference_from(b->atom, at_b + y->length) - first_b)
		return false;
	uint8_t bytes_a[16], bytes_b[16];
	if (x->length > sizeof(bytes_a))
		return false;
	memcpy(bytes_a, a->bytes + at_a, x->length);
	memcpy(bytes_b, b->bytes + at_b, x->length);
	// The address of a label of its own: the code in between may have moved.
	uint64_t to_a = x->target - a->atom->start, to_b = y->target - b->atom->start;
	if (count == 0 && x->has_pcrel && to_a < a->atom->size) {
		if (!y->has_pcrel || x->pcrel_offset != y->pcrel_offset ||
		    x->pcrel_size != y->pcrel_size || to_b >= b->atom->size ||
		    number_at(a, to_a) != number_at(b, to_b))
			return false;
		memset(bytes_a + x->pcrel_offset, 0, x->pcrel_size);
		memset(bytes_b + x->pcrel_offset, 0, x->pcrel_size);
	}
	for (size_t i = 0; i < count; i++) {
		const struct reference *reference_a = &a->atom->references[first_a + i];
		const struct reference *reference_b = &b->atom->references[first_b + i];
		uint64_t offset = reference_a->offset - at_a;
		if (offset != reference_b->offset - at_b || reference_a->type != reference_b->type ||
		    !range_within(offset, reference_a->size, x->length))
			return false;
		bool same = reference_a->addend == reference_b->addend &&
			    same_target(a->atom, b->atom, reference_a, reference_b, 0);
		if (!same && !same_literal(reference_a, reference_b) &&
		    !same_jump_table(a, b, reference_a, reference_b))
			return false;
		memset(bytes_a + offset, 0, reference_a->size);
		memset(bytes_b + offset, 0, reference_a->size);
	}
	return memcmp(bytes_a, bytes_b, x->length) == 0;
}

static bool same_walk(const struct walk *a, const struct walk *b)
{
	const struct arch *arch = a->atom->side->object->arch;
	if (a->places.count != b->places.count)
		return false;
	for (size_t i = 0; i < a->places.count; i++) {
		uint64_t at_a = a->places.items[i], at_b = b->places.items[i];
		struct arch_instruction x, y;
		if (!arch->decode(a->bytes + at_a, a->atom->size - at_a, a->atom->start + at_a, &x) ||
		    !arch->decode(b->bytes + at_b, b->atom->size - at_b, b->atom->start + at_b, &y) ||
		    x.flow != y.flow)
			return false;
		if (is_direct(&x) ? !same_branch(a, b, at_a, at_b, &x, &y) :
				    !same_operands(a, b, at_a, at_b, &x, &y))
			return false;
	}
	return true;
}

bool functions_equivalent(struct atom *old_atom, struct atom *new_atom)
{
	// Exception tables count in bytes: where code moved they differ, and the function is taken as
	// changed.
	if (old_atom->kind != ATOM_FUNCTION || new_atom->kind != ATOM_FUNCTION ||
	    old_atom->exception_table || new_atom->exception_table)
		return false;
	struct walk a, b = { 0 };
	bool same = walk_init(&a, old_atom) && walk_init(&b, new_atom) && same_walk(&a, &b);
	vec_deinit(&a.places);
	vec_deinit(&b.places);
	return same;
}
