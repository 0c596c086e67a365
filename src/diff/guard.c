// SPDX-License-Identifier: MIT
/*
 * Guards: changes whose form a patch could carry and whose meaning it would lose.
 *
 * The running program keeps its data. A new initial value, a new size, code that runs once at start, a
 * table that unchanged code goes on reading: each is a finding about a symbol that says what was found.
 * Nothing here decides; severities and acceptance are base's.
 */
#include <ctype.h>
#include <elf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "diff/internal.h"

static bool has_prefix(const char *name, const char *prefix)
{
	size_t length = strlen(prefix);
	return strncmp(name, prefix, length) == 0 && (name[length] == '\0' || name[length] == '.');
}

/* ---- code that runs once -------------------------------------------------------------------- */

static bool is_list(const struct atom *atom)
{
	return section_is_init_list(atom->section) || section_is_fini_list(atom->section);
}

// A function that only code of that kind calls is of that kind: count the other uses down to none.
void guard_mark_init(struct side *side)
{
	VEC(struct atom *) work = { 0 };
	for (size_t i = 0; i < side->atoms.count; i++) {
		struct atom *list = side->atoms.items[i];
		if (!section_is_init_list(list->section))
			continue;
		atom_resolve(list);
		for (size_t k = 0; k < list->reference_count; k++) {
			struct atom *target = list->references[k].target;
			if (target && target->kind == ATOM_FUNCTION && !target->init) {
				target->init = true;
				vec_push(&work, target);
			}
		}
	}
	if (work.count == 0)
		return;
	for (size_t i = 0; i < side->atoms.count; i++)
		side->atoms.items[i]->mark = 0;
	for (size_t i = 0; i < side->atoms.count; i++) {
		struct atom *user = side->atoms.items[i];
		atom_resolve(user);
		for (size_t k = 0; k < user->reference_count; k++) {
			struct atom *target = user->references[k].target;
			if (target && target != user)
				target->mark++;
		}
	}
	for (size_t i = 0; i < work.count; i++) {
		struct atom *user = work.items[i];
		for (size_t k = 0; k < user->reference_count; k++) {
			struct atom *target = user->references[k].target;
			if (!target || target == user || target->kind != ATOM_FUNCTION ||
			    target->init || atom_is_visible(target) || --target->mark > 0)
				continue;
			target->init = true;
			vec_push(&work, target);
		}
	}
	vec_deinit(&work);
}

static bool is_ifunc(const struct atom *atom, const struct object_symbol **ret)
{
	const struct object_section *section = atom->section;
	for (size_t i = 0; i < section->symbols.count; i++) {
		const struct object_symbol *symbol = section->symbols.items[i];
		if (symbol->type == STT_GNU_IFUNC && side_symbol_atom(atom->side, symbol) == atom) {
			*ret = symbol;
			return true;
		}
	}
	return false;
}

// .init and .fini are pieces of one function that the linker puts together.
static bool is_piece(const struct object_section *section)
{
	return string_equal(section->name, ".init") || string_equal(section->name, ".fini");
}

void guard_skip(struct side *new_side)
{
	for (size_t i = 0; i < new_side->atoms.count; i++) {
		struct atom *atom = new_side->atoms.items[i];
		const struct object_symbol *symbol;
		if (atom->kind == ATOM_FUNCTION && atom->symbol && (atom->changed || !atom->twin))
			atom->skipped = atom->init || is_piece(atom->section) ||
					is_ifunc(atom, &symbol);
	}
}

static void check_function(struct atom *atom, struct findings *findings)
{
	if (!atom->skipped || atom->cold)
		return;
	const char *how = atom->twin ? "changed" : "is new";
	const struct object_symbol *symbol;
	if (atom->init)
		findings_add(findings, FINDING_KIND_INIT_CODE, atom->name,
			     "'%s' runs once, before main(), and %s", atom->name, how);
	else if (is_piece(atom->section))
		findings_add(findings, FINDING_KIND_SECTION_UNKNOWN, atom->name,
			     "'%s' stands in section '%s' and %s", atom->name, atom->section->name,
			     how);
	else if (is_ifunc(atom, &symbol))
		findings_add(findings, FINDING_KIND_IFUNC_CHANGED, symbol->name,
			     "the resolver '%s' of the indirect function '%s' %s", atom->name,
			     symbol->name, how);
}

