// SPDX-License-Identifier: MIT
// source: command lines, records of the masquerade, dependencies, and the graph made of them.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "source/internal.h"

static struct arena *arena;

static int start(void **state)
{
	(void)state;
	arena = arena_create();
	return 0;
}

static int end(void **state)
{
	(void)state;
	arena_free(arena);
	return 0;
}

// ---- names of tools, command lines -----------------------------------------------------------

static void tools_by_name(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		enum tool_kind kind;
	} rows[] = {
		{"gcc", TOOL_COMPILER},
		{"gcc-12", TOOL_COMPILER},
		{"x86_64-linux-gnu-gcc", TOOL_COMPILER},
		{"x86_64-linux-gnu-g++-12", TOOL_COMPILER},
		{"clang++-14", TOOL_COMPILER},
		{"cc", TOOL_COMPILER},
		{"c++", TOOL_COMPILER},
		{"x86_64-linux-gnu-ld.bfd", TOOL_LINKER},
		{"ld.lld-14", TOOL_LINKER},
		{"x86_64-linux-gnu-gcc-ar-12", TOOL_ARCHIVER},
		{"ar", TOOL_ARCHIVER},
		{"as", TOOL_ASSEMBLER},
		{"cpp", TOOL_OTHER},
		{"gcov", TOOL_OTHER},
		{"clang-format", TOOL_OTHER},
		{"clang-format-14", TOOL_OTHER},
		{"tar", TOOL_OTHER},
		{"ld.so", TOOL_OTHER},
		{"", TOOL_OTHER},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (tool_kind_of(rows[i].name) != rows[i].kind)
			fail_msg("'%s' is taken for kind %d", rows[i].name,
				 tool_kind_of(rows[i].name));
}

// Words separated by spaces.
static size_t split(const char *text, char **words, size_t capacity)
{
	char *copy = arena_strdup(arena, text);
	size_t count = 0;
	for (char *save, *word = strtok_r(copy, " ", &save); word && count < capacity;
	     word = strtok_r(NULL, " ", &save))
		words[count++] = word;
	return count;
}

static struct arguments parse(const char *text)
{
	char *words[32];
	size_t count = split(text, words, ARRAY_SIZE(words));
	struct arguments arguments;
	arguments_parse(count, words, &arguments);
	free(arguments.roles);
	return arguments;
}

static void command_lines(void **state)
{
	(void)state;
	struct arguments a = parse("gcc -O2 -I inc.c -c src/a.c -o out/a.o");
	assert_true(a.compile);
	assert_int_equal(a.source_count, 1);
	assert_string_equal(a.first_source, "src/a.c");
	assert_string_equal(a.output, "out/a.o");
	assert_false(a.own_dependencies);

	a = parse("gcc -MD -MP -MF .deps/a.Tpo -MT a.o -c -o a.o a.c");
	assert_true(a.own_dependencies);
	assert_int_equal(a.dependency_file_size, strlen(".deps/a.Tpo"));
	assert_memory_equal(a.dependency_file, ".deps/a.Tpo", a.dependency_file_size);
	assert_int_equal(a.source_count, 1);

	a = parse("gcc -Wp,-MMD,x/.a.o.d,-DX -c a.c");
	assert_true(a.own_dependencies);
	assert_memory_equal(a.dependency_file, "x/.a.o.d", strlen("x/.a.o.d"));
	assert_int_equal(a.dependency_file_size, strlen("x/.a.o.d"));

	assert_true(parse("gcc --version").query);
	assert_true(parse("gcc -dumpversion").query);
	assert_true(parse("gcc -E a.c").preprocess);
	assert_true(parse("gcc -MM a.c").preprocess);
	assert_true(parse("gcc -S a.c").assembly);
	assert_true(parse("gcc -c -x c -").from_stdin);
	assert_true(parse("gcc -flto -c a.c").lto);
	assert_false(parse("gcc -flto=auto -ffat-lto-objects -c a.c").lto);
	assert_false(parse("gcc -ffat-lto-objects -flto=auto -c a.c").lto);
	assert_false(parse("gcc -flto -fno-lto -c a.c").lto);
	assert_true(parse("ld -r -o x.o a.o b.o").relocatable);
	assert_int_equal(parse("gcc -x c++ a.txt -x none b.o -o p").source_count, 1);
	assert_int_equal(parse("clang -c -- a.c").source_count, 1);
}

// ---- records ---------------------------------------------------------------------------------------

static void put_field(struct buffer *buffer, char tag, const char *text)
{
	uint32_t size = (uint32_t)strlen(text);
	const char head[5] = {tag, (char)size, (char)(size >> 8), (char)(size >> 16),
			      (char)(size >> 24)};
	buffer_append(buffer, head, sizeof(head));
	buffer_append(buffer, text, size);
}

