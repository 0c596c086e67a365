/* SPDX-License-Identifier: MIT */
/* suture status: which patches run in which processes. */
#include <stdlib.h>
#include <time.h>

#include "cmd/command.h"
#include "live/live.h"

static struct {
	struct pid_list pids;
	bool json;
} options;

static void print_patch(const struct live_patch *patch)
{
	char when[32] = "?", digest[33];
	time_t seconds = (time_t)patch->applied_at;
	struct tm tm;
	if (localtime_r(&seconds, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &tm);
	hex_format(patch->digest.bytes, sizeof(patch->digest.bytes), digest);
	printf("  ");
	print_escaped(stdout, patch->name);
	printf(": %s since %s, digest %.12s, %zu function%s, %lu KiB at %#lx%s\n",
	       live_state_word(patch->state), when, digest, patch->function_count,
	       patch->function_count == 1 ? "" : "s", (unsigned long)patch->size / 1024,
	       (unsigned long)patch->base,
	       patch->intact ? "" : "; BYPASSED: another tool has written over an entry");
	printf("    unwind data: %s\n", patch->unwinders);
	for (size_t i = 0; i < patch->function_count; i++) {
		printf("    ");
		print_escaped(stdout, patch->functions[i].name);
		printf(" in ");
		print_escaped(stdout, patch->functions[i].module);
		printf(": %#lx -> %#lx\n", (unsigned long)patch->functions[i].old_address,
		       (unsigned long)patch->functions[i].new_address);
	}
}

static void json_patch(const struct live_patch *patch, struct json *json)
{
	char digest[33];
	hex_format(patch->digest.bytes, sizeof(patch->digest.bytes), digest);
	json_object_begin(json);
	json_key_string(json, "name", patch->name);
	json_key_string(json, "state", live_state_word(patch->state));
	json_key_string(json, "digest", digest);
	json_key_u64(json, "applied_at", patch->applied_at);
	json_key_string(json, "tool_version", patch->tool_version);
	json_key_address(json, "base", patch->base);
	json_key_u64(json, "size", patch->size);
	json_key_bool(json, "intact", patch->intact);
	json_key_string(json, "unwinders", patch->unwinders);
	json_key(json, "functions");
	json_array_begin(json);
	for (size_t i = 0; i < patch->function_count; i++) {
		json_object_begin(json);
		json_key_string(json, "name", patch->functions[i].name);
		json_key_string(json, "module", patch->functions[i].module);
		json_key_address(json, "old_address", patch->functions[i].old_address);
		json_key_u64(json, "old_size", patch->functions[i].old_size);
		json_key_address(json, "new_address", patch->functions[i].new_address);
		json_key_u64(json, "new_size", patch->functions[i].new_size);
		json_object_end(json);
	}
	json_array_end(json);
	json_object_end(json);
}

/** Print one process. @ret_patched: a registry is there. */
static void report(const struct process *process, const struct live_status *status,
		   struct json *json)
{
	if (!json) {
		printf("%d (", process->pid);
		print_escaped(stdout, process->name);
		printf("): %zu patch%s, %lu KiB mapped", status->patches.count,
		       status->patches.count == 1 ? "" : "es",
		       (unsigned long)status->mapped_bytes / 1024);
		if (status->kept_bytes)
			printf(", %lu KiB of them kept for reverted patches that something points "
			       "into",
			       (unsigned long)status->kept_bytes / 1024);
		putchar('\n');
		for (size_t i = 0; i < status->patches.count; i++)
			print_patch(&status->patches.items[i]);
		return;
	}
	json_object_begin(json);
	json_key_u64(json, "pid", (uint64_t)process->pid);
	json_key_u64(json, "namespace_pid", (uint64_t)process->namespace_pid);
	json_key_string(json, "name", process->name);
	json_key_u64(json, "mapped_bytes", status->mapped_bytes);
	json_key_u64(json, "kept_bytes", status->kept_bytes);
	json_key(json, "patches");
	json_array_begin(json);
	for (size_t i = 0; i < status->patches.count; i++)
		json_patch(&status->patches.items[i], json);
	json_array_end(json);
	json_object_end(json);
}

static struct error *report_pid(pid_t pid, bool only_patched, struct json *json, size_t *count)
{
	_cleanup_process_ struct process *process = NULL;
	_cleanup_live_status_ struct live_status *status = NULL;
	TRY(process_open(pid, &process));
	TRY(live_status_read(process, &status));
	if (only_patched && !status->registry_address)
		return NULL;
	report(process, status, json);
	(*count)++;
	return NULL;
}

static struct error *run(struct command_context *context)
{
	struct json json;
	struct json *writer = options.json ? &json : NULL;
	if (writer) {
		json_init(writer, stdout);
		json_object_begin(writer);
		json_key_string(writer, "schema", "suture-status-1");
		json_key(writer, "processes");
		json_array_begin(writer);
	}
	size_t count = 0;
	struct error *error = NULL;
	if (options.pids.count > 0) {
		for (size_t i = 0; i < options.pids.count && !error; i++)
			error = report_pid(options.pids.items[i], false, writer, &count);
	} else {
		_cleanup_free_ pid_t *pids = NULL;
		size_t pid_count = 0;
		error = process_list(&pids, &pid_count);
		for (size_t i = 0; i < pid_count && !error; i++) {
			// Processes that end meanwhile, kernel threads, those of others.
			_cleanup_error_ struct error *skipped =
				report_pid(pids[i], true, writer, &count);
			if (skipped)
				cmd_say_verbose(context, "%s", skipped->message);
		}
		if (!error && count == 0 && !writer)
			cmd_say(context, "no process that can be read runs a patch");
	}
	if (writer) {
		json_array_end(writer);
		json_object_end(writer);
		json_finish(writer);
	}
	return error;
}

const struct command command_status = {
	.name = "status",
	.summary = "show the patches that run in processes",
	.operands_max = 0,
	.description =
		"Reads the registry in each target's own memory; there is no daemon and no state\n"
		"file. Without --pid every process is looked at and the patched ones are shown.\n"
		"\n"
		"  suture status\n"
		"  suture status -p 4711 --json\n",
	.options =
		(const struct option_row[]){
			OPTION_PIDS(&options.pids, "process to look at; may be given again"),
			OPTION_JSON(&options.json),
			OPTION_END,
		},
	.run = run,
};
