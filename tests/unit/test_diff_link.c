// SPDX-License-Identifier: MIT
/*
 * diff: old code with the output behaves as new code.
 *
 * Without a running program: a jump to the new function is written over the entry of each changed one
 * in the old object, as a detour would be, both are linked, and what the program prints is compared
 * with what the new build prints. The old object gets a second name for whatever the output refers to.
 */
#include "test_diff_support.h"

#include <elf.h>

/* ---- linking -------------------------------------------------------------------------------- */

static void detour(struct object *old_object, const struct object_symbol *function,
		   const char *new_name)
{
	struct object_section *section = function->section;
	const uint64_t at = function->value;
	if (section->size - at < 5)
		object_section_append(section, NULL, 5 - (section->size - at), 1);
	section->data[at] = 0xe9;
	size_t kept = 0;
	for (size_t i = 0; i < section->relocations.count; i++) {
		struct object_relocation relocation = section->relocations.items[i];
		// All of them: a TLS sequence cut in half would confuse the linker.
		if (relocation.offset < at || relocation.offset >= at + function->size)
			section->relocations.items[kept++] = relocation;
	}
	section->relocations.count = kept;
	struct object_symbol *symbol =
		object_symbol_add(old_object, new_name, STT_FUNC, STB_GLOBAL, NULL, 0, 0);
	object_relocation_add(section, at + 1, R_X86_64_PLT32, symbol, -4);
}

/** Both objects, edited so that a linker puts them together: old.patched.o, output.o. */
static void weave(struct diff *diff, struct object *old_object)
{
	struct object *output = diff->output;
	for (size_t i = 0; i < output->symbols.count; i++) {
		struct object_symbol *symbol = output->symbols.items[i];
		if (symbol->section && symbol->type != STT_SECTION && symbol->bind != STB_LOCAL)
			symbol->name = arena_printf(output->arena, "new.%s", symbol->name);
		if (!symbol->origin)
			continue;
		if (symbol->section) {
			symbol->name = arena_printf(output->arena, "new.%zu", i);
			symbol->bind = STB_GLOBAL;
			detour(old_object, symbol->origin, symbol->name);
		} else {
			const struct object_symbol *origin = symbol->origin;
			symbol->name = arena_printf(output->arena, "old.%zu", i);
			if (origin->section)
				object_symbol_add(old_object, symbol->name, origin->type,
						  STB_GLOBAL, origin->section, origin->value,
						  origin->size);
		}
		symbol->visibility = STV_DEFAULT;
	}
	object_index(output);
	object_index(old_object);
	assert_ok(object_write_file(old_object, "old.patched.o"));
	assert_ok(object_write_file(output, "output.o"));
}

static char *output_of(const char *program, const char *how)
{
	// A crash shows in what was printed up to it.
	run_command("./%s > %s.out 2>&1 || echo \"%s: status $?\" >> %s.out", program, program, how,
		    program);
	char *path = xasprintf("%s.out", program), *text;
	size_t size;
	assert_ok(file_read(path, &text, &size));
	free(path);
	return text;
}

struct program {
	const char *suffix;
	const char *text;
	/* Pairs of words: each pair is one change of the source; the last is {NULL, NULL}. */
	const char *changes[12][2];
	const char *accepted[4];
};

