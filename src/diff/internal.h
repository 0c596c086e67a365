/* SPDX-License-Identifier: MIT */
/*
 * What the files of diff share. Private to diff.
 *
 * An object is carved into atoms: ranges of a section that move and change as one, a function, a
 * datum, a string, a run of unnamed constants. What the relocations of an atom reach are again atoms,
 * or symbols from outside. Everything below, from digests to the output, is said in these two words.
 */
#ifndef SUTURE_DIFF_INTERNAL_H
#define SUTURE_DIFF_INTERNAL_H

#include "diff/diff.h"

enum atom_kind {
	ATOM_FUNCTION, // code
	ATOM_DATA,     // writable, and what is neither of the others
	ATOM_RODATA,   // also .data.rel.ro: read-only once the program runs
	ATOM_TLS,
};

/** A relocation, or a branch that the assembler resolved, as its atom sees it. */
struct reference {
	uint64_t offset; // of the field from the atom's start
	uint32_t type;
	enum relocation_kind kind;
	uint8_t size;    // of the field
	bool made;       // no relocation stands there: resolved, and leads out of the atom
	bool branch;     // the field is that of a direct jump or call; after atom_decode()
	struct atom *target; // NULL: @symbol is not defined here, or in nothing that runs
	const struct object_symbol *symbol; // of the relocation; NULL when made
	/* With S as the start of @target, or as @symbol: the A of the formula. */
	int64_t addend;
	/*
	 * From A to the place that is meant: a PC-relative operand counts from the end of its
	 * instruction (after atom_decode()), an entry of a jump table from the table's start.
	 */
	int64_t adjust;
};

enum walk_state { WALK_NONE, WALK_BUSY, WALK_DONE };

struct atom {
	struct side *side;
	size_t index; // in side->atoms: by section, then offset
	struct object_section *section;
	uint64_t start, size;
	enum atom_kind kind;
	struct object_symbol *symbol; // the first among its names; NULL: anonymous
	const char *name;             // of @symbol, or a description
	const char *key;              // name without what a compiler numbers, see name.c
	bool by_content; // anonymous, or named by the compiler: has no identity besides its content
	bool numbered;   // a static variable of a function: its name is no identity either
	bool ambiguous;  // a twin may exist, but nothing tells which
	bool cold;       // a part of @parent
	bool string;     // of a section of strings

	struct reference *references; // by offset
	size_t reference_count;
	bool resolved, decoded;

	enum walk_state digest_state;
	struct digest digest;

	struct atom *twin; // in the other object
	enum diff_level level;
	struct atom *parent;               // of a .cold part
	struct atom *first_part, *next_part;
	struct atom *exception_table;      // its .gcc_except_table, or NULL
	size_t frame;                      // 1 + number of its FDE, 0: none

	// Result of the last comparison by content with @compared.
	const struct atom *compared;
	enum walk_state compare_state;
	bool compared_equal;

	bool changed;  // differs from its twin
	bool included; // goes into the output
	bool fresh;    // read-only with a twin, but the output gets a copy of the new one
	const struct object_symbol *output; // what stands for it there
	bool skipped;  // a changed function that must not be replaced: it has run already
	bool init;     // runs before main, once
	size_t mark;   // of whoever walks over atoms
};

/** What the carver knows about a section. */
struct section_info {
	struct atom **atoms; // by start
	size_t count;
	// Offsets in unnamed ranges that something refers to, ascending: each is the start of
	// something. Of sections of strings and constants: none, their form says it.
	uint64_t *cuts;
	size_t cut_count;
	bool carved;
};

struct frame {
	uint64_t start, size; // of the record in its section
	struct object_section *section;
	uint64_t cie; // offset of its CIE
	struct atom *function;
	uint64_t function_offset;
	size_t next; // 1 + number of the function's next one, 0: none
};

struct side {
	const struct object *object;
	struct arena *arena;
	const char *label; // "old", "new"
	struct side *other;
	VEC(struct atom *) atoms;
	struct section_info *sections; // by object_section.index
	struct atom **symbol_atoms;    // by object_symbol.index
	VEC(struct frame) frames;      // of .eh_frame, by position
	struct hashmap *noreturn;      // callees that do not come back; NULL: nobody asked
};

/* ---- name.c: what a name says --------------------------------------------------------------- */

/** Named by a compiler after a counter, to be taken by content: __func__.3, CSWTCH.5, .LC7. */
bool name_is_by_content(const char *name);
/** A variable of a function's scope: n.3, f.n, _ZZ1fvE1n. */
bool name_is_numbered(const char *name);
/** "n" of "n.3"; "f.isra" of "f.isra.0"; the name itself where nothing is numbered. In @arena. */
const char *name_key(struct arena *arena, const char *name);
/** "f" of "f.isra.0.cold", "f.part.1". In @arena. */
const char *name_function(struct arena *arena, const char *name);
/** The parent's name of "f.cold", "f.cold.3"; NULL for others. In @arena. */
const char *name_cold_parent(struct arena *arena, const char *name);
/** Does the name carry .isra, .constprop, .part and the like? */
bool name_is_clone(const char *name);

/* ---- carve.c: sections into atoms ----------------------------------------------------------- */

void side_init(struct side *side, const struct object *object, struct arena *arena);
void side_deinit(struct side *side);
/** The atom at @offset, the last one that starts at or below it; NULL in a section not carved. */
struct atom *side_atom_at(const struct side *side, const struct object_section *section,
			  uint64_t offset);
