/* SPDX-License-Identifier: MIT */
/* .eh_frame: LSB core, "Exception Frames"; DWARF 5, section 6.4. */
#include "cfi.h"

#include <stdlib.h>
#include <string.h>

/* A reader that never leaves its bytes; `bad` stays set. */
struct cursor {
	const uint8_t *bytes;
	size_t at, end;
	bool bad;
};

static uint64_t take_fixed(struct cursor *cursor, size_t size)
{
	uint64_t value = 0;
	if (cursor->bad || cursor->end - cursor->at < size) {
		cursor->bad = true;
		return 0;
	}
	memcpy(&value, cursor->bytes + cursor->at, size);
	cursor->at += size;
	return value;
}

static uint64_t take_uleb(struct cursor *cursor)
{
	uint64_t value = 0;
	for (unsigned shift = 0;; shift += 7) {
		uint8_t byte = (uint8_t)take_fixed(cursor, 1);
		if (cursor->bad || shift > 63) {
			cursor->bad = true;
			return 0;
		}
		value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return value;
	}
}

static int64_t take_sleb(struct cursor *cursor)
{
	uint64_t value = 0;
	for (unsigned shift = 0;;) {
		uint8_t byte = (uint8_t)take_fixed(cursor, 1);
		if (cursor->bad || shift > 63) {
			cursor->bad = true;
			return 0;
		}
		value |= (uint64_t)(byte & 0x7f) << shift;
		shift += 7;
		if (byte & 0x80)
			continue;
		if (byte & 0x40 && shift < 64)
			value |= ~(uint64_t)0 << shift;
		return (int64_t)value;
	}
}

/* DW_EH_PE_*: the form in the low four bits, what it is relative to in the next three. */
static uint64_t take_encoded(struct cursor *cursor, uint8_t encoding, uint64_t section_address)
{
	uint64_t here = section_address + cursor->at, value;
	switch (encoding & 0x0f) {
	case 0x00: // absptr
	case 0x04: // udata8
	case 0x0c: // sdata8
		value = take_fixed(cursor, 8);
		break;
	case 0x01:
		value = take_uleb(cursor);
		break;
	case 0x02:
		value = take_fixed(cursor, 2);
		break;
	case 0x03:
		value = take_fixed(cursor, 4);
		break;
	case 0x09:
		value = (uint64_t)take_sleb(cursor);
		break;
	case 0x0a:
		value = (uint64_t)(int64_t)(int16_t)take_fixed(cursor, 2);
		break;
	case 0x0b:
		value = (uint64_t)(int64_t)(int32_t)take_fixed(cursor, 4);
		break;
	default:
		cursor->bad = true;
		return 0;
	}
	if (encoding & 0x80) // indirect: only personality routines are
		cursor->bad = true;
	switch (encoding & 0x70) {
	case 0x00:
		return value;
	case 0x10: // pcrel
		return here + value;
	default:
		cursor->bad = true;
		return 0;
	}
}

/* ---- the index ----------------------------------------------------------------------------- */

static bool cie_parse(const struct cfi_section *section, struct cursor record, struct cfi_cie *ret)
{
	struct cfi_cie cie = {.program_end = record.end};
	uint8_t version = (uint8_t)take_fixed(&record, 1);
	if (version != 1 && version != 3 && version != 4)
		return false;
	const char *augmentation = (const char *)record.bytes + record.at;
	size_t length = strnlen(augmentation, record.end - record.at);
	if (length == record.end - record.at)
		return false;
	record.at += length + 1;
	if (version == 4)
		take_fixed(&record, 2); // sizes of address and segment selector
	cie.code_align = take_uleb(&record);
	cie.data_align = take_sleb(&record);
	cie.return_register = version == 1 ? take_fixed(&record, 1) : take_uleb(&record);
	for (size_t i = 0; i < length; i++) {
		uint64_t size;
		uint8_t encoding;
		switch (augmentation[i]) {
		case 'z':
			if (i > 0)
				return false;
			cie.has_size = true;
			size = take_uleb(&record);
			if (record.bad || size > record.end - record.at)
				return false;
			cie.program = record.at + size;
			break;
		case 'R':
			cie.encoding = (uint8_t)take_fixed(&record, 1);
			break;
		case 'L':
			take_fixed(&record, 1);
			break;
		case 'P':
			// The personality is of no use here, only its length is.
			encoding = (uint8_t)take_fixed(&record, 1);
			take_encoded(&record, encoding & 0x0f, section->address);
			break;
		case 'S':
			cie.signal_frame = true;
			break;
		case 'B': // AArch64: return addresses signed with the B key
			break;
		default:
			if (!cie.has_size)
				return false;
			i = length; // what is not known is skipped by its size
		}
	}
	if (!cie.has_size)
		cie.program = record.at;
	if (record.bad || cie.return_register >= CFI_REGISTERS || cie.program > cie.program_end)
		return false;
	*ret = cie;
	return true;
}

