// SPDX-License-Identifier: MIT
/*
 * object through its header: what assemblers write is read, asked about, edited, and written so that
 * reading it again and other tools agree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <elf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "object/object.h"

static char directory[] = "/tmp/suture-object-XXXXXX";

static int directory_make(void **state)
{
	(void)state;
	return mkdtemp(directory) ? 0 : -1;
}

static int directory_drop(void **state)
{
	(void)state;
	error_free(tree_remove(directory));
	return 0;
}

static bool run(const char *format, ...) PRINTF(1, 2);
static bool run(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	_cleanup_free_ char *text = xvasprintf(format, args);
	va_end(args);
	_cleanup_free_ char *command = xasprintf("cd %s && %s", directory, text);
	return system(command) == 0;
}

static char *path_of(const char *name)
{
	return xasprintf("%s/%s", directory, name);
}

static void source(const char *name, const char *text)
{
	_cleanup_free_ char *path = path_of(name);
	assert_null(file_write_atomic(path, text, strlen(text), 0644));
}

static struct object *must_open(const char *name)
{
	_cleanup_free_ char *path = path_of(name);
	struct object *object = NULL;
	struct error *error = object_open(path, &object);
	if (error)
		fail_msg("%s", error->message);
	return object;
}

static struct object *assembled(const char *text)
{
	source("a.s", text);
	assert_true(run("gcc -c a.s -o a.o"));
	return must_open("a.o");
}

static struct object *again(struct object *object)
{
	uint8_t *bytes = NULL;
	size_t size;
	struct object *copy = NULL;
	assert_null(object_write(object, &bytes, &size));
	assert_null(object_read(bytes, size, "again", &copy));
	free(bytes);
	return copy;
}

/* ---- reading ------------------------------------------------------------------------------ */

static void reads_sections_and_symbols(void **state)
{
	(void)state;
	_cleanup_object_ struct object *object = assembled("	.file \"one.c\"\n"
							   "	.text\n"
							   "	.globl f\n"
							   "	.type f,@function\n"
							   "f:	call g\n"
							   "	lea d+4(%rip),%rax\n"
							   "	ret\n"
							   "	.size f,.-f\n"
							   "	.type l,@function\n"
							   "l:	ret\n"
							   "	.size l,.-l\n"
							   "	.data\n"
							   "	.hidden d\n"
							   "	.globl d\n"
							   "	.type d,@object\n"
							   "d:	.quad l, w\n"
							   "	.size d,16\n"
							   "	.bss\n"
							   "	.zero 4096\n"
							   "	.comm c,24,16\n"
							   "	.weak w\n"
							   "	.globl a\n"
							   "a = 0x1234\n");
	assert_string_equal(object->arch->name, "x86_64");
	const struct object_section *text = object_section_find(object, ".text");
	const struct object_section *data = object_section_find(object, ".data");
	const struct object_section *bss = object_section_find(object, ".bss");
	assert_null(object_section_find(object, ".symtab"));
	assert_null(object_section_find(object, ".rela.text"));
	assert_true(object_section_is_text(text) && !object_section_is_readonly(text));
	assert_false(object_section_is_text(data));
	assert_int_equal(bss->type, SHT_NOBITS);
	assert_int_equal(bss->size, 4096);
	assert_null(bss->data);
	assert_non_null(bss->section_symbol);
	assert_string_equal(text->section_symbol->name, ".text");

	const struct object_symbol *f = object_symbol_find(object, "f");
	assert_true(object_symbol_is_function(f));
	assert_int_equal(f->bind, STB_GLOBAL);
	assert_int_equal(f->size, 13);
	assert_ptr_equal(f->section, text);
	assert_null(f->file);
	const struct object_symbol *l = object_symbol_find(object, "l");
	assert_int_equal(l->bind, STB_LOCAL);
	assert_string_equal(l->file, "one.c");
	assert_int_equal(object_symbol_find(object, "d")->visibility, STV_HIDDEN);
	const struct object_symbol *c = object_symbol_find(object, "c");
	assert_int_equal(c->special, SHN_COMMON);
	assert_int_equal(c->size, 24);
	assert_int_equal(c->value, 16);
	assert_null(c->section);
	assert_int_equal(object_symbol_find(object, "w")->bind, STB_WEAK);
	const struct object_symbol *a = object_symbol_find(object, "a");
	assert_int_equal(a->special, SHN_ABS);
	assert_int_equal(a->value, 0x1234);
	assert_false(object_symbol_is_function(object_symbol_find(object, "g")));
	assert_null(object_symbol_find(object, "one.c"));
	assert_null(object_symbol_find(object, ".text"));
	assert_null(object_symbol_find(object, ""));

	assert_int_equal(text->relocations.count, 2);
	assert_int_equal(text->relocations.items[0].type, R_X86_64_PLT32);
	assert_string_equal(text->relocations.items[0].symbol->name, "g");
	assert_int_equal(text->relocations.items[0].addend, -4);
	assert_int_equal(data->relocations.count, 2);
	assert_null(data->relocations.items[0].set);
}

