// SPDX-License-Identifier: MIT
/*
 * Every relocation of the x86-64 psABI (version 1.0 of 2023, table 4.9, with the APX additions of
 * 2024), indexed by its number. Field and check columns follow that table; where it leaves a check
 * open, what GNU ld enforces (bfd/elf64-x86-64.c, x86_64_elf_howto_table).
 */
#include <elf.h>

#include "arch/x86_64.h"

// Not in the <elf.h> of glibc 2.36.
#define R_X86_64_CODE_4_GOTPCRELX 43
#define R_X86_64_CODE_4_GOTTPOFF 44
#define R_X86_64_CODE_4_GOTPC32_TLSDESC 45
#define R_X86_64_CODE_5_GOTPCRELX 46
#define R_X86_64_CODE_5_GOTTPOFF 47
#define R_X86_64_CODE_5_GOTPC32_TLSDESC 48
#define R_X86_64_CODE_6_GOTPCRELX 49
#define R_X86_64_CODE_6_GOTTPOFF 50
#define R_X86_64_CODE_6_GOTPC32_TLSDESC 51
// MPX, withdrawn: the branch carries a bnd prefix and is otherwise PC32 or PLT32.
#define R_X86_64_PC32_BND 39
#define R_X86_64_PLT32_BND 40
// For the linker's garbage collection of C++ vtables (binutils, include/elf/x86-64.h).
#define R_X86_64_GNU_VTINHERIT 250
#define R_X86_64_GNU_VTENTRY 251

enum check { WHOLE, SIGNED, UNSIGNED, EITHER };

// clang-format off
#define ROW(suffix, relocation_kind, bytes, check)                                              \
	[R_X86_64_##suffix] = { R_X86_64_##suffix, "R_X86_64_" #suffix,                         \
				RELOCATION_##relocation_kind, bytes, (check) == SIGNED, \
				(check) == EITHER }
// clang-format on

static const struct arch_relocation table[] = {
	ROW(NONE, NONE, 0, WHOLE),
	ROW(64, ABSOLUTE, 8, WHOLE),
	ROW(PC32, RELATIVE, 4, SIGNED),
	ROW(GOT32, GOT_SLOT_OFFSET, 4, SIGNED),
	ROW(PLT32, CALL, 4, SIGNED),
	ROW(COPY, DYNAMIC, 0, WHOLE),
	ROW(GLOB_DAT, DYNAMIC, 8, WHOLE),
	ROW(JUMP_SLOT, DYNAMIC, 8, WHOLE),
	ROW(RELATIVE, DYNAMIC, 8, WHOLE),
	ROW(GOTPCREL, GOT, 4, SIGNED),
	ROW(32, ABSOLUTE, 4, UNSIGNED),
	ROW(32S, ABSOLUTE, 4, SIGNED),
	ROW(16, ABSOLUTE, 2, EITHER),
	ROW(PC16, RELATIVE, 2, SIGNED),
	ROW(8, ABSOLUTE, 1, EITHER),
	ROW(PC8, RELATIVE, 1, SIGNED),
	ROW(DTPMOD64, DYNAMIC, 8, WHOLE),
	ROW(DTPOFF64, TLS_DTPOFF, 8, WHOLE), // also dynamic
	ROW(TPOFF64, TLS_LE, 8, WHOLE),      // also dynamic
	ROW(TLSGD, TLS_GD, 4, SIGNED),
	ROW(TLSLD, TLS_LD, 4, SIGNED),
	ROW(DTPOFF32, TLS_DTPOFF, 4, SIGNED),
	ROW(GOTTPOFF, TLS_IE, 4, SIGNED),
	ROW(TPOFF32, TLS_LE, 4, SIGNED),
	ROW(PC64, RELATIVE, 8, WHOLE),
	ROW(GOTOFF64, GOT_OFFSET, 8, WHOLE),
	ROW(GOTPC32, GOT_BASE, 4, SIGNED),
	ROW(GOT64, GOT_SLOT_OFFSET, 8, WHOLE),
	ROW(GOTPCREL64, GOT, 8, WHOLE),
	ROW(GOTPC64, GOT_BASE, 8, WHOLE),
	ROW(GOTPLT64, GOT_SLOT_OFFSET, 8, WHOLE),
	ROW(PLTOFF64, PLT_OFFSET, 8, WHOLE),
	ROW(SIZE32, SIZE, 4, UNSIGNED),
	ROW(SIZE64, SIZE, 8, WHOLE),
	ROW(GOTPC32_TLSDESC, TLS_DESC, 4, SIGNED),
	ROW(TLSDESC_CALL, TLS_DESC_CALL, 0, WHOLE),
	ROW(TLSDESC, DYNAMIC, 0, WHOLE), // two words: {function, argument}
	ROW(IRELATIVE, DYNAMIC, 8, WHOLE),
	ROW(RELATIVE64, DYNAMIC, 8, WHOLE),
	ROW(PC32_BND, RELATIVE, 4, SIGNED),
	ROW(PLT32_BND, CALL, 4, SIGNED),
	ROW(GOTPCRELX, GOT_RELAX, 4, SIGNED),
	ROW(REX_GOTPCRELX, GOT_RELAX, 4, SIGNED),
	ROW(CODE_4_GOTPCRELX, GOT_RELAX, 4, SIGNED),
	ROW(CODE_4_GOTTPOFF, TLS_IE, 4, SIGNED),
	ROW(CODE_4_GOTPC32_TLSDESC, TLS_DESC, 4, SIGNED),
	ROW(CODE_5_GOTPCRELX, GOT_RELAX, 4, SIGNED),
	ROW(CODE_5_GOTTPOFF, TLS_IE, 4, SIGNED),
	ROW(CODE_5_GOTPC32_TLSDESC, TLS_DESC, 4, SIGNED),
	ROW(CODE_6_GOTPCRELX, GOT_RELAX, 4, SIGNED),
	ROW(CODE_6_GOTTPOFF, TLS_IE, 4, SIGNED),
	ROW(CODE_6_GOTPC32_TLSDESC, TLS_DESC, 4, SIGNED),
	ROW(GNU_VTINHERIT, NONE, 0, WHOLE),
	ROW(GNU_VTENTRY, NONE, 0, WHOLE),
};

const struct arch_relocation *x86_64_relocation(uint32_t type)
{
	if (type >= ARRAY_SIZE(table) || !table[type].name)
		return NULL;
	return &table[type];
}
