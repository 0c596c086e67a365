// SPDX-License-Identifier: MIT
/* Linked files: what is read of them, with and without section headers, symbols, debug files. */
#include "image_support.h"

#include <elf.h>

static const char source[] =
	"#include <stdio.h>\n"
	"#include <stdlib.h>\n"
	"static int twice; static int data_local = 3; int data_global = 4; static int bss_local;\n"
	"const int constant[] = {1, 2, 3}; __thread int tls_first = 1; static __thread int tls_second;\n"
	"extern void *const pointers[]; void *const pointers[] = {&data_global, &data_local};\n"
	"static __attribute__((noinline)) int helper(int x) { return x * 3 + bss_local++ + ++twice; }\n"
	"int other(int);\n"
	"int main(int c, char **v) { (void)v; tls_second = c; printf(\"%d\\n\", helper(c) + other(c));\n"
	"	return tls_first + data_local++ + constant[c % 3] + (pointers[c % 2] == v); }\n";
static const char other[] =
	"static int twice; int aliased(int x) { return x + ++twice; }\n"
	"int alias(int) __attribute__((alias(\"aliased\")));\n"
	"static __attribute__((noinline)) int helper(int x) { return x * 5 + twice; }\n"
	"int other(int x) { return helper(x) + aliased(x); }\n"
	"__asm__(\".text\\n.globl unsized\\n.type unsized,@function\\nunsized: nop\\nnop\\nret\\n\");\n";

static int build(void **state)
{
	if (directory_make(state) != 0)
		return -1;
	source_write("p.c", source);
	source_write("q.c", other);
	run("gcc -O1 -g -fPIE -c p.c q.c && gcc -pie -Wl,--build-id,-z,relro,-z,now -o full p.o q.o && "
	    "strip -o bare full && objcopy --only-keep-debug full full.debug && "
	    "objcopy -S --add-gnu-debuglink=full.debug full linked && gcc -shared -fPIC -O1 "
	    "-Wl,-soname,libx.so.1 -o libx.so q.c && gcc -O1 -static -o still p.c q.c");
	// Without section headers: e_shoff, e_shnum and e_shstrndx are zero.
	run("cp bare headless && printf '\\0\\0\\0\\0\\0\\0\\0\\0' | dd of=headless bs=1 seek=40 conv=notrunc && "
	    "printf '\\0\\0\\0\\0' | dd of=headless bs=1 seek=60 conv=notrunc");
	return 0;
}

static const struct image_symbol *only(const struct image *image, const char *name)
{
	const struct image_symbol **named;
	if (image_symbols_named(image, name, &named) != 1)
		fail_msg("'%s' is not there once", name);
	return named[0];
}

static void basics(void **state)
{
	(void)state;
	_cleanup_image_ struct image *image = open_image("full", NULL);
	assert_string_equal(image->name, "full");
	assert_ptr_equal(image->arch, arch_native());
	assert_int_equal(image->type, ET_DYN);
	assert_false(image->static_linked);
	assert_true(image->has_symtab);
	assert_int_equal(image->build_id.size, 20);
	assert_non_null(strstr(image->compiler, "GCC"));
	assert_null(image->soname);
	assert_true(image->eh_frame && image->eh_frame_size && image->eh_frame_hdr);
	assert_true(image->needed.count >= 1);
	assert_string_equal(image->needed.items[0], "libc.so.6");
	assert_true(image->tls_memory_size >= 4);

	assert_int_equal(image_area_at(image, only(image, "main")->address), IMAGE_AREA_TEXT);
	assert_int_equal(image_area_at(image, only(image, "data_global")->address), IMAGE_AREA_DATA);
	assert_int_equal(image_area_at(image, only(image, "bss_local")->address), IMAGE_AREA_BSS);
	assert_int_equal(image_area_at(image, only(image, "constant")->address), IMAGE_AREA_RODATA);
	assert_int_equal(image_area_at(image, only(image, "pointers")->address), IMAGE_AREA_RELRO);
	assert_int_equal(image_area_at(image, 1), IMAGE_AREA_NONE);
	assert_int_equal(image_area_at(image, UINT64_MAX), IMAGE_AREA_NONE);
	assert_int_equal(only(image, "tls_first")->type, STT_TLS);
	assert_true(only(image, "tls_first")->address < image->tls_memory_size);
	assert_string_equal(image_section_name_at(image, only(image, "main")->address), ".text");

	// A constant's bytes; none of .bss.
	int value;
	memcpy(&value, image_bytes(image, only(image, "constant")->address + 4, 4), 4);
	assert_int_equal(value, 2);
	assert_null(image_bytes(image, only(image, "bss_local")->address, 4));
	assert_null(image_bytes(image, only(image, "constant")->address, UINT64_MAX));

	const struct image_relocation *relocation =
		image_relocation_at(image, only(image, "pointers")->address);
	assert_int_equal(relocation->addend, only(image, "data_global")->address);
}

