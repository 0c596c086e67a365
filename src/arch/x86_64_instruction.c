// SPDX-License-Identifier: MIT
/*
 * Decoding by Zydis, and moving the first instructions of a function to another place.
 *
 * What depends on where an instruction stands is only what counts from its own end: a direct
 * branch, a %rip-relative operand, and the return address that a call pushes. The first two are
 * rewritten; the third is left, see move_one().
 */
#include <Zydis/Zydis.h>
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "arch/x86_64.h"

static bool decode_full(const uint8_t *bytes, size_t size, ZydisDecodedInstruction *ret)
{
	ZydisDecoder decoder;
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	return ZYAN_SUCCESS(ZydisDecoderDecodeInstruction(&decoder, NULL, bytes, size, ret));
}

// [%rip + disp32]: mod 0, r/m 5 (Intel SDM, volume 2, 2.2.1.6).
static bool has_rip_operand(const ZydisDecodedInstruction *instruction)
{
	return (instruction->attributes & ZYDIS_ATTRIB_HAS_MODRM) &&
	       instruction->raw.modrm.mod == 0 && instruction->raw.modrm.rm == 5 &&
	       instruction->raw.disp.size == 32;
}

static bool has_relative_immediate(const ZydisDecodedInstruction *instruction)
{
	return instruction->raw.imm[0].is_relative;
}

static enum arch_flow flow_of(const ZydisDecodedInstruction *instruction)
{
	bool direct = has_relative_immediate(instruction);
	switch (instruction->mnemonic) {
	case ZYDIS_MNEMONIC_UD0:
	case ZYDIS_MNEMONIC_UD1:
	case ZYDIS_MNEMONIC_UD2:
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_HLT:
		return ARCH_FLOW_TRAP;
	case ZYDIS_MNEMONIC_JMP:
		return direct ? ARCH_FLOW_JUMP : ARCH_FLOW_INDIRECT_JUMP;
	case ZYDIS_MNEMONIC_CALL:
		return direct ? ARCH_FLOW_CALL : ARCH_FLOW_INDIRECT_CALL;
	case ZYDIS_MNEMONIC_RET:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_SYSEXIT:
		return ARCH_FLOW_RETURN;
	default:
		// jcc, loop, jrcxz; xbegin goes to its operand when the transaction aborts.
		return direct ? ARCH_FLOW_BRANCH : ARCH_FLOW_NEXT;
	}
}

// gas and compilers fill with 90, 66 90 and 0f 1f /0 under any prefixes; f3 90 is pause.
static bool is_nop(const ZydisDecodedInstruction *instruction, const uint8_t *bytes)
{
	if (instruction->mnemonic == ZYDIS_MNEMONIC_NOP)
		return true;
	return instruction->mnemonic == ZYDIS_MNEMONIC_XCHG && instruction->length == 2 &&
	       bytes[0] == 0x66 && bytes[1] == 0x90;
}

bool x86_64_decode(const uint8_t *bytes, size_t size, uint64_t address,
		   struct arch_instruction *ret)
{
	ZydisDecodedInstruction instruction;
	if (!decode_full(bytes, size, &instruction))
		return false;

	*ret = (struct arch_instruction){
		.length = instruction.length,
		.flow = flow_of(&instruction),
		.is_nop = is_nop(&instruction, bytes),
		.is_landing_pad = instruction.mnemonic == ZYDIS_MNEMONIC_ENDBR64,
	};
	int64_t distance;
	if (has_relative_immediate(&instruction)) {
		ret->pcrel_offset = instruction.raw.imm[0].offset;
		ret->pcrel_size = instruction.raw.imm[0].size / 8;
		distance = instruction.raw.imm[0].value.s;
	} else if (has_rip_operand(&instruction)) {
		ret->pcrel_offset = instruction.raw.disp.offset;
		ret->pcrel_size = 4;
		distance = instruction.raw.disp.value;
	} else {
		return true;
	}
	ret->has_pcrel = true;
	ret->target = address + instruction.length + (uint64_t)distance;
	// 67: %eip-relative, cut to 32 bits.
	if (instruction.address_width == 32 && !has_relative_immediate(&instruction))
		ret->target = (uint32_t)ret->target;
	return true;
}

