/* SPDX-License-Identifier: MIT */
/*
 * Symbols: of the file, of its separate debug file, of a build that is the same code.
 */
#include "image/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct error *malformed(const char *path, const char *what)
{
	return error_new(ERROR_KIND_INPUT, "'%s': %s is malformed or the file is truncated", path,
			 what);
}

void image_symbol_push(struct image *image, const GElf_Sym *symbol, const char *name,
		       const char *file, enum image_symbol_source source)
{
	uint8_t type = GELF_ST_TYPE(symbol->st_info);
	if (symbol->st_shndx == SHN_UNDEF || symbol->st_shndx == SHN_ABS ||
	    symbol->st_shndx == SHN_COMMON || !name[0])
		return;
	// NOTYPE: labels of assembler code and of the linker (__bss_start)
	if (type != STT_FUNC && type != STT_OBJECT && type != STT_TLS && type != STT_GNU_IFUNC &&
	    type != STT_NOTYPE)
		return;
	// bfd writes "memcpy@@GLIBC_2.14" into .symtab; the name alone is what objects say.
	const char *at = strchr(name, '@');
	if (at && at != name)
		name = arena_strndup(image->arena, name, (size_t)(at - name));
	vec_push(&image->symbols, (struct image_symbol){
					  .name = name,
					  .file = file,
					  .address = symbol->st_value,
					  .size = symbol->st_size,
					  .type = type,
					  .bind = GELF_ST_BIND(symbol->st_info),
					  .visibility = GELF_ST_VISIBILITY(symbol->st_other),
					  .source = source,
				  });
}

/** Find the first section of @type; @ret_link: the one that its sh_link names. */
static bool section_of_type(Elf *elf, uint32_t type, GElf_Shdr *ret, GElf_Shdr *ret_link)
{
	Elf_Scn *scn = NULL;
	while ((scn = elf_nextscn(elf, scn))) {
		GElf_Shdr header, link;
		if (!gelf_getshdr(scn, &header) || header.sh_type != type)
			continue;
		Elf_Scn *other = elf_getscn(elf, header.sh_link);
		if (!other || !gelf_getshdr(other, &link) || link.sh_type != SHT_STRTAB)
			return false;
		*ret = header;
		*ret_link = link;
		return true;
	}
	return false;
}

struct error *image_symtab_read(struct image *image, Elf *elf, const char *path,
				enum image_symbol_source source, bool *ret_found)
{
	GElf_Shdr header, link;
	*ret_found = false;
	if (!section_of_type(elf, SHT_SYMTAB, &header, &link) ||
	    header.sh_size < 2 * sizeof(Elf64_Sym))
		return NULL;
	Elf_Data *data = image_chunk(elf, header.sh_offset, header.sh_size, ELF_T_SYM);
	Elf_Data *names = image_chunk(elf, link.sh_offset, link.sh_size, ELF_T_BYTE);
	if (!data || !names)
		return malformed(path, "the symbol table");
	// The debug file's bytes go with its Elf; the image's own stay.
	const char *strings = names->d_buf;
	if (source != IMAGE_SYMBOL_SYMTAB)
		strings = arena_memdup(image->arena, names->d_buf, names->d_size);
	const char *file = NULL;
	size_t before = image->symbols.count;
	for (size_t i = 1; i < header.sh_size / sizeof(Elf64_Sym); i++) {
		GElf_Sym symbol;
		if (!gelf_getsym(data, (int)i, &symbol))
			return malformed(path, "the symbol table");
		const char *name = image_table_string(strings, names->d_size, symbol.st_name);
		if (!name)
			return malformed(path, "a name in the symbol table");
		bool local = GELF_ST_BIND(symbol.st_info) == STB_LOCAL;
		// bfd ends each file's locals by the next name, its own by an empty one.
		if (GELF_ST_TYPE(symbol.st_info) == STT_FILE)
			file = name[0] ? name : NULL;
		else
			image_symbol_push(image, &symbol, name, local ? file : NULL, source);
	}
	*ret_found = image->symbols.count > before;
	image->has_symtab |= *ret_found;
	return NULL;
}

// ---- separate debug files

/*
 * The checksum of .gnu_debuglink (gdb manual, "Separate Debug Files"): CRC-32 as in zlib, which
 * nothing else here needs.
 */
