/* SPDX-License-Identifier: MIT */
/*
 * From the differ's outputs to a patch file.
 *
 * Each unit's output is an object of changed code whose undefined symbols mean one of three things:
 *
 *   origin set     a thing of the running program: the same symbol of the plain old object, which
 *                  was matched with the target, tells where it lies;
 *   defined in     another unit's output: a call goes to the new code there, an address that is
 *                  taken goes to the old entry, which keeps its identity;
 *   only a name    a global of the program, or an import of the module's own scope.
 *
 * The outputs are merged into one object, each reference is turned into a symbol of one of these
 * forms, and what cannot be turned is a finding: nothing is guessed, and no patch is written.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "patch/format.h"

struct patch_builder {
	const char *name;
	const char *description;
	const struct image *image;
	bool replaces_all;
	VEC(struct patch_unit) units;
	VEC(const char *) bases;
	VEC(struct patch_diff) diffs;

	// While finishing.
	struct arena *arena;
	struct object *object;
	struct findings *findings;
	struct hashmap *globals; // name -> struct object_symbol of the merged object, defined
	struct hashmap *targets; // "NAME,address" -> struct object_symbol in the target
	struct hashmap *imports; // "NAME@VERSION" -> undefined struct object_symbol
	struct object_section *eh_frame;
	struct buffer rows;
	VEC(struct row_relocation) row_relocations;
	VEC(struct object_symbol *) new_functions;
};

/** A field of .suture.funcs that refers to a symbol. */
struct row_relocation {
	uint64_t offset;
	struct object_symbol *symbol;
};

struct patch_builder *patch_builder_create(const char *name, const struct image *image)
{
	struct patch_builder *builder = xcalloc(1, sizeof(*builder));
	builder->arena = arena_create();
	builder->name = arena_strdup(builder->arena, name);
	builder->description = "";
	builder->image = image;
	builder->globals = hashmap_create();
	builder->targets = hashmap_create();
	builder->imports = hashmap_create();
	return builder;
}

void patch_builder_free(struct patch_builder *builder)
{
	if (!builder)
		return;
	vec_deinit(&builder->units);
	vec_deinit(&builder->bases);
	vec_deinit(&builder->diffs);
	vec_deinit(&builder->row_relocations);
	vec_deinit(&builder->new_functions);
	buffer_deinit(&builder->rows);
	hashmap_free(builder->globals);
	hashmap_free(builder->targets);
	hashmap_free(builder->imports);
	object_free(builder->object);
	arena_free(builder->arena);
	free(builder);
}

void patch_builder_add_unit(struct patch_builder *builder, const struct patch_unit *unit)
{
	vec_push(&builder->units, *unit);
}

void patch_builder_set_description(struct patch_builder *builder, const char *description)
{
	builder->description = arena_strdup(builder->arena, description);
}

void patch_builder_add_base(struct patch_builder *builder, const char *name)
{
	vec_push(&builder->bases, arena_strdup(builder->arena, name));
}

void patch_builder_add_diff(struct patch_builder *builder, const char *name, const void *bytes,
			    size_t size)
{
	vec_push(&builder->diffs, (struct patch_diff){
					  .name = arena_strdup(builder->arena, name),
					  .bytes = arena_memdup(builder->arena, bytes, size),
					  .size = size,
				  });
}

void patch_builder_set_replaces_all(struct patch_builder *builder, bool replaces_all)
{
	builder->replaces_all = replaces_all;
}

/* ---- where things of the old program lie -------------------------------------------------- */

/**
 * The symbol of the plain object that is the sectioned object's @symbol: same name, type and
 * binding; of several with one name, the one of the same rank. The two objects come from the same
 * source and compiler, which numbers static locals alike.
 */
static const struct object_symbol *plain_symbol(const struct patch_unit *unit,
						const struct object_symbol *symbol)
{
	const struct object *object = symbol->object;
	size_t rank = 0;
	for (size_t i = 0; i < object->symbols.count; i++) {
		const struct object_symbol *other = object->symbols.items[i];
		if (other == symbol)
			break;
		if (other->type == symbol->type && string_equal(other->name, symbol->name))
			rank++;
	}
	for (size_t i = 0; i < unit->plain_old->symbols.count; i++) {
		const struct object_symbol *other = unit->plain_old->symbols.items[i];
		if (string_equal(other->name, symbol->name) &&
		    (other->type == symbol->type || !symbol->section) &&
		    (other->section != NULL) == (symbol->section != NULL) && rank-- == 0)
			return other;
	}
	return NULL;
}

