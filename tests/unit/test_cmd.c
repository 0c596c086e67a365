// SPDX-License-Identifier: MIT
// cmd: the command line, times, near names.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "cmd/command.h"

static struct {
	bool json;
	bool all;
	const char *output;
	uint64_t count;
	uint64_t timeout;
	struct string_list accepted;
	struct pid_list pids;
} options;

static const struct option_row rows[] = {
	OPTION_JSON(&options.json),
	OPTION_FLAG("all", 'a', "all of them", &options.all),
	OPTION_STRING("output", 'o', "FILE", "write it there", &options.output),
	OPTION_U64("count", 'n', "N", "so many", &options.count),
	OPTION_DURATION("timeout", 't', "wait so long", &options.timeout),
	OPTION_STRINGS("accept", 0, "KIND:SUBJECT", "take it", &options.accepted),
	OPTION_PIDS(&options.pids, "a process"),
	OPTION_END,
};

static const struct command command = {
	.name = "test",
	.summary = "test it",
	.operands = "A [B]",
	.operands_min = 1,
	.operands_max = 2,
	.after_dashes = "BUILD COMMAND...",
	.options = rows,
};
static const struct command command_without_dashes = {
	.name = "plain",
	.summary = "test it",
	.operands = "A...",
	.operands_min = 0,
	.operands_max = OPERANDS_MANY,
};

// The words of a command line, which parsing moves about.
static char *words[16];

static struct error *parse(struct command_context *context, const struct command *of,
			   const char *const *line)
{
	int count = 0;
	for (; line[count]; count++)
		words[count] = (char *)line[count];
	words[count] = NULL;
	*context = (struct command_context){.command = of};
	global_values = (struct global_values){0};
	return options_parse(context, count, words);
}

#define PARSE(context, of, ...) parse((context), (of), (const char *const[]){__VA_ARGS__, NULL})

static int reset(void **state)
{
	(void)state;
	vec_deinit(&options.accepted);
	vec_deinit(&options.pids);
	memset(&options, 0, sizeof(options));
	return 0;
}

static void options_and_operands_come_in_any_order(void **state)
{
	(void)state;
	struct command_context context;
	assert_null(
		PARSE(&context, &command, "one", "--json", "--output=x", "two", "--count", "7"));
	assert_true(options.json);
	assert_false(options.all);
	assert_string_equal(options.output, "x");
	assert_int_equal(options.count, 7);
	assert_int_equal(context.operand_count, 2);
	assert_string_equal(context.operands[0], "one");
	assert_string_equal(context.operands[1], "two");
	assert_null(context.operands[2]);
	assert_int_equal(context.after_dashes_count, 0);
	assert_null(context.after_dashes[0]);
}

static void short_options_join(void **state)
{
	(void)state;
	struct command_context context;
	assert_null(PARSE(&context, &command, "-ap12", "-vo", "file", "-", "-p", "13"));
	assert_true(options.all);
	assert_true(context.verbose);
	assert_string_equal(options.output, "file");
	assert_int_equal(options.pids.count, 2);
	assert_int_equal(options.pids.items[0], 12);
	assert_int_equal(options.pids.items[1], 13);
	assert_string_equal(context.operands[0], "-");
}

static void repeatable_options_collect(void **state)
{
	(void)state;
	struct command_context context;
	assert_null(
		PARSE(&context, &command, "x", "--accept", "a:b", "--accept=c:d=e", "-n1", "-n2"));
	assert_int_equal(options.accepted.count, 2);
	assert_string_equal(options.accepted.items[1], "c:d=e");
	assert_int_equal(options.count, 2); // the last one counts
}

static void words_after_dashes_are_left_alone(void **state)
{
	(void)state;
	struct command_context context;
	assert_null(PARSE(&context, &command, "x", "--", "make", "--json", "--", "-j2"));
	assert_false(options.json);
	assert_int_equal(context.operand_count, 1);
	assert_null(context.operands[1]);
	assert_int_equal(context.after_dashes_count, 4);
	assert_string_equal(context.after_dashes[0], "make");
	assert_string_equal(context.after_dashes[2], "--");
	assert_null(context.after_dashes[4]);

	assert_null(PARSE(&context, &command_without_dashes, "x", "--", "-y", "--"));
	assert_int_equal(context.operand_count, 3);
	assert_string_equal(context.operands[1], "-y");
	assert_string_equal(context.operands[2], "--");
}

