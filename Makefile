CLANG ?= clang-19
LLVM_STRIP ?= llvm-strip-19

# bpf2go reads these. asm/types.h stands in the multiarch directory on Debian; instruction set v3 runs on every kernel from 5.10 on.
export BPF2GO_CC := $(CLANG)
export BPF2GO_STRIP := $(LLVM_STRIP)
export BPF2GO_CFLAGS := -O2 -g -Wall -Werror -mcpu=v3 -idirafter /usr/include/$(shell gcc -dumpmachine)

generate:
	go generate ./...
