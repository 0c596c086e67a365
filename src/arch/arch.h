/* SPDX-License-Identifier: MIT */
/*
 * arch: one `const struct arch` per CPU. Relocation kinds, the rewrites that linkers make at them,
 * decoding, moving instructions, jumps and stubs, registers and system-call numbers.
 *
 * Nothing here knows files or processes: bytes and addresses in, bytes and verdicts out.
 *
 * To add a CPU: one file arch/<cpu>.c that fills struct arch, a row in arch_list, and for each hook
 * the unit test of tests/unit/test_arch.c in its own table.
 */
#ifndef SUTURE_ARCH_H
#define SUTURE_ARCH_H

#include "base/base.h"

/* ---- relocations -------------------------------------------------------------------------- */

/** What a relocation asks for: the small vocabulary that all CPUs share. */
enum relocation_kind {
	RELOCATION_NONE,
	RELOCATION_ABSOLUTE,   /* S + A */
	RELOCATION_RELATIVE,   /* S + A - P */
	RELOCATION_CALL,       /* L + A - P: a branch; may go by a PLT entry or veneer */
	RELOCATION_GOT,        /* G + GOT + A - P: address of the symbol's GOT slot */
	RELOCATION_GOT_RELAX,  /* the same, and a linker may rewrite the instruction */
	RELOCATION_GOT_OFFSET, /* S + A - GOT */
	RELOCATION_GOT_BASE,   /* GOT + A - P */
	RELOCATION_GOT_SLOT_OFFSET, /* G + A: of the symbol's slot from the GOT's start */
	RELOCATION_PLT_OFFSET, /* L - GOT + A */
	RELOCATION_TLS_GD,     /* GOT pair {module, offset} of the symbol, PC-relative */
	RELOCATION_TLS_LD,     /* GOT pair {module, 0}, PC-relative */
	RELOCATION_TLS_DTPOFF, /* offset in the module's TLS block */
	RELOCATION_TLS_IE,     /* GOT slot holding the offset from the thread pointer, PC-relative */
	RELOCATION_TLS_LE,     /* offset from the thread pointer */
	RELOCATION_TLS_DESC,   /* GOT pair of a TLS descriptor, PC-relative */
	RELOCATION_TLS_DESC_CALL, /* marks the call through the descriptor; no field */
	RELOCATION_SIZE,       /* Z + A */
	RELOCATION_DYNAMIC,    /* only in linked files (GLOB_DAT, JUMP_SLOT, RELATIVE, IRELATIVE, ...) */
};

struct arch_relocation {
	uint32_t type; /* ELF64_R_TYPE */
	const char *name;
	enum relocation_kind kind;
	uint8_t size;      /* bytes of the field, 0 for markers */
	bool sign_checked; /* value must fit the field as signed; else as unsigned */
	bool any_checked;  /* value must fit as signed or as unsigned (R_X86_64_8/16) */
};

/**
 * What stands at a relocation in linked code. A linker may put the plain value or make one of a few
 * exact rewrites of the instruction around it (psABI, "Optimize GOTPCRELX", "TLS relaxation").
 *
 * S of a RELOCATION_CALL may be the symbol's PLT entry. S of a relaxed RELOCATION_TLS_LD, where a
 * linker keeps the offsets from the module's block, is that block.
 */
enum arch_reference {
	ARCH_REFERENCE_NONE,     /* a marker or a no-op: nothing to recover */
	ARCH_REFERENCE_ADDRESS,  /* value = S + A - (A of a PC-relative field included): address of S */
	ARCH_REFERENCE_GOT_SLOT, /* value = address of a GOT slot that holds S */
	ARCH_REFERENCE_GOT_BASE, /* value = address of the GOT */
	ARCH_REFERENCE_GOT_OFFSET, /* value = S - GOT */
	ARCH_REFERENCE_GOT_SLOT_OFFSET, /* value = slot that holds S - GOT */
	ARCH_REFERENCE_TPOFF,    /* value = offset of S from the thread pointer */
	ARCH_REFERENCE_TPOFF_SLOT, /* value = address of a GOT slot that holds that offset */
	ARCH_REFERENCE_DTPOFF,   /* value = offset of S in its module's TLS block */
	ARCH_REFERENCE_TLS_PAIR, /* value = address of a GOT pair {module, offset} */
	ARCH_REFERENCE_TLS_MODULE_PAIR, /* value = address of a GOT pair {module, 0} */
	ARCH_REFERENCE_TLS_DESC, /* value = address of a TLS descriptor pair */
	ARCH_REFERENCE_SIZE,     /* value = size of S */
};

struct arch_rewrite {
	const char *name; /* "plain", "GOTPCRELX mov to lea", ...: for reports */
	size_t start;     /* bytes [start, end) of the function are explained by this relocation */
	size_t end;
	size_t relocations; /* relocations used up: 1, or 2 for TLS GD/LD with its call */
	enum arch_reference reference;
	uint64_t value; /* with the addend taken off: of the symbol itself */
};

/** One relocation as rewrite_match() sees it. */
struct arch_site {
	size_t offset; /* from the start of the function */
	uint32_t type;
	int64_t addend;
};

/* ---- instructions ------------------------------------------------------------------------- */

enum arch_flow {
	ARCH_FLOW_NEXT,   /* falls through */
	ARCH_FLOW_JUMP,   /* direct jump */
	ARCH_FLOW_BRANCH, /* direct conditional branch */
	ARCH_FLOW_CALL,   /* direct call */
	ARCH_FLOW_INDIRECT_JUMP,
	ARCH_FLOW_INDIRECT_CALL,
	ARCH_FLOW_RETURN,
	ARCH_FLOW_TRAP, /* ud2, int3, hlt */
};

