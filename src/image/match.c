/* SPDX-License-Identifier: MIT */
/*
 * Is this object in the target, and where? As Ksplice's run-pre matching, but by sections.
 *
 * A linker copies a section whole and fills in its relocated fields, so a section of a plain build
 * stands in the target as one piece. The passes:
 *
 *   1. candidates    places of each text section: by symbol names, else by content (search.c)
 *   2. narrowing     a candidate must explain every relocated field in agreement with all that is
 *                    known (recover.c); a section with one candidate left is placed, and what its
 *                    fields tell narrows the others, until nothing changes
 *   3. tie-breaking  several candidates left: the one whose data is this object's; the one that
 *                    adjoins a placed neighbour of the object, as linkers keep an object's sections
 *                    in their order
 *   4. functions     sections that stand nowhere are looked for function by function, so that one
 *                    changed function is named and the others still match (function.c)
 *   5. verdicts
 *
 * From pass 2 on, every place that is recorded agrees with all fields of all placed sections.
 *
 * Example: redis' t_zset.o has `.text` with 114 functions. None of its 8-byte words is rare at
 * first sight, yet the rarest stands once in 1.1 MB; the section fits there; its 2,000 fields tell
 * where .rodata, .data.rel.ro and .text.unlikely of this object are, so the latter, which is short
 * and would fit in many places, needs no search.
 */
#include "image/match.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

// ---- set up

static bool function_listed(const struct object_symbol *symbol)
{
	return object_symbol_is_function(symbol) && symbol->section->data &&
	       object_section_is_text(symbol->section) && symbol->value < symbol->section->size;
}

uint64_t match_function_end(const struct object_symbol *symbol)
{
	const struct object_section *section = symbol->section;
	uint64_t end;
	if (symbol->size > 0 && checked_add(symbol->value, symbol->size, &end))
		return end < section->size ? end : section->size;
	// Assembler code without .size: up to the next function.
	end = section->size;
	for (size_t i = section->symbols.count; i-- > 0;) {
		const struct object_symbol *other = section->symbols.items[i];
		if (other->value <= symbol->value)
			break;
		if (object_symbol_is_function(other))
			end = other->value;
	}
	return end;
}

static void units_make(struct match_state *state)
{
	const struct object *object = state->object;
	struct image_match *match = state->match;
	size_t text = 0;
	for (size_t i = 0; i < object->sections.count; i++) {
		const struct object_section *section = object->sections.items[i];
		text += object_section_is_text(section) && section->data && section->size > 0;
		if (section->index >= state->section_count)
			state->section_count = section->index + 1;
	}
	for (size_t i = 0; i < object->symbols.count; i++)
		if (object->symbols.items[i]->index >= state->symbol_count)
			state->symbol_count = object->symbols.items[i]->index + 1;
	if (object->null_symbol->index >= state->symbol_count)
		state->symbol_count = object->null_symbol->index + 1;
	state->sections = arena_array(state->arena, state->section_count, sizeof(*state->sections));
	state->symbols = arena_array(state->arena, state->symbol_count, sizeof(*state->symbols));
	state->unit_of = arena_array(state->arena, state->section_count, sizeof(*state->unit_of));
	state->compared = arena_array(state->arena, state->section_count, sizeof(*state->compared));

	// Units are pointed at, so their array is made once.
	state->units.items = text ? xcalloc(text, sizeof(*state->units.items)) : NULL;
	state->units.capacity = text;
	for (size_t i = 0; i < object->sections.count; i++) {
		struct object_section *section = object->sections.items[i];
		if (!object_section_is_text(section) || !section->data || section->size == 0)
			continue;
		struct match_unit *unit = &state->units.items[state->units.count++];
		unit->section = section;
		unit->sites = arena_array(state->arena, section->relocations.count + 1,
					  sizeof(*unit->sites));
		for (size_t j = 0; j < section->relocations.count; j++)
			unit->sites[j] = (struct arch_site){
				.offset = section->relocations.items[j].offset,
				.type = section->relocations.items[j].type,
				.addend = section->relocations.items[j].addend,
			};
		match_unit_runs(unit);
		state->unit_of[section->index] = unit;
		unit->first_function = match->functions.count;
		for (size_t j = 0; j < section->symbols.count; j++)
			if (function_listed(section->symbols.items[j]))
				vec_push(&match->functions,
					 (struct image_function){.symbol = section->symbols.items[j],
								 .verdict = IMAGE_MISSING});
		unit->function_count = match->functions.count - unit->first_function;
	}
	for (size_t i = 0; i < state->image->symbols.count && !state->lto; i++) {
		const struct image_symbol *symbol = &state->image->symbols.items[i];
		// What gcc names the units that it makes while linking, and their local symbols; a gcc
		// that leaves neither (12 names no unit) is not recognised.
		state->lto = strstr(symbol->name, ".lto_priv") ||
			     (symbol->file && (string_equal(symbol->file, "<artificial>") ||
					       strstr(symbol->file, ".ltrans")));
	}
}

