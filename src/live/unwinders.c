/* SPDX-License-Identifier: MIT */
/*
 * Unwind tables of the patch, told to the unwinders that the process has loaded.
 *
 * An exception that is thrown through a patched function, and backtrace(), need its .eh_frame. The
 * patch is no module of the loader's list, so the unwinder is called: __register_frame_info() of
 * libgcc_s, or of a libgcc that is linked into the program. A process that has none loaded cannot
 * unwind at all yet.
 *
 * The call is made in a stop in which it cannot wait for a lock: no thread has a frame in libgcc_s or
 * ld.so, and none is in libc but in a system call that malloc does not make (from gcc 13 on the
 * function allocates).
 *
 * A call cannot be seen to have been made if we die in it. So its intent is recorded first, and the
 * `struct object` in the patch's data tells the rest: zero until the unwinder has filled it in. A
 * deregistration that was begun and is not known to be finished is never repeated (libgcc aborts on
 * an object that it does not know), and its memory is never given back.
 */
#include <elf.h>
#include <inttypes.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "live/private.h"

enum { DEREGISTERING = 16 }; /* bit i + 16 of head.registered */

static const uint64_t call_limit_ns = 200 * 1000 * 1000;

/* ---- which there are ---------------------------------------------------------------------- */

static uint64_t function_address(const struct image *image, const char *name)
{
	const struct image_symbol **symbols;
	size_t count = image_symbols_named(image, name, &symbols);
	for (size_t i = 0; i < count; i++)
		if (symbols[i]->address && symbols[i]->type == STT_FUNC &&
		    image_area_at(image, symbols[i]->address) == IMAGE_AREA_TEXT)
			return symbols[i]->address;
	return 0;
}

static struct error *find_in(struct linked *linked, struct process *process,
			     const struct process_module *module)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_image_ struct image *image = NULL;
	struct error *error = process_module_file(process, module, &path);
	if (!error)
		error = image_open(path, NULL, &image);
	if (error)
		return error_prefix(error, "unwinder in \"%s\"", module->name);
	uint64_t in = function_address(image, "__register_frame_info");
	uint64_t out = function_address(image, "__deregister_frame_info");
	if (!in || !out || linked->unwinder_count == LIVE_UNWINDERS_MAX)
		return NULL;
	linked->unwinders[linked->unwinder_count].name = arena_strdup(linked->arena, module->name);
	linked->unwinders[linked->unwinder_count].register_function = module->bias + in;
	linked->unwinders[linked->unwinder_count].deregister_function = module->bias + out;
	linked->unwinder_count++;
	return NULL;
}

static bool is_unwinder(const struct process_module *module)
{
	return string_starts_with(module->name, "libgcc_s.so") ||
	       string_starts_with(module->name, "libgcc_s-");
}

struct error *unwinders_find(struct linked *linked, struct process *process,
			     const struct process_space *space)
{
	for (size_t i = 0; i < space->modules.count; i++) {
		const struct process_module *module = &space->modules.items[i];
		if (is_unwinder(module) || module->main)
			TRY(find_in(linked, process, module));
	}
	return NULL;
}

const char *unwinders_describe(struct arena *arena, const struct record *record)
{
	const char *text = NULL;
	for (uint32_t i = 0; i < record->body.unwinder_count; i++) {
		const char *name = record_string(record, record->unwinders[i].name);
		if (!(record->head.registered & 1u << i))
			continue;
		text = text ? arena_printf(arena, "%s, %s", text, name) : arena_strdup(arena, name);
	}
	if (text)
		return text;
	return !record->body.eh_frame        ? "no unwind data"
	       : record->body.unwinder_count ? "not registered"
					     : "none loaded";
}

/* ---- a moment for a call ------------------------------------------------------------------ */

/* With malloc's lock held, a thread can sleep in these. */
static bool is_memory_call(int64_t number)
{
	return number == SYS_mmap || number == SYS_munmap || number == SYS_mremap ||
	       number == SYS_mprotect || number == SYS_brk || number == SYS_madvise;
}

static bool is_libc(const struct process_module *module)
{
	return string_starts_with(module->name, "libc.so") ||
	       string_starts_with(module->name, "libc-") ||
	       string_starts_with(module->name, "libpthread") ||
	       string_starts_with(module->name, "ld-musl");
}

static bool thread_is_safe(const struct session *session, const struct process_thread *thread,
			   const struct unwind_range *locks, size_t count)
{
	const struct process_module *module =
		process_module_at(session->space, thread->registers.rip);
	bool in_call = thread->system_call >= 0;
	if (unwind_thread_may_run(session->unwind, thread, locks, count, true, NULL) !=
	    UNWIND_OUTSIDE)
		return false;
	if (thread->waiting)
		return true;
	// A static program has its libc in itself.
	bool in_libc = module && (is_libc(module) || (module->main && !module->dynamic));
	return in_call ? !is_memory_call(thread->system_call) : !in_libc;
}

