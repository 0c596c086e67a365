// SPDX-License-Identifier: MIT
/*
 * Reading an object file: a list of passes over outside bytes.
 *
 * The ELF structures are read here and not by libelf: each size, offset and index is checked at one
 * place, next to the sentence that names the section and the offset; a file with 64k sections costs
 * one walk; and either byte order is one function. libelf only takes compressed sections apart.
 *
 * The rule that bounds memory: section contents may not add up to more than the file, so a small
 * file whose sections all claim the whole of it is refused before anything is copied.
 */
#include <errno.h>
#include <inttypes.h>
#include <libelf.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "object/internal.h"

// Not in the <elf.h> of glibc 2.36. Both refer to symbols by number and are hints for linkers, so
// they are left out rather than kept wrong (LLVM, "Extensions": Symbol Address Significance, CG
// Profile).
#define SHT_LLVM_ADDRSIG 0x6fff4c03
#define SHT_LLVM_CALL_GRAPH_PROFILE 0x6fff4c09
#define SHT_LLVM_CALL_GRAPH_PROFILE_OLD 0x6fff4c02

// No object has more uninitialised data, and sums of such sizes do not overflow.
#define NOBITS_MAX ((uint64_t)1 << 40)
// zlib's best ratio is 1032:1.
#define COMPRESSION_MAX 1100
// Names may overlap in a string table, so that a small file can spell out any number of long ones;
// those of real objects add up to a part of the file.
#define NAMES_MAX 64

// A string table, copied to the object's arena, for names to point into. It ends with a NUL.
struct strings {
	const char *bytes;
	uint64_t size;
};

struct header {
	const char *name;
	uint32_t type;
	uint64_t flags, offset, size, align, entry_size;
	uint32_t link, info;
	const uint8_t *bytes;           // in the file; NULL for SHT_NOBITS
	struct object_section *section; // NULL: a table of the file itself
	bool left_out;
};

struct reader {
	const uint8_t *bytes;
	uint64_t size;
	const char *name;
	bool big;
	struct object *object;
	struct header *headers;
	size_t header_count;
	uint64_t names_left; // bytes that further names may add up to
	size_t symbol_table; // 0: none
	struct strings symbol_names;
	const uint8_t *extended; // SHT_SYMTAB_SHNDX
	uint64_t extended_count;
	struct object_symbol **symbols; // by their number; NULL: not listed
	size_t symbol_count;
};

#define malformed(reader, ...) \
	error_prefix(error_new(ERROR_KIND_INPUT, __VA_ARGS__), "%s", (reader)->name)

static struct error *malformed_section(const struct reader *reader, size_t index,
				       const char *format, ...) PRINTF(3, 4) MUST_CHECK;
static struct error *malformed_section(const struct reader *reader, size_t index,
				       const char *format, ...)
{
	va_list args;
	va_start(args, format);
	_cleanup_free_ char *text = xvasprintf(format, args);
	va_end(args);

	const char *name = index < reader->header_count ? reader->headers[index].name : NULL;
	return malformed(reader, "section %zu%s%s%s: %s", index, name ? " \"" : "",
			 name ? name : "", name ? "\"" : "", text);
}

static struct error *read_strings(struct reader *reader, size_t index, struct strings *ret)
{
	const struct header *header = &reader->headers[index];
	if (header->type != SHT_STRTAB)
		return malformed_section(reader, index,
					 "not a string table, but names are looked up in it");
	if (header->size > 0 && header->bytes[header->size - 1] != 0)
		return malformed_section(reader, index, "its last string has no end");
	ret->bytes = arena_memdup(reader->object->arena, header->bytes, header->size);
	ret->size = header->size;
	return NULL;
}

// The name at @offset, or NULL: outside the table, or names without end.
static const char *name_at(struct reader *reader, const struct strings *strings, uint64_t offset)
{
	if (offset == 0) // gABI: also where there is no string table to speak of
		return "";
	if (offset >= strings->size)
		return NULL;
	size_t length = strlen(strings->bytes + offset);
	if (length > reader->names_left)
		return NULL;
	reader->names_left -= length;
	return strings->bytes + offset;
}

/* ---- headers ------------------------------------------------------------------------------ */

