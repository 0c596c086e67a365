/* SPDX-License-Identifier: MIT */
/*
 * Run a system call or a function in a stopped thread, so that the thread survives us.
 *
 * Before anything else a signal frame is written below the thread's red zone: what the kernel would
 * have written had a signal come now (arch/x86/kernel/signal_64.c, struct rt_sigframe), with the
 * registers, the signal mask and the vector state. Then one PTRACE_SETREGS sends the thread to a
 * `syscall; ret` of its own program, its stack pointer at a word in front of the frame that leads to
 * `mov $15, %eax; syscall`, rt_sigreturn:
 *
 *     sp ─▶ restorer           ◀─ also the frame's first word, pretcode
 *           ucontext           registers, signal mask
 *           siginfo
 *           fpstate            xsave area of the size that this task's frames have
 *           red zone
 *     old sp ─▶
 *
 * As long as suture lives it takes the result at the call's exit and puts the registers back itself.
 * When it dies, at whatever instant, the thread finishes the call, returns into rt_sigreturn and is
 * where it was. Nothing else in the target refers to us.
 *
 * Signals. No handler may run while the other threads stand (it could wait for a lock of theirs), so
 * signals are blocked, by PTRACE_SETSIGMASK, but only while the registers already lead into the
 * frame, which holds the true mask: a mask that outlives us is undone by the same rt_sigreturn. (An
 * injected rt_sigprocmask would do the same with one call more.) Those that an instruction raises
 * stay open: the kernel resets the handler of a blocked one.
 *
 * The frame's traps, each measured:
 * - Its xsave area must not be larger than the task's own (the regset may be: it shows features that
 *   a task has to ask for, such as AMX tiles); the kernel then falls back to FXSAVE without a word.
 * - The alternate stack cannot be read from outside. A stack_t with impossible flags is refused by
 *   the kernel and that is ignored: the thread keeps what it has (restore_altstack).
 * - rt_sigreturn ends a restart block (nanosleep, poll, timed futex). While we live we put the
 *   registers back with orig_rax and -ERESTART_RESTARTBLOCK at an event stop, where the kernel still
 *   decides about restarts; if we die, such a thread sees one EINTR. So another one is chosen.
 * - An rseq section that was left half way counts as aborted.
 * - With a user shadow stack `ret` does not go where the stack says: refused.
 *
 * No single steps: their SIGTRAP would end the target if we died in between, and resets a SIGTRAP
 * that is ignored.
 */
#include "process/private.h"

#include <cpuid.h>
#include <elf.h>
#include <errno.h>
#include <linux/seccomp.h>
#include <linux/filter.h>
#include <linux/audit.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { EVENT_STOP = 128 }; /* PTRACE_EVENT_STOP of <linux/ptrace.h>, which clashes with glibc's */
enum { SYSCALL_STOP = SIGTRAP | 0x80 };

/* A system call that we ask for does not block; a thread that takes longer is stuck. */
static const uint64_t call_bound_ns = 2000000000;

/* ---- gadgets ------------------------------------------------------------------------------- */

struct gadgets {
	uint64_t system_call; /* syscall; ret */
	uint64_t restorer;    /* mov $15, %eax; syscall */
	uint64_t pop;         /* pop %rax; ret: makes a restorer of the former where there is none */
	/*
	 * mov %rax, D(%rbx); pop %rbx; ret, the end of many a function: keeps a result in memory, as
	 * the restorer's first instruction takes rax.
	 */
	uint64_t save;
	int8_t save_displacement;
};

static const uint8_t bytes_system_call[] = {0x0f, 0x05, 0xc3};
static const uint8_t bytes_restorer[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05}; // glibc
static const uint8_t bytes_restorer_short[] = {0xb8, 0x0f, 0, 0, 0, 0x0f, 0x05};       // musl
static const uint8_t bytes_pop[] = {0x58, 0xc3};

static void look_for(uint64_t *place, const uint8_t *bytes, size_t size, uint64_t address,
		     const uint8_t *gadget, size_t gadget_size)
{
	const uint8_t *found = *place ? NULL : memmem(bytes, size, gadget, gadget_size);
	if (found)
		*place = address + (uint64_t)(found - bytes);
}

