/* SPDX-License-Identifier: MIT */
/*
 * What the files of live share. The order of the work:
 *
 *	look.c       the modules in the process, the old code in memory, a plan of the detours
 *	scope.c      what a name means to a module, as ld.so sees it
 *	link.c       the patch's bytes for the place where they will stand
 *	session.c    stops, and the wait for one in which no thread is inside
 *	stage.c      a mapping that holds them, with its record
 *	unwinders.c  .eh_frame told to the unwinders that the process has loaded
 *	transition.c the flip, and finishing one that was cut off
 *	memory.c     memory given back or kept
 *	apply.c, revert.c, status.c  what live.h promises
 *	registry.c   the records that say what was done, and what was about to be done
 */
#ifndef SUTURE_LIVE_PRIVATE_H
#define SUTURE_LIVE_PRIVATE_H

#include "live/live.h"

enum {
	LIVE_PAGE = 4096,
	LIVE_NAME_MAX = 4096, /* of any string in a record: C++ names are long */
	LIVE_WRITE_MAX = 16,  /* bytes of one write into text */
	LIVE_UNWINDERS_MAX = 4,
	/* Words for an unwinder's `struct object`: gcc 12 uses 6, gcc 13 and 14 use 8. */
	LIVE_UNWINDER_OBJECT = 128,
};

/* ---- the record (registry.c) -------------------------------------------------------------- */

/*
 * A patch in a process is one mapping that nothing else shares:
 *
 *	[record, the word, read-only data, .eh_frame, slots]  r--p
 *	[stubs, moved instructions, code, veneers]            r-xp
 *	[data, bss, unwinders' objects]                       rw-p   (may be absent)
 *
 * The record is its first bytes, so that one munmap() takes the patch and its record at once, a
 * forked child has its own, and no list can be broken half way. The registry is all records that a
 * walk over the process's private anonymous read-only mappings finds.
 *
 * All of it is little-endian and of fixed size. Only `head` changes once the record is written:
 * each change is one aligned store of at most 8 bytes, so that whoever reads after suture was killed
 * sees the step before or the step after. The checksum covers [LIVE_RECORD_HEAD, record_size).
 */
enum { LIVE_RECORD_VERSION = 1, LIVE_RECORD_HEAD = 64 };
#define LIVE_RECORD_MAGIC "\x89SUTURE\x01"

struct record_head {
	uint8_t magic[8];
	uint64_t self; /* address at which it stands */
	uint8_t checksum[16];
	/*
	 * What the stubs read: 0: old code, 1: new code. In a transition it says which way whoever
	 * comes next has to finish.
	 */
	uint32_t word;
	uint32_t state;      /* enum live_state */
	uint64_t applied_at; /* CLOCK_REALTIME, seconds */
	uint32_t registered; /* bit i: unwinder i knows .eh_frame */
	uint32_t reserved[3];
};
_Static_assert(sizeof(struct record_head) == LIVE_RECORD_HEAD, "the head is 64 bytes");

struct record_body {
	uint32_t version, body_size;     /* LIVE_RECORD_VERSION, sizeof(struct record_body) */
	uint64_t record_size;            /* of head, body, tables and strings */
	uint64_t mapping_size;           /* of all three parts */
	uint64_t text_offset, text_size; /* pages; offsets from the record */
	uint64_t data_offset, data_size;
	uint64_t eh_frame, eh_frame_size; /* addresses; 0: none */
	uint64_t sequence;                /* order of application */
	uint8_t digest[16];               /* of the patch file */
	uint8_t replaces_all;
	uint8_t reserved[7];
	uint32_t name, tool_version; /* offsets in the strings */
	uint32_t function_count, write_count, replaced_count, base_count, unwinder_count;
	uint32_t functions, writes, replaced, bases,
		unwinders; /* offsets of tables from the record */
	uint32_t strings, strings_size;
	uint32_t reserved2;
};

struct record_function {
	uint32_t name, module;
	uint64_t old_address, old_size, new_address, new_size;
	uint32_t write; /* index of the write that holds the jump to new_address */
	uint32_t reserved;
};

/**
 * One place in the target's text. On the way in it goes `before`, `transit`, (the word), `after`; on
 * the way out `after`, `transit_back`, (the word), `original`. The two ways differ only where the
 * patch took out an earlier one: `original` is what stood there before any patch.
 */
