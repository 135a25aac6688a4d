#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
#
# kvmi serve, with many VMs: real ones, played ones, and some that misbehave
#
# Usage: QTEST_QEMU_BINARY=qemu-system-x86_64 kvmi-serve-test.py KVMI FAKE_VMS
#            [CASE...]
#
# The output is TAP.

import contextlib
import fcntl
import json
import os
import queue
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(
    os.path.realpath(__file__))))
# pylint: disable=wrong-import-position
from counting_guest import COUNTER, make_bios
from pytap import PATIENCE, Failure, check, equal, run_cases, wait_for

QEMU = os.environ.get('QTEST_QEMU_BINARY', '')
KVMI = ''
FAKE_VMS = ''

# Exit statuses of kvmi
USAGE, NO_VM, VM_GONE, PATH_EXISTS, HANDSHAKE = 2, 3, 4, 5, 6

GET_VERSION = 1
EVENT = 23
GET_CPUID = 25
ENOSYS = 1000


class Lines:
    """What comes out of a file, line by line, with a limit to the patience."""

    def __init__(self, file):
        self.file = file
        self.queue = queue.Queue()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self):
        with contextlib.suppress(OSError):      # a terminal's end
            for line in self.file:
                self.queue.put(line)
        self.queue.put(None)

    def find(self, condition, what):
        """The first one from now on that fulfils the condition."""
        end = time.monotonic() + PATIENCE
        line = None
        while line is None or not condition(line):
            try:
                line = self.queue.get(timeout=max(end - time.monotonic(), 0))
            except queue.Empty:
                raise Failure(f'waited in vain for {what}: {line}') from None
            check(line is not None, 'the output has ended; expected was', what)
        return line

    def next(self):
        return self.find(lambda line: True, 'a line')


def listens(path):
    with socket.socket(socket.AF_UNIX) as peer:
        return peer.connect_ex(path) == 0


