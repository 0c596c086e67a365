/* SPDX-License-Identifier: MIT */
/*
 * Comparing bytes, and what relocated fields tell.
 *
 * A field that the linker filled in says where its symbol lies. The first one that does so is
 * remembered, all others must agree, and the place must be of the symbol's kind: code in text,
 * .bss in .bss, a string equal to the object's string. So the object's own sections become known
 * (.data + 24 tells where all of this object's .data is), then what they refer to, and so on.
 *
 * Everything learnt goes through the trail: a guess that fails is taken back whole.
 */
#include "image/match.h"

#include <string.h>

void match_undo(struct match_state *state, size_t mark)
{
	while (state->trail.count > mark) {
		state->trail.count--;
		*state->trail.items[state->trail.count].place =
			state->trail.items[state->trail.count].old;
	}
}

static void trail_push(struct match_state *state, struct match_place *place)
{
	vec_push(&state->trail, (__typeof__(state->trail.items[0])){.place = place, .old = *place});
}

/** Record, or agree with what is recorded. */
static bool place_set(struct match_state *state, struct match_place *place,
		      const struct match_place *value)
{
	if (place->known)
		return place->kind == value->kind && place->value == value->value &&
		       (place->kind != IMAGE_PLACE_IMPORT ||
			string_equal(place->import->symbol, value->import->symbol));
	trail_push(state, place);
	*place = *value;
	place->known = true;
	return true;
}

static bool is_merged(const struct object_section *section)
{
	return section->flags & SHF_MERGE && section->entry_size > 0;
}

/** May @section of the object stand at @base, as far as kinds go? */
static bool area_fits(const struct match_state *state, const struct object_section *section,
		      uint64_t base)
{
	const struct image *image = state->image;
	if (section->size == 0)
		return true;
	uint64_t last;
	if (!checked_add(base, section->size - 1, &last))
		return false;
	if (object_section_is_tls(section))
		return range_within(base, section->size, image->tls_memory_size);
	enum image_area area = image_area_at(image, base);
	if (area != image_area_at(image, last))
		return false;
	if (object_section_is_text(section))
		return area == IMAGE_AREA_TEXT;
	if (section->type == SHT_NOBITS)
		return area == IMAGE_AREA_BSS;
	if (section->flags & SHF_WRITE)
		return area == IMAGE_AREA_DATA || area == IMAGE_AREA_RELRO;
	// Without section headers, read-only data beside code looks like code.
	return area == IMAGE_AREA_RODATA || area == IMAGE_AREA_RELRO ||
	       (area == IMAGE_AREA_TEXT && image_state(image)->sections.count == 0);
}

bool match_section_place(struct match_state *state, const struct object_section *section,
			 uint64_t base, const struct object_section *from, uint64_t offset)
{
	struct match_place *place = &state->sections[section->index];
	bool tls = object_section_is_tls(section);
	struct match_place value = {
		.kind = tls ? IMAGE_PLACE_TLS : IMAGE_PLACE_ADDRESS,
		.value = base,
		.section = from,
		.offset = offset,
	};
	if (!place->known && !area_fits(state, section, base))
		return false;
	bool news = !place->known;
	if (!place_set(state, place, &value))
		return false;
	if (news && section->data && !object_section_is_text(section) &&
	    !state->compared[section->index])
		vec_push(&state->reached, section);
	return true;
}

/** The name must be at that address, where the target has the name at all. */
static bool name_agrees(const struct match_state *state, const struct object_symbol *symbol,
			uint64_t address)
{
	const struct image_symbol **named;
	size_t count = image_symbols_named(state->image, symbol->name, &named);
	bool elsewhere = false;
	for (size_t i = 0; i < count; i++) {
		if (named[i]->type != STT_TLS && named[i]->address == address)
			return true;
		// A local one may be another object's; or this one, which was hidden.
		elsewhere |= named[i]->bind != STB_LOCAL;
	}
	return !elsewhere;
}

/** A merged string or constant: equal by content. */
static bool content_equal(const struct match_state *state, const struct object_section *section,
			  uint64_t offset, uint64_t address)
{
	if (offset >= section->size || !section->data)
		return false;
	uint64_t unit = section->entry_size, size = unit - offset % unit;
	if (section->flags & SHF_STRINGS) {
		// Up to and with its NUL, which has the width of a character.
		static const uint8_t zero[16];
		if (unit > sizeof(zero))
			return false;
		uint64_t end = offset;
		while (range_within(end, unit, section->size) &&
		       memcmp(section->data + end, zero, unit) != 0)
			end += unit;
		size = end + unit - offset;
	}
	if (!range_within(offset, size, section->size))
		return false;
	const uint8_t *bytes = image_bytes(state->image, address, size);
	return bytes && memcmp(bytes, section->data + offset, size) == 0;
}

