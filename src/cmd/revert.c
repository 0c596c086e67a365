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

/** The patch's name, and where its file was given the digest that it must have. */
struct wanted {
	const char *name;
	const struct digest *digest; /* NULL: any */
};

static bool concerns(struct process *process, void *context)
{
	const struct wanted *wanted = context;
	_cleanup_live_status_ struct live_status *status = NULL;
	_cleanup_error_ struct error *error = live_status_read(process, &status);
	if (error)
		return false;
	for (size_t i = 0; i < status->patches.count; i++) {
		const struct live_patch *patch = &status->patches.items[i];
		if (string_equal(patch->name, wanted->name) &&
		    (!wanted->digest || digest_equal(&patch->digest, wanted->digest)) &&
		    patch->state != LIVE_STATE_REVERTED)
			return true;
	}
	return false;
}

static struct error *act(struct process *process, const struct live_options *live_options,
			 struct live_outcome *outcome, void *context)
{
	const struct wanted *wanted = context;
	return live_revert(process, wanted->name, live_options, outcome);
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
	// The file is as good as the name that stands in it, and better with --all: another program's
	// patch may have the same name.
	_cleanup_(patch_cleanup) struct patch *patch = NULL;
	struct wanted wanted = {.name = context->operands[0]};
	if (string_ends_with(wanted.name, ".sut")) {
		TRY(patch_open(wanted.name, &patch));
		wanted.name = patch->name;
		wanted.digest = &patch->digest;
	}
	const struct target_action action = {
		.verb = "revert",
		.done = "reverted",
		.already = "not applied",
		.patch = wanted.name,
		.context = &wanted,
		.concerns = concerns,
		.act = act,
	};
	_cleanup_(target_results_deinit) struct target_results results = {0};
	if (options.all) {
		TRY(target_act_all(&action, &live_options, 0, &results));
	} else {
		for (size_t i = 0; i < options.pids.count; i++)
			target_act(&action, options.pids.items[i], &live_options, &results);
	}
	cmd_progress_clear();
	target_print(&action, &results, options.json);
	if (results.list.count == 0)
		return error_new(ERROR_KIND_NOT_FOUND,
				 "no process runs a patch named '%s'; see "
				 "'suture status'",
				 wanted.name);
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
		"its file (NAME.sut) will do as well but is not needed; with --all it tells the\n"
		"patch from others of that name.\n"
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
