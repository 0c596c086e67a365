// SPDX-License-Identifier: MIT
/*
 * `suture __complete bash|zsh`: the completion scripts, from the rows of the commands.
 *
 * They are plain lists and ask nothing of the tool when they run, so they work where a cross-built
 * tool lies, and need no bash-completion package. Process ids are offered with `ps`.
 */
#include "cmd/command.h"

#include <assert.h>
#include <string.h>

// What a shell offers for an argument, by the word that --help calls it.
static const struct {
	const char *argument;
	const char *bash; // appends to COMPREPLY
	const char *zsh;  // an action of _arguments
} offers[] = {
	{"FILE", "_suture_files", "_files"},
	{"DIRECTORY", "_suture_directories", "_files -/"},
	{"PID", "_suture_pids", "_pids"},
	{"COMMAND", "_suture_words \"$(compgen -c -- \"$current\")\"", "_command_names -e"},
};

// Two rows of one name would make the parser and the shells disagree.
static void rows_check(const struct command *command)
{
	const struct option_row *tables[] = {command->options, global_options};
	bool letters[256] = {false};
	struct hashmap *names = hashmap_create();
	for (size_t i = 0; i < ARRAY_SIZE(tables); i++) {
		for (const struct option_row *row = tables[i]; row && row->name; row++) {
			assert(!hashmap_get_string(names, row->name));
			hashmap_set_string(names, row->name, names);
			assert(!row->short_name || !letters[(unsigned char)row->short_name]);
			letters[(unsigned char)row->short_name] = true;
			assert(!row->argument == (row->kind == OPTION_KIND_FLAG));
		}
	}
	hashmap_free(names);
}

static const char *offer_bash(const char *argument)
{
	for (size_t i = 0; i < ARRAY_SIZE(offers); i++)
		if (string_equal(offers[i].argument, argument))
			return offers[i].bash;
	return ":";
}

static const char *offer_zsh(const char *argument)
{
	for (size_t i = 0; i < ARRAY_SIZE(offers); i++)
		if (string_equal(offers[i].argument, argument))
			return offers[i].zsh;
	return " ";
}

/* ---- bash --------------------------------------------------------------------------------- */

static const char bash_head[] =
	"# bash completion of suture, written by 'suture __complete bash'.\n"
	"\n"
	"_suture_words() { mapfile -t COMPREPLY < <(compgen -W \"$1\" -- \"$current\"); }\n"
	"_suture_files() { compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "
	"\"$current\"); }\n"
	"_suture_directories() { compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "
	"\"$current\"); }\n"
	"_suture_pids() { _suture_words \"$(ps -e -o pid=)\"; }\n"
	"\n"
	"_suture()\n"
	"{\n"
	"\tlocal current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
	"\tlocal command= word\n"
	"\tCOMPREPLY=()\n"
	"\t# '--name=value' comes as three words, because '=' breaks words in bash.\n"
	"\tif [[ $current == = ]]; then\n"
	"\t\tcurrent=\n"
	"\telif [[ $previous == = ]]; then\n"
	"\t\tprevious=${COMP_WORDS[COMP_CWORD - 2]}\n"
	"\tfi\n"
	"\tfor word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
	"\t\tcase $word in\n"
	"\t\t-*) ;;\n"
	"\t\t*) command=$word; break ;;\n"
	"\t\tesac\n"
	"\tdone\n";

static void bash_names(FILE *file, const struct option_row *row)
{
	for (; row && row->name; row++) {
		fprintf(file, " --%s", row->name);
		if (row->short_name)
			fprintf(file, " -%c", row->short_name);
	}
}

static void bash_print(FILE *file, const struct command *const *commands)
{
	fputs(bash_head, file);
	fputs("\tcase $command:$previous in\n", file);
	for (const struct command *const *command = commands; *command; command++) {
		for (const struct option_row *row = (*command)->options; row && row->name; row++) {
			if (!row->argument)
				continue;
			fprintf(file, "\t%s:--%s", (*command)->name, row->name);
			if (row->short_name)
				fprintf(file, " | %s:-%c", (*command)->name, row->short_name);
			fprintf(file, ") %s; return ;;\n", offer_bash(row->argument));
		}
	}
	fputs("\tesac\n"
	      "\tcase $command:$current in\n",
	      file);
	for (const struct command *const *command = commands; *command; command++) {
		fprintf(file, "\t%s:-*) _suture_words '", (*command)->name);
		bash_names(file, (*command)->options);
		bash_names(file, global_options);
		fputs("' ;;\n", file);
	}
	fputs("\t:-*) _suture_words '", file);
	bash_names(file, global_options);
	fputs("' ;;\n"
	      "\t:*) _suture_words '",
	      file);
	for (const struct command *const *command = commands; *command; command++)
		fprintf(file, " %s", (*command)->name);
	fputs("' ;;\n"
	      "\t*) _suture_files ;;\n"
	      "\tesac\n"
	      "}\n"
	      "complete -F _suture suture\n",
	      file);
}

