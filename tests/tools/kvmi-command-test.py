#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The command kvmi against a real QEMU
#
# Usage: QTEST_QEMU_BINARY=qemu-system-x86_64 kvmi-command-test.py KVMI [CASE...]
#
# The output is TAP.  The guest is a "BIOS" of a few instructions, which writes
# CR3 and LSTAR, counts in memory that it is alive, and begins again.

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time

from kvmi_test import (
    CONTROL_EVENTS, CONTROL_VM_EVENTS, COUNTER, EVENT_CR, EVENT_CREATE_VCPU,
    EVENT_REPLY, EVENT_UNHOOK, GET_VERSION, PATIENCE, STEP, a_dir,
    a_fake_vm, a_vm, check, equal, kvmi, kvmi_end, kvmi_program, kvmi_start,
    listener_at, main, wait_for)

SUBCOMMANDS = ('info', 'regs', 'read', 'write', 'dump', 'search', 'cpuid',
               'xsave', 'trace', 'access', 'protect', 'pause', 'inject',
               'serve', 'check-host')


# Without a VM

def case_help():
    out = kvmi('--help').out
    for name in SUBCOMMANDS:
        check(f'  {name} ' in out, 'no', name, 'in --help')
    check('KVMI version 1' in kvmi('--version').out, 'no version')
    for name in SUBCOMMANDS:
        out = kvmi(name, '--help').out
        check('--socket' in out and f'kvmi {name}' in out, 'help:', out)


def case_usage():
    sock = ('-s', '/nonexistent/sock')
    for args in (
            (), ('nonsense',), ('-s', 'x'), ('info',), ('info', '--nonsense'),
            ('info', '-s', 'nowhere'), ('info', '-s', 'tcp:nowhere'),
            ('info', *sock, 'argument'), ('info', *sock, '-t', 'soon'),
            ('read', *sock), ('read', *sock, '1'), ('read', *sock, '1', '0'),
            ('read', *sock, '-1', '4'), ('read', *sock, '1x', '4'),
            ('read', *sock, '0x10000000000000', '4'),
            ('read', *sock, '0', '1T'),
            ('write', *sock, '0'), ('write', *sock, '0', 'xy'),
            ('write', *sock, '0', '123'),
            ('write', *sock, '0', '12', '--string', 'x'),
            ('write', *sock, '0', '--string', ''),
            ('regs', *sock, '--vcpu', '65536'), ('regs', *sock, '--msr', 'x'),
            ('trace', *sock), ('trace', *sock, '--cr', '2'),
            ('trace', *sock, '--cr', '3', '--duration', '-1'),
            ('trace', *sock, '--cr', '3', '--count', '-1'),
            ('trace', *sock, '--pf', '0:q'), ('trace', *sock, '--pf', '0:-'),
            ('trace', *sock, '--pf', '0+0'), ('trace', *sock, '--pf', ''),
            ('trace', *sock, '--bp', 'main'),
            ('trace', *sock, '--bp', '1', '--vcpu', '0'),
            ('access', *sock), ('access', *sock, '0', '0'),
            ('access', *sock, '0', '--set', 'rq'),
            ('access', *sock, '0', '--set', ''),
            ('access', *sock, '0', '--seconds', '1'),
            ('inject', *sock), ('inject', *sock, '32'),
            ('inject', *sock, '2'), ('inject', *sock, 'xy'),
            ('inject', *sock, 'ud', '--error-code', '0'),
            ('inject', *sock, 'gp', '--address', '0'),
            ('inject', *sock, 'gp', '--error-code', '0x10000'),
            ('protect', *sock), ('protect', *sock, '0'),
            ('protect', *sock, '0', '0'), ('protect', *sock, '0', 'x'),
            ('pause', *sock, '--set', 'rax'), ('pause', *sock, '--try', 'x=1'),
            ('search', *sock, ''), ('search', *sock, '--hex', '0'),
            ('search', *sock, 'long', '--length', '3'),
            ('dump', *sock), ('dump', *sock, 'f', '--start', '1')):
        kvmi(*args, status=2)


def case_path_exists():
    with a_dir() as path:
        name = os.path.join(path, 'sock')
        with open(name, 'w') as f:
            f.write('precious')
        check(name in kvmi('info', '-s', name, status=5).err, 'no path')
        with open(name) as f:
            equal(f.read(), 'precious')
        os.unlink(name)

        with listener_at(name):
            err = kvmi('info', '-s', name, status=5).err
            check('somebody listens' in err, err)
        err = kvmi('info', '-s', name, status=5).err
        check('remove it' in err and name in err, err)
        os.unlink(name)


