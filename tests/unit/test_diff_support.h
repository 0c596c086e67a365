/* SPDX-License-Identifier: MIT */
/* Compiling small sources, for the tests of diff. Work happens in a folder that goes with the test. */
#ifndef SUTURE_TEST_DIFF_SUPPORT_H
#define SUTURE_TEST_DIFF_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "diff/diff.h"
#include "object/object.h"

static char test_directory[] = "/tmp/suture-test-diff-XXXXXX";

static int enter_directory(void **state)
{
	(void)state;
	strcpy(strrchr(test_directory, '-'), "-XXXXXX");
	return mkdtemp(test_directory) && chdir(test_directory) == 0 ? 0 : -1;
}

static int leave_directory(void **state)
{
	(void)state;
	error_free(chdir("/") ? NULL : tree_remove(test_directory));
	return 0;
}

__attribute__((unused)) static void assert_ok(struct error *error)
{
	if (error)
		fail_msg("%s", error->message);
}

__attribute__((unused)) static bool have(const char *program)
{
	char *command = xasprintf("command -v %s >/dev/null 2>&1", program);
	bool found = system(command) == 0;
	free(command);
	return found;
}

__attribute__((unused)) static void run_command(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	char *command = xvasprintf(format, args);
	va_end(args);
	if (system(command) != 0)
		fail_msg("failed: %s", command);
	free(command);
}

__attribute__((unused)) static void write_text(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");
	assert_non_null(file);
	fputs(text, file);
	fclose(file);
}

/** @source (old.c, new.c) compiled to @object. Both are compiled under one name, as a build would. */
__attribute__((unused)) static struct object *compile(const char *compiler, const char *flags,
						      const char *suffix, const char *text,
						      const char *object)
{
	char *path = xasprintf("unit%s", suffix);
	write_text(path, text);
	run_command("%s %s -w -c %s -o %s", compiler, flags, path, object);
	free(path);
	struct object *ret = NULL;
	assert_ok(object_open(object, &ret));
	return ret;
}

__attribute__((unused)) static const struct diff_function *function_named(const struct diff *diff,
									   const char *name)
{
	for (size_t i = 0; i < diff->functions.count; i++)
		if (string_equal(diff->functions.items[i].name, name))
			return &diff->functions.items[i];
	return NULL;
}

__attribute__((unused)) static const struct object_symbol *
output_symbol(const struct diff *diff, const char *name, bool defined, bool origin)
{
	for (size_t i = 0; diff->output && i < diff->output->symbols.count; i++) {
		const struct object_symbol *symbol = diff->output->symbols.items[i];
		if (string_equal(symbol->name, name) && (symbol->section != NULL) == defined &&
		    (symbol->origin != NULL) == origin)
			return symbol;
	}
	return NULL;
}

#endif