static void says_which_compiler(void **state)
{
	(void)state;
	source("c.c", "int f(void) { return 1; }\n");
	assert_true(run("gcc -c c.c -o c.o"));
	_cleanup_object_ struct object *object = must_open("c.o");
	assert_non_null(object->compiler);
	assert_true(string_starts_with(object->compiler, "GCC: "));
}

static void reads_groups_and_links(void **state)
{
	(void)state;
	_cleanup_object_ struct object *object =
		assembled("	.section .text.one,\"axG\",@progbits,one,comdat\n"
			  "	.weak one\n"
			  "	.type one,@function\n"
			  "one:	call two\n"
			  "	.size one,.-one\n"
			  "	.section .table,\"ao\",@progbits,.text.one\n"
			  "	.long one-.\n"
			  "	.section .text.lone,\"axG\",@progbits,nobody,comdat\n"
			  "	nop\n"
			  "	.section .table,\"aoG\",@progbits,.text.lone,nobody\n"
			  "	.long 1\n");
	assert_int_equal(object->groups.count, 2);
	const struct object_section *one = object_section_find(object, ".text.one");
	assert_string_equal(one->group->signature, "one");
	assert_true(one->group->comdat);
	assert_int_equal(one->group->member_count, 1);
	assert_ptr_equal(one->group->members[0], one);
	assert_false(one->flags & SHF_GROUP);
	const struct object_section *lone = object_section_find(object, ".text.lone");
	assert_string_equal(lone->group->signature, "nobody");
	const struct object_section *table = object_section_find(object, ".table");
	assert_ptr_equal(table->link, one);
	assert_true(table->flags & SHF_LINK_ORDER);

	_cleanup_object_ struct object *copy = again(object);
	assert_int_equal(copy->groups.count, 2);
	assert_int_equal(copy->sections.count, object->sections.count);
	for (size_t i = 0; i < copy->sections.count; i++) {
		const struct object_section *a = object->sections.items[i];
		const struct object_section *b = copy->sections.items[i];
		assert_string_equal(a->name, b->name);
		assert_int_equal(a->flags, b->flags);
		assert_int_equal(a->group != NULL, b->group != NULL);
		if (a->group)
			assert_string_equal(a->group->signature, b->group->signature);
		assert_int_equal(a->link != NULL, b->link != NULL);
		if (a->link)
			assert_string_equal(a->link->name, b->link->name);
	}
}

static void reads_compressed_sections(void **state)
{
	(void)state;
	source("z.c", "int f(int a) { return a * 2; }\nint g(int a) { return f(a) + 1; }\n");
	assert_true(
		run("gcc -g -c z.c -o plain.o && objcopy --compress-debug-sections=zlib plain.o "
		    "packed.o"));
	_cleanup_object_ struct object *plain = must_open("plain.o");
	_cleanup_object_ struct object *packed = must_open("packed.o");
	size_t compared = 0;
	for (size_t i = 0; i < plain->sections.count; i++) {
		const struct object_section *a = plain->sections.items[i];
		const struct object_section *b = object_section_find(packed, a->name);
		assert_non_null(b);
		assert_int_equal(a->size, b->size);
		assert_int_equal(a->flags, b->flags);
		assert_int_equal(a->relocations.count, b->relocations.count);
		if (a->size && a->data)
			assert_memory_equal(a->data, b->data, a->size);
		compared += object_section_is_debug(a);
	}
	assert_true(compared >= 3);
}