class Serve:
    """A kvmi serve, whose newest table is always there."""

    def __init__(self, *args, read=True):
        self.dir = tempfile.mkdtemp(prefix='kvmi-serve-')
        self.sock = self.path('vmi.sock')
        self.control = self.path('control.sock')
        with open(self.path('stderr'), 'wb') as stderr:
            self.process = subprocess.Popen(
                [KVMI, 'serve', '-s', self.sock, '--control', self.control,
                 *(args or ('--json', '--interval', '0.2'))],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=stderr)
        self.lines = None
        if read:
            self.read()
        wait_for(lambda: listens(self.control), self.control)

    def read(self):
        self.lines = Lines(self.process.stdout)

    def path(self, name):
        return os.path.join(self.dir, name)

    def stderr(self):
        with open(self.path('stderr'), encoding='utf-8') as f:
            return f.read()

    def table(self, condition, what):
        """The first one from now on that fulfils the condition."""
        return json.loads(self.lines.find(
            lambda line: condition(json.loads(line)), what))

    def vms(self, condition, what):
        return self.table(lambda table: condition(table['vms']), what)['vms']

    def wait_count(self, count):
        return self.vms(lambda vms: len(vms) == count, f'{count} VMs')

    def start(self, vm, subcommand, *args):
        return subprocess.Popen([KVMI, subcommand, '-s', self.control, '--name',
                                 vm, *args],
                                stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def kvmi(self, vm, subcommand, *args, status=0):
        """A command's output, or its messages if it is to fail."""
        with self.start(vm, subcommand, *args) as process:
            out, err = process.communicate(timeout=PATIENCE)
        equal(process.returncode, status,
              f'exit status of kvmi {subcommand} of {vm} ({err.decode()})')
        return err.decode() if status else out

    def info(self, vm, *args):
        return json.loads(self.kvmi(vm, 'info', '--json', *args))

    def end(self, signum=signal.SIGTERM):
        self.process.send_signal(signum)
        return self.process.wait(PATIENCE)

    def close(self):
        self.process.kill()
        self.process.wait()
        if self.lines:
            self.lines.thread.join()
        self.process.stdout.close()
        shutil.rmtree(self.dir)


@contextlib.contextmanager
def a_serve(*args, **kwargs):
    serve = Serve(*args, **kwargs)
    try:
        yield serve
    except BaseException:
        for line in serve.stderr().splitlines():
            print('# serve:', line)
        raise
    finally:
        serve.close()


@contextlib.contextmanager
def fake_vms(serve, count):
    with subprocess.Popen([FAKE_VMS, serve.sock, str(count)],
                          stdin=subprocess.PIPE) as process:
        yield
        process.stdin.close()
        equal(process.wait(PATIENCE), 0, 'exit status of fake-vms')


@contextlib.contextmanager
def a_qemu(serve, name, key=None):
    """With the key in the file @key, if there is one."""
    secret = ['-object', f'secret,id=key,file={key}'] if key else []
    bios = serve.path('bios')
    if not os.path.exists(bios):        # or another QEMU may be reading it
        make_bios(bios)
    qemu = subprocess.Popen(
        [QEMU, '-nodefaults', '-display', 'none', '-M', 'pc', '-accel', 'tcg',
         '-m', '64M', '-bios', bios, '-name', f'guest={name}',
         '-chardev', f'socket,id=vmi,path={serve.sock},reconnect-ms=50',
         *secret, '-object', 'introspection,id=kvmi0,chardev=vmi'
         + (',key=key' if key else '')],
        stdin=subprocess.DEVNULL)
    try:
        yield qemu
    finally:
        qemu.kill()
        qemu.wait()


def counter(serve, vm):
    return struct.unpack('<I', serve.kvmi(vm, 'read', '--raw', hex(COUNTER),
                                          '4'))[0]


def check_alive(serve, vm):
    before = counter(serve, vm)
    wait_for(lambda: counter(serve, vm) != before, 'the guest to go on')


@contextlib.contextmanager
def a_trace(serve, vm):
    """A trace that has events."""
    with serve.start(vm, 'trace', '--json', '--cr', '3') as process:
        try:
            for _ in range(10):
                if not process.stdout.readline():
                    raise Failure('no trace: '
                                  + process.stderr.read().decode())
            yield process
        finally:
            process.kill()


def hello(name, size=96):
    return struct.pack('<I16sIq64s', size, b'badpeer ' * 2, 0, 1700000000,
                       name)


@contextlib.contextmanager
def a_peer(path, data=b''):
    """Something that connects and says this, and then whatever the case says."""
    peer = socket.socket(socket.AF_UNIX)
    peer.settimeout(PATIENCE)
    peer.connect(path)
    peer.sendall(data)
    with peer:
        yield peer


def receive(peer, size):
    data = b''
    while len(data) < size:
        more = peer.recv(size - len(data))
        check(more, 'the connection has ended after', data)
        data += more
    return data


def join_as_vm(peer):
    """The tool's part of the handshake, and the questions for the engine."""
    receive(peer, 24)
    for _ in range(3):
        ident, size, seq = struct.unpack('<HHI', receive(peer, 8))
        equal(ident, GET_CPUID, 'the first question')
        receive(peer, size)
        peer.sendall(struct.pack('<HHIi', ident, 8, seq, -ENOSYS)
                     + bytes(4))


def check_closed(peer):
    with contextlib.suppress(ConnectionResetError):
        equal(peer.recv(1), b'', 'what comes')


def named(vms, name):
    return [vm for vm in vms if vm['name'] == name]


# Cases

def case_hundred_vms():
    with a_serve() as serve, fake_vms(serve, 100):
        vms = serve.wait_count(100)
        equal(sorted(vm['name'] for vm in vms),
              sorted(f'fake-{n}' for n in range(100)), 'the names')
        equal({vm['state'] for vm in vms}, {'idle'}, 'the states')
        for name in 'fake-0', 'fake-57', 'fake-99':
            said = serve.info(name)
            equal(said['name'], name)
            equal(said['uuid'], named(vms, name)[0]['uuid'])
            equal(serve.info(said['uuid'].upper())['name'], name)
        # The connections have stayed, also of those that were used.
        equal(serve.info('fake-57')['name'], 'fake-57')
        serve.wait_count(100)


def case_all_at_once():
    """A command for each of many VMs at the same time."""
    with a_serve() as serve, fake_vms(serve, 30):
        serve.wait_count(30)
        processes = [serve.start(f'fake-{n}', 'search', '--start', '0',
                                 '--length', '512k', '--hex', 'ffffffff')
                     for n in range(30)]
        for process in processes:
            process.communicate(timeout=PATIENCE)
            equal(process.returncode, 10, 'exit status of search')
        serve.wait_count(30)


def case_events_are_counted():
    with a_serve() as serve, a_qemu(serve, 'one'), a_qemu(serve, 'two'):
        serve.wait_count(2)
        with a_trace(serve, 'one') as trace:
            vm = named(serve.vms(
                lambda vms: named(vms, 'one')[0]['events-per-second'] > 0,
                'events'), 'one')[0]
            equal((vm['state'], vm['user']), ('in-use', 'trace'))
            check(vm['events'] > 0, vm)
            equal(vm['engine'], 'qemu', 'the engine')
            # Nobody else gets it, and the other one is free.
            err = serve.kvmi('one', 'info', '-t', '0', status=HANDSHAKE)
            check("in use by 'kvmi trace'" in err, err)
            check_alive(serve, 'two')

            trace.terminate()
            _, err = trace.communicate(timeout=PATIENCE)
            equal(trace.returncode, 0, f'exit status of trace ({err})')
        check_alive(serve, 'one')


def case_user_is_killed():
    """Events that it got and did not answer are not the guest's problem."""
    with a_serve() as serve, a_qemu(serve, 'one'):
        serve.wait_count(1)
        for _ in range(3):
            with a_trace(serve, 'one') as trace:
                trace.kill()
            check_alive(serve, 'one')
        with a_trace(serve, 'one') as trace:
            trace.send_signal(signal.SIGSTOP)
            # It does not hinder serve, and a dead one no guest.
            err = serve.kvmi('one', 'regs', '-t', '0.1', status=HANDSHAKE)
            check('in use' in err, err)
        check_alive(serve, 'one')


def case_pause():
    with a_serve() as serve, a_qemu(serve, 'one'):
        serve.wait_count(1)
        out = serve.kvmi('one', 'pause', '--try', 'rax=0x1234').decode()
        check('1234' in out, out)
        check_alive(serve, 'one')


def case_connection_is_renewed():
    """After what the engine has to undo, and only then."""
    with a_serve() as serve, fake_vms(serve, 1):
        serve.wait_count(1)
        serve.kvmi('fake-0', 'regs')
        serve.kvmi('fake-0', 'write', '0x1000', '12345678')
        equal(serve.kvmi('fake-0', 'read', '--raw', '0x1000', '4'),
              bytes.fromhex('12345678'))
        serve.kvmi('fake-0', 'trace', '--cr', '3', '--duration', '0.1')
        # A fake VM does not come back.
        serve.wait_count(0)


def case_vm_goes_in_use():
    with a_serve() as serve, a_qemu(serve, 'one') as qemu:
        serve.wait_count(1)
        with a_trace(serve, 'one') as trace:
            qemu.kill()
            trace.communicate(timeout=PATIENCE)
            equal(trace.returncode, VM_GONE, 'exit status of trace')
        serve.wait_count(0)


def case_wait_for_vm():
    with a_serve() as serve:
        waiting = serve.start('fake-0', 'info', '-t', str(PATIENCE))
        err = serve.kvmi('fake-0', 'info', '-t', '0.1', status=NO_VM)
        check("there is no VM 'fake-0'; there is none" in err, err)
        with fake_vms(serve, 1):
            waiting.communicate(timeout=PATIENCE)
            equal(waiting.returncode, 0, 'exit status of who waited')


def still_good(serve):
    """A VM of another peer, and the table, are as ever."""
    equal(serve.info('fake-1')['name'], 'fake-1')
    serve.vms(lambda vms: named(vms, 'fake-0') and named(vms, 'fake-1'),
              'the good VMs')


def case_bad_peers():
    with a_serve() as serve, fake_vms(serve, 2), contextlib.ExitStack() as all_:
        serve.wait_count(2)

        # No handshake, half of one, an endless one
        for data in b'', hello(b'half')[:50], struct.pack('<I', 1 << 20):
            all_.enter_context(a_peer(serve.sock, data))
        serve.table(lambda table: table['handshakes'] == 3, '3 handshakes')
        still_good(serve)

        # No VM: it is told so
        for data in b'GET / HTTP/1.1\r\n\r\n', struct.pack('<I', 3):
            with a_peer(serve.sock, data) as peer:
                check_closed(peer)
        check('the peer is no QEMU' in serve.stderr(), serve.stderr())
        still_good(serve)

        # A VM that talks without being asked, and one that is gone at once
        with a_peer(serve.sock, hello(b'talks')) as peer:
            join_as_vm(peer)
            peer.sendall(b'\xff' * 100)
            check_closed(peer)
        check("VM 'talks' sent something" in serve.stderr(), serve.stderr())
        with a_peer(serve.sock, hello(b'chatter') + b'\xff' * 100) as peer:
            receive(peer, 24 + 8 + 16)
            check_closed(peer)
        check("VM 'chatter'" in serve.stderr(), serve.stderr())
        with a_peer(serve.sock, hello(b'goes')):
            pass
        still_good(serve)


def case_bad_vms_in_use():
    with a_serve() as serve, fake_vms(serve, 2), contextlib.ExitStack() as all_:
        serve.wait_count(2)

        # Never answers, never reads
        peer = all_.enter_context(a_peer(serve.sock, hello(b'mute')))
        join_as_vm(peer)
        serve.wait_count(3)
        mute = all_.enter_context(serve.start('mute', 'search', 'x'))
        all_.callback(mute.kill)
        serve.vms(lambda vms: named(vms, 'mute')[0].get('user') == 'search',
                  'mute to be in use')
        still_good(serve)

        # Answers what nobody asked, and then floods
        for data in (struct.pack('<HHIi', GET_VERSION, 4, 77, 0),
                     struct.pack('<HHIi', EVENT, 4, 1, 0),
                     bytes(1 << 20)):
            with a_peer(serve.sock, hello(b'liar')) as peer:
                join_as_vm(peer)
                with serve.start('liar', 'info') as user:
                    receive(peer, 8)
                    with contextlib.suppress(ConnectionError):
                        peer.sendall(data)
                    _, err = user.communicate(timeout=PATIENCE)
                    check(user.returncode in (VM_GONE, 9), user.returncode,
                          err)
                still_good(serve)
            serve.vms(lambda vms: not named(vms, 'liar'), 'the liar to go')
        equal(mute.poll(), None, 'the end of who uses the mute one')


def case_bad_requests():
    with a_serve() as serve, fake_vms(serve, 2), contextlib.ExitStack() as all_:
        serve.wait_count(2)
        for data in b'', b'open', b'x' * 1000:
            all_.enter_context(a_peer(serve.control, data))
        for data in (b'nonsense\n', b'\n', b'open x regs fake-0\n',
                     b'open -1 regs fake-0\n', b'open 0 regs\n', b'x' * 2000,
                     b'open 0 regs ' + b'x' * 65 + b'\n'):
            with a_peer(serve.control, data) as peer:
                check(peer.recv(100).startswith(b'error 2 '), data)
        # Has the VM, and says nothing as a user; or half of its handshake
        for data in b'', b'\x18':
            with a_peer(serve.control, b'open 0 regs fake-0\n' + data) as peer:
                equal(receive(peer, 3), b'ok\n')
                still_good(serve)
            serve.vms(lambda vms: named(vms, 'fake-0')[0]['state'] == 'idle',
                      'fake-0 to be idle again')

        with a_peer(serve.control, b'open 60000 regs nobody\n'):
            pass                # who waits, and goes
        err = serve.kvmi('nobody', 'regs', '-t', '0', status=NO_VM)
        check("there are: 'fake-0', 'fake-1'" in err, err)
        with a_peer(serve.control, b'open 0 regs fake-0\n') as peer:
            equal(receive(peer, 3), b'ok\n')
            # Half a message, which the VM must not be left with
            peer.sendall(struct.pack('<I', 24) + bytes(20) + b'\1\0')
        serve.wait_count(1)


def case_key():
    """One that does not know the key is no VM here, and the others are."""
    with tempfile.TemporaryDirectory(prefix='kvmi-serve-') as directory:
        good, bad = (os.path.join(directory, name) for name in ('good', 'bad'))
        for path in good, bad:
            with open(path, 'w', encoding='ascii') as f:
                f.write('the key in ' + path)
        with a_serve('--json', '--key-file', good) as serve, \
                a_qemu(serve, 'good', key=good), a_qemu(serve, 'bad', key=bad), \
                a_qemu(serve, 'none'):
            serve.wait_count(1)
            equal(serve.info('good')['name'], 'good')
            wait_for(lambda: 'does not prove that it knows the key'
                     in serve.stderr(), 'a message')
            check_alive(serve, 'good')
            equal(len(serve.wait_count(1)), 1, 'the number of VMs')
            done = subprocess.run(
                [KVMI, 'info', '-s', serve.control, '--name', 'good',
                 '--key-file', good], stdin=subprocess.DEVNULL,
                stderr=subprocess.PIPE, check=False, timeout=PATIENCE)
            equal(done.returncode, USAGE, 'exit status with two keys')


def case_same_name():
    with a_serve() as serve, a_peer(serve.sock, hello(b'twin')), \
            a_peer(serve.sock, hello(b'twin')):
        serve.wait_count(2)
        err = serve.kvmi('twin', 'regs', '-t', '0', status=USAGE)
        check('2 VMs are called' in err and 'UUID' in err, err)


def case_table_for_people():
    with a_serve('--interval', '0.1') as serve, \
            a_peer(serve.sock, hello(b'evil\x1b[2J\nname')):
        row = serve.lines.find(lambda line: b'evil' in line, 'the VM').decode()
        check(row.startswith('evil?[2J?name '), repr(row))
        equal(row[20:].split(), ['62616470-6565-7220-6261-647065657220', '?',
                                 'idle', '0.0'], 'the row')
        equal(serve.lines.next(), b'1 VM\n')


def case_terminal():
    """On a terminal the table is live, and as high as that."""
    with a_serve('--interval', '0.1', read=False) as serve:
        serve.end()
        primary, secondary = os.openpty()
        fcntl.ioctl(secondary, termios.TIOCSWINSZ,
                    struct.pack('4H', 10, 80, 0, 0))
        with subprocess.Popen([KVMI, 'serve', '-s', serve.sock, '-i', '0.1'],
                              stdin=subprocess.DEVNULL, stdout=secondary,
                              stderr=secondary) as process, \
                os.fdopen(primary, encoding='utf-8') as screen:
            wait_for(lambda: listens(serve.sock), serve.sock)
            os.close(secondary)
            lines = Lines(screen)
            with fake_vms(serve, 20):
                for _ in range(3):      # again and again
                    lines.find(lambda line: '20 VMs, the first 7 are shown'
                               in line, 'the table')
                check(lines.next().startswith('\x1b[H\x1b[J'),
                      'the screen is not cleared')
            process.terminate()
            equal(process.wait(PATIENCE), 0, 'exit status')
            lines.thread.join()


def case_nobody_reads():
    """A table that nobody reads hinders no VM."""
    with a_serve('--json', '--interval', '0.1', read=False) as serve, \
            fake_vms(serve, 200):
        # 200 VMs make a table that a pipe cannot take many of.
        for _ in range(20):
            equal(serve.info('fake-199')['name'], 'fake-199')
        serve.read()
        serve.wait_count(200)


def case_end():
    for signum in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
        with a_serve() as serve, a_qemu(serve, 'one'), \
                a_peer(serve.sock), a_peer(serve.control):
            serve.wait_count(1)
            waiting = serve.start('nobody', 'info', '-t', '600')
            with a_trace(serve, 'one') as trace:
                equal(serve.end(signum), 0, 'exit status of serve')
                trace.communicate(timeout=PATIENCE)
                equal(trace.returncode, VM_GONE, 'exit status of trace')
            waiting.communicate(timeout=PATIENCE)
            check(waiting.returncode in (NO_VM, HANDSHAKE), waiting.returncode)
            equal([name for name in os.listdir(serve.dir) if 'sock' in name],
                  [], 'sockets that are left')


def case_usage():
    with a_serve() as serve:
        def fails(status, *args):
            done = subprocess.run([KVMI, *args], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=PATIENCE,
                                  check=False, text=True)
            equal(done.returncode, status, f'exit status ({done.stderr})')
            check(done.stderr.startswith('kvmi '), done.stderr)
        fails(USAGE, 'serve')
        fails(USAGE, 'serve', '-s', 'nowhere')
        fails(USAGE, 'serve', '-s', '/x/y', '--connect')
        fails(USAGE, 'serve', '-s', '/x/y', '--name', 'x')
        fails(USAGE, 'serve', '-s', '/x/y', '-t', '1')
        fails(USAGE, 'serve', '-s', '/x/y', '-i', '0')
        fails(USAGE, 'serve', '-s', '/x/y', '-i', 'nan')
        fails(PATH_EXISTS, 'serve', '-s', serve.sock)
        fails(PATH_EXISTS, 'serve', '-s', serve.path('new'), '--control',
              serve.control)
        fails(USAGE, 'regs', '-s', serve.control, '--name', 'x' * 65)
        # Not a serve, and not its control socket
        fails(NO_VM, 'regs', '-s', serve.path('nothing'), '--name', 'x')
        fails(HANDSHAKE, 'regs', '-s', serve.sock, '--name', 'x')


def main():
    global KVMI, FAKE_VMS

    if len(sys.argv) < 3 or not QEMU:
        sys.exit('usage: QTEST_QEMU_BINARY=QEMU kvmi-serve-test.py KVMI '
                 'FAKE_VMS [CASE...]')
    KVMI, FAKE_VMS = map(os.path.abspath, sys.argv[1:3])
    sys.exit(0 if run_cases('/kvmi/serve/', globals(), sys.argv[3:]) else 1)


if __name__ == '__main__':
    main()
