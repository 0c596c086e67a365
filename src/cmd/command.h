/* SPDX-License-Identifier: MIT */
/*
 * cmd: a command is a row of data and a function.
 *
 * What --help, the shells' completion, the man page and the parser know of an option is its one
 * row, so they cannot disagree. A command is a file, src/cmd/NAME.c, that defines
 *
 *	static struct {
 *		bool json;
 *		const char *output;
 *		struct pid_list pids;
 *	} options;
 *
 *	static struct error *run(struct command_context *context) { ... }
 *
 *	const struct command command_NAME = {
 *		.name = "NAME",
 *		.summary = "what it does, in one line",
 *		.operands = "OLD.o NEW.o",
 *		.operands_min = 2,
 *		.operands_max = 2,
 *		.description = "A few sentences and an example.",
 *		.options = (const struct option_row[]){
 *			OPTION_PIDS(&options.pids, "process to look at; may be given again"),
 *			OPTION_STRING("output", 'o', "FILE", "write it to FILE", &options.output),
 *			OPTION_JSON(&options.json),
 *			OPTION_END,
 *		},
 *		.run = run,
 *	};
 *
 * and a word in the list of src/cmd/meson.build. Standard output is the result, printed to the FILE of
 * cmd_output(); everything that talks about it goes to standard error, through the functions at the
 * end of this header.
 */
#ifndef SUTURE_CMD_COMMAND_H
#define SUTURE_CMD_COMMAND_H

#include <limits.h>
#include <sys/types.h>

#include "base/base.h"

/** What a repeatable option collects; the strings are those of the command line. */
struct string_list {
	const char **items;
	size_t count;
	size_t capacity;
};

struct pid_list {
	pid_t *items;
	size_t count;
	size_t capacity;
};

enum option_kind {
	OPTION_KIND_FLAG,
	OPTION_KIND_STRING,
	OPTION_KIND_U64,
	OPTION_KIND_DURATION,
	OPTION_KIND_STRINGS,
	OPTION_KIND_PIDS,
};

/** An option. Of an option that is not repeatable the last one given counts. */
struct option_row {
	const char *name; /* the long name, without dashes */
	char short_name;  /* 0: none */
	/*
	 * What --help calls the argument, NULL for a flag. FILE, DIRECTORY, PID and COMMAND also
	 * tell the shells what to offer.
	 */
	const char *argument;
	const char *help; /* lower case, without a full stop */
	enum option_kind kind;
	union {
		bool *flag;
		const char **string;
		uint64_t *u64;
		uint64_t *nanoseconds;
		struct string_list *strings;
		struct pid_list *pids;
	} store;
};

/* Rows by kind; the compiler checks the destination's type. */
#define OPTION_ROW(long_name, letter, word, text, of_kind, ...)                          \
	{                                                                                \
		.name = long_name, .short_name = letter, .argument = word, .help = text, \
		.kind = of_kind, .store = {                                              \
			__VA_ARGS__                                                      \
		}                                                                        \
	}
#define OPTION_FLAG(long_name, letter, text, destination) \
	OPTION_ROW(long_name, letter, NULL, text, OPTION_KIND_FLAG, .flag = destination)
#define OPTION_STRING(long_name, letter, word, text, destination) \
	OPTION_ROW(long_name, letter, word, text, OPTION_KIND_STRING, .string = destination)
#define OPTION_U64(long_name, letter, word, text, destination) \
	OPTION_ROW(long_name, letter, word, text, OPTION_KIND_U64, .u64 = destination)
/* "500ms", "10s", "2m": stored in nanoseconds. */
#define OPTION_DURATION(long_name, letter, text, destination)             \
	OPTION_ROW(long_name, letter, "TIME", text, OPTION_KIND_DURATION, \
		   .nanoseconds = destination)
#define OPTION_STRINGS(long_name, letter, word, text, destination) \
	OPTION_ROW(long_name, letter, word, text, OPTION_KIND_STRINGS, .strings = destination)
/* Rows that every command spells alike. */
#define OPTION_PIDS(destination, text) \
	OPTION_ROW("pid", 'p', "PID", text, OPTION_KIND_PIDS, .pids = destination)