/** NULL when the target has it elsewhere or not at all. */
static bool place_of(const struct patch_builder *builder, const struct patch_unit *unit,
		     const struct object_symbol *origin, struct image_place *ret)
{
	const struct object_symbol *plain = plain_symbol(unit, origin);
	if (plain && image_match_place(unit->match, plain, ret))
		return true;
	return origin->bind != STB_LOCAL && image_place_by_name(builder->image, origin->name, ret);
}

/* ---- symbols of the merged object --------------------------------------------------------- */

/** The kernel's position: rank of the address among the module's symbols of that name. */
static uint32_t position_of(const struct patch_builder *builder, const char *name, uint64_t address)
{
	const struct image_symbol **symbols;
	size_t count = image_symbols_named(builder->image, name, &symbols);
	for (size_t i = 0; i < count; i++)
		if (symbols[i]->address == address && symbols[i]->source != IMAGE_SYMBOL_DYNAMIC)
			return symbols[i]->position;
	return 0;
}

static struct object_symbol *target_symbol(struct patch_builder *builder, const char *name,
					   uint8_t type, uint64_t address, uint64_t size)
{
	_cleanup_free_ char *key =
		xasprintf("%s,%#lx,%d", name, (unsigned long)address, type == STT_TLS);
	struct object_symbol *symbol = hashmap_get_string(builder->targets, key);
	if (symbol)
		return symbol;
	const char *full =
		arena_printf(builder->arena, PATCH_SYMBOL_PREFIX "%s.%s,%u", builder->image->name,
			     name, position_of(builder, name, address));
	symbol = object_symbol_add(builder->object, full, type == STT_GNU_IFUNC ? STT_FUNC : type,
				   STB_GLOBAL, NULL, address, size);
	symbol->special = PATCH_SHN_LIVEPATCH;
	hashmap_set_string(builder->targets, key, symbol);
	return symbol;
}

static struct object_symbol *import_symbol(struct patch_builder *builder, const char *name,
					   const char *version, uint8_t type, bool weak)
{
	const char *full =
		version && version[0] ? arena_printf(builder->arena, "%s@%s", name, version) : name;
	struct object_symbol *symbol = hashmap_get_string(builder->imports, full);
	if (symbol) {
		// One strong reference makes it needed.
		if (!weak)
			symbol->bind = STB_GLOBAL;
		return symbol;
	}
	symbol = object_symbol_add(builder->object, full, type, weak ? STB_WEAK : STB_GLOBAL, NULL,
				   0, 0);
	hashmap_set_string(builder->imports, full, symbol);
	return symbol;
}

static struct object_symbol *place_symbol(struct patch_builder *builder,
					  const struct object_symbol *symbol,
					  const struct image_place *place)
{
	switch (place->kind) {
	case IMAGE_PLACE_ADDRESS:
		return target_symbol(builder, symbol->name, symbol->type, place->value,
				     symbol->origin ? symbol->origin->size : symbol->size);
	case IMAGE_PLACE_TLS:
		return target_symbol(builder, symbol->name, STT_TLS, place->value, symbol->size);
	case IMAGE_PLACE_IMPORT:
		return import_symbol(builder, place->name, place->version, symbol->type,
				     symbol->bind == STB_WEAK);
	}
	return NULL;
}

/** Is this relocation of a unit's output a direct call or jump, which wants the newest code? */
static bool is_call(const struct object_relocation *relocation, const struct arch *arch)
{
	const struct arch_relocation *row = arch->relocation(relocation->type);
	return row && row->kind == RELOCATION_CALL;
}

static struct object_symbol *absolute_symbol(struct patch_builder *builder,
					     const struct object_symbol *symbol)
{
	struct object_symbol *copy =
		object_symbol_add(builder->object, symbol->name, symbol->type, STB_LOCAL, NULL,
				  symbol->value, symbol->size);
	copy->special = SHN_ABS;
	return copy;
}

