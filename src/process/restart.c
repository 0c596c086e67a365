/* SPDX-License-Identifier: MIT */
/*
 * System calls that a stop would turn into EINTR, and how they are issued again.
 *
 * Most blocking calls answer -ERESTART* to a wake-up without a handler, and the kernel restarts them
 * by itself. The rows below do not (signal(7), "never restarted"; read in the kernel where that page
 * is silent): they answer a plain EINTR, which a program without handlers never sees otherwise.
 *
 * A thread that stands with such an EINTR gets its registers set back to the `syscall` instruction,
 * still with its whole timeout, in the stop: if suture dies now, the call is made again by itself.
 * When the thread runs on, the timeout is shortened by what was slept already; one in memory lies in
 * a copy far below the stack pointer. If a signal with a handler waits for the thread by then, EINTR
 * is what the program would have seen without us, and it gets it.
 *
 * (To go up to the call's entry by PTRACE_SYSCALL and to detach there, so that no handler can come
 * between, does not work: detaching marks a signal as pending, and the call answers EINTR at once.)
 *
 * When did it begin? /proc/PID/task/TID/sched tells when a sleeping thread was last on a CPU
 * (se.exec_start), on the clock of that CPU's run queue, which we compare with our own reading on the
 * same CPU. schedstat counts how often the thread was put on a CPU: once since then (to stop) means
 * that it is still the same sleep.
 *
 * At a later stop, is it still that call? It may have ended meanwhile, and the program made the same
 * call once more. So ours carries a mark in the upper half of rax, which the kernel takes no notice of
 * (entry_64.S sign-extends eax since 5.13) and shows us in orig_rax.
 *
 * What is not exact:
 * - Between our look and the stop a thread may enter a call. It then gets its whole timeout again: at
 *   most the time between the two too late, some milliseconds, never too early.
 * - SO_RCVTIMEO and SO_SNDTIMEO belong to the socket and are not ours to change. The call begins with
 *   the whole timeout again; a later stop past the time at which the first would have ended lets it
 *   end (EAGAIN).
 * - A signal that comes in the microseconds between the last look and the call is handled first and
 *   does not interrupt the call, as if it had come just before it. With a mask of its own
 *   (epoll_pwait) the call is interrupted.
 * - A write, send or splice that has moved a part returns its short count, as it does after SIGSTOP
 *   and SIGCONT. The rest cannot be asked for without watching the call's end.
 * - io_uring_enter() with IORING_ENTER_EXT_ARG: as sockets, without the later stop.
 */
#include "process/private.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum timeout_kind {
	TIMEOUT_NONE,
	TIMEOUT_MILLISECONDS, /* int in a register; negative: for ever */
	TIMEOUT_TIMESPEC,     /* const struct timespec * in a register; NULL: for ever */
	TIMEOUT_RECEIVE,      /* SO_RCVTIMEO of the socket in the first argument */
	TIMEOUT_SEND,
};

