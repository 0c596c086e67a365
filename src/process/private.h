/* SPDX-License-Identifier: MIT */
/* process, seen from its own files. */
#ifndef SUTURE_PROCESS_PRIVATE_H
#define SUTURE_PROCESS_PRIVATE_H

#include <assert.h>
#include <signal.h>

#include "process/process.h"

/** What stat and status say of a task. */
struct task_stat {
	char name[64];
	char state; /* 'R', 'S', 'D', 'T', 't', 'Z', 'X' */
	pid_t parent;
	uint64_t flags;      /* PF_* */
	uint64_t start_time;
	uint64_t start_brk;
};

enum { TASK_IS_KERNEL_THREAD = 0x00200000 }; /* PF_KTHREAD, include/linux/sched.h */

/** Of @path below @dirfd ("stat", "task/12/stat"); false when the task is gone. */
bool task_stat_read(int dirfd, const char *path, struct task_stat *ret);

/** The number behind "NAME:" in a file like status, in base @base; @fallback when there is none. */
uint64_t status_field(const char *text, const char *name, int base, uint64_t fallback);

/** A small file of /proc into @text, NUL-terminated: its size, or -1 with errno. */
ssize_t proc_read(int dirfd, const char *path, char *text, size_t size);

/** Why the kernel did not let us: EPERM and EACCES have several reasons here. */
struct error *permission_error(int errnum, pid_t pid, const char *what) MUST_CHECK;

/* ---- a stop's own view of a thread (stop.c, restart.c, call.c) ----------------------------- */

/* What a thread did when it was last looked at, before the stop. */
struct thread_sample {
	bool asleep;          /* in a system call, not running */
	int64_t system_call;
	uint64_t arguments[6];
	uint64_t stack_pointer, program_counter;
	uint64_t began_ns;    /* monotonic time at which it fell asleep; 0: not known */
	uint64_t slices;      /* times that it was put on a CPU until then */
};

enum thread_phase {
	THREAD_FREE,     /* not attached */
	THREAD_SEIZED,   /* attached, on its way to the stop */
	THREAD_STOPPED,  /* in a ptrace-stop */
	THREAD_LATE,     /* to be let go as soon as it stops (was in vfork, or too slow) */
	THREAD_GONE,
};

struct thread_state {
	pid_t tid, tgid;
	enum thread_phase phase;
	bool group_stopped; /* by SIGSTOP and the like: stays so */
	bool waiting;       /* in vfork(), its child stopped */
	struct user_regs_struct registers; /* as at the stop */
	bool healed;        /* its registers stand at the system call to be issued again */
	struct user_regs_struct resume; /* what it runs on with: healed, or as at the stop */
	uint64_t generation; /* of the last walk that saw it */
	struct thread_sample sample;
	bool reissued; /* it stands in the call that the stop before this one issued again */
	uint64_t deadline_ns; /* when that call is to end; 0: not known */
};

struct clock_offset {
	int cpu;
	int64_t offset;
};

struct stop_state {
	struct arena *arena;
	VEC(struct thread_state *) tasks;
	int loadavg;       /* /proc/loadavg: its last field is the pid made last */
	uint64_t last_pid; /* every task up to this one has been looked at */
	uint64_t generation;
	bool all_stopped;
	uint8_t *stacks;
	size_t stacks_capacity;
	sigset_t saved_signals;
	bool signals_saved;
	struct gadgets *gadgets; /* call.c */
	/* restart.c: monotonic time less the scheduler's clock of a CPU, as far as asked for. */
	VEC(struct clock_offset) clocks;
};

static inline struct stop_state *stop_state(const struct process_stop *stop)
{
	return stop->state;
}

static inline struct thread_state *thread_state(const struct process_thread *thread)
{
	return thread->state;
}

/**
 * Wait until @tid changes state or CLOCK_MONOTONIC reaches @deadline_ns (0: do not wait): 1 with
 * @status, 0 for the deadline, -1 when there is no such task any more.
 */
int stop_wait(pid_t tid, int *status, uint64_t deadline_ns);
/** Let go of tasks that stopped too late for the stop that wanted them; true: some are left. */
bool stop_serve_late(struct process_stop *stop);

/* restart.c */
void restart_clock_reset(struct stop_state *state);
/** Before a stop: what the thread does and since when. */
void restart_sample(struct process_stop *stop, struct thread_state *task);
/**
 * In the stop: if the stop made the kernel answer EINTR, set the thread's registers to issue the call
 * again, with its whole timeout yet. task->resume says what was set.
 */
void restart_heal(struct process_stop *stop, struct thread_state *task);
/**
 * Before a healed thread runs on: shorten the call's timeout by what was slept already, or let the
 * call answer EINTR after all, because a signal with a handler waits.
 */
void restart_finish(struct process_stop *stop, struct thread_state *task);
/** The name of a system call, or NULL. */
const char *system_call_name(int64_t number);

/* call.c */
/** What a call needs, found by its bytes in the target's code; before the stop as a rule. */
struct error *gadgets_find(struct process_stop *stop) MUST_CHECK;
void gadgets_free(struct gadgets *gadgets);

#endif
