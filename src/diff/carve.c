// SPDX-License-Identifier: MIT
/*
 * Carving: an object's sections into atoms.
 *
 * Where a symbol has a size, the atom is what it covers; aliases and labels inside share it. Strings
 * and constants of sections that a linker merges are cut by their own form. What is left is unnamed:
 * padding, which is nothing, or constants that only their users know (large initialisers, jump
 * tables). Those are cut at each offset that a relocation refers to. But one access may run over such
 * a cut (a 64-byte initialiser is copied by four loads at +0, +16, +32, +48, or by loads that
 * overlap), so neighbouring pieces with a user in common stay one atom.
 *
 *	.rodata:  |A      |A      |AB     |B      |C      |    users of each cut
 *	          \_______ one atom _____________/ \ one /
 *
 * Too large an atom can only make more code "changed", never less; too small a one would lose bytes
 * that the code reads.
 */
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "diff/internal.h"

/* Newer than some <elf.h>. */
#ifndef SHT_X86_64_UNWIND
#define SHT_X86_64_UNWIND 0x70000001
#endif

static bool has_prefix(const char *name, const char *prefix)
{
	size_t length = strlen(prefix);
	return strncmp(name, prefix, length) == 0 && (name[length] == '\0' || name[length] == '.');
}

bool section_is_relro(const struct object_section *section)
{
	return has_prefix(section->name, ".data.rel.ro");
}

bool section_is_init_list(const struct object_section *section)
{
	return section->type == SHT_INIT_ARRAY || section->type == SHT_PREINIT_ARRAY ||
	       has_prefix(section->name, ".ctors") || has_prefix(section->name, ".init_array") ||
	       has_prefix(section->name, ".preinit_array");
}

bool section_is_fini_list(const struct object_section *section)
{
	return section->type == SHT_FINI_ARRAY || has_prefix(section->name, ".dtors") ||
	       has_prefix(section->name, ".fini_array");
}

bool section_is_frames(const struct object_section *section)
{
	return section->type == SHT_X86_64_UNWIND || string_equal(section->name, ".eh_frame");
}

bool section_is_exception_table(const struct object_section *section)
{
	return has_prefix(section->name, ".gcc_except_table");
}

// Not part of what runs, or described by what it describes.
static bool is_carved(const struct object_section *section)
{
	return section->flags & SHF_ALLOC && !(section->flags & SHF_EXCLUDE) &&
	       section->type != SHT_NOTE && section->type != SHT_GROUP &&
	       !section_is_frames(section) && !has_prefix(section->name, ".note") &&
	       !has_prefix(section->name, ".sframe") &&
	       !string_equal(section->name, "__patchable_function_entries") &&
	       !string_equal(section->name, ".patch_sites") &&
	       !string_equal(section->name, ".stapsdt.base");
}

static enum atom_kind kind_of(const struct object_section *section)
{
	if (object_section_is_text(section))
		return ATOM_FUNCTION;
	if (object_section_is_tls(section))
		return ATOM_TLS;
	if (object_section_is_readonly(section) || section_is_relro(section))
		return ATOM_RODATA;
	return ATOM_DATA;
}

/* ---- named ranges --------------------------------------------------------------------------- */

struct range {
	uint64_t start, end;
	bool open; // its symbol has no size: up to the next one
	struct object_symbol *symbol;
};

// Which of an atom's names it goes by: the most visible, then the one with a size, then the first.
static int rank(const struct object_symbol *symbol)
{
	int rank = symbol->bind == STB_LOCAL ? 0 : symbol->bind == STB_WEAK ? 4 : 8;
	if (symbol->type == STT_GNU_IFUNC)
		return 0; // what lies there is its resolver
	return rank + (symbol->size > 0 ? 2 : 0) + (symbol->type != STT_NOTYPE ? 1 : 0);
}

static bool is_anchor(const struct object_symbol *symbol)
{
	return symbol->type != STT_SECTION && symbol->type != STT_FILE &&
	       !object_symbol_is_local_label(symbol);
}

struct ranges {
	VEC(struct range) list;
};

