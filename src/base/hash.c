// SPDX-License-Identifier: MIT
/*
 * Digests by libsodium's BLAKE2b, and a hash map by open addressing with linear probing.
 *
 * The map hashes by SipHash with a key of this run: names come from files that anyone may have
 * made, and a table that degrades to a list would let a small file stop the tool. Nothing may depend
 * on the order of slots, so the map cannot be walked.
 */
#include "base/base.h"

#include <assert.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(sizeof(crypto_generichash_state) <= sizeof(struct digest_state), "room for it");
_Static_assert(_Alignof(crypto_generichash_state) <= _Alignof(struct digest_state), "aligned");

static unsigned char map_key[crypto_shorthash_KEYBYTES];

static void start_once(void)
{
	// Picks the CPU's best implementation. It fails only where the kernel has no randomness.
	if (sodium_init() < 0)
		out_of_memory();
	crypto_shorthash_keygen(map_key);
}

static void start(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, start_once);
}

static crypto_generichash_state *digest_sodium(struct digest_state *state)
{
	return (crypto_generichash_state *)(void *)state->opaque;
}

void digest_init(struct digest_state *state)
{
	start();
	crypto_generichash_init(digest_sodium(state), NULL, 0, sizeof(struct digest));
}

void digest_update(struct digest_state *state, const void *bytes, size_t size)
{
	if (size)
		crypto_generichash_update(digest_sodium(state), bytes, size);
}

void digest_update_string(struct digest_state *state, const char *string)
{
	if (!string)
		string = "";
	digest_update(state, string, strlen(string) + 1);
}

void digest_update_u64(struct digest_state *state, uint64_t value)
{
	// Little endian by hand: digests stand in files that other machines read.
	uint8_t bytes[8];
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(value >> (8 * i));
	digest_update(state, bytes, sizeof(bytes));
}

struct digest digest_final(struct digest_state *state)
{
	struct digest digest;
	crypto_generichash_final(digest_sodium(state), digest.bytes, sizeof(digest.bytes));
	return digest;
}

struct digest digest_bytes(const void *bytes, size_t size)
{
	struct digest_state state;
	digest_init(&state);
	digest_update(&state, bytes, size);
	return digest_final(&state);
}

bool digest_equal(const struct digest *a, const struct digest *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

struct slot {
	uint64_t hash;
	const void *key;
	size_t key_size;
	void *value; // NULL: the slot is empty
};

struct hashmap {
	struct slot *slots;
	size_t capacity; // a power of two
	size_t count;
	struct arena *keys;
};

struct hashmap *hashmap_create(void)
{
	start();
	struct hashmap *map = xcalloc(1, sizeof(*map));
	map->capacity = 16;
	map->slots = xcalloc(map->capacity, sizeof(*map->slots));
	map->keys = arena_create();
	return map;
}

void hashmap_free(struct hashmap *map)
{
	if (!map)
		return;
	arena_free(map->keys);
	free(map->slots);
	free(map);
}

static uint64_t key_hash(const void *key, size_t size)
{
	uint64_t hash;
	_Static_assert(sizeof(hash) == crypto_shorthash_BYTES, "SipHash gives 64 bits");
	crypto_shorthash((unsigned char *)&hash, key, size, map_key);
	return hash;
}

// The slot of the key, or the empty one where it belongs.
static struct slot *hashmap_slot(const struct hashmap *map, uint64_t hash, const void *key,
				 size_t size)
{
	for (size_t i = hash;; i++) {
		struct slot *slot = &map->slots[i & (map->capacity - 1)];
		if (!slot->value)
			return slot;
		if (slot->hash == hash && slot->key_size == size &&
		    (size == 0 || memcmp(slot->key, key, size) == 0))
			return slot;
	}
}

static void hashmap_grow(struct hashmap *map)
{
	struct slot *old = map->slots;
	size_t old_capacity = map->capacity;
	map->capacity *= 2;
	map->slots = xcalloc(map->capacity, sizeof(*map->slots));
	for (size_t i = 0; i < old_capacity; i++)
		if (old[i].value)
			*hashmap_slot(map, old[i].hash, old[i].key, old[i].key_size) = old[i];
	free(old);
}

void *hashmap_get(const struct hashmap *map, const void *key, size_t key_size)
{
	return hashmap_slot(map, key_hash(key, key_size), key, key_size)->value;
}

void hashmap_set(struct hashmap *map, const void *key, size_t key_size, void *value)
{
	assert(value);
	uint64_t hash = key_hash(key, key_size);
	struct slot *slot = hashmap_slot(map, hash, key, key_size);
	if (slot->value) {
		slot->value = value;
		return;
	}
	// At most three quarters full, so that a miss ends soon.
	if (map->count >= map->capacity / 4 * 3) {
		hashmap_grow(map);
		slot = hashmap_slot(map, hash, key, key_size);
	}
	*slot = (struct slot){hash, arena_memdup(map->keys, key, key_size), key_size, value};
	map->count++;
}

void *hashmap_get_string(const struct hashmap *map, const char *key)
{
	return hashmap_get(map, key, strlen(key));
}

void hashmap_set_string(struct hashmap *map, const char *key, void *value)
{
	hashmap_set(map, key, strlen(key), value);
}

size_t hashmap_count(const struct hashmap *map)
{
	return map->count;
}
