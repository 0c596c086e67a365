/* SPDX-License-Identifier: MIT */
/*
 * object: relocatable ELF objects as a graph of sections, symbols and relocations.
 *
 * Read, query, edit, write. One arena holds an object with all that it points to; the bytes of its
 * sections too, so that the file may go. The reader takes outside bytes: every offset, size, index
 * and name is checked, and an error names the file, the section and the offset.
 */
#ifndef SUTURE_OBJECT_H
#define SUTURE_OBJECT_H

#include "arch/arch.h"
#include "base/base.h"

struct object_symbol;
struct object_section;

struct object_relocation {
	uint64_t offset; /* of the field in its section */
	uint32_t type;   /* ELF64_R_TYPE */
	int64_t addend;
	struct object_symbol *symbol; /* never NULL: index 0 reads as object->null_symbol */
	/*
	 * Which relocation section it stands in: NULL for ".rela" + section name, else the prefix, as
	 * ".suture.rela.redis-server" for ".suture.rela.redis-server.text.foo".
	 */
	const char *set;
};

/** An SHT_GROUP (COMDAT) and its members. */
struct object_group {
	const char *signature;
	bool comdat;
	struct object_section **members;
	size_t member_count;
};

struct object_section {
	struct object *object;
	size_t index; /* sh index in the file it came from or goes to; order in object->sections */
	const char *name;
	uint32_t type;  /* SHT_*; relocation, symbol-table and string-table sections are not listed */
	uint64_t flags; /* SHF_*, without SHF_GROUP and SHF_INFO_LINK, which the writer sets */
	uint64_t align;
	uint64_t entry_size;
	uint64_t size;
	uint8_t *data; /* @size bytes; NULL for SHT_NOBITS */
	struct object_section *link; /* of SHF_LINK_ORDER, or NULL */
	struct object_group *group;  /* or NULL */
	VEC(struct object_relocation) relocations; /* sorted by offset; stable */
	VEC(struct object_symbol *) symbols; /* defined here, sorted by value, then size descending */
	struct object_symbol *section_symbol; /* STT_SECTION; the reader makes one where missing */
	void *user; /* of whoever works on the graph: a module's own annotation */
};

struct object_symbol {
	struct object *object;
	size_t index; /* position in the file's symbol table; order in object->symbols */
	const char *name; /* "" for none; a section symbol has its section's name */
	const char *file; /* the STT_FILE symbol that stands before a local one, or NULL */
	uint8_t type;     /* STT_* */
	uint8_t bind;     /* STB_* */
	uint8_t visibility; /* STV_* */
	uint8_t other;    /* st_other without the visibility */
	uint64_t value;
	uint64_t size;
	struct object_section *section; /* NULL: undefined, absolute, common or special */
	uint16_t special; /* SHN_* when section is NULL: SHN_UNDEF, SHN_ABS, SHN_COMMON, 0xff20 */
	/*
	 * For a symbol of a differ's output that stands for something of the running program: that
	 * symbol in the old object. NULL elsewhere.
	 */
	const struct object_symbol *origin;
	void *user;
};

struct object {
	struct arena *arena;
	const char *path; /* for messages */
	const struct arch *arch;
	uint32_t elf_flags; /* e_flags */
	VEC(struct object_section *) sections;
	VEC(struct object_symbol *) symbols; /* STT_FILE and null symbols are not listed */
	struct object_symbol *null_symbol;
	VEC(struct object_group *) groups;
	const char *compiler; /* first string of .comment, or NULL */
};

/**
 * Read an object file. Errors: NOT_FOUND, SYSTEM, INPUT (malformed, with section and offset),
 * UNSUPPORTED (not ET_REL, a CPU without arch, LTO bytecode only). The caller frees @ret.
 */
struct error *object_open(const char *path, struct object **ret) MUST_CHECK;
/** The same of bytes in memory, which may go afterwards; @name is for messages. */
struct error *object_read(const void *bytes, size_t size, const char *name,
			  struct object **ret) MUST_CHECK;
/** An empty object for @arch. */
struct object *object_create(const struct arch *arch, const char *path);
void object_free(struct object *object);
void object_cleanup(struct object **object);
#define _cleanup_object_ _cleanup_(object_cleanup)

/* ---- query -------------------------------------------------------------------------------- */

/** First section or symbol of that name, or NULL. Hashed. */
struct object_section *object_section_find(const struct object *object, const char *name);
struct object_symbol *object_symbol_find(const struct object *object, const char *name);

/** The named, sized symbol of @section whose [value, value + size) covers @offset, or NULL. */
struct object_symbol *object_symbol_covering(const struct object_section *section, uint64_t offset);

/** Relocations whose field starts in [start, end): first one and count. */
struct object_relocation *object_relocations_in(const struct object_section *section,
						uint64_t start, uint64_t end, size_t *ret_count);

/**
 * What a relocation points at: section and offset when its symbol is defined here. A PC-relative
 * field counts from the end of its instruction, which is decoded; @ret_offset is then the real
 * offset (gas leaves "section + addend - 4", or - 5 and - 8 where an immediate follows the field).
 * false: an undefined, absolute or common symbol. An offset outside the section is returned as is.
 */
bool object_relocation_target(const struct object_section *section,
			      const struct object_relocation *relocation,
			      struct object_section **ret_section, uint64_t *ret_offset);

bool object_section_is_text(const struct object_section *section);
bool object_section_is_readonly(const struct object_section *section); /* ALLOC, not WRITE, not EXEC */
bool object_section_is_strings(const struct object_section *section);  /* MERGE | STRINGS */
bool object_section_is_tls(const struct object_section *section);
bool object_section_is_debug(const struct object_section *section);
bool object_symbol_is_function(const struct object_symbol *symbol); /* STT_FUNC or GNU_IFUNC, defined */
bool object_symbol_is_local_label(const struct object_symbol *symbol); /* .L* or $x, unnamed */

/* ---- edit and write ----------------------------------------------------------------------- */

/** A new section at the end; @data is copied (NULL: zeroes, or NOBITS by @type). */
struct object_section *object_section_add(struct object *object, const char *name, uint32_t type,
					  uint64_t flags, uint64_t align, const void *data,
					  uint64_t size);
/** Bytes to the end of a section, aligned; returns the offset they got. */
uint64_t object_section_append(struct object_section *section, const void *bytes, uint64_t size,
			       uint64_t align);
/** A new symbol; @section NULL: undefined. Strings are copied. */
struct object_symbol *object_symbol_add(struct object *object, const char *name, uint8_t type,
					uint8_t bind, struct object_section *section,
					uint64_t value, uint64_t size);
struct object_relocation *object_relocation_add(struct object_section *section, uint64_t offset,
						uint32_t type, struct object_symbol *symbol,
						int64_t addend);
/** After edits of names, values or relocations: sort and hash again. */
void object_index(struct object *object);

/**
 * The ELF file: locals first, section symbols and unnamed locals that no relocation uses left out,
 * sections and symbols in their order: the same graph gives the same bytes. More than 65,279
 * sections are written with SHN_XINDEX. Sets `index` of sections and symbols to their numbers in the
 * file. The caller frees @ret.
 */
struct error *object_write(struct object *object, uint8_t **ret, size_t *ret_size) MUST_CHECK;
struct error *object_write_file(struct object *object, const char *path) MUST_CHECK;

#endif
