// SPDX-License-Identifier: MIT
/*
 * From a diff and a build command to pairs of objects. The whole job is source_build(), at the end:
 *
 *   the key                what the plain build depends on; its folder in the cache is locked
 *   plain build            of the old tree, recorded; taken from the cache when it is there
 *   the diff               applied on top of the built old tree
 *   new tree               the build command again, incrementally; recorded too
 *   once more, plain       what reads a changed file and was not rebuilt; and old objects, to see
 *                          whether they come out the same twice
 *   sections               old and new of what changed, with one section per function and datum
 *
 * A unit is an object that reads a changed file or that the second build made differently. Where the
 * code is the same in old and new it is only listed, so that it can be compared with the target: a
 * target whose compiler inlined the changed code there must not pass. "The same" means equal bytes,
 * or equal bytes after `strip -g`, since a line more in a header moves every line number behind it.
 *
 * Rejected: one build with sections and one without. It doubles the time of the first patch, and
 * only objects that a diff changes are ever looked at.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

extern char **environ;

// More units than this are not compiled on suspicion while the new tree is built.
enum { PREFETCH_LIMIT = 8 };
// Patches and builds that the cache keeps.
enum { KEPT_PATCHES = 8, KEPT_BUILDS = 24 };

struct unit {
	const struct compile *old, *new; // of either tree, NULL where it has none
	const char *object;
	const char *plain_old, *plain_new, *sectioned_old, *sectioned_new;
	const char *plain_again;
	bool reads;   // a changed file
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

// ---- small things ----------------------------------------------------------------------------------

static const char *in_folder(struct work *work, const char *name)
{
	return arena_printf(work->arena, "%s/%s", work->folder, name);
}

// Whose content a tree shows.
enum version {
	VERSION_SOURCE,  // as the user, or the package, has it
	VERSION_OLD,     // built
	VERSION_PATCHED, // built, then the diff
	VERSION_NEW,     // built, then the diff, then built again
};

static const char *layer_of(struct work *work, enum version version)
{
	static const char *const names[] = {
		[VERSION_PATCHED] = "diff",
		[VERSION_NEW] = "new",
	};
	if (version == VERSION_SOURCE)
		return work->lowest;
	if (version == VERSION_OLD)
		return arena_printf(work->arena, "%s/old", work->folder);
	return arena_printf(work->arena, "%s/%s", work->patch_folder, names[version]);
}

// The tree of that version, with what is written to it in @upper.
static struct tree tree_of(struct work *work, enum version version, const char *upper)
{
	struct tree tree = {.at = work->at, .upper = upper, .root = work->is_package};
	for (int i = (int)version; i >= VERSION_SOURCE; i--)
		tree.layers[tree.layer_count++] = layer_of(work, (enum version)i);
	return tree;
}

// The tree in which a version comes about: its own layer takes the changes.
static struct tree tree_becoming(struct work *work, enum version version)
{
	return tree_of(work, (enum version)(version - 1), layer_of(work, version));
}

static const char *lookup(struct work *work, const struct tree *tree, const char *name)
{
	return tree_lookup(work->arena, tree,
			   arena_printf(work->arena, "%s%s", work->prefix, name));
}

// The file in the tree's own upper layer only.
static const char *made(struct work *work, const char *upper, const char *name)
{
	const char *path = arena_printf(work->arena, "%s/%s%s", upper, work->prefix, name);
	struct stat status;
	return lstat(path, &status) == 0 && S_ISREG(status.st_mode) ? path : NULL;
}

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static struct error *open_log(const char *path, int *ret)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0)
		return error_errno(errno, "cannot write '%s'", path);
	*ret = fd;
	return NULL;
}

// The last lines of a file, without what a terminal would make of control characters.
static char *last_lines(const char *path, size_t count)
{
	char *bytes;
	size_t size;
	struct error *error = file_read(path, &bytes, &size);
	if (error) {
		error_free(error);
		return xstrdup("");
	}
	while (size && bytes[size - 1] == '\n')
		bytes[--size] = '\0';
	char *start = bytes + size;
	while (start > bytes && (start[-1] != '\n' || --count))
		start--;
	char *text = xstrdup(start);
	free(bytes);
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' && *c != '\n' && *c != '\t')
			*c = '?';
	return text;
}

struct error *build_failed(const char *what, int status, const char *log)
{
	// A compiler says it in its own words; here it is an error of the machine.
	struct statvfs disk;
	if (statvfs(log, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < 1 << 20)
		return error_new(ERROR_KIND_SYSTEM, "%s failed: the disk that holds '%s' is full", what,
				 log);
	_cleanup_free_ char *tail = last_lines(log, 10);
	_cleanup_free_ char *how = WIFEXITED(status) ?
					   xasprintf("status %d", WEXITSTATUS(status)) :
					   xasprintf("signal %d", WTERMSIG(status));
	return error_new(ERROR_KIND_BUILD, "%s failed with %s; its output is in '%s'%s%s", what, how, log,
			 *tail ? " and ends with:\n" : "", tail);
}

static void add_name(struct names *names, const char *name)
{
	for (size_t i = 0; i < names->list.count; i++)
		if (string_equal(names->list.items[i], name))
			return;
	vec_push(&names->list, name);
}

static const char *const *names_take(struct work *work, struct names *names, size_t *ret_count)
{
	*ret_count = names->list.count;
	if (!names->list.count)
		return NULL;
	return arena_memdup(work->arena, names->list.items,
			    names->list.count * sizeof(*names->list.items));
}

static const char *tool_path(void)
{
	const char *path = getenv("PATH");
	return path ? path : "/usr/local/bin:/usr/bin:/bin";
}

// ---- the key ---------------------------------------------------------------------------------------

// The tool that a name of PATH stands for, as far as a stat shows.
static void digest_tool(struct digest_state *state, const char *name)
{
	for (const char *entry = tool_path(); *entry;) {
		size_t size = strcspn(entry, ":");
		_cleanup_free_ char *file = xasprintf("%.*s/%s", (int)size, entry, name);
		_cleanup_free_ char *real = realpath(file, NULL);
		struct stat status;
		if (real && access(real, X_OK) == 0 && stat(real, &status) == 0) {
			digest_update_string(state, real);
			digest_update_u64(state, (uint64_t)status.st_size);
			digest_update_u64(state, (uint64_t)status.st_mtim.tv_sec);
			return;
		}
		entry += size + (entry[size] == ':');
	}
	digest_update_string(state, name);
}

// Variables that build systems and compilers read.
static bool variable_matters(const char *variable)
{
	static const char *const names[] = {
		"CC=", "CXX=", "CPP=", "LD=", "AR=", "AS=", "NM=", "RANLIB=", "CFLAGS=", "CXXFLAGS=",
		"CPPFLAGS=", "LDFLAGS=", "LDLIBS=", "LIBS=", "ARCH=", "CROSS_COMPILE=", "CPATH=",
		"C_INCLUDE_PATH=", "CPLUS_INCLUDE_PATH=", "LIBRARY_PATH=", "COMPILER_PATH=",
		"GCC_EXEC_PREFIX=", "PKG_CONFIG", "SOURCE_DATE_EPOCH=", "DEB_", "OPT=", "OPTIMIZATION=",
		"MALLOC=", "DESTDIR=", "CMAKE_", "KCFLAGS=", "KBUILD_",
	};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (string_starts_with(variable, names[i]))
			return true;
	return false;
}

static int variable_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void digest_environment(struct digest_state *state)
{
	VEC(char *) variables = {0};
	for (char **variable = environ; *variable; variable++)
		if (variable_matters(*variable))
			vec_push(&variables, *variable);
	if (variables.count)
		qsort(variables.items, variables.count, sizeof(char *), variable_compare);
	for (size_t i = 0; i < variables.count; i++)
		digest_update_string(state, variables.items[i]);
	vec_deinit(&variables);
}

static struct error *digest_files(struct digest_state *state, const char *const *paths, size_t count)
{
	digest_update_u64(state, count);
	for (size_t i = 0; i < count; i++) {
		_cleanup_free_ char *bytes = NULL;
		size_t size;
		TRY(file_read(paths[i], &bytes, &size));
		digest_update_u64(state, size);
		digest_update(state, bytes, size);
	}
	return NULL;
}

static struct error *find_key(struct work *work)
{
	static const char *const tools[] = {"gcc", "cc", "g++", "c++", "clang", "clang++", "ld", "as"};
	const struct source_options *options = work->options;
	struct digest_state state;
	digest_init(&state);
	digest_update_string(&state, "suture build " SUTURE_VERSION);
	struct digest masquerade;
	TRY(masquerade_digest(&masquerade));
	digest_update(&state, &masquerade, sizeof(masquerade));
	digest_update(&state, options->target_build_id.bytes, options->target_build_id.size);
	TRY(digest_files(&state, options->base_patches, options->base_patch_count));
	if (work->is_package) {
		digest_update_string(&state, work->package.source);
		digest_update_string(&state, work->package.source_version);
		digest_update_string(&state, work->package.codename);
		digest_update_string(&state, work->package.architecture);
		digest_update_string(&state, work->package.root_stamp);
	} else {
		progress_report(work->progress, "reading the tree", 0, 0);
		struct digest tree;
		TRY(tree_digest(work->cache, work->root, &tree, &work->newest));
		digest_update(&state, &tree, sizeof(tree));
		digest_update_string(&state, work->root);
		digest_update_u64(&state, options->command_count);
		for (size_t i = 0; i < options->command_count; i++)
			digest_update_string(&state, options->command[i]);
		digest_environment(&state);
		for (size_t i = 0; i < ARRAY_SIZE(tools); i++)
			digest_tool(&state, tools[i]);
	}
	work->key = digest_final(&state);
	return NULL;
}

// ---- running the build command -----------------------------------------------------------------------

static char **build_environment(struct work *work, const char *records, bool go_on)
{
	if (work->is_package)
		return package_environment(work->arena, work->options->jobs, true);
	// Of a make that runs us: its job server is not for the build.
	static const char *const dropped[] = {"PATH=", "MAKEFLAGS=", "MFLAGS=", "MAKELEVEL=",
					      "MAKE_TERM", "SUTURE_", "CCACHE_DISABLE=", "PWD=",
					      "OLDPWD=", "DEPENDENCIES_OUTPUT=", "SUNPRO_DEPENDENCIES="};
	size_t count = 0;
	while (environ[count])
		count++;
	char **environment = arena_array(work->arena, count + 8, sizeof(char *));
	size_t used = 0;
	for (size_t i = 0; i < count; i++) {
		bool drop = false;
		for (size_t k = 0; k < ARRAY_SIZE(dropped); k++)
			drop = drop || string_starts_with(environ[i], dropped[k]);
		if (!drop)
			environment[used++] = environ[i];
	}
	environment[used++] = arena_printf(work->arena, "PATH=%s/bin:%s", work->cache, tool_path());
	environment[used++] = arena_printf(work->arena, "SUTURE_RECORDS=%s", records);
	environment[used++] = arena_printf(work->arena, "SUTURE_COVERED=%s.covered", records);
	environment[used++] = arena_printf(work->arena, "PWD=%s", work->root);
	// A ccache would hand out what it compiled elsewhere, under another path.
	environment[used++] = (char *)"CCACHE_DISABLE=1";
	if (go_on)
		environment[used++] = (char *)"MAKEFLAGS=k";
	if (!getenv("SOURCE_DATE_EPOCH"))
		environment[used++] =
			arena_printf(work->arena, "SOURCE_DATE_EPOCH=%lld", work->newest);
	return environment;
}

static struct job build_command(struct work *work, const char *records, int log, bool go_on)
{
	const struct source_options *options = work->options;
	char **words = arena_array(work->arena, options->command_count + 8, sizeof(char *));
	if (work->is_package) {
		// The system's own: what a binary package is built by, without signing or tests.
		static const char *const command[] = {"dpkg-buildpackage", "-us", "-uc", "-b"};
		for (size_t i = 0; i < ARRAY_SIZE(command); i++)
			words[i] = (char *)command[i];
	} else if (options->command_count) {
		for (size_t i = 0; i < options->command_count; i++)
			words[i] = (char *)options->command[i];
	} else {
		words[0] = (char *)"make";
		words[1] = arena_printf(work->arena, "-j%u", options->jobs ? options->jobs : 1);
	}
	return (struct job){
		.directory = work->root,
		.program = words[0],
		.words = words,
		.environment = build_environment(work, records, go_on),
		.log = log,
	};
}

struct build_inside {
	struct work *work;
	struct jobs jobs;
	bool apply_base;
	bool remove_objects;
	const char *covered; // folder of what the masquerade covers
};

// Files of the tree that git tracks: a binary object among them is a source.
static struct hashmap *tracked_files(void)
{
	struct hashmap *tracked = hashmap_create();
	FILE *pipe = popen("git ls-files -z 2>/dev/null", "re");
	char *name = NULL;
	size_t capacity = 0;
	while (pipe && getdelim(&name, &capacity, '\0', pipe) > 0)
		hashmap_set_string(tracked, name, tracked);
	free(name);
	if (pipe)
		pclose(pipe);
	return tracked;
}

// A tree that was built already gives nothing to record. Its objects are taken away (from the overlay:
// the tree itself keeps them), and make finds them missing. Archives and linked files stay: they
// are made anew where they depend on objects, and not every makefile can make what it only uses.
static struct error *remove_objects(const char *root)
{
	struct hashmap *tracked = tracked_files();
	FILE *pipe = popen("find . -type f \\( -name '*.o' -o -name '*.lo' \\) -print0", "re");
	char *name = NULL;
	size_t capacity = 0;
	struct error *error = pipe ? NULL : error_errno(errno, "cannot list '%s'", root);
	while (!error && getdelim(&name, &capacity, '\0', pipe) > 0)
		if (!hashmap_get_string(tracked, name + 2) && unlink(name) < 0)
			error = error_errno(errno, "cannot remove '%s' in the overlay of '%s'", name,
					    root);
	free(name);
	if (pipe)
		pclose(pipe);
	hashmap_free(tracked);
	return error;
}

static struct error *build_inside(void *context, struct tree_inside *inside)
{
	struct build_inside *build = context;
	struct work *work = build->work;
	if (chdir(work->root) < 0)
		return error_errno(errno, "cannot enter '%s'", work->root);
	if (build->apply_base) {
		struct names ignored = {0};
		TRY(error_prefix(diff_set_apply(work->arena, work->base, work->root, -1, &ignored),
				 "base patch"));
	}
	if (build->remove_objects)
		TRY(remove_objects(work->root));
	if (work->is_package)
		TRY(masquerade_link(package_masquerade_directory,
				    "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"));
	else
		TRY(masquerade_cover(arena_printf(work->arena, "%s/bin", work->cache), build->covered,
				     tool_path()));
	return jobs_run(&build->jobs, inside);
}

struct news {
	struct work *work;
	const char *stage;
	const char *records; // counted, or NULL: jobs are
	size_t total;
};

static void tell_news(void *context, size_t done)
{
	const struct news *news = context;
	progress_report(news->work->progress, news->stage,
			news->records ? records_count(news->records) : done, news->total);
}

// A make or ninja of the plain build, once more.
static struct job builder_again(struct work *work, const struct command *command,
				const char *records, int log)
{
	// What the build set before it came to make, and what is ours.
	static const char *const ours[] = {"PATH=", "SUTURE_RECORDS=", "SUTURE_COVERED="};
	size_t count = 0;
	while (command->environment[count])
		count++;
	char **environment =
		arena_array(work->arena, count + ARRAY_SIZE(ours) + 1, sizeof(char *));
	size_t used = 0;
	for (size_t i = 0; i < count; i++)
		if (!string_starts_with(command->environment[i], ours[0]))
			environment[used++] = command->environment[i];
	char **now = build_environment(work, records, false);
	for (size_t i = 0; now[i]; i++)
		for (size_t k = 0; k < ARRAY_SIZE(ours); k++)
			if (string_starts_with(now[i], ours[k]))
				environment[used++] = now[i];
	return (struct job){
		.directory = command->directory,
		.program = command->tool,
		.words = command->words,
		.environment = environment,
		.log = log,
	};
}

// One run of the build command in a tree, or of some of its parts.
struct run {
	struct tree tree;
	const char *records, *log, *stage;
	const struct commands *builders; // instead of the command, when there are some
	bool apply_base, remove_objects;
	bool go_on;        // build whatever can be built
	bool keep_records; // of the run before
};

static struct error *run_build(struct work *work, const struct run *run)
{
	struct tree tree = run->tree;
	const char *records = run->records, *stage = run->stage;
	const struct commands *builders = run->builders;
	if (!run->keep_records)
		TRY(tree_remove(records));
	TRY(directory_create_all(records));
	if (work->is_package) {
		_cleanup_free_ char *masquerade = xasprintf("%s/bin", work->folder);
		TRY(masquerade_copy(masquerade));
		tree.binds[tree.bind_count++] = (struct tree_bind){
			arena_strdup(work->arena, masquerade), package_masquerade_directory, false};
		tree.binds[tree.bind_count++] =
			(struct tree_bind){records, package_records_directory, false};
	}
	const char *covered = arena_printf(work->arena, "%s.covered", records);
	TRY(tree_remove(covered));
	TRY(directory_create_all(covered));
	_cleanup_close_ int log = -1;
	TRY(open_log(run->log, &log));
	size_t count = builders && builders->list.count ? builders->list.count : 1;
	struct job *jobs = arena_array(work->arena, count, sizeof(*jobs));
	if (builders && builders->list.count)
		for (size_t i = 0; i < count; i++)
			jobs[i] = builder_again(work, builders->list.items[i], records, log);
	else
		jobs[0] = build_command(work, records, log, run->go_on);
	struct build_inside build = {
		.work = work,
		.jobs = {jobs, count, 1},
		.apply_base = run->apply_base,
		.remove_objects = run->remove_objects,
		.covered = covered,
	};
	struct news news = {work, stage, records, 0};
	progress_report(work->progress, stage, 0, 0);
	struct tree_session *session;
	_cleanup_buffer_ struct buffer reply = {0};
	TRY(tree_start(&tree, build_inside, &build, &session));
	TRY(tree_finish(session, tell_news, &news, &reply));
	jobs_take_reply(&build.jobs, &reply);
	for (size_t i = 0; i < count; i++) {
		if (jobs[i].status == 0)
			continue;
		_cleanup_buffer_ struct buffer what = {0};
		buffer_printf(&what, "%s: the build command '", stage);
		for (size_t k = 0; jobs[i].words[k]; k++)
			buffer_printf(&what, "%s%s", k ? " " : "", jobs[i].words[k]);
		buffer_puts(&what, "'");
		return build_failed(what.bytes, jobs[i].status, run->log);
	}
	return NULL;
}

// ---- the plain build -----------------------------------------------------------------------------------

// Objects of trials (conftest.o) are gone when the build ends: they are none of its objects.
static bool old_exists(struct work *work, const struct compile *compile)
{
	return made(work, layer_of(work, VERSION_OLD),
		    compile->linked ? compile->linked : compile->object);
}

static size_t old_object_count(struct work *work)
{
	size_t count = 0;
	for (size_t i = 0; i < work->old_graph.compiles.count; i++)
		count += old_exists(work, work->old_graph.compiles.items[i]);
	return count;
}

static struct error *read_records(struct work *work, const char *directory,
				  struct commands *commands, struct build_graph *graph)
{
	TRY(records_read(work->arena, directory, commands));
	build_graph_create(work->arena, work->root, commands, graph);
	return NULL;
}

static void forget_records(struct commands *commands, struct build_graph *graph)
{
	build_graph_free(graph);
	vec_deinit(&commands->list);
}

// Was something linked that this build did not make, and that the user's tree held before?
static bool built_before(struct work *work)
{
	const struct build_graph *graph = &work->old_graph;
	if (old_object_count(work) == 0)
		return true;
	for (size_t i = 0; i < graph->links.count; i++) {
		const struct link *link = graph->links.items[i];
		for (size_t k = 0; k < link->inputs.list.count; k++) {
			const char *input = link->inputs.list.items[k];
			const char *name = path_within(work->root, input);
			bool object = string_ends_with(input, ".o") &&
				      !hashmap_get_string(graph->link_of, input) && name &&
				      !hashmap_get_string(graph->compile_of, name);
			bool archive = string_ends_with(input, ".a") &&
				       !hashmap_get_string(graph->link_of, input);
			if (name && (object || archive)) {
				_cleanup_free_ char *path = xasprintf("%s/%s", work->lowest, name);
				if (path_exists(path))
					return true;
			}
		}
	}
	return false;
}

static struct error *no_compile(struct work *work)
{
	if (work->old_graph.outside)
		return error_new(ERROR_KIND_BUILD,
				 "the build put its objects outside of the tree ('%s'): name a folder "
				 "that holds both by -s",
				 work->old_graph.outside);
	return error_new(ERROR_KIND_BUILD,
			 "the build called no compiler by name: either it had nothing to do, or it "
			 "calls one by an absolute path that is not in PATH (set CC=gcc, or configure "
			 "again); its output is in '%s'",
			 work->log);
}

static struct error *mark_complete(struct work *work)
{
	// The mark may not reach the disk before what it vouches for.
	_cleanup_close_ int fd = open(work->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || syncfs(fd) < 0)
		return error_errno(errno, "cannot write '%s'", work->folder);
	_cleanup_free_ char *text = xasprintf("%.3f\n", work->result.plain_seconds);
	return file_write_atomic(in_folder(work, "complete"), text, strlen(text), 0666);
}

// Take whiteouts of objects out of an upper folder: what the build did not make is there again.
static struct error *restore_objects(const char *directory)
{
	DIR *folder = opendir(directory);
	if (!folder)
		return error_errno(errno, "cannot read directory '%s'", directory);
	struct error *error = NULL;
	struct dirent *entry;
	while (!error && (entry = readdir(folder))) {
		const char *name = entry->d_name;
		_cleanup_free_ char *path = xasprintf("%s/%s", directory, name);
		struct stat status;
		if (string_equal(name, ".") || string_equal(name, "..") || lstat(path, &status) < 0)
			continue;
		if (S_ISDIR(status.st_mode))
			error = restore_objects(path);
		else if (S_ISCHR(status.st_mode) && status.st_rdev == 0 &&
			 (string_ends_with(name, ".o") || string_ends_with(name, ".lo")) &&
			 unlink(path) < 0)
			error = error_errno(errno, "cannot remove '%s'", path);
	}
	closedir(folder);
	return error;
}

/*
 * The tree was built before, so there was little to record. Without its objects make has to compile
 * again. Not every makefile can make each object that it links (redis makes those of its deps/ once
 * only): what was not made although everything was tried comes back, as the user built it, and
 * the command runs once more. Such an object cannot be patched.
 */
