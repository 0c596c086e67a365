/* SPDX-License-Identifier: MIT */
/*
 * Frames of stopped threads.
 *
 * CFI is read from the target's memory, not from files: it is that of the code that runs, it is
 * there for the vdso and for files that are gone, and it needs no permission more than the stop
 * does. Files give names only, and may be missing.
 *
 * The raw scan is first, and for most threads all: a return address that lies in no range rules out
 * every frame in it. A thread is unwound only when a word hits.
 */
#include "unwind/unwind.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "cfi.h"

enum {
	FRAMES_MAX = 65536,
	EH_FRAME_MAX = 256 << 20,
	PROGRAM_HEADERS_MAX = 128,
};

/* Code with one .eh_frame: a module, or what unwind_code_add() told of. */
struct code {
	const char *name;
	uint64_t start, end;
	uint64_t bias;
	uint8_t *eh_frame;
	struct cfi_section cfi;
	char *file;          /* path to open for names, or NULL */
	struct image *image; /* once prepared, or NULL */
};

struct name {
	uint64_t start, end;
	const char *name;
};

struct unwind {
	struct process *process;
	struct arena *arena;
	VEC(struct code) codes; /* modules first, sorted by address */
	VEC(struct name) names;
	bool prepared;
};

/* ---- setting up ---------------------------------------------------------------------------- */

/* Bulk reads: quick, and nothing that is only executable is asked for. */
static size_t read_much(struct process *process, uint64_t address, void *bytes, size_t size)
{
	struct iovec local = {bytes, size}, remote = {(void *)address, size};
	ssize_t got = process_vm_readv(process->pid, &local, 1, &remote, 1, 0);
	return got == (ssize_t)size ? size : process_memory_read_some(process, address, bytes, size);
}

/* The part of @segments that is loaded from the file at @address on; 0: none. */
static uint64_t loaded_from(const Elf64_Phdr *segments, size_t count, uint64_t bias, uint64_t address)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t from = bias + segments[i].p_vaddr;
		if (segments[i].p_type == PT_LOAD && address >= from &&
		    address - from < segments[i].p_filesz)
			return segments[i].p_filesz - (address - from);
	}
	return 0;
}

/* .eh_frame_hdr, LSB core, "DWARF Extensions"; as every linker writes it: pcrel, udata4, table. */
struct eh_frame_header {
	uint8_t version, pointer_encoding, count_encoding, table_encoding;
	int32_t pointer;
	uint32_t count;
};

static void module_cfi_read(struct process *process, const struct process_module *module,
			    struct code *code)
{
	Elf64_Ehdr header;
	Elf64_Phdr segments[PROGRAM_HEADERS_MAX];
	if (process_memory_read_some(process, module->map_start, &header, sizeof(header)) !=
		    sizeof(header) ||
	    header.e_phnum > PROGRAM_HEADERS_MAX || header.e_phentsize != sizeof(*segments))
		return;
	size_t size = header.e_phnum * sizeof(*segments);
	if (process_memory_read_some(process, module->map_start + header.e_phoff, segments, size) != size)
		return;
	uint64_t at = 0;
	for (size_t i = 0; i < header.e_phnum; i++)
		if (segments[i].p_type == PT_GNU_EH_FRAME)
			at = module->bias + segments[i].p_vaddr;
	struct eh_frame_header start;
	if (!at || process_memory_read_some(process, at, &start, sizeof(start)) != sizeof(start) ||
	    start.version != 1 || start.pointer_encoding != 0x1b) // pcrel, sdata4
		return;
	uint64_t address = at + 4 + (uint64_t)(int64_t)start.pointer;
	uint64_t room = loaded_from(segments, header.e_phnum, module->bias, address);
	uint64_t table_room = loaded_from(segments, header.e_phnum, module->bias, at + sizeof(start));
	if (!room || room > EH_FRAME_MAX)
		return;
	code->eh_frame = xmalloc(room);
	room = read_much(process, address, code->eh_frame, room);

	_cleanup_free_ int32_t(*table)[2] = NULL;
	size_t count = 0;
	if (start.count_encoding == 0x03 && start.table_encoding == 0x3b && // udata4; datarel, sdata4
	    start.count <= table_room / sizeof(*table)) {
		size = start.count * sizeof(*table);
		table = xmalloc(size + 1);
		if (read_much(process, at + sizeof(start), table, size) == size)
			count = start.count;
	}
	cfi_section_init(&code->cfi, code->eh_frame, room, address, table, count, at);
}

