/* SPDX-License-Identifier: MIT */
/*
 * Processes by name: open, list, who traces them.
 *
 * A pid is used again after its process died, so a process is named by its pid and its start time;
 * its directory in /proc and its memory are held open from the first look on. The memory file stays
 * bound to the address space that it was opened for: after an exec it reads nothing, and a write can
 * never reach another program.
 */
#include "process/private.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t monotonic_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

ssize_t proc_read(int dirfd, const char *path, char *text, size_t size)
{
	_cleanup_close_ int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t got = read(fd, text, size - 1);
	if (got >= 0)
		text[got] = '\0';
	return got;
}

bool task_stat_read(int dirfd, const char *path, struct task_stat *ret)
{
	char text[1024];
	if (proc_read(dirfd, path, text, sizeof(text)) <= 0)
		return false;
	// The name may hold spaces and parentheses; only the last ')' ends it.
	char *name = strchr(text, '('), *rest = strrchr(text, ')');
	if (!name || !rest || rest < name)
		return false;
	struct task_stat stat = {0};
	size_t length = (size_t)(rest - name - 1);
	if (length >= sizeof(stat.name))
		length = sizeof(stat.name) - 1;
	memcpy(stat.name, name + 1, length);
	rest++;
	// proc(5), /proc/pid/stat: field 3 is the state.
	unsigned field = 3;
	for (char *save, *word = strtok_r(rest, " \n", &save); word;
	     word = strtok_r(NULL, " \n", &save), field++) {
		if (field == 3)
			stat.state = word[0];
		else if (field == 4)
			stat.parent = (pid_t)strtol(word, NULL, 10);
		else if (field == 9)
			stat.flags = strtoull(word, NULL, 10);
		else if (field == 22)
			stat.start_time = strtoull(word, NULL, 10);
		else if (field == 47)
			stat.start_brk = strtoull(word, NULL, 10);
	}
	if (field <= 22)
		return false;
	*ret = stat;
	return true;
}

uint64_t status_field(const char *text, const char *name, int base, uint64_t fallback)
{
	size_t length = strlen(name);
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, name, length) == 0 && line[length] == ':')
			return strtoull(line + length + 1, NULL, base);
	}
	return fallback;
}

struct error *permission_error(int errnum, pid_t pid, const char *what)
{
	if (errnum == ESRCH || errnum == ENOENT)
		return error_new(ERROR_KIND_NOT_FOUND, "process %d is gone", pid);
	if (errnum != EPERM && errnum != EACCES)
		return error_errno(errnum, "%s of process %d", what, pid);

	char path[64], text[4096];
	uint64_t uid = (uint64_t)-1;
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	if (proc_read(AT_FDCWD, path, text, sizeof(text)) > 0)
		uid = status_field(text, "Uid", 10, uid);
	uint64_t capabilities = 0;
	if (proc_read(AT_FDCWD, "/proc/self/status", text, sizeof(text)) > 0)
		capabilities = status_field(text, "CapEff", 16, 0);
	bool can_trace = capabilities >> 19 & 1; // CAP_SYS_PTRACE
	if (!can_trace && uid != (uint64_t)-1 && uid != geteuid())
		return error_new(ERROR_KIND_PERMISSION,
				 "%s of process %d is not permitted: it belongs to uid %d, suture runs "
				 "as uid %d without CAP_SYS_PTRACE",
				 what, pid, (int)uid, (int)geteuid());
	int scope = -1;
	if (proc_read(AT_FDCWD, "/proc/sys/kernel/yama/ptrace_scope", text, sizeof(text)) > 0)
		scope = atoi(text);
	if (scope >= 3 || (scope > 0 && !can_trace))
		return error_new(ERROR_KIND_PERMISSION,
				 "%s of process %d is not permitted: kernel.yama.ptrace_scope is %d%s",
				 what, pid, scope,
				 scope >= 3 ? ", which forbids it to everybody until the next boot"
					    : "; run suture as root or with CAP_SYS_PTRACE");
	return error_new(ERROR_KIND_PERMISSION,
			 "%s of process %d is not permitted: %s", what, pid,
			 can_trace ? "a security module or an outer user namespace forbids it"
				   : "it is not dumpable (set-user-ID, other capabilities or another "
				     "user namespace); run suture as root or with CAP_SYS_PTRACE");
}

/* The CPU, by the ELF header of the executable. */
static struct error *process_arch(int directory, pid_t pid, const struct arch **ret)
{
	_cleanup_close_ int fd = openat(directory, "exe", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return permission_error(errno, pid, "reading the executable");
	Elf64_Ehdr header;
	if (pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
		return error_new(ERROR_KIND_UNSUPPORTED, "process %d: its executable is not ELF", pid);
	if (header.e_ident[EI_CLASS] != ELFCLASS64)
		return error_new(ERROR_KIND_UNSUPPORTED, "process %d is a 32-bit program", pid);
	const struct arch *arch = arch_find(header.e_machine, header.e_ident[EI_CLASS],
					    header.e_ident[EI_DATA]);
	if (!arch || arch != arch_native())
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "process %d is a program for another CPU (ELF machine %u)", pid,
				 header.e_machine);
	*ret = arch;
	return NULL;
}

struct error *process_open(pid_t pid, struct process **ret)
{
	char path[32], status[4096];
	snprintf(path, sizeof(path), "/proc/%d", pid);
	_cleanup_close_ int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct task_stat stat;
	if (pid <= 0 || directory < 0 || !task_stat_read(directory, "stat", &stat) ||
	    proc_read(directory, "status", status, sizeof(status)) <= 0)
		return error_new(ERROR_KIND_NOT_FOUND, "there is no process %d", pid);
	uint64_t tgid = status_field(status, "Tgid", 10, 0);
	if (tgid != (uint64_t)pid)
		return error_new(ERROR_KIND_NOT_FOUND, "%d is a thread of process %d", pid, (int)tgid);
	if (stat.flags & TASK_IS_KERNEL_THREAD)
		return error_new(ERROR_KIND_UNSUPPORTED, "process %d (%s) is a kernel thread", pid,
				 stat.name);
	if (stat.state == 'Z' || stat.state == 'X')
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "process %d (%s) is a zombie: it ended and waits for its parent", pid,
				 stat.name);
	const struct arch *arch = NULL;
	TRY(process_arch(directory, pid, &arch));