def case_no_vm():
    with a_dir() as path:
        name = os.path.join(path, 'sock')
        start = time.monotonic()
        err = kvmi('info', '-s', name, '-t', '0.2', status=3).err
        check(time.monotonic() - start < 5, 'took too long')
        check('-object introspection' in err and name in err, err)
        err = kvmi('info', '-s', name, '-c', '-t', '0.2', status=3).err
        check('no VM listens' in err and name in err, err)
        equal(os.listdir(path), [], 'what is left')


def check_host_lacks(device, words):
    """What check-host says of a device that is no KVM, in both forms."""
    args = ('check-host', '--device', device)
    human = kvmi(*args, status=12)
    machine = kvmi(*args, '--json', status=12)
    found = machine.json()
    check(words in found['missing'], found)
    for result in human, machine:
        equal(result.err.strip(), 'kvmi check-host: ' + found['missing'])
    equal((found['device'], found['usable'], found['version']),
          (device, False, 0), found)
    equal(found['kernel'], os.uname().release)
    lines = [line.split(None, 1) for line in human.lines]
    check(['kernel', 'Linux ' + found['kernel']] in lines, human.out)
    check(['KVMI', 'no'] in lines, human.out)
    check('-accel kvm   cannot be introspected' in human.lines, human.out)


def case_check_host():
    """Devices that are no KVM; tests/kernel has those that are."""
    with open('/proc/cpuinfo', encoding='utf-8') as f:
        virtualization = re.search(' (svm|vmx)', f.read())
    with a_dir() as path:
        check_host_lacks(os.path.join(path, 'absent'),
                         'modprobe kvm-' if virtualization else
                         'this processor has no virtualization')
        check_host_lacks('/dev/null', '/dev/null is no KVM: Inappropriate')
        check_host_lacks(path, f'{path} is no KVM: Is a directory')


def case_check_host_not_permitted():
    with a_dir() as path:
        device = os.path.join(path, 'kvm')
        with open(device, 'wb'):
            os.chmod(device, 0)
        user = {}
        if os.geteuid() == 0:
            user = {'user': 65534, 'group': 65534, 'extra_groups': []}
        # somewhere that any user may execute it
        os.chmod(path, 0o755)
        program = shutil.copy(kvmi_program(), path)
        done = subprocess.run([program, 'check-host', '--device', device],
                              stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, timeout=PATIENCE,
                              check=False, **user)
        equal(done.returncode, 12, done.stderr)
        check(f'you may not use {device}: become a member of its group'
              in done.stderr.decode(), done.stderr)


def case_check_host_usage():
    for args in ('--device',), ('--nonsense',), ('argument',):
        kvmi('check-host', *args, status=2)


def case_waiting_interrupted():
    with a_dir() as path:
        name = os.path.join(path, 'sock')
        for signum in signal.SIGINT, signal.SIGTERM:
            tool = kvmi_start('info', '-s', name)
            wait_for(lambda: os.path.exists(name), 'the socket')
            line = tool.stderr.readline().decode()
            check('waiting' in line and name in line, line)
            tool.send_signal(signum)
            kvmi_end(tool, 128 + signum)
            equal(os.listdir(path), [], 'what is left')


def case_peers_leave():
    """Who says nothing is not taken for the VM; that is said once."""
    with a_dir() as path:
        name = os.path.join(path, 'sock')
        tool = kvmi_start('info', '-s', name, '-t', '2')
        wait_for(lambda: os.path.exists(name), 'the socket')
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(name)
        err = kvmi_end(tool, 3).err
        equal(err.count('closed the connection at once'), 1, err)
        check('no VM connected' in err, err)
        equal(os.listdir(path), [], 'what is left')


def case_not_a_vm():
    for greeting, text in ((b'GET / HTTP/1.1\r\n\r\n', 'no QEMU'),
                           (b'\x60\0\0\0xyz', 'closed the connection')):
        with a_dir() as path:
            name = os.path.join(path, 'sock')
            tool = kvmi_start('info', '-s', name)
            wait_for(lambda: os.path.exists(name), 'the socket')
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(name)
                peer.send(greeting)
            err = kvmi_end(tool, 6).err
            check(text in err, err)
            equal(os.listdir(path), [], 'what is left')


# With a VM that this test plays

