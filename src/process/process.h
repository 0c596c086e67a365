/* SPDX-License-Identifier: MIT */
/*
 * process: running programs from outside. List them, read their maps and modules, stop every task
 * that shares their memory, read and write that memory, run a system call or a function in them.
 *
 * Everything read from a target is outside bytes. A stop is not seen by the program: no stray EINTR,
 * no lost register. Whatever instant suture is killed at, the target runs on as if nothing had been.
 * Nothing here knows patches.
 */
#ifndef SUTURE_PROCESS_H
#define SUTURE_PROCESS_H

#include <sys/types.h>
#include <sys/user.h>

#include "arch/arch.h"
#include "base/base.h"

/* ---- processes ---------------------------------------------------------------------------- */

struct process {
	pid_t pid;
	pid_t namespace_pid;  /* as the process sees itself (last of NSpid) */
	pid_t parent;
	uint64_t start_time;  /* field 22 of /proc/PID/stat: pid and this name a process for ever */
	uid_t uid;
	char *name;           /* comm */
	const struct arch *arch;
	int directory;        /* /proc/PID */
	int memory;           /* /proc/PID/mem, opened for reading and writing where permitted */
	bool memory_writable; /* false: proc_mem.force_override forbids it; PTRACE_POKEDATA is used */
	struct process_stop *stop; /* the one under way, or NULL: whose threads PTRACE_POKEDATA uses */
};

/**
 * Open a process. Errors: NOT_FOUND (gone), PERMISSION (says which: uid, CAP_SYS_PTRACE, Yama
 * scope), UNSUPPORTED (kernel thread, zombie, another CPU, a 32-bit program).
 */
struct error *process_open(pid_t pid, struct process **ret) MUST_CHECK;
void process_close(struct process *process);
void process_cleanup(struct process **process);
#define _cleanup_process_ _cleanup_(process_cleanup)
/** Is it still the process that was opened, and no zombie? */
bool process_alive(const struct process *process);
/** The pid that traces it, or 0. */
pid_t process_tracer(const struct process *process);

/** All thread-group leaders of this pid namespace but suture itself, parents before children. */
struct error *process_list(pid_t **ret, size_t *ret_count) MUST_CHECK;

/* ---- maps and modules --------------------------------------------------------------------- */

struct process_map {
	uint64_t start, end;
	int protection; /* PROT_* */
	bool shared;
	uint64_t offset;
	uint64_t device, inode;
	const char *path; /* "" for anonymous; "[stack]", "[heap]", "[vdso]" as the kernel says */
};

/** A linked file that is mapped, seen by its ELF header in memory. */
struct process_module {
	const char *name; /* basename, without " (deleted)" */
	const char *path; /* as in maps, without " (deleted)"; in the target's mount namespace */
	bool deleted;     /* the file was replaced or removed */
	bool main;        /* the executable */
	bool loader;      /* ld.so */
	bool vdso;
	struct build_id build_id; /* from the note in memory */
	uint64_t bias;    /* address in memory - address in the file (p_vaddr) */
	uint64_t start, end; /* of all its segments */
	uint64_t dynamic; /* address of PT_DYNAMIC in memory, 0: none (static) */
	uint64_t map_start, map_end; /* of its first mapping: names /proc/PID/map_files/START-END */
};

/** A snapshot of the address space; both lists sorted by address. */
struct process_space {
	struct arena *arena;
	VEC(struct process_map) maps;
	VEC(struct process_module) modules;
	uint64_t heap_start, heap_end; /* of brk, from /proc/PID/stat; brk grows upwards from the end */
	uint64_t stack_limit; /* RLIMIT_STACK: how far [stack] may grow below its end */
};

struct error *process_space_read(struct process *process, struct process_space **ret) MUST_CHECK;
void process_space_free(struct process_space *space);
void process_space_cleanup(struct process_space **space);
#define _cleanup_process_space_ _cleanup_(process_space_cleanup)
const struct process_map *process_map_at(const struct process_space *space, uint64_t address);
const struct process_module *process_module_at(const struct process_space *space, uint64_t address);
const struct process_module *process_module_find(const struct process_space *space,
						 const struct build_id *build_id);
/** A path by which the module's mapped file can be opened here, even when it was replaced. */
struct error *process_module_file(struct process *process, const struct process_module *module,
				  char **ret) MUST_CHECK;

/**
 * Free room for @size bytes (page multiple), all of it within @reach of every byte of
 * [@near_start, @near_end), below @limit (0: none); not in the way of brk's or a stack's growth.
 * 0 when there is none.
 */
uint64_t process_space_find_room(const struct process_space *space, uint64_t near_start,
				 uint64_t near_end, uint64_t reach, uint64_t size, uint64_t limit);

/* ---- memory ------------------------------------------------------------------------------- */

/** All @size bytes or an error (INPUT: not mapped; NOT_FOUND: the process is gone). */
struct error *process_memory_read(struct process *process, uint64_t address, void *bytes,
				  size_t size) MUST_CHECK;
/** As much as is readable from the start; the number of bytes. */
size_t process_memory_read_some(struct process *process, uint64_t address, void *bytes, size_t size);
/** Write, whatever the protection of a private mapping; one call for up to 8 aligned bytes. */
struct error *process_memory_write(struct process *process, uint64_t address, const void *bytes,
				   size_t size) MUST_CHECK;
/** A string of at most @limit bytes; INPUT when it does not end. The caller frees @ret. */
struct error *process_memory_read_string(struct process *process, uint64_t address, size_t limit,
					 char **ret) MUST_CHECK;

