/* SPDX-License-Identifier: MIT */
/*
 * Call frame information: .eh_frame indexed by address, and one step from a frame to its caller.
 * Everything is outside bytes: each read is bounded, each loop ends.
 */
#ifndef SUTURE_UNWIND_CFI_H
#define SUTURE_UNWIND_CFI_H

#include "base/base.h"

/* DWARF register numbers, psABI figure 3.36. */
enum { CFI_RAX, CFI_RDX, CFI_RCX, CFI_RBX, CFI_RSI, CFI_RDI, CFI_RBP, CFI_RSP, CFI_RIP = 16 };
enum { CFI_REGISTERS = 17 };

struct cfi_registers {
	uint64_t value[CFI_REGISTERS];
	uint32_t known; /* bit per register */
};

/* What the functions of one compilation have in common. */
struct cfi_cie {
	size_t program, program_end; /* its instructions: offsets in the section */
	uint64_t code_align;
	int64_t data_align;
	uint64_t return_register;
	uint8_t encoding;  /* of addresses, DW_EH_PE_* */
	bool has_size;     /* 'z' */
	bool signal_frame; /* 'S' */
};

/* One function's description. */
struct cfi_entry {
	uint64_t start, end;
	struct cfi_cie cie;
	size_t program, program_end;
};

struct cfi_place {
	uint64_t start; /* of the code */
	size_t offset;  /* of its FDE in the section */
};

/** One .eh_frame. */
struct cfi_section {
	const uint8_t *bytes; /* owned by the caller */
	size_t size;
	uint64_t address; /* where it stands in the target */
	VEC(struct cfi_place) index; /* sorted by start */
};

/**
 * Index @size bytes for @address. @table: the search table of .eh_frame_hdr, @count pairs of 32-bit
 * offsets from @table_base; 0 when there is none: then every record is looked at. What is malformed
 * is left out, as code without CFI.
 */
void cfi_section_init(struct cfi_section *section, const uint8_t *bytes, size_t size,
		      uint64_t address, const int32_t (*table)[2], size_t count,
		      uint64_t table_base);
void cfi_section_deinit(struct cfi_section *section);
/** The entry that covers @pc; false: there is none. */
bool cfi_entry_at(const struct cfi_section *section, uint64_t pc, struct cfi_entry *ret);

/** Reads 1 to 8 bytes of the target, zero-extended; false: not readable. */
typedef bool (*cfi_read_fn)(void *context, uint64_t address, size_t size, uint64_t *ret);

enum cfi_step {
	CFI_STEP_OK,
	CFI_STEP_OUTERMOST,  /* the return address is undefined: no caller */
	CFI_STEP_MALFORMED,
	CFI_STEP_UNREADABLE, /* a saved register lies in memory that cannot be read */
	CFI_STEP_UNKNOWN,    /* depends on a register whose value is not known */
};

/**
 * From the frame with @registers (rip at @pc inside @entry) to its caller: @registers are replaced,
 * rsp by the CFA. @ret_cfa: canonical frame address of the frame that is left.
 */
enum cfi_step cfi_step(const struct cfi_section *section, const struct cfi_entry *entry, uint64_t pc,
		       struct cfi_registers *registers, cfi_read_fn read, void *context,
		       uint64_t *ret_cfa);

#endif