static void look_for_save(struct gadgets *gadgets, const uint8_t *bytes, size_t size,
			  uint64_t address)
{
	for (size_t i = 0; !gadgets->save && i + 6 <= size; i++) {
		const uint8_t *found = memmem(bytes + i, size - i - 2, "\x48\x89", 2);
		if (!found)
			return;
		i = (size_t)(found - bytes);
		bool displaced = i + 6 <= size && memcmp(found + 4, "\x5b\xc3", 2) == 0 &&
				 found[2] == 0x43;
		bool plain = memcmp(found + 2, "\x03\x5b\xc3", 3) == 0;
		if (!displaced && !plain)
			continue;
		gadgets->save = address + i;
		gadgets->save_displacement = displaced ? (int8_t)found[3] : 0;
	}
}

static void search_bytes(struct gadgets *gadgets, const uint8_t *bytes, size_t size,
			 uint64_t address)
{
	look_for(&gadgets->system_call, bytes, size, address, bytes_system_call,
		 sizeof(bytes_system_call));
	look_for(&gadgets->restorer, bytes, size, address, bytes_restorer, sizeof(bytes_restorer));
	look_for(&gadgets->restorer, bytes, size, address, bytes_restorer_short,
		 sizeof(bytes_restorer_short));
	look_for(&gadgets->pop, bytes, size, address, bytes_pop, sizeof(bytes_pop));
	look_for_save(gadgets, bytes, size, address);
}

static bool search_done(const struct gadgets *gadgets)
{
	return gadgets->system_call && gadgets->restorer && gadgets->pop && gadgets->save;
}

/* The C library holds all of them as a rule; then the rest, for static and odd programs. */
static int module_rank(const struct process_module *module)
{
	if (string_starts_with(module->name, "libc.") || string_starts_with(module->name, "libc-"))
		return 0;
	return module->loader ? 1 : module->main ? 2 : 3;
}

static struct error *search(struct process_stop *stop, struct gadgets *gadgets)
{
	_cleanup_process_space_ struct process_space *space = NULL;
	TRY(process_space_read(stop->process, &space));
	enum { PART = 128 << 10, OVERLAP = 16 };
	_cleanup_free_ uint8_t *part = xmalloc(PART + OVERLAP);
	for (int rank = 0; rank <= 3; rank++)
		for (size_t m = 0; m < space->maps.count; m++) {
			const struct process_map *map = &space->maps.items[m];
			const struct process_module *module = process_module_at(space, map->start);
			if (!module || !(map->protection & PROT_EXEC) || module_rank(module) != rank)
				continue;
			for (uint64_t at = map->start; at < map->end; at += PART) {
				size_t size = map->end - at < PART + OVERLAP ? map->end - at
									     : PART + OVERLAP;
				size = process_memory_read_some(stop->process, at, part, size);
				search_bytes(gadgets, part, size, at);
				if (search_done(gadgets))
					return NULL;
			}
		}
	return NULL;
}

struct error *gadgets_find(struct process_stop *stop)
{
	struct stop_state *state = stop_state(stop);
	if (state->gadgets)
		return NULL;
	state->gadgets = xcalloc(1, sizeof(*state->gadgets));
	return search(stop, state->gadgets);
}

void gadgets_free(struct gadgets *gadgets)
{
	free(gadgets);
}

/* Do the bytes still stand there? Text may have been patched since, also by us. */
static bool gadget_stands(struct process *process, uint64_t address, const uint8_t *bytes, size_t size)
{
	uint8_t found[16];
	return address && process_memory_read_some(process, address, found, size) == size &&
	       memcmp(found, bytes, size) == 0;
}

/* ---- the frame ----------------------------------------------------------------------------- */

/* struct sigcontext_64, arch/x86/include/uapi/asm/sigcontext.h */
struct frame_registers {
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip,
		eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2;
	uint64_t fpstate;
	uint64_t reserved[8];
};

/* struct rt_sigframe, arch/x86/include/asm/sigframe.h */
struct frame {
	uint64_t pretcode;
	uint64_t flags, link;
	struct {
		uint64_t sp;
		int32_t flags, padding;
		uint64_t size;
	} stack;
	struct frame_registers registers;
	uint64_t mask;
	uint8_t info[128];
};
_Static_assert(sizeof(struct frame) == 440, "as the kernel has it");

/* struct _fpx_sw_bytes, at the end of the legacy region of an xsave area */
struct xsave_software {
	uint32_t magic1;
	uint32_t extended_size;
	uint64_t features;
	uint32_t xstate_size;
	uint32_t padding[7];
};

