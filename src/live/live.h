/* SPDX-License-Identifier: MIT */
/*
 * live: patches in running programs. Look, stage, transition, record; revert; the registry in the
 * target's own memory.
 *
 * Nothing here knows how a patch was built. Invariants (DESIGN): the target never crashes and never
 * runs a mix of old and new; nothing is left in it that needs suture alive; a refused patch changes
 * nothing; after revert the text is byte for byte what it was; no page is writable and executable.
 */
#ifndef SUTURE_LIVE_H
#define SUTURE_LIVE_H

#include "base/base.h"
#include "patch/patch.h"
#include "process/process.h"
#include "unwind/unwind.h"

/** State of one patch in one process; words for status and JSON. */
#define LIVE_STATES(X)                                                                        \
	X(STAGED, "staged")       /* mapped and linked, no function entry changed */           \
	X(SWITCHING, "switching") /* entries lead to stubs; old code runs until the word is set */ \
	X(APPLIED, "applied")                                                                 \
	X(REVERTING, "reverting") /* entries are being put back; old code runs */             \
	X(REVERTED, "reverted")   /* entries are the old bytes; memory is kept while it is in use */

enum live_state {
#define X(name, word) LIVE_STATE_##name,
	LIVE_STATES(X)
#undef X
};
const char *live_state_word(enum live_state state);

struct live_options {
	uint64_t timeout_ns;    /* for threads inside replaced functions; 0: one try */
	uint64_t stop_bound_ns; /* 0: the default */
	bool dry_run;           /* look only */
	const struct progress *progress;
};

/** A thread that stood in the way, at the last try. */
struct live_blocker {
	pid_t tid;
	const char *name;      /* comm */
	const char *function;  /* of the patch that it is inside */
	const char *reason;    /* "is inside", or why its stack could not be read */
	VEC(struct unwind_frame) frames;
};

/** What was done, also when an error came back. Zero-initialised; live_outcome_deinit(). */
struct live_outcome {
	struct arena *arena;
	uint64_t gap_ns;       /* longest single stop of the target */
	uint64_t total_ns;
	unsigned stops;        /* tries */
	unsigned threads;
	size_t functions;
	size_t mapped_bytes;
	bool already;          /* it was so before: nothing done */
	bool recovered;        /* a patch that was cut off half way was finished or taken back first */
	const char *unwinders; /* "libgcc_s.so.1", "none loaded": where unwind data is registered */
	bool memory_kept;      /* revert: something points into the patch still */
	VEC(struct live_blocker) blockers;
};
void live_outcome_deinit(struct live_outcome *outcome);

/**
 * Does the process map a module of this patch (by build ID)? @ret_applied: and runs the patch.
 * Used for --all.
 */
struct error *live_concerns(struct process *process, const struct patch *patch, bool *ret_maps,
			    bool *ret_applied) MUST_CHECK;

/**
 * Apply. Errors: MISMATCH (old functions differ in memory; says by what: foreign jump, uprobe),
 * NOT_FOUND (module not mapped; a symbol that nothing defines), CONFLICT (a function that another
 * patch replaced; another tracer), BUSY (blockers are in @outcome), UNSUPPORTED (no room, no gadget,
 * coroutines), PERMISSION, SYSTEM. The target is untouched after any error.
 */
struct error *live_apply(struct process *process, const struct patch *patch,
			 const struct live_options *options, struct live_outcome *outcome) MUST_CHECK;
/** Take a patch out by its name. NOT_FOUND, CONFLICT (a later patch stands on it), BUSY, MISMATCH. */
struct error *live_revert(struct process *process, const char *name,
			  const struct live_options *options,
			  struct live_outcome *outcome) MUST_CHECK;

/** A patch as the registry in the target's memory tells it. */
struct live_patch {
	const char *name;
	struct digest digest;
	enum live_state state;
	uint64_t applied_at; /* CLOCK_REALTIME, seconds */
	uint64_t base, size; /* of its memory */
	const char *tool_version;
	struct {
		const char *name;
		const char *module;
		uint64_t old_address, old_size, new_address, new_size;
	} *functions;
	size_t function_count;
	const char *unwinders;
	bool intact; /* its entries hold what it wrote; else "bypassed" by somebody else's write */
};

struct live_status {
	struct arena *arena;
	VEC(struct live_patch) patches; /* in order of application */
	uint64_t registry_address;      /* 0: none */
	size_t mapped_bytes;            /* all that suture has mapped there */
	size_t kept_bytes;              /* of reverted patches that something points into still */
};
/** Read the registry: outside bytes. No patches is no error. Takes no stop. */
struct error *live_status_read(struct process *process, struct live_status **ret) MUST_CHECK;
void live_status_free(struct live_status *status);
void live_status_cleanup(struct live_status **status);
#define _cleanup_live_status_ _cleanup_(live_status_cleanup)

#endif
