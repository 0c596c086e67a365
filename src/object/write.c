// SPDX-License-Identifier: MIT
/*
 * Writing an object file, in passes: number the sections, number the symbols, lay out, store.
 *
 * Order in the file: groups in front (gABI, "Section Groups": before their members), then each
 * section with its relocation sections behind it, then the symbol table and the string tables. All
 * that is derived (SHF_GROUP, SHF_INFO_LINK, sh_link, st_shndx, the index table for more than 65,279
 * sections) is made here, so that the same graph gives the same bytes.
 */
#include <assert.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "object/internal.h"

// Alignment of contents in the file is a convenience for readers that map it; it is not copied from
// sections that ask for more than a page.
#define FILE_ALIGN_MAX 4096

struct output {
	const char *name;
	uint32_t type;
	uint64_t flags, align, entry_size;
	uint32_t link, info;
	const uint8_t *data; // NULL for SHT_NOBITS
	uint64_t size;
	uint64_t offset;
	uint64_t name_offset;
	// Of a relocation section: what it relocates, and which of its relocations it holds.
	const struct object_section *relocates;
	const char *set;
};

struct strings {
	struct buffer bytes;
	struct hashmap *offsets; // + 1, as a map holds no NULL
};

struct writer {
	struct object *object;
	bool big;
	struct arena *arena;
	VEC(struct output) outputs; // by section number
	size_t symbol_table;
	bool extended; // SHT_SYMTAB_SHNDX is needed
	struct buffer symbols;
	struct buffer extended_indexes;
	size_t symbol_count, local_count; // in the file
	struct strings symbol_names, section_names;
	size_t *group_numbers; // section number of each of object->groups
};

/* ---- strings ------------------------------------------------------------------------------ */

static void strings_init(struct strings *strings)
{
	strings->offsets = hashmap_create();
	buffer_append(&strings->bytes, "", 1);
	hashmap_set_string(strings->offsets, "", (void *)1);
}

static void strings_deinit(struct strings *strings)
{
	hashmap_free(strings->offsets);
	buffer_deinit(&strings->bytes);
}

// Remember that @string stands at @offset.
static void strings_note(struct strings *strings, const char *string, size_t offset)
{
	if (!hashmap_get_string(strings->offsets, string))
		hashmap_set_string(strings->offsets, string, (void *)(uintptr_t)(offset + 1));
}

static size_t strings_add(struct strings *strings, const char *string)
{
	uintptr_t known = (uintptr_t)hashmap_get_string(strings->offsets, string);
	if (known)
		return known - 1;
	size_t offset = strings->bytes.size;
	buffer_append(&strings->bytes, string, strlen(string) + 1);
	strings_note(strings, string, offset);
	return offset;
}

/* ---- sections ----------------------------------------------------------------------------- */

static size_t output_add(struct writer *writer, const char *name, uint32_t type, uint64_t flags,
			 uint64_t align)
{
	vec_push(&writer->outputs,
		 (struct output){.name = name, .type = type, .flags = flags, .align = align});
	return writer->outputs.count - 1;
}

static bool same_set(const char *a, const char *b)
{
	return a == b || (a && b && string_equal(a, b));
}

// One relocation section for each set, in the order of their first relocation; the plain one first.
static void number_relocations(struct writer *writer, struct object_section *section)
{
	VEC(const char *) sets = {0};
	for (size_t i = 0; i < section->relocations.count; i++) {
		const char *set = section->relocations.items[i].set;
		bool known = false;
		// From the end: neighbours are of one set as a rule.
		for (size_t k = sets.count; k-- > 0 && !known;)
			known = same_set(sets.items[k], set);
		if (known)
			continue;
		vec_push(&sets, set);
		if (!set && sets.count > 1) {
			memmove(sets.items + 1, sets.items, (sets.count - 1) * sizeof(*sets.items));
			sets.items[0] = NULL;
		}
	}
	for (size_t k = 0; k < sets.count; k++) {
		const char *name =
			arena_printf(writer->arena, "%s%s", sets.items[k] ? sets.items[k] : ".rela",
				     section->name);
		size_t number = output_add(writer, name, SHT_RELA,
					   SHF_INFO_LINK | (section->group ? SHF_GROUP : 0), 8);
		struct output *output = &writer->outputs.items[number];
		output->entry_size = sizeof(Elf64_Rela);
		output->info = (uint32_t)section->index;
		output->relocates = section;
		output->set = sets.items[k];
	}
	vec_deinit(&sets);
}

