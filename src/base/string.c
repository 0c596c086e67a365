// SPDX-License-Identifier: MIT
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

bool string_starts_with(const char *string, const char *prefix)
{
	return strncmp(string, prefix, strlen(prefix)) == 0;
}

bool string_ends_with(const char *string, const char *suffix)
{
	size_t size = strlen(string), suffix_size = strlen(suffix);
	return size >= suffix_size && string_equal(string + size - suffix_size, suffix);
}

// Room for @size more bytes and the NUL.
static void buffer_reserve(struct buffer *buffer, size_t size)
{
	size_t needed;
	if (!checked_add(buffer->size, size, &needed) || !checked_add(needed, (size_t)1, &needed))
		out_of_memory();
	if (needed > buffer->capacity)
		buffer->bytes = vec_grow(buffer->bytes, &buffer->capacity, needed, 1);
}

void buffer_append(struct buffer *buffer, const void *bytes, size_t size)
{
	buffer_reserve(buffer, size);
	if (size)
		memcpy(buffer->bytes + buffer->size, bytes, size);
	buffer->size += size;
	buffer->bytes[buffer->size] = '\0';
}

void buffer_puts(struct buffer *buffer, const char *string)
{
	buffer_append(buffer, string, strlen(string));
}

void buffer_printf(struct buffer *buffer, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	_cleanup_free_ char *string = xvasprintf(format, args);
	va_end(args);
	buffer_puts(buffer, string);
}

void buffer_deinit(struct buffer *buffer)
{
	free(buffer->bytes);
	*buffer = (struct buffer){0};
}

void hex_format(const uint8_t *bytes, size_t size, char *text)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < size; i++) {
		*text++ = digits[bytes[i] >> 4];
		*text++ = digits[bytes[i] & 15];
	}
	*text = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

bool hex_parse(const char *text, uint8_t *bytes, size_t size)
{
	size_t length = strlen(text);
	if (length % 2 || length / 2 != size)
		return false;
	// Checked before anything is stored: outputs stay untouched on failure.
	for (size_t i = 0; i < length; i++)
		if (hex_digit(text[i]) < 0)
			return false;
	for (size_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(hex_digit(text[2 * i]) << 4 | hex_digit(text[2 * i + 1]));
	return true;
}

bool build_id_equal(const struct build_id *a, const struct build_id *b)
{
	return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

const char *build_id_format(const struct build_id *id, char text[129])
{
	if (id->size)
		hex_format(id->bytes, id->size, text);
	else
		strcpy(text, "none");
	return text;
}

bool build_id_parse(const char *text, struct build_id *ret)
{
	struct build_id id = {.size = strlen(text) / 2};
	if (!id.size || id.size > sizeof(id.bytes) || !hex_parse(text, id.bytes, id.size))
		return false;
	*ret = id;
	return true;
}
