/* SPDX-License-Identifier: MIT */
/*
 * The patch into the process, where nothing leads to it yet.
 *
 * One mmap() makes room for all three parts, readable and executable from the start: a program may be
 * under a filter that lets nobody make memory executable later (MemoryDenyWriteExecute). Two
 * mprotect() calls then take that away from the parts that are no code. What is in them is written
 * from outside, so no page is ever writable and executable.
 *
 * The record goes in right after mmap(), so that whoever comes next can take the mapping away if we
 * are killed here. Between the two nothing in the process names the mapping; so its place is written
 * to a file of /run/suture first, which is gone again when the record stands. The file is believed
 * only where there is a mapping of just that place and size that nobody but us has touched.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

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
	return error_new(ERROR_KIND_SYSTEM, "process %d (%s) cannot %s: %s", session->process->pid,
			 session->process->name, what, strerror(errnum));
}

static struct error *call(struct session *session, long number, uint64_t a, uint64_t b, uint64_t c,
			  uint64_t d, int64_t *ret)
{
	// The descriptor and offset of mmap(); the others ignore them.
	const uint64_t args[6] = {a, b, c, d, (uint64_t)-1, 0};
	return process_system_call(session->stop, number, args, ret);
}

/* ---- the intent of a mapping --------------------------------------------------------------- */

#define INTENT_DIRECTORY "/run/suture"

static char *intent_path(const struct process *process)
{
	return xasprintf(INTENT_DIRECTORY "/%d.%" PRIu64, process->pid, process->start_time);
}

/* Where it cannot be written (not root, no /run) a tool killed in that moment leaves the mapping. */
static void intent_write(const struct process *process, uint64_t base, uint64_t size)
{
	_cleanup_free_ char *path = intent_path(process);
	char text[64];
	int length = snprintf(text, sizeof(text), "%" PRIx64 " %" PRIx64 "\n", base, size);
	mkdir(INTENT_DIRECTORY, 0700);
	_cleanup_close_ int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && write(fd, text, (size_t)length) != length)
		unlink(path);
}

static void intent_clear(const struct process *process)
{
	_cleanup_free_ char *path = intent_path(process);
	unlink(path);
}

/**
 * Is [base, base + size) one mapping as stage() makes it, with nothing in it, or with a record that has
 * no head yet?
 */
static bool is_cut_off_mapping(const struct session *session, uint64_t base, uint64_t size)
{
	const struct process_map *map = process_map_at(session->space, base);
	if (!map || map->start != base || map->end - base != size || map->shared || map->inode ||
	    map->path[0] || map->protection != (PROT_READ | PROT_EXEC))
		return false;
	static const uint8_t zero[LIVE_PAGE];
	uint8_t page[LIVE_PAGE];
	struct record_body body;
	// The rest of the record goes in before its head.
	if (process_memory_read_some(session->process, base, page, sizeof(page)) != sizeof(page) ||
	    memcmp(page, zero, LIVE_RECORD_HEAD) != 0)
		return false;
	memcpy(&body, page + LIVE_RECORD_HEAD, sizeof(body));
	if (record_body_fits(&body) && body.mapping_size == size)
		return true;
	for (uint64_t at = base; at < base + size; at += LIVE_PAGE)
		if (process_memory_read_some(session->process, at, page, sizeof(page)) !=
			    sizeof(page) ||
		    memcmp(page, zero, sizeof(page)) != 0)
			return false;
	return true;
}

struct error *stage_intent_recover(struct session *session)
{
	_cleanup_free_ char *path = intent_path(session->process);
	_cleanup_free_ char *text = NULL;
	size_t size;
	uint64_t base, length;
	struct error *error = file_read(path, &text, &size);
	if (error) {
		error_free(error);
		return NULL;
	}
	if (sscanf(text, "%" SCNx64 " %" SCNx64, &base, &length) == 2 &&
	    is_cut_off_mapping(session, base, length)) {
		struct record whole = {.address = base, .body.mapping_size = length};
		TRY(unstage(session, &whole));
	}
	intent_clear(session->process);
	return NULL;
}

bool stage_intent_exists(const struct process *process)
{
	_cleanup_free_ char *path = intent_path(process);
	return path_exists(path);
}

/* ---- mapping -------------------------------------------------------------------------------- */

static struct error *write_record(struct session *session, const struct linked *linked)
{
	struct process *process = session->process;
	size_t record_size = linked->record.body.record_size;
	// Its head last: with that it is a record.
	TRY(process_memory_write(process, linked->base + LIVE_RECORD_HEAD,
				 linked->bytes + LIVE_RECORD_HEAD, record_size - LIVE_RECORD_HEAD));
	return process_memory_write(process, linked->base, linked->bytes, LIVE_RECORD_HEAD);
}

static struct error *write_content(struct session *session, const struct linked *linked)
{
	size_t record_size = linked->record.body.record_size;
	return process_memory_write(session->process, linked->base + record_size,
				    linked->bytes + record_size, linked->size - record_size);
}

/** In a stop: the three parts and the record. @ret_taken: somebody has the place. */
static struct error *map_parts(struct session *session, const struct linked *linked,
			       bool *ret_taken)
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
	struct error *error = write_record(session, linked);
	if (!error)
		error = call(session, SYS_mprotect, base, linked->text_offset, PROT_READ, 0,
			     &result);
	if (!error && result == 0 && linked->data_size)
		error = call(session, SYS_mprotect, base + linked->data_offset, linked->data_size,
			     PROT_READ | PROT_WRITE, 0, &result);
	if (!error && result != 0)
		error = call_error(session, result, "protect the patch's memory");
	// Where /proc/PID/mem cannot write, ptrace can, but only in a stop.
	if (!error && !session->process->memory_writable)
		error = write_content(session, linked);
	if (error) {
		int64_t ignored;
		error_free(call(session, SYS_munmap, base, linked->size, 0, 0, &ignored));
	}
	return error;
}

/** The record that stands at @address now; it goes with @arena. */
static struct error *read_back(struct session *session, uint64_t address, struct arena *arena,
			       struct record **ret)
{
	*ret = record_read(arena, session->process, address);
	return *ret ? NULL
		    : error_new(ERROR_KIND_SYSTEM,
				"what was written to 0x%" PRIx64
				" of process %d does not stand there",
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
		intent_write(session->process, place, linked->size);
		error = session_stop(session);
		if (!error)
			error = map_parts(session, linked, &taken);
		session_resume(session);
		intent_clear(session->process);
		if (error)
			return error;
	}
	if (taken)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "process %d (%s) takes each place for the patch away before it is "
				 "mapped",
				 session->process->pid, session->process->name);
	if (session->process->memory_writable)
		error = write_content(session, linked);
	if (!error)
		error = read_back(session, linked->base, linked->arena, ret);
	if (error) {
		struct record whole = {.address = linked->base, .body.mapping_size = linked->size};
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