enum {
	UC_FLAGS = 1 | 2 | 4, /* UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS */
	XSAVE_SOFTWARE = 464,
	XSAVE_HEADER = 512,
	XSAVE_MINIMUM = 576,
	XSAVE_MAX = 16384,
	MAGIC1 = 0x46505853,
	MAGIC2 = 0x46505845,
	REGSET_SHADOW_STACK = 0x204, /* NT_X86_SHSTK */
	REQUEST_RSEQ = 0x420f,       /* PTRACE_GET_RSEQ_CONFIGURATION */
	CHAIN = 3,                   /* words in front of the frame's second */
};

/* What a thread held before our call. */
struct saved {
	struct thread_state *task;
	struct user_regs_struct registers; /* to put back while we live */
	uint64_t mask;
	uint8_t xsave[XSAVE_MAX];
	size_t xsave_size;
	uint64_t chain;  /* where sp points when the call returns */
	uint64_t result; /* room for a word */
};

/*
 * The part of the xsave area that a frame of this task holds. Features that are given on request
 * only (XFD, CPUID 0xD ECX bit 2) are in it when the task uses them.
 */
static size_t frame_xsave_size(const uint8_t *xsave, size_t size, uint64_t *ret_features)
{
	uint64_t all, used, features = 3;
	memcpy(&all, xsave + XSAVE_SOFTWARE, 8); // the regset puts XCR0 here
	memcpy(&used, xsave + XSAVE_HEADER, 8);
	size_t end = XSAVE_MINIMUM;
	for (unsigned i = 2; i < 63; i++) {
		unsigned width, offset, flags, unused;
		if (!(all >> i & 1) || !__get_cpuid_count(0xd, i, &width, &offset, &flags, &unused))
			continue;
		if ((flags & 4 && !(used >> i & 1)) || !width || offset + (size_t)width > size)
			continue;
		features |= 1ul << i;
		if (offset + (size_t)width > end)
			end = offset + width;
	}
	*ret_features = features;
	return end;
}

/* In an rseq section? It counts as aborted, as after any preemption. */
static void rseq_abort(struct process *process, struct saved *saved)
{
	struct {
		uint64_t pointer;
		uint32_t size, signature, flags, padding;
	} configuration = {0};
	struct {
		uint32_t version, flags;
		uint64_t start, length, abort;
	} section;
	uint64_t pointer;
	if (ptrace((enum __ptrace_request)REQUEST_RSEQ, saved->task->tid, sizeof(configuration),
		   &configuration) <= 0 ||
	    !configuration.pointer ||
	    process_memory_read_some(process, configuration.pointer + 8, &pointer, 8) != 8 || !pointer ||
	    process_memory_read_some(process, pointer, &section, sizeof(section)) != sizeof(section))
		return;
	if (saved->registers.rip - section.start < section.length)
		saved->registers.rip = section.abort;
}

/*
 * Read what the thread holds and write its frame. false: this thread will not do (no room, gone, a
 * shadow stack).
 */
