// SPDX-License-Identifier: MIT
/*
 * The digest of an atom: its bytes with every relocated field taken out, and in the field's place what
 * it reaches. A named symbol counts by its key and the addend; a string, a constant, a jump table by
 * content, recursively; a place in a function by the function and the offset.
 *
 * A digest says "the same text up to the numbers that compilers give": `n.3` and `n.7` have one key.
 * That makes it fit for finding twins (match.c). Whether twins are equal is asked again afterwards,
 * with each target compared as an identity (compare.c), so that two variables that changed places are
 * not missed.
 */
#include <string.h>

#include "diff/internal.h"

// Chains of unnamed data that refer to unnamed data: no compiler makes one so deep.
#define DEPTH_MAX 500

static const struct digest *digest_at(struct atom *atom, unsigned depth);

static void add_masked_bytes(struct digest_state *state, const struct atom *atom)
{
	digest_update_u64(state, atom->size);
	const uint8_t *bytes = atom_bytes(atom);
	if (!bytes)
		return;
	// Zeroes that are stored and zeroes that are not are the same.
	uint64_t at = 0, end = atom->size;
	while (end > 0 && bytes[end - 1] == 0)
		end--;
	static const uint8_t field[8];
	for (size_t i = 0; i < atom->reference_count; i++) {
		const struct reference *reference = &atom->references[i];
		uint64_t size = reference->size < sizeof(field) ? reference->size : sizeof(field);
		if (reference->offset < at || !range_within(reference->offset, size, end))
			continue;
		digest_update(state, bytes + at, reference->offset - at);
		digest_update(state, field, size);
		at = reference->offset + size;
	}
	digest_update(state, bytes + at, end - at);
}

static void add_reference(struct digest_state *state, const struct reference *reference,
			  unsigned depth)
{
	struct atom *target = reference->target;
	digest_update_u64(state, reference->offset);
	digest_update_u64(state, reference->type);
	digest_update_u64(state, (uint64_t)reference->addend);
	if (!target) {
		digest_update(state, "u", 1);
		digest_update_string(state, reference->symbol->name);
		digest_update_u64(state, reference->symbol->special);
	} else if (target->by_content) {
		const struct digest *digest = digest_at(target, depth + 1);
		digest_update(state, "c", 1);
		digest_update(state, digest->bytes, sizeof(digest->bytes));
	} else {
		digest_update(state, target->kind == ATOM_FUNCTION ? "f" : "d", 1);
		digest_update_string(state, target->key);
	}
}

static const struct digest *digest_at(struct atom *atom, unsigned depth)
{
	if (atom->digest_state == WALK_DONE)
		return &atom->digest;
	if (atom->digest_state == WALK_BUSY || depth > DEPTH_MAX) {
		// A ring: what it holds is told by its other members. Too deep: equal to nothing.
		static const struct digest ring = { { 1 } };
		if (atom->digest_state == WALK_BUSY)
			return &ring;
		atom->digest_state = WALK_DONE;
		memcpy(atom->digest.bytes, &atom, sizeof(atom));
		return &atom->digest;
	}
	atom->digest_state = WALK_BUSY;
	atom_resolve(atom);
	struct digest_state state;
	digest_init(&state);
	add_masked_bytes(&state, atom);
	for (size_t i = 0; i < atom->reference_count; i++)
		add_reference(&state, &atom->references[i], depth);
	atom->digest = digest_final(&state);
	atom->digest_state = WALK_DONE;
	return &atom->digest;
}

const struct digest *atom_digest(struct atom *atom)
{
	return digest_at(atom, 0);
}
