/* SPDX-License-Identifier: MIT */
/* Stops: of everybody, also of those who are born, die, fork, run programs or are stopped meanwhile. */
#include "process/process.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void succeed(struct error *error)
{
	if (error)
		fail_msg("%s", error->message);
}

/* Shared with the targets. */
static struct {
	volatile uint64_t count; /* every thread of a target counts */
	volatile uint64_t ready;
	volatile uint64_t handled;
} *shared;

static void count_for_ever(void)
{
	for (;;)
		__atomic_fetch_add(&shared->count, 1, __ATOMIC_RELAXED);
}

static void count_for(unsigned long times)
{
	while (times--)
		__atomic_fetch_add(&shared->count, 1, __ATOMIC_RELAXED);
}

static pid_t target_start(void (*function)(void))
{
	shared->count = shared->ready = shared->handled = 0;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		function();
		_exit(0);
	}
	while (!shared->ready && shared->count < 1000)
		usleep(500);
	return pid;
}

static void target_end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, __WALL);
}

static char task_state(pid_t pid, pid_t tid)
{
	char path[64], text[512] = "";
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	FILE *file = fopen(path, "r");
	if (!file)
		return '-';
	size_t size = fread(text, 1, sizeof(text) - 1, file);
	text[size] = '\0';
	fclose(file);
	char *end = strrchr(text, ')');
	return end ? end[2] : '?';
}

/* On a busy machine it takes its time. */
static void wait_for_count(uint64_t before)
{
	for (int i = 0; i < 10000 && shared->count == before; i++)
		usleep(1000);
	assert_true(shared->count > before);
}

/* Stop @rounds times: in none of them may anybody count, after each somebody must. */
static void check_stops(pid_t pid, int rounds, size_t at_least)
{
	struct process *process;
	struct process_space *space;
	struct process_stop *stop;
	succeed(process_open(pid, &process));
	succeed(process_seize(process, &stop));
	for (int i = 0; i < rounds; i++) {
		succeed(process_stop_all(stop, 1000000000));
		uint64_t before = shared->count;
		assert_true(stop->threads.count >= at_least);
		succeed(process_space_read(process, &space));
		succeed(process_stop_read_stacks(stop, space));
		for (size_t t = 0; t < stop->threads.count; t++) {
			const struct process_thread *thread = &stop->threads.items[t];
			assert_true(thread->stopped || thread->waiting);
			if (!thread->stack_whole)
				fail_msg("the stack of %s is not whole", process_thread_describe(stop, thread));
			assert_true(thread->stack_size >= 128);
			assert_true(thread->registers.rsp - 128 - thread->stack_address < 8);
		}
		process_space_free(space);
		usleep(2000);
		assert_int_equal(shared->count, before);
		process_resume_all(stop);
		wait_for_count(before);
	}
	process_release(stop);
	assert_int_equal(process_tracer(process), 0);
	process_close(process);
}

/* ---- threads ------------------------------------------------------------------------------- */

static void *thread_count(void *argument)
{
	(void)argument;
	count_for_ever();
	return NULL;
}

static void run_threads(void)
{
	pthread_t thread;
	for (int i = 0; i < 20; i++)
		pthread_create(&thread, NULL, thread_count, NULL);
	shared->ready = 1;
	count_for_ever();
}

static void test_threads(void **state)
{
	(void)state;
	pid_t pid = target_start(run_threads);
	check_stops(pid, 50, 21);
	target_end(pid);
}

static void *thread_brief(void *argument)
{
	(void)argument;
	count_for(2000);
	return NULL;
}

static void *thread_maker(void *argument)
{
	for (;;) {
		pthread_t threads[8];
		for (size_t i = 0; i < 8; i++)
			pthread_create(&threads[i], NULL, thread_brief, argument);
		for (size_t i = 0; i < 8; i++)
			pthread_join(threads[i], NULL);
	}
	return NULL;
}

