// SPDX-License-Identifier: MIT
/*
 * Are two atoms equal, and if not, where do they differ first?
 *
 * Equal is strict: the same bytes outside of relocated fields, the same relocations, and each of them
 * leads to the twin of what the other leads to. A changed line number in an argument is a change.
 * What has no name is equal when its content is, and so on down; unnamed data that leads back to itself
 * over other data is never equal, as no compiler makes it and guessing could hide a change.
 */
#include <elf.h>
#include <inttypes.h>
#include <string.h>

#include "diff/internal.h"

#define DEPTH_MAX 500

/* ---- equality ------------------------------------------------------------------------------- */

static bool equal_at(struct atom *a, struct atom *b, unsigned depth);

bool same_target(const struct atom *of_a, const struct atom *of_b,
			const struct reference *a, const struct reference *b, unsigned depth)
{
	if (!a->target || !b->target) {
		// Defined on one side only: it moved to or from another object, where it may have
		// changed; the old code would go on with the old one.
		if (a->target || b->target)
			return false;
		if (!string_equal(a->symbol->name, b->symbol->name) ||
		    a->symbol->special != b->symbol->special)
			return false;
		return a->symbol->special != SHN_ABS || a->symbol->value == b->symbol->value;
	}
	if (a->target->by_content || b->target->by_content) {
		if (a->target == of_a && b->target == of_b)
			return true;
		return a->target->by_content && b->target->by_content &&
		       equal_at(a->target, b->target, depth + 1);
	}
	return a->target->twin == b->target;
}

static bool same_reference(const struct atom *of_a, const struct atom *of_b,
			   const struct reference *a, const struct reference *b, unsigned depth)
{
	return a->offset == b->offset && a->type == b->type && a->addend == b->addend &&
	       same_target(of_a, of_b, a, b, depth);
}

// [from, to) outside of relocated fields. The references of both have the same offsets and sizes.
static bool same_bytes(const struct atom *a, const struct atom *b, uint64_t from, uint64_t to)
{
	const uint8_t *x = atom_bytes(a), *y = atom_bytes(b);
	if (!x && !y)
		return true;
	uint64_t at = from;
	size_t i = atom_reference_from(a, from > 8 ? from - 8 : 0);
	while (at < to) {
		uint64_t stop = to, next = to;
		for (; i < a->reference_count; i++) {
			const struct reference *reference = &a->references[i];
			if (reference->offset + reference->size <= at)
				continue;
			if (reference->offset < to) {
				stop = reference->offset > at ? reference->offset : at;
				next = reference->offset + reference->size;
			}
			break;
		}
		if (x && y) {
			if (stop > at && memcmp(x + at, y + at, stop - at) != 0)
				return false;
		} else {
			const uint8_t *stored = x ? x : y;
			for (uint64_t k = at; k < stop; k++)
				if (stored[k])
					return false;
		}
		at = next;
	}
	return true;
}

static bool compare(struct atom *a, struct atom *b, unsigned depth)
{
	if (a->size != b->size || a->kind != b->kind || depth > DEPTH_MAX)
		return false;
	atom_resolve(a);
	atom_resolve(b);
	if (a->reference_count != b->reference_count)
		return false;
	for (size_t i = 0; i < a->reference_count; i++)
		if (a->references[i].offset != b->references[i].offset ||
		    a->references[i].type != b->references[i].type)
			return false;
	if (!same_bytes(a, b, 0, a->size))
		return false;
	for (size_t i = 0; i < a->reference_count; i++)
		if (!same_reference(a, b, &a->references[i], &b->references[i], depth))
			return false;
	if (!a->exception_table != !b->exception_table)
		return false;
	return !a->exception_table ||
	       equal_at(a->exception_table, b->exception_table, depth + 1);
}

static bool equal_at(struct atom *a, struct atom *b, unsigned depth)
{
	if (a->compared == b) {
		if (a->compare_state == WALK_BUSY)
			return false;
		if (a->compare_state == WALK_DONE)
			return a->compared_equal;
	}
	a->compared = b;
	a->compare_state = WALK_BUSY;
	bool equal = compare(a, b, depth) || functions_equivalent(a, b);
	a->compared = b;
	a->compared_equal = equal;
	a->compare_state = WALK_DONE;
	return equal;
}

bool atoms_equal(struct atom *old_atom, struct atom *new_atom)
{
	return equal_at(old_atom, new_atom, 0);
}

/* ---- explanation ---------------------------------------------------------------------------- */

#define TEXT_MAX 160

// The content of a string, fit for a line.
static const char *quote(struct arena *arena, const struct atom *atom, int64_t place)
{
	const uint8_t *bytes = atom_bytes(atom);
	struct buffer buffer = { 0 };
	uint64_t at = place > 0 && (uint64_t)place < atom->size ? (uint64_t)place : 0;
	buffer_puts(&buffer, "\"");
	for (; bytes && at < atom->size && bytes[at] && buffer.size < 60; at++) {
		if (bytes[at] == '\n')
			buffer_puts(&buffer, "\\n");
		else if (bytes[at] == '"' || bytes[at] == '\\')
			buffer_printf(&buffer, "\\%c", bytes[at]);
		else if (bytes[at] < ' ' || bytes[at] >= 0x7f)
			buffer_printf(&buffer, "\\x%02x", bytes[at]);
		else
			buffer_append(&buffer, &bytes[at], 1);
	}
	buffer_puts(&buffer, bytes && at < atom->size && bytes[at] ? "...\"" : "\"");
	const char *text = arena_strdup(arena, buffer.bytes);
	buffer_deinit(&buffer);
	return text;
}