static void mistakes_are_named(void **state)
{
	(void)state;
	static const struct {
		const char *line[3];
		const char *message;
	} mistakes[] = {
		{{"--jsn"}, "unknown option '--jsn': did you mean '--json'?"},
		{{"--verbsoe=1"}, "unknown option '--verbsoe': did you mean '--verbose'?"},
		{{"--quite-other"}, "unknown option '--quite-other'"},
		{{"-x"}, "unknown option '-x'"},
		{{"--json=1"}, "'--json' takes no argument"},
		{{"--output"}, "'--output' needs an argument FILE"},
		{{"-ao"}, "'-o' needs an argument FILE"},
		{{"-n", "-1"}, "'-1' of '--count' is not a number"},
		{{"-n", "18446744073709551616"},
		 "'18446744073709551616' of '--count' is not a number"},
		{{"-p", "0"}, "'0' of '--pid' is not a process id"},
		{{"-p", "4294967297"}, "'4294967297' of '--pid' is not a process id"},
		{{"-t", "10"}, "'10' of '--timeout' is not a time such as 500ms, 10s or 2m"},
		{{"--all"}, "'test' takes A [B]: 0 operands are given"},
		{{"a", "b", "c"}, "'test' takes A [B]: 3 operands are given"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(mistakes); i++) {
		struct command_context context;
		const char *line[4] = {0};
		memcpy(line, mistakes[i].line, sizeof(mistakes[i].line));
		struct error *error = parse(&context, &command, line);
		assert_non_null(error);
		assert_int_equal(error->kind, ERROR_KIND_USAGE);
		assert_string_equal(error->message, mistakes[i].message);
		error_free(error);
	}
}

static void help_needs_no_operands(void **state)
{
	(void)state;
	struct command_context context;
	assert_null(PARSE(&context, &command, "--help"));
	assert_true(global_values.help);
}

static void durations_have_a_unit(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		uint64_t nanoseconds;
	} good[] = {
		{"0", 0},
		{"250us", 250000},
		{"500ms", 500000000},
		{"10s", 10000000000ull},
		{"2m", 120000000000ull},
		{"1h", 3600000000000ull},
	};
	uint64_t value = 42;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_true(duration_parse(good[i].text, &value));
		assert_int_equal(value, good[i].nanoseconds);
	}
	static const char *const bad[] = {"",     "10",           "s",   "-1s", "1.5s", "1 s",
					  "1sec", "99999999999h", "+1s", "0x1s"};
	value = 42;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(duration_parse(bad[i], &value));
}

static void near_names_are_found_and_far_ones_are_not(void **state)
{
	(void)state;
	static const char *const names[] = {"build", "show", "apply", "status", "revert", "diff"};
	static const struct {
		const char *name, *nearest;
	} cases[] = {
		{"aply", "apply"}, {"statsu", "status"}, {"dif", "diff"}, {"reverts", "revert"},
		{"sh", NULL},      {"x", NULL},          {"", NULL},      {"remove", NULL},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *nearest = nearest_name(cases[i].name, names, ARRAY_SIZE(names));
		if (cases[i].nearest)
			assert_string_equal(nearest, cases[i].nearest);
		else
			assert_null(nearest);
	}
}

static void print_escaped_disarms_control_characters(void **state)
{
	(void)state;
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	print_escaped(file, "a\033[2J\xc3\xa9\xc2\x9b\x7f");
	fclose(file);
	assert_string_equal(text, "a\\x1b[2J\xc3\xa9\\x9b\\x7f");
	free(text);
}

static void findings_tell_what_to_do(void **state)
{
	(void)state;
	struct findings findings = {0};
	findings_add(&findings, FINDING_KIND_DATA_CHANGED, "limit", "1 became 2");
	findings_add(&findings, FINDING_KIND_SYMBOL_REMOVED, "old", "'old' is gone");
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	print_findings(file, &findings, false);
	fflush(file);
	assert_string_equal(
		text, "refusal: data-changed: limit: 1 became 2\n"
		      "    the running program keeps its value: set it from a callback, or use "
		      "new data\n"
		      "    or accept it: --accept='data-changed:limit'\n");
	rewind(file);
	assert_null(findings_accept(&findings, "data-changed:limit"));
	print_findings(file, &findings, false);
	fclose(file);
	assert_string_equal(
		text, "accepted: data-changed: limit: 1 became 2\n"
		      "    the running program keeps its value: set it from a callback, or use "
		      "new data\n");
	free(text);
	findings_deinit(&findings);
}

#define FRESH(test) cmocka_unit_test_setup_teardown(test, reset, reset)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FRESH(options_and_operands_come_in_any_order),
		FRESH(short_options_join),
		FRESH(repeatable_options_collect),
		FRESH(words_after_dashes_are_left_alone),
		FRESH(mistakes_are_named),
		FRESH(help_needs_no_operands),
		cmocka_unit_test(durations_have_a_unit),
		cmocka_unit_test(near_names_are_found_and_far_ones_are_not),
		cmocka_unit_test(print_escaped_disarms_control_characters),
		cmocka_unit_test(findings_tell_what_to_do),
	};
	return cmocka_run_group_tests_name("cmd", tests, NULL, NULL);
}