def case_trace_unhook_event():
    """The VM asks to be let go: trace does so, and ends."""
    with a_fake_vm('trace', '--cr', 3, '--json') as (vm, tool):
        vm.start_trace(2, 1 << EVENT_UNHOOK | 1 << EVENT_CR)
        vm.event(7, EVENT_UNHOOK, 0)
        equal(vm.expect(EVENT_REPLY),
              (7, struct.pack('<II', 0, EVENT_UNHOOK)))
        for vcpu in range(2):
            equal(vm.answer(CONTROL_EVENTS), struct.pack('<HHI', vcpu, 0, 0))
        equal(vm.answer(CONTROL_VM_EVENTS), bytes(8))
        vm.expect(None)
        _, summary = trace_values(kvmi_end(tool, 0))
        equal(summary['unhook-asked'], True)


def case_trace_new_vcpu():
    """A hotplugged vCPU is traced before it runs."""
    with a_fake_vm('trace', '--cr', 3, '--json', '--count', 1) as (vm, tool):
        vm.start_trace(1, 1 << EVENT_CREATE_VCPU | 1 << EVENT_CR)
        vm.event(7, EVENT_CREATE_VCPU, 1)
        vm.hook_vcpu(1)
        equal(vm.expect(EVENT_REPLY),
              (7, struct.pack('<II', 0, EVENT_CREATE_VCPU)))
        vm.event(8, EVENT_CR, 1, struct.pack('<HHHHQQ', 3, 0, 0, 0, 1, 2))
        equal(vm.expect(EVENT_REPLY),
              (8, struct.pack('<IIQ', 0, EVENT_CR, 2)))
        for vcpu in range(2):
            equal(vm.answer(CONTROL_EVENTS), struct.pack('<HHI', vcpu, 0, 0))
        vm.answer(CONTROL_VM_EVENTS)
        vm.expect(None)
        _, summary = trace_values(kvmi_end(tool, 0))
        equal(summary['vcpus'], [0, 1])


def case_protocol_error():
    with a_fake_vm('info') as (vm, tool):
        seq, _ = vm.expect(GET_VERSION)
        vm.socket.send(struct.pack('<HHIiI', GET_VERSION, 8, seq + 1, 0, 0))
        check("'fake'" in kvmi_end(tool, 9).err, 'who was it?')


# With a real one

def case_info():
    with a_vm() as vm:
        info = vm.kvmi('info', '--json').json()
        equal(info['name'], 'under test')
        equal(info['uuid'], '12345678-9abc-def0-1234-56789abcdef0')
        check(abs(info['start-time'] - time.time()) < 3600, info)
        equal(info['version'], 1)
        equal(info['vcpus'], 2)
        for name in 'get-version', 'read-physical', 'control-cr':
            check(name in info['commands'], name, 'is missing')
        for name in 'cr', 'msr', 'pause-vcpu':
            check(name in info['events'], name, 'is missing')

        out = vm.kvmi('info').out
        for text in ('under test', info['uuid'], 'version 1', 'vCPUs',
                     'get-registers', 'pause-vcpu'):
            check(text in out, text, 'is missing in', out)
        equal(max(len(line) for line in out.splitlines()) < 80, True)
        check(not os.path.exists(vm.sock), 'the socket was left')


def case_options_before_subcommand():
    with a_vm() as vm:
        equal(kvmi('-s', vm.sock, '--timeout', PATIENCE, '--json',
                   'info').json()['vcpus'], 2)


def case_regs():
    with a_vm() as vm:
        vm.check_alive()
        vcpus = vm.kvmi('regs', '--json', '--msr', 'lstar', '--msr',
                        '0x174').json()
        values = [int(vcpus[0]['msrs'][n], 16) for n in ('lstar',
                                                         'sysenter_cs')]
        check(values[0] % STEP == 0 and values[1] == 0, vcpus[0])
        equal(int(vcpus[0]['regs']['rcx'], 16), 0xc0000082)

        lines = vm.kvmi('regs', '--vcpu', 0).lines
        equal(lines[0], 'vCPU 0, 16-bit')
        check(re.search(r'  rip +0{13}[0-6][0-9a-f]{2}$', '\n'.join(lines),
                        re.M), lines)
        err = vm.kvmi('regs', '--vcpu', 5, status=7).err
        check('vCPU 5' in err and 'EINVAL' in err, err)
        err = vm.kvmi('regs', '--msr', '0x12345', status=7).err
        check('EINVAL' in err, err)


