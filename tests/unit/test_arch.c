// SPDX-License-Identifier: MIT
/*
 * arch through its header: relocation fields, decoding, jumps, stubs and moved code. What is written
 * for the CPU that runs the test is also run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <elf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "arch/arch.h"

static const struct arch *x86(void)
{
	const struct arch *arch = arch_find(EM_X86_64, ELFCLASS64, ELFDATA2LSB);
	assert_non_null(arch);
	return arch;
}

/* ---- relocations -------------------------------------------------------------------------- */

static void finds_the_arch(void **state)
{
	(void)state;
	assert_ptr_equal(x86(), arch_native());
	assert_string_equal(x86()->name, "x86_64");
	assert_null(arch_find(EM_X86_64, ELFCLASS32, ELFDATA2LSB)); // x32
	assert_null(arch_find(EM_X86_64, ELFCLASS64, ELFDATA2MSB));
	assert_null(arch_find(0xffff, ELFCLASS64, ELFDATA2LSB));
}

static void relocation_rows_have_their_numbers(void **state)
{
	(void)state;
	size_t rows = 0;
	for (uint32_t type = 0; type < 300; type++) {
		const struct arch_relocation *row = x86()->relocation(type);
		if (!row)
			continue;
		rows++;
		assert_int_equal(row->type, type);
		assert_true(string_starts_with(row->name, "R_X86_64_"));
		assert_true(row->size <= 8);
		assert_false(row->sign_checked && row->any_checked);
	}
	assert_int_equal(rows, 54); // 0 to 51, and two of C++ vtables
	assert_null(x86()->relocation(52));
	assert_null(x86()->relocation(UINT32_MAX));
	assert_string_equal(x86()->relocation(R_X86_64_REX_GOTPCRELX)->name,
			    "R_X86_64_REX_GOTPCRELX");
	assert_int_equal(x86()->relocation(R_X86_64_TPOFF32)->kind, RELOCATION_TLS_LE);
}

static void relocation_fields_are_range_checked(void **state)
{
	(void)state;
	static const struct {
		uint32_t type;
		uint64_t value;
		bool fits;
	} cases[] = {
		{R_X86_64_64, UINT64_MAX, true},
		{R_X86_64_PC32, 0x7fffffff, true},
		{R_X86_64_PC32, 0x80000000, false},
		{R_X86_64_PC32, -(uint64_t)0x80000000, true},
		{R_X86_64_PC32, -(uint64_t)0x80000001, false},
		{R_X86_64_32S, 0xffffffff, false},
		{R_X86_64_32, 0xffffffff, true},
		{R_X86_64_32, 0x100000000, false},
		{R_X86_64_32, (uint64_t)-1, false},
		{R_X86_64_16, 0xffff, true},
		{R_X86_64_16, (uint64_t)-0x8000, true},
		{R_X86_64_16, 0x10000, false},
		{R_X86_64_16, (uint64_t)-0x8001, false},
		{R_X86_64_8, (uint64_t)-1, true},
		{R_X86_64_PC8, 127, true},
		{R_X86_64_PC8, 128, false},
		{R_X86_64_NONE, 123, true},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct arch_relocation *row = x86()->relocation(cases[i].type);
		uint8_t bytes[10];
		memset(bytes, 0xaa, sizeof(bytes));
		assert_int_equal(arch_relocation_fits(row, cases[i].value), cases[i].fits);
		struct error *error = arch_relocation_write(x86(), row, bytes + 1, cases[i].value);
		assert_int_equal(error == NULL, cases[i].fits);
		assert_int_equal(bytes[0], 0xaa);
		assert_int_equal(bytes[1 + row->size], 0xaa);
		if (error) {
			assert_int_equal(error->kind, ERROR_KIND_INPUT);
			assert_non_null(strstr(error->message, row->name));
			assert_int_equal(bytes[1], 0xaa);
			error_free(error);
		} else if (row->size == 8 || row->sign_checked) {
			assert_int_equal(arch_relocation_read(x86(), row, bytes + 1),
					 cases[i].value);
		}
	}
}

