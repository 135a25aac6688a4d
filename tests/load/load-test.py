#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Introspection of a busy Linux guest by a tool that misbehaves
#
# Usage: QTEST_QEMU_BINARY=qemu-system-x86_64 load-test.py KVMI [CASE...]
#
# The output is TAP.  The guest is that of the demo, which scripts/demo-guest
# makes: without it, everything is skipped.  KVMI_LOAD_LONG=1 in the environment
# lets the tool of the case frozen-tool be frozen for a minute.

import hashlib
import os
import signal
import tempfile
import time

from guest_vm import (
    GUEST, PATIENCE, Lines, a_trace, a_vm, check, check_grown, equal, main,
    make_initramfs, note, wait_for, wait_let_go, what_it_takes)

ROUNDS = 20
JOBS_PER_ROUND = 6      # of the demo's guest
NUMBERS_PER_JOB = 2000

FROZEN_SECONDS = 60 if os.environ.get('KVMI_LOAD_LONG') == '1' else 10
MONITOR_SECONDS = 1     # in which the monitor answers
RELEASE_SECONDS = 1     # in which the guest goes on after the tool's death

# 20 rounds of connect, trace, kill

def expected_sum():
    """What each job of tests/demo/init must come to."""
    text = ''.join(str(n).replace('1', '2')[::-1] + '\n'
                   for n in range(1, NUMBERS_PER_JOB + 1))
    return hashlib.sha256(text.encode()).hexdigest()


def kill_round(vm, lines):
    """Kill a trace that has shown so many lines."""
    with a_trace(vm, '--cr', '3', '--cr', '0', '--cr', '4', '--msr', 'lstar',
                 '--msr', 'fs_base', '--msr', 'gs_base') as tool:
        for _ in range(lines):
            check(tool.stdout.readline(), 'the trace ended by itself')
    vm.clean_up_after_kill()


def kill_rounds(thread, listens):
    initrd = os.path.join(GUEST, 'initramfs.gz')
    with a_vm(initrd, thread, listens, 'maxcpus=1 noreplace-smp') as vm:
        vm.lines.find('^demo: up')
        vm.tell('start')
        equal(vm.lines.find(r'^demo: cpus (\d+)')[1].group(1), '2', 'CPUs')

        for number in range(ROUNDS):
            # any number: a death in the first event, between events, and
            # with an output that is full
            kill_round(vm, 1 + number * 37 % 101)
            wait_let_go(vm)
            if number == 2:
                # from here on, nothing is new
                before = what_it_takes(vm)
        check_grown(vm, before)

        vm.tell('finish')
        rounds = int(vm.lines.find(r'^demo: rounds (\d+)')[1].group(1))
        count, result = vm.lines.find(r'^demo: result (.*)')[1].group(1).split()
        equal(int(count), rounds * JOBS_PER_ROUND, 'number of right results')
        equal(result, expected_sum(), 'the result')
        equal(vm.qemu.wait(PATIENCE), 0, 'exit status of QEMU')
        note(f'{rounds} rounds of work of the guest')


def case_kill_rounds_multi():
    kill_rounds('multi', listens=False)


def case_kill_rounds_single():
    kill_rounds('single', listens=True)


# A tool that does not answer

def waiting_vcpu(vm):
    """The only vCPU that waits, or None."""
    info = vm.qmp('query-introspection')
    equal(info['state'], 'hooked', 'state')
    check(len(info['waiting-vcpus']) <= 1, info)
    return info['waiting-vcpus'][0] if info['waiting-vcpus'] else None


def watch_frozen(vm):
    """One vCPU waits for the tool; everything else goes on."""
    slowest = 0
    waited = 0
    frozen_time = vm.vcpu_time(0)
    while waited < FROZEN_SECONDS * 1000:
        start = time.monotonic()
        equal(vm.qmp('query-status')['status'], 'running', 'status')
        slowest = max(slowest, time.monotonic() - start)

        vcpu = waiting_vcpu(vm)
        check(vcpu, 'no vCPU waits any more')
        equal((vcpu['vcpu'], vcpu['event']), (0, 'cr'), 'what is waiting')
        check(vcpu['waiting-ms'] > waited or not waited, 'waiting-ms', vcpu,
              'after', waited)
        waited = vcpu['waiting-ms']

        other = vm.vcpu_time(1)
        wait_for(lambda: vm.vcpu_time(1) > other + 0.1, 'the other vCPU')
    check(slowest < MONITOR_SECONDS, 'the monitor took', slowest, 's')
    check(vm.vcpu_time(0) - frozen_time < 0.05 * FROZEN_SECONDS,
          'the vCPU that waits uses CPU time')
    note(f'frozen for {waited} ms; the monitor answered within '
         f'{slowest * 1000:.0f} ms')


def case_frozen_tool():
    with tempfile.TemporaryDirectory(prefix='kvmi-load-') as directory:
        initrd = os.path.join(directory, 'initramfs')
        make_initramfs(initrd, 'init')
        with a_vm(initrd, 'multi', True, 'loglevel=1') as vm, \
                a_trace(vm, '--cr', '3', '--vcpu', '0') as tool:
            vm.lines.find('^load: tick 5$')
            trace = Lines(tool.stdout)
            for _ in range(10):
                trace.find('cr3')

            tool.send_signal(signal.SIGSTOP)
            wait_for(lambda: waiting_vcpu(vm), 'a vCPU to wait')
            vm.lines.drop()
            watch_frozen(vm)
            check(vm.lines.queue.empty(), 'the guest said',
                  list(vm.lines.queue.queue))

            killed = time.monotonic()
            tool.kill()
            when, _ = vm.lines.find('^load: tick', RELEASE_SECONDS)
            note(f'the guest went on {(when - killed) * 1000:.0f} ms after '
                 f'the death of the tool')
            for _ in range(10):
                vm.lines.find('^load: tick')
            tool.wait()
            trace.thread.join()
            wait_let_go(vm)


if __name__ == '__main__':
    main(globals())
