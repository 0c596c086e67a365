// SPDX-License-Identifier: MIT
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

static const struct {
	enum finding_severity severity;
	const char *word;
	bool acceptable;
	const char *advice;
} kinds[] = {
#define X(name, severity, word, acceptable, advice) \
	[FINDING_KIND_##name] = {FINDING_##severity, word, acceptable, advice},
	FINDING_KINDS(X)
#undef X
};

const char *finding_kind_word(enum finding_kind kind)
{
	return kinds[kind].word;
}

const char *finding_kind_advice(enum finding_kind kind)
{
	return kinds[kind].advice;
}

bool finding_kind_acceptable(enum finding_kind kind)
{
	return kinds[kind].acceptable;
}

const char *finding_severity_word(enum finding_severity severity)
{
	static const char *const words[] = {
		[FINDING_NOTE] = "note",
		[FINDING_WARNING] = "warning",
		[FINDING_REFUSAL] = "refusal",
	};
	return words[severity];
}

static void findings_push(struct findings *findings, struct finding finding)
{
	if (!findings->arena)
		findings->arena = arena_create();
	finding.subject = arena_strdup(findings->arena, finding.subject);
	finding.text = arena_strdup(findings->arena, finding.text);
	vec_push(&findings->list, finding);
}

void findings_add(struct findings *findings, enum finding_kind kind, const char *subject,
		  const char *format, ...)
{
	va_list args;
	va_start(args, format);
	_cleanup_free_ char *text = xvasprintf(format, args);
	va_end(args);
	findings_push(findings, (struct finding){
					.kind = kind,
					.severity = kinds[kind].severity,
					.subject = subject,
					.text = text,
				});
}

void findings_merge(struct findings *findings, const struct findings *from)
{
	for (size_t i = 0; i < from->list.count; i++)
		findings_push(findings, from->list.items[i]);
}

static int finding_compare(const void *left, const void *right)
{
	const struct finding *a = left, *b = right;
	if (a->severity != b->severity)
		return a->severity > b->severity ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	int order = strcmp(a->subject, b->subject);
	return order ? order : strcmp(a->text, b->text);
}

void findings_sort(struct findings *findings)
{
	size_t count = findings->list.count;
	if (!count)
		return;
	struct finding *items = findings->list.items;
	qsort(items, count, sizeof(*items), finding_compare);
	size_t kept = 1;
	for (size_t i = 1; i < count; i++)
		if (finding_compare(&items[kept - 1], &items[i]) != 0)
			items[kept++] = items[i];
	findings->list.count = kept;
}

// Every kind that a person may accept, for the message about a wrong one.
static struct error *accept_error(const char *accepted, const char *what)
{
	_cleanup_buffer_ struct buffer words = {0};
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (kinds[i].acceptable)
			buffer_printf(&words, "%s%s", words.size ? ", " : "", kinds[i].word);
	return error_new(ERROR_KIND_USAGE, "cannot accept '%s': %s (acceptable are %s)", accepted,
			 what, words.bytes);
}

struct error *findings_accept(struct findings *findings, const char *accepted)
{
	const char *colon = strchr(accepted, ':');
	if (!colon)
		return accept_error(accepted, "it is not of the form KIND:SUBJECT");
	size_t size = (size_t)(colon - accepted);
	size_t kind = 0;
	while (kind < ARRAY_SIZE(kinds) &&
	       (strncmp(kinds[kind].word, accepted, size) != 0 || kinds[kind].word[size] != '\0'))
		kind++;
	if (kind == ARRAY_SIZE(kinds))
		return accept_error(accepted, "there is no such kind of finding");
	if (!kinds[kind].acceptable)
		return accept_error(accepted, "a finding of this kind cannot be accepted");

	bool found = false;
	for (size_t i = 0; i < findings->list.count; i++) {
		struct finding *finding = &findings->list.items[i];
		if (finding->kind != kind || !string_equal(finding->subject, colon + 1))
			continue;
		finding->severity = FINDING_NOTE;
		finding->accepted = true;
		found = true;
	}
	if (!found)
		return error_new(ERROR_KIND_USAGE,
				 "cannot accept '%s': there is no finding '%s' about '%s'",
				 accepted, kinds[kind].word, colon + 1);
	return NULL;
}

bool findings_refuse(const struct findings *findings)
{
	return findings_count(findings, FINDING_REFUSAL) > 0;
}

size_t findings_count(const struct findings *findings, enum finding_severity severity)
{
	size_t count = 0;
	for (size_t i = 0; i < findings->list.count; i++)
		count += findings->list.items[i].severity == severity;
	return count;
}

void findings_deinit(struct findings *findings)
{
	arena_free(findings->arena);
	vec_deinit(&findings->list);
	findings->arena = NULL;
}

void findings_json(const struct findings *findings, struct json *json)
{
	json_key(json, "findings");
	json_array_begin(json);
	for (size_t i = 0; i < findings->list.count; i++) {
		const struct finding *finding = &findings->list.items[i];
		json_object_begin(json);
		json_key_string(json, "severity", finding_severity_word(finding->severity));
		json_key_string(json, "kind", finding_kind_word(finding->kind));
		json_key_string(json, "subject", finding->subject);
		json_key_string(json, "text", finding->text);
		json_key_string(json, "advice", finding_kind_advice(finding->kind));
		json_key_bool(json, "accepted", finding->accepted);
		json_object_end(json);
	}
	json_array_end(json);
}

void progress_report(const struct progress *progress, const char *stage, size_t done, size_t total)
{
	if (progress && progress->report)
		progress->report(progress->context, stage, done, total);
}