static struct image_function *unit_functions(struct match_state *state, const struct match_unit *unit)
{
	return state->match->functions.items + unit->first_function;
}

// ---- candidates

static void address_add(struct match_addresses *addresses, uint64_t address)
{
	for (size_t i = 0; i < addresses->count; i++)
		if (addresses->items[i] == address)
			return;
	vec_push(addresses, address);
}

static bool same_file(const char *a, const char *b)
{
	return !a || !b || string_equal(path_basename(a), path_basename(b));
}

/**
 * Bases at which the names of the section's functions would lie where the target has them. A global
 * name stands once; a local one counts when its file agrees, and only where no global one helps.
 */
static void candidates_by_name(struct match_state *state, struct match_unit *unit)
{
	const struct image_function *functions = unit_functions(state, unit);
	for (int local = 0; local < 2 && unit->candidates.count == 0; local++) {
		for (size_t i = 0; i < unit->function_count; i++) {
			const struct object_symbol *symbol = functions[i].symbol;
			if ((symbol->bind == STB_LOCAL) != local)
				continue;
			const struct image_symbol **named;
			size_t count = image_symbols_named(state->image, symbol->name, &named);
			for (size_t j = 0; j < count; j++) {
				if (named[j]->type != STT_FUNC && named[j]->type != STT_GNU_IFUNC &&
				    named[j]->type != STT_NOTYPE)
					continue;
				// A hidden symbol became local; it has no file then, or an unrelated one.
				if (local && named[j]->bind == STB_LOCAL &&
				    !same_file(symbol->file, named[j]->file))
					continue;
				address_add(&unit->candidates, named[j]->address - symbol->value);
			}
		}
	}
}

bool match_name_fits(const struct match_state *state, const struct object_symbol *symbol,
		     uint64_t address)
{
	const struct image_symbol *at = image_symbol_at(state->image, address);
	if (!state->image->has_symtab || !at || at->address != address || at->type != STT_FUNC ||
	    at->source == IMAGE_SYMBOL_DYNAMIC || string_equal(at->name, symbol->name))
		return true;
	const struct image_symbol **named;
	size_t count = image_symbols_named(state->image, symbol->name, &named);
	for (size_t i = 0; i < count; i++)
		if (named[i]->address == address)
			return true;
	return false;
}

static bool names_agree(const struct match_state *state, const struct match_unit *unit, uint64_t base)
{
	const struct image_function *functions =
		state->match->functions.items + unit->first_function;
	for (size_t i = 0; i < unit->function_count; i++)
		if (!match_name_fits(state, functions[i].symbol, base + functions[i].symbol->value))
			return false;
	return true;
}

/** Where what is known already says that the section is, if it does. */
static bool hint(const struct match_state *state, const struct match_unit *unit, uint64_t *ret)
{
	const struct match_place *place = &state->sections[unit->section->index];
	if (place->known) {
		*ret = place->value;
		return true;
	}
	for (size_t i = 0; i < unit->function_count; i++) {
		const struct object_symbol *symbol =
			state->match->functions.items[unit->first_function + i].symbol;
		place = &state->symbols[symbol->index];
		if (place->known && place->kind == IMAGE_PLACE_ADDRESS && place->value != 0) {
			*ret = place->value - symbol->value;
			return true;
		}
	}
	return false;
}

static bool has_word(const struct match_unit *unit)
{
	uint64_t step = unit->section->align >= 8 ? 8 : 1;
	for (size_t i = 0; i < unit->runs.count; i++)
		if (align_up(unit->runs.items[i].start, step) + 8 + (8 - step) <=
		    unit->runs.items[i].end)
			return true;
	return false;
}

