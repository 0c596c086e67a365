// SPDX-License-Identifier: MIT
/*
 * Every row of the table of linker rewrites, against the linkers: assembly that invites each rewrite
 * is linked by bfd, gold, lld and mold as an executable, a position-independent one and a shared
 * library, and each function of the object must be explained by what was linked, with every
 * recovered value right. Then each byte of the linked code is changed in turn: either the function is
 * no longer explained, or the byte was part of a value and the value changed.
 *
 * A linker that is not installed is left out, and the rows that only it makes with it.
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

static char directory[] = "/tmp/suture-rewrite-XXXXXX";

/* ---- what is linked ----------------------------------------------------------------------- */

// @x@ is replaced by the suffix of the symbols: "" for those of the program, "_ext" for a library's.
static const char main_source[] =
	"	.macro F name\n"
	"	.globl \\name\n"
	"	.type \\name,@function\n"
	"\\name:\n"
	"	.endm\n"
	"	.text\n"
	// Only what every linker relaxes refers to `moved`: mold makes a GOT slot, and then relaxes
	// nothing of that symbol, as soon as one reference needs it.
	"	F mov\n"
	"	mov moved@x@@GOTPCREL(%rip),%rax\n"
	"	mov moved@x@@GOTPCREL(%rip),%rsp\n"
	"	mov moved@x@@GOTPCREL(%rip),%r9\n"
	"	mov moved@x@@GOTPCREL(%rip),%r15\n"
	"	ret\n"
	"	.size mov,.-mov\n"
	"	F mov32\n"
	"	mov loaded@x@@GOTPCREL(%rip),%ecx\n"
	"	mov loaded@x@@GOTPCREL(%rip),%r10d\n"
	"	.byte 0x48,0x8b,0x05\n" // as assemblers before GOTPCRELX wrote it
	"	.reloc .,R_X86_64_GOTPCREL,loaded@x@-4\n"
	"	.long 0\n"
	"	ret\n"
	"	.size mov32,.-mov32\n"
	"	F operand\n"
	"	test %rax,loaded@x@@GOTPCREL(%rip)\n"
	"	test %r9,loaded@x@@GOTPCREL(%rip)\n"
	"	test %ecx,loaded@x@@GOTPCREL(%rip)\n"
	"	add loaded@x@@GOTPCREL(%rip),%rbx\n"
	"	or loaded@x@@GOTPCREL(%rip),%rbp\n"
	"	adc loaded@x@@GOTPCREL(%rip),%r9\n"
	"	sbb loaded@x@@GOTPCREL(%rip),%rsp\n"
	"	and loaded@x@@GOTPCREL(%rip),%rdi\n"
	"	sub loaded@x@@GOTPCREL(%rip),%r12\n"
	"	xor loaded@x@@GOTPCREL(%rip),%ecx\n"
	"	cmp loaded@x@@GOTPCREL(%rip),%rdx\n"
	"	push loaded@x@@GOTPCREL(%rip)\n"
	"	cmpq $1,loaded@x@@GOTPCREL(%rip)\n"
	"	ret\n"
	"	.size operand,.-operand\n"
	"	F calls\n"
	"	call *callee@x@@GOTPCREL(%rip)\n"
	"	call callee@x@@PLT\n"
	"	call local\n"
	"	lea local+3(%rip),%rax\n"
	"	cmpl $5,local+4(%rip)\n"
	"	jmp *callee@x@@GOTPCREL(%rip)\n"
	"	.size calls,.-calls\n"
	"	F gd\n"
	"	.byte 0x66\n"
	"	leaq thread@x@@tlsgd(%rip),%rdi\n"
	"	.value 0x6666\n"
	"	rex64\n"
	"	call __tls_get_addr@PLT\n"
	"	.byte 0x66\n"
	"	leaq thread@x@@tlsgd(%rip),%rdi\n"
	"	.byte 0x66\n"
	"	rex64\n"
	"	call *__tls_get_addr@GOTPCREL(%rip)\n"
	"	ret\n"
	"	.size gd,.-gd\n"
	"	F ld\n"
	"	leaq here@tlsld(%rip),%rdi\n"
	"	call __tls_get_addr@PLT\n"
	"	lea here@dtpoff(%rax),%rcx\n"
	"	leaq here@tlsld(%rip),%rdi\n"
	"	call *__tls_get_addr@GOTPCREL(%rip)\n"
	"	mov here@dtpoff+2(%rax),%ecx\n"
	"	ret\n"
	"	.size ld,.-ld\n"
	"	F ie\n"
	"	mov initial@x@@gottpoff(%rip),%rax\n"
	"	mov initial@x@@gottpoff(%rip),%r13\n"
	"	mov initial@x@@gottpoff(%rip),%rsp\n"
	"	mov initial@x@@gottpoff(%rip),%r12\n"
	"	ret\n"
	"	.size ie,.-ie\n"
	"	F ie_add\n"
	"	add added@x@@gottpoff(%rip),%rax\n"
	"	add added@x@@gottpoff(%rip),%r13\n"
	"	add added@x@@gottpoff(%rip),%rsp\n"
	"	add added@x@@gottpoff(%rip),%r12\n"
	"	ret\n"
	"	.size ie_add,.-ie_add\n"
	"	F desc\n"
	"	lea described@x@@tlsdesc(%rip),%rax\n"
	"	call *described@x@@tlscall(%rax)\n"
	"	lea described@x@@tlsdesc(%rip),%r9\n"
	"	ret\n"
	"	.size desc,.-desc\n"
	"	F _start\n"
	"	ret\n"
	"	.size _start,.-_start\n"
	"	F local\n"
	"	nop\n"
	"	nop\n"
	"	ret\n"
	"	.long 0,0,0\n"
	"	.size local,.-local\n"
	"	.section .tdata,\"awT\",@progbits\n"
	"	.quad 0\n"
	"	.globl here\n"
	"here:	.quad 1\n";