static struct error *build_anew(struct work *work, const struct run *first)
{
	struct run run = *first;
	run.remove_objects = true;
	run.go_on = true;
	_cleanup_error_ struct error *error = run_build(work, &run);
	if (!error)
		return NULL;
	TRY(restore_objects(layer_of(work, VERSION_OLD)));
	run.remove_objects = false;
	run.go_on = false;
	run.keep_records = true;
	return error_prefix(run_build(work, &run),
			    "'%s' holds objects of an earlier build, and building them anew failed (clean "
			    "it and try again)",
			    work->root);
}

static struct error *make_plain_build(struct work *work)
{
	// Whatever an interrupted build left.
	static const char *const leftovers[] = {"old", "old.work", "old.whole", "records", "patches",
						"units"};
	for (size_t i = 0; i < ARRAY_SIZE(leftovers); i++)
		TRY(tree_remove(in_folder(work, leftovers[i])));

	double start = seconds();
	const char *records = in_folder(work, "records");
	if (work->is_package) {
		struct tree tree = tree_becoming(work, VERSION_OLD);
		TRY(package_prepare(work->arena, &work->package, &tree,
				    in_folder(work, "prepare.log"), work->progress));
		work->root = work->package.directory;
		work->prefix = arena_printf(work->arena, "%s/", work->root + 1);
	}
	struct run run = {
		.tree = tree_becoming(work, VERSION_OLD),
		.records = records,
		.log = work->log,
		.stage = "plain build",
		.apply_base = work->options->base_patch_count > 0,
	};
	TRY(run_build(work, &run));
	TRY(read_records(work, records, &work->old_commands, &work->old_graph));
	if (!work->is_package && built_before(work)) {
		forget_records(&work->old_commands, &work->old_graph);
		start = seconds();
		run.apply_base = false;
		TRY(build_anew(work, &run));
		TRY(read_records(work, records, &work->old_commands, &work->old_graph));
	}
	if (old_object_count(work) == 0)
		return no_compile(work);
	work->result.plain_seconds = seconds() - start;
	return mark_complete(work);
}

