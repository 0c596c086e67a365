// SPDX-License-Identifier: MIT
/*
 * Does control ever leave a function?
 *
 * A thread that runs a main loop never gets out of it, so a patch of that loop waits for ever. Such a
 * function has a loop and no way out: no return, no jump to another function, no jump through a pointer
 * that is not a jump table. A function without a loop that ends in a call (exit(), abort()) is left
 * with its process and keeps nobody waiting.
 *
 * Which callees do not return is not known here: control is taken to go on behind each call. That
 * can only find a way out too many, and the finding is a warning.
 */
#include <stdlib.h>

#include "diff/internal.h"

struct place {
	struct atom *atom;
	uint64_t at;
};

struct walk {
	struct atom *function;
	VEC(struct place) work;
	VEC(bool *) seen; // by part: of the function itself, then its .cold parts in order
	bool tables_done;
};

static size_t part_number(const struct walk *walk, const struct atom *atom)
{
	size_t number = 1;
	if (atom == walk->function)
		return 0;
	for (const struct atom *part = walk->function->first_part; part; part = part->next_part) {
		if (part == atom)
			return number;
		number++;
	}
	return SIZE_MAX;
}

// false: that is another function.
static bool go(struct walk *walk, struct atom *atom, int64_t at)
{
	if (part_number(walk, atom) == SIZE_MAX)
		return false;
	if (at >= 0 && (uint64_t)at < atom->size)
		vec_push(&walk->work, (struct place){ .atom = atom, .at = (uint64_t)at });
	return true;
}

// Places in the function that its tables hold.
static bool go_to_labels(struct walk *walk, struct atom *user)
{
	bool any = false;
	for (size_t i = 0; i < user->reference_count; i++) {
		struct atom *table = user->references[i].target;
		if (!table || table->kind == ATOM_FUNCTION || table == user)
			continue;
		atom_resolve(table);
		for (size_t k = 0; k < table->reference_count; k++) {
			const struct reference *entry = &table->references[k];
			if (entry->target && entry->target->kind == ATOM_FUNCTION &&
			    (table->by_content || reference_place(entry) != 0))
				any |= go(walk, entry->target, reference_place(entry));
		}
	}
	return any;
}

static const struct reference *branch_reference(const struct atom *atom, uint64_t field)
{
	size_t i = atom_reference_from(atom, field);
	return i < atom->reference_count && atom->references[i].offset == field ?
		       &atom->references[i] :
		       NULL;
}

enum outcome { OUTCOME_STAYS, OUTCOME_LOOPS, OUTCOME_LEAVES };

// From one place on to where it was before or control goes elsewhere.
static enum outcome run(struct walk *walk, struct place place)
{
	struct atom *atom = place.atom;
	bool *seen = walk->seen.items[part_number(walk, atom)];
	const struct arch *arch = atom->side->object->arch;
	enum outcome outcome = OUTCOME_STAYS;
	for (uint64_t at = place.at; at < atom->size && !seen[at];) {
		struct arch_instruction instruction;
		if (!arch->decode(atom_bytes(atom) + at, atom->size - at, at, &instruction))
			return OUTCOME_LEAVES; // not known
		seen[at] = true;
		bool jump = instruction.flow == ARCH_FLOW_JUMP;
		if (jump || instruction.flow == ARCH_FLOW_BRANCH) {
			const struct reference *reference =
				branch_reference(atom, at + instruction.pcrel_offset);
			struct atom *target = reference ? reference->target : atom;
			int64_t to = reference ? reference_place(reference) :
						 (int64_t)instruction.target;
			if (!target || !go(walk, target, to))
				return OUTCOME_LEAVES;
			if (target == atom && to <= (int64_t)at)
				outcome = OUTCOME_LOOPS;
			if (jump)
				return outcome;
		}
		switch (instruction.flow) {
		case ARCH_FLOW_RETURN:
			return OUTCOME_LEAVES;
		case ARCH_FLOW_INDIRECT_JUMP:
			// Through tables; which one is not asked.
			if (walk->tables_done)
				return outcome;
			walk->tables_done = true;
			bool tables = go_to_labels(walk, walk->function);
			for (struct atom *part = walk->function->first_part; part;
			     part = part->next_part)
				tables |= go_to_labels(walk, part);
			// An interpreter's dispatch or a loop over a switch.
			return tables ? OUTCOME_LOOPS : OUTCOME_LEAVES;
		case ARCH_FLOW_TRAP:
			return outcome;
		default:
			break;
		}
		at += instruction.length;
	}
	return outcome;
}

bool function_returns(struct atom *function)
{
	if (!atom_bytes(function) || function->size == 0)
		return true;
	struct walk walk = { .function = function };
	atom_decode(function);
	vec_push(&walk.seen, xcalloc(function->size + 1, sizeof(bool)));
	for (struct atom *part = function->first_part; part; part = part->next_part) {
		atom_decode(part);
		vec_push(&walk.seen, xcalloc(part->size + 1, sizeof(bool)));
	}

	vec_push(&walk.work, (struct place){ .atom = function });
	enum outcome worst = OUTCOME_STAYS;
	while (walk.work.count > 0 && worst != OUTCOME_LEAVES) {
		enum outcome outcome = run(&walk, walk.work.items[--walk.work.count]);
		if (outcome > worst)
			worst = outcome;
	}

	for (size_t i = 0; i < walk.seen.count; i++)
		free(walk.seen.items[i]);
	vec_deinit(&walk.seen);
	vec_deinit(&walk.work);
	return worst != OUTCOME_LOOPS;
}
