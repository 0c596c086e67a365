/* SPDX-License-Identifier: MIT */
/*
 * The switch: threads inside, many threads, a tool that is killed, patches upon patches, and what
 * others do to the same places.
 */
#include "live_victim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <time.h>

#define MAIN                                                           \
	"int main(void) {\n"                                           \
	"	char line[256]; start(); puts(\"ready\"); fflush(stdout);\n" \
	"	while (fgets(line, sizeof line, stdin)) {\n"                 \
	"		answer(atoi(line)); fflush(stdout);\n"                      \
	"	}\n	return 0;\n}\n"

#define HEAD                                                             \
	"#define _GNU_SOURCE\n#include <stdio.h>\n#include <stdlib.h>\n" \
	"#include <pthread.h>\n#include <unistd.h>\n#include <time.h>\n" \
	"#include <stdatomic.h>\n"

/* ---- threads inside ------------------------------------------------------------------------- */

/* One thread sits in the function that changes, until it is told to leave. */
#define PARKED                                                                          \
	HEAD "static atomic_int leave, inside;\n"                                       \
	     "__attribute__((noinline)) int wait_here(int a) {\n"                       \
	     "	inside = 1; while (!leave) usleep(1000); inside = 0;\n"                  \
	     "#ifdef NEW\n	return a + 2;\n#else\n	return a + 1;\n#endif\n}\n"           \
	     "static void *run(void *p) { (void)p; wait_here(1); for (;;) pause(); }\n" \
	     "static void start(void) { pthread_t t; pthread_create(&t, 0, run, 0);\n"  \
	     "	while (!inside) usleep(1000); }\n"                                       \
	     "__attribute__((noinline)) void answer(int a) {\n"                         \
	     "	if (a < 0) { leave = 1; while (inside) usleep(100); a = 0; }\n"          \
	     "	printf(\"%d\\n\", leave ? wait_here(a) : -1); }\n" MAIN

static void test_busy(void **state)
{
	(void)state;
	struct recipe recipe = {.source = PARKED, .flags = "-O2 -pthread"};
	struct victim victim;
	struct live_outcome outcome = {0};
	struct live_options options = {.timeout_ns = 300000000};
	victim_build(&victim, &recipe);
	victim_start(&victim);
	struct buffer before = victim_text(&victim);
	size_t maps = victim_maps(&victim);

	uint64_t start = monotonic_ns();
	const char *message = fail_with(
		live_apply(victim.process, victim.patch, &options, &outcome), ERROR_KIND_BUSY);
	assert_true(monotonic_ns() - start < 3000000000);
	assert_non_null(strstr(message, "wait_here"));
	assert_int_equal(outcome.blockers.count, 1);
	assert_string_equal(outcome.blockers.items[0].function, "wait_here");
	assert_int_not_equal(outcome.blockers.items[0].tid, victim.pid);
	assert_true(outcome.blockers.items[0].frames.count >= 3);
	live_outcome_deinit(&outcome);

	// Nothing is left of the attempt.
	struct buffer after = victim_text(&victim);
	assert_memory_equal(before.bytes, after.bytes, before.size);
	assert_int_equal(victim_maps(&victim), maps);
	struct live_status *status;
	succeed(live_status_read(victim.process, &status));
	assert_int_equal(status->patches.count, 0);
	live_status_free(status);
	assert_string_equal(victim_ask(&victim, "5"), "-1");

	// Once it has left, it goes in.
	assert_string_equal(victim_ask(&victim, "-1"), "1");
	victim_apply(&victim);
	assert_string_equal(victim_ask(&victim, "5"), "7");
	assert_true(victim_revert(&victim, "live-unit"));
	assert_string_equal(victim_ask(&victim, "5"), "6");
	buffer_deinit(&before);
	buffer_deinit(&after);
	victim_end(&victim);
}

