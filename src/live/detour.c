/* SPDX-License-Identifier: MIT */
/*
 * Where the jump of a replaced function goes.
 *
 *	f:	endbr64			kept: an indirect call may demand it
 *		jmp stub		over the first instructions, which move to the patch
 *		...			the rest, to which the moved instructions jump back
 *
 * The jump takes 5 bytes. They must be ours alone: no other instruction may branch into their middle,
 * and they must not reach into a neighbour. So the whole old function and its parts are decoded, and
 * a branch to the 2nd to 5th byte is met by moving so much more that the branch moves along (a loop
 * of three bytes at the entry), or refused. Jump tables are data: what can be seen of them is looked
 * for (table_leads_into). A branch back to the entry itself is harmless: it takes the detour again.
 *
 * A function of less than 5 bytes has filling behind it as a rule, up to the alignment of the next.
 * The jump may run into that; else a short jump of 2 bytes leads to filling close by that holds the
 * long one. Filling is what decodes as filling *and* what neither a symbol nor an unwind table claims:
 * the NOPs of a neighbour's patchable entry look just like it.
 *
 * A jump never crosses a page. Its bytes are written by one call, and a tool that is killed inside
 * write() has written a page's share of them or not; on two pages it may have written one half.
 */
#include <elf.h>
#include <inttypes.h>
#include <string.h>

#include "live/private.h"

static struct error *too_short(const struct detour_plan *plan, const char *why)
{
	return error_new(ERROR_KIND_UNSUPPORTED,
			 "function \"%s\" (%" PRIu64 " bytes at 0x%" PRIx64 " in \"%s\") is too "
			 "short for a jump: %s; change a caller instead",
			 plan->function->name, plan->size, plan->address,
			 plan->module->module->name, why);
}

static bool crosses_page(uint64_t address, size_t size)
{
	return address / LIVE_PAGE != (address + size - 1) / LIVE_PAGE;
}

/* ---- what belongs to somebody ------------------------------------------------------------- */

/** An FDE's code as .eh_frame_hdr lists it: addresses of the file. */
struct claim {
	uint64_t start, end;
};
struct claims {
	VEC(struct claim) list;
	bool known; /* there is a table, or a symbol table */
};

static uint32_t load_u32(const uint8_t *bytes)
{
	uint32_t value;
	memcpy(&value, bytes, sizeof(value));
	return value;
}

/*
 * The form that every linker writes (LSB 4.1, 10.6.2): version 1, pointer pcrel sdata4, count udata4,
 * table datarel sdata4.
 */
static void claims_read(const struct image *image, struct claims *claims)
{
	const uint8_t *header = NULL;
	if (image->eh_frame_hdr_size >= 12)
		header = image_bytes(image, image->eh_frame_hdr, image->eh_frame_hdr_size);
	claims->known = image->has_symtab;
	if (!header || header[0] != 1 || header[2] != 0x03 || header[3] != 0x3b)
		return;
	uint32_t count = load_u32(header + 8);
	if (count > (image->eh_frame_hdr_size - 12) / 8)
		return;
	claims->known = true;
	for (uint32_t i = 0; i < count; i++) {
		const uint8_t *row = header + 12 + 8 * (size_t)i;
		uint64_t start = image->eh_frame_hdr + (uint64_t)(int32_t)load_u32(row);
		uint64_t fde = image->eh_frame_hdr + (uint64_t)(int32_t)load_u32(row + 4);
		const uint8_t *bytes = image_bytes(image, fde, 16);
		uint64_t end = start + 1;
		// length, CIE, pc_begin pcrel sdata4, pc_range
		if (bytes && fde + 8 + (uint64_t)(int32_t)load_u32(bytes + 8) == start)
			end = start + load_u32(bytes + 12);
		vec_push(&claims->list, (struct claim){start, end});
	}
}

/**
 * The unclaimed bytes around [start, end), addresses of the file: *@low is where the claim before them
 * ends. false: something in between is claimed.
 */
