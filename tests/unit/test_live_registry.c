/* SPDX-License-Identifier: MIT */
/*
 * The registry as hostile bytes, and the tool killed after each of its system calls.
 */
#include "live_victim.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <time.h>

#define SOURCE                                                                                 \
	"#define _GNU_SOURCE\n#include <stdio.h>\n#include <stdlib.h>\n#include <pthread.h>\n" \
	"#include <stdatomic.h>\n#include <unistd.h>\n"                                        \
	"static atomic_long calls;\n"                                                          \
	"__attribute__((noinline)) long first(long a) {\n"                                     \
	"#ifdef NEW\n	return a + 2;\n#else\n	return a + 1;\n#endif\n}\n"                       \
	"__attribute__((noinline)) long second(long a) {\n"                                    \
	"#ifdef NEW\n	return a + 2;\n#else\n	return a + 1;\n#endif\n}\n"                       \
	"static void *run(void *p) { (void)p; for (;;) {\n"                                    \
	"	long a = first(0), b = second(0), c = first(0);\n"                                   \
	"	if (a == c && a != b) abort();\n	calls++; usleep(20); } }\n"                         \
	"int main(void) { char line[256]; pthread_t t; pthread_create(&t, 0, run, 0);\n"       \
	"	pthread_create(&t, 0, run, 0); puts(\"ready\"); fflush(stdout);\n"                   \
	"	while (fgets(line, sizeof line, stdin)) {\n"                                         \
	"		printf(\"%ld\\n\", first(atoi(line))); fflush(stdout); } }\n"

static uint64_t record_address(struct victim *victim, uint64_t *ret_size)
{
	struct live_status *status;
	succeed(live_status_read(victim->process, &status));
	assert_int_equal(status->patches.count, 1);
	uint64_t address = status->registry_address;
	*ret_size = status->patches.items[0].size;
	live_status_free(status);
	return address;
}

/* Each byte and each 4-byte word of the record in turn: read it, and it is no record or a sane one. */
static void test_hostile_record(void **state)
{
	(void)state;
	struct recipe recipe = {.source = SOURCE, .flags = "-O2 -pthread"};
	struct victim victim;
	victim_build(&victim, &recipe);
	victim_start(&victim);
	victim_apply(&victim);
	uint64_t size, address = record_address(&victim, &size);
	uint8_t saved[1024];
	succeed(process_memory_read(victim.process, address, saved, sizeof(saved)));
	static const uint32_t words[] = {0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 4096};
	unsigned seen = 0;
	for (size_t at = 0; at + 4 <= sizeof(saved); at += 4) {
		for (size_t w = 0; w < ARRAY_SIZE(words); w++) {
			uint8_t bytes[sizeof(saved)];
			memcpy(bytes, saved, sizeof(bytes));
			memcpy(bytes + at, &words[w], 4);
			// Half of them with a digest that fits, or the checks behind it are never met.
			uint64_t record_size;
			memcpy(&record_size, bytes + 64 + 8, 8);
			if (at >= 64 && record_size > 64 && record_size <= sizeof(bytes)) {
				struct digest digest = digest_bytes(bytes + 64, record_size - 64);
				memcpy(bytes + 16, digest.bytes, 16);
			}
			succeed(process_memory_write(victim.process, address, bytes,
						     sizeof(bytes)));
			struct live_status *status;
			succeed(live_status_read(victim.process, &status));
			seen += status->patches.count > 0;
			live_status_free(status);
		}
	}
	assert_true(seen > 0);
	succeed(process_memory_write(victim.process, address, saved, sizeof(saved)));
	assert_true(victim_revert(&victim, "live-unit"));
	assert_string_equal(victim_ask(&victim, "5"), "6");
	victim_end(&victim);
}

/* Truncations, and a copy of the record elsewhere, which is none. */
static void test_record_is_its_address(void **state)
{
	(void)state;
	static const char source[] =
		"#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <sys/mman.h>\n"
		"__attribute__((noinline)) long first(long a) {\n"
		"#ifdef NEW\n	return a + 2;\n#else\n	return a + 1;\n#endif\n}\n"
		"int main(void) { char line[256]; puts(\"ready\"); fflush(stdout);\n"
		"	while (fgets(line, sizeof line, stdin)) {\n"
		"		char *from = (char *)strtoul(line, 0, 16);\n"
		"		if (from) { char *to = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);\n"
		"			memcpy(to, from, 4096); mprotect(to, 4096, PROT_READ); }\n"
		"		printf(\"%ld\\n\", first(5)); fflush(stdout); } }\n";
	struct recipe recipe = {.source = source, .flags = "-O2"};
	struct victim victim;
	victim_build(&victim, &recipe);
	victim_start(&victim);
	victim_apply(&victim);
	uint64_t size, address = record_address(&victim, &size);
	char line[32];
	snprintf(line, sizeof(line), "%lx", (unsigned long)address);
	assert_string_equal(victim_ask(&victim, line), "7");
	assert_int_equal(record_address(&victim, &size), address);
	victim_end(&victim);
}

