// SPDX-License-Identifier: MIT
/*
 * x86-64: constants, jumps, veneers and transition stubs.
 *
 * Its other questions have files of their own: x86_64_relocation.c (what relocations are there),
 * x86_64_rewrite.c (what a linker makes of them), x86_64_instruction.c (decode, move).
 */
#include "arch/x86_64.h"

#include <elf.h>
#include <string.h>

// jmp rel32 (e9) or rel8 (eb): Intel SDM, volume 2, "JMP".
static bool jump_write(uint8_t *bytes, size_t size, uint64_t from, uint64_t to)
{
	if (size == 5) {
		bytes[0] = 0xe9;
		return x86_64_displacement(from + 5, to, bytes + 1);
	}
	if (size == 2) {
		int64_t distance = (int64_t)(to - (from + 2));
		if (distance != (int8_t)distance)
			return false;
		bytes[0] = 0xeb;
		bytes[1] = (uint8_t)distance;
		return true;
	}
	return false;
}

// jmp *slot(%rip): no register is used, so it fits in front of any callee.
static bool veneer_write(uint8_t *bytes, uint64_t from, uint64_t slot, size_t *ret_size)
{
	uint8_t field[4];
	if (!x86_64_displacement(from + 6, slot, field))
		return false;
	bytes[0] = 0xff;
	bytes[1] = 0x25;
	memcpy(bytes + 2, field, sizeof(field));
	*ret_size = 6;
	return true;
}

// 48 8d /r, lea disp32(%rip),%r64, and 48 8b /r, mov disp32(%rip),%r64, differ in the opcode only.
static bool slot_load_write(uint8_t *bytes, size_t field)
{
	if (field < 3 || (bytes[field - 3] & 0xf8) != 0x48 || bytes[field - 2] != 0x8d ||
	    (bytes[field - 1] & 0xc7) != 0x05)
		return false;
	bytes[field - 2] = 0x8b;
	return true;
}

//	83 3d <word> 00		cmpl $0, word(%rip)
//	0f 84 <old>		je old
//	e9 <new>		jmp new
//
// The word is an operand, not code, so that one aligned store to it switches every function of a
// patch. The compare writes flags, which carry nothing into a function (psABI 3.2.1: only DF is
// defined at an entry, and cmp leaves it alone).
static bool stub_write(uint8_t bytes[ARCH_STUB_MAX], uint64_t at, uint64_t word, uint64_t old,
		       uint64_t new_address, size_t *ret_size)
{
	uint8_t stub[18] = {0x83, 0x3d, 0, 0, 0, 0, 0x00, 0x0f, 0x84, 0, 0, 0, 0, 0xe9};
	if (!x86_64_displacement(at + 7, word, stub + 2) ||
	    !x86_64_displacement(at + 13, old, stub + 9) ||
	    !x86_64_displacement(at + 18, new_address, stub + 14))
		return false;
	memcpy(bytes, stub, sizeof(stub));
	*ret_size = sizeof(stub);
	return true;
}

static const uint8_t padding[] = {0xcc};

const struct arch arch_x86_64 = {
	.name = "x86_64",
	.machine = EM_X86_64,
	.elf_class = ELFCLASS64,
	.elf_data = ELFDATA2LSB,

	.jump_size = 5,
	.short_jump_size = 2,
	.short_jump_reach = 127,
	// rel32 reaches 2 GiB; the margin covers a patch's own size, so that all of it is in reach.
	.jump_reach = 0x80000000 - 0x1000000,
	.function_align = 16,
	.red_zone = 128, // psABI 3.2.2
	.padding = padding,

	.relocation_none = R_X86_64_NONE,
	.relocation_absolute64 = R_X86_64_64,
	.relocation_relative_dynamic = R_X86_64_RELATIVE,
	.relocation_glob_dat = R_X86_64_GLOB_DAT,
	.relocation_jump_slot = R_X86_64_JUMP_SLOT,
	.relocation_copy = R_X86_64_COPY,
	.relocation_irelative = R_X86_64_IRELATIVE,
	.relocation_dtpmod = R_X86_64_DTPMOD64,
	.relocation_dtpoff = R_X86_64_DTPOFF64,
	.relocation_tpoff = R_X86_64_TPOFF64,
	.relocation_tlsdesc = R_X86_64_TLSDESC,

	.relocation = x86_64_relocation,
	.rewrite_match = x86_64_rewrite_match,
	.decode = x86_64_decode,
	.format = x86_64_format,
	.is_padding = x86_64_is_padding,
	.jump_write = jump_write,
	.veneer_write = veneer_write,
	.slot_load_write = slot_load_write,
	.move = x86_64_move,
	.stub_write = stub_write,
};
