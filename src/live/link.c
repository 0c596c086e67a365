/* SPDX-License-Identifier: MIT */
/*
 * The patch linked for one process: a small static linker whose output goes to another program.
 *
 *	link_layout()	sections into parts, a slot or veneer for every symbol that may need one, what
 *			each symbol means here. Nothing depends on the place yet.
 *	link_at()	addresses, stubs, moved instructions, slots, relocations, the record
 *
 * A call that may not reach (libc at 0x7f... from a program at 0x55..., the common case) has a veneer
 * and its slot reserved, and uses them only when it must. Every field is checked for its range when it
 * is written; nothing is cut off silently.
 *
 * Data of another module that is out of reach of a 32-bit field has no veneer. A linker would have made
 * a copy relocation, which is too late now. A lea becomes a load from a slot, the linker's own
 * GOTPCRELX rewrite backwards; for other instructions a constant (a typeinfo of libstdc++) is copied
 * into the patch, and a variable is an error.
 *
 * Thread-local variables: the running threads' blocks are laid out already, so the patch refers to
 * what is there, by the model that its compiler chose:
 *	local exec	offset from the thread pointer: computed for the program, for a library taken
 *			from a slot in which ld.so left one
 *	initial exec	the same offset in a slot of our own
 *	general and local dynamic	a pair {module, offset} of our own for __tls_get_addr()
 *	descriptor	the module's own two words for the same variable, copied
 */
#include <elf.h>
#include <inttypes.h>
#include <string.h>

#include "live/private.h"

/* A vtable or typeinfo is far smaller; what is larger is no constant that code refers to so. */
enum { CONSTANT_MAX = 4096 };
/* Filling in front of each function: no call instruction is longer. */
enum { ENTRY_GAP = 8 };

enum part { PART_NONE, PART_READONLY, PART_TEXT, PART_DATA, PARTS };

/** Where a section goes. */
struct placed {
	enum part part;
	uint64_t offset; /* in its part */
};

/** What a symbol means in this process, and the slots it has. Offsets of 0: none. */
struct meaning {
	bool resolved;
	enum patch_symbol_kind kind;
	const char *name;
	uint64_t value; /* external: address */
	uint64_t size;  /* of imported data, 0: not known */
	bool external, is_function, is_constant, is_got, is_absolute;
	bool is_tls, has_tls_offset, has_tls_pair, has_descriptor;
	int64_t tls_offset;
	uint64_t tls_pair[2], descriptor[2];
	/* In the read-only part, in the text part. */
	uint64_t got_slot, tls_slot, tls_pair_slot, descriptor_slot, veneer_slot, veneer;
	uint64_t constant; /* its copy */
};

/** A detour's pieces in the text part. */
struct pieces {
	uint64_t stub, back_stub, moved;
};

struct link_state {
	struct placed *sections; /* by section->index */
	struct meaning *symbols; /* by symbol->index */
	struct pieces *pieces;   /* by detour */
	uint64_t sizes[PARTS];
	uint64_t slots_start;     /* in the read-only part: the patch's own GOT */
	uint64_t tls_module_slot; /* the pair {module, 0}, 0: none */
	uint64_t tls_module;
	uint64_t data_objects; /* unwinders' memory in the data part */
};

static struct link_state *state_of(const struct linked *linked)
{
	return linked->state;
}

static uint64_t reserve(struct link_state *state, enum part part, uint64_t size, uint64_t align)
{
	uint64_t offset = align_up(state->sizes[part], align ? align : 1);
	state->sizes[part] = offset + size;
	return offset;
}

static uint64_t part_address(const struct linked *linked, enum part part)
{
	switch (part) {
	case PART_TEXT:
		return linked->base + linked->text_offset;
	case PART_DATA:
		return linked->base + linked->data_offset;
	default:
		return linked->base;
	}
}

static uint8_t *part_bytes(const struct linked *linked, enum part part)
{
	return linked->bytes + (part_address(linked, part) - linked->base);
}

static uint64_t readonly_address(const struct linked *linked, uint64_t offset)
{
	return linked->base + offset;
}

static uint64_t text_address(const struct linked *linked, uint64_t offset)
{
	return part_address(linked, PART_TEXT) + offset;
}

/* ---- what symbols mean -------------------------------------------------------------------- */

static const struct live_module *first_module(const struct linked *linked)
{
	return &linked->look->modules.items[0];
}

