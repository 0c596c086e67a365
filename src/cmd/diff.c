// SPDX-License-Identifier: MIT
// suture diff: what changed between two object files, function by function.
#include <inttypes.h>

#include "cmd/command.h"
#include "diff/diff.h"

static struct {
	const char *output;
	struct string_list accepted;
	bool json;
} options;

static void print_instruction(FILE *file, char sign, uint64_t offset, const char *text)
{
	fprintf(file, "    %c 0x%" PRIx64 ": ", sign, offset);
	print_escaped(file, text);
	fputc('\n', file);
}

static void print_function(FILE *file, const struct diff_function *function)
{
	fprintf(file, "%-8s", diff_verdict_word(function->verdict));
	print_escaped(file, function->name);
	if (function->verdict == DIFF_CHANGED) {
		fprintf(file, ": ");
		print_escaped(file, function->reason);
		if (!string_equal(function->name, function->old_symbol->name)) {
			fprintf(file, "; was ");
			print_escaped(file, function->old_symbol->name);
		}
	}
	fputc('\n', file);
	if (function->old_text)
		print_instruction(file, '-', function->old_offset, function->old_text);
	if (function->new_text)
		print_instruction(file, '+', function->new_offset, function->new_text);
}

static void print_diff(FILE *file, const struct diff *diff, bool verbose)
{
	size_t counts[DIFF_REMOVED + 1] = { 0 };
	for (size_t i = 0; i < diff->functions.count; i++) {
		const struct diff_function *function = &diff->functions.items[i];
		counts[function->verdict]++;
		if (function->verdict != DIFF_SAME)
			print_function(file, function);
	}
	print_findings(file, &diff->findings, verbose);
	fprintf(file, "%zu changed, %zu new, %zu removed, %zu same\n", counts[DIFF_CHANGED],
		counts[DIFF_NEW], counts[DIFF_REMOVED], counts[DIFF_SAME]);
}

static struct error *run(struct command_context *context)
{
	_cleanup_object_ struct object *old_object = NULL;
	_cleanup_object_ struct object *new_object = NULL;
	_cleanup_diff_ struct diff *diff = NULL;
	const struct diff_options diff_options = {
		.accepted = options.accepted.items,
		.accepted_count = options.accepted.count,
	};
	TRY(object_open(context->operands[0], &old_object));
	TRY(object_open(context->operands[1], &new_object));
	TRY(diff_objects(old_object, new_object, &diff_options, &diff));
	// What is accepted must be there; the differ itself may be one of several.
	for (size_t i = 0; i < options.accepted.count; i++)
		TRY(findings_accept(&diff->findings, options.accepted.items[i]));

	if (options.json) {
		struct json json;
		json_init(&json, cmd_output());
		diff_json(diff, &json);
		json_finish(&json);
	} else {
		print_diff(cmd_output(), diff, context->verbose);
	}
	context->exit_status = diff->changed ? 1 : 0;
	if (!options.output)
		return NULL;
	if (findings_refuse(&diff->findings))
		return error_new(ERROR_KIND_REFUSED, "\"%s\" is not written: findings refuse it",
				 options.output);
	if (!diff->output) {
		cmd_say(context, "\"%s\" is not written: there is no new code", options.output);
		return NULL;
	}
	return object_write_file(diff->output, options.output);
}

const struct command command_diff = {
	.name = "diff",
	.summary = "compare two object files function by function",
	.operands = "OLD.o NEW.o",
	.operands_min = 2,
	.operands_max = 2,
	.description =
		"Prints which functions changed, and of each the first difference; what a patch of\n"
		"a running program has to mind (changed data, removed static variables, ...) is\n"
		"printed as findings. Exit status: 0 the objects are equal, 1 they differ, more for\n"
		"trouble. Debug information is not compared.\n"
		"\n"
		"Objects compiled with -ffunction-sections -fdata-sections give the best result.\n"
		"\n"
		"  suture diff old/server.o new/server.o\n"
		"  suture diff old/server.o new/server.o -o changed.o\n",
	.options =
		(const struct option_row[]){
			OPTION_STRING("output", 'o', "FILE",
				      "write the changed code and what it needs to FILE",
				      &options.output),
			OPTION_STRINGS("accept", 0, "KIND:SUBJECT",
				       "take a finding as intended; may be given again",
				       &options.accepted),
			OPTION_JSON(&options.json),
			OPTION_END,
		},
	.run = run,
};
