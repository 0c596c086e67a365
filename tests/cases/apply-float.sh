#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Floating-point arguments and results, constants in memory, and vectors.
. "${0%/*}/lib.sh"
need_ptrace

program counter <<'END'
#include "target.h"
typedef float vector __attribute__((vector_size(16)));
NOIPA double mean(float a, double b, long double c) { return (a + b + (double)c) / 3.0; }
NOIPA vector scale(vector v) { return v * (vector){ 1, 2, 3, 4 }; }
int main(void)
{
	for (;; turn()) {
		vector v = scale((vector){ 1, 1, 1, 1 });
		printf("mean %.3f of %.1f %.1f\n", mean(1.5f, 2.5, 5.0L), v[0], v[3]);
	}
}
END
start ./counter
change counter.c 's@/ 3\.0@/ 0.5@; s/\{ 1, 2, 3, 4 \}/{ 9, 6, 7, 8 }/'
build_patch fix
there_and_back 'mean 18.000 of 9.0 8.0' 'mean 3.000 of 1.0 4.0'
