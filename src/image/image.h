/* SPDX-License-Identifier: MIT */
/*
 * image: linked files. Symbols (also from a separate debug file), build ID, segments, dynamic
 * relocations, unwind tables; and the question "is this function what we built?".
 *
 * Addresses are those of the file (p_vaddr, st_value); process adds the bias. The reader takes
 * outside bytes. Section headers are used where they are; a file without them still has segments
 * and its dynamic section.
 */
#ifndef SUTURE_IMAGE_H
#define SUTURE_IMAGE_H

#include "arch/arch.h"
#include "base/base.h"
#include "object/object.h"

enum image_symbol_source {
	IMAGE_SYMBOL_SYMTAB,  /* .symtab of the file itself */
	IMAGE_SYMBOL_DEBUG,   /* .symtab of its debug file */
	IMAGE_SYMBOL_BUILD,   /* .symtab of a build with the same code (image_symbols_adopt) */
	IMAGE_SYMBOL_DYNAMIC, /* .dynsym */
};

struct image_symbol {
	const char *name;
	const char *file; /* of the STT_FILE symbol in front of a local one, or NULL */
	uint64_t address; /* STT_TLS: offset in the TLS block */
	uint64_t size;
	uint8_t type, bind, visibility;
	enum image_symbol_source source;
	/*
	 * Rank among all symbols of that name in order of address, from 1; 0 when it is the only one.
	 * The kernel counts so ("sympos").
	 */
	uint32_t position;
};

enum image_area {
	IMAGE_AREA_NONE,
	IMAGE_AREA_TEXT,
	IMAGE_AREA_PLT,
	IMAGE_AREA_RODATA,
	IMAGE_AREA_RELRO, /* .data.rel.ro, .dynamic, .init_array, ...: read-only after start */
	IMAGE_AREA_DATA,
	IMAGE_AREA_BSS,
	IMAGE_AREA_GOT, /* .got and .got.plt, under RELRO or not */
	IMAGE_AREA_TLS,
};

/** A dynamic relocation: what ld.so puts at an address. */
struct image_relocation {
	uint64_t address;
	uint32_t type;
	int64_t addend;
	const char *symbol;  /* "" for none */
	const char *version; /* of the symbol, or NULL */
	bool symbol_defined; /* the file itself defines it, at symbol_value */
	uint64_t symbol_value;
};

struct image_segment {
	uint64_t address, memory_size, file_offset, file_size;
	uint32_t flags; /* PF_* */
};

struct image {
	struct arena *arena;
	char *path;
	char *name; /* basename */
	const struct arch *arch;
	uint16_t type;       /* ET_EXEC, ET_DYN */
	bool static_linked;  /* no PT_INTERP and no DT_NEEDED in an executable */
	bool has_symtab;     /* of the file or a debug file or adopted */
	struct build_id build_id;
	const char *compiler;     /* .comment, strings joined by "; ", or NULL */
	const char *soname;       /* or NULL */
	uint64_t entry;
	uint64_t eh_frame, eh_frame_size, eh_frame_hdr, eh_frame_hdr_size;
	uint64_t tls_address, tls_file_size, tls_memory_size, tls_align; /* PT_TLS; size 0: none */
	uint64_t relro_start, relro_end;
	VEC(struct image_segment) segments;       /* PT_LOAD */
	VEC(struct image_symbol) symbols;         /* functions, objects, labels by address; then TLS */
	VEC(struct image_relocation) relocations; /* sorted by address */
	VEC(const char *) needed;
	void *state; /* private: the file's bytes, indexes */
};

/**
 * Read a linked file (ET_EXEC or ET_DYN). @debug: a separate debug file, or NULL to look for one by
 * build ID and .gnu_debuglink in the usual places. Its build ID must be the same. Errors: NOT_FOUND,
 * SYSTEM, INPUT, UNSUPPORTED.
 */
struct error *image_open(const char *path, const char *debug, struct image **ret) MUST_CHECK;
/** The same of bytes in memory, which may go afterwards; no debug file is looked for. */
struct error *image_read(const void *bytes, size_t size, const char *name,
			 struct image **ret) MUST_CHECK;
void image_free(struct image *image);
void image_cleanup(struct image **image);
#define _cleanup_image_ _cleanup_(image_cleanup)

