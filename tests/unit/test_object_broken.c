// SPDX-License-Identifier: MIT
/*
 * Broken ELF, on purpose and at random. What is broken on purpose gets an error that names the
 * section and the offset; what is broken at random gets an error or a graph that can be walked,
 * written and read again. Under the sanitizers this is what finds a missing check.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <elf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "object/object.h"

/* ---- on purpose --------------------------------------------------------------------------- */

struct file {
	uint8_t *bytes;
	size_t size;
};

// Sections of the file that file_make() makes, by number.
enum { GROUP = 1, TEXT, TEXT_RELA, DATA, TABLE, BSS, SYMTAB, STRTAB, SHSTRTAB };

static struct file file_make(void)
{
	_cleanup_object_ struct object *object = object_create(arch_native(), "made.o");
	struct object_section *text = object_section_add(object, ".text.f", SHT_PROGBITS,
							 SHF_ALLOC | SHF_EXECINSTR, 16, NULL, 32);
	struct object_section *data = object_section_add(object, ".data", SHT_PROGBITS,
							 SHF_ALLOC | SHF_WRITE, 8, NULL, 64);
	struct object_section *table = object_section_add(object, ".table", SHT_PROGBITS,
							  SHF_ALLOC | SHF_LINK_ORDER, 8, NULL, 8);
	object_section_add(object, ".bss", SHT_NOBITS, SHF_ALLOC | SHF_WRITE, 8, NULL, 64);
	table->link = text;
	struct object_symbol *f = object_symbol_add(object, "f", STT_FUNC, STB_GLOBAL, text, 0, 32);
	object_symbol_add(object, "d", STT_OBJECT, STB_GLOBAL, data, 8, 16);
	object_relocation_add(text, 1, R_X86_64_PLT32, f, -4);
	object_relocation_add(text, 8, R_X86_64_PC32, data->section_symbol, 4);
	struct object_group *group = arena_new(object->arena, struct object_group);
	group->signature = "f";
	group->comdat = true;
	group->members = arena_array(object->arena, 1, sizeof(*group->members));
	group->members[0] = text;
	group->member_count = 1;
	text->group = group;
	vec_push(&object->groups, group);
	object_index(object);
	struct file file;
	assert_null(object_write(object, &file.bytes, &file.size));
	return file;
}

static Elf64_Ehdr *header(const struct file *file)
{
	return (Elf64_Ehdr *)(void *)file->bytes;
}

static Elf64_Shdr *section(const struct file *file, size_t index)
{
	return (Elf64_Shdr *)(void *)(file->bytes + header(file)->e_shoff) + index;
}

static Elf64_Sym *symbol(const struct file *file, size_t index)
{
	return (Elf64_Sym *)(void *)(file->bytes + section(file, SYMTAB)->sh_offset) + index;
}

static Elf64_Rela *relocation(const struct file *file, size_t index)
{
	return (Elf64_Rela *)(void *)(file->bytes + section(file, TEXT_RELA)->sh_offset) + index;
}

static Elf64_Word *group_word(const struct file *file, size_t index)
{
	return (Elf64_Word *)(void *)(file->bytes + section(file, GROUP)->sh_offset) + index;
}

#define BREAK(name, statement)              \
	static void name(struct file *file) \
	{                                   \
		statement;                  \
	}
