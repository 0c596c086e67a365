/* SPDX-License-Identifier: MIT */
/*
 * Patches in running programs: every kind of program, every kind of reference, every form of entry.
 * Each row is applied, seen to work, reverted, and the text compared byte for byte.
 */
#include "live_victim.h"

#define MAIN                                                  \
	"#include <stdio.h>\n#include <stdlib.h>\n"           \
	"int main(void) {\n"                                  \
	"	char line[256]; puts(\"ready\"); fflush(stdout);\n" \
	"	while (fgets(line, sizeof line, stdin)) {\n"        \
	"		answer(atoi(line)); fflush(stdout);\n"             \
	"	}\n	return 0;\n}\n"

#define SIMPLE                                                             \
	"#include <stdio.h>\n"                                             \
	"static int count;\n"                                              \
	"#ifdef NEW\nstatic int fresh = 40;\n#endif\n"                     \
	"__attribute__((noinline)) int compute(int a) {\n"                 \
	"	count += 1;\n"                                                   \
	"#ifdef NEW\n	fresh++; return a * 3 + count * 0 + (fresh > 40);\n" \
	"#else\n	return a * 2 + count * 0;\n#endif\n}\n"                   \
	"__attribute__((noinline)) void answer(int a) {\n"                 \
	"	printf(\"%d\\n\", compute(a));\n}\n" MAIN

static void test_program_kinds(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
		{"-O2", ""},
		{"-O0", ""},
		{"-O1", ""},
		{"-O3", ""},
		{"-Os", ""},
		{"-O2 -fno-pie", "-no-pie"},
		{"-O2 -fno-pie", "-static"},
		{"-O2 -fPIE", "-static-pie"},
		{"-O2 -fcf-protection", ""},
		{"-O2 -fpatchable-function-entry=16,14", ""},
		{"-O2 -fpatchable-function-entry=5", ""},
		{"-O2 -fcf-protection -fpatchable-function-entry=8", ""},
		{"-O2 -fno-plt", ""},
		{"-O2", "-Wl,-z,lazy"},
		{"-O2", "-Wl,-z,now -s"},
		{"-O2 -fno-pie", "-no-pie -s"},
		{"-O2 -fno-asynchronous-unwind-tables", ""},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct recipe recipe = {.source = SIMPLE, .flags = rows[i][0], .link = rows[i][1]};
		if (getenv("SUTURE_TEST_TALK"))
			print_message("%s %s\n", rows[i][0], rows[i][1]);
		victim_round(&recipe, "5", "10", "16");
	}
}

/* ---- forms of entries --------------------------------------------------------------------- */

static void test_tiny_functions(void **state)
{
	(void)state;
	// 4 bytes (lea; ret), 1 byte (ret), 3 bytes, a loop to the entry, a loop of one instruction.
	static const char source[] =
		"#include <stdio.h>\n"
		"__attribute__((noinline, noclone)) int tiny(int a) {\n"
		"#ifdef NEW\n	return a * 7;\n#else\n	return a + a;\n#endif\n}\n"
		"__attribute__((noinline, noclone)) int zero(void) {\n"
		"#ifdef NEW\n	return 100;\n#else\n	return 0;\n#endif\n}\n"
		"__attribute__((noinline, noclone)) int id(int a) {\n"
		"#ifdef NEW\n	return a + 1000;\n#else\n	return a;\n#endif\n}\n"
		"__attribute__((noinline)) void answer(int a) {\n"
		"	printf(\"%d %d %d\\n\", tiny(a), zero(), id(a)); }\n" MAIN;
	static const char *const flags[] = {"-O2", "-O2 -falign-functions=8", "-O2 -fcf-protection",
					    "-O1 -fpatchable-function-entry=4,2"};
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct recipe recipe = {.source = source, .flags = flags[i]};
		victim_round(&recipe, "5", "10 0 5", "35 100 1005");
	}
}

