/* SPDX-License-Identifier: MIT */
/* Which file of an installed package runs: see source_package_program(). */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "source/source.h"

extern char **environ;

/** Is it an executable or shared library (e_type ET_EXEC or ET_DYN behind the ELF magic)? */
static bool is_linked_file(const char *path)
{
	unsigned char head[18];
	struct stat st;
	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return false;
	_cleanup_fclose_ FILE *file = fopen(path, "re");
	if (!file || fread(head, 1, sizeof(head), file) != sizeof(head))
		return false;
	// gABI, "ELF Header": e_ident, then e_type of two bytes in the file's own order.
	unsigned type = head[16] | head[17];
	return memcmp(head, "\177ELF", 4) == 0 && (type == 2 || type == 3);
}

/** Standard output of `dpkg-query -L PACKAGE`, one path a line. */
static struct error *package_files(const char *package, char **ret)
{
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(errno, "cannot make a pipe");
	_cleanup_close_ int reader = ends[0];
	_cleanup_close_ int writer = ends[1];
	posix_spawn_file_actions_t actions;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, writer, STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
	char *const argv[] = { "dpkg-query", "-L", (char *)package, NULL };
	pid_t pid;
	int failed = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (failed)
		return error_errno(failed, "cannot run dpkg-query, which '--package' needs");
	close(take_fd(writer));

	_cleanup_buffer_ struct buffer output = { 0 };
	char chunk[4096];
	ssize_t got;
	while ((got = read(reader, chunk, sizeof(chunk))) > 0 || (got < 0 && errno == EINTR))
		if (got > 0)
			buffer_append(&output, chunk, (size_t)got);
	int status;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !output.size)
		return error_new(ERROR_KIND_NOT_FOUND,
				 "package '%s' is not installed, so nothing of it can run", package);
	*ret = take_ptr(output.bytes);
	return NULL;
}

struct error *source_package_program(const char *package, char **ret)
{
	_cleanup_free_ char *files = NULL;
	TRY(package_files(package, &files));
	_cleanup_free_ char *found = NULL;
	_cleanup_buffer_ struct buffer all = { 0 };
	char *rest = files;
	for (char *line; (line = strsep(&rest, "\n"));) {
		_cleanup_free_ char *real = *line ? realpath(line, NULL) : NULL;
		if (!real || !is_linked_file(real) || (found && string_equal(found, real)))
			continue;
		buffer_printf(&all, "%s%s", found ? ", " : "", real);
		if (found && ret)
			ret = NULL;
		if (!found)
			found = take_ptr(real);
	}
	if (!found)
		return error_new(ERROR_KIND_NOT_FOUND,
				 "package '%s' installs no program or library; name the package "
				 "that does, or the file with '--target'",
				 package);
	if (!ret)
		return error_new(ERROR_KIND_USAGE,
				 "package '%s' installs several programs; name one with '--target': "
				 "%s",
				 package, all.bytes);
	*ret = take_ptr(found);
	return NULL;
}
