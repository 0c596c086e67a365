/* SPDX-License-Identifier: MIT */
/*
 * Calls in a stopped thread. The heart of it: suture is killed at random instants of many calls, and
 * the target's registers, x87 and vector state, signal mask and system calls stay what they were.
 */
#include "process/process.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static void succeed(struct error *error)
{
	if (error)
		fail_msg("%s", error->message);
}

/* What a target tells us. */
struct report {
	volatile uint64_t rounds;      /* of the register check */
	volatile uint64_t mismatches;  /* rounds in which a register had changed */
	volatile char which[64];
	volatile uint64_t interrupted; /* EINTRs that its sleeper saw */
	volatile uint64_t sleeps;
	volatile uint64_t sleeper_in;  /* the sleeper has begun */
};

static struct report *report_create(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(memory != MAP_FAILED);
	return memory;
}

static bool has_avx512(void)
{
	return __builtin_cpu_supports("avx512f");
}

/* Fill all that a program can hold, run for about a millisecond, look whether it is still there. */
__attribute__((target("avx2"), noinline)) static void registers_check(struct report *report)
{
	static _Alignas(64) uint8_t pattern[32][64], found[32][64];
	static uint64_t general[8];
	static double x87[2];
	uint64_t spins = 200000;
	for (size_t i = 0; i < 32; i++)
		for (size_t b = 0; b < 64; b++)
			pattern[i][b] = (uint8_t)(i * 64 + b + report->rounds);
	uint32_t mxcsr = 0x3f80; // round down
	uint16_t cw = 0x77f;     // round down
	uint32_t mxcsr_after;
	uint16_t cw_after;
	if (has_avx512())
		__asm__ volatile("vmovdqu64 1024(%0), %%zmm16\n\tvmovdqu64 1984(%0), %%zmm31\n\t"
				 "vmovdqu64 0(%0), %%zmm0\n\tvmovdqu64 960(%0), %%zmm15\n\t"
				 "kmovw %k1, %%k3"
				 :
				 : "r"(pattern), "r"(0x5a5a)
				 : "memory");
	else
		__asm__ volatile("vmovdqu 0(%0), %%ymm0\n\tvmovdqu 960(%0), %%ymm15"
				 :
				 : "r"(pattern)
				 : "memory");
	__asm__ volatile("ldmxcsr %[mxcsr]\n\tfldcw %[cw]\n\tfldpi\n\tfld1\n\t"
			 "push %%rbp\n\tmovabs $0x1111111111111111, %%rbp\n\t"
			 "movabs $0x2222222222222222, %%r12\n\tmovabs $0x3333333333333333, %%r10\n\t"
			 "movabs $0x4444444444444444, %%r11\n\tmovabs $0x5555555555555555, %%r15\n\t"
			 // the red zone is ours
			 "movq $0x77, -128(%%rsp)\n\tmovq $0x78, -8(%%rsp)\n\tstd\n\t"
			 "1: decq %[spins]\n\tjnz 1b\n\t"
			 "pushfq\n\tpop %%rax\n\tcld\n\tpush -8+0(%%rsp)\n\tadd $8, %%rsp\n\t"
			 "mov %%rax, 56(%[general])\n\t"
			 "mov -128(%%rsp), %%rax\n\tmov %%rax, 48(%[general])\n\t"
			 "mov %%rbp, 0(%[general])\n\tmov %%r12, 8(%[general])\n\t"
			 "mov %%r10, 16(%[general])\n\tmov %%r11, 24(%[general])\n\t"
			 "mov %%r15, 32(%[general])\n\tpop %%rbp\n\t"
			 "fstpl 0(%[x87])\n\tfstpl 8(%[x87])\n\t"
			 "stmxcsr %[mxcsr_after]\n\tfnstcw %[cw_after]"
			 : [spins] "+r"(spins), [mxcsr_after] "=m"(mxcsr_after), [cw_after] "=m"(cw_after)
			 : [mxcsr] "m"(mxcsr), [cw] "m"(cw), [general] "r"(general), [x87] "r"(x87)
			 : "rax", "r10", "r11", "r12", "r15", "memory", "cc");
	uint32_t mask = 0x5a5a;
	if (has_avx512())
		__asm__ volatile("vmovdqu64 %%zmm16, 1024(%1)\n\tvmovdqu64 %%zmm31, 1984(%1)\n\t"
				 "vmovdqu64 %%zmm0, 0(%1)\n\tvmovdqu64 %%zmm15, 960(%1)\n\t"
				 "kmovw %%k3, %k0"
				 : "=r"(mask)
				 : "r"(found)
				 : "memory");
	else
		__asm__ volatile("vmovdqu %%ymm0, 0(%0)\n\tvmovdqu %%ymm15, 960(%0)"
				 :
				 : "r"(found)
				 : "memory");
	uint32_t usual = 0x1f80;
	__asm__ volatile("ldmxcsr %0\n\tfninit" : : "m"(usual));

	size_t width = has_avx512() ? 64 : 32;
	const char *which = NULL;
	if (memcmp(found[0], pattern[0], width) || memcmp(found[15], pattern[15], width))
		which = "zmm0, zmm15";
	else if (has_avx512() && (memcmp(found[16], pattern[16], 64) || memcmp(found[31], pattern[31], 64)))
		which = "zmm16, zmm31";
	else if (mask != 0x5a5a)
		which = "k3";
	else if (general[0] != 0x1111111111111111 || general[1] != 0x2222222222222222 ||
		 general[2] != 0x3333333333333333 || general[3] != 0x4444444444444444 ||
		 general[4] != 0x5555555555555555)
		which = "general";
	else if (general[6] != 0x77)
		which = "red zone";
	else if (!(general[7] & 0x400))
		which = "flags";
	else if (x87[0] != 1.0 || x87[1] < 3.14159 || x87[1] > 3.1416)
		which = "x87";
	else if ((mxcsr_after & 0xffc0) != 0x3f80 || (cw_after & 0xf3f) != (cw & 0xf3f))
		which = "control words";
	sigset_t now;
	pthread_sigmask(SIG_SETMASK, NULL, &now);
	if (!sigismember(&now, SIGUSR2) || sigismember(&now, SIGUSR1) || sigismember(&now, SIGTERM))
		which = "signal mask";
	if (which) {
		report->mismatches++;
		strcpy((char *)report->which, which);
	}
	report->rounds++;
}