/** Is @address (of the file) the resolver of an ifunc? */
static bool is_resolver(const struct image *image, uint64_t address)
{
	const struct image_symbol *symbol = image_symbol_at(image, address);
	if (symbol && symbol->address == address && symbol->type == STT_GNU_IFUNC)
		return true;
	for (size_t i = 0; i < image->relocations.count; i++)
		if (image->relocations.items[i].type == image->arch->relocation_irelative &&
		    (uint64_t)image->relocations.items[i].addend == address)
			return true;
	return false;
}

static struct error *resolve_target_tls(const struct live_module *module,
					const struct object_symbol *symbol, struct meaning *meaning)
{
	uint64_t offset = symbol->value;
	meaning->is_tls = true;
	meaning->has_tls_offset = scope_tls_offset(module->scope, offset, &meaning->tls_offset);
	meaning->has_tls_pair = scope_tls_module(module->scope, &meaning->tls_pair[0]);
	meaning->tls_pair[1] = offset;
	meaning->has_descriptor =
		scope_tls_descriptor(module->scope, NULL, offset, meaning->descriptor);
	return NULL;
}

static struct error *resolve_target(const struct linked *linked, const struct patch_symbol *parsed,
				    const struct object_symbol *symbol, struct meaning *meaning)
{
	const struct live_module *module = look_module(linked->look, parsed->module);
	if (!module)
		return error_new(ERROR_KIND_INPUT,
				 "symbol \"%s\" is of a module that the patch "
				 "does not list",
				 symbol->name);
	if (symbol->type == STT_TLS)
		return resolve_target_tls(module, symbol, meaning);
	meaning->value = module->module->bias + symbol->value;
	if (image_area_at(module->image, symbol->value) == IMAGE_AREA_TEXT)
		meaning->is_function = true;
	if (meaning->is_function && is_resolver(module->image, symbol->value) &&
	    !scope_ifunc(module->scope, meaning->value, &meaning->value))
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "the patch needs \"%s\", an ifunc that nothing in the process has "
				 "resolved",
				 parsed->name);
	return NULL;
}

static struct error *resolve_import(const struct linked *linked, const struct patch_symbol *parsed,
				    const struct object_symbol *symbol, struct meaning *meaning)
{
	struct scope *scope = first_module(linked)->scope;
	if (string_equal(parsed->name, "_GLOBAL_OFFSET_TABLE_")) {
		meaning->is_got = true;
		return NULL;
	}
	if (symbol->type == STT_TLS) {
		meaning->is_tls = true;
		meaning->has_descriptor =
			scope_tls_descriptor(scope, parsed->name, 0, meaning->descriptor);
		return scope_tls_import(scope, parsed->name, parsed->version,
					&meaning->has_tls_offset, &meaning->tls_offset,
					&meaning->has_tls_pair, meaning->tls_pair);
	}
	struct scope_symbol found;
	TRY(scope_lookup(scope, parsed->name, parsed->version, parsed->weak, &found));
	meaning->value = found.address;
	meaning->is_function = found.is_function;
	meaning->is_constant = found.is_constant;
	meaning->size = found.size;
	return NULL;
}

static struct error *resolve(const struct linked *linked, const struct object_symbol *symbol,
			     struct meaning **ret)
{
	struct meaning *meaning = &state_of(linked)->symbols[symbol->index];
	*ret = meaning;
	if (meaning->resolved)
		return NULL;
	meaning->resolved = true;
	meaning->name = symbol->name;
	if (symbol == symbol->object->null_symbol || symbol->special == SHN_ABS) {
		meaning->is_absolute = true;
		meaning->value = symbol->section ? 0 : symbol->value;
		if (!symbol->section)
			return NULL;
		meaning->is_absolute = false;
	}
	struct patch_symbol parsed;
	TRY(patch_symbol_parse(linked->look->patch, symbol, &parsed));
	meaning->kind = parsed.kind;
	if (parsed.name)
		meaning->name = parsed.name;
	meaning->external =
		parsed.kind == PATCH_SYMBOL_TARGET || parsed.kind == PATCH_SYMBOL_IMPORT;
	switch (parsed.kind) {
	case PATCH_SYMBOL_TARGET:
		return resolve_target(linked, &parsed, symbol, meaning);
	case PATCH_SYMBOL_IMPORT:
		return resolve_import(linked, &parsed, symbol, meaning);
	case PATCH_SYMBOL_NULL:
		meaning->is_absolute = true;
		return NULL;
	case PATCH_SYMBOL_DEFINED:
		if (!symbol->section ||
		    state_of(linked)->sections[symbol->section->index].part == PART_NONE)
			return error_new(
				ERROR_KIND_INPUT,
				"the patch refers to \"%s\", which is in no part of it that "
				"is loaded",
				symbol->name);
		return NULL;
	}
	return NULL;
}