static void symbols(void **state)
{
	(void)state;
	_cleanup_image_ struct image *image = open_image("full", NULL);
	const struct image_symbol **named;
	assert_int_equal(image_symbols_named(image, "helper", &named), 2);
	assert_true(named[0]->address < named[1]->address);
	assert_int_equal(named[0]->position, 1);
	assert_int_equal(named[1]->position, 2);
	// In whatever order they were linked, each has its file.
	assert_true(strcmp(named[0]->file, "p.c") == 0 || strcmp(named[0]->file, "q.c") == 0);
	assert_string_not_equal(named[0]->file, named[1]->file);
	assert_int_equal(only(image, "main")->position, 0);
	assert_null(only(image, "main")->file);
	assert_int_equal(image_symbols_named(image, "nobody", &named), 0);

	const struct image_symbol *main_symbol = only(image, "main");
	assert_ptr_equal(image_symbol_at(image, main_symbol->address), main_symbol);
	assert_ptr_equal(image_symbol_at(image, main_symbol->address + main_symbol->size - 1),
			 main_symbol);
	const struct image_symbol *aliased = only(image, "aliased");
	const struct image_symbol *at = image_symbol_at(image, aliased->address + 1);
	assert_int_equal(at->address, aliased->address);
	const struct image_symbol *unsized = only(image, "unsized");
	assert_ptr_equal(image_symbol_at(image, unsized->address + 1), unsized);
	assert_null(image_symbol_at(image, UINT64_MAX));
}

/** The PLT entry or GOT slot of printf or puts is found by what it is filled with. */
static void imports(void **state)
{
	(void)state;
	static const char *const files[] = {"full", "bare", "headless"};
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_image_ struct image *image = open_image(files[i], NULL);
		size_t found = 0;
		for (size_t j = 0; j < image->segments.count; j++) {
			const struct image_segment *segment = &image->segments.items[j];
			if (!(segment->flags & PF_X))
				continue;
			for (uint64_t at = 0; at < segment->memory_size; at += 8) {
				const struct image_relocation *plt =
					image_plt_target(image, segment->address + at);
				if (!plt || strcmp(plt->symbol, "printf") != 0)
					continue;
				assert_non_null(plt->version);
				assert_int_equal(strncmp(plt->version, "GLIBC_", 6), 0);
				assert_false(plt->symbol_defined);
				found++;
			}
		}
		assert_int_equal(found, 1);
		struct image_place place;
		assert_true(image_place_by_name(image, "printf", &place));
		assert_int_equal(place.kind, IMAGE_PLACE_IMPORT);
		assert_string_equal(place.name, "printf");
		assert_false(image_place_by_name(image, "nobody", &place));
	}
}

static void headless(void **state)
{
	(void)state;
	_cleanup_image_ struct image *with = open_image("full", NULL);
	_cleanup_image_ struct image *without = open_image("headless", NULL);
	assert_false(without->has_symtab);
	assert_true(build_id_equal(&with->build_id, &without->build_id));
	assert_int_equal(without->relocations.count, with->relocations.count);
	assert_int_equal(without->eh_frame, with->eh_frame);
	assert_in_range(without->eh_frame_size, with->eh_frame_size, with->eh_frame_size + 8);
	assert_string_equal(without->needed.items[0], "libc.so.6");
	assert_int_equal(image_area_at(without, only(with, "main")->address), IMAGE_AREA_TEXT);
	assert_int_equal(image_area_at(without, only(with, "data_global")->address), IMAGE_AREA_DATA);
	assert_int_equal(image_area_at(without, only(with, "bss_local")->address), IMAGE_AREA_BSS);
	assert_int_equal(image_area_at(without, only(with, "pointers")->address), IMAGE_AREA_RELRO);
	assert_null(image_section_name_at(without, only(with, "main")->address));
	const uint64_t(*text)[2];
	assert_int_equal(image_text_ranges(without, &text), 1);
}