static uint32_t crc32_of(int fd)
{
	uint32_t crc = 0xffffffff;
	uint8_t buffer[65536];
	uint32_t byte_crc[256];
	for (uint32_t i = 0; i < 256; i++) {
		byte_crc[i] = i;
		for (int bit = 0; bit < 8; bit++)
			byte_crc[i] = byte_crc[i] >> 1 ^ (byte_crc[i] & 1 ? 0xedb88320 : 0);
	}
	ssize_t count;
	off_t at = 0;
	while ((count = pread(fd, buffer, sizeof(buffer), at)) > 0) {
		for (ssize_t i = 0; i < count; i++)
			crc = byte_crc[(crc ^ buffer[i]) & 0xff] ^ crc >> 8;
		at += count;
	}
	return ~crc;
}

static void build_id_of(Elf *elf, bool swap, struct build_id *ret)
{
	Elf_Scn *scn = NULL;
	GElf_Shdr header;
	while (ret->size == 0 && (scn = elf_nextscn(elf, scn))) {
		if (!gelf_getshdr(scn, &header) || header.sh_type != SHT_NOTE)
			continue;
		Elf_Data *data = image_chunk(elf, header.sh_offset, header.sh_size, ELF_T_BYTE);
		if (data)
			image_notes_build_id(data->d_buf, data->d_size, header.sh_addralign, swap, ret);
	}
}

/** For files without build ID: every allocated section has the same address and size in both. */
static bool same_layout(const struct image *image, Elf *elf)
{
	const struct image_state *state = image_state(image);
	Elf_Scn *scn = NULL;
	GElf_Shdr header;
	size_t count = 0;
	while ((scn = elf_nextscn(elf, scn))) {
		if (!gelf_getshdr(scn, &header) || !(header.sh_flags & SHF_ALLOC) || !header.sh_size ||
		    (header.sh_flags & SHF_TLS && header.sh_type == SHT_NOBITS))
			continue;
		const struct image_section *section = image_section_at(image, header.sh_addr);
		if (!section || section->address != header.sh_addr || section->size != header.sh_size)
			return false;
		count++;
	}
	return count > 0 && count == state->sections.count;
}

struct debug_link {
	const char *name; /* or NULL */
	uint32_t crc;
};

static struct debug_link debug_link_read(const struct image *image, Elf *elf)
{
	struct debug_link link = {0};
	size_t names;
	if (elf_getshdrstrndx(elf, &names) < 0)
		return link;
	Elf_Scn *scn = NULL;
	while ((scn = elf_nextscn(elf, scn))) {
		GElf_Shdr header;
		const char *name;
		if (!gelf_getshdr(scn, &header) || header.sh_type != SHT_PROGBITS ||
		    !(name = elf_strptr(elf, names, header.sh_name)) ||
		    !string_equal(name, ".gnu_debuglink") ||
		    !range_within(header.sh_offset, header.sh_size, image_state(image)->file_size))
			continue;
		const char *bytes = image_state(image)->file + header.sh_offset;
		const char *text = image_table_string(bytes, header.sh_size, 0);
		uint64_t crc_at = text ? align_up(strlen(text) + 1, 4) : 0;
		if (!text || strchr(text, '/') || !range_within(crc_at, 4, header.sh_size))
			continue;
		link.name = text;
		memcpy(&link.crc, bytes + crc_at, 4);
		if ((image->arch->elf_data == ELFDATA2MSB) != (__BYTE_ORDER == __BIG_ENDIAN))
			link.crc = __builtin_bswap32(link.crc);
	}
	return link;
}

/** @named: the user gave this file, so whatever keeps it from being used is an error. */
static struct error *debug_try(struct image *image, const char *path, const struct debug_link *link,
			       bool named, bool *ret_used)
{
	*ret_used = false;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return named ? error_errno(errno, "cannot open '%s'", path) : NULL;
	Elf *elf = S_ISREG(st.st_mode) ? elf_begin(fd, ELF_C_READ, NULL) : NULL;
	GElf_Ehdr header;
	struct error *error = NULL;
	if (!elf || elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &header) ||
	    header.e_machine != image->arch->machine ||
	    header.e_ident[EI_CLASS] != image->arch->elf_class ||
	    header.e_ident[EI_DATA] != image->arch->elf_data) {
		elf_end(elf);
		return named ? error_new(ERROR_KIND_INPUT, "'%s' is not a debug file for this CPU", path)
			     : NULL;
	}
	struct build_id id = {0};
	bool swap = (image->arch->elf_data == ELFDATA2MSB) != (__BYTE_ORDER == __BIG_ENDIAN);
	build_id_of(elf, swap, &id);
	bool same = image->build_id.size > 0 ? build_id_equal(&image->build_id, &id)
		    : link->name && !named    ? crc32_of(fd) == link->crc
					      : same_layout(image, elf);
	if (same) {
		error = image_symtab_read(image, elf, path, IMAGE_SYMBOL_DEBUG, ret_used);
		if (!error && named && !*ret_used)
			error = error_new(ERROR_KIND_INPUT, "'%s' has no symbol table", path);
	} else if (named) {
		char expected[129], found[129];
		error = error_new(ERROR_KIND_INPUT,
				  "'%s' is not the debug file of '%s': expected build ID %s, found %s",
				  path, image->path, build_id_format(&image->build_id, expected),
				  build_id_format(&id, found));
	}
	elf_end(elf);
	if (*ret_used && !error)
		image_state(image)->debug_path = arena_strdup(image->arena, path);
	return error;
}

