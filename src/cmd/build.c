/* SPDX-License-Identifier: MIT */
/*
 * suture build: from a source diff to a patch file.
 *
 * The whole road is run() at the end: read the target; build old and new; take over the symbols of
 * the build where it is the same code; prove each object that read a changed file against the target;
 * diff; link the patch. Findings of all steps are collected and printed at once, so that a user
 * mends everything in one go.
 */
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd/command.h"
#include "cmd/show.h"
#include "diff/diff.h"
#include "image/image.h"
#include "object/object.h"
#include "patch/patch.h"
#include "source/source.h"

static struct {
	const char *tree;
	const char *package;
	const char *target;
	const char *debug;
	const char *name;
	const char *output;
	const char *cache;
	uint64_t jobs;
	struct string_list accepted;
	struct string_list bases;
	bool replaces_all;
	bool keep;
	bool json;
} options;

/** One object through all steps. */
struct unit {
	const struct source_unit *source;
	struct object *plain_old, *plain_new, *old, *new;
	struct diff *plain_diff, *diff;
	struct image_match *match;
};

/** Everything that a build holds; released in one place. */
struct build {
	struct command_context *context;
	struct findings findings;
	struct image *image;
	struct source_build *source;
	const char *link; /* name of the plain build's linked file that is the target, or NULL */
	bool same_code;   /* that file is the target, byte for byte where it counts */
	VEC(struct unit) units;
	VEC(struct patch *) bases;
	struct string_list base_diffs; /* files that hold the bases' diffs for this build */
	VEC(const char *) diffs;       /* all diffs, the bases' first */
};

static void build_deinit(struct build *build)
{
	for (size_t i = 0; i < build->units.count; i++) {
		struct unit *unit = &build->units.items[i];
		image_match_free(unit->match);
		diff_free(unit->plain_diff);
		diff_free(unit->diff);
		object_free(unit->plain_old);
		object_free(unit->plain_new);
		object_free(unit->old);
		object_free(unit->new);
	}
	vec_deinit(&build->units);
	for (size_t i = 0; i < build->bases.count; i++)
		patch_free(build->bases.items[i]);
	vec_deinit(&build->bases);
	for (size_t i = 0; i < build->base_diffs.count; i++) {
		unlink(build->base_diffs.items[i]);
		free((void *)build->base_diffs.items[i]);
	}
	vec_deinit(&build->base_diffs);
	vec_deinit(&build->diffs);
	source_build_free(build->source);
	image_free(build->image);
	findings_deinit(&build->findings);
}

/* ---- steps -------------------------------------------------------------------------------- */

/**
 * Which of the plain build's linked files is the target? The one with its build ID; else one with
 * its name. Where the code is the same, its symbols are the target's too.
 */
static struct error *find_link(struct build *build)
{
	const char *name = path_basename(options.target);
	for (size_t i = 0; i < build->source->links.count; i++) {
		const struct source_link *link = &build->source->links.items[i];
		_cleanup_(image_cleanup) struct image *image = NULL;
		// A build links other things than programs, too (relocatable objects, other CPUs).
		_cleanup_error_ struct error *error =
			image_open(link->unstripped ? link->unstripped : link->file, NULL, &image);
		if (error)
			continue;
		bool by_name = string_equal(path_basename(link->name), name) ||
			       string_equal(path_basename(link->name), build->image->name) ||
			       (build->image->soname && image->soname &&
				string_equal(build->image->soname, image->soname));
		if (build_id_equal(&image->build_id, &build->image->build_id) ||
		    (by_name && image_symbols_adopt(build->image, image))) {
			if (!build->image->has_symtab)
				image_symbols_adopt(build->image, image);
			build->link = link->name;
			build->same_code = true;
			return NULL;
		}
		if (by_name)
			build->link = link->name;
	}
	char id[129];
	findings_add(&build->findings, FINDING_KIND_BUILD_ID_DIFFERS, build->image->name,
		     "no file that the build links is the target with build ID %s",
		     build_id_format(&build->image->build_id, id));
	return NULL;
}

static bool is_linked(const struct build *build, const struct source_unit *unit)
{
	// Without a record of what the target was linked from, the comparison decides.
	if (!build->link || unit->linked_into_count == 0)
		return true;
	for (size_t i = 0; i < unit->linked_into_count; i++)
		if (string_equal(unit->linked_into[i], build->link))
			return true;
	return false;
}