static void refuses_what_is_no_machine_code(void **state)
{
	(void)state;
	static const struct {
		const char *build, *file, *text;
		enum error_kind kind;
	} cases[] = {
		{"gcc c.o -shared -o c.so", "c.so", "not a relocatable object",
		 ERROR_KIND_UNSUPPORTED},
		{"gcc -flto -fno-fat-lto-objects -c c.c -o slim.o", "slim.o", "-ffat-lto-objects",
		 ERROR_KIND_UNSUPPORTED},
		{"printf 'BC\\300\\336bitcode' > bitcode.o", "bitcode.o", "LLVM bitcode",
		 ERROR_KIND_UNSUPPORTED},
		{"printf '!<arch>\\n%80s' x > c.a", "c.a", "not an ELF file", ERROR_KIND_INPUT},
		{": > empty.o", "empty.o", "too few", ERROR_KIND_INPUT},
		{":", "absent.o", "absent.o", ERROR_KIND_NOT_FOUND},
	};
	source("c.c", "int f(void) { return 1; }\n");
	assert_true(run("gcc -c -fPIC c.c -o c.o"));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_true(run("%s", cases[i].build));
		_cleanup_free_ char *path = path_of(cases[i].file);
		struct object *object = NULL;
		_cleanup_error_ struct error *error = object_open(path, &object);
		assert_non_null(error);
		assert_null(object);
		print_message("%s\n", error->message);
		assert_int_equal(error->kind, cases[i].kind);
		assert_non_null(strstr(error->message, cases[i].text));
		assert_non_null(strstr(error->message, cases[i].file));
	}
	assert_true(run("gcc -flto -ffat-lto-objects -c c.c -o fat.o"));
	_cleanup_object_ struct object *fat = must_open("fat.o");
	assert_non_null(object_symbol_find(fat, "f"));
}

/* ---- queries ------------------------------------------------------------------------------ */

static void finds_what_covers_an_offset(void **state)
{
	(void)state;
	_cleanup_object_ struct object *object = object_create(arch_native(), "made");
	struct object_section *section = object_section_add(object, ".data", SHT_PROGBITS,
							    SHF_ALLOC | SHF_WRITE, 8, NULL, 1000);
	static const struct {
		const char *name;
		uint64_t value, size;
	} made[] = {{"small", 100, 4}, {"big", 0, 500},     {"alias", 100, 4}, {"label", 102, 0},
		    {"tail", 600, 10}, {"bigger", 100, 50}, {"", 700, 50}};
	for (size_t i = 0; i < ARRAY_SIZE(made); i++)
		object_symbol_add(object, made[i].name, STT_OBJECT, STB_GLOBAL, section,
				  made[i].value, made[i].size);
	object_index(object);
	static const struct {
		uint64_t offset;
		const char *name;
	} cases[] = {{0, "big"},      {99, "big"},       {100, "bigger"}, {103, "bigger"},
		     {149, "bigger"}, {150, "big"},      {499, "big"},    {500, NULL},
		     {599, NULL},     {600, "tail"},     {609, "tail"},   {610, NULL},
		     {720, NULL},     {UINT64_MAX, NULL}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct object_symbol *symbol =
			object_symbol_covering(section, cases[i].offset);
		if (cases[i].name) {
			assert_non_null(symbol);
			assert_string_equal(symbol->name, cases[i].name);
		} else {
			assert_null(symbol);
		}
	}
	assert_ptr_equal(section->symbols.items[0], object_symbol_find(object, "big"));
}

static void lists_relocations_of_a_range(void **state)
{
	(void)state;
	_cleanup_object_ struct object *object = object_create(arch_native(), "made");
	struct object_section *section =
		object_section_add(object, ".data", SHT_PROGBITS, SHF_ALLOC, 8, NULL, 64);
	static const uint64_t offsets[] = {40, 8, 16, 8, 0, 56};
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++)
		object_relocation_add(section, offsets[i], R_X86_64_64, object->null_symbol,
				      (int)i);
	object_index(object);
	size_t count;
	const struct object_relocation *found = object_relocations_in(section, 8, 17, &count);
	assert_int_equal(count, 3);
	assert_int_equal(found[0].addend, 1); // of one offset in the order they came
	assert_int_equal(found[1].addend, 3);
	assert_int_equal(found[2].offset, 16);
	assert_null(object_relocations_in(section, 17, 40, &count));
	assert_int_equal(count, 0);
	object_relocations_in(section, 0, UINT64_MAX, &count);
	assert_int_equal(count, 6);
	object_relocations_in(section, 20, 10, &count);
	assert_int_equal(count, 0);
}