static const char definitions_source[] =
	"	.text\n"
	"	.globl callee@x@\n"
	"	.type callee@x@,@function\n"
	"callee@x@: ret\n"
	"	.size callee@x@,1\n"
	"	.data\n"
	"	.globl moved@x@, loaded@x@\n"
	"	.type moved@x@,@object\n"
	"	.type loaded@x@,@object\n"
	"	.size moved@x@,8\n"
	"	.size loaded@x@,8\n"
	"moved@x@: .quad 1\n"
	"loaded@x@: .quad 1\n"
	"	.section .tdata,\"awT\",@progbits\n"
	"	.globl thread@x@, initial@x@, added@x@, described@x@\n"
	"	.long 1\n"
	"thread@x@: .long 2\n"
	"initial@x@: .long 3\n"
	"added@x@: .long 4\n"
	"described@x@: .long 5\n";

static const char get_addr_source[] = "	.text\n"
				      "	.globl __tls_get_addr\n"
				      "	.type __tls_get_addr,@function\n"
				      "__tls_get_addr: ret\n"
				      "	.size __tls_get_addr,1\n";

// The call of the large code model, with either register that may hold the GOT.
static const char large_source[] = "	.macro INVOKE register\n"
				   "	movabsq $__tls_get_addr@pltoff,%rax\n"
				   "	addq \\register,%rax\n"
				   "	call *%rax\n"
				   "	.endm\n"
				   "	.text\n"
				   "	.globl gd, ld, got, _start\n"
				   "	.type gd,@function\n"
				   "gd:	leaq thread@x@@tlsgd(%rip),%rdi\n"
				   "	INVOKE %rbx\n"
				   "	leaq thread@x@@tlsgd(%rip),%rdi\n"
				   "	INVOKE %r15\n"
				   "	ret\n"
				   "	.size gd,.-gd\n"
				   "	.type ld,@function\n"
				   "ld:	leaq here@tlsld(%rip),%rdi\n"
				   "	INVOKE %rbx\n"
				   "	ret\n"
				   "	.size ld,.-ld\n"
				   "	.type got,@function\n"
				   "got:	movabs $_GLOBAL_OFFSET_TABLE_-got,%rax\n"
				   "	movabs $moved@x@@GOT,%rax\n"
				   "	movabs $_start@GOTOFF,%rax\n"
				   "	movabs $_start,%rax\n"
				   "	ret\n"
				   "	.size got,.-got\n"
				   "	.type _start,@function\n"
				   "_start: ret\n"
				   "	.size _start,.-_start\n"
				   "	.section .tdata,\"awT\",@progbits\n"
				   "	.quad 0\n"
				   "	.globl here\n"
				   "here:	.quad 1\n";

