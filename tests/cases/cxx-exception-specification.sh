#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Exceptions of two types, filters and rethrows in new functions and templates.
. "${0%/*}/lib.sh"
need_ptrace

program_cxx counter <<'END'
#include "target.h"
#include <string>
struct mine { std::string text; };
NOIPA std::string answer(int x)
{
	try {
		if (x)
			throw mine{"old"};
	} catch (int) {
		return "int";
	} catch (mine &m) {
		return m.text;
	}
	return "none";
}
int main() { for (;; turn()) printf("answer %s.\n", answer(1).c_str()); }
END
start ./counter
change counter.cc <<'END'
#include "target.h"
#include <string>
struct mine { std::string text; };
template <typename T> static NOIPA void relay(T thrown)
{
	try {
		throw thrown;
	} catch (T &) {
		throw;
	}
}
NOIPA std::string answer(int x)
{
	try {
		if (x)
			relay(7);
	} catch (int) {
		try {
			relay(mine{"a text that is too long for the room inside of a string object"});
		} catch (const mine &m) {
			return m.text;
		}
	} catch (mine &m) {
		return m.text;
	}
	return "none";
}
int main() { for (;; turn()) printf("answer %s.\n", answer(1).c_str()); }
END
build_patch fix
there_and_back 'answer a text that is too long for the room inside of a string object.' 'answer old.'
