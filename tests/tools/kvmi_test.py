# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the tests of the command kvmi share: running it, a real QEMU, and a VM
# that is played, for what a real one does not do when a test wants it.

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.dirname(
    os.path.realpath(__file__))))
# pylint: disable=wrong-import-position
from counting_guest import COUNTER, make_bios
from pytap import PATIENCE, Skip, check, equal, run_cases, wait_for

QEMU = os.environ.get('QTEST_QEMU_BINARY', '')
KVMI = ''

STEP = 0x1000           # what it adds to CR3 and LSTAR in each

ROUTINE = 0x600         # called in each round: counts at CALLS, and returns
CALLS = 0x504
HANDLER = 0x610         # of #UD: counts at TRAPS, and returns
TRAPS = 0x508

GUEST = bytes.fromhex(
    '31c0'              # xor   ax, ax
    '8ed8'              # mov   ds, ax
                        # ROUTINE: inc dword ptr [CALLS]; retf
    '66c706000666ff0604'        # mov dword ptr [0x600], 0x0406ff66
    'c706040605cb'      # mov   word ptr [0x604], 0xcb05
                        # HANDLER: inc dword ptr [TRAPS]; iret
    '66c706100666ff0608'        # mov dword ptr [0x610], 0x0806ff66
    'c706140605cf'      # mov   word ptr [0x614], 0xcf05
    '66c706180010060000'        # mov dword ptr [6 * 4], HANDLER
    '66b9820000c0'      # mov   ecx, 0xc0000082 (LSTAR)
    '6631d2'            # xor   edx, edx
    '6631db'            # xor   ebx, ebx
                        # 1:
    '6681c300100000'    # add   ebx, STEP
    '0f22db'            # mov   cr3, ebx
    '6689d8'            # mov   eax, ebx
    '0f30'              # wrmsr
    '66ff060005'        # inc   dword ptr [COUNTER]
    '9a00060000'        # call  0:ROUTINE
    'ebe5')             # jmp   1b


class Result:
    def __init__(self, status, out, err):
        self.status = status
        self.raw = out
        self.out = out.decode(errors='replace')
        self.err = err.decode(errors='replace')
        self.lines = self.out.splitlines()

    def json(self):
        return json.loads(self.out)


def kvmi_program():
    return KVMI