// gas writes "section + offset - 4", or more where an immediate stands behind the field.
static void finds_relocation_targets(void **state)
{
	(void)state;
	_cleanup_object_ struct object *object =
		assembled("	.data\n"
			  "	.zero 32\n"
			  ".Ld:	.zero 32\n"
			  "	.section .text.f,\"ax\",@progbits\n"
			  "	.type f,@function\n"
			  "f:	mov .Ld(%rip),%eax\n"
			  "	cmpl $0x12345678,.Ld(%rip)\n"
			  "	cmpb $1,.Ld(%rip)\n"
			  "	cmpw $0x1234,.Ld(%rip)\n"
			  "	lea .Ld+3(%rip),%rdi\n"
			  "	movups .Ld(%rip),%xmm1\n"
			  "	pinsrw $3,.Ld(%rip),%xmm1\n"
			  "	call .Lcold\n"
			  "	jne .Lcold\n"
			  "	movabs $.Ld,%rax\n"
			  "	mov $.Ld,%esi\n"
			  "	call outside\n"
			  "	ret\n"
			  "	.long .Ld-.\n"
			  "	.size f,.-f\n"
			  "	.section .text.cold,\"ax\",@progbits\n"
			  "	nop\n"
			  ".Lcold: ud2\n"
			  "	.section .rodata,\"a\",@progbits\n"
			  "	.long .Ld-.\n");
	static const struct {
		const char *section;
		uint64_t offset;
	} expected[] = {
		{".data", 32}, {".data", 32}, {".data", 32},     {".data", 32},     {".data", 35},
		{".data", 32}, {".data", 32}, {".text.cold", 1}, {".text.cold", 1}, {".data", 32},
		{".data", 32}, {NULL, 0},     {".data", 32},
	};
	const struct object_section *text = object_section_find(object, ".text.f");
	assert_int_equal(text->relocations.count, ARRAY_SIZE(expected));
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++) {
		struct object_section *section = NULL;
		uint64_t offset = 0;
		bool known = object_relocation_target(text, &text->relocations.items[i], &section,
						      &offset);
		assert_int_equal(known, expected[i].section != NULL);
		if (!known)
			continue;
		assert_string_equal(section->name, expected[i].section);
		assert_int_equal(offset, expected[i].offset);
	}
	const struct object_section *rodata = object_section_find(object, ".rodata");
	struct object_section *section = NULL;
	uint64_t offset = 0;
	assert_true(
		object_relocation_target(rodata, &rodata->relocations.items[0], &section, &offset));
	assert_int_equal(offset, 32);
}

static void knows_kinds(void **state)
{
	(void)state;
	_cleanup_object_ struct object *object = object_create(arch_native(), "made");
	const struct object_section *strings =
		object_section_add(object, ".rodata.str1.1", SHT_PROGBITS,
				   SHF_ALLOC | SHF_MERGE | SHF_STRINGS, 1, "", 1);
	const struct object_section *tls = object_section_add(
		object, ".tbss", SHT_NOBITS, SHF_ALLOC | SHF_WRITE | SHF_TLS, 8, NULL, 8);
	const struct object_section *debug =
		object_section_add(object, ".debug_info", SHT_PROGBITS, 0, 1, NULL, 8);
	assert_true(object_section_is_strings(strings) && object_section_is_readonly(strings));
	assert_true(object_section_is_tls(tls) && !object_section_is_readonly(tls));
	assert_true(object_section_is_debug(debug) && !object_section_is_debug(strings));
	static const struct {
		const char *name;
		bool label;
	} cases[] = {{".LC0", true}, {"", true},           {"$x", true},
		     {"$d.1", true}, {"$xrv64i2p1", true}, {"f", false},
		     {"L1", false},  {"$price", false},    {"$", false}};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(object_symbol_is_local_label(object_symbol_add(
					 object, cases[i].name, STT_NOTYPE, STB_LOCAL, NULL, 0, 0)),
				 cases[i].label);
	assert_false(object_symbol_is_local_label(strings->section_symbol));
}

/* ---- editing and writing ------------------------------------------------------------------ */