static void test_too_short(void **state)
{
	(void)state;
	// One byte, neighbours on both sides, nothing between them.
	static const char source[] =
		"#include <stdio.h>\n"
		"__attribute__((naked, noinline)) void before(void) { asm(\".fill 200,1,0xc3\"); }\n"
		"#ifndef NEW\n"
		"__attribute__((naked, noinline)) void narrow(void) { asm(\"ret\"); }\n"
		"#else\n"
		"__attribute__((naked, noinline)) void narrow(void) { asm(\"xor %eax,%eax; ret\"); }\n"
		"#endif\n"
		"__attribute__((naked, noinline)) void after(void) { asm(\".fill 200,1,0xc3\"); }\n"
		"__attribute__((noinline)) void answer(int a) { narrow(); printf(\"%d\\n\", a); "
		"}\n" MAIN;
	struct recipe recipe = {.source = source,
				.flags = "-O2 -falign-functions=1 -fno-toplevel-reorder"};
	struct victim victim;
	struct live_outcome outcome;
	victim_build(&victim, &recipe);
	victim_start(&victim);
	struct buffer before = victim_text(&victim);
	const char *message = fail_with(victim_try_apply(&victim, victim.patch, &outcome),
					ERROR_KIND_UNSUPPORTED);
	assert_non_null(strstr(message, "narrow"));
	assert_non_null(strstr(message, "too short"));
	live_outcome_deinit(&outcome);
	struct buffer after = victim_text(&victim);
	assert_memory_equal(before.bytes, after.bytes, before.size);
	assert_string_equal(victim_ask(&victim, "7"), "7");
	buffer_deinit(&before);
	buffer_deinit(&after);
	victim_end(&victim);
}

static void test_branches_into_entry(void **state)
{
	(void)state;
	// A loop whose head is the 3rd byte of the function: the loop moves along.
	static const char source[] =
		"#include <stdio.h>\n"
		"int loop(int a);\n"
		"#ifdef NEW\n#define MORE \"lea 1000(%rax),%eax\\n\"\n#else\n#define MORE \"\"\n#endif\n"
		"asm(\".text\\n.p2align 4\\n.globl loop\\n.type loop,@function\\nloop:\\n"
		"xor %eax,%eax\\n1: inc %eax\\ndec %edi\\njnz 1b\\n\" MORE \"ret\\n"
		".size loop,.-loop\\n\");\n"
		"__attribute__((noinline)) void answer(int a) { printf(\"%d\\n\", loop(a)); }\n" MAIN;
	struct recipe recipe = {.source = source, .flags = "-O2"};
	victim_round(&recipe, "9", "9", "1009");
}

/* ---- references ---------------------------------------------------------------------------- */

static void test_new_imports(void **state)
{
	(void)state;
	// Functions, ifuncs and data of libc that the program did not use before.
	static const char source[] =
		"#define _GNU_SOURCE\n#ifdef __PIE__\n#define PIC 1\n#else\n#define PIC 0\n#endif\n"
		"#include <stdio.h>\n#include <string.h>\n#include <stdlib.h>\n#include <errno.h>\n"
		"#include <unistd.h>\n"
		"static char text[64] = \"abc\";\nstatic int (*keep)(int);\n"
		"#ifdef NEW\n__attribute__((noinline)) static char ***where(void) {\n"
		"	static char **none = (char **)&none;\n"
		"	return sizeof(void *) && PIC ? &environ : &none; }\n#endif\n"
		"__attribute__((noinline)) int twice(int a) { return 2 * a; }\n"
		"__attribute__((noinline)) int compute(int a) {\n"
		"	keep = twice;\n"
		"#ifdef NEW\n"
		"	char copy[64]; memcpy(copy, text, a + 1 > 64 ? 64 : a + 1);\n"
		"	errno = 0; int e = errno; char *p = strdup(copy);\n"
		"	int n = (int)strlen(p) + (strchr(p, 'b') ? 100 : 0) + (*where() != 0) * 1000;\n"
		"	int (*f)(const char *) = atoi; n += f(\"10000\") + e; free(p);\n"
		"	return n + keep(1);\n"
		"#else\n	return keep(a);\n#endif\n}\n"
		"__attribute__((noinline)) void answer(int a) { printf(\"%d\\n\", compute(a)); }\n" MAIN;
	static const char *const rows[][2] = {
		{"-O2", ""},
		{"-O0", ""},
		{"-O2 -fno-pie", "-no-pie"},
		{"-O2", "-Wl,-z,lazy"},
		{"-O2 -fno-plt", ""},
		{"-O2 -fno-builtin", "-Wl,-z,now"},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct recipe recipe = {.source = source, .flags = rows[i][0], .link = rows[i][1]};
		victim_round(&recipe, "5", "10", "11105");
	}
}

