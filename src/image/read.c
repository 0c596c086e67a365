/* SPDX-License-Identifier: MIT */
/*
 * The file itself: header, segments, sections, notes, areas.
 *
 * Everything is addressed as the running program would see it, so segments decide what bytes stand
 * at an address; section headers only say what they are. A file without section headers, which runs
 * as well, loses nothing but the finer areas.
 */
#include "image/internal.h"

#include <stdlib.h>
#include <string.h>

Elf_Data *image_chunk(Elf *elf, uint64_t offset, uint64_t size, Elf_Type type)
{
	if (size == 0 || offset > INT64_MAX || size > INT64_MAX)
		return NULL;
	Elf_Data *data = elf_getdata_rawchunk(elf, (int64_t)offset, size, type);
	return data && data->d_buf ? data : NULL;
}

const char *image_table_string(const char *table, uint64_t size, uint64_t offset)
{
	if (!table || offset >= size || !memchr(table + offset, 0, size - offset))
		return NULL;
	return table + offset;
}

static const struct image_segment *segment_at(const struct image *image, uint64_t address)
{
	for (size_t i = 0; i < image->segments.count; i++) {
		const struct image_segment *segment = &image->segments.items[i];
		if (address >= segment->address &&
		    address - segment->address < segment->memory_size)
			return segment;
	}
	return NULL;
}

bool image_file_offset(const struct image *image, uint64_t address, uint64_t size, uint64_t *ret)
{
	const struct image_segment *segment = segment_at(image, address);
	if (!segment || !range_within(address - segment->address, size, segment->file_size))
		return false;
	*ret = segment->file_offset + (address - segment->address);
	return true;
}

uint64_t image_bytes_left(const struct image *image, uint64_t address)
{
	const struct image_segment *segment = segment_at(image, address);
	if (!segment || address - segment->address >= segment->file_size)
		return 0;
	return segment->file_size - (address - segment->address);
}

const uint8_t *image_bytes(const struct image *image, uint64_t address, uint64_t size)
{
	uint64_t offset;
	if (!image_file_offset(image, address, size, &offset))
		return NULL;
	return (const uint8_t *)image_state(image)->file + offset;
}

static bool is_swapped(const struct image *image)
{
	return (image->arch->elf_data == ELFDATA2MSB) != (__BYTE_ORDER == __BIG_ENDIAN);
}

bool image_word(const struct image *image, uint64_t address, uint64_t *ret)
{
	const uint8_t *bytes = image_bytes(image, address, 8);
	if (!bytes)
		return false;
	uint64_t word;
	memcpy(&word, bytes, 8);
	*ret = is_swapped(image) ? __builtin_bswap64(word) : word;
	return true;
}

// ---- areas

const struct image_section *image_section_at(const struct image *image, uint64_t address)
{
	const struct image_state *state = image_state(image);
	size_t low = 0, high = state->sections.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (state->sections.items[middle].address <= address)
			low = middle + 1;
		else
			high = middle;
	}
	// Sections of a sane file do not overlap; of an insane one the nearest counts.
	if (low == 0)
		return NULL;
	const struct image_section *section = &state->sections.items[low - 1];
	return address - section->address < section->size ? section : NULL;
}

const char *image_section_name_at(const struct image *image, uint64_t address)
{
	const struct image_section *section = image_section_at(image, address);
	return section ? section->name : NULL;
}

static bool in_relro(const struct image *image, uint64_t address)
{
	return address >= image->relro_start && address < image->relro_end;
}

static enum image_area section_area(const struct image *image, const struct image_section *section)
{
	if (section->flags & SHF_TLS)
		return IMAGE_AREA_TLS;
	if (section->flags & SHF_EXECINSTR) {
		// .plt.sec: IBT; .plt.got: functions with a GOT slot already; .iplt: lld and gold
		bool plt = string_equal(section->name, ".plt") ||
			   string_starts_with(section->name, ".plt.") ||
			   string_equal(section->name, ".iplt");
		return plt ? IMAGE_AREA_PLT : IMAGE_AREA_TEXT;
	}
	if (string_equal(section->name, ".got") || string_starts_with(section->name, ".got."))
		return IMAGE_AREA_GOT;
	if (section->type == SHT_NOBITS)
		return IMAGE_AREA_BSS;
	if (section->flags & SHF_WRITE)
		return in_relro(image, section->address) ? IMAGE_AREA_RELRO : IMAGE_AREA_DATA;
	return IMAGE_AREA_RODATA;
}