enum linker { BFD = 1, GOLD = 2, LLD = 4, MOLD = 8, ALL = 15 };
static const char *const linker_names[] = {
	[BFD] = "bfd", [GOLD] = "gold", [LLD] = "lld", [MOLD] = "mold"};
static unsigned installed;

struct link {
	const char *object; // main, external, large, large_external
	const char *options;
	unsigned linkers;
	bool shared, external;
};

static const struct link links[] = {
	{"main", "", ALL, false, false},
	{"main", "-pie", ALL, false, false},
	{"main", "-shared -Bsymbolic", ALL, true, false},
	{"main", "--no-relax", ALL, false, false},
	{"main", "-pie --no-relax", ALL, false, false},
	{"main", "-pie -z call-nop=suffix-0x90", BFD, false, false},
	{"main", "-pie -z call-nop=prefix-0x90", BFD, false, false},
	{"external", "library.so", ALL, false, true},
	{"external", "-pie library.so", ALL, false, true},
	{"external", "-shared -Bsymbolic library.so", ALL, true, true},
	{"large", "", BFD | MOLD, false, false},
	{"large", "-pie", BFD, false, false},
	{"large", "-shared -Bsymbolic", BFD, true, false},
	{"large_external", "-pie library.so", BFD, false, true},
};

// Which linker must have made which rewrite in one of the links. mold 2.x is tested by bytes.
static struct expectation {
	const char *name;
	unsigned linkers;
	unsigned seen;
} expectations[] = {
	{"plain", ALL, 0},
	{"GOTPCRELX: mov to lea", ALL, 0},
	{"GOTPCRELX: mov to mov immediate", BFD, 0},
	{"GOTPCRELX: test to test immediate", BFD | LLD, 0},
	{"GOTPCRELX: operand to immediate", BFD | LLD, 0},
	{"GOTPCRELX: call through GOT to call", BFD | GOLD | LLD, 0},
	{"GOTPCRELX: call through GOT to nop, call", BFD | MOLD, 0},
	{"GOTPCRELX: call through GOT to call, nop", BFD, 0},
	{"GOTPCRELX: jmp through GOT to jmp, nop", BFD | GOLD | LLD, 0},
	{"GOTPCRELX: jmp through GOT to nop, jmp", MOLD, 0},
	{"GD to LE", BFD | GOLD | LLD, 0},
	{"GD to LE: add", MOLD, 0},
	{"GD to IE", BFD | GOLD | LLD, 0},
	{"GD to LE: large", BFD, 0},
	{"GD to LE: large, add", MOLD, 0},
	{"LD to LE: large, block", MOLD, 0},
	{"GD to IE: large", BFD, 0},
	{"LD to LE", BFD | GOLD | LLD, 0},
	{"LD to LE: block", MOLD, 0},
	{"LD to LE: large", BFD, 0},
	{"IE to LE: mov", ALL, 0},
	{"IE to LE: add to lea", BFD | GOLD | LLD, 0},
	{"IE to LE: add", BFD | GOLD | LLD, 0},
	{"TLSDESC to LE", ALL, 0},
	{"TLSDESC to IE", BFD | GOLD | LLD, 0},
	{"TLSDESC call to nop", ALL, 0},
};

/* ---- building ----------------------------------------------------------------------------- */

static void run(const char *format, ...) PRINTF(1, 2);
static void run(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	_cleanup_free_ char *text = xvasprintf(format, args);
	va_end(args);
	_cleanup_free_ char *command = xasprintf("cd %s && %s", directory, text);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
}