/** What a field says, on its way to being checked. */
struct field {
	const struct object_section *section;
	const struct object_relocation *relocation;
	const struct arch_relocation *row;
	struct match_failure *failure;
};

static bool refuse(struct match_state *state, const struct field *field, const char *format, ...)
	PRINTF(3, 4);
static bool refuse(struct match_state *state, const struct field *field, const char *format, ...)
{
	if (field->failure) {
		va_list args;
		va_start(args, format);
		char *text = xvasprintf(format, args);
		va_end(args);
		field->failure->why = arena_strdup(state->arena, text);
		cleanup_free(&text);
	}
	return false;
}

static bool symbol_set(struct match_state *state, const struct field *field, uint8_t kind,
		       uint64_t value, const struct image_relocation *import)
{
	const struct object_symbol *symbol = field->relocation->symbol;
	struct match_place place = {
		.kind = kind,
		.value = value,
		.import = import,
		.section = field->section,
		.offset = field->relocation->offset,
	};
	struct match_place *known = &state->symbols[symbol->index];
	/*
	 * A weak symbol that nobody defined is 0, or an import that ld.so may find or not; a linker may
	 * take it for one at a call and for the other where its address is asked for.
	 */
	if (symbol->bind == STB_WEAK && !symbol->section && known->known &&
	    known->kind != place.kind) {
		bool zero = kind == IMAGE_PLACE_ADDRESS && value == 0;
		bool was_zero = known->kind == IMAGE_PLACE_ADDRESS && known->value == 0;
		if (zero)
			return true;
		if (was_zero) {
			trail_push(state, known);
			known->known = false;
		}
	}
	if (place_set(state, known, &place))
		return true;
	return refuse(state, field, "'%s' lies at 0x%llx here, elsewhere at 0x%llx", symbol->name,
		      (unsigned long long)value,
		      (unsigned long long)state->symbols[symbol->index].value);
}

/** The section of function @symbol would start at @base by a reference to it: a place of its own. */
static bool function_set(struct match_state *state, const struct field *field,
			 const struct object_symbol *symbol, uint64_t base)
{
	if (!symbol || !object_symbol_is_function(symbol))
		return true;
	struct match_place place = {
		.kind = IMAGE_PLACE_ADDRESS,
		.value = base + symbol->value,
		.section = field->section,
		.offset = field->relocation ? field->relocation->offset : 0,
	};
	if (image_area_at(state->image, place.value) == IMAGE_AREA_TEXT &&
	    place_set(state, &state->symbols[symbol->index], &place))
		return true;
	return refuse(state, field, "'%s' lies at 0x%llx here, elsewhere at 0x%llx", symbol->name,
		      (unsigned long long)place.value,
		      (unsigned long long)state->symbols[symbol->index].value);
}

static bool is_local(const struct object_symbol *symbol)
{
	return symbol->bind == STB_LOCAL;
}

static bool defined_at(struct match_state *state, const struct field *field, uint64_t address);
static bool tls_offset_is(struct match_state *state, const struct field *field, uint64_t offset);

/** The slot or PLT entry that a dynamic relocation fills by name must be of this symbol. */
static bool import_is(struct match_state *state, const struct field *field,
		      const struct image_relocation *relocation)
{
	const struct object_symbol *symbol = field->relocation->symbol;
	// mold names local symbols in TLS descriptors.
	if (is_local(symbol) && symbol->section && relocation->symbol_defined &&
	    string_equal(symbol->name, relocation->symbol))
		return object_section_is_tls(symbol->section)
			       ? tls_offset_is(state, field, relocation->symbol_value)
			       : defined_at(state, field, relocation->symbol_value);
	if (is_local(symbol) || !string_equal(symbol->name, relocation->symbol))
		return refuse(state, field, "expected '%s', found '%s'", symbol->name,
			      relocation->symbol);
	return symbol_set(state, field, IMAGE_PLACE_IMPORT, 0, relocation);
}

/**
 * Another object's copy of a COMDAT function refers to that object's local data and code, so the
 * place tells nothing of ours: it must be of the same kind and, as far as it is constant, equal.
 */
