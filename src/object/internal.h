/* SPDX-License-Identifier: MIT */
/*
 * What the files of object share: the private part behind each public struct, and ELF fields in
 * either byte order. Private to object.
 */
#ifndef SUTURE_OBJECT_INTERNAL_H
#define SUTURE_OBJECT_INTERNAL_H

#include <elf.h>

#include "object/object.h"

#define OBJECT_SPECIAL_MIN SHN_LORESERVE

struct object_whole {
	struct object object;
	// Built at the first look-up, kept up to date by additions, dropped by object_index().
	struct hashmap *section_names;
	struct hashmap *symbol_names;
};

struct section_whole {
	struct object_section section;
	uint64_t capacity; // of section.data, where it was grown
	// For each symbol of section.symbols in order: the highest end of it and those before it.
	uint64_t *reach;
	size_t reach_count;
	// For each byte: if a PC-relative operand's field starts there, the distance from it to the
	// end of the instruction; else 0. Built at the first question, dropped by edits.
	uint8_t *to_end;
};

static inline struct object_whole *object_whole(const struct object *object)
{
	return (struct object_whole *)(uintptr_t)object;
}

static inline struct section_whole *section_whole(const struct object_section *section)
{
	return (struct section_whole *)(uintptr_t)section;
}

/** A zeroed section or symbol at the end of its list; @name lives as long as the object. */
struct object_section *object_section_new(struct object *object, const char *name);
struct object_symbol *object_symbol_new(struct object *object, const char *name);
/** The STT_SECTION symbol of a section that has none. */
void object_section_symbol_make(struct object_section *section);
/** Forget what is derived from the section's bytes. */
void object_section_changed(struct object_section *section);

/* ---- ELF64 fields ------------------------------------------------------------------------- */

static inline uint64_t elf_load(const uint8_t *bytes, size_t size, bool big)
{
	uint64_t value = 0;
	for (size_t i = 0; i < size; i++)
		value = value << 8 | bytes[big ? i : size - 1 - i];
	return value;
}

static inline void elf_store(uint8_t *bytes, size_t size, bool big, uint64_t value)
{
	for (size_t i = 0; i < size; i++)
		bytes[big ? size - 1 - i : i] = (uint8_t)(value >> (8 * i));
}

/** A field of an Elf64 structure that lies at @base: its offset and size are the struct's. */
#define ELF_LOAD(base, type, field, big) \
	elf_load((base) + offsetof(type, field), sizeof(((type *)0)->field), big)
#define ELF_STORE(base, type, field, big, value) \
	elf_store((base) + offsetof(type, field), sizeof(((type *)0)->field), big, value)

#endif