static bool frame_write(struct process_stop *stop, struct thread_state *task, struct saved *saved)
{
	struct process *process = stop->process;
	const struct gadgets *gadgets = stop_state(stop)->gadgets;
	saved->task = task;
	saved->registers = task->resume;
	rseq_abort(process, saved);
	uint64_t shadow;
	struct iovec vector = {&shadow, sizeof(shadow)};
	if (ptrace(PTRACE_GETREGSET, task->tid, REGSET_SHADOW_STACK, &vector) == 0)
		return false;
	if (ptrace(PTRACE_GETSIGMASK, task->tid, sizeof(saved->mask), &saved->mask) != 0)
		return false;
	vector = (struct iovec){saved->xsave, sizeof(saved->xsave)};
	if (ptrace(PTRACE_GETREGSET, task->tid, NT_X86_XSTATE, &vector) != 0 ||
	    vector.iov_len < XSAVE_MINIMUM)
		return false;
	saved->xsave_size = vector.iov_len;

	uint8_t bytes[CHAIN * 8 + sizeof(struct frame) + XSAVE_MAX + 128 + 4];
	memset(bytes, 0, sizeof(bytes));
	uint64_t features;
	size_t size = frame_xsave_size(saved->xsave, saved->xsave_size, &features);
	struct user_regs_struct r = saved->registers;
	// As the kernel would have it after a signal: the call is made again, or was interrupted.
	switch ((int64_t)r.orig_rax >= 0 ? (int64_t)r.rax : 0) {
	case -512: // ERESTARTSYS
	case -513: // ERESTARTNOINTR
	case -514: // ERESTARTNOHAND
		r.rax = r.orig_rax;
		r.rip -= 2;
		break;
	case -516: // ERESTART_RESTARTBLOCK
		r.rax = (unsigned long long)-EINTR;
		break;
	}
	uint64_t top = r.rsp - process->arch->red_zone;
	uint64_t fpstate = (top - size - 4) & ~(uint64_t)63;
	uint64_t place = ((fpstate - sizeof(struct frame)) & ~(uint64_t)15) - 8;
	struct frame frame = {
		.flags = UC_FLAGS,
		.stack.flags = 0x10000, // neither 0 nor SS_DISABLE nor SS_ONSTACK: left as it is
		.registers = {
			r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx,
			r.rdx, r.rax, r.rcx, r.rsp, r.rip, r.eflags,
			(uint16_t)r.cs, (uint16_t)r.gs, (uint16_t)r.fs, (uint16_t)r.ss,
			.fpstate = fpstate,
		},
		.mask = saved->mask,
	};
	// At the system call sp is one word above the frame's start, so its last word leads there.
	uint64_t chain[CHAIN] = {gadgets->pop, SYS_rt_sigreturn, gadgets->system_call};
	saved->chain = place - 16;
	if (gadget_stands(process, gadgets->restorer, bytes_restorer, sizeof(bytes_restorer)) ||
	    gadget_stands(process, gadgets->restorer, bytes_restorer_short,
			  sizeof(bytes_restorer_short))) {
		chain[CHAIN - 1] = gadgets->restorer;
		saved->chain = place;
	}
	frame.pretcode = chain[CHAIN - 1];
	saved->result = place + offsetof(struct frame, info);
	uint64_t start = place - 16;
	memcpy(bytes, chain, 16);
	memcpy(bytes + 16, &frame, sizeof(frame));
	uint8_t *area = bytes + (fpstate - start);
	memcpy(area, saved->xsave, size);
	struct xsave_software software = {
		.magic1 = MAGIC1,
		.extended_size = (uint32_t)size + 4,
		.features = features,
		.xstate_size = (uint32_t)size,
	};
	memcpy(area + XSAVE_SOFTWARE, &software, sizeof(software));
	uint64_t used;
	memcpy(&used, area + XSAVE_HEADER, 8);
	used &= features;
	memcpy(area + XSAVE_HEADER, &used, 8);
	memset(area + XSAVE_HEADER + 8, 0, XSAVE_MINIMUM - XSAVE_HEADER - 8);
	uint32_t magic2 = MAGIC2;
	memcpy(area + size, &magic2, sizeof(magic2));

	// This call honours protections: where there is a guard page, there is no room.
	size_t total = fpstate + size + 4 - start;
	struct iovec local = {bytes, total}, remote = {(void *)start, total};
	return process_vm_writev(task->tid, &local, 1, &remote, 1, 0) == (ssize_t)total;
}

/* ---- seccomp ------------------------------------------------------------------------------- */

