/* SPDX-License-Identifier: MIT */
/*
 * May a reverted patch's memory go?
 *
 * Only when nothing in the process points into it: no register, no word of a stack in use, no word of
 * other writable memory. New code may have left its addresses anywhere: a callback, a handler for
 * exit, a pointer to new data in a list of the program's. glibc keeps some of them mangled (jmp_buf,
 * atexit), so each word is tried in that form too. One kind of word does not count: a return address,
 * recognised by the call in front of it. Every thread is unwound and found outside, so it is a leftover
 * in a dead part of some stack; an entry of a function has filling in front of it (link.c).
 *
 *	stop	registers and stacks; where the stacks are
 *	run	everything else that is writable and private and present, while the program runs
 *	stop	registers and stacks again, and as much of the rest as a short stop allows; munmap()
 *
 * An address that moves from memory behind the scan to memory before it and is in no register and on
 * no stack at either stop would be missed where the rest is too large for the last stop; it is scanned
 * twice then. What is found is not argued with: it may be a number that looks like an address. The
 * memory is kept then, counted in status, tried again at the next call, and used again when the same
 * patch comes back.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "live/private.h"

enum {
	CHUNK = 1 << 20,
	IN_STOP_MAX = 4 << 20, /* bytes: about a millisecond */
	/* sysdeps/unix/sysv/linux/x86_64/pointer_guard.h: fs:0x30, rotated left by 2 * 8 + 1. */
	POINTER_GUARD = 0x30,
	POINTER_ROTATION = 17,
};
static const uint64_t scan_limit_ns = 1000000000;

struct scan {
	struct process *process;
	uint64_t start, end; /* what nothing may point into */
	uint64_t text_start, text_end;
	uint8_t *text; /* its bytes */
	uint64_t guard;
	bool has_guard;
	int pagemap;
	struct {
		VEC(struct unwind_range) list; /* stacks: looked at in stops */
	} stacks;
	uint8_t *chunk;
	uint64_t bytes; /* looked at */
	uint64_t deadline_ns;
	bool found, too_long;
};

static bool is_return_address(const struct scan *scan, uint64_t word)
{
	enum { CALL_MAX = 8 };
	const struct arch *arch = scan->process->arch;
	if (word <= scan->text_start || word >= scan->text_end)
		return false;
	uint64_t offset = word - scan->text_start;
	for (size_t length = 2; length <= CALL_MAX && length <= offset; length++) {
		struct arch_instruction instruction;
		if (arch->decode(scan->text + offset - length, length, word - length,
				 &instruction) &&
		    instruction.length == length &&
		    (instruction.flow == ARCH_FLOW_CALL ||
		     instruction.flow == ARCH_FLOW_INDIRECT_CALL))
			return true;
	}
	return false;
}

static bool points_into(const struct scan *scan, uint64_t word)
{
	if (word >= scan->start && word < scan->end)
		return !is_return_address(scan, word);
	uint64_t plain = (word >> POINTER_ROTATION | word << (64 - POINTER_ROTATION)) ^ scan->guard;
	return scan->has_guard && plain >= scan->start && plain < scan->end;
}

static bool words_point_into(const struct scan *scan, const uint8_t *bytes, size_t size)
{
	for (size_t at = 0; at + 8 <= size; at += 8) {
		uint64_t word;
		memcpy(&word, bytes + at, sizeof(word));
		if (points_into(scan, word))
			return true;
	}
	return false;
}

/* ---- threads ------------------------------------------------------------------------------ */

static bool thread_points_into(const struct session *session, const struct scan *scan,
			       const struct process_thread *thread)
{
	const struct unwind_range text = {scan->text_start, scan->text_end};
	return unwind_thread_may_run(session->unwind, thread, &text, 1, true, NULL) !=
		       UNWIND_OUTSIDE ||
	       words_point_into(scan, (const uint8_t *)&thread->registers,
				sizeof(thread->registers)) ||
	       words_point_into(scan, thread->stack, thread->stack ? thread->stack_size : 0) ||
	       words_point_into(scan, thread->below, thread->below ? thread->below_size : 0) ||
	       !(thread->stack_whole || thread->waiting);
}

/** In a stop: does a thread point into it, and what memory was looked at by that? */
static bool threads_point_into(const struct session *session, struct scan *scan)
{
	scan->stacks.list.count = 0;
	for (size_t i = 0; i < session->stop->threads.count; i++) {
		const struct process_thread *thread = &session->stop->threads.items[i];
		if (thread_points_into(session, scan, thread))
			return true;
		const uint64_t pieces[2][2] = {
			{thread->stack_address, thread->stack_size},
			{thread->below_address, thread->below_size},
		};
		for (size_t p = 0; p < 2; p++) {
			const struct process_map *map =
				process_map_at(session->space, pieces[p][0]);
			// What lies below the stack pointer is dead.
			if (pieces[p][1] && map)
				vec_push(&scan->stacks.list,
					 (struct unwind_range){map->start,
							       pieces[p][0] + pieces[p][1]});
		}
	}
	return false;
}

static void read_guard(const struct session *session, struct scan *scan)
{
	for (size_t i = 0; i < session->stop->threads.count && !scan->has_guard; i++) {
		uint64_t thread_pointer = session->stop->threads.items[i].registers.fs_base;
		scan->has_guard =
			thread_pointer &&
			process_memory_read_some(scan->process, thread_pointer + POINTER_GUARD,
						 &scan->guard, 8) == 8;
	}
}

/* ---- the rest ----------------------------------------------------------------------------- */

