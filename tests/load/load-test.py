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

import collections
import contextlib
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.realpath(__file__))))
GUEST = os.path.join(os.environ.get('KVMI_BASE_DIR',
                                    os.path.join(ROOT, 'base')), 'demo')
INIT = os.path.join(ROOT, 'tests', 'load', 'init')

QEMU = os.environ.get('QTEST_QEMU_BINARY', '')
KVMI = ''
PATIENCE = 60           # seconds until something that should happen has failed

ROUNDS = 20
JOBS_PER_ROUND = 6      # of the demo's guest
NUMBERS_PER_JOB = 2000

FROZEN_SECONDS = 60 if os.environ.get('KVMI_LOAD_LONG') == '1' else 10
MONITOR_SECONDS = 1     # in which the monitor answers
RELEASE_SECONDS = 1     # in which the guest goes on after the tool's death

MIB = 1 << 20
# What QEMU's own memory may grow by in 17 of the 20 rounds; less than 100 KiB
# is usual.  The guest's RAM and translated code are not part of that, but TCG's
# tables of both are.
GROWTH_LIMIT = 4 * MIB


class Failure(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Failure(' '.join(str(w) for w in what))


def equal(have, want, what=''):
    check(have == want, what, 'is', repr(have), 'and should be', repr(want))


def wait_for(condition, what, seconds=PATIENCE):
    """Until @condition gives something; that is returned."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        check(time.monotonic() < end, 'waited in vain for', what)
        time.sleep(0.01)


def note(*what):
    print('#', *what, flush=True)


class Lines:
    """What a process writes, read all the time, with the time of each line."""

    def __init__(self, stream):
        self.queue = queue.Queue()
        self.last = collections.deque(maxlen=40)
        self.thread = threading.Thread(target=self.read, args=[stream],
                                       daemon=True)
        self.thread.start()

    def read(self, stream):
        for line in stream:
            text = line.decode(errors='replace').rstrip()
            self.last.append(text)
            self.queue.put((time.monotonic(), text))
        self.queue.put(None)
        stream.close()

    def find(self, pattern, seconds=PATIENCE):
        """The next line that matches: its time, and the match."""
        end = time.monotonic() + seconds
        while True:
            try:
                item = self.queue.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                raise Failure(f'no line like {pattern!r} in {seconds} s') \
                    from None
            check(item is not None, 'the end came before a line like', pattern)
            match = re.search(pattern, item[1])
            if match:
                return item[0], match

    def drop(self):
        """Forget what has come so far."""
        with contextlib.suppress(queue.Empty):
            while True:
                self.queue.get_nowait()


class VM:
    """A QEMU with a Linux guest that is introspected, and its monitor."""

    def __init__(self, initrd, thread, listens, append):
        self.dir = tempfile.mkdtemp(prefix='kvmi-load-')
        self.sock = os.path.join(self.dir, 'sock')
        self.listens = listens
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.qemu = subprocess.Popen(
                [QEMU, '-nodefaults', '-display', 'none', '-no-reboot',
                 '-accel', f'tcg,thread={thread},tb-size=32', '-cpu', 'max',
                 '-smp', '2', '-m', '256',
                 '-object', 'memory-backend-memfd,id=ram,size=256M,share=on',
                 '-machine', 'pc,memory-backend=ram',
                 '-kernel', os.path.join(GUEST, 'vmlinuz'), '-initrd', initrd,
                 '-append', f'console=ttyS0 quiet panic=-1 {append}',
                 '-serial', 'stdio',
                 '-chardev', f'socket,id=qmp,fd={theirs.fileno()}',
                 '-mon', 'chardev=qmp,mode=control',
                 '-chardev', f'socket,id=vmi,path={self.sock},' +
                 ('server=on,wait=off' if listens else 'reconnect-ms=20'),
                 '-object', 'introspection,id=kvmi0,chardev=vmi'],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, pass_fds=[theirs.fileno()])
            ours.settimeout(PATIENCE)
            self.monitor = ours.makefile('rw', encoding='utf-8')
        self.lines = Lines(self.qemu.stdout)
        check('QMP' in json.loads(self.monitor.readline()), 'no greeting')
        self.qmp('qmp_capabilities')

    def qmp(self, command):
        self.monitor.write(json.dumps({'execute': command}) + '\n')
        self.monitor.flush()
        while True:
            answer = json.loads(self.monitor.readline())
            check('error' not in answer, command, answer)
            if 'return' in answer:
                return answer['return']

    def tell(self, line):
        """To the guest, on its serial port."""
        self.qemu.stdin.write(line.encode() + b'\n')
        self.qemu.stdin.flush()

    def trace(self, *args):
        """Start a kvmi trace."""
        connect = ['--connect'] if self.listens else []
        return subprocess.Popen([KVMI, 'trace', '--socket', self.sock,
                                 '--timeout', str(PATIENCE), *connect, *args],
                                stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL)

    def clean_up_after_kill(self):
        """A tool that listened and was killed has left its socket."""
        if not self.listens:
            os.unlink(self.sock)

    def proc(self, name):
        with open(f'/proc/{self.qemu.pid}/{name}', encoding='utf-8') as f:
            return f.read()

    def threads(self):
        return len(os.listdir(f'/proc/{self.qemu.pid}/task'))

    def fds(self):
        return len(os.listdir(f'/proc/{self.qemu.pid}/fd'))

    def own_memory(self):
        """Anonymous memory of QEMU that is not translated code, in bytes."""
        total = 0
        code = False
        for line in self.proc('smaps').splitlines():
            if re.match(r'[0-9a-f]+-[0-9a-f]+ ', line):
                code = 'x' in line.split()[1]
            elif line.startswith('Anonymous:') and not code:
                total += int(line.split()[1]) * 1024
        return total

    def vcpu_time(self, index):
        """CPU time of a vCPU's thread, in seconds."""
        tid = self.vcpu_threads()[index]
        return int(self.proc(f'task/{tid}/schedstat').split()[0]) / 1e9

    def vcpu_threads(self):
        return {cpu['cpu-index']: cpu['thread-id']
                for cpu in self.qmp('query-cpus-fast')}

    def close(self):
        self.qemu.kill()
        self.qemu.wait()
        self.lines.thread.join()
        self.qemu.stdin.close()
        self.monitor.close()
        shutil.rmtree(self.dir)


@contextlib.contextmanager
def a_vm(*args):
    vm = VM(*args)
    try:
        yield vm
    except BaseException:
        for line in vm.lines.last:
            note('guest:', line)
        raise
    finally:
        vm.close()


@contextlib.contextmanager
def a_trace(vm, *args):
    """A tool that is killed in the end, if it has not been yet."""
    tool = vm.trace(*args)
    try:
        yield tool
    finally:
        tool.kill()
        tool.wait()
        tool.stdout.close()


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


def wait_let_go(vm):
    """Until QEMU has done with the tool that is gone."""
    def let_go():
        info = vm.qmp('query-introspection')
        return info['state'] != 'hooked' and not info['waiting-vcpus']
    wait_for(let_go, 'QEMU to notice that the tool is gone')


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
                threads, fds, memory = vm.threads(), vm.fds(), vm.own_memory()
        wait_for(lambda: vm.threads() <= threads,
                 f'the number of threads to be {threads} again')
        wait_for(lambda: vm.fds() <= fds, f'the number of fds to be {fds}')
        growth = vm.own_memory() - memory
        note(f'{threads} threads, {fds} fds, {memory // MIB} MiB and '
             f'{growth // 1024} KiB more in {ROUNDS - 3} rounds')
        check(growth < GROWTH_LIMIT, 'memory has grown by', growth, 'bytes')

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

def cpio(files):
    """An archive of @files: names, modes and contents."""
    out = bytearray()
    for number, (name, mode, data) in enumerate([*files, ('TRAILER!!!', 0,
                                                          b'')], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0,
                  len(name) + 1, 0)
        out += b'070701' + b''.join(b'%08x' % field for field in fields)
        for part in name.encode() + b'\0', data:
            out += part + bytes(-(len(out) + len(part)) % 4)
    return out


def make_initramfs(path):
    with open(os.path.join(GUEST, 'busybox'), 'rb') as busybox, \
            open(INIT, 'rb') as init, open(path, 'wb') as out:
        out.write(cpio([('bin', stat.S_IFDIR | 0o755, b''),
                        ('bin/busybox', stat.S_IFREG | 0o755, busybox.read()),
                        ('init', stat.S_IFREG | 0o755, init.read())]))


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
        make_initramfs(initrd)
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




CASES = [(name[5:].replace('_', '-'), function)
         for name, function in list(globals().items())
         if name.startswith('case_')]


def run_case(number, name, function):
    """Whether it passed."""
    start = time.monotonic()
    try:
        function()
        note(f'{time.monotonic() - start:.1f} s')
        print(f'ok {number} /kvmi/load/{name}', flush=True)
        return True
    except Exception as error:  # pylint: disable=broad-except
        print(f'not ok {number} /kvmi/load/{name}')
        for line in ''.join(traceback.format_exception(error)).splitlines():
            note(line)
        return False


def main():
    global KVMI

    if len(sys.argv) < 2 or not QEMU:
        sys.exit('usage: QTEST_QEMU_BINARY=QEMU load-test.py KVMI [CASE...]')
    KVMI = os.path.abspath(sys.argv[1])
    for program in KVMI, QEMU:
        if not shutil.which(program):
            sys.exit(f'Bail out! {program} is no program')
    for name in 'vmlinuz', 'initramfs.gz', 'busybox':
        if not os.path.exists(os.path.join(GUEST, name)):
            print(f"1..0 # SKIP there is no {name} of the demo's guest: "
                  'scripts/demo-guest makes it')
            return
    cases = [c for c in CASES if not sys.argv[2:] or c[0] in sys.argv[2:]]
    print(f'1..{len(cases)}', flush=True)
    results = [run_case(number, name, function)
               for number, (name, function) in enumerate(cases, 1)]
    sys.exit(0 if all(results) else 1)


if __name__ == '__main__':
    main()
