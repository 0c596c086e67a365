/* SPDX-License-Identifier: MIT */
/*
 * What ld.so reads: the dynamic section, its symbols with versions, and dynamic relocations in all
 * their forms (RELA, PLT, RELR; in static files the IRELATIVE ones that only section headers name).
 *
 * Tables are found by DT_* addresses, as ld.so finds them: section headers may be gone or may lie.
 */
#include "image/internal.h"

#include <stdlib.h>
#include <string.h>

static struct error *malformed(const struct image *image, const char *what)
{
	return error_new(ERROR_KIND_INPUT, "'%s': %s is malformed or the file is truncated",
			 image->path, what);
}

/** A table at @address, translated as @type; NULL when it is not whole in the file. */
static Elf_Data *table(const struct image *image, Elf *elf, uint64_t address, uint64_t size,
		       Elf_Type type)
{
	uint64_t offset;
	if (size == 0 || !image_file_offset(image, address, size, &offset))
		return NULL;
	return image_chunk(elf, offset, size, type);
}

static const char *dynamic_string(const struct image *image, uint64_t offset)
{
	const struct image_dynamic *dynamic = &image_state(image)->dynamic;
	const uint8_t *strings = image_bytes(image, dynamic->strtab, dynamic->strsz);
	return image_table_string((const char *)strings, dynamic->strsz, offset);
}

static uint32_t word32(const struct image *image, const uint8_t *bytes)
{
	uint32_t word;
	memcpy(&word, bytes, 4);
	bool swap = (image->arch->elf_data == ELFDATA2MSB) != (__BYTE_ORDER == __BIG_ENDIAN);
	return swap ? __builtin_bswap32(word) : word;
}

/** Number of dynamic symbols by DT_GNU_HASH: the highest index that a chain reaches, plus one. */
static size_t gnu_hash_count(const struct image *image, uint64_t address)
{
	uint64_t left = image_bytes_left(image, address);
	const uint8_t *bytes = image_bytes(image, address, left);
	if (!bytes || left < 16)
		return 0;
	uint64_t buckets = word32(image, bytes), first = word32(image, bytes + 4);
	uint64_t bloom = word32(image, bytes + 8);
	uint64_t bucket_at = 16 + bloom * 8, chain_at = bucket_at + buckets * 4;
	if (chain_at > left)
		return 0;
	uint64_t last = 0;
	for (uint64_t i = 0; i < buckets; i++) {
		uint64_t index = word32(image, bytes + bucket_at + i * 4);
		last = index > last ? index : last;
	}
	// No symbol is hashed: all are imports, in front of `first`.
	if (last < first)
		return first;
	for (;; last++) {
		uint64_t at = chain_at + (last - first) * 4;
		if (!range_within(at, 4, left))
			return 0;
		if (word32(image, bytes + at) & 1)
			return last + 1;
	}
}

