// SPDX-License-Identifier: MIT
// source: reading unified diffs and applying them. Files are text, so that no #line is added.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "source/internal.h"

static int enter_directory(void **state)
{
	const char *base = getenv("TMPDIR");
	char *path = xasprintf("%s/suture-unit.XXXXXX", base ? base : "/tmp");
	*state = path;
	return mkdtemp(path) && chdir(path) == 0 && mkdir("tree", 0777) == 0 ? 0 : -1;
}

static int leave_directory(void **state)
{
	_cleanup_error_ struct error *error = NULL;
	int failed = chdir("/");
	error = tree_remove(*state);
	free(*state);
	return failed || error ? -1 : 0;
}

static void put(const char *path, const char *text)
{
	_cleanup_error_ struct error *error = file_write_atomic(path, text, strlen(text), 0644);
	assert_null(error);
}

static void assert_content(const char *path, const char *expected)
{
	_cleanup_free_ char *bytes = NULL;
	size_t size;
	_cleanup_error_ struct error *error = file_read(path, &bytes, &size);
	assert_null(error);
	assert_string_equal(bytes, expected);
}

// Apply "d1", "d2"... in order.
static struct error *apply(size_t count, char *ret_names)
{
	static const char *const paths[] = {"d1", "d2", "d3"};
	struct arena *arena = arena_create();
	struct diff_set *set = NULL;
	struct names names = {0};
	struct error *error = diff_set_read(arena, paths, count, &set);
	if (!error)
		error = diff_set_apply(arena, set, "tree", -1, &names);
	if (ret_names)
		ret_names[0] = '\0';
	for (size_t i = 0; ret_names && i < names.list.count; i++) {
		strcat(ret_names, names.list.items[i]);
		strcat(ret_names, " ");
	}
	vec_deinit(&names.list);
	diff_set_free(set);
	arena_free(arena);
	return error;
}

static void assert_applies(size_t count)
{
	_cleanup_error_ struct error *error = apply(count, NULL);
	if (error)
		fail_msg("%s", error->message);
}

// Refused as BUILD with @text in the message, and nothing written.
static void assert_refused(const char *text)
{
	_cleanup_error_ struct error *error = apply(1, NULL);
	assert_non_null(error);
	assert_int_equal(error->kind, ERROR_KIND_BUILD);
	if (!strstr(error->message, text))
		fail_msg("'%s' is not in: %s", text, error->message);
}

static const char five[] = "one\ntwo\nthree\nfour\nfive\n";

static void changes_a_line(void **state)
{
	(void)state;
	put("tree/a.txt", five);
	put("d1", "--- a/a.txt\n+++ b/a.txt\n@@ -2,3 +2,3 @@\n two\n-three\n+THREE\n four\n");
	char names[64];
	_cleanup_error_ struct error *error = apply(1, names);
	assert_null(error);
	assert_string_equal(names, "a.txt ");
	assert_content("tree/a.txt", "one\ntwo\nTHREE\nfour\nfive\n");
}

static void finds_a_hunk_that_moved(void **state)
{
	(void)state;
	put("tree/a.txt", "0\n0\n0\none\ntwo\nthree\nfour\nfive\n");
	put("d1", "--- a/a.txt\n+++ b/a.txt\n@@ -2,3 +2,2 @@\n two\n-three\n four\n");
	assert_applies(1);
	assert_content("tree/a.txt", "0\n0\n0\none\ntwo\nfour\nfive\n");
}

static void takes_the_nearest_of_two_places(void **state)
{
	(void)state;
	put("tree/a.txt", "x\ny\n-\n-\n-\n-\n-\nx\ny\n");
	put("d1", "--- a/a.txt\n+++ b/a.txt\n@@ -7,2 +7,2 @@\n x\n-y\n+Y\n");
	assert_applies(1);
	assert_content("tree/a.txt", "x\ny\n-\n-\n-\n-\n-\nx\nY\n");
}

