// SPDX-License-Identifier: MIT
/* Places in the cache, names, logs: what all steps of a build ask. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "work.h"

const char *work_path(struct work *work, const char *name)
{
	return arena_printf(work->arena, "%s/%s", work->folder, name);
}

const char *work_layer(struct work *work, enum version version)
{
	static const char *const names[] = {
		[VERSION_PATCHED] = "diff",
		[VERSION_NEW] = "new",
	};
	if (version == VERSION_SOURCE)
		return work->lowest;
	if (version == VERSION_OLD)
		return arena_printf(work->arena, "%s/old", work->folder);
	return arena_printf(work->arena, "%s/%s", work->patch_folder, names[version]);
}

// The tree of that version, with what is written to it in @upper.
struct tree work_tree(struct work *work, enum version version, const char *upper)
{
	struct tree tree = {.at = work->at, .upper = upper, .root = work->is_package};
	for (int i = (int)version; i >= VERSION_SOURCE; i--)
		tree.layers[tree.layer_count++] = work_layer(work, (enum version)i);
	return tree;
}

// The tree in which a version comes about: its own layer takes the changes.
struct tree work_tree_becoming(struct work *work, enum version version)
{
	return work_tree(work, (enum version)(version - 1), work_layer(work, version));
}

const char *work_lookup(struct work *work, const struct tree *tree, const char *name)
{
	return tree_lookup(work->arena, tree,
			   arena_printf(work->arena, "%s%s", work->prefix, name));
}

// The file in the tree's own upper layer only.
const char *work_made(struct work *work, const char *upper, const char *name)
{
	const char *path = arena_printf(work->arena, "%s/%s%s", upper, work->prefix, name);
	struct stat status;
	return lstat(path, &status) == 0 && S_ISREG(status.st_mode) ? path : NULL;
}

struct error *log_open(const char *path, int *ret)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
	if (fd < 0)
		return error_errno(errno, "cannot write '%s'", path);
	*ret = fd;
	return NULL;
}

// The last lines of a file, without what a terminal would make of control characters.
static char *last_lines(const char *path, size_t count)
{
	char *bytes;
	size_t size;
	struct error *error = file_read(path, &bytes, &size);
	if (error) {
		error_free(error);
		return xstrdup("");
	}
	while (size && bytes[size - 1] == '\n')
		bytes[--size] = '\0';
	char *start = bytes + size;
	while (start > bytes && (start[-1] != '\n' || --count))
		start--;
	char *text = xstrdup(start);
	free(bytes);
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' && *c != '\n' && *c != '\t')
			*c = '?';
	return text;
}

struct error *build_failed(const char *what, int status, const char *log)
{
	// A compiler says it in its own words; here it is an error of the machine.
	struct statvfs disk;
	if (statvfs(log, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < 1 << 20)
		return error_new(ERROR_KIND_SYSTEM, "%s failed: the disk that holds '%s' is full",
				 what, log);
	_cleanup_free_ char *tail = last_lines(log, 10);
	_cleanup_free_ char *how = WIFEXITED(status) ? xasprintf("status %d", WEXITSTATUS(status))
						     : xasprintf("signal %d", WTERMSIG(status));
	return error_new(ERROR_KIND_BUILD, "%s failed with %s; its output is in '%s'%s%s", what,
			 how, log, *tail ? " and ends with:\n" : "", tail);
}

void names_add(struct names *names, const char *name)
{
	for (size_t i = 0; i < names->list.count; i++)
		if (string_equal(names->list.items[i], name))
			return;
	vec_push(&names->list, name);
}

const char *const *names_take(struct work *work, struct names *names, size_t *ret_count)
{
	*ret_count = names->list.count;
	if (!names->list.count)
		return NULL;
	return arena_memdup(work->arena, names->list.items,
			    names->list.count * sizeof(*names->list.items));
}

const char *tool_path(void)
{
	const char *path = getenv("PATH");
	return path ? path : "/usr/local/bin:/usr/bin:/bin";
}
