// SPDX-License-Identifier: MIT
/*
 * diff: a table of small changes, what is expected of each, with gcc and clang.
 *
 * `expect` has a line for each function that is not the same ("changed f", "new f", "removed f"), for
 * each finding ("finding KIND SUBJECT", notes about removed symbols left out), and for what the output
 * must hold: "define NAME", "target NAME" (of the running program), "import NAME" (by name), "replace
 * NAME"; "absent NAME" must not be there in any form, "equal" says that nothing changed. Verdicts and
 * findings must be all that there are.
 */
#include "test_diff_support.h"

#include <elf.h>

enum { GCC = 1, CLANG = 2, BOTH = 3 };

struct change {
	const char *name;
	unsigned compilers;
	const char *suffix;
	const char *old_text, *new_text;
	const char *flags;
	const char *expect;
	const char *accepted[3];
};

#define N "__attribute__((noinline)) "

static const struct change changes[] = {
	{ "nothing", BOTH, ".c", "int f(void) { return 1; }", "int f(void) { return 1; }", "", "equal\n", {0} },
	{ "debug information only", BOTH, ".c", "int f(int a) { return a; }",
	  "\n\n\nint f(int b) { return b; }", "-g", "equal\n", {0} },
	{ "a constant", BOTH, ".c", "int f(void) { return 1; } int g(void) { return 3; }",
	  "int f(void) { return 2; } int g(void) { return 3; }", "",
	  "changed f\nreplace f\nabsent g\n", {0} },
	{ "a line number in an argument", BOTH, ".c", "void l(int); void f(void) { l(__LINE__); }",
	  "\n\nvoid l(int); void f(void) { l(__LINE__); }", "", "changed f\nimport l\n", {0} },
	{ "a string", BOTH, ".c", "int puts(const char *); void f(void) { puts(\"a\"); puts(\"same\"); }"
	  "void g(void) { puts(\"only g\"); }",
	  "int puts(const char *); void f(void) { puts(\"b\"); puts(\"same\"); }"
	  "void g(void) { puts(\"only g\"); }", "", "changed f\nimport puts\nabsent g\n", {0} },
	{ "a new and a removed function", BOTH, ".c",
	  N "static int h(int x) { return x * 3; } int f(int x) { return h(x); }",
	  N "static int k(int x) { return x * 7; } int f(int x) { return k(x); }", "",
	  "changed f\nnew k\nremoved h\ndefine k\nabsent h\n", {0} },
	{ "a call of an unchanged static function", BOTH, ".c",
	  N "static int h(int x) { static int n; return n += x; } int f(int x) { return h(x); } int g(int x) { return h(x); }",
	  N "static int h(int x) { static int n; return n += x; } int f(int x) { return h(x) + 1; } int g(int x) { return h(x); }",
	  "", "changed f\ntarget h\n", {0} },
	{ "a call and the address of a changed function", BOTH, ".c",
	  "int (*saved)(int); " N "int h(int x) { return x * 3; } int f(int x) { return h(x) + 1; }",
	  "int (*saved)(int); " N "int h(int x) { return x * 5; } int f(int x) { saved = h; return h(x) + 1; }",
	  "", "changed h\nchanged f\nreplace h\ntarget h\n", {0} },
	{ "a static local keeps its value", BOTH, ".c", "int f(void) { static int n = 4; return n++; }",
	  "int f(void) { static int n = 4; return n += 2; }", "", "changed f\n", {0} },
	{ "statics of the same name in two functions", BOTH, ".c",
	  "int g(void) { static int n; return n++; } int f(void) { static int n; return n++; }",
	  "int f(void) { static int n; return n += 2; } int g(void) { static int n; return n++; }", "",
	  "changed f\n", {0} },
	{ "two statics of one name swapped in one function", GCC, ".c",
	  "int f(int a) { if (a) { static int n; return n++; } else { static int n; return n += 3; } }",
	  "int f(int a) { if (!a) { static int n; return n += 3; } else { static int n; return n++; } }",
	  "-O1", "changed f\nfinding static-ambiguous *\n", {0} },
	{ "the same where the code comes out equal: told apart by their places", CLANG, ".c",
	  "int f(int a) { if (a) { static int n; return n++; } else { static int n; return n += 3; } }",
	  "int f(int a) { if (!a) { static int n; return n += 3; } else { static int n; return n++; } }",
	  "-O1", "equal\n", {0} },
	{ "two statics of one name, and the code around them changed", BOTH, ".c",
	  "int g(int); int f(int a) { if (a) { static int n; return g(n++); } else { static int n; return n += 3; } }",
	  "int g(int); int f(int a) { if (g(a)) { static int n; return n += 3; } else { static int n; return g(n++); } }",
	  "", "changed f\nfinding static-ambiguous *\n", {0} },
	{ "two statics of one name in unchanged code beside a changed function", BOTH, ".c",
	  "int f(int a) { if (a) { static int n; return n++; } else { static int n; return n += 3; } } int g(void) { return 1; }",
	  "int f(int a) { if (a) { static int n; return n++; } else { static int n; return n += 3; } } int g(void) { return 2; }",
	  "", "changed g\n", {0} },
	{ "statics that nothing uses are in nobody's way", BOTH, ".c",
	  "int f(int a) { { static const int n __attribute__((used)) = 4; } { static const int n __attribute__((used)) = 4; } return a; }",
	  "int f(int a) { { static const int n __attribute__((used)) = 4; } { static const int n __attribute__((used)) = 4; } return a + 1; }",
	  "", "changed f\n", {0} },
	{ "statics told apart by their initial values", BOTH, ".c",
	  "int f(int a) { if (a) { static int n = 1; return n++; } else { static int n = 2; return n += 3; } }",
	  "int f(int a) { if (a) { static int n = 1; return n++; } else { static int n = 2; return n += 4; } }",
	  "", "changed f\n", {0} },
	{ "a removed static local", BOTH, ".c", "int f(void) { static int n; return n++; }",
	  "int f(void) { return 5; }", "", "changed f\nfinding static-removed *\n", {0} },
	{ "a new static local", BOTH, ".c", "int f(void) { return 5; }",
	  "int f(void) { static int n = 9; return n++; }", "", "changed f\n", {0} },
	{ "a changed initial value", BOTH, ".c", "int v = 1; int f(void) { return v; }",
	  "int v = 2; int f(void) { return v; }", "", "finding data-changed v\n", {0} },
	{ "an initial value instead of none", BOTH, ".c", "int v; int f(void) { return v; }",
	  "int v = 2; int f(void) { return v; }", "-fno-common", "finding data-changed v\n", {0} },
	{ "a changed initial value, accepted", BOTH, ".c", "int v = 1; int f(void) { return v; }",
	  "int v = 2; int f(void) { return v + 1; }", "", "changed f\nfinding data-changed v\ntarget v\n",
	  { "data-changed:v" } },
	{ "a changed size", BOTH, ".c", "char b[8]; char *f(void) { return b; }",
	  "char b[16]; char *f(void) { return b + 1; }", "-fno-common",
	  "changed f\nfinding data-size b\n", {0} },
	{ "a new global variable", BOTH, ".c", "int f(void) { return 1; }",
	  "int v = 3; int f(void) { return v; }", "", "changed f\ndefine v\n", {0} },
	{ "a table that unchanged code reads", BOTH, ".c",
	  "static const int t[] = {1,2,3,4,5,6,7,8}; int f(int i) { return t[i]; } int g(int i) { return t[i] + 1; }",
	  "static const int t[] = {1,2,3,4,9,6,7,8}; int f(int i) { return t[i]; } int g(int i) { return t[i] + 2; }",
	  "", "changed g\nfinding rodata-changed t\n", {0} },
	{ "the same, accepted: its readers get the new one", BOTH, ".c",
	  "static const int t[] = {1,2,3,4,5,6,7,8}; int f(int i) { return t[i]; } int g(int i) { return t[i] + 1; }",
	  "static const int t[] = {1,2,3,4,9,6,7,8}; int f(int i) { return t[i]; } int g(int i) { return t[i] + 2; }",
	  "", "changed f\nchanged g\ndefine t\n", { "rodata-changed:t" } },
	{ "a table that only changed code reads", BOTH, ".c",
	  "static const int t[] = {1,2,3,4,5,6,7,8}; int f(int i) { return t[i]; }",
	  "static const int t[] = {1,2,3,4,9,6,7,8}; int f(int i) { return t[i] + 2; }",
	  "", "changed f\ndefine t\n", {0} },
	{ "an unchanged table", BOTH, ".c",
	  "static const int t[] = {1,2,3,4,5,6,7,8}; int f(int i) { return t[i]; }",
	  "static const int t[] = {1,2,3,4,5,6,7,8}; int f(int i) { return t[i] + 2; }",
	  "", "changed f\ntarget t\n", {0} },
	{ "a new thread-local variable", BOTH, ".c", "int f(void) { return 1; }",
	  "static __thread int t; int f(void) { return t++; }", "", "changed f\nfinding tls-new t\n", {0} },
	{ "a changed thread-local variable", BOTH, ".c", "__thread int t = 1; int f(void) { return t; }",
	  "__thread int t = 2; int f(void) { return t; }", "", "finding tls-changed t\n", {0} },
	{ "a thread-local variable", BOTH, ".c", "__thread int t = 1; int f(void) { return t; }",
	  "__thread int t = 1; int f(void) { return t + 1; }", "", "changed f\ntarget t\n", {0} },
	{ "a constructor", BOTH, ".c",
	  "void g(int); __attribute__((constructor)) static void start(void) { g(1); }",
	  "void g(int); __attribute__((constructor)) static void start(void) { g(2); }", "",
	  "changed start\nfinding init-code start\n", {0} },
	{ "main is not start-up code", GCC, ".c", "int main(void) { return 0; }",
	  "int main(void) { return 1; }", "", "changed main\nreplace main\n", {0} },
	{ "a resolver", BOTH, ".c",
	  "static int a(void) { return 1; } static int b(void) { return 2; }"
	  "static void *pick(void) { return a; } int f(void) __attribute__((ifunc(\"pick\"))); void *k = b;",
	  "static int a(void) { return 1; } static int b(void) { return 2; }"
	  "static void *pick(void) { return b; } int f(void) __attribute__((ifunc(\"pick\"))); void *k = b;",
	  "", "changed *\nfinding ifunc-changed f\n?removed a\n", {0} },
	{ "a linker set", BOTH, ".c",
	  "__attribute__((section(\"myset\"), used)) static int a = 1; int f(void) { return 1; }",
	  "__attribute__((section(\"myset\"), used)) static int a = 1; __attribute__((section(\"myset\"), used)) static int b = 2; int f(void) { return 2; }",
	  "", "changed f\nfinding section-unknown b\n", {0} },
	{ "a custom text section", BOTH, ".c",
	  "__attribute__((section(\"mytext\"))) int f(void) { return 1; } __attribute__((section(\"mytext\"))) int g(void) { return 5; }",
	  "__attribute__((section(\"mytext\"))) int f(void) { return 2; } __attribute__((section(\"mytext\"))) int g(void) { return 5; }",
	  "", "changed f\nabsent g\n", {0} },
	{ "a main loop", BOTH, ".c", "void work(int); void loop(void) { for (;;) work(1); }",
	  "void work(int); void loop(void) { for (;;) work(2); }", "",
	  "changed loop\nfinding no-return loop\n", {0} },
	{ "an end of the process is no loop", BOTH, ".c",
	  "void exit(int) __attribute__((noreturn)); void die(void) { exit(1); }",
	  "void exit(int) __attribute__((noreturn)); void die(void) { exit(2); }", "", "changed die\n", {0} },
	{ "a jump table", BOTH, ".c",
	  "int puts(const char *); int f(int x) { switch (x) { case 0: puts(\"0\"); break; case 1: puts(\"1\"); return 4; case 2: puts(\"2\"); return 9; case 3: puts(\"3\"); return 1; case 4: puts(\"4\"); return 8; } return 0; } int g(int x) { return x; }",
	  "int puts(const char *); int f(int x) { switch (x) { case 0: puts(\"0\"); break; case 1: puts(\"1\"); return 4; case 3: puts(\"2\"); return 9; case 2: puts(\"3\"); return 1; case 4: puts(\"4\"); return 8; } return 0; } int g(int x) { return x; }",
	  "", "changed f\nabsent g\n", {0} },
	{ "computed goto: the table goes with its function", BOTH, ".c",
	  "int puts(const char *); int f(int x) { static const void *const t[] = {&&a, &&b, &&c}; goto *t[x]; a: puts(\"a\"); b: puts(\"b\"); c: return 1; }",
	  "int puts(const char *); int f(int x) { static const void *const t[] = {&&a, &&b, &&c}; goto *t[x]; a: puts(\"a\"); b: puts(\"b\"); c: return 2; }",
	  "", "changed f\n", {0} },
	{ "a cold part", GCC, ".c",
	  "__attribute__((cold)) void bad(int); int f(int x) { if (x > 4) { bad(x); bad(2); } return x; }",
	  "__attribute__((cold)) void bad(int); int f(int x) { if (x > 4) { bad(x); bad(3); } return x; }",
	  "", "changed f\nreplace f\ndefine f.cold\nimport bad\n", {0} },
	{ "clones", GCC, ".c",
	  N "static int h(int a, int b) { return a * b + b / 3; } int f(int x) { return h(x, 7) + h(x + 1, 7); } int g(void) { return 1; }",
	  N "static int h(int a, int b) { return a * b + b / 2; } int f(int x) { return h(x, 7) + h(x + 1, 7); } int g(void) { return 1; }",
	  "", "changed h.constprop.0\nreplace h.constprop.0\n", {0} },
	{ "__func__ is not a variable", BOTH, ".c",
	  "int puts(const char *); void f(void) { puts(__func__); } void g(void) { puts(__func__); }",
	  "int puts(const char *); void g(void) { puts(__func__); } void f(void) { puts(__func__); puts(\"x\"); }",
	  "", "changed f\n", {0} },
	{ "static to global", BOTH, ".c", N "static int h(int x) { return x * 3; } int f(int x) { return h(x); }",
	  N "int h(int x) { return x * 3; } int f(int x) { return h(x) + 1; }", "", "changed f\n", {0} },
	{ "a function that moved to another object", BOTH, ".c",
	  N "int h(int x) { return x * 3; } int f(int x) { return h(x) - 1; }",
	  "int h(int x); int f(int x) { return h(x) - 1; }", "",
	  "changed f\nremoved h\nimport h\n", {0} },
	{ "a removed variable is a note", BOTH, ".c", "int v = 1; int f(void) { return v; }",
	  "int f(void) { return 1; }", "", "changed f\n", {0} },
	{ "const is gone", BOTH, ".c", "const int t[4] = {1,2}; int f(int i) { return t[i]; }",
	  "int t[4] = {1,2}; int f(int i) { return t[i]; }", "", "finding data-changed t\n", {0} },
	{ "a pointer to a changed function in data", BOTH, ".c",
	  "int h(void) { return 1; } int (*p)(void) = h;", "int h(void) { return 2; } int (*p)(void) = h;", "",
	  "changed h\n", {0} },
	{ "C++: an inline function leaves its group", BOTH, ".cc",
	  "struct s { int v; " N "int m(int x) { return v += x; } }; int f(s &a) { return a.m(3); }",
	  "struct s { int v; " N "int m(int x) { return v -= x; } }; int f(s &a) { return a.m(3); }", "",
	  "changed _ZN1s1mEi\nreplace _ZN1s1mEi\nabsent _Z1fR1s\n", {0} },
	{ "C++: the caught type, with equal code", BOTH, ".cc",
	  "void g(); int f() { try { g(); } catch (int) { return 1; } return 0; }",
	  "void g(); int f() { try { g(); } catch (long) { return 1; } return 0; }", "",
	  "changed _Z1fv\nreplace _Z1fv\nimport _ZTIl\n", {0} },
	{ "C++: a static initialiser", BOTH, ".cc", "int g(int); int v = g(1); int f() { return v; }",
	  "int g(int); int v = g(2); int f() { return v; }", "",
	  "changed *\nfinding init-code *\n?changed *\n?finding init-code *\n", {0} },
	{ "C++: a vtable", BOTH, ".cc",
	  "struct s { virtual int a(); virtual int b(); }; int s::a() { return 1; } int s::b() { return 2; }",
	  "struct s { virtual int b(); virtual int a(); }; int s::a() { return 1; } int s::b() { return 2; }", "",
	  "finding rodata-changed _ZTV1s\n", {0} },
	{ "C++: a guarded static", BOTH, ".cc", "int g(int); int f() { static int v = g(1); return v; }",
	  "int g(int); int f() { static int v = g(1); return v + 1; }", "",
	  "changed _Z1fv\ntarget _ZZ1fvE1v\ntarget _ZGVZ1fvE1v\n", {0} },
};