/* The classic BPF that a filter may hold (kernel/seccomp.c, seccomp_check_filter). */
static uint32_t filter_run(const struct sock_filter *code, size_t count,
			   const struct seccomp_data *data)
{
	uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = {0};
	for (size_t pc = 0; pc < count; pc++) {
		const struct sock_filter *op = &code[pc];
		uint32_t operand = BPF_SRC(op->code) == BPF_X ? x : op->k;
		bool taken;
		switch (BPF_CLASS(op->code)) {
		case BPF_LD:
			if (BPF_MODE(op->code) == BPF_ABS) {
				if (op->k > sizeof(*data) - 4)
					return SECCOMP_RET_KILL_PROCESS;
				memcpy(&a, (const uint8_t *)data + op->k, 4);
			} else if (BPF_MODE(op->code) == BPF_LEN) {
				a = sizeof(*data);
			} else {
				a = BPF_MODE(op->code) == BPF_MEM ? memory[op->k % BPF_MEMWORDS] : op->k;
			}
			break;
		case BPF_LDX:
			x = BPF_MODE(op->code) == BPF_LEN   ? sizeof(*data)
			    : BPF_MODE(op->code) == BPF_MEM ? memory[op->k % BPF_MEMWORDS]
							    : op->k;
			break;
		case BPF_ST:
			memory[op->k % BPF_MEMWORDS] = a;
			break;
		case BPF_STX:
			memory[op->k % BPF_MEMWORDS] = x;
			break;
		case BPF_ALU:
			switch (BPF_OP(op->code)) {
			case BPF_ADD: a += operand; break;
			case BPF_SUB: a -= operand; break;
			case BPF_MUL: a *= operand; break;
			case BPF_DIV: a = operand ? a / operand : 0; break;
			case BPF_AND: a &= operand; break;
			case BPF_OR: a |= operand; break;
			case BPF_XOR: a ^= operand; break;
			case BPF_LSH: a = operand < 32 ? a << operand : 0; break;
			case BPF_RSH: a = operand < 32 ? a >> operand : 0; break;
			case BPF_NEG: a = -a; break;
			default: return SECCOMP_RET_KILL_PROCESS;
			}
			break;
		case BPF_JMP:
			if (BPF_OP(op->code) == BPF_JA) {
				pc += op->k;
				break;
			}
			taken = BPF_OP(op->code) == BPF_JEQ   ? a == operand
				: BPF_OP(op->code) == BPF_JGT ? a > operand
				: BPF_OP(op->code) == BPF_JGE ? a >= operand
							      : (a & operand) != 0;
			pc += taken ? op->jt : op->jf;
			break;
		case BPF_RET:
			return BPF_RVAL(op->code) == BPF_A ? a : op->k;
		default:
			if (BPF_MISCOP(op->code) == BPF_TAX)
				x = a;
			else
				a = x;
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}

/* Would the thread's seccomp filters let the call through? They are read and run here. */
static struct error *seccomp_check(struct process_stop *stop, const struct thread_state *task,
				   long number, const uint64_t args[6], uint64_t ip)
{
	char path[64], status[4096];
	snprintf(path, sizeof(path), "task/%d/status", task->tid);
	if (proc_read(stop->process->directory, path, status, sizeof(status)) <= 0)
		return NULL;
	uint64_t mode = status_field(status, "Seccomp", 10, 0);
	if (mode == 0)
		return NULL;
	const char *name = system_call_name(number);
	if (mode == 1)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "process %d runs in strict seccomp mode, which permits no call of ours",
				 stop->process->pid);
	struct seccomp_data data = {
		.nr = (int)number,
		.arch = AUDIT_ARCH_X86_64,
		.instruction_pointer = ip,
		.args = {args[0], args[1], args[2], args[3], args[4], args[5]},
	};
	for (unsigned long i = 0;; i++) {
		long count = ptrace((enum __ptrace_request)0x420c, task->tid, i, NULL);
		if (count < 0 && errno == ENOENT && i > 0)
			return NULL; // that was the last one
		_cleanup_free_ struct sock_filter *code =
			xcalloc(count > 0 ? (size_t)count : 1, sizeof(*code));
		if (count <= 0 || ptrace((enum __ptrace_request)0x420c, task->tid, i, code) != count)
			return error_errno(count < 0 ? errno : EINVAL,
					   "process %d has a seccomp filter that cannot be read (that wants "
					   "CAP_SYS_ADMIN)",
					   stop->process->pid);
		uint32_t action = filter_run(code, (size_t)count, &data) & SECCOMP_RET_ACTION_FULL;
		if (action != SECCOMP_RET_ALLOW && action != SECCOMP_RET_LOG)
			return error_new(ERROR_KIND_UNSUPPORTED,
					 "a seccomp filter of process %d forbids the system call %s "
					 "(number %ld)",
					 stop->process->pid, name ? name : "", number);
	}
}

/* ---- running ------------------------------------------------------------------------------- */

/* Lower is better; negative: not at all. */
static int thread_rank(const struct process_stop *stop, const struct process_thread *thread)
{
	const struct thread_state *task = thread_state(thread);
	if (!thread->stopped || thread->tgid != stop->process->pid || !task->registers.rsp ||
	    task->registers.cs != 0x33) // 64-bit user code
		return -1;
	if (thread->restart_block)
		return 3;
	if (task->group_stopped)
		return 2;
	return thread->system_call < 0;
}

/* The thread is gone while it worked for us. */
static struct error *gone(struct process_stop *stop, struct thread_state *task)
{
	task->phase = THREAD_LATE; // its end may be still to be reported
	for (size_t i = 0; i < stop->threads.count; i++)
		if (thread_state(&stop->threads.items[i]) == task)
			stop->threads.items[i].stopped = false;
	return error_new(ERROR_KIND_NOT_FOUND, "thread %d of process %d ended during a call", task->tid,
			 stop->process->pid);
}

enum arrival {
	ARRIVED_SYSTEM_CALL, /* at a system call's entry or exit */
	ARRIVED_EVENT,       /* at an event stop */
	ARRIVED_FAULT,       /* at a signal that an instruction raised */
	ARRIVED_LATE,
	ARRIVED_GONE,
};

/* Wait for the next stop of a thread that runs. */
static enum arrival arrive(struct thread_state *task, uint64_t deadline, int *ret_signal)
{
	int status, got = stop_wait(task->tid, &status, deadline);
	if (got == 0)
		return ARRIVED_LATE;
	if (got < 0 || !WIFSTOPPED(status))
		return ARRIVED_GONE;
	if (WSTOPSIG(status) == SYSCALL_STOP)
		return ARRIVED_SYSTEM_CALL;
	if (status >> 16 == EVENT_STOP) {
		task->group_stopped |= WSTOPSIG(status) != SIGTRAP;
		return ARRIVED_EVENT;
	}
	*ret_signal = WSTOPSIG(status);
	return ARRIVED_FAULT;
}

/* Let the thread go on by @request until the next stop. */
static enum arrival run(struct thread_state *task, enum __ptrace_request request, uint64_t deadline,
			int *ret_signal)
{
	if (ptrace(request, task->tid, NULL, NULL) != 0)
		return ARRIVED_GONE;
	return arrive(task, deadline, ret_signal);
}

/*
 * From a system-call stop to an event stop, without an instruction of the program: there the kernel
 * decides about restarts by the registers that it finds. Then put everything back.
 */
static struct error *put_back(struct process_stop *stop, struct saved *saved, bool running,
			      bool vector_state)
{
	struct thread_state *task = saved->task;
	for (bool at_event = false; !at_event;) {
		int signal;
		ptrace(PTRACE_INTERRUPT, task->tid, NULL, NULL);
		enum arrival arrival = running ? arrive(task, monotonic_ns() + call_bound_ns, &signal)
					       : run(task, PTRACE_CONT, monotonic_ns() + call_bound_ns,
						     &signal);
		running = false;
		switch (arrival) {
		case ARRIVED_EVENT:
			at_event = true;
			break;
		case ARRIVED_GONE:
			return gone(stop, task);
		case ARRIVED_LATE:
			task->phase = THREAD_LATE;
			return error_new(ERROR_KIND_BUSY, "thread %d does not come back from a call",
					 task->tid);
		default:
			break;
		}
	}
	if (vector_state) {
		struct iovec vector = {saved->xsave, saved->xsave_size};
		ptrace(PTRACE_SETREGSET, task->tid, NT_X86_XSTATE, &vector);
	}
	// Until here the registers lead into the frame; from the second line on they do not.
	if (ptrace(PTRACE_SETSIGMASK, task->tid, sizeof(saved->mask), &saved->mask) != 0 ||
	    ptrace(PTRACE_SETREGS, task->tid, NULL, &saved->registers) != 0)
		return gone(stop, task);
	task->resume = saved->registers;
	return NULL;
}

/* All but those that an instruction raises, SIGKILL and SIGSTOP. */
static uint64_t call_mask(void)
{
	uint64_t open = 0;
	static const int raised[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGKILL, SIGSTOP};
	for (size_t i = 0; i < ARRAY_SIZE(raised); i++)
		open |= 1ul << (raised[i] - 1);
	return ~open;
}

/* Choose a thread and write its frame. */
static struct error *prepare(struct process_stop *stop, long number, const uint64_t args[6],
			     struct saved *saved)
{
	TRY(gadgets_find(stop));
	const struct gadgets *gadgets = stop_state(stop)->gadgets;
	bool restorer = gadgets->restorer || gadgets->pop;
	if (!gadgets->system_call || !restorer ||
	    !gadget_stands(stop->process, gadgets->system_call, bytes_system_call,
			   sizeof(bytes_system_call)))
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "process %d holds no `%s` in its code, so nothing can be run in it",
				 stop->process->pid,
				 gadgets->system_call ? "mov $15, %eax; syscall" : "syscall; ret");
	struct error *refused = NULL;
	for (int rank = 0; rank <= 3; rank++)
		for (size_t i = 0; i < stop->threads.count; i++) {
			const struct process_thread *thread = &stop->threads.items[i];
			if (thread_rank(stop, thread) != rank)
				continue;
			static const uint64_t none[6];
			struct error *error = NULL;
			if (number >= 0)
				error = seccomp_check(stop, thread_state(thread), number, args,
						      gadgets->system_call + 2);
			if (!error)
				error = seccomp_check(stop, thread_state(thread), SYS_rt_sigreturn, none,
						      gadgets->system_call + 2);
			if (!error && frame_write(stop, thread_state(thread), saved)) {
				error_free(refused);
				return NULL;
			}
			if (error) {
				error_free(refused);
				refused = error;
			}
		}
	if (refused)
		return refused;
	return error_new(ERROR_KIND_BUSY,
			 "no thread of process %d can run a call: none stands in 64-bit code with room "
			 "for a signal frame on its stack and without a shadow stack",
			 stop->process->pid);
}

