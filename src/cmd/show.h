/* SPDX-License-Identifier: MIT */
/* What `suture show` and `suture build` print of a patch. */
#ifndef SUTURE_CMD_SHOW_H
#define SUTURE_CMD_SHOW_H

#include "patch/patch.h"

void show_patch(const struct patch *patch, bool verbose);
/** The schema "suture-patch-1". */
void show_patch_json(const struct patch *patch);

#endif