/** S of the formulas. */
static uint64_t symbol_address(const struct linked *linked, const struct object_symbol *symbol,
			       const struct meaning *meaning)
{
	if (meaning->is_got)
		return readonly_address(linked, state_of(linked)->slots_start);
	if (meaning->is_absolute || meaning->external)
		return meaning->value;
	const struct placed *placed = &state_of(linked)->sections[symbol->section->index];
	return part_address(linked, placed->part) + placed->offset + symbol->value;
}

/* ---- layout ------------------------------------------------------------------------------- */

static enum part part_of(const struct object_section *section)
{
	if (!(section->flags & SHF_ALLOC) || section->type == SHT_NOTE)
		return PART_NONE;
	if (section->flags & SHF_EXECINSTR)
		return PART_TEXT;
	// Written by the linker only: it is we who write it.
	if (!(section->flags & SHF_WRITE) || string_starts_with(section->name, ".data.rel.ro"))
		return PART_READONLY;
	return PART_DATA;
}

static bool section_is_loaded(const struct object_section *section)
{
	return part_of(section) != PART_NONE && section->size > 0;
}

static struct error *place_sections(struct linked *linked)
{
	struct link_state *state = state_of(linked);
	const struct object *object = linked->look->patch->object;
	for (size_t i = 0; i < object->sections.count; i++) {
		const struct object_section *section = object->sections.items[i];
		enum part part = part_of(section);
		if (part == PART_NONE)
			continue;
		if (section->flags & SHF_TLS)
			return error_new(
				ERROR_KIND_UNSUPPORTED,
				"the patch has a new thread-local variable (section \"%s\"), "
				"for which running threads have no room",
				section->name);
		if (section->align > LIVE_PAGE || (section->align & (section->align - 1)) ||
		    section->size > 1ul << 30)
			return error_new(ERROR_KIND_INPUT,
					 "section \"%s\" of the patch has an "
					 "alignment of %" PRIu64 " and %" PRIu64 " bytes",
					 section->name, section->align, section->size);
		bool frames = string_equal(section->name, ".eh_frame");
		// Whoever looks for addresses in the patch tells an entry from a return address by it.
		if (part == PART_TEXT)
			reserve(state, part, ENTRY_GAP, 1);
		state->sections[section->index] = (struct placed){
			.part = part,
			// An unwinder reads .eh_frame up to a length of 0.
			.offset = reserve(state, part, section->size + (frames ? 8 : 0),
					  section->align),
		};
	}
	return NULL;
}

static uint64_t reserve_slots(struct link_state *state, uint64_t *slot, unsigned words)
{
	if (!*slot)
		*slot = reserve(state, PART_READONLY, 8 * words, 8);
	return *slot;
}

static void reserve_veneer(struct link_state *state, struct meaning *meaning)
{
	if (meaning->veneer_slot)
		return;
	reserve_slots(state, &meaning->veneer_slot, 1);
	meaning->veneer = reserve(state, PART_TEXT, ARCH_JUMP_MAX, 1);
}

static struct error *no_tls(const struct meaning *meaning, const char *what)
{
	return error_new(ERROR_KIND_UNSUPPORTED,
			 "nothing in the process tells %s of the thread-local variable \"%s\"",
			 what, meaning->name);
}

