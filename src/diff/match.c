// SPDX-License-Identifier: MIT
/*
 * Matching: which atom of the new object is which of the old one.
 *
 * Names first, and where a name stands more than once the levels of diff.h from certain to fallible.
 * Functions come before data. An unmatched function is never a mistake: it counts as new, whoever calls
 * it counts as changed, and nothing of the old program is led astray. An unmatched variable would be:
 * new code would start with a fresh copy of what the program already has. So a variable that may have a
 * twin, with nothing to tell which, is a finding.
 *
 * The static variables of functions are the hard case. Compilers number them (`n.0`, `n.1`) in order
 * of declaration through the file, so neither the number nor the order says anything: two blocks of a
 * function that change places swap the numbers of their variables. They are told apart by
 *   1. the functions that use them: `n` of f() is not `n` of g();
 *   2. the places of use in code that did not change;
 *   3. size and initial value, where as many stand on the old side as on the new one;
 *   4. being the only one left;
 * and what then remains is ambiguous.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "diff/internal.h"

struct atoms {
	VEC(struct atom *) list;
};

/** Candidates on both sides, in their order. */
struct group {
	struct atoms old_atoms, new_atoms;
};

struct grouping {
	struct hashmap *map;
	VEC(struct group *) list; // in order of appearance: results must not hang on hashing
};

static struct group *group_get(struct grouping *grouping, const void *key, size_t size)
{
	if (!grouping->map)
		grouping->map = hashmap_create();
	struct group *group = hashmap_get(grouping->map, key, size);
	if (!group) {
		group = xcalloc(1, sizeof(*group));
		hashmap_set(grouping->map, key, size, group);
		vec_push(&grouping->list, group);
	}
	return group;
}

static void group_add(struct group *group, bool is_new, struct atom *atom)
{
	if (is_new)
		vec_push(&group->new_atoms.list, atom);
	else
		vec_push(&group->old_atoms.list, atom);
}

static void grouping_deinit(struct grouping *grouping)
{
	for (size_t i = 0; i < grouping->list.count; i++) {
		vec_deinit(&grouping->list.items[i]->old_atoms.list);
		vec_deinit(&grouping->list.items[i]->new_atoms.list);
		free(grouping->list.items[i]);
	}
	vec_deinit(&grouping->list);
	hashmap_free(grouping->map);
}

static void pair(struct atom *old_atom, struct atom *new_atom, enum diff_level level)
{
	old_atom->twin = new_atom;
	new_atom->twin = old_atom;
	old_atom->level = new_atom->level = level;
}

static void drop_matched(struct atoms *atoms)
{
	size_t kept = 0;
	for (size_t i = 0; i < atoms->list.count; i++)
		if (!atoms->list.items[i]->twin)
			atoms->list.items[kept++] = atoms->list.items[i];
	atoms->list.count = kept;
}

static bool is_single(const struct group *group)
{
	return group->old_atoms.list.count == 1 && group->new_atoms.list.count == 1;
}

/* ---- keys by which a group is split --------------------------------------------------------- */

static void key_scope(struct atom *atom, struct buffer *key)
{
	buffer_puts(key, atom_is_visible(atom) ? "g" : "l");
}

static void key_file(struct atom *atom, struct buffer *key)
{
	key_scope(atom, key);
	if (!atom_is_visible(atom) && atom->symbol->file)
		buffer_puts(key, atom->symbol->file);
}

static void key_content(struct atom *atom, struct buffer *key)
{
	const struct digest *digest = atom_digest(atom);
	buffer_append(key, digest->bytes, sizeof(digest->bytes));
}

static void key_name(struct atom *atom, struct buffer *key)
{
	buffer_puts(key, atom->name);
}

static void key_initial(struct atom *atom, struct buffer *key)
{
	const struct digest *digest = atom_digest(atom);
	buffer_append(key, &atom->kind, sizeof(atom->kind));
	buffer_append(key, &atom->size, sizeof(atom->size));
	buffer_append(key, digest->bytes, sizeof(digest->bytes));
}

static void split(struct grouping *grouping, const struct atoms *atoms, bool is_new,
		  void (*key_of)(struct atom *atom, struct buffer *key))
{
	struct buffer key = { 0 };
	for (size_t i = 0; i < atoms->list.count; i++) {
		struct atom *atom = atoms->list.items[i];
		key.size = 0;
		key_of(atom, &key);
		group_add(group_get(grouping, key.bytes, key.size), is_new, atom);
	}
	buffer_deinit(&key);
}

