/* SPDX-License-Identifier: MIT */
/*
 * Private to image: what stands behind struct image's `state`, and what its files share.
 */
#ifndef SUTURE_IMAGE_INTERNAL_H
#define SUTURE_IMAGE_INTERNAL_H

#include <gelf.h>
#include <libelf.h>

#include "image/image.h"

/** An allocated section, as far as addresses are concerned. */
struct image_section {
	const char *name;
	uint64_t address, size, offset, align, flags;
	uint32_t type;
	enum image_area area;
};

/** Where PT_DYNAMIC's entries point; addresses as in the file. */
struct image_dynamic {
	bool present;
	uint64_t strtab, strsz, symtab, hash, gnu_hash;
	uint64_t rela, rela_size, jmprel, jmprel_size, relr, relr_size;
	uint64_t versym, verneed, verneed_count, verdef, verdef_count;
	uint64_t soname;
	bool has_soname, pie;
	Elf_Data *symbols;   /* .dynsym, while the file is being read */
	size_t symbol_count;
};

struct image_names {
	const struct image_symbol **items;
	size_t count;
};

struct image_index;

struct image_state {
	char *file; /* the whole file; names point into it */
	size_t file_size;
	char *debug_path; /* of the separate debug file that gave symbols, or NULL */

	VEC(struct image_section) sections; /* allocated ones, by address; TLS NOBITS left out */
	struct {
		uint64_t (*items)[2];
		size_t count, capacity;
	} text; /* [start, end), by address, disjoint */
	struct image_dynamic dynamic;
	const char **versions; /* by index, or NULL */
	bool interp;

	/* Of symbols: rebuilt whenever they change. */
	struct hashmap *by_name;  /* name to struct image_names */
	uint64_t *reach;          /* reach[i]: largest end of symbols [0, i] */
	struct hashmap *imports;  /* name to struct image_relocation */

	struct image_index *index; /* of text, made by the first search */
};

static inline struct image_state *image_state(const struct image *image)
{
	return image->state;
}

/* read.c */

/** @size bytes at @offset of the file, translated as @type, or NULL. */
Elf_Data *image_chunk(Elf *elf, uint64_t offset, uint64_t size, Elf_Type type);
/** The string at @offset of a table, or NULL when it does not end in it. */
const char *image_table_string(const char *table, uint64_t size, uint64_t offset);
/** File offset of [address, address + size) that is backed by the file; false: it is not. */
bool image_file_offset(const struct image *image, uint64_t address, uint64_t size, uint64_t *ret);
/** Bytes of the file from @address to the end of its segment, 0 when it has none. */
uint64_t image_bytes_left(const struct image *image, uint64_t address);
/** The 8-byte word at @address in the target's byte order. */
bool image_word(const struct image *image, uint64_t address, uint64_t *ret);
const struct image_section *image_section_at(const struct image *image, uint64_t address);
/** Find the build ID in one block of notes. */
void image_notes_build_id(const uint8_t *notes, uint64_t size, uint64_t align, bool swap,
			  struct build_id *ret);

/* dynamic.c */
struct error *image_dynamic_read(struct image *image, Elf *elf, uint64_t address, uint64_t size);
/** Relocations, from the dynamic section and, in static files, from section headers. */
struct error *image_relocations_read(struct image *image, Elf *elf);
struct error *image_dynamic_symbols_read(struct image *image, Elf *elf);
/** The slot that the PLT entry at @address jumps through. */
bool image_plt_slot(const struct image *image, uint64_t address, uint64_t *ret);

/* symbols.c */
struct error *image_symtab_read(struct image *image, Elf *elf, const char *path,
				enum image_symbol_source source, bool *ret_found);
struct error *image_debug_read(struct image *image, Elf *elf, const char *debug);
/** Add one symbol; strings must live as long as the image. */
void image_symbol_push(struct image *image, const GElf_Sym *symbol, const char *name,
		       const char *file, enum image_symbol_source source);
/** Sort, drop repetitions, count positions, hash. */
void image_symbols_index(struct image *image);


/* search.c */
void image_index_free(struct image_index *index);

#endif
