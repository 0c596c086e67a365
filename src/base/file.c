// SPDX-License-Identifier: MIT
#include "base/base.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

struct error *file_read_at(int dirfd, const char *path, char **ret, size_t *ret_size)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	if (fd < 0 || fstat(fd, &status) < 0)
		return error_errno(errno, "cannot read '%s'", path);
	// /dev/zero has no end.
	if (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode))
		return error_new(ERROR_KIND_INPUT, "'%s' is a device, not a file", path);

	// A hint: 0 in /proc, and a file may grow while it is read. One more byte meets the end.
	size_t capacity = S_ISREG(status.st_mode) ? (size_t)status.st_size + 1 : 0;
	if (capacity < 4096)
		capacity = 4096;
	_cleanup_free_ char *bytes = xmalloc(capacity + 1);
	size_t size = 0;
	for (;;) {
		ssize_t got = read(fd, bytes + size, capacity - size);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return error_errno(errno, "cannot read '%s'", path);
		if (got == 0)
			break;
		size += (size_t)got;
		if (size == capacity) {
			capacity *= 2;
			bytes = xrealloc(bytes, capacity + 1);
		}
	}
	bytes[size] = '\0';
	*ret = take_ptr(bytes);
	*ret_size = size;
	return NULL;
}

struct error *file_read(const char *path, char **ret, size_t *ret_size)
{
	return file_read_at(AT_FDCWD, path, ret, ret_size);
}

static int write_all(int fd, const char *bytes, size_t size)
{
	while (size) {
		ssize_t put = write(fd, bytes, size);
		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		bytes += put;
		size -= (size_t)put;
	}
	return 0;
}

// A new file beside @path; its name goes to @ret_name. Negative errno on failure.
static int create_beside(const char *path, unsigned mode, char **ret_name)
{
	for (int attempt = 0; attempt < 100; attempt++) {
		uint32_t random;
		if (getrandom(&random, sizeof(random), 0) != sizeof(random))
			return -EIO;
		char *name = xasprintf("%s.%08x.tmp", path, random);
		int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
		if (fd >= 0) {
			*ret_name = name;
			return fd;
		}
		int error = errno;
		free(name);
		if (error != EEXIST)
			return -error;
	}
	return -EEXIST;
}

// So that the new name, too, is on disk. Not every file system can: its contents are safe anyway.
static void sync_directory_of(const char *path)
{
	_cleanup_free_ char *directory = xstrdup(path);
	char *slash = strrchr(directory, '/');
	if (slash)
		slash[slash == directory] = '\0';
	_cleanup_close_ int fd = open(slash ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		fsync(fd);
}

struct error *file_write_atomic(const char *path, const void *bytes, size_t size, unsigned mode)
{
	// Never in place of a device or a pipe: `-o /dev/null` as root would take it away.
	struct stat status;
	if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
		_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
		int failed = fd < 0 ? -errno : write_all(fd, bytes, size);
		return failed ? error_errno(-failed, "cannot write '%s'", path) : NULL;
	}

	// The file that a link names, not the link.
	_cleanup_free_ char *real = realpath(path, NULL);
	if (!real)
		real = xstrdup(path);
	_cleanup_free_ char *name = NULL;
	_cleanup_close_ int fd = create_beside(real, mode, &name);
	if (fd < 0)
		return error_errno(-fd, "cannot write '%s'", path);
	int failed = write_all(fd, bytes, size);
	if (!failed && fsync(fd) < 0)
		failed = -errno;
	// A network file system may tell of a full disk only here.
	if (close(take_fd(fd)) < 0 && !failed)
		failed = -errno;
	if (!failed && rename(name, real) < 0)
		failed = -errno;
	if (failed) {
		unlink(name);
		return error_errno(-failed, "cannot write '%s'", path);
	}
	sync_directory_of(real);
	return NULL;
}

struct error *directory_create_all(const char *path)
{
	_cleanup_free_ char *prefix = xstrdup(path);
	char *end = prefix;
	do {
		end += strspn(end, "/");
		end += strcspn(end, "/");
		char saved = *end;
		*end = '\0';
		struct stat status;
		if (mkdir(prefix, 0777) < 0) {
			// EROFS, EACCES and others also come where the directory is there already.
			int error = errno;
			if (stat(prefix, &status) < 0 || !S_ISDIR(status.st_mode))
				return error_errno(error, "cannot create directory '%s'", prefix);
		}
		*end = saved;
	} while (*end);
	return NULL;
}

static struct error *remove_at(int dirfd, const char *name, const char *path, dev_t *device);

// Takes over @fd. Passes over the directory until one finds nothing: some file systems lose their
// place in a directory that shrinks.
static struct error *empty_directory(int fd, const char *path, dev_t *device)
{
	DIR *directory = fdopendir(fd);
	if (!directory) {
		int error = errno;
		close(fd);
		return error_errno(error, "cannot read directory '%s'", path);
	}
	struct error *error = NULL;
	bool found;
	do {
		found = false;
		rewinddir(directory);
		struct dirent *entry;
		while (!error && (entry = readdir(directory))) {
			if (string_equal(entry->d_name, ".") || string_equal(entry->d_name, ".."))
				continue;
			found = true;
			_cleanup_free_ char *child = xasprintf("%s/%s", path, entry->d_name);
			error = remove_at(dirfd(directory), entry->d_name, child, device);
		}
	} while (found && !error);
	closedir(directory);
	return error;
}

static struct error *remove_at(int dirfd, const char *name, const char *path, dev_t *device)
{
	// By descriptor and without following links: nobody can lead us elsewhere by swapping names.
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0) {
		// ENOTDIR: no directory, ELOOP: a link; else perhaps still an empty directory.
		bool is_directory = errno != ENOTDIR && errno != ELOOP;
		if (unlinkat(dirfd, name, is_directory ? AT_REMOVEDIR : 0) < 0 && errno != ENOENT)
			return error_errno(errno, "cannot remove '%s'", path);
		return NULL;
	}
	struct stat status;
	if (fstat(fd, &status) < 0) {
		int error = errno;
		close(fd);
		return error_errno(error, "cannot remove '%s'", path);
	}
	if (*device == 0)
		*device = status.st_dev;
	if (status.st_dev != *device) {
		close(fd);
		return error_new(ERROR_KIND_CONFLICT,
				 "cannot remove '%s': a file system is mounted there", path);
	}
	// Trees that a build made read-only; where it is not ours, unlink says so below.
	if ((status.st_mode & 0700) != 0700)
		(void)!fchmod(fd, status.st_mode | 0700);
	TRY(empty_directory(fd, path, device));
	if (unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return error_errno(errno, "cannot remove '%s'", path);
	return NULL;
}

struct error *tree_remove(const char *path)
{
	dev_t device = 0;
	return remove_at(AT_FDCWD, path, path, &device);
}

bool path_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

const char *path_basename(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}
