/* SPDX-License-Identifier: MIT */
/*
 * Programs to be patched, for the tests of live: one source, compiled once as it is and once with
 * -DNEW; the program, its patch, and a conversation over its standard input and output.
 */
#ifndef SUTURE_TESTS_LIVE_VICTIM_H
#define SUTURE_TESTS_LIVE_VICTIM_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "live/live.h"

#define UNUSED __attribute__((unused))

static UNUSED void succeed(struct error *error)
{
	if (error)
		fail_msg("%s: %s", error_kind_word(error->kind), error->message);
}

/** The error must have that kind; its message is returned (and leaks: a test). */
/* Its message, which lasts until the next one. */
static UNUSED const char *fail_with(struct error *error, enum error_kind kind)
{
	static struct error *last;
	error_free(last);
	last = error;
	if (!error)
		fail_msg("no error where %s was expected", error_kind_word(kind));
	if (error->kind != kind)
		fail_msg("%s where %s was expected: %s", error_kind_word(error->kind),
			 error_kind_word(kind), error->message);
	return error->message;
}

static UNUSED void run(const char *format, ...) PRINTF(1, 2);
static UNUSED void run(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	_cleanup_free_ char *command = xvasprintf(format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

/** How a victim is made. */
struct recipe {
	const char *source;   /* text; -DNEW makes the new one */
	const char *library;  /* text of a library that it is linked with, or NULL */
	bool patch_library;   /* it is the library that changes */
	const char *flags;    /* of the compiler */
	const char *link;     /* of the linker */
	const char *compiler; /* "gcc" */
	const char *suffix;   /* "c" */
	const char *name;     /* of the patch; "live-unit" */
	bool replaces_all;
	const char *base;   /* --base, or NULL */
	const char *define; /* of the new side; "NEW" */
};

struct victim {
	char directory[64];
	struct patch *patch;
	pid_t pid;
	FILE *in, *out;
	struct process *process;
};

static UNUSED void write_file(const char *directory, const char *name, const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", directory, name);
	succeed(file_write_atomic(path, text, strlen(text), 0644));
}

/** Build the program, and the patch that leads from it to the new source. */
static UNUSED struct patch *victim_build_patch(const struct victim *victim,
					       const struct recipe *recipe)
{
	const char *directory = victim->directory;
	const char *compiler = recipe->compiler ? recipe->compiler : "gcc";
	const char *suffix = recipe->suffix ? recipe->suffix : "c";
	const char *unit = recipe->patch_library ? "lib" : "main";
	const char *pic = recipe->patch_library ? "-fPIC" : "";
	const char *define = recipe->define ? recipe->define : "NEW";
	run("cd %s && %s %s %s -c %s.%s -o plain.o", directory, compiler, recipe->flags, pic, unit,
	    suffix);
	run("cd %s && %s %s %s -ffunction-sections -fdata-sections -c %s.%s -o old.o", directory,
	    compiler, recipe->flags, pic, unit, suffix);
	run("cd %s && %s %s %s -ffunction-sections -fdata-sections -D%s -c %s.%s -o new.o",
	    directory, compiler, recipe->flags, pic, define, unit, suffix);

	struct object *plain, *old_object, *new_object;
	struct image *image;
	struct image_match *match;
	struct diff *diff;
	struct findings findings = {0};
	_cleanup_free_ char *path = xasprintf("%s/plain.o", directory);
	succeed(object_open(path, &plain));
	_cleanup_free_ char *old_path = xasprintf("%s/old.o", directory);
	succeed(object_open(old_path, &old_object));
	_cleanup_free_ char *new_path = xasprintf("%s/new.o", directory);
	succeed(object_open(new_path, &new_object));
	_cleanup_free_ char *target =
		xasprintf("%s/%s", directory, recipe->patch_library ? "libvictim.so" : "victim");
	succeed(image_open(target, NULL, &image));
	succeed(image_match_object(image, plain, &findings, &match));
	succeed(diff_objects(old_object, new_object, NULL, &diff));
	findings_merge(&findings, &diff->findings);
	struct patch_builder *builder =
		patch_builder_create(recipe->name ? recipe->name : "live-unit", image);
	struct patch_unit row = {.name = "unit", .diff = diff, .plain_old = plain, .match = match};
	patch_builder_add_unit(builder, &row);
	patch_builder_set_description(builder, "test");
	patch_builder_set_replaces_all(builder, recipe->replaces_all);
	if (recipe->base)
		patch_builder_add_base(builder, recipe->base);
	uint8_t *bytes;
	size_t size;
	succeed(patch_builder_finish(builder, &findings, &bytes, &size));
	if (!bytes) {
		for (size_t i = 0; i < findings.list.count; i++)
			print_message("%s %s: %s\n", finding_kind_word(findings.list.items[i].kind),
				      findings.list.items[i].subject, findings.list.items[i].text);
		fail_msg("the patch was not built");
	}
	struct patch *patch;
	succeed(patch_read(bytes, size, "fix.sut", &patch));
	if (getenv("SUTURE_TEST_KEEP")) {
		_cleanup_free_ char *to = xasprintf("%s/fix.sut", directory);
		succeed(file_write_atomic(to, bytes, size, 0644));
	}
	free(bytes);
	patch_builder_free(builder);
	diff_free(diff);
	image_match_free(match);
	image_free(image);
	object_free(plain);
	object_free(old_object);
	object_free(new_object);
	findings_deinit(&findings);
	return patch;
}

static UNUSED void victim_build(struct victim *victim, const struct recipe *recipe)
{
	*victim = (struct victim){.directory = "/tmp/suture-live-XXXXXX"};
	assert_non_null(mkdtemp(victim->directory));
	const char *compiler = recipe->compiler ? recipe->compiler : "gcc";
	const char *suffix = recipe->suffix ? recipe->suffix : "c";
	_cleanup_free_ char *name = xasprintf("main.%s", suffix);
	write_file(victim->directory, name, recipe->source);
	if (recipe->library) {
		_cleanup_free_ char *library = xasprintf("lib.%s", suffix);
		write_file(victim->directory, library, recipe->library);
		run("cd %s && %s %s -fPIC -shared -Wl,--build-id lib.%s -o libvictim.so "
		    "-Wl,-soname,libvictim.so",
		    victim->directory, compiler, recipe->flags, suffix);
	}
	run("cd %s && %s %s main.%s -o victim -Wl,--build-id %s %s", victim->directory, compiler,
	    recipe->flags, suffix, recipe->library ? "-L. -lvictim -Wl,-rpath,'$ORIGIN'" : "",
	    recipe->link ? recipe->link : "");
	victim->patch = victim_build_patch(victim, recipe);
}

static UNUSED void victim_start(struct victim *victim)
{
	int in[2], out[2];
	assert_int_equal(pipe(in), 0);
	assert_int_equal(pipe(out), 0);
	_cleanup_free_ char *path = xasprintf("%s/victim", victim->directory);
	victim->pid = fork();
	assert_true(victim->pid >= 0);
	if (victim->pid == 0) {
		dup2(in[0], 0);
		dup2(out[1], 1);
		for (int fd = 3; fd < 64; fd++)
			close(fd);
		execl(path, path, NULL);
		_exit(127);
	}
	close(in[0]);
	close(out[1]);
	victim->in = fdopen(in[1], "w");
	victim->out = fdopen(out[0], "r");
	assert_non_null(victim->in);
	assert_non_null(victim->out);
	// Its first line says that it is ready.
	char line[256];
	if (!fgets(line, sizeof(line), victim->out))
		fail_msg("the victim did not start");
	succeed(process_open(victim->pid, &victim->process));
}

/** Say @line, hear the answer. */
static UNUSED const char *victim_ask(struct victim *victim, const char *line)
{
	static char answer[4096];
	fprintf(victim->in, "%s\n", line);
	fflush(victim->in);
	if (!fgets(answer, sizeof(answer), victim->out)) {
		int status = 0;
		waitpid(victim->pid, &status, WNOHANG);
		fail_msg("the victim is gone (status 0x%x)", status);
	}
	answer[strcspn(answer, "\n")] = '\0';
	return answer;
}

static UNUSED void victim_stop(struct victim *victim)
{
	if (victim->process)
		process_close(victim->process);
	victim->process = NULL;
	if (victim->in)
		fclose(victim->in);
	if (victim->out)
		fclose(victim->out);
	victim->in = victim->out = NULL;
	if (victim->pid > 0) {
		kill(victim->pid, SIGKILL);
		waitpid(victim->pid, NULL, 0);
	}
	victim->pid = 0;
}

static UNUSED void victim_end(struct victim *victim)
{
	victim_stop(victim);
	patch_free(victim->patch);
	victim->patch = NULL;
	if (!getenv("SUTURE_TEST_KEEP"))
		succeed(tree_remove(victim->directory));
}

static const struct live_options UNUSED default_options = {.timeout_ns = 3000000000};

static UNUSED struct error *victim_try_apply(struct victim *victim, const struct patch *patch,
					     struct live_outcome *outcome)
{
	*outcome = (struct live_outcome){0};
	return live_apply(victim->process, patch, &default_options, outcome);
}

static UNUSED void victim_apply(struct victim *victim)
{
	struct live_outcome outcome = {0};
	struct error *error = victim_try_apply(victim, victim->patch, &outcome);
	for (size_t i = 0; i < outcome.blockers.count; i++) {
		print_message("blocker %d %s\n", outcome.blockers.items[i].tid,
			      outcome.blockers.items[i].reason);
		for (size_t f = 0; f < outcome.blockers.items[i].frames.count; f++) {
			const struct unwind_frame *frame =
				&outcome.blockers.items[i].frames.items[f];
			print_message("  %#lx %s %s\n", (unsigned long)frame->pc,
				      frame->module ? frame->module : "?",
				      frame->function ? frame->function : "?");
		}
	}
	if (!error && getenv("SUTURE_TEST_TALK"))
		print_message("gap %lu us, total %lu us, %u stops, %u threads, unwinders %s\n",
			      (unsigned long)outcome.gap_ns / 1000,
			      (unsigned long)outcome.total_ns / 1000, outcome.stops,
			      outcome.threads, outcome.unwinders);
	live_outcome_deinit(&outcome);
	succeed(error);
}

/** Revert; true when its memory is gone. */
static UNUSED bool victim_revert(struct victim *victim, const char *name)
{
	struct live_outcome outcome = {0};
	struct error *error = live_revert(victim->process, name, &default_options, &outcome);
	bool kept = outcome.memory_kept;
	live_outcome_deinit(&outcome);
	succeed(error);
	return !kept;
}

/** All executable bytes that come from files, for comparison. */
static UNUSED struct buffer victim_text(struct victim *victim)
{
	struct process_space *space;
	struct buffer buffer = {0};
	succeed(process_space_read(victim->process, &space));
	for (size_t i = 0; i < space->maps.count; i++) {
		const struct process_map *map = &space->maps.items[i];
		if (!(map->protection & 4) || map->path[0] != '/')
			continue;
		size_t size = map->end - map->start;
		_cleanup_free_ uint8_t *bytes = xmalloc(size);
		succeed(process_memory_read(victim->process, map->start, bytes, size));
		buffer_append(&buffer, bytes, size);
	}
	process_space_free(space);
	return buffer;
}

static UNUSED size_t victim_maps(struct victim *victim)
{
	struct process_space *space;
	succeed(process_space_read(victim->process, &space));
	size_t count = space->maps.count;
	for (size_t i = 0; i < space->maps.count; i++)
		if ((space->maps.items[i].protection & 6) == 6)
			fail_msg("a mapping is writable and executable");
	process_space_free(space);
	return count;
}

/** Old answer, apply, new answer, revert, old answer; text and mappings as before. */
static UNUSED void victim_round(const struct recipe *recipe, const char *question,
				const char *old_answer, const char *new_answer)
{
	struct victim victim;
	victim_build(&victim, recipe);
	victim_start(&victim);
	assert_string_equal(victim_ask(&victim, question), old_answer);
	struct buffer before = victim_text(&victim);
	size_t maps = victim_maps(&victim);
	victim_apply(&victim);
	assert_string_equal(victim_ask(&victim, question), new_answer);
	assert_string_equal(victim_ask(&victim, question), new_answer);
	victim_maps(&victim);
	bool gone = victim_revert(&victim, victim.patch->name);
	assert_string_equal(victim_ask(&victim, question), old_answer);
	struct buffer after = victim_text(&victim);
	assert_int_equal(before.size, after.size);
	assert_memory_equal(before.bytes, after.bytes, before.size);
	if (gone)
		assert_int_equal(victim_maps(&victim), maps);
	buffer_deinit(&before);
	buffer_deinit(&after);
	victim_end(&victim);
}

#endif
