/* SPDX-License-Identifier: MIT */
/*
 * Frames of stopped threads, at every instruction of real code; and who may still run what.
 */
#include "unwind/unwind.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "unwind/cfi.h"

static void succeed(struct error *error)
{
	if (error)
		fail_msg("%s", error->message);
}

static volatile int *flag;

#ifdef __clang__
#define KEEP __attribute__((noinline, used))
#else
#define KEEP __attribute__((noinline, noclone, used))
#endif

KEEP static int compare(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Through the PLT, callbacks, frames with and without a frame pointer, aligned stacks. */
KEEP static int work_leaf(int n)
{
	int numbers[8] = {5, 3, n, 9, 1, 7, 2, 8};
	char text[64];
	qsort(numbers, 8, sizeof(int), compare);
	snprintf(text, sizeof(text), "%d %s %f", numbers[3], "text", n * 0.5);
	return (int)strlen(text) + numbers[0];
}

KEEP static int work_middle(int n)
{
	_Alignas(64) volatile char area[128];
	volatile char *more = __builtin_alloca((size_t)n + 16); // wants a frame pointer
	area[n & 127] = 1;
	more[0] = area[5];
	return work_leaf(n) + more[0];
}

KEEP static int work_outer(int n)
{
	return n > 2 ? work_outer(n - 1) + 1 : work_middle(n) + work_leaf(n);
}

KEEP static void spin_inner(void)
{
	*flag = 1;
	for (;;)
		__asm__ volatile("");
}

KEEP static void spin_outer(void)
{
	spin_inner();
	__asm__ volatile("");
}

static void handler(int signal)
{
	(void)signal;
	spin_outer();
}

struct subject {
	struct process *process;
	struct process_space *space;
	struct process_stop *stop;
	struct unwind *unwind;
	pid_t pid;
};

static void subject_open(struct subject *subject, pid_t pid)
{
	subject->pid = pid;
	succeed(process_open(pid, &subject->process));
	succeed(process_space_read(subject->process, &subject->space));
	succeed(unwind_create(subject->process, subject->space, &subject->unwind));
	unwind_prepare(subject->unwind);
	subject->stop = NULL;
}

static void subject_stop(struct subject *subject)
{
	succeed(process_seize(subject->process, &subject->stop));
	succeed(process_stop_all(subject->stop, 1000000000));
	succeed(process_stop_read_stacks(subject->stop, subject->space));
}

static void subject_close(struct subject *subject)
{
	process_release(subject->stop);
	unwind_free(subject->unwind);
	process_space_free(subject->space);
	process_close(subject->process);
	kill(subject->pid, SIGKILL);
	waitpid(subject->pid, NULL, 0);
}

static pid_t child(void (*function)(void))
{
	*flag = 0;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		function();
		_exit(1);
	}
	while (!*flag)
		usleep(1000);
	return pid;
}

static bool trace_has(const struct unwind_trace *trace, const char *function)
{
	for (size_t i = 0; i < trace->frames.count; i++)
		if (trace->frames.items[i].function &&
		    string_equal(trace->frames.items[i].function, function))
			return true;
	return false;
}

/* ---- every instruction --------------------------------------------------------------------- */

static void test_every_instruction(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		work_outer(1); // lazy binding is another test's business
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		int sum = work_outer(4);
		_exit(sum > 0 ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	struct subject subject;
	subject_open(&subject, pid);
	static uint8_t stack[1 << 20];
	size_t steps = 0, inside = 0, incomplete = 0;
	struct unwind_trace trace;
	for (;; steps++) {
		struct process_thread thread = {.tid = pid, .tgid = pid, .stopped = true};
		if (ptrace(PTRACE_GETREGS, pid, NULL, &thread.registers) != 0)
			break;
		thread.stack_address = (thread.registers.rsp - 128) & ~(uint64_t)7;
		const struct process_map *map = process_map_at(subject.space, thread.registers.rsp);
		assert_non_null(map);
		thread.stack = stack;
		thread.stack_size = map->end - thread.stack_address;
		assert_true(thread.stack_size < sizeof(stack));
		succeed(process_memory_read(subject.process, thread.stack_address, stack,
					    thread.stack_size));
		thread.stack_whole = true;
		unwind_thread(subject.unwind, &thread, &trace);
		if (!trace.complete) {
			incomplete++;
			for (size_t i = 0; i < trace.frames.count && incomplete < 5; i++)
				print_message("  #%zu 0x%lx %s %s: %s\n", i,
					      (unsigned long)trace.frames.items[i].pc,
					      trace.frames.items[i].module ? trace.frames.items[i].module : "?",
					      trace.frames.items[i].function
						      ? trace.frames.items[i].function
						      : "?",
					      trace.reason);
		}
		inside += trace_has(&trace, "work_outer") && trace_has(&trace, "main");
		unwind_trace_deinit(&trace);
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) != 0 || waitpid(pid, &status, 0) != pid ||
		    !WIFSTOPPED(status))
			break;
	}
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	print_message("  %zu instructions, %zu of them inside\n", steps, inside);
	assert_true(steps > 2000);
	assert_int_equal(incomplete, 0);
	assert_true(inside > steps / 2);
	unwind_free(subject.unwind);
	process_space_free(subject.space);
	process_close(subject.process);
}