	_cleanup_close_ int memory = openat(directory, "mem", O_RDWR | O_CLOEXEC);
	if (memory < 0)
		memory = openat(directory, "mem", O_RDONLY | O_CLOEXEC);
	if (memory < 0)
		return permission_error(errno, pid, "access to the memory");

	// "NSpid: 4711 23 1": its pid in each namespace from ours inwards.
	pid_t namespace_pid = pid;
	const char *line = strstr(status, "\nNSpid:");
	if (line) {
		line += strlen("\nNSpid:");
		while (*line == '\t' || *line == ' ') {
			char *end;
			namespace_pid = (pid_t)strtol(line, &end, 10);
			if (end == line)
				break;
			line = end;
		}
	}
	struct process *process = xcalloc(1, sizeof(*process));
	*process = (struct process){
		.pid = pid,
		.namespace_pid = namespace_pid,
		.parent = stat.parent,
		.start_time = stat.start_time,
		.uid = (uid_t)status_field(status, "Uid", 10, 0),
		.name = xstrdup(stat.name),
		.arch = arch,
		.directory = take_fd(directory),
		.memory = take_fd(memory),
	};
	process->memory_writable = (fcntl(process->memory, F_GETFL) & O_ACCMODE) == O_RDWR;
	*ret = process;
	return NULL;
}

void process_close(struct process *process)
{
	if (!process)
		return;
	close(process->directory);
	close(process->memory);
	free(process->name);
	free(process);
}

void process_cleanup(struct process **process)
{
	process_close(*process);
}

bool process_alive(const struct process *process)
{
	struct task_stat stat;
	return task_stat_read(process->directory, "stat", &stat) &&
	       stat.start_time == process->start_time && stat.state != 'Z' && stat.state != 'X';
}

pid_t process_tracer(const struct process *process)
{
	char status[4096];
	if (proc_read(process->directory, "status", status, sizeof(status)) <= 0)
		return 0;
	return (pid_t)status_field(status, "TracerPid", 10, 0);
}

struct listed {
	pid_t pid, parent;
	uint64_t start_time;
	unsigned depth;
};

static int listed_compare_pid(const void *a, const void *b)
{
	const struct listed *left = a, *right = b;
	return (left->pid > right->pid) - (left->pid < right->pid);
}

static int listed_compare_depth(const void *a, const void *b)
{
	const struct listed *left = a, *right = b;
	if (left->depth != right->depth)
		return left->depth < right->depth ? -1 : 1;
	if (left->start_time != right->start_time)
		return left->start_time < right->start_time ? -1 : 1;
	return listed_compare_pid(a, b);
}

struct error *process_list(pid_t **ret, size_t *ret_count)
{
	DIR *directory = opendir("/proc");
	if (!directory)
		return error_errno(errno, "cannot list \"/proc\"");
	VEC(struct listed) list = {0};
	for (struct dirent *entry; (entry = readdir(directory));) {
		char *end;
		long pid = strtol(entry->d_name, &end, 10);
		if (*end || end == entry->d_name || pid <= 0)
			continue;
		char path[300];
		snprintf(path, sizeof(path), "%s/stat", entry->d_name);
		struct task_stat stat;
		if (!task_stat_read(dirfd(directory), path, &stat))
			continue;
		vec_push(&list, (struct listed){(pid_t)pid, stat.parent, stat.start_time, 0});
	}
	closedir(directory);

	// Depth in the tree of processes. Parents may have changed while we read, so a path is walked
	// at most as far as there are processes.
	if (list.count)
		qsort(list.items, list.count, sizeof(*list.items), listed_compare_pid);
	for (size_t i = 0; i < list.count; i++) {
		struct listed key = {.pid = list.items[i].parent};
		while (key.pid && list.items[i].depth < list.count) {
			const struct listed *parent = bsearch(&key, list.items, list.count,
							      sizeof(key), listed_compare_pid);
			if (!parent)
				break;
			list.items[i].depth++;
			key.pid = parent->parent;
		}
	}
	if (list.count)
		qsort(list.items, list.count, sizeof(*list.items), listed_compare_depth);
	pid_t *pids = xcalloc(list.count + 1, sizeof(*pids));
	size_t count = 0;
	for (size_t i = 0; i < list.count; i++)
		if (list.items[i].pid != getpid())
			pids[count++] = list.items[i].pid;
	vec_deinit(&list);
	*ret = pids;
	*ret_count = count;
	return NULL;
}