void x86_64_format(const uint8_t *bytes, size_t size, uint64_t address, char *text,
		   size_t text_size)
{
	if (text_size == 0)
		return;

	ZydisDecoder decoder;
	ZydisDecodedInstruction instruction;
	ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
	ZydisFormatter formatter;
	ZydisDecoderInit(&decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
	ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_ATT);
	if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, bytes, size, &instruction, operands)) &&
	    ZYAN_SUCCESS(ZydisFormatterFormatInstruction(&formatter, &instruction, operands,
							 instruction.operand_count_visible, text,
							 text_size, address, NULL)))
		return;

	if (size > 0)
		snprintf(text, text_size, ".byte 0x%02x", bytes[0]);
	else
		snprintf(text, text_size, "(end)");
}

// Besides NOPs and int3, gas fills a long gap with a jump over NOPs, and linkers put zeroes.
bool x86_64_is_padding(const uint8_t *bytes, size_t size)
{
	size_t at = 0;
	while (at < size) {
		if (bytes[at] == 0xcc || bytes[at] == 0x00) {
			at++;
			continue;
		}
		struct arch_instruction instruction;
		if (!x86_64_decode(bytes + at, size - at, at, &instruction))
			return false;
		bool over = instruction.flow == ARCH_FLOW_JUMP &&
			    instruction.target >= at + instruction.length &&
			    instruction.target <= size;
		if (!instruction.is_nop && !over)
			return false;
		at += instruction.length;
	}
	return true;
}

/* ---- move --------------------------------------------------------------------------------- */

struct piece {
	size_t at;       // in the old code
	size_t moved_at; // in the moved code
	struct arch_instruction instruction;
	uint8_t opcode_at; // behind the legacy prefixes of a branch
	uint8_t size;      // in the moved code
};

static struct error *cannot_move(const uint8_t *bytes, size_t size, uint64_t address,
				 const char *why)
{
	char text[128];
	x86_64_format(bytes, size, address, text, sizeof(text));
	return error_new(ERROR_KIND_UNSUPPORTED, "\"%s\" at 0x%" PRIx64 " cannot be moved: %s",
			 text, address, why);
}

static bool is_prefix(uint8_t byte)
{
	switch (byte) {
	case 0x26:
	case 0x2e:
	case 0x36:
	case 0x3e:
	case 0x64:
	case 0x65:
	case 0x66:
	case 0x67:
	case 0xf0:
	case 0xf2:
	case 0xf3:
		return true;
	default:
		return byte >= 0x40 && byte <= 0x4f; // REX
	}
}

// How many bytes the moved form takes; 0: it keeps its size.
static uint8_t widened_size(uint8_t opcode, uint8_t opcode_at)
{
	if (opcode == 0xeb)
		return opcode_at + 5; // jmp rel32
	if (opcode >= 0x70 && opcode <= 0x7f)
		return opcode_at + 6; // jcc rel32
	if (opcode >= 0xe0 && opcode <= 0xe3)
		return opcode_at + 9; // loop/jrcxz over a short jump to a jmp rel32
	return 0;
}

static struct error *plan_one(const uint8_t *bytes, size_t size, uint64_t address,
			      struct piece *piece)
{
	struct arch_instruction *instruction = &piece->instruction;
	ZydisDecodedInstruction full;
	if (!decode_full(bytes, size, &full) || !x86_64_decode(bytes, size, address, instruction))
		return cannot_move(bytes, size, address, "it is not an instruction");
	piece->size = instruction->length;
	if (!instruction->has_pcrel)
		return NULL;

	if (!has_relative_immediate(&full)) {
		if (full.address_width == 32)
			return cannot_move(bytes, size, address, "it counts from a 32-bit address");
		return NULL;
	}
	// Intel ignores 66 before a near branch, AMD cuts %rip to 16 bits; with REX.W, as in the TLS
	// sequences, both ignore it.
	if ((full.attributes & ZYDIS_ATTRIB_HAS_OPERANDSIZE) && !full.raw.rex.W)
		return cannot_move(bytes, size, address, "CPUs disagree about its operand size");
	// The return address of a moved call lies in the moved code, as if it had been compiled there;
	// only code that looks at it sees a difference. A call to the next instruction is made for that
	// alone.
	if (instruction->flow == ARCH_FLOW_CALL &&
	    instruction->target == address + instruction->length)
		return cannot_move(bytes, size, address, "it reads its own address");
	if (instruction->pcrel_size != 1)
		return NULL;

	while (piece->opcode_at < instruction->length && is_prefix(bytes[piece->opcode_at]))
		piece->opcode_at++;
	uint8_t wide = widened_size(bytes[piece->opcode_at], piece->opcode_at);
	if (wide == 0)
		return cannot_move(bytes, size, address, "its short branch has no long form");
	piece->size = wide;
	return NULL;
}