static void candidates_by_content(struct match_state *state, struct match_unit *unit)
{
	struct match_addresses found = {0};
	uint64_t align = unit->section->align ? unit->section->align : 1;
	if (has_word(unit))
		image_search(state->image, unit, 0, unit->section->size, align, &found);
	else if (!unit->section->group)
		image_scan(state->image, unit, align, &found);
	for (size_t i = 0; i < found.count; i++)
		if (found.items[i] % align == 0 && names_agree(state, unit, found.items[i]))
			address_add(&unit->candidates, found.items[i]);
	vec_deinit(&found);
}

/** Does the whole section stand at @base, in agreement with all that is known? Changes nothing. */
static bool fits(struct match_state *state, struct match_unit *unit, uint64_t base, bool deep)
{
	size_t mark = state->trail.count, reached = state->reached.count;
	bool good = match_section_place(state, unit->section, base, NULL, 0) &&
		    match_code(state, unit, 0, unit->section->size, base, NULL) &&
		    (!deep || match_reached(state, reached, false));
	match_undo(state, mark);
	state->reached.count = reached;
	return good;
}

static void narrow(struct match_state *state, struct match_unit *unit, bool deep)
{
	size_t kept = 0;
	for (size_t i = 0; i < unit->candidates.count; i++)
		if (fits(state, unit, unit->candidates.items[i], deep))
			unit->candidates.items[kept++] = unit->candidates.items[i];
	// Where no candidate has the object's data, the data is what changed.
	if (kept > 0 || !deep)
		unit->candidates.count = kept;
}

static void place(struct match_state *state, struct match_unit *unit, uint64_t base)
{
	bool good = match_section_place(state, unit->section, base, NULL, 0) &&
		    match_code(state, unit, 0, unit->section->size, base, NULL);
	assert(good);
	(void)good;
	unit->placed = true;
	unit->scattered = false;
	match_reached(state, 0, true);
}

/**
 * A COMDAT function whose name leads to @base but that does not fit there: is that another object's
 * copy, equal but for what is local to that object?
 */
static bool is_equal_copy(struct match_state *state, struct match_unit *unit, uint64_t base)
{
	size_t mark = state->trail.count, reached = state->reached.count;
	state->foreign = unit->section->group;
	bool good = match_code(state, unit, 0, unit->section->size, base, NULL);
	state->foreign = NULL;
	// What it says of global symbols holds for all of the program.
	if (!good) {
		match_undo(state, mark);
		state->reached.count = reached;
	}
	return good;
}

static int compare_units(const void *a, const void *b)
{
	const struct match_unit *x = *(struct match_unit *const *)a;
	const struct match_unit *y = *(struct match_unit *const *)b;
	if (x->section->size != y->section->size)
		return x->section->size > y->section->size ? -1 : 1;
	return (x->section->index > y->section->index) - (x->section->index < y->section->index);
}

/** Pass 2, one round: true when a section was placed. */
static bool narrow_all(struct match_state *state, struct match_unit **units, size_t count, bool search)
{
	bool progress = false;
	for (size_t i = 0; i < count; i++) {
		struct match_unit *unit = units[i];
		uint64_t base;
		if (unit->placed || unit->replaced)
			continue;
		if (hint(state, unit, &base)) {
			if (fits(state, unit, base, false)) {
				place(state, unit, base);
				progress = true;
				continue;
			}
			if (unit->section->group && is_equal_copy(state, unit, base)) {
				unit->replaced = true;
				unit->copy = base;
				unit->candidates.count = 0;
				match_reached(state, 0, true);
				progress = true;
				continue;
			}
			// A weak function in plain text may be overridden and still be there, elsewhere.
			if (unit->section->group || state->sections[unit->section->index].known)
				continue;
		}
		if (!unit->searched) {
			candidates_by_name(state, unit);
			narrow(state, unit, false);
			if (unit->candidates.count == 0 && search)
				candidates_by_content(state, unit);
			unit->searched = search || unit->candidates.count > 0;
		}
		narrow(state, unit, false);
		if (unit->candidates.count == 1) {
			place(state, unit, unit->candidates.items[0]);
			progress = true;
		}
	}
	return progress;
}

// ---- order of sections