struct error *image_dynamic_read(struct image *image, Elf *elf, uint64_t address, uint64_t size)
{
	struct image_state *state = image->state;
	struct image_dynamic *dynamic = &state->dynamic;
	Elf_Data *data = table(image, elf, address, size - size % sizeof(Elf64_Dyn), ELF_T_DYN);
	if (!data)
		return malformed(image, "the dynamic section");
	dynamic->present = true;
	VEC(uint64_t) needed = {0};
	bool plt_is_rela = true;
	for (size_t i = 0; i < data->d_size / sizeof(Elf64_Dyn); i++) {
		GElf_Dyn entry;
		if (!gelf_getdyn(data, (int)i, &entry) || entry.d_tag == DT_NULL)
			break;
		uint64_t value = entry.d_un.d_val;
		switch (entry.d_tag) {
		case DT_NEEDED: vec_push(&needed, value); break;
		case DT_SONAME: dynamic->soname = value; dynamic->has_soname = true; break;
		case DT_STRTAB: dynamic->strtab = value; break;
		case DT_STRSZ: dynamic->strsz = value; break;
		case DT_SYMTAB: dynamic->symtab = value; break;
		case DT_HASH: dynamic->hash = value; break;
		case DT_GNU_HASH: dynamic->gnu_hash = value; break;
		case DT_RELA: dynamic->rela = value; break;
		case DT_RELASZ: dynamic->rela_size = value; break;
		case DT_JMPREL: dynamic->jmprel = value; break;
		case DT_PLTRELSZ: dynamic->jmprel_size = value; break;
		case DT_PLTREL: plt_is_rela = value == DT_RELA; break;
		case DT_RELR: dynamic->relr = value; break;
		case DT_RELRSZ: dynamic->relr_size = value; break;
		case DT_VERSYM: dynamic->versym = value; break;
		case DT_VERNEED: dynamic->verneed = value; break;
		case DT_VERNEEDNUM: dynamic->verneed_count = value; break;
		case DT_VERDEF: dynamic->verdef = value; break;
		case DT_VERDEFNUM: dynamic->verdef_count = value; break;
		case DT_FLAGS_1: dynamic->pie = value & DF_1_PIE; break;
		}
	}
	if (!plt_is_rela)
		dynamic->jmprel_size = 0; // REL: no 64-bit CPU that arch knows
	for (size_t i = 0; i < needed.count; i++) {
		const char *name = dynamic_string(image, needed.items[i]);
		if (!name) {
			vec_deinit(&needed);
			return malformed(image, "DT_NEEDED");
		}
		vec_push(&image->needed, name);
	}
	vec_deinit(&needed);
	if (dynamic->has_soname)
		image->soname = dynamic_string(image, dynamic->soname);

	if (!dynamic->symtab)
		return NULL;
	uint64_t left = image_bytes_left(image, dynamic->symtab) / sizeof(Elf64_Sym);
	const struct image_section *section = image_section_at(image, dynamic->symtab);
	uint8_t header[8];
	const uint8_t *hash = image_bytes(image, dynamic->hash, sizeof(header));
	if (section && section->type == SHT_DYNSYM && section->address == dynamic->symtab)
		dynamic->symbol_count = section->size / sizeof(Elf64_Sym);
	else if (dynamic->hash && hash)
		dynamic->symbol_count = word32(image, hash + 4); // nchain
	else if (dynamic->gnu_hash)
		dynamic->symbol_count = gnu_hash_count(image, dynamic->gnu_hash);
	if (dynamic->symbol_count > left)
		dynamic->symbol_count = left;
	return NULL;
}

// ---- symbols and their versions

static uint16_t word16(const struct image *image, const uint8_t *bytes)
{
	uint16_t word;
	memcpy(&word, bytes, 2);
	bool swap = (image->arch->elf_data == ELFDATA2MSB) != (__BYTE_ORDER == __BIG_ENDIAN);
	return swap ? __builtin_bswap16(word) : word;
}

// An index has 15 bits, so there are no more versions than that.
enum { VERSIONS_MAX = 0x8000 };

/** Names of all versions by index: of needed files and those that this file defines. */
static const char **versions_read(struct image *image)
{
	const struct image_dynamic *dynamic = &image_state(image)->dynamic;
	if (!dynamic->versym)
		return NULL;
	const char **names = arena_array(image->arena, VERSIONS_MAX, sizeof(*names));
	size_t budget = VERSIONS_MAX; // entries overlap at will in a hostile file
	uint64_t at = dynamic->verneed;
	const uint8_t *need;
	for (uint64_t i = 0; i < dynamic->verneed_count && (need = image_bytes(image, at, 16)); i++) {
		uint64_t entry = at + word32(image, need + 8);
		const uint8_t *aux;
		for (unsigned j = word16(image, need + 2); j && (aux = image_bytes(image, entry, 16)); j--) {
			if (budget-- == 0)
				return names;
			names[word16(image, aux + 6) & 0x7fff] =
				dynamic_string(image, word32(image, aux + 8));
			entry += word32(image, aux + 12);
		}
		if (budget-- == 0)
			return names;
		at += word32(image, need + 12);
	}
	at = dynamic->verdef;
	const uint8_t *definition;
	for (uint64_t i = 0;
	     i < dynamic->verdef_count && (definition = image_bytes(image, at, 20)); i++) {
		const uint8_t *aux = image_bytes(image, at + word32(image, definition + 12), 8);
		if (aux)
			names[word16(image, definition + 4) & 0x7fff] =
				dynamic_string(image, word32(image, aux));
		if (budget-- == 0)
			return names;
		at += word32(image, definition + 16);
	}
	return names;
}