struct error *image_debug_read(struct image *image, Elf *elf, const char *debug)
{
	bool used;
	struct debug_link link = debug_link_read(image, elf);
	if (debug)
		return debug_try(image, debug, &link, true, &used);

	static const char *const root = "/usr/lib/debug";
	if (image->build_id.size > 1) {
		char id[129];
		build_id_format(&image->build_id, id);
		_cleanup_free_ char *path =
			xasprintf("%s/.build-id/%.2s/%s.debug", root, id, id + 2);
		TRY(debug_try(image, path, &link, false, &used));
		if (used)
			return NULL;
	}
	if (!link.name)
		return NULL;
	// gdb's order: beside the file, in .debug, under the root.
	_cleanup_free_ char *real = realpath(image->path, NULL);
	const char *full = real ? real : image->path;
	const char *base = path_basename(full);
	int directory = (int)(base - full);
	for (unsigned i = 0; i < 3; i++) {
		_cleanup_free_ char *path = xasprintf("%s%.*s%s%s", i == 2 ? root : "", directory, full,
						      i == 1 ? ".debug/" : "", link.name);
		TRY(debug_try(image, path, &link, false, &used));
		if (used)
			return NULL;
	}
	return NULL;
}

// ---- indexes

/** The better symbol first among those at one address. */
static unsigned rank(const struct image_symbol *symbol)
{
	unsigned type = symbol->type == STT_FUNC || symbol->type == STT_GNU_IFUNC ? 0
			: symbol->type == STT_OBJECT					? 1
											: 2;
	unsigned bind = symbol->bind == STB_GLOBAL ? 0 : symbol->bind == STB_WEAK ? 1 : 2;
	return (symbol->size == 0) * 16 + type * 4 + bind;
}

static int compare_symbols(const void *a, const void *b)
{
	const struct image_symbol *x = a, *y = b;
	bool x_tls = x->type == STT_TLS, y_tls = y->type == STT_TLS;
	if (x_tls != y_tls)
		return x_tls ? 1 : -1; // offsets, no addresses: at the end
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	unsigned x_rank = rank(x), y_rank = rank(y);
	if (x_rank != y_rank)
		return x_rank < y_rank ? -1 : 1;
	int name = strcmp(x->name, y->name);
	return name ? name : (x->source > y->source) - (x->source < y->source);
}

void image_symbols_index(struct image *image)
{
	struct image_state *state = image->state;
	struct image_symbol *symbols = image->symbols.items;
	size_t count = image->symbols.count, kept = 0;
	if (count > 0)
		qsort(symbols, count, sizeof(*symbols), compare_symbols);
	// An exported symbol stands in .symtab and in .dynsym; the first source stays.
	for (size_t i = 0; i < count; i++) {
		const struct image_symbol *last = kept ? &symbols[kept - 1] : NULL;
		if (symbols[i].source == IMAGE_SYMBOL_DYNAMIC && last &&
		    last->address == symbols[i].address && string_equal(last->name, symbols[i].name))
			continue;
		symbols[kept++] = symbols[i];
	}
	image->symbols.count = count = kept;

	hashmap_free(state->by_name);
	state->by_name = hashmap_create();
	state->reach = arena_array(image->arena, count + 1, sizeof(*state->reach));
	for (size_t i = 0; i < count; i++) {
		uint64_t end;
		if (!checked_add(symbols[i].address, symbols[i].size, &end))
			end = UINT64_MAX;
		state->reach[i] = i > 0 && state->reach[i - 1] > end ? state->reach[i - 1] : end;
		struct image_names *names = hashmap_get_string(state->by_name, symbols[i].name);
		if (!names) {
			names = arena_new(image->arena, struct image_names);
			hashmap_set_string(state->by_name, symbols[i].name, names);
		}
		symbols[i].position = (uint32_t)++names->count;
	}
	for (size_t i = 0; i < count; i++) {
		struct image_names *names = hashmap_get_string(state->by_name, symbols[i].name);
		if (!names->items)
			names->items = arena_array(image->arena, names->count, sizeof(*names->items));
		names->items[symbols[i].position - 1] = &symbols[i];
		if (names->count == 1)
			symbols[i].position = 0;
	}
}