struct error *unwind_create(struct process *process, const struct process_space *space,
			    struct unwind **ret)
{
	struct unwind *unwind = xcalloc(1, sizeof(*unwind));
	unwind->process = process;
	unwind->arena = arena_create();
	for (size_t i = 0; i < space->modules.count; i++) {
		const struct process_module *module = &space->modules.items[i];
		struct code code = {
			.name = arena_strdup(unwind->arena, module->name),
			.start = module->start,
			.end = module->end,
			.bias = module->bias,
		};
		module_cfi_read(process, module, &code);
		if (!module->vdso) // no file, no names
			error_free(process_module_file(process, module, &code.file));
		vec_push(&unwind->codes, code);
	}
	*ret = unwind;
	return NULL;
}

void unwind_prepare(struct unwind *unwind)
{
	if (unwind->prepared)
		return;
	unwind->prepared = true;
	for (size_t i = 0; i < unwind->codes.count; i++) {
		struct code *code = &unwind->codes.items[i];
		if (code->file)
			error_free(image_open(code->file, NULL, &code->image));
	}
}

struct error *unwind_code_add(struct unwind *unwind, const char *name, uint64_t start, uint64_t end,
			      const void *eh_frame, size_t eh_frame_size, uint64_t eh_frame_address)
{
	if (start >= end)
		return error_new(ERROR_KIND_INPUT, "code of \"%s\" ends before it starts", name);
	struct code code = {
		.name = arena_strdup(unwind->arena, name),
		.start = start,
		.end = end,
		.bias = start,
		.eh_frame = eh_frame_size ? xmemdup(eh_frame, eh_frame_size) : NULL,
	};
	cfi_section_init(&code.cfi, code.eh_frame, eh_frame_size, eh_frame_address, NULL, 0, 0);
	vec_push(&unwind->codes, code);
	return NULL;
}

void unwind_name_add(struct unwind *unwind, uint64_t start, uint64_t end, const char *name)
{
	vec_push(&unwind->names, (struct name){start, end, arena_strdup(unwind->arena, name)});
}

void unwind_free(struct unwind *unwind)
{
	if (!unwind)
		return;
	for (size_t i = 0; i < unwind->codes.count; i++) {
		struct code *code = &unwind->codes.items[i];
		cfi_section_deinit(&code->cfi);
		free(code->eh_frame);
		free(code->file);
		image_free(code->image);
	}
	vec_deinit(&unwind->codes);
	vec_deinit(&unwind->names);
	arena_free(unwind->arena);
	free(unwind);
}

void unwind_cleanup(struct unwind **unwind)
{
	unwind_free(*unwind);
}

/* ---- walking ------------------------------------------------------------------------------- */

static const struct code *code_at(const struct unwind *unwind, uint64_t pc)
{
	// What was added last stands in nobody's module, or replaces what stood there.
	for (size_t i = unwind->codes.count; i-- > 0;)
		if (pc >= unwind->codes.items[i].start && pc < unwind->codes.items[i].end)
			return &unwind->codes.items[i];
	return NULL;
}

struct walk {
	struct unwind *unwind;
	const struct process_thread *thread;
};

static bool walk_read(void *context, uint64_t address, size_t size, uint64_t *ret)
{
	const struct walk *walk = context;
	const struct process_thread *thread = walk->thread;
	*ret = 0;
	if (thread->stack && address >= thread->stack_address &&
	    range_within(address - thread->stack_address, size, thread->stack_size)) {
		memcpy(ret, thread->stack + (address - thread->stack_address), size);
		return true;
	}
	if (thread->below && address >= thread->below_address &&
	    range_within(address - thread->below_address, size, thread->below_size)) {
		memcpy(ret, thread->below + (address - thread->below_address), size);
		return true;
	}
	return process_memory_read_some(walk->unwind->process, address, ret, size) == size;
}

static struct cfi_registers registers_of(const struct process_thread *thread)
{
	const struct user_regs_struct *r = &thread->registers;
	struct cfi_registers registers = {
		.value = {r->rax, r->rdx, r->rcx, r->rbx, r->rsi, r->rdi, r->rbp, r->rsp, r->r8, r->r9,
			  r->r10, r->r11, r->r12, r->r13, r->r14, r->r15, r->rip},
		.known = (1u << CFI_REGISTERS) - 1,
	};
	if (thread->waiting) // what the kernel tells of a system call: its arguments, sp and pc
		registers.known = 1u << CFI_RSP | 1u << CFI_RIP | 1u << CFI_RDI | 1u << CFI_RSI |
				  1u << CFI_RDX | 1u << 10 | 1u << 8 | 1u << 9;
	return registers;
}

