// SPDX-License-Identifier: MIT
/*
 * Objects against programs that they were linked into: by all compilers and linkers that are here,
 * position-independent or not, dynamic or not. The stripped program is asked, the symbol table of
 * the unstripped one knows the answers: every function must be found at its address and every static
 * placed at its own. Then one thing in the source is changed, and exactly that must be told.
 */
#include "image_support.h"

#include <elf.h>

// ---- sources

static const char header[] = "static inline __attribute__((__noinline__)) int inl(int x)"
			     "{ static int n; return n += x * x; }\n";

static const char first[] =
	"#include <stdio.h>\n"
	"#include <stdlib.h>\n"
	"#include <string.h>\n"
	"#include \"h.h\"\n"
	"#ifndef COMMON\n"
	"#define COMMON extern\n"
	"#endif\n"
	"static int counter_a = 5, zero_a; COMMON int common_x; extern int shared_y;\n"
	"static const int table[] = {1, 2, 3, 5, 8, 13, 21, 34, 55, 89};\n"
	"static __thread int tls_a = 3; __thread int tls_g; extern __thread int tls_b;\n"
	"extern int weak_undef(int) __attribute__((weak));\n"
	"int __attribute__((weak)) weak_over(int x) { return x * 31 + 7; }\n"
	"static int helper(int x) { static int counter; counter += x; tls_a += x;\n"
	"	return counter + zero_a++ + inl(x); }\n"
	"int sw(int x) { switch (x) { case 0: return helper(3); case 1: return 7 + counter_a++;\n"
	"	case 2: return 19 * zero_a; case 3: return 24 + x * 3; case 4: return shared_y;\n"
	"	case 5: puts(\"five\"); return 3; case 6: return printf(\"six six six\");\n"
	"	case 7: return table[x & zero_a]; case 8: return tls_b; default: return 0; } }\n"
	"static int f1(int a) { return a + 1 + counter_a; }\n"
	"static int f2(int a) { return a * 3 - zero_a; }\n"
	"static int f3(int a) { return helper(a) ^ 5; }\n"
	"int (*const ops[])(int) = {f1, f2, f3}; static int (*wops[])(int) = {f2, f1, NULL};\n"
	"int dispatch(int i, int v) { return ops[i % 3](v) + (wops[i % 2] ? wops[i % 2](v) : 0); }\n"
	"int unused_a(int x) { return x * 12345 + counter_a; }\n"
	"static int __attribute__((noinline)) same(int x) { return x * 7 + 1; }\n"
	"int (*fp)(const char *) = puts; extern int beta(int); extern const char *names[];\n"
	"__attribute__((cold)) void panic(const char *s) { fprintf(stderr, \"no %s\\n\", s); exit(3); }\n"
	"double dbl(double x) { return x * 3.14159 + 2.71828; }\n"
	"int main(int c, char **v) { int r = 0; for (int i = 0; i < 20; i++) {\n"
	"	r += sw(i % 10) + dispatch(i, r) + beta(i); tls_g += r; } common_x = r;\n"
	"	if (c > 99) panic(names[c]);\n"
	"	printf(\"%d %d %f %s %d %s\\n\", r, common_x, dbl(r), names[1], same(r) + weak_over(r), v[0]);\n"
	"	if (weak_undef) r++; fp(\"done\"); return 0; }\n";

static const char second[] =
	"#include <stdio.h>\n"
	"#include <string.h>\n"
	"#include <time.h>\n"
	"#include \"h.h\"\n"
	"int common_x; int shared_y = 77; static int counter_b = 9, zero_b[100];\n"
	"__thread int tls_b = 8; static __thread char tls_buf[32]; extern __thread int tls_g;\n"
	"const char *names[] = {\"alpha\", \"beta\", \"gamma\", \"six six six\", \"five\"};\n"
	"static const char *const priv[] = {\"p0\", \"p1\", \"beta\"};\n"
	"int weak_over(int x) { return x * 37 + 11; }\n"
	"static int helper(int x) { static int counter = 4; counter -= x;\n"
	"	return counter * zero_b[x & 7] + inl(x); }\n"
	"static int __attribute__((noinline)) same(int x) { return x * 7 + 1; }\n"
	"int beta(int x) { zero_b[x & 15] += x; tls_buf[x & 31] = x; tls_g++;\n"
	"	if (x > 50) printf(\"%s %ld\\n\", priv[x % 3], (long)time(NULL));\n"
	"	return helper(x) + counter_b++ + same(x) + tls_b + memcmp(names[0], priv[0], 2); }\n"
	"int unused_b(int x) { return x * 54321 + counter_b; }\n"
	"float flt(float x) { return x * 3.5f; }\n";