/* ---- killed after the n-th system call ------------------------------------------------------- */

enum what { APPLY, REVERT };

/* Run apply or revert in a child and kill it as it leaves its @limit-th system call: were there as many? */
static bool killed_after(struct victim *victim, enum what what, long limit)
{
	pid_t tool = fork();
	if (tool == 0) {
		struct process *process;
		struct live_outcome outcome = {0};
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		if (process_open(victim->pid, &process))
			_exit(90);
		struct error *error =
			what == APPLY
				? live_apply(process, victim->patch, &default_options, &outcome)
				: live_revert(process, "live-unit", &default_options, &outcome);
		if (error)
			fprintf(stderr, "%s\n", error->message);
		_exit(error ? 91 : 0);
	}
	int status;
	waitpid(tool, &status, 0);
	ptrace(PTRACE_SETOPTIONS, tool, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
	long stops = 0;
	int signal_number = 0;
	for (;;) {
		ptrace(PTRACE_SYSCALL, tool, 0, signal_number);
		if (waitpid(tool, &status, 0) != tool)
			fail_msg("waitpid: %s", strerror(errno));
		if (WIFEXITED(status)) {
			if (WEXITSTATUS(status))
				fail_msg("the tool failed by itself (%d), to be killed at %ld",
					 WEXITSTATUS(status), limit);
			return false;
		}
		signal_number = 0;
		if (!WIFSTOPPED(status))
			fail_msg("the tool died by itself");
		if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
			signal_number = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
			continue;
		}
		// Two stops for each call: on its way in and on its way out.
		if (++stops == 2 * limit) {
			kill(tool, SIGKILL);
			waitpid(tool, &status, 0);
			return true;
		}
	}
}

static void test_killed_after_each_call(void **state)
{
	(void)state;
	struct recipe recipe = {.source = SOURCE, .flags = "-O2 -pthread"};
	struct victim victim;
	victim_build(&victim, &recipe);
	victim_start(&victim);
	struct buffer before = victim_text(&victim);
	size_t maps = victim_maps(&victim);
	if (getenv("SUTURE_TEST_TALK"))
		run("cat /proc/%d/maps", victim.pid);
	// All of them with SUTURE_TEST_STEP=1; a prime so that runs of alike calls are met somewhere.
	const char *text = getenv("SUTURE_TEST_STEP");
	long step = text ? atol(text) : 13;
	for (int what = getenv("SUTURE_TEST_REVERT") ? REVERT : APPLY; what <= REVERT; what++) {
		long limit = 1, count = 0, new_answers = 0;
		for (;; limit += step) {
			if (what == REVERT)
				victim_apply(&victim);
			bool killed = killed_after(&victim, (enum what)what, limit);
			const char *answer = victim_ask(&victim, "5");
			if (!string_equal(answer, "6") && !string_equal(answer, "7"))
				fail_msg("the victim says '%s'", answer);
			new_answers += string_equal(answer, "7");
			count += killed;
			// Whoever comes next finds a way forward and a way back.
			victim_apply(&victim);
			assert_string_equal(victim_ask(&victim, "5"), "7");
			victim_revert(&victim, "live-unit");
			assert_string_equal(victim_ask(&victim, "5"), "6");
			if (!killed)
				break;
		}
		print_message(
			"%s: killed at %ld of about %ld calls, %ld times with the new code on\n",
			what == APPLY ? "apply" : "revert", count, limit, new_answers);
		assert_true(count > 5);
	}
	struct buffer after = victim_text(&victim);
	assert_memory_equal(before.bytes, after.bytes, before.size);
	// What was kept for a stale word goes at one of the next calls.
	for (int i = 0; i < 20 && victim_maps(&victim) != maps; i++) {
		victim_ask(&victim, "1");
		victim_apply(&victim);
		victim_revert(&victim, "live-unit");
	}
	struct live_status *status;
	succeed(live_status_read(victim.process, &status));
	for (size_t i = 0; i < status->patches.count; i++)
		print_message("left: %s at %#lx\n", live_state_word(status->patches.items[i].state),
			      (unsigned long)status->patches.items[i].base);
	live_status_free(status);
	if (getenv("SUTURE_TEST_TALK"))
		run("cat /proc/%d/maps", victim.pid);
	assert_int_equal(victim_maps(&victim), maps);
	buffer_deinit(&before);
	buffer_deinit(&after);
	victim_end(&victim);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hostile_record),
		cmocka_unit_test(test_record_is_its_address),
		cmocka_unit_test(test_killed_after_each_call),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