static void appends_and_adds(void **state)
{
	(void)state;
	_cleanup_object_ struct object *object = object_create(arch_native(), "made");
	assert_null(object_section_find(object, ".text"));
	struct object_section *text = object_section_add(object, ".text", SHT_PROGBITS,
							 SHF_ALLOC | SHF_EXECINSTR, 1, "\xc3", 1);
	assert_ptr_equal(object_section_find(object, ".text"), text);
	assert_int_equal(object_section_append(text, "\x90\xc3", 2, 16), 16);
	assert_int_equal(text->size, 18);
	assert_int_equal(text->align, 16);
	assert_int_equal(text->data[0], 0xc3);
	assert_int_equal(text->data[1], 0xcc); // int3 between functions
	assert_int_equal(text->data[17], 0xc3);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(object_section_append(text, "\xc3", 1, 1), 18 + i);
	assert_int_equal(text->data[0], 0xc3);
	struct object_section *bss =
		object_section_add(object, ".bss", SHT_NOBITS, SHF_ALLOC | SHF_WRITE, 4, NULL, 3);
	assert_int_equal(object_section_append(bss, NULL, 8, 8), 8);
	assert_int_equal(bss->size, 16);

	assert_null(object_symbol_find(object, "f"));
	struct object_symbol *f = object_symbol_add(object, "f", STT_FUNC, STB_GLOBAL, text, 16, 2);
	assert_ptr_equal(object_symbol_find(object, "f"), f);
	object_symbol_add(object, "f", STT_FUNC, STB_LOCAL, text, 0, 1);
	assert_ptr_equal(object_symbol_find(object, "f"), f);
	struct object_symbol *outside =
		object_symbol_add(object, "outside", STT_NOTYPE, STB_GLOBAL, NULL, 0, 0);
	assert_int_equal(outside->special, SHN_UNDEF);
	f->name = "renamed";
	object_index(object);
	assert_ptr_equal(object_symbol_find(object, "renamed"), f);
	assert_int_equal(object_symbol_find(object, "f")->bind, STB_LOCAL);
}

static struct object *with_sets(void)
{
	struct object *object = object_create(arch_native(), "made.o");
	struct object_section *text = object_section_add(object, ".text.f", SHT_PROGBITS,
							 SHF_ALLOC | SHF_EXECINSTR, 16, NULL, 32);
	struct object_symbol *global =
		object_symbol_add(object, "f", STT_FUNC, STB_GLOBAL, text, 0, 32);
	struct object_symbol *local =
		object_symbol_add(object, "l", STT_FUNC, STB_LOCAL, text, 16, 8);
	struct object_symbol *other =
		object_symbol_add(object, ".suture.sym.prog.g,1", STT_FUNC, STB_GLOBAL, NULL, 0, 0);
	other->special = 0xff20; // SHN_LIVEPATCH
	local->file = "one.c";
	object_relocation_add(text, 8, R_X86_64_PC32, other, -4)->set = ".suture.rela.prog";
	object_relocation_add(text, 4, R_X86_64_PLT32, global, -4);
	object_relocation_add(text, 1, R_X86_64_PC32, text->section_symbol, 12);
	object_relocation_add(text, 20, R_X86_64_64, other, 0)->set = ".suture.rela.libc.so.6";
	object_relocation_add(text, 16, R_X86_64_PC32, other, -4)->set = ".suture.rela.prog";
	object_index(object);
	return object;
}

static void writes_sets_of_relocations(void **state)
{
	(void)state;
	_cleanup_object_ struct object *object = with_sets();
	_cleanup_free_ char *path = path_of("sets.o");
	assert_null(object_write_file(object, path));
	assert_true(run("readelf -rW sets.o > sets.txt && "
			"grep -q \"'.rela.text.f'.*contains 2 \" sets.txt && "
			"grep -q \"'.suture.rela.prog.text.f'.*contains 2 \" sets.txt && "
			"grep -q \"'.suture.rela.libc.so.6.text.f'.*contains 1 \" sets.txt"));
	_cleanup_object_ struct object *copy = again(object);
	const struct object_section *text = object_section_find(copy, ".text.f");
	static const char *const sets[] = {NULL, NULL, ".suture.rela.prog", ".suture.rela.prog",
					   ".suture.rela.libc.so.6"};
	assert_int_equal(text->relocations.count, ARRAY_SIZE(sets));
	for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
		if (sets[i])
			assert_string_equal(text->relocations.items[i].set, sets[i]);
		else
			assert_null(text->relocations.items[i].set);
	}
	assert_int_equal(object_symbol_find(copy, ".suture.sym.prog.g,1")->special, 0xff20);
	assert_string_equal(object_symbol_find(copy, "l")->file, "one.c");
}

