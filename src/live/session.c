/* SPDX-License-Identifier: MIT */
/*
 * A target being worked on: its maps, its unwinder, its stops, and the wait for a stop in which no
 * thread is inside some code.
 *
 * What a stop needs is made before it: maps are read, unwind tables parsed. A thread that was born
 * since then has a stack that these maps do not know; only then are they read again inside the stop.
 *
 * A thread that is inside is waited for by a hint, a perf breakpoint at the return address of its
 * frame in that code, which the kernel takes away with our descriptors. The hint says when to look
 * again, never that all is well; where there is none, the clock does.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "live/private.h"

static const uint64_t wait_first_ns = 2 * 1000 * 1000;
static const uint64_t wait_longest_ns = 100 * 1000 * 1000;

/* ---- one suture per target ---------------------------------------------------------------- */

/*
 * The lock is on the target's /proc/PID/mem: who may open that may work on the target, no file has to
 * be made or cleaned up, and the kernel drops it with the descriptor.
 */
struct error *live_lock(struct process *process, uint64_t timeout_ns)
{
	// Whoever only looks again after a moment must not fail because of the other's moment.
	uint64_t least = 2000000000, start = monotonic_ns();
	uint64_t deadline = start + (timeout_ns > least ? timeout_ns : least);
	while (flock(process->memory, LOCK_EX | LOCK_NB) != 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return NULL; // a kernel that cannot lock it: ptrace keeps others out
		if (monotonic_ns() >= deadline)
			return error_new(
				ERROR_KIND_CONFLICT,
				"another suture works on process %d (%s); try again when it "
				"has finished",
				process->pid, process->name);
		nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
	}
	return NULL;
}

void live_unlock(struct process *process)
{
	flock(process->memory, LOCK_UN);
}

/* ---- maps and unwinder -------------------------------------------------------------------- */

static bool same_code(const struct process_space *a, const struct process_space *b)
{
	if (a->modules.count != b->modules.count)
		return false;
	for (size_t i = 0; i < a->modules.count; i++)
		if (a->modules.items[i].start != b->modules.items[i].start ||
		    a->modules.items[i].end != b->modules.items[i].end ||
		    !build_id_equal(&a->modules.items[i].build_id, &b->modules.items[i].build_id))
			return false;
	return true;
}

struct error *session_add_code(struct session *session, const struct record *record)
{
	const char *name = record_string(record, record->body.name);
	_cleanup_free_ uint8_t *frames = NULL;
	size_t size = record->body.eh_frame_size;
	if (record->body.eh_frame && size && size <= record->body.mapping_size) {
		frames = xmalloc(size);
		if (process_memory_read_some(session->process, record->body.eh_frame, frames,
					     size) != size)
			size = 0;
	} else {
		size = 0;
	}
	uint64_t start = record->address + record->body.text_offset;
	TRY(unwind_code_add(session->unwind, name, start, start + record->body.text_size, frames,
			    size, record->body.eh_frame));
	for (uint32_t i = 0; i < record->body.function_count; i++) {
		const struct record_function *function = &record->functions[i];
		unwind_name_add(session->unwind, function->new_address,
				function->new_address + function->new_size,
				record_string(record, function->name));
	}
	return NULL;
}

static struct error *make_unwind(struct session *session)
{
	unwind_free(take_ptr(session->unwind));
	TRY(unwind_create(session->process, session->space, &session->unwind));
	for (size_t i = 0; session->registry && i < session->registry->records.count; i++)
		TRY(session_add_code(session, session->registry->records.items[i]));
	if (session->record)
		TRY(session_add_code(session, session->record));
	return NULL;
}

struct error *session_refresh(struct session *session)
{
	struct process_space *space;
	TRY(process_space_read(session->process, &space));
	// The unwinder may hold on to the space that it was made from.
	if (session->unwind && same_code(session->unwind_space, space)) {
		if (session->space != session->unwind_space)
			process_space_free(session->space);
		session->space = space;
		return NULL;
	}
	unwind_free(take_ptr(session->unwind));
	if (session->unwind_space != session->space)
		process_space_free(session->unwind_space);
	process_space_free(session->space);
	session->space = session->unwind_space = space;
	return make_unwind(session);
}

struct error *session_begin(struct session *session, struct process *process,
			    const struct live_options *options, struct live_outcome *outcome,
			    const struct registry *registry)
{
	*session = (struct session){
		.process = process,
		.options = options,
		.outcome = outcome,
		.registry = registry,
		.deadline_ns = monotonic_ns() + options->timeout_ns,
	};
	TRY(session_refresh(session));
	return process_seize(process, &session->stop);
}

