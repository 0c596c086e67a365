/* SPDX-License-Identifier: MIT */
/*
 * Private to image: the state of one comparison of an object with the target.
 */
#ifndef SUTURE_IMAGE_MATCH_H
#define SUTURE_IMAGE_MATCH_H

#include "image/internal.h"

/** Where something of the object lies, and the relocated field that says so. */
struct match_place {
	bool known;
	uint8_t kind; /* IMAGE_PLACE_* */
	uint64_t value;
	const struct image_relocation *import; /* of IMAGE_PLACE_IMPORT */
	const struct object_section *section;  /* the field's, or NULL: found by symbol or content */
	uint64_t offset;
};

/** Bytes of a section that a linker leaves alone. */
struct match_run {
	uint64_t start, end;
};

/** A PC-relative field from one function of a section to another, which the assembler filled in. */
struct match_branch {
	uint64_t offset;
	uint8_t size;
	const struct object_symbol *target;
};

struct match_addresses {
	uint64_t *items;
	size_t count, capacity;
};

/** A text section of the object. */
struct match_unit {
	struct object_section *section;
	struct arch_site *sites; /* of section->relocations, same order */
	VEC(struct match_run) runs;
	VEC(struct match_branch) branches; /* of a scattered section, by offset */
	struct match_addresses candidates; /* bases that passed all tests so far */
	bool searched;  /* by name and content */
	bool placed;    /* the whole section stands at its place */
	bool scattered; /* it does not: its functions are looked for one by one */
	bool replaced;  /* a COMDAT section: another object's copy is in the target, and is equal */
	uint64_t copy;  /* that one's address */
	uint64_t difference; /* of a section at a known place: offset of the first difference */
	size_t first_function, function_count; /* in match->functions */
};

/** Why a comparison failed: the first difference. */
struct match_failure {
	uint64_t offset; /* in the section */
	const char *why; /* in match->arena; NULL: the bytes differ */
};

struct match_state {
	const struct image *image;
	const struct object *object;
	struct arena *arena;
	struct findings *findings;
	struct image_match *match;

	/* What is known; by index of the section (its base) and of the symbol. */
	struct match_place *sections, *symbols;
	struct match_unit **unit_of; /* by section index; NULL: no text */
	size_t section_count, symbol_count;
	struct match_place got_base;

	/* All changes of the above, so that a guess can be taken back. */
	VEC(struct {
		struct match_place *place;
		struct match_place old;
	}) trail;
	/* Data sections whose place became known and whose content was not yet compared. */
	VEC(const struct object_section *) reached;
	bool *compared; /* by section index */

	VEC(struct match_unit) units;
	VEC(struct arch_site) scratch;
	const char *tools; /* versions that explain a mismatch, "" for none, or NULL: not asked yet */
	bool lto; /* the target was linked with -flto */
	/* Comparing with another object's copy of this COMDAT group: its local data is that object's. */
	const struct object_group *foreign;
};

static inline struct match_state *match_state(const struct image_match *match)
{
	return match->state;
}

/* search.c */

/** Fill unit->runs, without the fields of unit->branches. */
void match_unit_runs(struct match_unit *unit);
/**
 * Addresses where [start, end) of the section may stand, @align being known of the address. false:
 * some places could not be listed, as no word of it is rare.
 */
bool image_search(const struct image *image, const struct match_unit *unit, uint64_t start,
		  uint64_t end, uint64_t align, struct match_addresses *ret);
/**
 * The address at which most rare words of [start, end) stand, for code that stands nowhere whole.
 * false: too few, or no clear winner.
 */
bool image_vote(const struct image *image, const struct match_unit *unit, uint64_t start,
		uint64_t end, uint64_t align, uint64_t *ret);
/** As image_search(), by a walk over the whole text, for a section that is too short for the index. */
bool image_scan(const struct image *image, const struct match_unit *unit, uint64_t align,
		struct match_addresses *ret);

/* recover.c */

/** Undo all changes of places after @mark, a count of the trail. */
void match_undo(struct match_state *state, size_t mark);
/**
 * Compare [start, end) of @unit with the target, its section taken to stand at @base. What the
 * relocated fields tell is added to what is known; on failure some of it may be, so undo. @failure
 * may be NULL.
 */
bool match_code(struct match_state *state, struct match_unit *unit, uint64_t start, uint64_t end,
		uint64_t base, struct match_failure *failure);
/** Set the place of a section. false: it is known to be elsewhere, or of the wrong kind there. */
bool match_section_place(struct match_state *state, const struct object_section *section,
			 uint64_t base, const struct object_section *from, uint64_t offset);
/**
 * Compare the content of all data sections that were reached since. @report: add findings and go on;
 * else the first difference ends it with false, and @reached is left for the caller to cut.
 */
bool match_reached(struct match_state *state, size_t from, bool report);

/* match.c */

/** With a symbol table, what stands at @address must not go by other names only. */
bool match_name_fits(const struct match_state *state, const struct object_symbol *symbol,
		     uint64_t address);

/* function.c */

/**
 * From here on the functions of this section speak for themselves: what refers to it tells where the
 * function is, not where the section is, and branches between functions may have any distance.
 */
void match_scatter(struct match_state *state, struct match_unit *unit);
/** Find and compare the functions of a section that does not stand whole in the target. */
void match_functions(struct match_state *state, struct match_unit *unit);
/** End of a function: its size, or up to the next symbol when it has none. */
uint64_t match_function_end(const struct object_symbol *symbol);

/* report.c */

/** Fill difference, expected and found of @function; a finding. */
void match_report_different(struct match_state *state, struct match_unit *unit,
			    struct image_function *function, const struct match_failure *failure);
void match_report(struct match_state *state, enum finding_kind kind, const char *subject,
		  const char *format, ...) PRINTF(4, 5);

#endif