/* ---- handlers and stacks ------------------------------------------------------------------- */

static void run_plain(void)
{
	spin_outer();
}

static void run_handler(void)
{
	signal(SIGUSR1, handler);
	raise(SIGUSR1);
}

static void run_handler_elsewhere(void)
{
	stack_t stack = {.ss_size = 65536};
	stack.ss_sp = mmap(NULL, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	sigaltstack(&stack, NULL);
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	sigaction(SIGUSR1, &action, NULL);
	kill(getpid(), SIGUSR1);
}

static void check_trace(void (*function)(void), const char *caller)
{
	struct subject subject;
	subject_open(&subject, child(function));
	subject_stop(&subject);
	assert_int_equal(subject.stop->threads.count, 1);
	const struct process_thread *thread = &subject.stop->threads.items[0];
	assert_true(thread->stack_whole);
	struct unwind_trace trace;
	unwind_thread(subject.unwind, thread, &trace);
	if (!trace.complete)
		fail_msg("%zu frames: %s", trace.frames.count, trace.reason);
	assert_string_equal(trace.frames.items[0].function, "spin_inner");
	assert_string_equal(trace.frames.items[1].function, "spin_outer");
	assert_true(trace_has(&trace, caller));
	assert_true(trace_has(&trace, "main"));
	unwind_trace_deinit(&trace);

	// By what it is inside of: itself, its caller's caller, nothing.
	const struct unwind_range self = {(uintptr_t)spin_inner, (uintptr_t)spin_inner + 64};
	const struct unwind_range outside = {(uintptr_t)work_outer, (uintptr_t)work_outer + 16};
	assert_int_equal(unwind_thread_may_run(subject.unwind, thread, &self, 1, false, &trace),
			 UNWIND_INSIDE);
	assert_true(trace.complete);
	assert_true(unwind_trace_touches(&trace, self.start, self.end));
	assert_false(unwind_trace_touches(&trace, outside.start, outside.end));
	uint64_t pc = trace.frames.items[0].pc, back = trace.frames.items[1].pc;
	unwind_trace_deinit(&trace);
	assert_int_equal(unwind_thread_may_run(subject.unwind, thread, &outside, 1, false, NULL),
			 UNWIND_OUTSIDE);
	// A return address behind the last instruction is inside, an exact pc at the start is not.
	const struct unwind_range before = {back - 5, back}, after = {back, back + 5};
	assert_int_equal(unwind_thread_may_run(subject.unwind, thread, &before, 1, false, NULL),
			 UNWIND_INSIDE);
	assert_int_equal(unwind_thread_may_run(subject.unwind, thread, &after, 1, false, NULL),
			 UNWIND_OUTSIDE);
	const struct unwind_range at = {pc, pc + 1};
	assert_int_equal(unwind_thread_may_run(subject.unwind, thread, &at, 1, false, NULL),
			 UNWIND_OUTSIDE);
	assert_int_equal(unwind_thread_may_run(subject.unwind, thread, &at, 1, true, NULL),
			 UNWIND_INSIDE);
	// A stack that could not be read whole proves nothing by its words, but its frames may.
	struct process_thread part = *thread;
	part.stack_whole = false;
	assert_int_equal(unwind_thread_may_run(subject.unwind, &part, &outside, 1, false, NULL),
			 UNWIND_OUTSIDE);
	part.registers.rsp = 16;
	part.registers.rbp = 16;
	assert_int_equal(unwind_thread_may_run(subject.unwind, &part, &outside, 1, false, NULL),
			 UNWIND_UNKNOWN);
	subject_close(&subject);
}

static void test_plain(void **state)
{
	(void)state;
	check_trace(run_plain, "run_plain");
}

static void test_signal_handler(void **state)
{
	(void)state;
	check_trace(run_handler, "handler");
	check_trace(run_handler_elsewhere, "handler");
}

/* Words that only look like return addresses are seen by the scan and cleared by the frames. */
KEEP static void spin_with_word(void)
{
	// Not a variable: under AddressSanitizer these lie on a stack of its own.
	volatile uintptr_t *word = __builtin_alloca(sizeof(*word));
	*word = (uintptr_t)work_outer + 8;
	*flag = 1;
	for (;;)
		__asm__ volatile("" : : "r"(word) : "memory");
}

static void test_stale_word(void **state)
{
	(void)state;
	struct subject subject;
	subject_open(&subject, child(spin_with_word));
	subject_stop(&subject);
	const struct process_thread *thread = &subject.stop->threads.items[0];
	const struct unwind_range range = {(uintptr_t)work_outer, (uintptr_t)work_outer + 16};
	struct unwind_trace trace;
	assert_int_equal(unwind_thread_may_run(subject.unwind, thread, &range, 1, false, &trace),
			 UNWIND_OUTSIDE);
	assert_true(trace.frames.count > 0); // it did have to look
	unwind_trace_deinit(&trace);
	subject_close(&subject);
}

/* ---- code of nobody's module --------------------------------------------------------------- */

/* sub $24, %rsp; movl $1, (%rdi); jmp . */
static const uint8_t foreign_code[] = {0x48, 0x83, 0xec, 0x18, 0xc7, 0x07, 1, 0, 0, 0, 0xeb, 0xfe};
static uint8_t *foreign;

static void run_foreign(void)
{
	((void (*)(volatile int *))(uintptr_t)foreign)(flag);
	__asm__ volatile("");
}

static void test_added_code(void **state)
{
	(void)state;
	foreign = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_true(foreign != MAP_FAILED);
	memcpy(foreign, foreign_code, sizeof(foreign_code));
	// A CIE and an FDE by hand, as a patch's .eh_frame would be for its place.
	uint8_t frames[64] = {
		20, 0, 0, 0, 0, 0, 0, 0, 1, 'z', 'R', 0, 1, 0x78, 16, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0, 0,
		20, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, sizeof(foreign_code), 0, 0, 0, 0,
		0x44, 0x0e, 32, 0, 0, 0, 0, 0, 0, 0, 0};
	uint64_t at = (uintptr_t)foreign + 1024;
	int32_t start = (int32_t)((uintptr_t)foreign - (at + 32));
	memcpy(frames + 32, &start, 4);
	struct subject subject;
	subject_open(&subject, child(run_foreign));
	subject_stop(&subject);
	const struct process_thread *thread = &subject.stop->threads.items[0];
	const struct unwind_range range = {(uintptr_t)foreign, (uintptr_t)foreign + 12};
	struct unwind_trace trace;
	unwind_thread(subject.unwind, thread, &trace);
	assert_false(trace.complete);
	assert_non_null(trace.reason);
	unwind_trace_deinit(&trace);
	assert_int_equal(unwind_thread_may_run(subject.unwind, thread, &range, 1, false, NULL),
			 UNWIND_INSIDE);
	succeed(unwind_code_add(subject.unwind, "a patch", (uintptr_t)foreign, (uintptr_t)foreign + 12,
				frames, sizeof(frames), at));
	unwind_name_add(subject.unwind, (uintptr_t)foreign, (uintptr_t)foreign + 12, "new_code");
	unwind_thread(subject.unwind, thread, &trace);
	if (!trace.complete)
		fail_msg("%s", trace.reason);
	assert_string_equal(trace.frames.items[0].module, "a patch");
	assert_string_equal(trace.frames.items[0].function, "new_code");
	assert_string_equal(trace.frames.items[1].function, "run_foreign");
	unwind_trace_deinit(&trace);
	subject_close(&subject);
	munmap(foreign, 4096);
}

/* ---- hostile tables ------------------------------------------------------------------------ */

static bool read_nothing(void *context, uint64_t address, size_t size, uint64_t *ret)
{
	(void)context, (void)size;
	*ret = address * 3;
	return address & 8;
}

static void test_mutated_cfi(void **state)
{
	(void)state;
	_cleanup_process_ struct process *process = NULL;
	_cleanup_process_space_ struct process_space *space = NULL;
	succeed(process_open(getpid(), &process));
	succeed(process_space_read(process, &space));
	const struct process_module *main_module = NULL;
	for (size_t i = 0; i < space->modules.count; i++)
		if (space->modules.items[i].main)
			main_module = &space->modules.items[i];
	assert_non_null(main_module);
	_cleanup_free_ char *path = NULL;
	_cleanup_image_ struct image *image = NULL;
	succeed(process_module_file(process, main_module, &path));
	succeed(image_open(path, NULL, &image));
	const uint8_t *original = image_bytes(image, image->eh_frame, image->eh_frame_size);
	assert_non_null(original);
	srandom(1);
	size_t steps = 0;
	for (int round = 0; round < 2000; round++) {
		// On the heap and of the exact size, so that a sanitizer sees each byte too many.
		size_t size = image->eh_frame_size - (size_t)random() % 64;
		uint8_t *bytes = xmemdup(original, size);
		for (int i = 0; i < 1 + round % 64; i++)
			bytes[(size_t)random() % size] = (uint8_t)random();
		struct cfi_section section;
		cfi_section_init(&section, bytes, size, 0x1000, NULL, 0, 0);
		for (size_t i = 0; i < 20 && section.index.count; i++) {
			uint64_t pc = section.index.items[(size_t)random() % section.index.count].start +
				      (uint64_t)(random() % 32);
			struct cfi_entry entry;
			struct cfi_registers registers = {.known = 0x1ffff};
			uint64_t cfa;
			if (!cfi_entry_at(&section, pc, &entry))
				continue;
			steps += cfi_step(&section, &entry, pc, &registers, read_nothing, NULL, &cfa) ==
				 CFI_STEP_OK;
		}
		cfi_section_deinit(&section);
		free(bytes);
	}
	assert_true(steps > 100); // most of it still means something
}

int main(void)
{
	flag = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_instruction),
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_signal_handler),
		cmocka_unit_test(test_stale_word),
		cmocka_unit_test(test_added_code),
		cmocka_unit_test(test_mutated_cfi),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