// Match what stands once on each side under @key_of.
static void narrow(struct group *group, void (*key_of)(struct atom *atom, struct buffer *key),
		   enum diff_level level)
{
	drop_matched(&group->old_atoms);
	drop_matched(&group->new_atoms);
	if (group->old_atoms.list.count == 0 || group->new_atoms.list.count == 0)
		return;
	struct grouping parts = { 0 };
	split(&parts, &group->old_atoms, false, key_of);
	split(&parts, &group->new_atoms, true, key_of);
	for (size_t i = 0; i < parts.list.count; i++)
		if (is_single(parts.list.items[i]))
			pair(parts.list.items[i]->old_atoms.list.items[0],
			     parts.list.items[i]->new_atoms.list.items[0], level);
	grouping_deinit(&parts);
	drop_matched(&group->old_atoms);
	drop_matched(&group->new_atoms);
}

/* ---- names ---------------------------------------------------------------------------------- */

static bool is_named(const struct atom *atom)
{
	return atom->symbol && !atom->by_content && !atom->numbered && !atom->cold;
}

static void key_by_name(struct side *side, bool is_new, struct grouping *grouping)
{
	struct buffer key = { 0 };
	for (size_t i = 0; i < side->atoms.count; i++) {
		struct atom *atom = side->atoms.items[i];
		if (!is_named(atom))
			continue;
		bool function = atom->kind == ATOM_FUNCTION;
		key.size = 0;
		buffer_puts(&key, function ? "f" : "d");
		buffer_puts(&key, function && name_is_clone(atom->name) ? atom->key : atom->name);
		group_add(group_get(grouping, key.bytes, key.size), is_new, atom);
	}
	buffer_deinit(&key);
}

static bool same_digests(const struct group *group)
{
	const struct digest *first = atom_digest(group->old_atoms.list.items[0]);
	for (size_t i = 0; i < group->old_atoms.list.count; i++)
		if (!digest_equal(first, atom_digest(group->old_atoms.list.items[i])))
			return false;
	for (size_t i = 0; i < group->new_atoms.list.count; i++)
		if (!digest_equal(first, atom_digest(group->new_atoms.list.items[i])))
			return false;
	return true;
}

static void ambiguous(const struct group *group, struct findings *findings)
{
	struct atom *first = group->old_atoms.list.items[0];
	for (size_t i = 0; i < group->old_atoms.list.count; i++)
		group->old_atoms.list.items[i]->ambiguous = true;
	for (size_t i = 0; i < group->new_atoms.list.count; i++)
		group->new_atoms.list.items[i]->ambiguous = true;
	if (first->numbered)
		findings_add(findings, FINDING_KIND_STATIC_AMBIGUOUS, first->key,
			     "%zu static variables named '%s' of the old object and %zu of the new "
			     "one are used by the same changed code, and nothing tells which is which",
			     group->old_atoms.list.count, first->key, group->new_atoms.list.count);
	else
		findings_add(findings, FINDING_KIND_SYMBOL_AMBIGUOUS, first->name,
			     "'%s' stands %zu times in the old object and %zu times in the new one, and "
			     "nothing tells which is which",
			     first->name, group->old_atoms.list.count,
			     group->new_atoms.list.count);
}

static void match_group(struct group *group, struct findings *findings)
{
	if (group->old_atoms.list.count == 0 || group->new_atoms.list.count == 0)
		return;
	struct atom *first = group->old_atoms.list.items[0];
	if (is_single(group)) {
		struct atom *second = group->new_atoms.list.items[0];
		pair(first, second,
		     string_equal(first->name, second->name) ? DIFF_LEVEL_NAME :
							       DIFF_LEVEL_POSITION);
		return;
	}
	bool clone = first->kind == ATOM_FUNCTION && name_is_clone(first->name);
	if (clone) {
		// f.constprop.0 and f.constprop.1: the same content is worth more than the number.
		narrow(group, key_content, DIFF_LEVEL_CONTENT);
		narrow(group, key_name, DIFF_LEVEL_NAME);
	}
	narrow(group, key_scope, DIFF_LEVEL_SCOPE);
	narrow(group, key_file, DIFF_LEVEL_FILE);
	narrow(group, key_content, DIFF_LEVEL_CONTENT);
	size_t left = group->old_atoms.list.count;
	if (left == 0 || group->new_atoms.list.count == 0)
		return;
	// The only one left; or the same code several times, where any order is right.
	bool alike = first->kind == ATOM_FUNCTION && left == group->new_atoms.list.count &&
		     same_digests(group);
	if (is_single(group) || alike) {
		for (size_t i = 0; i < left; i++)
			pair(group->old_atoms.list.items[i], group->new_atoms.list.items[i],
			     DIFF_LEVEL_POSITION);
		return;
	}
	if (!clone)
		ambiguous(group, findings);
}

// A function that gained or lost a suffix: f and f.isra.0. Only a local one can: a global name stays.
static void match_changed_suffix(struct side *side, bool is_new, struct grouping *grouping)
{
	for (size_t i = 0; i < side->atoms.count; i++) {
		struct atom *atom = side->atoms.items[i];
		if (!is_named(atom) || atom->kind != ATOM_FUNCTION || atom->twin || atom->ambiguous ||
		    atom_is_visible(atom))
			continue;
		const char *base = name_function(side->arena, atom->name);
		group_add(group_get(grouping, base, strlen(base)), is_new, atom);
	}
}