enum image_area image_area_at(const struct image *image, uint64_t address)
{
	if (image_state(image)->sections.count > 0) {
		const struct image_section *section = image_section_at(image, address);
		return section ? section->area : IMAGE_AREA_NONE;
	}
	const struct image_segment *segment = segment_at(image, address);
	if (!segment)
		return IMAGE_AREA_NONE;
	if (segment->flags & PF_X)
		return IMAGE_AREA_TEXT;
	if (!(segment->flags & PF_W))
		return IMAGE_AREA_RODATA;
	if (address - segment->address >= segment->file_size)
		return IMAGE_AREA_BSS;
	if (image->tls_memory_size && address >= image->tls_address &&
	    address - image->tls_address < image->tls_file_size)
		return IMAGE_AREA_TLS;
	const struct image_relocation *relocation = image_relocation_at(image, address);
	if (relocation && (relocation->type == image->arch->relocation_glob_dat ||
			   relocation->type == image->arch->relocation_jump_slot))
		return IMAGE_AREA_GOT;
	return in_relro(image, address) ? IMAGE_AREA_RELRO : IMAGE_AREA_DATA;
}

size_t image_text_ranges(const struct image *image, const uint64_t (**ret)[2])
{
	const struct image_state *state = image_state(image);
	*ret = (const uint64_t(*)[2])state->text.items;
	return state->text.count;
}

static void text_add(struct image *image, uint64_t start, uint64_t end)
{
	struct image_state *state = image->state;
	if (state->text.count > 0 && start <= state->text.items[state->text.count - 1][1]) {
		uint64_t *last = state->text.items[state->text.count - 1];
		last[1] = end > last[1] ? end : last[1];
		return;
	}
	if (state->text.count == state->text.capacity)
		state->text.items = vec_grow(state->text.items, &state->text.capacity,
					     state->text.count + 1, sizeof(state->text.items[0]));
	state->text.items[state->text.count][0] = start;
	state->text.items[state->text.count][1] = end;
	state->text.count++;
}

static void text_collect(struct image *image)
{
	struct image_state *state = image->state;
	for (size_t i = 0; i < state->sections.count; i++) {
		const struct image_section *section = &state->sections.items[i];
		if (section->area == IMAGE_AREA_TEXT &&
		    image_bytes(image, section->address, section->size))
			text_add(image, section->address, section->address + section->size);
	}
	if (state->sections.count > 0)
		return;
	for (size_t i = 0; i < image->segments.count; i++) {
		const struct image_segment *segment = &image->segments.items[i];
		if (segment->flags & PF_X && segment->file_size)
			text_add(image, segment->address, segment->address + segment->file_size);
	}
}

// ---- notes

static uint32_t note_word(const uint8_t *bytes, bool swap)
{
	uint32_t word;
	memcpy(&word, bytes, 4);
	return swap ? __builtin_bswap32(word) : word;
}

void image_notes_build_id(const uint8_t *notes, uint64_t size, uint64_t align, bool swap,
			  struct build_id *ret)
{
	// gABI says 8 for 64-bit files; all but .note.gnu.property use 4.
	align = align == 8 ? 8 : 4;
	for (uint64_t at = 0; range_within(at, 12, size);) {
		uint32_t name_size = note_word(notes + at, swap);
		uint32_t content_size = note_word(notes + at + 4, swap);
		uint32_t type = note_word(notes + at + 8, swap);
		uint64_t name = at + 12;
		uint64_t content = align_up(name + name_size, align);
		if (!range_within(name, name_size, size) ||
		    !range_within(content, content_size, size))
			return;
		if (type == NT_GNU_BUILD_ID && name_size == 4 &&
		    memcmp(notes + name, "GNU", 4) == 0 && content_size > 0 &&
		    content_size <= sizeof(ret->bytes)) {
			memcpy(ret->bytes, notes + content, content_size);
			ret->size = content_size;
			return;
		}
		at = align_up(content + content_size, align);
	}
}