static struct error *plain_build(struct work *work)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	_cleanup_error_ struct error *absent = file_read(in_folder(work, "complete"), &text, &size);
	if (absent)
		return make_plain_build(work);
	work->result.cached = true;
	work->result.plain_seconds = strtod(text, NULL);
	if (work->is_package) {
		struct tree tree = tree_becoming(work, VERSION_OLD);
		TRY(package_locate(work->arena, &work->package, &tree));
		work->root = work->package.directory;
		work->prefix = arena_printf(work->arena, "%s/", work->root + 1);
	}
	return read_records(work, in_folder(work, "records"), &work->old_commands, &work->old_graph);
}

// ---- the diff ----------------------------------------------------------------------------------------------

// A version string that is made of `git describe --dirty` or the like would differ in the new tree,
// and with it an object that has nothing to do with the diff. The index of the overlay is told not
// to look at these files.
static void hide_from_git(const char *root, const struct names *names)
{
	_cleanup_free_ char *index = xasprintf("%s/.git/index", root);
	if (!path_exists(index) || chdir(root) < 0)
		return;
	FILE *pipe = popen("git update-index -z --assume-unchanged --stdin >/dev/null 2>&1", "we");
	if (!pipe)
		return;
	for (size_t i = 0; i < names->list.count; i++)
		if (path_exists(names->list.items[i]))
			fwrite(names->list.items[i], 1, strlen(names->list.items[i]) + 1, pipe);
	pclose(pipe);
}