def kvmi(*args, status=0, **kwargs):
    """Run the command to its end and check its exit status."""
    done = subprocess.run([KVMI, *map(str, args)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=PATIENCE, check=False, **kwargs)
    result = Result(done.returncode, done.stdout, done.stderr)
    equal(result.status, status,
          f'exit status of kvmi {" ".join(map(str, args))} '
          f'({result.err.strip()})')
    if status:
        check(result.err.startswith('kvmi'), 'no error message:', result.err)
    return result


def kvmi_start(*args, stdout=subprocess.PIPE):
    return subprocess.Popen([KVMI, *map(str, args)], stdout=stdout,
                            stderr=subprocess.PIPE)


def kvmi_end(process, status):
    out, err = process.communicate(timeout=PATIENCE)
    result = Result(process.returncode, out or b'', err)
    equal(result.status, status, f'exit status ({result.err.strip()})')
    return result


class VM:
    """A QEMU with introspection, and a directory for its socket and files."""

    def __init__(self, *args, accel='tcg', smp=2, memory='64M', wait=True,
                 listens=False, chardev=None, **properties):
        self.dir = tempfile.mkdtemp(prefix='kvmi-')
        self.sock = self.path('sock')
        make_bios(self.path('bios'), GUEST)
        if not chardev:
            chardev = f'path={self.sock},' + ('server=on,wait=off' if listens
                                              else 'reconnect-ms=20')
        properties |= {'qom-type': 'introspection', 'id': 'kvmi0',
                       'chardev': 'vmi', 'wait': wait and not listens}
        self.qemu = subprocess.Popen(
            [QEMU, '-nodefaults', '-display', 'none', '-M', 'pc',
             '-accel', accel, '-smp', str(smp), '-m', memory,
             '-bios', self.path('bios'),
             '-name', 'guest=under test', '-uuid',
             '12345678-9abc-def0-1234-56789abcdef0',
             '-chardev', 'socket,id=vmi,' + chardev,
             '-object', json.dumps(properties), *args],
            stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def path(self, name):
        return os.path.join(self.dir, name)

    def kvmi(self, subcommand, *args, **kwargs):
        return kvmi(subcommand, '-s', self.sock, '-t', PATIENCE, *args,
                    **kwargs)

    def start(self, subcommand, *args, **kwargs):
        return kvmi_start(subcommand, '-s', self.sock, '-t', PATIENCE, *args,
                          **kwargs)

    def counter(self, address=COUNTER):
        return struct.unpack('<I', self.kvmi('read', '--raw', address,
                                             4).raw)[0]

    def need(self, event):
        """Skip the case where this QEMU's engine has no such event."""
        if event not in self.kvmi('info', '--json').json()['events']:
            raise Skip(f"this QEMU's engine has no event {event}")

    def check_rounds(self):
        """The guest has done everything in each of its rounds."""
        counts = struct.unpack('<II', self.kvmi('read', '--raw', COUNTER,
                                                8).raw)
        check(abs(counts[0] - counts[1]) <= 1, 'rounds and calls:', counts)

    def check_alive(self):
        """The guest goes on: it counts."""
        before = self.counter()
        wait_for(lambda: self.counter() != before, 'the guest to go on')

    def kill(self):
        self.qemu.kill()
        self.qemu.wait()

    def close(self):
        self.kill()
        self.qemu.stderr.close()
        shutil.rmtree(self.dir)


@contextlib.contextmanager
def a_vm(*args, **kwargs):
    machine = VM(*args, **kwargs)
    try:
        yield machine
    except BaseException:
        machine.kill()
        for line in machine.qemu.stderr.read().decode().splitlines():
            print('# QEMU:', line)
        raise
    finally:
        machine.close()


@contextlib.contextmanager
def a_dir():
    path = tempfile.mkdtemp(prefix='kvmi-')
    try:
        yield path
    finally:
        shutil.rmtree(path)


def listener_at(path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener


# A VM that is played

GET_VERSION, GET_GUEST_INFO, CONTROL_EVENTS, CONTROL_CR = 1, 3, 17, 18
EVENT, EVENT_REPLY, CONTROL_VM_EVENTS = 23, 24, 28
EVENT_UNHOOK, EVENT_CR, EVENT_CREATE_VCPU = 0, 1, 9
SIZEOF_EVENT = 536


class FakeVM:
    """Shakes hands; answers commands with success and what it is given."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        wait_for(lambda: self.connect(path), 'the tool to listen')
        self.socket.settimeout(PATIENCE)
        self.socket.send(struct.pack('<I16sIq64s', 96, b'uuid', 0, 0,
                                     b'fake'))
        equal(self.read(24), struct.pack('<I20s', 24, b''))

    def connect(self, path):
        """Whether the tool listens already."""
        try:
            self.socket.connect(path)
            return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False

    def read(self, size):
        data = b''
        while len(data) < size:
            piece = self.socket.recv(size - len(data))
            if not piece:
                return None
            data += piece
        return data

    def expect(self, want):
        """The next message must be @want, or the end of the stream."""
        header = self.read(8)
        ident, size, seq = struct.unpack('<HHI', header) if header else (
            None, 0, 0)
        equal(ident, want, 'the message')
        return seq, self.read(size) if size else b''

    def answer(self, ident, data=b''):
        seq, body = self.expect(ident)
        self.socket.send(struct.pack('<HHIiI', ident, 8 + len(data), seq, 0,
                                     0) + data)
        return body

    def event(self, seq, event, vcpu, own=b''):
        self.socket.send(struct.pack('<HHIIHBB', EVENT,
                                     SIZEOF_EVENT + len(own), seq, event,
                                     vcpu, 8, 0) +
                         bytes(SIZEOF_EVENT - 8) + own)

    def start_trace(self, vcpus, events):
        """What trace --cr 3 sends to begin."""
        self.answer(GET_GUEST_INFO, struct.pack('<IIQ', vcpus, 0, 0))
        self.answer(GET_VERSION, struct.pack('<IIII', 1, 0xffffffff,
                                             events, 0))
        self.answer(CONTROL_VM_EVENTS)
        for vcpu in range(vcpus):
            self.hook_vcpu(vcpu)

    def hook_vcpu(self, vcpu):
        equal(self.answer(CONTROL_CR), struct.pack('<HBBI', vcpu, 1, 0, 3))
        equal(self.answer(CONTROL_EVENTS),
              struct.pack('<HHI', vcpu, 0, 1 << EVENT_CR))

    def close(self):
        self.socket.close()


@contextlib.contextmanager
def a_fake_vm(*args, vm=FakeVM):
    """A VM that is played by @vm, and the tool that it has connected to."""
    with a_dir() as path:
        name = os.path.join(path, 'sock')
        tool = kvmi_start(*args, '-s', name)
        try:
            with contextlib.closing(vm(name)) as played:
                yield played, tool
        finally:
            if tool.poll() is None:
                tool.kill()
                tool.communicate()


def main(functions):
    """Run the functions of a test called case_*. The output is TAP."""
    global KVMI

    if len(sys.argv) < 2 or not QEMU:
        sys.exit('usage: QTEST_QEMU_BINARY=QEMU TEST KVMI [CASE...]')
    KVMI = os.path.abspath(sys.argv[1])
    for program in KVMI, QEMU:
        if not shutil.which(program):
            sys.exit(f'Bail out! {program} is no program')
    passed = run_cases('/kvmi/command/', functions, sys.argv[2:])
    sys.exit(0 if passed else 1)