struct record_write {
	uint64_t address;
	uint8_t size;
	uint8_t reserved[7];
	uint8_t before[LIVE_WRITE_MAX], transit[LIVE_WRITE_MAX], after[LIVE_WRITE_MAX];
	uint8_t transit_back[LIVE_WRITE_MAX], original[LIVE_WRITE_MAX];
};

/** A patch that this one took out in its flip. */
struct record_replaced {
	uint64_t address, sequence;
};

struct record_unwinder {
	uint32_t name, reserved;
	uint64_t register_function, deregister_function;
	uint64_t object; /* its memory in the data part */
};

/** A record as it was read: one copy of its bytes, every offset checked. */
struct record {
	uint64_t address;
	struct record_head head;
	struct record_body body;
	const struct record_function *functions;
	const struct record_write *writes;
	const struct record_replaced *replaced;
	const uint32_t *bases;
	const struct record_unwinder *unwinders;
	const char *strings;
	bool released; /* unmapped since */
};

struct registry {
	struct arena *arena;
	VEC(struct record *) records; /* by sequence */
};

/** Are all its sizes and offsets ones that a record may have? */
bool record_body_fits(const struct record_body *body);
/** The record at @address, or NULL when there is none; memory of @arena. */
struct record *record_read(struct arena *arena, struct process *process, uint64_t address);
struct error *registry_read(struct process *process, const struct process_space *space,
			    struct registry **ret) MUST_CHECK;
void registry_free(struct registry *registry);
void registry_cleanup(struct registry **registry);
#define _cleanup_registry_ _cleanup_(registry_cleanup)
/** A string of a record; offsets were checked when it was read. */
const char *record_string(const struct record *record, uint32_t offset);
/** In force: entries lead to it, or are about to. */
bool record_is_standing(const struct record *record);
/** The standing record with that name, or NULL. */
struct record *registry_find(const struct registry *registry, const char *name);
uint64_t registry_next_sequence(const struct registry *registry);
/** The standing write that touches [start, end), the latest first; @ret_record: whose. */
const struct record_write *registry_write_at(const struct registry *registry, uint64_t start,
					     uint64_t end, struct record **ret_record);
/** Set a member of the head in the target and in @record: one aligned store. */
struct error *record_store_u32(struct process *process, struct record *record, size_t offset,
			       uint32_t value) MUST_CHECK;
#define record_store(process, record, member, value)                                         \
	({                                                                                   \
		struct error *_e = record_store_u32(                                         \
			(process), (record), offsetof(struct record_head, member), (value)); \
		if (!_e)                                                                     \
			(record)->head.member = (value);                                     \
		_e;                                                                          \
	})
/** Do the record's entries hold what it wrote? */
bool record_intact(struct process *process, const struct registry *registry,
		   const struct record *record);

/** What stands at a write: which of its steps, or RECORD_FOREIGN. */
enum record_standing {
	RECORD_BEFORE,
	RECORD_TRANSIT,
	RECORD_AFTER,
	RECORD_TRANSIT_BACK,
	RECORD_ORIGINAL,
	RECORD_FOREIGN,
};
enum record_standing record_write_standing(const struct record_write *write, const uint8_t *bytes);

/** Tables and strings of a record being made. */
struct record_builder {
	struct record_body body;
	VEC(struct record_function) functions;
	VEC(struct record_write) writes;
	VEC(struct record_replaced) replaced;
	VEC(uint32_t) bases;
	VEC(struct record_unwinder) unwinders;
	struct buffer strings;
};
void record_builder_deinit(struct record_builder *builder);
uint32_t record_builder_string(struct record_builder *builder, const char *string);
/** Bytes that the record will take. */
size_t record_builder_size(const struct record_builder *builder);
/** Write it for @address; @bytes holds record_builder_size() bytes. */
void record_builder_finish(struct record_builder *builder, uint64_t address, uint8_t *bytes);

/* ---- the target's modules (look.c) --------------------------------------------------------- */

struct live_module {
	const struct patch_module *patch_module;
	const struct process_module *module;
	struct image *image;
	struct scope *scope;
};

struct look {
	struct arena *arena;
	struct process *process;
	struct process_space *space;
	struct registry *registry;
	const struct patch *patch; /* NULL for revert */
	VEC(struct live_module) modules;
	VEC(struct detour_plan) detours; /* one per patch function, in its order */
	VEC(struct record *) replaced;   /* taken out by this patch */
};

/** Everything that can be known before anything is changed. */
struct error *look_for_patch(struct process *process, const struct patch *patch,
			     struct look **ret) MUST_CHECK;