/** Stop where the call may be made. */
static struct error *stop_at_safe_point(struct session *session)
{
	VEC(struct unwind_range) locks = {0};
	struct error *error = session_refresh(session);
	for (size_t i = 0; !error && i < session->space->modules.count; i++) {
		const struct process_module *module = &session->space->modules.items[i];
		if (is_unwinder(module) || module->loader)
			vec_push(&locks, (struct unwind_range){module->start, module->end});
	}
	for (uint64_t wait_ns = 1000000; !error; wait_ns *= wait_ns < 50000000 ? 2 : 1) {
		bool last = monotonic_ns() >= session->deadline_ns;
		const char *unsafe = NULL;
		error = session_stop(session);
		if (!error)
			error = session_read_stacks(session);
		for (size_t i = 0; !error && !unsafe && i < session->stop->threads.count; i++)
			if (!thread_is_safe(session, &session->stop->threads.items[i], locks.items,
					    locks.count))
				unsafe = process_thread_describe(session->stop,
								 &session->stop->threads.items[i]);
		if (!error && !unsafe)
			break;
		if (!error && last)
			error = error_new(ERROR_KIND_BUSY,
					  "unwind data could not be registered: %s stays in libc, "
					  "ld.so or libgcc; try again with a longer --timeout",
					  unsafe);
		session_resume(session);
		if (!error)
			nanosleep(&(struct timespec){.tv_nsec = (long)wait_ns}, NULL);
	}
	vec_deinit(&locks);
	return error;
}

/* ---- in and out --------------------------------------------------------------------------- */

static struct error *call_unwinder(struct session *session, uint64_t function,
				   const struct record *record,
				   const struct record_unwinder *unwinder)
{
	const uint64_t args[6] = {record->body.eh_frame, unwinder->object};
	uint64_t result;
	return error_prefix(process_call(session->stop, function, args, call_limit_ns, &result),
			    "unwinder \"%s\"", record_string(record, unwinder->name));
}

struct error *unwinders_register(struct session *session, struct record *record)
{
	struct process *process = session->process;
	if (!record->body.unwinder_count || !record->body.eh_frame)
		return NULL;
	TRY(stop_at_safe_point(session));
	struct error *error = NULL;
	for (uint32_t i = 0; !error && i < record->body.unwinder_count; i++) {
		if (record->head.registered & 1u << i)
			continue; // memory that is used again
		error = record_store(process, record, registered,
				     record->head.registered | 1u << i);
		if (!error)
			error = call_unwinder(session, record->unwinders[i].register_function,
					      record, &record->unwinders[i]);
	}
	session_resume(session);
	return error;
}

static bool object_is_filled(struct process *process, const struct record_unwinder *unwinder)
{
	static const uint8_t zero[LIVE_UNWINDER_OBJECT];
	uint8_t bytes[LIVE_UNWINDER_OBJECT];
	size_t got = process_memory_read_some(process, unwinder->object, bytes, sizeof(bytes));
	return got != sizeof(bytes) || memcmp(bytes, zero, sizeof(bytes)) != 0;
}

/** One unwinder, in a stop. */
static struct error *deregister_one(struct session *session, struct record *record, uint32_t i)
{
	static const uint8_t zero[LIVE_UNWINDER_OBJECT];
	struct process *process = session->process;
	const struct record_unwinder *unwinder = &record->unwinders[i];
	uint32_t bit = 1u << i, begun = 1u << (i + DEREGISTERING);
	if (object_is_filled(process, unwinder)) {
		TRY(record_store(process, record, registered, record->head.registered | begun));
		TRY(call_unwinder(session, unwinder->deregister_function, record, unwinder));
		TRY(process_memory_write(process, unwinder->object, zero, sizeof(zero)));
	}
	return record_store(process, record, registered, record->head.registered & ~(bit | begun));
}

/** Is the library still where the record says? It may have been unloaded, with its list. */
static bool unwinder_is_loaded(const struct session *session,
			       const struct record_unwinder *unwinder, const char *name)
{
	const struct process_module *module =
		process_module_at(session->space, unwinder->deregister_function);
	return module && string_equal(module->name, name);
}

struct error *unwinders_deregister(struct session *session, struct record *record)
{
	struct error *error = NULL;
	if (!(record->head.registered & 0xffff))
		return NULL;
	TRY(stop_at_safe_point(session));
	for (uint32_t i = 0; !error && i < record->body.unwinder_count; i++) {
		const struct record_unwinder *unwinder = &record->unwinders[i];
		uint32_t bit = 1u << i, begun = 1u << (i + DEREGISTERING);
		if (!(record->head.registered & bit) || record->head.registered & begun)
			continue;
		if (unwinder_is_loaded(session, unwinder, record_string(record, unwinder->name)))
			error = deregister_one(session, record, i);
		else
			error = record_store(session->process, record, registered,
					     record->head.registered & ~bit);
	}
	session_resume(session);
	return error;
}