static struct error *apply_inside(void *context, struct tree_inside *inside)
{
	struct work *work = context;
	struct names names = {0};
	TRY(diff_set_apply(work->arena, work->diffs, work->root, -1, &names));
	hide_from_git(work->root, &names);
	for (size_t i = 0; i < names.list.count; i++)
		buffer_append(&inside->reply, names.list.items[i], strlen(names.list.items[i]) + 1);
	return NULL;
}

static struct error *apply_diffs(struct work *work)
{
	// One folder per set of diffs; the one of an earlier run of the same is made anew.
	struct digest_state state;
	digest_init(&state);
	digest_update(&state, &work->key, sizeof(work->key));
	TRY(digest_files(&state, work->options->patches, work->options->patch_count));
	work->result.source_digest = digest_final(&state);
	char hex[33];
	hex_format(work->result.source_digest.bytes, 16, hex);
	const char *patches = in_folder(work, "patches");
	TRY(directory_create_all(patches));
	work->patch_folder = arena_printf(work->arena, "%s/%s", patches, hex);
	TRY(tree_remove(work->patch_folder));
	cache_prune(patches, KEPT_PATCHES - 1);
	TRY(directory_create_all(work->patch_folder));

	progress_report(work->progress, "applying the diff", 0, 0);
	TRY(directory_create_all(layer_of(work, VERSION_NEW)));
	struct tree tree = tree_becoming(work, VERSION_PATCHED);
	struct tree_session *session;
	_cleanup_buffer_ struct buffer reply = {0};
	TRY(tree_start(&tree, apply_inside, work, &session));
	TRY(tree_finish(session, NULL, NULL, &reply));
	for (size_t at = 0; at < reply.size; at += strlen(reply.bytes + at) + 1)
		vec_push(&work->changed.list, arena_strdup(work->arena, reply.bytes + at));
	return NULL;
}

// ---- units ---------------------------------------------------------------------------------------------------

