/* SPDX-License-Identifier: MIT */
/*
 * The reader of patch files.
 *
 * object_read() has checked the ELF; here the notes, the rows of .suture.funcs and the names of the
 * symbols are outside bytes still. What a row says of old code is checked again against the target
 * by whoever applies the patch.
 */
#include <endian.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "patch/format.h"

static struct error *malformed(const struct patch *patch, const char *what)
{
	return error_new(ERROR_KIND_INPUT,
			 "'%s' is not a patch of suture: %s; build it again with 'suture build'",
			 patch->object->path, what);
}

/* ---- notes -------------------------------------------------------------------------------- */

/** The next NUL-terminated string of a note's content, or NULL. */
static const char *take_string(const uint8_t **at, const uint8_t *end)
{
	const uint8_t *nul = memchr(*at, 0, (size_t)(end - *at));
	if (!nul)
		return NULL;
	const char *string = (const char *)*at;
	*at = nul + 1;
	return string;
}

static bool take_u32(const uint8_t *at, const uint8_t *end, uint32_t *ret)
{
	if (end - at != sizeof(*ret))
		return false;
	memcpy(ret, at, sizeof(*ret));
	return true;
}

static bool read_finding(struct patch *patch, const uint8_t *at, const uint8_t *end)
{
	const char *kind = take_string(&at, end);
	const char *severity = kind ? take_string(&at, end) : NULL;
	const char *accepted = severity ? take_string(&at, end) : NULL;
	const char *subject = accepted ? take_string(&at, end) : NULL;
	const char *text = subject ? take_string(&at, end) : NULL;
	if (!text)
		return false;
	static const char *const words[] = {
#define X(name, severity, word, acceptable, advice) [FINDING_KIND_##name] = word,
		FINDING_KINDS(X)
#undef X
	};
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		if (!string_equal(words[i], kind))
			continue;
		findings_add(&patch->findings, (enum finding_kind)i, subject, "%s", text);
		struct finding *finding =
			&patch->findings.list.items[patch->findings.list.count - 1];
		finding->accepted = string_equal(accepted, "accepted");
		for (int s = FINDING_NOTE; s <= FINDING_REFUSAL; s++)
			if (string_equal(finding_severity_word((enum finding_severity)s), severity))
				finding->severity = (enum finding_severity)s;
		return true;
	}
	// A later version's kind: worth less than the patch itself.
	return true;
}

/** What the notes hold several of; the patch gets arrays of them. */
struct lists {
	VEC(const char *) bases, new_functions;
	VEC(struct patch_diff) diffs;
};

/** A diff larger than this when unpacked was not written by suture. */
enum { DIFF_SIZE_MAX = 256 << 20 };

static bool read_diff(struct patch *patch, const uint8_t *at, const uint8_t *end,
		      struct patch_diff *ret)
{
	ret->name = take_string(&at, end);
	if (!ret->name)
		return false;
	unsigned long long size = ZSTD_getFrameContentSize(at, (size_t)(end - at));
	if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN ||
	    size > DIFF_SIZE_MAX)
		return false;
	void *bytes = arena_alloc(patch->arena, size ? size : 1);
	ret->bytes = bytes;
	ret->size = size;
	return ZSTD_decompress(bytes, size, at, (size_t)(end - at)) == size;
}