/** What a relocation needs beside its field. */
static struct error *plan_relocation(struct linked *linked, const struct object_section *section,
				     const struct object_relocation *relocation)
{
	struct link_state *state = state_of(linked);
	const struct arch_relocation *row =
		linked->look->patch->object->arch->relocation(relocation->type);
	struct meaning *meaning;
	if (!row || row->kind == RELOCATION_DYNAMIC)
		return error_new(ERROR_KIND_INPUT,
				 "relocation type %u at %s+0x%" PRIx64
				 " of the patch is not one of objects",
				 relocation->type, section->name, relocation->offset);
	if (!range_within(relocation->offset, row->size, section->size))
		return error_new(ERROR_KIND_INPUT,
				 "a relocation at %s+0x%" PRIx64 " of the patch "
				 "lies outside its section",
				 section->name, relocation->offset);
	// The symbol of a local-dynamic pair is any of the module's.
	if (row->kind == RELOCATION_NONE || row->kind == RELOCATION_TLS_DESC_CALL)
		return NULL;
	if (row->kind == RELOCATION_TLS_LD) {
		if (!scope_tls_module(first_module(linked)->scope, &state->tls_module))
			return error_new(ERROR_KIND_UNSUPPORTED,
					 "nothing in the process tells the TLS module ID of \"%s\"",
					 first_module(linked)->module->name);
		reserve_slots(state, &state->tls_module_slot, 2);
		return NULL;
	}
	TRY(resolve(linked, relocation->symbol, &meaning));
	switch (row->kind) {
	case RELOCATION_ABSOLUTE:
	case RELOCATION_RELATIVE:
		// As a program at fixed addresses has it for functions that it only points at.
		if (meaning->external && meaning->is_function && row->size == 4)
			reserve_veneer(state, meaning);
		if (meaning->kind == PATCH_SYMBOL_IMPORT && !meaning->is_function &&
		    row->size == 4) {
			reserve_slots(state, &meaning->got_slot, 1);
			if (meaning->is_constant && meaning->size &&
			    meaning->size <= CONSTANT_MAX && !meaning->constant)
				meaning->constant =
					reserve(state, PART_READONLY, meaning->size, 16);
		}
		break;
	case RELOCATION_CALL:
	case RELOCATION_PLT_OFFSET:
		if (meaning->external)
			reserve_veneer(state, meaning);
		break;
	case RELOCATION_GOT:
	case RELOCATION_GOT_RELAX:
	case RELOCATION_GOT_SLOT_OFFSET:
		reserve_slots(state, &meaning->got_slot, 1);
		break;
	case RELOCATION_TLS_LE:
		if (!meaning->has_tls_offset)
			return no_tls(meaning, "the offset from the thread pointer");
		break;
	case RELOCATION_TLS_IE:
		if (!meaning->has_tls_offset)
			return no_tls(meaning, "the offset from the thread pointer");
		reserve_slots(state, &meaning->tls_slot, 1);
		break;
	case RELOCATION_TLS_GD:
		if (!meaning->has_tls_pair)
			return no_tls(meaning, "the TLS module ID");
		reserve_slots(state, &meaning->tls_pair_slot, 2);
		break;
	case RELOCATION_TLS_DESC:
		if (!meaning->has_descriptor)
			return no_tls(meaning, "the descriptor");
		reserve_slots(state, &meaning->descriptor_slot, 2);
		break;
	case RELOCATION_TLS_DTPOFF:
		if (!meaning->is_tls)
			return no_tls(meaning, "the offset");
		break;
	default:
		break;
	}
	return NULL;
}

static struct error *plan_relocations(struct linked *linked)
{
	const struct object *object = linked->look->patch->object;
	for (size_t s = 0; s < object->sections.count; s++) {
		const struct object_section *section = object->sections.items[s];
		if (!section_is_loaded(section))
			continue;
		for (size_t r = 0; r < section->relocations.count; r++)
			TRY(error_prefix(
				plan_relocation(linked, section, &section->relocations.items[r]),
				"patch \"%s\"", linked->look->patch->name));
	}
	return NULL;
}

static void place_pieces(struct linked *linked)
{
	struct link_state *state = state_of(linked);
	const struct look *look = linked->look;
	for (size_t i = 0; i < look->detours.count; i++) {
		const struct detour_plan *detour = &look->detours.items[i];
		state->pieces[i].stub = reserve(state, PART_TEXT, ARCH_STUB_MAX, 8);
		if (detour->below)
			state->pieces[i].back_stub = reserve(state, PART_TEXT, ARCH_STUB_MAX, 8);
		if (!detour->only_nops)
			state->pieces[i].moved = reserve(state, PART_TEXT, ARCH_MOVED_MAX, 8);
	}
}

/* ---- the record --------------------------------------------------------------------------- */

static void set_jump(const struct linked *linked, uint8_t *bytes, size_t size, uint64_t from,
		     uint64_t to)
{
	const struct arch *arch = linked->look->patch->object->arch;
	// In the first round, for sizes only, the place is not known. link_at() checks the reach.
	if (linked->base && !arch->jump_write(bytes, size, from, to))
		memset(bytes, 0, size);
}

static uint64_t new_address(const struct linked *linked, const struct detour_plan *detour)
{
	const struct object_symbol *symbol = detour->function->new_symbol;
	return symbol_address(linked, symbol, &state_of(linked)->symbols[symbol->index]);
}

