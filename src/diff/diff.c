// SPDX-License-Identifier: MIT
/*
 * The passes of a diff, in order.
 */
#include "diff/diff.h"

#include <elf.h>
#include <string.h>

#include "diff/internal.h"

const char *diff_level_word(enum diff_level level)
{
	static const char *const words[] = {
#define X(name, word) word,
		DIFF_LEVELS(X)
#undef X
	};
	return words[level];
}

const char *diff_verdict_word(enum diff_verdict verdict)
{
	static const char *const words[] = {
		[DIFF_SAME] = "same",
		[DIFF_CHANGED] = "changed",
		[DIFF_NEW] = "new",
		[DIFF_REMOVED] = "removed",
	};
	return words[verdict];
}

// Functions that are reported: parts go with their parents, code without a name with its users.
static bool is_reported(const struct atom *atom)
{
	return atom->kind == ATOM_FUNCTION && atom->symbol && !atom->cold;
}

/* ---- verdicts ------------------------------------------------------------------------------- */

static void compare_functions(struct side *new_side)
{
	for (size_t i = 0; i < new_side->atoms.count; i++) {
		struct atom *atom = new_side->atoms.items[i];
		if (atom->kind != ATOM_FUNCTION || !atom->twin)
			continue;
		atom->changed = atom->twin->changed = !atoms_equal(atom->twin, atom);
	}
}

static void force(struct side *new_side, const struct diff_options *options)
{
	struct hashmap *forced = hashmap_create();
	for (size_t i = 0; i < options->changed_elsewhere_count; i++)
		hashmap_set_string(forced, options->changed_elsewhere[i], (void *)1);
	for (size_t i = 0; i < new_side->atoms.count; i++) {
		struct atom *atom = new_side->atoms.items[i];
		if (atom->kind == ATOM_FUNCTION && atom->symbol && atom->twin &&
		    hashmap_get_string(forced, atom->name))
			atom->changed = atom->twin->changed = true;
	}
	hashmap_free(forced);
}

// A function and its .cold part are one.
static void join_parts(struct side *new_side)
{
	for (size_t i = 0; i < new_side->atoms.count; i++) {
		struct atom *atom = new_side->atoms.items[i];
		if (!atom->cold || !atom->parent->twin)
			continue;
		if (!atom->twin || atom->changed)
			atom->parent->changed = atom->parent->twin->changed = true;
	}
	for (size_t i = 0; i < new_side->atoms.count; i++) {
		struct atom *atom = new_side->atoms.items[i];
		if (atom->cold && atom->parent->changed)
			atom->changed = true;
	}
}

static void mark_included(struct diff *diff, struct side *old_side, struct side *new_side)
{
	for (size_t i = 0; i < new_side->atoms.count; i++) {
		struct atom *atom = new_side->atoms.items[i];
		if (atom->kind == ATOM_FUNCTION && atom->symbol && !atom->skipped) {
			const struct atom *whole = atom->cold ? atom->parent : atom;
			atom->included = !whole->skipped && (whole->changed || !whole->twin);
		}
		// A new variable that other objects' new code may ask for by name.
		if (atom->kind == ATOM_DATA && !atom->twin && !atom->by_content && !atom->numbered &&
		    atom->symbol->bind == STB_GLOBAL && !section_is_init_list(atom->section) &&
		    !section_is_fini_list(atom->section) &&
		    !object_symbol_find(old_side->object, atom->name))
			atom->included = true;
		if (atom->included)
			diff->changed = true;
	}
}

/* ---- result --------------------------------------------------------------------------------- */

static bool is_forced(const struct diff_options *options, const char *name)
{
	for (size_t i = 0; i < options->changed_elsewhere_count; i++)
		if (string_equal(options->changed_elsewhere[i], name))
			return true;
	return false;
}

