/* SPDX-License-Identifier: MIT */
/* suture apply: stitch a patch into running programs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "cmd/target.h"

static struct {
	struct pid_list pids;
	bool all;
	bool dry_run;
	bool json;
	uint64_t timeout;
	uint64_t canary;
	const char *check;
} options = {
	.timeout = 10000000000,
};

static bool concerns(struct process *process, void *context)
{
	bool maps = false, applied = false;
	_cleanup_error_ struct error *error = live_concerns(process, context, &maps, &applied);
	return !error && maps && !applied;
}

static struct error *act(struct process *process, const struct live_options *live_options,
			 struct live_outcome *outcome, void *context)
{
	return live_apply(process, context, live_options, outcome);
}

static struct error *revert(struct process *process, const struct live_options *live_options,
			    struct live_outcome *outcome, void *context)
{
	const struct patch *patch = context;
	return live_revert(process, patch->name, live_options, outcome);
}

/** Run --check's command. An error (REFUSED) when it says that the canaries are not well. */
static struct error *check_canaries(const char *command)
{
	int status = system(command);
	if (status == -1)
		return error_errno(errno, "cannot run the check '%s'", command);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return NULL;
	return error_new(ERROR_KIND_REFUSED,
			 "the check '%s' failed with %s %d: the canaries were "
			 "reverted and no other process was touched",
			 command, WIFSIGNALED(status) ? "signal" : "status",
			 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

/** The first processes, the check, and the way back when it fails. */
static struct error *apply_canaries(const struct target_action *action,
				    const struct live_options *live_options,
				    struct target_results *results)
{
	if (options.all) {
		TRY(target_act_all(action, live_options, options.canary, results));
	} else {
		for (size_t i = 0; i < options.pids.count && i < options.canary; i++)
			target_act(action, options.pids.items[i], live_options, results);
	}
	struct error *error = target_error(action, results);
	if (!error)
		error = check_canaries(options.check);
	if (!error)
		return NULL;
	struct target_action back = *action;
	back.verb = "revert";
	back.done = "reverted";
	back.already = "not applied";
	back.act = revert;
	struct target_results reverted = {0};
	for (size_t i = 0; i < results->list.count; i++)
		if (!results->list.items[i].error && !results->list.items[i].outcome.already)
			target_act(&back, results->list.items[i].pid, live_options, &reverted);
	target_print(&back, &reverted, options.json);
	target_results_deinit(&reverted);
	return error;
}

static struct error *run(struct command_context *context)
{
	if (options.all == (options.pids.count > 0))
		return error_new(ERROR_KIND_USAGE,
				 "say which processes: either '--pid PID' or '--all'");
	if ((options.canary > 0) != (options.check != NULL))
		return error_new(ERROR_KIND_USAGE,
				 "'--canary N' and '--check COMMAND' go together");

	_cleanup_(patch_cleanup) struct patch *patch = NULL;
	TRY(patch_open(context->operands[0], &patch));
	const struct live_options live_options = {
		.timeout_ns = options.timeout,
		.dry_run = options.dry_run,
		.progress = context->progress,
	};
	const struct target_action action = {
		.verb = "apply",
		.done = options.dry_run ? "can be applied" : "applied",
		.already = "applied already",
		.patch = patch->name,
		.context = patch,
		.concerns = concerns,
		.act = act,
	};
	_cleanup_(target_results_deinit) struct target_results results = {0};
	size_t next = 0;
	if (options.canary > 0 && !options.dry_run) {
		struct error *error = apply_canaries(&action, &live_options, &results);
		if (error) {
			if (!options.json)
				target_print(&action, &results, false);
			return error;
		}
		next = options.canary;
	}
	if (options.all) {
		TRY(target_act_all(&action, &live_options, 0, &results));
	} else {
		for (; next < options.pids.count; next++)
			target_act(&action, options.pids.items[next], &live_options, &results);
	}
	cmd_progress_clear();
	target_print(&action, &results, options.json);
	if (results.list.count == 0)
		return error_new(ERROR_KIND_NOT_FOUND,
				 "no process without the patch maps '%s' with the build ID that "
				 "'%s' is for",
				 patch->modules.items[0].name, patch->name);
	return target_error(&action, &results);
}

const struct command command_apply = {
	.name = "apply",
	.summary = "stitch a patch into running programs",
	.operands = "NAME.sut",
	.operands_min = 1,
	.operands_max = 1,
	.description =
		"Looks at each process, maps the patch into it, and switches its functions at an\n"
		"instant at which no thread is inside one of them. A process that cannot be\n"
		"patched is left as it was, with the reason.\n"
		"\n"
		"  suture apply fix.sut -p 4711\n"
		"  suture apply fix.sut --all --dry-run\n"
		"  suture apply fix.sut --all --canary 1 --check 'redis-cli ping'\n",
	.options =
		(const struct option_row[]){
			OPTION_PIDS(&options.pids, "process to patch; may be given again"),
			OPTION_FLAG("all", 'a', "every process that runs the patch's build",
				    &options.all),
			OPTION_FLAG("dry-run", 'n', "look, say what would be done, change nothing",
				    &options.dry_run),
			OPTION_DURATION("timeout", 't',
					"how long to wait for threads inside the functions (10s)",
					&options.timeout),
			OPTION_U64("canary", 0, "N", "patch N processes first, then run --check",
				   &options.canary),
			OPTION_STRING("check", 0, "COMMAND",
				      "shell command that says whether the canaries are well",
				      &options.check),
			OPTION_JSON(&options.json),
			OPTION_END,
		},
	.run = run,
};