// The kind of a name that both sides have: a function here, an indirect one there.
static void check_ifunc_kinds(struct side *old_side, struct side *new_side,
			      struct findings *findings)
{
	const struct object *object = new_side->object;
	for (size_t i = 0; i < object->symbols.count; i++) {
		const struct object_symbol *symbol = object->symbols.items[i];
		if (symbol->bind == STB_LOCAL || !object_symbol_is_function(symbol))
			continue;
		struct atom *atom = side_symbol_atom(new_side, symbol);
		struct atom *twin = atom ? atom->twin : NULL;
		if (!twin || twin->symbol->type == symbol->type)
			continue;
		const struct object_symbol *other =
			object_symbol_find(old_side->object, symbol->name);
		if (other && object_symbol_is_function(other) && other->type != symbol->type)
			findings_add(findings, FINDING_KIND_IFUNC_CHANGED, symbol->name,
				     "'%s' was %s function and is %s one", symbol->name,
				     other->type == STT_GNU_IFUNC ? "an indirect" : "a plain",
				     symbol->type == STT_GNU_IFUNC ? "an indirect" : "a plain");
	}
}

static void check_fini_lists(struct side *side, struct findings *findings)
{
	for (size_t i = 0; i < side->atoms.count; i++) {
		struct atom *list = side->atoms.items[i];
		if (!section_is_fini_list(list->section))
			continue;
		atom_resolve(list);
		for (size_t k = 0; k < list->reference_count; k++) {
			const struct atom *target = list->references[k].target;
			if (target && target->kind == ATOM_FUNCTION && !target->twin)
				findings_add(findings, FINDING_KIND_INIT_CODE, target->name,
					     "'%s' is new and would run at exit, but the program "
					     "has its list of such functions already",
					     target->name);
		}
	}
}

/* ---- who reads what ------------------------------------------------------------------------- */

// Unchanged code and data, and what they reach over unnamed data.
static void mark_readers(struct atom *reader, const struct atom *through, struct atom **readers)
{
	atom_resolve((struct atom *)through);
	for (size_t i = 0; i < through->reference_count; i++) {
		struct atom *target = through->references[i].target;
		if (!target || target->kind == ATOM_FUNCTION || readers[target->index])
			continue;
		readers[target->index] = reader;
		if (target->by_content)
			mark_readers(reader, target, readers);
	}
}

// By atom index: somebody who is unchanged and reads it, or NULL.
static struct atom **find_readers(struct side *side)
{
	struct atom **readers = xcalloc(side->atoms.count + 1, sizeof(struct atom *));
	for (size_t i = 0; i < side->atoms.count; i++) {
		struct atom *atom = side->atoms.items[i];
		if (!atom->twin || atom->by_content || is_list(atom))
			continue;
		bool unchanged = atom->kind == ATOM_FUNCTION ? !atom->changed :
							       atoms_equal(atom->twin, atom);
		if (unchanged)
			mark_readers(atom, atom, readers);
	}
	return readers;
}

static const struct atom *label_target(struct atom *atom)
{
	atom_resolve(atom);
	for (size_t i = 0; i < atom->reference_count; i++) {
		const struct reference *reference = &atom->references[i];
		const struct atom *target = reference->target;
		if (target && target->kind == ATOM_FUNCTION && target->included &&
		    reference_place(reference) != 0)
			return target;
	}
	return NULL;
}

/* ---- data ----------------------------------------------------------------------------------- */

// Sections that the linker gathers to arrays: __start_NAME and __stop_NAME.
static bool is_linker_set(const struct object_section *section)
{
	const char *at = section->name;
	if (!isalpha((unsigned char)*at) && *at != '_')
		return false;
	while (isalnum((unsigned char)*at) || *at == '_')
		at++;
	return *at == '\0';
}

static bool is_data(const struct atom *atom)
{
	return atom->kind != ATOM_FUNCTION && !atom->by_content && !is_list(atom) &&
	       !section_is_exception_table(atom->section);
}

struct check {
	struct side *old_side, *new_side;
	struct findings *findings;
	struct atom **readers;
};

static void check_new(struct check *check, struct atom *atom)
{
	if (atom->ambiguous)
		return;
	if (atom->kind == ATOM_TLS)
		findings_add(check->findings, FINDING_KIND_TLS_NEW, atom->name,
			     "'%s' is a new thread-local variable of %" PRIu64 " bytes", atom->name,
			     atom->size);
	else if (is_linker_set(atom->section))
		findings_add(check->findings, FINDING_KIND_SECTION_UNKNOWN, atom->name,
			     "'%s' is new in section '%s', whose entries the program found at its "
			     "link",
			     atom->name, atom->section->name);
}

