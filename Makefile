# SPDX-License-Identifier: MIT
# A thin front to meson and ninja. BUILD=DIR builds elsewhere, J=N bounds the parallel jobs.
BUILD ?= build
J ?= 2

all: $(BUILD)/build.ninja
	@ninja -C $(BUILD) -j $(J)

$(BUILD)/build.ninja:
	meson setup $(BUILD)

clean:
	rm -rf build build-asan build-clang

.PHONY: all clean