// clang-format off
BREAK(cut_header, file->size = 63)
BREAK(cut_sections, file->size -= 1)
BREAK(cut_in_half, file->size /= 2)
BREAK(bad_magic, file->bytes[1] = 'F')
BREAK(bad_order, file->bytes[EI_DATA] = 3)
BREAK(other_class, file->bytes[EI_CLASS] = ELFCLASS32)
BREAK(other_machine, header(file)->e_machine = 0x7777)
BREAK(executable, header(file)->e_type = ET_EXEC)
BREAK(no_table, header(file)->e_shoff = 0)
BREAK(far_table, header(file)->e_shoff = UINT64_MAX - 63)
BREAK(outside_table, header(file)->e_shoff = file->size)
BREAK(entry_size, header(file)->e_shentsize = 40)
BREAK(many_sections, header(file)->e_shnum = 0xfeff)
BREAK(huge_count, header(file)->e_shnum = 0; section(file, 0)->sh_size = UINT64_MAX / 64 + 2)
BREAK(no_count, header(file)->e_shnum = 0)
BREAK(no_names, header(file)->e_shstrndx = 0)
BREAK(names_outside, header(file)->e_shstrndx = 99)
BREAK(names_extended, header(file)->e_shstrndx = SHN_XINDEX; section(file, 0)->sh_link = 1 << 30)
BREAK(names_no_table, header(file)->e_shstrndx = TEXT)
BREAK(name_outside, section(file, DATA)->sh_name = 1 << 20)
BREAK(name_endless, Elf64_Shdr *s = section(file, SHSTRTAB);
      section(file, DATA)->sh_name = (uint32_t)s->sh_size - 1;
      file->bytes[s->sh_offset + s->sh_size - 1] = 'x')
BREAK(far_section, section(file, DATA)->sh_offset = UINT64_MAX - 8)
BREAK(outside_section, section(file, DATA)->sh_offset = file->size - 63)
BREAK(huge_section, section(file, DATA)->sh_size = UINT64_MAX)
BREAK(large_section, section(file, DATA)->sh_size = file->size)
BREAK(overlapping, section(file, DATA)->sh_offset = 0; section(file, DATA)->sh_size = file->size;
      section(file, TABLE)->sh_offset = 0; section(file, TABLE)->sh_size = file->size)
BREAK(huge_nobits, section(file, BSS)->sh_size = UINT64_MAX)
BREAK(alignment, section(file, DATA)->sh_addralign = 24)
BREAK(link_outside, section(file, TABLE)->sh_link = 77)
BREAK(link_to_table, section(file, TABLE)->sh_link = STRTAB)
BREAK(two_symtabs, section(file, DATA)->sh_type = SHT_SYMTAB)
BREAK(symbol_size, section(file, SYMTAB)->sh_entsize = 16)
BREAK(symbol_part, section(file, SYMTAB)->sh_size -= 1)
BREAK(symbol_strings, section(file, SYMTAB)->sh_link = 0)
BREAK(symbol_strings_outside, section(file, SYMTAB)->sh_link = 0xffffffff)
BREAK(symbol_strings_kind, section(file, SYMTAB)->sh_link = DATA)
BREAK(symbol_name, symbol(file, 2)->st_name = 1 << 20)
BREAK(symbol_section, symbol(file, 2)->st_shndx = 50)
BREAK(symbol_extended, symbol(file, 2)->st_shndx = SHN_XINDEX)
BREAK(symbol_outside, symbol(file, 2)->st_value = 33; symbol(file, 2)->st_size = 0)
BREAK(symbol_long, symbol(file, 2)->st_size = 33)
BREAK(symbol_wraps, symbol(file, 2)->st_value = 16; symbol(file, 2)->st_size = UINT64_MAX - 8)
BREAK(relocation_outside, relocation(file, 0)->r_offset = 29)
BREAK(relocation_wraps, relocation(file, 0)->r_offset = UINT64_MAX - 2)
BREAK(relocation_type, relocation(file, 0)->r_info = ELF64_R_INFO(2, 199))
BREAK(relocation_symbol, relocation(file, 0)->r_info = ELF64_R_INFO(1000, R_X86_64_PC32))
BREAK(relocation_size, section(file, TEXT_RELA)->sh_entsize = 16)
BREAK(relocation_part, section(file, TEXT_RELA)->sh_size -= 8)
BREAK(relocation_target, section(file, TEXT_RELA)->sh_info = 0)
BREAK(relocation_target_outside, section(file, TEXT_RELA)->sh_info = 4000)
BREAK(relocation_of_table, section(file, TEXT_RELA)->sh_info = STRTAB)
BREAK(relocation_of_bss, section(file, TEXT_RELA)->sh_info = BSS)
BREAK(relocation_table, section(file, TEXT_RELA)->sh_link = DATA)
BREAK(no_symtab, section(file, SYMTAB)->sh_type = SHT_PROGBITS)
BREAK(group_short, section(file, GROUP)->sh_size = 2)
BREAK(group_outside, *group_word(file, 1) = 1234)
BREAK(group_null, *group_word(file, 1) = 0)
BREAK(group_twice, *group_word(file, 2) = TEXT)
BREAK(group_signature, section(file, GROUP)->sh_info = 400)
BREAK(compressed_short, section(file, TABLE)->sh_flags |= SHF_COMPRESSED)
BREAK(compressed_bomb, section(file, DATA)->sh_flags |= SHF_COMPRESSED;
      uint8_t *at = file->bytes + section(file, DATA)->sh_offset; at[0] = ELFCOMPRESS_ZLIB;
      memset(at + 8, 0x7f, 8))
