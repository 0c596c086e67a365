/* SPDX-License-Identifier: MIT */
/*
 * base: what every module needs and no module owns.
 *
 * Errors, findings, memory, strings, hashing, progress, JSON, files. Nothing here knows ELF.
 */
#ifndef SUTURE_BASE_H
#define SUTURE_BASE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MUST_CHECK __attribute__((warn_unused_result))

/* ---- cleanup ------------------------------------------------------------------------------ */

#define _cleanup_(fn) __attribute__((cleanup(fn)))

/** Hand the value on and leave @empty behind, so that a cleanup attribute does not release it. */
#define take_value(v, empty)            \
	({                              \
		__typeof__(v) _t = (v); \
		(v) = (empty);          \
		_t;                     \
	})
#define take_ptr(p) take_value(p, NULL)
#define take_fd(fd) take_value(fd, -1)

/** Cleanup functions for the attribute: each takes the address of the variable. */
void cleanup_free(void *pointer_to_pointer);
void cleanup_close(int *fd);
void cleanup_fclose(FILE **file);

#define _cleanup_free_ _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)
#define _cleanup_fclose_ _cleanup_(cleanup_fclose)

/* ---- errors ------------------------------------------------------------------------------- */

/*
 * The one list of kinds: enum member, exit status, word (JSON "kind"), meaning (man page).
 * Exit status 1 is not an error: `suture diff` says "different" with it.
 */
#define ERROR_KINDS(X)                                                                          \
	X(USAGE, 2, "usage", "the command line is wrong")                                       \
	X(INPUT, 3, "input", "a file is malformed, truncated or of the wrong kind")             \
	X(MISMATCH, 4, "mismatch", "the running code is not what the patch was built for")      \
	X(REFUSED, 5, "refused", "findings refuse the patch")                                   \
	X(BUSY, 6, "busy", "a thread stayed inside a replaced function until the timeout")      \
	X(PERMISSION, 7, "permission", "the kernel does not permit it")                         \
	X(NOT_FOUND, 8, "not-found", "no such process, file, patch or symbol")                  \
	X(CONFLICT, 9, "conflict", "another patch, tracer or probe holds the same place")       \
	X(BUILD, 10, "build", "a diff does not apply or a build command failed")                \
	X(SYSTEM, 11, "system", "a system call failed: disk, memory, descriptors")              \
	X(UNSUPPORTED, 12, "unsupported", "this target or machine is outside what suture does") \
	X(PARTIAL, 13, "partial", "done for some of the processes, not for all")                \
	X(INTERNAL, 70, "internal", "a mistake of suture itself")

enum error_kind {
#define X(name, status, word, meaning) ERROR_KIND_##name,
	ERROR_KINDS(X)
#undef X
};

/** The operation could not be finished. Functions return NULL for success; the caller owns it. */
struct error {
	enum error_kind kind;
	char *message; /* a sentence in lower case, without a full stop at its end */
};

/** A new error. Never NULL: when memory is gone a static error says so. */
struct error *error_new(enum error_kind kind, const char *format, ...) PRINTF(2, 3) MUST_CHECK;

/** A new error for @errnum of <errno.h>; the kind follows from it, ": strerror" is appended. */
struct error *error_errno(int errnum, const char *format, ...) PRINTF(2, 3) MUST_CHECK;

/** Put one phrase in front ("PHRASE: message"); NULL passes through. Consumes @error. */
struct error *error_prefix(struct error *error, const char *format, ...) PRINTF(2, 3) MUST_CHECK;

void error_free(struct error *error);
void error_cleanup(struct error **error);
#define _cleanup_error_ _cleanup_(error_cleanup)

int error_kind_exit_status(enum error_kind kind);
const char *error_kind_word(enum error_kind kind);

/* Pass an error on. */
#define TRY(expression)                            \
	do {                                       \
		struct error *_try = (expression); \
		if (_try)                          \
			return _try;               \
	} while (0)

/** Memory is gone: say so on standard error and end the tool. A stopped target then runs on. */
_Noreturn void out_of_memory(void);

/* ---- memory ------------------------------------------------------------------------------- */

void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *pointer, size_t size);
char *xstrdup(const char *string);
char *xstrndup(const char *string, size_t size);
void *xmemdup(const void *bytes, size_t size);
char *xasprintf(const char *format, ...) PRINTF(1, 2);
char *xvasprintf(const char *format, va_list args) PRINTF(1, 0);