static void record_detour(struct linked *linked, size_t index, bool replaced)
{
	const struct look *look = linked->look;
	const struct detour_plan *detour = &look->detours.items[index];
	const struct pieces *pieces = &state_of(linked)->pieces[index];
	const struct arch *arch = look->patch->object->arch;
	struct record_builder *record = &linked->record;
	bool takes_out = !detour->function->new_symbol;
	struct record_write jump = {.address = detour->jump, .size = arch->jump_size};

	memcpy(jump.before, detour->below ? detour->below_write->after : detour->jump_original,
	       jump.size);
	memcpy(jump.original, detour->below && !replaced ? jump.before : detour->jump_original,
	       jump.size);
	set_jump(linked, jump.transit, jump.size, jump.address, text_address(linked, pieces->stub));
	if (takes_out) {
		memcpy(jump.after, jump.original, jump.size);
		memcpy(jump.transit_back, jump.original, jump.size);
	} else {
		set_jump(linked, jump.after, jump.size, jump.address, new_address(linked, detour));
		set_jump(linked, jump.transit_back, jump.size, jump.address,
			 text_address(linked, detour->below && replaced ? pieces->back_stub
									: pieces->stub));
	}
	// Filling first, the entry that leads to it second; the way out goes in reverse.
	uint32_t write = (uint32_t)record->writes.count;
	vec_push(&record->writes, jump);
	if (detour->entry) {
		struct record_write entry = {.address = detour->entry, .size = detour->entry_size};
		arch->jump_write(entry.transit, entry.size, detour->entry, detour->jump);
		memcpy(entry.after, takes_out ? detour->entry_original : entry.transit, entry.size);
		memcpy(entry.transit_back, entry.after, entry.size);
		memcpy(entry.before, detour->below ? entry.transit : detour->entry_original,
		       entry.size);
		memcpy(entry.original,
		       detour->below && !replaced ? entry.transit : detour->entry_original,
		       entry.size);
		vec_push(&record->writes, entry);
	}
	if (takes_out)
		return;
	vec_push(&record->functions,
		 (struct record_function){
			 .name = record_builder_string(record, detour->function->name),
			 .module = record_builder_string(record, detour->module->module->name),
			 .old_address = detour->address,
			 .old_size = detour->size,
			 .new_address = new_address(linked, detour),
			 .new_size = detour->function->new_symbol->size,
			 .write = write,
		 });
}

static bool is_replaced(const struct look *look, const struct record *record)
{
	for (size_t i = 0; i < look->replaced.count; i++)
		if (look->replaced.items[i] == record)
			return true;
	return false;
}

static void make_record(struct linked *linked)
{
	const struct look *look = linked->look;
	struct record_builder *record = &linked->record;
	record_builder_deinit(record);
	*record = (struct record_builder){0};
	record->body.name = record_builder_string(record, look->patch->name);
	record->body.tool_version = record_builder_string(record, SUTURE_VERSION);
	memcpy(record->body.digest, look->patch->digest.bytes, sizeof(record->body.digest));
	record->body.replaces_all = look->patch->replaces_all;
	record->body.sequence = registry_next_sequence(look->registry);
	record->body.mapping_size = linked->size;
	record->body.text_offset = linked->text_offset;
	record->body.text_size = linked->text_size;
	record->body.data_offset = linked->data_offset;
	record->body.data_size = linked->data_size;
	record->body.eh_frame = linked->eh_frame;
	record->body.eh_frame_size = linked->eh_frame_size;
	for (size_t i = 0; i < look->patch->base_count; i++)
		vec_push(&record->bases, record_builder_string(record, look->patch->bases[i]));
	for (size_t i = 0; i < look->replaced.count; i++)
		vec_push(&record->replaced,
			 (struct record_replaced){look->replaced.items[i]->address,
						  look->replaced.items[i]->body.sequence});
	for (size_t i = 0; i < linked->unwinder_count; i++)
		vec_push(&record->unwinders,
			 (struct record_unwinder){
				 .name = record_builder_string(record, linked->unwinders[i].name),
				 .register_function = linked->unwinders[i].register_function,
				 .deregister_function = linked->unwinders[i].deregister_function,
				 .object = linked->unwinder_objects + i * LIVE_UNWINDER_OBJECT,
			 });
	for (size_t i = 0; i < look->detours.count; i++)
		record_detour(linked, i,
			      look->detours.items[i].below &&
				      is_replaced(look, look->detours.items[i].below));
}