/* ---- expectations --------------------------------------------------------------------------- */

static bool matches(const char *pattern, const char *word)
{
	return string_equal(pattern, "*") || string_equal(pattern, word);
}

struct expectation {
	char words[3][128];
	bool optional, met;
};

static size_t parse(const char *expect, struct expectation *expectations)
{
	size_t count = 0;
	for (const char *line = expect; *line; line = strchr(line, '\n') + 1) {
		struct expectation *expectation = &expectations[count++];
		memset(expectation, 0, sizeof(*expectation));
		expectation->optional = *line == '?';
		sscanf(line + expectation->optional, "%127s %127[^ \n] %127[^\n]", expectation->words[0],
		       expectation->words[1], expectation->words[2]);
	}
	return count;
}

static bool meet(struct expectation *expectations, size_t count, const char *first, const char *second,
		 const char *third)
{
	for (size_t i = 0; i < count; i++) {
		struct expectation *expectation = &expectations[i];
		if (expectation->met || !string_equal(expectation->words[0], first) ||
		    !matches(expectation->words[1], second) ||
		    (third && !matches(expectation->words[2], third)))
			continue;
		return expectation->met = true;
	}
	return false;
}

static void check_output(const struct diff *diff, struct expectation *expectation, const char *where)
{
	const char *word = expectation->words[0], *name = expectation->words[1];
	bool found = false;
	if (string_equal(word, "define"))
		found = output_symbol(diff, name, true, false);
	else if (string_equal(word, "replace"))
		found = output_symbol(diff, name, true, true);
	else if (string_equal(word, "target"))
		found = output_symbol(diff, name, false, true);
	else if (string_equal(word, "import"))
		found = output_symbol(diff, name, false, false);
	else if (string_equal(word, "absent"))
		found = !output_symbol(diff, name, true, true) &&
			!output_symbol(diff, name, true, false) &&
			!output_symbol(diff, name, false, true) &&
			!output_symbol(diff, name, false, false);
	else if (string_equal(word, "equal"))
		found = !diff->changed;
	else
		return;
	if (!found)
		fail_msg("%s: not met: %s %s", where, word, name);
	expectation->met = true;
}

