/* SPDX-License-Identifier: MIT */
/*
 * Where in the target's text may this code stand?
 *
 * An index made once per image holds every aligned 8-byte word of its text. A piece of code that
 * stands at a known alignment has words of which no bit is up to the linker; the rarest of them in
 * the index names all places where the piece can be, mostly one. So the search costs a look-up per
 * word of the object, whatever the size of the text, and 12 bytes of index per 8 of text.
 *
 * Rejected: memmem() for the longest run of a section; it walks the whole text for each section, and
 * a C++ object has thousands.
 */
#include "image/match.h"

#include <stdlib.h>
#include <string.h>

struct image_index {
	uint64_t lowest;     /* address of slot 0, a multiple of 8 */
	unsigned shift;
	uint32_t *first;     /* first[h] .. first[h + 1]: the slots of hash h */
	uint32_t *slots;     /* (address - lowest) / 8 */
};

void image_index_free(struct image_index *index)
{
	if (!index)
		return;
	free(index->first);
	free(index->slots);
	free(index);
}

static uint32_t word_hash(const struct image_index *index, const uint8_t *bytes)
{
	uint64_t word;
	memcpy(&word, bytes, 8);
	return (uint32_t)((word * UINT64_C(0x9e3779b97f4a7c15)) >> index->shift);
}

/** The first address at or behind @start that is a multiple of 8, and how many words follow. */
static uint64_t words_of(const uint64_t range[2], size_t *ret_count)
{
	uint64_t start = align_up(range[0], 8);
	*ret_count = start < range[1] ? (size_t)((range[1] - start) / 8) : 0;
	return start;
}

static struct image_index *index_build(const struct image *image)
{
	const uint64_t(*text)[2];
	size_t range_count = image_text_ranges(image, &text), total = 0;
	for (size_t i = 0; i < range_count; i++) {
		size_t count;
		words_of(text[i], &count);
		total += count;
	}
	struct image_index *index = xcalloc(1, sizeof(*index));
	unsigned bits = 8;
	while (bits < 28 && (UINT64_C(1) << bits) < total)
		bits++;
	index->shift = 64 - bits;
	index->lowest = range_count ? text[0][0] & ~UINT64_C(7) : 0;
	index->first = xcalloc((UINT64_C(1) << bits) + 2, sizeof(*index->first));
	index->slots = xcalloc(total + 1, sizeof(*index->slots));
	// Counting sort: count into first[h + 2], sum up, place by first[h + 1].
	for (int pass = 0; pass < 2; pass++) {
		for (size_t i = 0; i < range_count; i++) {
			size_t count;
			uint64_t start = words_of(text[i], &count);
			const uint8_t *bytes = image_bytes(image, start, count * 8);
			// Slots are 32 bits of 8 bytes: text beyond 32 GiB is not searched.
			if (!bytes || (start + count * 8 - index->lowest) / 8 > UINT32_MAX)
				continue;
			uint32_t slot = (uint32_t)((start - index->lowest) / 8);
			for (size_t j = 0; j < count; j++) {
				uint32_t hash = word_hash(index, bytes + j * 8);
				if (pass == 0)
					index->first[hash + 2]++;
				else
					index->slots[index->first[hash + 1]++] = slot + (uint32_t)j;
			}
		}
		for (size_t i = 2; pass == 0 && i < (UINT64_C(1) << bits) + 2; i++)
			index->first[i] += index->first[i - 1];
	}
	return index;
}

/** Not for several threads at once on one image before its first search. */
static const struct image_index *index_of(const struct image *image)
{
	struct image_state *state = image_state(image);
	if (!state->index)
		state->index = index_build(image);
	return state->index;
}

// Past this the word says too little, and the candidates are found by other means.
enum { CANDIDATES_MAX = 512 };

/** Is [offset, offset + 8) free of anything that a linker may write? */
static bool is_clean(const struct match_unit *unit, size_t *run, uint64_t offset)
{
	while (*run < unit->runs.count && unit->runs.items[*run].end < offset + 8)
		++*run;
	return *run < unit->runs.count && unit->runs.items[*run].start <= offset;
}

bool image_search(const struct image *image, const struct match_unit *unit, uint64_t start,
		  uint64_t end, uint64_t align, struct match_addresses *ret)
{
	const struct image_index *index = index_of(image);
	const uint8_t *data = unit->section->data;
	uint64_t step = align >= 8 ? 8 : align ? align : 1;
	bool all = true;
	// For each way in which the piece's start may lie in a word of the index.
	for (uint64_t phase = 0; phase < 8; phase += step) {
		uint32_t best_count = UINT32_MAX;
		uint64_t best = 0;
		size_t run = 0;
		for (uint64_t offset = start + (8 - phase) % 8; offset + 8 <= end; offset += 8) {
			if (!is_clean(unit, &run, offset))
				continue;
			uint32_t hash = word_hash(index, data + offset);
			uint32_t count = index->first[hash + 1] - index->first[hash];
			if (count < best_count) {
				best_count = count;
				best = offset;
				if (count == 0)
					break;
			}
		}
		if (best_count > CANDIDATES_MAX) {
			all = false;
			continue;
		}
		uint32_t hash = word_hash(index, data + best);
		for (uint32_t i = 0; i < best_count; i++) {
			uint64_t address =
				index->lowest + (uint64_t)index->slots[index->first[hash] + i] * 8;
			const uint8_t *bytes = image_bytes(image, address, 8);
			if (bytes && memcmp(bytes, data + best, 8) == 0)
				vec_push(ret, address - (best - start));
		}
	}
	return all;
}

