/* SPDX-License-Identifier: MIT */
/*
 * Hints: perf execution breakpoints. They count, wake poll() at each hit, send the target nothing,
 * and the kernel takes them out with our descriptors. Where perf is not permitted there are none, and
 * the caller's clock alone decides.
 */
#include "process/private.h"

#include <errno.h>
#include <linux/hw_breakpoint.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct hint {
	int fd;
	void *ring; /* poll() wakes only an event that has one */
};

struct process_hints {
	struct process *process;
	VEC(struct hint) list;
};

struct process_hints *process_hints_create(struct process *process)
{
	struct process_hints *hints = xcalloc(1, sizeof(*hints));
	hints->process = process;
	return hints;
}

void process_hints_add(struct process_hints *hints, pid_t tid, uint64_t address)
{
	struct perf_event_attr attributes = {
		.type = PERF_TYPE_BREAKPOINT,
		.size = sizeof(attributes),
		.bp_type = HW_BREAKPOINT_X,
		.bp_addr = address,
		.bp_len = sizeof(long),
		.sample_period = 1,
		.wakeup_events = 1,
		.exclude_kernel = 1,
		.exclude_hv = 1,
	};
	_cleanup_close_ int fd = (int)syscall(SYS_perf_event_open, &attributes, tid, -1, -1,
					      PERF_FLAG_FD_CLOEXEC);
	if (fd < 0)
		return;
	// One page of state and one of records: when it is full, hits still wake.
	void *ring = mmap(NULL, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (ring == MAP_FAILED)
		return;
	vec_push(&hints->list, (struct hint){take_fd(fd), ring});
}

void process_hints_wait(struct process_hints *hints, uint64_t deadline_ns, uint64_t longest_ns)
{
	uint64_t now = monotonic_ns(), end = now + longest_ns;
	if (end > deadline_ns)
		end = deadline_ns;
	size_t count = hints->list.count;
	_cleanup_free_ struct pollfd *fds = xcalloc(count + 1, sizeof(*fds));
	for (size_t i = 0; i < count; i++) {
		fds[i] = (struct pollfd){.fd = hints->list.items[i].fd, .events = POLLIN};
		// What was counted before this wait is no news.
		struct perf_event_mmap_page *page = hints->list.items[i].ring;
		page->data_tail = __atomic_load_n(&page->data_head, __ATOMIC_ACQUIRE);
	}
	// A task that is still on its way to a past stop must not wait for us.
	struct process_stop *stop = hints->process->stop;
	for (bool fired = false; !fired && (now = monotonic_ns()) < end;) {
		bool late = stop && stop_serve_late(stop);
		uint64_t wait = end - now;
		if (late && wait > 1000000)
			wait = 1000000;
		struct timespec time = {(time_t)(wait / 1000000000), (long)(wait % 1000000000)};
		int got = ppoll(fds, count, &time, NULL);
		if (got < 0)
			return; // EINTR: the caller looks at what came
		for (size_t i = 0; i < count; i++) {
			if (fds[i].revents & POLLIN)
				fired = true;
			else if (fds[i].revents) // its thread is gone
				fds[i].fd = -1;
		}
	}
}

void process_hints_free(struct process_hints *hints)
{
	if (!hints)
		return;
	for (size_t i = 0; i < hints->list.count; i++) {
		munmap(hints->list.items[i].ring, 2 * 4096);
		close(hints->list.items[i].fd);
	}
	vec_deinit(&hints->list);
	free(hints);
}
