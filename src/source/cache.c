// SPDX-License-Identifier: MIT
/*
 * What makes the second build short: digests of trees, locks, and the directory of tool names.
 *
 * A plain build is kept under a digest of all that it depends on; the largest part is the tree's
 * content. Reading every file each time would cost more than the compile that is wanted, so digests
 * of files are remembered with size, times and inode, as git's index does. A file that changed in
 * the same instant as it was read last is read again ("racy" entries, as git calls them): only what
 * is older than two seconds is remembered.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

// ---- digests -------------------------------------------------------------------------------------

struct remembered {
	uint64_t size, inode;
	int64_t modified[2], changed[2];
	struct digest digest;
};

struct walk {
	struct arena *arena;
	struct hashmap *known;  // path -> struct remembered
	struct buffer remember; // the next file of it
	struct digest_state state;
	size_t top; // length of the root's path and its slash
	time_t now;
	long long newest;
};

static const char *const vcs_folders[] = {".git", ".hg", ".svn", ".bzr", "CVS", "_darcs"};

static struct error *digest_file(struct walk *walk, int folder, const char *name, const char *path,
				 const struct stat *status)
{
	struct remembered now = {
		.size = (uint64_t)status->st_size,
		.inode = status->st_ino,
		.modified = {status->st_mtim.tv_sec, status->st_mtim.tv_nsec},
		.changed = {status->st_ctim.tv_sec, status->st_ctim.tv_nsec},
	};
	const struct remembered *before = hashmap_get_string(walk->known, path + walk->top);
	if (before && memcmp(before, &now, offsetof(struct remembered, digest)) == 0) {
		now.digest = before->digest;
	} else {
		_cleanup_free_ char *bytes = NULL;
		size_t size;
		TRY(error_prefix(file_read_at(folder, name, &bytes, &size), "'%s'", path));
		now.digest = digest_bytes(bytes, size);
	}
	digest_update(&walk->state, &now.digest, sizeof(now.digest));
	if (status->st_mtim.tv_sec < walk->now - 2 && status->st_ctim.tv_sec < walk->now - 2) {
		buffer_append(&walk->remember, &now, sizeof(now));
		buffer_append(&walk->remember, path + walk->top, strlen(path + walk->top) + 1);
	}
	return NULL;
}

static int name_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static struct error *digest_folder(struct walk *walk, int fd, const char *path)
{
	DIR *folder = fdopendir(fd);
	if (!folder) {
		int error = errno;
		close(fd);
		return error_errno(error, "cannot read directory '%s'", path);
	}
	VEC(char *) entries = {0};
	struct dirent *entry;
	while ((entry = readdir(folder))) {
		bool skipped =
			string_equal(entry->d_name, ".") || string_equal(entry->d_name, "..");
		for (size_t i = 0; i < ARRAY_SIZE(vcs_folders); i++)
			skipped = skipped || string_equal(entry->d_name, vcs_folders[i]);
		if (!skipped)
			vec_push(&entries, xstrdup(entry->d_name));
	}
	if (entries.count)
		qsort(entries.items, entries.count, sizeof(*entries.items), name_compare);
	struct error *error = NULL;
	for (size_t i = 0; i < entries.count; i++) {
		const char *name = entries.items[i];
		_cleanup_free_ char *child = xasprintf("%s/%s", path, name);
		struct stat status;
		if (!error && fstatat(dirfd(folder), name, &status, AT_SYMLINK_NOFOLLOW) < 0) {
			error = error_errno(errno, "cannot read '%s'", child);
		} else if (!error) {
			digest_update_string(&walk->state, name);
			digest_update_u64(&walk->state, status.st_mode & (S_IFMT | 0111));
			if (S_ISREG(status.st_mode)) {
				if (status.st_mtim.tv_sec > walk->newest)
					walk->newest = status.st_mtim.tv_sec;
				error = digest_file(walk, dirfd(folder), name, child, &status);
			} else if (S_ISLNK(status.st_mode)) {
				char target[4096];
				ssize_t size =
					readlinkat(dirfd(folder), name, target, sizeof(target) - 1);
				target[size < 0 ? 0 : size] = '\0';
				digest_update_string(&walk->state, target);
			} else if (S_ISDIR(status.st_mode)) {
				int next = openat(dirfd(folder), name,
						  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
				error = next < 0 ? error_errno(errno, "cannot read '%s'", child)
						 : digest_folder(walk, next, child);
				digest_update_string(&walk->state, "/");
			}
		}
		free(entries.items[i]);
	}
	vec_deinit(&entries);
	closedir(folder);
	return error;
}

struct error *tree_digest(const char *cache, const char *path, struct digest *ret,
			  long long *ret_newest)
{
	struct digest name = digest_bytes(path, strlen(path));
	char hex[33];
	hex_format(name.bytes, sizeof(name.bytes), hex);
	_cleanup_free_ char *folder = xasprintf("%s/digests", cache);
	_cleanup_free_ char *file = xasprintf("%s/%s", folder, hex);
	TRY(directory_create_all(folder));

	struct walk walk = {
		.arena = arena_create(),
		.known = hashmap_create(),
		.top = strlen(path) + 1,
		.now = time(NULL),
	};
	_cleanup_free_ char *bytes = NULL;
	size_t size = 0;
	_cleanup_error_ struct error *ignored = file_read(file, &bytes, &size);
	for (size_t at = 0; !ignored && range_within(at, sizeof(struct remembered) + 1, size);) {
		struct remembered *entry = arena_memdup(walk.arena, bytes + at, sizeof(*entry));
		at += sizeof(*entry);
		size_t length = strnlen(bytes + at, size - at);
		hashmap_set(walk.known, bytes + at, length, entry);
		at += length + 1;
	}

	digest_init(&walk.state);
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct error *error = fd < 0 ? error_errno(errno, "cannot read '%s'", path)
				     : digest_folder(&walk, fd, path);
	if (!error) {
		*ret = digest_final(&walk.state);
		*ret_newest = walk.newest;
		// A cache of the cache: without it the next digest takes longer, and that is all. That
		// the disk is full will be said by who needs it.
		if (walk.remember.size)
			error_free(file_write_atomic(file, walk.remember.bytes, walk.remember.size,
						     0666));
	}
	buffer_deinit(&walk.remember);
	hashmap_free(walk.known);
	arena_free(walk.arena);
	return error;
}

// ---- locks and space -------------------------------------------------------------------------------

struct error *cache_lock(const char *path, const struct progress *progress, int *ret)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return error_errno(errno, "cannot write the cache: '%s'", path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		progress_report(progress, "waiting for another build", 0, 0);
		while (flock(fd, LOCK_EX) < 0)
			if (errno != EINTR)
				return error_errno(errno, "cannot lock '%s'", path);
	}
	*ret = take_fd(fd);
	return NULL;
}

struct aged {
	char *path;
	struct timespec time;
};

static int aged_compare(const void *left, const void *right)
{
	const struct aged *a = left, *b = right;
	if (a->time.tv_sec != b->time.tv_sec)
		return a->time.tv_sec > b->time.tv_sec ? -1 : 1;
	return a->time.tv_nsec > b->time.tv_nsec ? -1 : 1;
}

void cache_prune(const char *directory, size_t keep)
{
	DIR *folder = opendir(directory);
	if (!folder)
		return;
	VEC(struct aged) entries = {0};
	struct dirent *entry;
	while ((entry = readdir(folder))) {
		struct stat status;
		if (entry->d_name[0] == '.' ||
		    fstatat(dirfd(folder), entry->d_name, &status, 0) < 0 ||
		    !S_ISDIR(status.st_mode))
			continue;
		vec_push(&entries, (struct aged){xasprintf("%s/%s", directory, entry->d_name),
						 status.st_mtim});
	}
	closedir(folder);
	if (entries.count)
		qsort(entries.items, entries.count, sizeof(*entries.items), aged_compare);
	for (size_t i = 0; i < entries.count; i++) {
		if (i >= keep) {
			// Not while somebody works with it: "NAME.lock" beside it, where there is one.
			_cleanup_free_ char *lock = xasprintf("%s.lock", entries.items[i].path);
			_cleanup_close_ int fd = open(lock, O_RDWR | O_CLOEXEC);
			if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0)
				error_free(tree_remove(entries.items[i].path));
		}
		free(entries.items[i].path);
	}
	vec_deinit(&entries);
}

bool files_equal(const char *a, const char *b)
{
	_cleanup_free_ char *a_bytes = NULL, *b_bytes = NULL;
	size_t a_size, b_size;
	_cleanup_error_ struct error *a_error = file_read(a, &a_bytes, &a_size);
	_cleanup_error_ struct error *b_error = file_read(b, &b_bytes, &b_size);
	return !a_error && !b_error && a_size == b_size && memcmp(a_bytes, b_bytes, a_size) == 0;
}

// ---- the masquerade --------------------------------------------------------------------------------

static struct error *masquerade_find(char **ret)
{
	const char *named = getenv("SUTURE_MASQUERADE");
	if (named && *named) {
		*ret = xstrdup(named);
		return NULL;
	}
	// Beside build/suture, above build/tests/unit/test_source, or installed.
	static const char *const places[] = {"masquerade", "../masquerade", "../../masquerade",
					     "../libexec/suture/masquerade"};
	char self[4096];
	ssize_t size = readlink("/proc/self/exe", self, sizeof(self) - 1);
	self[size < 0 ? 0 : size] = '\0';
	char *slash = strrchr(self, '/');
	for (size_t i = 0; slash && i < ARRAY_SIZE(places); i++) {
		char *path = xasprintf("%.*s/%s", (int)(slash - self), self, places[i]);
		if (access(path, X_OK) == 0) {
			*ret = path;
			return NULL;
		}
		free(path);
	}
	static const char installed[] = SUTURE_LIBEXECDIR "/masquerade";
	if (access(installed, X_OK) == 0) {
		*ret = xstrdup(installed);
		return NULL;
	}
	return error_new(
		ERROR_KIND_NOT_FOUND,
		"the program 'masquerade' is not installed: it belongs to '%s', or name it by "
		"$SUTURE_MASQUERADE",
		installed);
}

struct error *masquerade_digest(struct digest *ret)
{
	_cleanup_free_ char *path = NULL, *bytes = NULL;
	size_t size;
	TRY(masquerade_find(&path));
	TRY(file_read(path, &bytes, &size));
	*ret = digest_bytes(bytes, size);
	return NULL;
}

struct error *masquerade_copy(const char *directory)
{
	_cleanup_free_ char *from = NULL, *bytes = NULL, *old = NULL;
	size_t size, old_size;
	TRY(masquerade_find(&from));
	TRY(file_read(from, &bytes, &size));
	TRY(directory_create_all(directory));
	_cleanup_free_ char *to = xasprintf("%s/masquerade", directory);
	_cleanup_error_ struct error *ignored = file_read(to, &old, &old_size);
	if (!ignored && old_size == size && memcmp(old, bytes, size) == 0)
		return NULL;
	return file_write_atomic(to, bytes, size, 0755);
}

struct error *masquerade_link(const char *directory, const char *path)
{
	_cleanup_free_ char *folders = xstrdup(path);
	for (char *save, *name = strtok_r(folders, ":", &save); name;
	     name = strtok_r(NULL, ":", &save)) {
		DIR *folder = string_equal(name, directory) ? NULL : opendir(name);
		struct dirent *entry;
		while (folder && (entry = readdir(folder))) {
			if (tool_kind_of(entry->d_name) == TOOL_OTHER)
				continue;
			_cleanup_free_ char *link = xasprintf("%s/%s", directory, entry->d_name);
			if (symlink("masquerade", link) < 0 && errno != EEXIST) {
				struct error *error = error_errno(errno, "cannot write '%s'", link);
				closedir(folder);
				return error;
			}
		}
		if (folder)
			closedir(folder);
	}
	return NULL;
}

struct error *masquerade_cover(const char *directory, const char *covered, const char *path)
{
	_cleanup_free_ char *masquerade = xasprintf("%s/masquerade", directory);
	_cleanup_free_ char *folders = xstrdup(path);
	for (char *save, *name = strtok_r(folders, ":", &save); name;
	     name = strtok_r(NULL, ":", &save)) {
		DIR *folder = string_equal(name, directory) ? NULL : opendir(name);
		struct dirent *entry;
		struct error *error = NULL;
		while (folder && !error && (entry = readdir(folder))) {
			_cleanup_free_ char *link = xasprintf("%s/%s", name, entry->d_name);
			_cleanup_free_ char *real = NULL;
			enum tool_kind kind = tool_kind_of(entry->d_name);
			if (kind == TOOL_COMPILER || kind == TOOL_ARCHIVER)
				real = realpath(link, NULL);
			// clang finds its headers beside /proc/self/exe, and a ccache or a script under a
			// compiler's name looks for the next one by itself.
			if (!real || tool_kind_of(path_basename(real)) != kind ||
			    strstr(path_basename(real), "clang"))
				continue;
			_cleanup_free_ char *place =
				xasprintf("%s/%s", covered, path_basename(real));
			_cleanup_close_ int fd =
				open(place, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
			if (fd < 0 && errno == EEXIST)
				continue;
			if (fd < 0)
				error = error_errno(errno, "cannot write '%s'", place);
			else if (mount(real, place, NULL, MS_BIND, NULL) < 0 ||
				 mount(masquerade, real, NULL, MS_BIND, NULL) < 0)
				error = error_errno(errno, "cannot cover '%s'", real);
		}
		if (folder)
			closedir(folder);
		if (error)
			return error;
	}
	return NULL;
}
