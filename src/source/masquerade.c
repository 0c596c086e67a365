// SPDX-License-Identifier: MIT
/*
 * The masquerade: it stands under the name of every compiler, linker and archiver in a directory in
 * front of PATH, runs the real tool, and leaves one record of what was run.
 *
 *     PATH=MASQUERADE:/usr/bin:...   SUTURE_RECORDS=DIR   make
 *     gcc -O2 -c a.c  ->  MASQUERADE/gcc  ->  /usr/bin/gcc -O2 -c a.c,  DIR/0000…-4711
 *
 * The tool gets its arguments, environment, directory and descriptors as they came, with two
 * exceptions in the environment: PATH without our directory, no SUTURE_RECORDS, so that what it calls by itself
 * (collect2, ld, a ccache in between) is not recorded a second time, and DEPENDENCIES_OUTPUT, by
 * which gcc lists the headers it reads without a word in its command line. (-MD would do the same,
 * but several sources in one command would overwrite each other's list. clang does not know the
 * variable and gets -MD -MF, which leaves no trace in its objects.) A command that writes
 * dependencies by itself keeps doing so and we read its file before a makefile moves it away.
 *
 * make and ninja are recorded too, the outermost ones, so that the second build can begin with them
 * and not with the ./configure that stood before them. They keep our directory in PATH, of course.
 *
 * A record is complete when its name appears (rename). Its form: see write_record(). A command that
 * could not be recorded fails, and with it the build: an unrecorded compile would be a changed
 * function that nobody misses.
 *
 * Static, with nothing but libc: it starts some thousand times in a build, and inside a clean build
 * root that has none of our libraries.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arguments.h"

extern char **environ;

static _Noreturn void die(const char *what, const char *subject)
{
	fprintf(stderr, "suture: %s '%s': %s\n", what, subject, strerror(errno));
	_exit(127);
}

static void *allocate(size_t size)
{
	void *memory = malloc(size);
	if (!memory)
		die("out of memory for", "a record");
	return memory;
}

static char *join(const char *a, const char *b, const char *c)
{
	char *text = allocate(strlen(a) + strlen(b) + strlen(c) + 1);
	strcpy(text, a);
	strcat(text, b);
	return strcat(text, c);
}

struct words {
	char **items;
	size_t count, capacity;
};

static void words_push(struct words *words, char *word)
{
	if (words->count + 1 >= words->capacity) {
		words->capacity = words->capacity ? 2 * words->capacity : 64;
		words->items = realloc(words->items, words->capacity * sizeof(char *));
		if (!words->items)
			die("out of memory for", "a record");
	}
	words->items[words->count++] = word;
	words->items[words->count] = NULL;
}

static char *read_whole(const char *path, size_t *ret_size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	size_t size = 0, capacity = 65536;
	char *bytes = allocate(capacity + 1);
	ssize_t got;
	while ((got = read(fd, bytes + size, capacity - size)) > 0) {
		size += (size_t)got;
		if (size == capacity) {
			capacity *= 2;
			bytes = realloc(bytes, capacity + 1);
			if (!bytes)
				die("out of memory for", path);
		}
	}
	close(fd);
	bytes[size] = '\0';
	*ret_size = size;
	return got < 0 ? NULL : bytes;
}

// Response files are gone by the time that a command is repeated, so records hold their words: split
// at white space, with quotes and backslashes, as in libiberty's expandargv().
static void expand(struct words *words, char *word, unsigned depth)
{
	size_t size;
	char *text = word[0] == '@' && depth < 16 ? read_whole(word + 1, &size) : NULL;
	if (!text) {
		words_push(words, word);
		return;
	}
	char *in = text;
	for (;;) {
		while (*in && strchr(" \t\n\r\f\v", *in))
			in++;
		if (!*in)
			break;
		char *start = allocate(strlen(in) + 1), *out = start;
		char quote = 0;
		for (; *in && (quote || !strchr(" \t\n\r\f\v", *in)); in++) {
			if (*in == '\\' && in[1])
				*out++ = *++in;
			else if (quote && *in == quote)
				quote = 0;
			else if (!quote && (*in == '\'' || *in == '"'))
				quote = *in;
			else
				*out++ = *in;
		}
		*out = '\0';
		expand(words, start, depth + 1);
	}
	free(text);
}

struct tool {
	char *name;    // as its path says: what a repetition runs
	char *program; // the file to run now: the same, or where it lies while we are in its place
	char *path;    // PATH without our directory
};

/*
 * In the build's mount namespace the masquerade also lies on top of the compilers themselves, so
 * that a configured tree, whose makefiles call "/usr/bin/cc", is seen as well. The covered file is
 * $SUTURE_COVERED/NAME then, NAME being that of the file that all links lead to.
 */