static void debug_files(void **state)
{
	(void)state;
	// By .gnu_debuglink, beside the file.
	_cleanup_image_ struct image *linked = open_image("linked", NULL);
	assert_true(linked->has_symtab);
	assert_int_equal(only(linked, "main")->source, IMAGE_SYMBOL_DEBUG);
	assert_string_equal(only(linked, "bss_local")->file, "p.c");
	// By name.
	_cleanup_image_ struct image *named = open_image("bare", "full.debug");
	assert_true(named->has_symtab);
	// Another's, or one that is none.
	struct image *image = NULL;
	_cleanup_free_ char *bare = path_of("bare"), *still = path_of("still"), *code = path_of("p.c");
	struct error *error = image_open(bare, still, &image);
	assert_non_null(error);
	assert_int_equal(error->kind, ERROR_KIND_INPUT);
	assert_non_null(strstr(error->message, "build ID"));
	error_free(error);
	error = image_open(bare, code, &image);
	assert_non_null(error);
	assert_int_equal(error->kind, ERROR_KIND_INPUT);
	error_free(error);
	error = image_open(bare, "/nonexistent/file", &image);
	assert_non_null(error);
	assert_int_equal(error->kind, ERROR_KIND_NOT_FOUND);
	error_free(error);
	assert_null(image);
}

static void adopt(void **state)
{
	(void)state;
	_cleanup_image_ struct image *full = open_image("full", NULL);
	_cleanup_image_ struct image *bare = open_image("bare", NULL);
	_cleanup_image_ struct image *still = open_image("still", NULL);
	assert_false(image_symbols_adopt(bare, still));
	assert_false(bare->has_symtab);
	assert_true(image_symbols_adopt(bare, full));
	assert_int_equal(only(bare, "main")->source, IMAGE_SYMBOL_BUILD);
	assert_int_equal(only(bare, "main")->address, only(full, "main")->address);

	// Another build ID, the same content; and one byte of code that is another.
	run("gcc -O1 -g -fPIE -c p.c q.c && gcc -pie -Wl,--build-id=0x1234,-z,relro,-z,now -o again p.o q.o && "
	    "gcc -pie -Wl,--build-id=0x5678,-z,relro,-z,now -o again2 p.o q.o && strip again && "
	    "sed 's/x \\* 3/x * 5/' p.c > p5.c && gcc -O1 -g -fPIE -c p5.c && "
	    "gcc -pie -Wl,--build-id=0x5678,-z,relro,-z,now -o changed p5.o q.o");
	_cleanup_image_ struct image *again = open_image("again", NULL);
	_cleanup_image_ struct image *again2 = open_image("again2", NULL);
	_cleanup_image_ struct image *changed = open_image("changed", NULL);
	assert_false(build_id_equal(&again->build_id, &again2->build_id));
	assert_false(image_symbols_adopt(again, changed));
	assert_true(image_symbols_adopt(again, again2));
	assert_true(again->has_symtab);
}

static void kinds(void **state)
{
	(void)state;
	_cleanup_image_ struct image *library = open_image("libx.so", NULL);
	assert_string_equal(library->soname, "libx.so.1");
	assert_false(library->static_linked);
	struct image_place place;
	assert_true(image_place_by_name(library, "alias", &place));
	assert_int_equal(place.kind, IMAGE_PLACE_ADDRESS);
	assert_int_equal(place.value, only(library, "alias")->address);
	assert_string_equal(place.proof, "symtab");
	_cleanup_image_ struct image *still = open_image("still", NULL);
	assert_true(still->static_linked);
	assert_true(still->relocations.count > 0); // IRELATIVE

	static const struct {
		const char *name, *text;
	} wrong[] = {{"p.o", "relocatable object"}, {"p.c", "not an ELF file"}, {"empty", "not an ELF file"}};
	source_write("empty", "");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		_cleanup_free_ char *path = path_of(wrong[i].name);
		struct image *image = NULL;
		struct error *error = image_open(path, NULL, &image);
		assert_non_null(error);
		assert_int_equal(error->kind, ERROR_KIND_INPUT);
		assert_non_null(strstr(error->message, wrong[i].text));
		error_free(error);
	}
	struct image *image = NULL;
	struct error *error = image_open("/nonexistent/file", NULL, &image);
	assert_non_null(error);
	assert_int_equal(error->kind, ERROR_KIND_NOT_FOUND);
	error_free(error);
}