/** Names of functions that the plain pair says are changed. */
static void changed_names(const struct diff *diff, struct string_list *names)
{
	for (size_t i = 0; i < diff->functions.count; i++)
		if (diff->functions.items[i].verdict == DIFF_CHANGED)
			vec_push(names, diff->functions.items[i].name);
}

static struct error *diff_unit(struct unit *unit)
{
	const struct diff_options plain_options = {.verdicts_only = true};
	TRY(diff_objects(unit->plain_old, unit->plain_new, &plain_options, &unit->plain_diff));
	struct string_list names = {0};
	changed_names(unit->plain_diff, &names);
	const struct diff_options diff_options = {
		.changed_elsewhere = names.items,
		.changed_elsewhere_count = names.count,
		.accepted = options.accepted.items,
		.accepted_count = options.accepted.count,
	};
	struct error *error = diff_objects(unit->old, unit->new, &diff_options, &unit->diff);
	vec_deinit(&names);
	return error;
}

/** With --verbose: why each function is taken as changed. */
static void say_reasons(const struct build *build, const struct unit *unit)
{
	for (size_t i = 0; i < unit->diff->functions.count; i++) {
		const struct diff_function *function = &unit->diff->functions.items[i];
		if (function->verdict == DIFF_CHANGED)
			cmd_say_verbose(build->context, "%s: '%s' changed: %s%s%s%s%s",
					unit->source->name, function->name,
					function->reason ? function->reason : "its child did",
					function->old_text ? ": " : "",
					function->old_text ? function->old_text : "",
					function->new_text ? " -> " : "",
					function->new_text ? function->new_text : "");
	}
}

static struct error *add_unit(struct build *build, const struct source_unit *source, bool changed)
{
	if (!is_linked(build, source)) {
		findings_add(&build->findings, FINDING_KIND_NOT_IN_TARGET, source->name,
			     "'%s' is changed but not linked into '%s'", source->name, build->link);
		return NULL;
	}
	vec_push(&build->units, (struct unit){.source = source});
	struct unit *unit = &build->units.items[build->units.count - 1];
	// An object that only the new tree has: everything in it is new.
	if (!source->plain_old) {
		TRY(object_open(source->plain_new, &unit->plain_new));
		unit->plain_old = object_create(unit->plain_new->arch, source->name);
		unit->old = object_create(unit->plain_new->arch, source->name);
	} else {
		TRY(object_open(source->plain_old, &unit->plain_old));
	}
	// Every object that read a changed file must be the target's: code that is inlined elsewhere
	// would miss the fix in silence. The differ is asked only about those that changed.
	TRY(image_match_object(build->image, unit->plain_old, &build->findings, &unit->match));
	if (!changed || !source->sectioned_new)
		return NULL;
	if (!unit->plain_new)
		TRY(object_open(source->plain_new, &unit->plain_new));
	if (!unit->old)
		TRY(object_open(source->sectioned_old, &unit->old));
	TRY(object_open(source->sectioned_new, &unit->new));
	TRY(error_prefix(diff_unit(unit), "%s", source->name));
	findings_merge(&build->findings, &unit->diff->findings);
	say_reasons(build, unit);
	return NULL;
}

/** The patch carries its diffs, so that a later one can be built on top of it by its file alone. */
static struct error *add_diff(struct patch_builder *builder, const char *path)
{
	_cleanup_free_ char *bytes = NULL;
	size_t size;
	TRY(file_read(path, &bytes, &size));
	patch_builder_add_diff(builder, path_basename(path), bytes, size);
	return NULL;
}

static struct error *link_patch(struct build *build, uint8_t **ret, size_t *ret_size)
{
	struct patch_builder *builder = patch_builder_create(options.name, build->image);
	for (size_t i = 0; i < build->units.count; i++) {
		const struct unit *unit = &build->units.items[i];
		if (!unit->diff)
			continue;
		const struct patch_unit patch_unit = {
			.name = unit->source->name,
			.diff = unit->diff,
			.plain_old = unit->plain_old,
			.match = unit->match,
		};
		patch_builder_add_unit(builder, &patch_unit);
	}
	_cleanup_buffer_ struct buffer description = {0};
	for (size_t i = 0; i < build->context->operand_count; i++)
		buffer_printf(&description, "%s%s", i ? ", " : "",
			      path_basename(build->context->operands[i]));
	patch_builder_set_description(builder, description.bytes);
	for (size_t i = 0; i < build->bases.count; i++)
		patch_builder_add_base(builder, build->bases.items[i]->name);
	patch_builder_set_replaces_all(builder, options.replaces_all);
	struct error *error = NULL;
	for (size_t i = 0; i < build->diffs.count && !error; i++)
		error = add_diff(builder, build->diffs.items[i]);
	if (!error)
		error = patch_builder_finish(builder, &build->findings, ret, ret_size);
	patch_builder_free(builder);
	return error;
}