/** The atom of a symbol that is defined here, or NULL. */
struct atom *side_symbol_atom(const struct side *side, const struct object_symbol *symbol);
/** Its bytes, or NULL where they are zero and not stored. */
const uint8_t *atom_bytes(const struct atom *atom);
bool atom_is_visible(const struct atom *atom); // outside of its object
bool section_is_relro(const struct object_section *section);
/** Lists that run once at start: .init_array and the like. */
bool section_is_init_list(const struct object_section *section);
bool section_is_fini_list(const struct object_section *section);
bool section_is_frames(const struct object_section *section);
bool section_is_exception_table(const struct object_section *section);
/** Does the object have sections of strings? Without them literals stand among constants. */
bool side_has_strings(const struct side *side);
/** The next offset behind @offset that something refers to, in unnamed data; else the section's end. */
uint64_t side_next_cut(const struct side *side, const struct object_section *section,
		       uint64_t offset);
/** Its name, or its place where it has none. */
const char *atom_describe(struct atom *atom);

/* ---- reference.c: what an atom reaches ------------------------------------------------------ */

/** Fill atom->references. Cheap where no instruction has to be decoded. */
void atom_resolve(struct atom *atom);
/** The same with reference.branch and .adjust of every one. */
void atom_decode(struct atom *atom);
/** Addends come from files: their sums wrap around, as the linker's do. */
static inline int64_t addend_add(int64_t addend, int64_t more)
{
	return (int64_t)((uint64_t)addend + (uint64_t)more);
}

/** Where in its target the reference points, after atom_decode(). */
static inline int64_t reference_place(const struct reference *reference)
{
	return addend_add(reference->addend, reference->adjust);
}
/** One relocation of a section that is not carved, seen from @atom's side. */
struct reference side_reference(const struct side *side, const struct object_relocation *relocation);
/** The relocation that a field of @size bytes would have had; arch->relocation_none: there is none. */
uint32_t reference_made_type(const struct arch *arch, enum relocation_kind kind, uint8_t size);
/** First reference whose field starts at or behind @offset: its number. */
size_t atom_reference_from(const struct atom *atom, uint64_t offset);

/* ---- digest.c ------------------------------------------------------------------------------- */

/** Of the bytes and what they reach; names by their key, so that renumbering leaves it alone. */
const struct digest *atom_digest(struct atom *atom);

/* ---- match.c -------------------------------------------------------------------------------- */

void match_sides(struct side *old_side, struct side *new_side, struct findings *findings);

/* ---- compare.c ------------------------------------------------------------------------------ */

/** What differs first; strings in the diff's arena. */
struct difference {
	uint64_t old_offset, new_offset;
	const char *reason, *old_text, *new_text;
};
/** Bytes and references; a reference to what is matched is equal when its target is the twin. */
bool atoms_equal(struct atom *old_atom, struct atom *new_atom);
/** The first difference of two atoms that are not equal. */
void atoms_explain(struct arena *arena, struct atom *old_atom, struct atom *new_atom,
		   struct difference *ret);

/** Do two references lead to the same? Their addends are the caller's business. */
bool same_target(const struct atom *of_a, const struct atom *of_b, const struct reference *a,
		 const struct reference *b, unsigned depth);

/* ---- equivalent.c --------------------------------------------------------------------------- */

/** Equal but for the lengths of jumps, filling, and where string literals stand. */
bool functions_equivalent(struct atom *old_atom, struct atom *new_atom);

/* ---- flow.c --------------------------------------------------------------------------------- */

/** Can control leave the function but by an end of the process? */
bool function_returns(struct atom *function);

/* ---- guard.c -------------------------------------------------------------------------------- */

/** Mark atom->init: what runs once, from .init_array and the like, and what only that calls. */
void guard_mark_init(struct side *side);
/** Readers of a changed table whose change a person accepted get the new one: mark them changed. */
void guard_accept_tables(struct side *new_side, const struct diff_options *options);
/** Changed functions that must not be replaced: set atom->skipped. */
void guard_skip(struct side *new_side);
/** Findings about what changed; sets atom->fresh. Verdicts and atom->included are there. */
void guard_findings(struct side *old_side, struct side *new_side, struct findings *findings);
/** Has any datum changed, so that the two objects are not equal? */
bool guard_data_changed(struct side *old_side, struct side *new_side);

/* ---- clone.c, ehframe.c --------------------------------------------------------------------- */

struct clone;
/** The output from all atoms that are `included` and what they need; NULL when findings refuse. */
struct object *clone_output(struct side *old_side, struct side *new_side, struct findings *findings,
			    const char *path);

struct object *clone_object(const struct clone *clone);
struct side *clone_side(const struct clone *clone);
/** Where an atom that is in the output stands: a symbol and what to add to it. */
struct object_symbol *clone_place(struct clone *clone, struct atom *atom, int64_t *ret_bias);
/** Symbol and addend, in the output, of what a reference of the new side reaches. */
struct object_symbol *clone_target(struct clone *clone, struct atom *from,
				   const struct reference *reference, int64_t *ret_addend);

/** Fill side->frames, atom->frame and atom->exception_table. */
void ehframe_read(struct side *side);
/** Bring along what the frames of a function refer to. */
void ehframe_need(struct clone *clone, struct atom *function);
/** The .eh_frame of the output. */
void ehframe_write(struct clone *clone, struct atom *const *functions, size_t count);

#endif