/*
 * The record at @offset: its content behind the length, and the offset of its CIE (itself when it
 * is one). false: malformed, or the terminator.
 */
static bool record_at(const struct cfi_section *section, size_t offset, struct cursor *ret,
		      size_t *ret_cie)
{
	struct cursor cursor = {.bytes = section->bytes, .at = offset, .end = section->size};
	if (offset > section->size)
		return false;
	uint64_t length = take_fixed(&cursor, 4);
	if (length == 0xffffffff)
		length = take_fixed(&cursor, 8);
	if (cursor.bad || length < 4 || length > cursor.end - cursor.at)
		return false;
	cursor.end = cursor.at + length;
	size_t pointer_at = cursor.at;
	uint64_t pointer = take_fixed(&cursor, 4);
	if (pointer > pointer_at)
		return false;
	*ret = cursor;
	*ret_cie = pointer ? pointer_at - pointer : offset;
	return true;
}

static bool fde_parse(const struct cfi_section *section, size_t offset, struct cfi_entry *ret)
{
	struct cursor record, cie_record;
	size_t cie_offset, again;
	struct cfi_entry entry = {0};
	if (!record_at(section, offset, &record, &cie_offset) || cie_offset == offset ||
	    !record_at(section, cie_offset, &cie_record, &again) || again != cie_offset ||
	    !cie_parse(section, cie_record, &entry.cie))
		return false;
	entry.start = take_encoded(&record, entry.cie.encoding, section->address);
	uint64_t length = take_encoded(&record, entry.cie.encoding & 0x0f, section->address);
	if (entry.cie.has_size) {
		uint64_t size = take_uleb(&record);
		if (record.bad || size > record.end - record.at)
			return false;
		record.at += size;
	}
	// A linker leaves the entries of code that it dropped with length 0.
	if (record.bad || !length || !checked_add(entry.start, length, &entry.end))
		return false;
	entry.program = record.at;
	entry.program_end = record.end;
	*ret = entry;
	return true;
}

static int place_compare(const void *a, const void *b)
{
	const struct cfi_place *left = a, *right = b;
	return (left->start > right->start) - (left->start < right->start);
}

void cfi_section_init(struct cfi_section *section, const uint8_t *bytes, size_t size,
		      uint64_t address, const int32_t (*table)[2], size_t count,
		      uint64_t table_base)
{
	*section = (struct cfi_section){.bytes = bytes, .size = size, .address = address};
	for (size_t i = 0; i < count; i++) {
		uint64_t start = table_base + (uint64_t)(int64_t)table[i][0];
		uint64_t offset = table_base + (uint64_t)(int64_t)table[i][1] - address;
		if (offset < size)
			vec_push(&section->index, (struct cfi_place){start, offset});
	}
	struct cursor record;
	size_t cie;
	for (size_t at = 0; !count && record_at(section, at, &record, &cie); at = record.end) {
		struct cfi_entry entry;
		if (cie != at && fde_parse(section, at, &entry))
			vec_push(&section->index, (struct cfi_place){entry.start, at});
	}
	bool sorted = true;
	for (size_t i = 1; i < section->index.count; i++)
		sorted &= section->index.items[i - 1].start <= section->index.items[i].start;
	if (!sorted)
		qsort(section->index.items, section->index.count, sizeof(*section->index.items),
		      place_compare);
}

