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

import hashlib
import os
import random
import re
import signal
import subprocess
import tempfile
import time

from guest_vm import (
    PATIENCE, Lines, a_vm, check, check_grown, equal, main, make_initramfs,
    note, wait_for, wait_let_go, what_it_takes)

TOOL = os.environ.get('KVMI_LOAD_TOOL', '')
SECONDS = float(os.environ.get('KVMI_LOAD_SECONDS', '20'))
SEED = int(os.environ.get('KVMI_LOAD_SEED', time.time_ns() % (1 << 31)))
NUMBERS_PER_JOB = 3000  # of tests/load/init-work
WORK_SECONDS = 300      # for which a busy host may need to come to an end

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
        check(self.lines.last[-1].startswith('done: '), self.lines.last[-1])
        return self.last_counts()


def storm(thread):
    note(f'KVMI_LOAD_SEED={SEED}')
    rand = random.Random(SEED)
    with tempfile.TemporaryDirectory(prefix='kvmi-load-') as directory:
        initrd = os.path.join(directory, 'initramfs')
        make_initramfs(initrd, 'init-work')
        with a_vm(initrd, thread, False, 'loglevel=1', smp=4) as vm:
            equal(vm.lines.find(r'^load: cpus (\d+)')[1].group(1), '4', 'CPUs')
            rounds(vm, rand)
            vm.tell('finish')
            count, result = vm.lines.find(r'^load: result (.*)',
                                          WORK_SECONDS)[1].group(1).split()
            # a second line would be another result
            equal(vm.qemu.wait(PATIENCE), 0, 'exit status of QEMU')
            check(not [line for line in vm.lines.last
                       if line.startswith('load: result') and
                       result not in line], 'different results')
            equal(result, expected_sum(), f'the result of {count} jobs')
            note(f'{count} jobs of the guest')


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
    wait_for(lambda: all(vm.vcpu_time(n) > 0 for n in range(4)), 'the vCPUs')


def case_multi():
    storm('multi')


def case_single():
    storm('single')


if __name__ == '__main__':
    main(globals())