// Relocations stay inside their sections, and the file that is written reads back.
static void check_written(const struct diff *diff)
{
	uint8_t *bytes, *again;
	size_t size, again_size;
	struct object *read = NULL;
	assert_ok(object_write(diff->output, &bytes, &size));
	assert_ok(object_read(bytes, size, "output", &read));
	assert_ok(object_write(diff->output, &again, &again_size));
	assert_int_equal(size, again_size);
	assert_memory_equal(bytes, again, size);
	free(bytes);
	free(again);
	object_free(read);
}

static void check_change(const struct change *change, const char *compiler, const char *model)
{
	char *flags = xasprintf("-O2 -ffunction-sections -fdata-sections %s %s", model, change->flags);
	char *where = xasprintf("%s (%s %s)", change->name, compiler, flags);
	struct object *old_object = compile(compiler, flags, change->suffix, change->old_text, "old.o");
	struct object *new_object = compile(compiler, flags, change->suffix, change->new_text, "new.o");
	struct diff_options options = { .accepted = change->accepted };
	while (change->accepted[options.accepted_count])
		options.accepted_count++;
	struct diff *diff = NULL;
	assert_ok(diff_objects(old_object, new_object, &options, &diff));

	struct expectation expectations[32];
	size_t count = parse(change->expect, expectations);
	for (size_t i = 0; i < diff->functions.count; i++) {
		const struct diff_function *function = &diff->functions.items[i];
		if (function->verdict != DIFF_SAME &&
		    !meet(expectations, count, diff_verdict_word(function->verdict), function->name,
			  NULL))
			fail_msg("%s: '%s' is %s: %s", where, function->name,
				 diff_verdict_word(function->verdict),
				 function->reason ? function->reason : "");
		if (function->verdict == DIFF_CHANGED)
			assert_non_null(function->reason);
	}
	for (size_t i = 0; i < diff->findings.list.count; i++) {
		const struct finding *finding = &diff->findings.list.items[i];
		if (finding->kind != FINDING_KIND_SYMBOL_REMOVED && !finding->accepted &&
		    !meet(expectations, count, "finding", finding_kind_word(finding->kind),
			  finding->subject))
			fail_msg("%s: finding %s %s: %s", where, finding_kind_word(finding->kind),
				 finding->subject, finding->text);
		if (finding->accepted)
			meet(expectations, count, "finding", finding_kind_word(finding->kind),
			     finding->subject);
	}
	for (size_t i = 0; i < count; i++)
		check_output(diff, &expectations[i], where);
	for (size_t i = 0; i < count; i++)
		if (!expectations[i].met && !expectations[i].optional)
			fail_msg("%s: not met: %s %s %s", where, expectations[i].words[0],
				 expectations[i].words[1], expectations[i].words[2]);
	assert_int_equal(findings_refuse(&diff->findings) && diff->output, 0);
	if (diff->output)
		check_written(diff);
	diff_free(diff);
	object_free(old_object);
	object_free(new_object);
	free(flags);
	free(where);
}