static bool gap_around(const struct image *image, const struct claims *claims, uint64_t start,
		       uint64_t end, uint64_t *low, uint64_t *high)
{
	for (size_t i = 0; i < image->symbols.count + claims->list.count; i++) {
		struct claim claim;
		if (i < image->symbols.count) {
			const struct image_symbol *symbol = &image->symbols.items[i];
			if (symbol->type == STT_TLS)
				continue;
			// A label without a size claims the byte that it names.
			claim.start = symbol->address;
			claim.end = symbol->address + (symbol->size ? symbol->size : 1);
		} else {
			claim = claims->list.items[i - image->symbols.count];
		}
		if (claim.start < end && claim.end > start)
			return false;
		if (claim.end <= start && claim.end > *low)
			*low = claim.end;
		if (claim.start >= end && claim.start < *high)
			*high = claim.start;
	}
	return true;
}

/** Is [start, end), addresses of the file, filling that nobody claims? */
static bool is_free(const struct look *look, const struct live_module *module,
		    const struct claims *claims, uint64_t start, uint64_t end)
{
	enum { GAP_MAX = 256, INSTRUCTION_MAX = 15 };
	const struct image *image = module->image;
	uint64_t low = start > GAP_MAX ? start - GAP_MAX : 0, high = end + INSTRUCTION_MAX;
	uint64_t none = low;
	if (image_area_at(image, start) != IMAGE_AREA_TEXT ||
	    image_area_at(image, end - 1) != IMAGE_AREA_TEXT ||
	    !gap_around(image, claims, start, end, &low, &high) || low == none)
		return false;
	// Filling is instructions too, so it is read from where the code before it ends.
	const uint8_t *bytes = NULL;
	bool filling = false;
	for (uint64_t to = end; to <= high && !filling; to++) {
		bytes = image_bytes(image, low, to - low);
		filling = bytes && image->arch->is_padding(bytes, to - low);
	}
	if (!filling)
		return false;
	bytes += start - low;

	// And it stands so in memory: nobody else uses it for the same end.
	uint64_t bias = module->module->bias;
	uint8_t memory[LIVE_WRITE_MAX];
	if (end - start > sizeof(memory) ||
	    process_memory_read_some(look->process, bias + start, memory, end - start) !=
		    end - start ||
	    memcmp(memory, bytes, end - start) != 0)
		return false;
	for (size_t i = 0; i < look->detours.count; i++) {
		const struct detour_plan *other = &look->detours.items[i];
		if (other->jump < bias + end && other->jump + image->arch->jump_size > bias + start)
			return false;
	}
	return true;
}

/* ---- branches into the jump --------------------------------------------------------------- */

/** Calls @look for each direct branch of @bytes; what cannot be decoded is skipped by one byte. */
static uint64_t last_branch_into(const struct arch *arch, const uint8_t *bytes, size_t size,
				 uint64_t address, uint64_t low, uint64_t high, bool *ret_indirect)
{
	uint64_t last = 0;
	for (size_t at = 0; at < size;) {
		struct arch_instruction instruction;
		if (!arch->decode(bytes + at, size - at, address + at, &instruction)) {
			at++;
			continue;
		}
		if (instruction.flow == ARCH_FLOW_INDIRECT_JUMP)
			*ret_indirect = true;
		// A lea of a label counts as well: what else would it be for.
		if (instruction.has_pcrel && instruction.target > low && instruction.target < high)
			last = address + at + instruction.length;
		at += instruction.length;
	}
	return last;
}

/**
 * Does a jump table of the function lead to a byte in (low, high), addresses of the file? Looked for
 * are the two forms that compilers write: 8-byte addresses (relocated, or absolute in a program at
 * fixed addresses), and 4-byte distances from the table, whose address the function loads.
 */