// What a thread may be inside besides the function itself: what is not there any more, or not as it
// was, in the new program.
static void collect_parts(struct diff *diff, struct diff_function *function, struct atom *old_atom,
			  struct hashmap *split)
{
	VEC(const struct object_symbol *) parts = { 0 };
	for (struct atom *part = old_atom->first_part; part; part = part->next_part)
		vec_push(&parts, part->symbol);
	for (struct atom *part = hashmap_get_string(split, old_atom->name); part;
	     part = part->next_part)
		if (part != old_atom)
			vec_push(&parts, part->symbol);
	function->old_part_count = parts.count;
	if (parts.count > 0)
		function->old_parts =
			arena_memdup(diff->arena, parts.items, parts.count * sizeof(*parts.items));
	vec_deinit(&parts);
}

// `.part.N` of the old side that changed or went, by the name of the function that they were cut from.
static struct hashmap *find_split_parts(struct side *old_side)
{
	struct hashmap *split = hashmap_create();
	for (size_t i = old_side->atoms.count; i-- > 0;) {
		struct atom *atom = old_side->atoms.items[i];
		if (!is_reported(atom) || !strstr(atom->name, ".part.") ||
		    (atom->twin && !atom->changed))
			continue;
		const char *parent = name_function(old_side->arena, atom->name);
		atom->next_part = hashmap_get_string(split, parent);
		hashmap_set_string(split, parent, atom);
	}
	return split;
}

static void explain_function(struct diff *diff, struct diff_function *function,
			     struct atom *old_atom, struct atom *new_atom)
{
	struct difference difference;
	struct atom *a = old_atom, *b = new_atom;
	const char *where = "";
	if (atoms_equal(a, b)) {
		// Then it is a part that differs, or what somebody else said.
		struct atom *part = new_atom->first_part;
		while (part && part->twin && atoms_equal(part->twin, part))
			part = part->next_part;
		if (!part || !part->twin) {
			function->reason = part ? "it gained a cold part" :
					   function->forced ?
						  "it differs in the objects built without one "
						  "section per function" :
						  "it reads a table that changed";
			return;
		}
		a = part->twin;
		b = part;
		where = "in its cold part, ";
	}
	atoms_explain(diff->arena, a, b, &difference);
	function->reason = arena_printf(diff->arena, "%s%s", where, difference.reason);
	function->old_offset = difference.old_offset;
	function->new_offset = difference.new_offset;
	function->old_text = difference.old_text;
	function->new_text = difference.new_text;
}

static void add_function(struct diff *diff, struct atom *atom, const struct diff_options *options,
			 struct hashmap *split)
{
	struct diff_function function = {
		.name = arena_strdup(diff->arena, atom->name),
		.verdict = !atom->twin ? DIFF_NEW : atom->changed ? DIFF_CHANGED : DIFF_SAME,
		.level = atom->level,
		.new_symbol = atom->symbol,
		.returns = true,
	};
	if (diff->output)
		function.output = atom->output;
	if (atom->twin)
		function.old_symbol = atom->twin->symbol;
	if (function.verdict == DIFF_CHANGED) {
		function.forced = is_forced(options, atom->name);
		function.returns = function_returns(atom->twin);
		explain_function(diff, &function, atom->twin, atom);
		collect_parts(diff, &function, atom->twin, split);
	}
	if (function.verdict == DIFF_NEW)
		function.returns = function_returns(atom);
	vec_push(&diff->functions, function);
}

static void add_removed(struct diff *diff, struct atom *atom, struct hashmap *split)
{
	struct diff_function function = {
		.name = arena_strdup(diff->arena, atom->name),
		.verdict = DIFF_REMOVED,
		.old_symbol = atom->symbol,
		.returns = function_returns(atom),
	};
	collect_parts(diff, &function, atom, split);
	vec_push(&diff->functions, function);
}