static char *covered_file(const char *path, const struct stat *self)
{
	const char *directory = getenv("SUTURE_COVERED");
	char real[PATH_MAX];
	struct stat status;
	if (!directory || !realpath(path, real))
		return NULL;
	char *file = join(directory, strrchr(real, '/'), "");
	if (stat(file, &status) == 0 &&
	    (status.st_dev != self->st_dev || status.st_ino != self->st_ino))
		return file;
	free(file);
	return NULL;
}

// What the name stands for: the next one in PATH that is not this program.
static bool find_tool(const char *called, const char *name, struct tool *ret)
{
	struct stat self, status;
	if (stat("/proc/self/exe", &self) < 0)
		die("cannot read", "/proc/self/exe");
	const char *path = getenv("PATH");
	if (!path)
		path = "/usr/local/bin:/usr/bin:/bin";
	*ret = (struct tool){.path = allocate(strlen(path) + 1)};
	if (called[0] == '/') {
		ret->program = covered_file(called, &self);
		ret->name = (char *)called;
	}
	char *rest = ret->path;
	rest[0] = '\0';
	for (const char *entry = path; entry;) {
		const char *end = strchr(entry, ':');
		size_t size = end ? (size_t)(end - entry) : strlen(entry);
		char *directory = allocate(size + 2);
		memcpy(directory, entry, size);
		directory[size] = '\0';
		if (size == 0)
			strcpy(directory, ".");
		char *file = join(directory, "/", name);
		bool ours = false;
		if (stat(file, &status) == 0 && S_ISREG(status.st_mode) &&
		    access(file, X_OK) == 0) {
			char *program = file;
			if (status.st_dev == self.st_dev && status.st_ino == self.st_ino) {
				program = covered_file(file, &self);
				ours = !program;
			}
			if (!ours && !ret->program) {
				ret->program = program;
				ret->name = file;
			}
		}
		if (!ours) {
			if (rest[0])
				strcat(rest, ":");
			strcat(rest, directory);
		}
		entry = end ? end + 1 : NULL;
	}
	return ret->program != NULL;
}

static bool resolved_is_clang(const char *tool)
{
	char real[PATH_MAX];
	const char *path = realpath(tool, real) ? real : tool;
	const char *slash = strrchr(path, '/');
	return strstr(slash ? slash : path, "clang") != NULL;
}

static uint64_t now_nanoseconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void put(FILE *file, char tag, const void *bytes, size_t size)
{
	uint32_t length = (uint32_t)size;
	uint8_t head[5] = {(uint8_t)tag, (uint8_t)length, (uint8_t)(length >> 8),
			   (uint8_t)(length >> 16), (uint8_t)(length >> 24)};
	fwrite(head, 1, sizeof(head), file);
	fwrite(bytes, 1, size, file);
}

static void put_string(FILE *file, char tag, const char *string)
{
	put(file, tag, string, strlen(string));
}

struct record {
	const char *directory;
	char *id;
	const char *cwd, *name, *tool, *path;
	struct words words;
	char *dependencies;
	size_t dependencies_size;
	uint64_t start;
};

