/* SPDX-License-Identifier: MIT */
#include "image/internal.h"

void image_index_free(struct image_index *index)
{
	(void)index;
}