struct arch_instruction {
	uint8_t length;
	enum arch_flow flow;
	bool is_nop;       /* any length */
	bool is_landing_pad; /* endbr64, bti c */
	bool has_pcrel;    /* a PC-relative operand: data, or a direct branch */
	uint8_t pcrel_offset; /* of its field in the instruction */
	uint8_t pcrel_size;   /* 1, 2 or 4 bytes; relative to the end of the instruction */
	uint64_t target;   /* absolute, when has_pcrel, for the address it was decoded at */
};

/** Longest branch detour, prologue or stub of any CPU. */
enum { ARCH_STUB_MAX = 64, ARCH_MOVED_MAX = 128, ARCH_JUMP_MAX = 16 };

struct arch {
	const char *name;  /* as `uname -m` says */
	uint16_t machine;  /* EM_* */
	uint8_t elf_class; /* ELFCLASS64 */
	uint8_t elf_data;  /* ELFDATA2LSB or MSB */

	uint8_t jump_size;       /* bytes of the entry detour; 5 on x86-64 */
	uint8_t short_jump_size; /* bytes of the jump into padding; 2 on x86-64, 0: none */
	int64_t short_jump_reach; /* 127 */
	uint64_t jump_reach;     /* 2 GiB less a margin */
	uint8_t function_align;
	uint8_t red_zone;        /* bytes below the stack pointer that a leaf may use; 128 */
	const uint8_t *padding;  /* what fills between functions in what we write (int3) */

	/* ELF constants that differ per CPU. */
	uint32_t relocation_none, relocation_absolute64, relocation_relative_dynamic,
		relocation_glob_dat, relocation_jump_slot, relocation_copy, relocation_irelative,
		relocation_dtpmod, relocation_dtpoff, relocation_tpoff, relocation_tlsdesc;

	/** The row for @type, or NULL when it is unknown. */
	const struct arch_relocation *(*relocation)(uint32_t type);

	/**
	 * Does the linked code explain this relocation? @object: the function's bytes in the object;
	 * @linked: the bytes in the target, both @size long, the latter at @address. @relocations are
	 * the object's relocations of the function sorted by offset (offsets from its start), @index
	 * the one asked about. false: no exact rewrite of a linker leads from one to the other.
	 */
	bool (*rewrite_match)(const uint8_t *object, const uint8_t *linked, size_t size,
			      uint64_t address, const struct arch_site *relocations, size_t count,
			      size_t index, struct arch_rewrite *ret);

	/** Decode one instruction; false: not an instruction, or @size is too short for it. */
	bool (*decode)(const uint8_t *bytes, size_t size, uint64_t address,
		       struct arch_instruction *ret);

	/** Text of one instruction in the assembler's usual syntax; @text is NUL-terminated. */
	void (*format)(const uint8_t *bytes, size_t size, uint64_t address, char *text,
		       size_t text_size);

	/** Is this only filling between functions (NOPs of any length, int3, zero)? */
	bool (*is_padding)(const uint8_t *bytes, size_t size);

	/** A jump at @from to @to; false when out of reach. @size: jump_size or short_jump_size. */
	bool (*jump_write)(uint8_t *bytes, size_t size, uint64_t from, uint64_t to);
	/** A jump through the 8-byte slot at @slot (any distance), at most ARCH_JUMP_MAX bytes. */
	bool (*veneer_write)(uint8_t *bytes, uint64_t from, uint64_t slot, size_t *ret_size);

	/**
	 * Turn the instruction whose 4-byte PC-relative field stands at @field of @bytes from one that
	 * computes an address into one that loads it from a slot (lea to mov: the linker's GOTPCRELX
	 * rewrite the other way round). false: it is another instruction.
	 */
	bool (*slot_load_write)(uint8_t *bytes, size_t field);

	/**
	 * Move the first instructions, at least @minimum bytes of them, from @from to @to and end with
	 * a jump back to the next one. Branches are widened, PC-relative operands adjusted. An error
	 * (UNSUPPORTED) says which instruction cannot be moved. @ret_taken: bytes taken at @from.
	 */
	struct error *(*move)(const uint8_t *bytes, size_t size, uint64_t from, uint64_t to,
			      size_t minimum, uint8_t moved[ARCH_MOVED_MAX], size_t *ret_size,
			      size_t *ret_taken) MUST_CHECK;

	/**
	 * The stub behind a detour in transition: reads the 4-byte word at @word; zero: to @old, else
	 * to @new. Keeps every register and the stack; flags are free at an entry (psABI 3.2.1).
	 * false: out of reach.
	 */
	bool (*stub_write)(uint8_t bytes[ARCH_STUB_MAX], uint64_t at, uint64_t word, uint64_t old,
			   uint64_t new_address, size_t *ret_size);
};

/** The CPU of an ELF e_machine/EI_CLASS/EI_DATA, or NULL. */
const struct arch *arch_find(uint16_t machine, uint8_t elf_class, uint8_t elf_data);
/** The CPU that suture itself runs on. */
const struct arch *arch_native(void);

/**
 * Write @value into the field at @field as row @relocation says. An error (INPUT) with the value and
 * the field's range when it does not fit. @value is the formula's result.
 */
struct error *arch_relocation_write(const struct arch *arch, const struct arch_relocation *relocation,
				    uint8_t *field, uint64_t value) MUST_CHECK;
/** Does @value fit the field? */
bool arch_relocation_fits(const struct arch_relocation *relocation, uint64_t value);
/** The field's content, sign-extended where the row is signed. */
uint64_t arch_relocation_read(const struct arch *arch, const struct arch_relocation *relocation,
			      const uint8_t *field);

#endif