static void assemble(const char *name, const char *source, const char *suffix)
{
	struct buffer text = {0};
	for (const char *at = source; *at;) {
		if (string_starts_with(at, "@x@")) {
			buffer_puts(&text, suffix);
			at += 3;
		} else {
			buffer_append(&text, at++, 1);
		}
	}
	_cleanup_free_ char *path = xasprintf("%s/%s.s", directory, name);
	assert_null(file_write_atomic(path, text.bytes, text.size, 0644));
	buffer_deinit(&text);
	run("gcc -c %s.s -o %s.o", name, name);
}

static int build(void **state)
{
	(void)state;
	if (!mkdtemp(directory))
		return -1;
	for (unsigned linker = 1; linker < ALL; linker *= 2) {
		_cleanup_free_ char *command =
			xasprintf("ld.%s --version > /dev/null 2>&1", linker_names[linker]);
		if (system(command) == 0)
			installed |= linker;
		else
			print_message("ld.%s is not installed\n", linker_names[linker]);
	}
	assemble("main", main_source, "");
	assemble("external", main_source, "_ext");
	assemble("large", large_source, "");
	assemble("large_external", large_source, "_ext");
	assemble("definitions", definitions_source, "");
	assemble("library", definitions_source, "_ext");
	assemble("get_addr", get_addr_source, "");
	run("gcc -shared -nostdlib library.o -o library.so");
	return 0;
}

static int clean(void **state)
{
	(void)state;
	error_free(tree_remove(directory));
	return 0;
}

/* ---- the linked file, read without suture -------------------------------------------------- */

struct linked {
	char *bytes;
	size_t size;
	const Elf64_Shdr *sections;
	size_t section_count;
	const Elf64_Sym *symbols;
	size_t symbol_count;
	const char *names, *section_names;
	uint64_t tls_start, tls_end; // tls_end: the thread pointer's place
};

static void linked_open(const char *path, struct linked *ret)
{
	struct linked linked = {0};
	struct error *error = file_read(path, &linked.bytes, &linked.size);
	assert_null(error);
	const Elf64_Ehdr *header = (const void *)linked.bytes;
	linked.sections = (const void *)(linked.bytes + header->e_shoff);
	linked.section_count = header->e_shnum;
	linked.section_names = linked.bytes + linked.sections[header->e_shstrndx].sh_offset;
	for (size_t i = 0; i < linked.section_count; i++) {
		const Elf64_Shdr *section = &linked.sections[i];
		if (section->sh_type != SHT_SYMTAB)
			continue;
		linked.symbols = (const void *)(linked.bytes + section->sh_offset);
		linked.symbol_count = section->sh_size / sizeof(Elf64_Sym);
		linked.names = linked.bytes + linked.sections[section->sh_link].sh_offset;
	}
	const Elf64_Phdr *segments = (const void *)(linked.bytes + header->e_phoff);
	for (size_t i = 0; i < header->e_phnum; i++) {
		if (segments[i].p_type != PT_TLS)
			continue;
		linked.tls_start = segments[i].p_vaddr;
		linked.tls_end =
			segments[i].p_vaddr + align_up(segments[i].p_memsz, segments[i].p_align);
	}
	*ret = linked;
}

static const Elf64_Sym *linked_symbol(const struct linked *linked, const char *name)
{
	for (size_t i = 0; i < linked->symbol_count; i++)
		if (linked->symbols[i].st_shndx != SHN_UNDEF &&
		    string_equal(linked->names + linked->symbols[i].st_name, name))
			return &linked->symbols[i];
	return NULL;
}

static const Elf64_Shdr *linked_section(const struct linked *linked, uint64_t address)
{
	for (size_t i = 1; i < linked->section_count; i++) {
		const Elf64_Shdr *section = &linked->sections[i];
		if ((section->sh_flags & SHF_ALLOC) && !(section->sh_flags & SHF_TLS) &&
		    address - section->sh_addr < section->sh_size)
			return section;
	}
	return NULL;
}