static const struct restart_row {
	int number;
	enum timeout_kind timeout;
	int argument; /* which one, from 0 */
	int expired;  /* what the call answers when its time is over */
} rows[] = {
	{SYS_epoll_wait, TIMEOUT_MILLISECONDS, 3, 0},
	{SYS_epoll_pwait, TIMEOUT_MILLISECONDS, 3, 0},
	{SYS_epoll_pwait2, TIMEOUT_TIMESPEC, 3, 0},
	{SYS_rt_sigtimedwait, TIMEOUT_TIMESPEC, 2, -EAGAIN},
	{SYS_semop, TIMEOUT_NONE, 0, 0},
	{SYS_semtimedop, TIMEOUT_TIMESPEC, 3, -EAGAIN},
	{SYS_io_getevents, TIMEOUT_TIMESPEC, 4, 0},
	{SYS_io_pgetevents, TIMEOUT_TIMESPEC, 4, 0},
	{SYS_io_uring_enter, TIMEOUT_NONE, 0, 0},
	{SYS_recvfrom, TIMEOUT_RECEIVE, 0, -EAGAIN},
	{SYS_recvmsg, TIMEOUT_RECEIVE, 0, -EAGAIN},
	{SYS_recvmmsg, TIMEOUT_RECEIVE, 0, -EAGAIN},
	{SYS_read, TIMEOUT_RECEIVE, 0, -EAGAIN},
	{SYS_readv, TIMEOUT_RECEIVE, 0, -EAGAIN},
	{SYS_accept, TIMEOUT_RECEIVE, 0, -EAGAIN},
	{SYS_accept4, TIMEOUT_RECEIVE, 0, -EAGAIN},
	{SYS_splice, TIMEOUT_RECEIVE, 0, -EAGAIN},
	{SYS_sendto, TIMEOUT_SEND, 0, -EAGAIN},
	{SYS_sendmsg, TIMEOUT_SEND, 0, -EAGAIN},
	{SYS_sendmmsg, TIMEOUT_SEND, 0, -EAGAIN},
	{SYS_write, TIMEOUT_SEND, 0, -EAGAIN},
	{SYS_writev, TIMEOUT_SEND, 0, -EAGAIN},
	{SYS_sendfile, TIMEOUT_SEND, 0, -EAGAIN},
	// A second connect() on a socket that is connecting goes on to wait (net/ipv4/af_inet.c).
	{SYS_connect, TIMEOUT_SEND, 0, -EINPROGRESS},
};

static const struct restart_row *row_find(int64_t number)
{
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (rows[i].number == number)
			return &rows[i];
	return NULL;
}

const char *system_call_name(int64_t number)
{
	static const struct {
		int number;
		const char *name;
	} names[] = {
#define N(name) {SYS_##name, #name}
		N(read), N(write), N(open), N(openat), N(close), N(stat), N(fstat), N(poll), N(lseek),
		N(mmap), N(mprotect), N(munmap), N(brk), N(rt_sigaction), N(rt_sigprocmask), N(ioctl),
		N(pread64), N(pwrite64), N(readv), N(writev), N(access), N(pipe), N(select),
		N(sched_yield), N(madvise), N(msync), N(pause), N(nanosleep), N(sendfile), N(socket),
		N(connect), N(accept), N(accept4), N(sendto), N(recvfrom), N(sendmsg), N(recvmsg),
		N(recvmmsg), N(sendmmsg), N(clone), N(clone3), N(fork), N(vfork), N(execve), N(execveat),
		N(exit), N(exit_group), N(wait4), N(waitid), N(kill), N(semop), N(semtimedop), N(msgsnd),
		N(msgrcv), N(fcntl), N(flock), N(fsync), N(fdatasync), N(sync), N(rt_sigtimedwait),
		N(rt_sigsuspend), N(futex), N(io_getevents), N(io_pgetevents), N(io_submit),
		N(clock_nanosleep), N(epoll_wait), N(epoll_pwait), N(epoll_pwait2), N(mq_timedsend),
		N(mq_timedreceive), N(pselect6), N(ppoll), N(splice), N(tee), N(vmsplice),
		N(preadv), N(pwritev), N(fallocate), N(syncfs), N(getrandom), N(membarrier),
		N(copy_file_range), N(io_uring_enter), N(restart_syscall), N(ptrace), N(userfaultfd),
		{449, "futex_waitv"},
#undef N
	};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (names[i].number == number)
			return names[i].name;
	return NULL;
}

/* ---- when did it fall asleep? -------------------------------------------------------------- */

void restart_clock_reset(struct stop_state *state)
{
	state->clocks.count = 0;
}

