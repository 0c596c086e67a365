/* SPDX-License-Identifier: MIT */
/*
 * What a name means to a module of the process: lookup as ld.so does it, from outside.
 *
 * The surest answer is one that ld.so gave already: a slot of the module's own GOT for the same name,
 * if it is filled. It knows interposition, copy relocations, versions and which variant an ifunc
 * chose. A slot that still points back into the module's PLT is waiting for its first call and says
 * nothing.
 *
 * Otherwise the module's scope is searched: the program's list of start-up (main program, preloaded
 * libraries, then its DT_NEEDED breadth first, which is the order of r_debug's list), then, for a
 * module that came by dlopen(), itself and its own DT_NEEDED.
 *
 * The resolver of an ifunc is never called: what it chose stands in an IRELATIVE slot of the module
 * that defines it, or in a slot of some other module that imports the name.
 *
 * Link maps, dynamic sections, hash tables and relocations are read from the process's memory, which
 * the program can write: every count is bounded, every read may fail, and a cycle ends.
 */
#include <elf.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include "live/private.h"

enum {
	MAPS_MAX = 4096,
	DYNAMIC_MAX = 512,
	STRINGS_MAX = 64 << 20,
	CHAIN_MAX = 4096,
	VERSIONS_MAX = 1024,
	RELOCATIONS_MAX = 4 << 20,
};

/** One entry of the loader's list. Addresses in memory. */
struct link_object {
	const char *path;
	const struct process_module *module;
	uint64_t bias, dynamic;
	uint64_t symtab, strtab, strtab_size, gnu_hash, hash, versym, verdef, verdef_count;
	uint64_t rela, rela_size, jmprel, jmprel_size;
	bool symbolic;
	char *strings; /* of strtab, NUL-terminated; read at first use */
	const char *soname;
	VEC(const char *) needed;
	bool in_closure, searched;
	VEC(struct relocation_row) relocations;
	bool relocations_read;
	struct {
		uint16_t index;
		const char *name;
	} * versions;
	size_t version_count;
	bool versions_read;
};

struct relocation_row {
	uint64_t address; /* in memory */
	uint32_t type;
	int64_t addend;
	uint32_t symbol;
	const char *name; /* "" for none */
};

struct scope {
	struct arena *arena;
	struct process *process;
	const struct process_space *space;
	const struct process_module *module;
	const struct image *image;
	VEC(struct link_object *) objects; /* in the loader's order */
	size_t global_count;               /* of them, the first ones are the start-up list */
	struct link_object *self;          /* of the module, or NULL */
};

static bool load(struct scope *scope, uint64_t address, void *bytes, size_t size)
{
	return process_memory_read_some(scope->process, address, bytes, size) == size;
}

static bool load_u64(struct scope *scope, uint64_t address, uint64_t *ret)
{
	return load(scope, address, ret, sizeof(*ret));
}

static bool is_code(const struct scope *scope, uint64_t address)
{
	const struct process_map *map = process_map_at(scope->space, address);
	return map && map->protection & PROT_EXEC;
}

/* ---- the loader's list -------------------------------------------------------------------- */

static const char *object_string(struct scope *scope, struct link_object *object, uint64_t offset)
{
	if (!object->strings) {
		if (object->strtab_size > STRINGS_MAX)
			object->strtab_size = 0;
		object->strings = arena_alloc(scope->arena, object->strtab_size + 1);
		object->strtab_size = process_memory_read_some(
			scope->process, object->strtab, object->strings, object->strtab_size);
	}
	return offset < object->strtab_size ? object->strings + offset : "";
}

/* ld.so adds the bias to these words in place where the section is writable; musl never does. */
static uint64_t dynamic_pointer(const struct link_object *object, uint64_t value)
{
	const struct process_module *module = object->module;
	return module && value >= module->start && value < module->end ? value
								       : value + object->bias;
}