static bool foreign_equal(struct match_state *state, const struct field *field, uint64_t address)
{
	const struct object_symbol *symbol = field->relocation->symbol;
	struct object_section *section;
	uint64_t offset;
	if (!object_relocation_target(field->section, field->relocation, &section, &offset))
		return false;
	uint64_t at = address - symbol->value + offset;
	if (!area_fits(state, section, at - offset) && section->type != SHT_NOBITS) {
		// Ours may be larger than theirs, so only the place that is meant counts.
		enum image_area area = image_area_at(state->image, at);
		bool writable = area == IMAGE_AREA_DATA || area == IMAGE_AREA_BSS;
		if (area == IMAGE_AREA_NONE || writable != !!(section->flags & SHF_WRITE))
			return refuse(state, field, "0x%llx is no place for '%s'",
				      (unsigned long long)at, section->name);
	}
	if (!object_section_is_readonly(section) || offset >= section->size)
		return true;
	const struct object_symbol *datum = object_symbol_covering(section, offset);
	uint64_t end = datum ? datum->value + datum->size : section->size;
	if (!datum) {
		// An unnamed constant or string: up to its NUL, or 16 bytes, the largest constant.
		const uint8_t *nul = memchr(section->data + offset, 0, section->size - offset);
		uint64_t text = nul ? (uint64_t)(nul - section->data) + 1 : section->size;
		end = text > offset + 1 ? text : offset + 16 < section->size ? offset + 16 : section->size;
	}
	end = end < section->size ? end : section->size;
	size_t count;
	object_relocations_in(section, offset, end, &count);
	const uint8_t *bytes = image_bytes(state->image, at, end - offset);
	return count > 0 || (bytes && memcmp(bytes, section->data + offset, end - offset) == 0) ||
	       refuse(state, field, "the content at 0x%llx is another", (unsigned long long)at);
}

/** A symbol defined in the object, outside merged sections, lies at @address. */
static bool defined_at(struct match_state *state, const struct field *field, uint64_t address)
{
	const struct object_symbol *symbol = field->relocation->symbol;
	const struct object_section *section = symbol->section;
	struct match_unit *unit = state->unit_of[section->index];
	if (state->foreign && is_local(symbol) && section->group != state->foreign)
		return foreign_equal(state, field, address);
	if (!is_local(symbol) && !name_agrees(state, symbol, address))
		return refuse(state, field, "the symbol table has '%s' elsewhere than at 0x%llx",
			      symbol->name, (unsigned long long)address);
	if (unit && unit->scattered) {
		// The functions of this section may have moved apart, so each speaks for itself.
		if (symbol->type != STT_SECTION)
			return image_area_at(state->image, address) != IMAGE_AREA_TEXT
				       ? refuse(state, field, "0x%llx is not in text",
						(unsigned long long)address)
				       : symbol_set(state, field, IMAGE_PLACE_ADDRESS, address, NULL);
		struct object_section *target;
		uint64_t offset;
		object_relocation_target(field->section, field->relocation, &target, &offset);
		return function_set(state, field, object_symbol_covering(section, offset), address);
	}
	/*
	 * A definition in this object need not be the one that the program uses: another object's may
	 * have won (COMDAT, weak). Code is then found by its own means or by this hint; COMDAT data is
	 * the winner's for all.
	 */
	if (!is_local(symbol) && (section->group ? unit != NULL : symbol->bind == STB_WEAK)) {
		enum image_area area = image_area_at(state->image, address);
		if (unit && area != IMAGE_AREA_TEXT)
			return refuse(state, field, "0x%llx is not in text",
				      (unsigned long long)address);
		return symbol_set(state, field, IMAGE_PLACE_ADDRESS, address, NULL);
	}
	uint64_t base = address - symbol->value;
	if (match_section_place(state, section, base, field->section, field->relocation->offset))
		return true;
	const struct match_place *known = &state->sections[section->index];
	if (known->known)
		return refuse(state, field, "'%s' lies at 0x%llx here, elsewhere at 0x%llx",
			      symbol->name, (unsigned long long)address,
			      (unsigned long long)(known->value + symbol->value));
	return refuse(state, field, "0x%llx is no place for '%s'", (unsigned long long)address,
		      section->name);
}