def case_read_write():
    with a_vm() as vm:
        data = os.urandom(20000)
        with open(vm.path('data'), 'wb') as f:
            f.write(data)
        vm.kvmi('write', '0x100ffe', '--file', vm.path('data'))
        equal(vm.kvmi('read', '0x100ffe', len(data), '--raw').raw, data)
        read = vm.kvmi('read', '0x100ffe', '16', '--json').json()
        equal(bytes.fromhex(read['data']), data[:16])

        vm.kvmi('write', '2M', 'de ad', 'beef')
        vm.kvmi('write', '0x200004', '--string', 'text')
        equal(vm.kvmi('read', '2M', '18').lines, [
            '0000000000200000  de ad be ef 74 65 78 74  '
            '00 00 00 00 00 00 00 00  |....text........|',
            '0000000000200010  00 00                    '
            '                         |..|'])


def case_not_ram():
    with a_vm() as vm:
        for args in (('read', '0xfec00000', 4), ('read', '64M', 1),
                     ('read', '0x3ffffff', 2), ('write', '0xfec00000', '00')):
            err = vm.kvmi(*args, status=7).err
            check('EINVAL' in err and 'not RAM' in err, err)


def case_cpuid():
    with a_vm('-cpu', 'qemu64') as vm:
        leaf = vm.kvmi('cpuid', '--json', '0').json()['leaves'][0]
        text = b''.join(struct.pack('<I', int(leaf[r], 16))
                        for r in ('ebx', 'edx', 'ecx'))
        check(text in (b'AuthenticAMD', b'GenuineIntel'), text)

        everything = vm.kvmi('cpuid', '--json').json()
        check('QEMU Virtual CPU' in everything['brand'], everything['brand'])
        functions = [int(x['function'], 16) for x in everything['leaves']]
        for function in 0, 1, 0x80000000, 0x80000004:
            check(function in functions, hex(function), 'is missing')
        check('eax' in vm.kvmi('cpuid', 1, '--vcpu', 1).out, 'no eax')
        err = vm.kvmi('cpuid', '0x7fffffff', status=7).err
        check('ENOENT' in err, err)


def case_xsave():
    with a_vm() as vm:
        raw = vm.kvmi('xsave', '--raw').raw
        equal(len(raw), 4096)
        fcw, = struct.unpack_from('<H', raw, 0)
        mxcsr, = struct.unpack_from('<I', raw, 24)
        decoded = vm.kvmi('xsave', '--json').json()
        equal(int(decoded['fcw'], 16), fcw)
        equal(int(decoded['mxcsr'], 16), mxcsr)
        equal(bytes.fromhex(decoded['image']), raw)
        check('xmm15' in vm.kvmi('xsave', '--vcpu', 1).out or
              'ymm15' in vm.kvmi('xsave', '--vcpu', 1).out, 'no registers')


def case_search():
    with a_vm() as vm:
        places = {
            0x110000: 'at the beginning of a page',
            0x112ffc: 'over the end of a page',
            0x1ffffb: 'over the end of a chunk',
            0x3fffff0 - 10: 'at the end of RAM, or near',
        }
        for gpa, text in places.items():
            vm.kvmi('write', gpa, '--string', 'NEEDLE ' + text[:9])
        found = [json.loads(line) for line in
                 vm.kvmi('search', '--json', 'NEEDLE ').lines]
        equal([(int(m['gpa'], 16), m['text']) for m in found],
              [(gpa, 'NEEDLE ' + text[:9]) for gpa, text in places.items()])

        def gpas(*args):
            return [int(line.split()[0], 16)
                    for line in vm.kvmi('search', *args).lines]

        equal(gpas('NEEDLE', '--max', 2), list(places)[:2])
        equal(gpas('--hex', '4e 45 45 44 4c 45'), list(places))
        equal(gpas('NEEDLE', '--start', '0x110001'), list(places)[1:])
        equal(gpas('NEEDLE', '--start', '0x110000', '--length', '0x3000'),
              list(places)[:1])
        equal(gpas('NEEDLE', '--start', '0x112ffc', '--length', '6'),
              list(places)[1:2])
        vm.kvmi('search', 'NEEDLE', '--start', '0x112ffc', '--length', '5',
                status=2)
        vm.kvmi('search', 'not in there', status=10)
        vm.kvmi('search', 'NEEDLE', '--start', '0x10fffe', '--length', '6',
                status=10)

        vm.kvmi('write', '0x120000', '--string', 'AAAA')
        equal(gpas('AA', '--start', '0x120000', '--length', '4'),
              [0x120000, 0x120001, 0x120002])