static void object_read_dynamic(struct scope *scope, struct link_object *object)
{
	uint64_t soname = 0;
	VEC(uint64_t) needed = {0};
	for (size_t i = 0; i < DYNAMIC_MAX; i++) {
		Elf64_Dyn entry;
		if (!load(scope, object->dynamic + i * sizeof(entry), &entry, sizeof(entry)) ||
		    entry.d_tag == DT_NULL)
			break;
		uint64_t value = entry.d_un.d_val, pointer = dynamic_pointer(object, value);
		switch (entry.d_tag) {
		case DT_SYMTAB:
			object->symtab = pointer;
			break;
		case DT_STRTAB:
			object->strtab = pointer;
			break;
		case DT_STRSZ:
			object->strtab_size = value;
			break;
		case DT_GNU_HASH:
			object->gnu_hash = pointer;
			break;
		case DT_HASH:
			object->hash = pointer;
			break;
		case DT_VERSYM:
			object->versym = pointer;
			break;
		case DT_VERDEF:
			object->verdef = pointer;
			break;
		case DT_VERDEFNUM:
			object->verdef_count = value;
			break;
		case DT_RELA:
			object->rela = pointer;
			break;
		case DT_RELASZ:
			object->rela_size = value;
			break;
		case DT_JMPREL:
			object->jmprel = pointer;
			break;
		case DT_PLTRELSZ:
			object->jmprel_size = value;
			break;
		case DT_SYMBOLIC:
			object->symbolic = true;
			break;
		case DT_FLAGS:
			object->symbolic |= (value & DF_SYMBOLIC) != 0;
			break;
		case DT_SONAME:
			soname = value;
			break;
		case DT_NEEDED:
			vec_push(&needed, value);
			break;
		}
	}
	if (soname)
		object->soname = object_string(scope, object, soname);
	for (size_t i = 0; i < needed.count; i++)
		vec_push(&object->needed, object_string(scope, object, needed.items[i]));
	vec_deinit(&needed);
}

static bool object_is_named(const struct link_object *object, const char *name)
{
	return (object->soname && string_equal(object->soname, name)) ||
	       string_equal(path_basename(object->path), path_basename(name));
}

static void closure_mark(struct scope *scope, struct link_object *object)
{
	if (object->in_closure)
		return;
	object->in_closure = true;
	for (size_t n = 0; n < object->needed.count; n++)
		for (size_t i = 0; i < scope->objects.count; i++)
			if (object_is_named(scope->objects.items[i], object->needed.items[n])) {
				closure_mark(scope, scope->objects.items[i]);
				break;
			}
}

static const struct process_module *main_module(const struct process_space *space)
{
	for (size_t i = 0; i < space->modules.count; i++)
		if (space->modules.items[i].main)
			return &space->modules.items[i];
	return NULL;
}

static void read_list(struct scope *scope, uint64_t map)
{
	struct {
		uint64_t bias, name, dynamic, next, previous;
	} entry; // struct link_map of <link.h>
	for (size_t i = 0; map && i < MAPS_MAX; i++, map = entry.next) {
		if (!load(scope, map, &entry, sizeof(entry)))
			break;
		struct link_object *object = arena_new(scope->arena, struct link_object);
		object->bias = entry.bias;
		object->dynamic = entry.dynamic;
		object->module = process_module_at(scope->space, entry.dynamic);
		object->path = object->module ? object->module->path : "";
		// ld.so never searches the vdso by a program's names.
		if (!object->module || object->module->vdso)
			continue;
		object_read_dynamic(scope, object);
		vec_push(&scope->objects, object);
		if (object->module == scope->module)
			scope->self = object;
	}
}

struct error *scope_create(struct process *process, const struct process_space *space,
			   const struct process_module *module, const struct image *image,
			   struct scope **ret)
{
	struct arena *arena = arena_create();
	struct scope *scope = arena_new(arena, struct scope);
	scope->arena = arena;
	scope->process = process;
	scope->space = space;
	scope->module = module;
	scope->image = image;
	*ret = scope;

	const struct process_module *program = main_module(space);
	uint64_t debug = 0;
	for (size_t i = 0; program && program->dynamic && i < DYNAMIC_MAX; i++) {
		Elf64_Dyn entry;
		if (!load(scope, program->dynamic + i * sizeof(entry), &entry, sizeof(entry)) ||
		    entry.d_tag == DT_NULL)
			break;
		if (entry.d_tag == DT_DEBUG)
			debug = entry.d_un.d_val;
	}
	// struct r_debug: int r_version, link_map *r_map, ...
	uint64_t first;
	if (debug && load_u64(scope, debug + 8, &first))
		read_list(scope, first);
	if (scope->objects.count)
		closure_mark(scope, scope->objects.items[0]);
	for (size_t i = 0; i < scope->objects.count; i++)
		if (scope->objects.items[i]->in_closure)
			scope->global_count = i + 1;
	return NULL;
}

