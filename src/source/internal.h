/* SPDX-License-Identifier: MIT */
/*
 * What the files of this module share. Read build.c first: it is the whole job as a list of steps.
 */
#ifndef SUTURE_SOURCE_INTERNAL_H
#define SUTURE_SOURCE_INTERNAL_H

#include <sys/stat.h>

#include "arguments.h"
#include "base/base.h"
#include "source/source.h"

/* ---- paths -------------------------------------------------------------------------------- */

/** @path as seen from @directory, without "." and ".." and double slashes; nothing is looked up. */
char *path_absolute(struct arena *arena, const char *directory, const char *path);
/** The part of @path behind @root and a slash, or NULL when it does not lie in it. */
const char *path_within(const char *root, const char *path);

/* ---- tree.c: layers of one tree at one path --------------------------------------------------- */

/** Bound into a clean build root. */
struct tree_bind {
	const char *from;
	const char *to; /* inside, absolute */
	bool read_only;
};

struct tree {
	const char *at;        /* where it appears: an absolute path without links */
	const char *layers[4]; /* top first, all read-only; the last is the whole tree */
	size_t layer_count;
	const char *upper; /* takes what is written; "UPPER.work" and "UPPER.whole" are ours */
	bool root;         /* a clean build root: enter it as a container */
	struct tree_bind binds[4];
	size_t bind_count;
};

/** What a function that runs inside of a tree may hand back. */
struct tree_inside {
	struct buffer reply;
	volatile size_t *done; /* shared with who waits */
};
typedef struct error *(*tree_function)(void *context, struct tree_inside *inside);

struct tree_session;
/** Run @function in a process that sees the tree at its path. */
struct error *tree_start(const struct tree *tree, tree_function function, void *context,
			 struct tree_session **ret) MUST_CHECK;
/** Wait for it; @news is called now and then. Releases the session. @ret_reply may be NULL. */
struct error *tree_finish(struct tree_session *session, void (*news)(void *context, size_t done),
			  void *context, struct buffer *ret_reply) MUST_CHECK;
/** End the session's processes and release it; NULL is accepted. */
void tree_abandon(struct tree_session *session);

/** The file behind @name (relative) in the merged tree, or NULL. */
char *tree_lookup(struct arena *arena, const struct tree *tree, const char *name);

/** One command of a session. */
struct job {
	const char *directory;
	const char *program; /* a path, or a name for PATH of the environment */
	char *const *words;
	char *const *environment;
	int log;    /* a descriptor; -1: silence */
	int status; /* as of wait(2); the answer */
};
struct jobs {
	struct job *items;
	size_t count;
	unsigned parallel;
};
/** A tree_function: run a struct jobs. The reply is one int per job: jobs_take_reply(). */
struct error *jobs_run(void *jobs, struct tree_inside *inside) MUST_CHECK;
void jobs_take_reply(struct jobs *jobs, const struct buffer *reply);

/* ---- record.c: what the masquerade wrote ----------------------------------------------------- */

struct command {
	const char *id;
	const char *directory, *name, *tool;
	uint64_t start, finish; /* nanoseconds */
	int status;
	char **words;
	size_t word_count;
	char **environment;
	const char *dependencies; /* makefile text, or NULL */
	enum tool_kind kind;
	struct arguments arguments;
};
struct commands {
	VEC(struct command *) list; /* in the order of their start */
};

/** All whole records of a directory. INPUT when one is malformed. */
struct error *records_read(struct arena *arena, const char *directory,
			   struct commands *ret) MUST_CHECK;
size_t records_count(const char *directory);
/** Parse one record's bytes, which stay in use. */
struct error *record_parse(struct arena *arena, const char *name, char *bytes, size_t size,
			   struct command **ret) MUST_CHECK;
/**
 * The prerequisites in makefile text, as absolute paths. @source: only of the rules that begin with
 * it, or NULL for all.
 */
struct names {
	VEC(const char *) list;
};
void dependencies_parse(struct arena *arena, const char *text, const char *directory,
			const char *source, struct names *ret);

/* ---- unit.c: objects, archives and linked files of a build ----------------------------------- */

struct compile {
	const struct command *command;
	const char *source; /* absolute */
	const char *object; /* relative to the tree */
	const char
		*linked; /* relative, or NULL: the file that the same command links. The object is
			       never seen then; it is made by repeating the command with -c */
	struct names inputs; /* absolute, the source first */
};
struct link {
	const char *output;  /* absolute */
	bool container;      /* an archive or a partial link: its members are linked by others */
	struct names inputs; /* absolute */
};
struct build_graph {
	const char *root;               /* the tree's path as the commands see it */
	VEC(struct compile *) compiles; /* the last one of each object */
	VEC(struct link *) links;       /* of each output, inputs of all commands together */
	struct hashmap *compile_of;     /* by object, relative */
	struct hashmap *link_of;        /* by output, absolute */
	const char *outside; /* an object outside of the tree, for the message; or NULL */
};
void build_graph_create(struct arena *arena, const char *root, const struct commands *commands,
			struct build_graph *ret);