static void relocation_error_says_value_and_range(void **state)
{
	(void)state;
	uint8_t field[4];
	_cleanup_error_ struct error *error =
		arch_relocation_write(x86(), x86()->relocation(R_X86_64_PLT32), field, 0x123456789);
	assert_non_null(error);
	assert_string_equal(error->message, "R_X86_64_PLT32: value 4886718345 does not fit "
					    "[-2147483648, 2147483647]");
}

static void relocation_fields_are_little_endian(void **state)
{
	(void)state;
	uint8_t field[4];
	assert_null(arch_relocation_write(x86(), x86()->relocation(R_X86_64_PC32), field,
					  (uint64_t)-2));
	assert_memory_equal(field, ((uint8_t[]){0xfe, 0xff, 0xff, 0xff}), 4);
	assert_int_equal(arch_relocation_read(x86(), x86()->relocation(R_X86_64_PC32), field),
			 (uint64_t)-2);
	assert_int_equal(arch_relocation_read(x86(), x86()->relocation(R_X86_64_32), field),
			 0xfffffffe);
}

/* ---- decoding ----------------------------------------------------------------------------- */

struct sample {
	const char *hex;
	const char *text; // NULL: not an instruction
	enum arch_flow flow;
	bool nop, pad;
	uint8_t pcrel_offset, pcrel_size; // 0: none
	uint64_t target;
};

// clang-format off
static const struct sample samples[] = {
	{"f30f1efa", "endbr64", ARCH_FLOW_NEXT, false, true, 0, 0, 0},
	{"90", "nop", ARCH_FLOW_NEXT, true, false, 0, 0, 0},
	{"6690", "nop", ARCH_FLOW_NEXT, true, false, 0, 0, 0},
	{"f390", "pause", ARCH_FLOW_NEXT, false, false, 0, 0, 0},
	{"0f1f440000", NULL, ARCH_FLOW_NEXT, true, false, 0, 0, 0},
	{"66662e0f1f840000000000", NULL, ARCH_FLOW_NEXT, true, false, 0, 0, 0},
	{"eb10", "jmp 0x0000000000001012", ARCH_FLOW_JUMP, false, false, 1, 1, 0x1012},
	{"e900000000", NULL, ARCH_FLOW_JUMP, false, false, 1, 4, 0x1005},
	{"74fe", NULL, ARCH_FLOW_BRANCH, false, false, 1, 1, 0x1000},
	{"0f85faffffff", NULL, ARCH_FLOW_BRANCH, false, false, 2, 4, 0x1000},
	{"e2fe", NULL, ARCH_FLOW_BRANCH, false, false, 1, 1, 0x1000},
	{"e3fe", NULL, ARCH_FLOW_BRANCH, false, false, 1, 1, 0x1000},
	{"e8fbffffff", NULL, ARCH_FLOW_CALL, false, false, 1, 4, 0x1000},
	{"67e8faffffff", NULL, ARCH_FLOW_CALL, false, false, 2, 4, 0x1000},
	{"ff1500000000", NULL, ARCH_FLOW_INDIRECT_CALL, false, false, 2, 4, 0x1006},
	{"ff2500000000", NULL, ARCH_FLOW_INDIRECT_JUMP, false, false, 2, 4, 0x1006},
	{"ffe0", "jmp %rax", ARCH_FLOW_INDIRECT_JUMP, false, false, 0, 0, 0},
	{"3effe0", NULL, ARCH_FLOW_INDIRECT_JUMP, false, false, 0, 0, 0}, // notrack
	{"ffd0", "call %rax", ARCH_FLOW_INDIRECT_CALL, false, false, 0, 0, 0},
	{"c3", "ret", ARCH_FLOW_RETURN, false, false, 0, 0, 0},
	{"c20800", NULL, ARCH_FLOW_RETURN, false, false, 0, 0, 0},
	{"0f0b", "ud2", ARCH_FLOW_TRAP, false, false, 0, 0, 0},
	{"cc", "int3", ARCH_FLOW_TRAP, false, false, 0, 0, 0},
	{"f4", "hlt", ARCH_FLOW_TRAP, false, false, 0, 0, 0},
	{"0f05", "syscall", ARCH_FLOW_NEXT, false, false, 0, 0, 0},
	{"55", "push %rbp", ARCH_FLOW_NEXT, false, false, 0, 0, 0},
	{"4889e5", "mov %rsp, %rbp", ARCH_FLOW_NEXT, false, false, 0, 0, 0},
	{"488d0500000000", NULL, ARCH_FLOW_NEXT, false, false, 3, 4, 0x1007},
	{"c70500000000ffffffff", NULL, ARCH_FLOW_NEXT, false, false, 2, 4, 0x100a},
	{"833d0000000001", NULL, ARCH_FLOW_NEXT, false, false, 2, 4, 0x1007},
	{"c5fa7e0500000000", NULL, ARCH_FLOW_NEXT, false, false, 4, 4, 0x1008}, // VEX
	{"62f17c48100500000000", NULL, ARCH_FLOW_NEXT, false, false, 6, 4, 0x100a}, // EVEX
	{"488b0425ffffff7f", NULL, ARCH_FLOW_NEXT, false, false, 0, 0, 0}, // absolute: SIB
};
// clang-format on

