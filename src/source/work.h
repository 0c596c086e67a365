/* SPDX-License-Identifier: MIT */
/*
 * The state of one source_build(), shared by the files that do its steps: build.c is the list of
 * them, key.c, plain.c, command.c and pair.c are one each, work.c is what all of them ask.
 */
#ifndef SUTURE_SOURCE_WORK_H
#define SUTURE_SOURCE_WORK_H

#include "internal.h"

struct unit {
	const struct compile *old, *new; // of either tree, NULL where it has none
	const char *object;
	const char *plain_old, *plain_new, *sectioned_old, *sectioned_new;
	const char *plain_again;
	bool reads; // a changed file
	bool stable;
	bool dropped; // unstable, and reads no changed file
	bool same;    // code and data did not change
	struct names changed;
};

struct work {
	struct source_build result; // first: source_build_free() takes its address
	int lock;
	const struct source_options *options;
	const struct progress *progress;
	struct findings *findings;
	struct arena *arena;
	const char *cache, *folder, *patch_folder;
	const char *at;     // where trees appear
	const char *lowest; // the user's tree, or the clean root
	const char *root;   // the source tree as commands see it
	const char *prefix; // from @at to @root: "" or "build/.../"
	const char *log;    // of the command that runs
	bool is_package;
	struct package package;
	long long newest;
	struct digest key;
	struct diff_set *base, *diffs;
	struct names changed; // relative to @root
	struct commands old_commands, new_commands;
	struct build_graph old_graph, new_graph;
	VEC(struct unit *) units;
	struct hashmap *unit_of;
};

// Whose content a tree shows.
enum version {
	VERSION_SOURCE,  // as the user, or the package, has it
	VERSION_OLD,     // built
	VERSION_PATCHED, // built, then the diff
	VERSION_NEW,     // built, then the diff, then built again
};

/* ---- work.c: places in the cache, names, logs ------------------------------------------------- */

/** A path in the build's folder of the cache. */
const char *work_path(struct work *work, const char *name);
const char *work_layer(struct work *work, enum version version);
struct tree work_tree(struct work *work, enum version version, const char *upper);
struct tree work_tree_becoming(struct work *work, enum version version);
/** A file of the source tree, by its name in it: as the merged @tree has it, or NULL. */
const char *work_lookup(struct work *work, const struct tree *tree, const char *name);
/** The same in one upper layer only: what was made there, or NULL. */
const char *work_made(struct work *work, const char *upper, const char *name);
struct error *log_open(const char *path, int *ret) MUST_CHECK;
void names_add(struct names *names, const char *name);
/** In the arena; NULL when there are none. */
const char *const *names_take(struct work *work, struct names *names, size_t *ret_count);
/** PATH, or what stands for it. */
const char *tool_path(void);

/* ---- key.c ------------------------------------------------------------------------------------ */

struct error *digest_files(struct digest_state *state, const char *const *paths,
			   size_t count) MUST_CHECK;
struct error *work_find_key(struct work *work) MUST_CHECK;

/* ---- command.c: the build command ------------------------------------------------------------- */

// One run of the build command in a tree, or of some of its parts.
struct run {
	struct tree tree;
	const char *records, *log, *stage;
	const struct commands *builders; // instead of the command, when there are some
	bool apply_base, remove_objects;
	bool go_on;        // build whatever can be built
	bool keep_records; // of the run before
};
struct error *command_run(struct work *work, const struct run *run) MUST_CHECK;

/** What progress is told while a session runs: tree_finish(). */
struct news {
	struct work *work;
	const char *stage;
	const char *records; // counted, or NULL: jobs are
	size_t total;
};
void news_tell(void *context, size_t done);

/* ---- plain.c ---------------------------------------------------------------------------------- */

struct error *work_plain_build(struct work *work) MUST_CHECK;
/** Is the object there at the end of the plain build? */
bool work_has_object(struct work *work, const struct compile *compile);
struct error *work_read_records(struct work *work, const char *directory, struct commands *commands,
				struct build_graph *graph) MUST_CHECK;
void work_forget_records(struct commands *commands, struct build_graph *graph);

/* ---- pair.c ----------------------------------------------------------------------------------- */

/** Build the new tree; old and new plain objects of all that it makes differently. */
struct error *work_find_units(struct work *work) MUST_CHECK;
/** Sectioned objects, for those whose code or data changed. */
struct error *work_make_sections(struct work *work) MUST_CHECK;

#endif