void build_graph_free(struct build_graph *graph);
bool compile_reads(const struct compile *compile, const char *path);
/** Linked files (relative to the tree) that contain the object. */
void build_graph_linked_into(struct arena *arena, const struct build_graph *graph,
			     const char *object, struct names *ret);

/* ---- replay.c: recorded compiles, once more ---------------------------------------------------- */

enum replay_kind {
	REPLAY_PLAIN,     /* the command as it was */
	REPLAY_SECTIONED, /* with one section per function and datum */
};
/** The job that repeats @compile; its object lands at the same path of whatever tree it runs in. */
void replay_job(struct arena *arena, const char *root, const struct compile *compile,
		enum replay_kind kind, int log, struct job *ret);

/* ---- diff_apply.c: unified diffs --------------------------------------------------------------- */

struct diff_set;
/**
 * Read and parse diffs; all of them, in order. BUILD when one is none, NOT_FOUND. @ret is set and
 * to be freed in any case. */
struct error *diff_set_read(struct arena *arena, const char *const *paths, size_t count,
			    struct diff_set **ret) MUST_CHECK;
void diff_set_free(struct diff_set *set);
/**
 * Apply all of them below @root, or nothing: hunks match exactly, at another line if need be.
 * @strip: levels to take off the names, or -1: the first of 1, 0, 2, 3 whose names exist.
 * Adds the names, relative to @root, to @ret.
 */
struct error *diff_set_apply(struct arena *arena, const struct diff_set *set, const char *root,
			     int strip, struct names *ret) MUST_CHECK;

/* ---- line.c ------------------------------------------------------------------------------------ */

struct line {
	const char *text; /* with its line end, if it has one */
	size_t size;
	size_t number; /* in the file before any diff, from 1; 0: a diff added it */
};
/** The file's text; in C and C++ with #line where lines no longer stand at their old number. */
void lines_write(const char *name, const struct line *lines, size_t count, struct buffer *ret);

/* ---- cache.c ----------------------------------------------------------------------------------- */

/**
 * Names, modes and content of all regular files and links below @path; VCS folders are left out.
 * @ret_newest: the newest modification time of a file, in seconds.
 */
struct error *tree_digest(const char *cache, const char *path, struct digest *ret,
			  long long *ret_newest) MUST_CHECK;
/** Wait for an exclusive lock on the file; the descriptor holds it. */
struct error *cache_lock(const char *path, const struct progress *progress, int *ret) MUST_CHECK;
/** Remove all but the @keep newest folders of a directory, except those that are locked. */
void cache_prune(const char *directory, size_t keep);
bool files_equal(const char *a, const char *b);
/** What made the records: another one may record more. */
struct error *masquerade_digest(struct digest *ret) MUST_CHECK;
/** Copy the masquerade to a directory, where it is not there yet. */
struct error *masquerade_copy(const char *directory) MUST_CHECK;
/** Give it the name of every tool in @path (as of PATH) that it can stand for. */
struct error *masquerade_link(const char *directory, const char *path) MUST_CHECK;

/**
 * Put the masquerade in place of the compilers of @path themselves, in this mount namespace only;
 * the files go to the empty folder @covered.
 */
struct error *masquerade_cover(const char *directory, const char *covered,
			       const char *path) MUST_CHECK;

/* ---- package.c --------------------------------------------------------------------------------- */

struct package {
	const char *name, *version; /* of the binary package */
	const char *source, *source_version;
	const char *codename, *architecture;
	const char *root_stamp; /* of the clean root: another one has another; by package_root() */
	const char *directory;  /* of the unpacked source, in the root; set by package_prepare() */
};
/** Which source the installed (or named) version was built from. */
struct error *package_find(struct arena *arena, const char *name, const char *version,
			   struct package *ret) MUST_CHECK;
/** A clean root with compilers, shared by all packages of a suite; @ret is its directory. */
struct error *package_root(struct arena *arena, const char *cache, struct package *package,
			   const struct progress *progress, const char **ret) MUST_CHECK;
/** In the package's own tree: build dependencies and unpacked source. */
struct error *package_prepare(struct arena *arena, struct package *package, const struct tree *tree,
			      const char *log, const struct progress *progress) MUST_CHECK;
/** The directory of the unpacked source, found again in a cached tree. */
struct error *package_locate(struct arena *arena, struct package *package,
			     const struct tree *tree) MUST_CHECK;
/** Environment of commands in a clean root, with the masquerade in front of PATH. */
char **package_environment(struct arena *arena, unsigned jobs, bool masquerade);
extern const char package_masquerade_directory[], package_records_directory[];

/* ---- build.c ----------------------------------------------------------------------------------- */

/** BUILD: "WHAT failed with status N; its output is in LOG, which ends: ...". */
struct error *build_failed(const char *what, int status, const char *log) MUST_CHECK;

#endif