static bool undefined_at(struct match_state *state, const struct field *field, uint64_t address)
{
	const struct object_symbol *symbol = field->relocation->symbol;
	const struct image *image = state->image;
	if (symbol->special == SHN_ABS) {
		if (address != symbol->value)
			return refuse(state, field, "expected 0x%llx, found 0x%llx",
				      (unsigned long long)symbol->value,
				      (unsigned long long)address);
		return true;
	}
	enum image_area area = image_area_at(image, address);
	if (symbol->special == SHN_COMMON) {
		// Another object's initialised definition wins over the common ones.
		if (area != IMAGE_AREA_BSS && area != IMAGE_AREA_DATA)
			return refuse(state, field, "0x%llx is not in .bss or .data",
				      (unsigned long long)address);
	} else if (address == 0 && symbol->bind == STB_WEAK) {
		return symbol_set(state, field, IMAGE_PLACE_ADDRESS, 0, NULL);
	} else if (field->row->kind == RELOCATION_CALL && area != IMAGE_AREA_TEXT) {
		return refuse(state, field, "0x%llx is not in text", (unsigned long long)address);
	} else if (area == IMAGE_AREA_NONE && image_area_at(image, address - 1) == IMAGE_AREA_NONE) {
		// Symbols of the linker itself (_end, __ehdr_start) may lie at any segment's border.
		bool border = false;
		for (size_t i = 0; i < image->segments.count; i++) {
			const struct image_segment *segment = &image->segments.items[i];
			border |= address >= segment->address &&
				  address - segment->address <= segment->memory_size;
		}
		if (!border)
			return refuse(state, field, "nothing is at 0x%llx",
				      (unsigned long long)address);
	}
	if (!name_agrees(state, symbol, address))
		return refuse(state, field, "the symbol table has '%s' elsewhere than at 0x%llx",
			      symbol->name, (unsigned long long)address);
	return symbol_set(state, field, IMAGE_PLACE_ADDRESS, address, NULL);
}

/** The symbol itself lies at @address, or a PLT entry that stands for it. */
static bool address_is(struct match_state *state, const struct field *field, uint64_t address)
{
	const struct object_symbol *symbol = field->relocation->symbol;
	const struct object_section *section = symbol->section;
	if (symbol == state->object->null_symbol)
		return address == 0 ||
		       refuse(state, field, "expected a plain constant, found 0x%llx more",
			      (unsigned long long)address);
	if (section && is_merged(section)) {
		uint64_t offset = symbol->value, at = address;
		if (symbol->type == STT_SECTION) {
			struct object_section *target;
			object_relocation_target(field->section, field->relocation, &target, &offset);
			at = address + offset;
		}
		if (!content_equal(state, section, offset, at))
			return refuse(state, field, "the %s at 0x%llx is another",
				      section->flags & SHF_STRINGS ? "string" : "constant",
				      (unsigned long long)at);
		enum image_area area = image_area_at(state->image, at);
		if (area != IMAGE_AREA_RODATA && area != IMAGE_AREA_TEXT && area != IMAGE_AREA_RELRO)
			return refuse(state, field, "0x%llx is not read-only", (unsigned long long)at);
		return symbol->type == STT_SECTION ||
		       symbol_set(state, field, IMAGE_PLACE_ADDRESS, address, NULL);
	}
	const struct image_relocation *plt = image_plt_target(state->image, address);
	if (plt && plt->symbol[0])
		return import_is(state, field, plt);
	if (plt) {
		// IRELATIVE: the entry of an ifunc of the program itself.
		if (section)
			return symbol->type == STT_GNU_IFUNC
				       ? defined_at(state, field, (uint64_t)plt->addend)
				       : refuse(state, field, "'%s' is no ifunc", symbol->name);
		return symbol_set(state, field, IMAGE_PLACE_ADDRESS, address, NULL);
	}
	uint64_t slot, word;
	// bfd makes an entry of a weak symbol that nobody defined, with a slot that stays 0.
	if (!section && symbol->bind == STB_WEAK && image_plt_slot(state->image, address, &slot) &&
	    !image_relocation_at(state->image, slot) && image_word(state->image, slot, &word) &&
	    word == 0)
		address = 0;
	return section ? defined_at(state, field, address) : undefined_at(state, field, address);
}