static void registers_for(struct user_regs_struct *r, uint64_t rip, uint64_t rsp, long rax,
			  const uint64_t args[6])
{
	r->rip = rip;
	r->rsp = rsp;
	r->rax = (unsigned long long)rax;
	r->orig_rax = (unsigned long long)-1; // in no system call: nothing to restart
	r->rdi = args[0];
	r->rsi = args[1];
	r->rdx = args[2];
	r->r10 = args[3];
	r->r8 = args[4];
	r->r9 = args[5];
	r->eflags &= ~(unsigned long long)0x500; // DF, TF
}

struct error *process_system_call(struct process_stop *stop, long number, const uint64_t args[6],
				  int64_t *ret)
{
	_cleanup_free_ struct saved *saved = xcalloc(1, sizeof(*saved));
	TRY(prepare(stop, number, args, saved));
	struct thread_state *task = saved->task;
	const struct gadgets *gadgets = stop_state(stop)->gadgets;
	struct user_regs_struct r = saved->registers;
	registers_for(&r, gadgets->system_call, saved->chain, number, args);
	uint64_t mask = call_mask(), deadline = monotonic_ns() + call_bound_ns;
	if (ptrace(PTRACE_SETREGS, task->tid, NULL, &r) != 0 ||
	    ptrace(PTRACE_SETSIGMASK, task->tid, sizeof(mask), &mask) != 0)
		return gone(stop, task);

	// To the entry, to the exit. A group stop may come between.
	int signal = 0;
	enum arrival arrival = ARRIVED_EVENT;
	for (int stops = 0; stops < 2;) {
		arrival = run(task, PTRACE_SYSCALL, deadline, &signal);
		if (arrival == ARRIVED_SYSTEM_CALL)
			stops++;
		else if (arrival != ARRIVED_EVENT)
			break;
	}
	if (arrival == ARRIVED_GONE)
		return gone(stop, task);
	if (arrival == ARRIVED_SYSTEM_CALL && ptrace(PTRACE_GETREGS, task->tid, NULL, &r) != 0)
		return gone(stop, task);
	TRY(put_back(stop, saved, arrival == ARRIVED_LATE, false));
	if (arrival == ARRIVED_FAULT)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "system call %ld in process %d ended with signal %d", number,
				 stop->process->pid, signal);
	if (arrival == ARRIVED_LATE)
		return error_new(ERROR_KIND_BUSY, "system call %ld in process %d did not end", number,
				 stop->process->pid);
	*ret = (int64_t)r.rax;
	return NULL;
}

