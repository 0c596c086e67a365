// SPDX-License-Identifier: MIT
/*
 * libFuzzer target of the reader of linked files: any bytes give an error or an image of which
 * everything can be asked.
 *
 * Built with clang's -fsanitize=fuzzer,address,undefined from this file and the sources of image,
 * object, arch and base, with -lelf -ldw -lZydis -lsodium; run with -max_len=65536 and a corpus that
 * starts with some small programs and libraries, with and without section headers.
 */
#include "image/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void ask_at(const struct image *image, uint64_t address)
{
	struct image_place place;
	const struct image_symbol *symbol = image_symbol_at(image, address);
	const struct image_symbol **named;
	image_area_at(image, address);
	image_section_name_at(image, address);
	image_relocation_at(image, address);
	image_plt_target(image, address);
	image_bytes(image, address, 16);
	if (symbol) {
		image_symbols_named(image, symbol->name, &named);
		image_place_by_name(image, symbol->name, &place);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
	struct image *image = NULL;
	struct error *error = image_read(bytes, size, "fuzz", &image);
	if (error) {
		error_free(error);
		return 0;
	}
	for (size_t i = 0; i < image->segments.count; i++) {
		const struct image_segment *segment = &image->segments.items[i];
		for (uint64_t at = 0; at < segment->memory_size && at < 4096; at += 8)
			ask_at(image, segment->address + at);
		ask_at(image, segment->address + segment->memory_size);
	}
	for (size_t i = 0; i < image->symbols.count && i < 1000; i++)
		ask_at(image, image->symbols.items[i].address);
	for (size_t i = 0; i < image->relocations.count && i < 1000; i++)
		ask_at(image, image->relocations.items[i].address);
	const uint64_t(*text)[2];
	size_t ranges = image_text_ranges(image, &text);
	for (size_t i = 0; i < ranges; i++)
		ask_at(image, text[i][1] - 1);
	image_symbols_adopt(image, image);
	image_free(image);
	return 0;
}