static const char third[] =
	"#include <cstdio>\n"
	"#include <map>\n"
	"#include <stdexcept>\n"
	"#include <string>\n"
	"#include <vector>\n"
	"struct Base { virtual ~Base() {} virtual int f(int x) { return x + 1; } virtual int g() = 0; };\n"
	"struct D1 : Base { int k = 3; int f(int x) override { return x * k; }\n"
	"	int g() override { return k; } };\n"
	"struct D2 : Base { std::string s = \"hello world, this is long\";\n"
	"	int g() override { return s.size(); } };\n"
	"static std::map<std::string, int> m;\n"
	"template<class T> T tmax(T a, T b) { return a < b ? b : a; }\n"
	"inline int shared_inline(int x) { static int calls; return ++calls + x * 17; }\n"
	"namespace { struct Anon { int v; int get() { return v * 3; } }; int anon_counter; }\n"
	"int act(int n) { std::vector<Base *> v; v.push_back(new D1); v.push_back(new D2); int r = 0;\n"
	"	for (auto b : v) { r += b->f(n) + b->g(); delete b; } m[\"a\" + std::to_string(n)] = r;\n"
	"	anon_counter += r; Anon a{r};\n"
	"	try { if (n > 5) throw std::runtime_error(\"big\"); }\n"
	"	catch (std::exception &e) { printf(\"%s\\n\", e.what()); r++; }\n"
	"	return tmax(r, a.get()) + shared_inline(r) + m.size(); }\n";

static const char fourth[] =
	"#include <cstdio>\n"
	"#include <string>\n"
	"#include <vector>\n"
	"inline int shared_inline(int x) { static int calls; return ++calls + x * 17; }\n"
	"int act(int);\n"
	"static int local(std::vector<std::string> &v) { int r = 0; for (auto &s : v) r += s.size(); return r; }\n"
	"int main() { std::vector<std::string> v{\"a\", \"bb\", \"ccc\"}; v.push_back(\"dddd\");\n"
	"	printf(\"%d %d %d\\n\", act(3), act(9), local(v) + shared_inline(2)); }\n";

static int sources_make(void **state)
{
	if (directory_make(state) != 0)
		return -1;
	source_write("h.h", header);
	source_write("a1.c", first);
	source_write("b1.c", second);
	source_write("a.cc", third);
	source_write("b.cc", fourth);
	return 0;
}

// ---- the oracle

static bool same_file(const char *a, const char *b)
{
	return !a || !b || strcmp(path_basename(a), path_basename(b)) == 0;
}

/** Does the symbol table have @symbol at @address? @ret_known: it has the name at all. */
static bool oracle(const struct image *full, const struct object_symbol *symbol, uint64_t address,
		   bool tls, bool *ret_known)
{
	const struct image_symbol **named;
	size_t count = image_symbols_named(full, symbol->name, &named);
	*ret_known = count > 0;
	for (size_t i = 0; i < count; i++)
		if (named[i]->address == address && (named[i]->type == STT_TLS) == tls &&
		    (symbol->bind != STB_LOCAL || named[i]->bind != STB_LOCAL ||
		     same_file(symbol->file, named[i]->file)))
			return true;
	return false;
}

/** Every function is matched, or was dropped; every place that is told is right. */
static void check(const char *what, const struct image *image, const struct image *full,
		  const char *object_name, bool dropped)
{
	_cleanup_object_ struct object *object = open_object(object_name);
	struct findings findings = {0};
	struct image_match *result = match(image, object, &findings);
	if (findings.list.count > 0)
		fail_msg("%s, %s: %s: %s", what, object_name, findings.list.items[0].subject,
			 findings.list.items[0].text);
	bool known;
	for (size_t i = 0; i < result->functions.count; i++) {
		const struct image_function *function = &result->functions.items[i];
		const struct object_symbol *symbol = function->symbol;
		if (function->verdict == IMAGE_DISCARDED && dropped)
			continue;
		if (function->verdict != IMAGE_MATCHED)
			fail_msg("%s, %s: '%s' is not matched", what, object_name, symbol->name);
		// The weak one that another file overrides is still there, without its name.
		if (symbol->bind != STB_WEAK && !oracle(full, symbol, function->address, false, &known))
			fail_msg("%s, %s: '%s' is not at 0x%llx", what, object_name, symbol->name,
				 (unsigned long long)function->address);
	}
	size_t placed = 0;
	for (size_t i = 0; i < object->symbols.count; i++) {
		const struct object_symbol *symbol = object->symbols.items[i];
		struct image_place place;
		bool named = symbol->name[0] && symbol->name[0] != '.' && symbol->type != STT_SECTION;
		if (!named || (symbol->section && !(symbol->section->flags & SHF_ALLOC)) ||
		    !image_match_place(result, symbol, &place))
			continue;
		placed++;
		if (place.kind == IMAGE_PLACE_IMPORT) {
			assert_string_equal(place.name, symbol->name);
			continue;
		}
		if (!oracle(full, symbol, place.value, place.kind == IMAGE_PLACE_TLS, &known) && known &&
		    !image_plt_target(image, place.value))
			fail_msg("%s, %s: '%s' is not at 0x%llx (%s)", what, object_name, symbol->name,
				 (unsigned long long)place.value, place.proof);
	}
	assert_true(placed > 5);
	image_match_free(result);
	findings_deinit(&findings);
}

