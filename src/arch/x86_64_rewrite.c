// SPDX-License-Identifier: MIT
/*
 * What linkers make of x86-64 code: does the linked code explain a relocation of the object?
 *
 * Most relocations are filled in and nothing else ("plain"). Some permit the linker to exchange the
 * instruction around the field for a cheaper one once it knows where the symbol lies; the result has
 * the same length. Each such exchange is one row below: the bytes in the object and the bytes that
 * may stand for them, both as patterns. A row holds for every linker named at it, and a test links
 * each with bfd, gold, lld and mold (tests/unit/test_arch_rewrite.c).
 *
 *	{ "IE to LE: mov", T(GOTTPOFF), 0,
 *	  "rex 8b m05 F", "rexb c7 mreg F", TPOFF, IMMEDIATE },
 *
 * reads: a GOTTPOFF relocation whose field F follows REX, 8b and a ModRM of the form disp32(%rip)
 * may have become `mov $imm32, %reg`, with the register number where that form has it; F is then the
 * symbol's offset from the thread pointer.
 *
 * The words of a pattern:
 *	48	this byte
 *	rex	a REX prefix, the same in both
 *	rexb	that prefix with the register's fourth bit moved from R to B
 *	rexrb	that prefix with the register's fourth bit in both
 *	m05	ModRM of disp32(%rip) with any register, the same in both
 *	mreg	ModRM of the register alone, with /0 as opcode extension
 *	mmem	ModRM of disp32(%reg), %reg; %rsp and %r12 cannot be written so
 *	bin	opcode of a binary operation "r/m to register": 03 add, 0b or, ... 3b cmp
 *	mbin	ModRM of the register alone, with that operation as opcode extension
 *	mrax	ModRM of any register with %rax
 *	F	the 4-byte field of the relocation
 *	S, S8	the 4- or 8-byte field of the next relocation: the call of __tls_get_addr
 *
 * Rejected: to compare after disassembly. Two different byte strings may be the same instruction,
 * and "the same meaning" is a far wider gate than "what a linker writes".
 *
 * Sources: x86-64 psABI 1.0, appendix B.2 (Optimize GOTPCRELX relocations) and A. Jaeger's and
 * U. Drepper's "ELF Handling For Thread-Local Storage", 5.3-5.5; binutils 2.40 bfd/elf64-x86-64.c
 * (elf_x86_64_convert_load_reloc, elf_x86_64_relocate_section), gold/x86_64.cc (Relocate::relocate,
 * tls_*_to_*), LLVM 14 lld/ELF/Arch/X86_64.cpp (relaxGot, relaxTls*), mold 1.10 elf/arch-x86-64.cc
 * and mold 2.37 src/arch-x86-64.cc (relax_*).
 */
#include <elf.h>
#include <string.h>

#include "arch/x86_64.h"

enum form {
	NOTHING,     // the field is gone, or says nothing about the symbol
	PC_RELATIVE, // field + address behind the field
	IMMEDIATE,   // the field, sign-extended
	NEGATED,     // the field's negative
};

struct row {
	const char *name;
	uint64_t types;      // set of R_X86_64_*
	uint64_t call_types; // of the next relocation, where the pattern has S
	const char *object;
	const char *linked;
	enum arch_reference reference;
	enum form form;
};

#define T(suffix) ((uint64_t)1 << R_X86_64_##suffix)
#define GOT_LOADS (T(GOTPCREL) | T(GOTPCRELX) | T(REX_GOTPCRELX))
#define DIRECT_CALLS (T(PC32) | T(PLT32))
#define ADDRESS ARCH_REFERENCE_ADDRESS
#define TPOFF ARCH_REFERENCE_TPOFF
#define TPOFF_SLOT ARCH_REFERENCE_TPOFF_SLOT
#define NONE ARCH_REFERENCE_NONE

// mov %fs:0, %rax
#define THREAD_POINTER "64 48 8b 04 25 00 00 00 00 "