void scope_free(struct scope *scope)
{
	if (!scope)
		return;
	for (size_t i = 0; i < scope->objects.count; i++) {
		vec_deinit(&scope->objects.items[i]->needed);
		vec_deinit(&scope->objects.items[i]->relocations);
	}
	vec_deinit(&scope->objects);
	arena_free(scope->arena);
}

/* ---- one object --------------------------------------------------------------------------- */

static void read_versions(struct scope *scope, struct link_object *object)
{
	object->versions_read = true;
	if (!object->verdef || object->verdef_count == 0 || object->verdef_count > VERSIONS_MAX)
		return;
	object->versions =
		arena_array(scope->arena, object->verdef_count, sizeof(*object->versions));
	uint64_t at = object->verdef;
	for (size_t i = 0; i < object->verdef_count; i++) {
		Elf64_Verdef definition;
		Elf64_Verdaux name;
		if (!load(scope, at, &definition, sizeof(definition)) ||
		    !load(scope, at + definition.vd_aux, &name, sizeof(name)))
			return;
		object->versions[i].index = definition.vd_ndx;
		object->versions[i].name = object_string(scope, object, name.vda_name);
		object->version_count = i + 1;
		if (definition.vd_next == 0)
			return;
		at += definition.vd_next;
	}
}

/** Does symbol @index of the object carry @version (NULL: the default one)? */
static bool version_fits(struct scope *scope, struct link_object *object, uint32_t index,
			 const char *version)
{
	uint16_t entry;
	if (!object->versym || !load(scope, object->versym + 2ul * index, &entry, sizeof(entry)))
		return true;
	// An object without definitions of its own fits every version, as in ld.so's do_lookup_x().
	if (!object->versions_read)
		read_versions(scope, object);
	if (object->version_count == 0)
		return true;
	if (!version)
		return !(entry & 0x8000);
	for (size_t i = 0; i < object->version_count; i++)
		if (object->versions[i].index == (entry & 0x7fff))
			return string_equal(object->versions[i].name, version);
	return false;
}

static bool symbol_fits(struct scope *scope, struct link_object *object, uint32_t index,
			const char *name, const char *version, Elf64_Sym *ret)
{
	if (!load(scope, object->symtab + (uint64_t)index * sizeof(*ret), ret, sizeof(*ret)) ||
	    !string_equal(object_string(scope, object, ret->st_name), name))
		return false;
	unsigned type = ELF64_ST_TYPE(ret->st_info), bind = ELF64_ST_BIND(ret->st_info);
	if (bind != STB_GLOBAL && bind != STB_WEAK && bind != STB_GNU_UNIQUE)
		return false;
	// An undefined function with a value is the address that a program at fixed addresses gave it.
	if (ret->st_shndx == SHN_UNDEF && (type != STT_FUNC || ret->st_value == 0))
		return false;
	if (ret->st_value == 0 && ret->st_shndx != SHN_ABS && type != STT_TLS)
		return false;
	return version_fits(scope, object, index, version);
}

static uint32_t gnu_hash(const char *name)
{
	uint32_t hash = 5381;
	for (const unsigned char *c = (const unsigned char *)name; *c; c++)
		hash = hash * 33 + *c;
	return hash;
}

static uint32_t sysv_hash(const char *name)
{
	uint32_t hash = 0;
	for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
		hash = (hash << 4) + *c;
		hash ^= (hash >> 24) & 0xf0;
	}
	return hash & 0x0fffffff;
}