static struct error *refuse(const struct build *build)
{
	cmd_progress_clear();
	print_findings(stderr, &build->findings, build->context->verbose);
	if (findings_refuse(&build->findings))
		return error_new(ERROR_KIND_REFUSED,
				 "no patch is written: %zu finding%s refuse%s it (build log: %s)",
				 findings_count(&build->findings, FINDING_REFUSAL),
				 findings_count(&build->findings, FINDING_REFUSAL) == 1 ? "" : "s",
				 findings_count(&build->findings, FINDING_REFUSAL) == 1 ? "s" : "",
				 build->source->log);
	return error_new(ERROR_KIND_REFUSED,
			 "no patch is written: the diff changes no code of '%s'",
			 build->image->path);
}

/* ---- bases -------------------------------------------------------------------------------- */

/**
 * Take the diffs out of --base's files. The new patch holds their changes too, compared with the
 * target as it was built, and goes on top of them: it is right whether or not they are still there
 * when it is reverted.
 */
static struct error *open_bases(struct build *build)
{
	for (size_t i = 0; i < options.bases.count; i++) {
		struct patch *base;
		TRY(patch_open(options.bases.items[i], &base));
		vec_push(&build->bases, base);
		char id[129], other[129];
		if (!build_id_equal(&base->modules.items[0].build_id, &build->image->build_id))
			return error_new(ERROR_KIND_MISMATCH,
					 "'%s' is for build ID %s, the target '%s' has %s",
					 options.bases.items[i],
					 build_id_format(&base->modules.items[0].build_id, other),
					 options.target,
					 build_id_format(&build->image->build_id, id));
		if (base->diff_count == 0)
			return error_new(
				ERROR_KIND_INPUT,
				"'%s' does not hold the diffs it was built from, so nothing "
				"can be built on top of it",
				options.bases.items[i]);
		TRY(directory_create_all(options.cache));
		for (size_t d = 0; d < base->diff_count; d++) {
			char *path =
				xasprintf("%s/base-%d-%zu-%zu.diff", options.cache, getpid(), i, d);
			vec_push(&build->base_diffs, path);
			TRY(file_write_atomic(path, base->diffs[d].bytes, base->diffs[d].size,
					      0600));
			vec_push(&build->diffs, path);
		}
	}
	for (size_t i = 0; i < build->context->operand_count; i++)
		vec_push(&build->diffs, build->context->operands[i]);
	return NULL;
}

/* ---- options ------------------------------------------------------------------------------ */

/** "fix.patch" gives "fix". */
static char *name_from(const char *path)
{
	char *name = xstrdup(path_basename(path));
	static const char *const endings[] = {".sut", ".patch", ".diff"};
	for (size_t i = 0; i < ARRAY_SIZE(endings); i++)
		if (string_ends_with(name, endings[i]) && strlen(name) > strlen(endings[i]))
			name[strlen(name) - strlen(endings[i])] = '\0';
	return name;
}

static struct error *default_cache(char **ret)
{
	const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	if (base && base[0] == '/')
		*ret = xasprintf("%s/suture", base);
	else if (home && home[0] == '/')
		*ret = xasprintf("%s/.cache/suture", home);
	else
		return error_new(ERROR_KIND_USAGE, "neither XDG_CACHE_HOME nor HOME is set; give "
						   "'--cache DIRECTORY'");
	return NULL;
}

static struct error *run_with(struct build *build)
{
	struct command_context *context = build->context;
	TRY(image_open(options.target, options.debug, &build->image));
	TRY(open_bases(build));

	struct source_options source_options = {
		.tree = options.tree,
		.package = options.package,
		.target = options.target,
		.target_build_id = build->image->build_id,
		.patches = build->diffs.items,
		.patch_count = build->diffs.count,
		.command = (const char *const *)context->after_dashes,
		.command_count = context->after_dashes_count,
		.jobs = (unsigned)options.jobs,
		.cache = options.cache,
		.keep = options.keep,
	};
	TRY(source_build(&source_options, context->progress, &build->findings, &build->source));
	TRY(find_link(build));
	// From here on the target has the build's symbols wherever the code is the same.