/** The sections that a linker's default rules keep apart from plain text. */
static unsigned output_class(const char *name)
{
	static const char *const prefixes[] = {".text.unlikely", ".text.exit", ".text.startup",
					       ".text.hot", ".text.sorted", ".text"};
	for (unsigned i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (string_starts_with(name, prefixes[i]))
			return i;
	return ARRAY_SIZE(prefixes);
}

/** The nearest placed section of the same kind before (-1) or behind (+1) @unit in the object. */
static const struct match_unit *neighbour(const struct match_state *state,
					  const struct match_unit *unit, int direction)
{
	size_t at = (size_t)(unit - state->units.items);
	for (size_t i = at + (size_t)direction; i < state->units.count; i += (size_t)direction) {
		const struct match_unit *other = &state->units.items[i];
		// A COMDAT section may have been dropped for another object's copy.
		if (other->placed && !other->section->group &&
		    output_class(other->section->name) == output_class(unit->section->name))
			return other;
	}
	return NULL;
}

static uint64_t unit_base(const struct match_state *state, const struct match_unit *unit)
{
	return state->sections[unit->section->index].value;
}

/** The end of @unit, where a section of alignment @align would follow. */
static uint64_t unit_next(const struct match_state *state, const struct match_unit *unit,
			  uint64_t align)
{
	return align_up(unit_base(state, unit) + unit->section->size, align ? align : 1);
}

/** Pass 3: true when a section was placed. */
static bool break_ties(struct match_state *state, struct match_unit **units, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct match_unit *unit = units[i];
		if (unit->placed || unit->replaced || unit->candidates.count < 2)
			continue;
		narrow(state, unit, true);
		if (unit->candidates.count == 1) {
			place(state, unit, unit->candidates.items[0]);
			return true;
		}
		const struct match_unit *before = neighbour(state, unit, -1);
		const struct match_unit *behind = neighbour(state, unit, 1);
		for (size_t j = 0; j < unit->candidates.count; j++) {
			uint64_t base = unit->candidates.items[j];
			uint64_t end = base + unit->section->size;
			uint64_t align = behind ? behind->section->align : 1;
			if ((before && unit_next(state, before, unit->section->align) == base) ||
			    (behind && align_up(end, align ? align : 1) == unit_base(state, behind))) {
				place(state, unit, base);
				return true;
			}
		}
	}
	return false;
}

// ---- verdicts

static bool has_global(const struct match_unit *unit)
{
	for (size_t i = 0; i < unit->section->symbols.count; i++)
		if (unit->section->symbols.items[i]->bind != STB_LOCAL)
			return true;
	return false;
}

/**
 * Mark the text sections that anything refers to which is in the target, or may be: all of the
 * object but what was found to be discarded. By section index.
 */
static void mark_referenced(const struct match_state *state, bool *referenced)
{
	const struct object *object = state->object;
	memset(referenced, 0, state->section_count * sizeof(*referenced));
	for (size_t i = 0; i < object->sections.count; i++) {
		const struct object_section *section = object->sections.items[i];
		// Unwind and debug information refers to all code, but keeps none of it.
		if (!(section->flags & SHF_ALLOC) || string_equal(section->name, ".eh_frame"))
			continue;
		const struct match_unit *unit = state->unit_of[section->index];
		if (unit && !unit->placed && unit->function_count > 0 &&
		    state->match->functions.items[unit->first_function].verdict == IMAGE_DISCARDED)
			continue;
		for (size_t j = 0; j < section->relocations.count; j++) {
			const struct object_section *target =
				section->relocations.items[j].symbol->section;
			if (target && target != section)
				referenced[target->index] = true;
		}
	}
}

/** Does the symbol table, which has all global names, lack those of @unit? */
static bool absent_by_name(const struct match_state *state, const struct match_unit *unit)
{
	if (!state->image->has_symtab || state->lto)
		return false;
	bool global = false;
	for (size_t i = 0; i < unit->function_count; i++) {
		const struct object_symbol *symbol =
			state->match->functions.items[unit->first_function + i].symbol;
		const struct image_symbol **named;
		if (symbol->bind == STB_LOCAL)
			continue;
		global = true;
		if (image_symbols_named(state->image, symbol->name, &named) > 0)
			return false;
	}
	return global;
}

/** Do the placed sections around @unit leave no room between them? */
static bool absent_by_order(const struct match_state *state, const struct match_unit *unit)
{
	const struct match_unit *before = neighbour(state, unit, -1);
	const struct match_unit *behind = neighbour(state, unit, 1);
	return before && behind &&
	       unit_next(state, before, behind->section->align) == unit_base(state, behind);
}

