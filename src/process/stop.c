/* SPDX-License-Identifier: MIT */
/*
 * Stop every task that shares a process's memory, and let it go again.
 *
 * Nothing is left attached while the target should run. A task under PTRACE_SEIZE halts at each of
 * its signals until the tracer passes it on, so a tool that is busy, or stopped by ^Z, would hold the
 * target up. So process_seize() only looks; a stop is SEIZE and INTERRUPT of all, and its end is
 * DETACH of all, which the kernel also does for us when we die.
 *
 * Who was born meanwhile? PTRACE_O_TRACECLONE and its like would tell, at the price of holding up
 * each clone, fork and vfork. Instead we ask which pid the kernel gave out last: the last field of
 * /proc/loadavg. A task that is not on our list has a pid above the one read before the list was
 * made, and its maker is on the list, stopped by now, or itself above. So after all stand still: as
 * long as that number grew, look at the new pids (kcmp(2): same memory?), stop those, look again.
 * That sees threads, vfork children and CLONE_VM processes alike, and costs one read when there is
 * nothing new.
 *
 * The order keeps the gap short: tasks asleep in the kernel come first (nobody misses them; waking
 * them takes the longest), those that run come last, and go on first.
 *
 * A task in vfork() does not stop before its child is gone, and the child is one of ours and stands
 * still. It is left as it is (`waiting`): it cannot run. The interrupt that was sent to it takes
 * effect when the child is gone, and then it is let go at once (THREAD_LATE): by the resume, which
 * waits a little for it, by any later call of this module, or by the kernel when suture ends.
 */
#include "process/private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EVENT_STOP = 128 }; /* PTRACE_EVENT_STOP of <linux/ptrace.h>, which clashes with glibc's */

static const uint64_t default_bound_ns = 20 * 1000 * 1000;
/* After this long without a stop something is in the way: see what. */
static const uint64_t patience_ns = 500 * 1000;
/* How long a task that stopped too late is waited for at the end; the others run already. */
static const uint64_t late_bound_ns = 20 * 1000 * 1000;
/* Beyond this many new pids it is cheaper to walk /proc. */
enum { NEW_PIDS_MAX = 16384 };

/* ---- waiting ------------------------------------------------------------------------------ */

int stop_wait(pid_t tid, int *status, uint64_t deadline_ns)
{
	sigset_t child;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	for (;;) {
		// By tid: a wait for any child walks all of them, and would take other children.
		pid_t got = waitpid(tid, status, __WALL | WNOHANG);
		if (got == tid)
			return 1;
		if (got < 0 && errno != EINTR)
			return -1;
		uint64_t now = deadline_ns ? monotonic_ns() : 0;
		if (now >= deadline_ns)
			return 0;
		// SIGCHLD is blocked (stop_begin), so one that came since waitpid() is pending. Where
		// it is ignored, or another thread of ours takes it, a look each millisecond does.
		uint64_t left = deadline_ns - now;
		struct timespec wait = {0, left < 1000000 ? (long)left : 1000000};
		sigtimedwait(&child, NULL, &wait);
	}
}

static void signals_block(struct stop_state *state)
{
	if (state->signals_saved)
		return;
	sigset_t child;
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, &state->saved_signals);
	state->signals_saved = true;
}

static void signals_restore(struct stop_state *state)
{
	if (!state->signals_saved)
		return;
	sigprocmask(SIG_SETMASK, &state->saved_signals, NULL);
	state->signals_saved = false;
}

/* ---- who shares the memory ----------------------------------------------------------------- */

static uint64_t last_pid_read(const struct stop_state *state)
{
	// "0.00 0.01 0.05 1/115 12345"
	char text[128];
	ssize_t got = pread(state->loadavg, text, sizeof(text) - 1, 0);
	if (got <= 0)
		return 0;
	text[got] = '\0';
	const char *last = strrchr(text, ' ');
	return last ? strtoull(last, NULL, 10) : 0;
}