static void make_record(struct buffer *buffer, const char *words, const char *dependencies)
{
	buffer_puts(buffer, "suture-record 1\n");
	put_field(buffer, 'd', "/t");
	put_field(buffer, 't', "/usr/bin/tool");
	put_field(buffer, 'b', "5");
	put_field(buffer, 's', "0");
	char *split_words[32];
	size_t count = split(words, split_words, ARRAY_SIZE(split_words));
	put_field(buffer, 'n', split_words[0]);
	for (size_t i = 0; i < count; i++)
		put_field(buffer, 'a', split_words[i]);
	put_field(buffer, 'e', "PATH=/bin");
	if (dependencies)
		put_field(buffer, 'm', dependencies);
	put_field(buffer, 'z', "");
}

static struct command *command_of(const char *words, const char *dependencies)
{
	_cleanup_buffer_ struct buffer buffer = {0};
	make_record(&buffer, words, dependencies);
	struct command *command;
	_cleanup_error_ struct error *error =
		record_parse(arena, "r", buffer.bytes, buffer.size, &command);
	assert_null(error);
	return command;
}

static void reads_a_record(void **state)
{
	(void)state;
	struct command *command = command_of("gcc -c a.c", "x: a.c");
	assert_string_equal(command->directory, "/t");
	assert_string_equal(command->tool, "/usr/bin/tool");
	assert_int_equal(command->start, 5);
	assert_int_equal(command->word_count, 3);
	assert_null(command->words[3]);
	assert_string_equal(command->environment[0], "PATH=/bin");
	assert_int_equal(command->kind, TOOL_COMPILER);
	assert_true(command->arguments.compile);
}

static void every_truncation_is_an_error(void **state)
{
	(void)state;
	_cleanup_buffer_ struct buffer buffer = {0};
	make_record(&buffer, "gcc -c a.c", "x: a.c");
	for (size_t size = 0; size < buffer.size; size++) {
		// A buffer of its own, so that a sanitizer sees the first byte too many.
		_cleanup_free_ char *bytes = xmemdup(buffer.bytes, size ? size : 1);
		struct command *command = NULL;
		_cleanup_error_ struct error *error =
			record_parse(arena, "r", bytes, size, &command);
		assert_non_null(error);
		assert_int_equal(error->kind, ERROR_KIND_INPUT);
		assert_null(command);
	}
}

static void dependencies_of_makefiles(void **state)
{
	(void)state;
	struct names names = {0};
	dependencies_parse(
		arena,
		"a.o: a.c ../h/x.h \\\n /usr/include/y.h my\\ file.h a$$b.h \\\r\n z.h\n\nx.h:\n",
		"/t/src", NULL, &names);
	static const char *const expected[] = {"/t/src/a.c",       "/t/h/x.h",
					       "/usr/include/y.h", "/t/src/my file.h",
					       "/t/src/a$b.h",     "/t/src/z.h"};
	assert_int_equal(names.list.count, ARRAY_SIZE(expected));
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_string_equal(names.list.items[i], expected[i]);

	names.list.count = 0;
	dependencies_parse(arena, "o: a.c a.h\no: b.c b.h\n", "/t", "/t/b.c", &names);
	assert_int_equal(names.list.count, 2);
	assert_string_equal(names.list.items[1], "/t/b.h");
	vec_deinit(&names.list);
}