static bool slot_is(struct match_state *state, const struct field *field, uint64_t slot)
{
	const struct image *image = state->image;
	const struct image_relocation *relocation = image_relocation_at(image, slot);
	enum image_area area = image_area_at(image, slot);
	// A linker script or mold's -z pack-relative may place slots in other writable sections.
	if (area != IMAGE_AREA_GOT && area != IMAGE_AREA_RELRO && area != IMAGE_AREA_DATA)
		return refuse(state, field, "0x%llx is no GOT slot", (unsigned long long)slot);
	uint64_t word;
	if (relocation) {
		if (relocation->symbol[0])
			return import_is(state, field, relocation);
		if (relocation->type == image->arch->relocation_irelative) {
			const struct object_symbol *symbol = field->relocation->symbol;
			return symbol->section
				       ? symbol->type == STT_GNU_IFUNC &&
						 defined_at(state, field, (uint64_t)relocation->addend)
				       : true;
		}
		if (relocation->type != image->arch->relocation_relative_dynamic)
			return refuse(state, field, "the GOT slot at 0x%llx is of another kind",
				      (unsigned long long)slot);
		return address_is(state, field, (uint64_t)relocation->addend);
	}
	if (!image_word(image, slot, &word) || (image->type == ET_DYN && word != 0))
		return refuse(state, field, "the GOT slot at 0x%llx has no relocation",
			      (unsigned long long)slot);
	return address_is(state, field, word);
}

/** Offset of the TLS block from the thread pointer: below it (TLS variant II; x86-64, s390x). */
static uint64_t tls_block_tpoff(const struct image *image)
{
	uint64_t size = align_up(image->tls_memory_size, image->tls_align ? image->tls_align : 1);
	return -size;
}

static bool tls_offset_is(struct match_state *state, const struct field *field, uint64_t offset)
{
	const struct object_symbol *symbol = field->relocation->symbol;
	if (offset > state->image->tls_memory_size)
		return refuse(state, field, "0x%llx is outside the TLS block",
			      (unsigned long long)offset);
	if (!symbol->section || !object_section_is_tls(symbol->section) || !is_local(symbol))
		return symbol_set(state, field, IMAGE_PLACE_TLS, offset, NULL);
	if (!match_section_place(state, symbol->section, offset - symbol->value, field->section,
				 field->relocation->offset))
		return refuse(state, field, "0x%llx is no place for '%s'",
			      (unsigned long long)offset, symbol->section->name);
	return true;
}

/** A GOT slot or pair for TLS; @type: the dynamic relocation that fills it. */
static bool tls_slot_is(struct match_state *state, const struct field *field, uint64_t slot,
			enum arch_reference reference)
{
	const struct image *image = state->image;
	const struct arch *arch = image->arch;
	const struct image_relocation *relocation = image_relocation_at(image, slot);
	uint64_t word;
	if (reference == ARCH_REFERENCE_TPOFF_SLOT) {
		if (relocation && relocation->type != arch->relocation_tpoff)
			return refuse(state, field, "the GOT slot at 0x%llx holds no TLS offset",
				      (unsigned long long)slot);
		if (relocation && relocation->symbol[0])
			return import_is(state, field, relocation);
		if (relocation)
			return tls_offset_is(state, field, (uint64_t)relocation->addend);
		if (!image_word(image, slot, &word))
			return refuse(state, field, "nothing is at 0x%llx", (unsigned long long)slot);
		return tls_offset_is(state, field, word - tls_block_tpoff(image));
	}
	if (reference == ARCH_REFERENCE_TLS_DESC) {
		if (!relocation || relocation->type != arch->relocation_tlsdesc)
			return refuse(state, field, "no TLS descriptor is at 0x%llx",
				      (unsigned long long)slot);
		if (relocation->symbol[0])
			return import_is(state, field, relocation);
		return tls_offset_is(state, field, (uint64_t)relocation->addend);
	}
	// {module, offset}; in an executable the module is 1 from the start.
	if (relocation ? relocation->type != arch->relocation_dtpmod
		       : !image_word(image, slot, &word) || word != 1)
		return refuse(state, field, "no TLS pair is at 0x%llx", (unsigned long long)slot);
	if (relocation && relocation->symbol[0])
		return reference == ARCH_REFERENCE_TLS_PAIR ? import_is(state, field, relocation)
							    : refuse(state, field, "a TLS pair of a symbol");
	if (reference == ARCH_REFERENCE_TLS_MODULE_PAIR)
		return true;
	const struct image_relocation *second = image_relocation_at(image, slot + 8);
	if (second)
		return second->symbol[0] ? import_is(state, field, second)
					 : tls_offset_is(state, field, (uint64_t)second->addend);
	return image_word(image, slot + 8, &word) && tls_offset_is(state, field, word);
}