// The sequences of the TLS models that call __tls_get_addr: psABI and TLS paper, 5.3.
#define GD_DIRECT "66 48 8d 3d F 66 66 48 e8 S"
#define GD_INDIRECT "66 48 8d 3d F 66 48 ff 15 S"
#define GD_LARGE "48 8d 3d F 48 b8 S8 rex 01 mrax ff d0"
#define LD_DIRECT "48 8d 3d F e8 S"
#define LD_INDIRECT "48 8d 3d F ff 15 S"
#define LD_LARGE "48 8d 3d F 48 b8 S8 rex 01 mrax ff d0"

// clang-format off
static const struct row rows[] = {
	// psABI B.2; bfd, gold and lld, mold with a REX prefix; bfd and gold for GOTPCREL too.
	{ "GOTPCRELX: mov to lea", GOT_LOADS, 0,
	  "8b m05 F", "8d m05 F", ADDRESS, PC_RELATIVE },
	// psABI B.2; bfd without PIC where the address fits 32 bits, lld where a lea does not reach.
	{ "GOTPCRELX: mov to mov immediate", T(GOTPCRELX), 0,
	  "8b m05 F", "c7 mreg F", ADDRESS, IMMEDIATE },
	{ "GOTPCRELX: mov to mov immediate", T(REX_GOTPCRELX), 0,
	  "rex 8b m05 F", "rexb c7 mreg F", ADDRESS, IMMEDIATE },
	// psABI B.2; bfd and lld, without PIC.
	{ "GOTPCRELX: test to test immediate", T(GOTPCRELX), 0,
	  "85 m05 F", "f7 mreg F", ADDRESS, IMMEDIATE },
	{ "GOTPCRELX: test to test immediate", T(REX_GOTPCRELX), 0,
	  "rex 85 m05 F", "rexb f7 mreg F", ADDRESS, IMMEDIATE },
	{ "GOTPCRELX: operand to immediate", T(GOTPCRELX), 0,
	  "bin m05 F", "81 mbin F", ADDRESS, IMMEDIATE },
	{ "GOTPCRELX: operand to immediate", T(REX_GOTPCRELX), 0,
	  "rex bin m05 F", "rexb 81 mbin F", ADDRESS, IMMEDIATE },
	// psABI B.2: addr32 in front; bfd, gold, lld.
	{ "GOTPCRELX: call through GOT to call", T(GOTPCRELX), 0,
	  "ff 15 F", "67 e8 F", ADDRESS, PC_RELATIVE },
	// mold 1.x; bfd -z call-nop=prefix-0x90.
	{ "GOTPCRELX: call through GOT to nop, call", T(GOTPCRELX), 0,
	  "ff 15 F", "90 e8 F", ADDRESS, PC_RELATIVE },
	// mold 2.x: an empty REX in front.
	{ "GOTPCRELX: call through GOT to rex call", T(GOTPCRELX), 0,
	  "ff 15 F", "40 e8 F", ADDRESS, PC_RELATIVE },
	// bfd -z call-nop=suffix-0x90.
	{ "GOTPCRELX: call through GOT to call, nop", T(GOTPCRELX), 0,
	  "ff 15 F", "e8 F 90", ADDRESS, PC_RELATIVE },
	// psABI B.2; bfd, gold, lld.
	{ "GOTPCRELX: jmp through GOT to jmp, nop", T(GOTPCRELX), 0,
	  "ff 25 F", "e9 F 90", ADDRESS, PC_RELATIVE },
	// mold 1.x and 2.x.
	{ "GOTPCRELX: jmp through GOT to nop, jmp", T(GOTPCRELX), 0,
	  "ff 25 F", "90 e9 F", ADDRESS, PC_RELATIVE },
	{ "GOTPCRELX: jmp through GOT to rex jmp", T(GOTPCRELX), 0,
	  "ff 25 F", "40 e9 F", ADDRESS, PC_RELATIVE },

	// TLS paper 5.5; bfd, gold, lld, and to IE mold.
	{ "GD to LE", T(TLSGD), DIRECT_CALLS,
	  GD_DIRECT, THREAD_POINTER "48 8d 80 F", TPOFF, IMMEDIATE },
	{ "GD to IE", T(TLSGD), DIRECT_CALLS,
	  GD_DIRECT, THREAD_POINTER "48 03 05 F", TPOFF_SLOT, PC_RELATIVE },
	// -fno-plt: psABI, appendix B.3.
	{ "GD to LE", T(TLSGD), GOT_LOADS,
	  GD_INDIRECT, THREAD_POINTER "48 8d 80 F", TPOFF, IMMEDIATE },
	{ "GD to IE", T(TLSGD), GOT_LOADS,
	  GD_INDIRECT, THREAD_POINTER "48 03 05 F", TPOFF_SLOT, PC_RELATIVE },
	// mold adds where the others use lea.
	{ "GD to LE: add", T(TLSGD), DIRECT_CALLS,
	  GD_DIRECT, THREAD_POINTER "48 81 c0 F", TPOFF, IMMEDIATE },
	{ "GD to LE: add", T(TLSGD), GOT_LOADS,
	  GD_INDIRECT, THREAD_POINTER "48 81 c0 F", TPOFF, IMMEDIATE },
	// Large code model: bfd, mold.
	{ "GD to LE: large", T(TLSGD), T(PLTOFF64),
	  GD_LARGE, THREAD_POINTER "48 8d 80 F 66 0f 1f 44 00 00", TPOFF, IMMEDIATE },
	{ "GD to LE: large, add", T(TLSGD), T(PLTOFF64),
	  GD_LARGE, THREAD_POINTER "48 81 c0 F 66 0f 1f 44 00 00", TPOFF, IMMEDIATE },
	{ "GD to IE: large", T(TLSGD), T(PLTOFF64),
	  GD_LARGE, THREAD_POINTER "48 03 05 F 66 0f 1f 44 00 00", TPOFF_SLOT, PC_RELATIVE },

	// TLS paper 5.5; bfd, gold, lld. The DTPOFF fields that follow become TPOFF: see plain().
	{ "LD to LE", T(TLSLD), DIRECT_CALLS,
	  LD_DIRECT, "66 66 66 " THREAD_POINTER, NONE, NOTHING },
	{ "LD to LE", T(TLSLD), GOT_LOADS,
	  LD_INDIRECT, "66 66 66 66 " THREAD_POINTER, NONE, NOTHING },
	// bfd: a nopw of 13 bytes in front.
	{ "LD to LE: large", T(TLSLD), T(PLTOFF64),
	  LD_LARGE, "66 66 66 66 2e 0f 1f 84 00 00 00 00 00 " THREAD_POINTER, NONE, NOTHING },
	// mold: the block's own address, below the thread pointer by its size; DTPOFF stays.
	{ "LD to LE: block", T(TLSLD), DIRECT_CALLS,
	  LD_DIRECT, "31 c0 64 48 8b 00 48 2d F", TPOFF, NEGATED },
	{ "LD to LE: block", T(TLSLD), GOT_LOADS,
	  LD_INDIRECT, "31 c0 64 48 8b 00 48 2d F 90", TPOFF, NEGATED }, // 1.x
	{ "LD to LE: block", T(TLSLD), GOT_LOADS,
	  LD_INDIRECT, "48 31 c0 64 48 8b 00 48 2d F", TPOFF, NEGATED }, // 2.x
	{ "LD to LE: large, block", T(TLSLD), T(PLTOFF64),
	  LD_LARGE, "31 c0 64 48 8b 00 48 2d F 0f 1f 44 00 00 0f 1f 44 00 00",
	  TPOFF, NEGATED }, // 1.x
	{ "LD to LE: large, block", T(TLSLD), T(PLTOFF64),
	  LD_LARGE, THREAD_POINTER "48 2d F 0f 1f 80 00 00 00 00", TPOFF, NEGATED }, // 2.x

	// TLS paper 5.5; all linkers, mold for mov only.
	{ "IE to LE: mov", T(GOTTPOFF), 0,
	  "rex 8b m05 F", "rexb c7 mreg F", TPOFF, IMMEDIATE },
	{ "IE to LE: add to lea", T(GOTTPOFF), 0,
	  "rex 03 m05 F", "rexrb 8d mmem F", TPOFF, IMMEDIATE },
	// %rsp and %r12, which lea would need a SIB byte for.
	{ "IE to LE: add", T(GOTTPOFF), 0,
	  "rex 03 25 F", "rexb 81 c4 F", TPOFF, IMMEDIATE },

	// A. Oliva, "TLS descriptors for x86", 2006; all linkers (mold from 1.10 on, to IE from 2.x).
	{ "TLSDESC to LE", T(GOTPC32_TLSDESC), 0,
	  "rex 8d m05 F", "rexb c7 mreg F", TPOFF, IMMEDIATE },
	{ "TLSDESC to IE", T(GOTPC32_TLSDESC), 0,
	  "rex 8d m05 F", "rex 8b m05 F", TPOFF_SLOT, PC_RELATIVE },
	{ "TLSDESC call to nop", T(TLSDESC_CALL), 0,
	  "ff 10", "66 90", NONE, NOTHING },
};
// clang-format on

