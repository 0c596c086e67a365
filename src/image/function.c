/* SPDX-License-Identifier: MIT */
/*
 * A section that does not stand whole in the target: its functions, one by one.
 *
 * Most of them are there, next to each other and in their order, shifted where one before them has
 * another size. So: find those that stand exactly once and take them as anchors; between anchors the
 * others lie at a distance that the object tells; what does not match there is the one that differs,
 * and its place is right behind its predecessor.
 */
#include "image/match.h"

#include <stdlib.h>
#include <string.h>

struct piece {
	struct image_function *function; /* the first of its aliases */
	uint64_t start, end;             /* in the section */
	struct match_addresses places;   /* where it stands alike */
	uint64_t address;                /* chosen, or 0 */
	bool matched;
};

/** Does the function stand at @address? Keeps what it tells when @keep. */
static bool stands_at(struct match_state *state, struct match_unit *unit, const struct piece *piece,
		      uint64_t address, bool keep, struct match_failure *failure)
{
	size_t mark = state->trail.count, reached = state->reached.count;
	bool good = match_code(state, unit, piece->start, piece->end, address - piece->start, failure);
	if (!good || !keep) {
		match_undo(state, mark);
		state->reached.count = reached;
	}
	return good;
}

static void settle(struct match_state *state, struct match_unit *unit, struct piece *piece,
		   uint64_t address)
{
	piece->address = address;
	piece->matched = stands_at(state, unit, piece, address, true, NULL);
}

/** The address of @symbol by what matched code refers to, or by the symbol table. */
static bool named_at(const struct match_state *state, const struct object_symbol *symbol,
		     uint64_t *ret)
{
	const struct match_place *place = &state->symbols[symbol->index];
	if (place->known && place->kind == IMAGE_PLACE_ADDRESS && place->value) {
		*ret = place->value;
		return true;
	}
	const struct image_symbol **named, *found = NULL;
	size_t count = image_symbols_named(state->image, symbol->name, &named);
	for (size_t i = 0; i < count; i++) {
		if (symbol->bind == STB_LOCAL && named[i]->bind == STB_LOCAL && symbol->file &&
		    named[i]->file &&
		    !string_equal(path_basename(symbol->file), path_basename(named[i]->file)))
			continue;
		if (named[i]->type == STT_OBJECT || named[i]->type == STT_TLS)
			continue;
		if (found && found->address != named[i]->address)
			return false;
		found = named[i];
	}
	if (!found)
		return false;
	*ret = found->address;
	return true;
}

/** Functions start at multiples of 16 with gcc and clang -O2; of their section's alignment at least. */
static uint64_t alignment(const struct match_unit *unit, uint64_t offset)
{
	uint64_t align = unit->section->align ? unit->section->align : 1;
	while (align > 1 && offset % align)
		align /= 2;
	return align;
}

/** The next piece with an address, from @at in @direction. */
static const struct piece *anchor(const struct piece *pieces, size_t count, size_t at, int direction)
{
	for (size_t i = at + (size_t)direction; i < count; i += (size_t)direction)
		if (pieces[i].address && pieces[i].matched)
			return &pieces[i];
	return NULL;
}

/** Addresses that the neighbours give: behind the one before, in front of the one behind. */
static size_t expectations(const struct piece *pieces, size_t count, size_t at, uint64_t ret[2])
{
	const struct piece *piece = &pieces[at];
	const struct piece *before = anchor(pieces, count, at, -1);
	const struct piece *behind = anchor(pieces, count, at, 1);
	size_t found = 0;
	if (before)
		ret[found++] = before->address + (piece->start - before->start);
	if (behind)
		ret[found++] = behind->address - (behind->start - piece->start);
	return found;
}

// How far a function may be from where its section's majority puts it: other sizes before it.
enum { DRIFT_MAX = 1 << 16 };

/** The base that most bytes of unique functions agree on. */
static bool majority(const struct piece *pieces, size_t count, uint64_t *ret)
{
	uint64_t best = 0;
	for (size_t i = 0; i < count; i++) {
		if (pieces[i].places.count != 1)
			continue;
		uint64_t base = pieces[i].places.items[0] - pieces[i].start, bytes = 0;
		for (size_t j = i; j < count; j++)
			if (pieces[j].places.count == 1 &&
			    pieces[j].places.items[0] - pieces[j].start == base)
				bytes += pieces[j].end - pieces[j].start;
		if (bytes > best) {
			best = bytes;
			*ret = base;
		}
		if (best * 2 > pieces[count - 1].end)
			break;
	}
	return best > 0;
}

