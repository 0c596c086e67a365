/* SPDX-License-Identifier: MIT */
#include "process/private.h"

void gadgets_free(struct gadgets *gadgets)
{
	(void)gadgets;
}

struct error *process_system_call(struct process_stop *stop, long number, const uint64_t args[6],
				  int64_t *ret)
{
	(void)stop, (void)number, (void)args, (void)ret;
	return error_new(ERROR_KIND_UNSUPPORTED, "not built yet");
}

struct error *process_call(struct process_stop *stop, uint64_t function, const uint64_t args[6],
			   uint64_t limit_ns, uint64_t *ret)
{
	(void)stop, (void)function, (void)args, (void)limit_ns, (void)ret;
	return error_new(ERROR_KIND_UNSUPPORTED, "not built yet");
}