static bool got_base_is(struct match_state *state, const struct field *field, uint64_t address)
{
	struct match_place place = {.kind = IMAGE_PLACE_ADDRESS,
				    .value = address,
				    .section = field->section,
				    .offset = field->relocation->offset};
	return place_set(state, &state->got_base, &place) ||
	       refuse(state, field, "the GOT lies at 0x%llx here, elsewhere at 0x%llx",
		      (unsigned long long)address, (unsigned long long)state->got_base.value);
}

/** Does what the field says fit what is known? Adds it. */
static bool reference_is(struct match_state *state, const struct field *field,
			 enum arch_reference reference, uint64_t value)
{
	const struct image *image = state->image;
	const struct object_symbol *symbol = field->relocation->symbol;
	switch (reference) {
	case ARCH_REFERENCE_NONE:
		return true;
	case ARCH_REFERENCE_ADDRESS:
		return address_is(state, field, value);
	case ARCH_REFERENCE_GOT_SLOT:
		return slot_is(state, field, value);
	case ARCH_REFERENCE_GOT_BASE:
		return got_base_is(state, field, value);
	case ARCH_REFERENCE_GOT_OFFSET:
	case ARCH_REFERENCE_GOT_SLOT_OFFSET:
		if (!state->got_base.known)
			return refuse(state, field, "nothing tells where the GOT lies");
		value += state->got_base.value;
		return reference == ARCH_REFERENCE_GOT_OFFSET ? address_is(state, field, value)
							      : slot_is(state, field, value);
	case ARCH_REFERENCE_TPOFF:
		// mold subtracts the block's size where others load the module's address.
		if (field->row->kind == RELOCATION_TLS_LD)
			return value == tls_block_tpoff(image) ||
			       refuse(state, field, "expected the TLS block's offset");
		return tls_offset_is(state, field, value - tls_block_tpoff(image));
	case ARCH_REFERENCE_DTPOFF:
		return tls_offset_is(state, field, value);
	case ARCH_REFERENCE_TPOFF_SLOT:
	case ARCH_REFERENCE_TLS_PAIR:
	case ARCH_REFERENCE_TLS_MODULE_PAIR:
	case ARCH_REFERENCE_TLS_DESC:
		return tls_slot_is(state, field, value, reference);
	case ARCH_REFERENCE_SIZE:
		return !symbol->section || value == symbol->size ||
		       refuse(state, field, "the size of '%s' is %llu, expected %llu", symbol->name,
			      (unsigned long long)value, (unsigned long long)symbol->size);
	}
	return refuse(state, field, "a reference of an unknown kind");
}

/** A field in data, or an absolute one in code: no instruction around it. */
static bool word_is(struct match_state *state, const struct field *field, const uint8_t *bytes,
		    uint64_t address)
{
	const struct image *image = state->image;
	const struct arch *arch = image->arch;
	const struct object_relocation *relocation = field->relocation;
	const struct object_symbol *symbol = relocation->symbol;
	const struct image_relocation *dynamic = image_relocation_at(image, address);
	uint64_t addend = (uint64_t)relocation->addend;
	uint64_t content = arch_relocation_read(arch, field->row, bytes);
	switch (field->row->kind) {
	case RELOCATION_NONE:
		return true;
	case RELOCATION_ABSOLUTE:
		if (!dynamic) {
			// Position-independent code has no absolute addresses but through ld.so.
			bool constant = symbol->special == SHN_ABS || symbol->bind == STB_WEAK ||
					symbol == state->object->null_symbol;
			if (image->type == ET_DYN && !(constant && !symbol->section))
				return refuse(state, field, "no dynamic relocation is at 0x%llx",
					      (unsigned long long)address);
			return address_is(state, field, content - addend);
		}
		if (dynamic->symbol[0]) {
			if (dynamic->addend != relocation->addend)
				return refuse(state, field, "expected '%s' + %lld, found + %lld",
					      symbol->name, (long long)relocation->addend,
					      (long long)dynamic->addend);
			return import_is(state, field, dynamic);
		}
		if (dynamic->type == arch->relocation_irelative)
			return symbol->section ? defined_at(state, field, (uint64_t)dynamic->addend - addend)
					       : true;
		if (dynamic->type != arch->relocation_relative_dynamic)
			return refuse(state, field, "the dynamic relocation at 0x%llx is of another kind",
				      (unsigned long long)address);
		return address_is(state, field, (uint64_t)dynamic->addend - addend);
	case RELOCATION_RELATIVE:
	case RELOCATION_CALL:
		return address_is(state, field, content - addend + address);
	case RELOCATION_GOT:
	case RELOCATION_GOT_RELAX:
		return slot_is(state, field, content - addend + address);
	case RELOCATION_GOT_BASE:
		return got_base_is(state, field, content - addend + address);
	case RELOCATION_SIZE:
		return reference_is(state, field, ARCH_REFERENCE_SIZE, content - addend);
	case RELOCATION_TLS_LE:
		if (dynamic)
			return dynamic->symbol[0] ? import_is(state, field, dynamic)
						  : tls_offset_is(state, field, (uint64_t)dynamic->addend - addend);
		return tls_offset_is(state, field, content - addend - tls_block_tpoff(image));
	default:
		return refuse(state, field, "a relocation that data does not have");
	}
}