/* ---- patterns ----------------------------------------------------------------------------- */

// Index in the array is the word's number.
enum word { WORD_BYTE, REX, REXB, REXRB, M05, MREG, MMEM, BIN, MBIN, MRAX, FIELD, CALL, CALL8 };
static const char *const words[] = {"",    "rex",  "rexb", "rexrb", "m05", "mreg", "mmem",
				    "bin", "mbin", "mrax", "F",     "S",   "S8"};

enum { NO_FIELD = SIZE_MAX };

static unsigned hex_digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'a' + 10);
}

// The next word of @pattern, which is moved on behind it; false: the end.
static bool word_next(const char **pattern, enum word *ret, uint8_t *ret_byte)
{
	const char *start = *pattern + strspn(*pattern, " ");
	size_t length = strcspn(start, " ");
	*pattern = start + length;
	if (length == 0)
		return false;
	for (size_t i = 1; i < ARRAY_SIZE(words); i++) {
		if (strlen(words[i]) == length && memcmp(words[i], start, length) == 0) {
			*ret = (enum word)i;
			return true;
		}
	}
	*ret = WORD_BYTE;
	*ret_byte = (uint8_t)(hex_digit(start[0]) << 4 | hex_digit(start[1]));
	return true;
}

static size_t word_size(enum word word)
{
	return word == CALL8 ? 8 : word == FIELD || word == CALL ? 4 : 1;
}

