/* SPDX-License-Identifier: MIT */
/* The road back: entries to what they were, then the memory, if it may go. */
#include <inttypes.h>
#include <string.h>

#include "live/private.h"

/** A later patch that needs @record: it stands on the same function, or names it as its base. */
static const struct record *find_above(const struct registry *registry, const struct record *record)
{
	const char *name = record_string(record, record->body.name);
	for (size_t r = 0; r < registry->records.count; r++) {
		const struct record *other = registry->records.items[r];
		if (!record_is_standing(other) || other->body.sequence <= record->body.sequence)
			continue;
		for (uint32_t b = 0; b < other->body.base_count; b++)
			if (string_equal(record_string(other, other->bases[b]), name))
				return other;
		for (uint32_t i = 0; i < record->body.write_count; i++)
			for (uint32_t k = 0; k < other->body.write_count; k++) {
				const struct record_write *mine = &record->writes[i];
				const struct record_write *its = &other->writes[k];
				if (its->address < mine->address + mine->size &&
				    mine->address < its->address + its->size)
					return other;
			}
	}
	return NULL;
}

void revert_ranges(const struct record *record, struct range_list *ranges)
{
	for (uint32_t i = 0; i < record->body.function_count; i++) {
		const struct record_function *function = &record->functions[i];
		vec_push(&ranges->list,
			 (struct named_range){function->new_address,
					      function->new_address + function->new_size,
					      record_string(record, function->name)});
	}
	// And everything else of the patch's code, beginning with stubs.
	uint64_t start = record->address + record->body.text_offset;
	vec_push(&ranges->list, (struct named_range){start, start + record->body.text_size,
						     record_string(record, record->body.name)});
}

static struct error *revert_record(struct session *session, struct registry *registry,
				   struct record *record)
{
	struct range_list ranges = {0};
	revert_ranges(record, &ranges);
	struct error *error = transition_prefault(session->process, record);
	if (!error)
		error = session_stop_outside(session, &ranges);
	if (!error) {
		error = transition_revert(session, record);
		session_resume(session);
	}
	vec_deinit(&ranges.list);
	TRY(error);

	bool kept = false;
	TRY(memory_release(session, record, &kept));
	record->released = !kept;
	session->outcome->memory_kept = kept;
	memory_release_kept(session, registry);
	return NULL;
}

/** A reverted patch of that name whose memory is kept still. */
static bool release_again(struct session *session, struct registry *registry, const char *name)
{
	bool any = false;
	for (size_t i = 0; i < registry->records.count; i++)
		any |= registry->records.items[i]->head.state == LIVE_STATE_REVERTED &&
		       string_equal(record_string(registry->records.items[i],
						  registry->records.items[i]->body.name),
				    name);
	if (any)
		memory_release_kept(session, registry);
	return any;
}

static struct error *revert_locked(struct process *process, const char *name,
				   const struct live_options *options, struct live_outcome *outcome)
{
	_cleanup_process_space_ struct process_space *space = NULL;
	_cleanup_registry_ struct registry *registry = NULL;
	TRY(transition_recover(process, options, outcome));
	TRY(process_space_read(process, &space));
	TRY(registry_read(process, space, &registry));
	struct record *record = registry_find(registry, name);
	const struct record *above = record ? find_above(registry, record) : NULL;
	if (above)
		return error_new(ERROR_KIND_CONFLICT,
				 "patch \"%s\" stands on \"%s\" in process %d; revert that first",
				 record_string(above, above->body.name), name, process->pid);
	bool reverted = false;
	for (size_t i = 0; !record && i < registry->records.count; i++)
		reverted |= string_equal(record_string(registry->records.items[i],
						       registry->records.items[i]->body.name),
					 name);
	if (!record && !reverted)
		return error_new(ERROR_KIND_NOT_FOUND, "process %d (%s) does not run patch \"%s\"",
				 process->pid, process->name, name);
	if (record) {
		outcome->functions = record->body.function_count;
		outcome->mapped_bytes = record->body.mapping_size;
		outcome->unwinders = unwinders_describe(outcome->arena, record);
	}
	if (options->dry_run)
		return NULL;

	struct session session;
	struct error *error = session_begin(&session, process, options, outcome, registry);
	if (!error && record)
		error = revert_record(&session, registry, record);
	else if (!error)
		outcome->already = release_again(&session, registry, name);
	session_end(&session);
	return error;
}

struct error *live_revert(struct process *process, const char *name,
			  const struct live_options *options, struct live_outcome *outcome)
{
	uint64_t start = monotonic_ns();
	if (!outcome->arena)
		outcome->arena = arena_create();
	TRY(live_lock(process, options->timeout_ns));
	struct error *error = revert_locked(process, name, options, outcome);
	live_unlock(process);
	outcome->total_ns = monotonic_ns() - start;
	return error_if_gone(process, error);
}