/*
 * "suture-record 1\n", then fields: a tag of one byte, the length in four (little endian), bytes.
 * d directory, n name called by, t resolved tool, b begin and f finish (nanoseconds of
 * CLOCK_MONOTONIC, decimal), s exit status (decimal), a one argument (argv[0] included, response files expanded), e one
 * variable of the environment, m dependencies in makefile form; z ends it.
 */
static void write_record(const struct record *record, int status)
{
	char *temporary = join(record->directory, "/.", record->id);
	char *final = join(record->directory, "/", record->id);
	FILE *file = fopen(temporary, "we");
	if (!file)
		die("cannot write the record", temporary);
	char number[32];
	fputs("suture-record 1\n", file);
	put_string(file, 'd', record->cwd);
	put_string(file, 'n', record->name);
	put_string(file, 't', record->tool);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)record->start);
	put_string(file, 'b', number);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)now_nanoseconds());
	put_string(file, 'f', number);
	snprintf(number, sizeof(number), "%d", status);
	put_string(file, 's', number);
	for (size_t i = 0; i < record->words.count; i++)
		put_string(file, 'a', record->words.items[i]);
	for (char **variable = environ; *variable; variable++)
		if (!argument_starts(*variable, "SUTURE_") && !argument_starts(*variable, "PATH="))
			put_string(file, 'e', *variable);
	put_string(file, 'e', record->path);
	if (record->dependencies)
		put(file, 'm', record->dependencies, record->dependencies_size);
	put(file, 'z', "", 0);
	bool failed = ferror(file);
	if (fclose(file) != 0 || failed || rename(temporary, final) < 0) {
		int error = errno;
		unlink(temporary);
		errno = error;
		die("cannot write the record", final);
	}
}

// The file into which the command itself writes its dependencies: gcc(1), -MD.
static char *own_dependency_file(const struct arguments *arguments)
{
	if (arguments->dependency_file)
		return strndup(arguments->dependency_file, arguments->dependency_file_size);
	const char *from = arguments->output ? arguments->output : arguments->first_source;
	if (!from)
		return NULL;
	if (!arguments->output && strrchr(from, '/'))
		from = strrchr(from, '/') + 1;
	char *file = join(from, "", ".d");
	const char *slash = strrchr(from, '/');
	const char *dot = strrchr(slash ? slash : from, '.');
	if (dot)
		strcpy(file + (dot - from), ".d");
	return file;
}

// `strip FILE` of a linked file: the unstripped one is kept beside the records.
static void keep_unstripped(const struct record *record)
{
	size_t number = 0;
	for (size_t i = 1; i < record->words.count; i++) {
		const char *word = record->words.items[i];
		size_t size;
		char *bytes = word[0] == '-' ? NULL : read_whole(word, &size);
		if (!bytes)
			continue;
		char suffix[32];
		snprintf(suffix, sizeof(suffix), ".unstripped.%zu", number++);
		char *hidden = join(record->directory, "/.", record->id);
		char *path = join(hidden, suffix, "");
		FILE *file = fopen(path, "we");
		bool failed = !file || fwrite(bytes, 1, size, file) != size;
		if ((file && fclose(file) != 0) || failed)
			die("cannot keep the unstripped file", path);
		free(bytes);
	}
}

static pid_t child;

static void forward(int number)
{
	if (child > 0)
		kill(child, number);
}

static int run(const char *tool, char **argv, char **environment)
{
	// The terminal sends these to the child too; who sends them to us alone means the tool.
	static const int forwarded[] = {SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &before);
	child = fork();
	if (child < 0)
		die("cannot run", tool);
	if (child == 0) {
		sigprocmask(SIG_SETMASK, &before, NULL);
		execve(tool, argv, environment);
		die("cannot run", tool);
	}
	struct sigaction action = {.sa_handler = forward, .sa_flags = SA_RESTART};
	for (size_t i = 0; i < sizeof(forwarded) / sizeof(forwarded[0]); i++)
		sigaction(forwarded[i], &action, NULL);
	signal(SIGINT, SIG_IGN);
	signal(SIGQUIT, SIG_IGN);
	sigprocmask(SIG_SETMASK, &before, NULL);
	int status;
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			die("cannot wait for", tool);
	return status;
}