static void check_changes(const char *compiler, const char *cxx_compiler, unsigned bit)
{
	if (!have(compiler) || !have(cxx_compiler))
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		if (!(changes[i].compilers & bit))
			continue;
		bool cxx = string_equal(changes[i].suffix, ".cc");
		check_change(&changes[i], cxx ? cxx_compiler : compiler, i % 2 ? "-fPIC" : "-fno-pie");
		if (getenv("SUTURE_TEST_FULL"))
			check_change(&changes[i], cxx ? cxx_compiler : compiler,
				     i % 2 ? "-fno-pie -g" : "-fPIC -g");
	}
}

static void changes_of_gcc(void **state)
{
	(void)state;
	check_changes("gcc", "g++", GCC);
}

static void changes_of_clang(void **state)
{
	(void)state;
	check_changes("clang", "clang++", CLANG);
}

/* ---- the rest of the interface --------------------------------------------------------------- */

static struct diff *diff_of(const char *flags, const char *old_text, const char *new_text,
			    const struct diff_options *options, struct object **old_object,
			    struct object **new_object)
{
	*old_object = compile("gcc", flags, ".c", old_text, "old.o");
	*new_object = compile("gcc", flags, ".c", new_text, "new.o");
	struct diff *diff = NULL;
	assert_ok(diff_objects(*old_object, *new_object, options, &diff));
	return diff;
}

