// SPDX-License-Identifier: MIT
/*
 * From commands to a graph: which source became which object, and which objects went into which
 * archives and linked files.
 *
 *     gcc -c a.c -o a.o        compile   a.c (+ headers) -> a.o
 *     ar rcs lib.a a.o b.o     container {a.o, b.o} -> lib.a
 *     gcc main.o -L. -l:lib.a  link      {main.o, lib.a} -> a.out
 *
 * Everything goes by absolute path, as the commands saw it. A later command of the same output wins,
 * but an archive keeps the members of all of them. libtool unpacks convenience archives before it
 * puts their objects into others (".libs/x.lax/libc.a/a.o"); these are followed by the names in
 * that path. An archive counts with all of its members, though a linker takes only those it needs:
 * whether a function is really in the target is seen in the target.
 */
#include <string.h>

#include "internal.h"

static const char *without_suffix(struct arena *arena, const char *path)
{
	const char *name = path_basename(path);
	const char *dot = strrchr(name, '.');
	return dot ? arena_strndup(arena, name, (size_t)(dot - name)) : name;
}

static void add_compile(struct arena *arena, struct build_graph *graph,
			const struct command *command, const char *source, const char *object,
			const char *linked)
{
	const char *name = path_within(graph->root, object);
	if (!name) {
		// A configure script's trials are no part of the build.
		if (!string_starts_with(object, "/tmp/") && !string_equal(object, "/dev/null"))
			graph->outside = object;
		return;
	}
	struct compile *compile = hashmap_get_string(graph->compile_of, name);
	if (!compile) {
		compile = arena_new(arena, struct compile);
		vec_push(&graph->compiles, compile);
		hashmap_set_string(graph->compile_of, name, compile);
	}
	vec_deinit(&compile->inputs.list);
	*compile = (struct compile){
		.command = command,
		.source = source,
		.object = name,
		.linked = linked ? path_within(graph->root, linked) : NULL,
	};
	vec_push(&compile->inputs.list, source);
	if (command->dependencies)
		dependencies_parse(arena, command->dependencies, command->directory,
				   command->arguments.source_count > 1 ? source : NULL,
				   &compile->inputs);
}

static struct link *add_link(struct arena *arena, struct build_graph *graph, const char *output,
			     bool container)
{
	struct link *link = hashmap_get_string(graph->link_of, output);
	if (!link) {
		link = arena_new(arena, struct link);
		link->output = output;
		vec_push(&graph->links, link);
		hashmap_set_string(graph->link_of, output, link);
	}
	link->container = container;
	return link;
}

// -lNAME by the -L folders of the command: a library of the tree itself.
static void add_library(struct arena *arena, struct build_graph *graph,
			const struct command *command, const char *name, struct link *link)
{
	for (size_t i = 1; i < command->word_count; i++) {
		const char *word = command->words[i];
		if (!string_starts_with(word, "-L"))
			continue;
		const char *folder = word[2]                       ? word + 2
				     : i + 1 < command->word_count ? command->words[i + 1]
								   : ".";
		const char *file = name[0] == ':' ? name + 1 : arena_printf(arena, "lib%s.a", name);
		const char *path = path_absolute(arena, command->directory,
						 arena_printf(arena, "%s/%s", folder, file));
		if (hashmap_get_string(graph->link_of, path))
			vec_push(&link->inputs.list, path);
	}
}

static void add_linking(struct arena *arena, struct build_graph *graph,
			const struct command *command)
{
	const struct arguments *arguments = &command->arguments;
	const char *output = path_absolute(arena, command->directory,
					   arguments->output ? arguments->output : "a.out");
	if (string_equal(output, "/dev/null"))
		return;
	struct link *link = add_link(arena, graph, output, arguments->relocatable);
	link->inputs.list.count = 0;
	for (size_t i = 1; i < command->word_count; i++) {
		const char *word = command->words[i];
		const char *path = path_absolute(arena, command->directory, word);
		switch (arguments->roles[i]) {
		case ARGUMENT_INPUT:
			vec_push(&link->inputs.list, path);
			break;
		case ARGUMENT_LIBRARY:
			add_library(arena, graph, command, word + 2, link);
			break;
		case ARGUMENT_SOURCE:
			if (command->kind == TOOL_COMPILER && !string_equal(word, "-")) {
				const char *object = arena_printf(
					arena, "%.*s/%s-%s.o",
					(int)(path_basename(output) - output - 1), output,
					path_basename(output), without_suffix(arena, path));
				add_compile(arena, graph, command, path, object, output);
				vec_push(&link->inputs.list, object);
			}
			break;
		default:
			// "-Wl,--whole-archive,libx.a" and the like.
			if (string_starts_with(word, "-Wl,") && strstr(word, ".a")) {
				_cleanup_free_ char *parts = xstrdup(word + 4);
				for (char *save, *part = strtok_r(parts, ",", &save); part;
				     part = strtok_r(NULL, ",", &save))
					if (part[0] != '-')
						vec_push(&link->inputs.list,
							 path_absolute(arena, command->directory,
								       part));
			}
			break;
		}
	}
}

static void add_compiler(struct arena *arena, struct build_graph *graph,
			 const struct command *command)
{
	const struct arguments *arguments = &command->arguments;
	if (arguments->query || arguments->preprocess || arguments->assembly ||
	    arguments->from_stdin)
		return;
	if (!arguments->compile) {
		add_linking(arena, graph, command);
		return;
	}
	for (size_t i = 1; i < command->word_count; i++) {
		if (arguments->roles[i] != ARGUMENT_SOURCE)
			continue;
		const char *source = path_absolute(arena, command->directory, command->words[i]);
		const char *object =
			arguments->output
				? arguments->output
				: arena_printf(arena, "%s.o", without_suffix(arena, source));
		add_compile(arena, graph, command, source,
			    path_absolute(arena, command->directory, object), NULL);
	}
}

