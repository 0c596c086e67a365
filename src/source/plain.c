// SPDX-License-Identifier: MIT
/*
 * The plain build: the old tree, built as the user builds it and recorded, once. It is whole when its
 * file "complete" is there, which is written last; whatever else lies in the folder without it
 * was left by a build that was interrupted, and goes.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "work.h"

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// Objects of trials (conftest.o) are gone when the build ends: they are none of its objects.
bool work_has_object(struct work *work, const struct compile *compile)
{
	return work_made(work, work_layer(work, VERSION_OLD),
			 compile->linked ? compile->linked : compile->object);
}

static size_t old_object_count(struct work *work)
{
	size_t count = 0;
	for (size_t i = 0; i < work->old_graph.compiles.count; i++)
		count += work_has_object(work, work->old_graph.compiles.items[i]);
	return count;
}

struct error *work_read_records(struct work *work, const char *directory, struct commands *commands,
				struct build_graph *graph)
{
	TRY(records_read(work->arena, directory, commands));
	build_graph_create(work->arena, work->root, commands, graph);
	return NULL;
}

void work_forget_records(struct commands *commands, struct build_graph *graph)
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
		return error_new(
			ERROR_KIND_BUILD,
			"the build put its objects outside of the tree ('%s'): name a folder "
			"that holds both by -s",
			work->old_graph.outside);
	return error_new(
		ERROR_KIND_BUILD,
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
	return file_write_atomic(work_path(work, "complete"), text, strlen(text), 0666);
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
	_cleanup_error_ struct error *error = command_run(work, &run);
	if (!error)
		return NULL;
	TRY(restore_objects(work_layer(work, VERSION_OLD)));
	run.remove_objects = false;
	run.go_on = false;
	run.keep_records = true;
	return error_prefix(
		command_run(work, &run),
		"'%s' holds objects of an earlier build, and building them anew failed (clean "
		"it and try again)",
		work->root);
}

static struct error *make_plain_build(struct work *work)
{
	// Whatever an interrupted build left.
	static const char *const leftovers[] = {"old",     "old.work", "old.whole",    "records",
						"patches", "units",    "idle.complete"};
	for (size_t i = 0; i < ARRAY_SIZE(leftovers); i++)
		TRY(tree_remove(work_path(work, leftovers[i])));

	double start = seconds();
	const char *records = work_path(work, "records");
	if (work->is_package) {
		struct tree tree = work_tree_becoming(work, VERSION_OLD);
		TRY(package_prepare(work->arena, &work->package, &tree,
				    work_path(work, "prepare.log"), work->progress));
		work->root = work->package.directory;
		work->prefix = arena_printf(work->arena, "%s/", work->root + 1);
	}
	struct run run = {
		.tree = work_tree_becoming(work, VERSION_OLD),
		.records = records,
		.log = work->log,
		.stage = "plain build",
		.apply_base = work->options->base_patch_count > 0,
	};
	TRY(command_run(work, &run));
	TRY(work_read_records(work, records, &work->old_commands, &work->old_graph));
	if (!work->is_package && built_before(work)) {
		work_forget_records(&work->old_commands, &work->old_graph);
		start = seconds();
		run.apply_base = false;
		TRY(build_anew(work, &run));
		TRY(work_read_records(work, records, &work->old_commands, &work->old_graph));
	}
	if (old_object_count(work) == 0)
		return no_compile(work);
	work->result.plain_seconds = seconds() - start;
	return mark_complete(work);
}

struct error *work_plain_build(struct work *work)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	_cleanup_error_ struct error *absent = file_read(work_path(work, "complete"), &text, &size);
	if (absent)
		return make_plain_build(work);
	work->result.cached = true;
	work->result.plain_seconds = strtod(text, NULL);
	if (work->is_package) {
		struct tree tree = work_tree_becoming(work, VERSION_OLD);
		TRY(package_locate(work->arena, &work->package, &tree));
		work->root = work->package.directory;
		work->prefix = arena_printf(work->arena, "%s/", work->root + 1);
	}
	return work_read_records(work, work_path(work, "records"), &work->old_commands,
				 &work->old_graph);
}