// ---- broken files

static void ask(const struct image *image)
{
	struct image_place place;
	for (size_t i = 0; i < image->segments.count; i++) {
		const struct image_segment *segment = &image->segments.items[i];
		for (uint64_t at = 0; at < segment->memory_size && at < 8192; at += 8) {
			uint64_t address = segment->address + at;
			image_area_at(image, address);
			image_section_name_at(image, address);
			image_symbol_at(image, address);
			image_relocation_at(image, address);
			image_plt_target(image, address);
		}
	}
	for (size_t i = 0; i < image->symbols.count && i < 500; i++)
		image_place_by_name(image, image->symbols.items[i].name, &place);
}

static void truncated(void **state)
{
	(void)state;
	_cleanup_free_ char *path = path_of("full");
	_cleanup_free_ char *bytes = NULL;
	size_t size;
	assert_null(file_read(path, &bytes, &size));
	for (size_t cut = 0; cut < size; cut += cut < 1024 ? 13 : 997) {
		struct image *image = NULL;
		struct error *error = image_read(bytes, cut, "cut", &image);
		// Section headers stand at the end, so none of these is whole.
		assert_non_null(error);
		assert_int_equal(error->kind, ERROR_KIND_INPUT);
		error_free(error);
	}
}

/** Any change gives an error or an image that answers; an object is compared with it, too. */
static void mutants(void **state)
{
	(void)state;
	static const char *const files[] = {"full", "bare", "headless", "libx.so"};
	static const uint64_t words[] = {0, 1, 0x7f, 0xff, 0xffff, 0x7fffffff, 0xffffffff,
					 UINT64_MAX, UINT64_MAX / 2, UINT64_MAX - 7, 0x1000};
	uint64_t random = 12345;
	size_t whole = 0;
	_cleanup_object_ struct object *object = open_object("p.o");
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *path = path_of(files[i]);
		_cleanup_free_ char *bytes = NULL;
		size_t size;
		assert_null(file_read(path, &bytes, &size));
		_cleanup_free_ char *copy = xmalloc(size);
		for (int round = 0; round < 1500; round++) {
			memcpy(copy, bytes, size);
			for (int change = 0; change < 1 + round % 4; change++) {
				random = random * UINT64_C(6364136223846793005) + 1442695040888963407;
				// Half of them where the tables stand: at the start and at the end.
				size_t at = (size_t)(random >> 20) % size;
				if (random >> 61 & 1)
					at = random >> 62 & 1 ? at % 4096 : size - 1 - at % 4096;
				uint64_t word = words[(random >> 10) % ARRAY_SIZE(words)];
				size_t width = (size_t)1 << (random >> 17 & 3);
				memcpy(copy + at, &word, at + width <= size ? width : 1);
			}
			struct image *image = NULL;
			struct error *error = image_read(copy, size, "mutant", &image);
			if (error) {
				assert_true(error->kind == ERROR_KIND_INPUT ||
					    error->kind == ERROR_KIND_UNSUPPORTED);
				error_free(error);
				continue;
			}
			whole++;
			ask(image);
			if (round % 8 == 0 && object->arch == image->arch) {
				struct findings findings = {0};
				struct image_match *result = match(image, object, &findings);
				image_match_free(result);
				findings_deinit(&findings);
			}
			image_free(image);
		}
	}
	assert_true(whole > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(basics),      cmocka_unit_test(symbols), cmocka_unit_test(imports),
		cmocka_unit_test(headless),    cmocka_unit_test(debug_files),
		cmocka_unit_test(adopt),       cmocka_unit_test(kinds),   cmocka_unit_test(truncated),
		cmocka_unit_test(mutants),
	};
	return cmocka_run_group_tests(tests, build, directory_remove);
}
