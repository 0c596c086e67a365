/* SPDX-License-Identifier: MIT */
/*
 * The flip.
 *
 *	1  state = switching		the intent
 *	2  entries lead to stubs	which read the word: still old code
 *	3  word = 1			one aligned store: every function is new
 *	4  entries lead to new code
 *	5  state = applied
 *
 * All of it in one stop that found no thread inside. A tool killed between any two steps leaves a
 * process that runs old code only (up to 3) or new code only (from 3 on), and the word says which way
 * the next call has to finish. The way out is the same with the steps of the record's other half.
 *
 * Nothing is allocated in here, and a write can fail only because the process died: what a write needs,
 * a page of its own, was made before (transition_prefault).
 */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "live/private.h"

struct error *transition_prefault(struct process *process, const struct record *record)
{
	if (!process->memory_writable)
		return NULL;
	// The byte that stands there: for whoever runs it, nothing changes.
	for (uint32_t i = 0; i < record->body.write_count; i++) {
		uint8_t byte;
		TRY(process_memory_read(process, record->writes[i].address, &byte, 1));
		TRY(process_memory_write(process, record->writes[i].address, &byte, 1));
	}
	return NULL;
}

static const uint8_t *step_bytes(const struct record_write *write, enum record_standing step)
{
	switch (step) {
	case RECORD_BEFORE:
		return write->before;
	case RECORD_TRANSIT:
		return write->transit;
	case RECORD_AFTER:
		return write->after;
	case RECORD_TRANSIT_BACK:
		return write->transit_back;
	default:
		return write->original;
	}
}

/** Long jumps in filling come before the short jumps to them, and go after them. */
static struct error *write_step(struct process *process, const struct record *record,
				enum record_standing step)
{
	bool back = step == RECORD_BEFORE || step == RECORD_ORIGINAL;
	uint32_t count = record->body.write_count;
	for (uint32_t i = 0; i < count; i++) {
		const struct record_write *write = &record->writes[back ? count - 1 - i : i];
		TRY(process_memory_write(process, write->address, step_bytes(write, step),
					 write->size));
	}
	return NULL;
}

/** Every entry must hold what we think before anything is written. */
static struct error *check_standing(struct process *process, const struct record *record,
				    enum record_standing step)
{
	for (uint32_t i = 0; i < record->body.write_count; i++) {
		const struct record_write *write = &record->writes[i];
		uint8_t bytes[LIVE_WRITE_MAX];
		TRY(process_memory_read(process, write->address, bytes, write->size));
		if (memcmp(bytes, step_bytes(write, step), write->size) == 0)
			continue;
		char found[2 * LIVE_WRITE_MAX + 1], expected[2 * LIVE_WRITE_MAX + 1];
		hex_format(bytes, write->size, found);
		hex_format(step_bytes(write, step), write->size, expected);
		return error_new(ERROR_KIND_MISMATCH,
				 "0x%" PRIx64 " in process %d holds %s where %s should stand: "
				 "somebody else wrote there; nothing was changed",
				 write->address, process->pid, found, expected);
	}
	return NULL;
}

/** A pc inside bytes that are about to change; one at their start meets either content whole. */
static bool pc_within(const struct process_stop *stop, const struct record_write *write)
{
	for (size_t t = 0; t < stop->threads.count; t++) {
		uint64_t pc = stop->threads.items[t].registers.rip;
		if (pc > write->address && pc < write->address + write->size)
			return true;
	}
	return false;
}

static bool pc_in_the_way(const struct process_stop *stop, const struct record *record)
{
	for (uint32_t i = 0; i < record->body.write_count; i++)
		if (pc_within(stop, &record->writes[i]))
			return true;
	return false;
}

static struct record *record_at(struct registry *registry, const struct record_replaced *place)
{
	for (size_t i = 0; registry && i < registry->records.count; i++)
		if (registry->records.items[i]->address == place->address &&
		    registry->records.items[i]->body.sequence == place->sequence)
			return registry->records.items[i];
	return NULL;
}

/** Steps 4 and 5. */
static struct error *finish_apply(struct process *process, struct registry *registry,
				  struct record *record)
{
	TRY(write_step(process, record, RECORD_AFTER));
	for (uint32_t i = 0; i < record->body.replaced_count; i++) {
		struct record *old = record_at(registry, &record->replaced[i]);
		if (old)
			TRY(record_store(process, old, state, LIVE_STATE_REVERTED));
	}
	return record_store(process, record, state, LIVE_STATE_APPLIED);
}

static struct error *take_back_apply(struct process *process, struct record *record)
{
	TRY(write_step(process, record, RECORD_BEFORE));
	return record_store(process, record, state, LIVE_STATE_STAGED);
}

static struct error *finish_revert(struct process *process, struct record *record)
{
	TRY(write_step(process, record, RECORD_ORIGINAL));
	return record_store(process, record, state, LIVE_STATE_REVERTED);
}