static void number_sections(struct writer *writer)
{
	struct object *object = writer->object;
	output_add(writer, "", SHT_NULL, 0, 0);
	for (size_t i = 0; i < object->groups.count; i++) {
		writer->group_numbers[i] = output_add(writer, ".group", SHT_GROUP, 0, 4);
		writer->outputs.items[writer->group_numbers[i]].entry_size = sizeof(Elf64_Word);
	}
	for (size_t i = 0; i < object->sections.count; i++) {
		struct object_section *section = object->sections.items[i];
		section->index = output_add(writer, section->name, section->type,
					    section->flags | (section->group ? SHF_GROUP : 0),
					    section->align);
		struct output *output = &writer->outputs.items[section->index];
		output->entry_size = section->entry_size;
		output->data = section->data;
		output->size = section->size;
		number_relocations(writer, section);
	}
	for (size_t i = 0; i < object->sections.count; i++) {
		const struct object_section *section = object->sections.items[i];
		if (section->link)
			writer->outputs.items[section->index].link = (uint32_t)section->link->index;
	}
	// Symbols lie in numbered sections only, and all of those are numbered now.
	writer->extended = writer->outputs.count > SHN_LORESERVE;
	writer->symbol_table = output_add(writer, ".symtab", SHT_SYMTAB, 0, 8);
	if (writer->extended)
		output_add(writer, ".symtab_shndx", SHT_SYMTAB_SHNDX, 0, 4);
	output_add(writer, ".strtab", SHT_STRTAB, 0, 1);
	output_add(writer, ".shstrtab", SHT_STRTAB, 0, 1);
}

/* ---- symbols ------------------------------------------------------------------------------ */

static void symbol_store(struct writer *writer, const char *name, uint8_t info, uint8_t other,
			 size_t section, uint16_t special, uint64_t value, uint64_t size)
{
	uint8_t bytes[sizeof(Elf64_Sym)] = {0};
	bool beyond = section >= SHN_LORESERVE;
	uint16_t index = section == 0 ? special : beyond ? SHN_XINDEX : (uint16_t)section;
	ELF_STORE(bytes, Elf64_Sym, st_name, writer->big, strings_add(&writer->symbol_names, name));
	ELF_STORE(bytes, Elf64_Sym, st_info, writer->big, info);
	ELF_STORE(bytes, Elf64_Sym, st_other, writer->big, other);
	ELF_STORE(bytes, Elf64_Sym, st_shndx, writer->big, index);
	ELF_STORE(bytes, Elf64_Sym, st_value, writer->big, value);
	ELF_STORE(bytes, Elf64_Sym, st_size, writer->big, size);
	buffer_append(&writer->symbols, bytes, sizeof(bytes));
	if (writer->extended) {
		uint8_t word[sizeof(Elf64_Word)];
		elf_store(word, sizeof(word), writer->big, beyond ? section : 0);
		buffer_append(&writer->extended_indexes, word, sizeof(word));
	}
	writer->symbol_count++;
}

static void object_symbol_store(struct writer *writer, struct object_symbol *symbol)
{
	symbol->index = writer->symbol_count;
	bool is_section = symbol->type == STT_SECTION && symbol->section;
	symbol_store(writer, is_section ? "" : symbol->name,
		     ELF64_ST_INFO(symbol->bind, symbol->type), symbol->visibility | symbol->other,
		     symbol->section ? symbol->section->index : 0, symbol->special, symbol->value,
		     symbol->size);
}