static void run_thread_storm(void)
{
	pthread_t thread;
	for (int i = 0; i < 4; i++)
		pthread_create(&thread, NULL, thread_maker, NULL);
	shared->ready = 1;
	thread_maker(NULL);
}

static void test_thread_storm(void **state)
{
	(void)state;
	pid_t pid = target_start(run_thread_storm);
	check_stops(pid, 200, 5);
	target_end(pid);
}

/* The leader is gone, the others run on. */
static void run_leaderless(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, thread_count, NULL);
	shared->ready = 1;
	pthread_exit(NULL);
}

static void test_leaderless(void **state)
{
	(void)state;
	pid_t pid = target_start(run_leaderless);
	usleep(20000);
	struct process *process = NULL;
	struct error *error = process_open(pid, &process);
	// Its /proc/PID/exe and mem are those of the dead leader: refused, and said so.
	assert_non_null(error);
	error_free(error);
	target_end(pid);
}

/* ---- other processes in the same memory ---------------------------------------------------- */

static void *thread_spawner(void *argument)
{
	(void)argument;
	for (;;) {
		pid_t pid;
		char *arguments[] = {"true", NULL}, *environment[] = {NULL};
		if (posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environment) == 0)
			waitpid(pid, NULL, 0);
		count_for(100);
	}
	return NULL;
}

static void run_spawner(void)
{
	pthread_t thread;
	pthread_create(&thread, NULL, thread_spawner, NULL);
	shared->ready = 1;
	count_for_ever();
}

static void test_spawn_storm(void **state)
{
	(void)state;
	pid_t pid = target_start(run_spawner);
	struct process *process;
	struct process_stop *stop;
	succeed(process_open(pid, &process));
	succeed(process_seize(process, &stop));
	size_t waiting = 0, others = 0;
	for (int i = 0; i < 200; i++) {
		succeed(process_stop_all(stop, 1000000000));
		uint64_t before = shared->count;
		for (size_t t = 0; t < stop->threads.count; t++) {
			waiting += stop->threads.items[t].waiting;
			others += stop->threads.items[t].tgid != pid;
		}
		usleep(500);
		assert_int_equal(shared->count, before);
		process_resume_all(stop);
		usleep((useconds_t)random() % 500);
	}
	print_message("  %zu times in vfork, %zu times its child\n", waiting, others);
	assert_true(waiting <= others);
	process_release(stop);
	uint64_t before = shared->count;
	wait_for_count(before);
	process_close(process);
	target_end(pid);
}

/* A child that stays in the parent's memory: the parent's thread cannot stop, and need not. */
static volatile bool child_goes;

