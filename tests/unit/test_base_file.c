// SPDX-License-Identifier: MIT
// base: files and JSON, read back.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

#include "base/base.h"

// Each test runs in a directory of its own.
static int enter_directory(void **state)
{
	const char *base = getenv("TMPDIR");
	char *path = xasprintf("%s/suture-unit.XXXXXX", base ? base : "/tmp");
	*state = path;
	return mkdtemp(path) && chdir(path) == 0 ? 0 : -1;
}

static int leave_directory(void **state)
{
	_cleanup_error_ struct error *error = NULL;
	int failed = chdir("/");
	error = tree_remove(*state);
	free(*state);
	return failed || error ? -1 : 0;
}

static void assert_ok(struct error *error)
{
	if (error)
		fail_msg("%s", error->message);
}

static void assert_kind(struct error *error, enum error_kind kind)
{
	assert_non_null(error);
	assert_int_equal(error->kind, kind);
	error_free(error);
}

static void assert_content(const char *path, const char *expected)
{
	_cleanup_free_ char *bytes = NULL;
	size_t size;
	assert_ok(file_read(path, &bytes, &size));
	assert_int_equal(size, strlen(expected));
	assert_string_equal(bytes, expected);
}

static void file_comes_back_as_written(void **state)
{
	(void)state;
	size_t size = 3 * 65536 + 1;
	_cleanup_free_ char *big = xmalloc(size);
	for (size_t i = 0; i < size; i++)
		big[i] = (char)i;
	assert_ok(file_write_atomic("big", big, size, 0644));
	_cleanup_free_ char *bytes = NULL;
	size_t read_size;
	assert_ok(file_read("big", &bytes, &read_size));
	assert_int_equal(read_size, size);
	assert_memory_equal(bytes, big, size);
	assert_int_equal(bytes[size], 0);
	assert_ok(file_write_atomic("empty", "", 0, 0600));
	assert_content("empty", "");
	struct stat status;
	assert_int_equal(stat("empty", &status), 0);
	assert_int_equal(status.st_mode & 0777, 0600);
}

static void file_of_unknown_size_is_read_whole(void **state)
{
	(void)state;
	_cleanup_close_ int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *bytes = NULL;
	size_t size;
	assert_ok(file_read_at(proc, "smaps", &bytes, &size)); // more than a page, st_size 0
	assert_true(size > 4096);
	assert_non_null(strstr(bytes, "[stack]"));
}

static void file_read_names_what_is_missing(void **state)
{
	(void)state;
	char *bytes = NULL;
	size_t size = 42;
	struct error *error = file_read("absent", &bytes, &size);
	assert_non_null(error);
	assert_string_equal(error->message, "cannot read 'absent': No such file or directory");
	assert_kind(error, ERROR_KIND_NOT_FOUND);
	assert_kind(file_read("/", &bytes, &size), ERROR_KIND_INPUT);
	assert_null(bytes);
	assert_int_equal(size, 42);
}

static void failed_write_leaves_the_old_file(void **state)
{
	(void)state;
	assert_ok(file_write_atomic("kept", "old", 3, 0644));
	// A bounded file size stands for a full disk: the write fails half way.
	struct rlimit saved, tight;
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &saved), 0);
	tight = saved;
	tight.rlim_cur = 4096;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
	_cleanup_free_ char *big = xcalloc(1, 65536);
	struct error *error = file_write_atomic("kept", big, 65536, 0644);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &saved), 0);
	assert_kind(error, ERROR_KIND_SYSTEM);
	assert_content("kept", "old");
	assert_ok(file_write_atomic("kept", "new", 3, 0644));
	assert_content("kept", "new");
	// Nothing lies beside it.
	assert_int_equal(unlink("kept"), 0);
	assert_int_equal(chdir(".."), 0);
	assert_int_equal(rmdir(*state), 0);
	assert_int_equal(mkdir(*state, 0700), 0);
	assert_int_equal(chdir(*state), 0);
}

static void write_goes_through_links_and_into_devices(void **state)
{
	(void)state;
	assert_ok(file_write_atomic("real", "1", 1, 0644));
	assert_int_equal(symlink("real", "link"), 0);
	assert_ok(file_write_atomic("link", "2", 1, 0644));
	struct stat status;
	assert_int_equal(lstat("link", &status), 0);
	assert_true(S_ISLNK(status.st_mode));
	assert_content("real", "2");
	assert_ok(file_write_atomic("/dev/null", "x", 1, 0644));
	assert_int_equal(lstat("/dev/null", &status), 0);
	assert_true(S_ISCHR(status.st_mode));
}