BREAK(compressed_garbage, section(file, DATA)->sh_flags |= SHF_COMPRESSED;
      uint8_t *at = file->bytes + section(file, DATA)->sh_offset; at[0] = ELFCOMPRESS_ZLIB;
      at[8] = 200; at[16] = 1; memset(at + 24, 0x5a, 40))
// clang-format on

static const struct {
	void (*damage)(struct file *);
	const char *text; // in the error
	bool unsupported;
} cases[] = {
	{cut_header, "63 bytes", false},
	{cut_sections, "section headers at", false},
	{cut_in_half, "section headers at", false},
	{bad_magic, "not an ELF file", false},
	{bad_order, "byte order 3", false},
	{other_class, "class 1", true},
	{other_machine, "CPU 30583", true},
	{executable, "ELF type 2", true},
	{no_table, "no sections", false},
	{far_table, "0xffffffffffffffc0 lie outside", false},
	{outside_table, "lie outside", false},
	{entry_size, "40 bytes, expected 64", false},
	{many_sections, "65279 section headers", false},
	{huge_count, "section headers at", false},
	{no_count, "no sections", false},
	{no_names, "name table 0", false},
	{names_outside, "name table 99", false},
	{names_extended, "name table 1073741824", false},
	{names_no_table, "section 2: not a string table", false},
	{name_outside, "section 4: its name at 0x100000", false},
	{name_endless, "section 9: its last string has no end", false},
	{far_section, "section 4: [0xfffffffffffffff7, +0x40)", false},
	{outside_section, "section 4: [", false},
	{huge_section, "+0xffffffffffffffff) lies outside", false},
	{large_section, "section 4: [", false},
	{overlapping, "sections overlap", false},
	{huge_nobits, "section 6: size 0xffffffffffffffff", false},
	{alignment, "section 4: alignment 0x18", false},
	{link_outside, "section 5 \".table\": is linked to section 77", false},
	{link_to_table, "section 5 \".table\": is linked to section 8", false},
	{two_symtabs, "section 7 \".symtab\": a second symbol table", false},
	{symbol_size, "section 7 \".symtab\": 0x", false},
	{symbol_part, "in entries of 24", false},
	{symbol_strings, "string table 0", false},
	{symbol_strings_outside, "string table 4294967295", false},
	{symbol_strings_kind, "section 4 \".data\": not a string table", false},
	{symbol_name, "symbol 2 at 0x100000", false},
	{symbol_section, "symbol 2 lies in section 50 of 10", false},
	{symbol_extended, "symbol 2 has its section in an index table", false},
	{symbol_outside, "section 2 \".text.f\": symbol 2 \"f\" at [0x21, +0x0)", false},
	{symbol_long, "symbol 2 \"f\" at [0x0, +0x21) lies outside its 0x20 bytes", false},
	{symbol_wraps, "symbol 2", false},
	{relocation_outside, "section 3 \".rela.text.f\": relocation 0 at 0x1d (R_X86_64_PLT32)",
	 false},
	{relocation_wraps, "relocation 0 at 0xfffffffffffffffd", false},
	{relocation_type, "type 199, which x86_64 does not have", false},
	{relocation_symbol, "symbol 1000, which does not exist", false},
	{relocation_size, "section 3 \".rela.text.f\": 0x30 bytes in entries of 16", false},
	{relocation_part, "0x28 bytes in entries of 24", false},
	{relocation_target, "relocates section 0 of 10", false},
	{relocation_target_outside, "relocates section 4000 of 10", false},
	{relocation_of_table, "section 8 \".strtab\", which has no content", false},
	{relocation_of_bss, "section 6 \".bss\", which has no content", false},
	{relocation_table, "symbol table 4 does not exist", false},
	{no_symtab, "section 1 \".group\": its signature, symbol", false},
	{group_short, "section 1 \".group\": 0x2 bytes", false},
	{group_outside, "member 0 is section 1234 of 10", false},
	{group_null, "member 0 is section 0", false},
	{group_twice, "member 1, section 2, is in another group or here twice", false},
	{group_signature, "symbol 400", false},
	{compressed_short, "too short for a compression header", false},
	{compressed_bomb, "cannot hold 0x7f7f7f7f7f7f7f7f", false},
	{compressed_garbage, "compressed bytes cannot be read", false},
};