static const char *const plain_old =
	N "static int a(int x) { return x * 3; }" N "static int b(int x) { return a(x) + 1; }"
	"int c(int x) { return b(x) * a(x); } int d(int x) { return b(x) - 9; }";
static const char *const plain_new =
	N "static int a(int x) { return x * 3 + (x << 9); }" N "static int b(int x) { return a(x) + 1; }"
	"int c(int x) { return b(x) * a(x); } int d(int x) { return b(x) - 9; }";

// Several functions in .text, calls between them resolved by the assembler: displacements differ.
static void plain_objects_are_compared(void **state)
{
	(void)state;
	struct object *old_object, *new_object;
	const struct diff_options options = { .verdicts_only = true };
	struct diff *diff = diff_of("-O2", plain_old, plain_new, &options, &old_object, &new_object);
	assert_int_equal(function_named(diff, "a")->verdict, DIFF_CHANGED);
	assert_int_equal(function_named(diff, "b")->verdict, DIFF_SAME);
	assert_int_equal(function_named(diff, "c")->verdict, DIFF_SAME);
	assert_int_equal(function_named(diff, "d")->verdict, DIFF_SAME);
	assert_null(diff->output);
	assert_int_equal(diff->findings.list.count, 0);
	diff_free(diff);
	object_free(old_object);
	object_free(new_object);
}

