// SPDX-License-Identifier: MIT
/* The schema "suture-diff-1"; docs/diff-json.md describes it. */
#include <elf.h>

#include "diff/internal.h"

static void function_json(const struct diff_function *function, struct json *json)
{
	json_object_begin(json);
	json_key_string(json, "name", function->name);
	json_key_string(json, "verdict", diff_verdict_word(function->verdict));
	if (function->old_symbol && function->new_symbol)
		json_key_string(json, "level", diff_level_word(function->level));
	if (function->old_symbol) {
		json_key_string(json, "old_name", function->old_symbol->name);
		json_key_u64(json, "old_size", function->old_symbol->size);
	}
	if (function->new_symbol)
		json_key_u64(json, "new_size", function->new_symbol->size);
	if (function->verdict == DIFF_CHANGED) {
		json_key_string(json, "reason", function->reason);
		json_key_bool(json, "forced", function->forced);
		if (function->old_text) {
			json_key_u64(json, "old_offset", function->old_offset);
			json_key_string(json, "old_text", function->old_text);
			json_key_u64(json, "new_offset", function->new_offset);
			json_key_string(json, "new_text", function->new_text);
		}
	}
	if (function->verdict != DIFF_SAME)
		json_key_bool(json, "returns", function->returns);
	if (function->old_part_count > 0) {
		json_key(json, "old_parts");
		json_array_begin(json);
		for (size_t i = 0; i < function->old_part_count; i++)
			json_string(json, function->old_parts[i]->name);
		json_array_end(json);
	}
	json_key_bool(json, "in_output", function->output != NULL);
	json_object_end(json);
}

static const char *symbol_role(const struct object_symbol *symbol)
{
	if (symbol->section)
		return symbol->origin ? "replacement" : "definition";
	return symbol->origin ? "target" : "import";
}

static void output_json(const struct object *output, struct json *json)
{
	json_object_begin(json);
	json_key(json, "sections");
	json_array_begin(json);
	for (size_t i = 0; i < output->sections.count; i++) {
		const struct object_section *section = output->sections.items[i];
		json_object_begin(json);
		json_key_string(json, "name", section->name);
		json_key_u64(json, "size", section->size);
		json_object_end(json);
	}
	json_array_end(json);
	json_key(json, "symbols");
	json_array_begin(json);
	for (size_t i = 0; i < output->symbols.count; i++) {
		const struct object_symbol *symbol = output->symbols.items[i];
		if (symbol->type == STT_SECTION)
			continue;
		json_object_begin(json);
		json_key_string(json, "name", symbol->name);
		json_key_string(json, "role", symbol_role(symbol));
		json_key_u64(json, "size", symbol->size);
		json_object_end(json);
	}
	json_array_end(json);
	json_object_end(json);
}

void diff_json(const struct diff *diff, struct json *json)
{
	size_t counts[DIFF_REMOVED + 1] = { 0 };
	for (size_t i = 0; i < diff->functions.count; i++)
		counts[diff->functions.items[i].verdict]++;

	json_object_begin(json);
	json_key_string(json, "schema", "suture-diff-1");
	json_key_string(json, "old", diff->old_object->path);
	json_key_string(json, "new", diff->new_object->path);
	json_key_string(json, "arch", diff->new_object->arch->name);
	json_key_bool(json, "changed", diff->changed);
	json_key(json, "counts");
	json_object_begin(json);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		json_key_u64(json, diff_verdict_word((enum diff_verdict)i), counts[i]);
	json_object_end(json);
	// What did not change is counted above and listed nowhere.
	json_key(json, "functions");
	json_array_begin(json);
	for (size_t i = 0; i < diff->functions.count; i++)
		if (diff->functions.items[i].verdict != DIFF_SAME)
			function_json(&diff->functions.items[i], json);
	json_array_end(json);
	findings_json(&diff->findings, json);
	json_key(json, "output");
	if (diff->output)
		output_json(diff->output, json);
	else
		json_string(json, NULL);
	json_object_end(json);
}