static void broken_on_purpose_is_named(void **state)
{
	(void)state;
	struct file whole = file_make();
	struct object *object = NULL;
	assert_null(object_read(whole.bytes, whole.size, "made.o", &object));
	object_free(object);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		// A block of exactly its size, so that a step behind it is seen.
		struct file file = {xmemdup(whole.bytes, whole.size), whole.size};
		cases[i].damage(&file);
		uint8_t *bytes = xmemdup(file.bytes, file.size);
		object = NULL;
		struct error *error = object_read(bytes, file.size, "made.o", &object);
		if (!error)
			fail_msg("expected \"%s\"", cases[i].text);
		assert_null(object);
		print_message("%s\n", error->message);
		assert_int_equal(error->kind,
				 cases[i].unsupported ? ERROR_KIND_UNSUPPORTED : ERROR_KIND_INPUT);
		assert_true(string_starts_with(error->message, "made.o: "));
		assert_non_null(strstr(error->message, cases[i].text));
		error_free(error);
		free(bytes);
		free(file.bytes);
	}
	free(whole.bytes);
}

static void every_truncation_is_an_error(void **state)
{
	(void)state;
	struct file whole = file_make();
	for (size_t size = 0; size < whole.size; size++) {
		uint8_t *bytes = xmemdup(whole.bytes, size);
		struct object *object = NULL;
		struct error *error = object_read(bytes, size, "cut", &object);
		assert_non_null(error);
		error_free(error);
		free(bytes);
	}
	free(whole.bytes);
}

/* ---- at random ---------------------------------------------------------------------------- */

static uint64_t seed = 0x9e3779b97f4a7c15;

// xorshift64* (S. Vigna, 2016): the same mutants on every machine.
static uint64_t random_next(void)
{
	seed ^= seed >> 12;
	seed ^= seed << 25;
	seed ^= seed >> 27;
	return seed * 0x2545f4914f6cdd1d;
}

static size_t random_below(size_t limit)
{
	return (size_t)(random_next() % limit);
}

// Numbers at which arithmetic goes wrong.
static uint64_t random_number(size_t file_size)
{
	static const uint64_t numbers[] = {
		0,
		1,
		2,
		7,
		0xff,
		0x100,
		0xff00,
		0xfff1,
		0xfff2,
		0xffff,
		0x10000,
		0x7fffffff,
		0x80000000,
		0xffffffff,
		0x100000000,
		INT64_MAX,
		(uint64_t)INT64_MAX + 1,
		UINT64_MAX,
		UINT64_MAX - 7,
	};
	switch (random_below(4)) {
	case 0:
		return random_next();
	case 1:
		return file_size - 16 + random_below(32);
	default:
		return numbers[random_below(ARRAY_SIZE(numbers))];
	}
}

static size_t mutate(uint8_t *bytes, size_t size)
{
	size_t changes = 1 + random_below(6);
	size_t headers = (size_t)header(&(struct file){bytes, size})->e_shoff;
	for (size_t i = 0; i < changes; i++) {
		size_t width = (size_t)1 << random_below(4);
		size_t at;
		switch (random_below(4)) {
		case 0: // the file's header
			at = random_below(sizeof(Elf64_Ehdr) / width) * width;
			break;
		case 1: // a section header
		case 2:
			at = headers + random_below((size - headers) / width) * width;
			break;
		default:
			at = random_below(size / width) * width;
			break;
		}
		uint64_t number = random_number(size);
		memcpy(bytes + at, &number, width);
	}
	return random_below(10) == 0 ? random_below(size) : size;
}