/** What an undefined symbol of a unit's output becomes in the merged object; NULL: a finding. */
static struct object_symbol *resolve(struct patch_builder *builder, const struct patch_unit *unit,
				     const struct object_relocation *relocation)
{
	const struct object_symbol *symbol = relocation->symbol;
	struct image_place place;

	if (symbol->origin && symbol->origin->bind == STB_LOCAL) {
		if (place_of(builder, unit, symbol->origin, &place))
			return place_symbol(builder, symbol, &place);
		findings_add(builder->findings, FINDING_KIND_SYMBOL_UNRESOLVED, symbol->name,
			     "'%s' of %s is used by the new code, and neither symbols nor "
			     "relocated fields of '%s' tell where it lies",
			     symbol->name, unit->name, builder->image->name);
		return NULL;
	}
	struct object_symbol *defined = hashmap_get_string(builder->globals, symbol->name);
	// New in another unit, or a call of what another unit replaces.
	if (defined && (!defined->user || is_call(relocation, builder->object->arch)))
		return defined;
	if (symbol->origin && place_of(builder, unit, symbol->origin, &place))
		return place_symbol(builder, symbol, &place);
	for (size_t i = 0; i < unit->plain_old->symbols.count; i++) {
		const struct object_symbol *plain = unit->plain_old->symbols.items[i];
		if (plain->bind != STB_LOCAL && string_equal(plain->name, symbol->name) &&
		    image_match_place(unit->match, plain, &place))
			return place_symbol(builder, symbol, &place);
	}
	if (image_place_by_name(builder->image, symbol->name, &place))
		return place_symbol(builder, symbol, &place);
	if (defined)
		return defined;
	if (string_equal(symbol->name, "_GLOBAL_OFFSET_TABLE_"))
		return import_symbol(builder, symbol->name, NULL, STT_NOTYPE, false);
	if (symbol->bind == STB_WEAK || !builder->image->static_linked)
		return import_symbol(builder, symbol->name, NULL, symbol->type,
				     symbol->bind == STB_WEAK);
	findings_add(builder->findings, FINDING_KIND_SYMBOL_UNRESOLVED, symbol->name,
		     "'%s' is used by the new code of %s, and '%s', which is linked statically, "
		     "does not tell where it lies",
		     symbol->name, unit->name, builder->image->name);
	return NULL;
}

/* ---- merging ------------------------------------------------------------------------------ */

/** Copy one section of an output, without its relocations; @ret_base: where it begins. */
static struct object_section *merge_section(struct patch_builder *builder,
					    const struct object_section *from, uint64_t *ret_base)
{
	// One .eh_frame, since an unwinder is given one: records have their own lengths, so they can
	// stand behind each other.
	if (string_equal(from->name, ".eh_frame")) {
		if (!builder->eh_frame)
			builder->eh_frame = object_section_add(builder->object, ".eh_frame",
							       SHT_PROGBITS, SHF_ALLOC, 8, NULL, 0);
		*ret_base = object_section_append(builder->eh_frame, from->data, from->size, 4);
		return builder->eh_frame;
	}
	struct object_section *to =
		object_section_add(builder->object, from->name, from->type, from->flags,
				   from->align, from->data, from->size);
	to->entry_size = from->entry_size;
	*ret_base = 0;
	return to;
}

/** Copy the defined symbols of a unit's output; a replaced function's old symbol goes to `user`. */
static void merge_symbols(struct patch_builder *builder, const struct object *output)
{
	for (size_t i = 0; i < output->symbols.count; i++) {
		struct object_symbol *from = output->symbols.items[i];
		from->user = NULL;
		if (!from->section)
			continue;
		struct object_symbol *same =
			from->bind == STB_LOCAL ? NULL
						: hashmap_get_string(builder->globals, from->name);
		// A COMDAT function of several units is one function of the target.
		if (same) {
			from->user = same;
			continue;
		}
		struct object_section *section = from->section->user;
		struct object_symbol *to;
		if (from->type == STT_SECTION) {
			to = section->section_symbol;
			if (!to) {
				to = object_symbol_add(builder->object, section->name, STT_SECTION,
						       STB_LOCAL, section, 0, 0);
				section->section_symbol = to;
			}
		} else {
			to = object_symbol_add(builder->object, from->name, from->type, from->bind,
					       section, from->value, from->size);
			to->visibility = from->visibility;
			to->user = (void *)from->origin;
		}
		from->user = to;
		if (from->bind != STB_LOCAL)
			hashmap_set_string(builder->globals, from->name, to);
	}
}