static const char *describe_target(struct arena *arena, const struct reference *reference)
{
	const struct atom *target = reference->target;
	int64_t place = reference_place(reference);
	if (!target)
		return arena_printf(arena, "%s", reference->symbol->name);
	if (target->string)
		return quote(arena, target, place);
	const char *name = target->symbol ? target->name : target->section->name;
	if (place == 0)
		return arena_strdup(arena, name);
	return arena_printf(arena, "%s%s0x%" PRIx64, name, place < 0 ? "-" : "+",
			    place < 0 ? -(uint64_t)place : (uint64_t)place);
}

static const char *instruction_text(struct arena *arena, struct atom *atom, uint64_t at,
				    uint64_t length)
{
	if (at >= atom->size)
		return "(end)";
	const struct arch *arch = atom->side->object->arch;
	char text[TEXT_MAX];
	arch->format(atom_bytes(atom) + at, atom->size - at, at, text, sizeof(text));
	size_t i = atom_reference_from(atom, at);
	if (i < atom->reference_count && atom->references[i].offset < at + length)
		return arena_printf(arena, "%s <%s>", text,
				    describe_target(arena, &atom->references[i]));
	return arena_strdup(arena, text);
}

static const char *what_data(const struct atom *atom)
{
	if (atom->string)
		return "string";
	if (section_is_exception_table(atom->section))
		return "exception table";
	for (size_t i = 0; i < atom->reference_count; i++)
		if (atom->references[i].target &&
		    atom->references[i].target->kind == ATOM_FUNCTION &&
		    reference_place(&atom->references[i]) != 0)
			return "jump table";
	return "constant";
}

static const char *reference_reason(struct arena *arena, const struct reference *a,
				    const struct reference *b)
{
	const char *old_text = describe_target(arena, a), *new_text = describe_target(arena, b);
	if (a->target && b->target && a->target->by_content && b->target->by_content) {
		if (a->target->string && b->target->string)
			return arena_printf(arena, "string %s became %s", old_text, new_text);
		if (!atoms_equal(a->target, b->target))
			return arena_printf(arena, "the content of a %s that it reads differs (%s)",
					    what_data(b->target), new_text);
	}
	if (a->target && b->target && !a->target->by_content && a->target->twin != b->target &&
	    string_equal(old_text, new_text))
		return arena_printf(arena, "it refers to another '%s'", new_text);
	if (!a->target != !b->target && string_equal(old_text, new_text))
		return arena_printf(arena, "'%s' is defined %s", new_text,
				    b->target ? "in this object now" : "in another object now");
	if (a->type != b->type && string_equal(old_text, new_text))
		return arena_printf(arena, "it refers to %s in another way", new_text);
	return arena_printf(arena, "it refers to %s instead of %s", new_text, old_text);
}

// One instruction of each, at places that correspond.
struct step {
	uint64_t at, length;
	bool decoded;
	size_t first, last; // references
};

static struct step step_at(struct atom *atom, uint64_t at)
{
	struct step step = { .at = at, .length = 0 };
	if (at < atom->size) {
		struct arch_instruction instruction;
		step.decoded = atom->side->object->arch->decode(
			atom_bytes(atom) + at, atom->size - at, atom->start + at, &instruction);
		step.length = step.decoded ? instruction.length : 1;
	}
	step.first = atom_reference_from(atom, at);
	step.last = atom_reference_from(atom, at + step.length);
	return step;
}

static bool same_step(struct atom *a, struct atom *b, const struct step *x, const struct step *y)
{
	if (x->length != y->length || x->last - x->first != y->last - y->first)
		return false;
	for (size_t i = 0; i < x->last - x->first; i++)
		if (!same_reference(a, b, &a->references[x->first + i],
				    &b->references[y->first + i], 0))
			return false;
	return same_bytes(a, b, x->at, x->at + x->length);
}

