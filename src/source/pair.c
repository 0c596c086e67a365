// SPDX-License-Identifier: MIT
/*
 * Pairs of objects, old and new: which units a diff changes, and their objects with one section per
 * function and datum. Compiles that most likely will be wanted run beside the build of the new tree.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "work.h"

extern char **environ;

// More units than this are not compiled on suspicion while the new tree is built.
enum { PREFETCH_LIMIT = 8 };

// A compile whose dependencies are not known may read any header.
static bool reads_unknown(const struct compile *compile)
{
	return !compile->command->dependencies && compile->command->kind == TOOL_COMPILER &&
	       !string_ends_with(compile->source, ".s");
}

static bool reads_changed(struct work *work, const struct compile *compile, struct names *ret)
{
	bool reads = false;
	for (size_t i = 0; compile && i < work->changed.list.count; i++) {
		const char *name = work->changed.list.items[i];
		_cleanup_free_ char *path = xasprintf("%s/%s", work->root, name);
		if (!compile_reads(compile, path) &&
		    !(reads_unknown(compile) && !argument_is_source(name)))
			continue;
		reads = true;
		if (ret)
			names_add(ret, name);
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
		_cleanup_free_ char *path =
			xasprintf("%s/%s", work->root, work->changed.list.items[i]);
		const struct timespec both[2] = {time, time};
		utimensat(AT_FDCWD, path, both, AT_SYMLINK_NOFOLLOW);
	}
	return jobs_run(replay->jobs, inside);
}

static struct timespec *changed_times(struct work *work)
{
	struct timespec *times =
		arena_array(work->arena, work->changed.list.count + 1, sizeof(*times));
	struct tree old = work_tree_becoming(work, VERSION_OLD);
	for (size_t i = 0; i < work->changed.list.count; i++) {
		const char *path = work_lookup(work, &old, work->changed.list.items[i]);
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
	TRY(log_open(replays->log, &log));
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
	struct tree tree = work_tree(work, replays->version, replays->upper);
	TRY(tree_remove(tree.upper));
	return tree_start(&tree, replay_inside, &replays->inside, &replays->session);
}

static struct error *replays_wait(struct work *work, struct replays *replays)
{
	if (!replays->session)
		return NULL;
	struct news news = {work, replays->stage, NULL, replays->jobs.count};
	_cleanup_buffer_ struct buffer reply = {0};
	TRY(tree_finish(take_ptr(replays->session), news_tell, &news, &reply));
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
	TRY(directory_create_all(work_path(work, "units")));
	for (size_t i = 0; i < replays->units.count; i++) {
		const char *object = replays->units.items[i]->object;
		const char *from = work_made(work, replays->upper, object);
		const char *to = kept_path(work, object, kind);
		if (!from)
			return error_new(ERROR_KIND_BUILD,
					 "repeating the compile of '%s' gave no object", object);
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
		char *const words[] = {(char *)"strip", (char *)"-g",    (char *)"-o",
				       (char *)to[i],   (char *)from[i], NULL};
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
	const char *new_upper = work_layer(work, VERSION_NEW);
	struct tree old = work_tree_becoming(work, VERSION_OLD);
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
			unit->plain_new = work_made(work, new_upper, unit->object);
		if (!unit->plain_new)
			vec_push(&fresh.units, unit);
		if (unit->old && !unit->old->linked)
			unit->plain_old = work_lookup(work, &old, unit->object);
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
			unit->plain_new = work_made(work, fresh.upper, unit->object);
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

// Are all files of the diff read by compilers? A configure.ac or a generator is not.
static bool only_sources_changed(struct work *work)
{
	for (size_t i = 0; i < work->changed.list.count; i++) {
		const char *path =
			arena_printf(work->arena, "%s/%s", work->root, work->changed.list.items[i]);
		bool read = false;
		for (size_t k = 0; !read && k < work->old_graph.compiles.count; k++)
			read = compile_reads(work->old_graph.compiles.items[k], path);
		if (!read)
			return false;
	}
	return true;
}

// "./configure && make": make alone, where every object was compiled by one of the outermost makes.
static void find_builders(struct work *work, struct commands *ret)
{
	const struct commands *all = &work->old_commands;
	_cleanup_free_ bool *wanted = xcalloc(all->list.count + 1, sizeof(bool));
	for (size_t i = 0; i < work->old_graph.compiles.count; i++) {
		const struct compile *compile = work->old_graph.compiles.items[i];
		if (!work_has_object(work, compile))
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

/*
 * The build command on the old tree once more: what it makes differently there, from the same source,
 * has nothing to do with the diff (a header with the time of day in it). Needed only when the new
 * tree has such a unit at all, and then kept beside the plain build.
 */
