// SPDX-License-Identifier: MIT
/*
 * A distribution's own source package, built as the distribution builds it.
 *
 *   dpkg-query     which source, which version, the installed binary comes from
 *   clean root     mmdebstrap --variant=buildd, once per suite: compilers and nothing else
 *   layer on it    apt-get source and build-dep, then dpkg-buildpackage (build.c), once per version
 *
 * All of it happens in a root of its own with its own apt: nothing is installed on the machine, no
 * deb-src line is needed in its configuration, and no list of it is touched. What the root takes from
 * the machine is where packages come from: the entries of its apt sources that belong to its suite,
 * and proxies. The build path is the one of Debian's build machines (it enters debug information, and
 * so the build ID, where a package does not map it away).
 *
 * Versions of libraries in the root are today's. A package that was built against older headers, and
 * whose code shows it, differs from the shipped one in a few functions; comparing with the target
 * finds that out.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

const char package_masquerade_directory[] = "/.suture/bin";
const char package_records_directory[] = "/.suture/records";
static const char build_directory[] = "/build/reproducible-path";

extern char **environ;

// ---- asking the machine ------------------------------------------------------------------------------

// Names and versions go into shell commands: Debian policy 3.1.1 and 3.2 permit no more than this.
static bool is_package_word(const char *word)
{
	if (!isalnum((unsigned char)*word))
		return false;
	for (; *word; word++)
		if (!isalnum((unsigned char)*word) && !strchr("+-.:~", *word))
			return false;
	return true;
}

// Standard output of a shell command; false when it failed.
static bool capture(const char *command, struct buffer *ret)
{
	FILE *pipe = popen(command, "re");
	if (!pipe)
		return false;
	char bytes[4096];
	size_t got;
	while ((got = fread(bytes, 1, sizeof(bytes), pipe)) > 0)
		buffer_append(ret, bytes, got);
	return pclose(pipe) == 0 && ret->size;
}

// The next field up to a tab or line end; the text moves behind it.
static char *next_field(struct arena *arena, char **text)
{
	size_t size = strcspn(*text, "\t\n");
	char *field = arena_strndup(arena, *text, size);
	*text += size + ((*text)[size] != '\0');
	return field;
}

// "Source: NAME" or "Source: NAME (VERSION)" of a version that is not installed.
static struct error *find_other_version(struct arena *arena, const char *name, const char *version,
					struct package *ret)
{
	_cleanup_buffer_ struct buffer text = {0};
	_cleanup_free_ char *command =
		xasprintf("apt-cache show '%s=%s' 2>/dev/null", name, version);
	if (!capture(command, &text))
		return error_new(
			ERROR_KIND_NOT_FOUND,
			"apt knows no version '%s' of package '%s': see 'apt-cache policy %s'",
			version, name, name);
	ret->source = ret->name;
	ret->source_version = ret->version;
	const char *line = strstr(text.bytes, "\nSource: ");
	if (line) {
		line += strlen("\nSource: ");
		size_t size = strcspn(line, " \n");
		ret->source = arena_strndup(arena, line, size);
		if (line[size] == ' ' && line[size + 1] == '(')
			ret->source_version = arena_strndup(arena, line + size + 2,
							    strcspn(line + size + 2, ")\n"));
	}
	return NULL;
}

static struct error *find_installed(struct arena *arena, const char *name, struct package *ret)
{
	_cleanup_buffer_ struct buffer text = {0};
	_cleanup_free_ char *command = xasprintf(
		"dpkg-query -W -f '${db:Status-Status}\\t${Version}\\t${source:Package}\\t"
		"${source:Version}\\n' '%s' 2>/dev/null",
		name);
	if (!capture(command, &text) || !string_starts_with(text.bytes, "installed\t"))
		return error_new(ERROR_KIND_NOT_FOUND,
				 "package '%s' is not installed here, so its version is not known",
				 name);
	char *at = text.bytes;
	next_field(arena, &at);
	ret->version = next_field(arena, &at);
	ret->source = next_field(arena, &at);
	ret->source_version = next_field(arena, &at);
	return NULL;
}

struct error *package_find(struct arena *arena, const char *name, const char *version,
			   struct package *ret)
{
	if (!is_package_word(name) || (version && !is_package_word(version)))
		return error_new(ERROR_KIND_USAGE, "'%s' is not the name of a package",
				 version && is_package_word(name) ? version : name);
	_cleanup_buffer_ struct buffer text = {0};
	if (!capture("dpkg --print-architecture 2>/dev/null", &text))
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "this machine has no dpkg: build from a source tree with -s");
	char *at = text.bytes;
	struct package package = {.name = name, .version = version};
	package.architecture = next_field(arena, &at);

	buffer_deinit(&text);
	if (!capture(". /etc/os-release && echo \"$VERSION_CODENAME\"", &text) || text.size < 2)
		return error_new(ERROR_KIND_UNSUPPORTED,
				 "'/etc/os-release' names no suite (VERSION_CODENAME)");
	at = text.bytes;
	package.codename = next_field(arena, &at);

	if (version)
		TRY(find_other_version(arena, name, version, &package));
	else
		TRY(find_installed(arena, name, &package));
	if (!is_package_word(package.source) || !is_package_word(package.source_version) ||
	    !is_package_word(package.codename))
		return error_new(ERROR_KIND_INPUT, "package '%s' has no usable source name", name);
	*ret = package;
	return NULL;
}

// ---- apt sources ---------------------------------------------------------------------------------------

// Does a list of words hold the suite, or a part of it ("bookworm-security")?
static bool names_suite(const char *words, size_t size, const char *codename)
{
	_cleanup_free_ char *copy = xstrndup(words, size);
	size_t length = strlen(codename);
	for (char *save, *word = strtok_r(copy, " \t\n", &save); word;
	     word = strtok_r(NULL, " \t\n", &save))
		if (strncmp(word, codename, length) == 0 &&
		    (word[length] == '\0' || word[length] == '-' || word[length] == '/'))
			return true;
	return false;
}

// One paragraph of a .sources file (deb822), with "deb deb-src" for its types.
static void add_paragraph(const char *text, size_t size, const char *codename, struct buffer *ret)
{
	_cleanup_buffer_ struct buffer out = {0};
	bool binary = false, suite = false, enabled = true;
	for (size_t at = 0; at < size;) {
		const char *line = text + at;
		const char *end = memchr(line, '\n', size - at);
		size_t length = end ? (size_t)(end - line) + 1 : size - at;
		at += length;
		if (line[0] == '#')
			continue;
		if (strncasecmp(line, "Types:", 6) == 0) {
			_cleanup_free_ char *types = xstrndup(line + 6, length - 6);
			for (char *save, *word = strtok_r(types, " \t\n", &save); word;
			     word = strtok_r(NULL, " \t\n", &save))
				binary = binary || string_equal(word, "deb");
			buffer_puts(&out, "Types: deb deb-src\n");
			continue;
		}
		if (strncasecmp(line, "Suites:", 7) == 0)
			suite = names_suite(line + 7, length - 7, codename);
		if (strncasecmp(line, "Enabled:", 8) == 0)
			enabled = strncasecmp(line + 8 + strspn(line + 8, " \t"), "no", 2) != 0;
		buffer_append(&out, line, length);
	}
	if (!binary || !suite || !enabled)
		return;
	buffer_append(ret, out.bytes, out.size);
	buffer_puts(ret, "\n");
}

static void add_deb822(const char *text, const char *codename, struct buffer *ret)
{
	while (*text) {
		const char *end = strstr(text, "\n\n");
		size_t size = end ? (size_t)(end - text) + 1 : strlen(text);
		add_paragraph(text, size, codename, ret);
		text += size;
		text += strspn(text, "\n");
	}
}

// "deb [options] URI SUITE COMPONENT..." as a paragraph of the other form.
static void add_one_line(const char *text, const char *codename, struct buffer *ret)
{
	_cleanup_free_ char *copy = xstrdup(text);
	for (char *save, *line = strtok_r(copy, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		line += strspn(line, " \t");
		if (strncmp(line, "deb", 3) != 0 || !strchr(" \t[", line[3]))
			continue;
		line += 3 + strspn(line + 3, " \t");
		_cleanup_free_ char *signer = NULL;
		if (*line == '[') {
			char *end = strchr(line, ']');
			char *key = strstr(line, "signed-by=");
			if (!end)
				continue;
			if (key && key < end)
				signer = xstrndup(key + 10, strcspn(key + 10, " \t]"));
			line = end + 1;
		}
		char *inner;
		const char *uri = strtok_r(line, " \t", &inner);
		const char *suite = strtok_r(NULL, " \t", &inner);
		if (!uri || !suite || !names_suite(suite, strlen(suite), codename))
			continue;
		buffer_printf(ret, "Types: deb deb-src\nURIs: %s\nSuites: %s\nComponents:", uri,
			      suite);
		for (const char *part; (part = strtok_r(NULL, " \t", &inner)) && *part != '#';)
			buffer_printf(ret, " %s", part);
		buffer_puts(ret, "\n");
		if (signer)
			buffer_printf(ret, "Signed-By: %s\n", signer);
		buffer_puts(ret, "\n");
	}
}

static void add_source_file(const char *path, const char *codename, struct buffer *ret)
{
	_cleanup_free_ char *text = NULL;
	size_t size;
	_cleanup_error_ struct error *absent = file_read(path, &text, &size);
	if (absent)
		return;
	if (string_ends_with(path, ".sources"))
		add_deb822(text, codename, ret);
	else if (string_ends_with(path, ".list"))
		add_one_line(text, codename, ret);
}

static struct error *machine_sources(const char *codename, struct buffer *ret)
{
	static const char parts[] = "/etc/apt/sources.list.d";
	add_source_file("/etc/apt/sources.list", codename, ret);
	DIR *folder = opendir(parts);
	struct dirent *entry;
	while (folder && (entry = readdir(folder))) {
		_cleanup_free_ char *path = xasprintf("%s/%s", parts, entry->d_name);
		add_source_file(path, codename, ret);
	}
	if (folder)
		closedir(folder);
	if (!ret->size)
		return error_new(
			ERROR_KIND_NOT_FOUND,
			"the machine's apt sources (/etc/apt) have no entry for suite '%s'",
			codename);
	return NULL;
}

// ---- the clean root ----------------------------------------------------------------------------------------

// One command outside of any root, in a mount namespace so that what it mounts goes with it.
static struct error *run_logged(const char *const *words, const char *log_path, const char *what)
{
	_cleanup_close_ int log =
		open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
	if (log < 0)
		return error_errno(errno, "cannot write '%s'", log_path);
	pid_t pid = fork();
	if (pid == 0) {
		int input = open("/dev/null", O_RDONLY);
		dup2(input, 0);
		dup2(log, 1);
		dup2(log, 2);
		execvp(words[0], (char *const *)words);
		_exit(127);
	}
	if (pid < 0)
		return error_errno(errno, "cannot start a process");
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_errno(errno, "cannot wait for a process");
	return status ? build_failed(what, status, log_path) : NULL;
}

static struct error *make_root(const char *root, const char *sources, const char *log,
			       const struct package *package)
{
	if (geteuid() != 0)
		return error_new(ERROR_KIND_PERMISSION,
				 "a clean build root for --package can only be made by root");
	_cleanup_buffer_ struct buffer found = {0};
	if (!capture("command -v mmdebstrap", &found))
		return error_new(ERROR_KIND_NOT_FOUND,
				 "mmdebstrap is not installed: apt-get install mmdebstrap");
	_cleanup_buffer_ struct buffer text = {0}, options = {0};
	TRY(machine_sources(package->codename, &text));
	TRY(file_write_atomic(sources, text.bytes, text.size, 0644));
	// Settings of the machine's apt that decide whether packages can be had at all.
	_cleanup_free_ char *options_path = xasprintf("%s.conf", root);
	capture("apt-config dump | grep -Ei '^Acquire::(.*proxy|Check-|Retries|ForceIPv4|By-Hash)'",
		&options);
	buffer_puts(&options, "Acquire::Languages \"none\";\n");
	TRY(file_write_atomic(options_path, options.bytes, options.size, 0644));
	_cleanup_free_ char *apt_options = xasprintf("--aptopt=%s", options_path);
	_cleanup_free_ char *architecture = xasprintf("--architectures=%s", package->architecture);
	const char *const words[] = {
		"unshare",    "-m",          "--propagation",    "private",
		"mmdebstrap", "--mode=root", "--variant=buildd", "--skip=check/empty",
		apt_options,  architecture,  package->codename,  root,
		sources,      NULL};
	return run_logged(words, log, "making a clean build root by mmdebstrap");
}

struct error *package_root(struct arena *arena, const char *cache, struct package *package,
			   const struct progress *progress, const char **ret)
{
	const char *folder = arena_printf(arena, "%s/roots", cache);
	const char *root =
		arena_printf(arena, "%s/%s-%s", folder, package->codename, package->architecture);
	const char *mark = arena_printf(arena, "%s.complete", root);
	TRY(directory_create_all(folder));
	_cleanup_close_ int lock = -1;
	TRY(cache_lock(arena_printf(arena, "%s.lock", root), progress, &lock));
	if (!path_exists(mark)) {
		progress_report(progress, "clean build root", 0, 0);
		TRY(tree_remove(root));
		TRY(directory_create_all(root));
		TRY(make_root(root, arena_printf(arena, "%s.sources", root),
			      arena_printf(arena, "%s.log", root), package));
		// Layers are only valid on the root that they were made on.
		struct timespec now;
		clock_gettime(CLOCK_REALTIME, &now);
		_cleanup_free_ char *stamp =
			xasprintf("%lld.%09ld\n", (long long)now.tv_sec, now.tv_nsec);
		TRY(file_write_atomic(mark, stamp, strlen(stamp), 0666));
	}
	_cleanup_free_ char *stamp = NULL;
	size_t size;
	TRY(file_read(mark, &stamp, &size));
	package->root_stamp = arena_strdup(arena, stamp);
	*ret = root;
	return NULL;
}

char **package_environment(struct arena *arena, unsigned jobs, bool masquerade)
{
	static const char *const fixed[] = {
		"HOME=/root",       "USER=root", "LOGNAME=root", "SHELL=/bin/sh",
		"LC_ALL=C.UTF-8",   "TZ=UTC",    "TERM=dumb",    "DEBIAN_FRONTEND=noninteractive",
		"CCACHE_DISABLE=1",
	};
	static const char *const passed[] = {"http_proxy", "https_proxy", "no_proxy"};
	char **environment = arena_array(arena, 32, sizeof(char *));
	size_t count = 0;
	for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
		environment[count++] = (char *)fixed[i];
	environment[count++] = arena_printf(
		arena, "PATH=%s%s/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		masquerade ? package_masquerade_directory : "", masquerade ? ":" : "");
	environment[count++] =
		arena_printf(arena, "DEB_BUILD_OPTIONS=nocheck parallel=%u", jobs ? jobs : 1);
	if (masquerade)
		environment[count++] =
			arena_printf(arena, "SUTURE_RECORDS=%s", package_records_directory);
	for (size_t i = 0; !masquerade && i < ARRAY_SIZE(passed); i++)
		if (getenv(passed[i]))
			environment[count++] =
				arena_printf(arena, "%s=%s", passed[i], getenv(passed[i]));
	return environment;
}

// ---- the package's layer -------------------------------------------------------------------------------------

// What the root needs of the machine to reach the network, and that no service starts in it.
static struct error *furnish(struct arena *arena, const char *upper)
{
	static const char *const files[] = {"/etc/resolv.conf", "/etc/hosts"};
	static const char policy[] = "#!/bin/sh\nexit 101\n";
	TRY(directory_create_all(arena_printf(arena, "%s/etc", upper)));
	TRY(directory_create_all(arena_printf(arena, "%s/usr/sbin", upper)));
	TRY(directory_create_all(arena_printf(arena, "%s%s", upper, build_directory)));
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *bytes = NULL;
		size_t size;
		_cleanup_error_ struct error *absent = file_read(files[i], &bytes, &size);
		if (!absent)
			TRY(file_write_atomic(arena_printf(arena, "%s%s", upper, files[i]), bytes,
					      size, 0644));
	}
	return file_write_atomic(arena_printf(arena, "%s/usr/sbin/policy-rc.d", upper), policy,
				 strlen(policy), 0755);
}

struct error *package_locate(struct arena *arena, struct package *package, const struct tree *tree)
{
	_cleanup_free_ char *path = xasprintf("%s%s", tree->upper, build_directory);
	DIR *folder = opendir(path);
	if (!folder)
		return error_errno(errno, "cannot read directory '%s'", path);
	struct dirent *entry;
	package->directory = NULL;
	while ((entry = readdir(folder))) {
		struct stat status;
		if (entry->d_name[0] != '.' &&
		    fstatat(dirfd(folder), entry->d_name, &status, 0) == 0 &&
		    S_ISDIR(status.st_mode))
			package->directory =
				arena_printf(arena, "%s/%s", build_directory, entry->d_name);
	}
	closedir(folder);
	if (!package->directory)
		return error_new(ERROR_KIND_NOT_FOUND,
				 "the source of '%s' was unpacked nowhere in '%s'", package->source,
				 path);
	return NULL;
}

struct error *package_prepare(struct arena *arena, struct package *package, const struct tree *tree,
			      const char *log_path, const struct progress *progress)
{
	TRY(directory_create_all(tree->upper));
	TRY(furnish(arena, tree->upper));
	const char *which = arena_printf(arena, "%s=%s", package->source, package->source_version);
	const struct {
		const char *stage, *directory;
		const char *words[7];
	} steps[] = {
		{"package lists", "/", {"apt-get", "-q", "update"}},
		{"package source", build_directory, {"apt-get", "-q", "source", which}},
		{"build root's updates", "/", {"apt-get", "-q", "-y", "dist-upgrade"}},
		{"build dependencies",
		 "/",
		 {"apt-get", "-q", "-y", "--no-install-recommends", "build-dep", which}},
	};
	_cleanup_close_ int log =
		open(log_path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0666);
	if (log < 0)
		return error_errno(errno, "cannot write '%s'", log_path);
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		progress_report(progress, steps[i].stage, i, ARRAY_SIZE(steps));
		struct job job = {
			.directory = steps[i].directory,
			.program = steps[i].words[0],
			.words = (char *const *)steps[i].words,
			.environment = package_environment(arena, 1, false),
			.log = log,
		};
		struct jobs jobs = {&job, 1, 1};
		struct tree_session *session;
		_cleanup_buffer_ struct buffer reply = {0};
		TRY(tree_start(tree, jobs_run, &jobs, &session));
		TRY(tree_finish(session, NULL, NULL, &reply));
		jobs_take_reply(&jobs, &reply);
		if (job.status == 0)
			continue;
		_cleanup_free_ char *what = xasprintf("%s of '%s %s'", steps[i].stage,
						      package->source, package->source_version);
		struct error *error = build_failed(what, job.status, log_path);
		// Old versions leave the archive, and some of its mirrors have no sources of updates.
		if (i == 1 && error->kind == ERROR_KIND_BUILD) {
			error->kind = ERROR_KIND_NOT_FOUND;
			error = error_prefix(error,
					     "the source of the installed '%s %s' cannot be had",
					     package->name, package->version);
		}
		return error;
	}
	return package_locate(arena, package, tree);
}
