// SPDX-License-Identifier: MIT
#include "base/base.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// What is left to return when there is no memory for an error.
static char no_memory_message[] = "out of memory";
static struct error no_memory = {ERROR_KIND_SYSTEM, no_memory_message};

static const struct {
	int exit_status;
	const char *word;
} kinds[] = {
#define X(name, status, word, meaning) [ERROR_KIND_##name] = {status, word},
	ERROR_KINDS(X)
#undef X
};

int error_kind_exit_status(enum error_kind kind)
{
	return kinds[kind].exit_status;
}

const char *error_kind_word(enum error_kind kind)
{
	return kinds[kind].word;
}

// Takes over the message.
static struct error *error_of_message(enum error_kind kind, char *message)
{
	struct error *error = malloc(sizeof(*error));
	if (!error) {
		free(message);
		return &no_memory;
	}
	*error = (struct error){kind, message};
	return error;
}

struct error *error_new(enum error_kind kind, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	char *message;
	int size = vasprintf(&message, format, args);
	va_end(args);
	return size < 0 ? &no_memory : error_of_message(kind, message);
}

static enum error_kind errno_kind(int errnum)
{
	switch (errnum) {
	case ENOENT:
	case ENOTDIR:
	case ESRCH:
		return ERROR_KIND_NOT_FOUND;
	case EACCES:
	case EPERM:
		return ERROR_KIND_PERMISSION;
	case EISDIR:
		return ERROR_KIND_INPUT;
	case ENOSYS:
	case EOPNOTSUPP:
		return ERROR_KIND_UNSUPPORTED;
	default:
		return ERROR_KIND_SYSTEM;
	}
}

struct error *error_errno(int errnum, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	_cleanup_free_ char *phrase = NULL;
	int size = vasprintf(&phrase, format, args);
	va_end(args);
	if (size < 0) {
		phrase = NULL;
		return &no_memory;
	}
	return error_new(errno_kind(errnum), "%s: %s", phrase, strerror(errnum));
}

struct error *error_prefix(struct error *error, const char *format, ...)
{
	if (!error || error == &no_memory)
		return error;
	va_list args;
	va_start(args, format);
	_cleanup_free_ char *phrase = NULL;
	int size = vasprintf(&phrase, format, args);
	va_end(args);
	char *message;
	if (size < 0) {
		phrase = NULL;
		return error;
	}
	if (asprintf(&message, "%s: %s", phrase, error->message) < 0)
		return error;
	free(error->message);
	error->message = message;
	return error;
}

void error_free(struct error *error)
{
	if (!error || error == &no_memory)
		return;
	free(error->message);
	free(error);
}

void error_cleanup(struct error **error)
{
	error_free(*error);
	*error = NULL;
}

void out_of_memory(void)
{
	static const char text[] = "suture: out of memory\n";
	ssize_t ignored = write(STDERR_FILENO, text, sizeof(text) - 1);
	(void)ignored;
	// Not exit(): handlers may want memory too. The kernel lets go of traced threads.
	_exit(kinds[ERROR_KIND_SYSTEM].exit_status);
}
