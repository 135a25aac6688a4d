#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The command kvmi and what it sets in a VM: page access, breakpoints,
# exceptions; and that it takes back all of it
#
# Usage: QTEST_QEMU_BINARY=qemu-system-x86_64 kvmi-events-test.py KVMI [CASE...]
#
# The output is TAP.  Most VMs are played: they do what a test tells them at the
# moment that the test chooses.

import collections
import contextlib
import json
import queue
import signal
import struct
import subprocess
import threading

from kvmi_test import (
    CALLS, CONTROL_CR, CONTROL_EVENTS, CONTROL_VM_EVENTS, COUNTER,
    EVENT_REPLY, EVENT_UNHOOK, GET_GUEST_INFO, GET_VERSION, PATIENCE, ROUTINE,
    TRAPS, FakeVM, Skip, a_fake_vm, a_vm, check, equal, kvmi, kvmi_end,
    kvmi_program, main, wait_for)

GET_REGISTERS, SET_REGISTERS, GET_PAGE_ACCESS, SET_PAGE_ACCESS = 6, 7, 10, 11
INJECT_EXCEPTION, READ_PHYSICAL, WRITE_PHYSICAL, CONTROL_MSR = 12, 13, 14, 19
XSETBV, BREAKPOINT, HYPERCALL, PF, TRAP, DESCRIPTOR = 3, 4, 5, 6, 7, 8
CREATE_VCPU = 9
R, W, X = 1, 2, 4
CONTINUE, RETRY = 0, 1
INT3 = 0xcc
KVM_EINVAL = 22

REGS = ('rax', 'rbx', 'rcx', 'rdx', 'rsi', 'rdi', 'rsp', 'rbp', 'r8', 'r9',
        'r10', 'r11', 'r12', 'r13', 'r14', 'r15', 'rip', 'rflags')
SREGS_SIZE = 312
CR3_OFFSET = 8 * 24 + 2 * 16 + 2 * 8

Reply = collections.namedtuple('Reply', 'seq action event own')