size_t image_symbols_named(const struct image *image, const char *name,
			   const struct image_symbol ***ret)
{
	const struct image_names *names = hashmap_get_string(image_state(image)->by_name, name);
	*ret = names ? names->items : NULL;
	return names ? names->count : 0;
}

/** Symbols of addresses; the TLS ones stand behind them. */
static size_t address_symbol_count(const struct image *image)
{
	size_t low = 0, high = image->symbols.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (image->symbols.items[middle].type == STT_TLS)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

const struct image_symbol *image_symbol_at(const struct image *image, uint64_t address)
{
	const struct image_symbol *symbols = image->symbols.items;
	size_t low = 0, high = address_symbol_count(image);
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (symbols[middle].address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	// The innermost that covers it; reach[] ends the walk back.
	const struct image_symbol *best = NULL, *label = NULL;
	for (size_t i = low; i-- > 0;) {
		const struct image_symbol *symbol = &symbols[i];
		if (best && symbol->address < best->address)
			break;
		if (symbol->size > 0 && address - symbol->address < symbol->size)
			best = !best || rank(symbol) < rank(best) ? symbol : best;
		if (symbol->size == 0 && !label)
			label = symbol;
		if (image_state(image)->reach[i] <= address)
			break;
	}
	if (best)
		return best;
	// Assembler code without sizes: a label reaches to the next symbol in its section.
	if (label && (label == &symbols[low - 1] || label->address == symbols[low - 1].address)) {
		const struct image_section *a = image_section_at(image, label->address);
		if (a && a == image_section_at(image, address))
			return label;
	}
	return NULL;
}

// ---- symbols of a build that is the same code

static bool is_build_id_note(const struct image_section *section)
{
	return string_equal(section->name, ".note.gnu.build-id");
}

/** Every allocated section of @build stands in @image, and the segments are the same. */
static bool same_content(const struct image *image, const struct image *build)
{
	const struct image_state *state = image_state(build);
	if (image->segments.count != build->segments.count || image->type != build->type ||
	    image->arch != build->arch || state->sections.count == 0)
		return false;
	for (size_t i = 0; i < image->segments.count; i++) {
		const struct image_segment *a = &image->segments.items[i];
		const struct image_segment *b = &build->segments.items[i];
		if (a->address != b->address || a->memory_size != b->memory_size ||
		    a->file_size != b->file_size || a->flags != b->flags)
			return false;
	}
	for (size_t i = 0; i < state->sections.count; i++) {
		const struct image_section *section = &state->sections.items[i];
		if (section->type == SHT_NOBITS || is_build_id_note(section))
			continue;
		const uint8_t *a = image_bytes(image, section->address, section->size);
		const uint8_t *b = image_bytes(build, section->address, section->size);
		if (!a || !b || memcmp(a, b, section->size) != 0)
			return false;
	}
	return true;
}

bool image_symbols_adopt(struct image *image, const struct image *build)
{
	bool same_id = image->build_id.size > 0 && build_id_equal(&image->build_id, &build->build_id);
	if (!same_id && !same_content(image, build))
		return false;
	if (image->has_symtab || !build->has_symtab)
		return true;
	for (size_t i = 0; i < build->symbols.count; i++) {
		struct image_symbol symbol = build->symbols.items[i];
		if (symbol.source == IMAGE_SYMBOL_DYNAMIC)
			continue;
		symbol.name = arena_strdup(image->arena, symbol.name);
		symbol.file = symbol.file ? arena_strdup(image->arena, symbol.file) : NULL;
		symbol.source = IMAGE_SYMBOL_BUILD;
		vec_push(&image->symbols, symbol);
	}
	image->has_symtab = true;
	image_symbols_index(image);
	return true;
}