static void *sleeper(void *argument)
{
	struct report *report = argument;
	int fd = epoll_create1(0);
	struct epoll_event event;
	report->sleeper_in = 1;
	for (;;) {
		if (epoll_wait(fd, &event, 1, 50) < 0 && errno == EINTR)
			report->interrupted++;
		report->sleeps++;
	}
	return NULL;
}

/* A program with a thread that computes and, if @sleep, one that sleeps. */
static pid_t target_start(struct report *report, bool sleep)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sigset_t mask;
		sigemptyset(&mask);
		sigaddset(&mask, SIGUSR2);
		sigprocmask(SIG_SETMASK, &mask, NULL);
		pthread_t thread;
		if (sleep)
			pthread_create(&thread, NULL, sleeper, report);
		for (;;)
			registers_check(report);
	}
	while (report->rounds < 2 || (sleep && !report->sleeper_in))
		usleep(1000);
	return pid;
}

/* On a busy machine it takes its time. */
static void wait_for_rounds(const struct report *report, uint64_t rounds)
{
	for (int i = 0; i < 10000 && report->rounds < rounds; i++)
		usleep(1000);
	assert_true(report->rounds >= rounds);
}

static void target_end(pid_t pid)
{
	assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static uint64_t map_code(struct process *process, struct process_stop *stop, const void *bytes,
			 size_t size)
{
	int64_t result;
	succeed(process_system_call(stop, SYS_mmap,
				    (uint64_t[6]){0, 4096, PROT_READ | PROT_EXEC,
						  MAP_PRIVATE | MAP_ANONYMOUS, (uint64_t)-1, 0},
				    &result));
	assert_true(result > 0);
	succeed(process_memory_write(process, (uint64_t)result, bytes, size));
	return (uint64_t)result;
}

static void test_system_call(void **state)
{
	(void)state;
	struct report *report = report_create();
	pid_t pid = target_start(report, true);
	struct process *process;
	struct process_stop *stop;
	succeed(process_open(pid, &process));
	succeed(process_seize(process, &stop));
	for (int i = 0; i < 50; i++) {
		int64_t result;
		succeed(process_stop_all(stop, 1000000000));
		succeed(process_system_call(stop, SYS_getpid, (uint64_t[6]){0}, &result));
		assert_int_equal(result, pid);
		succeed(process_system_call(stop, SYS_close, (uint64_t[6]){9999}, &result));
		assert_int_equal(result, -EBADF);
		process_resume_all(stop);
		usleep(500);
	}
	process_release(stop);
	uint64_t rounds = report->rounds;
	wait_for_rounds(report, rounds + 1);
	if (report->mismatches)
		fail_msg("%lu rounds with changed %s", (unsigned long)report->mismatches,
			 (const char *)report->which);
	assert_int_equal(report->interrupted, 0);
	process_close(process);
	target_end(pid);
}

static void test_call(void **state)
{
	(void)state;
	struct report *report = report_create();
	pid_t pid = target_start(report, false);
	struct process *process;
	struct process_stop *stop;
	succeed(process_open(pid, &process));
	succeed(process_seize(process, &stop));
	succeed(process_stop_all(stop, 1000000000));
	// lea (%rdi,%rsi), %rax; add %rdx, %rax; pxor and clear what a function may clobber; ret
	static const uint8_t sum[] = {0x48, 0x8d, 0x04, 0x37, 0x48, 0x01, 0xd0, 0x66, 0x0f,
				      0xef, 0xc0, 0xc5, 0xf8, 0x77, 0xdb, 0xe3, 0xc3};
	uint64_t code = map_code(process, stop, sum, sizeof(sum)), value = 0;
	for (uint64_t i = 0; i < 20; i++) {
		succeed(process_call(stop, code, (uint64_t[6]){0x123400000000, 20, i}, 1000000000, &value));
		assert_int_equal(value, 0x123400000014 + i);
		process_resume_all(stop);
		usleep(500);
		succeed(process_stop_all(stop, 1000000000));
	}
	// sub $0, %rsp with an aligned store: sp is as the psABI wants it
	static const uint8_t aligned[] = {0x0f, 0x29, 0x44, 0x24, 0xe8, 0x31, 0xc0, 0xc3};
	succeed(process_memory_write(process, code, aligned, sizeof(aligned)));
	succeed(process_call(stop, code, (uint64_t[6]){0}, 1000000000, &value));
	assert_int_equal(value, 0);
	// jmp .
	succeed(process_memory_write(process, code, "\xeb\xfe", 2));
	struct error *error = process_call(stop, code, (uint64_t[6]){0}, 2000000, &value);
	assert_non_null(error);
	assert_int_equal(error->kind, ERROR_KIND_BUSY);
	error_free(error);
	// ud2
	succeed(process_memory_write(process, code, "\x0f\x0b", 2));
	error = process_call(stop, code, (uint64_t[6]){0}, 1000000000, &value);
	assert_non_null(error);
	error_free(error);
	process_release(stop);
	uint64_t rounds = report->rounds;
	wait_for_rounds(report, rounds + 3);
	if (report->mismatches)
		fail_msg("%lu rounds with changed %s", (unsigned long)report->mismatches,
			 (const char *)report->which);
	process_close(process);
	target_end(pid);
}

/* What the tool that will be killed does for ever. */
static _Noreturn void tool(pid_t pid, bool functions)
{
	struct process *process;
	struct process_stop *stop;
	static const uint8_t work[] = {0xb8, 0x27, 0, 0, 0, 0x0f, 0x05,       // getpid
				       0xc5, 0xfc, 0x77, 0xdb, 0xe3,          // vzeroall, fninit
				       0xc3};
	struct error *error = process_open(pid, &process);
	if (!error)
		error = process_seize(process, &stop);
	uint64_t code = 0;
	for (;;) {
		int64_t result;
		uint64_t value;
		if (!error)
			error = process_stop_all(stop, 1000000000);
		if (!error && functions && !code) {
			error = process_system_call(stop, SYS_mmap,
						    (uint64_t[6]){0, 4096, PROT_READ | PROT_EXEC,
								  MAP_PRIVATE | MAP_ANONYMOUS,
								  (uint64_t)-1, 0},
						    &result);
			code = (uint64_t)result;
			if (!error)
				error = process_memory_write(process, code, work, sizeof(work));
		}
		for (int i = 0; i < 3 && !error; i++)
			error = functions ? process_call(stop, code, (uint64_t[6]){0}, 1000000000, &value)
					  : process_system_call(stop, SYS_getpid, (uint64_t[6]){0},
								&result);
		if (error) {
			fprintf(stderr, "tool: %s\n", error->message);
			_exit(1);
		}
		process_resume_all(stop);
	}
}

/*
 * @allowed: between the kernel's answer EINTR and the registers that issue the call again lie some
 * microseconds, in which a kill leaves the EINTR for the sleeper to see.
 */
static void kill_tool(bool functions, bool sleep, int times, uint64_t allowed)
{
	struct report *report = report_create();
	pid_t pid = target_start(report, sleep);
	srandom(4711);
	int killed = 0;
	for (int i = 0; i < times; i++) {
		pid_t tool_pid = fork();
		if (tool_pid == 0)
			tool(pid, functions);
		// Past its start, then anywhere.
		struct timespec wait = {0, 2500000 + random() % 3000000};
		nanosleep(&wait, NULL);
		kill(tool_pid, SIGKILL);
		int status;
		waitpid(tool_pid, &status, 0);
		killed += WIFSIGNALED(status);
		uint64_t rounds = report->rounds, sleeps = report->sleeps;
		for (int k = 0; k < 10000 && (report->rounds < rounds + 2 ||
					     (sleep && report->sleeps < sleeps + 1));
		     k++)
			usleep(1000);
		if (report->rounds < rounds + 2)
			fail_msg("the target stands still after kill %d", i);
		if (sleep && report->sleeps < sleeps + 1)
			fail_msg("the sleeper does not wake after kill %d", i);
	}
	assert_int_equal(killed, times);
	if (report->mismatches)
		fail_msg("%lu rounds with changed %s", (unsigned long)report->mismatches,
			 (const char *)report->which);
	assert_in_range(report->interrupted, 0, allowed);
	target_end(pid);
}

static void test_kill_in_system_call(void **state)
{
	(void)state;
	kill_tool(false, false, 100, 0);
}

static void test_kill_in_function(void **state)
{
	(void)state;
	kill_tool(true, false, 100, 0);
}

static void test_kill_with_sleeper(void **state)
{
	(void)state;
	kill_tool(false, true, 50, 10);
}

/* Only a thread in nanosleep(): it is chosen, as there is no other, and while we live it sees nothing. */
static void test_restart_block(void **state)
{
	(void)state;
	struct report *report = report_create();
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			struct timespec time = {0, 300000000};
			report->rounds++;
			if (nanosleep(&time, NULL) != 0)
				report->interrupted++;
			report->sleeps++;
		}
	}
	while (!report->rounds)
		usleep(1000);
	usleep(20000);
	struct process *process;
	struct process_stop *stop;
	succeed(process_open(pid, &process));
	succeed(process_seize(process, &stop));
	uint64_t start = monotonic_ns(), sleeps = report->sleeps;
	for (int i = 0; i < 10; i++) {
		int64_t result;
		succeed(process_stop_all(stop, 1000000000));
		assert_true(stop->threads.items[0].restart_block);
		succeed(process_system_call(stop, SYS_getpid, (uint64_t[6]){0}, &result));
		assert_int_equal(result, pid);
		process_resume_all(stop);
	}
	while (report->sleeps == sleeps)
		usleep(1000);
	assert_true(monotonic_ns() - start < 400000000);
	assert_int_equal(report->interrupted, 0);
	process_release(stop);
	process_close(process);
	target_end(pid);
}

