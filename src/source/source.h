/* SPDX-License-Identifier: MIT */
/*
 * source: source trees, compilers and packages. A diff and a build command become object pairs.
 *
 * Nothing here knows ELF beyond file names. The compiler is masqueraded by a directory in front of
 * PATH; the system's own is never touched, nor is the user's tree: old and new trees appear one after
 * the other at the tree's own path, as overlays in a private mount namespace.
 */
#ifndef SUTURE_SOURCE_H
#define SUTURE_SOURCE_H

#include "base/base.h"

struct source_options {
	const char *tree;          /* -s: the original source; NULL with package */
	const char *package;       /* --package: a distribution package's source, in a clean root */
	const char *package_version; /* NULL: the installed one */
	const char *target;        /* -t: the linked file that runs; its name selects the link command */
	struct build_id target_build_id; /* part of the cache key */
	const char *const *patches; /* the diffs, in order */
	size_t patch_count;
	const char *const *base_patches; /* diffs that belong to the old tree (--base) */
	size_t base_patch_count;
	const char *const *command; /* the build command; empty: make */
	size_t command_count;
	unsigned jobs;
	const char *cache;         /* $XDG_CACHE_HOME/suture */
	bool keep;                 /* keep work folders of a failed build */
};

/** One object that a linked file is made of and that the diff changes. Paths are in the cache. */
struct source_unit {
	const char *name;      /* path of the object in the tree: "src/networking.o" */
	const char *source;    /* its source file in the tree */
	const char *plain_old, *plain_new; /* objects of the plain builds; old: NULL when it is new */
	const char *sectioned_old, *sectioned_new; /* with one section per function and datum */
	bool stable;           /* false: differs between two builds of the same source */
	const char *const *changed_inputs; /* files of the diff that it read */
	size_t changed_input_count;
	const char *const *linked_into; /* linked files (paths in the tree) whose inputs it is among */
	size_t linked_into_count;
};

/** A file that the plain build linked. */
struct source_link {
	const char *name; /* path in the tree */
	const char *file; /* as the plain build left it, in the cache */
	const char *unstripped; /* before the build stripped it in place, or NULL: it did not */
};

struct source_build {
	struct arena *arena;
	VEC(struct source_unit) units;
	/*
	 * Objects that read a changed file and came out with the same code and data: to be compared
	 * with the target, not patched. They have no sectioned objects.
	 */
	VEC(struct source_unit) unchanged_units;
	VEC(struct source_link) links;
	const char *log;        /* the build's own output */
	const char *const *diff_files; /* files that the diffs touch */
	size_t diff_file_count;
	struct digest source_digest; /* of the old tree's files that the build read, flags, diff */
	bool cached;            /* the plain build came from the cache */
	double plain_seconds;   /* what the plain build took when it was made */
};

/**
 * Build old and new. Errors: BUILD (a diff that does not apply, with its reject hunk; a command that
 * failed, naming the log and its last lines), NOT_FOUND, PERMISSION, SYSTEM, UNSUPPORTED.
 */
struct error *source_build(const struct source_options *options, const struct progress *progress,
			   struct findings *findings, struct source_build **ret) MUST_CHECK;
void source_build_free(struct source_build *build);
void source_build_cleanup(struct source_build **build);
#define _cleanup_source_build_ _cleanup_(source_build_cleanup)

/**
 * The one program or library that a distribution package installs: what --package means when no
 * target is named. Links are followed. Errors: NOT_FOUND (not installed, nothing linked in it),
 * USAGE (several, all named). The caller frees @ret.
 */
struct error *source_package_program(const char *package, char **ret) MUST_CHECK;

#endif
