// SPDX-License-Identifier: MIT
/*
 * Making and changing the graph.
 *
 * Structures live in the object's arena; the lists that grow are on the heap and go with it.
 */
#include <assert.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "object/internal.h"

struct object *object_create(const struct arch *arch, const char *path)
{
	struct arena *arena = arena_create();
	struct object *object = &arena_new(arena, struct object_whole)->object;
	object->arena = arena;
	object->arch = arch;
	object->path = arena_strdup(arena, path);
	object->null_symbol = arena_new(arena, struct object_symbol);
	object->null_symbol->object = object;
	object->null_symbol->name = "";
	return object;
}

void object_free(struct object *object)
{
	if (!object)
		return;
	for (size_t i = 0; i < object->sections.count; i++) {
		struct object_section *section = object->sections.items[i];
		struct section_whole *whole = section_whole(section);
		vec_deinit(&section->relocations);
		vec_deinit(&section->symbols);
		free(whole->reach);
		free(whole->to_end);
	}
	vec_deinit(&object->sections);
	vec_deinit(&object->symbols);
	vec_deinit(&object->groups);
	hashmap_free(object_whole(object)->section_names);
	hashmap_free(object_whole(object)->symbol_names);
	arena_free(object->arena);
}

void object_cleanup(struct object **object)
{
	object_free(*object);
}

struct object_section *object_section_new(struct object *object, const char *name)
{
	struct object_section *section = &arena_new(object->arena, struct section_whole)->section;
	section->object = object;
	section->name = name;
	vec_push(&object->sections, section);
	return section;
}

struct object_symbol *object_symbol_new(struct object *object, const char *name)
{
	struct object_symbol *symbol = arena_new(object->arena, struct object_symbol);
	symbol->object = object;
	symbol->name = name;
	vec_push(&object->symbols, symbol);
	return symbol;
}

void object_section_symbol_make(struct object_section *section)
{
	struct object_symbol *symbol = object_symbol_new(section->object, section->name);
	symbol->type = STT_SECTION;
	symbol->section = section;
	section->section_symbol = symbol;
	vec_push(&section->symbols, symbol);
}

void object_section_changed(struct object_section *section)
{
	struct section_whole *whole = section_whole(section);
	free(take_ptr(whole->to_end));
}

struct object_section *object_section_add(struct object *object, const char *name, uint32_t type,
					  uint64_t flags, uint64_t align, const void *data,
					  uint64_t size)
{
	struct object_section *section =
		object_section_new(object, arena_strdup(object->arena, name));
	section->index = object->sections.count;
	section->type = type;
	section->flags = flags & ~(uint64_t)(SHF_GROUP | SHF_INFO_LINK);
	section->align = align;
	section->size = size;
	if (type != SHT_NOBITS)
		section->data = data ? arena_memdup(object->arena, data, size)
				     : arena_alloc(object->arena, size);
	object_section_symbol_make(section);
	section->section_symbol->index = object->symbols.count;

	struct object_whole *whole = object_whole(object);
	if (whole->section_names && !hashmap_get_string(whole->section_names, name))
		hashmap_set_string(whole->section_names, name, section);
	return section;
}

uint64_t object_section_append(struct object_section *section, const void *bytes, uint64_t size,
			       uint64_t align)
{
	struct section_whole *whole = section_whole(section);
	uint64_t offset = align_up(section->size, align ? align : 1);
	uint64_t end = offset + size;
	assert(end >= offset);

	if (section->type != SHT_NOBITS) {
		if (end > whole->capacity) {
			uint64_t capacity = end < 64 ? 64 : end * 2;
			uint8_t *data = arena_alloc(section->object->arena, capacity);
			if (section->size)
				memcpy(data, section->data, section->size);
			section->data = data;
			whole->capacity = capacity;
		}
		const uint8_t *padding =
			section->object->arch ? section->object->arch->padding : NULL;
		bool text = object_section_is_text(section) && padding;
		memset(section->data + section->size, text ? padding[0] : 0,
		       offset - section->size);
		if (bytes && size)
			memcpy(section->data + offset, bytes, size);
		else if (size)
			memset(section->data + offset, 0, size);
	}
	section->size = end;
	if (align > section->align)
		section->align = align;
	object_section_changed(section);
	return offset;
}