struct error *link_layout(const struct look *look, struct linked **ret)
{
	struct arena *arena = arena_create();
	_cleanup_linked_ struct linked *linked = arena_new(arena, struct linked);
	struct link_state *state = arena_new(arena, struct link_state);
	const struct object *object = look->patch->object;
	size_t last_section = 0, last_symbol = object->null_symbol ? object->null_symbol->index : 0;
	linked->arena = arena;
	linked->look = look;
	linked->state = state;
	for (size_t i = 0; i < object->sections.count; i++)
		if (object->sections.items[i]->index > last_section)
			last_section = object->sections.items[i]->index;
	for (size_t i = 0; i < object->symbols.count; i++)
		if (object->symbols.items[i]->index > last_symbol)
			last_symbol = object->symbols.items[i]->index;
	state->sections = arena_array(arena, last_section + 1, sizeof(*state->sections));
	state->symbols = arena_array(arena, last_symbol + 1, sizeof(*state->symbols));
	state->pieces = arena_array(arena, look->detours.count + 1, sizeof(*state->pieces));

	const struct object_section *frames = object_section_find(object, ".eh_frame");
	if (frames && section_is_loaded(frames))
		TRY(unwinders_find(linked, look->process, look->space));
	make_record(linked);
	linked->record_room = align_up(record_builder_size(&linked->record), 64);

	// The record is first, so that no offset of a slot or section is 0.
	reserve(state, PART_READONLY, linked->record_room, 64);
	place_pieces(linked);
	TRY(place_sections(linked));
	state->slots_start = reserve(state, PART_READONLY, 0, 64);
	for (size_t i = 0; i < look->detours.count; i++) {
		struct meaning *meaning;
		if (look->detours.items[i].function->new_symbol)
			TRY(resolve(linked, look->detours.items[i].function->new_symbol, &meaning));
	}
	TRY(plan_relocations(linked));
	if (linked->unwinder_count)
		state->data_objects = reserve(state, PART_DATA,
					      linked->unwinder_count * LIVE_UNWINDER_OBJECT, 16);

	uint64_t readonly_size = align_up(state->sizes[PART_READONLY], LIVE_PAGE);
	linked->text_offset = readonly_size;
	linked->text_size = align_up(state->sizes[PART_TEXT], LIVE_PAGE);
	linked->data_offset = linked->text_offset + linked->text_size;
	linked->data_size = align_up(state->sizes[PART_DATA], LIVE_PAGE);
	linked->size = linked->data_offset + linked->data_size;
	linked->bytes = arena_alloc(arena, linked->size);
	*ret = take_ptr(linked);
	return NULL;
}

void linked_free(struct linked *linked)
{
	if (!linked)
		return;
	record_builder_deinit(&linked->record);
	arena_free(linked->arena);
}

void linked_cleanup(struct linked **linked)
{
	linked_free(*linked);
}

struct error *link_find_place(struct linked *linked, const struct process_space *space,
			      uint64_t *ret)
{
	const struct look *look = linked->look;
	uint64_t start = UINT64_MAX, end = 0, limit = 0;
	for (size_t i = 0; i < look->modules.count; i++) {
		const struct live_module *module = &look->modules.items[i];
		if (module->module->start < start)
			start = module->module->start;
		if (module->module->end > end)
			end = module->module->end;
		// Code for fixed addresses holds them in signed 32-bit fields.
		if (module->image->type == ET_EXEC)
			limit = 1ul << 31;
	}
	// A free page on both sides, so that the kernel does not merge a neighbour into the mapping.
	uint64_t place =
		process_space_find_room(space, start, end, look->patch->object->arch->jump_reach,
					linked->size + 2 * LIVE_PAGE, limit);
	if (!place)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "no room of %" PRIu64
				 " bytes within reach of \"%s\" at 0x%" PRIx64,
				 linked->size, look->modules.items[0].module->name, start);
	*ret = place + LIVE_PAGE;
	return NULL;
}

/* ---- at its place ------------------------------------------------------------------------- */

static struct error *write_detour(struct linked *linked, size_t index)
{
	const struct look *look = linked->look;
	const struct detour_plan *detour = &look->detours.items[index];
	const struct pieces *pieces = &state_of(linked)->pieces[index];
	const struct arch *arch = look->patch->object->arch;
	uint8_t *text = part_bytes(linked, PART_TEXT);
	uint64_t word = linked->base + offsetof(struct record_head, word);
	uint64_t old = detour->code + detour->take;
	size_t size, taken;