// A longer string in front moves the literals of the others; one behind a NUL is still content.
static void literals_without_string_sections(void **state)
{
	(void)state;
	struct object *old_object, *new_object;
	const char *format = "int puts(const char *); void w(const char *, int); void f(void) { puts(\"%s\"); }"
			     "void g(void) { puts(\"unchanged\"); } void h(void) { w(\"a\\0%s\", 4); }"
			     "void i(void) { puts(\"the last\"); }";
	char *old_text = xasprintf(format, "one", "xy"), *new_text = xasprintf(format, "seven", "xz");
	struct diff *diff = diff_of("-O0 -ffunction-sections -fdata-sections", old_text, new_text, NULL,
				    &old_object, &new_object);
	assert_int_equal(function_named(diff, "f")->verdict, DIFF_CHANGED);
	assert_int_equal(function_named(diff, "g")->verdict, DIFF_SAME);
	assert_int_equal(function_named(diff, "h")->verdict, DIFF_CHANGED);
	assert_int_equal(function_named(diff, "i")->verdict, DIFF_SAME);
	free(old_text);
	free(new_text);
	diff_free(diff);
	object_free(old_object);
	object_free(new_object);
}

// The neighbour grows beyond a short jump's reach: the jump over it becomes a long one, and what
// stands behind the jump moves. @label: where the address in the first instruction points.
static char *jump_over(int neighbour, const char *label)
{
	return xasprintf(".text\n.type a,@function\na: lea %s(%%rip), %%rdx\n test %%edi, %%edi\n"
			 " jne c\n1: add $2, %%eax\n2: ret\n.size a, .-a\n"
			 ".type t,@function\nt: .rept %d\n inc %%eax\n .endr\n ret\n.size t, .-t\n"
			 ".type c,@function\nc: call a\n ret\n.size c, .-c\n",
			 label, neighbour);
}

