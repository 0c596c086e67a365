/* SPDX-License-Identifier: MIT */
/*
 * Everything that can be known, and refused, before anything is changed.
 *
 * The modules are found by build ID, whatever their names are now. Every old function and every part
 * of one must stand in memory as the patch knows it: its bytes in the module's file have the patch's
 * digest, and memory holds these bytes but for the jumps of patches in the registry. What else stands
 * there is told apart, since each has another remedy: another patch, a uprobe, a debugger's
 * breakpoint, somebody else's jump.
 */
#include <inttypes.h>
#include <string.h>

#include "live/private.h"

static bool named_in(const char *const *names, size_t count, const char *name)
{
	for (size_t i = 0; i < count; i++)
		if (string_equal(names[i], name))
			return true;
	return false;
}

/* ---- modules ------------------------------------------------------------------------------ */

static struct error *find_module(struct look *look, const struct patch_module *patch_module)
{
	struct live_module module = {.patch_module = patch_module};
	for (size_t i = 0; i < look->space->modules.count; i++) {
		const struct process_module *candidate = &look->space->modules.items[i];
		if (!build_id_equal(&candidate->build_id, &patch_module->build_id))
			continue;
		if (module.module)
			return error_new(
				ERROR_KIND_UNSUPPORTED,
				"process %d maps \"%s\" twice (dlmopen?), and a patch goes "
				"into one of them only",
				look->process->pid, candidate->name);
		module.module = candidate;
	}
	char text[129];
	if (!module.module || patch_module->build_id.size == 0)
		return error_new(ERROR_KIND_NOT_FOUND,
				 "process %d (%s) does not map \"%s\" with build ID %s",
				 look->process->pid, look->process->name, patch_module->name,
				 build_id_format(&patch_module->build_id, text));
	_cleanup_free_ char *path = NULL;
	TRY(process_module_file(look->process, module.module, &path));
	TRY(error_prefix(image_open(path, NULL, &module.image), "\"%s\" of process %d",
			 module.module->name, look->process->pid));
	vec_push(&look->modules, module); // owns the image from here on
	struct live_module *placed = &look->modules.items[look->modules.count - 1];
	if (!build_id_equal(&placed->image->build_id, &patch_module->build_id))
		return error_new(ERROR_KIND_MISMATCH,
				 "the file of \"%s\" in process %d has build ID %s, its memory %s",
				 placed->module->name, look->process->pid,
				 build_id_format(&placed->image->build_id, text),
				 build_id_format(&patch_module->build_id, (char[129]){0}));
	if (placed->image->arch != look->patch->object->arch)
		return error_new(ERROR_KIND_MISMATCH, "the patch is for %s, \"%s\" is for %s",
				 look->patch->object->arch->name, placed->module->name,
				 placed->image->arch->name);
	return scope_create(look->process, look->space, placed->module, placed->image,
			    &placed->scope);
}

const struct live_module *look_module(const struct look *look, const struct patch_module *module)
{
	for (size_t i = 0; i < look->modules.count; i++)
		if (look->modules.items[i].patch_module == module)
			return &look->modules.items[i];
	return NULL;
}

static struct error *refuse_coroutines(struct look *look)
{
	for (size_t i = 0; i < look->modules.count; i++) {
		const char *name = scope_coroutine_import(look->modules.items[i].scope);
		if (name)
			return error_new(
				ERROR_KIND_UNSUPPORTED,
				"process %d (%s) uses %s(): it has stacks that are not its "
				"threads', where old code may wait unseen",
				look->process->pid, look->process->name, name);
	}
	return NULL;
}

/* ---- old code in memory ------------------------------------------------------------------- */

/** What the file's @bytes for @address become by the patches that stand. */
static void overlay_patches(const struct look *look, uint64_t address, uint8_t *bytes,
			    uint64_t size)
{
	for (size_t r = 0; r < look->registry->records.count; r++) {
		const struct record *record = look->registry->records.items[r];
		if (record->head.state != LIVE_STATE_APPLIED)
			continue;
		for (uint32_t w = 0; w < record->body.write_count; w++) {
			const struct record_write *write = &record->writes[w];
			for (size_t i = 0; i < write->size; i++)
				if (write->address + i - address < size)
					bytes[write->address + i - address] = write->after[i];
		}
	}
}

