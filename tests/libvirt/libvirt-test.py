#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A domain with introspection, managed by a real libvirtd
#
# Usage: QTEST_QEMU_BINARY=qemu-system-x86_64 libvirt-test.py KVMI [CASE...]
#
# The output is TAP.  The domain is docs/system/introspection-domain.xml, with
# the paths of this test and a faster reconnection.  The tool is
# the command kvmi.

import contextlib
import json
import os
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

import host as hosts
from host import Host, Unavailable
from counting_guest import COUNTER, make_disk
from pytap import (Failure, PATIENCE, check, equal, note, run_cases, skip_all,
                   wait_for)

DOMAIN_XML = os.path.join(hosts.ROOT, 'docs', 'system',
                          'introspection-domain.xml')
NAME = 'introspected'
# Exit statuses of kvmi trace
ASKED, VM_GONE, REFUSED = 0, 4, 6

QEMU = os.environ.get('QTEST_QEMU_BINARY', '')
KVMI = ''



class Setup:
    """Directories, a QEMU that its user can run, and one or two hosts."""

    def __init__(self):
        # Short: a unix socket's path has 107 bytes at most
        self.dir = tempfile.mkdtemp(prefix='kvmi-lv-')
        self.user = hosts.qemu_user()
        os.chmod(self.dir, 0o711)
        self.hosts = {}
        self.qemu = QEMU
        if not self.user_can_run(QEMU):
            self.qemu = shutil.copy(QEMU, self.path('qemu-system-x86_64'))
        self.make_dir('images')
        self.make_dir('keys')
        self.key = self.make_key('good')
        self.other_key = self.make_key('other')
        # What the documentation says: new sockets get the directory's group
        self.make_dir('socket', 0o2750)

    def path(self, name):
        return os.path.join(self.dir, name)

    def make_dir(self, name, mode=0o750):
        path = self.path(name)
        os.mkdir(path)
        os.chown(path, -1, self.user.pw_gid)
        os.chmod(path, mode)

    def make_key(self, name):
        """A file that QEMU may read, nobody else."""
        path = self.path('keys/' + name)
        with open(path, 'w', encoding='ascii') as f:
            f.write(secrets.token_hex(16))
        os.chown(path, -1, self.user.pw_gid)
        os.chmod(path, 0o640)
        return path

    def user_can_run(self, program):
        if not hosts.is_system():
            return True
        try:
            done = subprocess.run([program, '--version'], cwd='/',
                                  user=self.user.pw_uid,
                                  group=self.user.pw_gid, extra_groups=[],
                                  stdin=subprocess.DEVNULL,
                                  stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL, check=False)
        except PermissionError:
            return False
        return done.returncode == 0

    def host(self, name):
        """Started when it is first needed."""
        if name not in self.hosts:
            path = self.path(name)
            os.mkdir(path)
            self.hosts[name] = Host(path, name + '.test')
            self.hosts[name].start()
        return self.hosts[name]

    def show_logs(self):
        for name, host in self.hosts.items():
            for line in host.log().splitlines():
                note(f'{name}: {line}')

    def close(self):
        for host in self.hosts.values():
            host.stop()
        shutil.rmtree(self.dir)


SETUP = None


def replace(xml, old, new):
    equal(xml.count(old), 1, f'the number of {old} in the example')
    return xml.replace(old, new)


