// SPDX-License-Identifier: MIT
/*
 * The command line, by rows.
 *
 * As GNU does: options and operands in any order, "--name value" and "--name=value", short options
 * in one word ("-qp 7", "-qp7"), "--" ends options. Unlike GNU, a long name is never cut short: a
 * script that does so breaks when an option is added. A wrong name is answered with the nearest.
 */
#include "cmd/command.h"

#include <errno.h>
#include <string.h>

struct global_values global_values;

const struct option_row global_options[] = {
	OPTION_FLAG("help", 'h', "say what it does and which options it has", &global_values.help),
	OPTION_FLAG("version", 'V', "print the version", &global_values.version),
	OPTION_FLAG("verbose", 'v', "tell more on standard error", &global_values.verbose),
	OPTION_FLAG("quiet", 'q', "tell nothing but errors on standard error",
		    &global_values.quiet),
	OPTION_END,
};

// Decimal, or hexadecimal after 0x. strtoull() alone would take signs, blanks and octal.
static bool u64_parse(const char *text, uint64_t *ret)
{
	bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
	const char *digits = hex ? text + 2 : text;
	if (!*digits || digits[strspn(digits, hex ? "0123456789abcdefABCDEF" : "0123456789")])
		return false;
	errno = 0;
	unsigned long long value = strtoull(digits, NULL, hex ? 16 : 10);
	if (errno)
		return false;
	*ret = value;
	return true;
}

bool duration_parse(const char *text, uint64_t *ret)
{
	static const struct {
		const char *word;
		uint64_t nanoseconds;
	} units[] = {
		{"us", 1000},
		{"ms", 1000000},
		{"s", 1000000000},
		{"m", 60 * 1000000000ull},
		{"h", 3600 * 1000000000ull},
	};
	if (string_equal(text, "0")) {
		*ret = 0;
		return true;
	}
	size_t digits = strspn(text, "0123456789");
	_cleanup_free_ char *number = xstrndup(text, digits);
	uint64_t value;
	if (!u64_parse(number, &value))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (string_equal(text + digits, units[i].word))
			return checked_mul(value, units[i].nanoseconds, ret);
	return false;
}

static bool pid_parse(const char *text, pid_t *ret)
{
	uint64_t value;
	if (!u64_parse(text, &value) || value == 0 || value > INT_MAX)
		return false;
	*ret = (pid_t)value;
	return true;
}

// Put the argument where the row says; false when it is not of the row's kind.
static bool option_store(const struct option_row *row, const char *argument)
{
	pid_t pid;
	switch (row->kind) {
	case OPTION_KIND_FLAG:
		*row->store.flag = true;
		return true;
	case OPTION_KIND_STRING:
		*row->store.string = argument;
		return true;
	case OPTION_KIND_U64:
		return u64_parse(argument, row->store.u64);
	case OPTION_KIND_DURATION:
		return duration_parse(argument, row->store.nanoseconds);
	case OPTION_KIND_STRINGS:
		vec_push(row->store.strings, argument);
		return true;
	case OPTION_KIND_PIDS:
		if (!pid_parse(argument, &pid))
			return false;
		vec_push(row->store.pids, pid);
		return true;
	}
	return false;
}

static const char *option_expects(enum option_kind kind)
{
	switch (kind) {
	case OPTION_KIND_U64:
		return "a number";
	case OPTION_KIND_DURATION:
		return "a time such as 500ms, 10s or 2m";
	case OPTION_KIND_PIDS:
		return "a process id";
	default:
		return "a value";
	}
}

static struct error *option_give(const struct option_row *row, const char *argument)
{
	if (!option_store(row, argument))
		return error_new(ERROR_KIND_USAGE, "'%s' of '--%s' is not %s", argument, row->name,
				 option_expects(row->kind));
	return NULL;
}

// The rows that hold at a place of the command line: the command's, if any, then the global ones.
struct row_tables {
	const struct option_row *tables[2];
};

#define for_each_row(row, all)                        \
	for (size_t _table = 0; _table < 2; _table++) \
		for (const struct option_row *row = (all)->tables[_table]; row && row->name; row++)

static const struct option_row *row_of_name(const struct row_tables *rows, const char *name,
					    size_t size)
{
	for_each_row(row, rows) if (strlen(row->name) == size &&
				    strncmp(row->name, name, size) == 0) return row;
	return NULL;
}

static const struct option_row *row_of_letter(const struct row_tables *rows, char letter)
{
	for_each_row(row, rows) if (row->short_name == letter) return row;
	return NULL;
}

static struct error *unknown_option(const struct row_tables *rows, const char *name)
{
	VEC(const char *) names = {0};
	for_each_row(row, rows) vec_push(&names, row->name);
	const char *nearest = nearest_name(name, names.items, names.count);
	struct error *error;
	if (nearest)
		error = error_new(ERROR_KIND_USAGE, "unknown option '--%s': did you mean '--%s'?",
				  name, nearest);
	else
		error = error_new(ERROR_KIND_USAGE, "unknown option '--%s'", name);
	vec_deinit(&names);
	return error;
}