// Where a moved instruction shall lead. A branch to an instruction that moved too goes to the moved
// one, for a detour stands over the old one; a call of the function by itself is a call like any
// other and goes to the entry. false: into the middle of what moved.
static bool moved_target(const struct piece *pieces, size_t count, size_t taken, uint64_t from,
			 uint64_t to, const struct piece *piece, uint64_t *ret)
{
	const struct arch_instruction *instruction = &piece->instruction;
	*ret = instruction->target;
	if (instruction->flow == ARCH_FLOW_CALL)
		return *ret == from || *ret - from >= taken;
	bool is_branch =
		instruction->flow == ARCH_FLOW_JUMP || instruction->flow == ARCH_FLOW_BRANCH;
	if (!is_branch || *ret - from >= taken)
		return true;
	for (size_t i = 0; i < count; i++) {
		if (from + pieces[i].at == *ret) {
			*ret = to + pieces[i].moved_at;
			return true;
		}
	}
	return false;
}

static struct error *move_one(const uint8_t *bytes, uint64_t address, const struct piece *piece,
			      uint64_t to, uint64_t target, uint8_t *out)
{
	const struct arch_instruction *instruction = &piece->instruction;
	uint64_t end = to + piece->size;
	uint8_t *field = out + piece->size - 4;

	if (!instruction->has_pcrel || instruction->pcrel_size == 4) {
		memcpy(out, bytes, instruction->length);
		if (!instruction->has_pcrel)
			return NULL;
		field = out + instruction->pcrel_offset;
	} else {
		uint8_t *at = out + piece->opcode_at;
		uint8_t opcode = bytes[piece->opcode_at];
		memcpy(out, bytes, piece->opcode_at);
		if (opcode == 0xeb) {
			at[0] = 0xe9;
		} else if (opcode <= 0x7f) {
			at[0] = 0x0f;
			at[1] = 0x80 | (opcode & 0x0f);
		} else {
			const uint8_t over[] = {opcode, 2, 0xeb, 5, 0xe9};
			memcpy(at, over, sizeof(over));
		}
	}
	if (!x86_64_displacement(end, target, field))
		return cannot_move(bytes, instruction->length, address,
				   "what it refers to is out of reach from there");
	return NULL;
}

struct error *x86_64_move(const uint8_t *bytes, size_t size, uint64_t from, uint64_t to,
			  size_t minimum, uint8_t moved[ARCH_MOVED_MAX], size_t *ret_size,
			  size_t *ret_taken)
{
	enum { JUMP_BACK = 5 };
	struct piece pieces[ARCH_MOVED_MAX];
	size_t count = 0, taken = 0, used = 0;

	if (minimum > size)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "the code at 0x%" PRIx64 " has %zu bytes, %zu are needed", from,
				 size, minimum);

	// Sizes first: a branch may lead forward to an instruction that moves too.
	while (taken < minimum) {
		struct piece piece = {.at = taken, .moved_at = used};
		TRY(plan_one(bytes + taken, size - taken, from + taken, &piece));
		taken += piece.instruction.length;
		used += piece.size;
		if (used + JUMP_BACK > ARCH_MOVED_MAX)
			return error_new(ERROR_KIND_UNSUPPORTED,
					 "the first %zu bytes at 0x%" PRIx64
					 " do not fit %d bytes when moved",
					 minimum, from, ARCH_MOVED_MAX);
		pieces[count++] = piece;
	}

	uint8_t out[ARCH_MOVED_MAX];
	for (size_t i = 0; i < count; i++) {
		const struct piece *piece = &pieces[i];
		uint64_t target;
		if (!moved_target(pieces, count, taken, from, to, piece, &target))
			return cannot_move(bytes + piece->at, size - piece->at, from + piece->at,
					   "it leads into the middle of a moved instruction");
		TRY(move_one(bytes + piece->at, from + piece->at, piece, to + piece->moved_at,
			     target, out + piece->moved_at));
	}

	out[used] = 0xe9;
	if (!x86_64_displacement(to + used + JUMP_BACK, from + taken, out + used + 1))
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "0x%" PRIx64 " is out of a jump's reach from 0x%" PRIx64,
				 from + taken, to + used);
	memcpy(moved, out, used + JUMP_BACK);
	*ret_size = used + JUMP_BACK;
	*ret_taken = taken;
	return NULL;
}
