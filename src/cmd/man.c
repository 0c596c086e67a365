// SPDX-License-Identifier: MIT
/*
 * `suture __man PAGE [TEXT]`: a man page in scdoc's language.
 *
 * TEXT is the part written by hand; a line in it that is one of the words of `inserts` is replaced by
 * what the rows say. Without TEXT the page is made of the command's --help text alone. PAGE is a
 * command's name, or "suture" for the tool's own page.
 */
#include "cmd/command.h"

#include <ctype.h>
#include <string.h>

// scdoc's markup is _underlined_, *bold*, \escape, and #, -, | and others in front of a line.
static void scdoc_escaped(FILE *file, const char *text)
{
	for (; *text; text++) {
		if (strchr("\\_*", *text))
			fputc('\\', file);
		fputc(*text, file);
	}
}

// As an operand is written: words in capitals underlined.
static void scdoc_operands(FILE *file, const char *text)
{
	while (*text) {
		size_t size = 0;
		while (isupper((unsigned char)text[size]))
			size++;
		if (size) {
			fprintf(file, "_%.*s_", (int)size, text);
			text += size;
		} else {
			scdoc_escaped(file, (char[]){*text++, '\0'});
		}
	}
}

static void insert_synopsis(FILE *file, const struct command_context *context)
{
	const struct command *command = context->command;
	fprintf(file, "*suture %s* [_OPTIONS_]", command->name);
	if (command->operands) {
		fputc(' ', file);
		scdoc_operands(file, command->operands);
	}
	if (command->after_dashes) {
		fputs(" [-- ", file);
		scdoc_operands(file, command->after_dashes);
		fputc(']', file);
	}
	fputc('\n', file);
}

static void options_print(FILE *file, const struct option_row *row)
{
	for (; row && row->name; row++) {
		if (row->short_name)
			fprintf(file, "*-%c*, ", row->short_name);
		fprintf(file, "*--%s*", row->name);
		if (row->argument)
			fprintf(file, " _%s_", row->argument);
		fputs("\n\t", file);
		scdoc_escaped(file, row->help);
		fputs("\n\n", file);
	}
}

static void insert_options(FILE *file, const struct command_context *context)
{
	if (context->command)
		options_print(file, context->command->options);
	options_print(file, global_options);
}

static void insert_commands(FILE *file, const struct command_context *context)
{
	for (const struct command *const *command = context->commands; *command; command++) {
		fprintf(file, "*suture-%s*(1)\n\t", (*command)->name);
		scdoc_escaped(file, (*command)->summary);
		fputs("\n\n", file);
	}
}

static void insert_exit_status(FILE *file, const struct command_context *context)
{
	(void)context;
	static const struct {
		int status;
		const char *word;
		const char *meaning;
	} rows[] = {{0, NULL, "done; of *suture diff*: the objects are equal"},
		    {1, NULL, "of *suture diff*: the objects differ"},
#define X(name, status, word, meaning) {status, word, meaning},
		    ERROR_KINDS(X)
#undef X
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		fprintf(file, "*%d*", rows[i].status);
		if (rows[i].word)
			fprintf(file, " (%s)", rows[i].word);
		fprintf(file, "\n\t%s\n\n", rows[i].meaning);
	}
}

static const struct {
	const char *line;
	void (*print)(FILE *file, const struct command_context *context);
	bool of_command; // means nothing on the tool's own page
} inserts[] = {
	{"@SYNOPSIS@", insert_synopsis, true},
	{"@OPTIONS@", insert_options, false},
	{"@COMMANDS@", insert_commands, false},
	{"@EXIT_STATUS@", insert_exit_status, false},
};

static struct error *page_merge(FILE *file, const struct command_context *context, const char *path)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	TRY(file_read(path, &text, &size));
	bool has_options = false;
	for (char *line = text, *next; *line; line = next) {
		char *end = strchrnul(line, '\n');
		next = *end ? end + 1 : end;
		*end = '\0';
		size_t i = 0;
		while (i < ARRAY_SIZE(inserts) && !string_equal(line, inserts[i].line))
			i++;
		if (i == ARRAY_SIZE(inserts)) {
			fprintf(file, "%s\n", line);
			continue;
		}
		if (inserts[i].of_command && !context->command)
			return error_new(ERROR_KIND_INPUT, "'%s': %s stands for a command's row",
					 path, line);
		has_options |= inserts[i].print == insert_options;
		inserts[i].print(file, context);
	}
	// Or the page would tell of other options than the tool has.
	if (!has_options)
		return error_new(ERROR_KIND_INPUT, "'%s' has no line @OPTIONS@", path);
	return NULL;
}

static void page_make(FILE *file, const struct command_context *context)
{
	const struct command *command = context->command;
	fprintf(file, "suture-%s(1)\n\n# NAME\n\nsuture-%s - ", command->name, command->name);
	scdoc_escaped(file, command->summary);
	fputs("\n\n# SYNOPSIS\n\n", file);
	insert_synopsis(file, context);
	if (command->description) {
		fputs("\n# DESCRIPTION\n\n", file);
		// Indented lines are examples: literal blocks.
		bool literal = false;
		_cleanup_free_ char *text = xstrdup(command->description);
		for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
			bool indented = isspace((unsigned char)*line);
			if (*line && indented != literal) {
				fputs("```\n", file);
				literal = indented;
			}
			if (literal)
				fprintf(file, "%s\n", line);
			else {
				scdoc_escaped(file, line);
				fputc('\n', file);
			}
		}
		if (literal)
			fputs("```\n", file);
	}
	fputs("\n# OPTIONS\n\n", file);
	insert_options(file, context);
	fputs("# EXIT STATUS\n\nThe statuses of all commands are listed in *suture*(1).\n\n"
	      "# SEE ALSO\n\n*suture*(1)\n",
	      file);
}

static struct error *run(struct command_context *context)
{
	const char *page = context->operands[0];
	const char *text = context->operand_count > 1 ? context->operands[1] : NULL;
	struct command_context of_page = *context;
	of_page.command = command_find(context->commands, page);
	if (!of_page.command && !(string_equal(page, "suture") && text))
		return error_new(ERROR_KIND_USAGE, "no page '%s'", page);
	if (text)
		return page_merge(stdout, &of_page, text);
	page_make(stdout, &of_page);
	return NULL;
}

const struct command command_man = {
	.name = "__man",
	.summary = "print a man page",
	.operands = "PAGE [TEXT]",
	.operands_min = 1,
	.operands_max = 2,
	.run = run,
};