static bool reads_changed(struct work *work, const struct compile *compile, struct names *ret)
{
	bool reads = false;
	for (size_t i = 0; compile && i < work->changed.list.count; i++) {
		const char *name = work->changed.list.items[i];
		_cleanup_free_ char *path = xasprintf("%s/%s", work->root, name);
		if (!compile_reads(compile, path))
			continue;
		reads = true;
		if (ret)
			add_name(ret, name);
	}
	return reads;
}

static struct unit *add_unit(struct work *work, const char *object)
{
	struct unit *unit = hashmap_get_string(work->unit_of, object);
	if (unit)
		return unit;
	unit = arena_new(work->arena, struct unit);
	unit->object = object;
	unit->stable = true;
	unit->old = hashmap_get_string(work->old_graph.compile_of, object);
	if (work->new_graph.compile_of)
		unit->new = hashmap_get_string(work->new_graph.compile_of, object);
	unit->reads = reads_changed(work, unit->old, &unit->changed);
	unit->reads |= reads_changed(work, unit->new, &unit->changed);
	vec_push(&work->units, unit);
	hashmap_set_string(work->unit_of, object, unit);
	return unit;
}

// The name of an object's copy beside the plain build.
static const char *kept_path(struct work *work, const char *object, const char *kind)
{
	struct digest digest = digest_bytes(object, strlen(object));
	char hex[33];
	hex_format(digest.bytes, sizeof(digest.bytes), hex);
	return arena_printf(work->arena, "%s/units/%s.%s.o", work->folder, hex, kind);
}

struct replay_inside {
	struct work *work;
	struct jobs *jobs;
	const struct timespec *times; // of changed files, or NULL
};

// The new tree's changed files get the times that they had, so that __TIMESTAMP__ is the same.
static struct error *replay_inside(void *context, struct tree_inside *inside)
{
	struct replay_inside *replay = context;
	struct work *work = replay->work;
	for (size_t i = 0; replay->times && i < work->changed.list.count; i++) {
		const struct timespec time = replay->times[i];
		if (time.tv_nsec == UTIME_OMIT)
			continue;
		_cleanup_free_ char *path = xasprintf("%s/%s", work->root, work->changed.list.items[i]);
		const struct timespec both[2] = {time, time};
		utimensat(AT_FDCWD, path, both, AT_SYMLINK_NOFOLLOW);
	}
	return jobs_run(replay->jobs, inside);
}

static struct timespec *changed_times(struct work *work)
{
	struct timespec *times =
		arena_array(work->arena, work->changed.list.count + 1, sizeof(*times));
	struct tree old = tree_becoming(work, VERSION_OLD);
	for (size_t i = 0; i < work->changed.list.count; i++) {
		const char *path = lookup(work, &old, work->changed.list.items[i]);
		struct stat status;
		times[i].tv_nsec = UTIME_OMIT;
		if (path && stat(path, &status) == 0)
			times[i] = status.st_mtim;
	}
	return times;
}

static struct error *replay_failed(const struct jobs *jobs, const char *stage, const char *log)
{
	for (size_t i = 0; i < jobs->count; i++) {
		if (jobs->items[i].status == 0)
			continue;
		_cleanup_buffer_ struct buffer what = {0};
		buffer_printf(&what, "%s: repeating '", stage);
		for (size_t k = 0; jobs->items[i].words[k]; k++)
			buffer_printf(&what, "%s%s", k ? " " : "", jobs->items[i].words[k]);
		buffer_puts(&what, "'");
		return build_failed(what.bytes, jobs->items[i].status, log);
	}
	return NULL;
}

// A set of compiles, repeated in one tree. The objects are then found at UPPER/PREFIX/OBJECT.
struct replays {
	const char *stage;
	const char *upper;
	const char *log;
	enum version version;
	enum replay_kind kind;
	VEC(struct unit *) units;
	struct jobs jobs;
	struct replay_inside inside;
	struct tree_session *session;
};

static struct error *replays_begin(struct work *work, struct replays *replays, unsigned parallel)
{
	if (!replays->units.count)
		return NULL;
	replays->log = arena_printf(work->arena, "%s.log", replays->upper);
	_cleanup_close_ int log = -1;
	TRY(open_log(replays->log, &log));
	struct job *jobs = arena_array(work->arena, replays->units.count, sizeof(*jobs));
	for (size_t i = 0; i < replays->units.count; i++) {
		const struct unit *unit = replays->units.items[i];
		const struct compile *compile =
			replays->version == VERSION_NEW && unit->new ? unit->new : unit->old;
		replay_job(work->arena, work->root, compile, replays->kind, log, &jobs[i]);
	}
	replays->jobs = (struct jobs){jobs, replays->units.count, parallel};
	replays->inside = (struct replay_inside){
		work, &replays->jobs, replays->version > VERSION_OLD ? changed_times(work) : NULL};
	struct tree tree = tree_of(work, replays->version, replays->upper);
	TRY(tree_remove(tree.upper));
	return tree_start(&tree, replay_inside, &replays->inside, &replays->session);
}

static struct error *replays_wait(struct work *work, struct replays *replays)
{
	if (!replays->session)
		return NULL;
	struct news news = {work, replays->stage, NULL, replays->jobs.count};
	_cleanup_buffer_ struct buffer reply = {0};
	TRY(tree_finish(take_ptr(replays->session), tell_news, &news, &reply));
	jobs_take_reply(&replays->jobs, &reply);
	return NULL;
}

static struct error *replays_end(struct work *work, struct replays *replays)
{
	TRY(replays_wait(work, replays));
	return replay_failed(&replays->jobs, replays->stage, replays->log);
}

static void replays_deinit(struct replays *replays)
{
	tree_abandon(take_ptr(replays->session));
	vec_deinit(&replays->units);
}

// Keep what the old tree gives for the next patch of the same unit.
static struct error *replays_keep(struct work *work, struct replays *replays, const char *kind)
{
	TRY(directory_create_all(in_folder(work, "units")));
	for (size_t i = 0; i < replays->units.count; i++) {
		const char *object = replays->units.items[i]->object;
		const char *from = made(work, replays->upper, object);
		const char *to = kept_path(work, object, kind);
		if (!from)
			return error_new(ERROR_KIND_BUILD, "repeating the compile of '%s' gave no object",
					 object);
		if (rename(from, to) < 0)
			return error_errno(errno, "cannot write '%s'", to);
	}
	return NULL;
}

// What is kept of the old tree for a unit, or a row in the list of what must be made.
static void want_old(struct work *work, struct unit *unit, struct replays *again,
		     struct replays *sections)
{
	if (!unit->old)
		return;
	if (!path_exists(kept_path(work, unit->object, "again")))
		vec_push(&again->units, unit);
	if (sections && !path_exists(kept_path(work, unit->object, "sections")))
		vec_push(&sections->units, unit);
}