static int compare_addresses(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

// A word that stands in more places than this says little; fewer agreeing words say nothing.
enum { VOTE_PLACES_MAX = 4, VOTES_MIN = 3 };

bool image_vote(const struct image *image, const struct match_unit *unit, uint64_t start,
		uint64_t end, uint64_t align, uint64_t *ret)
{
	const struct image_index *index = index_of(image);
	const uint8_t *data = unit->section->data;
	uint64_t step = align >= 8 ? 8 : align ? align : 1;
	struct match_addresses votes = {0};
	for (uint64_t phase = 0; phase < 8; phase += step) {
		size_t run = 0;
		for (uint64_t offset = start + (8 - phase) % 8; offset + 8 <= end; offset += 8) {
			if (!is_clean(unit, &run, offset))
				continue;
			uint32_t hash = word_hash(index, data + offset);
			uint32_t first = index->first[hash], count = index->first[hash + 1] - first;
			for (uint32_t i = 0; count <= VOTE_PLACES_MAX && i < count; i++) {
				uint64_t address =
					index->lowest + (uint64_t)index->slots[first + i] * 8;
				const uint8_t *bytes = image_bytes(image, address, 8);
				if (bytes && memcmp(bytes, data + offset, 8) == 0)
					vec_push(&votes, address - (offset - start));
			}
		}
	}
	if (votes.count > 0)
		qsort(votes.items, votes.count, sizeof(*votes.items), compare_addresses);
	size_t best = 0, second = 0;
	for (size_t i = 0, j; i < votes.count; i = j) {
		for (j = i + 1; j < votes.count && votes.items[j] == votes.items[i];)
			j++;
		if (j - i > best) {
			second = best;
			best = j - i;
			*ret = votes.items[i];
		} else if (j - i > second) {
			second = j - i;
		}
	}
	vec_deinit(&votes);
	return best >= VOTES_MIN && best > second * 2;
}

bool image_scan(const struct image *image, const struct match_unit *unit, uint64_t align,
		struct match_addresses *ret)
{
	const uint64_t(*text)[2];
	size_t range_count = image_text_ranges(image, &text);
	const struct match_run *longest = NULL;
	for (size_t i = 0; i < unit->runs.count; i++)
		if (!longest || unit->runs.items[i].end - unit->runs.items[i].start >
					longest->end - longest->start)
			longest = &unit->runs.items[i];
	if (!longest || longest->end == longest->start)
		return false;
	align = align ? align : 1;
	size_t size = longest->end - longest->start;
	for (size_t i = 0; i < range_count; i++) {
		const uint8_t *bytes = image_bytes(image, text[i][0], text[i][1] - text[i][0]);
		for (uint64_t base = align_up(text[i][0], align);
		     bytes && range_within(base - text[i][0], unit->section->size, text[i][1] - text[i][0]);
		     base += align) {
			if (memcmp(bytes + (base - text[i][0]) + longest->start,
				   unit->section->data + longest->start, size) != 0)
				continue;
			if (ret->count == CANDIDATES_MAX)
				return false;
			vec_push(ret, base);
		}
	}
	return true;
}

/** What a linker may write around the field of a relocation: see the rows of arch's rewrites. */
static void rewrite_margin(const struct arch_relocation *row, uint64_t *ret_before,
			   uint64_t *ret_after)
{
	*ret_before = *ret_after = 0;
	switch (row->kind) {
	case RELOCATION_GOT:
	case RELOCATION_GOT_RELAX:
	case RELOCATION_TLS_IE:
	case RELOCATION_TLS_DESC:
		*ret_before = 4;
		break;
	case RELOCATION_TLS_GD:
	case RELOCATION_TLS_LD:
		// The longest sequence, GD in the large model, ends 19 bytes behind the field's start.
		*ret_before = 4;
		*ret_after = 16;
		break;
	case RELOCATION_TLS_DESC_CALL:
		*ret_after = 2;
		break;
	default:
		break;
	}
}

/** The bytes before @start are clean from @at on; all before @end are then done with. */
static void run_cut(struct match_unit *unit, uint64_t *at, uint64_t start, uint64_t end)
{
	if (start > *at && start <= unit->section->size)
		vec_push(&unit->runs, (struct match_run){*at, start});
	*at = end > *at ? end : *at;
}

void match_unit_runs(struct match_unit *unit)
{
	const struct object_section *section = unit->section;
	uint64_t at = 0;
	size_t branch = 0;
	unit->runs.count = 0;
	for (size_t i = 0; i <= section->relocations.count; i++) {
		const struct object_relocation *relocation = &section->relocations.items[i];
		uint64_t before = 8, after = 24, size = 8, offset = section->size;
		if (i < section->relocations.count) {
			const struct arch_relocation *row =
				section->object->arch->relocation(relocation->type);
			if (row) {
				rewrite_margin(row, &before, &after);
				size = row->size;
			}
			offset = relocation->offset;
		}
		for (; branch < unit->branches.count && unit->branches.items[branch].offset < offset;
		     branch++)
			run_cut(unit, &at, unit->branches.items[branch].offset,
				unit->branches.items[branch].offset +
					unit->branches.items[branch].size);
		if (i < section->relocations.count)
			run_cut(unit, &at, offset > before ? offset - before : 0, offset + size + after);
	}
	if (section->size > at)
		vec_push(&unit->runs, (struct match_run){at, section->size});
}