static bool lookup_gnu(struct scope *scope, struct link_object *object, const char *name,
		       const char *version, Elf64_Sym *ret)
{
	uint32_t header[4]; // buckets, first symbol, bloom words, bloom shift
	if (!load(scope, object->gnu_hash, header, sizeof(header)) || header[0] == 0 ||
	    header[2] == 0)
		return false;
	uint32_t hash = gnu_hash(name), index;
	uint64_t bloom;
	if (!load_u64(scope, object->gnu_hash + 16 + 8ul * (hash / 64 % header[2]), &bloom) ||
	    !(bloom >> (hash % 64) & bloom >> ((hash >> (header[3] & 31)) % 64) & 1))
		return false;
	uint64_t buckets = object->gnu_hash + 16 + 8ul * header[2];
	uint64_t chains = buckets + 4ul * header[0];
	if (!load(scope, buckets + 4ul * (hash % header[0]), &index, sizeof(index)) ||
	    index < header[1])
		return false;
	for (size_t i = 0; i < CHAIN_MAX; i++, index++) {
		uint32_t chain;
		if (!load(scope, chains + 4ul * (index - header[1]), &chain, sizeof(chain)))
			return false;
		if ((chain | 1) == (hash | 1) &&
		    symbol_fits(scope, object, index, name, version, ret))
			return true;
		if (chain & 1)
			return false;
	}
	return false;
}

static bool lookup_sysv(struct scope *scope, struct link_object *object, const char *name,
			const char *version, Elf64_Sym *ret)
{
	uint32_t header[2]; // buckets, chains
	if (!load(scope, object->hash, header, sizeof(header)) || header[0] == 0)
		return false;
	uint32_t index;
	uint64_t at = object->hash + 8 + 4ul * (sysv_hash(name) % header[0]);
	for (size_t i = 0; i < CHAIN_MAX; i++) {
		if (!load(scope, at, &index, sizeof(index)) || index == 0 || index >= header[1])
			return false;
		if (symbol_fits(scope, object, index, name, version, ret))
			return true;
		at = object->hash + 8 + 4ul * header[0] + 4ul * index;
	}
	return false;
}

static bool object_lookup(struct scope *scope, struct link_object *object, const char *name,
			  const char *version, Elf64_Sym *ret)
{
	if (!object->symtab || !object->strtab)
		return false;
	return object->gnu_hash ? lookup_gnu(scope, object, name, version, ret)
	       : object->hash   ? lookup_sysv(scope, object, name, version, ret)
				: false;
}

static void read_relocation_table(struct scope *scope, struct link_object *object, uint64_t table,
				  uint64_t size)
{
	size_t count = size / sizeof(Elf64_Rela);
	if (!table || count > RELOCATIONS_MAX)
		return;
	_cleanup_free_ Elf64_Rela *rows = xmalloc(count * sizeof(*rows));
	count = process_memory_read_some(scope->process, table, rows, count * sizeof(*rows)) /
		sizeof(*rows);
	for (size_t i = 0; i < count; i++) {
		uint32_t type = ELF64_R_TYPE(rows[i].r_info), index = ELF64_R_SYM(rows[i].r_info);
		Elf64_Sym symbol;
		if (type == scope->image->arch->relocation_relative_dynamic)
			continue;
		const char *name = "";
		if (index && load(scope, object->symtab + (uint64_t)index * sizeof(symbol), &symbol,
				  sizeof(symbol)))
			name = object_string(scope, object, symbol.st_name);
		vec_push(&object->relocations,
			 (struct relocation_row){object->bias + rows[i].r_offset, type,
						 rows[i].r_addend, index, name});
	}
}

/** All but RELATIVE ones, named. */
static void read_relocations(struct scope *scope, struct link_object *object)
{
	if (object->relocations_read)
		return;
	object->relocations_read = true;
	read_relocation_table(scope, object, object->rela, object->rela_size);
	// bfd counts .rela.plt in DT_RELASZ in no file of today, others have.
	if (object->jmprel < object->rela || object->jmprel >= object->rela + object->rela_size)
		read_relocation_table(scope, object, object->jmprel, object->jmprel_size);
}

/* ---- the module's own slots --------------------------------------------------------------- */

static bool is_symbol_slot(const struct arch *arch, uint32_t type)
{
	return type == arch->relocation_glob_dat || type == arch->relocation_jump_slot ||
	       type == arch->relocation_absolute64;
}

