/* SPDX-License-Identifier: MIT */
/* suture show: what a patch file changes, and what was proved when it was built. */
#include "cmd/command.h"
#include "cmd/show.h"

static struct {
	bool json;
} options;

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

void show_patch(const struct patch *patch, bool verbose)
{
	char digest[33], build_id[129];
	hex_format(patch->digest.bytes, sizeof(patch->digest.bytes), digest);
	printf("patch ");
	print_escaped(stdout, patch->name);
	printf(", digest %s, made by suture ", digest);
	print_escaped(stdout, patch->tool_version);
	putchar('\n');
	if (patch->description[0]) {
		printf("  from ");
		print_escaped(stdout, patch->description);
		putchar('\n');
	}
	for (size_t i = 0; i < patch->modules.count; i++) {
		printf("  for ");
		print_escaped(stdout, patch->modules.items[i].name);
		printf(", build ID %s\n",
		       build_id_format(&patch->modules.items[i].build_id, build_id));
	}
	for (size_t i = 0; i < patch->base_count; i++) {
		printf("  on top of ");
		print_escaped(stdout, patch->bases[i]);
		putchar('\n');
	}
	if (patch->replaces_all)
		printf("  takes out all earlier patches of the same module\n");
	printf("  %lu of %lu functions of the changed objects equal the target's, %lu bytes "
	       "(%.1f %% of its code)\n",
	       (unsigned long)patch->functions_matched, (unsigned long)patch->functions_compared,
	       (unsigned long)patch->bytes_matched,
	       percent(patch->bytes_matched, patch->text_size));
	printf("  %zu function%s changed", patch->functions.count,
	       patch->functions.count == 1 ? "" : "s");
	if (patch->new_function_count)
		printf(", %zu new", patch->new_function_count);
	printf(":\n");
	for (size_t i = 0; i < patch->functions.count; i++) {
		const struct patch_function *function = &patch->functions.items[i];
		printf("    changed ");
		print_escaped(stdout, function->name);
		printf(" at %#lx in ", (unsigned long)function->old_address);
		print_escaped(stdout, function->module->name);
		printf(": %lu -> %lu bytes%s\n", (unsigned long)function->old_size,
		       (unsigned long)function->new_symbol->size,
		       function->parts.count ? ", in parts" : "");
	}
	for (size_t i = 0; i < patch->new_function_count; i++) {
		printf("    new     ");
		print_escaped(stdout, patch->new_functions[i]);
		putchar('\n');
	}
	print_findings(stdout, &patch->findings, verbose);
}

static void json_functions(const struct patch *patch, struct json *json)
{
	json_key(json, "functions");
	json_array_begin(json);
	for (size_t i = 0; i < patch->functions.count; i++) {
		const struct patch_function *function = &patch->functions.items[i];
		char digest[33];
		hex_format(function->old_digest.bytes, sizeof(function->old_digest.bytes), digest);
		json_object_begin(json);
		json_key_string(json, "name", function->name);
		json_key_string(json, "module", function->module->name);
		json_key_u64(json, "position", function->position);
		json_key_address(json, "old_address", function->old_address);
		json_key_u64(json, "old_size", function->old_size);
		json_key_u64(json, "new_size", function->new_symbol->size);
		json_key_string(json, "old_digest", digest);
		json_key(json, "parts");
		json_array_begin(json);
		for (size_t p = 0; p < function->parts.count; p++) {
			json_object_begin(json);
			json_key_address(json, "address", function->parts.items[p].address);
			json_key_u64(json, "size", function->parts.items[p].size);
			json_object_end(json);
		}
		json_array_end(json);
		json_object_end(json);
	}
	json_array_end(json);
	json_key(json, "new_functions");
	json_array_begin(json);
	for (size_t i = 0; i < patch->new_function_count; i++)
		json_string(json, patch->new_functions[i]);
	json_array_end(json);
}

void show_patch_json(const struct patch *patch)
{
	struct json json;
	char text[129];
	json_init(&json, stdout);
	json_object_begin(&json);
	json_key_string(&json, "schema", "suture-patch-1");
	json_key_string(&json, "name", patch->name);
	hex_format(patch->digest.bytes, sizeof(patch->digest.bytes), text);
	json_key_string(&json, "digest", text);
	json_key_string(&json, "tool_version", patch->tool_version);
	json_key_string(&json, "description", patch->description);
	json_key(&json, "modules");
	json_array_begin(&json);
	for (size_t i = 0; i < patch->modules.count; i++) {
		json_object_begin(&json);
		json_key_string(&json, "name", patch->modules.items[i].name);
		json_key_string(&json, "build_id",
				build_id_format(&patch->modules.items[i].build_id, text));
		json_object_end(&json);
	}
	json_array_end(&json);
	json_key(&json, "bases");
	json_array_begin(&json);
	for (size_t i = 0; i < patch->base_count; i++)
		json_string(&json, patch->bases[i]);
	json_array_end(&json);
	json_key_bool(&json, "replaces_all", patch->replaces_all);
	json_key(&json, "match");
	json_object_begin(&json);
	json_key_u64(&json, "functions_compared", patch->functions_compared);
	json_key_u64(&json, "functions_matched", patch->functions_matched);
	json_key_u64(&json, "bytes_compared", patch->bytes_compared);
	json_key_u64(&json, "bytes_matched", patch->bytes_matched);
	json_key_u64(&json, "text_size", patch->text_size);
	json_object_end(&json);
	json_functions(patch, &json);
	findings_json(&patch->findings, &json);
	json_object_end(&json);
	json_finish(&json);
}

static struct error *run(struct command_context *context)
{
	_cleanup_(patch_cleanup) struct patch *patch = NULL;
	TRY(patch_open(context->operands[0], &patch));
	if (options.json)
		show_patch_json(patch);
	else
		show_patch(patch, true);
	return NULL;
}

const struct command command_show = {
	.name = "show",
	.summary = "show what a patch file changes",
	.operands = "NAME.sut",
	.operands_min = 1,
	.operands_max = 1,
	.description =
		"Prints what the patch is for (modules and their build IDs), the functions that it\n"
		"replaces and adds, how much of the target's code was proved equal to what was\n"
		"built, and the findings of the build.\n"
		"\n"
		"  suture show fix.sut\n"
		"  suture show fix.sut --json\n",
	.options =
		(const struct option_row[]){
			OPTION_JSON(&options.json),
			OPTION_END,
		},
	.run = run,
};