static char *replace(const char *text, const char *from, const char *to)
{
	const char *at = strstr(text, from);
	if (!at)
		fail_msg("'%s' is not in the source", from);
	return xasprintf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

static void check(const struct program *program, const char *old_text, const char *new_text,
		  const char *change, const char *compiler, const char *flags,
		  const char *link_flags)
{
	struct object *old_object = compile(compiler, flags, program->suffix, old_text, "old.o");
	struct object *new_object = compile(compiler, flags, program->suffix, new_text, "new.o");
	struct diff_options options = { .accepted = program->accepted };
	while (program->accepted[options.accepted_count])
		options.accepted_count++;
	struct diff *diff = NULL;
	assert_ok(diff_objects(old_object, new_object, &options, &diff));
	run_command("%s %s new.o -o new.program", compiler, link_flags);
	for (size_t i = 0; i < diff->findings.list.count; i++)
		if (diff->findings.list.items[i].severity == FINDING_REFUSAL)
			fail_msg("%s %s: finding %s: %s: %s", compiler, flags,
				 finding_kind_word(diff->findings.list.items[i].kind),
				 diff->findings.list.items[i].subject,
				 diff->findings.list.items[i].text);
	assert_non_null(diff->output);
	weave(diff, old_object);
	run_command("%s %s -z noexecstack old.patched.o output.o -o woven.program", compiler,
		    link_flags);
	char *expected = output_of("new.program", "new"), *found = output_of("woven.program", "woven");
	if (!string_equal(expected, found))
		fail_msg("%s %s, change to '%s': expected\n%s\nfound\n%s", compiler, flags, change,
			 expected, found);
	free(expected);
	free(found);
	diff_free(diff);
	object_free(old_object);
	object_free(new_object);
}

static const char *const levels[] = { "-O0", "-O1", "-O2", "-O3", "-Os" };
static const struct { const char *compile, *link; } models[] = {
	{ "-fPIE", "-pie" },
	{ "-fno-pie", "-no-pie" },
	{ "-fPIC -fno-plt -g", "-pie" },
};

// All changes at once, optimised and not. With SUTURE_TEST_FULL set, which takes minutes: at every
// level and in every model, and each change by itself in the commonest form.
static void check_program(const struct program *program, bool cxx)
{
	const char *const compilers[] = { cxx ? "g++" : "gcc", cxx ? "clang++" : "clang" };
	bool full = getenv("SUTURE_TEST_FULL");
	char *all = xstrdup(program->text);
	for (size_t k = 0; program->changes[k][0]; k++) {
		char *next = replace(all, program->changes[k][0], program->changes[k][1]);
		free(all);
		all = next;
	}
	for (size_t i = 0; i < ARRAY_SIZE(compilers) * ARRAY_SIZE(levels) * ARRAY_SIZE(models); i++) {
		const char *compiler = compilers[i % ARRAY_SIZE(compilers)];
		size_t rest = i / ARRAY_SIZE(compilers);
		const char *level = levels[rest % ARRAY_SIZE(levels)];
		size_t model = rest / ARRAY_SIZE(levels);
		bool basic = model < 2 && (string_equal(level, "-O0") || string_equal(level, "-O2"));
		if (!have(compiler) || (!full && !basic))
			continue;
		char *flags = xasprintf("%s %s -ffunction-sections -fdata-sections", level,
					models[model].compile);
		check(program, program->text, all, "all", compiler, flags, models[model].link);
		bool common = full && string_equal(level, "-O2") && model == 0;
		for (size_t k = 0; common && program->changes[k][0]; k++) {
			char *changed = replace(program->text, program->changes[k][0],
						program->changes[k][1]);
			check(program, program->text, changed, program->changes[k][1], compiler,
			      flags, models[model].link);
			free(changed);
		}
		free(flags);
	}
	free(all);
}

/* ---- programs ------------------------------------------------------------------------------- */

#define LINES(...) #__VA_ARGS__

static const struct program c_program = {
	.suffix = ".c",
	.text =
		"#include <stdio.h>\n#include <string.h>\n"
		"#define NOINLINE __attribute__((noinline))\n"
		"static int counter = 5; int shared = 7; static char buffer[64];\n"
		"__thread int per_thread = 3; static __thread int own_thread = 4;\n"
		"static const int squares[] = {0, 1, 4, 9, 16, 25};\n"
		"static const char *const names[] = {\"zero\", \"one\", \"two\", \"three\"};\n"
		"static NOINLINE int helper(int x) { static int calls; calls++; return x * 2 + calls; }\n"
		"NOINLINE int other(int x) { return helper(x) - 1; }\n"
		"typedef int (*callback)(int);\n"
		"NOINLINE int target(int x) { return x + 100; }\n"
		"static callback stored = target;\n"
		"NOINLINE callback get(void) { return target; }\n"
		"NOINLINE int choose(int x) { switch (x) {\n"
		" case 0: puts(\"is zero\"); return 1; case 1: puts(\"is one\"); return other(4);\n"
		" case 2: puts(\"is two\"); return helper(2); case 3: puts(\"is three\"); return 9;\n"
		" case 4: puts(\"is four\"); return 10; case 5: puts(\"is five\"); return 3; }\n"
		" return squares[x % 6]; }\n"
		"NOINLINE int table(int x) { switch (x) { case 0: return 10; case 1: return 3;\n"
		" case 2: return 77; case 3: return 1; case 4: return 12; case 5: return 6; } return 0; }\n"
		"NOINLINE double floats(double x) { return x * 3.25 + 1.5; }\n"
		"NOINLINE int go(int x) { static const void *const labels[] = {&&a, &&b, &&c};\n"
		" goto *labels[x]; a: puts(\"label a\"); b: puts(\"label b\"); c: return x + 1; }\n"
		"NOINLINE int large(int n) { int q[24] = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,\n"
		" 19,20,21,22,23,24}; int s = n; for (int i = 0; i < 24; i++) s += q[i] * (i ^ n); return s; }\n"
		"NOINLINE int compare(callback f) { return f == target && f == get() && f == stored; }\n"
		"NOINLINE int threads(void) { return ++per_thread * 10 + ++own_thread; }\n"
		"NOINLINE const char *who(void) { return __func__; }\n"
		"NOINLINE int recurse(int n) { return n < 2 ? 1 : recurse(n - 1) + recurse(n - 2) + 0; }\n"
		"NOINLINE int state(void) { counter += 3; shared++; buffer[3] = 'x'; return counter; }\n"
		"NOINLINE int end(int n) { int s = 0; for (const int *p = squares; p != squares + 6; p++)\n"
		" s += *p; return s + n; }\n"
		"int main(void) {\n"
		" for (int i = 0; i < 8; i++) printf(\"%d %d %d\\n\", choose(i), table(i), large(i));\n"
		" for (int i = 0; i < 3; i++) printf(\"%d\\n\", go(i));\n"
		" printf(\"%f %d %d %d\\n\", floats(2), compare(get()), stored(1), get()(2));\n"
		" printf(\"%d %d %s %d\\n\", threads(), threads(), who(), recurse(10));\n"
		" printf(\"%d %d %d %d %s\\n\", state(), state(), shared, end(2), names[state() & 3]);\n"
		" printf(\"%d %d\\n\", other(1), helper(1));\n"
		" return 0; }\n",
	.changes = {
		{ "is three", "is not four" },
		{ "return x * 2 + calls", "return x * 3 + calls" },
		{ "return x + 100", "return x + 101" },
		{ "case 2: return 77", "case 2: return 78" },
		{ "x * 3.25", "x * 3.75" },
		{ "label b\"); c:", "label bee\"); c: puts(names[x]);" },
		{ "10,11,12", "10,13,12" },
		{ "counter += 3", "static int fresh = 2; counter += fresh++; if (compare(stored)) counter += 3" },
		{ "+ 0; }", "+ helper(n) * 0 + squares[n % 6]; }" },
		{ "return ++per_thread * 10", "return ++per_thread * 100" },
		{ "return s + n", "return s - n" },
	},
};

static const struct program cxx_program = {
	.suffix = ".cc",
	.text =
		"#include <cstdio>\n#include <stdexcept>\n#include <string>\n#include <vector>\n"
		"#define NOINLINE __attribute__((noinline))\n"
		"struct shape { virtual ~shape() {} virtual int area() const = 0; };\n"
		"struct square : shape { int side; square(int s) : side(s) {}\n"
		" NOINLINE int area() const override { return side * side; } };\n"
		"struct guard { const char *name; guard(const char *n) : name(n) {}\n"
		" ~guard() { std::printf(\"leave %s\\n\", name); } };\n"
		"template <typename T> NOINLINE T twice(T x) { return x + x; }\n"
		"NOINLINE int risky(int x) { guard g(\"risky\"); if (x > 2) throw std::runtime_error(\"too large\");\n"
		" if (x < 0) throw x; return x * 2; }\n"
		"NOINLINE int caller(int x) { guard g(\"caller\"); try { return risky(x); }\n"
		" catch (const std::runtime_error &e) { std::printf(\"caught %s\\n\", e.what()); return -1; }\n"
		" catch (int i) { std::printf(\"caught %d\\n\", i); return -2; } }\n"
		"NOINLINE const std::string &text() { static const std::string value = \"static\" + std::to_string(4);\n"
		" return value; }\n"
		"NOINLINE int sum(const std::vector<int> &v) { int s = 0; auto add = [&s](int x) { s += x; };\n"
		" for (int x : v) add(x); return s; }\n"
		"NOINLINE shape *make(int n) { return new square(n); }\n"
		"int main() { for (int i = -1; i < 4; i++) std::printf(\"%d\\n\", caller(i));\n"
		" shape *s = make(3); std::printf(\"%d %d %s\\n\", s->area(), twice(4), text().c_str());\n"
		" std::printf(\"%s %d\\n\", twice(std::string(\"ab\")).c_str(), sum({1, 2, 3})); delete s; return 0; }\n",
	.changes = {
		{ "x > 2", "x > 1" },
		{ "caught %s", "seen %s" },
		{ "catch (int i) { std::printf(\"caught %d\\n\", i); return -2; }",
		  "catch (int i) { std::printf(\"int %d\\n\", i); return -3; } catch (...) { throw; }" },
		{ "return side * side", "return side * side + 1" },
		{ "return x + x", "return x + x + x" },
		{ "s += x;", "s += x * 2;" },
		{ "new square(n)", "new square(n + 1)" },
		{ "std::to_string(4);\n return value", "std::to_string(4);\n guard g(\"text\"); return value" },
	},
};

static void c_program_behaves_as_new(void **state)
{
	(void)state;
	if (!have("gcc"))
		skip();
	check_program(&c_program, false);
}

static void cxx_program_behaves_as_new(void **state)
{
	(void)state;
	if (!have("g++"))
		skip();
	check_program(&cxx_program, true);
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter_directory, leave_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIRECTORY(c_program_behaves_as_new),
		IN_DIRECTORY(cxx_program_behaves_as_new),
	};
	return cmocka_run_group_tests_name("diff_link", tests, NULL, NULL);
}
