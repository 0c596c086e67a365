/* SPDX-License-Identifier: MIT */
/* Processes that a command acts on: see target.h. */
#include <pwd.h>
#include <stdlib.h>
#include <syslog.h>
#include <unistd.h>

#include "cmd/target.h"

void target_results_deinit(struct target_results *results)
{
	for (size_t i = 0; i < results->list.count; i++) {
		struct target_result *result = &results->list.items[i];
		free(result->name);
		error_free(result->error);
		live_outcome_deinit(&result->outcome);
	}
	vec_deinit(&results->list);
}

/** Who, what, which process, outcome: an operator's record of what was done to a program. */
static void journal(const struct target_action *action, const struct target_result *result)
{
	const struct passwd *user = getpwuid(getuid());
	const char *login = getenv("SUDO_USER");
	openlog("suture", LOG_PID, LOG_AUTHPRIV);
	if (result->error)
		syslog(LOG_WARNING, "%s of patch '%s' to pid %d (%s) by %s%s%s failed: %s",
		       action->verb, action->patch, result->pid, result->name,
		       user ? user->pw_name : "?", login ? " for " : "", login ? login : "",
		       result->error->message);
	else
		syslog(LOG_NOTICE, "%s of patch '%s' to pid %d (%s) by %s%s%s: %s", action->verb,
		       action->patch, result->pid, result->name, user ? user->pw_name : "?",
		       login ? " for " : "", login ? login : "",
		       result->outcome.already ? action->already : action->done);
	closelog();
}

static void act(const struct target_action *action, struct process *process, pid_t pid,
		struct error *open_error, const struct live_options *options,
		struct target_results *results)
{
	struct target_result result = {.pid = pid, .error = open_error};
	if (process) {
		result.namespace_pid = process->namespace_pid;
		result.start_time = process->start_time;
		result.name = xstrdup(process->name);
		result.error = action->act(process, options, &result.outcome, action->context);
	} else {
		result.name = xstrdup("?");
	}
	if (!options->dry_run)
		journal(action, &result);
	vec_push(&results->list, result);
}

void target_act(const struct target_action *action, pid_t pid, const struct live_options *options,
		struct target_results *results)
{
	_cleanup_process_ struct process *process = NULL;
	struct error *error = process_open(pid, &process);
	act(action, process, pid, error, options, results);
}

static bool is_known(const struct target_results *results, const struct process *process)
{
	for (size_t i = 0; i < results->list.count; i++)
		if (results->list.items[i].pid == process->pid &&
		    results->list.items[i].start_time == process->start_time)
			return true;
	return false;
}

struct error *target_act_all(const struct target_action *action, const struct live_options *options,
			     size_t limit, struct target_results *results)
{
	for (;;) {
		_cleanup_free_ pid_t *pids = NULL;
		size_t count, before = results->list.count;
		TRY(process_list(&pids, &count));
		for (size_t i = 0; i < count && (!limit || results->list.count < limit); i++) {
			_cleanup_process_ struct process *process = NULL;
			_cleanup_error_ struct error *error = process_open(pids[i], &process);
			// Gone, a kernel thread, another CPU: nothing that --all means. A process
			// that we may not open is not known to run the module either.
			if (error || is_known(results, process) ||
			    !action->concerns(process, action->context))
				continue;
			act(action, process, pids[i], NULL, options, results);
		}
		// Processes born while the pass ran are met by the next one.
		if (results->list.count == before || (limit && results->list.count >= limit))
			return NULL;
	}
}

/* ---- printing ----------------------------------------------------------------------------- */

static double milliseconds(uint64_t nanoseconds)
{
	return (double)nanoseconds / 1e6;
}

static void print_frames(const struct live_blocker *blocker)
{
	for (size_t i = 0; i < blocker->frames.count; i++) {
		const struct unwind_frame *frame = &blocker->frames.items[i];
		printf("      #%-2zu ", i);
		if (frame->function)
			print_escaped(stdout, frame->function);
		else
			printf("%#lx", (unsigned long)frame->pc);
		if (frame->function || frame->module)
			printf("+%#lx", (unsigned long)frame->offset);
		if (frame->module) {
			printf(" in ");
			print_escaped(stdout, frame->module);
		}
		putchar('\n');
	}
}