static void match_parts(struct side *old_side)
{
	for (size_t i = 0; i < old_side->atoms.count; i++) {
		struct atom *parent = old_side->atoms.items[i];
		if (!parent->first_part || !parent->twin)
			continue;
		struct group group = { 0 };
		for (struct atom *part = parent->first_part; part; part = part->next_part)
			group_add(&group, false, part);
		for (struct atom *part = parent->twin->first_part; part; part = part->next_part)
			group_add(&group, true, part);
		if (is_single(&group))
			pair(group.old_atoms.list.items[0], group.new_atoms.list.items[0],
			     DIFF_LEVEL_NAME);
		else
			narrow(&group, key_name, DIFF_LEVEL_NAME);
		vec_deinit(&group.old_atoms.list);
		vec_deinit(&group.new_atoms.list);
	}
}

// Other names of what has no twin yet: an alias became the first of its names.
static void match_aliases(struct side *old_side, struct side *new_side, struct findings *findings)
{
	const struct object *object = new_side->object;
	for (size_t i = 0; i < object->symbols.count; i++) {
		const struct object_symbol *symbol = object->symbols.items[i];
		struct atom *atom = side_symbol_atom(new_side, symbol);
		if (!atom || atom->twin || atom->ambiguous || !is_named(atom) ||
		    symbol->bind == STB_LOCAL || symbol->value != atom->start)
			continue;
		const struct object_symbol *other = object_symbol_find(old_side->object, symbol->name);
		struct atom *old_atom = other ? side_symbol_atom(old_side, other) : NULL;
		if (!old_atom || old_atom->kind != atom->kind || other->value != old_atom->start ||
		    other->bind == STB_LOCAL)
			continue;
		if (!old_atom->twin) {
			pair(old_atom, atom, DIFF_LEVEL_NAME);
			continue;
		}
		findings_add(findings, FINDING_KIND_SYMBOL_AMBIGUOUS, symbol->name,
			     "'%s' was another name of '%s' and is not any more: both names lead to one "
			     "place in the running program",
			     symbol->name, old_atom->name);
		atom->ambiguous = true;
	}
}

/* ---- static variables of functions ------------------------------------------------------------ */

struct statics {
	VEC(struct atom *) atoms; // of both sides
	size_t *leader;           // union-find, by position in @atoms
};

static size_t statics_find(struct statics *statics, size_t i)
{
	while (statics->leader[i] != i)
		i = statics->leader[i] = statics->leader[statics->leader[i]];
	return i;
}

static void statics_join(struct statics *statics, size_t a, size_t b)
{
	a = statics_find(statics, a);
	b = statics_find(statics, b);
	if (a < b)
		statics->leader[b] = a;
	else
		statics->leader[a] = b;
}

// All that has the same key and is used from under the same name is one component.
static void join_user(struct statics *statics, struct hashmap *users, struct atom *atom,
		      const char *user)
{
	_cleanup_buffer_ struct buffer key = { 0 };
	buffer_append(&key, atom->key, strlen(atom->key) + 1);
	buffer_puts(&key, user);
	size_t position = atom->mark - 1;
	uintptr_t known = (uintptr_t)hashmap_get(users, key.bytes, key.size);
	if (known)
		statics_join(statics, known - 1, position);
	else
		hashmap_set(users, key.bytes, key.size, (void *)(position + 1));
}

static void join_users(struct statics *statics, struct hashmap *users, struct side *side, bool *used)
{
	for (size_t i = 0; i < side->atoms.count; i++) {
		struct atom *user = side->atoms.items[i];
		const char *name = NULL;
		atom_resolve(user);
		for (size_t k = 0; k < user->reference_count; k++) {
			struct atom *target = user->references[k].target;
			if (!target || !target->numbered)
				continue;
			if (!name && user->kind == ATOM_FUNCTION && user->symbol)
				name = name_function(side->arena, user->name);
			else if (!name)
				name = user->key ? user->key : "";
			used[target->mark - 1] = true;
			join_user(statics, users, target, name);
		}
	}
}

// Code that did not change says which is which: its references correspond one to one.
static void match_by_uses(struct side *old_side)
{
	for (size_t i = 0; i < old_side->atoms.count; i++) {
		struct atom *user = old_side->atoms.items[i], *twin = user->twin;
		bool any = false;
		for (size_t k = 0; twin && k < user->reference_count && !any; k++)
			any = user->references[k].target && user->references[k].target->numbered;
		if (!any || !digest_equal(atom_digest(user), atom_digest(twin)) ||
		    user->reference_count != twin->reference_count)
			continue;
		for (size_t k = 0; k < user->reference_count; k++) {
			struct atom *a = user->references[k].target;
			struct atom *b = twin->references[k].target;
			if (!a || !b || !a->numbered || !b->numbered || a->kind != b->kind ||
			    a->twin == b)
				continue;
			if (!a->twin && !b->twin)
				pair(a, b, DIFF_LEVEL_USES);
			else
				a->ambiguous = b->ambiguous = true; // two users disagree
		}
	}
}