// Equal code and data. Debug information differs where a line moved.
static bool objects_same(struct work *work, const char *a, const char *b)
{
	if (files_equal(a, b))
		return true;
	const char *const from[2] = {a, b};
	const char *to[2];
	for (int i = 0; i < 2; i++) {
		to[i] = arena_printf(work->arena, "%s/stripped-%d.o", work->patch_folder, i);
		char *const words[] = {(char *)"strip", (char *)"-g", (char *)"-o", (char *)to[i],
				       (char *)from[i], NULL};
		posix_spawn_file_actions_t actions;
		posix_spawn_file_actions_init(&actions);
		posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
		pid_t pid;
		int status = -1;
		if (posix_spawnp(&pid, "strip", &actions, NULL, words, environ) == 0)
			while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
				;
		posix_spawn_file_actions_destroy(&actions);
		if (status != 0)
			return false;
	}
	return files_equal(to[0], to[1]);
}

// Old and new plain objects of every unit; what has none yet is compiled for it.
static struct error *compare_units(struct work *work, struct replays *again)
{
	const char *new_upper = layer_of(work, VERSION_NEW);
	struct tree old = tree_becoming(work, VERSION_OLD);
	struct replays fresh = {
		.stage = "new tree",
		.upper = arena_printf(work->arena, "%s/replayed", work->patch_folder),
		.version = VERSION_NEW,
		.kind = REPLAY_PLAIN,
	};
	for (size_t i = 0; i < work->units.count; i++) {
		struct unit *unit = work->units.items[i];
		bool rebuilt = unit->new && !unit->new->linked;
		if (rebuilt)
			unit->plain_new = made(work, new_upper, unit->object);
		if (!unit->plain_new)
			vec_push(&fresh.units, unit);
		if (unit->old && !unit->old->linked)
			unit->plain_old = lookup(work, &old, unit->object);
		// An object that nobody ever sees: its copy is the only one.
		if (unit->old && unit->old->linked &&
		    !path_exists(kept_path(work, unit->object, "again")))
			vec_push(&again->units, unit);
	}
	unsigned jobs = work->options->jobs;
	struct error *error = replays_begin(work, &fresh, jobs);
	if (!error)
		error = replays_begin(work, again, jobs);
	if (!error)
		error = replays_end(work, &fresh);
	if (!error)
		error = replays_end(work, again);
	if (!error)
		error = replays_keep(work, again, "again");
	again->units.count = 0;
	for (size_t i = 0; !error && i < work->units.count; i++) {
		struct unit *unit = work->units.items[i];
		if (!unit->plain_new)
			unit->plain_new = made(work, fresh.upper, unit->object);
		if (unit->old && !unit->plain_old)
			unit->plain_old = kept_path(work, unit->object, "again");
		if (!unit->plain_new)
			error = error_new(ERROR_KIND_BUILD, "'%s' has no object in the new tree",
					  unit->object);
		else if (unit->plain_old)
			unit->same = objects_same(work, unit->plain_old, unit->plain_new);
	}
	replays_deinit(&fresh);
	return error;
}

// Does the old object come out the same when it is compiled again?
static struct error *check_stability(struct work *work, struct replays *again)
{
	for (size_t i = 0; i < work->units.count; i++)
		if (!work->units.items[i]->same)
			want_old(work, work->units.items[i], again, NULL);
	TRY(replays_begin(work, again, work->options->jobs));
	TRY(replays_end(work, again));
	TRY(replays_keep(work, again, "again"));
	for (size_t i = 0; i < work->units.count; i++) {
		struct unit *unit = work->units.items[i];
		if (unit->same || !unit->old)
			continue;
		const char *once_more = kept_path(work, unit->object, "again");
		unit->stable = unit->plain_old == once_more ||
			       objects_same(work, unit->plain_old, once_more);
		if (unit->stable || unit->reads)
			continue;
		unit->dropped = true;
		findings_add(work->findings, FINDING_KIND_UNSTABLE_OBJECT, unit->object,
			     "'%s' differs between two compiles of the same source and reads no file of "
			     "the diff",
			     unit->object);
	}
	return NULL;
}

static struct error *make_sections(struct work *work)
{
	struct replays old = {
		.stage = "sections",
		.upper = arena_printf(work->arena, "%s/sections-old", work->patch_folder),
		.version = VERSION_OLD,
		.kind = REPLAY_SECTIONED,
	};
	struct replays new = {
		.stage = "sections",
		.upper = arena_printf(work->arena, "%s/sections-new", work->patch_folder),
		.kind = REPLAY_SECTIONED,
		.version = VERSION_NEW,
	};
	for (size_t i = 0; i < work->units.count; i++) {
		struct unit *unit = work->units.items[i];
		if (unit->same || unit->dropped)
			continue;
		if (!unit->sectioned_new)
			vec_push(&new.units, unit);
		if (unit->old && !path_exists(kept_path(work, unit->object, "sections")))
			vec_push(&old.units, unit);
	}
	unsigned jobs = work->options->jobs;
	if (old.units.count && new.units.count && jobs > 1)
		jobs = (jobs + 1) / 2;
	struct error *error = replays_begin(work, &new, jobs);
	if (!error)
		error = replays_begin(work, &old, jobs);
	if (!error)
		error = replays_end(work, &new);
	if (!error)
		error = replays_end(work, &old);
	if (!error)
		error = replays_keep(work, &old, "sections");
	for (size_t i = 0; !error && i < work->units.count; i++) {
		struct unit *unit = work->units.items[i];
		if (unit->same || unit->dropped)
			continue;
		if (!unit->sectioned_new)
			unit->sectioned_new = made(work, new.upper, unit->object);
		if (unit->old)
			unit->sectioned_old = kept_path(work, unit->object, "sections");
		if (!unit->sectioned_new)
			error = error_new(ERROR_KIND_BUILD,
					  "repeating the compile of '%s' gave no object", unit->object);
	}
	replays_deinit(&old);
	replays_deinit(&new);
	return error;
}

static struct error *check_flags(struct work *work)
{
	for (size_t i = 0; i < work->units.count; i++) {
		const struct unit *unit = work->units.items[i];
		const struct compile *compile = unit->new ? unit->new : unit->old;
		if (compile->command->arguments.lto)
			return error_new(ERROR_KIND_UNSUPPORTED,
					 "'%s' is compiled with -flto: its object holds no code to "
					 "compare with the target",
					 unit->object);
	}
	return NULL;
}

// ---- the new tree ----------------------------------------------------------------------------------------------

static void find_readers(struct work *work)
{
	for (size_t i = 0; i < work->old_graph.compiles.count; i++) {
		const struct compile *compile = work->old_graph.compiles.items[i];
		if (reads_changed(work, compile, NULL) && old_exists(work, compile))
			add_unit(work, compile->object);
	}
}

/*
 * "./configure && make": in the new tree make alone, where that is enough. That is so when all files
 * of the diff are read by compilers (a changed configure.ac or generator is not), and every object
 * was compiled by one of the outermost makes.
 */