/* ---- functions ----------------------------------------------------------------------------- */

struct error *process_call(struct process_stop *stop, uint64_t function, const uint64_t args[6],
			   uint64_t limit_ns, uint64_t *ret)
{
	TRY(gadgets_find(stop));
	const struct gadgets *gadgets = stop_state(stop)->gadgets;
	uint8_t save[] = {0x48, 0x89, 0x43, (uint8_t)gadgets->save_displacement, 0x5b, 0xc3};
	static const uint8_t save_plain[] = {0x48, 0x89, 0x03, 0x5b, 0xc3};
	if (!gadget_stands(stop->process, gadgets->save, save, sizeof(save)) &&
	    !gadget_stands(stop->process, gadgets->save, save_plain, sizeof(save_plain)))
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "process %d holds no instructions by which a function's result could be "
				 "taken (mov %%rax, (%%rbx); pop %%rbx; ret)",
				 stop->process->pid);
	_cleanup_free_ struct saved *saved = xcalloc(1, sizeof(*saved));
	TRY(prepare(stop, -1, args, saved));
	struct thread_state *task = saved->task;

	// The function returns to the gadget that keeps its result (in the frame's siginfo, which
	// rt_sigreturn does not read) and pops a word, and that returns into the frame. psABI 3.2.2:
	// sp + 8 is a multiple of 16 at an entry; the chain begins at such an sp.
	uint64_t words[2] = {gadgets->save, 0}, entry = saved->chain - sizeof(words);
	struct iovec local = {words, sizeof(words)}, remote = {(void *)entry, sizeof(words)};
	if (process_vm_writev(task->tid, &local, 1, &remote, 1, 0) != (ssize_t)sizeof(words))
		return error_new(ERROR_KIND_BUSY, "the stack of thread %d has no room for a call",
				 task->tid);
	struct user_regs_struct r = saved->registers;
	registers_for(&r, function, entry, 0, args);
	r.rcx = args[3];
	r.rbx = saved->result - (uint64_t)(int64_t)gadgets->save_displacement;
	uint64_t mask = call_mask(), deadline = monotonic_ns() + limit_ns;
	if (ptrace(PTRACE_SETREGS, task->tid, NULL, &r) != 0 ||
	    ptrace(PTRACE_SETSIGMASK, task->tid, sizeof(mask), &mask) != 0)
		return gone(stop, task);
	// psABI 3.2.1: x87 and MXCSR control words as a function expects them; the frame has the true
	// ones.
	struct user_fpregs_struct fp;
	if (ptrace(PTRACE_GETFPREGS, task->tid, NULL, &fp) == 0) {
		fp.cwd = 0x37f;
		fp.swd = fp.ftw = 0;
		fp.mxcsr = 0x1f80;
		ptrace(PTRACE_SETFPREGS, task->tid, NULL, &fp);
	}

	int signal = 0;
	enum arrival arrival;
	bool entry_stop = false, done = false;
	do {
		arrival = run(task, PTRACE_SYSCALL, deadline, &signal);
		if (arrival != ARRIVED_SYSTEM_CALL)
			continue;
		entry_stop = !entry_stop;
		if (entry_stop && ptrace(PTRACE_GETREGS, task->tid, NULL, &r) != 0)
			return gone(stop, task);
		done = entry_stop && r.orig_rax == SYS_rt_sigreturn && r.rsp > saved->chain &&
		       r.rsp <= saved->chain + 24;
	} while (!done && (arrival == ARRIVED_SYSTEM_CALL || arrival == ARRIVED_EVENT));
	if (arrival == ARRIVED_GONE)
		return gone(stop, task);
	if (done) {
		// At the entry of rt_sigreturn. It is skipped, which leaves a restart block alive, and sp
		// is set to come here again if we die now.
		struct user_regs_struct again = r;
		again.orig_rax = (unsigned long long)-1;
		again.rsp = saved->chain;
		again.rip = gadgets->system_call + 2;
		if (ptrace(PTRACE_SETREGS, task->tid, NULL, &again) != 0)
			return gone(stop, task);
	}
	TRY(put_back(stop, saved, arrival == ARRIVED_LATE, true));
	if (arrival == ARRIVED_FAULT)
		return error_new(ERROR_KIND_BUSY,
				 "the function at 0x%lx in process %d raised signal %d (%s) and was given up",
				 (unsigned long)function, stop->process->pid, signal, strsignal(signal));
	if (!done)
		return error_new(ERROR_KIND_BUSY,
				 "the function at 0x%lx in process %d did not end within %.1f ms and was "
				 "given up",
				 (unsigned long)function, stop->process->pid, (double)limit_ns / 1e6);
	return process_memory_read(stop->process, saved->result, ret, sizeof(*ret));
}