/** Bytes from @address that are present, or that are not: reading must not make pages. */
static uint64_t run_of_pages(const struct scan *scan, uint64_t address, uint64_t end, bool *present)
{
	uint64_t entries[CHUNK / LIVE_PAGE];
	uint64_t skipped = address % LIVE_PAGE;
	uint64_t pages = align_up(end - address + skipped, LIVE_PAGE) / LIVE_PAGE;
	if (pages > ARRAY_SIZE(entries))
		pages = ARRAY_SIZE(entries);
	ssize_t got = scan->pagemap < 0 ? -1
					: pread(scan->pagemap, entries, pages * 8,
						(off_t)(address / LIVE_PAGE * 8));
	*present = true;
	if (got < 8)
		return pages * LIVE_PAGE - skipped;
	// Bit 63: in memory, bit 62: swapped out (Documentation/admin-guide/mm/pagemap.rst).
	*present = entries[0] >> 62 != 0;
	uint64_t count = 1;
	while (count < (uint64_t)got / 8 && (entries[count] >> 62 != 0) == *present)
		count++;
	return count * LIVE_PAGE - skipped;
}

static void scan_range(struct scan *scan, uint64_t start, uint64_t end)
{
	while (start < end && !scan->found && !scan->too_long) {
		bool present;
		uint64_t size = run_of_pages(scan, start, end, &present);
		if (size > end - start)
			size = end - start;
		if (present) {
			size_t got =
				process_memory_read_some(scan->process, start, scan->chunk, size);
			scan->found = words_point_into(scan, scan->chunk, got);
			scan->bytes += size;
		}
		scan->too_long = monotonic_ns() >= scan->deadline_ns;
		start += size;
	}
}

/** The parts of [start, end) that no stack covers. */
static void scan_without_stacks(struct scan *scan, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < scan->stacks.list.count; i++) {
		const struct unwind_range *stack = &scan->stacks.list.items[i];
		if (stack->start >= end || stack->end <= start)
			continue;
		if (start < stack->start)
			scan_without_stacks(scan, start, stack->start);
		// From the page that the stack ends on: its rest may hold the thread's control block.
		uint64_t next = stack->end & ~(uint64_t)(LIVE_PAGE - 1);
		if (next < end && next > start)
			scan_range(scan, stack->end, align_up(stack->end, LIVE_PAGE));
		start = align_up(stack->end, LIVE_PAGE);
		if (start >= end)
			return;
	}
	scan_range(scan, start, end);
}

static void scan_memory(struct scan *scan, const struct process_space *space)
{
	scan->bytes = 0;
	scan->deadline_ns = monotonic_ns() + scan_limit_ns;
	for (size_t i = 0; i < space->maps.count; i++) {
		const struct process_map *map = &space->maps.items[i];
		if (!(map->protection & PROT_WRITE) || map->shared ||
		    (map->start >= scan->start && map->end <= scan->end))
			continue;
		scan_without_stacks(scan, map->start, map->end);
	}
}

/* ---- the whole ---------------------------------------------------------------------------- */

static struct error *release(struct session *session, struct record *record, struct scan *scan,
			     bool *ret_kept)
{
	*ret_kept = true;
	TRY(session_stop(session));
	struct error *error = session_read_stacks(session);
	if (!error) {
		read_guard(session, scan);
		scan->found = threads_point_into(session, scan);
	}
	session_resume(session);
	if (error || scan->found)
		return error;
	TRY(session_refresh(session));
	scan_memory(scan, session->space);
	bool small = scan->bytes <= IN_STOP_MAX;
	if (!small && !scan->found)
		scan_memory(scan, session->space);
	if (scan->found || scan->too_long)
		return NULL;

	TRY(session_refresh(session));
	TRY(session_stop(session));
	error = session_read_stacks(session);
	if (!error)
		scan->found = threads_point_into(session, scan);
	if (!error && !scan->found && small)
		scan_memory(scan, session->space);
	if (!error && !scan->found && !scan->too_long) {
		error = unmap_in_stop(session, record);
		*ret_kept = error != NULL;
	}
	session_resume(session);
	return error;
}

struct error *memory_release(struct session *session, struct record *record, bool *ret_kept)
{
	*ret_kept = true;
	struct error *error = unwinders_deregister(session, record);
	// No good moment, or one that went wrong: what the unwinder may read must stay.
	if (error && error->kind != ERROR_KIND_BUSY)
		return error;
	error_free(error);
	if (record->head.registered)
		return NULL;

	struct scan scan = {
		.process = session->process,
		.start = record->address,
		.end = record->address + record->body.mapping_size,
		.pagemap = openat(session->process->directory, "pagemap", O_RDONLY | O_CLOEXEC),
		.chunk = xmalloc(CHUNK),
	};
	scan.text_start = record->address + record->body.text_offset;
	scan.text_end = scan.text_start + record->body.text_size;
	scan.text = xcalloc(1, record->body.text_size + 1);
	error = process_memory_read(session->process, scan.text_start, scan.text,
				    record->body.text_size);
	if (!error)
		error = release(session, record, &scan, ret_kept);
	free(scan.text);
	if (scan.pagemap >= 0)
		close(scan.pagemap);
	free(scan.chunk);
	vec_deinit(&scan.stacks.list);
	return error;
}

void memory_release_kept(struct session *session, struct registry *registry)
{
	enum { TRIES = 4 };
	int tries = 0;
	for (size_t i = 0; i < registry->records.count && tries < TRIES; i++) {
		struct record *record = registry->records.items[i];
		bool kept;
		if (record->head.state != LIVE_STATE_REVERTED || record->released)
			continue;
		tries++;
		// It is no part of what was asked for: what fails is tried again at the next call.
		error_free(memory_release(session, record, &kept));
		record->released = !kept;
	}
}
