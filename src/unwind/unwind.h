/* SPDX-License-Identifier: MIT */
/*
 * unwind: the frames of a stopped thread, and the question "may this thread still run that code?".
 *
 * The answer is cheap for most threads: if no register and no word w of the stack satisfies
 * start < w <= end for a part of the code, the thread is outside, with no unwinding at all (a return
 * address behind a call to a noreturn function equals the end). Only a hit is unwound exactly, by
 * the CFI of the module that the pc lies in. What cannot be read or unwound whole counts as inside.
 *
 * All CFI is read by unwind_create() and all files are opened by unwind_prepare(), before the stop.
 * Nothing here knows patches: their code is one more range with CFI.
 */
#ifndef SUTURE_UNWIND_H
#define SUTURE_UNWIND_H

#include "image/image.h"
#include "process/process.h"

struct unwind;

/**
 * CFI for every module of @space, from the target's memory. Verdicts and frames need no more than
 * this; names need unwind_prepare().
 */
struct error *unwind_create(struct process *process, const struct process_space *space,
			    struct unwind **ret) MUST_CHECK;
/**
 * Names: opens the file of every module, through /proc/PID/map_files. Some milliseconds each, so not
 * in a stop; who needs names only when a thread is in the way calls it between two stops.
 */
void unwind_prepare(struct unwind *unwind);
/**
 * Code outside all modules (a patch): its range, its .eh_frame as bytes for the address where it
 * stands, a name for frames. Copied.
 */
struct error *unwind_code_add(struct unwind *unwind, const char *name, uint64_t start, uint64_t end,
			      const void *eh_frame, size_t eh_frame_size,
			      uint64_t eh_frame_address) MUST_CHECK;
/** A name for [start, end) in backtraces: function symbols of a patch. Copied. */
void unwind_name_add(struct unwind *unwind, uint64_t start, uint64_t end, const char *name);
void unwind_free(struct unwind *unwind);
void unwind_cleanup(struct unwind **unwind);
#define _cleanup_unwind_ _cleanup_(unwind_cleanup)

struct unwind_frame {
	uint64_t pc;
	uint64_t cfa;
	bool exact;       /* pc is the next instruction itself (innermost, signal frame), not a return */
	const char *module;   /* basename, or the name given to unwind_code_add(); NULL: unknown */
	const char *function; /* NULL: unknown */
	uint64_t offset;      /* from the function's, else the module's, start */
};

struct unwind_trace {
	VEC(struct unwind_frame) frames; /* innermost first */
	bool complete;                   /* reached the outermost frame as CFI says it */
	const char *reason;              /* why not complete: static text */
};
void unwind_trace_deinit(struct unwind_trace *trace);

/** The frames of one stopped thread whose stack was read. */
void unwind_thread(struct unwind *unwind, const struct process_thread *thread,
		   struct unwind_trace *ret);

struct unwind_range {
	uint64_t start, end;
};

enum unwind_verdict {
	UNWIND_OUTSIDE,
	UNWIND_INSIDE,  /* a frame lies in a range */
	UNWIND_UNKNOWN, /* a word points into a range and the stack could not be unwound whole */
};

/**
 * May the thread still run code of @ranges? @ret_trace (may be NULL) gets the frames when a word was
 * hit. @forbid_pc: also the pc itself at start counts (text about to be written).
 */
enum unwind_verdict unwind_thread_may_run(struct unwind *unwind, const struct process_thread *thread,
					  const struct unwind_range *ranges, size_t count,
					  bool forbid_pc, struct unwind_trace *ret_trace);

/** Does any frame lie in [start, end)? For "no thread has a frame in libgcc". */
bool unwind_trace_touches(const struct unwind_trace *trace, uint64_t start, uint64_t end);

#endif
