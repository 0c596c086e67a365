/* SPDX-License-Identifier: MIT */
/* suture revert: take a patch out again. */
#include <string.h>

#include "cmd/target.h"

static struct {
	struct pid_list pids;
	bool all;
	bool json;
	uint64_t timeout;
} options = {
	.timeout = 10000000000,
};

static bool concerns(struct process *process, void *context)
{
	_cleanup_live_status_ struct live_status *status = NULL;
	_cleanup_error_ struct error *error = live_status_read(process, &status);
	if (error)
		return false;
	for (size_t i = 0; i < status->patches.count; i++)
		if (string_equal(status->patches.items[i].name, context) &&
		    status->patches.items[i].state != LIVE_STATE_REVERTED)
			return true;
	return false;
}

static struct error *act(struct process *process, const struct live_options *live_options,
			 struct live_outcome *outcome, void *context)
{
	return live_revert(process, context, live_options, outcome);
}

static struct error *run(struct command_context *context)
{
	if (options.all == (options.pids.count > 0))
		return error_new(ERROR_KIND_USAGE,
				 "say which processes: either '--pid PID' or '--all'");
	const struct live_options live_options = {
		.timeout_ns = options.timeout,
		.progress = context->progress,
	};
	// The file is as good as the name that stands in it.
	_cleanup_(patch_cleanup) struct patch *patch = NULL;
	const char *name = context->operands[0];
	if (string_ends_with(name, ".sut")) {
		TRY(patch_open(name, &patch));
		name = patch->name;
	}
	const struct target_action action = {
		.verb = "revert",
		.done = "reverted",
		.already = "not applied",
		.patch = name,
		.context = (void *)name,
		.concerns = concerns,
		.act = act,
	};
	_cleanup_(target_results_deinit) struct target_results results = { 0 };
	if (options.all) {
		TRY(target_act_all(&action, &live_options, 0, &results));
	} else {
		for (size_t i = 0; i < options.pids.count; i++)
			target_act(&action, options.pids.items[i], &live_options, &results);
	}
	cmd_progress_clear();
	target_print(&action, &results, options.json);
	if (results.list.count == 0)
		return error_new(ERROR_KIND_NOT_FOUND, "no process runs a patch named '%s'; see "
						       "'suture status'",
				 name);
	return target_error(&action, &results);
}

const struct command command_revert = {
	.name = "revert",
	.summary = "take a patch out of running programs",
	.operands = "NAME",
	.operands_min = 1,
	.operands_max = 1,
	.description =
		"Puts the functions' entries back, byte for byte, at an instant at which no thread\n"
		"is inside the patch's code. NAME is the patch's name as 'suture status' prints it;\n"
		"its file (NAME.sut) will do as well but is not needed.\n"
		"\n"
		"  suture revert fix -p 4711\n"
		"  suture revert fix --all\n",
	.options =
		(const struct option_row[]){
			OPTION_PIDS(&options.pids, "process to act on; may be given again"),
			OPTION_FLAG("all", 'a', "every process that runs the patch", &options.all),
			OPTION_DURATION("timeout", 't',
					"how long to wait for threads inside the patch (10s)",
					&options.timeout),
			OPTION_JSON(&options.json),
			OPTION_END,
		},
	.run = run,
};