struct variant {
	const char *compile, *link;
	bool cxx;
	bool dropped; /* the linker may drop or fold: with symbols, as only these tell all */
	const char *without; /* linkers that do not do this */
};

static const struct variant variants[] = {
	{"gcc -O0 -fPIE", "gcc -pie", .cxx = false},
	{"gcc -O1 -fPIE", "gcc -pie", .cxx = false},
	{"gcc -O2 -fPIE", "gcc -pie", .cxx = false},
	{"gcc -O3 -fPIE", "gcc -pie", .cxx = false},
	{"gcc -Os -fPIE", "gcc -pie", .cxx = false},
	{"gcc -O2 -fno-pie", "gcc -no-pie", .cxx = false},
	{"gcc -O2 -fno-pie", "gcc -no-pie -static", .cxx = false},
	{"gcc -O2 -fPIE -fno-plt", "gcc -pie", .cxx = false},
	{"gcc -O2 -fcommon -DCOMMON=", "gcc", .cxx = false},
	{"gcc -O2 -fPIC", "gcc -shared", .cxx = false},
	{"gcc -O2 -fPIC -fno-plt", "gcc -shared", .cxx = false},
	{"gcc -O2 -fPIC -mtls-dialect=gnu2", "gcc -shared", .cxx = false},
	{"gcc -O2 -fPIC", "gcc -pie -Wl,-z,now", .cxx = false},
	{"gcc -O2 -fcf-protection", "gcc -Wl,-z,ibt", .without = "gold"},
	{"gcc -O2", "gcc -Wl,-z,pack-relative-relocs", .without = "gold"},
	{"gcc -O2 -fPIC -mcmodel=large", "gcc -shared", .without = "gold lld mold"},
	{"gcc -O2 -ffunction-sections -fdata-sections", "gcc -Wl,--gc-sections", .dropped = true},
	{"clang -O2 -fPIE", "clang -pie", .cxx = false},
	{"clang -O2 -fno-pie", "clang -no-pie", .cxx = false},
	{"g++ -O0", "g++", .cxx = true},
	{"g++ -O2", "g++", .cxx = true},
	{"g++ -O2 -fPIC", "g++ -shared", .cxx = true},
	{"g++ -O2 -ffunction-sections", "g++ -Wl,--gc-sections", .cxx = true, .dropped = true},
	{"clang++ -O1", "clang++", .cxx = true},
};

static void every_linker(void **state)
{
	(void)state;
	static const char *const linkers[] = {"bfd", "gold", "lld", "mold"};
	size_t done = 0;
	run("cp a1.c a.c && cp b1.c b.c");
	for (size_t i = 0; i < ARRAY_SIZE(variants); i++) {
		const struct variant *variant = &variants[i];
		const char *suffix = variant->cxx ? "cc" : "c";
		if (!try_run("%s -w -c a.%s -o a.o && %s -w -c b.%s -o b.o", variant->compile, suffix,
			     variant->compile, suffix))
			continue; // no such compiler
		for (size_t j = 0; j < ARRAY_SIZE(linkers); j++) {
			if ((variant->without && strstr(variant->without, linkers[j])) ||
			    !try_run("%s -fuse-ld=%s -o full a.o b.o && strip -o bare full",
				     variant->link, linkers[j]))
				continue; // no such linker
			_cleanup_free_ char *what = xasprintf("%s; %s -fuse-ld=%s", variant->compile,
							      variant->link, linkers[j]);
			_cleanup_image_ struct image *full = open_image("full", NULL);
			_cleanup_image_ struct image *bare = open_image("bare", NULL);
			assert_false(bare->has_symtab);
			const struct image *asked = variant->dropped ? full : bare;
			// Copies of an inline function at -O0 refer to their own file's strings.
			bool dropped = variant->dropped || variant->cxx;
			check(what, asked, full, "a.o", dropped);
			check(what, asked, full, "b.o", dropped);
			done++;
		}
	}
	print_message("%zu programs\n", done);
	assert_true(done >= 20);
}