int main(int argc, char **argv)
{
	if (argc < 1)
		return 127;
	const char *slash = strrchr(argv[0], '/');
	const char *name = slash ? slash + 1 : argv[0];
	struct tool tool;
	if (!find_tool(argv[0], name, &tool)) {
		errno = ENOENT;
		die("no such tool in PATH behind the masquerade", name);
	}
	char *path = join("PATH=", tool.path, "");
	// gcc looks for its parts beside the file that argv[0] names, if that is a path.
	if (slash)
		argv[0] = tool.name;
	const char *directory = getenv("SUTURE_RECORDS");

	struct record record = {
		.directory = directory, .name = name, .tool = tool.name, .path = path};
	for (int i = 0; i < argc; i++)
		expand(&record.words, argv[i], 0);
	struct arguments arguments;
	arguments_parse(record.words.count, record.words.items, &arguments);
	enum tool_kind kind = tool_kind_of(name);
	bool compiler = kind == TOOL_COMPILER, builder = kind == TOOL_BUILDER;
	bool plain =
		!directory || (builder && getenv("SUTURE_BUILDER")) ||
		(compiler && (arguments.query || arguments.preprocess || record.words.count < 2));

	struct words environment = {0};
	for (char **variable = environ; *variable; variable++)
		if (builder || (!argument_starts(*variable, "PATH=") &&
				!argument_starts(*variable, "SUTURE_RECORDS=")))
			words_push(&environment, *variable);
	words_push(&environment, builder ? (char *)"SUTURE_BUILDER=1" : path);
	if (plain) {
		execve(tool.program, argv, environment.items);
		die("cannot run", tool.program);
	}

	record.start = now_nanoseconds();
	char id[64];
	snprintf(id, sizeof(id), "%016llx-%d", (unsigned long long)record.start, (int)getpid());
	record.id = id;
	static char cwd[PATH_MAX];
	if (!getcwd(cwd, sizeof(cwd)))
		die("cannot find the directory of", name);
	record.cwd = cwd;

	char *dependency_file = NULL;
	bool private_file = false;
	struct words words = {0};
	for (int i = 0; i < argc; i++)
		words_push(&words, argv[i]);
	if (compiler && arguments.source_count && arguments.own_dependencies) {
		dependency_file = own_dependency_file(&arguments);
	} else if (compiler && arguments.source_count && !arguments.assembly) {
		char *hidden = join(directory, "/.", id);
		dependency_file = join(hidden, ".d", "");
		private_file = true;
		if (!resolved_is_clang(tool.name)) {
			char *variable = join("DEPENDENCIES_OUTPUT=", dependency_file, " object");
			words_push(&environment, variable);
		} else if (arguments.source_count == 1) {
			// In front, where "--" cannot hide them.
			words.count = 0;
			words_push(&words, argv[0]);
			words_push(&words, (char *)"-MD");
			words_push(&words, (char *)"-MF");
			words_push(&words, dependency_file);
			for (int i = 1; i < argc; i++)
				words_push(&words, argv[i]);
		}
	}
	if (kind == TOOL_STRIP)
		keep_unstripped(&record);

	int status = run(tool.program, words.items, environment.items);
	if (dependency_file)
		record.dependencies = read_whole(dependency_file, &record.dependencies_size);
	if (private_file)
		unlink(dependency_file);
	write_record(&record, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	if (WIFEXITED(status))
		_exit(WEXITSTATUS(status));

	// End the same way as the tool did, without a second core file.
	signal(WTERMSIG(status), SIG_DFL);
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	raise(WTERMSIG(status));
	_exit(128 + WTERMSIG(status));
}
