# `make help` lists what there is. Every target runs as it stands on Debian 12 with Go; test and demo want root.

CLANG ?= clang-19
LLVM_STRIP ?= llvm-strip-19
GO ?= go
NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.44.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)
# git may be missing, or refuse a tree that belongs to another user; go build would fail for it.
BUILDVCS := $(shell git rev-parse >/dev/null 2>&1 && echo auto || echo false)
# A Debian version begins with a digit. What is between releases sorts by its commit's date, and before the first release.
DEB_VERSION ?= $(or $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//; s/-/+/g'),$(shell git log -1 --date=format:%Y%m%d%H%M%S --format=0~%cd.%h 2>/dev/null),0~unknown)
TEST_FLAGS ?=
KERNELS ?=
KERNELS_FLAGS ?=
FUZZTIME ?= 60s
LOAD ?= 100
BENCH_ROUNDS ?= 7
BENCH_TIME ?= 300ms
BENCH_FLAGS ?=
SOAK ?= 10m

# sudo and su leave these out.
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin

# bpf2go reads these. asm/types.h stands in the multiarch directory on Debian; instruction set v3 runs on every kernel from 5.10 on.
export BPF2GO_CC := $(CLANG)
export BPF2GO_STRIP := $(LLVM_STRIP)
export BPF2GO_CFLAGS := -O2 -g -Wall -Werror -mcpu=v3 -idirafter /usr/include/$(shell uname -m)-linux-gnu

.PHONY: help build deb generate test race test-deps bench bench-smoke parity load fuzz soak service kernels lint demo demo-clean demo-overlay demo-overlay-clean clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

build: ## bin/ebpfnet, one static program; needs Go and nothing else
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=$(BUILDVCS) -ldflags '-s -w -X main.version=$(VERSION)' -o bin/ebpfnet ./cmd/ebpfnet

deb: build ## dist/ebpfnet_VERSION_ARCH.deb, with nfpm
	mkdir -p dist
	bin/ebpfnet completion bash > dist/completion
	ARCH=$$($(GO) env GOARCH) VERSION='$(DEB_VERSION)' $(GO) run $(NFPM) package --config packaging/deb/nfpm.yaml --packager deb --target dist/

generate: ## the objects and Go types from the C sources; needs clang-19, llvm-19, libbpf-dev (make test-deps installs them)
	$(GO) generate ./...

test: test-deps ## install what the tests need (Debian packages), then run them all; root
	mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
	$(GO) test -p 1 -count=1 -timeout 60m $(TEST_FLAGS) ./...
	@$(MAKE) --no-print-directory race

race: ## the tests that run in no time, with the race detector; passed over without a C compiler
	@if ! command -v gcc >/dev/null; then echo "no gcc: no race detector"; \
	else set -x; CGO_ENABLED=1 $(GO) test -race -count=1 -timeout 10m ./agent/... ./cmd/... ./metrics/... ./policy/...; fi

test-deps: ## install what the tests and the generator need
	packaging/install-deps.sh test

parity: ## what clients get on stock Docker and on ebpfnet, case by case, side by side; root
	mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
	cd tests/parity && $(GO) test -count=1

soak: test-deps ## load in every direction while everything comes, goes, dies and restarts, for SOAK; root
	SOAK=$(SOAK) $(GO) test ./tests/e2e -run 'TestSoak|TestCycles' -count=1 -timeout 3h -v

service: test-deps ## the Debian package under a systemd of its own: restarted, killed, hung, stopped and switched off under traffic; root
	mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf
	$(GO) test ./tests/e2e -run 'TestService$$|TestDebianPackage' -count=1 -timeout 20m -v

load: test-deps ## 60,000 masqueraded connections to one port, and 200,000 to many, all at once (LOAD=20: a fifth of that); root
	LOAD=$(LOAD) $(GO) test ./tests/load -count=1 -timeout 20m -v

bench: test-deps ## the datapath beside the bare path and stock Docker, into tests/bench/results (BENCH_FLAGS='-run TestPorts': a part of it); root
	$(GO) test ./tests/bench -count=1 -timeout 3h -bench-full -bench-rounds $(BENCH_ROUNDS) -bench-time $(BENCH_TIME) -bench-results results $(BENCH_FLAGS)

bench-smoke: test-deps ## the benchmark for a moment, to see that it works; root
	$(GO) test ./tests/bench -count=1

fuzz: ## packets nobody would send, through every program, for FUZZTIME; root
	$(GO) test ./tests/packet -run '^$$' -fuzz FuzzPrograms -fuzztime $(FUZZTIME)

kernels: ## the datapath in small virtual machines with Debian's kernels, from 5.10 on (KERNELS=6.1: only those); root
	packaging/install-deps.sh kernels
	$(GO) run ./tests/kernels $(KERNELS_FLAGS) $(KERNELS)

lint: ## gofmt, go vet, staticcheck, the direction of imports, go mod tidy
	@out=$$(gofmt -l .); if [ -n "$$out" ]; then echo "gofmt is not content with:"; echo "$$out"; exit 1; fi
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	$(GO) test -count=1 ./tests/imports
	$(GO) mod tidy -diff

demo: ## two containers, a published port, and who can reach it; root
	packaging/demo.sh

demo-clean: ## undo what the demo did, and nothing else; root
	packaging/demo.sh clean

demo-overlay: ## two Docker hosts in one network, a ping and iperf3 between their containers; root
	packaging/demo-overlay.sh

demo-overlay-clean: ## take the two hosts away; root
	packaging/demo-overlay.sh clean

clean: ## remove what was built
	rm -rf bin