void cfi_section_deinit(struct cfi_section *section)
{
	vec_deinit(&section->index);
}

bool cfi_entry_at(const struct cfi_section *section, uint64_t pc, struct cfi_entry *ret)
{
	size_t low = 0, high = section->index.count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (section->index.items[middle].start <= pc)
			low = middle + 1;
		else
			high = middle;
	}
	struct cfi_entry entry;
	if (low == 0 || !fde_parse(section, section->index.items[low - 1].offset, &entry) ||
	    pc < entry.start || pc >= entry.end)
		return false;
	*ret = entry;
	return true;
}

/* ---- expressions --------------------------------------------------------------------------- */

struct machine {
	const struct cfi_section *section;
	const struct cfi_registers *registers;
	cfi_read_fn read;
	void *context;
};

enum { STACK_DEPTH = 64, EXPRESSION_STEPS = 1000 };

/* DWARF 5, section 2.5, as far as an expression in CFI may use it. */
static enum cfi_step evaluate(const struct machine *machine, size_t at, size_t end,
			      const uint64_t *initial, uint64_t *ret)
{
	uint64_t stack[STACK_DEPTH + 1];
	size_t depth = 0;
	if (initial)
		stack[depth++] = *initial;
	struct cursor cursor = {.bytes = machine->section->bytes, .at = at, .end = end};
	for (unsigned steps = 0; cursor.at < end; steps++) {
		uint8_t op = (uint8_t)take_fixed(&cursor, 1);
		size_t needs = 0;
		if (op == 0x06 || op == 0x94 || op == 0x12 || op == 0x13 || op == 0x19 || op == 0x1f ||
		    op == 0x20 || op == 0x23 || op == 0x28)
			needs = 1;
		else if (op == 0x14 || op == 0x16 || (op >= 0x1a && op <= 0x27) ||
			 (op >= 0x29 && op <= 0x2e))
			needs = 2;
		else if (op == 0x17)
			needs = 3;
		if (cursor.bad || depth < needs || depth >= STACK_DEPTH || steps > EXPRESSION_STEPS)
			return CFI_STEP_MALFORMED;
		uint64_t *top = depth ? &stack[depth - 1] : &stack[0];
		uint64_t number, value;
		int64_t offset;
		switch (op) {
		case 0x03: // addr
			stack[depth++] = take_fixed(&cursor, 8);
			break;
		case 0x06: // deref
			if (!machine->read(machine->context, *top, 8, &value))
				return CFI_STEP_UNREADABLE;
			*top = value;
			break;
		case 0x94: // deref_size
			number = take_fixed(&cursor, 1);
			if (number < 1 || number > 8)
				return CFI_STEP_MALFORMED;
			if (!machine->read(machine->context, *top, number, &value))
				return CFI_STEP_UNREADABLE;
			*top = value;
			break;
		case 0x08: // const1u
			stack[depth++] = take_fixed(&cursor, 1);
			break;
		case 0x09:
			stack[depth++] = (uint64_t)(int64_t)(int8_t)take_fixed(&cursor, 1);
			break;
		case 0x0a:
			stack[depth++] = take_fixed(&cursor, 2);
			break;
		case 0x0b:
			stack[depth++] = (uint64_t)(int64_t)(int16_t)take_fixed(&cursor, 2);
			break;
		case 0x0c:
			stack[depth++] = take_fixed(&cursor, 4);
			break;
		case 0x0d:
			stack[depth++] = (uint64_t)(int64_t)(int32_t)take_fixed(&cursor, 4);
			break;
		case 0x0e: // const8u, const8s
		case 0x0f:
			stack[depth++] = take_fixed(&cursor, 8);
			break;
		case 0x10: // constu
			stack[depth++] = take_uleb(&cursor);
			break;
		case 0x11: // consts
			stack[depth++] = (uint64_t)take_sleb(&cursor);
			break;
		case 0x12: // dup
			stack[depth++] = *top;
			break;
		case 0x13: // drop
			depth--;
			break;
		case 0x14: // over
			stack[depth] = stack[depth - 2];
			depth++;
			break;
		case 0x15: // pick
			number = take_fixed(&cursor, 1);
			if (number >= depth)
				return CFI_STEP_MALFORMED;
			stack[depth] = stack[depth - 1 - number];
			depth++;
			break;
		case 0x16: // swap
			value = top[0];
			top[0] = top[-1];
			top[-1] = value;
			break;
		case 0x17: // rot
			value = top[0];
			top[0] = top[-1];
			top[-1] = top[-2];
			top[-2] = value;
			break;
		case 0x19: // abs
			if ((int64_t)*top < 0)
				*top = -*top;
			break;
		case 0x1f: // neg
			*top = -*top;
			break;
		case 0x20: // not
			*top = ~*top;
			break;
		case 0x23: // plus_uconst
			*top += take_uleb(&cursor);
			break;
		case 0x1a: // and
			top[-1] &= top[0];
			depth--;
			break;
		case 0x1b: // div, signed
			if (!top[0] || ((int64_t)top[-1] == INT64_MIN && (int64_t)top[0] == -1))
				return CFI_STEP_MALFORMED;
			top[-1] = (uint64_t)((int64_t)top[-1] / (int64_t)top[0]);
			depth--;
			break;
		case 0x1c: // minus
			top[-1] -= top[0];
			depth--;
			break;
		case 0x1d: // mod
			if (!top[0])
				return CFI_STEP_MALFORMED;
			top[-1] %= top[0];
			depth--;
			break;
		case 0x1e: // mul
			top[-1] *= top[0];
			depth--;
			break;
		case 0x21: // or
			top[-1] |= top[0];
			depth--;
			break;
		case 0x22: // plus
			top[-1] += top[0];
			depth--;
			break;
		case 0x24: // shl
			top[-1] = top[0] < 64 ? top[-1] << top[0] : 0;
			depth--;
			break;
		case 0x25: // shr
			top[-1] = top[0] < 64 ? top[-1] >> top[0] : 0;
			depth--;
			break;
		case 0x26: // shra
			top[-1] = (uint64_t)((int64_t)top[-1] >> (top[0] < 64 ? top[0] : 63));
			depth--;
			break;
		case 0x27: // xor
			top[-1] ^= top[0];
			depth--;
			break;
		case 0x29: // eq
			top[-1] = top[-1] == top[0];
			depth--;
			break;
		case 0x2a: // ge
			top[-1] = (int64_t)top[-1] >= (int64_t)top[0];
			depth--;
			break;
		case 0x2b: // gt
			top[-1] = (int64_t)top[-1] > (int64_t)top[0];
			depth--;
			break;
		case 0x2c: // le
			top[-1] = (int64_t)top[-1] <= (int64_t)top[0];
			depth--;
			break;
		case 0x2d: // lt
			top[-1] = (int64_t)top[-1] < (int64_t)top[0];
			depth--;
			break;
		case 0x2e: // ne
			top[-1] = top[-1] != top[0];
			depth--;
			break;
		case 0x28: // bra
		case 0x2f: // skip
			offset = (int16_t)take_fixed(&cursor, 2);
			if (op == 0x28 && stack[--depth] == 0)
				break;
			if (offset < 0 ? (uint64_t)-offset > cursor.at - at
				       : (uint64_t)offset > end - cursor.at)
				return CFI_STEP_MALFORMED;
			cursor.at += (size_t)offset;
			break;
		case 0x96: // nop
			break;
		default:
			if (op >= 0x30 && op <= 0x4f) { // lit0 to lit31
				stack[depth++] = op - 0x30u;
				break;
			}
			if ((op < 0x70 || op > 0x8f) && op != 0x92)
				return CFI_STEP_MALFORMED;
			number = op == 0x92 ? take_uleb(&cursor) : op - 0x70u; // bregx, breg0 to 31
			offset = take_sleb(&cursor);
			if (number >= CFI_REGISTERS)
				return CFI_STEP_MALFORMED;
			if (!(machine->registers->known >> number & 1))
				return CFI_STEP_UNKNOWN;
			stack[depth++] = machine->registers->value[number] + (uint64_t)offset;
		}
		if (cursor.bad)
			return CFI_STEP_MALFORMED;
	}
	if (depth == 0)
		return CFI_STEP_MALFORMED;
	*ret = stack[depth - 1];
	return CFI_STEP_OK;
}