static void paths(void **state)
{
	(void)state;
	static const struct {
		const char *directory, *path, *expected;
	} rows[] = {
		{"/a", "b", "/a/b"},          {"/a/b", "../c", "/a/c"},
		{"/a", "./b//c/.", "/a/b/c"}, {"/a", "/x/../y/", "/y"},
		{"/", "../..", "/"},          {"/a", "..b/.c", "/a/..b/.c"},
		{"/a/b", "../../../c", "/c"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_string_equal(path_absolute(arena, rows[i].directory, rows[i].path),
				    rows[i].expected);
	assert_string_equal(path_within("/a/b", "/a/b/c"), "c");
	assert_null(path_within("/a/b", "/a/bc"));
	assert_null(path_within("/a/b", "/a/b"));
}

// ---- the graph ----------------------------------------------------------------------------------------

static struct build_graph graph_of(const char *const *lines, size_t count)
{
	struct commands commands = {0};
	for (size_t i = 0; i < count; i++)
		vec_push(&commands.list, command_of(lines[i], NULL));
	struct build_graph graph;
	build_graph_create(arena, "/t", &commands, &graph);
	vec_deinit(&commands.list);
	return graph;
}

static void assert_linked(const struct build_graph *graph, const char *object, const char *expected)
{
	struct names names = {0};
	build_graph_linked_into(arena, graph, object, &names);
	char text[256] = "";
	for (size_t i = 0; i < names.list.count; i++) {
		strcat(text, i ? " " : "");
		strcat(text, names.list.items[i]);
	}
	vec_deinit(&names.list);
	assert_string_equal(text, expected);
}

static void links_through_archives(void **state)
{
	(void)state;
	static const char *const lines[] = {
		"gcc -c a.c",
		"gcc -c b.c -o sub/b.o",
		"gcc -c c.c",
		"ar rcs lib/libab.a a.o",
		"ar r -c lib/libab.a sub/b.o",
		"ld -r -o part.o c.o",
		"gcc -o prog main.o -Llib -lab",
		"gcc -shared -o libc.so part.o -Wl,--whole-archive,lib/libab.a",
		"gcc -o user main.o libc.so",
	};
	struct build_graph graph = graph_of(lines, ARRAY_SIZE(lines));
	assert_int_equal(graph.compiles.count, 3);
	assert_linked(&graph, "a.o", "prog libc.so");
	assert_linked(&graph, "sub/b.o", "prog libc.so");
	assert_linked(&graph, "c.o", "libc.so");
	build_graph_free(&graph);
}

static void unpacked_archives(void **state)
{
	(void)state;
	static const char *const lines[] = {
		"gcc -c a.c -o .libs/a.o",
		"ar cru .libs/libconv.a .libs/a.o",
		"ar cru .libs/libwhole.a .libs/libwhole.lax/libconv.a/a.o",
		"gcc -o prog main.o .libs/libwhole.a",
	};
	struct build_graph graph = graph_of(lines, ARRAY_SIZE(lines));
	assert_linked(&graph, ".libs/a.o", "prog");
	build_graph_free(&graph);
}

static void compile_and_link_is_split(void **state)
{
	(void)state;
	static const char *const lines[] = {"gcc -O2 a.c sub/b.c c.o -lm -o bin/prog -Wl,-z,now"};
	struct build_graph graph = graph_of(lines, 1);
	assert_int_equal(graph.compiles.count, 2);
	const struct compile *compile = hashmap_get_string(graph.compile_of, "bin/prog-b.o");
	assert_non_null(compile);
	assert_string_equal(compile->linked, "bin/prog");
	assert_linked(&graph, "bin/prog-b.o", "bin/prog");

	struct job job;
	replay_job(arena, "/t", compile, REPLAY_SECTIONED, -1, &job);
	static const char *const expected[] = {"gcc",
					       "-O2",
					       "sub/b.c",
					       "-Wl,-z,now",
					       "-ffunction-sections",
					       "-fdata-sections",
					       "-c",
					       "-o",
					       "/t/bin/prog-b.o"};
	for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
		assert_string_equal(job.words[i], expected[i]);
	assert_null(job.words[ARRAY_SIZE(expected)]);
	build_graph_free(&graph);
}

static void replays_in_front_of_two_hyphens(void **state)
{
	(void)state;
	static const char *const lines[] = {"clang -O2 -c -o a.o -- a.c", "as -o s.o s.s"};
	struct build_graph graph = graph_of(lines, ARRAY_SIZE(lines));
	struct job job;
	replay_job(arena, "/t", hashmap_get_string(graph.compile_of, "a.o"), REPLAY_SECTIONED, -1,
		   &job);
	assert_string_equal(job.words[5], "-ffunction-sections");
	assert_string_equal(job.words[7], "--");
	assert_string_equal(job.words[8], "a.c");
	replay_job(arena, "/t", hashmap_get_string(graph.compile_of, "s.o"), REPLAY_SECTIONED, -1,
		   &job);
	assert_null(job.words[4]);
	build_graph_free(&graph);
}

static void what_is_no_unit(void **state)
{
	(void)state;
	static const char *const lines[] = {
		"gcc -c /tmp/conftest.c -o /tmp/conftest.o",
		"gcc -S a.c",
		"as -o a.o /tmp/ccXyz.s",
		"gcc -E a.c",
		"gcc -c ../out.c -o ../out.o",
	};
	struct build_graph graph = graph_of(lines, ARRAY_SIZE(lines));
	assert_int_equal(graph.compiles.count, 0);
	assert_string_equal(graph.outside, "/out.o");
	build_graph_free(&graph);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, start, end)
	const struct CMUnitTest tests[] = {
		TEST(tools_by_name),
		TEST(command_lines),
		TEST(reads_a_record),
		TEST(every_truncation_is_an_error),
		TEST(dependencies_of_makefiles),
		TEST(paths),
		TEST(links_through_archives),
		TEST(unpacked_archives),
		TEST(compile_and_link_is_split),
		TEST(replays_in_front_of_two_hyphens),
		TEST(what_is_no_unit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
