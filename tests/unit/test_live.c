/* SPDX-License-Identifier: MIT */
/*
 * Patches in running programs: every kind of program, every kind of reference, every form of entry.
 * Each row is applied, seen to work, reverted, and the text compared byte for byte.
 */
#include "live_victim.h"

#define MAIN                                                                    \
	"#include <stdio.h>\n#include <stdlib.h>\n"                             \
	"int main(void) {\n"                                                    \
	"	char line[256]; puts(\"ready\"); fflush(stdout);\n"             \
	"	while (fgets(line, sizeof line, stdin)) {\n"                    \
	"		answer(atoi(line)); fflush(stdout);\n"                  \
	"	}\n	return 0;\n}\n"

#ifdef NEVER
#endif
#define SIMPLE                                                                  \
	"#include <stdio.h>\n"                                                  \
	"static int count;\n"                                                   \
	"#ifdef NEW\nstatic int fresh = 40;\n#endif\n"                          \
	"__attribute__((noinline)) int compute(int a) {\n"                      \
	"	count += 1;\n"                                                  \
	"#ifdef NEW\n	fresh++; return a * 3 + count * 0 + (fresh > 40);\n"    \
	"#else\n	return a * 2 + count * 0;\n#endif\n}\n"                 \
	"__attribute__((noinline)) void answer(int a) {\n"                      \
	"	printf(\"%d\\n\", compute(a));\n}\n" MAIN

static void test_program_kinds(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
		{ "-O2", "" },
		{ "-O0", "" },
		{ "-O1", "" },
		{ "-O3", "" },
		{ "-Os", "" },
		{ "-O2 -fno-pie", "-no-pie" },
		{ "-O2 -fno-pie", "-static" },
		{ "-O2 -fPIE", "-static-pie" },
		{ "-O2 -fcf-protection", "" },
		{ "-O2 -fpatchable-function-entry=16,14", "" },
		{ "-O2 -fpatchable-function-entry=5", "" },
		{ "-O2 -fcf-protection -fpatchable-function-entry=8", "" },
		{ "-O2 -fno-plt", "" },
		{ "-O2", "-Wl,-z,lazy" },
		{ "-O2", "-Wl,-z,now -s" },
		{ "-O2 -fno-pie", "-no-pie -s" },
		{ "-O2 -fno-asynchronous-unwind-tables", "" },
	};
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct recipe recipe = { .source = SIMPLE, .flags = rows[i][0], .link = rows[i][1] };
		if (getenv("SUTURE_TEST_TALK"))
			print_message("%s %s\n", rows[i][0], rows[i][1]);
		victim_round(&recipe, "5", "10", "16");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_program_kinds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