static void check_table(struct check *check, struct atom *atom, const char *reason)
{
	struct atom *reader = check->readers[atom->index];
	atom->fresh = true;
	if (reader)
		findings_add(check->findings, FINDING_KIND_RODATA_CHANGED, atom->name,
			     "the read-only '%s' changed (%s), and '%s', which did not change, reads "
			     "it",
			     atom->name, reason, atom_describe(reader));
	else if (atom_is_visible(atom))
		findings_add(check->findings, FINDING_KIND_RODATA_CHANGED, atom->name,
			     "the read-only '%s' changed (%s), and other objects may read it",
			     atom->name, reason);
}

static void check_changed(struct check *check, struct atom *atom)
{
	struct arena *arena = check->new_side->arena;
	struct atom *twin = atom->twin;
	struct difference difference;
	if (atom->kind == ATOM_DATA && twin->kind == ATOM_RODATA && atom->size == twin->size) {
		findings_add(check->findings, FINDING_KIND_DATA_CHANGED, atom->name,
			     "'%s' was read-only and is not any more", atom->name);
		return;
	}
	bool to_constant = atom->kind == ATOM_RODATA && twin->kind == ATOM_DATA;
	atoms_explain(arena, twin, atom, &difference);
	if (atom->kind == ATOM_RODATA && !to_constant) {
		check_table(check, atom, difference.reason);
		return;
	}
	if (atom->kind != twin->kind && !to_constant) {
		findings_add(check->findings,
			     atom->kind == ATOM_TLS ? FINDING_KIND_TLS_NEW :
						      FINDING_KIND_DATA_SIZE,
			     atom->name, "'%s' %s thread-local", atom->name,
			     atom->kind == ATOM_TLS ? "became" : "is no longer");
		return;
	}
	if (atom->size != twin->size) {
		findings_add(check->findings, FINDING_KIND_DATA_SIZE, atom->name,
			     "'%s' has %" PRIu64 " bytes in the old object and %" PRIu64
			     " in the new one",
			     atom->name, twin->size, atom->size);
		return;
	}
	if (is_linker_set(atom->section))
		findings_add(check->findings, FINDING_KIND_SECTION_UNKNOWN, atom->name,
			     "'%s' changed in section '%s', whose entries the program found at its "
			     "link",
			     atom->name, atom->section->name);
	else
		findings_add(check->findings,
			     atom->kind == ATOM_TLS ? FINDING_KIND_TLS_CHANGED :
						      FINDING_KIND_DATA_CHANGED,
			     atom->name, "the initial value of '%s' changed: %s", atom->name,
			     difference.reason);
}

static bool same_data(struct atom *atom)
{
	struct atom *twin = atom->twin;
	if (atom->kind == ATOM_RODATA && twin->kind == ATOM_DATA) {
		// Only the protection differs; compare() minds the kind.
		atom->kind = ATOM_DATA;
		bool same = atoms_equal(twin, atom);
		atom->kind = ATOM_RODATA;
		return same;
	}
	return atoms_equal(twin, atom);
}

static void check_data(struct check *check, struct atom *atom)
{
	if (!atom->twin) {
		check_new(check, atom);
		return;
	}
	if (!same_data(atom)) {
		check_changed(check, atom);
		return;
	}
	// Addresses of labels: the old ones lead into the old code.
	const struct atom *function = label_target(atom);
	if (!function)
		return;
	if (atom->kind == ATOM_RODATA)
		atom->fresh = true;
	else
		findings_add(check->findings, FINDING_KIND_DATA_CHANGED, atom->name,
			     "'%s' holds addresses of places inside '%s', which changes, and is not "
			     "read-only",
			     atom->name, function->name);
}

/* ---- what has no name and no user ------------------------------------------------------------- */

static bool is_unknown(const struct atom *atom)
{
	static const char *const harmless[] = { ".rodata", ".data", ".bss", ".tdata", ".tbss",
						".gcc_except_table", ".tm_clone_table" };
	if (atom->symbol || atom->string || is_list(atom) || atom->mark > 0)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(harmless); i++)
		if (has_prefix(atom->section->name, harmless[i]))
			return false;
	return true;
}

static void count_uses(struct side *side)
{
	for (size_t i = 0; i < side->atoms.count; i++)
		side->atoms.items[i]->mark = 0;
	for (size_t i = 0; i < side->atoms.count; i++) {
		struct atom *atom = side->atoms.items[i];
		atom_resolve(atom);
		for (size_t k = 0; k < atom->reference_count; k++) {
			struct atom *target = atom->references[k].target;
			if (target && target != atom)
				target->mark++;
		}
	}
}