/* A thread that leaves while we wait: the hint or the clock finds the moment. */
static void test_wait_for_leaving(void **state)
{
	(void)state;
	static const char source[] = HEAD
		"static atomic_int rounds;\n"
		"__attribute__((noinline)) int slow(int a) {\n"
		"	struct timespec t = { 0, 60000000 }; nanosleep(&t, 0); rounds++;\n"
		"#ifdef NEW\n	return a + 2;\n#else\n	return a + 1;\n#endif\n}\n"
		"static void *run(void *p) { (void)p; for (;;) { slow(1);\n"
		"	struct timespec t = { 0, 20000000 }; nanosleep(&t, 0); } }\n"
		"static void start(void) { pthread_t t; pthread_create(&t, 0, run, 0); }\n"
		"__attribute__((noinline)) void answer(int a) { printf(\"%d\\n\", slow(a)); }\n" MAIN;
	struct recipe recipe = {.source = source, .flags = "-O2 -pthread"};
	victim_round(&recipe, "5", "6", "7");
}

static void test_many_threads(void **state)
{
	(void)state;
	static const char source[] = HEAD
		"static atomic_long calls, wrong;\nstatic atomic_int generation;\n"
		"__attribute__((noinline)) long first(long a) {\n"
		"#ifdef NEW\n	return a + 1000;\n#else\n	return a + 1;\n#endif\n}\n"
		"__attribute__((noinline)) long second(long a) {\n"
		"#ifdef NEW\n	return a + 1000;\n#else\n	return a + 1;\n#endif\n}\n"
		"static void *run(void *p) { long n = (long)p; for (;;) {\n"
		"	calls++; long a = first(0), b = second(0);\n"
		"	(void)a; (void)b; if (n > 1) { struct timespec t = { 0, 3000000 }; nanosleep(&t, 0); } } }\n"
		"static void start(void) { pthread_attr_t at; pthread_attr_init(&at);\n"
		"	pthread_attr_setstacksize(&at, 65536);\n"
		"	for (long i = 1; i < 101; i++) { pthread_t t; pthread_create(&t, &at, run, (void *)i); } }\n"
		"__attribute__((noinline)) void answer(int a) { printf(\"%ld %ld\\n\", first(a), second(a)); }\n" MAIN;
	struct recipe recipe = {.source = source, .flags = "-O2 -pthread"};
	victim_round(&recipe, "5", "6 6", "1005 1005");
}

/* ---- fork ------------------------------------------------------------------------------------ */

static void test_fork(void **state)
{
	(void)state;
	static const char source[] = HEAD
		"#include <signal.h>\n#include <sys/wait.h>\n"
		"__attribute__((noinline)) int value(int a) {\n"
		"#ifdef NEW\n	return a + 100;\n#else\n	return a;\n#endif\n}\n"
		"static void start(void) {}\n"
		"__attribute__((noinline)) void answer(int a) {\n"
		"	if (a == 0) { int p[2]; if (pipe(p)) return; int c = fork();\n"
		"		if (!c) { char x; close(p[1]); signal(SIGPIPE, SIG_IGN);\n"
		"			while (read(p[0], &x, 1) < 0) ; _exit(value(1)); }\n"
		"		printf(\"%d\\n\", c); fflush(stdout); static int keep; keep = p[1]; (void)keep; return; }\n"
		"	printf(\"%d\\n\", value(a)); }\n" MAIN;
	struct recipe recipe = {.source = source, .flags = "-O2"};
	struct victim victim;
	victim_build(&victim, &recipe);
	victim_start(&victim);
	victim_apply(&victim);
	pid_t child = (pid_t)atoi(victim_ask(&victim, "0"));
	struct process *process;
	struct live_status *status;
	succeed(process_open(child, &process));
	succeed(live_status_read(process, &status));
	assert_int_equal(status->patches.count, 1);
	assert_string_equal(status->patches.items[0].name, "live-unit");
	assert_int_equal(status->patches.items[0].state, LIVE_STATE_APPLIED);
	assert_true(status->patches.items[0].intact);
	live_status_free(status);

	// Each has its own: the parent's goes, the child's stays.
	assert_true(victim_revert(&victim, "live-unit"));
	assert_string_equal(victim_ask(&victim, "5"), "5");
	bool maps, applied;
	succeed(live_concerns(process, victim.patch, &maps, &applied));
	assert_true(maps && applied);
	succeed(live_concerns(victim.process, victim.patch, &maps, &applied));
	assert_true(maps && !applied);
	struct live_outcome outcome = {0};
	succeed(live_revert(process, "live-unit", &default_options, &outcome));
	live_outcome_deinit(&outcome);
	process_close(process);
	kill(child, SIGKILL);
	victim_end(&victim);
}