static void same_graph_same_bytes(void **state)
{
	(void)state;
	_cleanup_object_ struct object *a = with_sets();
	_cleanup_object_ struct object *b = with_sets();
	_cleanup_object_ struct object *c = again(a);
	_cleanup_free_ uint8_t *bytes_a = NULL, *bytes_b = NULL, *bytes_c = NULL;
	size_t size_a, size_b, size_c;
	assert_null(object_write(a, &bytes_a, &size_a));
	assert_null(object_write(b, &bytes_b, &size_b));
	assert_null(object_write(c, &bytes_c, &size_c));
	assert_int_equal(size_a, size_b);
	assert_memory_equal(bytes_a, bytes_b, size_a);
	assert_int_equal(size_a, size_c);
	assert_memory_equal(bytes_a, bytes_c, size_a);
}

static void locals_come_first(void **state)
{
	(void)state;
	_cleanup_object_ struct object *object = with_sets();
	_cleanup_object_ struct object *copy = again(object);
	bool globals = false;
	for (size_t i = 0; i < copy->symbols.count; i++) {
		const struct object_symbol *symbol = copy->symbols.items[i];
		assert_false(globals && symbol->bind == STB_LOCAL && symbol->type != STT_SECTION);
		globals |= symbol->bind != STB_LOCAL;
	}
	assert_true(object_symbol_find(object, "l")->index <
		    object_symbol_find(object, "f")->index);
}