struct error *image_dynamic_symbols_read(struct image *image, Elf *elf)
{
	struct image_state *state = image->state;
	struct image_dynamic *dynamic = &state->dynamic;
	state->versions = versions_read(image);
	if (dynamic->symbol_count == 0)
		return NULL;
	Elf_Data *data = table(image, elf, dynamic->symtab,
			       dynamic->symbol_count * sizeof(Elf64_Sym), ELF_T_SYM);
	if (!data)
		return malformed(image, "the dynamic symbol table");
	dynamic->symbols = data;
	for (size_t i = 1; i < dynamic->symbol_count; i++) {
		GElf_Sym symbol;
		if (!gelf_getsym(data, (int)i, &symbol))
			return malformed(image, "the dynamic symbol table");
		const char *name = dynamic_string(image, symbol.st_name);
		if (!name)
			return malformed(image, "a name in the dynamic symbol table");
		image_symbol_push(image, &symbol, name, NULL, IMAGE_SYMBOL_DYNAMIC);
	}
	return NULL;
}

// ---- relocations

static struct error *relocation_push(struct image *image, const GElf_Rela *rela)
{
	const struct image_dynamic *dynamic = &image_state(image)->dynamic;
	struct image_relocation relocation = {
		.address = rela->r_offset,
		.type = (uint32_t)GELF_R_TYPE(rela->r_info),
		.addend = rela->r_addend,
		.symbol = "",
	};
	size_t index = GELF_R_SYM(rela->r_info);
	if (index > 0) {
		GElf_Sym symbol;
		if (!dynamic->symbols || index >= dynamic->symbol_count ||
		    !gelf_getsym(dynamic->symbols, (int)index, &symbol))
			return malformed(image, "the symbol of a dynamic relocation");
		relocation.symbol = dynamic_string(image, symbol.st_name);
		if (!relocation.symbol)
			return malformed(image, "the symbol name of a dynamic relocation");
		relocation.symbol_defined = symbol.st_shndx != SHN_UNDEF;
		relocation.symbol_value = symbol.st_value;
		const uint8_t *version = image_bytes(image, dynamic->versym + index * 2, 2);
		// 0 and 1 are the unversioned local and global scopes.
		if (dynamic->versym && version && (word16(image, version) & 0x7fff) > 1)
			relocation.version =
				image_state(image)->versions[word16(image, version) & 0x7fff];
	}
	vec_push(&image->relocations, relocation);
	return NULL;
}

static struct error *rela_read(struct image *image, Elf *elf, uint64_t address, uint64_t size)
{
	size -= size % sizeof(Elf64_Rela);
	if (size == 0)
		return NULL;
	Elf_Data *data = table(image, elf, address, size, ELF_T_RELA);
	if (!data)
		return malformed(image, "the table of dynamic relocations");
	for (size_t i = 0; i < size / sizeof(Elf64_Rela); i++) {
		GElf_Rela rela;
		if (!gelf_getrela(data, (int)i, &rela))
			return malformed(image, "the table of dynamic relocations");
		TRY(relocation_push(image, &rela));
	}
	return NULL;
}

/*
 * DT_RELR (gABI, "Relative Relocation Table"): an even word is the address of a relocated word, each
 * bit of the odd words behind it one of the 63 words that follow.
 */
static struct error *relr_read(struct image *image, uint64_t address, uint64_t size)
{
	uint64_t next = 0, last = 0;
	for (uint64_t i = 0; i < size / 8; i++) {
		uint64_t entry;
		if (!image_word(image, address + i * 8, &entry))
			return malformed(image, "DT_RELR");
		bool bitmap = entry & 1;
		if (!bitmap) {
			next = entry;
			entry = 3;
		}
		for (unsigned bit = 1; bit < 64; bit++) {
			if (!(entry >> bit & 1))
				continue;
			uint64_t at = next + (bit - 1) * 8, addend;
			// Linkers sort; only so is the number of relocations bounded by the file.
			if (at <= last || !image_word(image, at, &addend))
				return malformed(image, "DT_RELR");
			last = at;
			vec_push(&image->relocations,
				 (struct image_relocation){
					 .address = at,
					 .type = image->arch->relocation_relative_dynamic,
					 .addend = (int64_t)addend,
					 .symbol = "",
				 });
		}
		next += bitmap ? 63 * 8 : 8;
	}
	return NULL;
}