static bool linked_in_section(const struct linked *linked, uint64_t address, const char *prefix)
{
	const Elf64_Shdr *section = linked_section(linked, address);
	return section && string_starts_with(linked->section_names + section->sh_name, prefix);
}

static uint64_t linked_word(const struct linked *linked, uint64_t address)
{
	uint64_t word;
	const Elf64_Shdr *section = linked_section(linked, address);
	assert_non_null(section);
	memcpy(&word, linked->bytes + section->sh_offset + (address - section->sh_addr),
	       sizeof(word));
	return word;
}

/* ---- matching a function ------------------------------------------------------------------ */

struct code {
	const struct object_symbol *symbol;
	const uint8_t *object;
	size_t size;
	uint64_t address;
	struct arch_site sites[64];
	const struct object_symbol *symbols[64];
	size_t count;
};

static void code_of(const struct object_symbol *symbol, uint64_t address, struct code *ret)
{
	*ret = (struct code){
		.symbol = symbol,
		.object = symbol->section->data + symbol->value,
		.size = symbol->size,
		.address = address,
	};
	size_t count;
	const struct object_relocation *relocations = object_relocations_in(
		symbol->section, symbol->value, symbol->value + symbol->size, &count);
	assert_true(count <= ARRAY_SIZE(ret->sites));
	for (size_t i = 0; i < count; i++) {
		ret->sites[i] = (struct arch_site){relocations[i].offset - symbol->value,
						   relocations[i].type, relocations[i].addend};
		ret->symbols[i] = relocations[i].symbol;
	}
	ret->count = count;
}

// Is all of @bytes explained? @ret: what each relocation became, .name NULL for a call used up.
static bool explained(const struct code *code, const uint8_t *bytes, struct arch_rewrite ret[64])
{
	uint8_t covered[512] = {0};
	assert_true(code->size <= sizeof(covered));
	memset(ret, 0, 64 * sizeof(*ret));
	for (size_t i = 0; i < code->count;) {
		struct arch_rewrite *rewrite = &ret[i];
		if (!arch_native()->rewrite_match(code->object, bytes, code->size, code->address,
						  code->sites, code->count, i, rewrite))
			return false;
		assert_true(rewrite->start <= rewrite->end && rewrite->end <= code->size);
		assert_true(rewrite->relocations >= 1);
		memset(covered + rewrite->start, 1, rewrite->end - rewrite->start);
		i += rewrite->relocations;
	}
	for (size_t i = 0; i < code->size; i++)
		if (!covered[i] && code->object[i] != bytes[i])
			return false;
	return true;
}

static void check_value(const struct linked *linked, const struct link *link,
			const struct arch_rewrite *rewrite, const struct object_symbol *symbol)
{
	const Elf64_Sym *target = linked_symbol(linked, symbol->name);
	bool known = target != NULL;
	uint64_t address = known ? target->st_value : 0;
	uint64_t value = rewrite->value;
	switch (rewrite->reference) {
	case ARCH_REFERENCE_NONE:
		assert_int_equal(value, 0);
		break;
	case ARCH_REFERENCE_ADDRESS:
		// A PLT entry else, with or without a section name that says so.
		if (known)
			assert_int_equal(value, address);
		else
			assert_true(linked_in_section(linked, value, ".plt") ||
				    linked_in_section(linked, value, ".iplt"));
		break;
	case ARCH_REFERENCE_GOT_SLOT:
		assert_true(linked_in_section(linked, value, ".got"));
		if (known && !link->shared && !strstr(link->options, "-pie"))
			assert_int_equal(linked_word(linked, value), address);
		break;
	case ARCH_REFERENCE_TPOFF:
		if (strstr(rewrite->name, "block"))
			address = linked->tls_start;
		else
			address += linked->tls_start; // TLS symbols count from their segment
		assert_true(known);
		assert_int_equal(value, address - linked->tls_end);
		break;
	case ARCH_REFERENCE_DTPOFF:
		assert_true(known);
		assert_int_equal(value, address);
		break;
	case ARCH_REFERENCE_TPOFF_SLOT:
	case ARCH_REFERENCE_TLS_PAIR:
	case ARCH_REFERENCE_TLS_MODULE_PAIR:
	case ARCH_REFERENCE_TLS_DESC:
		assert_true(linked_in_section(linked, value, ".got"));
		break;
	case ARCH_REFERENCE_GOT_BASE:
		assert_true(linked_in_section(linked, value, ".got"));
		break;
	case ARCH_REFERENCE_GOT_OFFSET:
	case ARCH_REFERENCE_GOT_SLOT_OFFSET: {
		const Elf64_Sym *got = linked_symbol(linked, "_GLOBAL_OFFSET_TABLE_");
		assert_non_null(got);
		if (rewrite->reference == ARCH_REFERENCE_GOT_SLOT_OFFSET)
			assert_true(linked_in_section(linked, value + got->st_value, ".got"));
		else if (known)
			assert_int_equal(value + got->st_value, address);
		break;
	}
	case ARCH_REFERENCE_SIZE:
		fail();
	}
}

