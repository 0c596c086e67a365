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
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "work.h"

// Patches and builds that the cache keeps.
enum { KEPT_PATCHES = 8, KEPT_BUILDS = 24 };

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
	const char *patches = work_path(work, "patches");
	TRY(directory_create_all(patches));
	work->patch_folder = arena_printf(work->arena, "%s/%s", patches, hex);
	TRY(tree_remove(work->patch_folder));
	cache_prune(patches, KEPT_PATCHES - 1);
	TRY(directory_create_all(work->patch_folder));

	progress_report(work->progress, "applying the diff", 0, 0);
	TRY(directory_create_all(work_layer(work, VERSION_NEW)));
	struct tree tree = work_tree_becoming(work, VERSION_PATCHED);
	struct tree_session *session;
	_cleanup_buffer_ struct buffer reply = {0};
	TRY(tree_start(&tree, apply_inside, work, &session));
	TRY(tree_finish(session, NULL, NULL, &reply));
	for (size_t at = 0; at < reply.size; at += strlen(reply.bytes + at) + 1)
		vec_push(&work->changed.list, arena_strdup(work->arena, reply.bytes + at));
	return NULL;
}

// ---- the result ------------------------------------------------------------------------------------------------

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
			const char *path =
				path_absolute(work->arena, command->directory, command->words[k]);
			const char *kept =
				arena_printf(work->arena, "%s/records/.%s.unstripped.%zu",
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
	struct tree tree = work_tree_becoming(work, VERSION_OLD);
	// Those of the target's own name first.
	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < work->old_graph.links.count; i++) {
			const struct link *link = work->old_graph.links.items[i];
			const char *name = path_within(work->root, link->output);
			if (link->container || !name ||
			    string_equal(path_basename(name), target) != (pass == 0))
				continue;
			const char *file = work_lookup(work, &tree, name);
			if (file)
				vec_push(&work->result.links,
					 (struct source_link){name, file,
							      unstripped_of(work, link->output)});
		}
}

static void put_result(struct work *work)
{
	if (work->units.count)
		qsort(work->units.items, work->units.count, sizeof(*work->units.items),
		      unit_compare);
	for (size_t i = 0; i < work->units.count; i++)
		if (!work->units.items[i]->dropped)
			put_unit(work, work->units.items[i]);
	put_links(work);
	work->result.log = work->log;
	work->result.diff_files = names_take(work, &work->changed, &work->result.diff_file_count);
	if (work->result.units.count == 0) {
		const char *subject = work->options->patch_count ? work->options->patches[0] : "";
		findings_add(
			work->findings, FINDING_KIND_NOTHING_CHANGED, path_basename(subject),
			"no object of the build changes its code or data (%zu read a changed file)",
			work->result.unchanged_units.count);
	}
}

// ---- the job ---------------------------------------------------------------------------------------------------

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
		return error_new(
			ERROR_KIND_USAGE,
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
	work->log = work_path(work, "plain.log");
	if (work->is_package) {
		work->at = work_path(work, "root");
		return directory_create_all(work->at);
	}
	const char *masquerade = arena_printf(work->arena, "%s/bin", work->cache);
	TRY(masquerade_copy(masquerade));
	return masquerade_link(masquerade, tool_path());
}

static void forget_work(struct work *work)
{
	work_forget_records(&work->old_commands, &work->old_graph);
	work_forget_records(&work->new_commands, &work->new_graph);
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
	TRY(diff_set_read(work->arena, options->base_patches, options->base_patch_count,
			  &work->base));
	TRY(work_find_key(work));
	TRY(open_folder(work));
	// From here on: nobody else works in the folder.
	TRY(work_plain_build(work));
	// The old tree is built, and its commands are known.
	TRY(apply_diffs(work));
	TRY(work_find_units(work));
	// Old and new plain objects of every unit are there.
	TRY(work_make_sections(work));
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
		    !path_exists(work_path(work, "complete")))
			error_free(tree_remove(work_path(work, "old")));
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
