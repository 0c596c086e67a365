/* SPDX-License-Identifier: MIT */
/*
 * The registry: what suture did to a process, kept in that process.
 *
 * There is no file and no daemon that could die or disagree. Each patch carries its record in front
 * of its own memory (private.h has the layout), and the registry is what a walk over the private
 * anonymous read-only mappings finds: magic, the record's own address, and a digest. A copy of the
 * page elsewhere is not a record, since its address is another.
 *
 * Rejected: one table for all patches. It has to grow, and a copy of a table is a state that a killed
 * tool can leave; a record that goes with its patch by one munmap() cannot be left half done. Rejected
 * as well: names by PR_SET_VMA_ANON_NAME, which kernels need not have.
 *
 * The program can write what it likes into its own memory, so a record is outside bytes like a file:
 * nothing is used before registry_read() has checked every count, offset and string. What a record
 * makes us write goes to the same process, which could have written it itself.
 */
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#include "live/private.h"

enum {
	RECORD_SIZE_MAX = 16 << 20,
	COUNT_MAX = 1 << 16,
	RECORDS_MAX = 1024,
	/* Longer read-only anonymous mappings are looked at on their first page only. */
	WALK_MAX = 64 << 20,
};

const char *live_state_word(enum live_state state)
{
	static const char *const words[] = {
#define X(name, word) [LIVE_STATE_##name] = word,
		LIVE_STATES(X)
#undef X
	};
	return (size_t)state < ARRAY_SIZE(words) ? words[state] : "unknown";
}

/* ---- reading ------------------------------------------------------------------------------ */

static bool table_fits(const struct record_body *body, uint32_t offset, uint32_t count, size_t size)
{
	return count <= COUNT_MAX && offset % 8 == 0 &&
	       range_within(offset, (uint64_t)count * size, body->record_size);
}

static bool string_fits(const struct record *record, uint32_t offset)
{
	return offset < record->body.strings_size &&
	       memchr(record->strings + offset, 0, record->body.strings_size - offset);
}

static bool part_fits(const struct record_body *body, uint64_t offset, uint64_t size)
{
	return offset % LIVE_PAGE == 0 && size % LIVE_PAGE == 0 &&
	       range_within(offset, size, body->mapping_size);
}

bool record_body_fits(const struct record_body *body)
{
	return body->version == LIVE_RECORD_VERSION && body->body_size == sizeof(*body) &&
	       body->record_size >= LIVE_RECORD_HEAD + sizeof(*body) &&
	       body->record_size <= RECORD_SIZE_MAX && body->record_size <= body->mapping_size &&
	       body->mapping_size % LIVE_PAGE == 0 && body->mapping_size < 1ul << 40 &&
	       part_fits(body, body->text_offset, body->text_size) &&
	       part_fits(body, body->data_offset, body->data_size) &&
	       table_fits(body, body->functions, body->function_count,
			  sizeof(struct record_function)) &&
	       table_fits(body, body->writes, body->write_count, sizeof(struct record_write)) &&
	       table_fits(body, body->replaced, body->replaced_count,
			  sizeof(struct record_replaced)) &&
	       table_fits(body, body->bases, body->base_count, sizeof(uint32_t)) &&
	       table_fits(body, body->unwinders, body->unwinder_count,
			  sizeof(struct record_unwinder)) &&
	       body->unwinder_count <= LIVE_UNWINDERS_MAX &&
	       range_within(body->strings, body->strings_size, body->record_size);
}

static bool tables_fit(const struct record *record)
{
	const struct record_body *body = &record->body;
	if (!string_fits(record, body->name) || !string_fits(record, body->tool_version))
		return false;
	for (uint32_t i = 0; i < body->function_count; i++) {
		const struct record_function *function = &record->functions[i];
		if (!string_fits(record, function->name) ||
		    !string_fits(record, function->module) ||
		    function->write >= body->write_count || function->old_size >= 1ul << 32 ||
		    function->new_size >= 1ul << 32)
			return false;
	}
	for (uint32_t i = 0; i < body->write_count; i++)
		if (record->writes[i].size == 0 || record->writes[i].size > LIVE_WRITE_MAX ||
		    record->writes[i].address >= 1ul << 56)
			return false;
	for (uint32_t i = 0; i < body->base_count; i++)
		if (!string_fits(record, record->bases[i]))
			return false;
	for (uint32_t i = 0; i < body->unwinder_count; i++)
		if (!string_fits(record, record->unwinders[i].name))
			return false;
	return true;
}

/** @address need not hold one: NULL then. */
struct record *record_read(struct arena *arena, struct process *process, uint64_t address)
{
	struct {
		struct record_head head;
		struct record_body body;
	} start;
	if (process_memory_read_some(process, address, &start, sizeof(start)) != sizeof(start) ||
	    memcmp(start.head.magic, LIVE_RECORD_MAGIC, sizeof(start.head.magic)) != 0 ||
	    start.head.self != address || start.head.word > 1 ||
	    start.head.state > LIVE_STATE_REVERTED || !record_body_fits(&start.body))
		return NULL;