static void *thread_vfork(void *argument)
{
	(void)argument;
	pid_t pid = vfork();
	if (pid == 0) {
		shared->ready = 1;
		while (!child_goes)
			__atomic_fetch_add(&shared->count, 1, __ATOMIC_RELAXED);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	shared->handled = 1;
	count_for_ever();
	return NULL;
}

static void run_vfork(void)
{
	pthread_t thread;
	child_goes = false;
	pthread_create(&thread, NULL, thread_vfork, NULL);
	for (int i = 0; i < 1000; i++)
		usleep(1000);
	child_goes = true;
	for (;;)
		pause();
}

static void test_vfork(void **state)
{
	(void)state;
	pid_t pid = target_start(run_vfork);
	struct process *process;
	struct process_stop *stop;
	struct process_space *space;
	succeed(process_open(pid, &process));
	succeed(process_space_read(process, &space));
	succeed(process_seize(process, &stop));
	for (int i = 0; i < 5; i++) {
		succeed(process_stop_all(stop, 50000000));
		uint64_t before = shared->count;
		succeed(process_stop_read_stacks(stop, space));
		assert_int_equal(stop->threads.count, 3);
		size_t waiting = 0, others = 0;
		for (size_t t = 0; t < 3; t++) {
			const struct process_thread *thread = &stop->threads.items[t];
			waiting += thread->waiting;
			others += thread->tgid != pid;
			assert_true(thread->stack_whole);
			assert_int_not_equal(thread->registers.rip, 0);
		}
		assert_int_equal(waiting, 1);
		assert_int_equal(others, 1);
		usleep(2000);
		assert_int_equal(shared->count, before);
		process_resume_all(stop);
		assert_true(stop->resumed_at - stop->seized_at < 50000000);
	}
	process_release(stop);
	// The interrupt that waits for the thread in vfork() takes effect when its child is gone; any
	// later call lets it go on.
	for (int i = 0; i < 3000 && !shared->handled; i++) {
		usleep(1000);
		if (i % 100 == 0) {
			succeed(process_seize(process, &stop));
			process_release(stop);
		}
	}
	assert_int_equal(shared->handled, 1);
	process_space_free(space);
	process_close(process);
	target_end(pid);
}

static int clone_count(void *argument)
{
	(void)argument;
	count_for_ever();
	return 0;
}

static void run_clone_vm(void)
{
	static char stack[65536];
	clone(clone_count, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL);
	shared->ready = 1;
	count_for_ever();
}

static void test_clone_vm(void **state)
{
	(void)state;
	pid_t pid = target_start(run_clone_vm);
	struct process *process;
	struct process_stop *stop;
	succeed(process_open(pid, &process));
	succeed(process_seize(process, &stop));
	succeed(process_stop_all(stop, 0));
	assert_int_equal(stop->threads.count, 2);
	pid_t other = stop->threads.items[0].tid == pid ? stop->threads.items[1].tid
							: stop->threads.items[0].tid;
	uint64_t before = shared->count;
	usleep(5000);
	assert_int_equal(shared->count, before);
	process_release(stop);
	process_close(process);
	kill(other, SIGKILL);
	target_end(pid);
}

/* ---- signals and states -------------------------------------------------------------------- */

static void test_stopped_target(void **state)
{
	(void)state;
	pid_t pid = target_start(run_threads);
	kill(pid, SIGSTOP);
	while (task_state(pid, pid) != 'T')
		usleep(500);
	struct process *process;
	struct process_stop *stop;
	succeed(process_open(pid, &process));
	succeed(process_seize(process, &stop));
	uint64_t before = shared->count;
	for (int i = 0; i < 5; i++) {
		int64_t result;
		succeed(process_stop_all(stop, 0));
		succeed(process_system_call(stop, SYS_getpid, (uint64_t[6]){0}, &result));
		assert_int_equal(result, pid);
		process_resume_all(stop);
		usleep(2000);
		assert_int_equal(task_state(pid, pid), 'T');
	}
	process_release(stop);
	assert_int_equal(shared->count, before);
	kill(pid, SIGCONT);
	wait_for_count(before);
	process_close(process);
	target_end(pid);
}

static void on_signal(int signal)
{
	(void)signal;
	shared->handled++;
}

static void run_signals(void)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
	sigaction(SIGRTMIN, &action, NULL);
	shared->ready = 1;
	count_for_ever();
}

/* Real-time signals are counted, so none may be lost or doubled. */
static void test_signals_pass(void **state)
{
	(void)state;
	pid_t pid = target_start(run_signals);
	struct process *process;
	struct process_stop *stop;
	succeed(process_open(pid, &process));
	succeed(process_seize(process, &stop));
	uint64_t sent = 0;
	for (int i = 0; i < 200; i++) {
		sent += kill(pid, SIGRTMIN) == 0;
		succeed(process_stop_all(stop, 1000000000));
		sent += kill(pid, SIGRTMIN) == 0;
		int64_t result;
		if (i % 2)
			succeed(process_system_call(stop, SYS_getpid, (uint64_t[6]){0}, &result));
		process_resume_all(stop);
	}
	process_release(stop);
	for (int i = 0; i < 1000 && shared->handled < sent; i++)
		usleep(1000);
	assert_int_equal(shared->handled, sent);
	process_close(process);
	target_end(pid);
}

