// SPDX-License-Identifier: MIT
/*
 * What a symbol's name says about it. All knowledge of how compilers make up names is here.
 *
 *	gcc	n.3		static variable `n` of some function; the number counts through the file
 *		__func__.3	also __FUNCTION__, __PRETTY_FUNCTION__: by content
 *		CSWTCH.3	a switch made into a table: by content
 *		C.3.1		an unnamed constant: by content
 *		f.isra.0 f.constprop.1 f.part.2 f.cold f.cold.4 f.lto_priv.5	clones of `f`
 *	clang	f.n f.n.7	static variable `n` of `f`; the second one of that name
 *		.Lswitch.table.f .L__const.f.x .L__func__.f .L.str.4 .LCPI0_0	by content
 *		f.cold.1 f.llvm.HASH
 *	C++	_ZZ1fvE1n _ZZ1fvE1n_0	static variable of `f()`, the second one (Itanium ABI, 5.1.4.6)
 *		_ZGVZ1fvE1n	its guard
 *		DW.ref.X	a pointer to X for exception tables, hidden: by content
 */
#include <ctype.h>
#include <string.h>

#include "diff/internal.h"

// Length of @name without ".123" at its end.
static size_t without_number(const char *name, size_t length)
{
	size_t at = length;
	while (at > 0 && isdigit((unsigned char)name[at - 1]))
		at--;
	return at > 1 && at < length && name[at - 1] == '.' ? at - 1 : length;
}

static bool span_equal(const char *name, size_t length, const char *word)
{
	return strlen(word) == length && memcmp(name, word, length) == 0;
}

static bool span_ends_with(const char *name, size_t length, const char *suffix)
{
	size_t size = strlen(suffix);
	return length > size && memcmp(name + length - size, suffix, size) == 0;
}

bool name_is_by_content(const char *name)
{
	static const char *const words[] = { "__func__", "__FUNCTION__", "__PRETTY_FUNCTION__",
					     "CSWTCH", "switch.table", "reltable", "__const" };
	if (*name == '\0' || string_starts_with(name, ".L") || string_starts_with(name, "DW.ref."))
		return true;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t length = strlen(words[i]);
		// "__func__", "__func__.3", and clang's "__func__.f".
		if (strncmp(name, words[i], length) == 0 &&
		    (name[length] == '\0' || name[length] == '.'))
			return true;
	}
	size_t length = strlen(name), base = without_number(name, length);
	if (base < length && span_equal(name, without_number(name, base), "C"))
		return true;
	return string_starts_with(name, "_ZZ") &&
	       (strstr(name, "E8__func__") || strstr(name, "E12__FUNCTION__") ||
		strstr(name, "E19__PRETTY_FUNCTION__"));
}

bool name_is_numbered(const char *name)
{
	if (string_starts_with(name, "_ZZ") || string_starts_with(name, "_ZGVZ"))
		return true;
	const char *dot = strchr(name, '.'); // also ".compoundliteral.3"
	return dot && dot[1] != '\0';
}

// The discriminator of a local name: "_3" or "__12_" behind it.
static size_t without_discriminator(const char *name, size_t length)
{
	size_t at = length;
	bool closed = at > 0 && name[at - 1] == '_';
	if (closed)
		at--;
	size_t end = at;
	while (at > 0 && isdigit((unsigned char)name[at - 1]))
		at--;
	if (at == end || at == 0 || name[at - 1] != '_')
		return length;
	if (closed)
		return at > 1 && name[at - 2] == '_' ? at - 2 : length;
	return at - 1;
}

// Lambdas and unnamed types are counted in their scope: UlvE_, UlvE0_, Ut_, Ut1_. Their numbers say
// no more than those of "n.3".
static char *without_lambda_numbers(struct arena *arena, const char *name)
{
	char *copy = arena_strdup(arena, name), *to = copy;
	bool inside = false;
	for (const char *at = copy; *at;) {
		if (at[0] == 'U' && (at[1] == 'l' || at[1] == 't'))
			inside = true;
		const char *digits = at + 1;
		bool counter = inside && (at[0] == 'E' || (at[0] == 't' && at > copy && at[-1] == 'U'));
		if (counter) {
			while (isdigit((unsigned char)*digits))
				digits++;
			counter = *digits == '_';
		}
		*to++ = *at++;
		if (counter) {
			at = digits;
			inside = false;
		}
	}
	*to = '\0';
	return copy;
}

const char *name_key(struct arena *arena, const char *name)
{
	size_t length = strlen(name);
	if (string_starts_with(name, "_ZZ") || string_starts_with(name, "_ZGVZ")) {
		size_t base = without_number(name, length);
		base = without_discriminator(name, base);
		const char *key = base == length ? name : arena_strndup(arena, name, base);
		return strstr(key, "Ul") || strstr(key, "Ut") ? without_lambda_numbers(arena, key) : key;
	}
	size_t base = without_number(name, length);
	return base == length ? name : arena_strndup(arena, name, base);
}

static const char *const clone_suffixes[] = { ".isra", ".constprop", ".part", ".lto_priv",
					      ".localalias", ".resolver", ".llvm", ".fini",
					      ".specialized" };

// Length of @name without one clone suffix at its end.
static size_t without_clone(const char *name, size_t length)
{
	size_t base = without_number(name, length);
	for (size_t i = 0; i < ARRAY_SIZE(clone_suffixes); i++)
		if (span_ends_with(name, base, clone_suffixes[i]))
			return base - strlen(clone_suffixes[i]);
	if (span_ends_with(name, base, ".cold"))
		return base - strlen(".cold");
	return length;
}

const char *name_function(struct arena *arena, const char *name)
{
	size_t length = strlen(name);
	for (;;) {
		size_t base = without_clone(name, length);
		if (base == length)
			break;
		length = base;
	}
	return name[length] ? arena_strndup(arena, name, length) : name;
}

const char *name_cold_parent(struct arena *arena, const char *name)
{
	size_t base = without_number(name, strlen(name));
	if (!span_ends_with(name, base, ".cold"))
		return NULL;
	return arena_strndup(arena, name, base - strlen(".cold"));
}

bool name_is_clone(const char *name)
{
	size_t length = strlen(name);
	return without_clone(name, length) != length;
}
