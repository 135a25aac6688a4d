#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A busy Linux guest, and a tool that does all there is at once and is killed
#
# Usage: QTEST_QEMU_BINARY=qemu-system-x86_64 KVMI_LOAD_TOOL=load-tool
#        storm-test.py KVMI [CASE...]
#
# The output is TAP.  KVMI_LOAD_SECONDS in the environment says how long each
# case goes on (20), KVMI_LOAD_SEED which one of the many possible runs it is.

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import time

from guest_vm import (
    PATIENCE, Lines, a_trace, a_vm, check, check_grown, equal, main,
    make_initramfs, note, wait_for, wait_let_go, what_it_takes)

TOOL = os.environ.get('KVMI_LOAD_TOOL', '')
SECONDS = float(os.environ.get('KVMI_LOAD_SECONDS', '20'))
SEED = int(os.environ.get('KVMI_LOAD_SEED', time.time_ns() % (1 << 31)))
NUMBERS_PER_JOB = 3000  # of tests/load/init-work
WORK_SECONDS = 300      # that a busy host may need to boot, or to end its work

COUNTS = r': cr (\d+) pf (\d+) pause (\d+) replies (\d+) steps (\d+)'


def expected_sum():
    """What each job must come to."""
    text = ''.join(f'{n}\n' for n in range(1, NUMBERS_PER_JOB + 1))
    return hashlib.sha256(text.encode()).hexdigest()


class Tool:
    """A load-tool, and how much it has done."""

    def __init__(self, vm, seed):
        self.process = subprocess.Popen(
            [TOOL, vm.sock, str(seed)], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines = Lines(self.process.stdout)
        self.lines.find('^load: ')

    def last_counts(self):
        """Of its last line."""
        self.lines.thread.join()
        match = re.search(COUNTS, self.lines.last[-1])
        check(match, 'the tool ended with', self.lines.last[-1])
        return [int(n) for n in match.groups()]

    def kill(self):
        """In the middle of whatever it does."""
        self.process.kill()
        check(self.process.wait() == -signal.SIGKILL, 'it ended by itself:',
              self.process.stderr.read().decode())
        self.process.stderr.close()
        return self.last_counts()

    def end(self):
        """In order: it says whether all was answered."""
        self.process.send_signal(signal.SIGTERM)
        equal(self.process.wait(PATIENCE), 0, 'exit status of the tool (' +
              self.process.stderr.read().decode() + ')')
        self.process.stderr.close()
        self.lines.thread.join()
        check(self.lines.last[-1].startswith('done: '), self.lines.last[-1])
        return self.last_counts()


@contextlib.contextmanager
def a_working_vm(thread):
    """Up, and not at work yet; vm.sync is where the guest's sync() is."""
    with tempfile.TemporaryDirectory(prefix='kvmi-load-') as directory:
        initrd = os.path.join(directory, 'initramfs')
        make_initramfs(initrd, 'init-work')
        with a_vm(initrd, thread, False, 'loglevel=1', smp=4) as vm:
            vm.sync = vm.lines.find('^load: sync ([0-9a-f]+)',
                                    WORK_SECONDS)[1].group(1)
            equal(vm.lines.find(r'^load: cpus (\d+)')[1].group(1), '4', 'CPUs')
            yield vm


def finish(vm):
    """All that the guest has computed is right; how many jobs that was."""
    vm.tell('finish')
    count, result = vm.lines.find(r'^load: result (.*)',
                                  WORK_SECONDS)[1].group(1).split()
    equal(result, expected_sum(), f'the result of {count} jobs')
    # another line would be another result
    line = vm.lines.find('^load: (.*)')[1].group(1)
    equal(line, 'end', 'after the result')
    note(f'{count} jobs of the guest')
    return int(count)


def power_off(vm):
    vm.tell('off')
    equal(vm.qemu.wait(PATIENCE), 0, 'exit status of QEMU')


def storm(thread):
    note(f'KVMI_LOAD_SEED={SEED}')
    with a_working_vm(thread) as vm:
        vm.tell('start')
        rounds(vm, random.Random(SEED))
        finish(vm)
        power_off(vm)


def rounds(vm, rand):
    """Tools come, and are killed; the last one leaves in order."""
    totals = [0] * 5
    number = 0
    before = None
    end = time.monotonic() + SECONDS
    while time.monotonic() < end or number < 4:
        tool = Tool(vm, rand.randrange(1 << 31))
        time.sleep(rand.uniform(0.01, 1.5))     # any moment
        if number % 4 == 3:
            counts = tool.end()
        else:
            counts = tool.kill()
            os.unlink(vm.sock)
        wait_let_go(vm)
        totals = [a + b for a, b in zip(totals, counts)]
        number += 1
        if number == 4:
            # from here on, nothing is new
            before = what_it_takes(vm)
    check_grown(vm, before)
    note(f'{number} tools saw {totals[0]} CR, {totals[1]} PF and {totals[2]} '
         f'PAUSE events, sent {totals[3]} replies, and stepped {totals[4]} '
         f'times')
    check(all(totals), 'some of that did not happen at all:', totals)


def case_multi():
    storm('multi')


def case_single():
    storm('single')


def case_breakpoints():
    """
    Each job calls sync() once, on any CPU: as many hits as jobs.  The guest
    goes on when the trace ends, in the middle of its work.
    """
    with a_working_vm('multi') as vm:
        address = f'0x{vm.sync}'
        with a_trace(vm, '--bp', address, '--json') as tool:
            trace = Lines(tool.stdout)
            wait_for(lambda: vm.qmp('query-introspection')['state'] ==
                     'hooked', 'the tool')
            vm.tell('start')
            time.sleep(SECONDS / 2)
            jobs = finish(vm)
            tool.send_signal(signal.SIGINT)
            equal(tool.wait(PATIENCE), 0, 'exit status of kvmi')
            trace.thread.join()
        summary = json.loads(trace.last[-1])['summary']
        note(f'{summary["events"]} hits, on vCPUs {summary["vcpus"]}')
        equal(summary['events'], jobs, 'hits of the breakpoint')
        check(sum(count > 0 for count in summary['vcpus']) > 1,
              'all on one vCPU:', summary['vcpus'])
        wait_let_go(vm)
        power_off(vm)


if __name__ == '__main__':
    main(globals())