static void test_traced(void **state)
{
	(void)state;
	pid_t pid = target_start(run_threads), tracer = fork();
	if (tracer == 0) {
		ptrace(PTRACE_SEIZE, pid, NULL, NULL);
		for (;;)
			pause();
	}
	struct process *process;
	struct process_stop *stop;
	succeed(process_open(pid, &process));
	while (!process_tracer(process))
		usleep(500);
	assert_int_equal(process_tracer(process), tracer);
	struct error *error = process_seize(process, &stop);
	assert_non_null(error);
	assert_int_equal(error->kind, ERROR_KIND_CONFLICT);
	char name[32];
	snprintf(name, sizeof(name), "process %d", tracer);
	assert_non_null(strstr(error->message, name));
	error_free(error);
	uint64_t before = shared->count;
	wait_for_count(before);
	process_close(process);
	kill(tracer, SIGKILL);
	waitpid(tracer, NULL, 0);
	target_end(pid);
}

/* ---- ends ---------------------------------------------------------------------------------- */

static void run_ends(void)
{
	shared->ready = 1;
	count_for(20000000);
	_exit(3);
}

static void run_execs(void)
{
	shared->ready = 1;
	count_for(20000000);
	execl("/bin/sleep", "sleep", "100", NULL);
}

static void check_end(void (*function)(void), bool kill_it)
{
	pid_t pid = target_start(function);
	struct process *process;
	struct process_stop *stop;
	succeed(process_open(pid, &process));
	succeed(process_seize(process, &stop));
	struct error *error = NULL;
	uint64_t start = monotonic_ns();
	for (int i = 0; !error && monotonic_ns() - start < 20000000000; i++) {
		error = process_stop_all(stop, 1000000000);
		if (kill_it && !error && i == 3) {
			kill(pid, SIGKILL);
			int64_t result;
			error_free(process_system_call(stop, SYS_getpid, (uint64_t[6]){0}, &result));
		}
		if (!error)
			process_resume_all(stop);
	}
	assert_non_null(error);
	if (error->kind != ERROR_KIND_NOT_FOUND)
		fail_msg("%s", error->message);
	error_free(error);
	process_release(stop);
	process_close(process);
	target_end(pid);
}

static void test_ends(void **state)
{
	(void)state;
	check_end(run_ends, false);
	check_end(run_execs, false);
	check_end(run_threads, true);
}

/* All of what a stop finds is found again by one that the tool did not live to end. */
static void test_tool_dies(void **state)
{
	(void)state;
	pid_t pid = target_start(run_threads);
	for (int i = 0; i < 50; i++) {
		pid_t tool = fork();
		if (tool == 0) {
			struct process *process;
			struct process_stop *stop;
			if (process_open(pid, &process) || process_seize(process, &stop))
				_exit(1);
			for (;;) {
				if (process_stop_all(stop, 1000000000))
					_exit(2);
				process_resume_all(stop);
			}
		}
		usleep(3000 + (useconds_t)random() % 2000);
		kill(tool, SIGKILL);
		int status;
		waitpid(tool, &status, 0);
		assert_true(WIFSIGNALED(status));
	}
	check_stops(pid, 3, 21);
	target_end(pid);
}

int main(void)
{
	shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads),	       cmocka_unit_test(test_thread_storm),
		cmocka_unit_test(test_leaderless),     cmocka_unit_test(test_spawn_storm),
		cmocka_unit_test(test_vfork),	       cmocka_unit_test(test_clone_vm),
		cmocka_unit_test(test_stopped_target), cmocka_unit_test(test_signals_pass),
		cmocka_unit_test(test_traced),	       cmocka_unit_test(test_ends),
		cmocka_unit_test(test_tool_dies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