/* The kernel's ucontext (arch/x86/include/uapi/asm/sigcontext.h): sp points at it in a restorer. */
static bool signal_frame_step(struct walk *walk, struct cfi_registers *registers)
{
	// Order of struct sigcontext_64, from offset 40 of the ucontext.
	static const uint8_t order[] = {8, 9, 10, 11, 12, 13, 14, 15, CFI_RDI, CFI_RSI, CFI_RBP, CFI_RBX,
					CFI_RDX, CFI_RAX, CFI_RCX, CFI_RSP, CFI_RIP};
	uint64_t context = registers->value[CFI_RSP] + 40;
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		if (!walk_read(walk, context + 8 * i, 8, &registers->value[order[i]]))
			return false;
	registers->known = (1u << CFI_REGISTERS) - 1;
	return true;
}

/* mov $15, %eax or %rax; syscall: musl's has no CFI. */
static bool is_restorer(struct walk *walk, uint64_t pc)
{
	uint64_t bytes, more;
	if (!walk_read(walk, pc, 8, &bytes) || !walk_read(walk, pc + 7, 2, &more))
		return false;
	return (bytes & 0xffffffffffffff) == 0x050f0000000fb8 ||
	       ((bytes & 0xffffffffffffff) == 0x0000000fc0c748 && more == 0x050f);
}

static void frame_name(const struct unwind *unwind, struct unwind_frame *frame)
{
	uint64_t inside = frame->exact ? frame->pc : frame->pc - 1;
	const struct code *code = code_at(unwind, inside);
	if (code) {
		frame->module = code->name;
		frame->offset = frame->pc - code->bias;
	}
	for (size_t i = unwind->names.count; i-- > 0;) {
		const struct name *name = &unwind->names.items[i];
		if (inside >= name->start && inside < name->end) {
			frame->function = name->name;
			frame->offset = frame->pc - name->start;
			return;
		}
	}
	const struct image_symbol *symbol =
		code && code->image ? image_symbol_at(code->image, inside - code->bias) : NULL;
	if (symbol) {
		frame->function = symbol->name;
		frame->offset = frame->pc - code->bias - symbol->address;
	}
}

static const char *step_reason(enum cfi_step step)
{
	switch (step) {
	case CFI_STEP_MALFORMED:
		return "its unwind table is malformed";
	case CFI_STEP_UNREADABLE:
		return "a saved register lies in memory that cannot be read";
	case CFI_STEP_UNKNOWN:
		return "it depends on a register whose value is not known";
	default:
		return NULL;
	}
}

void unwind_thread(struct unwind *unwind, const struct process_thread *thread,
		   struct unwind_trace *ret)
{
	*ret = (struct unwind_trace){0};
	struct walk walk = {unwind, thread};
	struct cfi_registers registers = registers_of(thread);
	if (registers.value[CFI_RIP] == 0 && registers.value[CFI_RSP] == 0) {
		ret->complete = true; // an io_uring thread: no frame of the program at all
		return;
	}
	unsigned flat = 0;
	for (bool exact = true;;) {
		struct unwind_frame frame = {
			.pc = registers.value[CFI_RIP],
			.cfa = registers.value[CFI_RSP],
			.exact = exact,
		};
		frame_name(unwind, &frame);
		uint64_t pc = exact ? frame.pc : frame.pc - 1;
		const struct code *code = code_at(unwind, pc);
		struct cfi_entry entry;
		uint64_t sp = registers.value[CFI_RSP];
		if (!code || !cfi_entry_at(&code->cfi, pc, &entry)) {
			bool restorer = is_restorer(&walk, frame.pc) &&
					signal_frame_step(&walk, &registers);
			vec_push(&ret->frames, frame);
			if (!restorer) {
				ret->reason = code ? "it has no unwind information"
						   : "it lies in no module";
				return;
			}
			exact = true;
		} else {
			enum cfi_step step = cfi_step(&code->cfi, &entry, pc, &registers, walk_read, &walk,
						      &frame.cfa);
			vec_push(&ret->frames, frame);
			if (step == CFI_STEP_OUTERMOST) {
				ret->complete = true;
				return;
			}
			if (step != CFI_STEP_OK) {
				ret->reason = step_reason(step);
				return;
			}
			bool signal = entry.cie.signal_frame;
			// A frame grows towards its caller, but for a signal that came on another stack. It
			// is empty in vfork(), which holds its return address in a register.
			flat = registers.value[CFI_RSP] == sp ? flat + 1 : 0;
			if (!signal && (registers.value[CFI_RSP] < sp || flat > 1)) {
				ret->reason = "its caller's frame does not lie above it";
				return;
			}
			exact = signal;
		}
		// A stack that somebody began with a zero return address (makecontext, old clones).
		if (registers.value[CFI_RIP] == 0) {
			ret->complete = true;
			return;
		}
		if (ret->frames.count >= FRAMES_MAX) {
			ret->reason = "there are too many frames";
			return;
		}
	}
}