static void jumps_of_another_length_are_no_change(void **state)
{
	(void)state;
	static const struct { const char *label; enum diff_verdict verdict; } cases[] = {
		{ "1f", DIFF_SAME },
		{ "2f", DIFF_CHANGED },
	};
	const struct diff_options options = { .verdicts_only = true };
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char *old_text = jump_over(2, "1f"), *new_text = jump_over(200, cases[i].label);
		struct object *old_object = compile("gcc", "", ".s", old_text, "old.o");
		struct object *new_object = compile("gcc", "", ".s", new_text, "new.o");
		struct diff *diff = NULL;
		assert_ok(diff_objects(old_object, new_object, &options, &diff));
		assert_int_equal(function_named(diff, "t")->verdict, DIFF_CHANGED);
		assert_int_equal(function_named(diff, "a")->verdict, cases[i].verdict);
		assert_int_equal(function_named(diff, "c")->verdict, DIFF_SAME);
		free(old_text);
		free(new_text);
		diff_free(diff);
		object_free(old_object);
		object_free(new_object);
	}
}

// A jump with a one-byte distance cannot reach the running program: it goes over a long one.
static void short_jumps_out_of_a_function_are_lengthened(void **state)
{
	(void)state;
	const char *const names[] = { "a" };
	const struct diff_options options = { .changed_elsewhere = names, .changed_elsewhere_count = 1 };
	char *text = jump_over(2, "1f");
	struct object *old_object = compile("gcc", "", ".s", text, "old.o");
	struct object *new_object = compile("gcc", "", ".s", text, "new.o");
	struct diff *diff = NULL;
	assert_ok(diff_objects(old_object, new_object, &options, &diff));
	const struct object_symbol *function = function_named(diff, "a")->output;
	assert_non_null(function);
	assert_int_equal(function->size, function->origin->size + 5);
	const struct object_section *section = function->section;
	assert_int_equal(section->relocations.count, 1);
	assert_ptr_equal(section->relocations.items[0].symbol, output_symbol(diff, "c", false, true));
	assert_int_equal(section->relocations.items[0].offset, function->origin->size + 1);
	// test, jne: the distance from the jne's end to the function's.
	assert_int_equal(section->data[9], 0x75);
	assert_int_equal(section->data[10], function->origin->size - 11);
	check_written(diff);
	free(text);
	diff_free(diff);
	object_free(old_object);
	object_free(new_object);
}