	size_t size = start.body.record_size;
	uint8_t *bytes = arena_alloc(arena, size);
	if (process_memory_read_some(process, address, bytes, size) != size)
		return NULL;
	// Read twice, and the program may have written in between: the second copy counts.
	struct record *record = arena_new(arena, struct record);
	record->address = address;
	memcpy(&record->head, bytes, sizeof(record->head));
	memcpy(&record->body, bytes + sizeof(record->head), sizeof(record->body));
	struct digest digest = digest_bytes(bytes + LIVE_RECORD_HEAD, size - LIVE_RECORD_HEAD);
	if (record->body.record_size != size || !record_body_fits(&record->body) ||
	    record->head.word > 1 || record->head.state > LIVE_STATE_REVERTED ||
	    memcmp(digest.bytes, record->head.checksum, sizeof(digest.bytes)) != 0)
		return NULL;
	record->functions = (const void *)(bytes + record->body.functions);
	record->writes = (const void *)(bytes + record->body.writes);
	record->replaced = (const void *)(bytes + record->body.replaced);
	record->bases = (const void *)(bytes + record->body.bases);
	record->unwinders = (const void *)(bytes + record->body.unwinders);
	record->strings = (const char *)bytes + record->body.strings;
	return tables_fit(record) ? record : NULL;
}

static int compare_sequence(const void *a, const void *b)
{
	const struct record *left = *(struct record *const *)a, *right = *(struct record *const *)b;
	return (left->body.sequence > right->body.sequence) -
	       (left->body.sequence < right->body.sequence);
}

static void walk_map(struct registry *registry, struct process *process,
		     const struct process_map *map)
{
	uint64_t end = map->end - map->start > WALK_MAX ? map->start + LIVE_PAGE : map->end;
	for (uint64_t at = map->start; at < end; at += LIVE_PAGE) {
		uint8_t magic[8];
		if (process_memory_read_some(process, at, magic, sizeof(magic)) != sizeof(magic) ||
		    memcmp(magic, LIVE_RECORD_MAGIC, sizeof(magic)) != 0)
			continue;
		struct record *record = record_read(registry->arena, process, at);
		if (record && registry->records.count < RECORDS_MAX)
			vec_push(&registry->records, record);
	}
}

struct error *registry_read(struct process *process, const struct process_space *space,
			    struct registry **ret)
{
	struct arena *arena = arena_create();
	struct registry *registry = arena_new(arena, struct registry);
	registry->arena = arena;
	for (size_t i = 0; i < space->maps.count; i++) {
		const struct process_map *map = &space->maps.items[i];
		// A debugger or checkpoint tool may have named it; a file's mapping has an inode.
		// A tool that died while it staged may have left the record's part executable.
		if ((map->protection & ~PROT_EXEC) == PROT_READ && !map->shared &&
		    map->inode == 0 && map->path[0] != '/' && !string_starts_with(map->path, "[v"))
			walk_map(registry, process, map);
	}
	if (registry->records.count)
		qsort(registry->records.items, registry->records.count,
		      sizeof(*registry->records.items), compare_sequence);
	*ret = registry;
	return NULL;
}

void registry_free(struct registry *registry)
{
	if (!registry)
		return;
	vec_deinit(&registry->records);
	arena_free(registry->arena);
}

void registry_cleanup(struct registry **registry)
{
	registry_free(*registry);
}

/* ---- questions ---------------------------------------------------------------------------- */

const char *record_string(const struct record *record, uint32_t offset)
{
	return record->strings + offset;
}

bool record_is_standing(const struct record *record)
{
	return record->head.state == LIVE_STATE_APPLIED ||
	       record->head.state == LIVE_STATE_SWITCHING ||
	       record->head.state == LIVE_STATE_REVERTING;
}

struct record *registry_find(const struct registry *registry, const char *name)
{
	for (size_t i = registry->records.count; i-- > 0;) {
		struct record *record = registry->records.items[i];
		if (record_is_standing(record) &&
		    string_equal(record_string(record, record->body.name), name))
			return record;
	}
	return NULL;
}

uint64_t registry_next_sequence(const struct registry *registry)
{
	size_t count = registry->records.count;
	return count ? registry->records.items[count - 1]->body.sequence + 1 : 1;
}

const struct record_write *registry_write_at(const struct registry *registry, uint64_t start,
					     uint64_t end, struct record **ret_record)
{
	for (size_t i = registry->records.count; i-- > 0;) {
		struct record *record = registry->records.items[i];
		if (!record_is_standing(record))
			continue;
		for (uint32_t w = 0; w < record->body.write_count; w++) {
			const struct record_write *write = &record->writes[w];
			// What only takes out an earlier patch leaves original bytes.
			if (memcmp(write->after, write->original, write->size) == 0)
				continue;
			if (write->address < end && write->address + write->size > start) {
				*ret_record = record;
				return write;
			}
		}
	}
	return NULL;
}