static void note_seen(const char *name, unsigned linker)
{
	for (size_t i = 0; i < ARRAY_SIZE(expectations); i++) {
		if (string_equal(expectations[i].name, name)) {
			expectations[i].seen |= linker;
			return;
		}
	}
	fail_msg("no expectation for \"%s\"", name);
}

// One changed byte must show: as a mismatch, or in a value.
static void check_every_byte(const struct code *code, const uint8_t *bytes)
{
	struct arch_rewrite before[64], after[64];
	uint8_t changed[512];
	assert_true(explained(code, bytes, before));
	memcpy(changed, bytes, code->size);
	for (size_t i = 0; i < code->size; i++) {
		changed[i] ^= 0x10;
		if (explained(code, changed, after)) {
			bool shown = false;
			for (size_t k = 0; k < code->count && !shown; k++)
				shown = before[k].value != after[k].value;
			if (!shown)
				fail_msg("%s: byte %zu means nothing", code->symbol->name, i);
		}
		changed[i] ^= 0x10;
	}
}

static void check_link(const struct link *link, unsigned linker)
{
	const char *rest = link->external ? "" : "definitions.o";
	// The library's symbols are there, __tls_get_addr is everywhere.
	run("ld.%s %s.o %s get_addr.o %s -o linked", linker_names[linker], link->object, rest,
	    link->options);

	_cleanup_free_ char *object_path = xasprintf("%s/%s.o", directory, link->object);
	_cleanup_free_ char *linked_path = xasprintf("%s/linked", directory);
	_cleanup_object_ struct object *object = NULL;
	assert_null(object_open(object_path, &object));
	struct linked linked;
	linked_open(linked_path, &linked);

	for (size_t i = 0; i < object->symbols.count; i++) {
		const struct object_symbol *symbol = object->symbols.items[i];
		if (!object_symbol_is_function(symbol))
			continue;
		const Elf64_Sym *at = linked_symbol(&linked, symbol->name);
		assert_non_null(at);
		const Elf64_Shdr *text = linked_section(&linked, at->st_value);
		const uint8_t *bytes = (const uint8_t *)linked.bytes + text->sh_offset +
				       (at->st_value - text->sh_addr);
		struct code code;
		struct arch_rewrite rewrites[64];
		code_of(symbol, at->st_value, &code);
		if (!explained(&code, bytes, rewrites))
			fail_msg("%s of %s by %s %s is not explained", symbol->name, link->object,
				 linker_names[linker], link->options);
		for (size_t k = 0; k < code.count; k++) {
			if (!rewrites[k].name)
				continue;
			note_seen(rewrites[k].name, linker);
			check_value(&linked, link, &rewrites[k], code.symbols[k]);
		}
		check_every_byte(&code, bytes);
	}
	free(linked.bytes);
}

