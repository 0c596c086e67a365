// SPDX-License-Identifier: MIT
/*
 * Unified diffs, as `diff -u` and git write them, applied strictly.
 *
 * A hunk applies where all its old lines stand exactly: there is no fuzz, because a hunk that lands
 * in the wrong function becomes code in a running process. It may have moved; of several places the
 * nearest to where it should be is taken, as patch(1) does, and hunks keep their order. All diffs
 * are applied in memory first: one hunk that fails and nothing is written.
 *
 * Names are taken from outside, so they are opened beneath the tree (openat2), and ".." or a link
 * that leads out of it is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

struct hunk {
	size_t old_start, new_start; // as written: counted from 1, 0 in an empty file
	VEC(struct line) old_lines, new_lines;
	const char *text; // for messages
	size_t text_size;
};

struct file_diff {
	const char *old_name, *new_name; // as written, "a/" and "b/" included
	bool created, removed, renamed, copied, git, binary;
	unsigned mode; // of git's "new mode", "new file mode"; 0: none
	VEC(struct hunk) hunks;
};

struct diff {
	const char *path;
	VEC(struct file_diff) files;
};

struct diff_set {
	VEC(struct diff) diffs;
};

// ---- reading -----------------------------------------------------------------------------------

struct reader {
	struct arena *arena;
	const char *path;
	const char *at, *end;
	size_t line_number;
};

static bool reader_peek(const struct reader *reader, struct line *ret)
{
	if (reader->at == reader->end)
		return false;
	const char *newline = memchr(reader->at, '\n', (size_t)(reader->end - reader->at));
	ret->number = 0;
	ret->text = reader->at;
	ret->size =
		newline ? (size_t)(newline - reader->at) + 1 : (size_t)(reader->end - reader->at);
	return true;
}

static void reader_skip(struct reader *reader, const struct line *line)
{
	reader->at += line->size;
	reader->line_number++;
}

static bool line_starts(const struct line *line, const char *prefix)
{
	size_t size = strlen(prefix);
	return line->size >= size && memcmp(line->text, prefix, size) == 0;
}

static struct error *malformed(const struct reader *reader, const char *what)
{
	return error_new(ERROR_KIND_BUILD, "'%s' is not a diff that can be applied: line %zu: %s",
			 reader->path, reader->line_number, what);
}

// git puts names with unusual bytes in quotes, with C escapes.
static char *unquote(struct arena *arena, const char *text, size_t size)
{
	char *name = arena_alloc(arena, size + 1), *out = name;
	for (size_t i = 1; i < size && text[i] != '"'; i++) {
		if (text[i] != '\\' || i + 1 == size) {
			*out++ = text[i];
			continue;
		}
		i++;
		if (text[i] >= '0' && text[i] <= '3' && i + 2 < size) {
			*out++ = (char)((text[i] - '0') * 64 + (text[i + 1] - '0') * 8 +
					(text[i + 2] - '0'));
			i += 2;
		} else {
			const char *from = "abtnvfr\"\\", *to = "\a\b\t\n\v\f\r\"\\";
			const char *found = strchr(from, text[i]);
			*out++ = found && *found ? to[found - from] : text[i];
		}
	}
	*out = '\0';
	return name;
}

// The name behind "--- ": up to a tab, or the line's end.
static char *parse_name(struct arena *arena, const struct line *line, size_t skip)
{
	const char *text = line->text + skip;
	size_t size = line->size - skip;
	while (size && (text[size - 1] == '\n' || text[size - 1] == '\r'))
		size--;
	if (size && text[0] == '"')
		return unquote(arena, text, size);
	const char *tab = memchr(text, '\t', size);
	if (tab)
		size = (size_t)(tab - text);
	return arena_strndup(arena, text, size);
}

static bool parse_number(const char **text, const char *end, size_t *ret)
{
	size_t value = 0;
	const char *start = *text;
	for (; *text < end && **text >= '0' && **text <= '9'; (*text)++)
		if (!checked_mul(value, (size_t)10, &value) ||
		    !checked_add(value, (size_t)(**text - '0'), &value))
			return false;
	*ret = value;
	return *text > start;
}

// "START" or "START,COUNT".
static bool parse_range(const char **text, const char *end, size_t *ret_start, size_t *ret_count)
{
	*ret_count = 1;
	if (!parse_number(text, end, ret_start))
		return false;
	if (*text < end && **text == ',') {
		(*text)++;
		return parse_number(text, end, ret_count);
	}
	return true;
}

static struct error *parse_hunk(struct reader *reader, struct file_diff *file)
{
	struct line line;
	reader_peek(reader, &line);
	vec_push(&file->hunks, (struct hunk){.text = line.text});
	struct hunk *hunk = &file->hunks.items[file->hunks.count - 1];
	size_t old_count, new_count;
	const char *at = line.text + 4, *end = line.text + line.size;
	if (!parse_range(&at, end, &hunk->old_start, &old_count) || at + 2 > end ||
	    memcmp(at, " +", 2) != 0)
		return malformed(reader, "a hunk's line numbers cannot be read");
	at += 2;
	if (!parse_range(&at, end, &hunk->new_start, &new_count) || at + 3 > end ||
	    memcmp(at, " @@", 3) != 0)
		return malformed(reader, "a hunk's line numbers cannot be read");
	reader_skip(reader, &line);

	char last = ' ';
	while (hunk->old_lines.count < old_count || hunk->new_lines.count < new_count ||
	       (reader_peek(reader, &line) && line_starts(&line, "\\ "))) {
		if (!reader_peek(reader, &line))
			return malformed(reader, "the file ends within a hunk");
		char kind = line.text[0];
		struct line content = {.text = line.text + 1, .size = line.size - 1};
		if (kind == '\n' || kind == '\r') {
			// An empty context line whose space a mailer took away.
			kind = ' ';
			content = line;
		}
		if (kind == '\\') {
			// "\ No newline at end of file": of the line before it.
			if (last != '+' && hunk->old_lines.count)
				hunk->old_lines.items[hunk->old_lines.count - 1].size--;
			if (last != '-' && hunk->new_lines.count)
				hunk->new_lines.items[hunk->new_lines.count - 1].size--;
			last = '\\';
		} else if (kind == ' ' || kind == '-' || kind == '+') {
			last = kind;
			if (kind != '+')
				vec_push(&hunk->old_lines, content);
			// A line that stays keeps its number; here it is its place among the old.
			content.number = kind == ' ' ? hunk->old_lines.count : 0;
			if (kind != '-')
				vec_push(&hunk->new_lines, content);
			if (hunk->old_lines.count > old_count || hunk->new_lines.count > new_count)
				return malformed(reader, "a hunk is longer than its head says");
		} else {
			return malformed(reader, "a hunk is shorter than its head says");
		}
		reader_skip(reader, &line);
	}
	hunk->text_size = (size_t)(reader->at - hunk->text);
	return NULL;
}

// "diff --git a/x b/x" and what follows up to the hunks. The names in this line are ambiguous with
// spaces in them; they matter only for an empty file or a changed mode, where both are the same.
static void parse_git_line(struct reader *reader, struct file_diff *file, const struct line *line)
{
	static const struct {
		const char *prefix;
		enum { OLD_NAME, NEW_NAME, CREATED, REMOVED, MODE, BINARY } what;
	} rows[] = {
		{"rename from ", OLD_NAME},      {"rename to ", NEW_NAME},
		{"copy from ", OLD_NAME},        {"copy to ", NEW_NAME},
		{"new file mode ", CREATED},     {"new mode ", MODE},
		{"deleted file mode ", REMOVED}, {"GIT binary patch", BINARY},
		{"Binary files ", BINARY},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!line_starts(line, rows[i].prefix))
			continue;
		size_t skip = strlen(rows[i].prefix);
		switch (rows[i].what) {
		case OLD_NAME:
		case NEW_NAME: {
			bool quoted = line->size > skip && line->text[skip] == '"';
			char *name = parse_name(reader->arena, line, skip);
			// These two come without "a/" and "b/".
			name = arena_printf(reader->arena, "%s/%s",
					    rows[i].what == OLD_NAME ? "a" : "b", name);
			(void)quoted;
			if (rows[i].what == OLD_NAME)
				file->old_name = name;
			else
				file->new_name = name;
			file->renamed = line_starts(line, "rename") || file->renamed;
			file->copied = line_starts(line, "copy") || file->copied;
			break;
		}
		case CREATED:
			file->created = true;
			file->mode = (unsigned)strtoul(line->text + skip, NULL, 8);
			break;
		case REMOVED:
			file->removed = true;
			break;
		case MODE:
			file->mode = (unsigned)strtoul(line->text + skip, NULL, 8);
			break;
		case BINARY:
			file->binary = true;
			break;
		}
	}
}

static void parse_git_head(struct reader *reader, struct file_diff *file, const struct line *line)
{
	// Both names are the same but for "a/" and "b/": the line splits in the middle.
	const char *text = line->text + strlen("diff --git ");
	size_t size = line->size - strlen("diff --git ");
	while (size && (text[size - 1] == '\n' || text[size - 1] == '\r'))
		size--;
	if (text[0] != '"' && size % 2 == 1) {
		file->old_name = arena_strndup(reader->arena, text, size / 2);
		file->new_name = arena_strndup(reader->arena, text + size / 2 + 1, size / 2);
	}
	file->git = true;
}

// "/dev/null", or a date at the epoch, in any time zone: "no such file" to diff -N.
static bool names_nothing(const struct line *line, const char *name)
{
	const char *tab = memchr(line->text, '\t', line->size);
	size_t rest = tab ? line->size - (size_t)(tab + 1 - line->text) : 0;
	return string_equal(name, "/dev/null") ||
	       (rest >= 10 && (memcmp(tab + 1, "1970-01-01", 10) == 0 ||
			       memcmp(tab + 1, "1969-12-31", 10) == 0));
}

static struct error *diff_parse(struct reader *reader, struct diff *diff)
{
	struct file_diff *file = NULL;
	bool body = false; // the current file has its "---" and "+++"
	struct line line, next;
	while (reader_peek(reader, &line)) {
		if (line_starts(&line, "diff --git ")) {
			vec_push(&diff->files, (struct file_diff){0});
			file = &diff->files.items[diff->files.count - 1];
			parse_git_head(reader, file, &line);
			body = false;
		} else if (line_starts(&line, "--- ")) {
			struct reader ahead = *reader;
			reader_skip(&ahead, &line);
			if (reader_peek(&ahead, &next) && line_starts(&next, "+++ ")) {
				if (!file || body || !file->git) {
					vec_push(&diff->files, (struct file_diff){0});
					file = &diff->files.items[diff->files.count - 1];
				}
				file->old_name = parse_name(reader->arena, &line, 4);
				file->new_name = parse_name(reader->arena, &next, 4);
				file->created = file->created || names_nothing(&line, file->old_name);
				file->removed = file->removed || names_nothing(&next, file->new_name);
				body = true;
				reader_skip(reader, &line);
				line = next;
			}
		} else if (line_starts(&line, "@@ -")) {
			if (!file || !body)
				return malformed(reader,
						 "a hunk without '---' and '+++' lines before it");
			TRY(parse_hunk(reader, file));
			continue;
		} else if (line_starts(&line, "*** ") && !body) {
			return malformed(reader, "it is a context diff: make it with diff -u");
		} else if (file && file->git && !body) {
			parse_git_line(reader, file, &line);
		}
		reader_skip(reader, &line);
	}
	for (size_t i = 0; i < diff->files.count; i++) {
		file = &diff->files.items[i];
		if (file->binary)
			return error_new(ERROR_KIND_BUILD, "'%s' changes the binary file '%s'",
					 reader->path, file->new_name ? file->new_name : "?");
		if (!file->old_name || !file->new_name)
			return malformed(reader, "a file's name cannot be read");
	}
	if (diff->files.count == 0)
		return error_new(ERROR_KIND_BUILD,
				 "'%s' holds no unified diff: make one with diff -u", reader->path);
	return NULL;
}

struct error *diff_set_read(struct arena *arena, const char *const *paths, size_t count,
			    struct diff_set **ret)
{
	struct diff_set *set = *ret = arena_new(arena, struct diff_set);
	for (size_t i = 0; i < count; i++) {
		_cleanup_free_ char *bytes = NULL;
		size_t size;
		TRY(file_read(paths[i], &bytes, &size));
		char *kept = arena_memdup(arena, bytes, size + 1);
		struct reader reader = {arena, paths[i], kept, kept + size, 1};
		vec_push(&set->diffs, (struct diff){.path = paths[i]});
		TRY(diff_parse(&reader, &set->diffs.items[i]));
	}
	return NULL;
}

void diff_set_free(struct diff_set *set)
{
	for (size_t i = 0; set && i < set->diffs.count; i++) {
		struct diff *diff = &set->diffs.items[i];
		for (size_t k = 0; k < diff->files.count; k++) {
			struct file_diff *file = &diff->files.items[k];
			for (size_t n = 0; n < file->hunks.count; n++) {
				vec_deinit(&file->hunks.items[n].old_lines);
				vec_deinit(&file->hunks.items[n].new_lines);
			}
			vec_deinit(&file->hunks);
		}
		vec_deinit(&diff->files);
	}
	if (set)
		vec_deinit(&set->diffs);
}

// ---- applying ------------------------------------------------------------------------------------

// A file that a diff touches, as it stands so far.
struct content {
	const char *name; // relative to the root
	bool exists, existed, touched;
	unsigned mode;
	VEC(struct line) lines;
};

struct state {
	struct arena *arena;
	int root;
	const char *root_path;
	VEC(struct content *) contents;
};

static int open_beneath(int root, const char *name, int flags, unsigned mode)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
	};
	return (int)syscall(SYS_openat2, root, name, &how, sizeof(how));
}

// @name without @strip leading parts, or NULL when it has no more.
static const char *stripped(const char *name, int strip)
{
	while (strip-- > 0) {
		name = strchr(name, '/');
		if (!name)
			return NULL;
		while (*name == '/')
			name++;
	}
	return *name ? name : NULL;
}

static bool name_is_safe(const char *name)
{
	if (name[0] == '/')
		return false;
	for (const char *part = name; part; part = strchr(part, '/')) {
		part += strspn(part, "/");
		if (string_starts_with(part, "..") && (part[2] == '/' || part[2] == '\0'))
			return false;
	}
	return true;
}

static struct error *load(struct state *state, const char *name, struct content **ret)
{
	for (size_t i = 0; i < state->contents.count; i++)
		if (string_equal(state->contents.items[i]->name, name)) {
			*ret = state->contents.items[i];
			return NULL;
		}
	struct content *content = arena_new(state->arena, struct content);
	content->name = name;
	_cleanup_close_ int fd = open_beneath(state->root, name, O_RDONLY | O_NONBLOCK, 0);
	struct stat status;
	if (fd >= 0) {
		if (fstat(fd, &status) < 0 || !S_ISREG(status.st_mode))
			return error_new(ERROR_KIND_BUILD, "'%s' in '%s' is not a file", name,
					 state->root_path);
		_cleanup_free_ char *path = xasprintf("/proc/self/fd/%d", fd);
		_cleanup_free_ char *bytes = NULL;
		size_t size;
		TRY(error_prefix(file_read(path, &bytes, &size), "'%s'", name));
		char *kept = arena_memdup(state->arena, bytes, size + 1);
		struct reader reader = {.at = kept, .end = kept + size};
		struct line line;
		while (reader_peek(&reader, &line)) {
			line.number = content->lines.count + 1;
			vec_push(&content->lines, line);
			reader_skip(&reader, &line);
		}
		content->exists = content->existed = true;
		content->mode = status.st_mode & 07777;
	} else if (errno == EXDEV || errno == ELOOP) {
		return error_new(ERROR_KIND_BUILD, "the name '%s' leads out of '%s'", name,
				 state->root_path);
	} else if (errno != ENOENT && errno != ENOTDIR) {
		return error_errno(errno, "cannot read '%s' in '%s'", name, state->root_path);
	}
	vec_push(&state->contents, content);
	*ret = content;
	return NULL;
}

static bool line_equal(const struct line *a, const struct line *b)
{
	return a->size == b->size && memcmp(a->text, b->text, a->size) == 0;
}

static bool lines_stand_at(const struct content *content, size_t at, const struct line *lines,
			   size_t count)
{
	if (at > content->lines.count || count > content->lines.count - at)
		return false;
	for (size_t i = 0; i < count; i++)
		if (!line_equal(&content->lines.items[at + i], &lines[i]))
			return false;
	return true;
}

// The place nearest to @wanted, not before @from, where @lines stand.
static bool find_lines(const struct content *content, size_t wanted, size_t from,
		       const struct line *lines, size_t count, size_t *ret)
{
	for (size_t distance = 0; distance <= content->lines.count + wanted; distance++) {
		if (wanted >= distance && wanted - distance >= from &&
		    lines_stand_at(content, wanted - distance, lines, count)) {
			*ret = wanted - distance;
			return true;
		}
		if (wanted + distance >= from &&
		    lines_stand_at(content, wanted + distance, lines, count)) {
			*ret = wanted + distance;
			return true;
		}
	}
	return false;
}

static void replace_lines(struct content *content, size_t at, const struct hunk *hunk)
{
	size_t removed = hunk->old_lines.count, added = hunk->new_lines.count;
	size_t tail = content->lines.count - at - removed;
	_cleanup_free_ size_t *numbers = xcalloc(removed + 1, sizeof(*numbers));
	for (size_t i = 0; i < removed; i++)
		numbers[i] = content->lines.items[at + i].number;
	for (size_t i = removed; i < added; i++)
		vec_push(&content->lines, (struct line){0});
	struct line *items = content->lines.items;
	if (tail)
		memmove(items + at + added, items + at + removed, tail * sizeof(*items));
	if (added)
		memcpy(items + at, hunk->new_lines.items, added * sizeof(*items));
	for (size_t i = at; i < at + added; i++)
		items[i].number = items[i].number ? numbers[items[i].number - 1] : 0;
	content->lines.count = at + added + tail;
}

static struct error *apply_hunks(const struct diff *diff, const struct file_diff *file,
				 struct content *content)
{
	_cleanup_buffer_ struct buffer rejects = {0};
	size_t failed = 0, from = 0, applied = 0;
	long long moved = 0;
	for (size_t i = 0; i < file->hunks.count; i++) {
		const struct hunk *hunk = &file->hunks.items[i];
		// With nothing to match, the line is the only word about the place.
		size_t first = hunk->old_lines.count ? hunk->old_start - !!hunk->old_start
						     : hunk->old_start;
		long long expected = (long long)first + moved;
		size_t wanted = expected < (long long)from ? from : (size_t)expected;
		size_t at;
		bool found = hunk->old_lines.count
				     ? find_lines(content, wanted, from, hunk->old_lines.items,
						  hunk->old_lines.count, &at)
				     : (at = wanted, wanted <= content->lines.count);
		if (!found) {
			size_t ignored;
			if (hunk->new_lines.count &&
			    find_lines(content, wanted, 0, hunk->new_lines.items,
				       hunk->new_lines.count, &ignored))
				applied++;
			if (failed++ < 3)
				buffer_append(&rejects, hunk->text, hunk->text_size);
			continue;
		}
		replace_lines(content, at, hunk);
		moved += (long long)at - expected + (long long)hunk->new_lines.count -
			 (long long)hunk->old_lines.count;
		from = at + hunk->new_lines.count;
	}
	if (!failed)
		return NULL;
	while (rejects.size && rejects.bytes[rejects.size - 1] == '\n')
		rejects.bytes[--rejects.size] = '\0';
	return error_new(
		ERROR_KIND_BUILD, "'%s' does not apply to '%s': %zu of %zu hunks %s%s:\n%s",
		diff->path, content->name, failed, file->hunks.count,
		failed == 1 ? "is rejected" : "are rejected",
		applied == failed ? " (the change seems to be there already)" : "", rejects.bytes);
}

static struct error *apply_file(struct state *state, const struct diff *diff,
				const struct file_diff *file, int strip)
{
	const char *old_name = file->created ? NULL : stripped(file->old_name, strip);
	const char *new_name = file->removed ? NULL : stripped(file->new_name, strip);
	// diff -u of two trees: "redis.orig/src/a.c" and "redis/src/a.c"; patch(1) takes what exists.
	if (old_name && new_name && !file->renamed && !file->copied &&
	    !string_equal(old_name, new_name)) {
		struct content *content;
		TRY(load(state, new_name, &content));
		if (content->exists)
			old_name = new_name;
		else
			new_name = old_name;
	}
	for (int i = 0; i < 2; i++) {
		const char *name = i ? new_name : old_name;
		if (name && !name_is_safe(name))
			return error_new(ERROR_KIND_BUILD,
					 "'%s' names '%s', which is not in the tree", diff->path,
					 name);
	}
	struct content *from = NULL, *to = NULL;
	if (old_name) {
		TRY(load(state, old_name, &from));
		if (!from->exists)
			return error_new(ERROR_KIND_BUILD,
					 "'%s' changes '%s', which is not in '%s'", diff->path,
					 old_name, state->root_path);
	}
	if (new_name)
		TRY(load(state, new_name, &to));
	if (!from && !to)
		return error_new(ERROR_KIND_BUILD, "'%s' names no file of '%s'", diff->path,
				 state->root_path);
	if (!from && to->exists && to->lines.count)
		return error_new(ERROR_KIND_BUILD, "'%s' makes '%s', which is there already",
				 diff->path, new_name);
	if (from && to && from != to) {
		to->lines.count = 0;
		for (size_t i = 0; i < from->lines.count; i++)
			vec_push(&to->lines, from->lines.items[i]);
		to->mode = from->mode;
		if (file->renamed) {
			from->exists = false;
			from->touched = true;
		}
	}
	struct content *content = to ? to : from;
	TRY(apply_hunks(diff, file, content));
	content->touched = true;
	content->exists = to != NULL;
	if (file->mode & 0777)
		content->mode = file->mode & 0777;
	else if (!content->mode)
		content->mode = 0644;
	return NULL;
}

static bool name_exists(struct state *state, const char *name)
{
	if (!name || !name_is_safe(name))
		return false;
	_cleanup_close_ int fd = open_beneath(state->root, name, O_PATH, 0);
	if (fd >= 0)
		return true;
	for (size_t i = 0; i < state->contents.count; i++)
		if (string_equal(state->contents.items[i]->name, name))
			return state->contents.items[i]->exists;
	return false;
}

static bool folder_exists(struct state *state, const char *name)
{
	if (!name || !name_is_safe(name))
		return false;
	const char *slash = strrchr(name, '/');
	if (!slash)
		return true;
	_cleanup_free_ char *folder = xstrndup(name, (size_t)(slash - name));
	return name_exists(state, folder);
}

// How well @strip fits: all names that a diff changes must exist.
static bool strip_fits(struct state *state, const struct diff *diff, int strip)
{
	for (size_t i = 0; i < diff->files.count; i++) {
		const struct file_diff *file = &diff->files.items[i];
		const char *old_name = stripped(file->old_name, strip);
		const char *new_name = stripped(file->new_name, strip);
		if (file->created ? !folder_exists(state, new_name)
				  : !name_exists(state, old_name) && !name_exists(state, new_name))
			return false;
	}
	return true;
}

static struct error *choose_strip(struct state *state, const struct diff *diff, int *ret)
{
	static const int order[] = {1, 0, 2, 3};
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		if (strip_fits(state, diff, order[i])) {
			*ret = order[i];
			return NULL;
		}
	// Named with the level that fits most of them: nearly always 1.
	for (size_t i = 0; i < diff->files.count; i++) {
		const struct file_diff *file = &diff->files.items[i];
		if (!file->created && !name_exists(state, stripped(file->old_name, 1)) &&
		    !name_exists(state, stripped(file->new_name, 1)))
			return error_new(
				ERROR_KIND_BUILD,
				"'%s' does not apply: '%s' is not in '%s', with or without "
				"leading folders",
				diff->path, file->old_name, state->root_path);
	}
	return error_new(ERROR_KIND_BUILD, "'%s' does not apply: its names do not fit to '%s'",
			 diff->path, state->root_path);
}

// Folders that a new file needs.
static void create_folders(int root, const char *name)
{
	_cleanup_free_ char *path = xstrdup(name);
	for (char *slash = path; (slash = strchr(slash, '/')); *slash++ = '/') {
		*slash = '\0';
		mkdirat(root, path, 0777);
	}
}

static struct error *store(struct state *state, const struct content *content)
{
	if (!content->exists) {
		if (content->existed && unlinkat(state->root, content->name, 0) < 0)
			return error_errno(errno, "cannot remove '%s' in '%s'", content->name,
					   state->root_path);
		return NULL;
	}
	if (!content->existed)
		create_folders(state->root, content->name);
	_cleanup_buffer_ struct buffer bytes = {0};
	lines_write(content->name, content->lines.items, content->lines.count, &bytes);
	// Not in place: the file may have other names (hard links), and may be read-only.
	if (content->existed)
		unlinkat(state->root, content->name, 0);
	_cleanup_close_ int fd = open_beneath(state->root, content->name,
					      O_WRONLY | O_CREAT | O_EXCL, content->mode);
	if (fd < 0)
		return error_errno(errno, "cannot write '%s' in '%s'", content->name,
				   state->root_path);
	for (size_t at = 0; at < bytes.size;) {
		ssize_t put = write(fd, bytes.bytes + at, bytes.size - at);
		if (put < 0)
			return error_errno(errno, "cannot write '%s' in '%s'", content->name,
					   state->root_path);
		at += (size_t)put;
	}
	if (fchmod(fd, content->mode) < 0)
		return error_errno(errno, "cannot write '%s' in '%s'", content->name,
				   state->root_path);
	return NULL;
}

static struct error *apply_all(struct state *state, const struct diff_set *set, int strip)
{
	for (size_t i = 0; i < set->diffs.count; i++) {
		const struct diff *diff = &set->diffs.items[i];
		int level = strip;
		if (level < 0)
			TRY(choose_strip(state, diff, &level));
		for (size_t k = 0; k < diff->files.count; k++)
			TRY(apply_file(state, diff, &diff->files.items[k], level));
	}
	// All hunks of all diffs have found their places.
	for (size_t i = 0; i < state->contents.count; i++)
		if (state->contents.items[i]->touched)
			TRY(store(state, state->contents.items[i]));
	return NULL;
}

struct error *diff_set_apply(struct arena *arena, const struct diff_set *set, const char *root,
			     int strip, struct names *ret)
{
	_cleanup_close_ int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_errno(errno, "cannot open '%s'", root);
	struct state state = {.arena = arena, .root = fd, .root_path = root};
	struct error *error = apply_all(&state, set, strip);
	for (size_t i = 0; i < state.contents.count; i++) {
		struct content *content = state.contents.items[i];
		if (!error && content->touched)
			vec_push(&ret->list, content->name);
		vec_deinit(&content->lines);
	}
	vec_deinit(&state.contents);
	return error;
}