static struct error *tell_difference(const struct look *look, const char *name, uint64_t address,
				     const uint8_t *expected, const uint8_t *found, uint64_t size)
{
	const struct arch *arch = look->patch->object->arch;
	uint64_t at = 0;
	while (at < size && expected[at] == found[at])
		at++;
	struct arch_instruction instruction = {0};
	// What was written over a short function goes on behind it.
	uint8_t window[16];
	size_t got = process_memory_read_some(look->process, address + at, window, sizeof(window));
	bool decoded = arch->decode(window, got, address + at, &instruction);
	const char *what = "holds other bytes than its file";
	const char *advice = "restart the process";
	char text[96];
	if (decoded && instruction.flow == ARCH_FLOW_TRAP) {
		what = "holds a breakpoint or uprobe";
		advice = "remove it first";
	} else if (decoded && instruction.flow == ARCH_FLOW_CALL) {
		// From 6.18 on the kernel makes a call of a uprobe on a 5-byte NOP.
		what = "holds a uprobe's call";
		advice = "remove it first";
	} else if (decoded && (instruction.flow == ARCH_FLOW_JUMP ||
			       instruction.flow == ARCH_FLOW_INDIRECT_JUMP)) {
		what = "holds a jump that no patch of suture wrote";
		advice = "take out what hooks the function first";
	}
	arch->format(window, got, address + at, text, sizeof(text));
	return error_new(ERROR_KIND_MISMATCH, "\"%s\"+0x%" PRIx64 " in process %d %s: \"%s\"; %s",
			 name, at, look->process->pid, what, text, advice);
}

static struct error *verify_range(const struct look *look, const struct live_module *module,
				  const char *name, uint64_t file_address, uint64_t size,
				  const struct digest *digest)
{
	const uint8_t *bytes = image_bytes(module->image, file_address, size);
	if (!bytes || size == 0 || size > 1ul << 28)
		return error_new(ERROR_KIND_MISMATCH,
				 "\"%s\" has no %" PRIu64 " bytes of code at 0x%" PRIx64
				 " for \"%s\"",
				 module->module->name, size, file_address, name);
	struct digest found = digest_bytes(bytes, size);
	if (!digest_equal(&found, digest))
		return error_new(ERROR_KIND_MISMATCH,
				 "\"%s\" in the file of \"%s\" is not the code that the patch was "
				 "built for; build the patch for this file",
				 name, module->module->name);
	uint64_t address = module->module->bias + file_address;
	_cleanup_free_ uint8_t *memory = xmalloc(size);
	_cleanup_free_ uint8_t *expected = xmemdup(bytes, size);
	TRY(error_prefix(process_memory_read(look->process, address, memory, size), "\"%s\"",
			 name));
	overlay_patches(look, address, expected, size);
	if (memcmp(memory, expected, size) != 0)
		return tell_difference(look, name, address, expected, memory, size);
	return NULL;
}

static struct error *verify_function(const struct look *look, const struct live_module *module,
				     const struct patch_function *function)
{
	TRY(verify_range(look, module, function->name, function->old_address, function->old_size,
			 &function->old_digest));
	for (size_t i = 0; i < function->parts.count; i++) {
		_cleanup_free_ char *name = xasprintf("a part of %s", function->name);
		TRY(verify_range(look, module, name, function->parts.items[i].address,
				 function->parts.items[i].size, &function->part_digests.items[i]));
	}
	return NULL;
}

/* ---- earlier patches ---------------------------------------------------------------------- */

static bool record_touches(const struct record *record, const struct process_module *module)
{
	for (uint32_t i = 0; i < record->body.function_count; i++)
		if (record->functions[i].old_address >= module->start &&
		    record->functions[i].old_address < module->end)
			return true;
	return false;
}

static struct error *look_at_others(struct look *look)
{
	const struct patch *patch = look->patch;
	for (size_t i = 0; i < patch->base_count; i++)
		if (!registry_find(look->registry, patch->bases[i]))
			return error_new(ERROR_KIND_NOT_FOUND,
					 "patch \"%s\" stands on \"%s\", which is not applied to "
					 "process %d; apply that first",
					 patch->name, patch->bases[i], look->process->pid);
	for (size_t r = 0; patch->replaces_all && r < look->registry->records.count; r++) {
		struct record *record = look->registry->records.items[r];
		bool touches = false;
		for (size_t m = 0; m < look->modules.count; m++)
			touches |= record_touches(record, look->modules.items[m].module);
		if (touches && record->head.state == LIVE_STATE_APPLIED)
			vec_push(&look->replaced, record);
	}
	return NULL;
}

