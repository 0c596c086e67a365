/* SPDX-License-Identifier: MIT */
/*
 * What a compiler's command line asks for, as far as it must be known to repeat it: which words are
 * sources, which are objects, where the output goes, and whether it writes dependencies.
 *
 * All of it lies in this header, without a library, because the masquerade (a static program that
 * starts for every compiler call) and the reader of its records both need the same answer. gcc and
 * clang agree on every option that matters here. Options that take their value from the next word
 * are a table; an option that is missing there and takes one would make its value look like an
 * input, which is harmless unless it ends in a source's suffix.
 */
#ifndef SUTURE_SOURCE_ARGUMENTS_H
#define SUTURE_SOURCE_ARGUMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum argument_role {
	ARGUMENT_OPTION, /* also the value of one */
	ARGUMENT_SOURCE,
	ARGUMENT_INPUT,   /* object, archive, shared library, linker script */
	ARGUMENT_LIBRARY, /* -lNAME */
	ARGUMENT_OUTPUT,  /* -o, its value, or both in one word */
};

struct arguments {
	bool compile;                /* -c */
	bool assembly;               /* -S */
	bool preprocess;             /* -E, -M, -MM, -fsyntax-only: no object comes out */
	bool query;                  /* --version, -print-..., -dump...: nothing is compiled */
	bool relocatable;            /* -r */
	bool lto;                    /* -flto, without code beside it */
	bool from_stdin;             /* a source is "-" */
	bool own_dependencies;       /* -MD, -MMD, or by -Wp */
	const char *output;          /* of -o, or NULL */
	const char *dependency_file; /* of -MF, or NULL; not terminated when from -Wp */
	size_t dependency_file_size;
	size_t source_count;
	const char *first_source;
	unsigned char *roles; /* one per word, allocated */
};

static inline bool argument_takes_value(const char *word)
{
	static const char *const options[] = {
		"-A",
		"-B",
		"-D",
		"-F",
		"-G",
		"-I",
		"-L",
		"-T",
		"-U",
		"-V",
		"-b",
		"-e",
		"-u",
		"-x",
		"-z",
		"-MF",
		"-MQ",
		"-MT",
		"-arch",
		"-aux-info",
		"-dumpbase",
		"-dumpbase-ext",
		"-dumpdir",
		"-framework",
		"-gcc-toolchain",
		"-idirafter",
		"-imacros",
		"-imultilib",
		"-include",
		"-iprefix",
		"-iquote",
		"-isysroot",
		"-isystem",
		"-iwithprefix",
		"-iwithprefixbefore",
		"-mllvm",
		"-target",
		"-wrapper",
		"-Xanalyzer",
		"-Xassembler",
		"-Xclang",
		"-Xlinker",
		"-Xpreprocessor",
		"--param",
		"--sysroot",
		"--output",
	};
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (strcmp(word, options[i]) == 0)
			return true;
	return false;
}

/* Languages by suffix, as in gcc(1), "Options Controlling the Kind of Output". */
static inline bool argument_is_source(const char *word)
{
	static const char *const suffixes[] = {
		"c",   "i",   "ii",  "m",   "mi",  "mm", "M",   "mii", "cc",  "cp",  "cxx",
		"cpp", "CPP", "c++", "C",   "s",   "S",  "sx",  "f",   "for", "ftn", "F",
		"f90", "f95", "f03", "f08", "F90", "d",  "adb", "ads", "go",
	};
	const char *slash = strrchr(word, '/');
	const char *dot = strrchr(slash ? slash : word, '.');
	if (!dot)
		return false;
	for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++)
		if (strcmp(dot + 1, suffixes[i]) == 0)
			return true;
	return false;
}

static inline bool argument_starts(const char *word, const char *prefix)
{
	return strncmp(word, prefix, strlen(prefix)) == 0;
}

/* "-Wp,-MD,FILE", as in the kernel and other makefiles. */
static inline void arguments_parse_wp(const char *word, struct arguments *ret)
{
	for (const char *part = word + strlen("-Wp,"); part;) {
		const char *end = strchr(part, ',');
		size_t size = end ? (size_t)(end - part) : strlen(part);
		bool md = size == 3 && strncmp(part, "-MD", 3) == 0;
		bool mmd = size == 4 && strncmp(part, "-MMD", 4) == 0;
		if (md || mmd) {
			ret->own_dependencies = true;
			if (end) {
				ret->dependency_file = end + 1;
				ret->dependency_file_size = strcspn(end + 1, ",");
			}
		}
		part = end ? end + 1 : NULL;
	}
}

static inline void arguments_parse_option(const char *word, struct arguments *ret)
{
	if (strcmp(word, "-c") == 0)
		ret->compile = true;
	else if (strcmp(word, "-S") == 0)
		ret->assembly = true;
	else if (strcmp(word, "-E") == 0 || strcmp(word, "-M") == 0 || strcmp(word, "-MM") == 0 ||
		 strcmp(word, "-fsyntax-only") == 0)
		ret->preprocess = true;
	else if (strcmp(word, "-MD") == 0 || strcmp(word, "-MMD") == 0)
		ret->own_dependencies = true;
	else if (argument_starts(word, "-Wp,"))
		arguments_parse_wp(word, ret);
	else if (argument_starts(word, "-MF") && word[3]) {
		ret->dependency_file = word + 3;
		ret->dependency_file_size = strlen(word + 3);
	} else if (strcmp(word, "-r") == 0 || strcmp(word, "-Wl,-r") == 0)
		ret->relocatable = true;
	else if (strcmp(word, "-fno-lto") == 0 || strcmp(word, "-ffat-lto-objects") == 0)
		ret->lto = false;
	else if (strcmp(word, "-flto") == 0 || argument_starts(word, "-flto="))
		ret->lto = true;
	else if (argument_starts(word, "-dump") || argument_starts(word, "-print-") ||
		 argument_starts(word, "--print-") || strcmp(word, "--version") == 0 ||
		 strcmp(word, "-###") == 0 || strcmp(word, "-qversion") == 0)
		// -dumpbase, -dumpdir take a value and are no question.
		ret->query = ret->query || !argument_takes_value(word);
}