void session_end(struct session *session)
{
	if (session->stopped)
		session_resume(session);
	process_release(take_ptr(session->stop));
	unwind_free(take_ptr(session->unwind));
	if (session->unwind_space != session->space)
		process_space_free(session->unwind_space);
	process_space_free(session->space);
	session->space = session->unwind_space = NULL;
}

/* ---- stops -------------------------------------------------------------------------------- */

static struct error *stop_once(struct session *session)
{
	session->stop_started_ns = monotonic_ns();
	TRY(process_stop_all(session->stop, session->options->stop_bound_ns));
	session->stopped = true;
	session->outcome->stops++;
	session->outcome->threads = (unsigned)session->stop->threads.count;
	return NULL;
}

void session_resume(struct session *session)
{
	if (!session->stopped)
		return;
	session->stopped = false;
	process_resume_all(session->stop);
	uint64_t gap = monotonic_ns() - session->stop_started_ns;
	if (gap > session->outcome->gap_ns)
		session->outcome->gap_ns = gap;
}

static bool is_busy(const struct error *error)
{
	return error->kind == ERROR_KIND_BUSY;
}

static void pause_until(struct session *session, struct process_hints *hints, uint64_t *wait_ns)
{
	process_hints_wait(hints, session->deadline_ns, *wait_ns);
	*wait_ns = *wait_ns * 2 > wait_longest_ns ? wait_longest_ns : *wait_ns * 2;
}

struct error *session_stop(struct session *session)
{
	uint64_t wait_ns = wait_first_ns;
	for (;;) {
		bool last = monotonic_ns() >= session->deadline_ns;
		struct error *error = stop_once(session);
		if (!error || !is_busy(error) || last)
			return error;
		error_free(error);
		nanosleep(&(struct timespec){.tv_nsec = (long)wait_ns}, NULL);
		wait_ns = wait_ns * 2 > wait_longest_ns ? wait_longest_ns : wait_ns * 2;
	}
}

struct error *session_read_stacks(struct session *session)
{
	TRY(process_stop_read_stacks(session->stop, session->space));
	bool whole = true;
	for (size_t i = 0; i < session->stop->threads.count; i++)
		whole &= session->stop->threads.items[i].stack_whole ||
			 session->stop->threads.items[i].stack_size > 0;
	if (whole)
		return NULL;
	// A thread younger than our maps.
	struct process_space *space;
	TRY(process_space_read(session->process, &space));
	if (session->space != session->unwind_space)
		process_space_free(session->space);
	session->space = space;
	return process_stop_read_stacks(session->stop, session->space);
}

/* ---- outside ------------------------------------------------------------------------------ */

static const char *copy(struct live_outcome *outcome, const char *string)
{
	return string ? arena_strdup(outcome->arena, string) : NULL;
}

static const struct named_range *range_of(const struct range_list *ranges, uint64_t pc)
{
	for (size_t i = 0; i < ranges->list.count; i++)
		if (pc > ranges->list.items[i].start && pc <= ranges->list.items[i].end)
			return &ranges->list.items[i];
	return NULL;
}

static void blockers_clear(struct live_outcome *outcome)
{
	for (size_t i = 0; i < outcome->blockers.count; i++)
		vec_deinit(&outcome->blockers.items[i].frames);
	outcome->blockers.count = 0;
}

static void blocker_add(struct session *session, const struct process_thread *thread,
			const struct range_list *ranges, enum unwind_verdict verdict,
			const struct unwind_trace *trace)
{
	struct live_outcome *outcome = session->outcome;
	struct live_blocker blocker = {.tid = thread->tid, .reason = "is inside"};
	char path[64];
	_cleanup_free_ char *comm = NULL;
	size_t size;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/comm", thread->tgid, thread->tid);
	error_free(file_read_at(AT_FDCWD, path, &comm, &size));
	if (comm)
		comm[strcspn(comm, "\n")] = '\0';
	blocker.name = copy(outcome, comm ? comm : "");
	for (size_t i = 0; i < trace->frames.count; i++) {
		struct unwind_frame frame = trace->frames.items[i];
		const struct named_range *range = range_of(ranges, frame.pc);
		if (range && !blocker.function)
			blocker.function = copy(outcome, range->name);
		frame.module = copy(outcome, frame.module);
		frame.function = copy(outcome, frame.function);
		vec_push(&blocker.frames, frame);
	}
	if (verdict == UNWIND_UNKNOWN || !thread->stack_whole)
		blocker.reason = arena_printf(outcome->arena,
					      "may be inside: its stack cannot be unwound (%s)",
					      trace->reason         ? trace->reason
					      : thread->stack_whole ? "unknown frame"
								    : "not readable whole");
	vec_push(&outcome->blockers, blocker);
}