static void named_ranges(const struct object_section *section, struct ranges *ranges)
{
	bool text = object_section_is_text(section);
	struct range *current = NULL;
	for (size_t i = 0; i < section->symbols.count; i++) {
		struct object_symbol *symbol = section->symbols.items[i];
		if (!is_anchor(symbol) || symbol->value > section->size)
			continue;
		uint64_t end = symbol->value + symbol->size;
		if (end > section->size || end < symbol->value)
			end = section->size;
		if (current && symbol->value == current->start) {
			if (rank(symbol) > rank(current->symbol))
				current->symbol = symbol;
			if (end > current->end)
				current->end = end;
			continue;
		}
		bool label = text && symbol->type == STT_NOTYPE && symbol->bind == STB_LOCAL;
		if (current && (symbol->value < current->end || (current->open && label))) {
			if (end > current->end)
				current->end = end;
			continue;
		}
		if (current && current->open)
			current->end = symbol->value;
		vec_push(&ranges->list, (struct range){ .start = symbol->value,
							.end = end,
							.open = symbol->size == 0,
							.symbol = symbol });
		current = &ranges->list.items[ranges->list.count - 1];
	}
	if (current && current->open)
		current->end = section->size;
}

// An unsized function ends behind its last instruction that is not padding.
static uint64_t without_padding(const struct object_section *section, uint64_t start, uint64_t end)
{
	const struct arch *arch = section->object->arch;
	uint64_t last = start;
	for (uint64_t at = start; at < end;) {
		struct arch_instruction instruction;
		if (!arch->decode(section->data + at, end - at, at, &instruction)) {
			last = ++at;
			continue;
		}
		bool padding = instruction.is_nop || arch->is_padding(section->data + at,
								      instruction.length);
		at += instruction.length;
		if (!padding)
			last = at;
	}
	return last;
}

/* ---- making atoms --------------------------------------------------------------------------- */

struct builder {
	struct side *side;
	VEC(struct atom *) atoms; // of the section at hand
};

static struct atom *add(struct builder *builder, struct object_section *section, uint64_t start,
			uint64_t end, struct object_symbol *symbol)
{
	struct side *side = builder->side;
	struct atom *atom = arena_new(side->arena, struct atom);
	// clang gives each a name, GCC_except_table3, that is but a number.
	if (section_is_exception_table(section))
		symbol = NULL;
	*atom = (struct atom){
		.side = side,
		.section = section,
		.start = start,
		.size = end - start,
		.kind = kind_of(section),
		.symbol = symbol,
		.string = object_section_is_strings(section),
	};
	if (symbol) {
		atom->name = symbol->name;
		atom->by_content = atom->kind != ATOM_FUNCTION && name_is_by_content(symbol->name);
		atom->numbered = atom->kind != ATOM_FUNCTION && !atom->by_content &&
				 name_is_numbered(symbol->name);
		atom->key = atom->kind == ATOM_FUNCTION || atom->numbered ?
				    name_key(side->arena, symbol->name) :
				    symbol->name;
	} else {
		atom->by_content = true;
		// Made when somebody asks for it: there may be very many.
		atom->name = atom->key = NULL;
	}
	vec_push(&builder->atoms, atom);
	return atom;
}

static bool is_zero(const struct object_section *section, uint64_t start, uint64_t end)
{
	if (!section->data)
		return true;
	for (uint64_t at = start; at < end; at++)
		if (section->data[at])
			return false;
	return true;
}

// Padding: no bytes and nothing that a linker would put there.
static bool is_empty(const struct object_section *section, uint64_t start, uint64_t end)
{
	size_t count;
	object_relocations_in(section, start, end, &count);
	return count == 0 && is_zero(section, start, end);
}

static void add_code_gap(struct builder *builder, struct object_section *section, uint64_t start,
			 uint64_t end)
{
	if (section->data && !section->object->arch->is_padding(section->data + start, end - start))
		add(builder, section, start, end, NULL);
}

/* ---- unnamed ranges ------------------------------------------------------------------------- */

/** Somebody refers to an offset in a section; @user is unique to him. */
struct use {
	uint64_t offset;
	size_t user;
};

struct uses {
	VEC(struct use) list;
};

static int use_compare(const void *a, const void *b)
{
	const struct use *x = a, *y = b;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return (x->user > y->user) - (x->user < y->user);
}

