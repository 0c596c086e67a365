// SPDX-License-Identifier: MIT
/*
 * Unwind tables: which record is whose, and a table of the output's functions.
 *
 * .eh_frame is a row of records (LSB Core, "Exception Frames"): a CIE holds what several functions
 * share, an FDE describes one range of code and names its CIE by the distance back to it. Contents
 * are not read beyond that: what a record refers to, its function, its exception table, a personality
 * routine, stands in its relocations, in every form of encoding alike.
 */
#include <elf.h>
#include <string.h>

#include "diff/internal.h"

struct record {
	struct object_section *section;
	uint64_t start, size;
	uint64_t id_at;   // offset of the CIE pointer in the record
	uint8_t id_size;
	uint64_t id;      // 0: a CIE
};

static uint64_t load(const struct object_section *section, uint64_t at, unsigned size)
{
	bool big = section->object->arch->elf_data == ELFDATA2MSB;
	uint64_t value = 0;
	for (unsigned i = 0; i < size; i++)
		value = value << 8 | section->data[at + (big ? i : size - 1 - i)];
	return value;
}

static void store(const struct object *object, uint8_t *bytes, unsigned size, uint64_t value)
{
	bool big = object->arch->elf_data == ELFDATA2MSB;
	for (unsigned i = 0; i < size; i++)
		bytes[big ? size - 1 - i : i] = (uint8_t)(value >> (8 * i));
}

// The record at @at; false at the table's end, also where the rest is not a record.
static bool record_at(struct object_section *section, uint64_t at, struct record *ret)
{
	if (!section->data || !range_within(at, 4, section->size))
		return false;
	uint64_t length = load(section, at, 4), head = 4;
	uint8_t id_size = 4;
	if (length == 0)
		return false;
	if (length == 0xffffffff) {
		if (!range_within(at, 12, section->size))
			return false;
		length = load(section, at + 4, 8);
		head = 12;
		id_size = 8;
	}
	if (length < id_size || !range_within(at + head, length, section->size))
		return false;
	*ret = (struct record){
		.section = section,
		.start = at,
		.size = head + length,
		.id_at = head,
		.id_size = id_size,
		.id = load(section, at + head, id_size),
	};
	return true;
}

static void read_frame(struct side *side, const struct record *record)
{
	struct object_section *section = record->section;
	uint64_t pc_at = record->start + record->id_at + record->id_size;
	if (record->id > record->start + record->id_at)
		return;
	struct frame frame = {
		.start = record->start,
		.size = record->size,
		.section = section,
		.cie = record->start + record->id_at - record->id,
	};
	struct atom *table = NULL;
	size_t count;
	const struct object_relocation *relocations = object_relocations_in(
		section, record->start, record->start + record->size, &count);
	for (size_t i = 0; i < count; i++) {
		struct reference reference = side_reference(side, &relocations[i]);
		if (!reference.target)
			continue;
		if (relocations[i].offset == pc_at && reference.target->kind == ATOM_FUNCTION) {
			frame.function = reference.target;
			frame.function_offset = (uint64_t)reference.addend;
		} else if (section_is_exception_table(reference.target->section)) {
			table = reference.target;
		}
	}
	if (!frame.function)
		return;
	frame.next = frame.function->frame;
	if (table)
		frame.function->exception_table = table;
	vec_push(&side->frames, frame);
	frame.function->frame = side->frames.count;
}

void ehframe_read(struct side *side)
{
	for (size_t i = 0; i < side->object->sections.count; i++) {
		struct object_section *section = side->object->sections.items[i];
		if (!section_is_frames(section))
			continue;
		struct record record;
		for (uint64_t at = 0; record_at(section, at, &record); at += record.size)
			if (record.id != 0)
				read_frame(side, &record);
	}
}

/* ---- output --------------------------------------------------------------------------------- */

static struct object_symbol *record_target(struct clone *clone, const struct frame *frame,
					   const struct reference *reference, int64_t *ret_addend)
{
	if (reference->target != frame->function)
		return clone_target(clone, frame->function, reference, ret_addend);
	int64_t bias;
	struct object_symbol *symbol = clone_place(clone, frame->function, &bias);
	*ret_addend = addend_add(reference->addend, bias);
	return symbol;
}

static void need_record(struct clone *clone, const struct frame *frame, const struct record *record)
{
	size_t count;
	const struct object_relocation *relocations = object_relocations_in(
		record->section, record->start, record->start + record->size, &count);
	for (size_t i = 0; i < count; i++) {
		struct reference reference = side_reference(clone_side(clone), &relocations[i]);
		int64_t addend;
		record_target(clone, frame, &reference, &addend);
	}
}

void ehframe_need(struct clone *clone, struct atom *function)
{
	struct side *side = clone_side(clone);
	for (size_t next = function->frame; next;) {
		const struct frame *frame = &side->frames.items[next - 1];
		struct record record;
		if (record_at(frame->section, frame->cie, &record))
			need_record(clone, frame, &record);
		if (record_at(frame->section, frame->start, &record))
			need_record(clone, frame, &record);
		next = frame->next;
	}
}

// Copy one record; returns its offset in the output.
static uint64_t copy_record(struct clone *clone, const struct frame *frame,
			    const struct record *record, struct object_section *output)
{
	uint64_t offset = object_section_append(output, record->section->data + record->start,
						record->size, 1);
	size_t count;
	const struct object_relocation *relocations = object_relocations_in(
		record->section, record->start, record->start + record->size, &count);
	for (size_t i = 0; i < count; i++) {
		struct reference reference = side_reference(clone_side(clone), &relocations[i]);
		int64_t addend;
		struct object_symbol *symbol = record_target(clone, frame, &reference, &addend);
		if (symbol)
			object_relocation_add(output, offset + reference.offset - record->start,
					      reference.type, symbol, addend);
	}
	return offset;
}

void ehframe_write(struct clone *clone, struct atom *const *functions, size_t count)
{
	struct side *side = clone_side(clone);
	struct object *object = clone_object(clone);
	struct object_section *output = NULL;
	struct hashmap *cies = hashmap_create(); // to 1 + offset in the output
	for (size_t i = 0; i < count; i++) {
		for (size_t next = functions[i]->frame; next;) {
			const struct frame *frame = &side->frames.items[next - 1];
			next = frame->next;
			struct record cie, fde;
			if (!record_at(frame->section, frame->cie, &cie) || cie.id != 0 ||
			    !record_at(frame->section, frame->start, &fde))
				continue;
			if (!output)
				output = object_section_add(object, ".eh_frame",
							    frame->section->type, SHF_ALLOC, 8,
							    NULL, 0);
			struct { size_t section; uint64_t start; } key = { frame->section->index,
									    cie.start };
			uintptr_t known = (uintptr_t)hashmap_get(cies, &key, sizeof(key));
			if (!known) {
				known = copy_record(clone, frame, &cie, output) + 1;
				hashmap_set(cies, &key, sizeof(key), (void *)known);
			}
			uint64_t at = copy_record(clone, frame, &fde, output);
			store(object, output->data + at + fde.id_at, fde.id_size,
			      at + fde.id_at - (known - 1));
		}
	}
	hashmap_free(cies);
}