static struct error *read_file_header(struct reader *reader)
{
	const uint8_t *bytes = reader->bytes;
	if (reader->size >= 4 && memcmp(bytes, "BC\xc0\xde", 4) == 0)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "%s: LLVM bitcode, not machine code: compile it without -flto",
				 reader->name);
	if (reader->size < sizeof(Elf64_Ehdr))
		return malformed(reader, "%" PRIu64 " bytes are too few for an ELF header",
				 reader->size);
	if (memcmp(bytes, ELFMAG, SELFMAG) != 0)
		return malformed(reader, "not an ELF file");
	uint8_t class = bytes[EI_CLASS], data = bytes[EI_DATA];
	if (data != ELFDATA2LSB && data != ELFDATA2MSB)
		return malformed(reader, "byte order %u is unknown", data);
	reader->big = data == ELFDATA2MSB;

	uint64_t machine = ELF_LOAD(bytes, Elf64_Ehdr, e_machine, reader->big);
	reader->object->arch = arch_find((uint16_t)machine, class, data);
	if (!reader->object->arch)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "%s: CPU %" PRIu64 " (class %u, byte order %u) is not supported",
				 reader->name, machine, class, data);
	uint64_t type = ELF_LOAD(bytes, Elf64_Ehdr, e_type, reader->big);
	if (type != ET_REL)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "%s: not a relocatable object (ELF type %" PRIu64 ", expected 1)",
				 reader->name, type);
	reader->object->elf_flags = (uint32_t)ELF_LOAD(bytes, Elf64_Ehdr, e_flags, reader->big);
	return NULL;
}

static struct error *read_headers(struct reader *reader)
{
	const uint8_t *bytes = reader->bytes;
	bool big = reader->big;
	uint64_t table = ELF_LOAD(bytes, Elf64_Ehdr, e_shoff, big);
	uint64_t entry_size = ELF_LOAD(bytes, Elf64_Ehdr, e_shentsize, big);
	uint64_t count = ELF_LOAD(bytes, Elf64_Ehdr, e_shnum, big);
	uint64_t names = ELF_LOAD(bytes, Elf64_Ehdr, e_shstrndx, big);

	if (table == 0)
		return malformed(reader, "it has no sections");
	if (entry_size != sizeof(Elf64_Shdr))
		return malformed(reader, "section headers of %" PRIu64 " bytes, expected %zu",
				 entry_size, sizeof(Elf64_Shdr));
	if (!range_within(table, entry_size, reader->size))
		return malformed(reader,
				 "section headers at 0x%" PRIx64
				 " lie outside the file of 0x%" PRIx64 " bytes",
				 table, reader->size);
	// gABI, "ELF Header": what does not fit 16 bits stands in the first section header.
	if (count == 0)
		count = ELF_LOAD(bytes + table, Elf64_Shdr, sh_size, big);
	if (names == SHN_XINDEX)
		names = ELF_LOAD(bytes + table, Elf64_Shdr, sh_link, big);

	uint64_t size;
	if (!checked_mul(count, entry_size, &size) || !range_within(table, size, reader->size))
		return malformed(reader,
				 "%" PRIu64 " section headers at 0x%" PRIx64
				 " lie outside the file of 0x%" PRIx64 " bytes",
				 count, table, reader->size);
	if (count == 0)
		return malformed(reader, "it has no sections");
	if (names == 0 || names >= count)
		return malformed(reader,
				 "section name table %" PRIu64 " of %" PRIu64 " does not exist",
				 names, count);

	reader->headers = xcalloc(count, sizeof(*reader->headers));
	reader->header_count = count;
	for (size_t i = 1; i < count; i++) {
		const uint8_t *at = bytes + table + i * sizeof(Elf64_Shdr);
		reader->headers[i] = (struct header){
			.type = (uint32_t)ELF_LOAD(at, Elf64_Shdr, sh_type, big),
			.flags = ELF_LOAD(at, Elf64_Shdr, sh_flags, big),
			.offset = ELF_LOAD(at, Elf64_Shdr, sh_offset, big),
			.size = ELF_LOAD(at, Elf64_Shdr, sh_size, big),
			.align = ELF_LOAD(at, Elf64_Shdr, sh_addralign, big),
			.entry_size = ELF_LOAD(at, Elf64_Shdr, sh_entsize, big),
			.link = (uint32_t)ELF_LOAD(at, Elf64_Shdr, sh_link, big),
			.info = (uint32_t)ELF_LOAD(at, Elf64_Shdr, sh_info, big),
		};
	}