#define OPTION_JSON(destination) OPTION_FLAG("json", 0, "print JSON", destination)
#define OPTION_END           \
	{                    \
		.name = NULL \
	}

struct command;

/** What a command's run() is given. */
struct command_context {
	const struct command *command;
	/* The operands, as many as the command's row allows; a NULL stands behind the last. */
	char **operands;
	size_t operand_count;
	/* What stands after "--", where the command's row names it; NULL behind the last. */
	char **after_dashes;
	size_t after_dashes_count;
	/* For modules: draws on a terminal, else is silent. */
	const struct progress *progress;
	bool verbose;
	bool quiet;
	/* Set by run() where the result is told by the status, as `suture diff` does with 1. */
	int exit_status;
	/* All commands of the tool, NULL-terminated. */
	const struct command *const *commands;
};

struct command {
	const char *name;
	const char *summary; /* lower case, without a full stop */
	/* For the usage line: "OLD.o NEW.o"; NULL: none. */
	const char *operands;
	size_t operands_min;
	size_t operands_max; /* OPERANDS_MANY: no limit */
	/* What may follow "--" ("BUILD COMMAND..."); NULL: words after "--" are operands. */
	const char *after_dashes;
	/* For --help and, where no page is written by hand, the man page; lines of 80 columns. */
	const char *description;
	const struct option_row *options; /* ends with OPTION_END; NULL: none */
	struct error *(*run)(struct command_context *context);
};
#define OPERANDS_MANY SIZE_MAX

/** Options of every command, before or behind its name. */
struct global_values {
	bool help;
	bool version;
	bool verbose;
	bool quiet;
};
extern struct global_values global_values;
extern const struct option_row global_options[];

/* ---- for main.c: parsing and what is generated from the rows ------------------------------ */

/**
 * Parse @argv (which does not hold the command's name) by the rows of the context's command and
 * the global ones. Operands are moved to the front of @argv, and the context points into it. With
 * --help the number of operands is not checked. USAGE errors.
 */
struct error *options_parse(struct command_context *context, int argc, char **argv) MUST_CHECK;

/**
 * Parse options in front of the command's name, which are global ones. @ret_used is the number of
 * words up to the first that is no option. USAGE errors.
 */
struct error *options_parse_global(int argc, char **argv, int *ret_used) MUST_CHECK;

/** "250us", "500ms", "10s", "2m", "1h" or "0" in nanoseconds. */
bool duration_parse(const char *text, uint64_t *ret);

/** The name of the list that is nearest to @name, NULL when none is near. */
const char *nearest_name(const char *name, const char *const *names, size_t count);

/** The command of that name, or NULL. */
const struct command *command_find(const struct command *const *commands, const char *name);

void help_print_tool(FILE *file, const struct command *const *commands);
void help_print_command(FILE *file, const struct command *command);

/** Commands of the tool's own build: `suture __complete SHELL`, `suture __man PAGE [TEXT]`. */
extern const struct command command_complete, command_man;

/* ---- for commands: talking ---------------------------------------------------------------- */

/** A line on standard error, unless --quiet. */
void cmd_say(const struct command_context *context, const char *format, ...) PRINTF(2, 3);
/** A line on standard error with --verbose. */
void cmd_say_verbose(const struct command_context *context, const char *format, ...) PRINTF(2, 3);

/**
 * A string out of a file or process: control characters, which could drive the terminal, as \xNN.
 */
void print_escaped(FILE *file, const char *string);
/** "SEVERITY: KIND: SUBJECT: text" and, indented, what to do; notes only with --verbose. */
void print_findings(FILE *file, const struct findings *findings, bool with_notes);
/** `suture: MESSAGE` on standard error. Keeps @error. */
void print_failure(const struct error *error);

/**
 * A line on a terminal's standard error that is drawn over at every report, a few times a second;
 * on anything but a terminal it is silent.
 */
void cmd_progress_init(struct progress *progress, bool quiet);
/** Take the line away, so that something can be printed in its place. */
void cmd_progress_clear(void);
/** Standard output, for the result: the progress line is not in its way. */
FILE *cmd_output(void);

#endif