/* ---- patches upon patches ---------------------------------------------------------------------- */

#define STACKED                                                                    \
	HEAD "__attribute__((noinline)) int one(int a) {\n"                        \
	     "#if defined NEW3\n	return a + 300;\n"                                \
	     "#elif defined NEW2\n	return a + 200;\n"                              \
	     "#elif defined NEW\n	return a + 100;\n#else\n	return a;\n#endif\n}\n" \
	     "__attribute__((noinline)) int two(int a) {\n"                        \
	     "#if defined NEW\n	return a + 1000;\n#else\n	return a;\n#endif\n}\n"  \
	     "static void start(void) {}\n"                                        \
	     "__attribute__((noinline)) void answer(int a) {\n"                    \
	     "	printf(\"%d %d\\n\", one(a), two(a)); }\n" MAIN

static void test_stack_and_replace(void **state)
{
	(void)state;
	struct recipe recipe = {.source = STACKED, .flags = "-O2", .name = "first"};
	struct victim victim;
	struct live_outcome outcome;
	victim_build(&victim, &recipe);
	struct patch *first = victim.patch;
	recipe.define = "NEW2";
	recipe.name = "second";
	struct patch *conflicting = victim_build_patch(&victim, &recipe);
	recipe.base = "first";
	struct patch *second = victim_build_patch(&victim, &recipe);
	recipe.base = NULL;
	recipe.name = "third";
	recipe.define = "NEW3";
	recipe.replaces_all = true;
	struct patch *third = victim_build_patch(&victim, &recipe);

	victim_start(&victim);
	struct buffer before = victim_text(&victim);
	size_t maps = victim_maps(&victim);
	// The base is not there yet.
	fail_with(victim_try_apply(&victim, second, &outcome), ERROR_KIND_NOT_FOUND);
	live_outcome_deinit(&outcome);
	succeed(victim_try_apply(&victim, first, &outcome));
	live_outcome_deinit(&outcome);
	assert_string_equal(victim_ask(&victim, "5"), "105 1005");
	const char *message =
		fail_with(victim_try_apply(&victim, conflicting, &outcome), ERROR_KIND_CONFLICT);
	assert_non_null(strstr(message, "first"));
	live_outcome_deinit(&outcome);
	succeed(victim_try_apply(&victim, second, &outcome));
	live_outcome_deinit(&outcome);
	assert_string_equal(victim_ask(&victim, "5"), "205 1005");
	succeed(victim_try_apply(&victim, second, &outcome));
	assert_true(outcome.already);
	live_outcome_deinit(&outcome);

	outcome = (struct live_outcome){0};
	message = fail_with(live_revert(victim.process, "first", &default_options, &outcome),
			    ERROR_KIND_CONFLICT);
	assert_non_null(strstr(message, "second"));
	live_outcome_deinit(&outcome);
	assert_true(victim_revert(&victim, "second"));
	assert_string_equal(victim_ask(&victim, "5"), "105 1005");
	succeed(victim_try_apply(&victim, second, &outcome));
	live_outcome_deinit(&outcome);

	// Both are taken out in the flip that brings the third in.
	succeed(victim_try_apply(&victim, third, &outcome));
	live_outcome_deinit(&outcome);
	assert_string_equal(victim_ask(&victim, "5"), "305 5");
	struct live_status *status;
	succeed(live_status_read(victim.process, &status));
	for (size_t i = 0; i < status->patches.count; i++)
		print_message("%s %s\n", status->patches.items[i].name,
			      live_state_word(status->patches.items[i].state));
	assert_int_equal(status->patches.count, 1);
	assert_string_equal(status->patches.items[0].name, "third");
	live_status_free(status);
	assert_true(victim_revert(&victim, "third"));
	assert_string_equal(victim_ask(&victim, "5"), "5 5");
	struct buffer after = victim_text(&victim);
	assert_memory_equal(before.bytes, after.bytes, before.size);
	assert_int_equal(victim_maps(&victim), maps);
	fail_with(live_revert(victim.process, "third", &default_options, &outcome),
		  ERROR_KIND_NOT_FOUND);
	live_outcome_deinit(&outcome);
	buffer_deinit(&before);
	buffer_deinit(&after);
	patch_free(conflicting);
	patch_free(second);
	patch_free(third);
	victim_end(&victim);
}