/* @words[0] is the tool's name. The roles belong to the caller. */
static inline void arguments_parse(size_t count, char *const *words, struct arguments *ret)
{
	*ret = (struct arguments){.roles = calloc(count + 1, 1)};
	if (!ret->roles)
		abort();
	const char *language = NULL;
	bool fat_lto = false, only_inputs = false;
	for (size_t i = 1; i < count; i++) {
		const char *word = words[i];
		if (!only_inputs && strcmp(word, "--") == 0) {
			only_inputs = true;
			continue;
		}
		if (only_inputs || word[0] != '-' || word[1] == '\0') {
			bool source = language ? true : argument_is_source(word);
			ret->roles[i] = source ? ARGUMENT_SOURCE : ARGUMENT_INPUT;
			if (source && ret->source_count++ == 0)
				ret->first_source = word;
			if (strcmp(word, "-") == 0)
				ret->from_stdin = true;
			continue;
		}
		if (argument_starts(word, "-l") && word[2]) {
			ret->roles[i] = ARGUMENT_LIBRARY;
			continue;
		}
		if (strcmp(word, "-o") == 0 || strcmp(word, "--output") == 0) {
			ret->roles[i] = ARGUMENT_OUTPUT;
			if (i + 1 < count) {
				ret->roles[++i] = ARGUMENT_OUTPUT;
				ret->output = words[i];
			}
			continue;
		}
		if (argument_starts(word, "-o") && strchr(word, '=') == NULL) {
			ret->roles[i] = ARGUMENT_OUTPUT;
			ret->output = word + 2;
			continue;
		}
		if (argument_starts(word, "-x")) {
			const char *name = word[2] ? word + 2 : i + 1 < count ? words[++i] : "none";
			language = strcmp(name, "none") == 0 ? NULL : name;
			continue;
		}
		if (strcmp(word, "-MF") == 0 && i + 1 < count) {
			ret->dependency_file = words[++i];
			ret->dependency_file_size = strlen(words[i]);
			continue;
		}
		if (strcmp(word, "-ffat-lto-objects") == 0)
			fat_lto = true;
		if (argument_takes_value(word)) {
			i++;
			continue;
		}
		arguments_parse_option(word, ret);
	}
	if (fat_lto)
		ret->lto = false;
}

/** Which tool a name stands for: "x86_64-linux-gnu-gcc-12", "clang++-14", "ld.bfd", "ar". */
enum tool_kind {
	TOOL_OTHER,
	TOOL_COMPILER,
	TOOL_LINKER,
	TOOL_ARCHIVER,
	TOOL_ASSEMBLER,
	TOOL_STRIP,
	TOOL_BUILDER, /* make, ninja: runs the others */
};

static inline enum tool_kind tool_kind_of(const char *name)
{
	static const struct {
		const char *name;
		enum tool_kind kind;
	} tools[] = {
		{"gcc", TOOL_COMPILER},     {"cc", TOOL_COMPILER},    {"g++", TOOL_COMPILER},
		{"c++", TOOL_COMPILER},     {"clang", TOOL_COMPILER}, {"clang++", TOOL_COMPILER},
		{"c89", TOOL_COMPILER},     {"c99", TOOL_COMPILER},   {"ld", TOOL_LINKER},
		{"ld.bfd", TOOL_LINKER},    {"ld.gold", TOOL_LINKER}, {"ld.lld", TOOL_LINKER},
		{"ld.mold", TOOL_LINKER},   {"lld", TOOL_LINKER},     {"mold", TOOL_LINKER},
		{"gold", TOOL_LINKER},      {"ar", TOOL_ARCHIVER},    {"gcc-ar", TOOL_ARCHIVER},
		{"llvm-ar", TOOL_ARCHIVER}, {"as", TOOL_ASSEMBLER},   {"strip", TOOL_STRIP},
		{"make", TOOL_BUILDER},     {"gmake", TOOL_BUILDER},  {"ninja", TOOL_BUILDER},
		{"samu", TOOL_BUILDER},
	};
	// A version: "-12", "-14.0".
	size_t size = strlen(name);
	size_t stem = size;
	while (stem && strchr("0123456789.", name[stem - 1]))
		stem--;
	if (stem && stem < size && name[stem - 1] == '-')
		size = stem - 1;
	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++) {
		size_t length = strlen(tools[i].name);
		if (size < length || strncmp(name + size - length, tools[i].name, length) != 0)
			continue;
		// A target in front: "x86_64-linux-gnu-", at least one hyphen inside.
		size_t prefix = size - length;
		if (prefix == 0)
			return tools[i].kind;
		if (name[prefix - 1] == '-' && memchr(name, '-', prefix - 1))
			return tools[i].kind;
	}
	return TOOL_OTHER;
}

#endif