static void changed_elsewhere_forces_a_function(void **state)
{
	(void)state;
	struct object *old_object, *new_object;
	const char *const names[] = { "b", "not there" };
	const struct diff_options options = { .changed_elsewhere = names, .changed_elsewhere_count = 2 };
	struct diff *diff = diff_of("-O2 -ffunction-sections", plain_old, plain_old, &options,
				    &old_object, &new_object);
	const struct diff_function *function = function_named(diff, "b");
	assert_int_equal(function->verdict, DIFF_CHANGED);
	assert_true(function->forced);
	assert_non_null(function->output);
	assert_ptr_equal(function->output->origin, function->old_symbol);
	assert_non_null(output_symbol(diff, "a", false, true));
	diff_free(diff);
	object_free(old_object);
	object_free(new_object);
}

static void the_first_difference_is_named(void **state)
{
	(void)state;
	struct object *old_object, *new_object;
	struct diff *diff = diff_of("-O2 -ffunction-sections",
				    "int f(int x) { return x * 5 + 100; }",
				    "int f(int x) { return x * 5 + 200; }", NULL, &old_object,
				    &new_object);
	const struct diff_function *function = function_named(diff, "f");
	assert_int_equal(function->old_offset, function->new_offset);
	assert_non_null(strstr(function->old_text, "0x64"));
	assert_non_null(strstr(function->new_text, "0xC8") ?: strstr(function->new_text, "0xc8"));
	diff_free(diff);
	object_free(old_object);
	object_free(new_object);
}

static void same_input_gives_the_same_bytes(void **state)
{
	(void)state;
	struct object *old_object, *new_object;
	uint8_t *bytes[2];
	size_t sizes[2];
	for (int i = 0; i < 2; i++) {
		struct diff *diff = diff_of("-O2 -ffunction-sections", plain_old, plain_new, NULL,
					    &old_object, &new_object);
		assert_ok(object_write(diff->output, &bytes[i], &sizes[i]));
		diff_free(diff);
		object_free(old_object);
		object_free(new_object);
	}
	assert_int_equal(sizes[0], sizes[1]);
	assert_memory_equal(bytes[0], bytes[1], sizes[0]);
	free(bytes[0]);
	free(bytes[1]);
}

static void an_object_equals_itself(void **state)
{
	(void)state;
	struct object *old_object, *new_object;
	struct diff *diff = diff_of("-O2", plain_old, plain_old, NULL, &old_object, &new_object);
	assert_false(diff->changed);
	assert_null(diff->output);
	diff_free(diff);
	object_free(old_object);
	object_free(new_object);
}

#define IN_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, enter_directory, leave_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		IN_DIRECTORY(changes_of_gcc),
		IN_DIRECTORY(changes_of_clang),
		IN_DIRECTORY(plain_objects_are_compared),
		IN_DIRECTORY(literals_without_string_sections),
		IN_DIRECTORY(jumps_of_another_length_are_no_change),
		IN_DIRECTORY(short_jumps_out_of_a_function_are_lengthened),
		IN_DIRECTORY(changed_elsewhere_forces_a_function),
		IN_DIRECTORY(the_first_difference_is_named),
		IN_DIRECTORY(same_input_gives_the_same_bytes),
		IN_DIRECTORY(an_object_equals_itself),
	};
	return cmocka_run_group_tests_name("diff", tests, NULL, NULL);
}