static void explains_what_linkers_make(void **state)
{
	(void)state;
	for (unsigned linker = 1; linker < ALL; linker *= 2) {
		for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
			if (!(links[i].linkers & linker & installed))
				continue;
			print_message("%s %s %s\n", linker_names[linker], links[i].object,
				      links[i].options);
			check_link(&links[i], linker);
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(expectations); i++) {
		const struct expectation *row = &expectations[i];
		for (unsigned linker = 1; linker < ALL; linker *= 2)
			if (row->linkers & installed & linker & ~row->seen)
				fail_msg("%s did not make \"%s\"", linker_names[linker], row->name);
	}
}

/* ---- rows without a linker here ----------------------------------------------------------- */

struct bytes {
	const char *name;
	uint32_t types[2];
	size_t offsets[2];
	const char *object, *linked;
	enum arch_reference reference;
	uint64_t value; // at 0x1000
};

// mold 2.37, src/arch-x86-64.cc; __tls_get_addr's call as in the psABI.
// clang-format off
static const struct bytes by_bytes[] = {
	{"GOTPCRELX: call through GOT to rex call", {R_X86_64_GOTPCRELX}, {2},
	 "ff1500000000", "40e810000000", ARCH_REFERENCE_ADDRESS, 0x1016},
	{"GOTPCRELX: jmp through GOT to rex jmp", {R_X86_64_GOTPCRELX}, {2},
	 "ff2500000000", "40e9f0ffffff", ARCH_REFERENCE_ADDRESS, 0xff6},
	{"GD to LE: add", {R_X86_64_TLSGD, R_X86_64_PLT32}, {4, 12},
	 "66488d3d00000000666648e800000000", "64488b0425000000004881c0f0ffffff",
	 ARCH_REFERENCE_TPOFF, (uint64_t)-16},
	{"GD to LE: add", {R_X86_64_TLSGD, R_X86_64_GOTPCRELX}, {4, 12},
	 "66488d3d000000006648ff1500000000", "64488b0425000000004881c0f0ffffff",
	 ARCH_REFERENCE_TPOFF, (uint64_t)-16},
	{"GD to LE: large, add", {R_X86_64_TLSGD, R_X86_64_PLTOFF64}, {3, 9},
	 "488d3d0000000048b800000000000000004801d8ffd0",
	 "64488b0425000000004881c0f0ffffff660f1f440000", ARCH_REFERENCE_TPOFF, (uint64_t)-16},
	{"LD to LE: block", {R_X86_64_TLSLD, R_X86_64_GOTPCRELX}, {3, 9},
	 "488d3d00000000ff1500000000", "4831c064488b00482d20000000",
	 ARCH_REFERENCE_TPOFF, (uint64_t)-32},
	{"LD to LE: large, block", {R_X86_64_TLSLD, R_X86_64_PLTOFF64}, {3, 9},
	 "488d3d0000000048b800000000000000004801d8ffd0",
	 "64488b042500000000482d200000000f1f8000000000", ARCH_REFERENCE_TPOFF, (uint64_t)-32},
};
// clang-format on

static void explains_other_versions(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(by_bytes); i++) {
		const struct bytes *row = &by_bytes[i];
		uint8_t object[32], linked[32];
		size_t size = strlen(row->object) / 2, count = row->types[1] ? 2 : 1;
		assert_int_equal(strlen(row->linked) / 2, size);
		assert_true(hex_parse(row->object, object, size));
		assert_true(hex_parse(row->linked, linked, size));
		struct arch_site sites[2];
		for (size_t k = 0; k < count; k++)
			sites[k] = (struct arch_site){row->offsets[k], row->types[k], -4};
		if (row->types[1] == R_X86_64_PLTOFF64)
			sites[1].addend = 0;

		struct arch_rewrite got;
		assert_true(arch_native()->rewrite_match(object, linked, size, 0x1000, sites, count,
							 0, &got));
		assert_string_equal(got.name, row->name);
		assert_int_equal(got.start, 0);
		assert_int_equal(got.end, size);
		assert_int_equal(got.relocations, count);
		assert_int_equal(got.reference, row->reference);
		assert_int_equal(got.value, row->value);
		struct object_symbol name = {.name = row->name};
		struct code code = {.symbol = &name,
				    .object = object,
				    .size = size,
				    .address = 0x1000,
				    .count = count};
		memcpy(code.sites, sites, count * sizeof(*sites));
		check_every_byte(&code, linked);
	}
}