/** What ld.so put into a slot of the module for that name. @ret_lazy: it has not yet. */
static bool own_slot(struct scope *scope, const char *name, const char *version, uint64_t *ret,
		     bool *ret_lazy, bool *ret_zero)
{
	const struct image *image = scope->image;
	const struct arch *arch = image->arch;
	for (size_t i = 0; i < image->relocations.count; i++) {
		const struct image_relocation *row = &image->relocations.items[i];
		uint64_t value;
		if (!is_symbol_slot(arch, row->type) || !string_equal(row->symbol, name) ||
		    (version && row->version && !string_equal(version, row->version)) ||
		    (row->type == arch->relocation_absolute64 && row->addend != 0) ||
		    !load_u64(scope, scope->module->bias + row->address, &value))
			continue;
		if (value == 0) {
			*ret_zero = true;
			continue;
		}
		bool inside = value >= scope->module->start && value < scope->module->end;
		if (row->type == arch->relocation_jump_slot && inside &&
		    (!row->symbol_defined ||
		     image_area_at(image, value - scope->module->bias) == IMAGE_AREA_PLT)) {
			*ret_lazy = true;
			continue;
		}
		// A program may have overwritten it; then it is no answer of ld.so's.
		if (!process_map_at(scope->space, value))
			continue;
		*ret = value;
		return true;
	}
	return false;
}

/** The module's PLT entry for an import, or 0. */
static uint64_t own_plt_entry(struct scope *scope, const char *name)
{
	const uint64_t(*ranges)[2];
	size_t count = image_text_ranges(scope->image, &ranges);
	for (size_t r = 0; r < count; r++)
		for (uint64_t at = ranges[r][0]; at < ranges[r][1]; at += 8) {
			if (image_area_at(scope->image, at) != IMAGE_AREA_PLT)
				continue;
			const struct image_relocation *row = image_plt_target(scope->image, at);
			if (row && string_equal(row->symbol, name))
				return scope->module->bias + at;
		}
	return 0;
}

/* ---- ifuncs ------------------------------------------------------------------------------- */

bool scope_ifunc(struct scope *scope, uint64_t resolver, uint64_t *ret)
{
	const struct image *image = scope->image;
	for (size_t i = 0; i < image->relocations.count; i++) {
		const struct image_relocation *row = &image->relocations.items[i];
		uint64_t value;
		if (row->type == image->arch->relocation_irelative &&
		    scope->module->bias + (uint64_t)row->addend == resolver &&
		    load_u64(scope, scope->module->bias + row->address, &value) &&
		    value != resolver && is_code(scope, value)) {
			*ret = value;
			return true;
		}
	}
	return false;
}

/** What an ifunc of @object resolved to: its own IRELATIVE slots, then everybody's slots. */
static bool resolved_ifunc(struct scope *scope, struct link_object *object, const Elf64_Sym *symbol,
			   const char *name, uint64_t *ret)
{
	const struct arch *arch = scope->image->arch;
	uint64_t resolver = object->bias + symbol->st_value;
	read_relocations(scope, object);
	for (size_t i = 0; i < object->relocations.count; i++) {
		const struct relocation_row *row = &object->relocations.items[i];
		if (row->type == arch->relocation_irelative &&
		    object->bias + (uint64_t)row->addend == resolver &&
		    load_u64(scope, row->address, ret) && *ret != resolver && is_code(scope, *ret))
			return true;
	}
	for (size_t o = 0; o < scope->objects.count; o++) {
		struct link_object *other = scope->objects.items[o];
		read_relocations(scope, other);
		for (size_t i = 0; i < other->relocations.count; i++) {
			const struct relocation_row *row = &other->relocations.items[i];
			if (!is_symbol_slot(arch, row->type) || row->addend != 0 ||
			    !string_equal(row->name, name) || !load_u64(scope, row->address, ret))
				continue;
			// The variant lies in the module that defines the ifunc; a PLT entry does not.
			if (*ret != resolver && object->module && *ret >= object->module->start &&
			    *ret < object->module->end && is_code(scope, *ret) && other != object)
				return true;
		}
	}
	return false;
}

/* ---- lookup ------------------------------------------------------------------------------- */