static struct error *read_notes(struct patch *patch, struct lists *lists)
{
	const struct object_section *section =
		object_section_find(patch->object, PATCH_NOTE_SECTION);
	if (!section || !section->data)
		return malformed(patch, "it has no section '" PATCH_NOTE_SECTION "'");
	const uint8_t *at = section->data, *end = at + section->size;
	uint32_t format = 0, number = 0;
	while ((size_t)(end - at) >= sizeof(Elf64_Nhdr)) {
		Elf64_Nhdr note;
		memcpy(&note, at, sizeof(note));
		uint64_t owner_size = align_up(note.n_namesz, 4);
		uint64_t next = sizeof(note) + owner_size + align_up(note.n_descsz, 4);
		if (next > (uint64_t)(end - at))
			return malformed(patch, "a note is longer than its section");
		const uint8_t *content = at + sizeof(note) + owner_size;
		const uint8_t *content_end = content + note.n_descsz;
		const char *string = NULL;
		bool good = true;
		at += next;
		switch (note.n_type) {
		case PATCH_NOTE_FORMAT:
			good = take_u32(content, content_end, &format);
			break;
		case PATCH_NOTE_NAME:
			good = (patch->name = take_string(&content, content_end)) != NULL;
			break;
		case PATCH_NOTE_TOOL:
			good = (patch->tool_version = take_string(&content, content_end)) != NULL;
			break;
		case PATCH_NOTE_DESCRIPTION:
			good = (patch->description = take_string(&content, content_end)) != NULL;
			break;
		case PATCH_NOTE_MODULE: {
			struct patch_module module = {.name = take_string(&content, content_end)};
			module.build_id.size = module.name ? (size_t)(content_end - content) : 0;
			good = module.name && module.name[0] && module.build_id.size > 0 &&
			       module.build_id.size <= sizeof(module.build_id.bytes);
			if (good) {
				memcpy(module.build_id.bytes, content, module.build_id.size);
				vec_push(&patch->modules, module);
			}
			break;
		}
		case PATCH_NOTE_BASE:
			good = (string = take_string(&content, content_end)) != NULL;
			if (good)
				vec_push(&lists->bases, string);
			break;
		case PATCH_NOTE_REPLACES_ALL:
			good = take_u32(content, content_end, &number);
			patch->replaces_all = good && number != 0;
			break;
		case PATCH_NOTE_FINDING:
			good = read_finding(patch, content, content_end);
			break;
		case PATCH_NOTE_MATCH: {
			uint64_t numbers[5];
			good = note.n_descsz == sizeof(numbers);
			if (good) {
				memcpy(numbers, content, sizeof(numbers));
				patch->functions_compared = numbers[0];
				patch->functions_matched = numbers[1];
				patch->bytes_compared = numbers[2];
				patch->bytes_matched = numbers[3];
				patch->text_size = numbers[4];
			}
			break;
		}
		case PATCH_NOTE_NEW_FUNCTION:
			good = (string = take_string(&content, content_end)) != NULL;
			if (good)
				vec_push(&lists->new_functions, string);
			break;
		case PATCH_NOTE_DIFF: {
			struct patch_diff diff;
			good = read_diff(patch, content, content_end, &diff);
			if (good)
				vec_push(&lists->diffs, diff);
			break;
		}
		case PATCH_NOTE_DIGEST:
			good = note.n_descsz == sizeof(patch->digest);
			if (good)
				memcpy(&patch->digest, content, sizeof(patch->digest));
			break;
		}
		if (!good)
			return malformed(patch, "a note is malformed");
	}
	if (format > PATCH_FORMAT_VERSION)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "'%s' has patch format %" PRIu32 ", this suture reads up to %d: "
				 "use a newer suture",
				 patch->object->path, format, PATCH_FORMAT_VERSION);
	if (format == 0)
		return malformed(patch, "it names no format version");
	if (!patch->name || !patch->name[0])
		return malformed(patch, "it has no name");
	if (patch->modules.count == 0)
		return malformed(patch, "it names no module that it is for");
	if (!patch->tool_version)
		patch->tool_version = "";
	if (!patch->description)
		patch->description = "";
	return NULL;
}

/* ---- symbols ------------------------------------------------------------------------------ */

