// SPDX-License-Identifier: MIT
#include "base/base.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void cleanup_free(void *pointer_to_pointer)
{
	void **pointer = pointer_to_pointer;
	free(*pointer);
	*pointer = NULL;
}

void cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void cleanup_fclose(FILE **file)
{
	if (*file)
		fclose(*file);
	*file = NULL;
}

void *xmalloc(size_t size)
{
	return xrealloc(NULL, size);
}

void *xcalloc(size_t count, size_t size)
{
	// One byte at least, so that NULL always means failure.
	void *pointer = count && size ? calloc(count, size) : calloc(1, 1);
	if (!pointer)
		out_of_memory();
	return pointer;
}

void *xrealloc(void *pointer, size_t size)
{
	pointer = realloc(pointer, size ? size : 1);
	if (!pointer)
		out_of_memory();
	return pointer;
}

char *xstrdup(const char *string)
{
	return xmemdup(string, strlen(string) + 1);
}

char *xstrndup(const char *string, size_t size)
{
	size = strnlen(string, size);
	char *copy = xmalloc(size + 1);
	memcpy(copy, string, size);
	copy[size] = '\0';
	return copy;
}

void *xmemdup(const void *bytes, size_t size)
{
	void *copy = xmalloc(size);
	if (size)
		memcpy(copy, bytes, size);
	return copy;
}

char *xasprintf(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	char *string = xvasprintf(format, args);
	va_end(args);
	return string;
}

char *xvasprintf(const char *format, va_list args)
{
	char *string;
	if (vasprintf(&string, format, args) < 0)
		out_of_memory();
	return string;
}

void *vec_grow(void *items, size_t *capacity, size_t count, size_t item_size)
{
	size_t grown, size;
	if (!checked_mul(*capacity, (size_t)2, &grown))
		out_of_memory();
	if (grown < 8)
		grown = 8;
	if (grown < count)
		grown = count;
	if (!checked_mul(grown, item_size, &size))
		out_of_memory();
	items = xrealloc(items, size);
	*capacity = grown;
	return items;
}