static bool lookup_in(struct scope *scope, struct link_object *object, const char *name,
		      const char *version, bool tls, Elf64_Sym *ret,
		      struct link_object **ret_object)
{
	object->searched = true;
	if (!object_lookup(scope, object, name, version, ret) ||
	    (ELF64_ST_TYPE(ret->st_info) == STT_TLS) != tls)
		return false;
	*ret_object = object;
	return true;
}

/** The module's own closure, breadth first: the local scope of what dlopen() brought. */
static bool lookup_local(struct scope *scope, const char *name, const char *version, bool tls,
			 Elf64_Sym *ret, struct link_object **ret_object)
{
	VEC(struct link_object *) queue = {0};
	bool found = false;
	vec_push(&queue, scope->self);
	for (size_t q = 0; q < queue.count && !found; q++) {
		struct link_object *object = queue.items[q];
		found = lookup_in(scope, object, name, version, tls, ret, ret_object);
		for (size_t n = 0; n < object->needed.count; n++)
			for (size_t i = 0; i < scope->objects.count; i++) {
				struct link_object *other = scope->objects.items[i];
				bool queued = false;
				if (!object_is_named(other, object->needed.items[n]))
					continue;
				for (size_t k = 0; k < queue.count; k++)
					queued |= queue.items[k] == other;
				if (!queued)
					vec_push(&queue, other);
				break;
			}
	}
	vec_deinit(&queue);
	return found;
}

static bool lookup(struct scope *scope, const char *name, const char *version, bool tls,
		   Elf64_Sym *ret, struct link_object **ret_object)
{
	if (scope->self && scope->self->symbolic &&
	    lookup_in(scope, scope->self, name, version, tls, ret, ret_object))
		return true;
	for (size_t i = 0; i < scope->global_count; i++)
		if (lookup_in(scope, scope->objects.items[i], name, version, tls, ret, ret_object))
			return true;
	return scope->self && lookup_local(scope, name, version, tls, ret, ret_object);
}

/** A program without a loader has only its own symbols. */
static bool lookup_image(struct scope *scope, const char *name, uint64_t *ret, bool *ret_ifunc)
{
	const struct image_symbol **symbols;
	size_t count = image_symbols_named(scope->image, name, &symbols);
	for (size_t i = 0; i < count; i++) {
		if (symbols[i]->bind == STB_LOCAL || symbols[i]->type == STT_TLS)
			continue;
		*ret = scope->module->bias + symbols[i]->address;
		*ret_ifunc = symbols[i]->type == STT_GNU_IFUNC;
		return true;
	}
	return false;
}

static void describe(struct scope *scope, const char *name, const char *version, uint64_t address,
		     struct scope_symbol *ret)
{
	const struct process_map *map = process_map_at(scope->space, address);
	Elf64_Sym symbol;
	struct link_object *object;
	*ret = (struct scope_symbol){
		.address = address,
		.is_function = map && map->protection & PROT_EXEC,
		.is_constant = map && map->protection == PROT_READ,
	};
	if (!ret->is_function && lookup(scope, name, version, false, &symbol, &object) &&
	    object->bias + symbol.st_value == address)
		ret->size = symbol.st_size;
}

struct error *scope_lookup(struct scope *scope, const char *name, const char *version, bool weak,
			   struct scope_symbol *ret)
{
	uint64_t value = 0;
	bool lazy = false, zero = false, ifunc = false;
	if (own_slot(scope, name, version, &value, &lazy, &zero)) {
		describe(scope, name, version, value, ret);
		return NULL;
	}
	Elf64_Sym symbol;
	struct link_object *object;
	if (lookup(scope, name, version, false, &symbol, &object)) {
		value = symbol.st_shndx == SHN_ABS ? symbol.st_value
						   : object->bias + symbol.st_value;
		ifunc = ELF64_ST_TYPE(symbol.st_info) == STT_GNU_IFUNC;
		if (ifunc && resolved_ifunc(scope, object, &symbol, name, &value))
			ifunc = false;
	} else if (scope->objects.count == 0 && lookup_image(scope, name, &value, &ifunc)) {
		if (ifunc && scope_ifunc(scope, value, &value))
			ifunc = false;
	}
	if (value && !ifunc) {
		describe(scope, name, version, value, ret);
		return NULL;
	}
	if (lazy && (value = own_plt_entry(scope, name)) != 0) {
		*ret = (struct scope_symbol){.address = value, .is_function = true};
		return NULL;
	}
	if (ifunc)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "\"%s\" is an ifunc that nothing in the process has resolved yet",
				 name);
	if (weak) {
		*ret = (struct scope_symbol){0};
		return NULL;
	}
	return error_new(
		ERROR_KIND_NOT_FOUND,
		"the patch needs \"%s%s%s\", and nothing in the scope of \"%s\" defines it", name,
		version ? "@" : "", version ? version : "", scope->module->name);
}

