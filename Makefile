# SPDX-License-Identifier: MIT
# A thin front to meson and ninja. `make BUILD=DIR` builds elsewhere, J=N bounds the parallel jobs.
BUILD ?= build
J ?= 2
WERROR ?= false
DESTDIR ?=

# How each build directory is configured; any other is configured as build is.
setup_build-asan = -Db_sanitize=address,undefined -Doptimization=1 -Dwerror=true
setup_build-clang = -Dwerror=true
CC_build-clang = CC=clang

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(J)

$(BUILD)/build.ninja:
	@tools/install-deps build
	$(CC_$(BUILD)) meson setup -Dwerror=$(WERROR) $(setup_$(BUILD)) $(BUILD)

# Units and cases, once more under the sanitizers, and a build by the other compiler.
check:
	@tools/install-deps check
	@tests/run -j $(J) build build-asan build-clang:compile

# With real servers as well: packages are installed, sources fetched, servers put under load.
check-long:
	@tools/install-deps check
	@tests/run -j $(J) build build-asan build-clang:compile real

demo: all
	@tests/real/demo.sh

bench: all
	@tests/bench/run

install: all
	DESTDIR=$(DESTDIR) meson install -C $(BUILD) --no-rebuild

clean:
	rm -rf build build-asan build-clang

.PHONY: all check check-long demo bench install clean