void look_free(struct look *look);
void look_cleanup(struct look **look);
#define _cleanup_look_ _cleanup_(look_cleanup)
const struct live_module *look_module(const struct look *look, const struct patch_module *module);

/* ---- detours (detour.c) --------------------------------------------------------------------- */

/** Where the jump of one function goes, and what must be kept of the code below it. */
struct detour_plan {
	const struct patch_function *function;
	const struct live_module *module;
	uint64_t address, size;                /* of the old function in memory */
	uint8_t *bytes;                        /* the old function as its file has it */
	uint64_t jump;                         /* where the jump of jump_size goes */
	uint8_t jump_original[LIVE_WRITE_MAX]; /* what the file has there */
	uint64_t entry;                        /* 0, or where the short jump to it goes */
	uint8_t entry_size;
	uint8_t entry_original[LIVE_WRITE_MAX];
	uint64_t code;  /* first old instruction below the jump (at the entry, not the pad) */
	size_t take;    /* at least so many bytes from there are moved */
	size_t limit;   /* bytes of code from there to the end of the function */
	bool only_nops; /* these need not be moved: old code goes on at code + take */
	/* A standing patch has this function: its jump, and where it leads. */
	struct record *below;
	const struct record_write *below_write;
	uint64_t below_code;
};

/**
 * Plan the detour of @function. Errors: UNSUPPORTED (too short, a branch into its first bytes, an
 * instruction that cannot be moved); each names the function.
 */
struct error *detour_plan_make(struct look *look, const struct live_module *module,
			       const struct patch_function *function,
			       struct detour_plan *ret) MUST_CHECK;

/* ---- names (scope.c) ------------------------------------------------------------------------ */

struct scope;
/** The lookup scope of @module. Everything is read from memory as outside bytes. */
struct error *scope_create(struct process *process, const struct process_space *space,
			   const struct process_module *module, const struct image *image,
			   struct scope **ret) MUST_CHECK;
void scope_free(struct scope *scope);
struct scope_symbol {
	uint64_t address;
	uint64_t size; /* 0: not known */
	bool is_function;
	bool is_constant; /* in memory that the program does not write */
};
/** What @name means to the module. NOT_FOUND, UNSUPPORTED (an ifunc that nothing has resolved). */
struct error *scope_lookup(struct scope *scope, const char *name, const char *version, bool weak,
			   struct scope_symbol *ret) MUST_CHECK;
/** What an ifunc of the module itself resolved to; @address: of its resolver in memory. */
bool scope_ifunc(struct scope *scope, uint64_t resolver, uint64_t *ret);
/** Offset from the thread pointer of byte @offset of the module's own TLS block. */
bool scope_tls_offset(struct scope *scope, uint64_t offset, int64_t *ret);
/** The module's TLS module ID. */
bool scope_tls_module(struct scope *scope, uint64_t *ret);
/** The same of an imported thread-local variable. */
struct error *scope_tls_import(struct scope *scope, const char *name, const char *version,
			       bool *ret_has_offset, int64_t *ret_offset, bool *ret_has_pair,
			       uint64_t ret_pair[2]) MUST_CHECK;
/** Words of the TLS descriptor that the module has for @name or for its own @offset. */
bool scope_tls_descriptor(struct scope *scope, const char *name, uint64_t offset, uint64_t ret[2]);
/** The name by which the module or the program makes contexts of its own, or NULL. */
const char *scope_coroutine_import(struct scope *scope);

/* ---- the patch at its place (link.c) -------------------------------------------------------- */

/** The patch laid out; the sizes do not depend on the place. */
struct linked {
	struct arena *arena;
	const struct look *look;
	struct record_builder record;
	size_t record_room;
	uint64_t base, size;
	uint64_t text_offset, text_size, data_offset, data_size;
	uint8_t *bytes; /* of all three parts */
	uint64_t eh_frame, eh_frame_size;
	uint64_t unwinder_objects; /* address */
	size_t unwinder_count;
	struct {
		const char *name;
		uint64_t register_function, deregister_function;
	} unwinders[LIVE_UNWINDERS_MAX];
	void *state;
};

/** Lay out sections, stubs, slots and the record. */
struct error *link_layout(const struct look *look, struct linked **ret) MUST_CHECK;
/** A place for it now, or an error (UNSUPPORTED: no room within reach). */
struct error *link_find_place(struct linked *linked, const struct process_space *space,
			      uint64_t *ret) MUST_CHECK;
