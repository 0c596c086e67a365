// SPDX-License-Identifier: MIT
/*
 * Does control ever leave a function?
 *
 * A thread that runs a main loop never gets out of it, so a patch of that loop waits for ever. Such a
 * function has a loop and no way out: no return, no jump to another function, no jump through a pointer
 * that is not a jump table. A function without a loop that ends in a call (exit(), abort()) is left
 * with its process and keeps nobody waiting.
 *
 * Behind a call to such a callee stands other code, and taking it for what follows would make loops of
 * blocks that only lie that way. An object says which callees do not return: compilers end a function
 * with a call only where nothing comes back. Where a guess remains, it is "returns": the finding is a
 * warning, and one too many teaches people to pass over it.
 */
#include <stdlib.h>

#include "diff/internal.h"

struct place {
	struct atom *atom;
	uint64_t at;
};

enum colour { COLOUR_NEW, COLOUR_ON_PATH, COLOUR_DONE };

/** An instruction on the path from the entry; its successors are walk->edges from @first on. */
struct visit {
	struct place place;
	size_t first, next;
};

struct walk {
	struct atom *function;
	VEC(uint8_t *) colours; // by part: of the function itself, then its .cold parts in order
	VEC(struct visit) path;
	VEC(struct place) edges;
	bool leaves, loops;
	size_t indirect_jumps; // reached
	size_t tables;         // jump tables that the function refers to
	bool label_tables;     // tables of the source's own labels: any number of jumps use one
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

static uint8_t *colour_of(const struct walk *walk, struct place place)
{
	return &walk->colours.items[part_number(walk, place.atom)][place.at];
}

// A successor. false: that is another function.
static bool go(struct walk *walk, struct atom *atom, int64_t at)
{
	if (part_number(walk, atom) == SIZE_MAX)
		return false;
	if (at >= 0 && (uint64_t)at < atom->size)
		vec_push(&walk->edges, (struct place){ .atom = atom, .at = (uint64_t)at });
	return true;
}

// Places in the function that its tables hold.
static void go_to_labels(struct walk *walk, struct atom *user)
{
	for (size_t i = 0; i < user->reference_count; i++) {
		struct atom *table = user->references[i].target;
		if (!table || table->kind == ATOM_FUNCTION || table == user)
			continue;
		atom_resolve(table);
		bool any = false;
		for (size_t k = 0; k < table->reference_count; k++) {
			const struct reference *entry = &table->references[k];
			if (entry->target && entry->target->kind == ATOM_FUNCTION &&
			    (table->by_content || reference_place(entry) != 0))
				any |= go(walk, entry->target, reference_place(entry));
		}
		if (walk->indirect_jumps > 1)
			continue; // counted
		walk->tables += any;
		walk->label_tables |= any && !table->by_content;
	}
}

/* ---- callees that do not return --------------------------------------------------------------- */

static const char *callee_name(const struct reference *reference)
{
	if (!reference)
		return NULL;
	return reference->target ? reference->target->name : reference->symbol->name;
}

static void find_noreturn(struct side *side)
{
	static const char *const known[] = { "exit", "_exit", "_Exit", "quick_exit", "abort",
					     "__assert_fail", "__stack_chk_fail", "__chk_fail",
					     "longjmp", "_longjmp", "siglongjmp", "__longjmp_chk",
					     "pthread_exit", "__cxa_throw", "__cxa_rethrow",
					     "_Unwind_Resume", "_ZSt9terminatev" };
	side->noreturn = hashmap_create();
	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		hashmap_set_string(side->noreturn, known[i], side);
	for (size_t i = 0; i < side->atoms.count; i++) {
		struct atom *atom = side->atoms.items[i];
		if (atom->kind != ATOM_FUNCTION || !atom->symbol || atom->symbol->size == 0)
			continue;
		atom_resolve(atom);
		if (atom->reference_count == 0)
			continue;
		const struct reference *last = &atom->references[atom->reference_count - 1];
		if (last->kind != RELOCATION_CALL || last->offset + last->size != atom->size)
			continue;
		// A jump to another function may stand last as well.
		atom_decode(atom);
		last = &atom->references[atom->reference_count - 1];
		struct arch_instruction instruction;
		bool call = last->offset > 0 &&
			    side->object->arch->decode(atom_bytes(atom) + last->offset - 1,
						       atom->size - last->offset + 1, 0,
						       &instruction) &&
			    instruction.flow == ARCH_FLOW_CALL;
		if (call && callee_name(last))
			hashmap_set_string(side->noreturn, callee_name(last), side);
	}
}

static const struct reference *branch_reference(const struct atom *atom, uint64_t field)
{
	size_t i = atom_reference_from(atom, field);
	return i < atom->reference_count && atom->references[i].offset == field ?
		       &atom->references[i] :
		       NULL;
}

static void find_successors(struct walk *walk, struct place place)
{
	struct atom *atom = place.atom;
	struct arch_instruction instruction;
	if (!atom->side->object->arch->decode(atom_bytes(atom) + place.at, atom->size - place.at,
					      place.at, &instruction)) {
		walk->leaves = true; // not known
		return;
	}
	const struct reference *reference =
		instruction.has_pcrel ?
			branch_reference(atom, place.at + instruction.pcrel_offset) :
			NULL;
	bool next = true;
	switch (instruction.flow) {
	case ARCH_FLOW_JUMP:
	case ARCH_FLOW_BRANCH: {
		struct atom *target = reference ? reference->target : atom;
		int64_t to = reference ? reference_place(reference) : (int64_t)instruction.target;
		if (!target || !go(walk, target, to))
			walk->leaves = true;
		next = instruction.flow == ARCH_FLOW_BRANCH;
		break;
	}
	case ARCH_FLOW_CALL: {
		const char *callee = callee_name(reference);
		next = !callee || !hashmap_get_string(atom->side->noreturn, callee);
		break;
	}
	case ARCH_FLOW_INDIRECT_JUMP:
		// Through a table, but which one is not asked.
		walk->indirect_jumps++;
		go_to_labels(walk, walk->function);
		for (struct atom *part = walk->function->first_part; part; part = part->next_part)
			go_to_labels(walk, part);
		next = false;
		break;
	case ARCH_FLOW_RETURN:
		walk->leaves = true;
		next = false;
		break;
	case ARCH_FLOW_TRAP:
		next = false;
		break;
	default:
		break;
	}
	if (next)
		go(walk, atom, (int64_t)(place.at + instruction.length));
}

static void enter(struct walk *walk, struct place place)
{
	*colour_of(walk, place) = COLOUR_ON_PATH;
	size_t first = walk->edges.count;
	find_successors(walk, place);
	vec_push(&walk->path, (struct visit){ .place = place, .first = first, .next = first });
}

// Depth first; an edge back to the path closes a loop.
static void walk_all(struct walk *walk)
{
	if (walk->function->size > 0)
		enter(walk, (struct place){ .atom = walk->function });
	while (walk->path.count > 0 && !walk->leaves) {
		struct visit *visit = &walk->path.items[walk->path.count - 1];
		if (visit->next == walk->edges.count) {
			*colour_of(walk, visit->place) = COLOUR_DONE;
			walk->edges.count = visit->first;
			walk->path.count--;
			continue;
		}
		struct place successor = walk->edges.items[visit->next++];
		switch (*colour_of(walk, successor)) {
		case COLOUR_NEW:
			enter(walk, successor);
			break;
		case COLOUR_ON_PATH:
			walk->loops = true;
			break;
		default:
			break;
		}
	}
}

bool function_returns(struct atom *function)
{
	if (!atom_bytes(function) || function->size == 0)
		return true;
	struct walk walk = { .function = function };
	if (!function->side->noreturn)
		find_noreturn(function->side);
	atom_decode(function);
	vec_push(&walk.colours, xcalloc(function->size, 1));
	for (struct atom *part = function->first_part; part; part = part->next_part) {
		atom_decode(part);
		vec_push(&walk.colours, xcalloc(part->size + 1, 1));
	}
	walk_all(&walk);
	// More jumps than tables: one of them is a call through a pointer in tail position.
	if (walk.indirect_jumps > walk.tables && !walk.label_tables)
		walk.leaves = true;

	for (size_t i = 0; i < walk.colours.count; i++)
		free(walk.colours.items[i]);
	vec_deinit(&walk.colours);
	vec_deinit(&walk.path);
	vec_deinit(&walk.edges);
	return walk.leaves || !walk.loops;
}
