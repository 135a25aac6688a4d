# SPDX-License-Identifier: GPL-2.0-or-later
"""A host of the test's own: libvirtd and virtlogd that see only its directories

As root, libvirtd is the system's kind, in mount and UTS namespaces in which
libvirt's directories are the test's; it runs QEMU as the user whom the
distribution made for that.  For anybody else it is the kind that belongs to a
user's session, whose directories follow the environment.  Neither sees or
disturbs the libvirtd of the machine.
"""

import grp
import os
import pwd
import shutil
import signal
import subprocess
import sys
import uuid

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.realpath(__file__))))
sys.path.insert(0, os.path.join(ROOT, 'tests'))
from pytap import PATIENCE, wait_for  # pylint: disable=wrong-import-position

WITHOUT_KVM = os.path.join(ROOT, 'scripts', 'without-kvm')

# Who runs QEMU for the system's libvirtd, by distribution.  Debian's package
# that makes its user also starts a libvirtd, so it need not be there.
QEMU_USERS = ('libvirt-qemu', 'qemu')

# Libvirt's directories, and what stands for them in a host's own
PRIVATE = {
    '/etc/libvirt': 'etc',
    '/run/libvirt': 'run/libvirt',
    '/var/lib/libvirt': 'lib',
    '/var/log/libvirt': 'log',
    '/var/cache/libvirt': 'cache',
}

# Run in the new namespaces: NAME, then pairs of paths, "--", a command.  A
# directory to mount on that is not there is made: it stays empty.
ENTER = '''
set -eu
hostname "$1"
shift
while [ "$1" != -- ]; do
    [ -e "$2" ] || mkdir -p "$2"
    mount --bind "$1" "$2"
    shift 2
done
shift
exec "$@"
'''


class Unavailable(Exception):
    """Why there can be no host here."""


def is_system():
    return os.geteuid() == 0


def find_program(name):
    path = shutil.which(name, path=os.environ['PATH'] + ':/usr/sbin:/sbin')
    if not path:
        raise Unavailable(f'libvirt is not installed: there is no {name}; '
                          'scripts/packages --install check installs it')
    return path


def namespaces():
    """The command that enters new namespaces, with the right to mount."""
    return ['unshare', '--mount', '--propagation', 'private', '--uts']


def user_namespaces():
    """Where only the host's name is to be another."""
    return ['unshare', '--user', '--map-current-user', '--keep-caps', '--uts']


def can_run(command):
    return subprocess.run([*command, 'true'], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL,
                          check=False).returncode == 0


def check_available():
    """Raise Unavailable if no host can be made here."""
    for name in 'libvirtd', 'virtlogd', 'virsh', 'virt-xml-validate':
        find_program(name)
    if is_system() and not can_run(namespaces()):
        raise Unavailable('root may not make mount namespaces here: run this '
                          'as another user')


def can_have_names():
    """Whether two hosts can have different names, as migration needs."""
    return is_system() or can_run(user_namespaces())


def qemu_user():
    """Who runs QEMU."""
    if not is_system():
        return pwd.getpwuid(os.geteuid())
    for name in QEMU_USERS:
        try:
            return pwd.getpwnam(name)
        except KeyError:
            pass
    return pwd.getpwnam('nobody')


def qemu_group():
    return grp.getgrgid(qemu_user().pw_gid).gr_name


class Broken(Exception):
    """A host could not be made, although it should be possible."""


class VirshError(Exception):
    pass