static void walk(const struct object *object)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < object->sections.count; i++) {
		const struct object_section *at = object->sections.items[i];
		for (uint64_t k = 0; at->data && k < at->size; k++)
			sum += at->data[k];
		for (size_t k = 0; k < at->relocations.count; k++) {
			struct object_section *target;
			uint64_t offset;
			if (object_relocation_target(at, &at->relocations.items[k], &target,
						     &offset))
				sum += object_symbol_covering(target, offset) != NULL;
		}
		assert_ptr_equal(at->section_symbol->section, at);
		assert_true(!at->link || at->link->object == object);
	}
	for (size_t i = 0; i < object->symbols.count; i++) {
		const struct object_symbol *at = object->symbols.items[i];
		sum += object_symbol_find(object, at->name) != NULL;
		if (at->section)
			assert_true(range_within(at->value, at->size, at->section->size));
	}
	assert_true(sum != UINT64_MAX);
}

static void mutants_are_refused_or_read(void **state)
{
	(void)state;
	enum { MUTANTS = 5000 };
	char directory[] = "/tmp/suture-mutants-XXXXXX";
	assert_non_null(mkdtemp(directory));
	// The objects of a real compiler, with each kind of section.
	_cleanup_free_ char *build = xasprintf(
		"cd %s && printf '%%s' '%s' > a.cc && g++ -g -O1 -ffunction-sections -c a.cc -o 0.o && "
		"g++ -O1 -g -gz -c a.cc -o 1.o && g++ -O2 -fPIC -c a.cc -o 2.o",
		directory,
		"#include <stdexcept>\n"
		"template <class T> struct box { T t; virtual T get() { return t; } };\n"
		"thread_local int mine; static int table[] = {1, 2, 3};\n"
		"int get(int i) { box<int> b; b.t = i; if (i > 2) throw i; return b.get() + table[i] + mine++; }\n"
		"int main() { try { return get(1); } catch (int i) { return i; } }\n");
	assert_int_equal(system(build), 0);

	struct file files[4] = {0};
	for (size_t i = 0; i < 3; i++) {
		_cleanup_free_ char *path = xasprintf("%s/%zu.o", directory, i);
		char *bytes;
		assert_null(file_read(path, &bytes, &files[i].size));
		files[i].bytes = (uint8_t *)bytes;
	}
	files[3] = file_make();
	error_free(tree_remove(directory));

	size_t read = 0;
	for (size_t i = 0; i < MUTANTS; i++) {
		const struct file *file = &files[i % ARRAY_SIZE(files)];
		uint8_t *mutant = xmemdup(file->bytes, file->size);
		size_t size = mutate(mutant, file->size);
		uint8_t *exact = xmemdup(mutant, size);
		free(mutant);

		struct object *object = NULL;
		struct error *error = object_read(exact, size, "mutant", &object);
		free(exact);
		assert_true((error == NULL) == (object != NULL));
		if (error) {
			assert_true(error->kind == ERROR_KIND_INPUT ||
				    error->kind == ERROR_KIND_UNSUPPORTED);
			error_free(error);
			continue;
		}
		read++;
		walk(object);
		uint8_t *bytes = NULL;
		struct object *copy = NULL;
		assert_null(object_write(object, &bytes, &size));
		error = object_read(bytes, size, "rewritten mutant", &copy);
		if (error)
			fail_msg("mutant %zu: %s", i, error->message);
		assert_int_equal(copy->sections.count, object->sections.count);
		object_free(copy);
		object_free(object);
		free(bytes);
	}
	print_message("%zu of %d mutants were read\n", read, MUTANTS);
	assert_true(read > MUTANTS / 20 && read < MUTANTS);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		free(files[i].bytes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(broken_on_purpose_is_named),
		cmocka_unit_test(every_truncation_is_an_error),
		cmocka_unit_test(mutants_are_refused_or_read),
	};
	return cmocka_run_group_tests_name("broken objects", tests, NULL, NULL);
}