/* ---- rules --------------------------------------------------------------------------------- */

enum rule_kind {
	RULE_SAME, /* also: not mentioned */
	RULE_UNDEFINED,
	RULE_OFFSET,     /* saved at CFA + value */
	RULE_VAL_OFFSET, /* is CFA + value */
	RULE_REGISTER,
	RULE_EXPRESSION,
	RULE_VAL_EXPRESSION,
};

struct rule {
	enum rule_kind kind;
	int64_t value;
	size_t at, end; /* of an expression */
};

struct rules {
	struct rule registers[CFI_REGISTERS];
	uint64_t cfa_register;
	int64_t cfa_offset;
	size_t cfa_at, cfa_end; /* an expression when cfa_end is not 0 */
};

enum { REMEMBERED_MAX = 8 };

static void rule_set(struct rules *rules, uint64_t number, struct rule rule)
{
	if (number < CFI_REGISTERS) // the others (vectors) are of no use for unwinding
		rules->registers[number] = rule;
}

static struct rule rule_expression(struct cursor *cursor, enum rule_kind kind)
{
	uint64_t size = take_uleb(cursor);
	if (cursor->bad || size > cursor->end - cursor->at) {
		cursor->bad = true;
		return (struct rule){RULE_UNDEFINED, 0, 0, 0};
	}
	cursor->at += size;
	return (struct rule){kind, 0, cursor->at - size, cursor->at};
}