static size_t unhex(const char *hex, uint8_t *bytes)
{
	size_t size = strlen(hex) / 2;
	assert_true(hex_parse(hex, bytes, size));
	return size;
}

static void decodes(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(samples); i++) {
		const struct sample *sample = &samples[i];
		uint8_t bytes[16];
		size_t size = unhex(sample->hex, bytes);
		struct arch_instruction got;
		print_message("%s\n", sample->hex);
		assert_true(x86()->decode(bytes, size, 0x1000, &got));
		assert_int_equal(got.length, size);
		assert_int_equal(got.flow, sample->flow);
		assert_int_equal(got.is_nop, sample->nop);
		assert_int_equal(got.is_landing_pad, sample->pad);
		assert_int_equal(got.has_pcrel, sample->pcrel_size != 0);
		if (got.has_pcrel) {
			assert_int_equal(got.pcrel_offset, sample->pcrel_offset);
			assert_int_equal(got.pcrel_size, sample->pcrel_size);
			assert_int_equal(got.target, sample->target);
		}
		if (sample->text) {
			char text[80];
			x86()->format(bytes, size, 0x1000, text, sizeof(text));
			assert_string_equal(text, sample->text);
		}
		// Too short for it.
		assert_false(x86()->decode(bytes, size - 1, 0x1000, &got) && got.length == size);
		assert_false(x86()->decode(bytes, 0, 0x1000, &got));
	}
}

static void formats_what_is_no_instruction(void **state)
{
	(void)state;
	char text[80];
	x86()->format((const uint8_t *)"\x06", 1, 0, text, sizeof(text)); // push %es: not in 64-bit
	assert_string_equal(text, ".byte 0x06");
	x86()->format((const uint8_t *)"", 0, 0, text, sizeof(text));
	assert_string_equal(text, "(end)");
	char tiny[4];
	x86()->format((const uint8_t *)"\x48\x89\xe5", 3, 0, tiny, sizeof(tiny));
	assert_true(strlen(tiny) < sizeof(tiny));
}

static void knows_padding(void **state)
{
	(void)state;
	static const struct {
		const char *hex;
		bool padding;
	} cases[] = {
		{"", true},
		{"90909090", true},
		{"cccccc", true},
		{"000000", true},
		{"0f1f8000000000", true},
		{"6666662e0f1f840000000000cccc", true},
		{"eb0390909090", true},
		{"eb059090909090", true},  // over the rest
		{"eb069090909090", false}, // past it
		{"ebfe", false},
		{"90c3", false},
		{"55", false},
		{"f390", false},
		{"e900000000", true},
		{"0f1f", false},
	};
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t bytes[32];
		size_t size = unhex(cases[i].hex, bytes);
		print_message("%s\n", cases[i].hex);
		assert_int_equal(x86()->is_padding(bytes, size), cases[i].padding);
	}
}

/* ---- jumps -------------------------------------------------------------------------------- */

