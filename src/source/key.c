// SPDX-License-Identifier: MIT
/*
 * The key of a plain build: a digest of all that it depends on, as far as that can be known before it
 * runs. Sources by content, the command, the compilers of PATH by name, size and time, and the
 * variables that build systems read; not the whole environment, which differs from shell to shell.
 */
#include <string.h>
#include <unistd.h>

#include "work.h"

extern char **environ;

// The tool that a name of PATH stands for, as far as a stat shows.
static void digest_tool(struct digest_state *state, const char *name)
{
	for (const char *entry = tool_path(); *entry;) {
		size_t size = strcspn(entry, ":");
		_cleanup_free_ char *file = xasprintf("%.*s/%s", (int)size, entry, name);
		_cleanup_free_ char *real = realpath(file, NULL);
		struct stat status;
		if (real && access(real, X_OK) == 0 && stat(real, &status) == 0) {
			digest_update_string(state, real);
			digest_update_u64(state, (uint64_t)status.st_size);
			digest_update_u64(state, (uint64_t)status.st_mtim.tv_sec);
			return;
		}
		entry += size + (entry[size] == ':');
	}
	digest_update_string(state, name);
}

// Variables that build systems and compilers read.
static bool variable_matters(const char *variable)
{
	static const char *const names[] = {
		"CC=",
		"CXX=",
		"CPP=",
		"LD=",
		"AR=",
		"AS=",
		"NM=",
		"RANLIB=",
		"CFLAGS=",
		"CXXFLAGS=",
		"CPPFLAGS=",
		"LDFLAGS=",
		"LDLIBS=",
		"LIBS=",
		"ARCH=",
		"CROSS_COMPILE=",
		"CPATH=",
		"C_INCLUDE_PATH=",
		"CPLUS_INCLUDE_PATH=",
		"LIBRARY_PATH=",
		"COMPILER_PATH=",
		"GCC_EXEC_PREFIX=",
		"PKG_CONFIG",
		"SOURCE_DATE_EPOCH=",
		"DEB_",
		"OPT=",
		"OPTIMIZATION=",
		"MALLOC=",
		"DESTDIR=",
		"CMAKE_",
		"KCFLAGS=",
		"KBUILD_",
	};
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (string_starts_with(variable, names[i]))
			return true;
	return false;
}

static int variable_compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void digest_environment(struct digest_state *state)
{
	VEC(char *) variables = {0};
	for (char **variable = environ; *variable; variable++)
		if (variable_matters(*variable))
			vec_push(&variables, *variable);
	if (variables.count)
		qsort(variables.items, variables.count, sizeof(char *), variable_compare);
	for (size_t i = 0; i < variables.count; i++)
		digest_update_string(state, variables.items[i]);
	vec_deinit(&variables);
}

struct error *digest_files(struct digest_state *state, const char *const *paths, size_t count)
{
	digest_update_u64(state, count);
	for (size_t i = 0; i < count; i++) {
		_cleanup_free_ char *bytes = NULL;
		size_t size;
		TRY(file_read(paths[i], &bytes, &size));
		digest_update_u64(state, size);
		digest_update(state, bytes, size);
	}
	return NULL;
}

struct error *work_find_key(struct work *work)
{
	static const char *const tools[] = {"gcc",   "cc",      "g++", "c++",
					    "clang", "clang++", "ld",  "as"};
	const struct source_options *options = work->options;
	struct digest_state state;
	digest_init(&state);
	digest_update_string(&state, "suture build " SUTURE_VERSION);
	struct digest masquerade;
	TRY(masquerade_digest(&masquerade));
	digest_update(&state, &masquerade, sizeof(masquerade));
	digest_update(&state, options->target_build_id.bytes, options->target_build_id.size);
	TRY(digest_files(&state, options->base_patches, options->base_patch_count));
	if (work->is_package) {
		digest_update_string(&state, work->package.source);
		digest_update_string(&state, work->package.source_version);
		digest_update_string(&state, work->package.codename);
		digest_update_string(&state, work->package.architecture);
		digest_update_string(&state, work->package.root_stamp);
	} else {
		progress_report(work->progress, "reading the tree", 0, 0);
		struct digest tree;
		TRY(tree_digest(work->cache, work->root, &tree, &work->newest));
		digest_update(&state, &tree, sizeof(tree));
		digest_update_string(&state, work->root);
		digest_update_u64(&state, options->command_count);
		for (size_t i = 0; i < options->command_count; i++)
			digest_update_string(&state, options->command[i]);
		digest_environment(&state);
		for (size_t i = 0; i < ARRAY_SIZE(tools); i++)
			digest_tool(&state, tools[i]);
	}
	work->key = digest_final(&state);
	return NULL;
}