	uint64_t total = 0;
	for (size_t i = 1; i < count; i++) {
		struct header *header = &reader->headers[i];
		if (header->type == SHT_NULL)
			continue;
		if (header->align & (header->align - 1))
			return malformed_section(reader, i,
						 "alignment 0x%" PRIx64 " is not a power of two",
						 header->align);
		if (header->type == SHT_NOBITS) {
			if (header->size > NOBITS_MAX)
				return malformed_section(
					reader, i, "size 0x%" PRIx64 " is beyond any object's",
					header->size);
			continue;
		}
		if (!range_within(header->offset, header->size, reader->size))
			return malformed_section(reader, i,
						 "[0x%" PRIx64 ", +0x%" PRIx64
						 ") lies outside the file of 0x%" PRIx64 " bytes",
						 header->offset, header->size, reader->size);
		header->bytes = bytes + header->offset;
		total += header->size; // each is at most the file's size, and they are 32-bit many
		if (total > reader->size)
			return malformed_section(reader, i,
						 "the sections overlap: up to it they "
						 "hold more bytes than the file");
	}

	struct strings strings = {0};
	TRY(read_strings(reader, names, &strings));
	for (size_t i = 1; i < count; i++) {
		const uint8_t *at = bytes + table + i * sizeof(Elf64_Shdr);
		uint64_t offset = ELF_LOAD(at, Elf64_Shdr, sh_name, big);
		reader->headers[i].name = name_at(reader, &strings, offset);
		if (!reader->headers[i].name)
			return malformed_section(
				reader, i, "its name at 0x%" PRIx64 " lies outside the name table",
				offset);
	}
	return NULL;
}

/* ---- sections ----------------------------------------------------------------------------- */

static bool is_table(const struct header *header)
{
	switch (header->type) {
	case SHT_NULL:
	case SHT_SYMTAB:
	case SHT_STRTAB:
	case SHT_RELA:
	case SHT_REL:
	case SHT_GROUP:
	case SHT_SYMTAB_SHNDX:
		return true;
	default:
		return false;
	}
}

static bool is_left_out(const struct header *header)
{
	return header->type == SHT_LLVM_ADDRSIG || header->type == SHT_LLVM_CALL_GRAPH_PROFILE ||
	       header->type == SHT_LLVM_CALL_GRAPH_PROFILE_OLD;
}

// Relocations count in the uncompressed bytes (gABI, "Section Compression"), so those are the
// section's; it is written uncompressed.
static struct error *decompress(struct reader *reader, size_t index, struct object_section *section)
{
	const struct header *header = &reader->headers[index];
	if (header->size < sizeof(Elf64_Chdr))
		return malformed_section(reader, index, "too short for a compression header");
	uint64_t size = ELF_LOAD(header->bytes, Elf64_Chdr, ch_size, reader->big);
	uint64_t align = ELF_LOAD(header->bytes, Elf64_Chdr, ch_addralign, reader->big);
	if (size / COMPRESSION_MAX > header->size)
		return malformed_section(reader, index,
					 "0x%" PRIx64 " compressed bytes cannot hold "
					 "0x%" PRIx64,
					 header->size, size);
	if (align & (align - 1))
		return malformed_section(reader, index,
					 "alignment 0x%" PRIx64 " is not a power of two", align);

	// A handle of its own for each: libelf changes the section in memory.
	elf_version(EV_CURRENT);
	Elf *elf = elf_memory((char *)(uintptr_t)reader->bytes, reader->size);
	Elf_Scn *scn = elf ? elf_getscn(elf, index) : NULL;
	Elf_Data *data = NULL;
	if (scn && elf_compress(scn, 0, 0) >= 0)
		data = elf_getdata(scn, NULL);
	bool good = data && data->d_size == size && (size == 0 || data->d_buf);
	if (good) {
		section->data = arena_memdup(reader->object->arena, data->d_buf, size);
		section->size = size;
		section->align = align;
		section->flags &= ~(uint64_t)SHF_COMPRESSED;
	}
	elf_end(elf);
	if (!good)
		return malformed_section(reader, index, "its compressed bytes cannot be read");
	return NULL;
}