static bool match_one(const char *object_hex, const char *linked_hex, uint32_t type, size_t offset,
		      int64_t addend, struct arch_rewrite *ret)
{
	uint8_t object[32], linked[32];
	size_t size = strlen(object_hex) / 2;
	assert_true(hex_parse(object_hex, object, size));
	assert_true(hex_parse(linked_hex, linked, size));
	struct arch_site site = {offset, type, addend};
	return arch_native()->rewrite_match(object, linked, size, 0x1000, &site, 1, 0, ret);
}

static void refuses_what_no_linker_makes(void **state)
{
	(void)state;
	struct arch_rewrite got;
	// A relaxed load with another addend, of another register, or without its relocation type.
	assert_true(
		match_one("488b0500000000", "488d0500000000", R_X86_64_REX_GOTPCRELX, 3, -4, &got));
	assert_int_equal(got.start, 1);
	assert_true(
		match_one("488b0500000000", "488d0500000000", R_X86_64_REX_GOTPCRELX, 3, 0, &got));
	assert_int_equal(got.start, 3); // plain: the caller then sees 8b against 8d
	assert_true(
		match_one("488b0500000000", "488d0d00000000", R_X86_64_REX_GOTPCRELX, 3, -4, &got));
	assert_int_equal(got.start, 3);
	assert_true(match_one("488b0500000000", "488d0500000000", R_X86_64_PC32, 3, -4, &got));
	assert_int_equal(got.start, 3);
	// Outside the function, unknown, or only in linked files.
	assert_false(match_one("488b05000000", "488b05000000", R_X86_64_PC32, 3, -4, &got));
	assert_false(
		match_one("0000000000000000", "0000000000000000", R_X86_64_JUMP_SLOT, 0, 0, &got));
	assert_false(match_one("00000000", "00000000", 77, 0, 0, &got));
	assert_false(match_one("00000000", "00000000", UINT32_MAX, 0, 0, &got));
	assert_false(match_one("00", "00", R_X86_64_PC32, SIZE_MAX, 0, &got));
}

static void recovers_plain_values(void **state)
{
	(void)state;
	struct arch_rewrite got;
	assert_true(
		match_one("48b80000000000000000", "48b80807060504030201", R_X86_64_64, 2, 8, &got));
	assert_int_equal(got.reference, ARCH_REFERENCE_ADDRESS);
	assert_int_equal(got.value, 0x0102030405060700);
	// cmpl $5, symbol+4(%rip): A = 4 - 8.
	assert_true(match_one("833d0000000005", "833d0001000005", R_X86_64_PC32, 2, -1, &got));
	assert_int_equal(got.value, 0x1002 + 0x100 + 1);
	assert_true(match_one("b800000000", "b8000000f0", R_X86_64_32, 1, 0, &got));
	assert_int_equal(got.value, 0xf0000000);
	assert_true(match_one("b800000000", "b8000000f0", R_X86_64_32S, 1, 0, &got));
	assert_int_equal(got.value, 0xfffffffff0000000);
	assert_true(match_one("b800000000", "b840000000", R_X86_64_SIZE32, 1, 0x10, &got));
	assert_int_equal(got.reference, ARCH_REFERENCE_SIZE);
	assert_int_equal(got.value, 0x30);
	assert_true(match_one("ff10", "ff10", R_X86_64_TLSDESC_CALL, 0, 0, &got));
	assert_int_equal(got.reference, ARCH_REFERENCE_NONE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(explains_what_linkers_make),
		cmocka_unit_test(explains_other_versions),
		cmocka_unit_test(refuses_what_no_linker_makes),
		cmocka_unit_test(recovers_plain_values),
	};
	return cmocka_run_group_tests_name("arch rewrites", tests, build, clean);
}
