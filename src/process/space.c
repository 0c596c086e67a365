/* SPDX-License-Identifier: MIT */
/*
 * The address space: mappings, the linked files among them, and free room.
 *
 * A module is told by its ELF header in memory, not by its name: a file may be mapped as data (then
 * nothing of it is executable where its program headers say code should be), replaced on disk, or lie
 * in another mount namespace. Its build ID comes from the note in memory, so it is that of the code
 * that runs.
 */
#include "process/private.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	PAGE = 4096,
	PROGRAM_HEADERS_MAX = 128, // vmlinux has 5, Chrome 12
	NOTES_MAX = 65536,
};

static bool map_parse(struct arena *arena, char *line, struct process_map *ret)
{
	unsigned long start, end, offset, inode;
	unsigned major, minor;
	char flags[5];
	int name = 0;
	if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &start, &end, flags, &offset, &major, &minor,
		   &inode, &name) < 7)
		return false;
	*ret = (struct process_map){
		.start = start,
		.end = end,
		.protection = (flags[0] == 'r' ? PROT_READ : 0) | (flags[1] == 'w' ? PROT_WRITE : 0) |
			      (flags[2] == 'x' ? PROT_EXEC : 0),
		.shared = flags[3] == 's',
		.offset = offset,
		.device = (uint64_t)major << 32 | minor,
		.inode = inode,
		.path = arena_strdup(arena, name ? line + name : ""),
	};
	return start < end;
}

/* Values of the auxiliary vector that say what the kernel started. */
struct start_up {
	uint64_t program_headers, loader, vdso;
};

static struct start_up start_up_read(struct process *process)
{
	struct start_up start = {0};
	_cleanup_free_ char *bytes = NULL;
	size_t size = 0;
	struct error *error = file_read_at(process->directory, "auxv", &bytes, &size);
	error_free(error);
	for (size_t i = 0; bytes && i + 16 <= size; i += 16) {
		uint64_t pair[2];
		memcpy(pair, bytes + i, sizeof(pair));
		if (pair[0] == AT_PHDR)
			start.program_headers = pair[1];
		else if (pair[0] == AT_BASE)
			start.loader = pair[1];
		else if (pair[0] == AT_SYSINFO_EHDR)
			start.vdso = pair[1];
	}
	return start;
}

static void build_id_find(struct process *process, uint64_t address, uint64_t size, uint64_t align,
			  struct build_id *ret)
{
	if (size > NOTES_MAX)
		return;
	_cleanup_free_ uint8_t *notes = xmalloc(size + 1);
	if (process_memory_read_some(process, address, notes, size) != size)
		return;
	for (uint64_t at = 0; at + sizeof(Elf64_Nhdr) <= size;) {
		Elf64_Nhdr note;
		memcpy(&note, notes + at, sizeof(note));
		uint64_t name = at + sizeof(note);
		uint64_t content = align_up(name + note.n_namesz, align);
		if (!range_within(name, note.n_namesz, size) ||
		    !range_within(content, note.n_descsz, size))
			return;
		if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
		    memcmp(notes + name, "GNU", 4) == 0 && note.n_descsz &&
		    note.n_descsz <= sizeof(ret->bytes)) {
			memcpy(ret->bytes, notes + content, note.n_descsz);
			ret->size = note.n_descsz;
			return;
		}
		at = align_up(content + note.n_descsz, align);
	}
}

/* Is there an executable mapping in [start, end)? */
static bool has_code(const struct process_space *space, uint64_t start, uint64_t end)
{
	for (size_t i = 0; i < space->maps.count; i++) {
		const struct process_map *map = &space->maps.items[i];
		if (map->start < end && map->end > start && map->protection & PROT_EXEC)
			return true;
	}
	return false;
}