/*
 * Run one program up to @pc. @initial: the rules after the CIE's, for DW_CFA_restore; NULL in the
 * CIE itself. false: malformed.
 */
static bool program_run(const struct cfi_section *section, const struct cfi_cie *cie, size_t at,
			size_t end, uint64_t location, uint64_t pc, const struct rules *initial,
			struct rules *rules)
{
	struct rules remembered[REMEMBERED_MAX];
	size_t depth = 0;
	struct cursor cursor = {.bytes = section->bytes, .at = at, .end = end};
	while (cursor.at < cursor.end) {
		uint8_t op = (uint8_t)take_fixed(&cursor, 1), low = op & 0x3f;
		uint64_t number, advance = 0;
		int64_t offset;
		switch (op & 0xc0) {
		case 0x40: // advance_loc
			advance = low;
			break;
		case 0x80: // offset
			offset = (int64_t)take_uleb(&cursor) * cie->data_align;
			rule_set(rules, low, (struct rule){RULE_OFFSET, offset, 0, 0});
			break;
		case 0xc0: // restore
			if (!initial)
				return false;
			if (low < CFI_REGISTERS)
				rules->registers[low] = initial->registers[low];
			break;
		default:
			switch (op) {
			case 0x00: // nop
				break;
			case 0x01: // set_loc
				location = take_encoded(&cursor, cie->encoding, section->address);
				if (location > pc)
					return !cursor.bad;
				break;
			case 0x02: // advance_loc1, 2, 4
				advance = take_fixed(&cursor, 1);
				break;
			case 0x03:
				advance = take_fixed(&cursor, 2);
				break;
			case 0x04:
				advance = take_fixed(&cursor, 4);
				break;
			case 0x05: // offset_extended
				number = take_uleb(&cursor);
				offset = (int64_t)take_uleb(&cursor) * cie->data_align;
				rule_set(rules, number, (struct rule){RULE_OFFSET, offset, 0, 0});
				break;
			case 0x06: // restore_extended
				number = take_uleb(&cursor);
				if (!initial)
					return false;
				if (number < CFI_REGISTERS)
					rules->registers[number] = initial->registers[number];
				break;
			case 0x07: // undefined
				rule_set(rules, take_uleb(&cursor), (struct rule){RULE_UNDEFINED, 0, 0, 0});
				break;
			case 0x08: // same_value
				rule_set(rules, take_uleb(&cursor), (struct rule){RULE_SAME, 0, 0, 0});
				break;
			case 0x09: // register
				number = take_uleb(&cursor);
				offset = (int64_t)take_uleb(&cursor);
				rule_set(rules, number, (struct rule){RULE_REGISTER, offset, 0, 0});
				break;
			case 0x0a: // remember_state
				if (depth == REMEMBERED_MAX)
					return false;
				remembered[depth++] = *rules;
				break;
			case 0x0b: // restore_state
				if (depth == 0)
					return false;
				*rules = remembered[--depth];
				break;
			case 0x0c: // def_cfa
			case 0x12: // def_cfa_sf
				rules->cfa_register = take_uleb(&cursor);
				rules->cfa_offset = op == 0x0c ? (int64_t)take_uleb(&cursor)
							       : take_sleb(&cursor) * cie->data_align;
				rules->cfa_end = 0;
				break;
			case 0x0d: // def_cfa_register
				rules->cfa_register = take_uleb(&cursor);
				rules->cfa_end = 0;
				break;
			case 0x0e: // def_cfa_offset
				rules->cfa_offset = (int64_t)take_uleb(&cursor);
				break;
			case 0x13: // def_cfa_offset_sf
				rules->cfa_offset = take_sleb(&cursor) * cie->data_align;
				break;
			case 0x0f: { // def_cfa_expression
				struct rule rule = rule_expression(&cursor, RULE_EXPRESSION);
				rules->cfa_at = rule.at;
				rules->cfa_end = rule.end;
				break;
			}
			case 0x10: // expression
				number = take_uleb(&cursor);
				rule_set(rules, number, rule_expression(&cursor, RULE_EXPRESSION));
				break;
			case 0x16: // val_expression
				number = take_uleb(&cursor);
				rule_set(rules, number, rule_expression(&cursor, RULE_VAL_EXPRESSION));
				break;
			case 0x11: // offset_extended_sf
				number = take_uleb(&cursor);
				offset = take_sleb(&cursor) * cie->data_align;
				rule_set(rules, number, (struct rule){RULE_OFFSET, offset, 0, 0});
				break;
			case 0x14: // val_offset
				number = take_uleb(&cursor);
				offset = (int64_t)take_uleb(&cursor) * cie->data_align;
				rule_set(rules, number, (struct rule){RULE_VAL_OFFSET, offset, 0, 0});
				break;
			case 0x15: // val_offset_sf
				number = take_uleb(&cursor);
				offset = take_sleb(&cursor) * cie->data_align;
				rule_set(rules, number, (struct rule){RULE_VAL_OFFSET, offset, 0, 0});
				break;
			case 0x2e: // GNU_args_size
				take_uleb(&cursor);
				break;
			case 0x2f: // GNU_negative_offset_extended
				number = take_uleb(&cursor);
				offset = -(int64_t)take_uleb(&cursor) * cie->data_align;
				rule_set(rules, number, (struct rule){RULE_OFFSET, offset, 0, 0});
				break;
			default:
				return false;
			}
		}
		if (cursor.bad)
			return false;
		location += advance * cie->code_align;
		if (location > pc)
			return true;
	}
	return true;
}

