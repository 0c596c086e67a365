// SPDX-License-Identifier: MIT
/*
 * suture: the table of commands, and the way from a command line to an exit status.
 */
#include "cmd/command.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

// X(name) for each command, written by src/cmd/meson.build.
#define X(name) extern const struct command command_##name;
#include "commands.inc"
#undef X

static const struct command *const commands[] = {
#define X(name) &command_##name,
#include "commands.inc"
#undef X
	NULL,
};

// Not in --help: only the build runs them.
static const struct command *const hidden_commands[] = {&command_complete, &command_man, NULL};

static struct error *unknown_command(const char *name)
{
	const char *names[ARRAY_SIZE(commands)];
	size_t count = 0;
	for (; commands[count]; count++)
		names[count] = commands[count]->name;
	const char *nearest = nearest_name(name, names, count);
	if (nearest)
		return error_new(ERROR_KIND_USAGE, "unknown command '%s': did you mean '%s'?", name,
				 nearest);
	return error_new(ERROR_KIND_USAGE, "unknown command '%s'", name);
}

static struct error *command_run(struct command_context *context, int argc, char **argv)
{
	TRY(options_parse(context, argc, argv));
	if (global_values.help) {
		help_print_command(stdout, context->command);
		return NULL;
	}
	if (global_values.version) {
		puts("suture " SUTURE_VERSION);
		return NULL;
	}
	struct progress progress;
	cmd_progress_init(&progress, context->quiet);
	context->progress = &progress;
	struct error *error = context->command->run(context);
	cmd_progress_clear();
	return error;
}

static struct error *tool_run(struct command_context *context, int argc, char **argv)
{
	int used;
	TRY(options_parse_global(argc, argv, &used));
	argc -= used;
	argv += used;
	if (argc == 0 && global_values.version) {
		puts("suture " SUTURE_VERSION);
		return NULL;
	}
	if (argc == 0 && global_values.help) {
		help_print_tool(stdout, commands);
		return NULL;
	}
	if (argc == 0)
		return error_new(ERROR_KIND_USAGE, "a command is missing");
	context->command = command_find(commands, argv[0]);
	if (!context->command)
		context->command = command_find(hidden_commands, argv[0]);
	if (!context->command)
		return unknown_command(argv[0]);
	return command_run(context, argc - 1, argv + 1);
}

// A result that was cut off by a full disk is no result.
static struct error *output_flush(void)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return NULL;
	return error_errno(errno ? errno : EIO, "cannot write to standard output");
}

// A file opened for the target's sake must not land on descriptor 2 and be talked into.
static void standard_descriptors_open(void)
{
	int fd;
	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= STDERR_FILENO);
	if (fd >= 0)
		close(fd);
}

int main(int argc, char **argv)
{
	standard_descriptors_open();
	struct command_context context = {.commands = commands};
	_cleanup_error_ struct error *error =
		tool_run(&context, argc - (argc > 0), argv + (argc > 0));
	if (!error)
		error = output_flush();
	if (!error)
		return context.exit_status;
	fflush(stdout);
	print_failure(error);
	if (error->kind == ERROR_KIND_USAGE)
		fprintf(stderr, "Try 'suture %s%s--help'.\n",
			context.command ? context.command->name : "", context.command ? " " : "");
	return error_kind_exit_status(error->kind);
}