struct error *patch_symbol_parse(const struct patch *patch, const struct object_symbol *symbol,
				 struct patch_symbol *ret)
{
	struct patch_symbol result = {.name = symbol->name, .weak = symbol->bind == STB_WEAK};
	if (symbol == patch->object->null_symbol) {
		result.kind = PATCH_SYMBOL_NULL;
	} else if (symbol->section || symbol->special == SHN_ABS) {
		result.kind = PATCH_SYMBOL_DEFINED;
	} else if (symbol->special == PATCH_SHN_LIVEPATCH) {
		const char *rest = symbol->name;
		if (!string_starts_with(rest, PATCH_SYMBOL_PREFIX))
			return malformed(patch, "a symbol of a module has no module in its name");
		rest += strlen(PATCH_SYMBOL_PREFIX);
		// Names of modules hold dots, so the longest listed one that fits is meant.
		size_t longest = 0;
		for (size_t i = 0; i < patch->modules.count; i++) {
			const struct patch_module *module = &patch->modules.items[i];
			size_t length = strlen(module->name);
			if (length > longest && strncmp(rest, module->name, length) == 0 &&
			    rest[length] == '.') {
				result.module = module;
				longest = length;
			}
		}
		const char *comma = strrchr(rest, ',');
		if (!result.module || !comma || comma <= rest + longest)
			return malformed(patch, "a symbol names no module that the patch is for");
		char *end;
		unsigned long position = strtoul(comma + 1, &end, 10);
		if (end == comma + 1 || *end || position > UINT32_MAX)
			return malformed(patch, "a symbol's position is not a number");
		result.kind = PATCH_SYMBOL_TARGET;
		result.position = (uint32_t)position;
		result.name = arena_strndup(patch->arena, rest + longest + 1,
					    (size_t)(comma - rest) - longest - 1);
	} else if (symbol->special == SHN_UNDEF) {
		result.kind = PATCH_SYMBOL_IMPORT;
		const char *version = strchr(symbol->name, '@');
		if (!symbol->name[0] || version == symbol->name)
			return malformed(patch, "an import has no name");
		if (version) {
			result.name = arena_strndup(patch->arena, symbol->name,
						    (size_t)(version - symbol->name));
			result.version = version + 1;
		}
	} else {
		return malformed(patch, "a symbol has a section index that patches do not use");
	}
	*ret = result;
	return NULL;
}

/* ---- .suture.funcs ------------------------------------------------------------------------ */

static struct error *read_rows(struct patch *patch)
{
	const struct object_section *section =
		object_section_find(patch->object, PATCH_FUNCS_SECTION);
	if (!section || !section->data || section->size % sizeof(struct patch_row) != 0)
		return malformed(patch, "it has no whole section '" PATCH_FUNCS_SECTION "'");
	struct patch_function *last = NULL;
	for (uint64_t at = 0; at < section->size; at += sizeof(struct patch_row)) {
		struct patch_row row;
		memcpy(&row, section->data + at, sizeof(row));
		size_t count;
		const struct object_relocation *relocation =
			object_relocations_in(section, at, at + sizeof(row), &count);
		const struct object_symbol *new_symbol = NULL, *old_symbol = NULL;
		for (size_t i = 0; i < count; i++) {
			if (relocation[i].type != patch->object->arch->relocation_absolute64 ||
			    relocation[i].addend != 0)
				return malformed(patch,
						 "a row of functions has a wrong relocation");
			if (relocation[i].offset - at == offsetof(struct patch_row, new_address))
				new_symbol = relocation[i].symbol;
			else if (relocation[i].offset - at ==
				 offsetof(struct patch_row, old_address))
				old_symbol = relocation[i].symbol;
		}
		if (!old_symbol || row.module >= patch->modules.count)
			return malformed(patch, "a row of functions has no old function");
		struct patch_symbol old;
		TRY(patch_symbol_parse(patch, old_symbol, &old));
		if (old.kind != PATCH_SYMBOL_TARGET ||
		    old.module != &patch->modules.items[row.module])
			return malformed(patch, "a row of functions names another module");
		uint64_t end;
		if (row.old_size == 0 || !checked_add(old_symbol->value, row.old_size, &end))
			return malformed(patch, "a row of functions has a wrong size");
		struct digest digest;
		memcpy(&digest, row.digest, sizeof(digest));

		if (row.kind == PATCH_ROW_PART) {
			if (!last)
				return malformed(patch, "a part of a function stands first");
			vec_push(&last->parts, (struct patch_range){.address = old_symbol->value,
								    .size = row.old_size});
			vec_push(&last->part_digests, digest);
			continue;
		}
		if (row.kind != PATCH_ROW_FUNCTION || !new_symbol || !new_symbol->section ||
		    !object_section_is_text(new_symbol->section))
			return malformed(patch, "a row of functions has no new function");
		vec_push(&patch->functions, (struct patch_function){
						    .name = old.name,
						    .module = old.module,
						    .position = row.position,
						    .old_address = old_symbol->value,
						    .old_size = row.old_size,
						    .old_digest = digest,
						    .new_symbol = new_symbol,
					    });
		last = &patch->functions.items[patch->functions.count - 1];
	}
	if (patch->functions.count == 0)
		return malformed(patch, "it replaces no function");
	return NULL;
}