	if (!detour->only_nops) {
		uint64_t to = text_address(linked, pieces->moved);
		uint8_t moved[ARCH_MOVED_MAX];
		TRY(error_prefix(arch->move(detour->bytes + (detour->code - detour->address),
					    detour->limit, detour->code, to, detour->take, moved,
					    &size, &taken),
				 "function \"%s\"", detour->function->name));
		memcpy(text + pieces->moved, moved, size);
		old = to;
	}
	uint64_t stub = text_address(linked, pieces->stub);
	uint64_t back = text_address(linked, pieces->back_stub);
	bool takes_out = !detour->function->new_symbol;
	uint64_t new_code = takes_out ? old : new_address(linked, detour);
	if (!arch->stub_write(text + pieces->stub, stub, word,
			      detour->below ? detour->below_code : old, new_code, &size) ||
	    (detour->below &&
	     !arch->stub_write(text + pieces->back_stub, back, word, old, new_code, &size)))
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "the patch at 0x%" PRIx64 " is out of reach of function \"%s\" at "
				 "0x%" PRIx64,
				 linked->base, detour->function->name, detour->address);
	uint8_t jump[ARCH_JUMP_MAX];
	if (!arch->jump_write(jump, arch->jump_size, detour->jump, stub) ||
	    !arch->jump_write(jump, arch->jump_size, detour->jump, new_code))
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "function \"%s\" at 0x%" PRIx64 " is out of reach of the patch at "
				 "0x%" PRIx64,
				 detour->function->name, detour->address, linked->base);
	return NULL;
}

static void store_slot(const struct linked *linked, uint64_t slot, uint64_t value)
{
	if (slot)
		memcpy(linked->bytes + slot, &value, sizeof(value));
}

static struct error *write_slots(struct linked *linked)
{
	struct link_state *state = state_of(linked);
	const struct object *object = linked->look->patch->object;
	const struct arch *arch = object->arch;
	if (state->tls_module_slot)
		store_slot(linked, state->tls_module_slot, state->tls_module);
	for (size_t i = 0; i < object->symbols.count; i++) {
		const struct object_symbol *symbol = object->symbols.items[i];
		const struct meaning *meaning = &state->symbols[symbol->index];
		if (!meaning->resolved)
			continue;
		uint64_t address = meaning->is_tls ? 0 : symbol_address(linked, symbol, meaning);
		store_slot(linked, meaning->got_slot, address);
		store_slot(linked, meaning->tls_slot, (uint64_t)meaning->tls_offset);
		if (meaning->tls_pair_slot)
			memcpy(linked->bytes + meaning->tls_pair_slot, meaning->tls_pair, 16);
		if (meaning->descriptor_slot)
			memcpy(linked->bytes + meaning->descriptor_slot, meaning->descriptor, 16);
		if (meaning->constant)
			TRY(process_memory_read(linked->look->process, meaning->value,
						linked->bytes + meaning->constant, meaning->size));
		if (!meaning->veneer_slot)
			continue;
		size_t size;
		store_slot(linked, meaning->veneer_slot, address);
		if (!arch->veneer_write(part_bytes(linked, PART_TEXT) + meaning->veneer,
					text_address(linked, meaning->veneer),
					readonly_address(linked, meaning->veneer_slot), &size))
			return error_new(ERROR_KIND_INTERNAL,
					 "a veneer is out of reach of its own slot");
	}
	return NULL;
}