static void test_seccomp(void **state)
{
	(void)state;
	struct report *report = report_create();
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
		struct sock_filter code[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog program = {ARRAY_SIZE(code), code};
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
			_exit(1);
		for (;;)
			report->rounds++;
	}
	while (!report->rounds)
		usleep(1000);
	struct process *process;
	struct process_stop *stop;
	succeed(process_open(pid, &process));
	succeed(process_seize(process, &stop));
	succeed(process_stop_all(stop, 1000000000));
	int64_t result;
	succeed(process_system_call(stop, SYS_getpid, (uint64_t[6]){0}, &result));
	assert_int_equal(result, pid);
	struct error *error = process_system_call(stop, SYS_mmap, (uint64_t[6]){0, 4096}, &result);
	assert_non_null(error);
	assert_int_equal(error->kind, ERROR_KIND_UNSUPPORTED);
	assert_non_null(strstr(error->message, "mmap"));
	error_free(error);
	process_release(stop);
	uint64_t rounds = report->rounds;
	wait_for_rounds(report, rounds + 1);
	process_close(process);
	target_end(pid);
}

int main(void)
{
	if (!__builtin_cpu_supports("avx2")) {
		fprintf(stderr, "skipped: the CPU has no AVX2\n");
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_system_call),
		cmocka_unit_test(test_call),
		cmocka_unit_test(test_restart_block),
		cmocka_unit_test(test_seccomp),
		cmocka_unit_test(test_kill_in_system_call),
		cmocka_unit_test(test_kill_in_function),
		cmocka_unit_test(test_kill_with_sleeper),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
