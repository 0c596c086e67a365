// SPDX-License-Identifier: MIT
#include "cmd/command.h"

#include <string.h>

#define WIDTH 80
#define HELP_COLUMN 26

// Words of @text from @column on, broken before WIDTH; further lines start at @indent.
static void print_wrapped(FILE *file, const char *text, size_t column, size_t indent)
{
	bool first = true;
	while (*text) {
		size_t size = strcspn(text, " ");
		if (!first && column + 1 + size > WIDTH) {
			fprintf(file, "\n%*s", (int)indent, "");
			column = indent;
		} else if (!first) {
			fputc(' ', file);
			column++;
		}
		fprintf(file, "%.*s", (int)size, text);
		column += size;
		text += size;
		text += strspn(text, " ");
		first = false;
	}
	fputc('\n', file);
}

static void print_entry(FILE *file, const char *left, const char *help)
{
	size_t column = strlen(left);
	fputs(left, file);
	if (column + 2 > HELP_COLUMN) {
		fputc('\n', file);
		column = 0;
	}
	fprintf(file, "%*s", (int)(HELP_COLUMN - column), "");
	print_wrapped(file, help, HELP_COLUMN, HELP_COLUMN);
}

static void print_options(FILE *file, const char *title, const struct option_row *row)
{
	if (!row || !row->name)
		return;
	fprintf(file, "\n%s:\n", title);
	for (; row->name; row++) {
		_cleanup_buffer_ struct buffer left = {0};
		if (row->short_name)
			buffer_printf(&left, "  -%c, --%s", row->short_name, row->name);
		else
			buffer_printf(&left, "      --%s", row->name);
		if (row->argument)
			buffer_printf(&left, " %s", row->argument);
		print_entry(file, left.bytes, row->help);
	}
}

static void print_usage(FILE *file, const struct command *command)
{
	fprintf(file, "usage: suture %s [OPTIONS]", command->name);
	if (command->operands)
		fprintf(file, " %s", command->operands);
	if (command->after_dashes)
		fprintf(file, " [-- %s]", command->after_dashes);
	fputc('\n', file);
}

void help_print_command(FILE *file, const struct command *command)
{
	print_usage(file, command);
	fprintf(file, "\nsuture %s: %s.\n", command->name, command->summary);
	if (command->description)
		fprintf(file, "\n%s\n", command->description);
	print_options(file, "options", command->options);
	print_options(file, "options of every command", global_options);
	fputs("\nThe exit statuses are listed in suture(1).\n", file);
}

void help_print_tool(FILE *file, const struct command *const *commands)
{
	fputs("usage: suture COMMAND [OPTIONS] [OPERANDS]\n"
	      "\n"
	      "suture changes running programs: from a source diff it builds a patch, stitches it\n"
	      "into running processes, and takes it out again.\n"
	      "\n"
	      "commands:\n",
	      file);
	for (; *commands; commands++) {
		_cleanup_free_ char *left = xasprintf("  %s", (*commands)->name);
		print_entry(file, left, (*commands)->summary);
	}
	print_options(file, "options of every command", global_options);
	fputs("\n'suture COMMAND --help' and suture-COMMAND(1) tell more.\n", file);
}