/** First offset where [from, to) differs; @object and @linked start at offset 0. */
static bool bytes_equal(const uint8_t *object, const uint8_t *linked, uint64_t from, uint64_t to,
			uint64_t *ret_difference)
{
	if (from >= to || memcmp(object + from, linked + from, to - from) == 0)
		return true;
	while (object[from] == linked[from])
		from++;
	*ret_difference = from;
	return false;
}

/**
 * As bytes_equal(), offsets being from @start in @unit. Branches to other functions of a scattered
 * section have the distance that these have in the target.
 */
static bool code_equal(struct match_state *state, const struct match_unit *unit,
		       const uint8_t *object, const uint8_t *linked, uint64_t start, uint64_t from,
		       uint64_t to, uint64_t base, uint64_t *ret_difference)
{
	const struct arch *arch = state->image->arch;
	size_t low = 0, high = unit->branches.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (unit->branches.items[middle].offset < start + from)
			low = middle + 1;
		else
			high = middle;
	}
	for (; low < unit->branches.count; low++) {
		const struct match_branch *branch = &unit->branches.items[low];
		if (branch->offset + branch->size > start + to)
			break;
		uint64_t at = branch->offset - start;
		if (!bytes_equal(object, linked, from, at, ret_difference))
			return false;
		// Both count from the same address, so the target moved by the fields' difference.
		struct arch_relocation row = {
			.size = branch->size, .kind = RELOCATION_RELATIVE, .sign_checked = true};
		uint64_t moved = arch_relocation_read(arch, &row, linked + at) -
				 arch_relocation_read(arch, &row, object + at);
		struct field field = {.section = unit->section};
		*ret_difference = at;
		if (!function_set(state, &field, branch->target, base + moved))
			return false;
		from = at + branch->size;
	}
	return bytes_equal(object, linked, from, to, ret_difference);
}

bool match_code(struct match_state *state, struct match_unit *unit, uint64_t start, uint64_t end,
		uint64_t base, struct match_failure *failure)
{
	const struct object_section *section = unit->section;
	const struct arch *arch = state->image->arch;
	struct match_failure ignored;
	bool explain = failure;
	failure = failure ? failure : &ignored;
	*failure = (struct match_failure){.offset = start};
	uint64_t address = base + start, size = end - start;
	const uint8_t *linked = image_bytes(state->image, address, size);
	if (!linked)
		return false;
	const uint8_t *object = section->data + start;

	size_t count, first;
	const struct object_relocation *relocations =
		object_relocations_in(section, start, end, &count);
	first = count ? (size_t)(relocations - section->relocations.items) : 0;
	const struct arch_site *sites = unit->sites + first;
	if (start > 0 && count > 0) {
		state->scratch.count = 0;
		for (size_t i = 0; i < count; i++) {
			struct arch_site site = sites[i];
			site.offset -= start;
			vec_push(&state->scratch, site);
		}
		sites = state->scratch.items;
	}

	uint64_t at = 0, difference;
	for (size_t i = 0; i < count;) {
		// No rewrite reaches further back than this: the cheap test first.
		uint64_t before = sites[i].offset > 8 ? sites[i].offset - 8 : 0;
		if (unit->branches.count > 0)
			before = 0;
		if (!code_equal(state, unit, object, linked, start, at, before, base, &difference)) {
			failure->offset = start + difference;
			return false;
		}
		at = before > at ? before : at;
		struct field field = {
			.section = section,
			.relocation = &relocations[i],
			.row = arch->relocation(relocations[i].type),
			.failure = explain ? failure : NULL,
		};
		failure->offset = relocations[i].offset;
		struct arch_rewrite rewrite;
		if (!field.row || !range_within(sites[i].offset, field.row->size, size) ||
		    !arch->rewrite_match(object, linked, size, address, sites, count, i, &rewrite))
			return refuse(state, &field, "no linker makes this of %s",
				      field.row ? field.row->name : "an unknown relocation");
		if (!code_equal(state, unit, object, linked, start, at, rewrite.start, base, &difference)) {
			failure->offset = start + difference;
			return false;
		}
		bool absolute = field.row->kind == RELOCATION_ABSOLUTE;
		if (absolute ? !word_is(state, &field, linked + sites[i].offset,
					address + sites[i].offset)
			     : !reference_is(state, &field, rewrite.reference, rewrite.value))
			return false;
		at = rewrite.end > at ? rewrite.end : at;
		i += rewrite.relocations ? rewrite.relocations : 1;
	}
	if (!code_equal(state, unit, object, linked, start, at, size, base, &difference)) {
		failure->offset = start + difference;
		return false;
	}
	return true;
}