static void find_places(struct match_state *state, struct match_unit *unit, struct piece *piece)
{
	struct match_addresses found = {0};
	image_search(state->image, unit, piece->start, piece->end, alignment(unit, piece->start), &found);
	for (size_t i = 0; i < found.count; i++) {
		bool again = false;
		for (size_t j = 0; j < piece->places.count; j++)
			again |= piece->places.items[j] == found.items[i];
		if (!again && match_name_fits(state, piece->function->symbol, found.items[i]) &&
		    stands_at(state, unit, piece, found.items[i], false, NULL))
			vec_push(&piece->places, found.items[i]);
	}
	vec_deinit(&found);
}

static void place_pieces(struct match_state *state, struct match_unit *unit, struct piece *pieces,
			 size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t address;
		if (named_at(state, pieces[i].function->symbol, &address) &&
		    image_area_at(state->image, address) == IMAGE_AREA_TEXT)
			settle(state, unit, &pieces[i], address);
		// An overridden weak function: its name is elsewhere, its code may be here.
		if (!pieces[i].matched && pieces[i].function->symbol->bind == STB_WEAK &&
		    !unit->section->group)
			pieces[i].address = 0;
	}
	for (size_t i = 0; i < count; i++)
		if (!pieces[i].address)
			find_places(state, unit, &pieces[i]);
	uint64_t base;
	if (majority(pieces, count, &base)) {
		for (size_t i = 0; i < count; i++) {
			if (pieces[i].address || pieces[i].places.count != 1)
				continue;
			int64_t drift = (int64_t)(pieces[i].places.items[0] - pieces[i].start - base);
			if (drift > -DRIFT_MAX && drift < DRIFT_MAX)
				settle(state, unit, &pieces[i], pieces[i].places.items[0]);
		}
	}
	// Those between anchors, which become anchors themselves.
	for (bool progress = true; progress;) {
		progress = false;
		for (size_t i = 0; i < count; i++) {
			uint64_t expected[2];
			size_t number = pieces[i].address
						? 0
						: expectations(pieces, count, i, expected);
			for (size_t j = 0; j < number && !pieces[i].matched; j++) {
				if (!match_name_fits(state, pieces[i].function->symbol,
						     expected[j]) ||
				    !stands_at(state, unit, &pieces[i], expected[j], false, NULL))
					continue;
				settle(state, unit, &pieces[i], expected[j]);
				progress = true;
			}
		}
	}
}

/**
 * A function that stands nowhere: its start is right behind the one before it, or where the one
 * behind it says if both had to have the same size.
 */
static bool guess(struct match_state *state, const struct match_unit *unit,
		  const struct piece *pieces, size_t count, size_t at, uint64_t *ret)
{
	const struct piece *piece = &pieces[at];
	if (piece->address) {
		*ret = piece->address;
		return true;
	}
	if (at > 0 && pieces[at - 1].matched) {
		const struct piece *before = &pieces[at - 1];
		*ret = before->address + (piece->start - before->start);
		return true;
	}
	uint64_t expected[2];
	size_t number = expectations(pieces, count, at, expected);
	// Both sides agree: nothing between them changed its size.
	if (number == 2 && expected[0] == expected[1]) {
		*ret = expected[0];
		return true;
	}
	if (at == 0 && number > 0 && count > 1 && pieces[1].matched &&
	    image_area_at(state->image, expected[0]) == IMAGE_AREA_TEXT) {
		*ret = expected[0];
		return true;
	}
	const struct match_place *place = &state->sections[unit->section->index];
	if (place->known && number == 0) {
		*ret = place->value + piece->start;
		return true;
	}
	return image_vote(state->image, unit, piece->start, piece->end, alignment(unit, piece->start),
			  ret);
}

/** Is another function of the section known to be at @address? Then the order is another there. */
static bool is_taken(const struct piece *pieces, size_t count, uint64_t address)
{
	for (size_t i = 0; i < count; i++)
		if (pieces[i].matched && address - pieces[i].address < pieces[i].end - pieces[i].start)
			return true;
	return false;
}