struct layout {
	size_t size;
	size_t field; // offset of F, or NO_FIELD
	size_t call;  // offset of S, or NO_FIELD
};

static struct layout layout_of(const char *pattern)
{
	struct layout layout = {0, NO_FIELD, NO_FIELD};
	enum word word;
	uint8_t byte;
	while (word_next(&pattern, &word, &byte)) {
		if (word == FIELD)
			layout.field = layout.size;
		else if (word == CALL || word == CALL8)
			layout.call = layout.size;
		layout.size += word_size(word);
	}
	return layout;
}

// What the object's instruction has that the linked one takes over.
struct captured {
	uint8_t rex;
	uint8_t modrm;
	uint8_t operation;
};

static bool object_matches(const char *pattern, const uint8_t *bytes, struct captured *captured)
{
	enum word word;
	uint8_t expected;
	while (word_next(&pattern, &word, &expected)) {
		uint8_t byte = *bytes;
		bool same = true;
		if (word == WORD_BYTE) {
			same = byte == expected;
		} else if (word == REX) {
			// B and X would change what follows; compilers leave them clear.
			same = (byte & 0xf3) == 0x40;
			captured->rex = byte;
		} else if (word == M05) {
			same = (byte & 0xc7) == 0x05;
			captured->modrm = byte;
		} else if (word == BIN) {
			same = (byte & 0xc7) == 0x03;
			captured->operation = byte & 0x38;
		} else if (word == MRAX) {
			same = (byte & 0xc7) == 0xc0;
		}
		if (!same)
			return false;
		bytes += word_size(word);
	}
	return true;
}