// ---- headers

static int compare_segments(const void *a, const void *b)
{
	const struct image_segment *x = a, *y = b;
	return (x->address > y->address) - (x->address < y->address);
}

static struct error *malformed(const struct image *image, const char *what, uint64_t number)
{
	return error_new(ERROR_KIND_INPUT, "'%s': %s %llu is malformed or the file is truncated",
			 image->path, what, (unsigned long long)number);
}

struct headers {
	uint64_t dynamic, dynamic_size;
};

static struct error *segments_read(struct image *image, Elf *elf, struct headers *headers)
{
	struct image_state *state = image->state;
	size_t count;
	if (elf_getphdrnum(elf, &count) < 0)
		return malformed(image, "program header", 0);
	for (size_t i = 0; i < count; i++) {
		GElf_Phdr header;
		if (!gelf_getphdr(elf, (int)i, &header))
			return malformed(image, "program header", i);
		uint64_t end;
		if (!checked_add(header.p_vaddr, header.p_memsz, &end))
			return malformed(image, "program header", i);
		switch (header.p_type) {
		case PT_LOAD:
			if (!range_within(header.p_offset, header.p_filesz, state->file_size) ||
			    header.p_filesz > header.p_memsz)
				return malformed(image, "program header", i);
			vec_push(&image->segments,
				 (struct image_segment){
					 .address = header.p_vaddr,
					 .memory_size = header.p_memsz,
					 .file_offset = header.p_offset,
					 .file_size = header.p_filesz,
					 .flags = header.p_flags,
				 });
			break;
		case PT_DYNAMIC:
			headers->dynamic = header.p_vaddr;
			headers->dynamic_size = header.p_memsz;
			break;
		case PT_INTERP:
			state->interp = true;
			break;
		case PT_TLS:
			if (header.p_filesz > header.p_memsz ||
			    (header.p_align & (header.p_align - 1)))
				return malformed(image, "program header", i);
			image->tls_address = header.p_vaddr;
			image->tls_file_size = header.p_filesz;
			image->tls_memory_size = header.p_memsz;
			image->tls_align = header.p_align ? header.p_align : 1;
			break;
		case PT_GNU_RELRO:
			image->relro_start = header.p_vaddr;
			image->relro_end = end;
			break;
		case PT_GNU_EH_FRAME:
			image->eh_frame_hdr = header.p_vaddr;
			image->eh_frame_hdr_size = header.p_memsz;
			break;
		case PT_NOTE:
			if (image->build_id.size == 0 &&
			    range_within(header.p_offset, header.p_filesz, state->file_size))
				image_notes_build_id((uint8_t *)state->file + header.p_offset,
						     header.p_filesz, header.p_align,
						     is_swapped(image), &image->build_id);
			break;
		}
	}
	if (image->segments.count == 0)
		return error_new(ERROR_KIND_INPUT, "'%s' has no loadable segment", image->path);
	qsort(image->segments.items, image->segments.count, sizeof(image->segments.items[0]),
	      compare_segments);
	return NULL;
}

static int compare_sections(const void *a, const void *b)
{
	const struct image_section *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return (x->size > y->size) - (x->size < y->size);
}

/** .comment: strings one after the other, each tool's once. */
static void comment_read(struct image *image, const char *bytes, uint64_t size)
{
	_cleanup_buffer_ struct buffer text = {0};
	for (uint64_t at = 0; at < size;) {
		size_t length = strnlen(bytes + at, size - at);
		// A linker merges equal strings; those of `ld -r` may still repeat.
		if (length > 0 && !(text.size > 0 && memmem(text.bytes, text.size, bytes + at, length))) {
			if (text.size > 0)
				buffer_puts(&text, "; ");
			buffer_append(&text, bytes + at, length);
		}
		at += length + 1;
	}
	if (text.size > 0)
		image->compiler = arena_strndup(image->arena, text.bytes, text.size);
}

