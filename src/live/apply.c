/* SPDX-License-Identifier: MIT */
/*
 * The way in: look, stage, register, flip; and undo in that order when a step fails.
 */
#include <inttypes.h>
#include <string.h>

#include "live/private.h"

struct error *error_if_gone(const struct process *process, struct error *error)
{
	if (!error || error->kind == ERROR_KIND_NOT_FOUND || process_alive(process))
		return error;
	struct error *gone = error_new(ERROR_KIND_NOT_FOUND, "process %d (%s) is gone",
				       process->pid, process->name);
	error_free(error);
	return gone;
}

/** What no thread may be inside at the flip. */
static void apply_ranges(const struct look *look, struct range_list *ranges)
{
	for (size_t i = 0; i < look->detours.count; i++) {
		const struct detour_plan *detour = &look->detours.items[i];
		const struct patch_function *function = detour->function;
		uint64_t bias = detour->module->module->bias;
		if (detour->below) {
			revert_ranges(detour->below, ranges);
			continue;
		}
		vec_push(&ranges->list,
			 (struct named_range){detour->address, detour->address + detour->size,
					      function->name});
		for (size_t p = 0; p < function->parts.count; p++) {
			uint64_t start = bias + function->parts.items[p].address;
			vec_push(&ranges->list,
				 (struct named_range){start, start + function->parts.items[p].size,
						      function->name});
		}
	}
	for (size_t i = 0; i < look->replaced.count; i++)
		revert_ranges(look->replaced.items[i], ranges);
}

/**
 * A reverted patch's memory that had to be kept, if it is this one's: the same bytes but for what
 * depends on the time (head, body, data).
 */
static struct record *find_kept(struct linked *linked, const struct look *look)
{
	size_t skip = LIVE_RECORD_HEAD + sizeof(struct record_body);
	for (size_t i = look->registry->records.count; i-- > 0;) {
		struct record *record = look->registry->records.items[i];
		// Later patches are above earlier ones by their number, so this one must be the last.
		if (record->head.state == LIVE_STATE_APPLIED)
			return NULL;
		if (record->head.state != LIVE_STATE_REVERTED || look->replaced.count ||
		    record->body.mapping_size != linked->size ||
		    memcmp(record->body.digest, look->patch->digest.bytes,
			   sizeof(record->body.digest)) != 0 ||
		    record->head.registered >> 16)
			continue;
		struct error *error = link_at(linked, record->address);
		if (error) {
			error_free(error);
			continue;
		}
		size_t size = linked->text_offset + linked->text_size;
		_cleanup_free_ uint8_t *bytes = xmalloc(size);
		if (process_memory_read_some(look->process, record->address, bytes, size) == size &&
		    memcmp(bytes + skip, linked->bytes + skip, size - skip) == 0)
			return record;
	}
	return NULL;
}

static struct error *flip_in(struct session *session, struct look *look, struct record *record)
{
	struct range_list ranges = {0};
	apply_ranges(look, &ranges);
	progress_report(session->options->progress, "switching", 0, 0);
	struct error *error = transition_prefault(session->process, record);
	if (!error)
		error = session_stop_outside(session, &ranges);
	if (!error) {
		error = transition_apply(session, look->registry, record);
		session_resume(session);
	}
	vec_deinit(&ranges.list);
	return error;
}

static void undo_stage(struct session *session, struct record *record)
{
	// Time of its own: the rest may have used all there was.
	session->deadline_ns = monotonic_ns() + 1000000000;
	struct error *error = unwinders_deregister(session, record);
	if (!error && record->head.registered == 0)
		error = unstage(session, record);
	else if (process_alive(session->process))
		error_free(record_store(session->process, record, state, LIVE_STATE_REVERTED));
	error_free(error);
}

static struct error *apply_staged(struct session *session, struct look *look, struct linked *linked)
{
	struct record *record = find_kept(linked, look);
	struct live_outcome *outcome = session->outcome;
	if (record) {
		TRY(record_store(session->process, record, state, LIVE_STATE_STAGED));
		outcome->mapped_bytes = record->body.mapping_size;
	} else {
		progress_report(session->options->progress, "staging", 0, 0);
		TRY(stage(session, linked, &record));
	}
	struct error *error = unwinders_register(session, record);
	if (!error)
		error = flip_in(session, look, record);
	if (error) {
		undo_stage(session, record);
		return error;
	}
	outcome->unwinders = unwinders_describe(outcome->arena, record);
	memory_release_kept(session, look->registry);
	return NULL;
}

static struct error *check_name(const struct look *look, bool *ret_already)
{
	const struct record *same = registry_find(look->registry, look->patch->name);
	*ret_already = false;
	if (!same)
		return NULL;
	*ret_already = memcmp(same->body.digest, look->patch->digest.bytes,
			      sizeof(same->body.digest)) == 0;
	if (*ret_already || look->patch->replaces_all)
		return NULL;
	return error_new(
		ERROR_KIND_CONFLICT,
		"process %d (%s) runs another patch with the name \"%s\"; revert that first",
		look->process->pid, look->process->name, look->patch->name);
}

static struct error *is_applied(struct process *process, const struct patch *patch, bool *ret)
{
	_cleanup_process_space_ struct process_space *space = NULL;
	_cleanup_registry_ struct registry *registry = NULL;
	TRY(process_space_read(process, &space));
	TRY(registry_read(process, space, &registry));
	const struct look look = {.process = process, .patch = patch, .registry = registry};
	return check_name(&look, ret);
}

static struct error *apply_locked(struct process *process, const struct patch *patch,
				  const struct live_options *options, struct live_outcome *outcome)
{
	_cleanup_look_ struct look *look = NULL;
	_cleanup_linked_ struct linked *linked = NULL;
	uint64_t place;
	if (!options->dry_run)
		TRY(transition_recover(process, options, outcome));
	outcome->functions = patch->functions.count;
	TRY(is_applied(process, patch, &outcome->already));
	if (outcome->already)
		return NULL;
	progress_report(options->progress, "looking", 0, 0);
	TRY(look_for_patch(process, patch, &look));
	TRY(link_layout(look, &linked));
	TRY(link_find_place(linked, look->space, &place));
	TRY(link_at(linked, place));
	outcome->mapped_bytes = linked->size;
	if (options->dry_run)
		return NULL;

	struct session session;
	struct error *error = session_begin(&session, process, options, outcome, look->registry);
	if (!error)
		error = apply_staged(&session, look, linked);
	session_end(&session);
	return error;
}

struct error *live_apply(struct process *process, const struct patch *patch,
			 const struct live_options *options, struct live_outcome *outcome)
{
	uint64_t start = monotonic_ns();
	if (!outcome->arena)
		outcome->arena = arena_create();
	TRY(live_lock(process, options->timeout_ns));
	struct error *error = apply_locked(process, patch, options, outcome);
	live_unlock(process);
	outcome->total_ns = monotonic_ns() - start;
	return error_if_gone(process, error);
}

void live_outcome_deinit(struct live_outcome *outcome)
{
	for (size_t i = 0; i < outcome->blockers.count; i++)
		vec_deinit(&outcome->blockers.items[i].frames);
	vec_deinit(&outcome->blockers);
	arena_free(outcome->arena);
	outcome->arena = NULL;
}