// @used: by anything at all. What nothing refers to is in nobody's way, whichever it is.
static void match_component(struct group *group, bool used, struct findings *findings)
{
	struct atoms *old_atoms = &group->old_atoms, *new_atoms = &group->new_atoms;
	bool torn = false;
	for (size_t i = 0; i < old_atoms->list.count; i++)
		torn |= old_atoms->list.items[i]->ambiguous;
	for (size_t i = 0; torn && i < old_atoms->list.count; i++) {
		struct atom *atom = old_atoms->list.items[i];
		if (atom->twin)
			atom->twin->twin = NULL;
		atom->twin = NULL;
	}
	drop_matched(old_atoms);
	drop_matched(new_atoms);
	if (old_atoms->list.count == 0 || new_atoms->list.count == 0)
		return;
	if (!torn && is_single(group)) {
		pair(old_atoms->list.items[0], new_atoms->list.items[0], DIFF_LEVEL_USES);
		return;
	}
	if (!torn && old_atoms->list.count == new_atoms->list.count) {
		narrow(group, key_initial, DIFF_LEVEL_CONTENT);
		if (is_single(group))
			pair(old_atoms->list.items[0], new_atoms->list.items[0],
			     DIFF_LEVEL_POSITION);
		drop_matched(old_atoms);
		drop_matched(new_atoms);
	}
	if (used && old_atoms->list.count > 0)
		ambiguous(group, findings);
}

static void collect_statics(struct statics *statics, struct side *side)
{
	for (size_t i = 0; i < side->atoms.count; i++) {
		struct atom *atom = side->atoms.items[i];
		if (!atom->numbered)
			continue;
		vec_push(&statics->atoms, atom);
		atom->mark = statics->atoms.count;
	}
}

static void match_statics(struct side *old_side, struct side *new_side, struct findings *findings)
{
	struct statics statics = { 0 };
	collect_statics(&statics, old_side);
	collect_statics(&statics, new_side);
	size_t count = statics.atoms.count;
	if (count == 0)
		return;
	statics.leader = xcalloc(count, sizeof(*statics.leader));
	for (size_t i = 0; i < count; i++)
		statics.leader[i] = i;

	struct hashmap *users = hashmap_create();
	bool *used = xcalloc(count, sizeof(*used));
	join_users(&statics, users, old_side, used);
	join_users(&statics, users, new_side, used);
	for (size_t i = 0; i < count; i++)
		if (!used[i])
			join_user(&statics, users, statics.atoms.items[i], "");

	match_by_uses(old_side);
	struct grouping components = { 0 };
	for (size_t i = 0; i < count; i++) {
		size_t leader = statics_find(&statics, i);
		struct atom *atom = statics.atoms.items[i];
		group_add(group_get(&components, &leader, sizeof(leader)), atom->side == new_side,
			  atom);
	}
	for (size_t i = 0; i < components.list.count; i++) {
		struct group *group = components.list.items[i];
		bool any = false;
		for (size_t k = 0; k < group->old_atoms.list.count; k++)
			any |= used[group->old_atoms.list.items[k]->mark - 1];
		match_component(group, any, findings);
	}

	grouping_deinit(&components);
	hashmap_free(users);
	free(used);
	free(statics.leader);
	vec_deinit(&statics.atoms);
}

/* ---- passes --------------------------------------------------------------------------------- */

void match_sides(struct side *old_side, struct side *new_side, struct findings *findings)
{
	struct grouping names = { 0 };
	key_by_name(old_side, false, &names);
	key_by_name(new_side, true, &names);
	for (size_t i = 0; i < names.list.count; i++)
		match_group(names.list.items[i], findings);
	grouping_deinit(&names);

	struct grouping suffixes = { 0 };
	match_changed_suffix(old_side, false, &suffixes);
	match_changed_suffix(new_side, true, &suffixes);
	for (size_t i = 0; i < suffixes.list.count; i++)
		if (is_single(suffixes.list.items[i]))
			pair(suffixes.list.items[i]->old_atoms.list.items[0],
			     suffixes.list.items[i]->new_atoms.list.items[0], DIFF_LEVEL_POSITION);
	grouping_deinit(&suffixes);

	match_aliases(old_side, new_side, findings);
	// From here on: functions and named data have their twins.
	match_parts(old_side);
	match_statics(old_side, new_side, findings);
}