static void add_row(struct patch_builder *builder, enum patch_row_kind kind,
		    struct object_symbol *new_symbol, struct object_symbol *old_symbol,
		    uint64_t size, const uint8_t *old_bytes)
{
	struct patch_row row = {.old_size = size, .kind = kind};
	const char *comma = strrchr(old_symbol->name, ',');
	row.position = comma ? (uint32_t)strtoul(comma + 1, NULL, 10) : 0;
	struct digest digest = digest_bytes(old_bytes, size);
	memcpy(row.digest, digest.bytes, sizeof(row.digest));
	uint64_t at = builder->rows.size;
	if (new_symbol)
		vec_push(&builder->row_relocations,
			 (struct row_relocation){at + offsetof(struct patch_row, new_address),
						 new_symbol});
	vec_push(&builder->row_relocations,
		 (struct row_relocation){at + offsetof(struct patch_row, old_address), old_symbol});
	buffer_append(&builder->rows, &row, sizeof(row));
}

/** A row for old code, whose bytes in the target go into its digest. */
static bool add_old_code(struct patch_builder *builder, const struct patch_unit *unit,
			 enum patch_row_kind kind, struct object_symbol *new_symbol,
			 const struct object_symbol *old_symbol)
{
	struct image_place place;
	const uint8_t *bytes = NULL;
	// The target has the plain build's code; with a section of its own a jump may be longer.
	const struct object_symbol *plain = plain_symbol(unit, old_symbol);
	uint64_t size = plain ? plain->size : old_symbol->size;
	if (place_of(builder, unit, old_symbol, &place) && place.kind == IMAGE_PLACE_ADDRESS)
		bytes = image_bytes(builder->image, place.value, size);
	if (!bytes) {
		findings_add(builder->findings, FINDING_KIND_SYMBOL_UNRESOLVED, old_symbol->name,
			     "'%s' of %s is changed, and nothing tells where it lies in '%s'",
			     old_symbol->name, unit->name, builder->image->name);
		return false;
	}
	add_row(builder, kind, new_symbol,
		target_symbol(builder, old_symbol->name, old_symbol->type, place.value, size), size,
		bytes);
	return true;
}

/**
 * Further parts of a replaced function, which a thread may stand in. They are those of the plain
 * object, which is what runs: a compiler may split a function there that it left whole with one
 * section per function, or the other way round.
 */
static void add_parts(struct patch_builder *builder, const struct patch_unit *unit,
		      const struct diff_function *function)
{
	const char *name = function->old_symbol->name;
	size_t length = strlen(name);
	for (size_t i = 0; i < unit->plain_old->symbols.count; i++) {
		const struct object_symbol *part = unit->plain_old->symbols.items[i];
		if (!object_symbol_is_function(part) || part->size == 0 ||
		    strncmp(part->name, name, length) != 0)
			continue;
		bool listed = string_starts_with(part->name + length, ".cold");
		for (size_t p = 0; p < function->old_part_count && !listed; p++)
			listed = string_equal(function->old_parts[p]->name, part->name);
		if (listed)
			add_old_code(builder, unit, PATCH_ROW_PART, NULL, part);
	}
}

static void merge_functions(struct patch_builder *builder, const struct patch_unit *unit)
{
	for (size_t i = 0; i < unit->diff->functions.count; i++) {
		const struct diff_function *function = &unit->diff->functions.items[i];
		if (!function->output || !function->output->user)
			continue;
		struct object_symbol *output = function->output->user;
		if (function->verdict == DIFF_NEW) {
			vec_push(&builder->new_functions, output);
			continue;
		}
		// A second unit's copy of the same COMDAT function.
		if (output->user != function->output->origin)
			continue;
		if (!add_old_code(builder, unit, PATCH_ROW_FUNCTION, output, function->old_symbol))
			continue;
		add_parts(builder, unit, function);
	}
}

static void merge_relocations(struct patch_builder *builder, const struct patch_unit *unit,
			      const struct object_section *from, struct object_section *to,
			      uint64_t base)
{
	const char *set =
		arena_printf(builder->arena, PATCH_RELA_PREFIX "%s", builder->image->name);
	for (size_t i = 0; i < from->relocations.count; i++) {
		const struct object_relocation *relocation = &from->relocations.items[i];
		struct object_symbol *symbol = relocation->symbol;
		if (symbol == symbol->object->null_symbol)
			symbol = builder->object->null_symbol;
		else if (symbol->section || symbol->user)
			symbol = symbol->user;
		else if (symbol->special == SHN_ABS)
			symbol = absolute_symbol(builder, symbol);
		else
			symbol = resolve(builder, unit, relocation);
		if (!symbol)
			continue; // a finding refuses the patch
		struct object_relocation *added =
			object_relocation_add(to, base + relocation->offset, relocation->type,
					      symbol, relocation->addend);
		if (!symbol->section && symbol != builder->object->null_symbol &&
		    symbol->special != SHN_ABS)
			added->set = set;
	}
}