static void test_new_variable_of_library(void **state)
{
	(void)state;
	// The program's own compiler refers to it by 32 bits, and there is no copy relocation for it.
	static const char source[] =
		"#include <stdio.h>\nextern char **environ;\n"
		"__attribute__((noinline)) int compute(int a) {\n"
		"#ifdef NEW\n	return a + (environ != 0);\n"
		"#else\n	return a;\n#endif\n}\n"
		"__attribute__((noinline)) void answer(int a) { printf(\"%d\\n\", compute(a)); }\n" MAIN;
	struct recipe recipe = {.source = source, .flags = "-O2"};
	struct victim victim;
	struct live_outcome outcome;
	victim_build(&victim, &recipe);
	victim_start(&victim);
	size_t maps = victim_maps(&victim);
	const char *message = fail_with(victim_try_apply(&victim, victim.patch, &outcome),
					ERROR_KIND_UNSUPPORTED);
	assert_non_null(strstr(message, "environ"));
	live_outcome_deinit(&outcome);
	assert_int_equal(victim_maps(&victim), maps);
	assert_string_equal(victim_ask(&victim, "7"), "7");
	victim_end(&victim);
}

static void test_static_data_and_pointers(void **state)
{
	(void)state;
	static const char source[] =
		"#include <stdio.h>\n"
		"static int total = 7;\nstatic const char *const words[] = { \"nil\", \"one\", \"two\" };\n"
		"static int helper(int a);\n"
		"static int (*table[2])(int) = { helper, helper };\n"
		"__attribute__((noinline)) static int helper(int a) { total += a;\n"
		"#ifdef NEW\n	static int calls; calls++; return total + 1000 * calls;\n"
		"#else\n	return total;\n#endif\n}\n"
		"__attribute__((noinline)) static const char *name(int a) {\n"
		"	switch (a) { case 0: return words[0]; case 1: return words[1];\n"
		"	case 2: return words[2]; case 3: return \"three\"; case 4: return \"four\";\n"
		"#ifdef NEW\n	case 5: return \"five\";\n#endif\n"
		"	case 9: return table[0] ? \"nine\" : words[0];\n	default: return \"many\"; } }\n"
		"__attribute__((noinline)) void answer(int a) {\n"
		"	printf(\"%s %d\\n\", name(a), table[a & 1](0) == total); }\n" MAIN;
	static const char *const flags[] = {"-O2", "-O0", "-O2 -fno-pie -no-pie", "-Os"};
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct recipe recipe = {.source = source, .flags = flags[i]};
		victim_round(&recipe, "5", "many 1", "five 0");
	}
}

/* ---- libraries and thread-local variables --------------------------------------------------- */

#define LIBRARY_MAIN                                                   \
	"#include <stdio.h>\nint compute(int); void answer(int a) {\n" \
	"	printf(\"%d\\n\", compute(a)); }\n" MAIN

static void test_library(void **state)
{
	(void)state;
	static const char library[] =
		"#include <string.h>\n"
		"static int state = 3;\nint visible = 5;\n"
		"__attribute__((noinline)) int shared(int a) { return a + visible; }\n"
		"int compute(int a) {\n"
		"#ifdef NEW\n	return shared(a) + state + 100 * (int)strlen(\"xyz\" + (a == 1));\n"
		"#else\n	return shared(a) + state;\n#endif\n}\n";
	static const char *const flags[] = {"-O2", "-O0",
					    "-O2 -fvisibility=hidden -Dcompute=compute",
					    "-O2 -fno-semantic-interposition"};
	for (size_t i = 0; i < 2; i++) {
		struct recipe recipe = {.source = LIBRARY_MAIN,
					.library = library,
					.patch_library = true,
					.flags = flags[i]};
		victim_round(&recipe, "5", "13", "313");
	}
}

#define TLS_BODY                                                                                  \
	"static __thread int own = 11;\n__thread int open_one = 22;\nstatic __thread int zero;\n" \
	"__attribute__((noinline)) int compute(int a) {\n	zero++; own += a; own -= a;\n"          \
	"#ifdef NEW\n	return a + own * 2 + open_one * 100;\n"                                     \
	"#else\n	return a + own + open_one * 10;\n#endif\n}\n"

static void test_tls_of_program(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
		{"-O2", ""},
		{"-O2 -fno-pie", "-no-pie"},
		{"-O2 -fno-pie", "-static"},
		{"-O2 -ftls-model=initial-exec", ""},
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct recipe recipe = {
			.source = TLS_BODY "#include <stdio.h>\nvoid answer(int a) {\n"
					   "	printf(\"%d\\n\", compute(a)); }\n" MAIN,
			.flags = rows[i][0],
			.link = rows[i][1],
		};
		victim_round(&recipe, "5", "236", "2227");
	}
}