// @words[0] is "--name" or "--name=argument". @used: how many words it took.
static struct error *parse_long(const struct row_tables *rows, char **words, int count, int *used)
{
	const char *name = words[0] + 2;
	size_t size = strcspn(name, "=");
	const char *argument = name[size] ? name + size + 1 : NULL;
	const struct option_row *row = row_of_name(rows, name, size);
	if (!row) {
		_cleanup_free_ char *bare = xstrndup(name, size);
		return unknown_option(rows, bare);
	}
	*used = 1;
	if (!row->argument) {
		if (argument)
			return error_new(ERROR_KIND_USAGE, "'--%s' takes no argument", row->name);
		return option_give(row, NULL);
	}
	if (!argument) {
		if (count < 2)
			return error_new(ERROR_KIND_USAGE, "'--%s' needs an argument %s", row->name,
					 row->argument);
		argument = words[1];
		*used = 2;
	}
	return option_give(row, argument);
}

// @words[0] is "-abc": flags, of which the last may take an argument, glued on or in @words[1].
static struct error *parse_short(const struct row_tables *rows, char **words, int count, int *used)
{
	*used = 1;
	for (const char *letter = words[0] + 1; *letter; letter++) {
		const struct option_row *row = row_of_letter(rows, *letter);
		if (!row)
			return error_new(ERROR_KIND_USAGE, "unknown option '-%c'", *letter);
		if (!row->argument) {
			TRY(option_give(row, NULL));
			continue;
		}
		if (letter[1])
			return option_give(row, letter + 1);
		if (count < 2)
			return error_new(ERROR_KIND_USAGE, "'-%c' needs an argument %s", *letter,
					 row->argument);
		*used = 2;
		return option_give(row, words[1]);
	}
	return NULL;
}

static bool word_is_option(const char *word)
{
	return word[0] == '-' && word[1] != '\0'; // "-" alone is an operand
}

static struct error *parse_word(const struct row_tables *rows, char **words, int count, int *used)
{
	if (words[0][1] == '-')
		return parse_long(rows, words, count, used);
	return parse_short(rows, words, count, used);
}

struct error *options_parse_global(int argc, char **argv, int *ret_used)
{
	const struct row_tables rows = {{global_options}};
	int i = 0, used;
	while (i < argc && word_is_option(argv[i])) {
		TRY(parse_word(&rows, argv + i, argc - i, &used));
		i += used;
	}
	*ret_used = i;
	return NULL;
}

static struct error *operands_check(const struct command_context *context)
{
	const struct command *command = context->command;
	size_t count = context->operand_count;
	if (count > 0 && command->operands_max == 0)
		return error_new(ERROR_KIND_USAGE, "'%s' takes no operands, and '%s' is one",
				 command->name, context->operands[0]);
	if (count < command->operands_min || count > command->operands_max)
		return error_new(ERROR_KIND_USAGE, "'%s' takes %s: %zu operand%s given",
				 command->name, command->operands, count,
				 count == 1 ? " is" : "s are");
	return NULL;
}

struct error *options_parse(struct command_context *context, int argc, char **argv)
{
	const struct command *command = context->command;
	const struct row_tables rows = {{command->options, global_options}};
	static char *nothing[] = {NULL};
	context->operands = argv;
	context->operand_count = 0;
	context->after_dashes = nothing;
	context->after_dashes_count = 0;

	int i = 0, used;
	while (i < argc && !string_equal(argv[i], "--")) {
		if (word_is_option(argv[i])) {
			TRY(parse_word(&rows, argv + i, argc - i, &used));
			i += used;
		} else {
			argv[context->operand_count++] = argv[i++];
		}
	}
	if (i < argc && command->after_dashes) {
		context->after_dashes = argv + i + 1;
		context->after_dashes_count = (size_t)(argc - i - 1);
	} else {
		while (++i < argc)
			argv[context->operand_count++] = argv[i];
	}
	// At the latest the place of "--", or main's NULL: never a word of after_dashes.
	argv[context->operand_count] = NULL;
	context->verbose = global_values.verbose;
	context->quiet = global_values.quiet;
	return global_values.help ? NULL : operands_check(context);
}

// Levenshtein's distance, cut off where it no longer matters.
static size_t name_distance(const char *a, const char *b)
{
	enum { LONGEST = 32 };
	size_t a_size = strlen(a), b_size = strlen(b);
	if (a_size > LONGEST || b_size > LONGEST)
		return SIZE_MAX;
	size_t row[LONGEST + 1];
	for (size_t j = 0; j <= b_size; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_size; i++) {
		size_t diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= b_size; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			diagonal = row[j];
			row[j] = best;
		}
	}
	return row[b_size];
}

const char *nearest_name(const char *name, const char *const *names, size_t count)
{
	const char *nearest = NULL;
	// A third of its letters may be wrong: "aply" is apply, but "sh" is not show.
	size_t size = strlen(name);
	size_t best = (size < 6 ? 1 : size / 3) + 1;
	for (size_t i = 0; i < count; i++) {
		size_t distance = name_distance(name, names[i]);
		if (distance < best) {
			nearest = names[i];
			best = distance;
		}
	}
	return nearest;
}

const struct command *command_find(const struct command *const *commands, const char *name)
{
	for (; *commands; commands++)
		if (string_equal((*commands)->name, name))
			return *commands;
	return NULL;
}