static struct error *read_sections(struct reader *reader)
{
	struct object *object = reader->object;
	for (size_t i = 1; i < reader->header_count; i++) {
		struct header *header = &reader->headers[i];
		if (is_table(header))
			continue;
		if (is_left_out(header)) {
			header->left_out = true;
			continue;
		}
		struct object_section *section = object_section_new(object, header->name);
		header->section = section;
		section->index = i;
		section->type = header->type;
		section->flags = header->flags & ~(uint64_t)(SHF_GROUP | SHF_INFO_LINK);
		section->align = header->align;
		section->entry_size = header->entry_size;
		section->size = header->size;
		if (header->type == SHT_NOBITS)
			continue;
		if (header->flags & SHF_COMPRESSED)
			TRY(decompress(reader, i, section));
		else
			section->data = arena_memdup(object->arena, header->bytes, header->size);
	}

	for (size_t i = 1; i < reader->header_count; i++) {
		struct object_section *section = reader->headers[i].section;
		if (!section || !(section->flags & SHF_LINK_ORDER))
			continue;
		uint32_t link = reader->headers[i].link;
		if (link == 0) // permitted: "no ordering" (lld, gas for an 'o' with 0)
			continue;
		if (link >= reader->header_count || !reader->headers[link].section)
			return malformed_section(reader, i,
						 "is linked to section %u, which has no "
						 "content",
						 link);
		section->link = reader->headers[link].section;
	}
	return NULL;
}

/* ---- symbols ------------------------------------------------------------------------------ */

static struct error *find_symbol_table(struct reader *reader)
{
	for (size_t i = 1; i < reader->header_count; i++) {
		if (reader->headers[i].type != SHT_SYMTAB)
			continue;
		if (reader->symbol_table)
			return malformed_section(reader, i, "a second symbol table");
		reader->symbol_table = i;
	}
	if (!reader->symbol_table)
		return NULL;

	const struct header *table = &reader->headers[reader->symbol_table];
	if (table->entry_size != sizeof(Elf64_Sym) || table->size % sizeof(Elf64_Sym))
		return malformed_section(reader, reader->symbol_table,
					 "0x%" PRIx64 " bytes in entries of %" PRIu64
					 ", expected %zu",
					 table->size, table->entry_size, sizeof(Elf64_Sym));
	if (table->link == 0 || table->link >= reader->header_count)
		return malformed_section(reader, reader->symbol_table,
					 "its string table %u does not "
					 "exist",
					 table->link);
	TRY(read_strings(reader, table->link, &reader->symbol_names));
	reader->symbol_count = table->size / sizeof(Elf64_Sym);

	for (size_t i = 1; i < reader->header_count; i++) {
		const struct header *header = &reader->headers[i];
		if (header->type != SHT_SYMTAB_SHNDX || header->link != reader->symbol_table)
			continue;
		reader->extended = header->bytes;
		reader->extended_count = header->size / sizeof(Elf64_Word);
	}
	return NULL;
}

// The section of a symbol, or NULL with st_shndx in @ret_special. What lies in a section that is
// not listed has neither (@ret_listed).
static struct error *symbol_place(struct reader *reader, size_t number, const uint8_t *at,
				  struct object_section **ret, uint16_t *ret_special,
				  bool *ret_listed)
{
	uint64_t index = ELF_LOAD(at, Elf64_Sym, st_shndx, reader->big);
	*ret = NULL;
	*ret_special = 0;
	*ret_listed = true;
	if (index == SHN_XINDEX) {
		if (number >= reader->extended_count)
			return malformed_section(reader, reader->symbol_table,
						 "symbol %zu has its "
						 "section in an index table that ends before it",
						 number);
		index = elf_load(reader->extended + number * sizeof(Elf64_Word), sizeof(Elf64_Word),
				 reader->big);
	} else if (index >= OBJECT_SPECIAL_MIN || index == SHN_UNDEF) {
		*ret_special = (uint16_t)index;
		return NULL;
	}
	if (index == 0 || index >= reader->header_count)
		return malformed_section(reader, reader->symbol_table,
					 "symbol %zu lies in section "
					 "%" PRIu64 " of %zu",
					 number, index, reader->header_count);
	*ret = reader->headers[index].section;
	*ret_listed = *ret != NULL;
	return NULL;
}

