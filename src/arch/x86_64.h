/* SPDX-License-Identifier: MIT */
/*
 * What the files of the x86-64 row share. Private to arch.
 */
#ifndef SUTURE_ARCH_X86_64_H
#define SUTURE_ARCH_X86_64_H

#include "arch/arch.h"

extern const struct arch arch_x86_64;

const struct arch_relocation *x86_64_relocation(uint32_t type);

bool x86_64_rewrite_match(const uint8_t *object, const uint8_t *linked, size_t size,
			  uint64_t address, const struct arch_site *relocations, size_t count,
			  size_t index, struct arch_rewrite *ret);

bool x86_64_decode(const uint8_t *bytes, size_t size, uint64_t address,
		   struct arch_instruction *ret);
void x86_64_format(const uint8_t *bytes, size_t size, uint64_t address, char *text,
		   size_t text_size);
bool x86_64_is_padding(const uint8_t *bytes, size_t size);
struct error *x86_64_move(const uint8_t *bytes, size_t size, uint64_t from, uint64_t to,
			  size_t minimum, uint8_t moved[ARCH_MOVED_MAX], size_t *ret_size,
			  size_t *ret_taken) MUST_CHECK;

/** The 4-byte displacement that leads from an instruction's @end to @to, or false: out of reach. */
static inline bool x86_64_displacement(uint64_t end, uint64_t to, uint8_t field[4])
{
	int64_t distance = (int64_t)(to - end);
	if (distance != (int32_t)distance)
		return false;
	for (int i = 0; i < 4; i++)
		field[i] = (uint8_t)((uint32_t)distance >> (8 * i));
	return true;
}

#endif
