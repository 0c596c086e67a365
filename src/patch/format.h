/* SPDX-License-Identifier: MIT */
/*
 * The patch file's own structures, shared by its writer (build.c) and its reader (read.c).
 * docs/patch-format.md is the specification.
 */
#ifndef SUTURE_PATCH_FORMAT_H
#define SUTURE_PATCH_FORMAT_H

#include <elf.h>

#include "patch/patch.h"

#define PATCH_NOTE_SECTION ".note.suture"
#define PATCH_NOTE_OWNER "suture"
#define PATCH_FUNCS_SECTION ".suture.funcs"
#define PATCH_RELA_PREFIX ".suture.rela."
#define PATCH_SYMBOL_PREFIX ".suture.sym."

/** n_type of the notes in .note.suture. Strings hold their NUL. Integers are the CPU's. */
enum patch_note {
	PATCH_NOTE_FORMAT = 1,       /* u32: PATCH_FORMAT_VERSION */
	PATCH_NOTE_NAME = 2,         /* string */
	PATCH_NOTE_TOOL = 3,         /* string: version of suture */
	PATCH_NOTE_DESCRIPTION = 4,  /* string */
	PATCH_NOTE_MODULE = 5,       /* string, then the bytes of the build ID; in order of index */
	PATCH_NOTE_BASE = 6,         /* string */
	PATCH_NOTE_REPLACES_ALL = 7, /* u32: 1 */
	PATCH_NOTE_FINDING = 8,      /* strings: kind, severity, "accepted" or "", subject, text */
	PATCH_NOTE_MATCH = 9, /* 5 x u64: functions compared, matched; bytes; bytes; text size */
	PATCH_NOTE_NEW_FUNCTION = 10, /* string */
	PATCH_NOTE_DIGEST = 11,       /* 16 bytes, over the file with these bytes zero */
	PATCH_NOTE_DIFF = 12,         /* string: name of a source diff; then its bytes by zstd */
};

enum patch_row_kind {
	PATCH_ROW_FUNCTION = 0, /* a replaced function */
	PATCH_ROW_PART = 1,     /* a further part of the old function of the last FUNCTION row */
};

/** A row of .suture.funcs; the two addresses are relocated fields. */
struct patch_row {
	uint64_t new_address; /* -> the new symbol; 0 in a PART row */
	uint64_t old_address; /* -> .suture.sym.MODULE.NAME,POSITION */
	uint64_t old_size;
	uint32_t module; /* index of its PATCH_NOTE_MODULE */
	uint32_t position;
	uint32_t kind;      /* enum patch_row_kind */
	uint32_t reserved;  /* 0 */
	uint8_t digest[16]; /* of the old bytes in the module's file */
	uint64_t reserved2; /* 0 */
};
_Static_assert(sizeof(struct patch_row) == 64, "rows of .suture.funcs are 64 bytes");

/** Offset of the digest's 16 bytes in the file, 0 when there is none. Bounds-checked. */
size_t patch_digest_offset(const uint8_t *bytes, size_t size);
/** Digest of the file with those bytes taken as zero. */
struct digest patch_digest(const uint8_t *bytes, size_t size, size_t digest_offset);

#endif