/** Things that die together. All memory is zeroed and aligned for any type. */
struct arena;
struct arena *arena_create(void);
void arena_free(struct arena *arena);
void *arena_alloc(struct arena *arena, size_t size);
void *arena_array(struct arena *arena, size_t count, size_t size);
void *arena_memdup(struct arena *arena, const void *bytes, size_t size);
char *arena_strdup(struct arena *arena, const char *string);
char *arena_strndup(struct arena *arena, const char *string, size_t size);
char *arena_printf(struct arena *arena, const char *format, ...) PRINTF(2, 3);

#define arena_new(arena, type) ((type *)arena_alloc((arena), sizeof(type)))

/** false on overflow. */
#define checked_add(a, b, ret) (!__builtin_add_overflow((a), (b), (ret)))
#define checked_mul(a, b, ret) (!__builtin_mul_overflow((a), (b), (ret)))

/** Does [offset, offset + size) lie in [0, limit)? */
static inline bool range_within(uint64_t offset, uint64_t size, uint64_t limit)
{
	return offset <= limit && size <= limit - offset;
}

static inline uint64_t align_up(uint64_t value, uint64_t align)
{
	return (value + align - 1) & ~(align - 1);
}

/**
 * A growing array: struct { type *items; size_t count, capacity; }, zero-initialised.
 * Items move when it grows; release it with vec_deinit().
 */
#define VEC(type)                \
	struct {                 \
		type *items;     \
		size_t count;    \
		size_t capacity; \
	}
void *vec_grow(void *items, size_t *capacity, size_t count, size_t item_size);
#define vec_push(v, ...)                                                                  \
	do {                                                                              \
		if ((v)->count == (v)->capacity)                                          \
			(v)->items = vec_grow((v)->items, &(v)->capacity, (v)->count + 1, \
					      sizeof(*(v)->items));                       \
		(v)->items[(v)->count++] = (__VA_ARGS__);                                 \
	} while (0)
#define vec_deinit(v)                           \
	do {                                    \
		free((v)->items);               \
		(v)->items = NULL;              \
		(v)->count = (v)->capacity = 0; \
	} while (0)

/* ---- strings ------------------------------------------------------------------------------ */

bool string_starts_with(const char *string, const char *prefix);
bool string_ends_with(const char *string, const char *suffix);
static inline bool string_equal(const char *a, const char *b)
{
	return __builtin_strcmp(a, b) == 0;
}

/** A string or byte buffer that grows; `bytes` is always NUL-terminated once anything was added. */
struct buffer {
	char *bytes;
	size_t size;
	size_t capacity;
};
void buffer_append(struct buffer *buffer, const void *bytes, size_t size);
void buffer_puts(struct buffer *buffer, const char *string);
void buffer_printf(struct buffer *buffer, const char *format, ...) PRINTF(2, 3);
void buffer_deinit(struct buffer *buffer);
#define _cleanup_buffer_ _cleanup_(buffer_deinit)

/** Hexadecimal, lower case, NUL-terminated; @text holds 2 * size + 1 bytes. */
void hex_format(const uint8_t *bytes, size_t size, char *text);
/** false unless @text is exactly @size bytes in hexadecimal. */
bool hex_parse(const char *text, uint8_t *bytes, size_t size);

/* ---- digests and hash maps ---------------------------------------------------------------- */

/** 128 bits of BLAKE2b: equal digests are taken as equal content. */
struct digest {
	uint8_t bytes[16];
};

/** Room for the running state of a digest (libsodium's crypto_generichash_state). */
struct digest_state {
	_Alignas(64) uint8_t opaque[384];
};
void digest_init(struct digest_state *state);
void digest_update(struct digest_state *state, const void *bytes, size_t size);
/** The string with its NUL, so that "ab","c" and "a","bc" differ. NULL counts as "". */
void digest_update_string(struct digest_state *state, const char *string);
void digest_update_u64(struct digest_state *state, uint64_t value);
struct digest digest_final(struct digest_state *state);
struct digest digest_bytes(const void *bytes, size_t size);
bool digest_equal(const struct digest *a, const struct digest *b);

/** A map from a string, a digest or any other key of bytes to a pointer. Keys are copied. */
struct hashmap;
struct hashmap *hashmap_create(void);
void hashmap_free(struct hashmap *map);
/** The value, or NULL when the key is not there. */
void *hashmap_get(const struct hashmap *map, const void *key, size_t key_size);
/** Set; an older value of the key is replaced. @value may not be NULL. */
void hashmap_set(struct hashmap *map, const void *key, size_t key_size, void *value);
void *hashmap_get_string(const struct hashmap *map, const char *key);
void hashmap_set_string(struct hashmap *map, const char *key, void *value);
size_t hashmap_count(const struct hashmap *map);