class Engine(FakeVM):
    """Answers commands as an engine does, and keeps what they set."""

    def __init__(self, path, vcpus=2, offered=0x7ff, waits=False):
        super().__init__(path)
        self.memory = bytearray(256 * 1024)
        self.access = {}                # page -> bits, where not all
        self.regs = [dict.fromkeys(REGS, 0) for _ in range(vcpus)]
        self.cr3 = [0x1000 * (n + 1) for n in range(vcpus)]
        self.events = [0] * vcpus
        self.vm_events = 0
        self.injected = []
        self.replies = queue.Queue()
        self.lock = threading.Lock()    # of what is sent
        self.seq = 0
        self.ended = threading.Event()
        self.offered = offered
        self.started = threading.Event()
        if not waits:
            self.started.set()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        self.started.wait(PATIENCE)
        with contextlib.suppress(OSError):
            while header := self.read(8):
                ident, size, seq = struct.unpack('<HHI', header)
                body = self.read(size) if size else b''
                if ident == EVENT_REPLY:
                    self.replies.put(Reply(seq, *struct.unpack('<II', body[:8]),
                                           body[8:]))
                    continue
                answer = self.commands[ident](self, body)
                err, data = (answer, b'') if isinstance(answer, int) \
                    else (0, answer)
                self.send(struct.pack('<HHIiI', ident, 8 + len(data), seq, err,
                                      0) + data)
        self.ended.set()

    def send(self, data):
        with self.lock:
            self.socket.sendall(data)

    def sregs(self, vcpu):
        sregs = bytearray(SREGS_SIZE)
        struct.pack_into('<Q', sregs, CR3_OFFSET, self.cr3[vcpu])
        return bytes(sregs)

    def packed_regs(self, vcpu):
        return struct.pack('<18Q', *(self.regs[vcpu][name] for name in REGS))

    # Commands

    def get_version(self, _):
        return struct.pack('<IIII', 1, 0xffffffff, self.offered, 0)

    def get_guest_info(self, _):
        return struct.pack('<IIQ', len(self.regs), 0, 0)

    def get_registers(self, body):
        vcpu, nmsrs = struct.unpack_from('<HH', body)
        equal(nmsrs, 0, 'MSRs')
        return struct.pack('<II', 8, 0) + self.packed_regs(vcpu) + \
            self.sregs(vcpu) + bytes(8)

    def set_registers(self, body):
        vcpu, *values = struct.unpack('<Hxxxxxx18Q', body)
        self.regs[vcpu] = dict(zip(REGS, values))
        return b''

    def read_physical(self, body):
        gpa, size = struct.unpack('<QQ', body)
        return bytes(self.memory[gpa:gpa + size]) \
            if gpa + size <= len(self.memory) else -KVM_EINVAL

    def write_physical(self, body):
        gpa, size = struct.unpack_from('<QQ', body)
        self.memory[gpa:gpa + size] = body[16:]
        return b''

    def get_page_access(self, body):
        _, count = struct.unpack_from('<HH', body)
        return bytes(self.access.get(gpa // 4096, 7)
                     for gpa in struct.unpack(f'<{count}Q', body[8:]))

    def set_page_access(self, body):
        err = 0
        for gpa, access in struct.iter_unpack('<QB7x', body[8:]):
            if gpa >= 1 << 40:
                err = -KVM_EINVAL
            elif access == 7:
                self.access.pop(gpa // 4096, None)
            else:
                self.access[gpa // 4096] = access
        return err or b''

    def control_events(self, body):
        vcpu, events = struct.unpack('<HxxI', body)
        self.events[vcpu] = events
        return b''

    def control_vm_events(self, body):
        self.vm_events, _ = struct.unpack('<II', body)
        return b''

    def inject_exception(self, body):
        self.injected.append(struct.unpack('<HBBHHQ', body))
        return b''

    def accept(self, _):
        return b''

    commands = {
        GET_VERSION: get_version, GET_GUEST_INFO: get_guest_info,
        GET_REGISTERS: get_registers, SET_REGISTERS: set_registers,
        GET_PAGE_ACCESS: get_page_access, SET_PAGE_ACCESS: set_page_access,
        READ_PHYSICAL: read_physical, WRITE_PHYSICAL: write_physical,
        CONTROL_EVENTS: control_events, CONTROL_VM_EVENTS: control_vm_events,
        CONTROL_CR: accept, CONTROL_MSR: accept,
        INJECT_EXCEPTION: inject_exception,
    }

    # The guest

    def happens(self, event, vcpu, own=b'', **regs):
        """Send an event; its sequence number."""
        self.regs[vcpu] |= regs
        self.seq += 1
        common = struct.pack('<IHBB', event, vcpu, 8, 0) + \
            self.packed_regs(vcpu) + self.sregs(vcpu) + bytes(72)
        self.send(struct.pack('<HHI', 23, len(common) + len(own), self.seq) +
                  common + own)
        return self.seq

    def reply(self, seq, event):
        reply = self.replies.get(timeout=PATIENCE)
        equal((reply.seq, reply.event), (seq, event), 'reply to')
        return reply

    def int3(self, vcpu, address):
        """A vCPU executes the INT3 there; the action of the reply."""
        equal(self.memory[address], INT3, 'the instruction')
        return self.reply(self.happens(BREAKPOINT, vcpu,
                                       struct.pack('<Q', address),
                                       rip=address), BREAKPOINT).action

    def fault(self, vcpu, gpa, mode, **regs):
        """What comes of a forbidden access: the action, and singlestep."""
        check(not self.access.get(gpa // 4096, 7) & mode, 'it is allowed')
        reply = self.reply(self.happens(PF, vcpu, struct.pack(
            '<QQII', gpa, gpa, mode, 0), **regs), PF)
        equal(len(reply.own), 264, 'size of the reply')
        equal(reply.own[1:], bytes(263), 'rep_complete and ctx_data')
        return reply.action, reply.own[0]

    def fetch(self, vcpu, gpa):
        return self.fault(vcpu, gpa, X, rip=gpa)

    def wait_events(self, events):
        wait_for(lambda: all(e == events for e in self.events),
                 f'the events {events:#x}')

    def check_left(self):
        """The tool has gone, and there is nothing left of it."""
        check(self.ended.wait(PATIENCE), 'the tool does not close')
        equal(self.events, [0] * len(self.events), 'events')
        equal(self.access, {}, 'access')
        equal(self.vm_events, 0, 'VM events')


@contextlib.contextmanager
def an_engine(*args, **kwargs):
    with a_fake_vm(*args, vm=lambda path: Engine(path, **kwargs)) as (vm, tool):
        yield vm, tool


def values(result):
    lines = [json.loads(line) for line in result.lines]
    check('summary' in lines[-1], 'no summary:', lines[-1])
    return lines[:-1], lines[-1]['summary']


# Page access

def case_access_get():
    with an_engine('access', '0x1000', '0x4000', '--json', waits=True) as (
            vm, tool):
        vm.access.update({2: R, 3: R, 4: 0})
        vm.started.set()
        equal(kvmi_end(tool, 0).json(),
              [{'gpa': '0x1000', 'pages': 1, 'access': 'rwx'},
               {'gpa': '0x2000', 'pages': 2, 'access': 'r--'},
               {'gpa': '0x4000', 'pages': 1, 'access': '---'}])
        # it was not ours to give back
        equal(vm.access, {2: R, 3: R, 4: 0})


def case_access_pages():
    """A range is all pages that it touches, however many."""
    for args, text in ((('0x1fff',), '00001000-0000000000001fff  rwx  1 page'),
                       (('0x1fff', '2'),
                        '00001000-0000000000002fff  rwx  2 pages'),
                       (('0', '8M'),
                        '00000000-00000000007fffff  rwx  2048 pages')):
        with an_engine('access', *args) as (_, tool):
            equal(kvmi_end(tool, 0).lines, ['00000000' + text])


def case_access_set():
    """For as long as it runs."""
    for signum in signal.SIGINT, signal.SIGTERM:
        with an_engine('access', '0x2000', '4M', '--set', 'r-x',
                       '--seconds', -1, '--json') as (vm, tool):
            equal(json.loads(tool.stdout.readline()),
                  [{'gpa': '0x2000', 'pages': 1024, 'access': 'r-x'}])
            equal(vm.access, dict.fromkeys(range(2, 1026), R | X))
            tool.send_signal(signum)
            kvmi_end(tool, 0)
            vm.check_left()


def case_access_refused():
    with an_engine('access', 1 << 41, '--set', 'r') as (vm, tool):
        err = kvmi_end(tool, 7).err
        check('not RAM' in err and '0x20000000000' in err, err)
        vm.check_left()


# Traces

def case_trace_pf():
    with an_engine('trace', '--pf', '0x2010+0x20:w', '--pf', '0x3000:rx',
                   '--count', 3, '--json') as (vm, tool):
        vm.wait_events(1 << PF)
        wait_for(lambda: vm.access == {2: R | X, 3: W}, 'the access')
        equal(vm.fault(1, 0x2010, W, rip=0x777), (CONTINUE, 0))
        # in the page, but not what was asked for
        equal(vm.fault(0, 0x200f, W), (CONTINUE, 0))
        equal(vm.fault(0, 0x2030, W), (CONTINUE, 0))
        equal(vm.fault(0, 0x3ff8, R), (CONTINUE, 0))
        equal(vm.fault(0, 0x3000, X), (CONTINUE, 0))
        events, summary = values(kvmi_end(tool, 0))
        equal([(e['vcpu'], e['event'], e['access'], e['gpa'], e['gva'])
               for e in events],
              [(1, 'pf', '-w-', '0x2010', '0x2010'),
               (0, 'pf', 'r--', '0x3ff8', '0x3ff8'),
               (0, 'pf', '--x', '0x3000', '0x3000')])
        equal((events[0]['rip'], events[0]['cr3']), ('0x777', '0x2000'))
        equal([(t['what'], t['events']) for t in summary['targets']],
              [('0x2010:-w-', 1), ('0x3000:r-x', 2)])
        vm.check_left()


def case_trace_pf_signal():
    """What was under way is answered, and all pages are open again."""
    with an_engine('trace', '--pf', '0x2000+1M', '--json') as (vm, tool):
        wait_for(lambda: len(vm.access) == 256, 'the access')
        vm.fault(0, 0x2000, R)
        tool.send_signal(signal.SIGINT)
        wait_for(lambda: not vm.events[0], 'the end')
        kvmi_end(tool, 0)
        vm.check_left()


def case_trace_others():
    """The events that have nothing to be set but themselves."""
    with an_engine('trace', '--descriptor', '--xsetbv', '--hypercall',
                   '--trap', '--vm', '--json') as (vm, tool):
        vm.wait_events(1 << DESCRIPTOR | 1 << XSETBV | 1 << HYPERCALL |
                       1 << TRAP)
        equal(vm.vm_events, 1 << CREATE_VCPU | 1 << EVENT_UNHOOK)
        for event, own, regs in (
                (DESCRIPTOR, bytes(16) + b'\2\1' + bytes(6), {}),
                (XSETBV, b'', {'rax': 7, 'rdx': 1}), (HYPERCALL, b'', {}),
                (TRAP, struct.pack('<IIIIQ', 14, 3, 2, 0, 0x1234), {}),
                (CREATE_VCPU, b'', {}), (EVENT_UNHOOK, b'', {})):
            seq = vm.happens(event, 1, own, **regs)
            reply = vm.reply(seq, event)
            equal((reply.action, reply.own), (CONTINUE, b''))
        events, summary = values(kvmi_end(tool, 0))
        equal([e['event'] for e in events],
              ['descriptor', 'xsetbv', 'hypercall', 'trap', 'create-vcpu',
               'unhook'])
        equal((events[0]['register'], events[0]['write']), ('gdtr', True))
        equal(events[1]['new'], '0x100000007')
        equal((events[3]['vector'], events[3]['cr2']), (14, '0x1234'))
        equal(summary['unhook-asked'], True)
        vm.check_left()


def case_trace_not_offered():
    with an_engine('trace', '--bp', '0x1000', offered=1 << BREAKPOINT) as (
            vm, tool):
        err = kvmi_end(tool, 7).err
        check("'pf'" in err, err)
        vm.check_left()


# Breakpoints

def start_breakpoints(vm, *addresses):
    for address in addresses:
        vm.memory[address] = 0x55
    vm.memory_before = bytes(vm.memory)
    vm.started.set()
    vm.wait_events(1 << PF | 1 << BREAKPOINT)
    for address in addresses:
        wait_for(lambda at=address: vm.memory[at] == INT3, 'an INT3')


def check_unharmed(vm):
    vm.check_left()
    equal(bytes(vm.memory), vm.memory_before, 'memory')


def case_bp():
    """One vCPU goes through it, and again."""
    with an_engine('trace', '--bp', '0x5123', '--count', 3, '--json',
                   waits=True) as (vm, tool):
        start_breakpoints(vm, 0x5123)
        for _ in range(2):
            equal(vm.int3(0, 0x5123), RETRY)
            # the byte is back, and nobody gets past it unseen
            equal((vm.memory[0x5123], vm.access), (0x55, {5: R | W}))
            equal(vm.fetch(0, 0x5123), (RETRY, 1))
            equal((vm.memory[0x5123], vm.access), (0x55, {5: R | W}))
            equal(vm.fetch(0, 0x5124), (RETRY, 0))
            equal((vm.memory[0x5123], vm.access), (INT3, {}))
        equal(vm.int3(1, 0x5123), RETRY)
        events, summary = values(kvmi_end(tool, 0))
        equal([(e['vcpu'], e['event'], e['rip'], e['gpa']) for e in events],
              [(vcpu, 'breakpoint', '0x5123', '0x5123') for vcpu in (0, 0, 1)])
        equal([(t['what'], t['events']) for t in summary['targets']],
              [('0x5123', 3)])
        check_unharmed(vm)


def case_bp_other_vcpus():
    """While one vCPU is led through it, the others are too."""
    with an_engine('trace', '--bp', '0x5123', '--count', 5, '--json', vcpus=3,
                   waits=True) as (vm, tool):
        start_breakpoints(vm, 0x5123)
        equal(vm.int3(0, 0x5123), RETRY)
        equal(vm.fetch(0, 0x5123), (RETRY, 1))
        # one that gets there meanwhile is seen too: by its fetch
        equal(vm.fetch(1, 0x5123), (RETRY, 1))
        # one that is elsewhere in the page makes its way, step by step
        equal(vm.fetch(2, 0x5800), (RETRY, 1))
        # vCPU 0 has done with it, but vCPU 1 stands there still
        equal(vm.fetch(0, 0x5124), (RETRY, 1))
        equal((vm.memory[0x5123], vm.access), (0x55, {5: R | W}))
        # it has left the page: nothing is heard of it any more
        vm.regs[1]['rip'] = 0x9000
        equal(vm.fetch(2, 0x5801), (RETRY, 0))
        equal((vm.memory[0x5123], vm.access), (INT3, {}))

        # two at once: the second has met the INT3 before it was gone
        first = vm.happens(BREAKPOINT, 0, struct.pack('<Q', 0x5123),
                           rip=0x5123)
        second = vm.happens(BREAKPOINT, 2, struct.pack('<Q', 0x5123),
                            rip=0x5123)
        equal(vm.reply(first, BREAKPOINT).action, RETRY)
        equal(vm.reply(second, BREAKPOINT).action, RETRY)
        equal(vm.fetch(2, 0x5123), (RETRY, 1))
        # vCPU 0 is still to come
        equal(vm.fetch(2, 0x5124), (RETRY, 1))
        equal(vm.fetch(0, 0x5123), (RETRY, 1))
        # a loop of one instruction: the same address, another time
        equal(vm.fetch(0, 0x5123), (RETRY, 1))
        events, _ = values(kvmi_end(tool, 0))
        equal([e['vcpu'] for e in events], [0, 1, 0, 2, 0])
        equal({e['event'] for e in events}, {'breakpoint'})
        check_unharmed(vm)


def case_bp_open_race():
    """A fetch of the breakpoint that was under way when the page opened."""
    with an_engine('trace', '--bp', '0x5123', '--count', 2, '--json',
                   waits=True) as (vm, tool):
        start_breakpoints(vm, 0x5123)
        vm.int3(0, 0x5123)
        vm.fetch(0, 0x5123)
        one = vm.happens(PF, 0, struct.pack('<QQII', 0x5124, 0x5124, X, 0),
                         rip=0x5124)
        two = vm.happens(PF, 1, struct.pack('<QQII', 0x5123, 0x5123, X, 0),
                         rip=0x5123)
        vm.reply(one, PF)
        reply = vm.reply(two, PF)
        equal((reply.action, reply.own[0]), (RETRY, 1))
        events, _ = values(kvmi_end(tool, 0))
        equal([e['vcpu'] for e in events], [0, 1])
        check_unharmed(vm)


def case_bp_several():
    """Two in one page, one elsewhere."""
    with an_engine('trace', '--bp', '0x5123', '--bp', '0x5124',
                   '--bp', '0x7000', '--count', 4, '--json', waits=True) as (
                       vm, tool):
        start_breakpoints(vm, 0x5123, 0x5124, 0x7000)
        vm.int3(0, 0x5123)
        equal((vm.memory[0x5124], vm.memory[0x7000]), (0x55, INT3))
        equal(vm.fetch(0, 0x5123), (RETRY, 1))
        equal(vm.fetch(0, 0x5124), (RETRY, 1))      # a hit
        equal(vm.fetch(0, 0x5125), (RETRY, 0))
        equal((vm.memory[0x5123], vm.memory[0x5124]), (INT3, INT3))
        vm.int3(0, 0x7000)
        vm.fetch(0, 0x7000)
        vm.int3(1, 0x5124)
        events, summary = values(kvmi_end(tool, 0))
        equal([e['rip'] for e in events],
              ['0x5123', '0x5124', '0x7000', '0x5124'])
        equal([t['events'] for t in summary['targets']], [1, 2, 1])
        check_unharmed(vm)


def case_bp_of_the_guest():
    """An INT3 that is not ours is the guest's, and stays."""
    with an_engine('trace', '--bp', '0x5123', '--json', waits=True) as (
            vm, tool):
        vm.memory[0x6000] = INT3
        start_breakpoints(vm, 0x5123)
        equal(vm.int3(0, 0x6000), CONTINUE)
        tool.send_signal(signal.SIGINT)
        equal(values(kvmi_end(tool, 0))[0], [])
        check_unharmed(vm)


def case_bp_guest_writes():
    """What the guest has put there itself is not overwritten."""
    with an_engine('trace', '--bp', '0x5123', '--json', waits=True) as (
            vm, tool):
        start_breakpoints(vm, 0x5123)
        vm.memory[0x5123] = 0x90
        tool.send_signal(signal.SIGINT)
        kvmi_end(tool, 0)
        vm.check_left()
        equal(vm.memory[0x5123], 0x90)


def case_bp_late():
    """Events that come when it ends: nobody gets a #BP that is not his."""
    class Late(Engine):
        def control_events(self, body):
            vcpu, events = struct.unpack('<HxxI', body)
            if not events and self.events[vcpu]:
                self.late.append(self.happens(
                    BREAKPOINT, vcpu, struct.pack('<Q', 0x5123), rip=0x5123))
                equal(self.memory[0x5123], 0x55, 'the byte')
            return Engine.control_events(self, body)
        commands = Engine.commands | {CONTROL_EVENTS: control_events}

    with a_fake_vm('trace', '--bp', '0x5123', '--json',
                   vm=lambda path: Late(path, waits=True)) as (vm, tool):
        vm.late = []
        start_breakpoints(vm, 0x5123)
        tool.send_signal(signal.SIGINT)
        kvmi_end(tool, 0)
        equal(len(vm.late), 2)
        for seq in vm.late:
            equal(vm.reply(seq, BREAKPOINT).action, RETRY)
        check_unharmed(vm)


def case_bp_new_vcpu():
    """A vCPU that is added stops there too."""
    with an_engine('trace', '--bp', '0x5123', '--count', 1, waits=True) as (
            vm, tool):
        start_breakpoints(vm, 0x5123)
        vm.regs.append(dict(vm.regs[0]))
        vm.cr3.append(0)
        vm.events.append(0)
        vm.reply(vm.happens(CREATE_VCPU, 2), CREATE_VCPU)
        equal(vm.events[2], 1 << PF | 1 << BREAKPOINT)
        vm.int3(2, 0x5123)
        kvmi_end(tool, 0)
        check_unharmed(vm)


def case_bp_not_mapped():
    """CR0.PG is set, and the page tables are empty."""
    class Paging(Engine):
        def sregs(self, vcpu):
            sregs = bytearray(Engine.sregs(self, vcpu))
            struct.pack_into('<Q', sregs, CR3_OFFSET - 16, 1 << 31)
            return bytes(sregs)

    with a_fake_vm('trace', '--bp', '0x5123', vm=Paging) as (vm, tool):
        err = kvmi_end(tool, 10).err
        check('0x5123' in err and 'not mapped' in err, err)
        vm.check_left()


# Exceptions

def case_inject():
    with an_engine('inject', 'pf', '--vcpu', 1, '--error-code', 2,
                   '--address', '0xffff800000001234', '--wait', 0.01,
                   '--json') as (vm, tool):
        equal(kvmi_end(tool, 0).json(),
              {'vcpu': 1, 'vector': 14, 'error-code': '0x2',
               'address': '0xffff800000001234', 'lost': False})
        equal(vm.injected, [(1, 14, 1, 2, 0, 0xffff800000001234)])
        vm.check_left()


def case_inject_vectors():
    """Which ones have an error code is not the user's affair."""
    for vector in range(32):
        if vector == 2:
            continue
        with an_engine('inject', vector, '--wait', 0) as (vm, tool):
            kvmi_end(tool, 0)
            equal(vm.injected,
                  [(0, vector, vector in (8, 10, 11, 12, 13, 14, 17, 21, 29,
                                          30), 0, 0, 0)])
    for name, number in ('UD', 6), ('#gp', 13), ('xm', 19):
        with an_engine('inject', name, '--wait', 0) as (vm, tool):
            kvmi_end(tool, 0)
            equal(vm.injected[0][1], number)


def case_inject_lost():
    with an_engine('inject', 'ud', '--wait', PATIENCE) as (vm, tool):
        wait_for(lambda: vm.injected, 'the exception')
        equal(vm.events[0], 1 << TRAP)
        seq = vm.happens(TRAP, 0, struct.pack('<IIIIQ', 13, 3, 0, 0, 0))
        equal(vm.reply(seq, TRAP).action, CONTINUE)
        result = kvmi_end(tool, 11)
        equal(result.lines, ['vCPU 0: #UD injected, and lost: #GP came first'])
        vm.check_left()


# Protection

def case_protect():
    with an_engine('protect', '0x2100', '0x1000', '--count', 3,
                   '--json') as (vm, tool):
        vm.wait_events(1 << PF)
        wait_for(lambda: vm.access == {2: R | X, 3: R | X}, 'the access')
        vm.memory[0x100] = 0x90
        equal(vm.fault(1, 0x2100, W, rip=0x100), (CONTINUE, 0))
        equal(vm.fault(0, 0x3100, W, rip=0x100), (CONTINUE, 0))     # beside
        equal(vm.fault(1, 0x30ff, W, rip=0x100), (CONTINUE, 0))
        equal(vm.fault(0, 0x2800, W, rip=0x200), (CONTINUE, 0))
        events, summary = values(kvmi_end(tool, 0))
        equal([(e['vcpu'], e['rip'], e['cr3'], e['gpa'], e['denied'])
               for e in events],
              [(1, '0x100', '0x2000', '0x2100', False),
               (1, '0x100', '0x2000', '0x30ff', False),
               (0, '0x200', '0x1000', '0x2800', False)])
        equal((summary['events'], summary['beside'], summary['denied']),
              (3, 1, False))
        equal(summary['writers'],
              [{'rip': '0x100', 'cr3': '0x2000', 'events': 2,
                'lowest-gpa': '0x2100', 'highest-gpa': '0x30ff', 'vcpus': [1]},
               {'rip': '0x200', 'cr3': '0x1000', 'events': 1,
                'lowest-gpa': '0x2800', 'highest-gpa': '0x2800', 'vcpus': [0]}])
        vm.check_left()


def have_capstone():
    """--deny takes it; without it that is said before anything is touched."""
    done = subprocess.run([kvmi_program(), 'protect', '-s', '/nonexistent/s',
                           '0', '1', '--deny'], stdin=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, check=False)
    return b'Capstone' not in done.stderr


def skip_without_capstone():
    if not have_capstone():
        raise Skip('this kvmi was built without Capstone')


def deny(code, regs, gpa=0x2100, size=0x1000):
    """The registers after the instruction that was to write at @gpa."""
    with an_engine('protect', '0x2100', size, '--deny', '--count', 1) as (
            vm, tool):
        vm.wait_events(1 << PF)
        wait_for(lambda: vm.access, 'the access')
        vm.memory[0x1ff0:0x1ff0 + len(code)] = code
        equal(vm.fault(0, gpa, W, rip=0x1ff0, **regs), (RETRY, 0))
        kvmi_end(tool, 0)
        vm.check_left()
        return vm.regs[0]


def case_deny():
    """The instruction is left out, and nothing else of it happens."""
    skip_without_capstone()
    for code, length in (('48890f', 3),                 # mov [rdi], rcx
                         ('c7070000000090', 6),         # mov dword [rdi], 0
                         ('f0480fc10f', 5),             # lock xadd [rdi], rcx
                         ('50', 1),                     # push rax
                         ('0f2907', 3),                 # movaps [rdi], xmm0
                         ('f20f1107', 4),               # movsd [rdi], xmm0
                         ('aa', 1)):                    # stosb
        regs = dict(rax=1, rcx=2, rdi=0x2100, rsp=0x2108)
        after = deny(bytes.fromhex(code), regs)
        expected = dict.fromkeys(REGS, 0) | regs | {'rip': 0x1ff0 + length}
        if code == 'aa':
            expected['rdi'] += 1
        equal(after, expected, f'registers after {code}')


def case_deny_string():
    """REP goes on behind the element that was not written."""
    skip_without_capstone()
    for code, regs, expected in (
            ('f3aa', dict(rcx=5, rdi=0x2100), dict(rcx=4, rdi=0x2101)),
            ('f348ab', dict(rcx=5, rdi=0x2100), dict(rcx=4, rdi=0x2108)),
            ('f348ab', dict(rcx=1, rdi=0x2100),
             dict(rcx=0, rdi=0x2108, rip=0x1ff3)),
            ('f3a5', dict(rcx=2, rdi=0x2100, rsi=0x8000),
             dict(rcx=1, rdi=0x2104, rsi=0x8004)),
            ('f3a4', dict(rcx=2, rdi=0x2100, rsi=0x8000, rflags=0x400),
             dict(rcx=1, rdi=0x20ff, rsi=0x7fff)),
            ('67f3aa', dict(rcx=1 << 32 | 1, rdi=0x2100),
             dict(rcx=0, rdi=0x2101, rip=0x1ff3)),
            ('66a5', dict(rcx=7, rdi=0x2100, rsi=0x8000),
             dict(rdi=0x2102, rsi=0x8002, rip=0x1ff2))):
        after = deny(bytes.fromhex(code), regs)
        equal(after, dict.fromkeys(REGS, 0) | {'rip': 0x1ff0} | regs | expected,
              f'registers after {code}')


def case_deny_overlap():
    """A write that begins before the range, and one that only comes near."""
    skip_without_capstone()
    after = deny(bytes.fromhex('48890f'), dict(rdi=0x20f9), 0x20f9)
    equal(after['rip'], 0x1ff3)
    with an_engine('protect', '0x2100', 16, '--deny', '--json') as (vm, tool):
        vm.wait_events(1 << PF)
        wait_for(lambda: vm.access, 'the access')
        vm.memory[0x1000:0x1003] = bytes.fromhex('48890f')
        equal(vm.fault(0, 0x20f8, W, rip=0x1000), (CONTINUE, 0))
        equal(vm.fault(0, 0x2110, W, rip=0x1000), (CONTINUE, 0))
        tool.send_signal(signal.SIGINT)
        _, summary = values(kvmi_end(tool, 0))
        equal((summary['events'], summary['beside']), (0, 2))
        vm.check_left()


def case_deny_without_capstone():
    """Where it is not there, that is said before anything is touched."""
    if have_capstone():
        raise Skip('this kvmi was built with Capstone')
    err = kvmi('protect', '-s', '/nonexistent/sock', '0', '1', '--deny',
               status=1).err
    check('Capstone' in err and '--enable-capstone' in err, err)


# With a real QEMU

def case_real_bp():
    """The guest calls a routine in each round, and misses none."""
    with a_vm() as vm:
        vm.need('pf')
        vm.need('breakpoint')
        events, summary = values(vm.kvmi('trace', '--bp', ROUTINE, '--cr', 3,
                                         '--count', 400, '--json'))
        # what writes CR3 and what is called, in turn
        equal({(a['event'], b['event']) for a, b in zip(events, events[1:])},
              {('cr', 'breakpoint'), ('breakpoint', 'cr')})
        hits = [e for e in events if e['event'] == 'breakpoint']
        equal({(e['rip'], e['gpa'], e['vcpu']) for e in hits},
              {(hex(ROUTINE), hex(ROUTINE), 0)})
        equal([t['events'] for t in summary['targets']], [200, 200])
        equal(vm.kvmi('read', '--raw', ROUTINE, 6).raw.hex(), '66ff060405cb')
        vm.check_rounds()
        vm.check_alive()


def case_real_bp_signals():
    """Whenever it ends, the guest is unharmed."""
    with a_vm() as vm:
        vm.need('pf')
        vm.need('breakpoint')
        for number in range(20):
            tool = vm.start('trace', '--bp', ROUTINE)
            for _ in range(1 + number * 7):
                check(tool.stdout.readline(), 'no event')
            tool.send_signal(signal.SIGINT)
            kvmi_end(tool, 0)
            equal(vm.kvmi('read', '--raw', ROUTINE, 6).raw.hex(),
                  '66ff060405cb')
            vm.check_rounds()
            vm.check_alive()


def case_real_pf():
    """Of each kind, only those to the bytes that were asked for."""
    with a_vm() as vm:
        vm.need('pf')
        for what, gpa, access in ((f'{CALLS}+4:w', CALLS, '-w-'),
                                  (f'{CALLS}+4:r', CALLS, 'r--'),
                                  (f'{ROUTINE}+1:x', ROUTINE, '--x')):
            events, _ = values(vm.kvmi('trace', '--pf', what, '--count', 50,
                                       '--json'))
            for event in events:
                equal((event['gpa'], event['gva'], event['rip']),
                      (hex(gpa), hex(gpa), hex(ROUTINE)))
                check(any(a == b != '-' for a, b in
                          zip(event['access'], access)), event)
            vm.check_rounds()
        equal(vm.kvmi('access', 0, '512k', '--json').json()[0]['access'], 'rwx')
        vm.check_alive()


def case_real_protect():
    with a_vm() as vm:
        vm.need('pf')
        events, summary = values(vm.kvmi('protect', CALLS, 4, '--count', 50,
                                         '--json'))
        equal({(e['rip'], e['gpa'], e['denied']) for e in events},
              {(hex(ROUTINE), hex(CALLS), False)})
        equal([w['events'] for w in summary['writers']], [1] * 50)
        check(summary['beside'] >= 49, summary)
        vm.check_rounds()


def case_real_deny():
    """The calls are not counted meanwhile, and all else goes on."""
    skip_without_capstone()
    with a_vm() as vm:
        vm.need('pf')
        before = vm.counter(), vm.counter(CALLS)
        events, _ = values(vm.kvmi('protect', CALLS, 4, '--deny', '--json',
                                   '--count', 100))
        equal(len(events), 100)
        rounds, calls = struct.unpack('<II', vm.kvmi('read', '--raw', COUNTER,
                                                     8).raw)
        missing = (rounds - calls)
        check(abs(missing - 100) <= 2, 'calls that were not counted:', missing)
        check(rounds > before[0], 'the guest stands still')
        vm.check_alive()


def case_real_access():
    with a_vm() as vm:
        vm.need('pf')
        for access in 'r-x', '---', '--x', 'rw-':
            equal(vm.kvmi('access', '1M', '64k', '--set', access,
                          '--json').json(),
                  [{'gpa': '0x100000', 'pages': 16, 'access': access}])
            equal(vm.kvmi('access', '1M', '64k', '--json').json(),
                  [{'gpa': '0x100000', 'pages': 16, 'access': 'rwx'}])
        err = vm.kvmi('access', '2T', '--set', 'r', status=7).err
        check('not RAM' in err, err)
        vm.check_alive()


def case_real_inject():
    """The guest has a handler for it, which counts."""
    with a_vm() as vm:
        if 'inject-exception' not in vm.kvmi('info', '--json').json()[
                'commands']:
            raise Skip("this QEMU's engine has no inject-exception")
        for number in range(1, 4):
            vm.kvmi('inject', 'ud')
            equal(vm.counter(TRAPS), number)
        vm.check_rounds()
        vm.check_alive()


if __name__ == '__main__':
    main(globals())