class Host:
    """libvirtd and virtlogd.  @name has a dot: libvirt asks no resolver then."""

    def __init__(self, directory, name):
        self.dir = directory
        self.name = name
        self.daemons = []
        for path in 'run/libvirt', 'etc', 'lib', 'log', 'cache':
            os.makedirs(self.path(path))
        if is_system():
            # QEMU's user finds its own way to below lib
            os.chmod(self.dir, 0o711)
            os.chmod(self.path('lib'), 0o711)
        self.socket = self.path('run/libvirt/libvirt-sock')
        self.uri = 'qemu+unix:///%s?socket=%s' % (
            'system' if is_system() else 'session', self.socket)
        self.configure()

    def path(self, name):
        return os.path.join(self.dir, name)

    def configure(self):
        with open(self.path('libvirtd.conf'), 'w', encoding='utf-8') as f:
            # The real one's would be the same for all of this machine's hosts
            f.write(f'host_uuid = "{uuid.uuid4()}"\n'
                    'auth_unix_rw = "none"\n'
                    f'log_outputs = "2:file:{self.path("libvirtd.log")}"\n')
        with open(self.path('virtlogd.conf'), 'w', encoding='utf-8') as f:
            f.write(f'log_outputs = "2:file:{self.path("virtlogd.log")}"\n')
        with open(self.path('etc/qemu.conf'), 'w', encoding='utf-8') as f:
            # The user changes in any case; labels are not what this is
            # about.  A /dev for each QEMU cannot be made where /dev/kvm is
            # hidden by a mount.
            f.write('security_driver = "none"\n'
                    'namespaces = []\n'
                    'cgroup_controllers = []\n')
            if is_system():
                f.write(f'user = "{qemu_user().pw_name}"\n'
                        f'group = "{qemu_group()}"\n')

    def mounts(self):
        """Pairs of what is the host's own, and what it is there."""
        pairs = [(self.path(there), here) for here, there in PRIVATE.items()]
        user = qemu_user()
        if user.pw_name == 'nobody':
            # Debian's libvirtd does not start without its user
            for name, entry in (
                    ('passwd', f'{QEMU_USERS[0]}:x:{user.pw_uid}:{user.pw_gid}'
                               '::/:/usr/sbin/nologin\n'),
                    ('group', f'{QEMU_USERS[0]}:x:{user.pw_gid}:\n')):
                shutil.copyfile('/etc/' + name, self.path(name))
                with open(self.path(name), 'a', encoding='utf-8') as f:
                    f.write(entry)
                pairs.append((self.path(name), '/etc/' + name))
        return pairs

    def environment(self):
        env = dict(os.environ, LC_ALL='C')
        if not is_system():
            env.update(HOME=self.dir, XDG_RUNTIME_DIR=self.path('run'),
                       XDG_CONFIG_HOME=self.path('config'),
                       XDG_CACHE_HOME=self.path('cache'),
                       XDG_DATA_HOME=self.path('data'))
        return env

    def inside(self, command):
        """@command as it has to be called to run on this host."""
        command = [WITHOUT_KVM, *command]
        if is_system():
            paths = [path for pair in self.mounts() for path in pair]
            return [*namespaces(), 'sh', '-c', ENTER, 'sh', self.name, *paths,
                    '--', *command]
        if can_have_names():
            return [*user_namespaces(), 'sh', '-c', ENTER, 'sh', self.name,
                    '--', *command]
        return command

    def start_daemon(self, name):
        pid_file = self.path(name + '.pid')
        with open(self.path(name + '.out'), 'wb') as out:
            process = subprocess.Popen(
                self.inside([find_program(name), '-f',
                             self.path(name + '.conf'), '-p', pid_file]),
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=self.environment())
        self.daemons.append((process, pid_file))

    def start(self):
        for name, sock in (('virtlogd', 'virtlogd-sock'),
                           ('libvirtd', 'libvirt-sock')):
            self.start_daemon(name)
            path = self.path('run/libvirt/' + sock)
            wait_for(lambda: os.path.exists(path) or self.ended(), path)
        if self.ended():
            raise Broken(f'{self.ended()} has ended')

    def ended(self):
        for process, pid_file in self.daemons:
            if process.poll() is not None:
                return os.path.basename(pid_file)[:-4]
        return None

    def stop(self):
        """Only what was started here, and the domain before its daemon."""
        if self.daemons and not self.ended():
            for domain in self.virsh('list', '--name').split():
                self.virsh('destroy', domain)
        for process, pid_file in reversed(self.daemons):
            if process.poll() is None:
                with open(pid_file, encoding='ascii') as f:
                    os.kill(int(f.read()), signal.SIGTERM)
                process.wait(PATIENCE)
        self.daemons = []

    def virsh(self, *args):
        done = subprocess.run(['virsh', '-q', '-c', self.uri, *args],
                              stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=PATIENCE, check=False, text=True,
                              env=dict(os.environ, LC_ALL='C'))
        if done.returncode:
            raise VirshError(f'virsh {" ".join(args)}: {done.stderr.strip()}')
        return done.stdout.strip()

    def log(self):
        text = ''
        for name in ('libvirtd.out', 'libvirtd.log', 'virtlogd.out',
                     'log/qemu/introspected.log'):
            try:
                with open(self.path(name), encoding='utf-8') as f:
                    text += f.read()
            except FileNotFoundError:
                pass
        return text