enum record_standing record_write_standing(const struct record_write *write, const uint8_t *bytes)
{
	// A write that changes nothing on one way equals itself there; the steps in force come first.
	const uint8_t *const steps[] = {
		[RECORD_BEFORE] = write->before,     [RECORD_TRANSIT] = write->transit,
		[RECORD_AFTER] = write->after,       [RECORD_TRANSIT_BACK] = write->transit_back,
		[RECORD_ORIGINAL] = write->original,
	};
	static const uint8_t order[] = {RECORD_AFTER, RECORD_BEFORE, RECORD_ORIGINAL,
					RECORD_TRANSIT, RECORD_TRANSIT_BACK};
	for (size_t i = 0; i < ARRAY_SIZE(order); i++)
		if (memcmp(steps[order[i]], bytes, write->size) == 0)
			return (enum record_standing)order[i];
	return RECORD_FOREIGN;
}

/** A patch on top of it has the place now, and vouches for it. */
static bool is_covered(const struct registry *registry, const struct record *record,
		       const struct record_write *write)
{
	struct record *top;
	const struct record_write *last =
		registry_write_at(registry, write->address, write->address + write->size, &top);
	return last && top->body.sequence > record->body.sequence;
}

bool record_intact(struct process *process, const struct registry *registry,
		   const struct record *record)
{
	for (uint32_t i = 0; i < record->body.write_count; i++) {
		const struct record_write *write = &record->writes[i];
		uint8_t bytes[LIVE_WRITE_MAX];
		if (is_covered(registry, record, write))
			continue;
		if (process_memory_read_some(process, write->address, bytes, write->size) !=
		    write->size)
			return false;
		enum record_standing standing = record_write_standing(write, bytes);
		if (standing == RECORD_FOREIGN ||
		    (record->head.state == LIVE_STATE_APPLIED && standing != RECORD_AFTER))
			return false;
	}
	return true;
}

struct error *record_store_u32(struct process *process, struct record *record, size_t offset,
			       uint32_t value)
{
	return process_memory_write(process, record->address + offset, &value, sizeof(value));
}

/* ---- making ------------------------------------------------------------------------------- */

void record_builder_deinit(struct record_builder *builder)
{
	vec_deinit(&builder->functions);
	vec_deinit(&builder->writes);
	vec_deinit(&builder->replaced);
	vec_deinit(&builder->bases);
	vec_deinit(&builder->unwinders);
	buffer_deinit(&builder->strings);
}

uint32_t record_builder_string(struct record_builder *builder, const char *string)
{
	uint32_t offset = (uint32_t)builder->strings.size;
	size_t length = strnlen(string, LIVE_NAME_MAX);
	buffer_append(&builder->strings, string, length);
	buffer_append(&builder->strings, "", 1);
	return offset;
}

/** One table: where it goes, and its bytes when @bytes is not NULL. */
static uint32_t table_place(uint8_t *bytes, size_t *at, const void *items, size_t size)
{
	size_t offset = align_up(*at, 8);
	if (bytes && size)
		memcpy(bytes + offset, items, size);
	*at = offset + size;
	return (uint32_t)offset;
}

static size_t record_builder_place(struct record_builder *builder, uint8_t *bytes)
{
	struct record_body *body = &builder->body;
	size_t at = LIVE_RECORD_HEAD + sizeof(*body);
#define PLACE(table, number)                                                                     \
	do {                                                                                     \
		body->number = (uint32_t)builder->table.count;                                   \
		body->table = table_place(bytes, &at, builder->table.items,                      \
					  builder->table.count * sizeof(*builder->table.items)); \
	} while (0)
	PLACE(functions, function_count);
	PLACE(writes, write_count);
	PLACE(replaced, replaced_count);
	PLACE(bases, base_count);
	PLACE(unwinders, unwinder_count);
#undef PLACE
	body->strings_size = (uint32_t)builder->strings.size;
	body->strings = table_place(bytes, &at, builder->strings.bytes, builder->strings.size);
	return align_up(at, 8);
}

size_t record_builder_size(const struct record_builder *builder)
{
	struct record_builder copy = *builder;
	return record_builder_place(&copy, NULL);
}

void record_builder_finish(struct record_builder *builder, uint64_t address, uint8_t *bytes)
{
	builder->body.version = LIVE_RECORD_VERSION;
	builder->body.body_size = sizeof(builder->body);
	builder->body.record_size = record_builder_size(builder);
	memset(bytes, 0, builder->body.record_size);
	record_builder_place(builder, bytes);
	memcpy(bytes + LIVE_RECORD_HEAD, &builder->body, sizeof(builder->body));

	struct record_head head = {.self = address, .state = LIVE_STATE_STAGED};
	memcpy(head.magic, LIVE_RECORD_MAGIC, sizeof(head.magic));
	struct digest digest = digest_bytes(bytes + LIVE_RECORD_HEAD,
					    builder->body.record_size - LIVE_RECORD_HEAD);
	memcpy(head.checksum, digest.bytes, sizeof(head.checksum));
	memcpy(bytes, &head, sizeof(head));
}