// A difference that follows from another one: how far a jump inside the function goes, where the
// entries of its jump table point.
static bool is_consequence(const struct atom *a, const struct atom *b, const struct step *x,
			   const struct step *y)
{
	if (!x->decoded || !y->decoded || x->length != y->length ||
	    x->last - x->first != y->last - y->first)
		return false;
	const uint8_t *p = atom_bytes(a) + x->at, *q = atom_bytes(b) + y->at;
	if (x->last == x->first) {
		struct arch_instruction i, k;
		const struct arch *arch = a->side->object->arch;
		if (!arch->decode(p, x->length, x->at, &i) || !arch->decode(q, y->length, y->at, &k))
			return false;
		bool jumps = i.flow == k.flow &&
			     (i.flow == ARCH_FLOW_JUMP || i.flow == ARCH_FLOW_BRANCH) &&
			     i.pcrel_offset == k.pcrel_offset && i.pcrel_size == k.pcrel_size;
		return jumps && memcmp(p, q, i.pcrel_offset) == 0;
	}
	if (!same_bytes(a, b, x->at, x->at + x->length))
		return false;
	for (size_t i = 0; i < x->last - x->first; i++) {
		const struct reference *r = &a->references[x->first + i];
		const struct reference *s = &b->references[y->first + i];
		if (same_reference(a, b, r, s, 0))
			continue;
		if (r->offset != s->offset || r->type != s->type || !r->target || !s->target ||
		    !r->target->by_content || !s->target->by_content ||
		    what_data(r->target) != what_data(s->target) ||
		    !string_equal(what_data(s->target), "jump table"))
			return false;
	}
	return true;
}

static void explain_step(struct arena *arena, struct atom *a, struct atom *b, const struct step *x,
			 const struct step *y, struct difference *ret)
{
	ret->old_offset = x->at;
	ret->new_offset = y->at;
	ret->old_text = instruction_text(arena, a, x->at, x->length);
	ret->new_text = instruction_text(arena, b, y->at, y->length);
	ret->reason = "an instruction differs";
	if (x->at >= a->size || y->at >= b->size)
		ret->reason = x->at >= a->size ? "code was added at its end" :
						 "code is gone from its end";
	if (x->length != y->length || x->last - x->first != y->last - y->first ||
	    !same_bytes(a, b, x->at, x->at + x->length))
		return;
	for (size_t i = 0; i < x->last - x->first; i++) {
		const struct reference *p = &a->references[x->first + i];
		const struct reference *q = &b->references[y->first + i];
		if (same_reference(a, b, p, q, 0))
			continue;
		ret->reason = reference_reason(arena, p, q);
		return;
	}
}

static void explain_code(struct arena *arena, struct atom *a, struct atom *b,
			 struct difference *ret)
{
	atom_decode(a);
	atom_decode(b);
	struct step first_x = { 0 }, first_y = { 0 };
	bool found = false;
	// Up to the first true difference both have the same lengths, so one offset serves both.
	for (uint64_t at = 0; at < a->size || at < b->size;) {
		struct step x = step_at(a, at), y = step_at(b, at);
		bool same = same_step(a, b, &x, &y);
		if (!same && !is_consequence(a, b, &x, &y)) {
			explain_step(arena, a, b, &x, &y, ret);
			return;
		}
		if (!same && !found) {
			first_x = x;
			first_y = y;
			found = true;
		}
		at += x.length;
	}
	if (found)
		explain_step(arena, a, b, &first_x, &first_y, ret);
	else
		ret->reason = "its exception table differs";
}

static void explain_data(struct arena *arena, struct atom *a, struct atom *b,
			 struct difference *ret)
{
	if (a->size != b->size) {
		ret->reason = arena_printf(arena, "its size was %" PRIu64 " and is %" PRIu64, a->size,
					   b->size);
		return;
	}
	uint64_t least = a->size;
	ret->reason = "its content differs";
	// What is relocated first: a changed target is said best by name.
	size_t count = a->reference_count < b->reference_count ? a->reference_count :
								 b->reference_count;
	for (size_t i = 0; i < count; i++) {
		const struct reference *p = &a->references[i], *q = &b->references[i];
		if (same_reference(a, b, p, q, 0))
			continue;
		if (p->offset == q->offset)
			ret->reason = arena_printf(arena, "at offset 0x%" PRIx64 " %s", p->offset,
						   reference_reason(arena, p, q));
		ret->old_offset = p->offset;
		ret->new_offset = q->offset;
		return;
	}
	const uint8_t *x = atom_bytes(a), *y = atom_bytes(b);
	for (uint64_t at = 0; at < least; at++) {
		uint8_t p = x ? x[at] : 0, q = y ? y[at] : 0;
		if (p == q)
			continue;
		// The word around it reads better than a byte.
		uint64_t from = at & ~(uint64_t)3, end = from + 4 <= least ? from + 4 : least;
		uint64_t old_value = 0, new_value = 0;
		for (uint64_t k = end; k-- > from;) {
			old_value = old_value << 8 | (x ? x[k] : 0);
			new_value = new_value << 8 | (y ? y[k] : 0);
		}
		ret->old_offset = ret->new_offset = from;
		ret->reason = arena_printf(arena, "at offset 0x%" PRIx64 " 0x%" PRIx64
						  " became 0x%" PRIx64,
					   from, old_value, new_value);
		return;
	}
}

void atoms_explain(struct arena *arena, struct atom *old_atom, struct atom *new_atom,
		   struct difference *ret)
{
	*ret = (struct difference){ .reason = "it differs" };
	atom_resolve(old_atom);
	atom_resolve(new_atom);
	if (old_atom->kind == ATOM_FUNCTION && new_atom->kind == ATOM_FUNCTION &&
	    atom_bytes(old_atom) && atom_bytes(new_atom))
		explain_code(arena, old_atom, new_atom, ret);
	else
		explain_data(arena, old_atom, new_atom, ret);
}