static struct error *sections_read(struct image *image, Elf *elf)
{
	struct image_state *state = image->state;
	size_t count, names;
	if (elf_getshdrnum(elf, &count) < 0)
		return malformed(image, "section header", 0);
	if (count == 0)
		return NULL;
	const char *table = NULL;
	uint64_t table_size = 0;
	GElf_Shdr header;
	Elf_Scn *scn;
	if (elf_getshdrstrndx(elf, &names) == 0 && (scn = elf_getscn(elf, names)) &&
	    gelf_getshdr(scn, &header) && header.sh_type != SHT_NOBITS &&
	    range_within(header.sh_offset, header.sh_size, state->file_size)) {
		table = state->file + header.sh_offset;
		table_size = header.sh_size;
	}
	for (size_t i = 1; i < count; i++) {
		scn = elf_getscn(elf, i);
		uint64_t end;
		if (!scn || !gelf_getshdr(scn, &header) ||
		    !checked_add(header.sh_addr, header.sh_size, &end) ||
		    (header.sh_type != SHT_NOBITS &&
		     !range_within(header.sh_offset, header.sh_size, state->file_size)))
			return malformed(image, "section header", i);
		const char *name = image_table_string(table, table_size, header.sh_name);
		name = name ? name : "";
		if (!(header.sh_flags & SHF_ALLOC)) {
			if (string_equal(name, ".comment") && header.sh_type == SHT_PROGBITS &&
			    !(header.sh_flags & SHF_COMPRESSED))
				comment_read(image, state->file + header.sh_offset, header.sh_size);
			continue;
		}
		if (string_equal(name, ".eh_frame")) {
			image->eh_frame = header.sh_addr;
			image->eh_frame_size = header.sh_size;
		}
		// .tbss takes no room: the addresses it names belong to what follows it.
		if (header.sh_size == 0 ||
		    (header.sh_type == SHT_NOBITS && header.sh_flags & SHF_TLS))
			continue;
		struct image_section section = {
			.name = name,
			.address = header.sh_addr,
			.size = header.sh_size,
			.offset = header.sh_offset,
			.align = header.sh_addralign,
			.flags = header.sh_flags,
			.type = header.sh_type,
		};
		section.area = section_area(image, &section);
		vec_push(&state->sections, section);
	}
	if (state->sections.count > 0)
		qsort(state->sections.items, state->sections.count,
		      sizeof(state->sections.items[0]), compare_sections);
	return NULL;
}

/** Without section headers .eh_frame is found by its search table and measured record by record. */
static void eh_frame_find(struct image *image)
{
	// LSB core, "DWARF Extensions": version 1, three encodings, then the pointer to .eh_frame;
	// all linkers encode it as DW_EH_PE_pcrel | DW_EH_PE_sdata4.
	const uint8_t *header = image_bytes(image, image->eh_frame_hdr, 8);
	if (image->eh_frame_size || !image->eh_frame_hdr_size || !header || header[0] != 1 ||
	    header[1] != 0x1b)
		return;
	bool swap = is_swapped(image);
	uint64_t start = image->eh_frame_hdr + 4 + (uint64_t)(int64_t)(int32_t)note_word(header + 4, swap);
	uint64_t left = image_bytes_left(image, start);
	const uint8_t *bytes = image_bytes(image, start, left);
	uint64_t at = 0;
	while (bytes && range_within(at, 4, left)) {
		uint32_t size = note_word(bytes + at, swap);
		// 0xffffffff would be the 64-bit form, which no compiler writes here.
		if (size == 0xffffffff || !range_within(at + 4, size, left))
			break;
		at += 4 + (uint64_t)size;
		if (size == 0)
			break;
	}
	if (at > 0) {
		image->eh_frame = start;
		image->eh_frame_size = at;
	}
}

/** Which debug file to read symbols from. */
struct debug_choice {
	bool search;
	const char *path; /* or NULL */
};