struct error *transition_apply(struct session *session, struct registry *registry,
			       struct record *record)
{
	struct process *process = session->process;
	uint64_t now = (uint64_t)time(NULL);
	TRY(check_standing(process, record, RECORD_BEFORE));
	if (pc_in_the_way(session->stop, record))
		return error_new(ERROR_KIND_BUSY, "a thread of process %d stands in an entry",
				 process->pid);
	// From here on it is written.
	TRY(process_memory_write(process,
				 record->address + offsetof(struct record_head, applied_at), &now,
				 sizeof(now)));
	TRY(record_store(process, record, state, LIVE_STATE_SWITCHING));
	struct error *error = write_step(process, record, RECORD_TRANSIT);
	if (!error)
		error = record_store(process, record, word, 1);
	if (error) {
		error_free(take_back_apply(process, record));
		return error;
	}
	return finish_apply(process, registry, record);
}

struct error *transition_revert(struct session *session, struct record *record)
{
	struct process *process = session->process;
	TRY(check_standing(process, record, RECORD_AFTER));
	if (pc_in_the_way(session->stop, record))
		return error_new(ERROR_KIND_BUSY, "a thread of process %d stands in an entry",
				 process->pid);
	TRY(record_store(process, record, state, LIVE_STATE_REVERTING));
	struct error *error = write_step(process, record, RECORD_TRANSIT_BACK);
	if (!error)
		error = record_store(process, record, word, 0);
	if (error) {
		error_free(finish_apply(process, NULL, record));
		return error;
	}
	return finish_revert(process, record);
}

/* ---- what was cut off --------------------------------------------------------------------- */

static bool is_cut_off(const struct record *record)
{
	return record->head.state == LIVE_STATE_STAGED ||
	       record->head.state == LIVE_STATE_SWITCHING ||
	       record->head.state == LIVE_STATE_REVERTING;
}

/** In a stop. Entries may hold any step: each may have been written or not. */
static struct error *finish_flip(struct session *session, struct registry *registry,
				 struct record *record)
{
	struct process *process = session->process;
	bool forward = record->head.word == 1;
	enum record_standing target = forward ? RECORD_AFTER
				      : record->head.state == LIVE_STATE_SWITCHING
					      ? RECORD_BEFORE
					      : RECORD_ORIGINAL;
	if (record->head.state == LIVE_STATE_STAGED)
		return NULL;
	for (uint32_t i = 0; i < record->body.write_count; i++) {
		const struct record_write *write = &record->writes[i];
		uint8_t bytes[LIVE_WRITE_MAX];
		TRY(process_memory_read(process, write->address, bytes, write->size));
		if (record_write_standing(write, bytes) == RECORD_FOREIGN)
			return error_new(
				ERROR_KIND_MISMATCH,
				"patch \"%s\" was cut off in process %d, and somebody else "
				"wrote to its entry at 0x%" PRIx64 " since",
				record_string(record, record->body.name), process->pid,
				write->address);
		// Where old code still stands, a thread may be in it; what stays may be run.
		if (memcmp(bytes, step_bytes(write, target), write->size) != 0 &&
		    pc_within(session->stop, write))
			return error_new(ERROR_KIND_BUSY,
					 "a thread of process %d stands in an entry", process->pid);
	}
	if (forward)
		return finish_apply(process, registry, record);
	return record->head.state == LIVE_STATE_SWITCHING ? take_back_apply(process, record)
							  : finish_revert(process, record);
}

struct error *transition_recover(struct process *process, const struct live_options *options,
				 struct live_outcome *outcome)
{
	_cleanup_process_space_ struct process_space *space = NULL;
	_cleanup_registry_ struct registry *registry = NULL;
	bool any = false;
	TRY(process_space_read(process, &space));
	TRY(registry_read(process, space, &registry));
	for (size_t i = 0; i < registry->records.count; i++)
		any |= is_cut_off(registry->records.items[i]);
	if (!any && !stage_intent_exists(process))
		return NULL;

	struct session session;
	struct error *error = session_begin(&session, process, options, outcome, registry);
	if (!error)
		error = stage_intent_recover(&session);
	for (size_t i = registry->records.count; !error && i-- > 0;) {
		struct record *record = registry->records.items[i];
		if (!is_cut_off(record))
			continue;
		// Where pages must be copied first, do it outside of the stop.
		error = transition_prefault(process, record);
		if (!error)
			error = session_stop(&session);
		if (!error)
			error = finish_flip(&session, registry, record);
		session_resume(&session);
		if (error || record->head.state == LIVE_STATE_APPLIED)
			continue;
		bool kept;
		error = memory_release(&session, record, &kept);
		// The memory of one that is only staged is in nobody's way, and status counts it.
		if (!error && kept && record->head.state == LIVE_STATE_STAGED)
			error = record_store(process, record, state, LIVE_STATE_REVERTED);
	}
	session_end(&session);
	outcome->recovered = any && !error;
	return error_prefix(error, "finishing what an earlier call left half done");
}