static void merge_units(struct patch_builder *builder)
{
	// From here on every output's section->user is its copy, symbol->user its copy.
	struct bases {
		VEC(uint64_t) list;
	} bases = {0};
	for (size_t u = 0; u < builder->units.count; u++) {
		const struct object *output = builder->units.items[u].diff->output;
		for (size_t s = 0; output && s < output->sections.count; s++) {
			uint64_t base;
			output->sections.items[s]->user =
				merge_section(builder, output->sections.items[s], &base);
			vec_push(&bases.list, base);
		}
		if (output)
			merge_symbols(builder, output);
	}
	for (size_t u = 0; u < builder->units.count; u++)
		if (builder->units.items[u].diff->output)
			merge_functions(builder, &builder->units.items[u]);
	size_t next = 0;
	for (size_t u = 0; u < builder->units.count; u++) {
		const struct patch_unit *unit = &builder->units.items[u];
		const struct object *output = unit->diff->output;
		for (size_t s = 0; output && s < output->sections.count; s++)
			merge_relocations(builder, unit, output->sections.items[s],
					  output->sections.items[s]->user,
					  bases.list.items[next++]);
	}
	vec_deinit(&bases.list);
}

/** The same function replaced in several objects: a header's static, which each has a copy of. */
static void find_copies(struct patch_builder *builder)
{
	struct hashmap *first = hashmap_create(); // name -> the unit that has it
	for (size_t u = 0; u < builder->units.count; u++) {
		const struct patch_unit *unit = &builder->units.items[u];
		for (size_t i = 0; i < unit->diff->functions.count; i++) {
			const struct diff_function *function = &unit->diff->functions.items[i];
			if (!function->output || function->verdict != DIFF_CHANGED)
				continue;
			const struct patch_unit *other = hashmap_get_string(first, function->name);
			if (other && other != unit)
				findings_add(builder->findings, FINDING_KIND_SEVERAL_COPIES,
					     function->name, "it is replaced in %s and in %s",
					     other->name, unit->name);
			else
				hashmap_set_string(first, function->name, (void *)unit);
		}
	}
	hashmap_free(first);
}

/* ---- rows and notes ----------------------------------------------------------------------- */

static void write_rows(struct patch_builder *builder)
{
	struct object_section *section =
		object_section_add(builder->object, PATCH_FUNCS_SECTION, SHT_PROGBITS, 0, 8,
				   builder->rows.bytes, builder->rows.size);
	section->entry_size = sizeof(struct patch_row);
	const char *set =
		arena_printf(builder->arena, PATCH_RELA_PREFIX "%s", builder->image->name);
	for (size_t i = 0; i < builder->row_relocations.count; i++) {
		const struct row_relocation *row = &builder->row_relocations.items[i];
		struct object_relocation *added = object_relocation_add(
			section, row->offset, builder->object->arch->relocation_absolute64,
			row->symbol, 0);
		if (!row->symbol->section)
			added->set = set;
	}
}

static void add_note(struct buffer *buffer, enum patch_note type, const void *content, size_t size)
{
	static const char zero[4];
	Elf64_Nhdr note = {
		.n_namesz = sizeof(PATCH_NOTE_OWNER), .n_descsz = (uint32_t)size, .n_type = type};
	buffer_append(buffer, &note, sizeof(note));
	buffer_append(buffer, PATCH_NOTE_OWNER, sizeof(PATCH_NOTE_OWNER));
	buffer_append(buffer, zero, align_up(note.n_namesz, 4) - note.n_namesz);
	buffer_append(buffer, content, size);
	buffer_append(buffer, zero, align_up(size, 4) - size);
}

static void add_note_string(struct buffer *buffer, enum patch_note type, const char *string)
{
	add_note(buffer, type, string, strlen(string) + 1);
}

static void add_note_finding(struct buffer *buffer, const struct finding *finding)
{
	const char *const strings[] = {
		finding_kind_word(finding->kind), finding_severity_word(finding->severity),
		finding->accepted ? "accepted" : "", finding->subject, finding->text};
	_cleanup_buffer_ struct buffer content = {0};
	for (size_t i = 0; i < ARRAY_SIZE(strings); i++)
		buffer_append(&content, strings[i], strlen(strings[i]) + 1);
	add_note(buffer, PATCH_NOTE_FINDING, content.bytes, content.size);
}

