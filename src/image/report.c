/* SPDX-License-Identifier: MIT */
/*
 * Telling how code differs, and why it may: the first differing instruction, and the tools' versions.
 */
#include "image/match.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/** DW_AT_producer of the unit that was compiled from @file, in @path; NULL: none. */
static const char *producer_of(struct arena *arena, const char *path, const char *file)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	Dwarf *dwarf = fd >= 0 ? dwarf_begin(fd, DWARF_C_READ) : NULL;
	const char *found = NULL;
	Dwarf_Off at = 0, next;
	size_t header;
	while (dwarf && !found &&
	       dwarf_nextcu(dwarf, at, &next, &header, NULL, NULL, NULL) == 0) {
		Dwarf_Die die;
		Dwarf_Attribute attribute;
		const char *producer = NULL, *name = NULL;
		if (dwarf_offdie(dwarf, at + header, &die)) {
			name = dwarf_diename(&die);
			producer = dwarf_formstring(dwarf_attr(&die, DW_AT_producer, &attribute));
		}
		if (name && producer && string_equal(path_basename(name), path_basename(file)))
			found = arena_strdup(arena, producer);
		at = next;
	}
	dwarf_end(dwarf);
	return found;
}

static const char *source_file(const struct object *object)
{
	for (size_t i = 0; i < object->symbols.count; i++)
		if (object->symbols.items[i]->file)
			return object->symbols.items[i]->file;
	return NULL;
}

/** What is known of the tools on both sides, where it differs. */
static const char *tools(struct match_state *state)
{
	if (state->tools)
		return state->tools;
	const struct image *image = state->image;
	const char *ours = state->object->compiler, *theirs = image->compiler;
	const char *file = source_file(state->object);
	state->tools = "";
	if (ours && theirs && !strstr(theirs, ours)) {
		state->tools = arena_printf(state->arena, "; compiled by \"%s\", the target by \"%s\"",
					    ours, theirs);
	} else if (file) {
		const char *debug = image_state(image)->debug_path;
		theirs = producer_of(state->arena, debug ? debug : image->path, file);
		ours = producer_of(state->arena, state->object->path, file);
		if (theirs && ours && !string_equal(ours, theirs))
			state->tools = arena_printf(state->arena,
						    "; compiled by \"%s\", the target by \"%s\"", ours,
						    theirs);
		else if (theirs && !ours)
			state->tools = arena_printf(state->arena, "; the target was compiled by \"%s\"",
						    theirs);
	}
	if (state->lto)
		state->tools = arena_printf(state->arena, "%s; the target was linked with -flto, which is not supported",
					    state->tools);
	return state->tools;
}

void match_report(struct match_state *state, enum finding_kind kind, const char *subject,
		  const char *format, ...)
{
	va_list args;
	va_start(args, format);
	_cleanup_free_ char *text = xvasprintf(format, args);
	va_end(args);
	findings_add(state->findings, kind, subject, "%s: %s%s", path_basename(state->object->path),
		     text, kind == FINDING_KIND_CODE_MISMATCH ? tools(state) : "");
}

/** The instruction of [bytes, bytes + size) that covers @offset starts here. */
static size_t instruction_start(const struct arch *arch, const uint8_t *bytes, size_t size,
				size_t offset, uint64_t address)
{
	size_t at = 0;
	while (at < offset) {
		struct arch_instruction instruction;
		if (!arch->decode(bytes + at, size - at, address + at, &instruction) ||
		    instruction.length == 0)
			return offset;
		if (offset < at + instruction.length)
			break;
		at += instruction.length;
	}
	return at;
}

void match_report_different(struct match_state *state, struct match_unit *unit,
			    struct image_function *function, const struct match_failure *failure)
{
	const struct image *image = state->image;
	const struct object_symbol *symbol = function->symbol;
	uint64_t start = symbol->value, size = match_function_end(symbol) - start;
	const uint8_t *object = unit->section->data + start;
	const uint8_t *linked = image_bytes(image, function->address, 1);
	uint64_t left = image_bytes_left(image, function->address);
	function->difference = failure->offset - start;
	if (!linked || !size) {
		match_report(state, FINDING_KIND_CODE_MISMATCH, symbol->name,
			     "nothing in the target is equal to it");
		return;
	}
	size_t at = instruction_start(image->arch, object, size, function->difference,
				      function->address);
	function->difference = at;
	char expected[96] = "", found[96] = "";
	image->arch->format(object + at, size - at, function->address + at, expected, sizeof(expected));
	if (at < left)
		image->arch->format(linked + at, left - at, function->address + at, found,
				    sizeof(found));
	function->expected = arena_strdup(state->arena, expected);
	function->found = arena_strdup(state->arena, found);
	match_report(state, FINDING_KIND_CODE_MISMATCH, symbol->name,
		     "differs from the target at +0x%llx (0x%llx): expected \"%s\", found \"%s\"%s%s",
		     (unsigned long long)at, (unsigned long long)(function->address + at), expected,
		     found, failure->why ? ": " : "", failure->why ? failure->why : "");
}
