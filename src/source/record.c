// SPDX-License-Identifier: MIT
/*
 * Reading what the masquerade wrote: one file per command, in the form that write_record() in
 * masquerade.c describes. Records lie in the cache, so a broken one is possible and is an error that
 * names it; files whose names begin with a dot are not whole and are passed over.
 */
#include <dirent.h>
#include <errno.h>
#include <string.h>

#include "internal.h"

static const char head[] = "suture-record 1\n";

static char **terminated(struct arena *arena, const struct names *names)
{
	char **array = arena_array(arena, names->list.count + 1, sizeof(char *));
	for (size_t i = 0; i < names->list.count; i++)
		array[i] = (char *)names->list.items[i];
	return array;
}

static void parse_arguments(struct arena *arena, struct command *command)
{
	arguments_parse(command->word_count, command->words, &command->arguments);
	// The roles, too, die with the arena.
	unsigned char *roles = command->arguments.roles;
	command->arguments.roles = arena_memdup(arena, roles, command->word_count + 1);
	free(roles);
}

struct error *record_parse(struct arena *arena, const char *name, char *bytes, size_t size,
			   struct command **ret)
{
	struct command *command = arena_new(arena, struct command);
	command->id = name;
	struct names words = {0}, variables = {0};
	size_t at = strlen(head);
	bool whole = false;
	struct error *error = NULL;
	if (size < at || memcmp(bytes, head, at) != 0)
		error = error_new(ERROR_KIND_INPUT, "the record '%s' has no head", name);
	while (!error && !whole) {
		if (!range_within(at, 5, size)) {
			error = error_new(ERROR_KIND_INPUT, "the record '%s' ends at byte %zu",
					  name, at);
			break;
		}
		const uint8_t *field = (const uint8_t *)bytes + at;
		uint32_t length = field[1] | (uint32_t)field[2] << 8 | (uint32_t)field[3] << 16 |
				  (uint32_t)field[4] << 24;
		at += 5;
		if (!range_within(at, length, size)) {
			error = error_new(
				ERROR_KIND_INPUT,
				"the record '%s' has a field of %u bytes at %zu, past its end",
				name, length, at);
			break;
		}
		char *text = arena_strndup(arena, bytes + at, length);
		at += length;
		switch (field[0]) {
		case 'd':
			command->directory = text;
			break;
		case 'n':
			command->name = text;
			break;
		case 't':
			command->tool = text;
			break;
		case 'b':
			command->start = strtoull(text, NULL, 10);
			break;
		case 'f':
			command->finish = strtoull(text, NULL, 10);
			break;
		case 's':
			command->status = atoi(text);
			break;
		case 'a':
			vec_push(&words.list, text);
			break;
		case 'e':
			vec_push(&variables.list, text);
			break;
		case 'm':
			command->dependencies = text;
			break;
		case 'z':
			whole = true;
			break;
		default:
			// From a later version of the masquerade.
			break;
		}
	}
	if (!error && (!command->directory || command->directory[0] != '/' || !command->name ||
		       !command->tool || words.list.count == 0))
		error = error_new(ERROR_KIND_INPUT, "the record '%s' lacks a field", name);
	if (!error) {
		command->words = terminated(arena, &words);
		command->word_count = words.list.count;
		command->environment = terminated(arena, &variables);
		command->kind = tool_kind_of(command->name);
		parse_arguments(arena, command);
		*ret = command;
	}
	vec_deinit(&words.list);
	vec_deinit(&variables.list);
	return error;
}

static int command_compare(const void *left, const void *right)
{
	const struct command *a = *(struct command *const *)left,
			     *b = *(struct command *const *)right;
	if (a->start != b->start)
		return a->start < b->start ? -1 : 1;
	return strcmp(a->id, b->id);
}

struct error *records_read(struct arena *arena, const char *directory, struct commands *ret)
{
	DIR *folder = opendir(directory);
	if (!folder)
		return error_errno(errno, "cannot read directory '%s'", directory);
	struct error *error = NULL;
	struct dirent *entry;
	while (!error && (entry = readdir(folder))) {
		if (entry->d_name[0] == '.')
			continue;
		_cleanup_free_ char *path = xasprintf("%s/%s", directory, entry->d_name);
		_cleanup_free_ char *bytes = NULL;
		size_t size;
		struct command *command;
		error = file_read(path, &bytes, &size);
		if (!error)
			error = record_parse(arena, arena_strdup(arena, entry->d_name), bytes, size,
					     &command);
		if (!error)
			vec_push(&ret->list, command);
	}
	closedir(folder);
	if (!error && ret->list.count)
		qsort(ret->list.items, ret->list.count, sizeof(*ret->list.items), command_compare);
	return error_prefix(error, "'%s'", directory);
}

size_t records_count(const char *directory)
{
	DIR *folder = opendir(directory);
	size_t count = 0;
	struct dirent *entry;
	while (folder && (entry = readdir(folder)))
		count += entry->d_name[0] != '.';
	if (folder)
		closedir(folder);
	return count;
}

// One word of a makefile: white space ends it, "\ " and "\#" stand for themselves, "$$" for "$".
static const char *next_word(const char *text, struct buffer *word, bool *ret_line_end)
{
	word->size = 0;
	*ret_line_end = false;
	for (;;) {
		if (text[0] == '\\' && text[1] == '\n')
			text += 2;
		else if (text[0] == '\\' && text[1] == '\r' && text[2] == '\n')
			text += 3;
		else if (*text == ' ' || *text == '\t' || *text == '\r')
			text++;
		else
			break;
	}
	if (*text == '\n' || *text == '\0') {
		*ret_line_end = true;
		return *text ? text + 1 : text;
	}
	while (*text && !strchr(" \t\r\n", *text)) {
		if (text[0] == '\\' && (text[1] == '\n' || text[1] == '\r'))
			break;
		if (text[0] == '\\' && text[1] && strchr(" \t#", text[1]))
			text++;
		else if (text[0] == '$' && text[1] == '$')
			text++;
		buffer_append(word, text++, 1);
	}
	return text;
}

void dependencies_parse(struct arena *arena, const char *text, const char *directory,
			const char *source, struct names *ret)
{
	_cleanup_buffer_ struct buffer word = {0};
	bool behind_colon = false, wanted = true, first = true, line_end;
	while (*text) {
		text = next_word(text, &word, &line_end);
		if (line_end) {
			behind_colon = false;
			first = true;
			continue;
		}
		if (!behind_colon) {
			// "target:" or "target" ":"; a colon within a name does not end it.
			if (word.size && word.bytes[word.size - 1] == ':') {
				behind_colon = true;
				wanted = true;
			}
			continue;
		}
		char *path = path_absolute(arena, directory, word.bytes);
		if (first && source)
			wanted = string_equal(path, source);
		first = false;
		if (wanted)
			vec_push(&ret->list, path);
	}
}