class Domain:
    """The example, defined on a host; one at a time."""

    def __init__(self, host):
        self.host = host
        self.sock = SETUP.path('socket/vmi.sock')
        self.disk = SETUP.path('images/introspected.qcow2')
        make_disk(self.disk)
        with open(DOMAIN_XML, encoding='utf-8') as f:
            self.xml = f.read()
        for old, new in (
                ('/usr/local/bin/qemu-system-x86_64', SETUP.qemu),
                ('/var/lib/libvirt/images/introspected.qcow2', self.disk),
                ('/run/kvmi/vmi.sock', self.sock),
                ('/etc/kvmi/introspected.key', SETUP.key),
                ('reconnect-ms=1000', 'reconnect-ms=50')):
            self.xml = replace(self.xml, old, new)

    def define(self, change=lambda xml: xml):
        path = SETUP.path('domain.xml')
        with open(path, 'w', encoding='utf-8') as f:
            f.write(change(self.xml))
        self.virsh('define', path)

    def virsh(self, *args):
        return self.host.virsh(*args)

    def state(self):
        return self.virsh('domstate', NAME)

    def qmp(self, command, **arguments):
        reply = json.loads(self.virsh(
            'qemu-monitor-command', NAME,
            json.dumps({'execute': command, 'arguments': arguments})))
        check('return' in reply, command, 'in QMP:', reply)
        return reply['return']

    def query(self):
        return self.qmp('query-introspection')

    def wait_state(self, state):
        wait_for(lambda: self.query()['state'] == state,
                 f'introspection to be {state}')

    def pid(self):
        """QEMU's, as libvirt has noted it."""
        run = 'run/libvirt/qemu' + ('' if hosts.is_system() else '/run')
        with open(self.host.path(f'{run}/{NAME}.pid'),
                  encoding='ascii') as f:
            return int(f.read())

    def remove(self):
        """Whatever has become of it."""
        for host in SETUP.hosts.values():
            if NAME in host.virsh('list', '--name').split():
                host.virsh('destroy', NAME)
            if NAME in host.virsh('list', '--all', '--name').split():
                host.virsh('undefine', NAME, '--managed-save',
                           '--snapshots-metadata')

    # The tool

    def start_tool(self, *args, key=None):
        """It listens, and lets the domain's group connect."""
        return subprocess.Popen([KVMI, *args[:1], '-s', self.sock, '-t',
                                 str(PATIENCE), '--key-file',
                                 key or SETUP.key, *args[1:]],
                                stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, umask=0o007)

    def tool(self, *args, key=None, status=0):
        """Run it to its end."""
        with self.start_tool(*args, key=key) as process:
            out, err = process.communicate(timeout=PATIENCE)
        equal(process.returncode, status, f'the status of kvmi {args} ({err})')
        return out

    @contextlib.contextmanager
    def trace(self):
        """A tool that the domain is hooked by, and gets events."""
        with self.start_tool('trace', '--json', '--cr', '3') as process:
            # A tool whose output nobody reads would not answer for long.
            reader = None
            try:
                for _ in range(10):
                    if not process.stdout.readline():
                        raise Failure('the trace has ended: '
                                      + process.stderr.read().decode())
                reader = threading.Thread(target=process.stdout.read)
                reader.start()
                self.wait_state('hooked')
                yield process
            finally:
                process.terminate()
                process.wait(PATIENCE)
                if reader:
                    reader.join()

    def counter(self):
        return struct.unpack('<I', self.tool('read', '--raw', hex(COUNTER),
                                             '4'))[0]

    def check_alive(self):
        """The guest has begun to count and goes on."""
        before = self.counter()
        wait_for(lambda: self.counter() > before, 'the guest to go on')


@contextlib.contextmanager
def a_domain(start=True):
    domain = Domain(SETUP.host('a'))
    try:
        domain.define()
        if start:
            domain.virsh('start', NAME)
        yield domain
    finally:
        domain.remove()


def leave(tool, status):
    """It ends by itself: because it was asked to, or because the VM has gone."""
    tool.wait(PATIENCE)
    equal(tool.returncode, status,
          f'exit status of the tool ({tool.stderr.read().decode()})')


# Cases

def case_example_is_valid():
    done = subprocess.run(['virt-xml-validate', DOMAIN_XML],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False, text=True)
    equal(done.returncode, 0, 'virt-xml-validate ' + done.stdout)


def case_define_start_hook():
    with a_domain() as domain:
        equal(domain.state(), 'running', 'the state')
        info = domain.query()
        equal(info['state'], 'disconnected', 'the state')
        said = json.loads(domain.tool('info', '--json'))
        equal(said['name'], NAME, 'the name')
        check(f'<uuid>{said["uuid"]}</uuid>' in domain.xml, said)
        equal(said['vcpus'], 2, 'the number of vCPUs')
        with domain.trace():
            info = domain.query()
            check(info['stats']['events'] > 0, info)
        domain.check_alive()


def case_qemu_is_unprivileged():
    with a_domain() as domain:
        with open(f'/proc/{domain.pid()}/status', encoding='ascii') as f:
            ids = [line.split()[1:] for line in f
                   if line.startswith(('Uid:', 'Gid:'))]
        equal(ids, [[str(SETUP.user.pw_uid)] * 4, [str(SETUP.user.pw_gid)] * 4],
              "QEMU's user and group")
        check('0' not in ids[0], 'QEMU runs as root')


def case_key_is_secret():
    with open(SETUP.key, encoding='ascii') as f:
        key = f.read()
    with a_domain() as domain:
        check(key not in domain.virsh('dumpxml', NAME, '--security-info'),
              'the key is in the XML')
        with open(f'/proc/{domain.pid()}/cmdline', encoding='utf-8') as f:
            command = f.read()
        check(SETUP.key in command and key not in command,
              'the key is on the command line')
        # Whoever does not know it is refused, and the guest goes on.
        domain.tool('info', key=SETUP.other_key, status=REFUSED)
        domain.check_alive()


def case_hook_and_unhook():
    with a_domain() as domain:
        with domain.trace() as tool:
            reply = domain.qmp('introspection-unhook')
            leave(tool, ASKED)
            equal(reply['outcome'], 'let-go', 'how it was unhooked')
        equal(domain.query()['state'], 'suspended', 'the state')
        equal(domain.state(), 'running', 'the state')
        with domain.start_tool('trace', '--summary', '--cr', '3') as tool:
            domain.qmp('introspection-hook', timeout=PATIENCE)
            equal(domain.query()['state'], 'hooked', 'the state')
            domain.qmp('introspection-unhook', force=True)
            leave(tool, VM_GONE)