/* ---- stopping ----------------------------------------------------------------------------- */

struct process_thread {
	pid_t tid;
	pid_t tgid;  /* another than the process's for a vfork child or a CLONE_VM process */
	bool stopped;
	/*
	 * Not stopped, but in vfork(): it cannot run before its child, which is stopped, lets it.
	 * Of its registers only rip, rsp and those of the call's arguments are known, the others are 0.
	 */
	bool waiting;
	struct user_regs_struct registers; /* as at the stop; x86-64 */
	/* In a system call that the stop interrupted, or -1. */
	int64_t system_call;
	/* -ERESTART_RESTARTBLOCK: nanosleep, poll, timed futex; not to be chosen for our calls. */
	bool restart_block;
	/* Its stack from the red zone below the stack pointer to the end of the stack's mapping. */
	uint64_t stack_address;
	uint8_t *stack; /* of the stop's buffer; NULL until process_stop_read_stacks() */
	size_t stack_size;
	/*
	 * On an alternate stack (signal handler, posix_spawn's child): the part in use of the stack
	 * that it came from. Size 0: there is none.
	 */
	uint64_t below_address;
	uint8_t *below;
	size_t below_size;
	bool stack_whole; /* false: it could not be read whole, so counts as inside everything */
	void *state; /* private */
};

struct process_stop {
	struct process *process;
	VEC(struct process_thread) threads;
	uint64_t seized_at, stopped_at, resumed_at; /* CLOCK_MONOTONIC, ns: the stop's own cost */
	void *state; /* private */
};

/**
 * Prepare a stop: find every task that shares the memory (threads; vfork children and CLONE_VM
 * processes by kcmp) and see that each may be traced. Nothing is attached yet: a task under a tracer
 * waits for it at each of its signals, so none is left so while it should run. Those born later are
 * found by process_stop_all(). Errors: CONFLICT (under another tracer, named), PERMISSION, NOT_FOUND.
 */
struct error *process_seize(struct process *process, struct process_stop **ret) MUST_CHECK;
/**
 * Attach to all of them, stop them within @bound_ns (0: the default of 20 ms) and read registers.
 * Past the bound all go on and an error (BUSY) names the slow one and what it does. A thread that
 * exits meanwhile is dropped; one born meanwhile is stopped as well. The list of threads is made
 * anew: pointers into it from before are stale.
 */
struct error *process_stop_all(struct process_stop *stop, uint64_t bound_ns) MUST_CHECK;
/** Read every stack: one process_vm_readv() of as many as fit. @space gives the stacks' ends. */
struct error *process_stop_read_stacks(struct process_stop *stop,
				       const struct process_space *space) MUST_CHECK;
/**
 * Detach from all and let them run on as if there had been no stop: a system call that the stop
 * turned into EINTR though the program has no signal to handle (epoll_wait, sigtimedwait,
 * semtimedop, sockets with a timeout) is issued again with the time that remains.
 * process_stop_all() may follow again.
 */
void process_resume_all(struct process_stop *stop);
/** The end of a stop: resume what is stopped, free everything. NULL is fine. */
void process_release(struct process_stop *stop);
void process_stop_cleanup(struct process_stop **stop);
#define _cleanup_process_stop_ _cleanup_(process_stop_cleanup)

/** "tid 123 (name) in epoll_wait" for messages; arena memory of the stop. */
const char *process_thread_describe(struct process_stop *stop, const struct process_thread *thread);

/* ---- running something in the target ------------------------------------------------------ */

/**
 * Run one system call in a stopped thread of the target, the others may be stopped or not. The
 * thread's state is saved in a signal-return frame on its own stack first, so that it is restored
 * even when suture dies at once. A thread in a restart block is not chosen while there is another.
 * @ret: the result, -errno as the kernel gives it. The call must not block. Errors: BUSY (no fit
 * thread), UNSUPPORTED (no gadget: the program holds no `syscall; ret` or no rt_sigreturn; a seccomp
 * filter forbids the call; a shadow stack), NOT_FOUND (the thread was killed).
 */
struct error *process_system_call(struct process_stop *stop, long number, const uint64_t args[6],
				  int64_t *ret) MUST_CHECK;
/**
 * Call a function of the target on a stopped thread's stack while the others stand still, with all
 * signals blocked but those that an instruction raises; the frame brings the mask back if suture
 * dies. At most @limit_ns, then it is given up half way (BUSY), as when it faults. For functions
 * that take no lock that another thread may hold, and leave errno alone: the caller has proved it.
 */
struct error *process_call(struct process_stop *stop, uint64_t function, const uint64_t args[6],
			   uint64_t limit_ns, uint64_t *ret) MUST_CHECK;

/* ---- hints -------------------------------------------------------------------------------- */

/** A kernel hook that ends with our descriptor and sends no signal: a hint, never proof. */
struct process_hints;
struct process_hints *process_hints_create(struct process *process);
/** A perf execution breakpoint for @tid at @address; silently absent where perf is not permitted. */
void process_hints_add(struct process_hints *hints, pid_t tid, uint64_t address);
/** Until one fires or CLOCK_MONOTONIC reaches @deadline_ns or @longest_ns passed. */
void process_hints_wait(struct process_hints *hints, uint64_t deadline_ns, uint64_t longest_ns);
void process_hints_free(struct process_hints *hints);

/** CLOCK_MONOTONIC in ns. */
uint64_t monotonic_ns(void);

#endif