	const size_t changed = build->source->units.count;
	const size_t count = changed + build->source->unchanged_units.count;
	for (size_t i = 0; i < count; i++) {
		progress_report(context->progress, "comparing", i, count);
		const struct source_unit *unit =
			i < changed ? &build->source->units.items[i]
				    : &build->source->unchanged_units.items[i - changed];
		TRY(add_unit(build, unit, i < changed));
	}
	for (size_t i = 0; i < options.accepted.count; i++)
		TRY(findings_accept(&build->findings, options.accepted.items[i]));
	// From here on every function of the changed objects is proved to be the target's, or refused.

	_cleanup_free_ uint8_t *bytes = NULL;
	size_t size = 0;
	TRY(link_patch(build, &bytes, &size));
	if (!bytes)
		return refuse(build);
	TRY(file_write_atomic(options.output, bytes, size, 0644));
	cmd_progress_clear();

	_cleanup_(patch_cleanup) struct patch *patch = NULL;
	TRY(patch_read(bytes, size, options.output, &patch));
	if (options.json)
		show_patch_json(patch);
	else
		show_patch(patch, context->verbose);
	cmd_say(context, "wrote %s", options.output);
	return NULL;
}

static struct error *run(struct command_context *context)
{
	if (!options.tree == !options.package)
		return error_new(ERROR_KIND_USAGE, "say what the program was built from: either "
						   "'--source DIRECTORY' or '--package NAME'");
	_cleanup_free_ char *target = NULL, *cache = NULL, *name = NULL, *output = NULL;
	if (!options.target) {
		if (options.tree)
			return error_new(ERROR_KIND_USAGE,
					 "say which file runs with '--target FILE'");
		TRY(source_package_program(options.package, &target));
		options.target = target;
	}
	if (!options.cache) {
		TRY(default_cache(&cache));
		options.cache = cache;
	}
	if (!options.name)
		options.name = name =
			name_from(options.output ? options.output : context->operands[0]);
	if (!options.output)
		options.output = output = xasprintf("%s.sut", options.name);
	if (!options.jobs)
		options.jobs = (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);

	struct build build = {.context = context};
	struct error *error = run_with(&build);
	build_deinit(&build);
	return error;
}

const struct command command_build = {
	.name = "build",
	.summary = "build a patch from a source diff",
	.operands = "FIX.patch...",
	.operands_min = 1,
	.operands_max = OPERANDS_MANY,
	.after_dashes = "BUILD COMMAND...",
	.description =
		"Builds the source as it is, proves that the running program's code is what was\n"
		"built, applies the diffs, compiles what they change once more, and writes what\n"
		"changed to a patch file. The source tree, the compiler and the machine are left as\n"
		"they are. BUILD COMMAND defaults to make.\n"
		"\n"
		"  suture build -s redis-7.0.15/ -t /usr/bin/redis-server fix.patch\n"
		"  suture build -s nginx/ -t objs/nginx fix.patch -- make -j2 build\n"
		"  suture build --package redis-server fix.patch\n",
	.options =
		(const struct option_row[]){
			OPTION_STRING("source", 's', "DIRECTORY",
				      "the source that the program was built from", &options.tree),
			OPTION_STRING(
				"package", 0, "NAME",
				"a distribution package: its own source in a clean build root",
				&options.package),
			OPTION_STRING("target", 't', "FILE", "the program or library that runs",
				      &options.target),
			OPTION_STRING("debug", 0, "FILE", "the target's separate debug file",
				      &options.debug),
			OPTION_STRING("name", 'n', "NAME", "name of the patch (that of the diff)",
				      &options.name),
			OPTION_STRING("output", 'o', "FILE", "write the patch to FILE (NAME.sut)",
				      &options.output),
			OPTION_U64("jobs", 'j', "N", "compile N at once (one per CPU)",
				   &options.jobs),
			OPTION_STRINGS("base", 0, "FIRST.sut",
				       "build on top of this patch; may be given again",
				       &options.bases),
			OPTION_FLAG("replace", 0, "take out all earlier patches of the program",
				    &options.replaces_all),
			OPTION_STRINGS("accept", 0, "KIND:SYMBOL",
				       "accept this finding; may be given again",
				       &options.accepted),
			OPTION_STRING("cache", 0, "DIRECTORY", "where builds are kept",
				      &options.cache),
			OPTION_FLAG("keep", 0, "keep the work folders of a build that fails",
				    &options.keep),
			OPTION_JSON(&options.json),
			OPTION_END,
		},
	.run = run,
};