/*
 * Code of the object that is not in the target at all is harmless: it cannot run, so it needs no
 * patch. But "not found" alone does not say so: it may be in the target in another form, built from
 * other source, which is just what this comparison is for. So a section counts as discarded only
 * when something shows that the linker dropped it:
 *
 * - nothing refers to it that is in the target, and nobody outside the object could (no global
 *   symbol, or a COMDAT copy, which every object that uses it has);
 * - the target's symbol table, which has all global names, has none of its;
 * - or the sections before and behind it in the object stand next to each other in the target.
 *
 * Where matched code has a weak function elsewhere, either another definition won or this one was
 * changed; only the order tells.
 *
 * A plain `.text` is never dropped by itself, so none of this is asked of it. A COMDAT function that
 * matched code of the object calls, and that is another there than here, is DIFFERENT: the program
 * runs a copy which was not built from what we have.
 */
static bool is_discarded(const struct match_state *state, const struct match_unit *unit,
			 const bool *referenced)
{
	bool plain = !unit->section->group && string_equal(unit->section->name, ".text");
	uint64_t base;
	if (plain || state->match->matched == 0)
		return false;
	if (hint(state, unit, &base))
		return !unit->section->group && !state->sections[unit->section->index].known &&
		       absent_by_order(state, unit);
	if ((unit->section->group || !has_global(unit)) && !referenced[unit->section->index])
		return true;
	return absent_by_name(state, unit) || absent_by_order(state, unit);
}

static void verdict_all(struct match_state *state, struct match_unit *unit, enum image_verdict verdict)
{
	struct image_function *functions = unit_functions(state, unit);
	for (size_t i = 0; i < unit->function_count; i++) {
		functions[i].verdict = verdict;
		if (unit->replaced)
			functions[i].address = unit->copy + functions[i].symbol->value;
		if (verdict == IMAGE_MATCHED)
			functions[i].address = unit_base(state, unit) + functions[i].symbol->value;
	}
}

static void count_matched(struct match_state *state)
{
	struct image_match *match = state->match;
	match->matched = match->bytes_matched = 0;
	for (size_t i = 0; i < match->functions.count; i++) {
		const struct image_function *function = &match->functions.items[i];
		if (function->verdict != IMAGE_MATCHED)
			continue;
		match->matched++;
		// An alias stands right behind the symbol that has its place.
		const struct object_symbol *last = i ? match->functions.items[i - 1].symbol : NULL;
		if (!last || last->section != function->symbol->section ||
		    last->value != function->symbol->value)
			match->bytes_matched +=
				match_function_end(function->symbol) - function->symbol->value;
	}
}

/**
 * Pass 4, first half. Where one section does not stand whole, others that refer into it may seem not
 * to either, so they get a second try.
 */
static void scatter(struct match_state *state, struct match_unit **units, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct match_unit *unit = units[i];
		if (unit->placed || unit->replaced || unit->candidates.count > 1)
			continue;
		match_scatter(state, unit);
		unit->searched = false;
	}
	do {
		while (narrow_all(state, units, count, true))
			;
	} while (break_ties(state, units, count));
}

static void verdicts(struct match_state *state, struct match_unit **units, size_t count)
{
	scatter(state, units, count);
	for (size_t i = 0; i < state->units.count; i++) {
		struct match_unit *unit = &state->units.items[i];
		if (unit->placed)
			verdict_all(state, unit, IMAGE_MATCHED);
		else if (unit->replaced)
			verdict_all(state, unit, IMAGE_DISCARDED);
	}
	count_matched(state);
	// Discarded sections make others unreferenced in turn.
	bool *referenced = arena_array(state->arena, state->section_count + 1, sizeof(*referenced));
	for (bool progress = true; progress;) {
		progress = false;
		mark_referenced(state, referenced);
		for (size_t i = 0; i < state->units.count; i++) {
			struct match_unit *unit = &state->units.items[i];
			if (unit->placed || unit->function_count == 0 || unit->candidates.count > 1 ||
			    unit_functions(state, unit)->verdict == IMAGE_DISCARDED ||
			    !is_discarded(state, unit, referenced))
				continue;
			verdict_all(state, unit, IMAGE_DISCARDED);
			progress = true;
		}
	}
	for (size_t i = 0; i < state->units.count; i++) {
		struct match_unit *unit = &state->units.items[i];
		if (unit->placed || unit->function_count == 0 ||
		    unit_functions(state, unit)->verdict == IMAGE_DISCARDED)
			continue;
		if (unit->candidates.count > 1) {
			verdict_all(state, unit, IMAGE_AMBIGUOUS);
			for (size_t j = 0; j < unit->function_count; j++)
				match_report(state, FINDING_KIND_CODE_AMBIGUOUS,
					     unit_functions(state, unit)[j].symbol->name,
					     "its code stands %zu times in the target, at 0x%llx and 0x%llx for two",
					     unit->candidates.count,
					     (unsigned long long)unit->candidates.items[0],
					     (unsigned long long)unit->candidates.items[1]);
			continue;
		}
		match_functions(state, unit);
	}
	match_reached(state, 0, true);
	count_matched(state);
}