static void find_builders(struct work *work, struct commands *ret)
{
	for (size_t i = 0; i < work->changed.list.count; i++) {
		const char *path = arena_printf(work->arena, "%s/%s", work->root,
						work->changed.list.items[i]);
		bool read = false;
		for (size_t k = 0; !read && k < work->old_graph.compiles.count; k++)
			read = compile_reads(work->old_graph.compiles.items[k], path);
		if (!read)
			return;
	}
	const struct commands *all = &work->old_commands;
	_cleanup_free_ bool *wanted = xcalloc(all->list.count + 1, sizeof(bool));
	for (size_t i = 0; i < work->old_graph.compiles.count; i++) {
		const struct compile *compile = work->old_graph.compiles.items[i];
		if (!old_exists(work, compile))
			continue;
		bool within = false;
		for (size_t k = 0; !within && k < all->list.count; k++) {
			const struct command *builder = all->list.items[k];
			within = builder->kind == TOOL_BUILDER && builder->status == 0 &&
				 builder->start < compile->command->start &&
				 compile->command->start < builder->finish;
			wanted[k] = wanted[k] || within;
		}
		if (!within)
			return;
	}
	for (size_t k = 0; k < all->list.count; k++)
		if (wanted[k])
			vec_push(&ret->list, all->list.items[k]);
}

static struct error *build_new_tree(struct work *work, const char *log)
{
	struct commands builders = {0};
	find_builders(work, &builders);
	const char *records = arena_printf(work->arena, "%s/records", work->patch_folder);
	const struct run run = {
		.tree = tree_becoming(work, VERSION_NEW),
		.records = records,
		.log = log,
		.stage = "new tree",
		.builders = &builders,
	};
	struct error *error = run_build(work, &run);
	vec_deinit(&builders.list);
	if (error)
		return error;
	TRY(read_records(work, records, &work->new_commands, &work->new_graph));
	const char *upper = layer_of(work, VERSION_NEW);
	// Readers found before learn of their new commands.
	for (size_t i = 0; i < work->units.count; i++) {
		struct unit *unit = work->units.items[i];
		unit->new = hashmap_get_string(work->new_graph.compile_of, unit->object);
		reads_changed(work, unit->new, &unit->changed);
	}
	for (size_t i = 0; i < work->new_graph.compiles.count; i++) {
		const struct compile *compile = work->new_graph.compiles.items[i];
		const struct compile *old =
			hashmap_get_string(work->old_graph.compile_of, compile->object);
		if (!made(work, upper, compile->linked ? compile->linked : compile->object))
			continue;
		if (compile->linked && old && !reads_changed(work, compile, NULL))
			continue;
		// Rebuilt, the same, and reads nothing of the diff: the build system was careful.
		struct tree tree = tree_becoming(work, VERSION_OLD);
		const char *before = lookup(work, &tree, compile->object);
		if (!compile->linked && before && !reads_changed(work, compile, NULL) &&
		    files_equal(before, made(work, upper, compile->object)))
			continue;
		add_unit(work, compile->object);
	}
	return NULL;
}

// Was the compile of the new tree the one that was prefetched: the same command, and no input that
// the build made anew?
static bool prefetch_holds(struct work *work, const struct unit *unit)
{
	const struct compile *old = unit->old, *new = unit->new ? unit->new : unit->old;
	if (old->command->word_count != new->command->word_count || !old->linked != !new->linked ||
	    !string_equal(old->command->directory, new->command->directory) ||
	    !string_equal(old->command->tool, new->command->tool))
		return false;
	for (size_t i = 0; i < old->command->word_count; i++)
		if (!string_equal(old->command->words[i], new->command->words[i]))
			return false;
	for (size_t i = 0; i < new->inputs.list.count; i++) {
		const char *name = path_within(work->root, new->inputs.list.items[i]);
		if (name && made(work, layer_of(work, VERSION_NEW), name))
			return false;
	}
	return true;
}

static void take_prefetched(struct work *work, const struct replays *replays)
{
	for (size_t i = 0; i < replays->units.count; i++) {
		struct unit *unit = replays->units.items[i];
		if (replays->jobs.items[i].status == 0 && prefetch_holds(work, unit))
			unit->sectioned_new = made(work, replays->upper, unit->object);
	}
}

// The new tree's build, and meanwhile what will most likely be wanted beside it.
static struct error *find_units(struct work *work)
{
	struct replays again = {
		.stage = "new tree",
		.upper = arena_printf(work->arena, "%s/again", work->patch_folder),
		.version = VERSION_OLD,
		.kind = REPLAY_PLAIN,
	};
	struct replays sections = {
		.stage = "new tree",
		.upper = arena_printf(work->arena, "%s/prefetched", work->patch_folder),
		.version = VERSION_OLD,
		.kind = REPLAY_SECTIONED,
	};
	struct replays new_sections = {
		.stage = "new tree",
		.upper = arena_printf(work->arena, "%s/prefetched-new", work->patch_folder),
		.version = VERSION_PATCHED,
		.kind = REPLAY_SECTIONED,
	};
	find_readers(work);
	for (size_t i = 0; i < work->units.count && work->units.count <= PREFETCH_LIMIT; i++) {
		want_old(work, work->units.items[i], &again, &sections);
		vec_push(&new_sections.units, work->units.items[i]);
	}
	struct error *error = replays_begin(work, &again, 1);
	if (!error)
		error = replays_begin(work, &sections, 1);
	if (!error)
		error = replays_begin(work, &new_sections, 1);
	if (!error && !work->is_package)
		error = build_new_tree(work, arena_printf(work->arena, "%s/new.log", work->patch_folder));
	if (!error)
		error = replays_end(work, &again);
	if (!error)
		error = replays_keep(work, &again, "again");
	if (!error)
		error = replays_end(work, &sections);
	if (!error)
		error = replays_keep(work, &sections, "sections");
	// The diff alone may not compile, before the build has made what else it needs.
	if (!error)
		error = replays_wait(work, &new_sections);
	if (!error)
		take_prefetched(work, &new_sections);
	again.units.count = 0;
	if (!error)
		error = check_flags(work);
	if (!error)
		error = compare_units(work, &again);
	if (!error)
		error = check_stability(work, &again);
	replays_deinit(&again);
	replays_deinit(&sections);
	replays_deinit(&new_sections);
	return error;
}

// ---- the result --------------------------------------------------------------------------------------------------

static int unit_compare(const void *left, const void *right)
{
	const struct unit *a = *(struct unit *const *)left, *b = *(struct unit *const *)right;
	return strcmp(a->object, b->object);
}

static void put_unit(struct work *work, struct unit *unit)
{
	const struct compile *compile = unit->new ? unit->new : unit->old;
	const char *source = path_within(work->root, compile->source);
	struct names linked = {0};
	build_graph_linked_into(work->arena, &work->old_graph, unit->object, &linked);
	if (!unit->old)
		build_graph_linked_into(work->arena, &work->new_graph, unit->object, &linked);
	struct source_unit row = {
		.name = unit->object,
		.source = source ? source : compile->source,
		.plain_old = unit->plain_old,
		.plain_new = unit->plain_new,
		.sectioned_old = unit->sectioned_old,
		.sectioned_new = unit->sectioned_new,
		.stable = unit->stable,
	};
	row.changed_inputs = names_take(work, &unit->changed, &row.changed_input_count);
	row.linked_into = names_take(work, &linked, &row.linked_into_count);
	vec_deinit(&linked.list);
	if (unit->same)
		vec_push(&work->result.unchanged_units, row);
	else
		vec_push(&work->result.units, row);
}

