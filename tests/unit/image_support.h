// SPDX-License-Identifier: MIT
/* For the tests of image: programs that are compiled and linked on the spot. */
#ifndef TEST_IMAGE_SUPPORT_H
#define TEST_IMAGE_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/image.h"

static char directory[] = "/tmp/suture-image-XXXXXX";

static inline int directory_make(void **state)
{
	(void)state;
	return mkdtemp(directory) ? 0 : -1;
}

static inline int directory_remove(void **state)
{
	(void)state;
	error_free(tree_remove(directory));
	return 0;
}

/** A path in the test's directory. */
static inline char *path_of(const char *name)
{
	return xasprintf("%s/%s", directory, name);
}

/** Run a shell command there; false when it fails. */
static inline bool try_run(const char *format, ...) PRINTF(1, 2);
static inline bool try_run(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	_cleanup_free_ char *command = xvasprintf(format, args);
	va_end(args);
	_cleanup_free_ char *whole = xasprintf("cd %s && { %s; } >log 2>&1", directory, command);
	return system(whole) == 0;
}

#define run(...)                                                            \
	do {                                                                \
		if (!try_run(__VA_ARGS__))                                  \
			fail_msg("a command failed, see %s/log", directory); \
	} while (0)

static inline void source_write(const char *name, const char *text)
{
	_cleanup_free_ char *path = path_of(name);
	struct error *error = file_write_atomic(path, text, strlen(text), 0644);
	if (error)
		fail_msg("%s", error->message);
}

static inline struct image *open_image(const char *name, const char *debug)
{
	_cleanup_free_ char *path = path_of(name);
	_cleanup_free_ char *debug_path = debug ? path_of(debug) : NULL;
	struct image *image = NULL;
	struct error *error = image_open(path, debug_path, &image);
	if (error)
		fail_msg("%s", error->message);
	return image;
}

static inline struct object *open_object(const char *name)
{
	_cleanup_free_ char *path = path_of(name);
	struct object *object = NULL;
	struct error *error = object_open(path, &object);
	if (error)
		fail_msg("%s", error->message);
	return object;
}

static inline struct image_match *match(const struct image *image, const struct object *object,
					struct findings *findings)
{
	struct image_match *result = NULL;
	struct error *error = image_match_object(image, object, findings, &result);
	if (error)
		fail_msg("%s", error->message);
	return result;
}

#endif
