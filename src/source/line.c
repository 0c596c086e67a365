// SPDX-License-Identifier: MIT
/*
 * __LINE__ as it was.
 *
 * A diff that adds a line moves all code below it, and every assert() there gets another constant:
 * functions that nobody touched would be replaced, a main loop among them, which no thread ever
 * leaves. So the new source says with #line what the old numbers were, behind each place where they
 * went apart:
 *
 *	 int size(struct box *b)
 *	 {
 *	+	if (!b)
 *	+		return 0;
 *	#line 12
 *	 	assert(b->lid);
 *
 * (as fix-patch-lines of the kernel's klp-build does). Such a directive cannot stand in a comment, a
 * literal or a line that is continued, and should not in a macro's arguments: it waits for the next
 * line that can take it. One in a group that the preprocessor skips is not seen, so it is said again
 * behind #else, #elif and #endif.
 */
#include <ctype.h>
#include <string.h>

#include "internal.h"

/** Where the scanner stands at the start of a line. */
struct scanner {
	bool in_comment;   // /* without its end yet
	bool in_raw;       // R"delimiter( without its end yet
	bool continued;    // the last line ends in a backslash
	long depth;        // of parentheses
	char last;         // last character that is not blank or comment, '\0': none
	char delimiter[20]; // of the raw literal: ")...\""
};

static bool is_source_of_c(const char *name)
{
	static const char *const endings[] = {".c",   ".h",   ".cc",  ".cpp", ".cxx", ".c++",
					      ".hh",  ".hpp", ".hxx", ".inc", ".inl", ".tcc"};
	for (size_t i = 0; i < ARRAY_SIZE(endings); i++)
		if (string_ends_with(name, endings[i]))
			return true;
	return false;
}

// Behind a string or character literal that begins at @at; it ends at the line's end at the latest.
static size_t skip_literal(const char *text, size_t size, size_t at)
{
	char quote = text[at++];
	while (at < size && text[at] != quote && text[at] != '\n')
		at += text[at] == '\\' ? 2 : 1;
	return at < size ? at + 1 : size;
}

// R"abc( begins a literal that only )abc" ends. @at is at the quote.
static bool begin_raw(struct scanner *scanner, const char *text, size_t size, size_t at)
{
	if (at == 0 || text[at - 1] != 'R')
		return false;
	size_t open = at + 1;
	while (open < size && open - at <= 17 && text[open] != '(' && !isspace((unsigned char)text[open]))
		open++;
	if (open >= size || text[open] != '(')
		return false;
	int length = (int)(open - at - 1);
	snprintf(scanner->delimiter, sizeof(scanner->delimiter), ")%.*s\"", length, text + at + 1);
	scanner->in_raw = true;
	return true;
}

// Behind the end of a comment or raw literal that was open, or the line's end.
static size_t skip_open(struct scanner *scanner, const char *text, size_t size, size_t at)
{
	const char *end = scanner->in_comment ? "*/" : scanner->delimiter;
	const char *found = memmem(text + at, size - at, end, strlen(end));
	if (!found)
		return size;
	scanner->in_comment = scanner->in_raw = false;
	return (size_t)(found - text) + strlen(end);
}

static void scan_line(struct scanner *scanner, const char *text, size_t size)
{
	for (size_t at = 0; at < size;) {
		if (scanner->in_comment || scanner->in_raw) {
			at = skip_open(scanner, text, size, at);
		} else if (at + 1 < size && text[at] == '/' && text[at + 1] == '*') {
			scanner->in_comment = true;
			at += 2;
		} else if (at + 1 < size && text[at] == '/' && text[at + 1] == '/') {
			break;
		} else if (text[at] == '"' && begin_raw(scanner, text, size, at)) {
			at++;
		} else if (text[at] == '"' || text[at] == '\'') {
			// 1'000'000 of C++ is no literal.
			bool separator = text[at] == '\'' && at && isalnum((unsigned char)text[at - 1]);
			at = separator ? at + 1 : skip_literal(text, size, at);
			scanner->last = '"';
		} else {
			if (text[at] == '(')
				scanner->depth++;
			else if (text[at] == ')' && scanner->depth > 0)
				scanner->depth--;
			if (!isspace((unsigned char)text[at]))
				scanner->last = text[at];
			at++;
		}
	}
	while (size && (text[size - 1] == '\n' || text[size - 1] == '\r'))
		size--;
	scanner->continued = size && text[size - 1] == '\\';
	// A branch of #if may open what another one closes.
	if (scanner->last == ';' || scanner->last == '{' || scanner->last == '}')
		scanner->depth = 0;
}

static bool can_take_directive(const struct scanner *scanner)
{
	return !scanner->in_comment && !scanner->in_raw && !scanner->continued &&
	       scanner->depth == 0;
}

// #else, #elif, #endif: what was said in front of it may not have been seen.
static bool ends_group(const char *text, size_t size)
{
	size_t at = 0;
	while (at < size && (text[at] == ' ' || text[at] == '\t'))
		at++;
	if (at == size || text[at++] != '#')
		return false;
	while (at < size && (text[at] == ' ' || text[at] == '\t'))
		at++;
	return size - at >= 4 && (memcmp(text + at, "else", 4) == 0 ||
				  memcmp(text + at, "elif", 4) == 0 ||
				  (size - at >= 5 && memcmp(text + at, "endif", 5) == 0));
}

void lines_write(const char *name, const struct line *lines, size_t count, struct buffer *ret)
{
	bool numbered = is_source_of_c(name), shifted = false, again = false;
	struct scanner scanner = {0};
	size_t implied = 1;
	for (size_t i = 0; i < count; i++) {
		const struct line *line = &lines[i];
		if (numbered && line->number && (implied != line->number || again) &&
		    can_take_directive(&scanner)) {
			buffer_printf(ret, "#line %zu\n", line->number);
			implied = line->number;
			shifted = true;
			again = false;
		}
		buffer_append(ret, line->text, line->size);
		implied++;
		if (!numbered)
			continue;
		bool comment = scanner.in_comment || scanner.in_raw;
		scan_line(&scanner, line->text, line->size);
		if (shifted && !comment && ends_group(line->text, line->size))
			again = true;
	}
}