static bool linked_matches(const char *pattern, const uint8_t *bytes,
			   const struct captured *captured)
{
	uint8_t number = captured->modrm >> 3 & 7;
	uint8_t high = (captured->rex & 4) >> 2;
	enum word word;
	uint8_t expected = 0;
	while (word_next(&pattern, &word, &expected)) {
		if (word == REX)
			expected = captured->rex;
		else if (word == REXB)
			expected = (captured->rex & ~4) | high;
		else if (word == REXRB)
			expected = captured->rex | high;
		else if (word == M05)
			expected = captured->modrm;
		else if (word == MREG)
			expected = 0xc0 | number;
		else if (word == MMEM)
			expected = 0x80 | (uint8_t)(number << 3) | number;
		else if (word == MBIN)
			expected = 0xc0 | captured->operation | number;
		if (word == MMEM && number == 4)
			return false;
		if (word != FIELD && *bytes != expected)
			return false;
		bytes += word_size(word);
	}
	return true;
}

/* ---- matching ----------------------------------------------------------------------------- */

static uint64_t field_value(enum form form, const uint8_t *field, uint64_t address)
{
	int32_t value;
	memcpy(&value, field, sizeof(value));
	if (form == PC_RELATIVE)
		return address + 4 + (uint64_t)(int64_t)value;
	return form == NEGATED ? -(uint64_t)(int64_t)value : (uint64_t)(int64_t)value;
}

static bool row_matches(const struct row *row, const uint8_t *object, const uint8_t *linked,
			size_t size, uint64_t address, const struct arch_site *relocations,
			size_t count, size_t index, struct arch_rewrite *ret)
{
	const struct arch_site *site = &relocations[index];
	struct layout from = layout_of(row->object);
	size_t before = from.field == NO_FIELD ? 0 : from.field;
	if (site->offset < before || !range_within(site->offset - before, from.size, size))
		return false;
	size_t start = site->offset - before;

	// Every rewrite is of the symbol itself: a linker that sees another addend leaves it alone.
	if (from.field != NO_FIELD && site->addend != -4)
		return false;
	if (from.call != NO_FIELD) {
		if (index + 1 >= count)
			return false;
		const struct arch_site *call = &relocations[index + 1];
		if (call->offset != start + from.call || call->type >= 64 ||
		    !(row->call_types >> call->type & 1))
			return false;
	}

	struct captured captured = {0};
	if (!object_matches(row->object, object + start, &captured) ||
	    !linked_matches(row->linked, linked + start, &captured))
		return false;

	struct layout to = layout_of(row->linked);
	*ret = (struct arch_rewrite){
		.name = row->name,
		.start = start,
		.end = start + from.size,
		.relocations = from.call != NO_FIELD ? 2 : 1,
		.reference = row->reference,
	};
	if (row->form != NOTHING)
		ret->value = field_value(row->form, linked + start + to.field,
					 address + start + to.field);
	return true;
}