/** An object of which nothing is in the target: one finding, not one for each function. */
static bool nothing_matched(struct match_state *state)
{
	struct image_match *match = state->match;
	if (match->matched > 0 || match->functions.count < 2)
		return false;
	for (size_t i = 0; i < match->functions.count; i++)
		if (match->functions.items[i].verdict == IMAGE_AMBIGUOUS)
			return false;
	match_report(state, FINDING_KIND_CODE_MISMATCH, state->object->path,
		     "none of its %zu functions is in the target as it was compiled here%s",
		     match->functions.count,
		     state->lto ? ", which was linked with -flto: that is not supported"
				: "; it may not be linked in, or the target was linked with -flto");
	return true;
}

struct error *image_match_object(const struct image *image, const struct object *object,
				 struct findings *findings, struct image_match **ret)
{
	if (object->arch != image->arch)
		return error_new(ERROR_KIND_INPUT, "'%s' is for %s, '%s' for %s", object->path,
				 object->arch->name, image->path, image->arch->name);
	struct arena *arena = arena_create();
	struct image_match *match = arena_new(arena, struct image_match);
	struct match_state *state = arena_new(arena, struct match_state);
	*match = (struct image_match){
		.arena = arena, .image = image, .object = object, .state = state};
	struct findings own = {0};
	*state = (struct match_state){
		.image = image, .object = object, .arena = arena, .match = match, .findings = &own};
	units_make(state);

	// Large sections first: they say most, and are least likely to stand twice.
	size_t count = state->units.count;
	struct match_unit **units = arena_array(arena, count + 1, sizeof(*units));
	for (size_t i = 0; i < count; i++)
		units[i] = &state->units.items[i];
	if (count > 0)
		qsort(units, count, sizeof(*units), compare_units);

	do {
		while (narrow_all(state, units, count, false))
			;
		while (narrow_all(state, units, count, true))
			;
	} while (break_ties(state, units, count));
	verdicts(state, units, count);

	if (nothing_matched(state)) {
		// The last finding says it all.
		own.list.items[0] = own.list.items[own.list.count - 1];
		own.list.count = 1;
	}
	findings_merge(findings, &own);
	findings_deinit(&own);
	state->findings = NULL;
	*ret = match;
	return NULL;
}

void image_match_free(struct image_match *match)
{
	if (!match)
		return;
	struct match_state *state = match_state(match);
	for (size_t i = 0; i < state->units.count; i++) {
		vec_deinit(&state->units.items[i].runs);
		vec_deinit(&state->units.items[i].branches);
		vec_deinit(&state->units.items[i].candidates);
	}
	vec_deinit(&state->units);
	vec_deinit(&state->trail);
	vec_deinit(&state->reached);
	vec_deinit(&state->scratch);
	vec_deinit(&match->functions);
	arena_free(match->arena);
}

// ---- queries

const struct image_function *image_match_function(const struct image_match *match,
						  const struct object_symbol *symbol)
{
	const struct match_state *state = match_state(match);
	if (!symbol->section || symbol->object != match->object ||
	    symbol->section->index >= state->section_count)
		return NULL;
	const struct match_unit *unit = state->unit_of[symbol->section->index];
	for (size_t i = 0; unit && i < unit->function_count; i++) {
		const struct image_function *function =
			&match->functions.items[unit->first_function + i];
		if (function->symbol == symbol)
			return function;
	}
	return NULL;
}

