# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each target does all that is needed before it: packages, base, hooks,
# configuration, compilation. See 'make help'.

all:
	@scripts/build

demo:
	@scripts/build demo
	@scripts/demo

check:
	@scripts/build check
	@scripts/check

check-base:
	@scripts/build check
	@scripts/check --base

check-kernel:
	@scripts/build check
	@scripts/check --kernel

check-kernel-debug:
	@scripts/build check kernel-debug
	@scripts/check --kernel-debug

check-kernel-intel:
	@scripts/build check kernel-intel
	@scripts/check --kernel-intel

check-stress:
	@scripts/build check
	@scripts/demo-guest
	@KVMI_LOAD_LONG=1 KVMI_LOAD_SECONDS=600 KVMI_FUZZ_SECONDS=600 KVMI_TIMEOUT=10 \
		scripts/check introspection-load-test introspection-storm-test introspection-fuzz

SANITIZED = KVMI_BUILD_DIR=build-sanitizers KVMI_TIMEOUT=10 \
	UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1

# Not where QEMU runs, which does not free all it has when it ends.
LEAK_TESTS = test-introspection-abi test-introspection-auth test-introspection-dispatch \
	test-introspection-handshake test-introspection-masks test-introspection-vcpu \
	kvmi-client-test

check-sanitizers:
	@KVMI_BUILD_DIR=build-sanitizers scripts/build --sanitizers check
	@scripts/demo-guest
	@$(SANITIZED) ASAN_OPTIONS=detect_leaks=1 scripts/check $(LEAK_TESTS)
	@$(SANITIZED) ASAN_OPTIONS=detect_leaks=0 scripts/check --ours

# GDB is something to compare with: without it there is less to see.
bench:
	@scripts/build check
	-@scripts/packages --install bench
	@tests/bench/bench

bench-kernel:
	@scripts/build check
	@tests/bench/bench-kernel

install-dkms:
	@scripts/packages --install dkms
	@scripts/dkms install

remove-dkms:
	@scripts/dkms remove

docs:
	@scripts/build docs
	@echo "The manual: build/docs/manual/index.html"

install:
	@test -e build/build.ninja || { echo "run 'make' first" >&2; exit 1; }
	ninja -C build install

clean:
	@if test -e build/build.ninja; then ninja -C build -t clean; fi

distclean:
	@scripts/refresh-hooks --check
	rm -rf build build-sanitizers base

help:
	@echo "make             build QEMU with introspection: build/qemu-system-x86_64"
	@echo "make demo        boot a Linux guest and look into it from outside"
	@echo "make check       run the tests, and some of QEMU's own"
	@echo "make check-stress  run the load tests and the fuzzers for much longer"
	@echo "make check-sanitizers  run this fork's tests under ASan and UBSan"
	@echo "make check-base  run all of QEMU's own tests for x86 machines"
	@echo "make check-kernel        run the tests of the kernel's engine only"
	@echo "make check-kernel-debug  build a kernel that checks itself, and run them in it"
	@echo "make check-kernel-intel  run them on an emulated processor of Intel's, which takes long"
	@echo "make bench       measure how fast introspection is, as ratios"
	@echo "make bench-kernel  the same for the kernel's engine, in the nested machine"
	@echo "make install-dkms  install KVM with introspection for Debian's kernel 6.12"
	@echo "make remove-dkms   remove it"
	@echo "make docs        build the manual (takes Sphinx)"
	@echo "make install     install, after ./configure --prefix=... && make"
	@echo "make clean       remove what the compiler made"
	@echo "make distclean   remove all that was made: build/ and base/"
	@echo "All of them install missing Debian packages by themselves, as root or"
	@echo "with sudo, fetch QEMU 10.0 and build it. Options: ./configure --help."

.PHONY: all demo check check-base check-stress check-sanitizers check-kernel \
	check-kernel-debug check-kernel-intel bench bench-kernel install-dkms remove-dkms docs install \
	clean distclean help