// As many sections as need the extended index, in time that grows with them.
static void writes_more_sections_than_16_bits_count(void **state)
{
	(void)state;
	enum { COUNT = 66000 };
	_cleanup_object_ struct object *object = object_create(arch_native(), "many.o");
	struct object_symbol *last = NULL;
	for (int i = 0; i < COUNT; i++) {
		char name[32];
		snprintf(name, sizeof(name), ".text.f%d", i);
		struct object_section *section =
			object_section_add(object, name, SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, 1,
					   "\xe8\0\0\0\0\xc3", 6);
		struct object_symbol *symbol =
			object_symbol_add(object, name + 6, STT_FUNC, STB_GLOBAL, section, 0, 6);
		if (last)
			object_relocation_add(section, 1, R_X86_64_PLT32, last, -4);
		last = symbol;
	}
	object_index(object);

	struct timespec start, end;
	uint8_t *bytes = NULL;
	size_t size;
	assert_null(object_write(object, &bytes, &size));
	_cleanup_object_ struct object *copy = NULL;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
	assert_null(object_read(bytes, size, "many.o", &copy));
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	double seconds =
		(double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
	print_message("%d sections read in %.3f s\n", COUNT, seconds);
	// 0.1 s is usual; a quadratic reader takes minutes. Room for sanitizers and busy machines.
	assert_true(seconds < 10);

	assert_int_equal(copy->sections.count, COUNT);
	const struct object_symbol *symbol = object_symbol_find(copy, "f65999");
	assert_string_equal(symbol->section->name, ".text.f65999");
	assert_string_equal(symbol->section->relocations.items[0].symbol->name, "f65998");
	assert_string_equal(object_section_find(copy, ".text.f65280")->symbols.items[0]->name,
			    "f65280");

	_cleanup_free_ char *path = path_of("many.o");
	assert_null(file_write_atomic(path, bytes, size, 0644));
	free(bytes);
	assert_true(run("readelf -hW many.o | grep -q 'section headers: *0 (13[0-9]*)' && "
			"readelf -sW many.o | grep -q ' f65999$' && ld.bfd -r many.o -o many2.o"));
	_cleanup_object_ struct object *linked = must_open("many2.o");
	assert_string_equal(object_symbol_find(linked, "f65999")->section->name, ".text.f65999");
}

/* ---- round trip --------------------------------------------------------------------------- */

static const char program_c[] =
	"#include <stdio.h>\n"
	"#include <string.h>\n"
	"static __thread int counter = 40;\n"
	"extern int sum(const char *);\n"
	"static const char *names[] = { \"zero\", \"one\", \"two\", \"three\", \"four\", \"five\" };\n"
	"static int pick(int n) {\n"
	"	switch (n) {\n"
	"	case 0: return puts(names[0]); case 1: return puts(names[1]);\n"
	"	case 2: return puts(names[2]); case 3: return puts(names[3]);\n"
	"	case 4: return printf(\"%d\\n\", counter++); case 5: return puts(names[5]);\n"
	"	case 6: return printf(\"%d\\n\", sum(names[3])); default: return 0;\n"
	"	}\n"
	"}\n"
	"int main(void) { for (int i = 0; i < 8; i++) pick(i); return counter == 41 ? 0 : 1; }\n";

static const char library_cc[] =
	"#include <stdexcept>\n"
	"#include <string>\n"
	"#include <vector>\n"
	"template <typename T> struct box { T t; virtual ~box() {} virtual int get() { return t; } };\n"
	"inline int &total() { static int value = 1; return value; }\n"
	"extern \"C\" int sum(const char *text) {\n"
	"	std::vector<std::string> parts;\n"
	"	for (const char *at = text; *at; at++) parts.push_back(std::string(3, *at));\n"
	"	try { if (parts.size() > 4) throw std::runtime_error(\"five\"); }\n"
	"	catch (const std::exception &e) { total() += std::string(e.what()).size(); }\n"
	"	box<int> b; b.t = total(); return b.get() + parts.size();\n"
	"}\n";

static void rewritten_objects_link_and_run(void **state)
{
	(void)state;
	static const char *const flags[] = {
		"-O2 -g",
		"-O0 -fPIC",
		"-O2 -fPIE -ffunction-sections -fdata-sections -g -gz",
		"-O2 -fno-plt -fpatchable-function-entry=5",
		"-Os -fno-asynchronous-unwind-tables",
	};
	static const char *const compilers[] = {"g++", "clang++"};
	source("program.c", program_c);
	source("library.cc", library_cc);
	for (size_t c = 0; c < ARRAY_SIZE(compilers); c++) {
		if (!run("echo 'int main(){}' | %s -x c++ - -o compiles > /dev/null 2>&1",
			 compilers[c])) {
			print_message("%s does not work here\n", compilers[c]);
			continue;
		}
		const char *plain = c == 0 ? "gcc" : "clang";
		for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
			print_message("%s %s\n", compilers[c], flags[i]);
			assert_true(run("%s %s -c program.c -o program.o", plain, flags[i]));
			assert_true(
				run("%s %s -c library.cc -o library.o", compilers[c], flags[i]));
			static const char *const names[] = {"program.o", "library.o"};
			for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
				_cleanup_object_ struct object *object = must_open(names[k]);
				_cleanup_free_ char *path = path_of(names[k]);
				assert_null(object_write_file(object, path));
				// Nothing to complain about, and nothing else changes when read again.
				assert_true(run("readelf -aW %s 2>&1 > /dev/null | cmp - /dev/null",
						names[k]));
				_cleanup_object_ struct object *copy = must_open(names[k]);
				_cleanup_free_ char *twice = path_of("twice.o");
				assert_null(object_write_file(copy, twice));
				assert_true(run("cmp twice.o %s", names[k]));
			}
			assert_true(
				run("%s program.o library.o -o program && ./program > out.txt && "
				    "printf 'zero\\none\\ntwo\\nthree\\n40\\nfive\\n10\\n' | "
				    "cmp - out.txt",
				    compilers[c]));
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_sections_and_symbols),
		cmocka_unit_test(says_which_compiler),
		cmocka_unit_test(reads_groups_and_links),
		cmocka_unit_test(reads_compressed_sections),
		cmocka_unit_test(refuses_what_is_no_machine_code),
		cmocka_unit_test(finds_what_covers_an_offset),
		cmocka_unit_test(lists_relocations_of_a_range),
		cmocka_unit_test(finds_relocation_targets),
		cmocka_unit_test(knows_kinds),
		cmocka_unit_test(appends_and_adds),
		cmocka_unit_test(writes_sets_of_relocations),
		cmocka_unit_test(same_graph_same_bytes),
		cmocka_unit_test(locals_come_first),
		cmocka_unit_test(writes_more_sections_than_16_bits_count),
		cmocka_unit_test(rewritten_objects_link_and_run),
	};
	return cmocka_run_group_tests_name("object", tests, directory_make, directory_drop);
}
