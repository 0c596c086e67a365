// SPDX-License-Identifier: MIT
/*
 * Running the build command, or parts of it, in a tree: with the masquerade in front of PATH and over
 * the compilers, without what a surrounding make or ccache would bring in, at a fixed SOURCE_DATE_EPOCH.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "work.h"

extern char **environ;

static char **build_environment(struct work *work, const char *records, bool go_on)
{
	if (work->is_package)
		return package_environment(work->arena, work->options->jobs, true);
	// Of a make that runs us: its job server is not for the build.
	static const char *const dropped[] = {"PATH=",
					      "MAKEFLAGS=",
					      "MFLAGS=",
					      "MAKELEVEL=",
					      "MAKE_TERM",
					      "SUTURE_",
					      "CCACHE_DISABLE=",
					      "PWD=",
					      "OLDPWD=",
					      "DEPENDENCIES_OUTPUT=",
					      "SUNPRO_DEPENDENCIES="};
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
			error = error_errno(errno, "cannot remove '%s' in the overlay of '%s'",
					    name, root);
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
		TRY(masquerade_cover(arena_printf(work->arena, "%s/bin", work->cache),
				     build->covered, tool_path()));
	return jobs_run(&build->jobs, inside);
}

void news_tell(void *context, size_t done)
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
	char **environment = arena_array(work->arena, count + ARRAY_SIZE(ours) + 1, sizeof(char *));
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

struct error *command_run(struct work *work, const struct run *run)
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
	TRY(log_open(run->log, &log));
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
	TRY(tree_finish(session, news_tell, &news, &reply));
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
