// SPDX-License-Identifier: MIT
/*
 * Distribution packages: not there yet; the tree path needs the names.
 */
#include "internal.h"

const char package_masquerade_directory[] = "/.suture/bin";
const char package_records_directory[] = "/.suture/records";

static struct error *not_yet(void)
{
	return error_new(ERROR_KIND_UNSUPPORTED, "--package is not there yet");
}

struct error *package_find(struct arena *arena, const char *name, const char *version,
			   struct package *ret)
{
	(void)arena, (void)name, (void)version, (void)ret;
	return not_yet();
}

struct error *package_root(struct arena *arena, const char *cache, const struct package *package,
			   const struct progress *progress, const char **ret)
{
	(void)arena, (void)cache, (void)package, (void)progress, (void)ret;
	return not_yet();
}

struct error *package_prepare(struct arena *arena, struct package *package,
			      const struct tree *tree, const char *log,
			      const struct progress *progress)
{
	(void)arena, (void)package, (void)tree, (void)log, (void)progress;
	return not_yet();
}

struct error *package_locate(struct arena *arena, struct package *package, const struct tree *tree)
{
	(void)arena, (void)package, (void)tree;
	return not_yet();
}

char **package_environment(struct arena *arena, unsigned jobs, bool masquerade)
{
	(void)jobs, (void)masquerade;
	return arena_array(arena, 1, sizeof(char *));
}