// The field filled in as the relocation's formula says, and no byte more.
static bool plain(const struct arch_relocation *relocation, const uint8_t *linked, size_t size,
		  uint64_t address, const struct arch_site *site, struct arch_rewrite *ret)
{
	if (!range_within(site->offset, relocation->size, size))
		return false;

	uint64_t field = arch_relocation_read(&arch_x86_64, relocation, linked + site->offset);
	uint64_t value = field - (uint64_t)site->addend;
	uint64_t value_from_place = value + address + site->offset;
	struct arch_rewrite plain = {
		.name = "plain",
		.start = site->offset,
		.end = site->offset + relocation->size,
		.relocations = 1,
		.value = value,
	};
	switch (relocation->kind) {
	case RELOCATION_NONE:
	case RELOCATION_TLS_DESC_CALL:
		plain.reference = ARCH_REFERENCE_NONE;
		plain.value = 0;
		break;
	case RELOCATION_ABSOLUTE:
		plain.reference = ARCH_REFERENCE_ADDRESS;
		break;
	case RELOCATION_RELATIVE:
	case RELOCATION_CALL:
		plain.reference = ARCH_REFERENCE_ADDRESS;
		plain.value = value_from_place;
		break;
	case RELOCATION_GOT:
	case RELOCATION_GOT_RELAX:
		plain.reference = ARCH_REFERENCE_GOT_SLOT;
		plain.value = value_from_place;
		break;
	case RELOCATION_GOT_BASE:
		plain.reference = ARCH_REFERENCE_GOT_BASE;
		plain.value = value_from_place;
		break;
	case RELOCATION_GOT_OFFSET:
	case RELOCATION_PLT_OFFSET:
		plain.reference = ARCH_REFERENCE_GOT_OFFSET;
		break;
	case RELOCATION_GOT_SLOT_OFFSET:
		plain.reference = ARCH_REFERENCE_GOT_SLOT_OFFSET;
		break;
	case RELOCATION_TLS_GD:
		plain.reference = ARCH_REFERENCE_TLS_PAIR;
		plain.value = value_from_place;
		break;
	case RELOCATION_TLS_LD:
		plain.reference = ARCH_REFERENCE_TLS_MODULE_PAIR;
		plain.value = value_from_place;
		break;
	case RELOCATION_TLS_DTPOFF:
		// After LD to LE most linkers put the offset from the thread pointer here. The
		// block lies below it (TLS paper 3.4.6, variant II), so one is never negative and
		// the other always is; the call that tells them apart may be in the parent of a
		// .cold part and is not needed.
		plain.reference = (int64_t)value < 0 ? ARCH_REFERENCE_TPOFF : ARCH_REFERENCE_DTPOFF;
		break;
	case RELOCATION_TLS_IE:
		plain.reference = ARCH_REFERENCE_TPOFF_SLOT;
		plain.value = value_from_place;
		break;
	case RELOCATION_TLS_LE:
		plain.reference = ARCH_REFERENCE_TPOFF;
		break;
	case RELOCATION_TLS_DESC:
		plain.reference = ARCH_REFERENCE_TLS_DESC;
		plain.value = value_from_place;
		break;
	case RELOCATION_SIZE:
		plain.reference = ARCH_REFERENCE_SIZE;
		break;
	case RELOCATION_DYNAMIC:
		return false;
	}
	*ret = plain;
	return true;
}

bool x86_64_rewrite_match(const uint8_t *object, const uint8_t *linked, size_t size,
			  uint64_t address, const struct arch_site *relocations, size_t count,
			  size_t index, struct arch_rewrite *ret)
{
	const struct arch_site *site = &relocations[index];
	const struct arch_relocation *relocation = x86_64_relocation(site->type);
	if (!relocation)
		return false;

	// A row's two patterns differ in a byte outside the field, so that plain cannot hold too.
	for (size_t i = 0; site->type < 64 && i < ARRAY_SIZE(rows); i++)
		if (rows[i].types >> site->type & 1 &&
		    row_matches(&rows[i], object, linked, size, address, relocations, count, index,
				ret))
			return true;
	return plain(relocation, linked, size, address, site, ret);
}
