// SPDX-License-Identifier: MIT
/*
 * libFuzzer target of the object reader: any bytes give an error or a graph that can be walked,
 * written and read again.
 *
 * Built with clang's -fsanitize=fuzzer,address,undefined from this file and the sources of object,
 * arch and base, with -lelf -lZydis -lsodium; run with -max_len=65536 and a corpus that starts with
 * some small objects.
 */
#include <stdlib.h>

#include "object/object.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void walk(const struct object *object)
{
	for (size_t i = 0; i < object->sections.count; i++) {
		const struct object_section *section = object->sections.items[i];
		size_t count;
		object_relocations_in(section, section->size / 2, section->size, &count);
		for (size_t k = 0; k < section->relocations.count; k++) {
			struct object_section *target;
			uint64_t offset;
			if (object_relocation_target(section, &section->relocations.items[k],
						     &target, &offset))
				object_symbol_covering(target, offset);
		}
		object_section_find(object, section->name);
	}
	for (size_t i = 0; i < object->symbols.count; i++)
		object_symbol_find(object, object->symbols.items[i]->name);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct object *object = NULL, *copy = NULL;
	struct error *error = object_read(bytes, size, "fuzz", &object);
	if (error) {
		error_free(error);
		return 0;
	}
	walk(object);
	uint8_t *written = NULL;
	size_t written_size;
	error = object_write(object, &written, &written_size);
	// Only what was read can be written, so neither may fail.
	if (error || object_read(written, written_size, "rewritten", &copy))
		abort();
	object_free(copy);
	object_free(object);
	free(written);
	return 0;
}
