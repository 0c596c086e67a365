/* SPDX-License-Identifier: MIT */
/* Processes, their address space and memory, seen from outside. */
#include "process/process.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static void succeed(struct error *error)
{
	if (error)
		fail_msg("%s", error->message);
}

static void expect(struct error *error, enum error_kind kind, const char *text)
{
	assert_non_null(error);
	if (error->kind != kind || !strstr(error->message, text))
		fail_msg("%s: %s", error_kind_word(error->kind), error->message);
	error_free(error);
}

static pid_t sleeper_start(void)
{
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

static void sleeper_end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void test_open(void **state)
{
	(void)state;
	struct process *process;
	expect(process_open(0, &process), ERROR_KIND_NOT_FOUND, "no process");
	expect(process_open(-5, &process), ERROR_KIND_NOT_FOUND, "no process");
	expect(process_open(2000000000, &process), ERROR_KIND_NOT_FOUND, "no process 2000000000");
	char name[16] = "";
	FILE *file = fopen("/proc/2/comm", "r");
	if (file) {
		if (fgets(name, sizeof(name), file) && strncmp(name, "kthreadd", 8) == 0)
			expect(process_open(2, &process), ERROR_KIND_UNSUPPORTED, "kernel thread");
		fclose(file);
	}
	pid_t pid = sleeper_start();
	succeed(process_open(pid, &process));
	assert_int_equal(process->pid, pid);
	assert_int_equal(process->parent, getpid());
	assert_ptr_equal(process->arch, arch_native());
	assert_true(process_alive(process));
	assert_int_equal(process_tracer(process), 0);
	kill(pid, SIGKILL);
	siginfo_t info;
	waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
	assert_false(process_alive(process));
	struct process *again;
	expect(process_open(pid, &again), ERROR_KIND_UNSUPPORTED, "zombie");
	waitpid(pid, NULL, 0);
	assert_false(process_alive(process));
	expect(process_open(pid, &again), ERROR_KIND_NOT_FOUND, "no process");
	uint8_t byte;
	expect(process_memory_read(process, (uintptr_t)&byte, &byte, 1), ERROR_KIND_NOT_FOUND, "ended");
	process_close(process);
	process_close(NULL);
}

static void test_open_without_rights(void **state)
{
	(void)state;
	if (geteuid() != 0) {
		print_message("  skipped: wants root to be somebody else\n");
		skip();
	}
	pid_t target = sleeper_start(), pid = fork();
	if (pid == 0) {
		struct process *process;
		if (setgid(65534) != 0 || setuid(65534) != 0)
			_exit(2);
		struct error *error = process_open(target, &process);
		_exit(error && error->kind == ERROR_KIND_PERMISSION && strstr(error->message, "uid 0")
			      ? 0
			      : 1);
	}
	int status;
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	sleeper_end(target);
}

static void test_list(void **state)
{
	(void)state;
	pid_t child = sleeper_start(), *pids;
	size_t count, at_parent = SIZE_MAX, at_child = SIZE_MAX;
	succeed(process_list(&pids, &count));
	for (size_t i = 0; i < count; i++) {
		assert_int_not_equal(pids[i], getpid());
		if (pids[i] == getppid())
			at_parent = i;
		if (pids[i] == child)
			at_child = i;
	}
	assert_int_not_equal(at_child, SIZE_MAX);
	if (at_parent != SIZE_MAX)
		assert_true(at_parent < at_child);
	free(pids);
	sleeper_end(child);
}

static void test_space(void **state)
{
	(void)state;
	pid_t pid = sleeper_start();
	_cleanup_process_ struct process *process = NULL;
	_cleanup_process_space_ struct process_space *space = NULL;
	// A linked file that is mapped as data is no module.
	succeed(process_open(pid, &process));
	succeed(process_space_read(process, &space));
	size_t mains = 0, loaders = 0, vdsos = 0, libc = 0;
	for (size_t i = 0; i < space->modules.count; i++) {
		const struct process_module *module = &space->modules.items[i];
		mains += module->main;
		loaders += module->loader;
		vdsos += module->vdso;
		if (string_starts_with(module->name, "libc.so")) {
			libc++;
			assert_true(module->build_id.size >= 8);
			assert_ptr_equal(process_module_find(space, &module->build_id), module);
			assert_ptr_equal(process_module_at(space, module->end - 1), module);
			_cleanup_free_ char *path = NULL;
			succeed(process_module_file(process, module, &path));
			int fd = open(path, O_RDONLY);
			assert_true(fd >= 0);
			close(fd);
		}
		if (module->main) {
			assert_true((uintptr_t)test_space >= module->start);
			assert_true((uintptr_t)test_space < module->end);
		}
		if (i)
			assert_true(module->start >= space->modules.items[i - 1].end);
	}
	assert_int_equal(mains, 1);
	assert_int_equal(loaders, 1);
	assert_int_equal(libc, 1);
	assert_in_range(vdsos, 0, 1);
	// Not a variable's address: under AddressSanitizer these lie on a stack of its own.
	uintptr_t on_stack = (uintptr_t)__builtin_frame_address(0);
	const struct process_map *map = process_map_at(space, on_stack);
	assert_non_null(map);
	assert_string_equal(map->path, "[stack]");
	assert_null(process_map_at(space, 0));
	assert_null(process_module_at(space, on_stack));
	assert_true(space->heap_end >= space->heap_start && space->heap_start);
	sleeper_end(pid);
}

static void test_replaced_file(void **state)
{
	(void)state;
	char path[] = "/tmp/suture-test-XXXXXX";
	int fd = mkstemp(path);
	char *bytes;
	size_t size;
	succeed(file_read("/bin/sleep", &bytes, &size));
	assert_int_equal(write(fd, bytes, size), (ssize_t)size);
	fchmod(fd, 0700);
	close(fd);
	free(bytes);
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execl(path, path, "100", NULL);
		_exit(1);
	}
	_cleanup_process_ struct process *process = NULL;
	for (int i = 0; i < 1000; i++) {
		usleep(1000);
		process_cleanup(&process);
		process = NULL;
		succeed(process_open(pid, &process));
		if (string_starts_with(process->name, "suture-test"))
			break;
	}
	unlink(path);
	_cleanup_process_space_ struct process_space *space = NULL;
	const struct process_module *module = NULL;
	// The name is set before the program is mapped.
	for (int tries = 0; tries < 1000 && !module; tries++) {
		usleep(tries ? 1000 : 0);
		process_space_cleanup(&space);
		space = NULL;
		succeed(process_space_read(process, &space));
		for (size_t i = 0; i < space->modules.count; i++)
			if (space->modules.items[i].main)
				module = &space->modules.items[i];
	}
	assert_non_null(module);
	assert_true(module->deleted);
	assert_string_equal(module->path, path);
	_cleanup_free_ char *file = NULL;
	struct error *error = process_module_file(process, module, &file);
	if (error) {
		assert_int_equal(error->kind, ERROR_KIND_PERMISSION);
		error_free(error);
	} else {
		succeed(file_read(file, &bytes, &size));
		free(bytes);
	}
	sleeper_end(pid);
}