static void list_functions(struct diff *diff, struct side *old_side, struct side *new_side,
			   const struct diff_options *options)
{
	struct hashmap *split = find_split_parts(old_side);
	for (size_t i = 0; i < new_side->atoms.count; i++)
		if (is_reported(new_side->atoms.items[i]))
			add_function(diff, new_side->atoms.items[i], options, split);
	for (size_t i = 0; i < old_side->atoms.count; i++)
		if (is_reported(old_side->atoms.items[i]) && !old_side->atoms.items[i]->twin)
			add_removed(diff, old_side->atoms.items[i], split);
	hashmap_free(split);
}

static void warn_of_loops(struct side *new_side, struct findings *findings)
{
	for (size_t i = 0; i < new_side->atoms.count; i++) {
		const struct atom *atom = new_side->atoms.items[i];
		if (is_reported(atom) && atom->included && atom->twin &&
		    !function_returns(atom->twin))
			findings_add(findings, FINDING_KIND_NO_RETURN, atom->name,
				     "the old '%s' loops and has no return and no jump to another "
				     "function",
				     atom->name);
	}
}

static void accept(struct findings *findings, const struct diff_options *options)
{
	for (size_t i = 0; i < options->accepted_count; i++) {
		// Another object may be meant; whoever has all findings says so.
		struct error *error = findings_accept(findings, options->accepted[i]);
		error_free(error);
	}
}

/* ---- interface ------------------------------------------------------------------------------ */

struct error *diff_objects(const struct object *old_object, const struct object *new_object,
			   const struct diff_options *options, struct diff **ret)
{
	static const struct diff_options none;
	if (!options)
		options = &none;
	if (old_object->arch != new_object->arch)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "\"%s\" is for %s and \"%s\" is for %s: only objects of one CPU can "
				 "be compared",
				 old_object->path, old_object->arch->name, new_object->path,
				 new_object->arch->name);

	struct arena *arena = arena_create();
	struct diff *diff = arena_new(arena, struct diff);
	diff->arena = arena;
	diff->old_object = old_object;
	diff->new_object = new_object;
	struct findings findings = { 0 };

	struct side old_side = { .label = "old" }, new_side = { .label = "new" };
	old_side.other = &new_side;
	new_side.other = &old_side;
	side_init(&old_side, old_object, arena);
	side_init(&new_side, new_object, arena);
	match_sides(&old_side, &new_side, &findings);
	// From here on: twins are known and stay.
	compare_functions(&new_side);
	force(&new_side, options);
	guard_accept_tables(&new_side, options);
	join_parts(&new_side);
	// From here on: verdicts stay.
	guard_mark_init(&old_side);
	guard_mark_init(&new_side);
	guard_skip(&new_side);
	mark_included(diff, &old_side, &new_side);
	for (size_t i = 0; i < new_side.atoms.count; i++)
		diff->changed |= is_reported(new_side.atoms.items[i]) &&
				 (new_side.atoms.items[i]->changed || !new_side.atoms.items[i]->twin);
	for (size_t i = 0; i < old_side.atoms.count; i++)
		diff->changed |= is_reported(old_side.atoms.items[i]) && !old_side.atoms.items[i]->twin;
	diff->changed |= guard_data_changed(&old_side, &new_side);

	if (!options->verdicts_only) {
		guard_findings(&old_side, &new_side, &findings);
		warn_of_loops(&new_side, &findings);
		accept(&findings, options);
		if (!findings_refuse(&findings)) {
			diff->output = clone_output(&old_side, &new_side, &findings,
						    new_object->path);
			accept(&findings, options);
		}
		findings_sort(&findings);
		diff->findings = findings;
	} else {
		findings_deinit(&findings);
	}
	list_functions(diff, &old_side, &new_side, options);
	side_deinit(&old_side);
	side_deinit(&new_side);
	*ret = diff;
	return NULL;
}

void diff_free(struct diff *diff)
{
	if (!diff)
		return;
	object_free(diff->output);
	findings_deinit(&diff->findings);
	vec_deinit(&diff->functions);
	arena_free(diff->arena);
}

void diff_cleanup(struct diff **diff)
{
	diff_free(*diff);
}
