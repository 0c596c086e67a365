// SPDX-License-Identifier: MIT
/*
 * Arenas: a list of zeroed chunks, cut from the front.
 *
 * Under AddressSanitizer every allocation is a chunk of its own, so that a step past the end of one
 * is seen there as with malloc().
 */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define CHUNK_SIZE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CHUNK_SIZE 0
#endif
#endif
#ifndef CHUNK_SIZE
// With the allocator's header just under malloc's limit for mmap, so that small arenas stay cheap.
#define CHUNK_SIZE (64 * 1024 - 64)
#endif

struct chunk {
	struct chunk *next;
	_Alignas(max_align_t) char bytes[];
};

struct arena {
	struct chunk *chunks;
	char *free;
	size_t free_size;
};

struct arena *arena_create(void)
{
	return xcalloc(1, sizeof(struct arena));
}

void arena_free(struct arena *arena)
{
	if (!arena)
		return;
	struct chunk *next;
	for (struct chunk *chunk = arena->chunks; chunk; chunk = next) {
		next = chunk->next;
		free(chunk);
	}
	free(arena);
}

static char *arena_chunk(struct arena *arena, size_t size)
{
	size_t whole;
	if (!checked_add(sizeof(struct chunk), size, &whole))
		out_of_memory();
	struct chunk *chunk = xcalloc(1, whole);
	chunk->next = arena->chunks;
	arena->chunks = chunk;
	return chunk->bytes;
}

void *arena_alloc(struct arena *arena, size_t size)
{
	if (size == 0)
		size = 1; // a pointer of its own, never NULL
	if (size > arena->free_size) {
		// A large piece gets a chunk of its own; what is left of the current one stays in use.
		if (size > CHUNK_SIZE / 4)
			return arena_chunk(arena, size);
		arena->free = arena_chunk(arena, CHUNK_SIZE);
		arena->free_size = CHUNK_SIZE;
	}
	char *bytes = arena->free;
	size_t step = align_up(size, _Alignof(max_align_t));
	if (step > arena->free_size)
		step = arena->free_size;
	arena->free += step;
	arena->free_size -= step;
	return bytes;
}

void *arena_array(struct arena *arena, size_t count, size_t size)
{
	size_t whole;
	if (!checked_mul(count, size, &whole))
		out_of_memory();
	return arena_alloc(arena, whole);
}

void *arena_memdup(struct arena *arena, const void *bytes, size_t size)
{
	void *copy = arena_alloc(arena, size);
	if (size)
		memcpy(copy, bytes, size);
	return copy;
}

char *arena_strdup(struct arena *arena, const char *string)
{
	return arena_memdup(arena, string, strlen(string) + 1);
}

char *arena_strndup(struct arena *arena, const char *string, size_t size)
{
	size = strnlen(string, size);
	char *copy = arena_alloc(arena, size + 1);
	memcpy(copy, string, size);
	return copy;
}

char *arena_printf(struct arena *arena, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	_cleanup_free_ char *string = xvasprintf(format, args);
	va_end(args);
	return arena_strdup(arena, string);
}