static bool table_leads_into(const struct image *image, const uint8_t *bytes, size_t size,
			     uint64_t address, uint64_t low, uint64_t high)
{
	for (size_t i = 0; i < image->relocations.count; i++) {
		uint64_t target = (uint64_t)image->relocations.items[i].addend;
		if (image->relocations.items[i].type == image->arch->relocation_relative_dynamic &&
		    target > low && target < high)
			return true;
	}
	for (size_t s = 0; image->type == ET_EXEC && s < image->segments.count; s++) {
		const struct image_segment *segment = &image->segments.items[s];
		const uint8_t *data = image_bytes(image, segment->address, segment->file_size);
		if (!data || segment->flags & PF_X)
			continue;
		for (size_t at = -segment->address & 7; at + 8 <= segment->file_size; at += 8) {
			uint64_t word;
			memcpy(&word, data + at, sizeof(word));
			if (word > low && word < high)
				return true;
		}
	}
	for (size_t at = 0; at < size;) {
		struct arch_instruction instruction;
		if (!image->arch->decode(bytes + at, size - at, address + at, &instruction)) {
			at++;
			continue;
		}
		at += instruction.length;
		if (!instruction.has_pcrel || instruction.flow != ARCH_FLOW_NEXT ||
		    image_area_at(image, instruction.target) != IMAGE_AREA_RODATA)
			continue;
		for (uint64_t row = instruction.target;; row += 4) {
			const uint8_t *distance = image_bytes(image, row, 4);
			if (!distance)
				break;
			uint64_t target =
				instruction.target + (uint64_t)(int32_t)load_u32(distance);
			// The end of this table, as far as this function goes.
			if (target < address || target >= address + size)
				break;
			if (target > low && target < high)
				return true;
		}
	}
	return false;
}

/**
 * How many bytes below a jump of @jump_size at @jump (file address) must move: all that the jump
 * covers, and every branch that leads into it.
 */
static struct error *plan_take(struct detour_plan *plan, uint64_t jump, size_t covered)
{
	const struct image *image = plan->module->image;
	const struct arch *arch = image->arch;
	uint64_t address = plan->function->old_address, end = address + plan->size;
	uint64_t low = jump, high = jump + covered;
	bool indirect = false;

	plan->take = end - jump < covered ? end - jump : covered;
	plan->limit = end - jump;
	uint64_t last =
		last_branch_into(arch, plan->bytes, plan->size, address, low, high, &indirect);
	if (last > jump + plan->take)
		plan->take = last - jump;
	if (plan->take > ARCH_MOVED_MAX)
		return error_new(
			ERROR_KIND_UNSUPPORTED,
			"function \"%s\" branches back into its first %zu bytes, where the "
			"jump has to stand; change a caller instead",
			plan->function->name, (size_t)(high - address));
	for (size_t i = 0; i < plan->function->parts.count; i++) {
		const struct patch_range *part = &plan->function->parts.items[i];
		const uint8_t *bytes = image_bytes(image, part->address, part->size);
		bool ignored;
		if (bytes &&
		    last_branch_into(arch, bytes, part->size, part->address, low, high, &ignored))
			return error_new(ERROR_KIND_UNSUPPORTED,
					 "the cold part of function \"%s\" branches into its first "
					 "%zu bytes, where the jump has to stand; change a caller "
					 "instead",
					 plan->function->name, (size_t)(high - address));
	}
	if (indirect && table_leads_into(image, plan->bytes, plan->size, address, low, high))
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "a jump table of function \"%s\" leads into its first %zu bytes, "
				 "where the jump has to stand; change a caller instead",
				 plan->function->name, (size_t)(high - address));

	// Filling that was put there for a jump need not be kept.
	size_t at = jump - address, nops = 0;
	while (nops < plan->take && at < plan->size) {
		struct arch_instruction instruction;
		if (!arch->decode(plan->bytes + at, plan->size - at, address + at, &instruction) ||
		    !instruction.is_nop)
			break;
		at += instruction.length;
		nops += instruction.length;
	}
	plan->only_nops = nops >= plan->take;
	if (plan->only_nops)
		plan->take = nops;
	return NULL;
}

/* ---- where it goes ------------------------------------------------------------------------ */

