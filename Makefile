# `make` lists the targets.

SHELL   := /bin/sh
TARGET  := $(or $(CARGO_TARGET_DIR),target)
BINARY  := $(TARGET)/release/raqib
CONFIG  ?= config/raqib.yaml
ARGS    ?=
PREFIX  ?= /usr/local
ETC     ?= /etc
UNITS   ?= /lib/systemd/system
ARCH    := $(shell uname -m)
BPF     := $(wildcard bpf/*.c bpf/*.h)
SUDO    := $(if $(filter 0,$(shell id -u)),,sudo)

.DEFAULT_GOAL := help
.PHONY: help setup check build release run test test-vm lint fmt bench vmlinux install uninstall clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing for building and testing (apt-get or dnf)
	@deploy/setup.sh build test

check:
	@deploy/setup.sh --check build

build: check ## build with debug information
	cargo build

release: check ## build optimised
	cargo build --release

run: setup ## install what is missing, build, watch this host (CONFIG=file, ARGS=...)
	cargo build --release
	exec $(SUDO) $(BINARY) run --config $(CONFIG) $(ARGS)

test: setup ## install what is missing, run all tests (as root: also those on this kernel)
	@deploy/test.sh $(ARGS)

# Static, because the initramfs has no libraries of this machine's tests; three times the patience of
# the tests, because the CPUs are emulated.
test-vm: export RUSTFLAGS = -C target-feature=+crt-static
test-vm: export CARGO_BUILD_TARGET = $(ARCH)-unknown-linux-gnu
test-vm: export RAQIB_TEST_SLOW = 3
test-vm: check ## the tests on other kernels, in VMs (ARGS="6.12 execution", --short, --record; RAQIB_VM_CACHE)
	@command -v apt-get >/dev/null || { echo "SKIPPED: test-vm: no apt-get, which fetches the kernels"; exit 0; }; \
	deploy/setup.sh vm || { echo "SKIPPED: test-vm: what it needs cannot be installed here"; exit 0; }; \
	cargo test --quiet --profile vm --test vm -- $(ARGS)

lint: setup ## formatting, clippy and documentation, warnings are errors
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --test vm -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet
	@if [ ! -e .clang-format ] && [ ! -e bpf/.clang-format ]; then echo "C format not checked: no .clang-format"; \
	elif command -v clang-format >/dev/null; then clang-format --dry-run -Werror $(BPF); \
	else echo "C format not checked: clang-format is not installed"; fi

fmt: ## format Rust (and C, if clang-format is installed)
	cargo fmt
	@if [ -e .clang-format ] || [ -e bpf/.clang-format ]; then \
	if command -v clang-format >/dev/null; then clang-format -i $(BPF); fi; fi

bench: setup ## what watching costs on this machine, as a table (ARGS="--quick")
	cargo build --release
	RAQIB_BIN=$(BINARY) cargo bench --bench cost -- $(ARGS)

vmlinux: ## write vmlinux/ARCH/vmlinux.h anew from this kernel's types
	@deploy/setup.sh vmlinux
	mkdir -p vmlinux/$(ARCH)
	PATH=$$PATH:/usr/sbin bpftool btf dump file /sys/kernel/btf/vmlinux format c > vmlinux/$(ARCH)/vmlinux.h.new
	mv vmlinux/$(ARCH)/vmlinux.h.new vmlinux/$(ARCH)/vmlinux.h

install: ## install what `make release` built (DESTDIR, PREFIX, ETC, UNITS)
	install -D -m 755 $(BINARY) $(DESTDIR)$(PREFIX)/bin/raqib
	@# A configuration that is there already belongs to the user.
	@cd config && find . -type f | while read -r file; do \
		to="$(DESTDIR)$(ETC)/raqib/$$file"; \
		if [ -e "$$to" ]; then echo "kept $$to"; else install -D -m 644 "$$file" "$$to" || exit 1; fi; \
	done
	@if [ -e deploy/raqib.service ]; then \
		install -d $(DESTDIR)$(UNITS) && \
		sed 's|/usr/bin/raqib|$(PREFIX)/bin/raqib|' deploy/raqib.service > $(DESTDIR)$(UNITS)/raqib.service; fi

uninstall: ## remove what `make install` installed, except the configuration
	rm -f $(DESTDIR)$(PREFIX)/bin/raqib $(DESTDIR)$(UNITS)/raqib.service
	@echo "kept $(DESTDIR)$(ETC)/raqib"

clean: ## remove what was built
	cargo clean