static void directories_are_created_and_removed_whole(void **state)
{
	(void)state;
	assert_ok(directory_create_all("a/b//c/"));
	assert_ok(directory_create_all("a/b/c"));
	assert_ok(directory_create_all("/"));
	assert_ok(file_write_atomic("a/b/file", "x", 1, 0644));
	assert_kind(directory_create_all("a/b/file/d"), ERROR_KIND_SYSTEM);
	assert_ok(file_write_atomic("outside", "x", 1, 0644));
	assert_int_equal(symlink("../outside", "a/link"), 0);
	assert_int_equal(symlink("/", "a/root"), 0);
	assert_int_equal(chmod("a/b", 0555), 0);
	assert_ok(tree_remove("a"));
	assert_false(path_exists("a"));
	assert_true(path_exists("outside"));
	assert_ok(tree_remove("a"));
	assert_ok(tree_remove("outside"));
	assert_false(path_exists("outside"));
}

static void basename_is_what_follows_the_last_slash(void **state)
{
	(void)state;
	assert_string_equal(path_basename("/usr/bin/gcc"), "gcc");
	assert_string_equal(path_basename("gcc"), "gcc");
	assert_string_equal(path_basename("a/"), "");
}

static void json_is_indented_and_escaped(void **state)
{
	(void)state;
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	struct json json;
	json_init(&json, file);
	json_object_begin(&json);
	json_key_string(&json, "quote\"d", "a\\b\n\x01");
	json_key_string(&json, "absent", NULL);
	json_key_string(&json, "bytes",
			"\xc3\xa9 \xff \xc0\xaf \xed\xa0\x80 \xf0\x9f\x98\x80 \xe2");
	json_key_u64(&json, "u64", UINT64_MAX);
	json_key_address(&json, "address", 0x7fff12345678);
	json_key(&json, "list");
	json_array_begin(&json);
	json_i64(&json, INT64_MIN);
	json_double(&json, 0.1);
	json_double(&json, NAN);
	json_bool(&json, true);
	json_object_begin(&json);
	json_object_end(&json);
	json_array_end(&json);
	json_key(&json, "empty");
	json_array_begin(&json);
	json_array_end(&json);
	json_object_end(&json);
	json_finish(&json);
	fclose(file);
	assert_string_equal(
		text, "{\n"
		      "  \"quote\\\"d\": \"a\\\\b\\n\\u0001\",\n"
		      "  \"absent\": null,\n"
		      "  \"bytes\": \"\xc3\xa9 \xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd "
		      "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xf0\x9f\x98\x80 \xef\xbf\xbd\",\n"
		      "  \"u64\": 18446744073709551615,\n"
		      "  \"address\": \"0x7fff12345678\",\n"
		      "  \"list\": [\n"
		      "    -9223372036854775808,\n"
		      "    0.1,\n"
		      "    null,\n"
		      "    true,\n"
		      "    {}\n"
		      "  ],\n"
		      "  \"empty\": []\n"
		      "}\n");
	free(text);
}

static void findings_print_as_json(void **state)
{
	(void)state;
	struct findings findings = {0};
	findings_add(&findings, FINDING_KIND_SYMBOL_REMOVED, "old", "'old' is gone");
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	struct json json;
	json_init(&json, file);
	json_object_begin(&json);
	findings_json(&findings, &json);
	json_object_end(&json);
	json_finish(&json);
	fclose(file);
	assert_string_equal(text, "{\n"
				  "  \"findings\": [\n"
				  "    {\n"
				  "      \"severity\": \"note\",\n"
				  "      \"kind\": \"symbol-removed\",\n"
				  "      \"subject\": \"old\",\n"
				  "      \"text\": \"'old' is gone\",\n"
				  "      \"advice\": \"old code that refers to it keeps it\",\n"
				  "      \"accepted\": false\n"
				  "    }\n"
				  "  ]\n"
				  "}\n");
	free(text);
	findings_deinit(&findings);
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter_directory, leave_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIRECTORY(file_comes_back_as_written),
		cmocka_unit_test(file_of_unknown_size_is_read_whole),
		IN_DIRECTORY(file_read_names_what_is_missing),
		IN_DIRECTORY(failed_write_leaves_the_old_file),
		IN_DIRECTORY(write_goes_through_links_and_into_devices),
		IN_DIRECTORY(directories_are_created_and_removed_whole),
		cmocka_unit_test(basename_is_what_follows_the_last_slash),
		cmocka_unit_test(json_is_indented_and_escaped),
		cmocka_unit_test(findings_print_as_json),
	};
	return cmocka_run_group_tests_name("base_file", tests, NULL, NULL);
}