static void writes_jumps(void **state)
{
	(void)state;
	uint8_t bytes[8];
	assert_true(x86()->jump_write(bytes, 5, 0x1000, 0x2005));
	assert_memory_equal(bytes, "\xe9\x00\x10\x00\x00", 5);
	assert_true(x86()->jump_write(bytes, 2, 0x1000, 0x1002 - 128));
	assert_memory_equal(bytes, "\xeb\x80", 2);
	assert_true(x86()->jump_write(bytes, 2, 0x1000, 0x1002 + 127));
	assert_false(x86()->jump_write(bytes, 2, 0x1000, 0x1002 + 128));
	assert_false(x86()->jump_write(bytes, 2, 0x1000, 0x1002 - 129));

	const uint64_t far = 0x80000000;
	assert_true(x86()->jump_write(bytes, 5, 0x555500000000, 0x555500000005 + far - 1));
	assert_false(x86()->jump_write(bytes, 5, 0x555500000000, 0x555500000005 + far));
	assert_true(x86()->jump_write(bytes, 5, 0x555500000000, 0x555500000005 - far));
	assert_false(x86()->jump_write(bytes, 5, 0x555500000000, 0x555500000004 - far));
	assert_false(x86()->jump_write(bytes, 3, 0, 0));
	assert_true(x86()->jump_reach < far);
}

static void writes_veneer_and_stub_within_reach(void **state)
{
	(void)state;
	uint8_t bytes[ARCH_STUB_MAX];
	size_t size = 77;
	assert_true(x86()->veneer_write(bytes, 0x1000, 0x3006, &size));
	assert_int_equal(size, 6);
	assert_memory_equal(bytes, "\xff\x25\x00\x20\x00\x00", 6);
	size = 77;
	assert_false(x86()->veneer_write(bytes, 0x1000, 0x1000000000, &size));
	assert_int_equal(size, 77);

	const uint64_t far = 0x1000000000;
	assert_true(x86()->stub_write(bytes, 0x1000, 0x2000, 0x3000, 0x4000, &size));
	assert_true(size <= ARCH_STUB_MAX);
	assert_false(x86()->stub_write(bytes, 0x1000, far, 0x3000, 0x4000, &size));
	assert_false(x86()->stub_write(bytes, 0x1000, 0x2000, far, 0x4000, &size));
	assert_false(x86()->stub_write(bytes, 0x1000, 0x2000, 0x3000, far, &size));
}

/* ---- moving ------------------------------------------------------------------------------- */

// Moved text and what is taken, from 0x10000 to 0x20000; NULL: refused, with @why in the error.
struct moved {
	const char *name, *hex;
	size_t minimum, taken;
	const char *moved, *why;
};

// clang-format off
static const struct moved moves[] = {
	{"a prologue", "554889e55389fb", 5, 5, "554889e553" "e9fbfffeff", NULL},
	{"longer than asked", "4883ec1890", 3, 4, "4883ec18" "e9fbfffeff", NULL},
	{"%rip operand", "488b0500010000c3", 5, 7, "488b050001ffff" "e9fbfffeff", NULL},
	{"immediate behind the field", "833d0001000005", 5, 7, "833d0001ffff05" "e9fbfffeff", NULL},
	// jne +0x10 at 0x10000 leads to 0x10012.
	{"jcc is widened", "7510909090", 5, 5, "0f850c00ffff" "909090" "e9f7fffeff", NULL},
	{"jmp is widened", "eb10909090", 5, 5, "e90d00ffff" "909090" "e9f8fffeff", NULL},
	{"bnd jmp keeps its prefix", "f2eb109090", 5, 5, "f2e90d00ffff" "9090" "e9f8fffeff", NULL},
	{"loop becomes a double jump", "e210909090", 5, 5,
	 "e202eb05e90900ffff" "909090" "e9f4fffeff", NULL},
	{"jecxz too", "67e30f9090", 5, 5, "67e302eb05e90800ffff" "9090" "e9f4fffeff", NULL},
	// je +1 leads to the last of the four instructions, which moves too.
	{"a branch among what moves", "7402909055", 5, 5, "0f8402000000" "909055" "e9f7fffeff", NULL},
	{"a branch to the entry", "90909074fb", 5, 5, "9090900f84f7ffffff" "e9f7fffeff", NULL},
	{"a branch just behind", "740390909055", 5, 5, "0f84ffff" "feff" "909090" "e9f7fffeff", NULL},
	{"call keeps its target", "e800010000", 5, 5, "e80001ffff" "e9fbfffeff", NULL},
	{"call of the entry itself", "e8fbffffff", 5, 5, "e8fbfffeff" "e9fbfffeff", NULL},
	{"ret on the way", "31c0c36690", 5, 5, "31c0c36690" "e9fbfffeff", NULL},
	{"data16 rex.W call", "666648e800010000", 5, 8, "666648e80001ffff" "e9fbfffeff", NULL},
	{"call to the next", "e80000000058", 5, 0, NULL, "reads its own address"},
	{"call into what moves", "e8feffffff55", 6, 0, NULL, "middle of a moved"},
	{"branch into an instruction", "7401b80000000055", 7, 0, NULL, "middle of a moved"},
	{"16-bit branch", "66e90001000090", 4, 0, NULL, "operand size"},
	{"%eip operand", "67488d0500010000", 5, 0, NULL, "32-bit address"},
	{"not code", "0606060606", 5, 0, NULL, "not an instruction"},
	{"too short", "5548", 5, 0, NULL, "5 are needed"},
	{"cut off", "48b8000000", 5, 0, NULL, "not an instruction"},
};
// clang-format on

