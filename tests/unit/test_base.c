// SPDX-License-Identifier: MIT
// base: errors, memory, strings, digests, maps, build IDs, findings.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

static void assert_error(struct error *error, enum error_kind kind, const char *message)
{
	assert_non_null(error);
	assert_int_equal(error->kind, kind);
	assert_string_equal(error->message, message);
	error_free(error);
}

static void error_carries_kind_and_sentence(void **state)
{
	(void)state;
	assert_error(error_new(ERROR_KIND_INPUT, "'%s' is truncated", "a.o"), ERROR_KIND_INPUT,
		     "'a.o' is truncated");
	assert_int_equal(error_kind_exit_status(ERROR_KIND_BUSY), 6);
	assert_string_equal(error_kind_word(ERROR_KIND_NOT_FOUND), "not-found");
}

static void error_prefix_goes_in_front(void **state)
{
	(void)state;
	struct error *error = error_new(ERROR_KIND_INPUT, "bad magic");
	assert_error(error_prefix(error, "pid %d", 7), ERROR_KIND_INPUT, "pid 7: bad magic");
	assert_null(error_prefix(NULL, "nothing"));
}

static void error_kind_follows_from_errno(void **state)
{
	(void)state;
	assert_error(error_errno(ESRCH, "pid %d", 7), ERROR_KIND_NOT_FOUND,
		     "pid 7: No such process");
	assert_error(error_errno(EPERM, "pid %d", 7), ERROR_KIND_PERMISSION,
		     "pid 7: Operation not permitted");
	assert_error(error_errno(ENOSPC, "x"), ERROR_KIND_SYSTEM, "x: No space left on device");
}

