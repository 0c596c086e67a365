/* SPDX-License-Identifier: MIT */
/*
 * Memory of a target. /proc/PID/mem is bound to the address space that it was opened for, reads what
 * is only executable and writes to private read-execute pages, which process_vm_writev() does not.
 */
#include "process/private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <unistd.h>

size_t process_memory_read_some(struct process *process, uint64_t address, void *bytes, size_t size)
{
	size_t done = 0;
	while (done < size) {
		ssize_t got = pread(process->memory, (uint8_t *)bytes + done, size - done,
				    (off_t)(address + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		done += (size_t)got;
	}
	return done;
}

/* Is the address space gone (exit, exec) or only nothing mapped there? */
static struct error *unreadable(struct process *process, uint64_t address, size_t size,
				const char *verb)
{
	uint8_t byte;
	errno = 0;
	ssize_t got = pread(process->memory, &byte, 1, (off_t)address);
	if (got == 0 || errno == ESRCH || !process_alive(process))
		return error_new(ERROR_KIND_NOT_FOUND,
				 "process %d (%s) ended or runs another program", process->pid,
				 process->name);
	return error_new(ERROR_KIND_INPUT,
			 "cannot %s %zu bytes at 0x%lx of process %d (%s): not mapped%s", verb, size,
			 (unsigned long)address, process->pid, process->name,
			 got == 1 ? " whole, or not permitted" : "");
}

struct error *process_memory_read(struct process *process, uint64_t address, void *bytes, size_t size)
{
	if (process_memory_read_some(process, address, bytes, size) != size)
		return unreadable(process, address, size, "read");
	return NULL;
}

/* By PTRACE_POKEDATA through a stopped thread: words, read and changed at the edges. */
static bool poke(struct process *process, uint64_t address, const uint8_t *bytes, size_t size)
{
	pid_t tid = 0;
	for (size_t i = 0; process->stop && i < process->stop->threads.count && !tid; i++)
		if (process->stop->threads.items[i].stopped)
			tid = process->stop->threads.items[i].tid;
	if (!tid)
		return false;
	while (size) {
		uint64_t start = address & ~(uint64_t)7;
		size_t skip = (size_t)(address - start);
		size_t part = size < 8 - skip ? size : 8 - skip;
		long word = 0;
		if (part < 8) {
			errno = 0;
			word = ptrace(PTRACE_PEEKDATA, tid, start, NULL);
			if (errno)
				return false;
		}
		memcpy((uint8_t *)&word + skip, bytes, part);
		if (ptrace(PTRACE_POKEDATA, tid, start, word) != 0)
			return false;
		address += part;
		bytes += part;
		size -= part;
	}
	return true;
}

struct error *process_memory_write(struct process *process, uint64_t address, const void *bytes,
				   size_t size)
{
	size_t done = 0;
	while (process->memory_writable && done < size) {
		ssize_t put = pwrite(process->memory, (const uint8_t *)bytes + done, size - done,
				     (off_t)(address + done));
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			break;
		done += (size_t)put;
	}
	if (done == size)
		return NULL;
	// proc_mem.force_override=never (6.12): mapped, readable, but not to be written by this file.
	if (poke(process, address + done, (const uint8_t *)bytes + done, size - done)) {
		process->memory_writable = false;
		return NULL;
	}
	return unreadable(process, address, size, "write");
}

struct error *process_memory_read_string(struct process *process, uint64_t address, size_t limit,
					 char **ret)
{
	_cleanup_buffer_ struct buffer text = {0};
	while (text.size < limit) {
		// Up to the end of the page, so that a string before an unmapped one is read.
		char part[4096];
		size_t size = 4096 - (address & 4095);
		if (size > limit - text.size)
			size = limit - text.size;
		size_t got = process_memory_read_some(process, address, part, size);
		if (got == 0)
			return unreadable(process, address, size, "read");
		size_t length = strnlen(part, got);
		buffer_append(&text, part, length);
		if (length < got) {
			*ret = xstrndup(text.size ? text.bytes : "", text.size);
			return NULL;
		}
		address += got;
	}
	return error_new(ERROR_KIND_INPUT, "the string at 0x%lx of process %d does not end",
			 (unsigned long)address, process->pid);
}