static void moves_instructions(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(moves); i++) {
		const struct moved *move = &moves[i];
		uint8_t bytes[64], moved[ARCH_MOVED_MAX], expected[ARCH_MOVED_MAX];
		size_t size = unhex(move->hex, bytes), moved_size = 0, taken = 0;
		print_message("%s\n", move->name);
		struct error *error = x86()->move(bytes, size, 0x10000, 0x20000, move->minimum,
						  moved, &moved_size, &taken);
		if (!move->moved) {
			assert_non_null(error);
			assert_int_equal(error->kind, ERROR_KIND_UNSUPPORTED);
			assert_non_null(strstr(error->message, move->why));
			assert_int_equal(moved_size, 0);
			assert_int_equal(taken, 0);
			error_free(error);
			continue;
		}
		assert_null(error);
		assert_int_equal(taken, move->taken);
		assert_int_equal(moved_size, unhex(move->moved, expected));
		assert_memory_equal(moved, expected, moved_size);
	}
}

static void move_checks_reach(void **state)
{
	(void)state;
	uint8_t moved[ARCH_MOVED_MAX];
	size_t size, taken;
	// The operand is out of reach from there, the way back is not.
	const uint8_t lea[] = {0x48, 0x8d, 0x05, 0, 0, 0, 0x80};
	_cleanup_error_ struct error *error =
		x86()->move(lea, sizeof(lea), 0x500000000, 0x500010000, 5, moved, &size, &taken);
	assert_non_null(error);
	assert_non_null(strstr(error->message, "out of reach"));
	assert_non_null(strstr(error->message, "lea"));

	const uint8_t nops[] = {0x90, 0x90, 0x90, 0x90, 0x90};
	_cleanup_error_ struct error *far =
		x86()->move(nops, sizeof(nops), 0x500000000, 0x700000000, 5, moved, &size, &taken);
	assert_non_null(far);
	assert_non_null(strstr(far->message, "reach"));
}

static void move_is_bounded(void **state)
{
	(void)state;
	uint8_t bytes[100], moved[ARCH_MOVED_MAX + 16];
	size_t size, taken;
	memset(moved, 0x5a, sizeof(moved));
	for (size_t i = 0; i < sizeof(bytes); i += 2) {
		bytes[i] = 0xe2; // each loop grows from 2 to 9 bytes
		bytes[i + 1] = 0x7f;
	}
	_cleanup_error_ struct error *error = x86()->move(bytes, sizeof(bytes), 0x1000, 0x2000,
							  sizeof(bytes), moved, &size, &taken);
	assert_non_null(error);
	assert_non_null(strstr(error->message, "do not fit"));
	for (size_t i = 0; i < sizeof(moved); i++)
		assert_int_equal(moved[i], 0x5a);
	assert_null(x86()->move(bytes, sizeof(bytes), 0x1000, 0x2000, 20, moved, &size, &taken));
	assert_int_equal(size, 95);
	assert_int_equal(moved[95], 0x5a);
}

/* ---- running what was written ------------------------------------------------------------- */

#if defined(__x86_64__)
static uint8_t *code_page;