/** The address to which the thread leaves the code: that of the outermost frame in it. */
static uint64_t way_out(const struct range_list *ranges, const struct unwind_trace *trace)
{
	for (size_t i = trace->frames.count; i-- > 0;)
		if (range_of(ranges, trace->frames.items[i].pc))
			return i + 1 < trace->frames.count ? trace->frames.items[i + 1].pc : 0;
	return 0;
}

/** Its stack pointer is neither on its own stack nor on one that leads back to it. */
static bool is_on_foreign_stack(const struct session *session, const struct process_thread *thread)
{
	if (thread->tgid != session->process->pid || thread->waiting || thread->stack_whole)
		return false;
	const struct process_map *map = process_map_at(session->space, thread->registers.rsp);
	return map && !string_equal(map->path, "[stack]") &&
	       !(thread->registers.fs_base > thread->registers.rsp &&
		 thread->registers.fs_base < map->end);
}

/** One look at all threads of a stop; the number of those that are in the way. */
static size_t look_at_threads(struct session *session, const struct range_list *ranges,
			      const struct unwind_range *plain, struct process_hints *hints,
			      bool last, pid_t *ret_foreign)
{
	size_t inside = 0;
	for (size_t i = 0; i < session->stop->threads.count; i++) {
		const struct process_thread *thread = &session->stop->threads.items[i];
		struct unwind_trace trace = {0};
		enum unwind_verdict verdict = unwind_thread_may_run(
			session->unwind, thread, plain, ranges->list.count, false, &trace);
		if (verdict != UNWIND_OUTSIDE) {
			uint64_t out = way_out(ranges, &trace);
			inside++;
			if (last)
				blocker_add(session, thread, ranges, verdict, &trace);
			else if (out)
				process_hints_add(hints, thread->tid, out);
			if (is_on_foreign_stack(session, thread))
				*ret_foreign = thread->tid;
		}
		unwind_trace_deinit(&trace);
	}
	return inside;
}

static struct error *busy_error(const struct session *session, size_t inside, pid_t foreign)
{
	const struct live_outcome *outcome = session->outcome;
	if (foreign)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "thread %d of process %d runs on a stack that is not its own (a "
				 "coroutine?), so old code may wait unseen on others",
				 foreign, session->process->pid);
	const struct live_blocker *first = &outcome->blockers.items[0];
	return error_new(ERROR_KIND_BUSY,
			 "thread %d (%s) of process %d %s%s%s%s after %" PRIu64
			 " ms and %u tries%s; try again with a longer --timeout",
			 first->tid, first->name, session->process->pid, first->reason,
			 first->function ? " \"" : "", first->function ? first->function : "",
			 first->function ? "\"" : "", session->options->timeout_ns / 1000000,
			 outcome->stops, inside > 1 ? ", and others too" : "");
}

struct error *session_stop_outside(struct session *session, const struct range_list *ranges)
{
	_cleanup_free_ struct unwind_range *plain = xcalloc(ranges->list.count + 1, sizeof(*plain));
	for (size_t i = 0; i < ranges->list.count; i++)
		plain[i] = (struct unwind_range){ranges->list.items[i].start,
						 ranges->list.items[i].end};
	uint64_t wait_ns = wait_first_ns;
	for (;;) {
		bool last = monotonic_ns() >= session->deadline_ns;
		pid_t foreign = 0;
		struct process_hints *hints = process_hints_create(session->process);
		blockers_clear(session->outcome);
		struct error *error = session_refresh(session);
		// Names, for the backtraces that the last try prints: a verdict needs none.
		if (!error && last)
			unwind_prepare(session->unwind);
		if (!error)
			error = session_stop(session);
		if (!error)
			error = session_read_stacks(session);
		size_t inside =
			error ? 0 : look_at_threads(session, ranges, plain, hints, last, &foreign);
		if (!error && !inside) {
			process_hints_free(hints);
			return NULL;
		}
		session_resume(session);
		if (!error && last)
			error = busy_error(session, inside, foreign);
		if (!error)
			pause_until(session, hints, &wait_ns);
		process_hints_free(hints);
		if (error)
			return error;
	}
}