/* ---- thread-local variables --------------------------------------------------------------- */

bool scope_tls_offset(struct scope *scope, uint64_t offset, int64_t *ret)
{
	const struct image *image = scope->image;
	if (scope->module->main) {
		// psABI 3.4.6, variant II: the program's block ends at the thread pointer.
		if (image->tls_memory_size == 0)
			return false;
		uint64_t align = image->tls_align ? image->tls_align : 1;
		*ret = (int64_t)(offset - align_up(image->tls_memory_size, align));
		return true;
	}
	for (size_t i = 0; i < image->relocations.count; i++) {
		const struct image_relocation *row = &image->relocations.items[i];
		uint64_t value, at = scope->module->bias + row->address;
		if ((row->symbol[0] && !row->symbol_defined) ||
		    (row->type != image->arch->relocation_tpoff &&
		     row->type != image->arch->relocation_tlsdesc))
			continue;
		// A descriptor of static form holds the offset as its argument, which is negative; of
		// dynamic form, a pointer.
		if (row->type == image->arch->relocation_tlsdesc)
			at += 8;
		if (!load_u64(scope, at, &value) || (int64_t)value >= 0)
			continue;
		*ret = (int64_t)(value - row->symbol_value - (uint64_t)row->addend + offset);
		return true;
	}
	return false;
}

enum { TLS_MODULE_MAX = 65536 };

bool scope_tls_module(struct scope *scope, uint64_t *ret)
{
	const struct image *image = scope->image;
	if (image->tls_memory_size == 0)
		return false;
	if (scope->module->main) {
		*ret = 1; // the program is the first one that has a block
		return true;
	}
	for (size_t i = 0; i < image->relocations.count; i++) {
		const struct image_relocation *row = &image->relocations.items[i];
		uint64_t value;
		if (row->type == image->arch->relocation_dtpmod &&
		    (!row->symbol[0] || row->symbol_defined) &&
		    load_u64(scope, scope->module->bias + row->address, &value) && value > 0 &&
		    value < TLS_MODULE_MAX) {
			*ret = value;
			return true;
		}
	}
	return false;
}

/** Offset from the thread pointer of @object's block, from a slot that holds one of its symbols. */
static bool object_tls_offset(struct scope *scope, struct link_object *object, int64_t *ret)
{
	const struct arch *arch = scope->image->arch;
	read_relocations(scope, object);
	for (size_t i = 0; i < object->relocations.count; i++) {
		const struct relocation_row *row = &object->relocations.items[i];
		Elf64_Sym symbol = {0};
		uint64_t value;
		if (row->type != arch->relocation_tpoff || !load_u64(scope, row->address, &value) ||
		    (int64_t)value >= 0)
			continue;
		if (row->symbol &&
		    (!load(scope, object->symtab + (uint64_t)row->symbol * sizeof(symbol), &symbol,
			   sizeof(symbol)) ||
		     symbol.st_shndx == SHN_UNDEF))
			continue;
		*ret = (int64_t)(value - symbol.st_value - (uint64_t)row->addend);
		return true;
	}
	return false;
}

static bool object_tls_module(struct scope *scope, struct link_object *object, uint64_t *ret)
{
	const struct arch *arch = scope->image->arch;
	read_relocations(scope, object);
	for (size_t i = 0; i < object->relocations.count; i++) {
		const struct relocation_row *row = &object->relocations.items[i];
		Elf64_Sym symbol = {0};
		if (row->type != arch->relocation_dtpmod || !load_u64(scope, row->address, ret) ||
		    *ret == 0 || *ret >= TLS_MODULE_MAX)
			continue;
		if (!row->symbol ||
		    (load(scope, object->symtab + (uint64_t)row->symbol * sizeof(symbol), &symbol,
			  sizeof(symbol)) &&
		     symbol.st_shndx != SHN_UNDEF))
			return true;
	}
	return false;
}