static struct error *read_all(struct image *image, Elf *elf, struct debug_choice debug)
{
	GElf_Ehdr header;
	if (elf_kind(elf) != ELF_K_ELF || !gelf_getehdr(elf, &header))
		return error_new(ERROR_KIND_INPUT, "'%s' is not an ELF file", image->path);
	if (header.e_type != ET_EXEC && header.e_type != ET_DYN)
		return error_new(ERROR_KIND_INPUT,
				 "'%s' is %s; expected an executable or a shared library",
				 image->path,
				 header.e_type == ET_REL    ? "a relocatable object"
				 : header.e_type == ET_CORE ? "a core file"
							    : "an ELF file of another type");
	image->arch = arch_find(header.e_machine, header.e_ident[EI_CLASS], header.e_ident[EI_DATA]);
	if (!image->arch)
		return error_new(ERROR_KIND_UNSUPPORTED, "'%s' is for a CPU (ELF machine %u) that is not supported",
				 image->path, header.e_machine);
	image->type = header.e_type;
	image->entry = header.e_entry;
	// libelf takes a table that is cut off for one that is not there.
	uint64_t size = image_state(image)->file_size;
	if (!range_within(header.e_phoff, (uint64_t)header.e_phnum * header.e_phentsize, size))
		return malformed(image, "program header", header.e_phnum);
	if (header.e_shoff &&
	    !range_within(header.e_shoff,
			  (uint64_t)(header.e_shnum ? header.e_shnum : 1) * sizeof(Elf64_Shdr), size))
		return malformed(image, "section header", header.e_shnum);

	struct headers headers = {0};
	TRY(segments_read(image, elf, &headers));
	TRY(sections_read(image, elf));
	text_collect(image);
	// From here on, addresses can be asked about.
	if (headers.dynamic_size)
		TRY(image_dynamic_read(image, elf, headers.dynamic, headers.dynamic_size));
	TRY(image_dynamic_symbols_read(image, elf));
	TRY(image_relocations_read(image, elf));
	eh_frame_find(image);

	const struct image_state *state = image->state;
	// A static PIE looks like a shared library without DT_NEEDED, but for DF_1_PIE.
	bool executable = image->type == ET_EXEC || state->dynamic.pie || state->interp;
	image->static_linked = executable && !state->interp && image->needed.count == 0;

	bool found;
	TRY(image_symtab_read(image, elf, image->path, IMAGE_SYMBOL_SYMTAB, &found));
	if (debug.path || (!found && debug.search))
		TRY(image_debug_read(image, elf, debug.path));
	image_symbols_index(image);
	return NULL;
}

/** Takes @file over, also on failure. */
static struct error *image_make(char *file, size_t size, const char *path, struct debug_choice debug,
				struct image **ret)
{
	elf_version(EV_CURRENT);
	struct arena *arena = arena_create();
	_cleanup_image_ struct image *image = arena_new(arena, struct image);
	struct image_state *state = arena_new(arena, struct image_state);
	image->arena = arena;
	image->path = arena_strdup(arena, path);
	image->name = arena_strdup(arena, path_basename(path));
	image->state = state;
	state->file = file;
	state->file_size = size;
	state->imports = hashmap_create();

	Elf *elf = elf_memory(file, size);
	if (!elf)
		return error_new(ERROR_KIND_INPUT, "'%s' is not an ELF file", path);
	struct error *error = read_all(image, elf, debug);
	elf_end(elf);
	TRY(error);
	// It went with its Elf.
	state->dynamic.symbols = NULL;
	*ret = take_ptr(image);
	return NULL;
}

struct error *image_open(const char *path, const char *debug, struct image **ret)
{
	char *file = NULL;
	size_t size;
	TRY(file_read(path, &file, &size));
	return image_make(file, size, path, (struct debug_choice){.search = true, .path = debug}, ret);
}

struct error *image_read(const void *bytes, size_t size, const char *name, struct image **ret)
{
	return image_make(xmemdup(bytes, size), size, name, (struct debug_choice){0}, ret);
}

void image_free(struct image *image)
{
	if (!image)
		return;
	struct image_state *state = image->state;
	vec_deinit(&image->segments);
	vec_deinit(&image->symbols);
	vec_deinit(&image->relocations);
	vec_deinit(&image->needed);
	vec_deinit(&state->sections);
	vec_deinit(&state->text);
	hashmap_free(state->by_name);
	hashmap_free(state->imports);
	image_index_free(state->index);
	free(state->file);
	arena_free(image->arena);
}

void image_cleanup(struct image **image)
{
	image_free(*image);
}