/** May the patch take the function over from the one that has it? */
static struct error *check_below(const struct look *look, const struct detour_plan *plan)
{
	if (!plan->below || look->patch->replaces_all)
		return NULL;
	const char *name = record_string(plan->below, plan->below->body.name);
	if (named_in(look->patch->bases, look->patch->base_count, name))
		return NULL;
	return error_new(
		ERROR_KIND_CONFLICT,
		"function \"%s\" of process %d was replaced by patch \"%s\" already; revert "
		"that, or build this one with --base or as a replacement",
		plan->function->name, look->process->pid, name);
}

static bool is_planned(const struct look *look, uint64_t address)
{
	for (size_t i = 0; i < look->detours.count; i++)
		if (look->detours.items[i].address == address)
			return true;
	return false;
}

/** What the replaced patches changed and this one does not goes back to its old code. */
static struct error *plan_taking_out(struct look *look)
{
	for (size_t r = look->replaced.count; r-- > 0;) {
		const struct record *record = look->replaced.items[r];
		for (uint32_t f = 0; f < record->body.function_count; f++) {
			const struct record_function *old = &record->functions[f];
			const struct live_module *module = NULL;
			for (size_t m = 0; m < look->modules.count; m++)
				if (old->old_address >= look->modules.items[m].module->start &&
				    old->old_address < look->modules.items[m].module->end)
					module = &look->modules.items[m];
			if (is_planned(look, old->old_address))
				continue;
			if (!module)
				return error_new(
					ERROR_KIND_CONFLICT,
					"patch \"%s\" changes other modules as well; revert "
					"it first",
					record_string(record, record->body.name));
			struct patch_function *function =
				arena_new(look->arena, struct patch_function);
			function->name =
				arena_strdup(look->arena, record_string(record, old->name));
			function->module = module->patch_module;
			function->old_address = old->old_address - module->module->bias;
			function->old_size = old->old_size;
			struct detour_plan plan;
			TRY(detour_plan_make(look, module, function, &plan));
			vec_push(&look->detours, plan);
		}
	}
	return NULL;
}

/* ---- the whole ---------------------------------------------------------------------------- */

struct error *look_for_patch(struct process *process, const struct patch *patch, struct look **ret)
{
	struct arena *arena = arena_create();
	_cleanup_look_ struct look *look = arena_new(arena, struct look);
	look->arena = arena;
	look->process = process;
	look->patch = patch;
	if (patch->modules.count == 0 || patch->functions.count == 0)
		return error_new(ERROR_KIND_INPUT, "patch \"%s\" replaces nothing", patch->name);

	TRY(process_space_read(process, &look->space));
	TRY(registry_read(process, look->space, &look->registry));
	for (size_t i = 0; i < patch->modules.count; i++)
		TRY(find_module(look, &patch->modules.items[i]));
	TRY(refuse_coroutines(look));
	TRY(look_at_others(look));
	for (size_t i = 0; i < patch->functions.count; i++) {
		const struct patch_function *function = &patch->functions.items[i];
		const struct live_module *module = look_module(look, function->module);
		struct detour_plan plan;
		if (!module || !function->new_symbol || !function->new_symbol->section)
			return error_new(
				ERROR_KIND_INPUT,
				"function \"%s\" of the patch has no module or no new code",
				function->name);
		TRY(verify_function(look, module, function));
		if (is_planned(look, module->module->bias + function->old_address))
			return error_new(ERROR_KIND_INPUT, "the patch replaces \"%s\" twice",
					 function->name);
		TRY(detour_plan_make(look, module, function, &plan));
		TRY(check_below(look, &plan));
		vec_push(&look->detours, plan);
	}
	TRY(plan_taking_out(look));
	*ret = take_ptr(look);
	return NULL;
}

void look_free(struct look *look)
{
	if (!look)
		return;
	for (size_t i = 0; i < look->modules.count; i++) {
		scope_free(look->modules.items[i].scope);
		image_free(look->modules.items[i].image);
	}
	vec_deinit(&look->modules);
	vec_deinit(&look->detours);
	vec_deinit(&look->replaced);
	registry_free(look->registry);
	process_space_free(look->space);
	arena_free(look->arena);
}

void look_cleanup(struct look **look)
{
	look_free(*look);
}