/** Control never runs out of the function's end into what follows. */
static bool ends_closed(const struct detour_plan *plan)
{
	const struct arch *arch = plan->module->image->arch;
	enum arch_flow flow = ARCH_FLOW_NEXT;
	for (size_t at = 0; at < plan->size;) {
		struct arch_instruction instruction;
		if (!arch->decode(plan->bytes + at, plan->size - at, plan->address + at,
				  &instruction))
			return false;
		flow = instruction.flow;
		at += instruction.length;
	}
	return flow == ARCH_FLOW_RETURN || flow == ARCH_FLOW_JUMP ||
	       flow == ARCH_FLOW_INDIRECT_JUMP || flow == ARCH_FLOW_TRAP || flow == ARCH_FLOW_CALL;
}

static void set_original(const struct detour_plan *plan, uint64_t address, size_t size, uint8_t *to)
{
	// Both the function and the filling around it were read from the file before.
	const uint8_t *bytes =
		image_bytes(plan->module->image, address - plan->module->module->bias, size);
	if (bytes)
		memcpy(to, bytes, size);
}

/** Does a write of @size at file address @at stay in the function or in free filling behind it? */
static bool has_room(const struct look *look, const struct detour_plan *plan,
		     const struct claims *claims, uint64_t at, size_t size)
{
	uint64_t end = plan->function->old_address + plan->size;
	if (at + size <= end)
		return true;
	// Without names, a function may begin at any aligned address.
	if (!plan->module->image->has_symtab &&
	    at + size > align_up(end, plan->module->image->arch->function_align))
		return false;
	return claims->known && ends_closed(plan) &&
	       is_free(look, plan->module, claims, end, at + size);
}

/** Filling in reach of a short jump at @at (file address) that holds the long one, or 0. */
static uint64_t find_pad(const struct look *look, const struct detour_plan *plan,
			 const struct claims *claims, uint64_t at)
{
	const struct arch *arch = plan->module->image->arch;
	uint64_t from = at + arch->short_jump_size;
	uint64_t reach = (uint64_t)arch->short_jump_reach;
	uint64_t high = from + reach, low = from > reach ? from - reach : 0;
	if (!claims->known)
		return 0;
	for (uint64_t pad = high; pad >= low && pad > 0; pad--)
		if (!crosses_page(pad, arch->jump_size) &&
		    (pad >= from || pad + arch->jump_size <= plan->function->old_address) &&
		    pad >= plan->function->old_address + plan->size &&
		    is_free(look, plan->module, claims, pad, pad + arch->jump_size))
			return pad;
	for (uint64_t pad = plan->function->old_address - arch->jump_size; pad >= low && pad > 0;
	     pad--)
		if (!crosses_page(pad, arch->jump_size) &&
		    is_free(look, plan->module, claims, pad, pad + arch->jump_size))
			return pad;
	return 0;
}

static struct error *plan_at(const struct look *look, struct detour_plan *plan,
			     const struct claims *claims, uint64_t at, bool *ret_done)
{
	const struct arch *arch = plan->module->image->arch;
	uint64_t bias = plan->module->module->bias;
	*ret_done = true;
	plan->code = bias + at;
	if (!crosses_page(at, arch->jump_size) &&
	    has_room(look, plan, claims, at, arch->jump_size)) {
		TRY(plan_take(plan, at, arch->jump_size));
		plan->jump = bias + at;
		set_original(plan, plan->jump, arch->jump_size, plan->jump_original);
		return NULL;
	}
	uint64_t pad = 0;
	if (arch->short_jump_size && !crosses_page(at, arch->short_jump_size) &&
	    has_room(look, plan, claims, at, arch->short_jump_size))
		pad = find_pad(look, plan, claims, at);
	if (pad) {
		TRY(plan_take(plan, at, arch->short_jump_size));
		plan->jump = bias + pad;
		set_original(plan, plan->jump, arch->jump_size, plan->jump_original);
		plan->entry = bias + at;
		plan->entry_size = arch->short_jump_size;
		set_original(plan, plan->entry, plan->entry_size, plan->entry_original);
		return NULL;
	}
	*ret_done = false;
	return NULL;
}