static struct error *read_symbol(struct reader *reader, size_t number, const char **file)
{
	const struct header *table = &reader->headers[reader->symbol_table];
	const uint8_t *at = table->bytes + number * sizeof(Elf64_Sym);
	bool big = reader->big;

	uint64_t name_offset = ELF_LOAD(at, Elf64_Sym, st_name, big);
	const char *name = name_at(reader, &reader->symbol_names, name_offset);
	if (!name)
		return malformed_section(reader, reader->symbol_table,
					 "the name of symbol %zu at 0x%" PRIx64
					 " lies outside section %u",
					 number, name_offset, table->link);
	uint8_t info = (uint8_t)ELF_LOAD(at, Elf64_Sym, st_info, big);
	uint8_t other = (uint8_t)ELF_LOAD(at, Elf64_Sym, st_other, big);
	if (ELF64_ST_TYPE(info) == STT_FILE) {
		*file = *name ? name : NULL;
		return NULL;
	}

	struct object_section *section;
	uint16_t special;
	bool listed;
	TRY(symbol_place(reader, number, at, &section, &special, &listed));
	// gas puts the signature of a group that names no symbol into the group's own section; groups
	// are known by name here, and the writer makes that symbol again.
	if (!listed)
		return NULL;

	uint64_t value = ELF_LOAD(at, Elf64_Sym, st_value, big);
	uint64_t size = ELF_LOAD(at, Elf64_Sym, st_size, big);
	if (section && !range_within(value, size, section->size))
		return malformed_section(reader, section->index,
					 "symbol %zu \"%s\" at [0x%" PRIx64 ", +0x%" PRIx64
					 ") lies outside its 0x%" PRIx64 " bytes",
					 number, name, value, size, section->size);

	struct object_symbol *symbol = object_symbol_new(
		reader->object,
		ELF64_ST_TYPE(info) == STT_SECTION && section ? section->name : name);
	symbol->index = number;
	symbol->type = ELF64_ST_TYPE(info);
	symbol->bind = ELF64_ST_BIND(info);
	symbol->visibility = ELF64_ST_VISIBILITY(other);
	symbol->other = other & ~(uint8_t)3;
	symbol->value = value;
	symbol->size = size;
	symbol->section = section;
	symbol->special = special;
	symbol->file = symbol->bind == STB_LOCAL ? *file : NULL;
	reader->symbols[number] = symbol;
	if (section) {
		vec_push(&section->symbols, symbol);
		if (symbol->type == STT_SECTION && value == 0 && !section->section_symbol)
			section->section_symbol = symbol;
	}
	return NULL;
}

static struct error *read_symbols(struct reader *reader)
{
	TRY(find_symbol_table(reader));
	if (reader->symbol_count > 0) {
		reader->symbols = xcalloc(reader->symbol_count, sizeof(*reader->symbols));
		reader->symbols[0] = reader->object->null_symbol;
		const char *file = NULL;
		for (size_t i = 1; i < reader->symbol_count; i++)
			TRY(read_symbol(reader, i, &file));
	}
	struct object *object = reader->object;
	size_t number = reader->symbol_count;
	for (size_t i = 0; i < object->sections.count; i++) {
		struct object_section *section = object->sections.items[i];
		if (section->section_symbol)
			continue;
		object_section_symbol_make(section);
		section->section_symbol->index = number++;
	}
	return NULL;
}

/* ---- groups ------------------------------------------------------------------------------- */

static struct error *group_signature(struct reader *reader, size_t index, const char **ret)
{
	const struct header *header = &reader->headers[index];
	if (!reader->symbol_table || header->link != reader->symbol_table || header->info == 0 ||
	    header->info >= reader->symbol_count)
		return malformed_section(reader, index, "its signature, symbol %u, does not exist",
					 header->info);
	const struct object_symbol *symbol = reader->symbols[header->info];
	if (symbol) {
		*ret = symbol->name;
		return NULL;
	}
	const struct header *table = &reader->headers[reader->symbol_table];
	const uint8_t *at = table->bytes + header->info * sizeof(Elf64_Sym);
	*ret = name_at(reader, &reader->symbol_names,
		       ELF_LOAD(at, Elf64_Sym, st_name, reader->big));
	if (!*ret)
		return malformed_section(reader, index, "its signature, symbol %u, has no name",
					 header->info);
	return NULL;
}