// Does anything need the symbol? Section symbols and unnamed locals exist for relocations only.
static bool is_needed(const struct object_symbol *symbol, const bool *used, size_t position)
{
	return used[position] || symbol->bind != STB_LOCAL ||
	       (symbol->type != STT_SECTION && *symbol->name);
}

static void number_symbols(struct writer *writer)
{
	struct object *object = writer->object;
	bool *used = xcalloc(object->symbols.count + 1, sizeof(*used));
	for (size_t i = 0; i < object->symbols.count; i++)
		object->symbols.items[i]->index = i;
	object->null_symbol->index = object->symbols.count;
	for (size_t i = 0; i < object->sections.count; i++) {
		const struct object_section *section = object->sections.items[i];
		for (size_t k = 0; k < section->relocations.count; k++) {
			const struct object_symbol *symbol = section->relocations.items[k].symbol;
			assert(symbol->object == object);
			used[symbol->index] = true;
		}
	}

	symbol_store(writer, "", 0, 0, 0, SHN_UNDEF, 0, 0);
	object->null_symbol->index = 0;
	const char *file = NULL;
	for (size_t i = 0; i < object->symbols.count; i++) {
		struct object_symbol *symbol = object->symbols.items[i];
		if (symbol->bind != STB_LOCAL || !is_needed(symbol, used, i))
			continue;
		if (!same_set(symbol->file, file)) {
			file = symbol->file;
			symbol_store(writer, file ? file : "", ELF64_ST_INFO(STB_LOCAL, STT_FILE),
				     STV_DEFAULT, 0, SHN_ABS, 0, 0);
		}
		object_symbol_store(writer, symbol);
	}
	for (size_t i = 0; i < object->groups.count; i++) {
		// What gas makes for a signature that names no symbol.
		if (!object_symbol_find(object, object->groups.items[i]->signature)) {
			writer->outputs.items[writer->group_numbers[i]].info =
				(uint32_t)writer->symbol_count;
			symbol_store(writer, object->groups.items[i]->signature,
				     ELF64_ST_INFO(STB_LOCAL, STT_NOTYPE), STV_DEFAULT,
				     writer->group_numbers[i], 0, 0, 0);
		}
	}
	writer->local_count = writer->symbol_count;
	for (size_t i = 0; i < object->symbols.count; i++)
		if (object->symbols.items[i]->bind != STB_LOCAL)
			object_symbol_store(writer, object->symbols.items[i]);
	free(used);
}

/* ---- tables ------------------------------------------------------------------------------- */

static void fill_relocations(struct writer *writer, struct output *output)
{
	const struct object_section *section = output->relocates;
	size_t count = 0;
	for (size_t i = 0; i < section->relocations.count; i++)
		count += same_set(section->relocations.items[i].set, output->set);

	uint8_t *bytes = arena_array(writer->arena, count, sizeof(Elf64_Rela));
	output->link = (uint32_t)writer->symbol_table;
	output->data = bytes;
	output->size = count * sizeof(Elf64_Rela);
	for (size_t i = 0; i < section->relocations.count; i++) {
		const struct object_relocation *relocation = &section->relocations.items[i];
		if (!same_set(relocation->set, output->set))
			continue;
		uint64_t info = ELF64_R_INFO((uint64_t)relocation->symbol->index, relocation->type);
		uint64_t addend = (uint64_t)relocation->addend;
		ELF_STORE(bytes, Elf64_Rela, r_offset, writer->big, relocation->offset);
		ELF_STORE(bytes, Elf64_Rela, r_info, writer->big, info);
		ELF_STORE(bytes, Elf64_Rela, r_addend, writer->big, addend);
		bytes += sizeof(Elf64_Rela);
	}
}

