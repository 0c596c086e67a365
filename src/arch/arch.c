// SPDX-License-Identifier: MIT
/*
 * The list of CPUs, and what their relocation tables share: reading, checking and writing a field.
 */
#include "arch/arch.h"

#include <assert.h>
#include <elf.h>
#include <inttypes.h>

#include "arch/x86_64.h"

static const struct arch *const arch_list[] = {
	&arch_x86_64,
};

const struct arch *arch_find(uint16_t machine, uint8_t elf_class, uint8_t elf_data)
{
	for (size_t i = 0; i < ARRAY_SIZE(arch_list); i++) {
		const struct arch *arch = arch_list[i];
		if (arch->machine == machine && arch->elf_class == elf_class &&
		    arch->elf_data == elf_data)
			return arch;
	}
	return NULL;
}

const struct arch *arch_native(void)
{
#if defined(__x86_64__) && !defined(__ILP32__)
	return &arch_x86_64;
#else
#error "suture has no arch for this CPU yet"
#endif
}

/* ---- relocation fields -------------------------------------------------------------------- */

static bool fits_signed(uint64_t value, unsigned bits)
{
	int64_t limit = (int64_t)1 << (bits - 1);
	return (int64_t)value >= -limit && (int64_t)value < limit;
}

bool arch_relocation_fits(const struct arch_relocation *relocation, uint64_t value)
{
	unsigned bits = relocation->size * 8u;
	if (bits == 0 || bits >= 64)
		return true;

	bool as_unsigned = value >> bits == 0;
	if (relocation->any_checked)
		return as_unsigned || fits_signed(value, bits);
	return relocation->sign_checked ? fits_signed(value, bits) : as_unsigned;
}

struct error *arch_relocation_write(const struct arch *arch,
				    const struct arch_relocation *relocation, uint8_t *field,
				    uint64_t value)
{
	if (!arch_relocation_fits(relocation, value)) {
		unsigned bits = relocation->size * 8u;
		int64_t limit = (int64_t)1 << (bits - 1);
		if (relocation->sign_checked)
			return error_new(ERROR_KIND_INPUT,
					 "%s: value %" PRId64 " does not fit [%" PRId64 ", %" PRId64
					 "]",
					 relocation->name, (int64_t)value, -limit, limit - 1);
		return error_new(
			ERROR_KIND_INPUT,
			"%s: value 0x%" PRIx64 " does not fit [%s0x%" PRIx64 ", 0x%" PRIx64 "]",
			relocation->name, value, relocation->any_checked ? "-" : "",
			relocation->any_checked ? (uint64_t)limit : 0, ((uint64_t)1 << bits) - 1);
	}

	assert(relocation->size <= 8);
	for (unsigned i = 0; i < relocation->size; i++) {
		unsigned at = arch->elf_data == ELFDATA2LSB ? i : relocation->size - 1u - i;
		field[at] = (uint8_t)(value >> (8 * i));
	}
	return NULL;
}

uint64_t arch_relocation_read(const struct arch *arch, const struct arch_relocation *relocation,
			      const uint8_t *field)
{
	unsigned size = relocation->size;
	assert(size <= 8);
	uint64_t value = 0;
	for (unsigned i = 0; i < size; i++) {
		unsigned at = arch->elf_data == ELFDATA2LSB ? i : size - 1u - i;
		value |= (uint64_t)field[at] << (8 * i);
	}

	unsigned bits = size * 8u;
	if (relocation->sign_checked && bits > 0 && bits < 64 && value >> (bits - 1) & 1)
		value |= ~(uint64_t)0 << bits;
	return value;
}