static void test_memory(void **state)
{
	(void)state;
	size_t page = 4096;
	uint8_t *area = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(area, 'x', 4 * page);
	strcpy((char *)area + page - 3, "a string over an edge");
	mprotect(area + page, page, PROT_READ | PROT_EXEC);
	munmap(area + 3 * page, page);
	pid_t pid = sleeper_start();
	_cleanup_process_ struct process *process = NULL;
	succeed(process_open(pid, &process));
	uint64_t at = (uintptr_t)area;
	uint8_t bytes[8192];
	succeed(process_memory_read(process, at, bytes, 3 * page < 8192 ? 3 * page : 8192));
	expect(process_memory_read(process, at + 3 * page - 4, bytes, 8), ERROR_KIND_INPUT, "not mapped");
	assert_int_equal(process_memory_read_some(process, at + 3 * page - 4, bytes, 8), 4);
	assert_int_equal(process_memory_read_some(process, 8, bytes, 8), 0);
	_cleanup_free_ char *string = NULL;
	succeed(process_memory_read_string(process, at + page - 3, 100, &string));
	assert_string_equal(string, "a string over an edge");
	char *none;
	expect(process_memory_read_string(process, at, 100, &none), ERROR_KIND_INPUT, "does not end");
	expect(process_memory_read_string(process, 8, 100, &none), ERROR_KIND_INPUT, "not mapped");
	// Text that is not writable is written, and only in the target.
	succeed(process_memory_write(process, at + page + 100, "new text", 8));
	succeed(process_memory_read(process, at + page + 100, bytes, 8));
	assert_memory_equal(bytes, "new text", 8);
	assert_memory_equal(area + page + 100, "xxxxxxxx", 8);
	expect(process_memory_write(process, at + 3 * page, "new text", 8), ERROR_KIND_INPUT, "not mapped");
	sleeper_end(pid);
	munmap(area, 3 * page);
}