/* se.exec_start of the file, in ns; 0: the kernel does not tell. */
static uint64_t exec_start_read(const char *path)
{
	char text[4096];
	if (proc_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return 0;
	const char *line = strstr(text, "se.exec_start");
	line = line ? strchr(line, ':') : NULL;
	unsigned long milliseconds, rest;
	if (!line || sscanf(line + 1, "%lu.%6lu", &milliseconds, &rest) != 2)
		return 0;
	return milliseconds * 1000000 + rest;
}

/* Monotonic time less the scheduler's clock of @cpu; false: not known. */
static bool clock_offset(struct stop_state *state, int cpu, int64_t *ret)
{
	for (size_t i = 0; i < state->clocks.count; i++)
		if (state->clocks.items[i].cpu == cpu) {
			*ret = state->clocks.items[i].offset;
			return true;
		}
	// The clocks differ by the time that interrupts and the hypervisor took on each CPU.
	cpu_set_t before, one;
	bool moved = false;
	if (cpu >= 0 && cpu < CPU_SETSIZE && sched_getaffinity(0, sizeof(before), &before) == 0) {
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		moved = sched_setaffinity(0, sizeof(one), &one) == 0;
	}
	sched_yield(); // brings our own exec_start up to date
	uint64_t now = monotonic_ns(), start = exec_start_read("/proc/thread-self/sched");
	if (moved)
		sched_setaffinity(0, sizeof(before), &before);
	if (!start)
		return false;
	*ret = (int64_t)(now - start);
	vec_push(&state->clocks, (struct clock_offset){cpu, *ret});
	return true;
}

static uint64_t slices_read(const struct thread_state *task)
{
	// "RUNTIME DELAY SLICES"
	char path[64], text[128];
	unsigned long slices;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", task->tgid, task->tid);
	if (proc_read(AT_FDCWD, path, text, sizeof(text)) <= 0 ||
	    sscanf(text, "%*u %*u %lu", &slices) != 1)
		return 0;
	return slices;
}

static int last_cpu_read(const struct thread_state *task)
{
	char path[64], text[1024];
	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", task->tgid, task->tid);
	if (proc_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return -1;
	const char *at = strrchr(text, ')');
	for (unsigned field = 2; at && field < 39; field++)
		at = strchr(at + 1, ' ');
	return at ? atoi(at + 1) : -1;
}

void restart_sample(struct process_stop *stop, struct thread_state *task)
{
	struct thread_sample *sample = &task->sample;
	*sample = (struct thread_sample){0};
	char path[64], text[256];
	snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", task->tgid, task->tid);
	if (proc_read(AT_FDCWD, path, text, sizeof(text)) <= 0)
		return;
	// "running", or "NUMBER ARGUMENT*6 SP PC", or "-1 SP PC" when it is outside a system call
	long number;
	unsigned long v[8];
	if (sscanf(text, "%ld 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx 0x%lx", &number, &v[0], &v[1],
		   &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) != 9)
		return;
	sample->asleep = true;
	sample->system_call = number;
	for (size_t i = 0; i < 6; i++)
		sample->arguments[i] = v[i];
	sample->stack_pointer = v[6];
	sample->program_counter = v[7];

	const struct restart_row *row = row_find(number);
	if (!row || row->timeout == TIMEOUT_NONE)
		return;
	uint64_t argument = sample->arguments[row->argument];
	if ((row->timeout == TIMEOUT_MILLISECONDS && (int)argument < 0) ||
	    (row->timeout == TIMEOUT_TIMESPEC && !argument))
		return;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/sched", task->tgid, task->tid);
	uint64_t start = exec_start_read(path);
	int64_t offset;
	if (!start || !clock_offset(stop_state(stop), last_cpu_read(task), &offset))
		return;
	sample->slices = slices_read(task);
	sample->began_ns = (uint64_t)((int64_t)start + offset);
}

/* ---- the mark ------------------------------------------------------------------------------ */

enum { MARK = 0x73757475 }; // "sutu"

static bool mark_is_safe(void)
{
	static int safe = -1;
	if (safe < 0) {
		struct utsname name;
		unsigned major, minor;
		safe = uname(&name) == 0 && sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
		       (major > 5 || (major == 5 && minor >= 13));
	}
	return safe;
}

static uint64_t marked(uint64_t number)
{
	return mark_is_safe() ? number | (uint64_t)MARK << 32 : number;
}

/* Read the mark and take it off. */
static bool take_mark(struct user_regs_struct *registers)
{
	if (registers->orig_rax >> 32 != MARK)
		return false;
	registers->orig_rax &= UINT32_MAX;
	return true;
}

/* ---- again --------------------------------------------------------------------------------- */

void restart_heal(struct process_stop *stop, struct thread_state *task)
{
	const struct user_regs_struct *registers = &task->registers;
	task->healed = false;
	task->reissued = take_mark(&task->registers);
	task->resume = task->registers;
	const struct restart_row *row = row_find((int64_t)registers->orig_rax);
	int64_t result = (int64_t)registers->rax;
	// -514 is ERESTARTNOHAND: the kernel restarts io_pgetevents() itself, with its whole timeout.
	bool ours = result == -EINTR || (result == -514 && row && row->timeout == TIMEOUT_TIMESPEC);
	// Whom SIGSTOP stopped sees EINTR with or without us (signal(7)).
	if (!row || !ours || task->group_stopped)
		return;
	// A 32-bit `int $0x80` counts its calls otherwise.
	static const uint8_t instruction[] = {0x0f, 0x05};
	uint8_t bytes[2];
	if (process_memory_read_some(stop->process, registers->rip - 2, bytes, 2) != 2 ||
	    memcmp(bytes, instruction, 2) != 0)
		return;
	task->resume = *registers;
	task->resume.rip -= 2;
	task->resume.rax = registers->orig_rax;
	if (ptrace(PTRACE_SETREGS, task->tid, NULL, &task->resume) == 0)
		task->healed = true;
	else
		task->resume = *registers;
}

static unsigned long long *argument_register(struct user_regs_struct *registers, int argument)
{
	unsigned long long *all[] = {&registers->rdi, &registers->rsi, &registers->rdx,
				     &registers->r10, &registers->r8,  &registers->r9};
	return all[argument];
}

/* The timeout of the thread's socket, in ns; 0: for ever or not known. */
static uint64_t socket_timeout(const struct thread_state *task, int option)
{
	_cleanup_close_ int process = (int)syscall(SYS_pidfd_open, task->tgid, 0);
	if (process < 0)
		return 0;
	_cleanup_close_ int fd = (int)syscall(SYS_pidfd_getfd, process, (int)task->registers.rdi, 0);
	struct timeval timeout;
	socklen_t size = sizeof(timeout);
	if (fd < 0 || getsockopt(fd, SOL_SOCKET, option, &timeout, &size) != 0)
		return 0;
	return (uint64_t)timeout.tv_sec * 1000000000 + (uint64_t)timeout.tv_usec * 1000;
}

/*
 * Room for @size bytes in the thread's stack below anything that a handler would use before the call
 * is made, or 0. Every page down to there must be readable: a guard page, which maps need not show
 * (MADV_GUARD_INSTALL), is where the stack ends.
 */
static uint64_t stack_room(const struct thread_state *task, size_t size)
{
	enum { PAGE = 4096, DEPTH = 8 };
	uint64_t low = (task->resume.rsp & ~(uint64_t)(PAGE - 1)) - DEPTH * PAGE;
	uint8_t bytes[DEPTH + 1];
	struct iovec local = {bytes, sizeof(bytes)}, remote[DEPTH + 1];
	for (size_t i = 0; i <= DEPTH; i++)
		remote[i] = (struct iovec){(void *)(low + i * PAGE), 1};
	if (size > PAGE || process_vm_readv(task->tid, &local, 1, remote, DEPTH + 1, 0) != DEPTH + 1)
		return 0;
	return low;
}

static void shorten(struct process_stop *stop, struct thread_state *task)
{
	const struct restart_row *row = row_find((int64_t)task->registers.orig_rax);
	const struct thread_sample *sample = &task->sample;
	struct user_regs_struct *registers = &task->resume;
	uint64_t known_deadline = task->reissued ? task->deadline_ns : 0;
	task->deadline_ns = 0;
	if (!row || row->timeout == TIMEOUT_NONE)
		return;

	// How long from its start?
	uint64_t value = *argument_register(registers, row->argument), timeout = 0;
	struct timespec time;
	switch (row->timeout) {
	case TIMEOUT_NONE:
		return;
	case TIMEOUT_MILLISECONDS:
		if ((int)value < 0)
			return;
		timeout = (uint64_t)(int)value * 1000000;
		break;
	case TIMEOUT_TIMESPEC:
		if (!value || process_memory_read_some(stop->process, value, &time, sizeof(time)) !=
				      sizeof(time))
			return;
		// Longer than a year is for ever, and cannot overflow below.
		if (time.tv_sec < 0 || time.tv_sec > 31536000 || time.tv_nsec < 0 ||
		    time.tv_nsec > 999999999)
			return;
		timeout = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
		break;
	case TIMEOUT_RECEIVE:
	case TIMEOUT_SEND:
		timeout = socket_timeout(task, row->timeout == TIMEOUT_RECEIVE ? SO_RCVTIMEO
									       : SO_SNDTIMEO);
		if (!timeout)
			return;
		break;
	}

	// Since when? Our stop put it on a CPU once, if it slept on since the sample.
	uint64_t now = monotonic_ns();
	bool same = sample->asleep && sample->system_call == (int64_t)task->registers.orig_rax &&
		    sample->stack_pointer == task->registers.rsp && sample->slices &&
		    slices_read(task) == sample->slices + 1;
	uint64_t deadline = now + timeout;
	if (known_deadline)
		deadline = known_deadline;
	// One whose time is over has ended, and this is the program's next, made in the same slice.
	else if (same && sample->began_ns && sample->began_ns < now &&
		 sample->began_ns + timeout > now)
		deadline = sample->began_ns + timeout;
	uint64_t remains = deadline > now ? deadline - now : 0;
	if (remains > timeout)
		remains = timeout;

	if (row->timeout == TIMEOUT_MILLISECONDS) {
		*argument_register(registers, row->argument) = (remains + 999999) / 1000000;
	} else if (row->timeout == TIMEOUT_TIMESPEC) {
		time.tv_sec = (time_t)(remains / 1000000000);
		time.tv_nsec = (long)(remains % 1000000000);
		uint64_t copy = stack_room(task, sizeof(time));
		struct iovec local = {&time, sizeof(time)}, remote = {(void *)copy, sizeof(time)};
		if (!copy || process_vm_writev(task->tid, &local, 1, &remote, 1, 0) != (ssize_t)sizeof(time))
			return;
		*argument_register(registers, row->argument) = copy;
	} else if (remains == 0) {
		registers->rip = task->registers.rip;
		registers->rax = (unsigned long long)(long long)row->expired;
		task->healed = false;
	}
	if (task->healed) {
		registers->rax = marked(registers->rax);
		task->deadline_ns = deadline;
	}
	ptrace(PTRACE_SETREGS, task->tid, NULL, registers);
}

/* Does a signal wait for the task that a handler of the program catches? */
static bool caught_signal_waits(const struct thread_state *task)
{
	uint64_t waiting = 0, blocked = 0;
	for (uint32_t shared = 0; shared <= 1; shared++) {
		siginfo_t signals[16];
		struct __ptrace_peeksiginfo_args which = {
			.flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0,
			.nr = ARRAY_SIZE(signals),
		};
		long count = ptrace(PTRACE_PEEKSIGINFO, task->tid, &which, signals);
		for (long i = 0; i < count; i++)
			if (signals[i].si_signo >= 1 && signals[i].si_signo <= 64)
				waiting |= 1ul << (signals[i].si_signo - 1);
	}
	if (!waiting || ptrace(PTRACE_GETSIGMASK, task->tid, sizeof(blocked), &blocked) != 0 ||
	    !(waiting & ~blocked))
		return false;
	char path[64], status[4096];
	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", task->tgid, task->tid);
	if (proc_read(AT_FDCWD, path, status, sizeof(status)) <= 0)
		return true;
	return waiting & ~blocked & status_field(status, "SigCgt", 16, 0);
}

void restart_finish(struct process_stop *stop, struct thread_state *task)
{
	shorten(stop, task);
	if (task->healed && caught_signal_waits(task)) {
		task->healed = false;
		task->resume = task->registers;
		ptrace(PTRACE_SETREGS, task->tid, NULL, &task->resume);
	}
}
