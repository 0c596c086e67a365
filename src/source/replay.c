// SPDX-License-Identifier: MIT
/*
 * Repeating a recorded compile.
 *
 * It runs as it ran in the build: same tool, words, directory and environment, same name for its
 * output, in a tree whose changes are thrown away or kept apart (tree.c). So nothing in the command
 * has to be redirected, and what a compiler derives from the output's name (coverage files, split
 * debug information) stays the same. Sections are two more options at the end, where they win.
 *
 * A command that compiles and links at once ("gcc a.c b.c -o prog") leaves no object. It is split:
 * each source by itself with -c, into "prog-a.o", the name that gcc itself derives others from.
 */
#include <string.h>

#include "internal.h"

// Of assembler files there is nothing that a compiler could divide.
static bool has_sections(const struct compile *compile)
{
	return compile->command->kind == TOOL_COMPILER &&
	       !string_ends_with(compile->source, ".s") &&
	       !string_ends_with(compile->source, ".S") &&
	       !string_ends_with(compile->source, ".sx");
}

void replay_job(struct arena *arena, const char *root, const struct compile *compile,
		enum replay_kind kind, int log, struct job *ret)
{
	static const char *const sections[] = {"-ffunction-sections", "-fdata-sections"};
	const struct command *command = compile->command;
	char **words = arena_array(arena, command->word_count + 8, sizeof(char *));
	size_t count = 0;
	// "--" ends the options: ours stand in front of it.
	size_t last = command->word_count;
	for (size_t i = 1; i < command->word_count; i++)
		if (string_equal(command->words[i], "--") && last == command->word_count)
			last = i;
	for (size_t i = 0; i <= command->word_count; i++) {
		if (i == last) {
			for (size_t k = 0; k < ARRAY_SIZE(sections); k++)
				if (kind == REPLAY_SECTIONED && has_sections(compile))
					words[count++] = (char *)sections[k];
			if (compile->linked) {
				words[count++] = (char *)"-c";
				words[count++] = (char *)"-o";
				words[count++] =
					arena_printf(arena, "%s/%s", root, compile->object);
			}
		}
		if (i == command->word_count)
			break;
		unsigned char role = command->arguments.roles[i];
		if (compile->linked && i) {
			if (role == ARGUMENT_INPUT || role == ARGUMENT_LIBRARY ||
			    role == ARGUMENT_OUTPUT)
				continue;
			if (role == ARGUMENT_SOURCE &&
			    !string_equal(
				    path_absolute(arena, command->directory, command->words[i]),
				    compile->source))
				continue;
		}
		words[count++] = command->words[i];
	}
	*ret = (struct job){
		.directory = command->directory,
		.program = command->tool,
		.words = words,
		.environment = command->environment,
		.log = log,
	};
}