// `strip FILE` in the build: the file as it was before.
static const char *unstripped_of(struct work *work, const char *output)
{
	for (size_t i = work->old_commands.list.count; i-- > 0;) {
		const struct command *command = work->old_commands.list.items[i];
		size_t number = 0;
		for (size_t k = 1; command->kind == TOOL_STRIP && k < command->word_count; k++) {
			if (command->words[k][0] == '-')
				continue;
			const char *path = path_absolute(work->arena, command->directory, command->words[k]);
			const char *kept = arena_printf(work->arena, "%s/records/.%s.unstripped.%zu",
							work->folder, command->id, number);
			if (!path_exists(kept))
				continue;
			number++;
			if (string_equal(path, output))
				return kept;
		}
	}
	return NULL;
}

static void put_links(struct work *work)
{
	const char *target = work->options->target ? path_basename(work->options->target) : "";
	struct tree tree = tree_becoming(work, VERSION_OLD);
	// Those of the target's own name first.
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < work->old_graph.links.count; i++) {
			const struct link *link = work->old_graph.links.items[i];
			const char *name = path_within(work->root, link->output);
			if (link->container || !name ||
			    string_equal(path_basename(name), target) != (pass == 0))
				continue;
			const char *file = lookup(work, &tree, name);
			if (file)
				vec_push(&work->result.links,
					 (struct source_link){
						 name, file, unstripped_of(work, link->output)});
		}
}

static void put_result(struct work *work)
{
	if (work->units.count)
		qsort(work->units.items, work->units.count, sizeof(*work->units.items), unit_compare);
	for (size_t i = 0; i < work->units.count; i++)
		if (!work->units.items[i]->dropped)
			put_unit(work, work->units.items[i]);
	put_links(work);
	work->result.log = work->log;
	work->result.diff_files = names_take(work, &work->changed, &work->result.diff_file_count);
	if (work->result.units.count == 0) {
		const char *subject = work->options->patch_count ? work->options->patches[0] : "";
		findings_add(work->findings, FINDING_KIND_NOTHING_CHANGED, path_basename(subject),
			     "no object of the build changes its code or data (%zu read a changed file)",
			     work->result.unchanged_units.count);
	}
}

// ---- the job --------------------------------------------------------------------------------------------------------

// Where the tree is, and where the cache is.
static struct error *find_places(struct work *work)
{
	const struct source_options *options = work->options;
	if (!options->tree == !options->package)
		return error_new(ERROR_KIND_USAGE, "name either a source tree or a package");
	if (!options->patch_count)
		return error_new(ERROR_KIND_USAGE, "name a diff");
	TRY(error_prefix(directory_create_all(options->cache), "the cache"));
	_cleanup_free_ char *cache = realpath(options->cache, NULL);
	if (!cache)
		return error_errno(errno, "the cache '%s'", options->cache);
	if (access(cache, W_OK) < 0)
		return error_errno(errno, "cannot write to the cache '%s'", cache);
	work->cache = arena_strdup(work->arena, cache);
	if (options->package) {
		work->is_package = true;
		TRY(package_find(work->arena, options->package, options->package_version,
				 &work->package));
		return package_root(work->arena, work->cache, &work->package, work->progress,
				    &work->lowest);
	}
	_cleanup_free_ char *tree = realpath(options->tree, NULL);
	struct stat status;
	if (!tree || stat(tree, &status) < 0)
		return error_errno(errno, "the source tree '%s'", options->tree);
	if (!S_ISDIR(status.st_mode))
		return error_new(ERROR_KIND_USAGE, "the source tree '%s' is no directory",
				 options->tree);
	if (string_equal(tree, "/") || string_equal(tree, cache) || path_within(tree, cache))
		return error_new(ERROR_KIND_USAGE,
				 "the cache '%s' lies in the source tree '%s': set XDG_CACHE_HOME to a "
				 "folder outside of it",
				 cache, tree);
	work->at = work->root = work->lowest = arena_strdup(work->arena, tree);
	work->prefix = "";
	return NULL;
}

static struct error *open_folder(struct work *work)
{
	char hex[33];
	hex_format(work->key.bytes, sizeof(work->key.bytes), hex);
	const char *builds = arena_printf(work->arena, "%s/builds", work->cache);
	work->folder = arena_printf(work->arena, "%s/%s", builds, hex);
	TRY(error_prefix(directory_create_all(work->folder), "the cache"));
	TRY(cache_lock(arena_printf(work->arena, "%s.lock", work->folder), work->progress,
		       &work->lock));
	// Younger than all others, so that it is not pruned.
	utimensat(AT_FDCWD, work->folder, NULL, 0);
	cache_prune(builds, KEPT_BUILDS);
	work->log = in_folder(work, "plain.log");
	if (work->is_package) {
		work->at = in_folder(work, "root");
		return directory_create_all(work->at);
	}
	const char *masquerade = arena_printf(work->arena, "%s/bin", work->cache);
	TRY(masquerade_copy(masquerade));
	return masquerade_link(masquerade, tool_path());
}

static void forget_work(struct work *work)
{
	forget_records(&work->old_commands, &work->old_graph);
	forget_records(&work->new_commands, &work->new_graph);
	for (size_t i = 0; i < work->units.count; i++)
		vec_deinit(&work->units.items[i]->changed.list);
	vec_deinit(&work->units);
	vec_deinit(&work->changed.list);
	hashmap_free(work->unit_of);
	diff_set_free(work->base);
	diff_set_free(work->diffs);
}

static struct error *do_work(struct work *work)
{
	const struct source_options *options = work->options;
	TRY(find_places(work));
	TRY(diff_set_read(work->arena, options->patches, options->patch_count, &work->diffs));
	TRY(diff_set_read(work->arena, options->base_patches, options->base_patch_count, &work->base));
	TRY(find_key(work));
	TRY(open_folder(work));
	// From here on: nobody else works in the folder.
	TRY(plain_build(work));
	// The old tree is built, and its commands are known.
	TRY(apply_diffs(work));
	TRY(find_units(work));
	// Old and new plain objects of every unit are there.
	TRY(make_sections(work));
	put_result(work);
	return NULL;
}

struct error *source_build(const struct source_options *options, const struct progress *progress,
			   struct findings *findings, struct source_build **ret)
{
	struct work *work = xcalloc(1, sizeof(*work));
	*work = (struct work){
		.lock = -1,
		.options = options,
		.progress = progress,
		.findings = findings,
		.arena = arena_create(),
		.unit_of = hashmap_create(),
	};
	work->result.arena = work->arena;
	struct error *error = do_work(work);
	forget_work(work);
	if (error) {
		// A failed plain build is never used again; its log is.
		if (!options->keep && work->folder && work->lock >= 0 &&
		    !path_exists(in_folder(work, "complete")))
			error_free(tree_remove(in_folder(work, "old")));
		source_build_free(&work->result);
		return error;
	}
	*ret = &work->result;
	return NULL;
}

void source_build_free(struct source_build *build)
{
	if (!build)
		return;
	struct work *work = (struct work *)(void *)build;
	vec_deinit(&build->units);
	vec_deinit(&build->unchanged_units);
	vec_deinit(&build->links);
	if (work->lock >= 0)
		close(work->lock);
	arena_free(build->arena);
	free(work);
}

void source_build_cleanup(struct source_build **build)
{
	source_build_free(*build);
	*build = NULL;
}