def case_suspend_resume():
    with a_domain() as domain:
        with domain.trace() as tool:
            domain.virsh('suspend', NAME)
            leave(tool, ASKED)
        equal(domain.state(), 'paused', 'the state')
        equal(domain.query()['state'], 'suspended', 'the state')
        domain.virsh('resume', NAME)
        equal(domain.state(), 'running', 'the state')
        domain.check_alive()


def case_reset():
    with a_domain() as domain:
        started = json.loads(domain.tool('info', '--json'))['start-time']
        # The time has seconds.
        wait_for(lambda: time.time() >= started + 1, 'the next second')
        with domain.trace() as tool:
            domain.virsh('reset', NAME)
            leave(tool, VM_GONE)
        again = json.loads(domain.tool('info', '--json'))['start-time']
        check(again > started, 'start times', started, again)
        domain.check_alive()


def case_managedsave_restore():
    with a_domain() as domain:
        with domain.trace() as tool:
            domain.virsh('managedsave', NAME)
            leave(tool, ASKED)
        equal(domain.state(), 'shut off', 'the state')
        domain.virsh('start', NAME)
        domain.check_alive()
        with domain.trace():
            equal(domain.state(), 'running', 'the state')


def case_snapshot_revert():
    with a_domain() as domain:
        domain.check_alive()
        with domain.trace() as tool:
            domain.virsh('snapshot-create-as', NAME, 'one')
            leave(tool, ASKED)
        domain.check_alive()
        domain.tool('write', '0x600', '--string', 'after the snapshot')
        with domain.trace():
            domain.virsh('snapshot-revert', NAME, 'one')
        equal(domain.state(), 'running', 'the state')
        equal(domain.tool('read', '--raw', '0x600', '4'), bytes(4),
              'what was written after the snapshot')
        domain.check_alive()


def case_migrate():
    if not hosts.can_have_names():
        return 'two hosts with different names take root or user namespaces'
    with a_domain() as domain:
        other = SETUP.host('b')
        domain.check_alive()
        with domain.trace() as tool:
            domain.virsh('migrate', '--live', '--unsafe', NAME, other.uri,
                         '--migrateuri', 'tcp://127.0.0.1',
                         '--listen-address', '127.0.0.1')
            leave(tool, ASKED)
        equal(domain.state(), 'shut off', 'the state at the source')
        domain.host = other
        equal(domain.state(), 'running', 'the state at the destination')
        domain.check_alive()
        with domain.trace():
            equal(domain.query()['state'], 'hooked', 'the state')
    return None


def case_destroy():
    with a_domain() as domain:
        with domain.trace() as tool:
            domain.virsh('destroy', NAME)
            leave(tool, VM_GONE)
        equal(domain.state(), 'shut off', 'the state')


def wait_on(xml):
    old = '"chardev": "vmi"'
    return replace(xml, old, old + ', "wait": true')


def case_tool_is_down():
    """With wait=on the domain is there, and its guest waits."""
    with a_domain(start=False) as domain:
        domain.define(wait_on)
        domain.virsh('start', NAME)
        equal(domain.state(), 'running', 'the state')
        check(domain.query()['guest-held'], 'the guest is not held')
        domain.check_alive()
        check(not domain.query()['guest-held'], 'the guest is held')

        domain.virsh('managedsave', NAME)
        domain.virsh('start', NAME)
        check(domain.query()['guest-held'], 'the restored guest is not held')
        domain.qmp('object-del', id='kvmi0')
        domain.qmp('object-add', **{'qom-type': 'introspection',
                                    'id': 'kvmi0', 'chardev': 'vmi',
                                    'key': 'vmi-key'})
        check(not domain.query()['guest-held'], 'the guest is held')
        domain.check_alive()


def case_hotplug():
    with a_domain() as domain:
        domain.qmp('object-del', id='kvmi0')
        try:
            info = domain.query()
            raise Failure('query-introspection without an object: ' + str(info))
        except Failure as failure:
            check('no introspection object' in str(failure), failure)
        domain.qmp('object-add', **{'qom-type': 'introspection',
                                    'id': 'kvmi1', 'chardev': 'vmi',
                                    'key': 'vmi-key'})
        domain.check_alive()
        equal(domain.query()['id'], 'kvmi1', 'the object')


def main():
    global KVMI, SETUP

    if len(sys.argv) < 2 or not QEMU:
        sys.exit('usage: QTEST_QEMU_BINARY=QEMU libvirt-test.py KVMI [CASE...]')
    KVMI = os.path.abspath(sys.argv[1])
    try:
        hosts.check_available()
    except Unavailable as reason:
        skip_all(reason)
    SETUP = Setup()
    try:
        SETUP.host('a')
        passed = run_cases('/kvmi/libvirt/', globals(), sys.argv[2:],
                           SETUP.show_logs)
    except hosts.Broken as error:
        SETUP.show_logs()
        sys.exit(f'Bail out! {error}')
    finally:
        SETUP.close()
    sys.exit(0 if passed else 1)


if __name__ == '__main__':
    main()