void unwind_trace_deinit(struct unwind_trace *trace)
{
	vec_deinit(&trace->frames);
	trace->complete = false;
	trace->reason = NULL;
}

/* ---- may it run? --------------------------------------------------------------------------- */

/* Does a word of [words, words + count) satisfy start < w <= end for one of the ranges? */
static bool words_hit(const uint64_t *words, size_t count, const struct unwind_range *ranges,
		      size_t range_count, uint64_t low, uint64_t high)
{
	enum { BLOCK = 64 };
	for (size_t at = 0; at < count; at += BLOCK) {
		size_t size = count - at < BLOCK ? count - at : BLOCK;
		// low < w <= high, without a branch, so that the compiler takes several at once.
		uint64_t any = 0;
		for (size_t i = 0; i < size; i++)
			any |= words[at + i] - low - 1 < high - low;
		if (!any)
			continue;
		for (size_t i = 0; i < size; i++)
			for (size_t r = 0; r < range_count; r++)
				if (words[at + i] > ranges[r].start && words[at + i] <= ranges[r].end)
					return true;
	}
	return false;
}

static bool frame_hits(const struct unwind_frame *frame, const struct unwind_range *ranges,
		       size_t count, bool forbid_pc)
{
	for (size_t r = 0; r < count; r++) {
		uint64_t start = ranges[r].start, end = ranges[r].end;
		// An exact pc is the next instruction; a return address stands behind its call, which
		// may be the last instruction.
		if (frame->exact ? (frame->pc > start && frame->pc < end) ||
					   (forbid_pc && frame->pc == start)
				 : frame->pc > start && frame->pc <= end)
			return true;
	}
	return false;
}

enum unwind_verdict unwind_thread_may_run(struct unwind *unwind, const struct process_thread *thread,
					  const struct unwind_range *ranges, size_t count,
					  bool forbid_pc, struct unwind_trace *ret_trace)
{
	if (ret_trace)
		*ret_trace = (struct unwind_trace){0};
	if (count == 0)
		return UNWIND_OUTSIDE;
	uint64_t low = UINT64_MAX, high = 0;
	for (size_t r = 0; r < count; r++) {
		low = ranges[r].start < low ? ranges[r].start : low;
		high = ranges[r].end > high ? ranges[r].end : high;
	}
	const struct user_regs_struct *r = &thread->registers;
	const uint64_t registers[] = {r->rax, r->rbx, r->rcx, r->rdx, r->rsi, r->rdi, r->rbp, r->r8, r->r9,
				      r->r10, r->r11, r->r12, r->r13, r->r14, r->r15, r->rip};
	bool hit = words_hit(registers, ARRAY_SIZE(registers), ranges, count, low, high);
	for (size_t i = 0; forbid_pc && i < count; i++)
		hit |= r->rip == ranges[i].start;
	// The buffers hold whole words of the stack from an aligned address on; a waiting thread's
	// registers are on its stack or of no use to it.
	const struct {
		const uint8_t *bytes;
		size_t size;
	} stacks[] = {{thread->stack, thread->stack_size}, {thread->below, thread->below_size}};
	for (size_t s = 0; s < ARRAY_SIZE(stacks) && !hit; s++) {
		enum { PART = 512 };
		uint64_t words[PART]; // the buffer itself need not be aligned
		for (size_t at = 0; at + 8 <= stacks[s].size && !hit; at += sizeof(words)) {
			size_t size = stacks[s].size - at < sizeof(words) ? stacks[s].size - at
									  : sizeof(words);
			memcpy(words, stacks[s].bytes + at, size);
			hit = words_hit(words, size / 8, ranges, count, low, high);
		}
	}
	if (!hit && thread->stack_whole)
		return UNWIND_OUTSIDE;

	struct unwind_trace own, *trace = ret_trace ? ret_trace : &own;
	unwind_thread(unwind, thread, trace);
	enum unwind_verdict verdict = trace->complete ? UNWIND_OUTSIDE : UNWIND_UNKNOWN;
	for (size_t i = 0; i < trace->frames.count; i++)
		if (frame_hits(&trace->frames.items[i], ranges, count, forbid_pc))
			verdict = UNWIND_INSIDE;
	if (!ret_trace)
		unwind_trace_deinit(trace);
	return verdict;
}

bool unwind_trace_touches(const struct unwind_trace *trace, uint64_t start, uint64_t end)
{
	const struct unwind_range range = {start, end};
	for (size_t i = 0; i < trace->frames.count; i++)
		if (frame_hits(&trace->frames.items[i], &range, 1, true))
			return true;
	return false;
}