static void refuses_fuzz_with_the_hunk(void **state)
{
	(void)state;
	put("tree/a.txt", five);
	put("d1", "--- a/a.txt\n+++ b/a.txt\n@@ -2,3 +2,3 @@ f()\n two\n-three\n+THREE\n FOUR\n");
	assert_refused("@@ -2,3 +2,3 @@ f()\n two\n-three\n+THREE\n FOUR");
	assert_content("tree/a.txt", five);
}

static void one_failed_file_leaves_all(void **state)
{
	(void)state;
	put("tree/a.txt", five);
	put("tree/b.txt", five);
	put("d1", "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+ONE\n"
		  "--- a/b.txt\n+++ b/b.txt\n@@ -1 +1 @@\n-eins\n+ONE\n");
	assert_refused("does not apply to 'b.txt'");
	assert_content("tree/a.txt", five);
}

static void says_when_it_is_there_already(void **state)
{
	(void)state;
	put("tree/a.txt", five);
	put("d1", "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n-ONE\n+one\n two\n");
	assert_refused("seems to be there already");
}

static void later_diffs_see_earlier_ones(void **state)
{
	(void)state;
	put("tree/a.txt", five);
	put("d1", "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1,2 @@\n+zero\n one\n");
	put("d2", "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n-zero\n+null\n one\n");
	assert_applies(2);
	assert_content("tree/a.txt", "null\none\ntwo\nthree\nfour\nfive\n");
}

static void finds_the_level_of_names(void **state)
{
	(void)state;
	mkdir("tree/src", 0777);
	put("tree/src/a.txt", five);
	static const char *const names[] = {"src/a.txt", "a/src/a.txt", "x/y/src/a.txt",
					    "x/y/z/src/a.txt"};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_free_ char *text =
			xasprintf("--- %s\t2020-01-01\n+++ %s\t2020-01-02\n@@ -1 +1 @@\n-%s\n+%s\n",
				  names[i], names[i], i % 2 ? "ONE" : "one", i % 2 ? "one" : "ONE");
		put("d1", text);
		assert_applies(1);
	}
	assert_content("tree/src/a.txt", five);
	put("d1", "--- a/lib/a.txt\n+++ b/lib/a.txt\n@@ -1 +1 @@\n-one\n+ONE\n");
	assert_refused("'a/lib/a.txt' is not in");
}

static void original_beside_the_changed_tree(void **state)
{
	(void)state;
	put("tree/a.txt", five);
	put("d1", "--- tree.orig/a.txt.orig\n+++ tree/a.txt\n@@ -1 +1 @@\n-one\n+ONE\n");
	assert_applies(1);
	assert_content("tree/a.txt", "ONE\ntwo\nthree\nfour\nfive\n");
}

static void makes_and_removes_files(void **state)
{
	(void)state;
	put("tree/a.txt", "gone\n");
	put("d1",
	    "diff --git a/new/deep/b.sh b/new/deep/b.sh\nnew file mode 100755\nindex 000..111\n"
	    "--- /dev/null\n+++ b/new/deep/b.sh\n@@ -0,0 +1,2 @@\n+#!/bin/sh\n+exit 0\n"
	    "diff --git a/a.txt b/a.txt\ndeleted file mode 100644\n--- a/a.txt\n+++ /dev/null\n"
	    "@@ -1 +0,0 @@\n-gone\n");
	// The folder of a new file need not exist, but then the level is that of the other names.
	mkdir("tree/new", 0777);
	mkdir("tree/new/deep", 0777);
	assert_applies(1);
	assert_content("tree/new/deep/b.sh", "#!/bin/sh\nexit 0\n");
	struct stat status;
	assert_int_equal(stat("tree/new/deep/b.sh", &status), 0);
	assert_int_equal(status.st_mode & 0777, 0755);
	assert_false(path_exists("tree/a.txt"));
}

