/* SPDX-License-Identifier: MIT */
/* Where the digest stands in a patch file, and what it covers. */
#include <string.h>

#include "patch/format.h"

static bool read_at(const uint8_t *bytes, size_t size, uint64_t offset, void *ret, size_t count)
{
	if (!range_within(offset, count, size))
		return false;
	memcpy(ret, bytes + offset, count);
	return true;
}

size_t patch_digest_offset(const uint8_t *bytes, size_t size)
{
	Elf64_Ehdr header;
	if (!read_at(bytes, size, 0, &header, sizeof(header)))
		return 0;
	Elf64_Shdr names;
	uint64_t count = header.e_shnum, strings = header.e_shstrndx;
	Elf64_Shdr first;
	if (!read_at(bytes, size, header.e_shoff, &first, sizeof(first)))
		return 0;
	// gABI, "ELF Header": counts that do not fit stand in section header 0.
	if (count == 0)
		count = first.sh_size;
	if (strings == SHN_XINDEX)
		strings = first.sh_link;
	uint64_t table;
	if (!checked_mul(count, (uint64_t)sizeof(Elf64_Shdr), &table) ||
	    !range_within(header.e_shoff, table, size) || strings >= count ||
	    !read_at(bytes, size, header.e_shoff + strings * sizeof(names), &names, sizeof(names)))
		return 0;

	for (uint64_t i = 1; i < count; i++) {
		Elf64_Shdr section;
		char name[sizeof(PATCH_NOTE_SECTION)];
		uint64_t name_offset;
		memcpy(&section, bytes + header.e_shoff + i * sizeof(section), sizeof(section));
		if (section.sh_type != SHT_NOTE ||
		    !checked_add(names.sh_offset, (uint64_t)section.sh_name, &name_offset) ||
		    !read_at(bytes, size, name_offset, name, sizeof(name)) ||
		    memcmp(name, PATCH_NOTE_SECTION, sizeof(name)) != 0 ||
		    !range_within(section.sh_offset, section.sh_size, size))
			continue;
		uint64_t at = section.sh_offset, end = at + section.sh_size;
		Elf64_Nhdr note;
		while (end - at >= sizeof(note)) {
			memcpy(&note, bytes + at, sizeof(note));
			uint64_t content = align_up(note.n_namesz, 4);
			uint64_t next = sizeof(note) + content + align_up(note.n_descsz, 4);
			if (next > end - at)
				break;
			if (note.n_type == PATCH_NOTE_DIGEST &&
			    note.n_descsz == sizeof(struct digest))
				return at + sizeof(note) + content;
			at += next;
		}
	}
	return 0;
}

struct digest patch_digest(const uint8_t *bytes, size_t size, size_t digest_offset)
{
	static const uint8_t zero[sizeof(struct digest)];
	struct digest_state state;
	digest_init(&state);
	digest_update(&state, bytes, digest_offset);
	digest_update(&state, zero, sizeof(zero));
	size_t rest = digest_offset + sizeof(zero);
	digest_update(&state, bytes + rest, size - rest);
	return digest_final(&state);
}