static const char *proof_of(const struct image_match *match, const struct match_place *place)
{
	if (!place->section)
		return "section base";
	const struct object_symbol *symbol = object_symbol_covering(place->section, place->offset);
	return arena_printf(match->arena, "relocated field of %s+0x%llx",
			    symbol ? symbol->name : place->section->name,
			    (unsigned long long)(place->offset - (symbol ? symbol->value : 0)));
}

static void place_import(struct image_place *place, const struct image_relocation *relocation,
			 const char *proof)
{
	*place = (struct image_place){
		.kind = IMAGE_PLACE_IMPORT,
		.name = relocation->symbol,
		.version = relocation->version,
		.proof = proof,
	};
}

static void place_symbol(const struct image *image, struct image_place *place,
			 const struct image_symbol *symbol)
{
	(void)image;
	*place = (struct image_place){
		.kind = symbol->type == STT_TLS ? IMAGE_PLACE_TLS : IMAGE_PLACE_ADDRESS,
		.value = symbol->address,
		.proof = "symtab",
	};
}

bool image_place_by_name(const struct image *image, const char *name, struct image_place *ret)
{
	const struct image_symbol **named, *found = NULL;
	size_t count = image_symbols_named(image, name, &named);
	for (size_t i = 0; i < count; i++) {
		if (named[i]->bind == STB_LOCAL)
			continue;
		// Versions of one name (foo@V1, foo@@V2) may be several functions.
		if (found && found->address != named[i]->address)
			return false;
		found = named[i];
	}
	const struct image_relocation *import =
		hashmap_get_string(image_state(image)->imports, name);
	if (import && !found) {
		place_import(ret, import, "dynamic relocation");
		return true;
	}
	// A hidden name is local in the linked file; alone, it can be no other.
	if (!found && count == 1)
		found = named[0];
	if (!found)
		return false;
	place_symbol(image, ret, found);
	return true;
}

/** A local symbol by the symbol table: its name in its file must stand once. */
static bool place_local(const struct image *image, const struct object_symbol *symbol,
			struct image_place *ret)
{
	const struct image_symbol **named, *found = NULL;
	size_t count = image_symbols_named(image, symbol->name, &named);
	for (size_t i = 0; i < count; i++) {
		if (named[i]->bind != STB_LOCAL || !named[i]->file || !symbol->file ||
		    !same_file(symbol->file, named[i]->file))
			continue;
		if (found)
			return false;
		found = named[i];
	}
	if (!found)
		return false;
	place_symbol(image, ret, found);
	return true;
}

bool image_match_place(const struct image_match *match, const struct object_symbol *symbol,
		       struct image_place *ret)
{
	const struct match_state *state = match_state(match);
	if (symbol->object != match->object || symbol->index >= state->symbol_count)
		return false;
	const struct match_place *known = &state->symbols[symbol->index];
	if (known->known) {
		if (known->kind == IMAGE_PLACE_IMPORT)
			place_import(ret, known->import, proof_of(match, known));
		else
			*ret = (struct image_place){.kind = known->kind,
						    .value = known->value,
						    .proof = proof_of(match, known)};
		return true;
	}
	const struct object_section *section = symbol->section;
	if (section && section->index < state->section_count) {
		const struct match_unit *unit = state->unit_of[section->index];
		known = &state->sections[section->index];
		// An unreferenced weak definition may be overridden by a place that nothing tells.
		bool weak = symbol->bind == STB_WEAK && !section->group;
		if (weak && image_place_by_name(match->image, symbol->name, ret))
			return true;
		if (known->known && (!unit || unit->placed) && !weak) {
			*ret = (struct image_place){.kind = known->kind,
						    .value = known->value + symbol->value,
						    .proof = proof_of(match, known)};
			return true;
		}
		const struct image_function *function = image_match_function(match, symbol);
		if (function && function->verdict == IMAGE_MATCHED && !weak) {
			*ret = (struct image_place){.kind = IMAGE_PLACE_ADDRESS,
						    .value = function->address,
						    .proof = "content"};
			return true;
		}
	}
	if (symbol->special == SHN_ABS && !section) {
		*ret = (struct image_place){
			.kind = IMAGE_PLACE_ADDRESS, .value = symbol->value, .proof = "constant"};
		return true;
	}
	if (!symbol->name[0] || symbol->type == STT_SECTION || object_symbol_is_local_label(symbol))
		return false;
	if (symbol->bind == STB_LOCAL)
		return place_local(match->image, symbol, ret);
	return image_place_by_name(match->image, symbol->name, ret);
}