static bool module_read(struct process *process, struct process_space *space,
			const struct process_map *map, struct process_module *ret)
{
	Elf64_Ehdr header;
	if (process_memory_read_some(process, map->start, &header, sizeof(header)) != sizeof(header) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
	    header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
	    (header.e_type != ET_DYN && header.e_type != ET_EXEC) ||
	    header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum == 0 ||
	    header.e_phnum > PROGRAM_HEADERS_MAX || header.e_phoff > (1 << 20))
		return false;
	Elf64_Phdr segments[PROGRAM_HEADERS_MAX];
	size_t size = header.e_phnum * sizeof(*segments);
	if (process_memory_read_some(process, map->start + header.e_phoff, segments, size) != size)
		return false;

	uint64_t low = UINT64_MAX, high = 0, first = UINT64_MAX;
	for (size_t i = 0; i < header.e_phnum; i++) {
		const Elf64_Phdr *segment = &segments[i];
		uint64_t end;
		if (segment->p_type != PT_LOAD)
			continue;
		if (!checked_add(segment->p_vaddr, segment->p_memsz, &end) || end > 1ul << 47)
			return false;
		if (segment->p_offset < PAGE && first == UINT64_MAX)
			first = segment->p_vaddr & ~(uint64_t)(PAGE - 1);
		if (segment->p_vaddr < low)
			low = segment->p_vaddr & ~(uint64_t)(PAGE - 1);
		if (end > high)
			high = end;
	}
	if (first == UINT64_MAX)
		return false;
	struct process_module module = {
		.bias = map->start - first,
		.start = map->start - first + low,
		.end = align_up(map->start - first + high, PAGE),
		.vdso = string_equal(map->path, "[vdso]"),
		.map_start = map->start,
		.map_end = map->end,
	};
	bool code = false;
	for (size_t i = 0; i < header.e_phnum; i++) {
		const Elf64_Phdr *segment = &segments[i];
		uint64_t address = module.bias + segment->p_vaddr;
		if (segment->p_type == PT_LOAD && segment->p_flags & PF_X)
			code |= has_code(space, address, address + segment->p_memsz);
		else if (segment->p_type == PT_DYNAMIC)
			module.dynamic = address;
		else if (segment->p_type == PT_NOTE && !module.build_id.size)
			build_id_find(process, address, segment->p_filesz,
				      segment->p_align == 8 ? 8 : 4, &module.build_id);
	}
	if (!code)
		return false;
	static const char gone[] = " (deleted)";
	char *path = arena_strdup(space->arena, map->path);
	if (string_ends_with(path, gone)) {
		path[strlen(path) - strlen(gone)] = '\0';
		module.deleted = true;
	}
	module.path = path;
	module.name = path_basename(path);
	*ret = module;
	return true;
}

static uint64_t stack_limit_read(struct process *process)
{
	// "Max stack size             8388608              unlimited            bytes"
	char limits[4096];
	if (proc_read(process->directory, "limits", limits, sizeof(limits)) > 0) {
		const char *line = strstr(limits, "Max stack size");
		if (line) {
			line += strlen("Max stack size");
			line += strspn(line, " ");
			if (*line >= '0' && *line <= '9')
				return strtoull(line, NULL, 10);
			return UINT64_MAX;
		}
	}
	return 8 << 20;
}

struct error *process_space_read(struct process *process, struct process_space **ret)
{
	_cleanup_free_ char *text = NULL;
	size_t size = 0;
	TRY(error_prefix(file_read_at(process->directory, "maps", &text, &size),
			 "maps of process %d", process->pid));
	if (size == 0)
		return error_new(ERROR_KIND_NOT_FOUND, "process %d (%s) has no memory any more",
				 process->pid, process->name);
	struct arena *arena = arena_create();
	struct process_space *space = arena_new(arena, struct process_space);
	space->arena = arena;
	for (char *save, *line = strtok_r(text, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		struct process_map map;
		if (map_parse(arena, line, &map) && map.start < 1ul << 47)
			vec_push(&space->maps, map);
	}

	struct task_stat stat;
	if (task_stat_read(process->directory, "stat", &stat))
		space->heap_start = space->heap_end = stat.start_brk;
	space->stack_limit = stack_limit_read(process);
	struct start_up start = start_up_read(process);
	uint64_t seen = 0;
	for (size_t i = 0; i < space->maps.count; i++) {
		const struct process_map *map = &space->maps.items[i];
		if (string_equal(map->path, "[heap]") && map->end > space->heap_end)
			space->heap_end = map->end;
		bool named = map->path[0] == '/' || string_equal(map->path, "[vdso]");
		struct process_module module;
		// A file's data segment may begin on the page of its header too.
		if (!named || map->offset || map->start < seen || !(map->protection & PROT_READ) ||
		    !module_read(process, space, map, &module))
			continue;
		module.main = start.program_headers >= module.start &&
			      start.program_headers < module.end;
		module.loader = start.loader && start.loader == map->start;
		seen = module.end;
		vec_push(&space->modules, module);
	}
	*ret = space;
	return NULL;
}

void process_space_free(struct process_space *space)
{
	if (!space)
		return;
	vec_deinit(&space->maps);
	vec_deinit(&space->modules);
	arena_free(space->arena);
}

void process_space_cleanup(struct process_space **space)
{
	process_space_free(*space);
}

const struct process_map *process_map_at(const struct process_space *space, uint64_t address)
{
	size_t low = 0, high = space->maps.count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (space->maps.items[middle].end <= address)
			low = middle + 1;
		else
			high = middle;
	}
	if (low < space->maps.count && space->maps.items[low].start <= address)
		return &space->maps.items[low];
	return NULL;
}

const struct process_module *process_module_at(const struct process_space *space, uint64_t address)
{
	for (size_t i = 0; i < space->modules.count; i++) {
		const struct process_module *module = &space->modules.items[i];
		if (address >= module->start && address < module->end)
			return module;
	}
	return NULL;
}

const struct process_module *process_module_find(const struct process_space *space,
						 const struct build_id *build_id)
{
	for (size_t i = 0; i < space->modules.count; i++)
		if (space->modules.items[i].build_id.size &&
		    build_id_equal(&space->modules.items[i].build_id, build_id))
			return &space->modules.items[i];
	return NULL;
}