/* ---- zsh ---------------------------------------------------------------------------------- */

// Inside single quotes; and what _arguments and _describe would take as their own is escaped.
static void zsh_quoted(FILE *file, const char *text)
{
	for (; *text; text++) {
		if (*text == '\'')
			fputs("'\\''", file);
		else if (strchr("[]:\\", *text))
			fprintf(file, "\\%c", *text);
		else
			fputc(*text, file);
	}
}

static void zsh_options(FILE *file, const struct option_row *row)
{
	for (; row && row->name; row++) {
		bool repeatable = row->kind == OPTION_KIND_STRINGS || row->kind == OPTION_KIND_PIDS;
		fputs("\t\t\t", file);
		// What excludes an option from being offered again; '*' offers it for ever.
		if (repeatable)
			fputs("'*'", file);
		else if (row->short_name)
			fprintf(file, "'(-%c --%s)'", row->short_name, row->name);
		const char *glue = row->argument ? "=" : "";
		if (row->short_name)
			fprintf(file, "{-%c%s,--%s%s}'[", row->short_name, row->argument ? "+" : "",
				row->name, glue);
		else
			fprintf(file, "'--%s%s[", row->name, glue);
		zsh_quoted(file, row->help);
		fputc(']', file);
		if (row->argument)
			fprintf(file, ":%s:%s", row->argument, offer_zsh(row->argument));
		fputs("' \\\n", file);
	}
}

static void zsh_print(FILE *file, const struct command *const *commands)
{
	fputs("#compdef suture\n"
	      "# zsh completion of suture, written by 'suture __complete zsh'.\n"
	      "\n"
	      "_suture()\n"
	      "{\n"
	      "\tlocal context state state_descr line\n"
	      "\ttypeset -A opt_args\n"
	      "\tlocal -a commands=(\n",
	      file);
	for (const struct command *const *command = commands; *command; command++) {
		fprintf(file, "\t\t'%s:", (*command)->name);
		zsh_quoted(file, (*command)->summary);
		fputs("'\n", file);
	}
	fputs("\t)\n"
	      "\t_arguments -C \\\n",
	      file);
	zsh_options(file, global_options);
	fputs("\t\t\t'1:command:->command' \\\n"
	      "\t\t\t'*::operand:->operand'\n"
	      "\tcase $state in\n"
	      "\tcommand)\n"
	      "\t\t_describe command commands\n"
	      "\t\t;;\n"
	      "\toperand)\n"
	      "\t\tcase $words[1] in\n",
	      file);
	for (const struct command *const *command = commands; *command; command++) {
		fprintf(file, "\t\t%s) _arguments -s -S \\\n", (*command)->name);
		zsh_options(file, (*command)->options);
		zsh_options(file, global_options);
		fputs("\t\t\t'*:operand:_files'\n"
		      "\t\t\t;;\n",
		      file);
	}
	fputs("\t\tesac\n"
	      "\t\t;;\n"
	      "\tesac\n"
	      "}\n"
	      "\n"
	      "_suture \"$@\"\n",
	      file);
}

static struct error *run(struct command_context *context)
{
	for (const struct command *const *command = context->commands; *command; command++)
		rows_check(*command);
	if (string_equal(context->operands[0], "bash"))
		bash_print(stdout, context->commands);
	else if (string_equal(context->operands[0], "zsh"))
		zsh_print(stdout, context->commands);
	else
		return error_new(ERROR_KIND_USAGE, "no completion for '%s'", context->operands[0]);
	return NULL;
}

const struct command command_complete = {
	.name = "__complete",
	.summary = "print a shell's completion script",
	.operands = "bash|zsh",
	.operands_min = 1,
	.operands_max = 1,
	.run = run,
};
