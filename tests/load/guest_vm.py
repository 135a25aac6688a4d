# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the load tests share: a Linux guest that is introspected, and what its
# QEMU needs of this host
#
# The guest is that of the demo, which scripts/demo-guest makes: without it,
# everything is skipped.

import collections
import contextlib
import json
import os
import queue
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(
    os.path.realpath(__file__))))
# pylint: disable=wrong-import-position
from pytap import (PATIENCE, Failure, check, equal, note, run_cases, skip_all,
                   wait_for)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.realpath(__file__))))
GUEST = os.path.join(os.environ.get('KVMI_BASE_DIR',
                                    os.path.join(ROOT, 'base')), 'demo')

QEMU = os.environ.get('QTEST_QEMU_BINARY', '')
KVMI = ''

MIB = 1 << 20
# What QEMU's own memory may grow by while tools come and go; less than 100 KiB
# is usual.  The guest's RAM and translated code are not part of that, but TCG's
# tables of both are.
GROWTH_LIMIT = 4 * MIB


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

    def __init__(self, initrd, thread, listens, append, smp=2):
        self.dir = tempfile.mkdtemp(prefix='kvmi-load-')
        self.sock = os.path.join(self.dir, 'sock')
        self.listens = listens
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.qemu = subprocess.Popen(
                [QEMU, '-nodefaults', '-display', 'none', '-no-reboot',
                 '-accel', f'tcg,thread={thread},tb-size=32', '-cpu', 'max',
                 '-smp', str(smp), '-m', '256',
                 '-object', 'memory-backend-memfd,id=ram,size=256M,share=on',
                 '-machine', 'pc,memory-backend=ram',
                 '-kernel', os.path.join(GUEST, 'vmlinuz'), '-initrd', initrd,
                 '-append', 'console=ttyS0 quiet panic=-1 no_timer_check ' + append,
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
def a_vm(*args, **kwargs):
    vm = VM(*args, **kwargs)
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


def wait_let_go(vm):
    """Until QEMU has done with the tool that is gone."""
    def let_go():
        info = vm.qmp('query-introspection')
        return info['state'] != 'hooked' and not info['waiting-vcpus']
    wait_for(let_go, 'QEMU to notice that the tool is gone')


def check_grown(vm, before):
    """After tools have come and gone: nothing of them is left in QEMU."""
    threads, fds, memory = before
    wait_for(lambda: vm.threads() <= threads,
             f'the number of threads to be {threads} again')
    wait_for(lambda: vm.fds() <= fds, f'the number of fds to be {fds}')
    growth = vm.own_memory() - memory
    note(f'{threads} threads, {fds} fds, {memory // MIB} MiB and '
         f'{growth // 1024} KiB more')
    check(growth < GROWTH_LIMIT, 'memory has grown by', growth, 'bytes')


def what_it_takes(vm):
    """For check_grown()."""
    return vm.threads(), vm.fds(), vm.own_memory()


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


def make_initramfs(path, script):
    """A guest with busybox and this script of tests/load/ as its init."""
    with open(os.path.join(GUEST, 'busybox'), 'rb') as busybox, \
            open(os.path.join(ROOT, 'tests', 'load', script),
                 'rb') as init, open(path, 'wb') as out:
        out.write(cpio([('bin', stat.S_IFDIR | 0o755, b''),
                        ('bin/busybox', stat.S_IFREG | 0o755, busybox.read()),
                        ('init', stat.S_IFREG | 0o755, init.read())]))


def main(functions):
    """Run the functions of a test that are called case_*."""
    global KVMI

    if len(sys.argv) < 2 or not QEMU:
        sys.exit('usage: QTEST_QEMU_BINARY=QEMU TEST KVMI [CASE...]')
    KVMI = os.path.abspath(sys.argv[1])
    for program in KVMI, QEMU:
        if not shutil.which(program):
            sys.exit(f'Bail out! {program} is no program')
    for name in 'vmlinuz', 'initramfs.gz', 'busybox':
        if not os.path.exists(os.path.join(GUEST, name)):
            skip_all(f"there is no {name} of the demo's guest: "
                     'scripts/demo-guest makes it')
    passed = run_cases('/kvmi/load/', functions, sys.argv[2:])
    sys.exit(0 if passed else 1)