struct error *scope_tls_import(struct scope *scope, const char *name, const char *version,
			       bool *ret_has_offset, int64_t *ret_offset, bool *ret_has_pair,
			       uint64_t ret_pair[2])
{
	const struct image *image = scope->image;
	const struct arch *arch = image->arch;
	*ret_has_offset = *ret_has_pair = false;
	for (size_t i = 0; i < image->relocations.count; i++) {
		const struct image_relocation *row = &image->relocations.items[i];
		uint64_t at = scope->module->bias + row->address, pair[2];
		if (!string_equal(row->symbol, name) || row->addend != 0)
			continue;
		if (row->type == arch->relocation_tpoff && load(scope, at, ret_offset, 8))
			*ret_has_offset = true;
		if (row->type == arch->relocation_dtpmod && load(scope, at, pair, sizeof(pair)) &&
		    pair[0] > 0 && pair[0] < TLS_MODULE_MAX) {
			memcpy(ret_pair, pair, sizeof(pair));
			*ret_has_pair = true;
		}
	}
	Elf64_Sym symbol;
	struct link_object *object;
	if ((!*ret_has_offset || !*ret_has_pair) &&
	    lookup(scope, name, version, true, &symbol, &object)) {
		int64_t base;
		if (!*ret_has_offset && object->module == scope->module)
			*ret_has_offset = scope_tls_offset(scope, symbol.st_value, ret_offset);
		else if (!*ret_has_offset && object_tls_offset(scope, object, &base)) {
			*ret_offset = base + (int64_t)symbol.st_value;
			*ret_has_offset = true;
		}
		bool known = object->module == scope->module ? scope_tls_module(scope, &ret_pair[0])
			     : object->module && object->module->main
				     ? (ret_pair[0] = 1, true)
				     : object_tls_module(scope, object, &ret_pair[0]);
		if (!*ret_has_pair && known) {
			ret_pair[1] = symbol.st_value;
			*ret_has_pair = true;
		}
	}
	if (!*ret_has_offset && !*ret_has_pair)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "nothing in the process tells where the thread-local variable "
				 "\"%s\" of another module lies",
				 name);
	return NULL;
}

bool scope_tls_descriptor(struct scope *scope, const char *name, uint64_t offset, uint64_t ret[2])
{
	const struct image *image = scope->image;
	for (size_t i = 0; i < image->relocations.count; i++) {
		const struct image_relocation *row = &image->relocations.items[i];
		if (row->type != image->arch->relocation_tlsdesc)
			continue;
		bool same = name ? string_equal(row->symbol, name) && row->addend == 0
				 : (!row->symbol[0] || row->symbol_defined) &&
					    row->symbol_value + (uint64_t)row->addend == offset;
		// glibc resolves them at load time since 2.34, so the two words can be copied.
		if (same && load(scope, scope->module->bias + row->address, ret, 16) &&
		    is_code(scope, ret[0]))
			return true;
	}
	return false;
}

/* ---- coroutines --------------------------------------------------------------------------- */

const char *scope_coroutine_import(struct scope *scope)
{
	static const char *const names[] = {"makecontext", "swapcontext", "setcontext"};
	struct link_object *const objects[] = {
		scope->self, scope->objects.count ? scope->objects.items[0] : NULL};
	for (size_t o = 0; o < ARRAY_SIZE(objects); o++) {
		if (!objects[o])
			continue;
		read_relocations(scope, objects[o]);
		for (size_t i = 0; i < objects[o]->relocations.count; i++)
			for (size_t n = 0; n < ARRAY_SIZE(names); n++)
				if (string_equal(objects[o]->relocations.items[i].name, names[n]))
					return names[n];
	}
	// A static program links them only when it uses them.
	for (size_t n = 0; scope->objects.count == 0 && n < ARRAY_SIZE(names); n++) {
		const struct image_symbol **symbols;
		if (image_symbols_named(scope->image, names[n], &symbols))
			return names[n];
	}
	return NULL;
}