/* ---- build IDs ---------------------------------------------------------------------------- */

/** Content of an NT_GNU_BUILD_ID note: 20 bytes of SHA-1 as a rule, at most 64 here. */
struct build_id {
	uint8_t bytes[64];
	size_t size; /* 0: none */
};
bool build_id_equal(const struct build_id *a, const struct build_id *b);
/** @text holds 129 bytes; "none" when there is none. Returns @text. */
const char *build_id_format(const struct build_id *id, char text[129]);
bool build_id_parse(const char *text, struct build_id *ret);

/* ---- findings ----------------------------------------------------------------------------- */

enum finding_severity {
	FINDING_NOTE,    /* worth knowing */
	FINDING_WARNING, /* read it before applying */
	FINDING_REFUSAL, /* no patch is written unless it is accepted by --accept=KIND:SUBJECT */
};

/*
 * The one list of finding kinds: enum member, severity, word (--accept, JSON), may a person accept
 * it, advice (what to do).
 */
#define FINDING_KINDS(X)                                                                           \
	X(CODE_MISMATCH, REFUSAL, "code-mismatch", false,                                          \
	  "build with the sources, compiler and flags of the running program")                     \
	X(CODE_AMBIGUOUS, REFUSAL, "code-ambiguous", false,                                        \
	  "give the program's debug file with --debug, so that its symbols tell the copies apart") \
	X(SYMBOL_UNRESOLVED, REFUSAL, "symbol-unresolved", false,                                  \
	  "give the program's debug file with --debug, or use a symbol that the program has")      \
	X(DATA_CHANGED, REFUSAL, "data-changed", true,                                             \
	  "the running program keeps its value: set it from a callback, or use new data")          \
	X(DATA_SIZE, REFUSAL, "data-size", false,                                                  \
	  "the running program's object keeps its size: attach new data by a shadow variable")     \
	X(RODATA_CHANGED, REFUSAL, "rodata-changed", true,                                         \
	  "unpatched code goes on reading the old table: change its readers, or accept a copy")    \
	X(STATIC_REMOVED, WARNING, "static-removed", true,                                         \
	  "its last value is lost to the new code; revert brings it back")                         \
	X(STATIC_AMBIGUOUS, REFUSAL, "static-ambiguous", false,                                    \
	  "give the static variables of the function different names")                             \
	X(SYMBOL_AMBIGUOUS, REFUSAL, "symbol-ambiguous", false,                                    \
	  "rename one of the symbols of that name")                                                \
	X(SECTION_UNKNOWN, REFUSAL, "section-unknown", false,                                      \
	  "code and data in this section cannot be replaced: change a caller instead")             \
	X(INIT_CODE, REFUSAL, "init-code", true,                                                   \
	  "it has run already and will not run again: do its work from a callback")                \
	X(TLS_NEW, REFUSAL, "tls-new", false,                                                      \
	  "a new thread-local variable has no room in running threads: use a shadow variable")     \
	X(TLS_CHANGED, REFUSAL, "tls-changed", true,                                               \
	  "threads that run keep their value, new ones get the old initial value")                 \
	X(IFUNC_CHANGED, REFUSAL, "ifunc-changed", false,                                          \
	  "change the implementations, not the resolver: it has run already")                      \
	X(NO_RETURN, WARNING, "no-return", true,                                                   \
	  "a thread that runs it never leaves it, so apply may find the target busy for ever")     \
	X(SEVERAL_COPIES, WARNING, "several-copies", true,                                         \
	  "the same source function stands in several objects; each is replaced by itself")        \
	X(SIGNATURE_CHANGED, REFUSAL, "signature-changed", true,                                   \
	  "unpatched callers still pass the old arguments")                                        \
	X(TOO_SHORT, REFUSAL, "too-short", false,                                                  \
	  "there is no room for a jump at its entry: change a caller instead")                     \
	X(UNSTABLE_OBJECT, NOTE, "unstable-object", false,                                         \
	  "it differs between two builds of unchanged source and is left out")                     \
	X(NOT_IN_TARGET, NOTE, "not-in-target", false,                                             \
	  "the object is not linked into the target and is left out")                              \
	X(BUILD_ID_DIFFERS, NOTE, "build-id-differs", false,                                       \
	  "each function of the changed objects was compared with the target by itself")           \
	X(NOTHING_CHANGED, NOTE, "nothing-changed", false,                                         \
	  "the diff changes no code of the target")                                                \
	X(SYMBOL_REMOVED, NOTE, "symbol-removed", false, "old code that refers to it keeps it")