static void print_result(const struct target_action *action, const struct target_result *result)
{
	const struct live_outcome *outcome = &result->outcome;
	printf("%d ", result->pid);
	if (result->namespace_pid && result->namespace_pid != result->pid)
		printf("[%d] ", result->namespace_pid);
	putchar('(');
	print_escaped(stdout, result->name);
	printf("): ");
	if (result->error) {
		printf("%s: ", error_kind_word(result->error->kind));
		print_escaped(stdout, result->error->message);
		putchar('\n');
	} else if (outcome->already) {
		printf("%s\n", action->already);
	} else {
		printf("%s, %zu function%s, %u thread%s, longest stop %.2f ms, %.1f ms in all",
		       action->done, outcome->functions, outcome->functions == 1 ? "" : "s",
		       outcome->threads, outcome->threads == 1 ? "" : "s",
		       milliseconds(outcome->gap_ns), milliseconds(outcome->total_ns));
		if (outcome->stops > 1)
			printf(", %u tries", outcome->stops);
		if (outcome->memory_kept)
			printf(", its memory is kept: something points into it still");
		if (outcome->recovered)
			printf(", an operation that was cut off was completed first");
		putchar('\n');
	}
	for (size_t i = 0; i < outcome->blockers.count; i++) {
		const struct live_blocker *blocker = &outcome->blockers.items[i];
		printf("    thread %d (", blocker->tid);
		print_escaped(stdout, blocker->name);
		printf(") %s '", blocker->reason);
		print_escaped(stdout, blocker->function);
		printf("'\n");
		print_frames(blocker);
	}
}

static void json_blockers(const struct live_outcome *outcome, struct json *json)
{
	json_key(json, "blockers");
	json_array_begin(json);
	for (size_t i = 0; i < outcome->blockers.count; i++) {
		const struct live_blocker *blocker = &outcome->blockers.items[i];
		json_object_begin(json);
		json_key_u64(json, "tid", (uint64_t)blocker->tid);
		json_key_string(json, "name", blocker->name);
		json_key_string(json, "function", blocker->function);
		json_key_string(json, "reason", blocker->reason);
		json_key(json, "frames");
		json_array_begin(json);
		for (size_t f = 0; f < blocker->frames.count; f++) {
			const struct unwind_frame *frame = &blocker->frames.items[f];
			json_object_begin(json);
			json_key_address(json, "pc", frame->pc);
			json_key_string(json, "module", frame->module);
			json_key_string(json, "function", frame->function);
			json_key_u64(json, "offset", frame->offset);
			json_object_end(json);
		}
		json_array_end(json);
		json_object_end(json);
	}
	json_array_end(json);
}

static void json_result(const struct target_result *result, struct json *json)
{
	const struct live_outcome *outcome = &result->outcome;
	json_object_begin(json);
	json_key_u64(json, "pid", (uint64_t)result->pid);
	json_key_u64(json, "namespace_pid", (uint64_t)result->namespace_pid);
	json_key_string(json, "name", result->name);
	json_key_bool(json, "done", !result->error);
	json_key_bool(json, "already", outcome->already);
	json_key_string(json, "error", result->error ? error_kind_word(result->error->kind) : NULL);
	json_key_string(json, "message", result->error ? result->error->message : NULL);
	json_key_u64(json, "functions", outcome->functions);
	json_key_u64(json, "threads", outcome->threads);
	json_key_u64(json, "stops", outcome->stops);
	json_key_u64(json, "gap_ns", outcome->gap_ns);
	json_key_u64(json, "total_ns", outcome->total_ns);
	json_key_u64(json, "mapped_bytes", outcome->mapped_bytes);
	json_key_bool(json, "memory_kept", outcome->memory_kept);
	json_key_bool(json, "recovered", outcome->recovered);
	json_key_string(json, "unwinders", outcome->unwinders);
	json_blockers(outcome, json);
	json_object_end(json);
}

void target_print(const struct target_action *action, const struct target_results *results,
		  bool json)
{
	if (!json) {
		for (size_t i = 0; i < results->list.count; i++)
			print_result(action, &results->list.items[i]);
		return;
	}
	struct json writer;
	json_init(&writer, stdout);
	json_object_begin(&writer);
	json_key_string(&writer, "schema", "suture-target-1");
	json_key_string(&writer, "action", action->verb);
	json_key_string(&writer, "patch", action->patch);
	json_key(&writer, "processes");
	json_array_begin(&writer);
	for (size_t i = 0; i < results->list.count; i++)
		json_result(&results->list.items[i], &writer);
	json_array_end(&writer);
	json_object_end(&writer);
	json_finish(&writer);
}

struct error *target_error(const struct target_action *action, const struct target_results *results)
{
	size_t failed = 0;
	const struct error *first = NULL;
	for (size_t i = 0; i < results->list.count; i++) {
		if (!results->list.items[i].error)
			continue;
		failed++;
		if (!first)
			first = results->list.items[i].error;
	}
	if (!failed)
		return NULL;
	if (failed < results->list.count)
		return error_new(ERROR_KIND_PARTIAL, "%s of '%s': done for %zu of %zu processes",
				 action->verb, action->patch, results->list.count - failed,
				 results->list.count);
	if (failed == 1)
		return error_new(first->kind, "%s of '%s' to process %d failed", action->verb,
				 action->patch, results->list.items[0].pid);
	return error_new(first->kind, "%s of '%s' failed for all %zu processes", action->verb,
			 action->patch, failed);
}