struct object_symbol *object_symbol_add(struct object *object, const char *name, uint8_t type,
					uint8_t bind, struct object_section *section,
					uint64_t value, uint64_t size)
{
	assert(!section || section->object == object);
	struct object_symbol *symbol = object_symbol_new(object, arena_strdup(object->arena, name));
	symbol->index = object->symbols.count;
	symbol->type = type;
	symbol->bind = bind;
	symbol->section = section;
	symbol->value = value;
	symbol->size = size;
	if (section)
		vec_push(&section->symbols, symbol);

	struct object_whole *whole = object_whole(object);
	if (whole->symbol_names && type != STT_SECTION && *name &&
	    !hashmap_get_string(whole->symbol_names, name))
		hashmap_set_string(whole->symbol_names, name, symbol);
	return symbol;
}

struct object_relocation *object_relocation_add(struct object_section *section, uint64_t offset,
						uint32_t type, struct object_symbol *symbol,
						int64_t addend)
{
	assert(symbol && symbol->object == section->object);
	vec_push(&section->relocations, (struct object_relocation){
						.offset = offset,
						.type = type,
						.addend = addend,
						.symbol = symbol,
					});
	return &section->relocations.items[section->relocations.count - 1];
}

/* ---- index -------------------------------------------------------------------------------- */

static int symbol_compare(const void *a, const void *b)
{
	const struct object_symbol *x = *(struct object_symbol *const *)a;
	const struct object_symbol *y = *(struct object_symbol *const *)b;
	if (x->value != y->value)
		return x->value < y->value ? -1 : 1;
	if (x->size != y->size)
		return x->size > y->size ? -1 : 1;
	return (x->index > y->index) - (x->index < y->index);
}

// Bottom-up merge sort: stable, which qsort() is not since glibc 2.37. Assemblers write relocations
// in order, so as a rule nothing is moved.
static void sort_relocations(struct object_relocation *items, size_t count)
{
	bool sorted = true;
	for (size_t i = 1; i < count && sorted; i++)
		sorted = items[i - 1].offset <= items[i].offset;
	if (sorted)
		return;

	_cleanup_free_ struct object_relocation *other = xcalloc(count, sizeof(*other));
	struct object_relocation *from = items, *to = other;
	for (size_t width = 1; width < count; width *= 2) {
		for (size_t start = 0; start < count; start += 2 * width) {
			size_t middle = start + width < count ? start + width : count;
			size_t end = middle + width < count ? middle + width : count;
			size_t a = start, b = middle;
			for (size_t at = start; at < end; at++) {
				bool first = b >= end ||
					     (a < middle && from[a].offset <= from[b].offset);
				to[at] = from[first ? a++ : b++];
			}
		}
		struct object_relocation *swap = from;
		from = to;
		to = swap;
	}
	if (from != items)
		memcpy(items, from, count * sizeof(*items));
}

static void index_section(struct object_section *section)
{
	struct section_whole *whole = section_whole(section);
	size_t count = section->symbols.count;
	object_section_changed(section);
	sort_relocations(section->relocations.items, section->relocations.count);
	if (count > 1)
		qsort(section->symbols.items, count, sizeof(*section->symbols.items),
		      symbol_compare);

	free(whole->reach);
	whole->reach = xcalloc(count, sizeof(*whole->reach));
	whole->reach_count = count;
	uint64_t reach = 0;
	for (size_t i = 0; i < count; i++) {
		const struct object_symbol *symbol = section->symbols.items[i];
		if (symbol->value + symbol->size > reach)
			reach = symbol->value + symbol->size;
		whole->reach[i] = reach;
	}
}

void object_index(struct object *object)
{
	struct object_whole *whole = object_whole(object);
	hashmap_free(take_ptr(whole->section_names));
	hashmap_free(take_ptr(whole->symbol_names));
	for (size_t i = 0; i < object->sections.count; i++)
		index_section(object->sections.items[i]);
}