/* ---- what others wrote ------------------------------------------------------------------------- */

static void test_foreign_bytes(void **state)
{
	(void)state;
	struct recipe recipe = {.source = STACKED, .flags = "-O2"};
	struct victim victim;
	struct live_outcome outcome;
	victim_build(&victim, &recipe);
	victim_start(&victim);
	struct process_space *space;
	succeed(process_space_read(victim.process, &space));
	uint64_t entry =
		space->modules.items[0].bias + victim.patch->functions.items[0].old_address;
	static const struct {
		uint8_t bytes[5];
		size_t size;
		const char *text;
	} rows[] = {
		{{0xcc}, 1, "breakpoint"},
		{{0xe9, 1, 2, 3, 4}, 5, "jump"},
		{{0xe8, 1, 2, 3, 4}, 5, "uprobe"},
		{{0x31}, 1, "other bytes"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t saved[5];
		succeed(process_memory_read(victim.process, entry, saved, sizeof(saved)));
		succeed(process_memory_write(victim.process, entry, rows[i].bytes, rows[i].size));
		const char *message = fail_with(victim_try_apply(&victim, victim.patch, &outcome),
						ERROR_KIND_MISMATCH);
		if (!strstr(message, rows[i].text))
			fail_msg("'%s' is not in '%s'", rows[i].text, message);
		live_outcome_deinit(&outcome);
		succeed(process_memory_write(victim.process, entry, saved, sizeof(saved)));
	}
	victim_apply(&victim);
	// Somebody writes over our jump: status says so, revert does not write.
	uint8_t jump[5];
	succeed(process_memory_read(victim.process, entry, jump, sizeof(jump)));
	succeed(process_memory_write(victim.process, entry, "\xcc", 1));
	struct live_status *status;
	succeed(live_status_read(victim.process, &status));
	assert_false(status->patches.items[0].intact);
	live_status_free(status);
	outcome = (struct live_outcome){0};
	fail_with(live_revert(victim.process, "live-unit", &default_options, &outcome),
		  ERROR_KIND_MISMATCH);
	live_outcome_deinit(&outcome);
	succeed(process_memory_write(victim.process, entry, jump, sizeof(jump)));
	assert_true(victim_revert(&victim, "live-unit"));
	process_space_free(space);
	victim_end(&victim);
}

/* ---- memory that something points into ---------------------------------------------------------- */

static void test_memory_kept(void **state)
{
	(void)state;
	static const char source[] = HEAD
		"static int (*volatile callback)(int);\nstatic int old_one(int a) { return a; }\n"
		"#ifdef NEW\n__attribute__((noinline)) static int fresh(int a) { return a + 500; }\n#endif\n"
		"__attribute__((noinline)) int set(int a) {\n"
		"	if (a == 1)\n"
		"#ifdef NEW\n		callback = fresh;\n#else\n		callback = old_one;\n#endif\n"
		"	if (a == 2) callback = old_one;\n	return callback(a); }\n"
		"static void start(void) { callback = old_one; }\n"
		"__attribute__((noinline)) void answer(int a) {\n"
		"	printf(\"%d\\n\", a == 3 ? callback(3) : set(a)); }\n" MAIN;
	struct recipe recipe = {.source = source, .flags = "-O2"};
	struct victim victim;
	victim_build(&victim, &recipe);
	victim_start(&victim);
	size_t maps = victim_maps(&victim);
	victim_apply(&victim);
	assert_string_equal(victim_ask(&victim, "1"), "501");
	assert_false(victim_revert(&victim, "live-unit"));
	// The pointer leads to code that is there still.
	assert_string_equal(victim_ask(&victim, "3"), "503");
	struct live_status *status;
	succeed(live_status_read(victim.process, &status));
	assert_int_equal(status->patches.count, 1);
	assert_int_equal(status->patches.items[0].state, LIVE_STATE_REVERTED);
	assert_true(status->kept_bytes > 0);
	uint64_t address = status->patches.items[0].base;
	live_status_free(status);
	// The same patch uses it again.
	victim_apply(&victim);
	succeed(live_status_read(victim.process, &status));
	assert_int_equal(status->patches.count, 1);
	assert_int_equal(status->patches.items[0].base, address);
	assert_int_equal(status->patches.items[0].state, LIVE_STATE_APPLIED);
	live_status_free(status);
	assert_string_equal(victim_ask(&victim, "1"), "501");
	assert_string_equal(victim_ask(&victim, "2"), "2");
	// Nothing points there any more.
	assert_true(victim_revert(&victim, "live-unit"));
	assert_int_equal(victim_maps(&victim), maps);
	victim_end(&victim);
}

/* ---- the tool is killed -------------------------------------------------------------------------- */

/*
 * Threads call two functions that must belong together: a mix of old and new would end the victim.
 * The checker reads both under no lock, so it repeats a read that the switch fell into.
 */
#define LOADED                                                                                       \
	HEAD "static atomic_long calls;\n"                                                           \
	     "__attribute__((noinline)) long first(long a) {\n"                                      \
	     "#ifdef NEW\n	return a + 2;\n#else\n	return a + 1;\n#endif\n}\n"                        \
	     "__attribute__((noinline)) long second(long a) {\n"                                     \
	     "#ifdef NEW\n	return a + 2;\n#else\n	return a + 1;\n#endif\n}\n"                        \
	     "static void *run(void *p) { (void)p; for (;;) {\n"                                     \
	     "	long a = first(0), b = second(0), c = first(0);\n"                                    \
	     "	if (a == c && a != b) { puts(\"mix\"); fflush(stdout); abort(); }\n"                  \
	     "	calls++; } }\n"                                                                       \
	     "static void *nap(void *p) { (void)p; for (;;) { struct timespec t = { 0, 1000000 };\n" \
	     "	nanosleep(&t, 0); first(0); } }\n"                                                    \
	     "static void start(void) { pthread_t t; pthread_create(&t, 0, run, 0);\n"               \
	     "	for (int i = 0; i < 4; i++) pthread_create(&t, 0, nap, 0); }\n"                       \
	     "__attribute__((noinline)) void answer(int a) { printf(\"%ld\\n\", first(a)); }\n" MAIN

static void test_killed_anywhere(void **state)
{
	(void)state;
	struct recipe recipe = {.source = LOADED, .flags = "-O2 -pthread"};
	struct victim victim;
	victim_build(&victim, &recipe);
	victim_start(&victim);
	struct buffer before = victim_text(&victim);
	size_t maps = victim_maps(&victim);
	const char *rounds_text = getenv("SUTURE_TEST_ROUNDS");
	int rounds = rounds_text ? atoi(rounds_text) : 150;
	unsigned cut = 0, applied = 0;
	srand(1);
	for (int i = 0; i < rounds; i++) {
		pid_t tool = fork();
		if (tool == 0) {
			struct process *process;
			struct live_outcome outcome = {0};
			if (process_open(victim.pid, &process))
				_exit(1);
			struct error *error =
				live_apply(process, victim.patch, &default_options, &outcome);
			if (!error)
				error = live_revert(process, "live-unit", &default_options, &outcome);
			_exit(error ? 1 : 0);
		}
		nanosleep(&(struct timespec){.tv_nsec = 1000L * (rand() % 60000)}, NULL);
		kill(tool, SIGKILL);
		int status;
		waitpid(tool, &status, 0);
		cut += WIFSIGNALED(status);
		if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
			fail_msg("the tool failed by itself");
		// It runs, and says one or the other.
		const char *answer = victim_ask(&victim, "5");
		if (!string_equal(answer, "6") && !string_equal(answer, "7"))
			fail_msg("the victim says '%s'", answer);
		applied += string_equal(answer, "7");
		// The next call finishes or takes back, and all is as before.
		victim_apply(&victim);
		assert_string_equal(victim_ask(&victim, "5"), "7");
		assert_true(victim_revert(&victim, "live-unit"));
		assert_string_equal(victim_ask(&victim, "5"), "6");
	}
	struct buffer after = victim_text(&victim);
	assert_memory_equal(before.bytes, after.bytes, before.size);
	// A tool that dies between mmap() and the record's first byte leaves a mapping without a name.
	size_t left = victim_maps(&victim) - maps;
	print_message("%u of %d killed at work, %u of them after the switch, %zu mappings left\n",
		      cut, rounds, applied, left);
	assert_true(left <= cut / 10);
	buffer_deinit(&before);
	buffer_deinit(&after);
	victim_end(&victim);
}

static void test_target_dies(void **state)
{
	(void)state;
	struct recipe recipe = {.source = LOADED, .flags = "-O2 -pthread"};
	struct victim victim;
	victim_build(&victim, &recipe);
	for (int i = 0; i < 12; i++) {
		victim_start(&victim);
		pid_t killer = fork();
		if (killer == 0) {
			nanosleep(&(struct timespec){.tv_nsec = 2000000L * i}, NULL);
			kill(victim.pid, SIGKILL);
			_exit(0);
		}
		struct live_outcome outcome = {0};
		struct error *error =
			live_apply(victim.process, victim.patch, &default_options, &outcome);
		waitpid(killer, NULL, 0);
		if (!error)
			error = live_revert(victim.process, "live-unit", &default_options, &outcome);
		if (!error || error->kind != ERROR_KIND_NOT_FOUND)
			fail_msg("%s", error ? error->message : "no error");
		error_free(error);
		live_outcome_deinit(&outcome);
		victim_stop(&victim);
	}
	victim_end(&victim);
}

static void test_two_tools(void **state)
{
	(void)state;
	struct recipe recipe = {.source = LOADED, .flags = "-O2 -pthread"};
	struct victim victim;
	victim_build(&victim, &recipe);
	victim_start(&victim);
	pid_t tools[6];
	for (size_t i = 0; i < ARRAY_SIZE(tools); i++) {
		tools[i] = fork();
		if (tools[i] == 0) {
			struct process *process;
			struct live_options options = {.timeout_ns = 10000000000};
			struct live_outcome outcome = {0};
			if (process_open(victim.pid, &process) ||
			    live_apply(process, victim.patch, &options, &outcome))
				_exit(99);
			_exit(outcome.already);
		}
	}
	int already = 0;
	for (size_t i = 0; i < ARRAY_SIZE(tools); i++) {
		int status;
		waitpid(tools[i], &status, 0);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
		already += WEXITSTATUS(status);
	}
	assert_int_equal(already, ARRAY_SIZE(tools) - 1);
	assert_true(victim_revert(&victim, "live-unit"));
	victim_end(&victim);
}

static void test_dry_run(void **state)
{
	(void)state;
	struct recipe recipe = {.source = LOADED, .flags = "-O2 -pthread"};
	struct victim victim;
	struct live_outcome outcome = {0};
	struct live_options options = {.dry_run = true};
	victim_build(&victim, &recipe);
	victim_start(&victim);
	size_t maps = victim_maps(&victim);
	succeed(live_apply(victim.process, victim.patch, &options, &outcome));
	assert_int_equal(outcome.stops, 0);
	assert_int_equal(outcome.functions, 2);
	live_outcome_deinit(&outcome);
	assert_int_equal(victim_maps(&victim), maps);
	assert_string_equal(victim_ask(&victim, "5"), "6");
	victim_end(&victim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dry_run),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_wait_for_leaving),
		cmocka_unit_test(test_many_threads),
		cmocka_unit_test(test_fork),
		cmocka_unit_test(test_stack_and_replace),
		cmocka_unit_test(test_foreign_bytes),
		cmocka_unit_test(test_memory_kept),
		cmocka_unit_test(test_two_tools),
		cmocka_unit_test(test_target_dies),
		cmocka_unit_test(test_killed_anywhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