static int code_page_make(void **state)
{
	(void)state;
	code_page = mmap(NULL, 8192, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return code_page == MAP_FAILED ? -1 : 0;
}

static int code_page_drop(void **state)
{
	(void)state;
	return munmap(code_page, 8192);
}

static uint64_t address(size_t offset)
{
	return (uint64_t)(uintptr_t)(code_page + offset);
}

typedef long function(long, long);

static function *function_at(size_t offset)
{
	return (function *)(uintptr_t)address(offset);
}

static void stub_goes_where_the_word_says(void **state)
{
	(void)state;
	static const uint8_t one[] = {0xb8, 1, 0, 0, 0, 0xc3}, two[] = {0xb8, 2, 0, 0, 0, 0xc3};
	volatile uint32_t *word = (volatile uint32_t *)(void *)(code_page + 4096);
	size_t size;
	memcpy(code_page + 0x100, one, sizeof(one));
	memcpy(code_page + 0x200, two, sizeof(two));
	assert_true(x86()->stub_write(code_page, address(0), address(4096), address(0x100),
				      address(0x200), &size));
	*word = 0;
	assert_int_equal(function_at(0)(0, 0), 1);
	*word = 1;
	assert_int_equal(function_at(0)(0, 0), 2);
	*word = 0x80000000;
	assert_int_equal(function_at(0)(0, 0), 2);

	uint64_t target = address(0x100);
	memcpy(code_page + 4104, &target, sizeof(target));
	assert_true(x86()->veneer_write(code_page + 0x40, address(0x40), address(4104), &size));
	assert_int_equal(function_at(0x40)(0, 0), 1);
}

// A loop with each kind of short branch in what moves: sum of 1..n, by loop, jrcxz and jcc.
static void moved_code_computes_the_same(void **state)
{
	(void)state;
	static const uint8_t code[] = {
		0x31, 0xc0,       //  0	xor %eax, %eax
		0x48, 0x89, 0xf9, //  2	mov %rdi, %rcx
		0xe3, 0x07,       //  5	jrcxz 14
		0x48, 0x01, 0xc8, //  7	add %rcx, %rax
		0xe2, 0xfb,       // 10	loop 7
		0xeb, 0x00,       // 12	jmp 14
		0x48, 0x85, 0xf6, // 14	test %rsi, %rsi
		0x74, 0x03,       // 17	je 22
		0x48, 0xf7, 0xd8, // 19	neg %rax
		0xc3,             // 22	ret
	};
	memcpy(code_page, code, sizeof(code));
	for (size_t minimum = 1; minimum <= sizeof(code); minimum++) {
		uint8_t *moved = code_page + 0x400;
		size_t size, taken;
		memcpy(code_page, code, sizeof(code));
		assert_null(x86()->move(code, sizeof(code), address(0), address(0x400), minimum,
					moved, &size, &taken));
		assert_true(taken >= minimum && taken <= sizeof(code));
		// A branch from what stays into what moves is the caller's to refuse: `loop 7`.
		memset(code_page, 0xcc, taken > 7 && taken < 12 ? 7 : taken);
		assert_int_equal(function_at(0x400)(0, 0), 0);
		assert_int_equal(function_at(0x400)(10, 0), 55);
		assert_int_equal(function_at(0x400)(10, 1), -55);
	}
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(finds_the_arch),
		cmocka_unit_test(relocation_rows_have_their_numbers),
		cmocka_unit_test(relocation_fields_are_range_checked),
		cmocka_unit_test(relocation_error_says_value_and_range),
		cmocka_unit_test(relocation_fields_are_little_endian),
		cmocka_unit_test(decodes),
		cmocka_unit_test(formats_what_is_no_instruction),
		cmocka_unit_test(knows_padding),
		cmocka_unit_test(writes_jumps),
		cmocka_unit_test(writes_veneer_and_stub_within_reach),
		cmocka_unit_test(moves_instructions),
		cmocka_unit_test(move_checks_reach),
		cmocka_unit_test(move_is_bounded),
#if defined(__x86_64__)
		cmocka_unit_test_setup_teardown(stub_goes_where_the_word_says, code_page_make,
						code_page_drop),
		cmocka_unit_test_setup_teardown(moved_code_computes_the_same, code_page_make,
						code_page_drop),
#endif
	};
	return cmocka_run_group_tests_name("arch", tests, NULL, NULL);
}