static size_t first_use(const struct uses *uses, uint64_t offset)
{
	size_t low = 0, high = uses->list.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (uses->list.items[middle].offset < offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

// @last_chunk: by user, 1 + the number of the chunk that he used last.
static void add_data_gap(struct builder *builder, struct object_section *section, uint64_t start,
			 uint64_t end, const struct uses *uses, size_t *last_chunk,
			 size_t *chunk_number)
{
	bool separate = section_is_exception_table(section);
	size_t count = uses->list.count;
	const struct use *list = uses->list.items;
	size_t i = first_use(uses, start);
	uint64_t chunk = start; // where the current one starts
	bool used = false;
	for (; i < count && list[i].offset < end;) {
		uint64_t cut = list[i].offset;
		size_t next = i;
		bool shared = false;
		while (next < count && list[next].offset == cut) {
			shared |= used && last_chunk[list[next].user] == *chunk_number;
			next++;
		}
		if (cut > chunk && (!shared || separate)) {
			if (used || !is_empty(section, chunk, cut))
				add(builder, section, chunk, cut, NULL);
			chunk = cut;
			++*chunk_number;
		} else if (!used) {
			++*chunk_number;
		}
		used = true;
		for (; i < next; i++)
			last_chunk[list[i].user] = *chunk_number;
	}
	if (used || !is_empty(section, chunk, end))
		add(builder, section, chunk, end, NULL);
	++*chunk_number;
}

/* ---- sections that linkers merge ------------------------------------------------------------- */

static uint64_t string_end(const struct object_section *section, uint64_t start)
{
	uint64_t width = section->entry_size ? section->entry_size : 1;
	for (uint64_t at = start; section->size - at >= width; at += width)
		if (is_zero(section, at, at + width))
			return at + width;
	return section->size;
}

static void carve_merged(struct builder *builder, struct object_section *section)
{
	bool strings = object_section_is_strings(section);
	uint64_t width = section->entry_size ? section->entry_size : 1;
	size_t next = 0;
	for (uint64_t at = 0; at < section->size;) {
		uint64_t end = strings ? string_end(section, at) : at + width;
		if (end > section->size || end <= at)
			end = section->size;
		struct object_symbol *symbol = NULL;
		for (; next < section->symbols.count && section->symbols.items[next]->value < end;
		     next++) {
			struct object_symbol *other = section->symbols.items[next];
			if (!is_anchor(other) || other->value < at)
				continue;
			if (!symbol || rank(other) > rank(symbol))
				symbol = other;
			// One that is longer than an entry keeps its entries together.
			if (other->value + other->size > end &&
			    other->value + other->size <= section->size)
				end = other->value + other->size;
		}
		add(builder, section, at, end, symbol);
		at = end;
	}
}

static bool is_merged(const struct object_section *section)
{
	return section->flags & SHF_MERGE && section->data && !object_section_is_text(section) &&
	       (section->entry_size || object_section_is_strings(section));
}

/* ---- passes --------------------------------------------------------------------------------- */

struct carver {
	struct side *side;
	struct ranges *ranges; // by section index
	struct uses *uses;     // by section index; of sections with unnamed data
	bool *unnamed;         // by section index
	size_t user_count;
};

static bool has_gap(const struct object_section *section, const struct ranges *ranges)
{
	uint64_t at = 0;
	for (size_t i = 0; i < ranges->list.count; i++) {
		if (ranges->list.items[i].start > at)
			return true;
		at = ranges->list.items[i].end;
	}
	return at < section->size;
}

// The users of unnamed data: one number per named range, one for what is unnamed in a section.
static void find_uses(struct carver *carver, const struct object_section *section)
{
	const struct ranges *ranges = &carver->ranges[section->index];
	size_t base = carver->user_count, at = 0;
	bool frames = section_is_frames(section);
	for (size_t i = 0; i < section->relocations.count; i++) {
		const struct object_relocation *relocation = &section->relocations.items[i];
		const struct object_symbol *symbol = relocation->symbol;
		if (!symbol->section || !carver->unnamed[symbol->section->index])
			continue;
		while (at < ranges->list.count && ranges->list.items[at].end <= relocation->offset)
			at++;
		struct object_section *target;
		uint64_t offset = symbol->value;
		if (symbol->type == STT_SECTION &&
		    !object_relocation_target(section, relocation, &target, &offset))
			continue;
		if (offset >= symbol->section->size)
			continue;
		bool named = at < ranges->list.count &&
			     ranges->list.items[at].start <= relocation->offset;
		vec_push(&carver->uses[symbol->section->index].list,
			 (struct use){ .offset = offset,
				       .user = base + (named ? at : ranges->list.count) });
	}
	carver->user_count += frames ? 1 : ranges->list.count + 1;
}

static void remember_cuts(struct side *side, struct section_info *info, const struct uses *uses)
{
	if (uses->list.count == 0)
		return;
	info->cuts = arena_array(side->arena, uses->list.count, sizeof(*info->cuts));
	for (size_t i = 0; i < uses->list.count; i++)
		if (i == 0 || uses->list.items[i].offset != uses->list.items[i - 1].offset)
			info->cuts[info->cut_count++] = uses->list.items[i].offset;
}

static void carve_section(struct carver *carver, struct object_section *section,
			  size_t *last_chunk, size_t *chunk_number)
{
	struct side *side = carver->side;
	struct builder builder = { .side = side };
	const struct ranges *ranges = &carver->ranges[section->index];
	const struct uses *uses = &carver->uses[section->index];
	bool text = object_section_is_text(section);

	if (is_merged(section)) {
		carve_merged(&builder, section);
	} else {
		uint64_t at = 0;
		for (size_t i = 0; i <= ranges->list.count; i++) {
			const struct range *range = i < ranges->list.count ? &ranges->list.items[i] :
									     NULL;
			uint64_t start = range ? range->start : section->size;
			if (start > at && text)
				add_code_gap(&builder, section, at, start);
			else if (start > at)
				add_data_gap(&builder, section, at, start, uses, last_chunk,
					     chunk_number);
			if (!range)
				break;
			uint64_t end = range->end;
			if (text && range->open && section->data)
				end = without_padding(section, start, end);
			add(&builder, section, start, end, range->symbol);
			at = range->end;
		}
	}

	struct section_info *info = &side->sections[section->index];
	info->carved = true;
	info->count = builder.atoms.count;
	info->atoms = arena_memdup(side->arena, builder.atoms.items,
				   builder.atoms.count * sizeof(*builder.atoms.items));
	for (size_t i = 0; i < info->count; i++) {
		info->atoms[i]->index = side->atoms.count;
		vec_push(&side->atoms, info->atoms[i]);
	}
	remember_cuts(side, info, uses);
	vec_deinit(&builder.atoms);
}

static size_t section_limit(const struct object *object)
{
	size_t limit = 0;
	for (size_t i = 0; i < object->sections.count; i++)
		if (object->sections.items[i]->index >= limit)
			limit = object->sections.items[i]->index + 1;
	return limit;
}

static void map_symbols(struct side *side)
{
	const struct object *object = side->object;
	size_t limit = 0;
	for (size_t i = 0; i < object->symbols.count; i++)
		if (object->symbols.items[i]->index >= limit)
			limit = object->symbols.items[i]->index + 1;
	side->symbol_atoms = arena_array(side->arena, limit, sizeof(*side->symbol_atoms));
	for (size_t i = 0; i < object->symbols.count; i++) {
		struct object_symbol *symbol = object->symbols.items[i];
		if (symbol->section && symbol->type != STT_SECTION)
			side->symbol_atoms[symbol->index] =
				side_atom_at(side, symbol->section, symbol->value);
	}
}

// `.cold` parts belong to the function whose name they carry, of the same file.
static void find_parents(struct side *side)
{
	struct hashmap *functions = hashmap_create();
	for (size_t i = 0; i < side->atoms.count; i++) {
		struct atom *atom = side->atoms.items[i];
		if (atom->kind == ATOM_FUNCTION && atom->symbol &&
		    !hashmap_get_string(functions, atom->name))
			hashmap_set_string(functions, atom->name, atom);
	}
	for (size_t i = side->atoms.count; i-- > 0;) {
		struct atom *atom = side->atoms.items[i];
		if (atom->kind != ATOM_FUNCTION || !atom->symbol)
			continue;
		const char *parent = name_cold_parent(side->arena, atom->name);
		if (!parent)
			continue;
		atom->parent = hashmap_get_string(functions, parent);
		// Two functions of that name (after a partial link): the one that jumps there.
		if (!atom->parent || atom->parent == atom) {
			atom->parent = NULL;
			continue;
		}
		atom->cold = true;
		atom->next_part = atom->parent->first_part;
		atom->parent->first_part = atom;
	}
	hashmap_free(functions);
}

void side_init(struct side *side, const struct object *object, struct arena *arena)
{
	side->object = object;
	side->arena = arena;
	size_t limit = section_limit(object), count = object->sections.count;
	side->sections = arena_array(arena, limit, sizeof(*side->sections));

	struct carver carver = {
		.side = side,
		.ranges = xcalloc(limit + 1, sizeof(*carver.ranges)),
		.uses = xcalloc(limit + 1, sizeof(*carver.uses)),
		.unnamed = xcalloc(limit + 1, sizeof(*carver.unnamed)),
	};
	for (size_t i = 0; i < count; i++) {
		const struct object_section *section = object->sections.items[i];
		if (!is_carved(section))
			continue;
		struct ranges *ranges = &carver.ranges[section->index];
		named_ranges(section, ranges);
		carver.unnamed[section->index] = !is_merged(section) &&
						 !object_section_is_text(section) &&
						 has_gap(section, ranges);
	}
	// From here on: named ranges are known, and which sections have unnamed data.
	for (size_t i = 0; i < count; i++) {
		const struct object_section *section = object->sections.items[i];
		if (is_carved(section) || section_is_frames(section))
			find_uses(&carver, section);
	}
	size_t *last_chunk = xcalloc(carver.user_count + 1, sizeof(*last_chunk));
	size_t chunk_number = 1;
	for (size_t i = 0; i < count; i++) {
		struct object_section *section = object->sections.items[i];
		struct uses *uses = &carver.uses[section->index];
		if (!is_carved(section))
			continue;
		if (uses->list.count > 1)
			qsort(uses->list.items, uses->list.count, sizeof(*uses->list.items),
			      use_compare);
		carve_section(&carver, section, last_chunk, &chunk_number);
	}
	// From here on: atoms are known and stay.
	map_symbols(side);
	find_parents(side);
	ehframe_read(side);

	free(last_chunk);
	for (size_t i = 0; i < limit; i++) {
		vec_deinit(&carver.ranges[i].list);
		vec_deinit(&carver.uses[i].list);
	}
	free(carver.ranges);
	free(carver.uses);
	free(carver.unnamed);
}

void side_deinit(struct side *side)
{
	vec_deinit(&side->atoms);
	vec_deinit(&side->frames);
	hashmap_free(side->noreturn);
}

/* ---- questions ------------------------------------------------------------------------------ */

struct atom *side_atom_at(const struct side *side, const struct object_section *section,
			  uint64_t offset)
{
	const struct section_info *info = &side->sections[section->index];
	if (info->count == 0)
		return NULL;
	size_t low = 0, high = info->count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (info->atoms[middle]->start <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return info->atoms[low ? low - 1 : 0];
}

struct atom *side_symbol_atom(const struct side *side, const struct object_symbol *symbol)
{
	if (!symbol->section || symbol->type == STT_SECTION)
		return NULL;
	return side->symbol_atoms[symbol->index];
}

const uint8_t *atom_bytes(const struct atom *atom)
{
	return atom->section->data ? atom->section->data + atom->start : NULL;
}

bool atom_is_visible(const struct atom *atom)
{
	return atom->symbol && atom->symbol->bind != STB_LOCAL;
}

const char *atom_describe(struct atom *atom)
{
	if (!atom->name)
		atom->name = arena_printf(atom->side->arena, "%s+0x%llx", atom->section->name,
					  (unsigned long long)atom->start);
	return atom->name;
}

bool side_has_strings(const struct side *side)
{
	for (size_t i = 0; i < side->object->sections.count; i++)
		if (object_section_is_strings(side->object->sections.items[i]) &&
		    !object_section_is_debug(side->object->sections.items[i]) &&
		    (side->object->sections.items[i]->flags & SHF_ALLOC))
			return true;
	return false;
}

uint64_t side_next_cut(const struct side *side, const struct object_section *section, uint64_t offset)
{
	const struct section_info *info = &side->sections[section->index];
	size_t low = 0, high = info->cut_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (info->cuts[middle] <= offset)
			low = middle + 1;
		else
			high = middle;
	}
	return low < info->cut_count ? info->cuts[low] : section->size;
}
