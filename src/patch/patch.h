/* SPDX-License-Identifier: MIT */
/*
 * patch: the patch file. One format, one reader, one writer. docs/patch-format.md specifies it.
 *
 * A .sut file is an ET_REL object: new code and data, .eh_frame, relocations, and
 *   .suture.funcs                      a row per replaced function and per further part of one
 *   .suture.rela.MODULE.SECTION        relocations against symbols of a target's module
 *   .suture.sym.MODULE.NAME,POSITION   those symbols: st_shndx SHN_LIVEPATCH (0xff20), st_value the
 *                                      address in the module's file, st_size its size there
 *   .note.suture                       name, modules with build IDs, findings, digest, signature
 * Undefined symbols of other kinds are imports, looked up in the module's own scope; "NAME@VERSION"
 * where the module imports it so.
 */
#ifndef SUTURE_PATCH_H
#define SUTURE_PATCH_H

#include "base/base.h"
#include "diff/diff.h"
#include "image/image.h"
#include "object/object.h"

enum { PATCH_FORMAT_VERSION = 1 };

/** st_shndx of a symbol that lies in a target's module (the kernel's SHN_LIVEPATCH). */
#define PATCH_SHN_LIVEPATCH 0xff20

struct patch_module {
	const char *name; /* basename of its file */
	struct build_id build_id;
};

/** A source diff that a patch was built from. */
struct patch_diff {
	const char *name;
	const void *bytes;
	size_t size;
};

/** A range of old code. */
struct patch_range {
	uint64_t address, size;
};

/** A function that the patch replaces. */
struct patch_function {
	const char *name;
	const struct patch_module *module;
	uint32_t position;    /* among the module's symbols of that name; 0: the only one */
	uint64_t old_address; /* in the module's file */
	uint64_t old_size;
	struct digest old_digest; /* of the old bytes as they are in the module's file */
	const struct object_symbol *new_symbol; /* in patch->object */
	VEC(struct patch_range) parts;          /* .cold and .part children of the old function */
	VEC(struct digest) part_digests;
};

struct patch {
	struct arena *arena;
	const char *name;
	const char *tool_version;
	const char *description;  /* names of the diffs */
	const char *const *bases; /* names of patches that must be applied already (--base) */
	size_t base_count;
	const struct patch_diff *diffs; /* what it was built from; a patch on top needs them */
	size_t diff_count;
	bool replaces_all; /* takes out all earlier patches of its modules in the same flip */
	VEC(struct patch_module) modules;
	VEC(struct patch_function) functions;
	const char *const *new_functions; /* names of functions that are only new */
	size_t new_function_count;
	struct findings findings;
	uint64_t functions_compared, functions_matched;    /* with the target, when it was built */
	uint64_t bytes_compared, bytes_matched, text_size; /* of the module's text */
	struct digest digest; /* of the file with the digest and signature bytes zero */
	struct object *object;
};

/** Read and check a patch file. Errors: NOT_FOUND, SYSTEM, INPUT, UNSUPPORTED (newer format). */
struct error *patch_open(const char *path, struct patch **ret) MUST_CHECK;
struct error *patch_read(const void *bytes, size_t size, const char *name,
			 struct patch **ret) MUST_CHECK;
void patch_free(struct patch *patch);
void patch_cleanup(struct patch **patch);
#define _cleanup_patch_ _cleanup_(patch_cleanup)

/** One symbol of the patch's object: what it stands for. */
enum patch_symbol_kind {
	PATCH_SYMBOL_DEFINED, /* in the patch */
	PATCH_SYMBOL_TARGET, /* in a module: ret_module, symbol->value is the address in its file */
	PATCH_SYMBOL_IMPORT, /* by name (and version) in the scope of the patch's first module */
	PATCH_SYMBOL_NULL,
};
struct patch_symbol {
	enum patch_symbol_kind kind;
	const struct patch_module *module;
	const char *name;    /* without prefix, position and version */
	const char *version; /* or NULL */
	uint32_t position;
	bool weak; /* may be absent: value 0 */
};
/** INPUT when the name is malformed or names a module that the patch does not list. */
struct error *patch_symbol_parse(const struct patch *patch, const struct object_symbol *symbol,
				 struct patch_symbol *ret) MUST_CHECK;

/* ---- building one ------------------------------------------------------------------------- */

/** One changed object with its proof. All must outlive the builder. */
struct patch_unit {
	const char *name;
	const struct diff *diff; /* of the sectioned pair */
	const struct object *plain_old;
	const struct image_match *match; /* of plain_old with the image */
};

struct patch_builder;
struct patch_builder *patch_builder_create(const char *name, const struct image *image);
void patch_builder_add_unit(struct patch_builder *builder, const struct patch_unit *unit);
void patch_builder_set_description(struct patch_builder *builder, const char *description);
void patch_builder_add_base(struct patch_builder *builder, const char *name);
void patch_builder_add_diff(struct patch_builder *builder, const char *name, const void *bytes,
			    size_t size);
void patch_builder_set_replaces_all(struct patch_builder *builder, bool replaces_all);
/**
 * Resolve every reference, make the file's bytes. What cannot be resolved is a finding
 * (SYMBOL_UNRESOLVED, SYMBOL_AMBIGUOUS, SEVERAL_COPIES); *@ret stays NULL when findings refuse.
 * @findings: those of the build so far, to be stored in the patch. The caller frees @ret.
 */
struct error *patch_builder_finish(struct patch_builder *builder, struct findings *findings,
				   uint8_t **ret, size_t *ret_size) MUST_CHECK;
void patch_builder_free(struct patch_builder *builder);

#endif