static int compare_relocations(const void *a, const void *b)
{
	const struct image_relocation *x = a, *y = b;
	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return (x->type > y->type) - (x->type < y->type);
}

struct error *image_relocations_read(struct image *image, Elf *elf)
{
	struct image_state *state = image->state;
	const struct image_dynamic *dynamic = &state->dynamic;
	if (dynamic->present) {
		TRY(rela_read(image, elf, dynamic->rela, dynamic->rela_size));
		// DT_RELASZ may count the PLT's relocations too.
		if (!(dynamic->jmprel >= dynamic->rela &&
		      range_within(dynamic->jmprel - dynamic->rela, dynamic->jmprel_size,
				   dynamic->rela_size)))
			TRY(rela_read(image, elf, dynamic->jmprel, dynamic->jmprel_size));
		TRY(relr_read(image, dynamic->relr, dynamic->relr_size));
	} else {
		// A static executable applies its own IRELATIVE relocations, between two symbols.
		for (size_t i = 0; i < state->sections.count; i++) {
			const struct image_section *section = &state->sections.items[i];
			if (section->type == SHT_RELA)
				TRY(rela_read(image, elf, section->address, section->size));
		}
	}
	if (image->relocations.count > 0)
		qsort(image->relocations.items, image->relocations.count,
		      sizeof(image->relocations.items[0]), compare_relocations);
	for (size_t i = 0; i < image->relocations.count; i++) {
		struct image_relocation *relocation = &image->relocations.items[i];
		if (relocation->symbol[0] && !relocation->symbol_defined &&
		    !hashmap_get_string(state->imports, relocation->symbol))
			hashmap_set_string(state->imports, relocation->symbol, relocation);
	}
	return NULL;
}

const struct image_relocation *image_relocation_at(const struct image *image, uint64_t address)
{
	size_t low = 0, high = image->relocations.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (image->relocations.items[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == image->relocations.count || image->relocations.items[low].address != address)
		return NULL;
	return &image->relocations.items[low];
}

/*
 * A PLT entry is known by its `jmp *slot(%rip)` and the relocation of that slot. Layouts differ by
 * linker and by IBT: `jmp`; `endbr64; jmp` (.plt.sec); `endbr64; mov $index, %r11d; jmp` (mold).
 */
bool image_plt_slot(const struct image *image, uint64_t address, uint64_t *ret)
{
	if (image_area_at(image, address) !=
	    (image_state(image)->sections.count > 0 ? IMAGE_AREA_PLT : IMAGE_AREA_TEXT))
		return false;
	// Entries are 8 bytes (.plt.got) or 16; one between them would be somebody else's middle.
	if (address % 8)
		return false;
	bool landing = false;
	for (unsigned i = 0; i < 3; i++) {
		uint64_t left = image_bytes_left(image, address);
		const uint8_t *bytes = image_bytes(image, address, left);
		struct arch_instruction instruction;
		if (!bytes || !image->arch->decode(bytes, left > 16 ? 16 : left, address, &instruction))
			return false;
		if (instruction.flow == ARCH_FLOW_INDIRECT_JUMP && instruction.has_pcrel) {
			*ret = instruction.target;
			return true;
		}
		if (instruction.flow != ARCH_FLOW_NEXT || !(landing || instruction.is_landing_pad))
			return false;
		landing = true;
		address += instruction.length;
	}
	return false;
}

const struct image_relocation *image_plt_target(const struct image *image, uint64_t address)
{
	uint64_t slot;
	if (!image_plt_slot(image, address, &slot))
		return NULL;
	const struct image_relocation *relocation = image_relocation_at(image, slot);
	bool named = relocation && relocation->symbol[0];
	bool ifunc = relocation && relocation->type == image->arch->relocation_irelative;
	return named || ifunc ? relocation : NULL;
}