struct error *process_module_file(struct process *process, const struct process_module *module,
				  char **ret)
{
	if (module->vdso)
		return error_new(ERROR_KIND_NOT_FOUND, "the vdso of process %d has no file",
				 process->pid);
	// The mapped file itself, whatever its name is now; wants CAP_CHECKPOINT_RESTORE or
	// CAP_SYS_ADMIN.
	_cleanup_free_ char *mapped = xasprintf("/proc/%d/map_files/%lx-%lx", process->pid,
						(unsigned long)module->map_start,
						(unsigned long)module->map_end);
	int fd = open(mapped, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		close(fd);
		*ret = take_ptr(mapped);
		return NULL;
	}
	int errnum = errno;
	if (!module->deleted) {
		_cleanup_free_ char *named = xasprintf("/proc/%d/root%s", process->pid, module->path);
		fd = open(named, O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			close(fd);
			*ret = take_ptr(named);
			return NULL;
		}
		errnum = errno;
	}
	return error_errno(errnum, "the file of \"%s\" in process %d%s", module->path, process->pid,
			   module->deleted ? " (replaced on disk; its mapped content needs "
					     "CAP_CHECKPOINT_RESTORE)"
					   : "");
}

/* ---- room --------------------------------------------------------------------------------- */

/* brk() fails for ever once something stands in its way, and malloc then turns to mmap at best. */
static const uint64_t heap_reserves[] = {1ul << 30, 256ul << 20, 64ul << 20};
/* The kernel keeps stack_guard_gap (256 pages) free below a stack; 4 pages more for our conscience. */
static const uint64_t stack_gap = 260 * PAGE;
/* With an unlimited stack the kernel lays mappings out upwards; this much is left to the stack. */
static const uint64_t stack_reserve_max = 1ul << 30;

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* A place of @size bytes in [from, to) within [low, high): its highest or its lowest, or 0. */
static uint64_t place_in_gap(uint64_t from, uint64_t to, uint64_t low, uint64_t high, uint64_t size,
			     bool highest)
{
	from = align_up(from < low ? low : from, PAGE);
	to = (to > high ? high : to) & ~(uint64_t)(PAGE - 1);
	if (to <= from || to - from < size)
		return 0;
	return highest ? to - size : from;
}

static uint64_t address_minimum(void)
{
	char text[32];
	uint64_t minimum = 65536;
	if (proc_read(AT_FDCWD, "/proc/sys/vm/mmap_min_addr", text, sizeof(text)) > 0)
		minimum = align_up(strtoull(text, NULL, 10), PAGE);
	// Never the first page: NULL dereferences must go on to fault.
	return minimum < 65536 ? 65536 : minimum;
}

uint64_t process_space_find_room(const struct process_space *space, uint64_t near_start,
				 uint64_t near_end, uint64_t reach, uint64_t size, uint64_t limit)
{
	uint64_t low = address_minimum(), high = (1ul << 47) - PAGE;
	uint64_t reach_high;
	if (size == 0 || near_end < near_start)
		return 0;
	size = align_up(size, PAGE);
	if (near_end > reach && near_end - reach > low)
		low = near_end - reach;
	if (checked_add(near_start, reach, &reach_high) && reach_high < high)
		high = reach_high;
	if (limit && limit < high)
		high = limit;

	for (size_t r = 0; r < ARRAY_SIZE(heap_reserves); r++) {
		uint64_t heap_low = space->heap_start;
		uint64_t heap_high = space->heap_start ? space->heap_end + heap_reserves[r] : 0;
		uint64_t below = 0, above = 0, inside = 0; // the nearest on either side, any at all
		uint64_t from = 0;
		for (size_t i = 0; i <= space->maps.count; i++) {
			bool last = i == space->maps.count;
			uint64_t to = last ? 1ul << 47 : space->maps.items[i].start;
			if (!last && string_equal(space->maps.items[i].path, "[stack]")) {
				uint64_t grown = min(space->stack_limit, stack_reserve_max);
				uint64_t end = space->maps.items[i].end;
				to = min(to, end > grown + stack_gap ? end - grown - stack_gap : 0);
			}
			// The heap's zone cuts a gap in up to two pieces.
			uint64_t pieces[2][2] = {{from, to}, {0, 0}};
			if (heap_high > from && heap_low < to) {
				pieces[0][1] = heap_low > from ? heap_low : from;
				pieces[1][0] = heap_high;
				pieces[1][1] = to;
			}
			for (size_t p = 0; p < 2; p++) {
				uint64_t start = pieces[p][0], end = pieces[p][1];
				uint64_t at = place_in_gap(start, end, low, min(high, near_start), size,
							   true);
				if (at > below)
					below = at;
				if (!above)
					above = place_in_gap(start, end, max(low, near_end), high, size,
							     false);
				if (!inside)
					inside = place_in_gap(start, end, low, high, size, true);
			}
			if (!last)
				from = space->maps.items[i].end;
		}
		// The nearer of the two; below an executable there is no brk to meet.
		if (below && (!above || near_start - below <= above - near_end + (64ul << 20)))
			return below;
		if (above || inside)
			return above ? above : inside;
	}
	return 0;
}
