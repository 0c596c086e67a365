/* SPDX-License-Identifier: MIT */
/*
 * diff: two objects in, verdicts, findings and one object of changed code out.
 *
 * Nothing here knows how a patch is stored or applied. Every symbol gets a digest of its bytes with
 * each relocation replaced by what it reaches: name and addend, a string's or an anonymous datum's
 * content, a jump table's targets by their offset in the function, an unrelocated branch inside one
 * section by symbol and offset. Equal digests are equal code. Linear time.
 */
#ifndef SUTURE_DIFF_H
#define SUTURE_DIFF_H

#include "base/base.h"
#include "object/object.h"

enum diff_verdict {
	DIFF_SAME,
	DIFF_CHANGED,
	DIFF_NEW,
	DIFF_REMOVED,
};
const char *diff_verdict_word(enum diff_verdict verdict);

/** How two symbols were matched, from certain to fallible. */
#define DIFF_LEVELS(X)                                            \
	X(NAME, "name")         /* same name, once on each side */ \
	X(SCOPE, "scope")       /* and same binding */             \
	X(FILE, "file")         /* and same STT_FILE */            \
	X(CONTENT, "content")   /* same digest */                  \
	X(USES, "uses")         /* used at the same places by matched code */ \
	X(POSITION, "position") /* same order and the same number of candidates: never alone */

enum diff_level {
#define X(name, word) DIFF_LEVEL_##name,
	DIFF_LEVELS(X)
#undef X
};
const char *diff_level_word(enum diff_level level);

/** A function of either object. Strings live as long as the diff. */
struct diff_function {
	const char *name;
	enum diff_verdict verdict;
	enum diff_level level; /* when matched */
	const struct object_symbol *old_symbol; /* NULL: new */
	const struct object_symbol *new_symbol; /* NULL: removed */
	const struct object_symbol *output;     /* in diff->output; NULL: not in it */
	/*
	 * CHANGED: why. The first difference as offsets into old and new, with the instructions, or the
	 * relocation or datum that differs.
	 */
	const char *reason;
	uint64_t old_offset, new_offset;
	const char *old_text, *new_text; /* disassembled; NULL when it is not an instruction */
	bool forced;  /* in options->changed_elsewhere */
	/*
	 * Of the code that a thread may be inside (the old one, of a NEW function the new one): control
	 * can leave it. false: it loops and has no return and no jump out. SAME: not asked, true.
	 */
	bool returns;
	/* Other parts of the old function that a thread may be inside: .cold, .part children. */
	const struct object_symbol **old_parts;
	size_t old_part_count;
};

struct diff_options {
	/*
	 * Names of functions to be taken as changed whatever this pair says: what the plain pair found
	 * (one section per function may hide or show a difference).
	 */
	const char *const *changed_elsewhere;
	size_t changed_elsewhere_count;
	/** Only verdicts: no output object, fewer findings (for the plain pair). */
	bool verdicts_only;
	/** "KIND:SUBJECT" that a person accepts; the diff needs it for what it then includes. */
	const char *const *accepted;
	size_t accepted_count;
};

struct diff {
	struct arena *arena;
	const struct object *old_object, *new_object; /* must outlive the diff */
	VEC(struct diff_function) functions; /* in the new object's order, removed ones last */
	struct findings findings;
	bool changed; /* any function CHANGED, NEW or REMOVED, or any changed datum */
	/*
	 * Changed and new functions and what they need that the target lacks, one section each:
	 * functions with their .cold, strings, constants, jump tables, new data, .eh_frame with
	 * .gcc_except_table. A symbol with `origin` stands for that symbol of the old object: an
	 * undefined one for something of the running program, a defined function for what it replaces.
	 * Undefined without origin: by name, from another unit or another module. Calls go to new code
	 * directly; an address that is taken stays the old entry.
	 * NULL when nothing changed, with verdicts_only, or when a finding refuses.
	 */
	struct object *output;
};

/**
 * Compare two objects of one CPU. @options may be NULL. Errors: UNSUPPORTED (LTO bytecode, different
 * CPUs). The caller frees @ret.
 */
struct error *diff_objects(const struct object *old_object, const struct object *new_object,
			   const struct diff_options *options, struct diff **ret) MUST_CHECK;
void diff_free(struct diff *diff);
void diff_cleanup(struct diff **diff);
#define _cleanup_diff_ _cleanup_(diff_cleanup)

/** The schema "suture-diff-1" of `suture diff --json`. */
void diff_json(const struct diff *diff, struct json *json);

#endif