/** From @start on; false: the first difference is at failure->offset. */
static bool data_compare(struct match_state *state, const struct object_section *section,
			 uint64_t start, struct match_failure *failure)
{
	const struct image *image = state->image;
	uint64_t address = state->sections[section->index].value;
	if (object_section_is_tls(section))
		address += image->tls_address;
	const uint8_t *linked = image_bytes(image, address, section->size);
	*failure = (struct match_failure){.offset = start};
	if (!linked) {
		failure->why = "it has no content in the target";
		return false;
	}
	uint64_t at = start, difference;
	size_t count;
	const struct object_relocation *relocations =
		object_relocations_in(section, start, section->size, &count);
	for (size_t i = 0; i < count; i++) {
		struct field field = {
			.section = section,
			.relocation = &relocations[i],
			.row = image->arch->relocation(relocations[i].type),
			.failure = failure,
		};
		failure->offset = relocations[i].offset;
		if (!field.row || !range_within(relocations[i].offset, field.row->size, section->size))
			return refuse(state, &field, "an unknown relocation");
		if (!bytes_equal(section->data, linked, at, relocations[i].offset, &difference)) {
			failure->offset = difference;
			return false;
		}
		if (!word_is(state, &field, linked + relocations[i].offset,
			     address + relocations[i].offset))
			return false;
		at = relocations[i].offset + field.row->size;
	}
	if (!bytes_equal(section->data, linked, at, section->size, &difference)) {
		failure->offset = difference;
		return false;
	}
	return true;
}

// A table that is another one altogether differs everywhere; a few places tell that.
enum { DATA_FINDINGS_MAX = 4 };

static void data_report(struct match_state *state, const struct object_section *section)
{
	uint64_t start = 0;
	for (unsigned found = 0; found < DATA_FINDINGS_MAX; found++) {
		struct match_failure failure;
		if (data_compare(state, section, start, &failure))
			return;
		const struct object_symbol *symbol = object_symbol_covering(section, failure.offset);
		uint64_t offset = failure.offset - (symbol ? symbol->value : 0);
		match_report(state, FINDING_KIND_CODE_MISMATCH,
			     symbol ? symbol->name : state->object->path,
			     "the content of %s differs from the target's at +0x%llx (0x%llx)%s%s",
			     symbol ? "this datum" : section->name, (unsigned long long)offset,
			     (unsigned long long)(state->sections[section->index].value + failure.offset),
			     failure.why ? ": " : "", failure.why ? failure.why : "");
		// Go on behind the datum; an anonymous one ends who knows where.
		if (!symbol)
			return;
		start = symbol->value + symbol->size;
	}
}

bool match_reached(struct match_state *state, size_t from, bool report)
{
	// Comparing one section may reach others, so the list grows.
	for (size_t i = from; i < state->reached.count; i++) {
		const struct object_section *section = state->reached.items[i];
		if (state->compared[section->index])
			continue;
		if (report) {
			state->compared[section->index] = true;
			data_report(state, section);
			continue;
		}
		struct match_failure failure;
		if (!data_compare(state, section, 0, &failure))
			return false;
	}
	if (report)
		state->reached.count = from;
	return true;
}