static void check_unknown(struct check *check)
{
	struct hashmap *known = hashmap_create();
	count_uses(check->old_side);
	count_uses(check->new_side);
	struct side *const sides[] = { check->old_side, check->new_side };
	for (size_t s = 0; s < 2; s++) {
		for (size_t i = 0; i < sides[s]->atoms.count; i++) {
			struct atom *atom = sides[s]->atoms.items[i];
			if (!is_unknown(atom))
				continue;
			_cleanup_buffer_ struct buffer key = { 0 };
			const struct digest *digest = atom_digest(atom);
			buffer_puts(&key, atom->section->name);
			buffer_append(&key, digest->bytes, sizeof(digest->bytes));
			if (s == 0)
				hashmap_set(known, key.bytes, key.size, atom);
			else if (!hashmap_get(known, key.bytes, key.size))
				findings_add(check->findings, FINDING_KIND_SECTION_UNKNOWN,
					     atom->section->name,
					     "its unnamed content at 0x%" PRIx64 " changed",
					     atom->start);
		}
	}
	hashmap_free(known);
}

/* ---- what is gone --------------------------------------------------------------------------- */

static void check_removed(struct check *check)
{
	for (size_t i = 0; i < check->old_side->atoms.count; i++) {
		const struct atom *atom = check->old_side->atoms.items[i];
		if (atom->twin || atom->by_content || atom->ambiguous || atom->cold || atom->init ||
		    is_list(atom) || atom->symbol->bind == STB_WEAK)
			continue;
		bool state = atom->kind == ATOM_DATA || atom->kind == ATOM_TLS;
		if (atom->numbered && state && !string_starts_with(atom->name, "_ZGVZ"))
			findings_add(check->findings, FINDING_KIND_STATIC_REMOVED, atom->name,
				     "the static variable '%s' has no successor in the new code",
				     atom->name);
		else if (!atom->numbered)
			findings_add(check->findings, FINDING_KIND_SYMBOL_REMOVED, atom->name,
				     "'%s' is not in the new object", atom->name);
	}
}

/* ---- all ------------------------------------------------------------------------------------ */

void guard_findings(struct side *old_side, struct side *new_side, struct findings *findings)
{
	struct check check = {
		.old_side = old_side,
		.new_side = new_side,
		.findings = findings,
		.readers = find_readers(new_side),
	};
	for (size_t i = 0; i < new_side->atoms.count; i++) {
		struct atom *atom = new_side->atoms.items[i];
		if (atom->kind == ATOM_FUNCTION)
			check_function(atom, findings);
		else if (is_data(atom))
			check_data(&check, atom);
	}
	check_ifunc_kinds(old_side, new_side, findings);
	check_fini_lists(new_side, findings);
	check_unknown(&check);
	check_removed(&check);
	free(check.readers);
}

static bool is_accepted(const struct diff_options *options, enum finding_kind kind,
			const char *subject)
{
	char *wanted = xasprintf("%s:%s", finding_kind_word(kind), subject);
	bool found = false;
	for (size_t i = 0; i < options->accepted_count && !found; i++)
		found = string_equal(options->accepted[i], wanted);
	free(wanted);
	return found;
}

void guard_accept_tables(struct side *new_side, const struct diff_options *options)
{
	if (options->accepted_count == 0)
		return;
	bool *tables = xcalloc(new_side->atoms.count + 1, sizeof(*tables));
	for (size_t i = 0; i < new_side->atoms.count; i++) {
		struct atom *atom = new_side->atoms.items[i];
		tables[i] = is_data(atom) && atom->kind == ATOM_RODATA && atom->twin &&
			    is_accepted(options, FINDING_KIND_RODATA_CHANGED, atom->name) &&
			    !atoms_equal(atom->twin, atom);
	}
	for (size_t i = 0; i < new_side->atoms.count; i++) {
		struct atom *atom = new_side->atoms.items[i];
		if (atom->kind != ATOM_FUNCTION || !atom->twin)
			continue;
		for (size_t k = 0; k < atom->reference_count && !atom->changed; k++) {
			const struct atom *target = atom->references[k].target;
			if (target && tables[target->index])
				atom->changed = atom->twin->changed = true;
		}
	}
	free(tables);
}

bool guard_data_changed(struct side *old_side, struct side *new_side)
{
	for (size_t i = 0; i < new_side->atoms.count; i++) {
		struct atom *atom = new_side->atoms.items[i];
		if (is_data(atom) && (!atom->twin || !same_data(atom)))
			return true;
	}
	for (size_t i = 0; i < old_side->atoms.count; i++)
		if (is_data(old_side->atoms.items[i]) && !old_side->atoms.items[i]->twin)
			return true;
	return false;
}