/* ---- room: on spaces made by hand ---------------------------------------------------------- */

static struct process_space *space_make(const struct process_map *maps, size_t count)
{
	struct arena *arena = arena_create();
	struct process_space *space = arena_new(arena, struct process_space);
	space->arena = arena;
	for (size_t i = 0; i < count; i++)
		vec_push(&space->maps, maps[i]);
	space->stack_limit = 8 << 20;
	return space;
}

static bool is_free(const struct process_space *space, uint64_t at, uint64_t size)
{
	for (size_t i = 0; i < space->maps.count; i++)
		if (space->maps.items[i].start < at + size && space->maps.items[i].end > at)
			return false;
	return true;
}

static void test_room(void **state)
{
	(void)state;
	const uint64_t reach = 0x7fff0000, size = 0x10000;
	{ // A PIE, its heap behind it, libraries and a stack.
		const struct process_map maps[] = {
			{.start = 0x555555554000, .end = 0x555555600000, .path = "/bin/x"},
			{.start = 0x555555700000, .end = 0x555555800000, .path = "[heap]"},
			{.start = 0x7ffff7c00000, .end = 0x7ffff7e00000, .path = "/lib/libc.so.6"},
			{.start = 0x7ffff7e00000, .end = 0x7ffff7fff000, .path = "/lib/ld.so"},
			{.start = 0x7ffffffde000, .end = 0x7ffffffff000, .path = "[stack]"},
		};
		_cleanup_process_space_ struct process_space *space = space_make(maps, 5);
		space->heap_start = 0x555555700000;
		space->heap_end = 0x555555800000;
		uint64_t at = process_space_find_room(space, maps[0].start, maps[0].end, reach, size, 0);
		assert_true(at && is_free(space, at, size));
		assert_true(at < space->heap_start); // not in the way of brk
		at = process_space_find_room(space, maps[2].start, maps[2].end, reach, size, 0);
		assert_true(at && is_free(space, at, size) && at + size <= maps[2].start);
		// Between the libraries and the stack there is room only out of the stack's way.
		at = process_space_find_room(space, maps[3].end - 0x1000, maps[3].end, 0x1000 + size, size, 0);
		assert_true(!at || (is_free(space, at, size) && at + size <= maps[4].end - (8 << 20)));
		// Nothing low is near enough.
		assert_int_equal(process_space_find_room(space, maps[2].start, maps[2].end, reach, size,
							 1ul << 31),
				 0);
	}
	{ // A static program at 4 MiB: below it, else far above its heap, below 2 GiB.
		const struct process_map maps[] = {
			{.start = 0x400000, .end = 0x4c0000, .path = "/bin/static"},
			{.start = 0x4c0000, .end = 0x600000, .path = "[heap]"},
			{.start = 0x7ffffffde000, .end = 0x7ffffffff000, .path = "[stack]"},
		};
		_cleanup_process_space_ struct process_space *space = space_make(maps, 3);
		space->heap_start = 0x4c0000;
		space->heap_end = 0x600000;
		uint64_t at = process_space_find_room(space, 0x400000, 0x4c0000, reach, size, 1ul << 31);
		assert_true(at >= 65536 && at + size <= 0x400000);
		at = process_space_find_room(space, 0x400000, 0x4c0000, reach, 8 << 20, 1ul << 31);
		assert_true(at > space->heap_end + (512 << 20) && at + (8 << 20) <= 1ul << 31);
		space->heap_end = 0x7f000000;
		assert_int_equal(
			process_space_find_room(space, 0x400000, 0x4c0000, reach, 8 << 20, 1ul << 31), 0);
	}
	{ // Nothing free in reach.
		const struct process_map maps[] = {
			{.start = 0x10000, .end = 0x7ffffffff000, .path = ""},
		};
		_cleanup_process_space_ struct process_space *space = space_make(maps, 1);
		assert_int_equal(process_space_find_room(space, 0x400000, 0x500000, reach, size, 0), 0);
	}
	{ // 10,000 mappings with a page between, and one hole that fits.
		struct process_map *maps = xcalloc(10000, sizeof(*maps));
		for (uint64_t i = 0; i < 10000; i++)
			maps[i] = (struct process_map){
				.start = 0x7f0000000000 + i * 0x3000 + (i > 4000 ? size : 0),
				.end = 0x7f0000000000 + i * 0x3000 + 0x2000 + (i > 4000 ? size : 0),
				.path = ""};
		_cleanup_process_space_ struct process_space *space = space_make(maps, 10000);
		uint64_t at = process_space_find_room(space, maps[5000].start, maps[5000].end, 0x1000000 * 1,
						      size, 0);
		assert_true(at && is_free(space, at, size));
		assert_int_equal(at, maps[4001].start - size);
		free(maps);
	}
}

