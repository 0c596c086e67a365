// SPDX-License-Identifier: MIT
/*
 * Trees as layers. The user's tree is never written: a build sees it at its own absolute path, as an
 * overlay whose changes go to the cache, and old and new trees appear there one after the other, so
 * that __FILE__, debug information and makefiles with absolute paths are the same in both.
 *
 *     old:  TREE                      <- UPPER0 takes what the build writes
 *     new:  UPPER0 over TREE          <- UPPER1: the diff, and what the build makes of it
 *     once more: UPPER1 over UPPER0 over TREE <- a folder to throw away
 *
 * The overlay is mounted in a mount namespace of its own (with a user namespace when not root), in a
 * process that the rest of the tool talks to by a pipe: a "session". Nobody else sees the mounts and
 * they go with the session's last process, even when the tool is killed. Where no overlay can be
 * mounted (an overlay as the cache's own file system, old kernels), UPPER becomes a full copy that is
 * bound to the path; "UPPER.whole" says so.
 *
 * A PID namespace belongs to it, so that nothing that a build started outlives it, however it ends. A
 * clean build root is the same with one more step, chroot.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "internal.h"

struct tree_session {
	pid_t pid;
	int fd;
	volatile size_t *done;
};

char *path_absolute(struct arena *arena, const char *directory, const char *path)
{
	char *joined = path[0] == '/' ? arena_strdup(arena, path)
				      : arena_printf(arena, "%s/%s", directory, path);
	// In place: the result is never longer.
	char *out = joined;
	for (const char *in = joined; *in;) {
		while (*in == '/')
			in++;
		size_t size = strcspn(in, "/");
		if (size == 0)
			break;
		if (size == 2 && in[0] == '.' && in[1] == '.') {
			while (out > joined && *--out != '/')
				;
		} else if (size != 1 || in[0] != '.') {
			*out++ = '/';
			memmove(out, in, size);
			out += size;
		}
		in += size;
	}
	if (out == joined)
		*out++ = '/';
	*out = '\0';
	return joined;
}

const char *path_within(const char *root, const char *path)
{
	size_t size = strlen(root);
	if (strncmp(root, path, size) != 0 || path[size] != '/')
		return NULL;
	return path + size + 1;
}

static bool is_whiteout(const struct stat *status)
{
	return S_ISCHR(status->st_mode) && status->st_rdev == 0;
}

// Does @layer say that @name, or a folder that leads to it, is gone?
static bool layer_hides(const char *layer, const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", layer, name);
	struct stat status;
	for (char *slash = path + strlen(layer); (slash = strchr(slash + 1, '/'));) {
		*slash = '\0';
		bool hidden = lstat(path, &status) == 0 && !S_ISDIR(status.st_mode) &&
			      !S_ISLNK(status.st_mode);
		*slash = '/';
		if (hidden)
			return true;
	}
	return lstat(path, &status) == 0 && is_whiteout(&status);
}

char *tree_lookup(struct arena *arena, const struct tree *tree, const char *name)
{
	for (size_t i = 0; i <= tree->layer_count; i++) {
		const char *layer = i ? tree->layers[i - 1] : tree->upper;
		if (!layer)
			continue;
		if (layer_hides(layer, name))
			return NULL;
		char *path = arena_printf(arena, "%s/%s", layer, name);
		struct stat status;
		if (lstat(path, &status) == 0)
			return path;
		_cleanup_free_ char *whole = xasprintf("%s.whole", layer);
		if (path_exists(whole))
			return NULL;
	}
	return NULL;
}

// ---- inside ----------------------------------------------------------------------------------

static struct error *write_text(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		return error_errno(errno, "cannot write '%s'", path);
	return NULL;
}

static struct error *enter_namespaces(const struct tree *tree)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	int flags = CLONE_NEWNS | CLONE_NEWPID | (tree->root ? CLONE_NEWIPC : 0);
	if (unshare(flags) < 0) {
		if (errno != EPERM || tree->root)
			return error_errno(errno, "cannot enter a mount namespace of its own");
		if (unshare(CLONE_NEWUSER | flags) < 0)
			return error_errno(errno, "cannot enter a user namespace: run as root, or "
						  "permit user namespaces to users");
		// The same user inside: files keep their owner, and a build sees who it is.
		_cleanup_free_ char *users = xasprintf("%u %u 1", uid, uid);
		_cleanup_free_ char *groups = xasprintf("%u %u 1", gid, gid);
		TRY(write_text("/proc/self/setgroups", "deny"));
		TRY(write_text("/proc/self/uid_map", users));
		TRY(write_text("/proc/self/gid_map", groups));
	}
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return error_errno(errno, "cannot make mounts private");
	return NULL;
}

static int run_silently(const char *const *words)
{
	pid_t pid = fork();
	if (pid == 0) {
		execvp(words[0], (char *const *)words);
		_exit(127);
	}
	int status = -1;
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

// Without an overlay: the topmost layer that is whole by itself, copied.
static struct error *mount_copy(const struct tree *tree, int why)
{
	_cleanup_free_ char *mark = xasprintf("%s.whole", tree->upper);
	if (!path_exists(mark)) {
		const char *whole = tree->layers[tree->layer_count - 1];
		for (size_t i = tree->layer_count; i-- > 0;) {
			_cleanup_free_ char *layer_mark = xasprintf("%s.whole", tree->layers[i]);
			if (path_exists(layer_mark))
				whole = tree->layers[i];
		}
		_cleanup_free_ char *from = xasprintf("%s/.", whole);
		const char *const words[] = {"cp",        "-a", "--reflink=auto", "--", from,
					     tree->upper, NULL};
		if (run_silently(words) != 0)
			return error_new(
				ERROR_KIND_SYSTEM,
				"no overlay can be mounted on '%s' (%s), and '%s' could not be "
				"copied to '%s' instead",
				tree->at, strerror(why), whole, tree->upper);
		_cleanup_close_ int fd = open(mark, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
		if (fd < 0)
			return error_errno(errno, "cannot write '%s'", mark);
	}
	if (mount(tree->upper, tree->at, NULL, MS_BIND, NULL) < 0)
		return error_errno(errno, "cannot bind '%s' to '%s'", tree->upper, tree->at);
	return NULL;
}

// Layers are named by descriptors: their paths may hold commas and colons, and may be long.
static struct error *mount_overlay(const struct tree *tree)
{
	_cleanup_free_ char *mark = xasprintf("%s.whole", tree->upper);
	if (path_exists(mark))
		return mount_copy(tree, 0);
	_cleanup_buffer_ struct buffer options = {0};
	for (size_t i = 0; i < tree->layer_count; i++) {
		int fd = open(tree->layers[i], O_PATH | O_DIRECTORY);
		if (fd < 0)
			return error_errno(errno, "cannot open '%s'", tree->layers[i]);
		buffer_printf(&options, "%s/proc/self/fd/%d", i ? ":" : "lowerdir=", fd);
		// A layer that is a full copy ends the stack.
		_cleanup_free_ char *layer_mark = xasprintf("%s.whole", tree->layers[i]);
		if (path_exists(layer_mark))
			break;
	}
	_cleanup_free_ char *work_path = xasprintf("%s.work", tree->upper);
	TRY(directory_create_all(work_path));
	int upper = open(tree->upper, O_PATH | O_DIRECTORY);
	int work = open(work_path, O_PATH | O_DIRECTORY);
	if (upper < 0 || work < 0)
		return error_errno(errno, "cannot open '%s'", upper < 0 ? tree->upper : work_path);
	// An upper folder is used again below other ones: no state that binds it to its lower layers.
	buffer_printf(&options, ",upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d", upper, work);
	buffer_puts(&options, ",index=off,redirect_dir=off,metacopy=off");
	size_t common = options.size;
	if (geteuid() != 0)
		buffer_puts(&options, ",userxattr");
	int failed = mount("overlay", tree->at, "overlay", 0, options.bytes) < 0 ? errno : 0;
	if (failed == EPERM && geteuid() == 0) {
		// Root of a container's user namespace.
		options.size = common;
		buffer_puts(&options, ",userxattr");
		failed = mount("overlay", tree->at, "overlay", 0, options.bytes) < 0 ? errno : 0;
	}
	close(upper);
	close(work);
	return failed ? mount_copy(tree, failed) : NULL;
}

static struct error *enter_root(const struct tree *tree)
{
	static const struct {
		const char *from, *to, *type;
		unsigned long flags;
	} mounts[] = {
		{"proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"/dev", "dev", NULL, MS_BIND | MS_REC},
		{"tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV},
	};
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		_cleanup_free_ char *to = xasprintf("%s/%s", tree->at, mounts[i].to);
		TRY(directory_create_all(to));
		if (mount(mounts[i].from, to, mounts[i].type, mounts[i].flags, NULL) < 0)
			return error_errno(errno, "cannot mount '%s' in the build root",
					   mounts[i].to);
	}
	for (size_t i = 0; i < tree->bind_count; i++) {
		const struct tree_bind *bind = &tree->binds[i];
		_cleanup_free_ char *to = xasprintf("%s%s", tree->at, bind->to);
		TRY(directory_create_all(to));
		if (mount(bind->from, to, NULL, MS_BIND, NULL) < 0)
			return error_errno(errno, "cannot bind '%s' in the build root", bind->from);
		if (bind->read_only &&
		    mount(NULL, to, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL) < 0)
			return error_errno(errno, "cannot bind '%s' read-only", bind->from);
	}
	if (chroot(tree->at) < 0 || chdir("/") < 0)
		return error_errno(errno, "cannot enter the build root '%s'", tree->at);
	return NULL;
}

static struct error *inside(const struct tree *tree, tree_function function, void *context,
			    struct tree_inside *state)
{
	TRY(mount_overlay(tree));
	// Of this PID namespace. In some containers that is not permitted: the outer one serves too.
	if (!tree->root)
		mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	if (tree->root)
		TRY(enter_root(tree));
	else if (chdir(tree->at) < 0)
		return error_errno(errno, "cannot enter '%s'", tree->at);
	return function(context, state);
}

// The answer: 0xff and the reply, or the error's kind and its text.
static _Noreturn void answer(int fd, struct error *error, const struct buffer *reply)
{
	_cleanup_buffer_ struct buffer text = {0};
	uint8_t kind = error ? (uint8_t)error->kind : 0xff;
	buffer_append(&text, &kind, 1);
	if (error)
		buffer_puts(&text, error->message);
	else if (reply->size)
		buffer_append(&text, reply->bytes, reply->size);
	for (size_t at = 0; at < text.size;) {
		ssize_t put = write(fd, text.bytes + at, text.size - at);
		if (put < 0 && errno != EINTR)
			_exit(1);
		if (put > 0)
			at += (size_t)put;
	}
	_exit(0);
}

static _Noreturn void session_process(const struct tree *tree, tree_function function,
				      void *context, int fd, volatile size_t *done, pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	struct tree_inside state = {.done = done};
	struct error *error = enter_namespaces(tree);
	if (error)
		answer(fd, error, &state.reply);
	// unshare(CLONE_NEWPID) is for children: the next one is PID 1 and takes all others with it.
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		answer(fd, inside(tree, function, context, &state), &state.reply);
	}
	if (pid < 0)
		answer(fd, error_errno(errno, "cannot start a process"), &state.reply);
	close(fd);
	int status;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	_exit(0);
}

// ---- outside ---------------------------------------------------------------------------------

struct error *tree_start(const struct tree *tree, tree_function function, void *context,
			 struct tree_session **ret)
{
	TRY(directory_create_all(tree->upper));
	int ends[2];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return error_errno(errno, "cannot make a pipe");
	volatile size_t *done = mmap(NULL, sizeof(size_t), PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (done == MAP_FAILED)
		out_of_memory();
	fflush(NULL);
	pid_t parent = getpid(), pid = fork();
	if (pid == 0) {
		close(ends[0]);
		session_process(tree, function, context, ends[1], done, parent);
	}
	int error = errno;
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		munmap((void *)done, sizeof(size_t));
		return error_errno(error, "cannot start a process");
	}
	struct tree_session *session = xmalloc(sizeof(*session));
	*session = (struct tree_session){pid, ends[0], done};
	*ret = session;
	return NULL;
}

static void session_free(struct tree_session *session)
{
	int status;
	close(session->fd);
	while (waitpid(session->pid, &status, 0) < 0 && errno == EINTR)
		;
	munmap((void *)session->done, sizeof(size_t));
	free(session);
}

void tree_abandon(struct tree_session *session)
{
	if (!session)
		return;
	kill(session->pid, SIGKILL);
	session_free(session);
}

struct error *tree_finish(struct tree_session *session, void (*news)(void *context, size_t done),
			  void *context, struct buffer *ret_reply)
{
	_cleanup_buffer_ struct buffer text = {0};
	for (;;) {
		struct pollfd descriptor = {.fd = session->fd, .events = POLLIN};
		int ready = poll(&descriptor, 1, 200);
		if (news)
			news(context, *session->done);
		if (ready <= 0)
			continue;
		char bytes[65536];
		ssize_t got = read(session->fd, bytes, sizeof(bytes));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		buffer_append(&text, bytes, (size_t)got);
	}
	session_free(session);
	if (text.size == 0)
		return error_new(ERROR_KIND_SYSTEM, "a process of the build was killed");
	uint8_t kind = (uint8_t)text.bytes[0];
	if (kind != 0xff)
		return error_new(kind, "%s", text.bytes + 1);
	if (ret_reply)
		buffer_append(ret_reply, text.bytes + 1, text.size - 1);
	return NULL;
}

// ---- jobs ------------------------------------------------------------------------------------

static _Noreturn void job_process(const struct job *job)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	int input = open("/dev/null", O_RDONLY);
	int output = job->log >= 0 ? job->log : open("/dev/null", O_WRONLY);
	if (input < 0 || output < 0)
		_exit(126);
	dup2(input, 0);
	dup2(output, 1);
	dup2(output, 2);
	// Nothing of ours is for a build: descriptors of layers, of the caller.
	if (close_range(3, ~0U, 0) < 0)
		for (int fd = 3; fd < 1024; fd++)
			close(fd);
	if (chdir(job->directory) < 0) {
		dprintf(2, "suture: cannot enter '%s': %s\n", job->directory, strerror(errno));
		_exit(126);
	}
	execvpe(job->program, job->words, job->environment);
	dprintf(2, "suture: cannot run '%s': %s\n", job->program, strerror(errno));
	_exit(127);
}

struct error *jobs_run(void *context, struct tree_inside *state)
{
	struct jobs *jobs = context;
	size_t next = 0, running = 0;
	_cleanup_free_ pid_t *pids = xcalloc(jobs->count + 1, sizeof(*pids));
	while (next < jobs->count || running) {
		if (next < jobs->count && running < (jobs->parallel ? jobs->parallel : 1)) {
			// execvpe() looks in our own PATH, so it must be the job's.
			pid_t pid = fork();
			if (pid == 0) {
				char *const *variable = jobs->items[next].environment;
				for (; *variable; variable++)
					if (string_starts_with(*variable, "PATH="))
						putenv(*variable);
				job_process(&jobs->items[next]);
			}
			if (pid < 0)
				return error_errno(errno, "cannot start a process");
			pids[next++] = pid;
			running++;
			continue;
		}
		int status;
		pid_t pid = waitpid(-1, &status, 0);
		if (pid < 0 && errno != EINTR)
			return error_errno(errno, "cannot wait for a process");
		for (size_t i = 0; i < next; i++) {
			if (pid <= 0 || pids[i] != pid)
				continue;
			jobs->items[i].status = status;
			pids[i] = 0;
			running--;
			(*state->done)++;
		}
	}
	for (size_t i = 0; i < jobs->count; i++)
		buffer_append(&state->reply, &jobs->items[i].status, sizeof(int));
	return NULL;
}

void jobs_take_reply(struct jobs *jobs, const struct buffer *reply)
{
	for (size_t i = 0; i < jobs->count && (i + 1) * sizeof(int) <= reply->size; i++)
		memcpy(&jobs->items[i].status, reply->bytes + i * sizeof(int), sizeof(int));
}
