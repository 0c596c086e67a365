/* SPDX-License-Identifier: MIT */
/*
 * The patch into the process, where nothing leads to it yet.
 *
 * One mmap() makes room for all three parts, readable and executable from the start: a program may be
 * under a filter that lets nobody make memory executable later (MemoryDenyWriteExecute). Two
 * mprotect() calls then take that away from the parts that are no code. What is in them is written
 * from outside, so no page is ever writable and executable.
 *
 * The record goes in first, so that whoever comes next can take the mapping away if we are killed
 * here. Between mmap() and that write there is one moment in which nothing names the mapping: a tool
 * that dies in it leaves so many pages of zeroes.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "live/private.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum { PLACES_TRIED = 8 };

static struct error *call_error(const struct session *session, int64_t result, const char *what)
{
	int errnum = (int)-result;
	if (errnum == EPERM || errnum == EACCES)
		return error_new(ERROR_KIND_PERMISSION,
				 "process %d (%s) may not %s: %s (a seccomp filter or SELinux?)",
				 session->process->pid, session->process->name, what,
				 strerror(errnum));
	return error_new(ERROR_KIND_SYSTEM, "process %d (%s) cannot %s: %s",
			 session->process->pid, session->process->name, what, strerror(errnum));
}

static struct error *call(struct session *session, long number, uint64_t a, uint64_t b, uint64_t c,
			  uint64_t d, int64_t *ret)
{
	// The descriptor and offset of mmap(); the others ignore them.
	const uint64_t args[6] = { a, b, c, d, (uint64_t)-1, 0 };
	return process_system_call(session->stop, number, args, ret);
}

/** In a stop: the three parts. @ret_taken: somebody has the place. */
static struct error *map_parts(struct session *session, const struct linked *linked, bool *ret_taken)
{
	uint64_t base = linked->base;
	int64_t result;
	TRY(call(session, SYS_mmap, base, linked->size, PROT_READ | PROT_EXEC,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, &result));
	*ret_taken = result == -EEXIST;
	if (*ret_taken)
		return NULL;
	if (result < 0 && result > -LIVE_PAGE)
		return call_error(session, result, "map memory for the patch");
	if ((uint64_t)result != base) { // before Linux 4.17 the flag is not known
		TRY(call(session, SYS_munmap, (uint64_t)result, linked->size, 0, 0, &result));
		*ret_taken = true;
		return NULL;
	}
	struct error *error = call(session, SYS_mprotect, base, linked->text_offset, PROT_READ, 0,
				   &result);
	if (!error && result == 0 && linked->data_size)
		error = call(session, SYS_mprotect, base + linked->data_offset, linked->data_size,
			     PROT_READ | PROT_WRITE, 0, &result);
	if (!error && result != 0)
		error = call_error(session, result, "protect the patch's memory");
	if (error) {
		int64_t ignored;
		error_free(call(session, SYS_munmap, base, linked->size, 0, 0, &ignored));
	}
	return error;
}

static struct error *write_parts(struct session *session, const struct linked *linked)
{
	struct process *process = session->process;
	size_t record_size = linked->record.body.record_size;
	// The record as a whole, its head last.
	TRY(process_memory_write(process, linked->base + LIVE_RECORD_HEAD,
				 linked->bytes + LIVE_RECORD_HEAD, record_size - LIVE_RECORD_HEAD));
	TRY(process_memory_write(process, linked->base, linked->bytes, LIVE_RECORD_HEAD));
	return process_memory_write(process, linked->base + record_size,
				    linked->bytes + record_size, linked->size - record_size);
}

/** The record that stands at @address now; it goes with @arena. */
static struct error *read_back(struct session *session, uint64_t address, struct arena *arena,
			       struct record **ret)
{
	*ret = record_read(arena, session->process, address);
	return *ret ? NULL :
		      error_new(ERROR_KIND_SYSTEM,
				"what was written to 0x%" PRIx64 " of process %d does not stand there",
				address, session->process->pid);
}

struct error *stage(struct session *session, struct linked *linked, struct record **ret)
{
	struct error *error = NULL;
	bool taken = true;
	for (int i = 0; i < PLACES_TRIED && taken; i++) {
		uint64_t place;
		TRY(session_refresh(session));
		TRY(link_find_place(linked, session->space, &place));
		TRY(link_at(linked, place));
		TRY(session_stop(session));
		error = map_parts(session, linked, &taken);
		// Where /proc/PID/mem cannot write, ptrace can, but only in a stop.
		if (!error && !taken && !session->process->memory_writable)
			error = write_parts(session, linked);
		session_resume(session);
		if (error)
			return error;
	}
	if (taken)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "process %d (%s) takes each place for the patch away before it is "
				 "mapped",
				 session->process->pid, session->process->name);
	if (session->process->memory_writable)
		error = write_parts(session, linked);
	if (!error)
		error = read_back(session, linked->base, linked->arena, ret);
	if (error) {
		struct record whole = { .address = linked->base,
					.body.mapping_size = linked->size };
		error_free(unstage(session, &whole));
		return error;
	}
	session->outcome->mapped_bytes = linked->size;
	session->record = *ret;
	return session_add_code(session, *ret);
}

struct error *unmap_in_stop(struct session *session, const struct record *record)
{
	int64_t result;
	TRY(call(session, SYS_munmap, record->address, record->body.mapping_size, 0, 0, &result));
	return result == 0 ? NULL : call_error(session, result, "unmap the patch");
}

struct error *unstage(struct session *session, struct record *record)
{
	TRY(session_stop(session));
	struct error *error = unmap_in_stop(session, record);
	session_resume(session);
	return error;
}