// A group lists its members and their relocation sections.
static void fill_group(struct writer *writer, size_t index)
{
	const struct object_group *group = writer->object->groups.items[index];
	struct output *output = &writer->outputs.items[writer->group_numbers[index]];
	VEC(size_t) words = {0};
	vec_push(&words, group->comdat ? GRP_COMDAT : 0);
	for (size_t i = 0; i < group->member_count; i++) {
		const struct object_section *member = group->members[i];
		vec_push(&words, member->index);
		for (size_t number = member->index + 1;
		     number < writer->outputs.count &&
		     writer->outputs.items[number].relocates == member;
		     number++)
			vec_push(&words, number);
	}

	uint8_t *bytes = arena_array(writer->arena, words.count, sizeof(Elf64_Word));
	for (size_t i = 0; i < words.count; i++)
		elf_store(bytes + i * sizeof(Elf64_Word), sizeof(Elf64_Word), writer->big,
			  words.items[i]);
	output->data = bytes;
	output->size = words.count * sizeof(Elf64_Word);
	output->link = (uint32_t)writer->symbol_table;
	const struct object_symbol *signature =
		object_symbol_find(writer->object, group->signature);
	if (signature)
		output->info = (uint32_t)signature->index;
	vec_deinit(&words);
}

static void fill_tables(struct writer *writer)
{
	for (size_t i = 0; i < writer->object->groups.count; i++)
		fill_group(writer, i);
	for (size_t i = 0; i < writer->outputs.count; i++)
		if (writer->outputs.items[i].relocates)
			fill_relocations(writer, &writer->outputs.items[i]);

	// A section's name is the tail of its relocation section's, which is behind it.
	for (size_t i = writer->outputs.count; i-- > 0;) {
		struct output *output = &writer->outputs.items[i];
		output->name_offset = strings_add(&writer->section_names, output->name);
		if (output->relocates)
			strings_note(&writer->section_names, output->relocates->name,
				     output->name_offset + strlen(output->name) -
					     strlen(output->relocates->name));
	}

	struct output *output = &writer->outputs.items[writer->symbol_table];
	output->data = (const uint8_t *)writer->symbols.bytes;
	output->size = writer->symbols.size;
	output->entry_size = sizeof(Elf64_Sym);
	output->info = (uint32_t)writer->local_count;
	output->link = (uint32_t)writer->outputs.count - 2;
	if (writer->extended) {
		output++;
		output->data = (const uint8_t *)writer->extended_indexes.bytes;
		output->size = writer->extended_indexes.size;
		output->entry_size = sizeof(Elf64_Word);
		output->link = (uint32_t)writer->symbol_table;
	}
	output++;
	output->data = (const uint8_t *)writer->symbol_names.bytes.bytes;
	output->size = writer->symbol_names.bytes.size;
	output++;
	output->data = (const uint8_t *)writer->section_names.bytes.bytes;
	output->size = writer->section_names.bytes.size;
}

/* ---- the file ----------------------------------------------------------------------------- */

// Offsets of the contents; returns where the section headers begin.
static uint64_t lay_out(struct writer *writer)
{
	uint64_t at = sizeof(Elf64_Ehdr);
	for (size_t i = 1; i < writer->outputs.count; i++) {
		struct output *output = &writer->outputs.items[i];
		uint64_t align = output->align < 1 ? 1 : output->align;
		at = align_up(at, align > FILE_ALIGN_MAX ? FILE_ALIGN_MAX : align);
		output->offset = at;
		if (output->type != SHT_NOBITS)
			at += output->size; // they are all in memory
	}
	return align_up(at, 8);
}

