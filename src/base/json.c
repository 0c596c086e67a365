// SPDX-License-Identifier: MIT
#include "base/base.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void json_init(struct json *json, FILE *file)
{
	*json = (struct json){.file = file};
}

static void json_line(struct json *json)
{
	fprintf(json->file, "\n%*s", (int)(2 * json->depth), "");
}

// In front of every value and key: the comma after the one before, and the place on a line.
static void json_place(struct json *json)
{
	if (json->after_key) {
		json->after_key = false;
		return;
	}
	if (json->need_comma)
		fputc(',', json->file);
	if (json->depth)
		json_line(json);
}

static void json_begin(struct json *json, char bracket)
{
	json_place(json);
	fputc(bracket, json->file);
	json->depth++;
	json->need_comma = false;
}

static void json_end(struct json *json, char bracket)
{
	assert(json->depth && !json->after_key);
	json->depth--;
	if (json->need_comma)
		json_line(json);
	fputc(bracket, json->file);
	json->need_comma = true;
}

void json_object_begin(struct json *json)
{
	json_begin(json, '{');
}

void json_object_end(struct json *json)
{
	json_end(json, '}');
}

void json_array_begin(struct json *json)
{
	json_begin(json, '[');
}

void json_array_end(struct json *json)
{
	json_end(json, ']');
}

// The length of the well-formed UTF-8 character at @bytes, or 0 (Unicode 15, table 3-7). The NUL
// behind the string is no continuation byte, so nothing past it is read.
static size_t utf8_length(const unsigned char *bytes)
{
	static const struct {
		unsigned char first_low, first_high, second_low, second_high;
		size_t length;
	} forms[] = {
		{0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2},
		{0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
		{0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
		{0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4},
		{0xf4, 0xf4, 0x80, 0x8f, 4},
	};
	for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
		if (bytes[0] < forms[i].first_low || bytes[0] > forms[i].first_high)
			continue;
		if (forms[i].length == 1)
			return 1;
		if (bytes[1] < forms[i].second_low || bytes[1] > forms[i].second_high)
			return 0;
		for (size_t j = 2; j < forms[i].length; j++)
			if ((bytes[j] & 0xc0) != 0x80)
				return 0;
		return forms[i].length;
	}
	return 0;
}

static void json_quote(struct json *json, const char *string)
{
	fputc('"', json->file);
	const unsigned char *byte = (const unsigned char *)string;
	while (*byte) {
		size_t length = utf8_length(byte);
		if (length == 0)
			fputs("\xef\xbf\xbd", json->file); // U+FFFD
		else if (*byte == '"' || *byte == '\\')
			fprintf(json->file, "\\%c", *byte);
		else if (*byte == '\n')
			fputs("\\n", json->file);
		else if (*byte == '\t')
			fputs("\\t", json->file);
		else if (*byte < 0x20)
			fprintf(json->file, "\\u%04x", *byte);
		else
			fwrite(byte, 1, length, json->file);
		byte += length ? length : 1;
	}
	fputc('"', json->file);
}

void json_key(struct json *json, const char *key)
{
	assert(!json->after_key);
	json_place(json);
	json_quote(json, key);
	fputs(": ", json->file);
	json->after_key = true;
}

void json_string(struct json *json, const char *value)
{
	json_place(json);
	if (value)
		json_quote(json, value);
	else
		fputs("null", json->file);
	json->need_comma = true;
}

void json_u64(struct json *json, uint64_t value)
{
	json_place(json);
	fprintf(json->file, "%" PRIu64, value);
	json->need_comma = true;
}

void json_i64(struct json *json, int64_t value)
{
	json_place(json);
	fprintf(json->file, "%" PRId64, value);
	json->need_comma = true;
}

void json_double(struct json *json, double value)
{
	json_place(json);
	char text[32];
	// The shortest of the two that reads back as the same value.
	snprintf(text, sizeof(text), "%.15g", value);
	if (strtod(text, NULL) != value)
		snprintf(text, sizeof(text), "%.17g", value);
	fputs(isfinite(value) ? text : "null", json->file);
	json->need_comma = true;
}

void json_bool(struct json *json, bool value)
{
	json_place(json);
	fputs(value ? "true" : "false", json->file);
	json->need_comma = true;
}

void json_address(struct json *json, uint64_t value)
{
	json_place(json);
	fprintf(json->file, "\"0x%" PRIx64 "\"", value);
	json->need_comma = true;
}

void json_key_string(struct json *json, const char *key, const char *value)
{
	json_key(json, key);
	json_string(json, value);
}

void json_key_u64(struct json *json, const char *key, uint64_t value)
{
	json_key(json, key);
	json_u64(json, value);
}

void json_key_bool(struct json *json, const char *key, bool value)
{
	json_key(json, key);
	json_bool(json, value);
}

void json_key_address(struct json *json, const char *key, uint64_t value)
{
	json_key(json, key);
	json_address(json, value);
}

void json_finish(struct json *json)
{
	assert(json->depth == 0 && !json->after_key);
	fputc('\n', json->file);
	json->need_comma = false;
}