static void test_tls_of_library(void **state)
{
	(void)state;
	static const char *const flags[] = {
		"-O2", // general and local dynamic
		"-O2 -ftls-model=initial-exec",
		"-O2 -mtls-dialect=gnu2",
		"-O0",
	};
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		if (getenv("SUTURE_TEST_TALK"))
			print_message("%s\n", flags[i]);
		struct recipe recipe = {.source = LIBRARY_MAIN,
					.library = TLS_BODY,
					.patch_library = true,
					.flags = flags[i]};
		victim_round(&recipe, "5", "236", "2227");
	}
}

/* ---- unwinding ------------------------------------------------------------------------------ */

static void test_cxx_throw(void **state)
{
	(void)state;
	static const char source[] =
		"#include <cstdio>\n#include <cstdlib>\n#include <stdexcept>\n#include <string>\n"
		"struct Guard { int *count; ~Guard() { ++*count; } };\n"
		"static int unwound;\n"
		"__attribute__((noinline)) int inner(int a) {\n"
		"	Guard guard{&unwound};\n"
		"#ifdef NEW\n	if (a > 3) throw std::runtime_error(\"new \" + std::to_string(a));\n"
		"#ifndef LINKED\n	if (a < -3) throw std::range_error(\"range\");\n#endif\n"
		"	return a;\n"
		"#else\n	if (a > 3) throw std::runtime_error(\"old \" + std::to_string(a));\n"
		"	return a;\n#endif\n}\n"
		"__attribute__((noinline)) int outer(int a) {\n"
		"	try { return inner(a); }\n"
		"#ifdef NEW\n	catch (const std::bad_alloc &e) { return 77; }\n"
		"#ifndef LINKED\n	catch (const std::range_error &e) { return 79; }\n#endif\n#else\n"
		"	catch (const std::bad_alloc &e) { return 78; }\n#endif\n}\n"
		"__attribute__((noinline)) void answer(int a) {\n"
		"	try { std::printf(\"%d\\n\", outer(a)); }\n"
		"	catch (const std::exception &e) { std::printf(\"%s %d\\n\", e.what(), unwound > 0); } }\n"
		"int main() { char line[256]; std::puts(\"ready\"); std::fflush(stdout);\n"
		"	while (std::fgets(line, sizeof line, stdin)) { answer(std::atoi(line)); std::fflush(stdout); } }\n";
	static const char *const rows[][2] = {{"-O2", ""},
					      {"-O0", ""},
					      {"-O2 -DLINKED", "-static-libgcc -static-libstdc++"},
					      {"-O2 -DLINKED", "-static"},
					      {"-O2 -fno-pie", "-no-pie"}};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct recipe recipe = {.source = source,
					.flags = rows[i][0],
					.link = rows[i][1],
					.compiler = "g++",
					.suffix = "cc"};
		if (getenv("SUTURE_TEST_TALK"))
			print_message("%s %s\n", rows[i][0], rows[i][1]);
		victim_round(&recipe, "5", "old 5 1", "new 5 1");
		if (i < 2)
			victim_round(&recipe, "-5", "-5", "79");
	}
}

static void test_backtrace(void **state)
{
	(void)state;
	static const char source[] =
		"#include <stdio.h>\n#include <execinfo.h>\n"
		"__attribute__((noinline)) int depth(void) { void *p[64]; return backtrace(p, 64); }\n"
		"__attribute__((noinline)) int middle(int a) {\n"
		"#ifdef NEW\n	return depth() + 100 + 0 * a;\n#else\n	return depth() + 0 * a;\n#endif\n}\n"
		"__attribute__((noinline)) void answer(int a) {\n"
		"	static int first; if (!first) first = depth() + 1;\n"
		"	printf(\"%d\\n\", middle(a) - first); }\n" MAIN;
	struct recipe recipe = {.source = source, .flags = "-O2 -fno-optimize-sibling-calls"};
	victim_round(&recipe, "5", "0", "100");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_program_kinds),
		cmocka_unit_test(test_tiny_functions),
		cmocka_unit_test(test_too_short),
		cmocka_unit_test(test_branches_into_entry),
		cmocka_unit_test(test_new_imports),
		cmocka_unit_test(test_new_variable_of_library),
		cmocka_unit_test(test_static_data_and_pointers),
		cmocka_unit_test(test_library),
		cmocka_unit_test(test_tls_of_program),
		cmocka_unit_test(test_tls_of_library),
		cmocka_unit_test(test_cxx_throw),
		cmocka_unit_test(test_backtrace),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