enum finding_kind {
#define X(name, severity, word, acceptable, advice) FINDING_KIND_##name,
	FINDING_KINDS(X)
#undef X
};

/** A verdict about the user's input. Strings belong to the list that holds it. */
struct finding {
	enum finding_kind kind;
	enum finding_severity severity; /* of its kind, or NOTE once a person accepted it */
	bool accepted;
	const char *subject; /* symbol or file that it is about */
	const char *text;    /* what was found, lower case */
};

/** A list of findings; zero-initialised, released by findings_deinit(). */
struct findings {
	struct arena *arena;
	VEC(struct finding) list;
};
void findings_add(struct findings *findings, enum finding_kind kind, const char *subject,
		  const char *format, ...) PRINTF(4, 5);
/** Copy all of @from to the end of @findings. */
void findings_merge(struct findings *findings, const struct findings *from);
/** Most severe first, then by kind and subject; exact repetitions are dropped. */
void findings_sort(struct findings *findings);
/**
 * Lower what a person accepted: @accepted is "KIND:SUBJECT". An error (USAGE) when the kind is
 * unknown, cannot be accepted, or nothing of that kind and subject was found.
 */
struct error *findings_accept(struct findings *findings, const char *accepted) MUST_CHECK;
bool findings_refuse(const struct findings *findings);
size_t findings_count(const struct findings *findings, enum finding_severity severity);
const char *finding_kind_word(enum finding_kind kind);
const char *finding_kind_advice(enum finding_kind kind);
bool finding_kind_acceptable(enum finding_kind kind);
const char *finding_severity_word(enum finding_severity severity);
void findings_deinit(struct findings *findings);

/* ---- progress ----------------------------------------------------------------------------- */

/** How a module tells of long work; cmd shows it. A NULL progress or report is silence. */
struct progress {
	/** @total 0: not known. Called as often as there is news. */
	void (*report)(void *context, const char *stage, size_t done, size_t total);
	void *context;
};
void progress_report(const struct progress *progress, const char *stage, size_t done, size_t total);

/* ---- JSON --------------------------------------------------------------------------------- */

/** A writer of JSON text, indented by two spaces; commas and escapes are its business. */
struct json {
	FILE *file;
	unsigned depth;
	bool need_comma;
	bool after_key;
};
void json_init(struct json *json, FILE *file);
void json_object_begin(struct json *json);
void json_object_end(struct json *json);
void json_array_begin(struct json *json);
void json_array_end(struct json *json);
void json_key(struct json *json, const char *key);
void json_string(struct json *json, const char *value); /* NULL: null; bad UTF-8: U+FFFD */
void json_u64(struct json *json, uint64_t value);
void json_i64(struct json *json, int64_t value);
void json_double(struct json *json, double value);
void json_bool(struct json *json, bool value);
/** "0x..." as a string: addresses do not fit JSON's numbers. */
void json_address(struct json *json, uint64_t value);
/** The key and its value in one call. */
void json_key_string(struct json *json, const char *key, const char *value);
void json_key_u64(struct json *json, const char *key, uint64_t value);
void json_key_bool(struct json *json, const char *key, bool value);
void json_key_address(struct json *json, const char *key, uint64_t value);
/** The last line end; the document must be closed. */
void json_finish(struct json *json);

/** "findings": [...] in the form that every command prints. */
void findings_json(const struct findings *findings, struct json *json);

/* ---- files -------------------------------------------------------------------------------- */

/** The whole file, NUL behind its end (not counted). The caller frees @ret. */
struct error *file_read(const char *path, char **ret, size_t *ret_size) MUST_CHECK;
/** As file_read(), of a path relative to @dirfd, for files of unknown size as in /proc. */
struct error *file_read_at(int dirfd, const char *path, char **ret, size_t *ret_size) MUST_CHECK;
/** Write beside @path, fsync, rename: a full disk or a crash leaves what was there. */
struct error *file_write_atomic(const char *path, const void *bytes, size_t size,
				unsigned mode) MUST_CHECK;
struct error *directory_create_all(const char *path) MUST_CHECK;
/** Remove a file or a whole tree; absent is no error. Does not cross mounts or follow links. */
struct error *tree_remove(const char *path) MUST_CHECK;
bool path_exists(const char *path);
const char *path_basename(const char *path);

#endif