static struct error *build_idle(struct work *work)
{
	const char *upper = work_path(work, "idle");
	const char *mark = work_path(work, "idle.complete");
	if (path_exists(mark))
		return NULL;
	TRY(tree_remove(upper));
	struct commands builders = {0};
	find_builders(work, &builders);
	const struct run run = {
		.tree = work_tree(work, VERSION_OLD, upper),
		.records = work_path(work, "idle.records"),
		.log = work_path(work, "idle.log"),
		.stage = "old tree once more",
		.builders = &builders,
	};
	struct error *error = command_run(work, &run);
	vec_deinit(&builders.list);
	return error ? error : file_write_atomic(mark, "", 0, 0666);
}

static struct error *check_idle_build(struct work *work)
{
	bool built = false;
	for (size_t i = 0; i < work->units.count; i++) {
		struct unit *unit = work->units.items[i];
		if (unit->same || unit->reads || !unit->old || unit->old->linked)
			continue;
		if (!built)
			TRY(build_idle(work));
		built = true;
		const char *once_more = work_made(work, work_path(work, "idle"), unit->object);
		if (once_more && !objects_same(work, unit->plain_old, once_more))
			unit->stable = false;
	}
	return NULL;
}

// Does the old object come out the same when it is compiled again?
static struct error *check_stability(struct work *work, struct replays *again)
{
	if (!work->is_package)
		TRY(check_idle_build(work));
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
		if (unit->plain_old != once_more && !objects_same(work, unit->plain_old, once_more))
			unit->stable = false;
		if (unit->stable || unit->reads)
			continue;
		unit->dropped = true;
		findings_add(
			work->findings, FINDING_KIND_UNSTABLE_OBJECT, unit->object,
			"'%s' differs between two builds of the same source and reads no file of "
			"the diff",
			unit->object);
	}
	return NULL;
}

struct error *work_make_sections(struct work *work)
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
			unit->sectioned_new = work_made(work, new.upper, unit->object);
		if (unit->old)
			unit->sectioned_old = kept_path(work, unit->object, "sections");
		if (!unit->sectioned_new)
			error = error_new(ERROR_KIND_BUILD,
					  "repeating the compile of '%s' gave no object",
					  unit->object);
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
		if (reads_changed(work, compile, NULL) && work_has_object(work, compile))
			add_unit(work, compile->object);
	}
}

static struct error *build_new_tree(struct work *work, const char *log)
{
	struct commands builders = {0};
	if (only_sources_changed(work))
		find_builders(work, &builders);
	const char *records = arena_printf(work->arena, "%s/records", work->patch_folder);
	const struct run run = {
		.tree = work_tree_becoming(work, VERSION_NEW),
		.records = records,
		.log = log,
		.stage = "new tree",
		.builders = &builders,
	};
	struct error *error = command_run(work, &run);
	vec_deinit(&builders.list);
	if (error)
		return error;
	TRY(work_read_records(work, records, &work->new_commands, &work->new_graph));
	const char *upper = work_layer(work, VERSION_NEW);
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
		if (!work_made(work, upper, compile->linked ? compile->linked : compile->object))
			continue;
		if (compile->linked && old && !reads_changed(work, compile, NULL))
			continue;
		// Rebuilt, the same, and reads nothing of the diff: the build system was careful.
		struct tree tree = work_tree_becoming(work, VERSION_OLD);
		const char *before = work_lookup(work, &tree, compile->object);
		if (!compile->linked && before && !reads_changed(work, compile, NULL) &&
		    files_equal(before, work_made(work, upper, compile->object)))
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
		if (name && work_made(work, work_layer(work, VERSION_NEW), name))
			return false;
	}
	return true;
}

static void take_prefetched(struct work *work, const struct replays *replays)
{
	for (size_t i = 0; i < replays->units.count; i++) {
		struct unit *unit = replays->units.items[i];
		if (replays->jobs.items[i].status == 0 && prefetch_holds(work, unit))
			unit->sectioned_new = work_made(work, replays->upper, unit->object);
	}
}

// The new tree's build, and meanwhile what will most likely be wanted beside it.
struct error *work_find_units(struct work *work)
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
		error = build_new_tree(work,
				       arena_printf(work->arena, "%s/new.log", work->patch_folder));
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
