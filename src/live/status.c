/* SPDX-License-Identifier: MIT */
/* What the registry of a process says. Nothing is stopped or changed. */
#include <string.h>

#include "live/private.h"

static void status_add(struct process *process, const struct registry *registry,
		       const struct record *record, struct live_status *status)
{
	struct arena *arena = status->arena;
	struct live_patch patch = {
		.name = arena_strdup(arena, record_string(record, record->body.name)),
		.state = (enum live_state)record->head.state,
		.applied_at = record->head.applied_at,
		.base = record->address,
		.size = record->body.mapping_size,
		.tool_version =
			arena_strdup(arena, record_string(record, record->body.tool_version)),
		.function_count = record->body.function_count,
		.unwinders = unwinders_describe(arena, record),
		.intact = record->head.state == LIVE_STATE_REVERTED ||
			  record->head.state == LIVE_STATE_STAGED ||
			  record_intact(process, registry, record),
	};
	memcpy(patch.digest.bytes, record->body.digest, sizeof(patch.digest.bytes));
	patch.functions = arena_array(arena, patch.function_count + 1, sizeof(*patch.functions));
	for (size_t i = 0; i < patch.function_count; i++) {
		const struct record_function *function = &record->functions[i];
		patch.functions[i].name =
			arena_strdup(arena, record_string(record, function->name));
		patch.functions[i].module =
			arena_strdup(arena, record_string(record, function->module));
		patch.functions[i].old_address = function->old_address;
		patch.functions[i].old_size = function->old_size;
		patch.functions[i].new_address = function->new_address;
		patch.functions[i].new_size = function->new_size;
	}
	vec_push(&status->patches, patch);
	status->mapped_bytes += patch.size;
	if (patch.state == LIVE_STATE_REVERTED)
		status->kept_bytes += patch.size;
	if (!status->registry_address)
		status->registry_address = record->address;
}

struct error *live_status_read(struct process *process, struct live_status **ret)
{
	_cleanup_process_space_ struct process_space *space = NULL;
	_cleanup_registry_ struct registry *registry = NULL;
	TRY(process_space_read(process, &space));
	TRY(registry_read(process, space, &registry));
	struct arena *arena = arena_create();
	struct live_status *status = arena_new(arena, struct live_status);
	status->arena = arena;
	for (size_t i = 0; i < registry->records.count; i++)
		status_add(process, registry, registry->records.items[i], status);
	*ret = status;
	return NULL;
}

void live_status_free(struct live_status *status)
{
	if (!status)
		return;
	vec_deinit(&status->patches);
	arena_free(status->arena);
}

void live_status_cleanup(struct live_status **status)
{
	live_status_free(*status);
}

struct error *live_concerns(struct process *process, const struct patch *patch, bool *ret_maps,
			    bool *ret_applied)
{
	_cleanup_process_space_ struct process_space *space = NULL;
	_cleanup_registry_ struct registry *registry = NULL;
	bool maps = false, applied = false;
	TRY(process_space_read(process, &space));
	for (size_t i = 0; i < patch->modules.count; i++)
		maps |= process_module_find(space, &patch->modules.items[i].build_id) != NULL;
	if (maps) {
		TRY(registry_read(process, space, &registry));
		const struct record *record = registry_find(registry, patch->name);
		applied = record && record->head.state == LIVE_STATE_APPLIED &&
			  memcmp(record->body.digest, patch->digest.bytes,
				 sizeof(record->body.digest)) == 0;
	}
	*ret_maps = maps;
	*ret_applied = applied;
	return NULL;
}
