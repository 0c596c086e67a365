/* SPDX-License-Identifier: MIT */
/*
 * What apply and revert share: which processes, one line for each, the journal, the exit status.
 */
#ifndef SUTURE_CMD_TARGET_H
#define SUTURE_CMD_TARGET_H

#include "cmd/command.h"
#include "live/live.h"

/** What to do with one process after another. */
struct target_action {
	const char *verb;    /* "apply", "revert": for the journal and JSON */
	const char *done;    /* "applied" */
	const char *already; /* "applied already" */
	const char *patch;   /* its name */
	void *context;
	/** Does --all mean this process? It may be gone by now: then false. */
	bool (*concerns)(struct process *process, void *context);
	struct error *(*act)(struct process *process, const struct live_options *options,
			     struct live_outcome *outcome, void *context);
};

/** One process and what came of it. */
struct target_result {
	pid_t pid, namespace_pid;
	uint64_t start_time;
	char *name;
	struct error *error; /* NULL: done */
	struct live_outcome outcome;
};

struct target_results {
	VEC(struct target_result) list;
};
void target_results_deinit(struct target_results *results);

/** Do it to one process and add its result. */
void target_act(const struct target_action *action, pid_t pid, const struct live_options *options,
		struct target_results *results);
/**
 * Do it to every process that it concerns, parents before children, until a pass over all processes
 * finds no new one; at most @limit of them (0: all).
 */
struct error *target_act_all(const struct target_action *action, const struct live_options *options,
			     size_t limit, struct target_results *results) MUST_CHECK;

/** A line per process, with backtraces of who stood in the way; or the JSON document. */
void target_print(const struct target_action *action, const struct target_results *results,
		  bool json);
/**
 * The error that the command ends with, whose text target_print() has not printed: NULL when all is
 * done, the one error there is, or PARTIAL.
 */
struct error *target_error(const struct target_action *action,
			   const struct target_results *results) MUST_CHECK;

#endif