static void exit_statuses_are_distinct(void **state)
{
	(void)state;
	bool seen[256] = {[0] = true, [1] = true}; // success, and "different" of `suture diff`
#define X(name, status, word, meaning)                                 \
	assert_false(seen[error_kind_exit_status(ERROR_KIND_##name)]); \
	seen[error_kind_exit_status(ERROR_KIND_##name)] = true;
	ERROR_KINDS(X)
#undef X
}

static void take_leaves_nothing_behind(void **state)
{
	(void)state;
	_cleanup_free_ char *owned = xstrdup("text");
	char *taken = take_ptr(owned);
	assert_null(owned);
	assert_string_equal(taken, "text");
	free(taken);
	int fd = 5;
	assert_int_equal(take_fd(fd), 5);
	assert_int_equal(fd, -1);
}

static void arena_memory_is_zeroed_aligned_and_apart(void **state)
{
	(void)state;
	struct arena *arena = arena_create();
	static const size_t sizes[] = {0, 1, 15, 16, 17, 1000, 16000, 65472, 1 << 20, 3};
	unsigned char *pieces[ARRAY_SIZE(sizes)];
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		pieces[i] = arena_alloc(arena, sizes[i]);
		assert_non_null(pieces[i]);
		assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
		for (size_t j = 0; j < sizes[i]; j++)
			assert_int_equal(pieces[i][j], 0);
		memset(pieces[i], (int)i + 1, sizes[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		for (size_t j = 0; j < sizes[i]; j++)
			assert_int_equal(pieces[i][j], i + 1);
	assert_string_equal(arena_printf(arena, "%s-%d", "a", 1), "a-1");
	assert_string_equal(arena_strndup(arena, "abcdef", 3), "abc");
	assert_string_equal(arena_strndup(arena, "ab", 3), "ab");
	arena_free(arena);
	arena_free(NULL);
}

static void vec_keeps_order_while_it_grows(void **state)
{
	(void)state;
	struct pair {
		int a, b;
	};
	VEC(struct pair) vec = {0};
	for (int i = 0; i < 1000; i++)
		vec_push(&vec, (struct pair){i, -i});
	assert_int_equal(vec.count, 1000);
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(vec.items[i].a, i);
		assert_int_equal(vec.items[i].b, -i);
	}
	vec_deinit(&vec);
	assert_null(vec.items);
}

static void range_within_does_not_wrap(void **state)
{
	(void)state;
	assert_true(range_within(0, 0, 0));
	assert_true(range_within(4, 6, 10));
	assert_false(range_within(4, 7, 10));
	assert_false(range_within(11, 0, 10));
	assert_false(range_within(1, UINT64_MAX, 10));
	assert_false(range_within(UINT64_MAX, 2, 10));
}

static void buffer_is_always_terminated(void **state)
{
	(void)state;
	_cleanup_buffer_ struct buffer buffer = {0};
	buffer_append(&buffer, "", 0);
	assert_string_equal(buffer.bytes, "");
	for (int i = 0; i < 100; i++)
		buffer_printf(&buffer, "%d,", i);
	assert_int_equal(buffer.size, strlen(buffer.bytes));
	assert_true(string_starts_with(buffer.bytes, "0,1,2,"));
	assert_true(string_ends_with(buffer.bytes, "98,99,"));
	buffer_append(&buffer, "\0x", 2);
	assert_int_equal(buffer.bytes[buffer.size], 0);
}

static void string_ends_are_compared_whole(void **state)
{
	(void)state;
	assert_true(string_ends_with("a.o", ".o"));
	assert_false(string_ends_with("o", ".o"));
	assert_false(string_starts_with("su", "suture"));
	assert_true(string_starts_with("suture", ""));
}

static void hex_goes_both_ways(void **state)
{
	(void)state;
	uint8_t bytes[3] = {0};
	char text[7];
	assert_true(hex_parse("00fFa5", bytes, 3));
	hex_format(bytes, 3, text);
	assert_string_equal(text, "00ffa5");
	static const char *const bad[] = {"", "00ff", "00ffa", "00ffa5aa", "00fg00", "+0ff00"};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(hex_parse(bad[i], bytes, 3));
	assert_int_equal(bytes[1], 0xff); // untouched
}

static void digest_matches_blake2b(void **state)
{
	(void)state;
	// `printf abc | b2sum -l 128`
	struct digest digest = digest_bytes("abc", 3);
	char text[33];
	hex_format(digest.bytes, sizeof(digest.bytes), text);
	assert_string_equal(text, "cf4ab791c62b8d2b2109c90275287816");
}

static void digest_separates_strings(void **state)
{
	(void)state;
	static const char *const words[][2] = {{"ab", "c"}, {"a", "bc"}, {NULL, "abc"}};
	struct digest digests[3];
	for (size_t i = 0; i < 3; i++) {
		struct digest_state running;
		digest_init(&running);
		digest_update_string(&running, words[i][0]);
		digest_update_string(&running, words[i][1]);
		digests[i] = digest_final(&running);
	}
	assert_false(digest_equal(&digests[0], &digests[1]));
	assert_false(digest_equal(&digests[0], &digests[2]));
	assert_false(digest_equal(&digests[1], &digests[2]));
}

static void hashmap_finds_what_was_set(void **state)
{
	(void)state;
	struct hashmap *map = hashmap_create();
	static char values[5000];
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		_cleanup_free_ char *key = xasprintf("key-%zu", i);
		assert_null(hashmap_get_string(map, key));
		hashmap_set_string(map, key, &values[i]);
	}
	assert_int_equal(hashmap_count(map), ARRAY_SIZE(values));
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		_cleanup_free_ char *key = xasprintf("key-%zu", i);
		assert_ptr_equal(hashmap_get_string(map, key), &values[i]);
	}
	assert_null(hashmap_get_string(map, "key-5000"));
	hashmap_set_string(map, "key-7", &values[0]);
	assert_ptr_equal(hashmap_get_string(map, "key-7"), &values[0]);
	assert_int_equal(hashmap_count(map), ARRAY_SIZE(values));
	hashmap_free(map);
}

static void hashmap_keys_are_bytes(void **state)
{
	(void)state;
	struct hashmap *map = hashmap_create();
	char one, two, empty;
	hashmap_set(map, "a\0b", 3, &one);
	hashmap_set(map, "a\0c", 3, &two);
	hashmap_set(map, "", 0, &empty);
	assert_ptr_equal(hashmap_get(map, "a\0b", 3), &one);
	assert_ptr_equal(hashmap_get(map, "a\0c", 3), &two);
	assert_null(hashmap_get(map, "a", 1));
	assert_ptr_equal(hashmap_get_string(map, ""), &empty);
	hashmap_free(map);
	hashmap_free(NULL);
}

static void build_id_parses_what_it_formats(void **state)
{
	(void)state;
	struct build_id id = {0}, none = {0};
	char text[129], longest[131];
	assert_true(build_id_parse("00112233445566778899aabbccddeeff00112233", &id));
	assert_int_equal(id.size, 20);
	assert_string_equal(build_id_format(&id, text), "00112233445566778899aabbccddeeff00112233");
	assert_string_equal(build_id_format(&none, text), "none");
	assert_false(build_id_equal(&id, &none));
	assert_true(build_id_equal(&id, &id));
	assert_false(build_id_parse("", &id));
	assert_false(build_id_parse("abc", &id));
	assert_false(build_id_parse("none", &id));
	memset(longest, 'a', sizeof(longest));
	longest[130] = '\0';
	assert_false(build_id_parse(longest, &id));
	longest[128] = '\0';
	assert_true(build_id_parse(longest, &id));
	assert_int_equal(id.size, 64);
}

static void findings_are_sorted_and_told_once(void **state)
{
	(void)state;
	struct findings findings = {0}, more = {0};
	findings_add(&findings, FINDING_KIND_NOTHING_CHANGED, "a.c", "no code changed");
	findings_add(&findings, FINDING_KIND_DATA_SIZE, "table", "grew from %d to %d", 4, 8);
	findings_add(&findings, FINDING_KIND_NO_RETURN, "loop", "it never returns");
	findings_add(&findings, FINDING_KIND_DATA_SIZE, "pool", "grew");
	findings_add(&more, FINDING_KIND_DATA_SIZE, "pool", "grew");
	findings_merge(&findings, &more);
	findings_deinit(&more);
	findings_sort(&findings);
	static const char *const subjects[] = {"pool", "table", "loop", "a.c"};
	assert_int_equal(findings.list.count, ARRAY_SIZE(subjects));
	for (size_t i = 0; i < ARRAY_SIZE(subjects); i++)
		assert_string_equal(findings.list.items[i].subject, subjects[i]);
	assert_string_equal(findings.list.items[1].text, "grew from 4 to 8");
	assert_true(findings_refuse(&findings));
	assert_int_equal(findings_count(&findings, FINDING_REFUSAL), 2);
	findings_deinit(&findings);
}

static void findings_accept_lowers_what_may_be_lowered(void **state)
{
	(void)state;
	struct findings findings = {0};
	findings_add(&findings, FINDING_KIND_DATA_CHANGED, "ns::limit", "1 became 2");
	findings_add(&findings, FINDING_KIND_DATA_SIZE, "table", "grew");
	static const char *const bad[] = {
		"data-changed",           // no subject
		"data:table",             // no such kind
		"data-changed:elsewhere", // nothing of that subject
		"data-size:table",        // nobody may
		"data-changed-x:ns::limit",
		"",
	};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error *error = findings_accept(&findings, bad[i]);
		assert_non_null(error);
		assert_int_equal(error->kind, ERROR_KIND_USAGE);
		error_free(error);
	}
	assert_int_equal(findings_count(&findings, FINDING_REFUSAL), 2);
	assert_null(findings_accept(&findings, "data-changed:ns::limit"));
	assert_int_equal(findings_count(&findings, FINDING_REFUSAL), 1);
	assert_true(findings.list.items[0].accepted);
	assert_int_equal(findings.list.items[0].severity, FINDING_NOTE);
	findings_deinit(&findings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(error_carries_kind_and_sentence),
		cmocka_unit_test(error_prefix_goes_in_front),
		cmocka_unit_test(error_kind_follows_from_errno),
		cmocka_unit_test(exit_statuses_are_distinct),
		cmocka_unit_test(take_leaves_nothing_behind),
		cmocka_unit_test(arena_memory_is_zeroed_aligned_and_apart),
		cmocka_unit_test(vec_keeps_order_while_it_grows),
		cmocka_unit_test(range_within_does_not_wrap),
		cmocka_unit_test(buffer_is_always_terminated),
		cmocka_unit_test(string_ends_are_compared_whole),
		cmocka_unit_test(hex_goes_both_ways),
		cmocka_unit_test(digest_matches_blake2b),
		cmocka_unit_test(digest_separates_strings),
		cmocka_unit_test(hashmap_finds_what_was_set),
		cmocka_unit_test(hashmap_keys_are_bytes),
		cmocka_unit_test(build_id_parses_what_it_formats),
		cmocka_unit_test(findings_are_sorted_and_told_once),
		cmocka_unit_test(findings_accept_lowers_what_may_be_lowered),
	};
	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