static enum cfi_step register_apply(const struct machine *machine, const struct rule *rule,
				    unsigned number, uint64_t cfa, uint64_t *ret, bool *ret_known)
{
	uint64_t value = 0;
	enum cfi_step step;
	*ret_known = true;
	switch (rule->kind) {
	case RULE_SAME:
		*ret = machine->registers->value[number];
		*ret_known = machine->registers->known >> number & 1;
		return CFI_STEP_OK;
	case RULE_UNDEFINED:
		*ret_known = false;
		return CFI_STEP_OK;
	case RULE_REGISTER:
		if (rule->value >= CFI_REGISTERS)
			return CFI_STEP_MALFORMED;
		*ret = machine->registers->value[rule->value];
		*ret_known = machine->registers->known >> rule->value & 1;
		return CFI_STEP_OK;
	case RULE_VAL_OFFSET:
		*ret = cfa + (uint64_t)rule->value;
		return CFI_STEP_OK;
	case RULE_OFFSET:
		value = cfa + (uint64_t)rule->value;
		break;
	case RULE_EXPRESSION:
	case RULE_VAL_EXPRESSION:
		step = evaluate(machine, rule->at, rule->end, &cfa, &value);
		if (step != CFI_STEP_OK)
			return step;
		if (rule->kind == RULE_VAL_EXPRESSION) {
			*ret = value;
			return CFI_STEP_OK;
		}
		break;
	}
	return machine->read(machine->context, value, 8, ret) ? CFI_STEP_OK : CFI_STEP_UNREADABLE;
}