// ---- one change

struct change {
	const char *from, *to;
	const char *subject; /* of the only findings */
	const char *expected, *found; /* in the instructions, or NULL */
};

static const struct change changes[] = {
	{"i < 20", "i < 21", "main", "$0x15", "$0x14"},
	{"* 31 + 7", "* 31 + 9", "weak_over", "0x09", "0x07"},
	{"19 * zero_a", "23 * zero_a", "sw", NULL, NULL},
	{"\"five\"", "\"fivf\"", "sw", "lea", "lea"},
	{"55, 89}", "55, 90}", "table", NULL, NULL},
	{"counter_a = 5", "counter_a = 6", "counter_a", NULL, NULL},
	{"{f2, f1, NULL}", "{f1, f2, NULL}", "wops", NULL, NULL},
	{"24 + x * 3;", "24 + x * 3 * zero_a * counter_a;", "sw", NULL, NULL},
	{"(const char *) = puts", "(const char *) = (int (*)(const char *))perror", "fp", NULL, NULL},
};

/** A function or a part of it that the compiler split off: "sw.cold". */
static bool is_of(const char *name, const char *subject)
{
	size_t size = strlen(subject);
	return strncmp(name, subject, size) == 0 && (name[size] == 0 || name[size] == '.');
}

static void one_change(void **state)
{
	(void)state;
	run("cp a1.c a.c && gcc -w -g -O2 -fPIE -c a.c -o a.o && gcc -w -O2 -fPIE -c b1.c -o b.o && "
	    "gcc -pie -o full a.o b.o && strip -o bare full");
	_cleanup_image_ struct image *full = open_image("full", NULL);
	_cleanup_image_ struct image *bare = open_image("bare", NULL);
	for (size_t i = 0; i < ARRAY_SIZE(changes) * 2; i++) {
		const struct change *change = &changes[i / 2];
		const struct image *image = i % 2 ? full : bare;
		const char *at = strstr(first, change->from);
		assert_non_null(at);
		_cleanup_free_ char *text = xasprintf("%.*s%s%s", (int)(at - first), first, change->to,
						      at + strlen(change->from));
		source_write("a.c", text);
		run("gcc -w -g -O2 -fPIE -c a.c -o changed.o");
		_cleanup_object_ struct object *object = open_object("changed.o");
		struct findings findings = {0};
		struct image_match *result = match(image, object, &findings);
		assert_true(findings.list.count > 0);
		for (size_t j = 0; j < findings.list.count; j++) {
			assert_int_equal(findings.list.items[j].kind, FINDING_KIND_CODE_MISMATCH);
			if (!is_of(findings.list.items[j].subject, change->subject))
				fail_msg("'%s' for '%s': %s: %s", change->to, change->from,
					 findings.list.items[j].subject, findings.list.items[j].text);
		}
		for (size_t j = 0; j < result->functions.count; j++) {
			const struct image_function *function = &result->functions.items[j];
			bool known;
			bool is_it = strcmp(function->symbol->name, change->subject) == 0;
			// The change made this part; the target has no such thing.
			if (!is_it && is_of(function->symbol->name, change->subject) &&
			    function->verdict == IMAGE_MISSING)
				continue;
			if (function->verdict != (is_it ? IMAGE_DIFFERENT : IMAGE_MATCHED))
				fail_msg("'%s' for '%s': verdict %d on '%s'", change->to, change->from,
					 function->verdict, function->symbol->name);
			if (function->symbol->bind != STB_WEAK)
				assert_true(oracle(full, function->symbol, function->address, false,
						   &known));
			if (is_it && change->expected) {
				assert_non_null(strstr(function->expected, change->expected));
				assert_non_null(strstr(function->found, change->found));
			}
		}
		image_match_free(result);
		findings_deinit(&findings);
	}
}

// ---- copies