static struct error *read_group(struct reader *reader, size_t index)
{
	struct object *object = reader->object;
	const struct header *header = &reader->headers[index];
	const size_t word = sizeof(Elf64_Word);
	if (header->size < word || header->size % word)
		return malformed_section(reader, index, "0x%" PRIx64 " bytes are not a group's",
					 header->size);
	struct object_group *group = arena_new(object->arena, struct object_group);
	TRY(group_signature(reader, index, &group->signature));
	group->comdat = elf_load(header->bytes, word, reader->big) & GRP_COMDAT;

	size_t count = header->size / word - 1;
	group->members = arena_array(object->arena, count, sizeof(*group->members));
	for (size_t i = 0; i < count; i++) {
		uint64_t member = elf_load(header->bytes + (i + 1) * word, word, reader->big);
		if (member == 0 || member >= reader->header_count)
			return malformed_section(reader, index,
						 "member %zu is section %" PRIu64 " of %zu", i,
						 member, reader->header_count);
		struct object_section *section = reader->headers[member].section;
		if (!section) // its relocations: the writer adds those again
			continue;
		if (section->group)
			return malformed_section(reader, index,
						 "member %zu, section %" PRIu64
						 ", is in another group or here twice",
						 i, member);
		section->group = group;
		group->members[group->member_count++] = section;
	}
	vec_push(&object->groups, group);
	return NULL;
}

/* ---- relocations -------------------------------------------------------------------------- */

// What stands in front of the target's name, NULL where that is ".rela" (or ".rel"), and also where
// the name says nothing about the target: it is not needed then.
static const char *relocation_set(struct reader *reader, size_t index, const char *target)
{
	const char *name = reader->headers[index].name;
	size_t length = strlen(name), target_length = strlen(target);
	if (length <= target_length || !string_ends_with(name, target))
		return NULL;
	size_t prefix = length - target_length;
	if ((prefix == 5 && memcmp(name, ".rela", 5) == 0) ||
	    (prefix == 4 && memcmp(name, ".rel", 4) == 0))
		return NULL;
	return arena_strndup(reader->object->arena, name, prefix);
}

static struct error *read_relocation(struct reader *reader, size_t index, size_t number,
				     struct object_section *section, struct object_relocation *ret)
{
	const struct header *header = &reader->headers[index];
	bool has_addend = header->type == SHT_RELA;
	const uint8_t *at = header->bytes + number * header->entry_size;
	// Elf64_Rel is Elf64_Rela without its last field.
	uint64_t info = ELF_LOAD(at, Elf64_Rela, r_info, reader->big);
	uint64_t symbol = ELF64_R_SYM(info);
	struct object_relocation relocation = {
		.offset = ELF_LOAD(at, Elf64_Rela, r_offset, reader->big),
		.type = (uint32_t)ELF64_R_TYPE(info),
	};

	const struct arch *arch = reader->object->arch;
	const struct arch_relocation *row = arch->relocation(relocation.type);
	if (!row)
		return malformed_section(reader, index,
					 "relocation %zu at 0x%" PRIx64 " is of type "
					 "%u, which %s does not have",
					 number, relocation.offset, relocation.type, arch->name);
	if (!range_within(relocation.offset, row->size, section->size))
		return malformed_section(reader, index,
					 "relocation %zu at 0x%" PRIx64 " (%s) lies "
					 "outside the 0x%" PRIx64 " bytes of section \"%s\"",
					 number, relocation.offset, row->name, section->size,
					 section->name);
	if (symbol == 0) {
		relocation.symbol = reader->object->null_symbol;
	} else if (symbol >= reader->symbol_count || !reader->symbols[symbol]) {
		return malformed_section(reader, index,
					 "relocation %zu at 0x%" PRIx64 " refers to "
					 "symbol %" PRIu64 ", which %s",
					 number, relocation.offset, symbol,
					 symbol >= reader->symbol_count ? "does not exist"
									: "has no place");
	} else {
		relocation.symbol = reader->symbols[symbol];
	}
	relocation.addend = has_addend ? (int64_t)ELF_LOAD(at, Elf64_Rela, r_addend, reader->big)
				       : (int64_t)arch_relocation_read(
						 arch, row, section->data + relocation.offset);
	*ret = relocation;
	return NULL;
}