/** The standing patch that has this function, the latest first. */
static bool find_below(struct look *look, struct detour_plan *plan)
{
	const struct registry *registry = look->registry;
	for (size_t r = registry->records.count; r-- > 0;) {
		struct record *record = registry->records.items[r];
		if (record->head.state != LIVE_STATE_APPLIED)
			continue;
		for (uint32_t f = 0; f < record->body.function_count; f++) {
			const struct record_function *function = &record->functions[f];
			if (function->old_address != plan->address)
				continue;
			plan->below = record;
			plan->below_write = &record->writes[function->write];
			plan->below_code = function->new_address;
			return true;
		}
	}
	return false;
}

/** Take over the places of the patch below: its jump, and its short jump when it has one. */
static struct error *plan_over_patch(struct detour_plan *plan)
{
	const struct arch *arch = plan->module->image->arch;
	const struct record *record = plan->below;
	uint64_t bias = plan->module->module->bias, end = plan->address + plan->size;
	plan->jump = plan->below_write->address;
	plan->code = plan->jump;
	if (plan->jump < plan->address || plan->jump >= end) {
		for (uint32_t w = 0; w < record->body.write_count && !plan->entry; w++) {
			const struct record_write *write = &record->writes[w];
			if (write->size == arch->short_jump_size &&
			    write->address >= plan->address && write->address < end)
				plan->entry = plan->code = write->address;
		}
		plan->entry_size = arch->short_jump_size;
	}
	if (plan->below_write->size != arch->jump_size || plan->code < plan->address ||
	    plan->code >= end)
		return error_new(ERROR_KIND_CONFLICT,
				 "function \"%s\" was replaced by patch \"%s\" in another way "
				 "than this version of suture would; revert that one first",
				 plan->function->name, record_string(record, record->body.name));
	set_original(plan, plan->jump, arch->jump_size, plan->jump_original);
	if (plan->entry)
		set_original(plan, plan->entry, plan->entry_size, plan->entry_original);
	return plan_take(plan, plan->code - bias, plan->entry ? plan->entry_size : arch->jump_size);
}

struct error *detour_plan_make(struct look *look, const struct live_module *module,
			       const struct patch_function *function, struct detour_plan *ret)
{
	const struct image *image = module->image;
	const struct arch *arch = image->arch;
	uint64_t start = function->old_address;
	const uint8_t *bytes = image_bytes(image, start, function->old_size);
	struct detour_plan plan = {
		.function = function,
		.module = module,
		.address = module->module->bias + start,
		.size = function->old_size,
	};
	if (!bytes || plan.size == 0)
		return error_new(ERROR_KIND_MISMATCH, "\"%s\" has no code for function \"%s\"",
				 module->module->name, function->name);
	plan.bytes = arena_memdup(look->arena, bytes, plan.size);

	if (find_below(look, &plan)) {
		TRY(plan_over_patch(&plan));
		*ret = plan;
		return NULL;
	}

	struct claims claims = {0};
	claims_read(image, &claims);
	struct arch_instruction first;
	uint64_t body = start;
	if (arch->decode(bytes, plan.size, start, &first) && first.is_landing_pad)
		body += first.length;
	bool done = false;
	struct error *error = NULL;
	if (body < start + plan.size)
		error = plan_at(look, &plan, &claims, body, &done);
	// No CPU checks landing pads in user space under Linux yet; rather without than not at all.
	if (!error && !done && body > start)
		error = plan_at(look, &plan, &claims, start, &done);
	vec_deinit(&claims.list);
	if (error)
		return error;
	if (!done)
		return crosses_page(body, arch->jump_size) &&
				       body + arch->jump_size <= start + plan.size
			       ? error_new(
					 ERROR_KIND_UNSUPPORTED,
					 "function \"%s\" begins %zu bytes before the end of a page, "
					 "where a jump cannot be written at one go; change a caller "
					 "instead",
					 function->name, (size_t)(LIVE_PAGE - body % LIVE_PAGE))
			       : too_short(&plan,
					   "there is no filling around it that nothing claims");
	*ret = plan;
	return NULL;
}