static void renames_without_hunks(void **state)
{
	(void)state;
	put("tree/a.txt", five);
	put("d1",
	    "diff --git a/a.txt b/b.txt\nsimilarity index 100%\nrename from a.txt\nrename to b.txt\n");
	assert_applies(1);
	assert_content("tree/b.txt", five);
	assert_false(path_exists("tree/a.txt"));
}

static void keeps_a_missing_line_end(void **state)
{
	(void)state;
	put("tree/a.txt", "one\ntwo");
	put("d1",
	    "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n one\n-two\n\\ No newline at end of file\n"
	    "+TWO\n\\ No newline at end of file\n");
	assert_applies(1);
	assert_content("tree/a.txt", "one\nTWO");
	put("d1",
	    "--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,2 @@\n one\n-TWO\n\\ No newline at end of file\n+two\n");
	assert_applies(1);
	assert_content("tree/a.txt", "one\ntwo\n");
}

static void hard_links_are_cut(void **state)
{
	(void)state;
	put("other.txt", five);
	assert_int_equal(link("other.txt", "tree/a.txt"), 0);
	put("d1", "--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-one\n+ONE\n");
	assert_applies(1);
	assert_content("other.txt", five);
}

static void refuses_names_outside(void **state)
{
	(void)state;
	put("secret.txt", five);
	put("d1", "--- a/../secret.txt\n+++ b/../secret.txt\n@@ -1 +1 @@\n-one\n+ONE\n");
	_cleanup_error_ struct error *error = apply(1, NULL);
	assert_non_null(error);
	assert_int_equal(symlink("../secret.txt", "tree/link.txt"), 0);
	put("d1", "--- a/link.txt\n+++ b/link.txt\n@@ -1 +1 @@\n-one\n+ONE\n");
	_cleanup_error_ struct error *by_link = apply(1, NULL);
	assert_non_null(by_link);
	assert_content("secret.txt", five);
}

static void refuses_what_is_no_diff(void **state)
{
	(void)state;
	put("tree/a.txt", five);
	static const struct {
		const char *text, *message;
	} rows[] = {
		{"", "holds no unified diff"},
		{"hello\n", "holds no unified diff"},
		{"*** a/a.txt\n--- b/a.txt\n***************\n", "context diff"},
		{"--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n", "ends within a hunk"},
		{"--- a/a.txt\n+++ b/a.txt\n@@ -1,x +1,3 @@\n one\n", "line numbers"},
		{"--- a/a.txt\n+++ b/a.txt\n@@ -99999999999999999999 +1 @@\n one\n",
		 "line numbers"},
		{"--- a/a.txt\n+++ b/a.txt\n@@ -1,2 +1,1 @@\n one\n two\n", "longer than its head"},
		{"--- a/a.txt\n+++ b/a.txt\n@@ -1,4 +1,4 @@\n one\ndiff --git a/b b/b\n",
		 "shorter than"},
		{"@@ -1 +1 @@\n-one\n+ONE\n", "without '---'"},
		{"diff --git a/a.txt b/a.txt\nGIT binary patch\nliteral 3\n", "binary file"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		put("d1", rows[i].text);
		assert_refused(rows[i].message);
	}
	assert_content("tree/a.txt", five);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, enter_directory, leave_directory)
	const struct CMUnitTest tests[] = {
		TEST(changes_a_line),
		TEST(finds_a_hunk_that_moved),
		TEST(takes_the_nearest_of_two_places),
		TEST(refuses_fuzz_with_the_hunk),
		TEST(one_failed_file_leaves_all),
		TEST(says_when_it_is_there_already),
		TEST(later_diffs_see_earlier_ones),
		TEST(finds_the_level_of_names),
		TEST(original_beside_the_changed_tree),
		TEST(makes_and_removes_files),
		TEST(renames_without_hunks),
		TEST(keeps_a_missing_line_end),
		TEST(hard_links_are_cut),
		TEST(refuses_names_outside),
		TEST(refuses_what_is_no_diff),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