static struct error *read_relocations(struct reader *reader, size_t index)
{
	const struct header *header = &reader->headers[index];
	size_t entry_size = header->type == SHT_RELA ? sizeof(Elf64_Rela) : sizeof(Elf64_Rel);
	if (header->entry_size != entry_size || header->size % entry_size)
		return malformed_section(reader, index,
					 "0x%" PRIx64 " bytes in entries of %" PRIu64
					 ", expected %zu",
					 header->size, header->entry_size, entry_size);
	if (header->info == 0 || header->info >= reader->header_count)
		return malformed_section(reader, index, "relocates section %u of %zu", header->info,
					 reader->header_count);
	const struct header *target = &reader->headers[header->info];
	if (target->left_out)
		return NULL;
	struct object_section *section = target->section;
	if (!section || (!section->data && header->size > 0))
		return malformed_section(reader, index,
					 "relocates section %u \"%s\", which has no "
					 "content",
					 header->info, target->name);
	if (header->size > 0 && (!reader->symbol_table || header->link != reader->symbol_table))
		return malformed_section(reader, index, "its symbol table %u does not exist",
					 header->link);

	size_t count = header->size / entry_size;
	size_t before = section->relocations.count;
	if (count == 0)
		return NULL;
	const char *set = relocation_set(reader, index, section->name);
	section->relocations.items =
		vec_grow(section->relocations.items, &section->relocations.capacity, before + count,
			 sizeof(*section->relocations.items));
	for (size_t i = 0; i < count; i++) {
		struct object_relocation *relocation = &section->relocations.items[before + i];
		TRY(read_relocation(reader, index, i, section, relocation));
		relocation->set = set;
		section->relocations.count++;
	}
	return NULL;
}

/* ---- the whole ---------------------------------------------------------------------------- */

// gcc -flto without -ffat-lto-objects marks an object that holds nothing but its own bytecode.
static struct error *check_lto(const struct reader *reader)
{
	if (!object_symbol_find(reader->object, "__gnu_lto_slim"))
		return NULL;
	return error_new(ERROR_KIND_UNSUPPORTED,
			 "%s: LTO bytecode of gcc, not machine code: compile it without -flto, or "
			 "with -ffat-lto-objects",
			 reader->name);
}

static void read_compiler(struct object *object)
{
	const struct object_section *comment = object_section_find(object, ".comment");
	if (!comment || !comment->data)
		return;
	uint64_t at = 0;
	while (at < comment->size && comment->data[at] == 0) // gas starts with an empty string
		at++;
	if (at < comment->size && memchr(comment->data + at, 0, comment->size - at))
		object->compiler = (const char *)comment->data + at;
}

static struct error *read_all(struct reader *reader)
{
	TRY(read_file_header(reader));
	TRY(read_headers(reader));
	// From here on every header lies in the file, has a name, and the contents are not more than it.
	TRY(read_sections(reader));
	TRY(read_symbols(reader));
	// From here on every section has its symbol, and every symbol lies in its section.
	for (size_t i = 1; i < reader->header_count; i++)
		if (reader->headers[i].type == SHT_GROUP)
			TRY(read_group(reader, i));
	for (size_t i = 1; i < reader->header_count; i++)
		if (reader->headers[i].type == SHT_RELA || reader->headers[i].type == SHT_REL)
			TRY(read_relocations(reader, i));
	object_index(reader->object);
	TRY(check_lto(reader));
	read_compiler(reader->object);
	return NULL;
}

struct error *object_read(const void *bytes, size_t size, const char *name, struct object **ret)
{
	_cleanup_object_ struct object *object = object_create(NULL, name);
	struct reader reader = {
		.bytes = bytes,
		.size = size,
		.name = object->path,
		.object = object,
		.names_left = size * NAMES_MAX,
	};
	struct error *error = read_all(&reader);
	free(reader.headers);
	free(reader.symbols);
	if (!error)
		*ret = take_ptr(object);
	return error;
}

struct error *object_open(const char *path, struct object **ret)
{
	_cleanup_free_ char *bytes = NULL;
	size_t size;
	TRY(file_read(path, &bytes, &size));
	return object_read(bytes, size, path, ret);
}