/** Every symbol that a relocation uses must have a meaning. */
static struct error *check_symbols(struct patch *patch)
{
	for (size_t i = 0; i < patch->object->symbols.count; i++) {
		struct patch_symbol symbol;
		if (patch->object->symbols.items[i]->type == STT_SECTION)
			continue;
		TRY(patch_symbol_parse(patch, patch->object->symbols.items[i], &symbol));
	}
	return NULL;
}

static void lists_deinit(struct lists *lists)
{
	vec_deinit(&lists->bases);
	vec_deinit(&lists->new_functions);
	vec_deinit(&lists->diffs);
}

/** A list's items as an array of the patch's arena. */
#define keep(arena, list, ret_items, ret_count)                                      \
	do {                                                                         \
		*(ret_count) = (list)->count;                                        \
		*(ret_items) = arena_memdup((arena), (list)->items,                  \
					    (list)->count * sizeof(*(list)->items)); \
	} while (0)

static struct error *read_content(struct patch *patch, const uint8_t *bytes, size_t size)
{
	_cleanup_(lists_deinit) struct lists lists = {0};
	TRY(read_notes(patch, &lists));
	keep(patch->arena, &lists.bases, &patch->bases, &patch->base_count);
	keep(patch->arena, &lists.new_functions, &patch->new_functions, &patch->new_function_count);
	keep(patch->arena, &lists.diffs, &patch->diffs, &patch->diff_count);
	size_t offset = patch_digest_offset(bytes, size);
	if (offset == 0)
		return malformed(patch, "it has no digest");
	struct digest digest = patch_digest(bytes, size, offset);
	if (!digest_equal(&digest, &patch->digest))
		return malformed(patch, "its digest is wrong, so it was damaged or changed");
	TRY(read_rows(patch));
	return check_symbols(patch);
}

static bool is_relocatable(const uint8_t *bytes, size_t size)
{
	Elf64_Ehdr header;
	if (size < sizeof(header))
		return false;
	memcpy(&header, bytes, sizeof(header));
	bool big = header.e_ident[EI_DATA] == ELFDATA2MSB;
	return (big ? be16toh(header.e_type) : le16toh(header.e_type)) == ET_REL;
}

struct error *patch_read(const void *bytes, size_t size, const char *name, struct patch **ret)
{
	_cleanup_(patch_cleanup) struct patch *patch = xcalloc(1, sizeof(*patch));
	patch->arena = arena_create();
	struct error *error = object_read(bytes, size, name, &patch->object);
	// Another kind of ELF file, or none: of another CPU it may be a patch still.
	if (error && error->kind == ERROR_KIND_UNSUPPORTED && !is_relocatable(bytes, size))
		error->kind = ERROR_KIND_INPUT;
	TRY(error_prefix(error, "no patch of suture"));
	TRY(read_content(patch, bytes, size));
	*ret = take_ptr(patch);
	return NULL;
}

struct error *patch_open(const char *path, struct patch **ret)
{
	_cleanup_free_ char *bytes = NULL;
	size_t size;
	TRY(file_read(path, &bytes, &size));
	return patch_read(bytes, size, path, ret);
}

void patch_free(struct patch *patch)
{
	if (!patch)
		return;
	for (size_t i = 0; i < patch->functions.count; i++) {
		vec_deinit(&patch->functions.items[i].parts);
		vec_deinit(&patch->functions.items[i].part_digests);
	}
	vec_deinit(&patch->functions);
	vec_deinit(&patch->modules);
	findings_deinit(&patch->findings);
	object_free(patch->object);
	arena_free(patch->arena);
	free(patch);
}

void patch_cleanup(struct patch **patch)
{
	patch_free(*patch);
}