def shared_ram(vm_args, size):
    """RAM in a file that the test can look at: its name and arguments."""
    name = tempfile.mktemp(prefix='kvmi-ram-')
    with open(name, 'wb') as f:
        for offset in range(0x100000, size, 0x73000):
            f.seek(offset)
            f.write(os.urandom(min(5000, size - offset)))
        f.truncate(size)
    return name, [*vm_args, '-object',
                  f'memory-backend-file,id=ram,size={size},mem-path={name},'
                  f'share=on', '-machine', 'memory-backend=ram']


def case_wait():
    """wait=on: the guest does not run before the tool has come."""
    ram, args = shared_ram([], 64 << 20)
    try:
        with a_vm(*args) as vm, open(ram, 'rb', buffering=0) as f:
            def counter():
                f.seek(COUNTER)
                return f.read(4)

            time.sleep(0.3)
            equal(counter(), bytes(4), 'what the guest counted')
            vm.kvmi('info')
            wait_for(lambda: counter() != bytes(4), 'the guest to start')
    finally:
        os.unlink(ram)


def case_dump():
    size = 63 * 1024 * 1024
    ram, args = shared_ram([], size)
    try:
        with a_vm(*args, memory='63M') as vm:
            result = vm.kvmi('dump', '--json', '--progress',
                             vm.path('dump'))
            check('dump [' in result.err and '100%' in result.err, result.err)
            equal(result.json()['size'], size)
            equal(result.json()['ranges'],
                  [{'start': '0x0', 'end': hex(size)}])
            equal(sorted(os.listdir(vm.dir)), ['bios', 'dump'])
            with open(ram, 'rb') as f, open(vm.path('dump'), 'rb') as d:
                want, have = f.read(), d.read()
            equal(len(have), size)
            check(have[0x100000:] == want[0x100000:], 'the dump differs')
            stat = os.stat(vm.path('dump'))
            check(stat.st_blocks * 512 < size / 2, 'the file has no holes')

            vm.kvmi('dump', '--start', '1M', '--length', '3M',
                    vm.path('dump'))
            with open(vm.path('dump'), 'rb') as d:
                check(d.read() == want[0x100000:0x400000], 'a part differs')
            vm.check_alive()
    finally:
        os.unlink(ram)


def case_dump_above_4g():
    with a_vm('-machine', 'max-ram-below-4g=32M', memory='66M') as vm:
        vm.kvmi('write', '4G', '--string', 'FIRST ABOVE 4G')
        vm.kvmi('write', hex(0x100000000 + (34 << 20) - 7), '--string',
                'THE END')
        found = vm.kvmi('search', 'FIRST ABOVE').lines
        equal(found, ['0x000100000000  FIRST ABOVE 4G'])
        result = vm.kvmi('dump', '--json', vm.path('dump')).json()
        equal(result['ranges'],
              [{'start': '0x0', 'end': '0x2000000'},
               {'start': '0x100000000', 'end': '0x102200000'}])
        equal(result['ram'], 66 << 20)
        with open(vm.path('dump'), 'rb') as d:
            d.seek(1 << 32)
            equal(d.read(14), b'FIRST ABOVE 4G')
            d.seek(-7, os.SEEK_END)
            equal(d.read(), b'THE END')


def case_dump_no_space():
    with a_vm() as vm:
        vm.kvmi('write', '32M', '--string', 'beyond the limit')
        with open(vm.path('dump'), 'w') as f:
            f.write('precious')

        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

        err = vm.kvmi('dump', vm.path('dump'), status=1,
                      preexec_fn=limit).err
        check('dump.part' in err and 'too large' in err, err)
        with open(vm.path('dump')) as f:
            equal(f.read(), 'precious')
        equal(sorted(os.listdir(vm.dir)), ['bios', 'dump'])
        vm.kvmi('dump', '/dev/null', status=2)
        vm.kvmi('dump', '/nonexistent/dump', status=1)
        vm.check_alive()


def case_dump_vm_dies():
    with a_vm(memory='2G') as vm:
        tool = vm.start('dump', vm.path('dump'))
        wait_for(lambda: os.path.exists(vm.path('dump.part')), 'the dump')
        time.sleep(0.05)
        vm.kill()
        err = kvmi_end(tool, 4).err
        check('dump.part' in err and 'gone' in err, err)
        check(not os.path.exists(vm.path('dump')), 'looks complete')


def trace_values(result):
    lines = [json.loads(line) for line in result.lines]
    check('summary' in lines[-1], 'no summary:', lines[-1])
    return lines[:-1], lines[-1]['summary']