static void store_file_header(const struct writer *writer, uint8_t *bytes, uint64_t headers)
{
	const struct object *object = writer->object;
	bool big = writer->big;
	size_t count = writer->outputs.count;
	memcpy(bytes, ELFMAG, SELFMAG);
	bytes[EI_CLASS] = object->arch->elf_class;
	bytes[EI_DATA] = object->arch->elf_data;
	bytes[EI_VERSION] = EV_CURRENT;
	ELF_STORE(bytes, Elf64_Ehdr, e_type, big, ET_REL);
	ELF_STORE(bytes, Elf64_Ehdr, e_machine, big, object->arch->machine);
	ELF_STORE(bytes, Elf64_Ehdr, e_version, big, EV_CURRENT);
	ELF_STORE(bytes, Elf64_Ehdr, e_shoff, big, headers);
	ELF_STORE(bytes, Elf64_Ehdr, e_flags, big, object->elf_flags);
	ELF_STORE(bytes, Elf64_Ehdr, e_ehsize, big, sizeof(Elf64_Ehdr));
	ELF_STORE(bytes, Elf64_Ehdr, e_shentsize, big, sizeof(Elf64_Shdr));
	// gABI, "ELF Header": larger numbers stand in the first section header.
	uint8_t *first = bytes + headers;
	if (count >= SHN_LORESERVE)
		ELF_STORE(first, Elf64_Shdr, sh_size, big, count);
	else
		ELF_STORE(bytes, Elf64_Ehdr, e_shnum, big, count);
	if (count - 1 >= SHN_LORESERVE)
		ELF_STORE(first, Elf64_Shdr, sh_link, big, count - 1);
	ELF_STORE(bytes, Elf64_Ehdr, e_shstrndx, big,
		  count - 1 >= SHN_LORESERVE ? SHN_XINDEX : count - 1);
}

static void store_section(const struct writer *writer, const struct output *output, uint8_t *bytes,
			  uint8_t *header)
{
	bool big = writer->big;
	ELF_STORE(header, Elf64_Shdr, sh_name, big, output->name_offset);
	ELF_STORE(header, Elf64_Shdr, sh_type, big, output->type);
	ELF_STORE(header, Elf64_Shdr, sh_flags, big, output->flags);
	ELF_STORE(header, Elf64_Shdr, sh_offset, big, output->offset);
	ELF_STORE(header, Elf64_Shdr, sh_size, big, output->size);
	ELF_STORE(header, Elf64_Shdr, sh_link, big, output->link);
	ELF_STORE(header, Elf64_Shdr, sh_info, big, output->info);
	ELF_STORE(header, Elf64_Shdr, sh_addralign, big, output->align);
	ELF_STORE(header, Elf64_Shdr, sh_entsize, big, output->entry_size);
	if (output->type != SHT_NOBITS && output->size > 0)
		memcpy(bytes + output->offset, output->data, output->size);
}

static void write_all(struct writer *writer, uint8_t **ret, size_t *ret_size)
{
	number_sections(writer);
	// From here on section->index is the number in the file.
	number_symbols(writer);
	// From here on symbol->index is, too.
	fill_tables(writer);
	// From here on every section has its content.
	uint64_t headers = lay_out(writer);
	uint64_t size = headers + writer->outputs.count * sizeof(Elf64_Shdr);
	uint8_t *bytes = xcalloc(1, size);
	store_file_header(writer, bytes, headers);
	for (size_t i = 1; i < writer->outputs.count; i++)
		store_section(writer, &writer->outputs.items[i], bytes,
			      bytes + headers + i * sizeof(Elf64_Shdr));
	*ret = bytes;
	*ret_size = size;
}

struct error *object_write(struct object *object, uint8_t **ret, size_t *ret_size)
{
	struct writer writer = {
		.object = object,
		.big = object->arch->elf_data == ELFDATA2MSB,
		.arena = arena_create(),
	};
	writer.group_numbers =
		arena_array(writer.arena, object->groups.count, sizeof(*writer.group_numbers));
	strings_init(&writer.symbol_names);
	strings_init(&writer.section_names);
	write_all(&writer, ret, ret_size);
	strings_deinit(&writer.section_names);
	strings_deinit(&writer.symbol_names);
	buffer_deinit(&writer.extended_indexes);
	buffer_deinit(&writer.symbols);
	vec_deinit(&writer.outputs);
	arena_free(writer.arena);
	return NULL;
}

struct error *object_write_file(struct object *object, const char *path)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	size_t size;
	TRY(object_write(object, &bytes, &size));
	return file_write_atomic(path, bytes, size, 0644);
}