/** Relocate for @base, fill in the record. May be called again for another base. */
struct error *link_at(struct linked *linked, uint64_t base) MUST_CHECK;
void linked_free(struct linked *linked);
void linked_cleanup(struct linked **linked);
#define _cleanup_linked_ _cleanup_(linked_cleanup)

/* ---- a target being worked on (session.c) --------------------------------------- */

struct session {
	struct process *process;
	const struct live_options *options;
	struct live_outcome *outcome;
	const struct registry *registry; /* its patches' code is unwound too */
	const struct record *record;     /* and this one's, which is being staged; or NULL */
	struct process_space *space, *unwind_space;
	struct unwind *unwind;
	struct process_stop *stop;
	bool stopped;
	uint64_t deadline_ns;
	uint64_t stop_started_ns;
};

struct error *session_begin(struct session *session, struct process *process,
			    const struct live_options *options, struct live_outcome *outcome,
			    const struct registry *registry) MUST_CHECK;
void session_end(struct session *session);
/** Stop all; the outcome's gap and count follow. */
struct error *session_stop(struct session *session) MUST_CHECK;
void session_resume(struct session *session);
/** The maps again and, if they have changed, the unwinder. Never in a stop. */
struct error *session_refresh(struct session *session) MUST_CHECK;
/** Stacks, again with fresh maps when a thread is newer than ours. In a stop. */
struct error *session_read_stacks(struct session *session) MUST_CHECK;
/** Tell the unwinder of a patch's code. */
struct error *session_add_code(struct session *session, const struct record *record) MUST_CHECK;

struct named_range {
	uint64_t start, end;
	const char *name;
};
struct range_list {
	VEC(struct named_range) list;
};

/**
 * Wait until no thread is inside @ranges, then return in a stop. BUSY with the blockers in the
 * outcome; everything runs then.
 */
struct error *session_stop_outside(struct session *session,
				   const struct range_list *ranges) MUST_CHECK;

/* ---- in and out (stage.c, transition.c) ------------------------------------------------------ */

struct error *stage(struct session *session, struct linked *linked, struct record **ret) MUST_CHECK;
/** A mapping that a killed stage() left without a record is taken away. */
struct error *stage_intent_recover(struct session *session) MUST_CHECK;
bool stage_intent_exists(const struct process *process);
/** Take the mapping away again; the second one in a stop of the caller's. */
struct error *unmap_in_stop(struct session *session, const struct record *record) MUST_CHECK;
struct error *unstage(struct session *session, struct record *record) MUST_CHECK;

/** Flip in, in a stop that session_stop_outside() made; write phase, then resume. */
struct error *transition_apply(struct session *session, struct registry *registry,
			       struct record *record) MUST_CHECK;
struct error *transition_revert(struct session *session, struct record *record) MUST_CHECK;
/** Finish or take back what was cut off. */
struct error *transition_recover(struct process *process, const struct live_options *options,
				 struct live_outcome *outcome) MUST_CHECK;
/** Break the copy-on-write of what will be written, so that the stop allocates nothing. */
struct error *transition_prefault(struct process *process, const struct record *record) MUST_CHECK;

/** One suture per target. */
struct error *live_lock(struct process *process, uint64_t timeout_ns) MUST_CHECK;
void live_unlock(struct process *process);

/* ---- unwinders (unwinders.c) ----------------------------------------------------------------- */

/** Fill in linked->unwinders. */
struct error *unwinders_find(struct linked *linked, struct process *process,
			     const struct process_space *space) MUST_CHECK;
struct error *unwinders_register(struct session *session, struct record *record) MUST_CHECK;
struct error *unwinders_deregister(struct session *session, struct record *record) MUST_CHECK;
const char *unwinders_describe(struct arena *arena, const struct record *record);

/* ---- memory (memory.c) ------------------------------------------------------------------------ */

/** Unmap a reverted or staged record when nothing points into it; @ret_kept otherwise. */
struct error *memory_release(struct session *session, struct record *record,
			     bool *ret_kept) MUST_CHECK;
/** Try again what earlier calls had to keep. */
void memory_release_kept(struct session *session, struct registry *registry);

/* ---- shared by apply.c and revert.c ----------------------------------------------------------- */

/** The code of a patch, by its functions and as a whole. */
void revert_ranges(const struct record *record, struct range_list *ranges);
/** When the process has died, that is the error. Consumes @error. */
struct error *error_if_gone(const struct process *process, struct error *error) MUST_CHECK;

#endif