static void add_note_diff(struct buffer *buffer, const struct patch_diff *diff)
{
	_cleanup_buffer_ struct buffer content = {0};
	size_t bound = ZSTD_compressBound(diff->size);
	_cleanup_free_ void *packed = xmalloc(bound);
	size_t size = ZSTD_compress(packed, bound, diff->bytes, diff->size, ZSTD_CLEVEL_DEFAULT);
	assert(!ZSTD_isError(size)); // the destination is as large as it asks for
	buffer_append(&content, diff->name, strlen(diff->name) + 1);
	buffer_append(&content, packed, size);
	add_note(buffer, PATCH_NOTE_DIFF, content.bytes, content.size);
}

static void write_notes(struct patch_builder *builder)
{
	_cleanup_buffer_ struct buffer notes = {0};
	uint32_t format = PATCH_FORMAT_VERSION, yes = 1;
	const struct image *image = builder->image;
	add_note(&notes, PATCH_NOTE_FORMAT, &format, sizeof(format));
	add_note_string(&notes, PATCH_NOTE_NAME, builder->name);
	add_note_string(&notes, PATCH_NOTE_TOOL, SUTURE_VERSION);
	add_note_string(&notes, PATCH_NOTE_DESCRIPTION, builder->description);

	_cleanup_buffer_ struct buffer module = {0};
	buffer_append(&module, image->name, strlen(image->name) + 1);
	buffer_append(&module, image->build_id.bytes, image->build_id.size);
	add_note(&notes, PATCH_NOTE_MODULE, module.bytes, module.size);

	for (size_t i = 0; i < builder->bases.count; i++)
		add_note_string(&notes, PATCH_NOTE_BASE, builder->bases.items[i]);
	if (builder->replaces_all)
		add_note(&notes, PATCH_NOTE_REPLACES_ALL, &yes, sizeof(yes));
	for (size_t i = 0; i < builder->findings->list.count; i++)
		add_note_finding(&notes, &builder->findings->list.items[i]);

	uint64_t numbers[5] = {0};
	for (size_t i = 0; i < builder->units.count; i++) {
		const struct image_match *match = builder->units.items[i].match;
		numbers[0] += match->functions.count;
		numbers[1] += match->matched;
		numbers[3] += match->bytes_matched;
		for (size_t f = 0; f < match->functions.count; f++)
			numbers[2] += match->functions.items[f].symbol->size;
	}
	const uint64_t(*ranges)[2];
	size_t range_count = image_text_ranges(image, &ranges);
	for (size_t i = 0; i < range_count; i++)
		numbers[4] += ranges[i][1] - ranges[i][0];
	add_note(&notes, PATCH_NOTE_MATCH, numbers, sizeof(numbers));
	for (size_t i = 0; i < builder->new_functions.count; i++)
		add_note_string(&notes, PATCH_NOTE_NEW_FUNCTION,
				builder->new_functions.items[i]->name);

	for (size_t i = 0; i < builder->diffs.count; i++)
		add_note_diff(&notes, &builder->diffs.items[i]);

	struct digest none = {0};
	add_note(&notes, PATCH_NOTE_DIGEST, &none, sizeof(none));
	object_section_add(builder->object, PATCH_NOTE_SECTION, SHT_NOTE, 0, 4, notes.bytes,
			   notes.size);
}

struct error *patch_builder_finish(struct patch_builder *builder, struct findings *findings,
				   uint8_t **ret, size_t *ret_size)
{
	*ret = NULL;
	builder->findings = findings;
	builder->object = object_create(builder->image->arch, builder->name);
	if (builder->image->build_id.size == 0)
		return error_new(
			ERROR_KIND_UNSUPPORTED,
			"'%s' has no build ID, so a patch could not tell the processes that "
			"run it; link it with --build-id",
			builder->image->path);

	merge_units(builder);
	find_copies(builder);
	findings_sort(findings);
	if (findings_refuse(findings))
		return NULL;
	if (builder->rows.size == 0) {
		findings_add(findings, FINDING_KIND_NOTHING_CHANGED, builder->image->name,
			     "no function of '%s' is changed", builder->image->name);
		return NULL;
	}
	write_rows(builder);
	write_notes(builder);

	object_index(builder->object);
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t size;
	TRY(object_write(builder->object, &bytes, &size));
	size_t offset = patch_digest_offset(bytes, size);
	struct digest digest = patch_digest(bytes, size, offset);
	memcpy(bytes + offset, &digest, sizeof(digest));
	*ret = take_ptr(bytes);
	*ret_size = size;
	return NULL;
}