enum cfi_step cfi_step(const struct cfi_section *section, const struct cfi_entry *entry, uint64_t pc,
		       struct cfi_registers *registers, cfi_read_fn read, void *context,
		       uint64_t *ret_cfa)
{
	const struct cfi_cie *cie = &entry->cie;
	struct rules rules = {0}, initial;
	if (!program_run(section, cie, cie->program, cie->program_end, entry->start, UINT64_MAX, NULL,
			 &rules))
		return CFI_STEP_MALFORMED;
	initial = rules;
	if (!program_run(section, cie, entry->program, entry->program_end, entry->start, pc, &initial,
			 &rules))
		return CFI_STEP_MALFORMED;

	struct machine machine = {section, registers, read, context};
	uint64_t cfa;
	if (rules.cfa_end) {
		enum cfi_step step = evaluate(&machine, rules.cfa_at, rules.cfa_end, NULL, &cfa);
		if (step != CFI_STEP_OK)
			return step;
	} else {
		if (rules.cfa_register >= CFI_REGISTERS)
			return CFI_STEP_MALFORMED;
		if (!(registers->known >> rules.cfa_register & 1))
			return CFI_STEP_UNKNOWN;
		cfa = registers->value[rules.cfa_register] + (uint64_t)rules.cfa_offset;
	}
	*ret_cfa = cfa;
	if (rules.registers[cie->return_register].kind == RULE_UNDEFINED)
		return CFI_STEP_OUTERMOST;

	struct cfi_registers caller = {.known = 0};
	for (unsigned i = 0; i < CFI_REGISTERS; i++) {
		bool known = false;
		enum cfi_step step = register_apply(&machine, &rules.registers[i], i, cfa,
						    &caller.value[i], &known);
		// A register that cannot be had is not known; only those that matter end the walk.
		if (step != CFI_STEP_OK && (i == cie->return_register || step == CFI_STEP_MALFORMED))
			return step;
		if (step == CFI_STEP_OK && known)
			caller.known |= 1u << i;
	}
	// The return address without a rule would be this frame's own pc.
	if (rules.registers[cie->return_register].kind == RULE_SAME)
		return CFI_STEP_MALFORMED;
	if (!(caller.known >> cie->return_register & 1))
		return CFI_STEP_UNKNOWN;
	caller.value[CFI_RIP] = caller.value[cie->return_register];
	caller.known |= 1u << CFI_RIP;
	if (rules.registers[CFI_RSP].kind == RULE_SAME) {
		caller.value[CFI_RSP] = cfa;
		caller.known |= 1u << CFI_RSP;
	}
	*registers = caller;
	return CFI_STEP_OK;
}