static void verdict(struct match_state *state, struct match_unit *unit, struct piece *pieces,
		    size_t count, size_t at)
{
	struct piece *piece = &pieces[at];
	struct image_function *function = piece->function;
	struct match_failure failure;
	uint64_t address;
	if (piece->matched) {
		function->verdict = IMAGE_MATCHED;
		function->address = piece->address;
		return;
	}
	if (!piece->address && piece->places.count > 1) {
		function->verdict = IMAGE_AMBIGUOUS;
		match_report(state, FINDING_KIND_CODE_AMBIGUOUS, function->symbol->name,
			     "its code stands %zu times in the target, at 0x%llx and 0x%llx for two",
			     piece->places.count, (unsigned long long)piece->places.items[0],
			     (unsigned long long)piece->places.items[1]);
		return;
	}
	if (guess(state, unit, pieces, count, at, &address) &&
	    (piece->address || !is_taken(pieces, count, address)) &&
	    !stands_at(state, unit, piece, address, false, &failure)) {
		function->verdict = IMAGE_DIFFERENT;
		function->address = address;
		match_report_different(state, unit, function, &failure);
		return;
	}
	function->verdict = IMAGE_MISSING;
	// With a section of its own, it may be gone.
	bool alone = count == 1 && !string_equal(unit->section->name, ".text");
	match_report(state, FINDING_KIND_CODE_MISMATCH, function->symbol->name,
		     "nothing in the target is equal to it%s",
		     alone ? "; whether the linker dropped it as unused, its symbols would tell" : "");
}

void match_scatter(struct match_state *state, struct match_unit *unit)
{
	const struct object_section *section = unit->section;
	const struct arch *arch = section->object->arch;
	unit->scattered = true;
	for (size_t i = 0; i < unit->function_count; i++) {
		const struct object_symbol *symbol =
			state->match->functions.items[unit->first_function + i].symbol;
		uint64_t end = match_function_end(symbol);
		uint64_t at = symbol->value;
		// An alias; or functions of hand-written code that overlap.
		if (unit->branches.count > 0 && at <= unit->branches.items[unit->branches.count - 1].offset)
			continue;
		if (i > 0 &&
		    state->match->functions.items[unit->first_function + i - 1].symbol->value == at)
			continue;
		while (at < end) {
			struct arch_instruction instruction;
			if (!arch->decode(section->data + at, end - at, at, &instruction) ||
			    instruction.length == 0)
				break;
			uint64_t field = at + instruction.pcrel_offset;
			size_t relocated = 0;
			if (instruction.has_pcrel && instruction.pcrel_size)
				object_relocations_in(section, at, at + instruction.length, &relocated);
			const struct object_symbol *target =
				instruction.has_pcrel && instruction.pcrel_size && relocated == 0 &&
						(instruction.target < symbol->value ||
						 instruction.target >= end)
					? object_symbol_covering(section, instruction.target)
					: NULL;
			if (target && object_symbol_is_function(target))
				vec_push(&unit->branches, (struct match_branch){
								  .offset = field,
								  .size = instruction.pcrel_size,
								  .target = target,
							  });
			at += instruction.length;
		}
	}
	match_unit_runs(unit);
}

void match_functions(struct match_state *state, struct match_unit *unit)
{
	struct image_function *functions = state->match->functions.items + unit->first_function;
	struct piece *pieces = xcalloc(unit->function_count, sizeof(*pieces));
	size_t count = 0;
	for (size_t i = 0; i < unit->function_count; i++) {
		const struct object_symbol *symbol = functions[i].symbol;
		// Aliases follow the symbol that they share a place with.
		if (count > 0 && pieces[count - 1].start == symbol->value)
			continue;
		pieces[count++] = (struct piece){
			.function = &functions[i],
			.start = symbol->value,
			.end = match_function_end(symbol),
		};
	}
	place_pieces(state, unit, pieces, count);
	for (size_t i = 0; i < count; i++) {
		verdict(state, unit, pieces, count, i);
		vec_deinit(&pieces[i].places);
	}
	free(pieces);
	for (size_t i = 1; i < unit->function_count; i++)
		if (functions[i].symbol->value == functions[i - 1].symbol->value) {
			const struct object_symbol *symbol = functions[i].symbol;
			functions[i] = functions[i - 1];
			functions[i].symbol = symbol;
		}
}