static enum image_verdict verdict_of(const struct image *image, const char *object_name,
				     const char *function, uint64_t *ret_address)
{
	_cleanup_object_ struct object *object = open_object(object_name);
	struct findings findings = {0};
	struct image_match *result = match(image, object, &findings);
	const struct image_function *found =
		image_match_function(result, object_symbol_find(object, function));
	assert_non_null(found);
	enum image_verdict verdict = found->verdict;
	*ret_address = found->address;
	bool ambiguous = verdict == IMAGE_AMBIGUOUS;
	assert_int_equal(ambiguous ? 1 : 0, findings.list.count);
	if (ambiguous)
		assert_int_equal(findings.list.items[0].kind, FINDING_KIND_CODE_AMBIGUOUS);
	image_match_free(result);
	findings_deinit(&findings);
	return verdict;
}

static uint64_t address_of(const struct image *full, const char *name)
{
	const struct image_symbol **named;
	assert_int_equal(image_symbols_named(full, name, &named), 1);
	return named[0]->address;
}

/** @body with NAME for the function's name, as two files; @told: can a stripped program tell? */
static void check_copies(const char *body_x, const char *body_y, bool told)
{
	source_write("x.c", body_x);
	source_write("y.c", body_y);
	source_write("m.c", "int x(int), y(int); int main(int c, char **v) { (void)v; return x(c) + y(c); }\n");
	run("gcc -O2 -w -c x.c y.c m.c 2>&1 && gcc -o full m.o x.o y.o && strip -o bare full");
	_cleanup_image_ struct image *full = open_image("full", NULL);
	_cleanup_image_ struct image *bare = open_image("bare", NULL);
	static const char *const names[] = {"x", "y"};
	for (size_t i = 0; i < 2; i++) {
		_cleanup_free_ char *object = xasprintf("%s.o", names[i]);
		uint64_t address;
		assert_int_equal(verdict_of(full, object, names[i], &address), IMAGE_MATCHED);
		assert_int_equal(address, address_of(full, names[i]));
		enum image_verdict verdict = verdict_of(bare, object, names[i], &address);
		assert_int_equal(verdict, told ? IMAGE_MATCHED : IMAGE_AMBIGUOUS);
		if (told)
			assert_int_equal(address, address_of(full, names[i]));
	}
}

static void copies(void **state)
{
	(void)state;
	// Alike in every respect.
	check_copies("int x(int a) { return a * 123457 + 3; }\n",
		     "int y(int a) { return a * 123457 + 3; }\n", false);
	check_copies("static int n; int x(int a) { return n += a * 123457 + 3; }\n",
		     "static int n; int y(int a) { return n += a * 123457 + 3; }\n", false);
	// Their data tells them apart.
	check_copies("static int n = 7; int x(int a) { return n += a * 123457 + 3; }\n",
		     "static int n = 9; int y(int a) { return n += a * 123457 + 3; }\n", true);
	// Strings do, at once.
	check_copies("int x(int a) { return a + puts(\"one of two\"); }\n",
		     "int y(int a) { return a + puts(\"two of two\"); }\n", true);
	// Two that only another section of each object tells apart.
	check_copies("__attribute__((noinline,section(\".text.z\"))) static int s(int a) { return a * 7; }\n"
		     "int x(int a) { return s(a) + 123457; }\n",
		     "__attribute__((noinline,section(\".text.z\"))) static int s(int a) { return a * 7; }\n"
		     "int y(int a) { return s(a) + 123459; }\n",
		     true);
}

static void not_linked(void **state)
{
	(void)state;
	source_write("x.c", "int p(int a) { return a * 991 + 5; } int q(int a) { return p(a) ^ 77777; }\n"
			    "int r(int a) { return q(a) % 1009; }\n");
	source_write("m.c", "int main(int c, char **v) { (void)v; return c; }\n");
	run("gcc -O2 -c x.c m.c && gcc -o full m.o");
	_cleanup_image_ struct image *image = open_image("full", NULL);
	_cleanup_object_ struct object *object = open_object("x.o");
	struct findings findings = {0};
	struct image_match *result = match(image, object, &findings);
	assert_int_equal(result->matched, 0);
	// One finding for the object, not one for each function.
	assert_int_equal(findings.list.count, 1);
	assert_int_equal(findings.list.items[0].kind, FINDING_KIND_CODE_MISMATCH);
	image_match_free(result);
	findings_deinit(&findings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_linker),
		cmocka_unit_test(one_change),
		cmocka_unit_test(copies),
		cmocka_unit_test(not_linked),
	};
	return cmocka_run_group_tests(tests, sources_make, directory_remove);
}