def case_trace():
    with a_vm() as vm:
        events, summary = trace_values(
            vm.kvmi('trace', '--json', '--cr', 3, '--msr', 'lstar',
                    '--count', 200))
        equal(len(events), 200)
        equal(summary['events'], 200)
        equal(summary['vcpus'], [200])

        # The guest was running when the trace began: anywhere in its round.
        if events[0]['event'] == 'msr':
            events.pop(0)
        first = int(events[0]['new'], 16)
        for i, event in enumerate(events):
            equal(event['event'], ('cr', 'msr')[i % 2], f'event {i}')
            old, new = int(event['old'], 16), int(event['new'], 16)
            equal(new, (old + STEP) % (1 << 32), f'event {i}')
            equal(new, (first + i // 2 * STEP) % (1 << 32), f'event {i}')
            equal(event['vcpu'], 0)
        equal(events[0]['cr'], 3)
        equal(events[0]['cr3'], events[0]['old'])
        equal(events[1]['msr'], 'lstar')
        equal(events[1]['index'], '0xc0000082')
        check(events[0]['rip'] != events[1]['rip'], 'same RIP')
        equal([t['what'] for t in summary['targets']], ['cr3', 'lstar'])
        equal([t['events'] for t in summary['targets']], [100, 100])
        vm.check_alive()


def case_trace_human():
    with a_vm() as vm:
        start = time.monotonic()
        lines = vm.kvmi('trace', '--cr', 3, '--duration', 0.5).lines
        check(time.monotonic() - start < 5, 'took too long')
        check(re.fullmatch(r' +\d+\.\d{6}  vcpu 0  rip 0{14}[0-9a-f]{2}  cr3 '
                           r' +0{8}[0-9a-f]{5}000 -> 0{8}[0-9a-f]{5}000',
                           lines[0]), lines[0])
        check(re.match(r'  cr3 +\d+ +\d+\.\d/s  \d+ address spaces',
                       lines[-2]), lines[-2])
        check(re.match(r'\d+ events in 0\.\d s', lines[-3]), lines[-3])
        out = vm.kvmi('trace', '--msr', '0xc0000082', '--count', 50,
                      '--summary', '-q')
        check(out.out.startswith('50 events'), out.out)
        equal(out.err, '')
        vm.check_alive()


def case_trace_other_vcpu():
    """The other vCPU does nothing, and nothing is seen."""
    with a_vm() as vm:
        _, summary = trace_values(
            vm.kvmi('trace', '--json', '--cr', 3, '--vcpu', 1,
                    '--duration', 0.3))
        equal(summary['events'], 0)
        vm.check_alive()


def case_trace_signals():
    with a_vm() as vm:
        for signum in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            tool = vm.start('trace', '--cr', 3, '--msr', 'lstar')
            for _ in range(100):
                check(b'vcpu 0' in tool.stdout.readline(), 'no event')
            tool.send_signal(signum)
            check('events in' in kvmi_end(tool, 0).out, 'no summary')
            check(not os.path.exists(vm.sock), 'the socket was left')
            vm.check_alive()


def case_trace_idle_interrupted():
    with a_vm() as vm:
        tool = vm.start('trace', '--cr', 4)
        check(b'tracing' in tool.stderr.readline(), 'not started')
        time.sleep(0.1)
        tool.send_signal(signal.SIGINT)
        check('0 events' in kvmi_end(tool, 0).out, 'no summary')
        vm.check_alive()


def case_trace_killed():
    """A tool that is killed leaves the guest running."""
    with a_vm() as vm:
        for _ in range(5):
            tool = vm.start('trace', '--cr', 3, '--msr', 'lstar')
            tool.stdout.readline()
            tool.kill()
            tool.communicate()
            os.unlink(vm.sock)
            vm.check_alive()


def case_trace_broken_pipe():
    with a_vm() as vm:
        tool = vm.start('trace', '--cr', 3)
        check(b'vcpu 0' in tool.stdout.readline(), 'no event')
        tool.stdout.close()
        err = tool.stderr.read().decode()
        equal(tool.wait(PATIENCE), 1, 'exit status')
        tool.stderr.close()
        check('standard output' in err, err)
        vm.check_alive()


def case_trace_nobody_reads():
    """Ctrl-C lets the guest go, although the output is stuck."""
    with a_vm() as vm:
        tool = vm.start('trace', '--json', '--cr', 3)
        time.sleep(0.5)             # a pipe holds 64 KiB, which is soon full
        tool.send_signal(signal.SIGINT)
        wait_for(lambda: not os.path.exists(vm.sock), 'the end of the trace')
        vm.check_alive()
        equal(tool.poll(), None, 'what the tool has to say')
        trace_values(kvmi_end(tool, 0))


def case_trace_vm_dies():
    with a_vm() as vm:
        tool = vm.start('trace', '--cr', 3)
        check(b'vcpu 0' in tool.stdout.readline(), 'no event')
        vm.kill()
        result = kvmi_end(tool, 4)
        check('gone' in result.err and 'under test' in result.err, result.err)
        check('events in' in result.out, 'no summary')
        check(not os.path.exists(vm.sock), 'the socket was left')


def case_not_allowed():
    with a_vm(events=['msr']) as vm:
        equal('cr' in vm.kvmi('info', '--json').json()['events'], False)
        err = vm.kvmi('trace', '--cr', 3, status=7).err
        check("'cr'" in err and 'allow' in err, err)
        _, summary = trace_values(
            vm.kvmi('trace', '--json', '--msr', 'lstar', '--count', 5))
        equal(summary['events'], 5)
    with a_vm(commands=['get-guest-info']) as vm:
        equal('read-physical' in vm.kvmi('info', '--json').json()['commands'],
              False)
        err = vm.kvmi('read', 0, 1, status=7).err
        check('read-physical' in err and 'EACCES' in err, err)


def case_pause():
    with a_vm() as vm:
        vm.check_alive()
        result = vm.kvmi('pause', '--json', '--try', 'rax=0x1122334455667788',
                         '--try', 'r15=1').json()
        equal(sorted(v['vcpu'] for v in result['vcpus']), [0, 1])
        equal([(c['what'], c['reg']) for c in result['changes']],
              [('changed', 'rax'), ('put back', 'rax'),
               ('changed', 'r15'), ('put back', 'r15')])
        equal(result['changes'][0]['to'], '0x1122334455667788')
        equal(result['changes'][1]['to'], result['changes'][0]['from'])
        vm.check_alive()

        out = vm.kvmi('pause', '--try', 'rbp=5', '--vcpu', 1).out
        for text in ('vCPU 0 paused', 'vCPU 1 paused', 'rbp changed',
                     'rbp put back', '2 vCPUs go on'):
            check(text in out, text, 'is missing in', out)
        vm.check_alive()


def case_pause_set():
    """A register that the guest does not use keeps what it was set to."""
    with a_vm() as vm:
        vm.check_alive()
        vm.kvmi('pause', '--set', 'r12=0x70000000', '--set', 'rbp=7')
        vm.check_alive()
        regs = vm.kvmi('regs', '--json', '--vcpu', 0).json()[0]['regs']
        equal((regs['r12'], regs['rbp']), ('0x70000000', '0x7'))


def case_pause_seconds():
    with a_vm() as vm:
        vm.check_alive()
        held = vm.kvmi('pause', '--json', '--seconds', '0.5').json()
        check(0.5 <= held['seconds'] < 5, held['seconds'])
        vm.check_alive()

        tool = vm.start('pause', '--seconds', '1000')
        while b'idt' not in tool.stdout.readline():
            pass
        time.sleep(0.1)
        tool.send_signal(signal.SIGINT)
        kvmi_end(tool, 130)
        vm.check_alive()


def case_connect():
    """QEMU listens, the tool connects; a second tool is turned away."""
    with a_vm(listens=True) as vm:
        wait_for(lambda: os.path.exists(vm.sock), 'QEMU to listen')
        equal(vm.kvmi('info', '--connect', '--json').json()['vcpus'], 2)
        tool = vm.start('trace', '-c', '--cr', 3)
        check(b'vcpu 0' in tool.stdout.readline(), 'no event')
        vm.kvmi('info', '-c', status=6)
        check('somebody listens' in vm.kvmi('info', status=5).err, 'no hint')
        tool.send_signal(signal.SIGINT)
        kvmi_end(tool, 0)
        equal(vm.kvmi('info', '-c', '--json').json()['vcpus'], 2)
        check(os.path.exists(vm.sock), "QEMU's socket was removed")


@contextlib.contextmanager
def a_monitor(path):
    wait_for(lambda: os.path.exists(path), 'the monitor')
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.connect(path)
        yield monitor


def case_migration_destination():
    """It connects and leaves: the tool waits until it has the guest."""
    with a_dir() as path, a_vm(
            '-monitor', f'unix:{path}/monitor,server=on,wait=off',
            wait=False) as source:
        sock = os.path.join(path, 'sock')
        tool = kvmi_start('info', '--json', '-s', sock)
        wait_for(lambda: os.path.exists(sock), 'the tool')
        with a_vm('-incoming', f'unix:{path}/migration', wait=False,
                  chardev=f'path={sock},reconnect-ms=20') as destination:
            line = tool.stderr.readline().decode()
            while 'at once' not in line:
                check('waiting' in line, 'the tool said', line)
                line = tool.stderr.readline().decode()
            check('about to be migrated' in line and sock in line, line)
            with a_monitor(f'{path}/monitor') as monitor:
                monitor.sendall(f'migrate unix:{path}/migration\n'.encode())
                result = kvmi_end(tool, 0)
            equal(result.json()['vcpus'], 2)
            equal(result.err, '', 'what else it said')
            destination.sock = sock
            destination.check_alive()
        check(source.qemu.poll() is None, 'the source has ended')


def case_paused():
    """Connected to, a VM that is paused leaves: that is an error."""
    with a_dir() as path, a_vm(
            '-monitor', f'unix:{path}/monitor,server=on,wait=off',
            listens=True) as vm:
        with a_monitor(f'{path}/monitor') as monitor:
            monitor.sendall(b'stop\ninfo status\n')
            said = b''
            while b'VM status: paused' not in said:
                said += monitor.recv(4096)
            check('may be paused' in vm.kvmi('info', '-c', status=6).err,
                  'no hint')
            monitor.sendall(b'cont\ninfo status\n')
            while b'VM status: running' not in said:
                said += monitor.recv(4096)
            vm.kvmi('info', '-c')


def case_tcp():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    with a_vm(chardev=f'host=127.0.0.1,port={port},reconnect-ms=20') as vm:
        vm.sock = f'tcp:127.0.0.1:{port}'
        equal(vm.kvmi('info', '--json').json()['vcpus'], 2)
        equal(len(vm.kvmi('read', '--raw', '0', '1M').raw), 1 << 20)
        vm.kvmi('trace', '--cr', 3, '--count', 100)
        vm.check_alive()


def case_one_after_the_other():
    with a_vm() as vm:
        for _ in range(10):
            vm.kvmi('info')
        vm.check_alive()


def case_key():
    """The real QEMU and its key, which may have any bytes."""
    with a_dir() as path:
        key, other = os.path.join(path, 'key'), os.path.join(path, 'other')
        for name, contents in (key, b'\0bytes\xff\n'), (other, b'bytes'):
            with open(name, 'wb') as f:
                f.write(contents)
        secret = ('-object', f'secret,id=key0,file={key}')
        right, wrong = ('--key-file', key), ('--key-file', other)

        with a_vm(*secret, key='key0') as vm:
            error = vm.kvmi('info', status=6).err
            check('wants proof of a key' in error, error)
            error = vm.kvmi('info', *wrong, status=6).err
            check('refused the key' in error, error)
            error = vm.kvmi('info', *right, '--auth', 'cookie', status=4).err
            check('closed' in error, error)
            equal(vm.kvmi('info', *right, '--json').json()['name'],
                  'under test')
            vm.kvmi('info', *right, '--auth', 'any')
        with a_vm(*secret, key='key0', auth='cookie') as vm:
            error = vm.kvmi('info', *right, status=6).err
            check('does not prove' in error, error)
            vm.kvmi('info', *right, '--auth', 'cookie')
            vm.kvmi('info', *right, '--auth', 'any')
        with a_vm() as vm:
            error = vm.kvmi('info', *right, status=6).err
            check('does not prove' in error, error)

        where = ('-s', os.path.join(path, 'sock'), '-t', 0)
        kvmi('info', *where, '--auth', 'hmac', status=2)
        kvmi('info', *where, *right, '--auth', 'magic', status=2)
        kvmi('info', *where, '--key-file', os.path.join(path, 'absent'),
             status=1)


def case_single_thread():
    with a_vm(accel='tcg,thread=single') as vm:
        equal(len(vm.kvmi('regs', '--json').json()), 2)
        vm.kvmi('trace', '--cr', 3, '--count', 100)
        vm.kvmi('pause', '--try', 'rax=1')
        vm.check_alive()


def case_qtest():
    """No guest runs, but there is memory."""
    with a_vm(accel='qtest', wait=False) as vm:
        equal(vm.kvmi('info', '--json').json()['name'], 'under test')
        vm.kvmi('write', '1M', '--string', 'hello')
        equal(vm.kvmi('read', '1M', 5, '--raw').raw, b'hello')


if __name__ == '__main__':
    main(globals())