static struct error *relocate(struct linked *linked, const struct object_section *section,
			      const struct object_relocation *relocation)
{
	struct link_state *state = state_of(linked);
	const struct arch *arch = linked->look->patch->object->arch;
	const struct arch_relocation *row = arch->relocation(relocation->type);
	const struct placed *placed = &state->sections[section->index];
	const struct object_symbol *symbol = relocation->symbol;
	const struct meaning *meaning = &state->symbols[symbol->index];
	uint8_t *field = part_bytes(linked, placed->part) + placed->offset + relocation->offset;
	// The letters of the psABI, 4.4.1.
	uint64_t A = (uint64_t)relocation->addend;
	uint64_t P = part_address(linked, placed->part) + placed->offset + relocation->offset;
	uint64_t GOT = readonly_address(linked, state->slots_start);
	uint64_t G = readonly_address(linked, meaning->got_slot);
	uint64_t L = text_address(linked, meaning->veneer);
	uint64_t S = 0, value;

	if (row->kind == RELOCATION_NONE || row->kind == RELOCATION_TLS_DESC_CALL)
		return NULL;
	if (row->kind != RELOCATION_TLS_LD && !meaning->is_tls)
		S = symbol_address(linked, symbol, meaning);
	bool has_veneer = meaning->veneer_slot != 0;
	switch (row->kind) {
	case RELOCATION_ABSOLUTE:
		value = S + A;
		if (has_veneer && !arch_relocation_fits(row, value))
			value = L + A;
		else if (meaning->constant && !arch_relocation_fits(row, value))
			value = readonly_address(linked, meaning->constant) + A;
		break;
	case RELOCATION_RELATIVE:
	case RELOCATION_CALL:
		value = S + A - P;
		// A = -4: the address itself, which is what a slot holds.
		if (!has_veneer && meaning->got_slot && A == (uint64_t)-4 &&
		    !arch_relocation_fits(row, value) &&
		    arch->slot_load_write(part_bytes(linked, placed->part) + placed->offset,
					  relocation->offset)) {
			value = G + A - P;
			break;
		}
		if (meaning->constant && !arch_relocation_fits(row, value))
			value = readonly_address(linked, meaning->constant) + A - P;
		if (has_veneer && S && !arch_relocation_fits(row, value))
			value = L + A - P;
		// A weak function that is not there is tested before it is called.
		else if (!S && meaning->external && !arch_relocation_fits(row, value))
			value = L + A - P;
		break;
	case RELOCATION_PLT_OFFSET:
		value = (has_veneer ? L : S) - GOT + A;
		break;
	case RELOCATION_GOT:
	case RELOCATION_GOT_RELAX:
		value = G + A - P;
		break;
	case RELOCATION_GOT_SLOT_OFFSET:
		value = G - GOT + A;
		break;
	case RELOCATION_GOT_OFFSET:
		value = S + A - GOT;
		break;
	case RELOCATION_GOT_BASE:
		value = GOT + A - P;
		break;
	case RELOCATION_TLS_GD:
		value = readonly_address(linked, meaning->tls_pair_slot) + A - P;
		break;
	case RELOCATION_TLS_LD:
		value = readonly_address(linked, state->tls_module_slot) + A - P;
		break;
	case RELOCATION_TLS_DTPOFF:
		value = meaning->tls_pair[1] + A;
		break;
	case RELOCATION_TLS_IE:
		value = readonly_address(linked, meaning->tls_slot) + A - P;
		break;
	case RELOCATION_TLS_LE:
		value = (uint64_t)meaning->tls_offset + A;
		break;
	case RELOCATION_TLS_DESC:
		value = readonly_address(linked, meaning->descriptor_slot) + A - P;
		break;
	case RELOCATION_SIZE:
		value = symbol->size + A;
		break;
	default:
		return error_new(ERROR_KIND_UNSUPPORTED, "relocation %s is not for patches",
				 row->name);
	}
	if (meaning->kind == PATCH_SYMBOL_IMPORT && !meaning->is_function &&
	    !arch_relocation_fits(row, value))
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "\"%s\" at 0x%" PRIx64
				 ", a variable of another module that \"%s\" "
				 "did not use before, is out of reach of %s at %s+0x%" PRIx64
				 "; reach it through a function",
				 meaning->name, meaning->value, first_module(linked)->module->name,
				 row->name, section->name, relocation->offset);
	return error_prefix(arch_relocation_write(arch, row, field, value),
			    "%s against \"%s\" at %s+0x%" PRIx64, row->name,
			    meaning->name ? meaning->name : symbol->name, section->name,
			    relocation->offset);
}

struct error *link_at(struct linked *linked, uint64_t base)
{
	struct link_state *state = state_of(linked);
	const struct look *look = linked->look;
	const struct object *object = look->patch->object;
	const struct arch *arch = object->arch;

	linked->base = base;
	memset(linked->bytes, 0, linked->size);
	// What nobody jumps to shall stop whoever does.
	memset(part_bytes(linked, PART_TEXT), arch->padding[0], linked->text_size);
	linked->unwinder_objects = part_address(linked, PART_DATA) + state->data_objects;
	for (size_t i = 0; i < object->sections.count; i++) {
		const struct object_section *section = object->sections.items[i];
		const struct placed *placed = &state->sections[section->index];
		if (placed->part == PART_NONE)
			continue;
		if (section->data)
			memcpy(part_bytes(linked, placed->part) + placed->offset, section->data,
			       section->size);
		if (string_equal(section->name, ".eh_frame") && section->size) {
			linked->eh_frame = part_address(linked, placed->part) + placed->offset;
			linked->eh_frame_size = section->size;
		}
	}
	for (size_t i = 0; i < look->detours.count; i++)
		TRY(write_detour(linked, i));
	TRY(write_slots(linked));
	for (size_t s = 0; s < object->sections.count; s++) {
		const struct object_section *section = object->sections.items[s];
		if (!section_is_loaded(section) || !section->data)
			continue;
		for (size_t r = 0; r < section->relocations.count; r++)
			TRY(error_prefix(relocate(linked, section, &section->relocations.items[r]),
					 "patch \"%s\"", look->patch->name));
	}
	make_record(linked);
	record_builder_finish(&linked->record, base, linked->bytes);
	return NULL;
}