static void test_hints(void **state)
{
	(void)state;
	pid_t pid = sleeper_start();
	_cleanup_process_ struct process *process = NULL;
	succeed(process_open(pid, &process));
	struct process_hints *hints = process_hints_create(process);
	process_hints_add(hints, pid, (uintptr_t)test_hints);
	process_hints_add(hints, 2000000000, (uintptr_t)test_hints); // nobody: no hint, no harm
	uint64_t start = monotonic_ns();
	process_hints_wait(hints, UINT64_MAX, 20000000);
	assert_true(monotonic_ns() - start >= 20000000);
	process_hints_wait(hints, monotonic_ns(), 10000000000); // past the deadline
	process_hints_free(hints);
	process_hints_free(NULL);
	sleeper_end(pid);
}

__attribute__((noinline)) static void hinted(void)
{
	__asm__ volatile("");
}

static void test_hint_fires(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			usleep(50000);
			hinted();
		}
	}
	_cleanup_process_ struct process *process = NULL;
	succeed(process_open(pid, &process));
	struct process_hints *hints = process_hints_create(process);
	process_hints_add(hints, pid, (uintptr_t)hinted);
	uint64_t start = monotonic_ns();
	process_hints_wait(hints, UINT64_MAX, 3000000000);
	uint64_t took = monotonic_ns() - start;
	process_hints_free(hints);
	assert_true(process_alive(process));
	usleep(120000);
	assert_true(process_alive(process)); // nothing is left behind that would kill it
	sleeper_end(pid);
	if (took >= 3000000000) {
		print_message("  skipped: perf breakpoints are not permitted here\n");
		skip();
	}
	assert_true(took < 1000000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),	  cmocka_unit_test(test_open_without_rights),
		cmocka_unit_test(test_list),	  cmocka_unit_test(test_space),
		cmocka_unit_test(test_replaced_file), cmocka_unit_test(test_memory),
		cmocka_unit_test(test_room),	  cmocka_unit_test(test_hints),
		cmocka_unit_test(test_hint_fires),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
