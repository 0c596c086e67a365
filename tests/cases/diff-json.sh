#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# --json prints the schema suture-diff-1 of docs/diff-json.md.
. "${0%/*}/lib.sh"
need python3

cat > old.c <<'END'
void work(int);
int f(int x) { return x + 1; }
void loop(void) { for (;;) work(1); }
int gone(void) { return 1; }
END
cat > new.c <<'END'
void work(int);
int f(int x) { return x + 2; }
void loop(void) { for (;;) work(2); }
int fresh(void) { return 3; }
END
compile old.c old.o -ffunction-sections -fdata-sections
compile new.c new.o -ffunction-sections -fdata-sections

status 1 suture diff --json old.o new.o
python3 - out <<'END'
import json, sys
diff = json.load(open(sys.argv[1]))
assert diff['schema'] == 'suture-diff-1' and diff['changed'] is True
assert diff['counts'] == {'same': 0, 'changed': 2, 'new': 1, 'removed': 1}, diff['counts']
functions = {f['name']: f for f in diff['functions']}
assert functions['f']['verdict'] == 'changed' and functions['f']['level'] == 'name'
assert functions['f']['old_text'] != functions['f']['new_text']
assert functions['loop']['returns'] is False and functions['f']['returns'] is True
assert functions['fresh']['verdict'] == 'new' and functions['gone']['verdict'] == 'removed'
kinds = {(f['kind'], f['subject']) for f in diff['findings']}
assert kinds == {('no-return', 'loop'), ('symbol-removed', 'gone')}, kinds
roles = {s['name']: s['role'] for s in diff['output']['symbols']}
assert roles == {'f': 'replacement', 'loop': 'replacement', 'fresh': 'definition', 'work': 'import'}, roles
END