static bool shares_memory(const struct process *process, pid_t tid)
{
	return syscall(SYS_kcmp, process->pid, tid, KCMP_VM, 0L, 0L) == 0;
}

static struct thread_state *task_find(const struct stop_state *state, pid_t tid)
{
	for (size_t i = 0; i < state->tasks.count; i++)
		if (state->tasks.items[i]->tid == tid)
			return state->tasks.items[i];
	return NULL;
}

static struct thread_state *task_add(struct stop_state *state, pid_t tid, pid_t tgid)
{
	struct thread_state *task = xcalloc(1, sizeof(*task));
	task->tid = tid;
	task->tgid = tgid;
	task->generation = state->generation;
	vec_push(&state->tasks, task);
	return task;
}

/* All tasks of the thread group whose /proc directory is @directory; false: it is gone. */
static bool group_walk(struct stop_state *state, int directory, pid_t tgid)
{
	int fd = openat(directory, "task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *tasks = fd < 0 ? NULL : fdopendir(fd);
	if (!tasks) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	// Both lists are in order of time as a rule, so the known one is found where we left off.
	size_t known = 0;
	for (struct dirent *entry; (entry = readdir(tasks));) {
		pid_t tid = (pid_t)strtol(entry->d_name, NULL, 10);
		if (tid <= 0)
			continue;
		struct thread_state *task = NULL;
		for (size_t i = 0; i < state->tasks.count && !task; i++) {
			size_t at = (known + i) % state->tasks.count;
			if (state->tasks.items[at]->tid == tid) {
				task = state->tasks.items[at];
				known = at + 1;
			}
		}
		if (task)
			task->generation = state->generation;
		else
			task_add(state, tid, tgid);
	}
	closedir(tasks);
	return true;
}

/* Processes other than the target that share its memory, among all of /proc. */
static void others_walk(struct process_stop *stop)
{
	struct stop_state *state = stop_state(stop);
	DIR *proc = opendir("/proc");
	if (!proc)
		return;
	for (struct dirent *entry; (entry = readdir(proc));) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
		if (pid <= 0 || pid == stop->process->pid || !shares_memory(stop->process, pid))
			continue;
		int directory = openat(dirfd(proc), entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (directory < 0)
			continue;
		group_walk(state, directory, pid);
		close(directory);
	}
	closedir(proc);
}

/*
 * Look at the pids that were given out since the last look; true when one of them belongs to us and
 * was not known. While all known tasks stand still, false means that there are no others.
 */
static bool newborn_find(struct process_stop *stop)
{
	struct stop_state *state = stop_state(stop);
	struct process *process = stop->process;
	uint64_t from = state->last_pid, to = last_pid_read(state);
	if (to && to == from)
		return false;
	state->last_pid = to;
	size_t before = state->tasks.count;
	if (!to || to < from || to - from > NEW_PIDS_MAX) { // the numbers began again, or many came
		group_walk(state, process->directory, process->pid);
		others_walk(stop);
		return state->tasks.count > before;
	}
	for (uint64_t pid = from + 1; pid <= to; pid++) {
		if (!shares_memory(process, (pid_t)pid) || task_find(state, (pid_t)pid))
			continue;
		char path[64], status[4096];
		snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
		if (proc_read(AT_FDCWD, path, status, sizeof(status)) > 0)
			task_add(state, (pid_t)pid,
				 (pid_t)status_field(status, "Tgid", 10, (uint64_t)process->pid));
	}
	return state->tasks.count > before;
}

/* Drop what the last walk did not see, unless it is still attached. */
static void tasks_prune(struct stop_state *state)
{
	size_t kept = 0;
	for (size_t i = 0; i < state->tasks.count; i++) {
		struct thread_state *task = state->tasks.items[i];
		bool gone = task->phase == THREAD_GONE ||
			    (task->phase == THREAD_FREE && task->generation != state->generation);
		if (gone)
			free(task);
		else
			state->tasks.items[kept++] = task;
	}
	state->tasks.count = kept;
}

/* The list before a stop: new tasks are on it, dead ones are not. */
static struct error *tasks_refresh(struct process_stop *stop)
{
	struct stop_state *state = stop_state(stop);
	struct process *process = stop->process;
	state->generation++;
	for (size_t i = 0; i < state->tasks.count; i++)
		if (state->tasks.items[i]->tgid != process->pid &&
		    shares_memory(process, state->tasks.items[i]->tid))
			state->tasks.items[i]->generation = state->generation;
	newborn_find(stop);
	if (!process_alive(process) || !group_walk(state, process->directory, process->pid))
		return error_new(ERROR_KIND_NOT_FOUND, "process %d (%s) ended", process->pid,
				 process->name);
	tasks_prune(state);
	return NULL;
}

static void task_path(const struct thread_state *task, const char *file, char path[64])
{
	snprintf(path, 64, "/proc/%d/task/%d/%s", task->tgid, task->tid, file);
}

static bool task_is_dead(const struct thread_state *task)
{
	char path[64];
	struct task_stat stat;
	task_path(task, "stat", path);
	return !task_stat_read(AT_FDCWD, path, &stat) || stat.state == 'Z' || stat.state == 'X';
}

/* An error when somebody else traces it. */
static struct error *task_check_tracer(const struct thread_state *task)
{
	char path[64], status[4096], name[64] = "";
	task_path(task, "status", path);
	if (proc_read(AT_FDCWD, path, status, sizeof(status)) <= 0)
		return NULL;
	pid_t tracer = (pid_t)status_field(status, "TracerPid", 10, 0);
	if (!tracer || tracer == getpid())
		return NULL;
	snprintf(path, sizeof(path), "/proc/%d/comm", tracer);
	if (proc_read(AT_FDCWD, path, name, sizeof(name)) > 0)
		name[strcspn(name, "\n")] = '\0';
	return error_new(ERROR_KIND_CONFLICT,
			 "thread %d of process %d is traced by process %d (%s); detach that first",
			 task->tid, task->tgid, tracer, name);
}

struct error *process_seize(struct process *process, struct process_stop **ret)
{
	assert(!process->stop);
	_cleanup_close_ int loadavg = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	if (loadavg < 0)
		return error_errno(errno, "cannot open \"/proc/loadavg\"");
	struct process_stop *stop = xcalloc(1, sizeof(*stop));
	struct stop_state *state = xcalloc(1, sizeof(*state));
	stop->process = process;
	stop->state = state;
	state->arena = arena_create();
	state->loadavg = take_fd(loadavg);
	state->stacks_capacity = 1 << 20;
	state->stacks = xmalloc(state->stacks_capacity);
	state->last_pid = last_pid_read(state);
	process->stop = stop;
	_cleanup_process_stop_ struct process_stop *guard = stop;

	stop_serve_late(stop);
	others_walk(stop);
	TRY(tasks_refresh(stop));
	for (size_t i = 0; i < state->tasks.count; i++)
		TRY(task_check_tracer(state->tasks.items[i]));
	TRY(gadgets_find(stop));
	*ret = take_ptr(guard);
	return NULL;
}

/* ---- stopping ------------------------------------------------------------------------------ */

/* Attach. A task that is gone, or a zombie leader, is THREAD_GONE. */
static struct error *task_seize(struct thread_state *task)
{
	if (task->phase != THREAD_FREE)
		return NULL;
	if (ptrace(PTRACE_SEIZE, task->tid, NULL, PTRACE_O_TRACESYSGOOD) == 0) {
		task->phase = THREAD_SEIZED;
		task->group_stopped = task->healed = false;
		return NULL;
	}
	int errnum = errno;
	if (errnum == ESRCH || task_is_dead(task)) {
		task->phase = THREAD_GONE;
		return NULL;
	}
	TRY(task_check_tracer(task));
	return permission_error(errnum, task->tgid, "stopping a thread");
}

static void task_interrupt(struct thread_state *task)
{
	if (task->phase == THREAD_SEIZED && ptrace(PTRACE_INTERRUPT, task->tid, NULL, NULL) != 0)
		task->phase = THREAD_GONE;
}

/* Take @status of an attached task on its way to the stop: true once it stands or is gone. */
static bool task_take(struct process_stop *stop, struct thread_state *task, int status)
{
	if (!WIFSTOPPED(status)) {
		task->phase = THREAD_GONE;
		return true;
	}
	if (status >> 16 == EVENT_STOP) {
		if (ptrace(PTRACE_GETREGS, task->tid, NULL, &task->registers) != 0) {
			// Killed in the stop. Its exit is still to be reported to us.
			task->phase = THREAD_LATE;
			return true;
		}
		task->phase = THREAD_STOPPED;
		task->group_stopped = WSTOPSIG(status) != SIGTRAP;
		task->resume = task->registers;
		restart_heal(stop, task);
		return true;
	}
	// A signal on its way: it goes on, and the stop follows before an instruction of its handler
	// is run.
	ptrace(PTRACE_CONT, task->tid, NULL, status >> 8 == SIGTRAP ? 0 : WSTOPSIG(status));
	return false;
}

/* Wait for a stop; false: the deadline came first. */
static bool task_wait(struct process_stop *stop, struct thread_state *task, uint64_t deadline)
{
	while (task->phase == THREAD_SEIZED) {
		int status, got = stop_wait(task->tid, &status, deadline);
		if (got == 0)
			return false;
		if (got < 0)
			task->phase = THREAD_GONE;
		else
			task_take(stop, task, status);
	}
	return true;
}

static bool calls_vfork(struct process_stop *stop, const struct thread_sample *sample)
{
	uint64_t flags = 0;
	if (sample->system_call == SYS_vfork)
		return true;
	if (sample->system_call == SYS_clone)
		flags = sample->arguments[0];
	else if (sample->system_call == SYS_clone3 &&
		 process_memory_read_some(stop->process, sample->arguments[0], &flags,
					  sizeof(flags)) != sizeof(flags))
		return false;
	return flags & CLONE_VFORK;
}

/* Is the task in vfork(), and its child, which is stopped, one of ours? Then fill its registers. */
static bool task_is_waiting(struct process_stop *stop, struct thread_state *task)
{
	struct stop_state *state = stop_state(stop);
	restart_sample(stop, task);
	const struct thread_sample *sample = &task->sample;
	if (!sample->asleep || !calls_vfork(stop, sample))
		return false;
	for (size_t i = 0; i < state->tasks.count; i++) {
		const struct thread_state *child = state->tasks.items[i];
		char path[64];
		struct task_stat stat;
		if (child->phase != THREAD_STOPPED || child->tgid == task->tgid ||
		    !shares_memory(stop->process, child->tid))
			continue;
		task_path(child, "stat", path);
		if (!task_stat_read(AT_FDCWD, path, &stat) || stat.parent != task->tgid)
			continue;
		task->registers = (struct user_regs_struct){
			.rsp = sample->stack_pointer,
			.rip = sample->program_counter,
			.rdi = sample->arguments[0],
			.rsi = sample->arguments[1],
			.rdx = sample->arguments[2],
			.r10 = sample->arguments[3],
			.r8 = sample->arguments[4],
			.r9 = sample->arguments[5],
			.orig_rax = (uint64_t)sample->system_call,
			.fs_base = child->registers.fs_base, // shared until it runs its program
		};
		return true;
	}
	return false;
}

/* Interrupt @tasks and wait for them; what does not come within patience is left for later. */
static void batch_stop(struct process_stop *stop, struct thread_state **tasks, size_t count,
		       uint64_t deadline)
{
	for (size_t i = 0; i < count; i++)
		task_interrupt(tasks[i]);
	for (size_t i = 0; i < count; i++) {
		uint64_t patience = monotonic_ns() + patience_ns;
		if (tasks[i]->sample.asleep && calls_vfork(stop, &tasks[i]->sample))
			patience = 0;
		task_wait(stop, tasks[i], patience < deadline ? patience : deadline);
	}
}

static struct error *slow_error(struct process_stop *stop, const struct thread_state *task,
				uint64_t bound_ns)
{
	char path[64], wchan[128] = "";
	struct task_stat stat = {.state = '?'};
	task_path(task, "stat", path);
	task_stat_read(AT_FDCWD, path, &stat);
	task_path(task, "wchan", path);
	if (proc_read(AT_FDCWD, path, wchan, sizeof(wchan)) <= 0 || string_equal(wchan, "0"))
		wchan[0] = '\0';
	const char *call = task->sample.asleep ? system_call_name(task->sample.system_call) : NULL;
	return error_new(ERROR_KIND_BUSY,
			 "thread %d (%s) of process %d did not stop within %.1f ms: state %c%s%s%s%s",
			 task->tid, stat.name, stop->process->pid, (double)bound_ns / 1e6, stat.state,
			 call ? ", in " : "", call ? call : "", wchan[0] ? ", waits in " : "", wchan);
}

/* The public list, once all stand. */
static void threads_publish(struct process_stop *stop)
{
	struct stop_state *state = stop_state(stop);
	stop->threads.count = 0;
	for (size_t i = 0; i < state->tasks.count; i++) {
		struct thread_state *task = state->tasks.items[i];
		if (task->phase != THREAD_STOPPED && !(task->phase == THREAD_LATE && task->waiting))
			continue;
		const struct user_regs_struct *registers = &task->registers;
		int64_t result = (int64_t)registers->rax, number = (int64_t)registers->orig_rax;
		// ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK: include/linux/errno.h
		bool interrupted = number >= 0 && (result == -EINTR || result == -512 ||
						   result == -513 || result == -514 || result == -516);
		vec_push(&stop->threads, (struct process_thread){
			.tid = task->tid,
			.tgid = task->tgid,
			.stopped = task->phase == THREAD_STOPPED,
			.waiting = task->waiting,
			.registers = *registers,
			.system_call = interrupted || task->waiting ? number : -1,
			.restart_block = number >= 0 && result == -516,
			.state = task,
		});
	}
}

/* All known tasks stand; do all of them still run in this memory? */
static struct error *check_memory(struct process_stop *stop)
{
	struct stop_state *state = stop_state(stop);
	size_t standing = 0;
	for (size_t i = 0; i < state->tasks.count; i++) {
		struct thread_state *task = state->tasks.items[i];
		if (task->phase != THREAD_STOPPED)
			continue;
		// A vfork child that ran its program meanwhile is none of ours any more.
		if (task->tgid != stop->process->pid && !shares_memory(stop->process, task->tid)) {
			ptrace(PTRACE_DETACH, task->tid, NULL, NULL);
			task->phase = THREAD_GONE;
			continue;
		}
		standing++;
	}
	// The file is bound to the memory it was opened for; 0 says that nobody runs in it.
	uint8_t byte;
	if (standing && pread(stop->process->memory, &byte, 1, 0x10000) != 0)
		return NULL;
	return error_new(ERROR_KIND_NOT_FOUND, "process %d (%s) ended or runs another program",
			 stop->process->pid, stop->process->name);
}

static struct error *stop_attempt(struct process_stop *stop, uint64_t bound_ns)
{
	struct stop_state *state = stop_state(stop);
	TRY(tasks_refresh(stop));

	// Those asleep in front, those that run behind.
	size_t asleep = 0;
	restart_clock_reset(state);
	for (size_t i = 0; i < state->tasks.count; i++) {
		struct thread_state *task = state->tasks.items[i];
		task->waiting = false;
		if (task->phase == THREAD_LATE) // attached yet, since the stop before
			task->phase = THREAD_SEIZED;
		restart_sample(stop, task);
		if (task->sample.asleep) {
			state->tasks.items[i] = state->tasks.items[asleep];
			state->tasks.items[asleep++] = task;
		}
	}
	for (size_t i = 0; i < state->tasks.count; i++)
		TRY(task_seize(state->tasks.items[i]));

	// From here on the target feels it.
	stop->seized_at = monotonic_ns();
	uint64_t deadline = stop->seized_at + bound_ns;
	batch_stop(stop, state->tasks.items, asleep, deadline);
	size_t known = state->tasks.count;
	batch_stop(stop, state->tasks.items + asleep, known - asleep, deadline);
	for (;;) {
		while (newborn_find(stop)) {
			size_t count = state->tasks.count;
			for (size_t i = known; i < count; i++)
				TRY(task_seize(state->tasks.items[i]));
			batch_stop(stop, state->tasks.items + known, count - known, deadline);
			known = count;
		}
		struct thread_state *slow = NULL;
		for (size_t i = 0; i < known; i++) {
			struct thread_state *task = state->tasks.items[i];
			if (task->phase != THREAD_SEIZED)
				continue;
			if (task_is_waiting(stop, task)) {
				task->waiting = true;
				task->phase = THREAD_LATE;
			} else if (task_is_dead(task)) {
				task->phase = THREAD_LATE; // a leader whose threads run on
			} else {
				slow = task;
			}
		}
		if (!slow)
			break;
		if (monotonic_ns() >= deadline)
			return slow_error(stop, slow, bound_ns);
		uint64_t patience = monotonic_ns() + patience_ns;
		task_wait(stop, slow, patience < deadline ? patience : deadline);
	}
	TRY(check_memory(stop));
	threads_publish(stop);
	stop->stopped_at = monotonic_ns();
	state->all_stopped = true;
	return NULL;
}

struct error *process_stop_all(struct process_stop *stop, uint64_t bound_ns)
{
	struct stop_state *state = stop_state(stop);
	assert(!state->all_stopped);
	stop_serve_late(stop);
	signals_block(state);
	struct error *error = stop_attempt(stop, bound_ns ? bound_ns : default_bound_ns);
	if (error)
		process_resume_all(stop);
	return error;
}

/* ---- going on ------------------------------------------------------------------------------ */

static void task_detach(struct thread_state *task, int signal)
{
	if (ptrace(PTRACE_DETACH, task->tid, NULL, (long)signal) == 0)
		task->phase = THREAD_FREE;
	else
		task->phase = THREAD_LATE; // killed: its end is reported to us before its parent
}

/* Tasks that were still on their way when their stop was released: of any target. */
static VEC(struct thread_state *) abandoned;

/* Let go of a task that stopped after its stop was over; it is still to come when false. */
static bool late_take(struct process_stop *stop, struct thread_state *task, uint64_t deadline)
{
	while (task->phase == THREAD_LATE) {
		int status, got = stop_wait(task->tid, &status, deadline);
		if (got == 0)
			return false;
		if (got < 0 || !WIFSTOPPED(status)) {
			task->phase = THREAD_GONE;
		} else if (status >> 16 == EVENT_STOP) {
			if (stop && ptrace(PTRACE_GETREGS, task->tid, NULL, &task->registers) == 0) {
				task->resume = task->registers;
				restart_heal(stop, task);
			}
			task_detach(task, 0);
		} else if (status >> 8 == SIGTRAP || status >> 8 == (SIGTRAP | 0x80)) {
			task_detach(task, 0);
		} else {
			// Detaching here delivers the signal and takes our interrupt back.
			task_detach(task, WSTOPSIG(status));
		}
	}
	return true;
}

/* What is seized, but not stopped, cannot be detached: wait a moment, then leave it for later. */
static void late_serve(struct process_stop *stop, uint64_t bound_ns)
{
	struct stop_state *state = stop_state(stop);
	uint64_t deadline = bound_ns ? monotonic_ns() + bound_ns : 0;
	for (size_t i = 0; i < state->tasks.count; i++)
		late_take(stop, state->tasks.items[i], deadline);
	size_t kept = 0;
	for (size_t i = 0; i < abandoned.count; i++) {
		if (late_take(NULL, abandoned.items[i], 0))
			free(abandoned.items[i]);
		else
			abandoned.items[kept++] = abandoned.items[i];
	}
	abandoned.count = kept;
	if (!kept)
		vec_deinit(&abandoned);
}

bool stop_serve_late(struct process_stop *stop)
{
	struct stop_state *state = stop_state(stop);
	late_serve(stop, 0);
	for (size_t i = 0; i < state->tasks.count; i++)
		if (state->tasks.items[i]->phase == THREAD_LATE)
			return true;
	return abandoned.count > 0;
}

void process_resume_all(struct process_stop *stop)
{
	struct stop_state *state = stop_state(stop);
	size_t count = state->tasks.count;
	state->all_stopped = false;
	stop->threads.count = 0;
	// Those that ran stand behind.
	for (size_t i = count; i-- > 0;) {
		struct thread_state *task = state->tasks.items[i];
		if (task->phase == THREAD_STOPPED && !task->healed)
			task_detach(task, 0);
	}
	stop->resumed_at = monotonic_ns();
	for (size_t i = 0; i < count; i++) {
		struct thread_state *task = state->tasks.items[i];
		if (task->phase != THREAD_STOPPED)
			continue;
		restart_finish(stop, task);
		task_detach(task, 0);
	}
	// After an attempt that failed some are on their way to a stop that nobody wants any more.
	for (size_t i = 0; i < count; i++)
		if (state->tasks.items[i]->phase == THREAD_SEIZED) {
			ptrace(PTRACE_INTERRUPT, state->tasks.items[i]->tid, NULL, NULL);
			state->tasks.items[i]->phase = THREAD_LATE;
		}
	late_serve(stop, late_bound_ns);
	tasks_prune(state);
	signals_restore(state);
}

void process_release(struct process_stop *stop)
{
	if (!stop)
		return;
	struct stop_state *state = stop_state(stop);
	if (state->all_stopped)
		process_resume_all(stop);
	else
		late_serve(stop, late_bound_ns);
	for (size_t i = 0; i < state->tasks.count; i++) {
		if (state->tasks.items[i]->phase == THREAD_LATE)
			vec_push(&abandoned, state->tasks.items[i]);
		else
			free(state->tasks.items[i]);
	}
	stop->process->stop = NULL;
	vec_deinit(&state->tasks);
	vec_deinit(&stop->threads);
	gadgets_free(state->gadgets);
	vec_deinit(&state->clocks);
	close(state->loadavg);
	free(state->stacks);
	arena_free(state->arena);
	free(state);
	free(stop);
}

void process_stop_cleanup(struct process_stop **stop)
{
	process_release(*stop);
}

const char *process_thread_describe(struct process_stop *stop, const struct process_thread *thread)
{
	const struct thread_state *task = thread_state(thread);
	char path[64], name[64] = "?";
	task_path(task, "comm", path);
	if (proc_read(AT_FDCWD, path, name, sizeof(name)) > 0)
		name[strcspn(name, "\n")] = '\0';
	struct arena *arena = stop_state(stop)->arena;
	if (thread->system_call < 0)
		return arena_printf(arena, "tid %d (%s)", thread->tid, name);
	const char *call = system_call_name(thread->system_call);
	if (call)
		return arena_printf(arena, "tid %d (%s) in %s", thread->tid, name, call);
	return arena_printf(arena, "tid %d (%s) in system call %ld", thread->tid, name,
			    (long)thread->system_call);
}
