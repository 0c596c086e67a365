/* SPDX-License-Identifier: MIT */
/*
 * The stacks of stopped threads, all read by as few calls as the kernel allows.
 *
 * Where does a stack end? Its mapping may hold more than one: neighbours merge where guard pages do
 * not show in maps (MADV_GUARD_INSTALL, glibc 2.42). glibc and musl put the thread's control block,
 * at which fs points, above its stack in the same mapping, so that is an end too.
 *
 * A thread whose stack pointer lies outside its own stack runs on another one: a signal handler's
 * alternate stack, that of posix_spawn()'s child. The frames that it came from are then on its own
 * stack, above some address that the other stack holds (in the signal frame, as saved rsp): the
 * lowest word that points there is a safe start.
 */
#include "process/private.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

enum {
	PAGE = 4096,
	/* No thread uses more; what claims to is no stack (a coroutine in the heap). */
	STACK_MAX = 256 << 20,
};

struct piece {
	struct process_thread *thread;
	uint64_t address;
	size_t size;
	size_t offset; /* in the stop's buffer */
	size_t got;
	bool below;
};

static uint64_t stack_end(const struct process_map *map, uint64_t from, uint64_t thread_pointer)
{
	if (thread_pointer > from && thread_pointer < map->end)
		return align_up(thread_pointer, 16);
	return map->end;
}

/* The mapping of the thread's own stack, when it can be told. */
static const struct process_map *home_map(const struct process_thread *thread,
					  const struct process_space *space,
					  const struct process_map *current)
{
	const struct process_map *control = process_map_at(space, thread->registers.fs_base);
	if (string_equal(current->path, "[stack]") ||
	    (control == current && thread->registers.fs_base > thread->registers.rsp))
		return current;
	if (thread->tid == thread->tgid) {
		for (size_t i = space->maps.count; i-- > 0;)
			if (string_equal(space->maps.items[i].path, "[stack]"))
				return &space->maps.items[i];
	}
	return control;
}

static void pieces_read(struct process_stop *stop, struct piece *pieces, size_t count)
{
	struct stop_state *state = stop_state(stop);
	struct iovec remote[IOV_MAX];
	for (size_t i = 0; i < count;) {
		size_t batch = count - i < IOV_MAX ? count - i : IOV_MAX, total = 0;
		for (size_t k = 0; k < batch; k++) {
			remote[k] = (struct iovec){(void *)pieces[i + k].address, pieces[i + k].size};
			total += pieces[i + k].size;
		}
		struct iovec local = {state->stacks + pieces[i].offset, total};
		// By the tid of a thread that stands: the leader may be gone.
		ssize_t got = process_vm_readv(pieces[i].thread->tid, &local, 1, remote, batch, 0);
		size_t left = got > 0 ? (size_t)got : 0;
		size_t k = 0;
		for (; k < batch; k++) {
			struct piece *piece = &pieces[i + k];
			piece->got = left < piece->size ? left : piece->size;
			left -= piece->got;
			if (piece->got < piece->size)
				break;
		}
		// The one that ended the call is left short; go on behind it.
		i += k < batch ? k + 1 : batch;
	}
}

static size_t pieces_place(struct process_stop *stop, struct piece *pieces, size_t count,
			   size_t offset)
{
	struct stop_state *state = stop_state(stop);
	for (size_t i = 0; i < count; i++) {
		pieces[i].offset = offset;
		offset += pieces[i].size;
	}
	if (offset > state->stacks_capacity) {
		state->stacks_capacity = offset + offset / 2;
		state->stacks = xrealloc(state->stacks, state->stacks_capacity);
	}
	return offset;
}

struct error *process_stop_read_stacks(struct process_stop *stop, const struct process_space *space)
{
	struct stop_state *state = stop_state(stop);
	size_t count = stop->threads.count;
	_cleanup_free_ struct piece *pieces = xcalloc(2 * count + 1, sizeof(*pieces));
	_cleanup_free_ const struct process_map **homes = xcalloc(count + 1, sizeof(*homes));
	size_t used = 0;
	for (size_t i = 0; i < count; i++) {
		struct process_thread *thread = &stop->threads.items[i];
		const struct user_regs_struct *registers = &thread->registers;
		thread->stack = thread->below = NULL;
		thread->stack_size = thread->below_size = 0;
		// An io_uring thread never runs the program's code and has no stack: all is known.
		thread->stack_whole = registers->rsp == 0 && registers->rip == 0;
		if (thread->stack_whole)
			continue;
		uint64_t start = (registers->rsp - stop->process->arch->red_zone) & ~(uint64_t)7;
		const struct process_map *map = process_map_at(space, registers->rsp);
		if (!map)
			continue;
		if (start < map->start)
			start = map->start;
		const struct process_map *home = home_map(thread, space, map);
		uint64_t end = stack_end(map, registers->rsp, home == map ? registers->fs_base : 0);
		if (end - start > STACK_MAX)
			continue;
		homes[i] = home;
		thread->stack_address = start;
		pieces[used++] = (struct piece){.thread = thread, .address = start, .size = end - start};
	}
	size_t offset = pieces_place(stop, pieces, used, 0);
	pieces_read(stop, pieces, used);

	// Those on an alternate stack: what part of their own is in use?
	size_t first = used;
	for (size_t i = 0; i < first; i++) {
		const struct piece *piece = &pieces[i];
		struct process_thread *thread = piece->thread;
		const struct process_map *home = homes[thread - stop->threads.items];
		thread->stack_whole = piece->got == piece->size;
		if (home && thread->registers.rsp >= home->start && thread->registers.rsp < home->end)
			continue;
		thread->stack_whole = false;
		if (!home)
			continue;
		uint64_t end = stack_end(home, home->start, thread->registers.fs_base), low = end;
		for (size_t at = 0; at + 8 <= piece->got; at += 8) {
			uint64_t word;
			memcpy(&word, state->stacks + piece->offset + at, 8);
			if (word >= home->start && word < low)
				low = word;
		}
		low &= ~(uint64_t)7;
		if (low >= end || end - low > STACK_MAX || piece->got < piece->size)
			continue;
		thread->below_address = low;
		pieces[used++] = (struct piece){
			.thread = thread, .address = low, .size = end - low, .below = true};
	}
	if (used > first) {
		pieces_place(stop, pieces + first, used - first, offset);
		pieces_read(stop, pieces + first, used - first);
	}
	for (size_t i = 0; i < used; i++) {
		struct process_thread *thread = pieces[i].thread;
		uint8_t *bytes = state->stacks + pieces[i].offset;
		if (pieces[i].below) {
			thread->below = bytes;
			thread->below_size = pieces[i].got;
			thread->stack_whole = pieces[i].got == pieces[i].size;
		} else {
			thread->stack = bytes;
			thread->stack_size = pieces[i].got;
		}
	}
	return NULL;
}