static void add_assembler(struct arena *arena, struct build_graph *graph,
			  const struct command *command)
{
	const char *source = NULL;
	for (size_t i = 1; i < command->word_count; i++)
		if (command->arguments.roles[i] == ARGUMENT_SOURCE)
			source = path_absolute(arena, command->directory, command->words[i]);
	const char *object = command->arguments.output ? command->arguments.output : "a.out";
	// "/tmp/ccXXXXXX.s": by a compiler that was not seen itself. It cannot be repeated.
	if (source && path_within(graph->root, source))
		add_compile(arena, graph, command, source,
			    path_absolute(arena, command->directory, object), NULL);
}

// ar [--option]... [-]OPERATION[MODIFIERS] [RELPOS] [COUNT] ARCHIVE MEMBER...
static void add_archiver(struct arena *arena, struct build_graph *graph,
			 const struct command *command)
{
	size_t i = 1;
	while (i < command->word_count && string_starts_with(command->words[i], "--"))
		i += string_equal(command->words[i], "--plugin") ||
				     string_equal(command->words[i], "--target")
			     ? 2
			     : 1;
	if (i >= command->word_count)
		return;
	const char *operation = command->words[i++];
	if (!strpbrk(operation, "rq"))
		return;
	// Options may follow in words of their own: "ar r -c lib.a".
	while (i < command->word_count && command->words[i][0] == '-')
		i++;
	i += strpbrk(operation, "abi") != NULL;
	i += strchr(operation, 'N') != NULL;
	if (i >= command->word_count)
		return;
	struct link *link = add_link(
		arena, graph, path_absolute(arena, command->directory, command->words[i++]), true);
	for (; i < command->word_count; i++)
		vec_push(&link->inputs.list,
			 path_absolute(arena, command->directory, command->words[i]));
}

void build_graph_create(struct arena *arena, const char *root, const struct commands *commands,
			struct build_graph *ret)
{
	*ret = (struct build_graph){
		.root = root,
		.compile_of = hashmap_create(),
		.link_of = hashmap_create(),
	};
	for (size_t i = 0; i < commands->list.count; i++) {
		const struct command *command = commands->list.items[i];
		if (command->status != 0)
			continue;
		switch (command->kind) {
		case TOOL_COMPILER:
			add_compiler(arena, ret, command);
			break;
		case TOOL_LINKER:
			add_linking(arena, ret, command);
			break;
		case TOOL_ASSEMBLER:
			add_assembler(arena, ret, command);
			break;
		case TOOL_ARCHIVER:
			add_archiver(arena, ret, command);
			break;
		case TOOL_STRIP:
		case TOOL_BUILDER:
		case TOOL_OTHER:
			break;
		}
	}
}

void build_graph_free(struct build_graph *graph)
{
	for (size_t i = 0; i < graph->compiles.count; i++)
		vec_deinit(&graph->compiles.items[i]->inputs.list);
	for (size_t i = 0; i < graph->links.count; i++)
		vec_deinit(&graph->links.items[i]->inputs.list);
	vec_deinit(&graph->compiles);
	vec_deinit(&graph->links);
	hashmap_free(graph->compile_of);
	hashmap_free(graph->link_of);
	*graph = (struct build_graph){0};
}

bool compile_reads(const struct compile *compile, const char *path)
{
	for (size_t i = 0; i < compile->inputs.list.count; i++)
		if (string_equal(compile->inputs.list.items[i], path))
			return true;
	return false;
}

static bool link_contains(const struct build_graph *graph, const struct link *link,
			  const char *object, unsigned depth);

// ".../x.lax/libc.a/a.o": the member "a.o" of any archive "libc.a" of the build.
static bool unpacked_is(const struct build_graph *graph, const char *input, const char *object,
			unsigned depth)
{
	const char *lax = strstr(input, ".lax/");
	if (!lax || !string_equal(path_basename(input), path_basename(object)))
		return false;
	const char *archive = lax + strlen(".lax/");
	size_t size = strcspn(archive, "/");
	for (size_t i = 0; i < graph->links.count; i++) {
		const struct link *link = graph->links.items[i];
		const char *name = path_basename(link->output);
		if (link->container && strlen(name) == size && memcmp(name, archive, size) == 0 &&
		    link_contains(graph, link, object, depth + 1))
			return true;
	}
	return false;
}

static bool link_contains(const struct build_graph *graph, const struct link *link,
			  const char *object, unsigned depth)
{
	// An archive that holds itself, in a record that somebody made.
	if (depth > 32)
		return false;
	for (size_t i = 0; i < link->inputs.list.count; i++) {
		const char *input = link->inputs.list.items[i];
		if (string_equal(input, object) || unpacked_is(graph, input, object, depth))
			return true;
		const struct link *container = hashmap_get_string(graph->link_of, input);
		if (container && container->container && container != link &&
		    link_contains(graph, container, object, depth + 1))
			return true;
	}
	return false;
}

void build_graph_linked_into(struct arena *arena, const struct build_graph *graph,
			     const char *object, struct names *ret)
{
	const char *absolute = arena_printf(arena, "%s/%s", graph->root, object);
	for (size_t i = 0; i < graph->links.count; i++) {
		const struct link *link = graph->links.items[i];
		const char *name = path_within(graph->root, link->output);
		if (name && !link->container && link_contains(graph, link, absolute, 0))
			vec_push(&ret->list, name);
	}
}