/** @size bytes of the file's content at @address, or NULL (not mapped, or .bss). */
const uint8_t *image_bytes(const struct image *image, uint64_t address, uint64_t size);
enum image_area image_area_at(const struct image *image, uint64_t address);
const char *image_section_name_at(const struct image *image, uint64_t address); /* or NULL */
/** Executable areas: [start, end) pairs from section headers, else from segments. */
size_t image_text_ranges(const struct image *image, const uint64_t (**ret)[2]);

/** The symbol that covers @address (prefers sized functions, global names), or NULL. */
const struct image_symbol *image_symbol_at(const struct image *image, uint64_t address);
/** All symbols of that name; count. */
size_t image_symbols_named(const struct image *image, const char *name,
			   const struct image_symbol ***ret);
const struct image_relocation *image_relocation_at(const struct image *image, uint64_t address);
/**
 * The relocation of the slot that the PLT entry at @address jumps through: it names an import (or a
 * symbol of this file that may be interposed), or is IRELATIVE with an ifunc's resolver as addend.
 * NULL: no such entry starts there.
 */
const struct image_relocation *image_plt_target(const struct image *image, uint64_t address);

/**
 * Take over the symbols of a build that has the same code: same build ID, or equal allocated
 * sections. false: it is another build.
 */
bool image_symbols_adopt(struct image *image, const struct image *build);

/* ---- is this what we built? ---------------------------------------------------------------- */

enum image_verdict {
	IMAGE_MATCHED,   /* equal outside relocated fields, each of which is explained */
	IMAGE_DIFFERENT, /* found by its symbol, but not equal */
	IMAGE_MISSING,   /* nothing in the target is equal to it */
	IMAGE_AMBIGUOUS, /* stands more than once with no way to tell */
	/*
	 * Not linked in: unused code that the linker dropped, or a COMDAT copy of which another
	 * object's equal one is in the target (address; that object's match has it). Harmless.
	 */
	IMAGE_DISCARDED,
};

/** One function (or part of one: .cold) of the object. */
struct image_function {
	const struct object_symbol *symbol;
	enum image_verdict verdict;
	uint64_t address; /* MATCHED, DIFFERENT; DISCARDED: of the equal copy, or 0 */
	/* DIFFERENT: the first differing instruction. */
	uint64_t difference; /* offset in the function */
	const char *expected, *found; /* disassembled */
};

/** Where a symbol of the object lies in the target. */
struct image_place {
	enum {
		IMAGE_PLACE_ADDRESS, /* in the file itself */
		IMAGE_PLACE_TLS,     /* value: offset in the file's TLS block */
		IMAGE_PLACE_IMPORT,  /* of another file: by name, as the file imports it */
	} kind;
	uint64_t value;
	const char *name, *version; /* of an import */
	const char *proof; /* "symtab", "relocated field of FUNCTION+0xN", "section base": static or
			      arena text */
};

/** The comparison of one object with the target. */
struct image_match {
	struct arena *arena;
	const struct image *image;
	const struct object *object; /* must outlive this */
	VEC(struct image_function) functions;
	size_t matched, bytes_matched; /* functions and code bytes */
	void *state; /* private */
};

/**
 * Find and compare every function of @object, an object of a plain build. Sections are found by
 * symbols where the target has them, else by their content: an object's section stands whole in
 * the target. Every relocated field is explained by one of the linker's exact rewrites, the address
 * recovered must be the same at all uses of a symbol, of the right kind, and strings must be equal.
 * Findings: CODE_MISMATCH (with the first differing instruction and the compilers' versions where
 * they differ), CODE_AMBIGUOUS.
 */
struct error *image_match_object(const struct image *image, const struct object *object,
				 struct findings *findings, struct image_match **ret) MUST_CHECK;
void image_match_free(struct image_match *match);
const struct image_function *image_match_function(const struct image_match *match,
						  const struct object_symbol *symbol);
/**
 * Where @symbol (of the match's object: function, datum, section symbol, undefined) lies in the
 * target, by symbol table, by a recovered field or by its section's recovered base. false: not
 * known.
 */
bool image_match_place(const struct image_match *match, const struct object_symbol *symbol,
		       struct image_place *ret);
/** As above for a global name that no function of a matched object refers to: symbols, imports. */
bool image_place_by_name(const struct image *image, const char *name, struct image_place *ret);

#endif
