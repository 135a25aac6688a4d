#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Fuzz what parses a peer's bytes, starting from what the test suites say. TAP.

Everything is in build/fuzz/: seeds/TARGET/ is recorded from a run of the test
suite, and again when that has changed; crashes/ keeps the inputs that made a
target fail, which are tried first the next time. KVMI_FUZZ_SECONDS in the
environment says how long each target runs (30). engine-threads is not fuzzed: it
runs the engine's threads under ThreadSanitizer.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

SECONDS = int(os.environ.get('KVMI_FUZZ_SECONDS', '30'))
MAX_LENGTH = 8192

# Of the conformance suite: about time and QEMU's own interfaces, not about what
# a tool sends.
SLOW_GROUPS = ['disconnect', 'guest', 'handshake', 'object', 'pause-all-vcpus']
FAST_CASES = ['handshake/answer-longer', 'handshake/commands-behind',
              'pause-all-vcpus/after-event', 'pause-all-vcpus/under-events']


class Target:
    """A fuzz target: its program, its seeds, and where those come from."""

    def __init__(self, build, name, prefixes, record):
        self.build = build
        self.name = name
        self.program = os.path.join(build, 'kvmi', 'tests', 'fuzz', 'fuzz-' + name)
        self.seeds = os.path.join(build, 'fuzz', 'seeds', name)
        self.crashes = os.path.join(build, 'fuzz', 'crashes', name)
        self.prefixes = prefixes        # what an input has before the recorded bytes
        self.record = record            # writes them to files in a directory
        os.makedirs(self.crashes, exist_ok=True)

    def make_seeds(self):
        """Record them, and keep those that differ in what they reach."""
        suite = self.record(None)
        if os.path.isdir(self.seeds) and \
                os.path.getmtime(self.seeds) > max(map(os.path.getmtime, [suite, self.program])):
            return
        shutil.rmtree(self.seeds, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=os.path.join(self.build, 'fuzz')) as work:
            recorded, inputs, kept = [os.path.join(work, name)
                                      for name in ('recorded', 'inputs', 'kept')]
            for name in recorded, inputs, kept:
                os.mkdir(name)
            self.record(recorded)
            self.make_inputs(recorded, inputs)
            result = run([self.program, '-merge=1', f'-max_len={MAX_LENGTH}', kept, inputs])
            check(result.returncode == 0, 'merging the seeds failed:', result.stdout)
            os.makedirs(os.path.dirname(self.seeds), exist_ok=True)
            os.rename(kept, self.seeds)
        os.utime(self.seeds)

    def make_inputs(self, recorded, inputs):
        """Each recorded stream with each prefix."""
        for name in sorted(os.listdir(recorded)):
            with open(os.path.join(recorded, name), 'rb') as file:
                stream = file.read()
            if len(stream) > MAX_LENGTH:
                continue
            for number, prefix in enumerate(self.prefixes):
                with open(os.path.join(inputs, f'{name}-{number}'), 'wb') as file:
                    file.write(prefix + stream)

    def replay(self, path):
        """The command that runs this input again."""
        return ' '.join(os.path.relpath(name, os.path.dirname(self.build))
                        for name in (self.program, path))

    def run_kept(self):
        """The inputs that made it fail once."""
        for name in sorted(os.listdir(self.crashes)):
            path = os.path.join(self.crashes, name)
            result = run([self.program, path])
            check(result.returncode == 0, 'it still fails: replay with', self.replay(path), '\n',
                  result.stdout)

    def run(self):
        """Fuzz; what it finds new stays in a directory of its own and is dropped."""
        check(os.path.isdir(self.seeds), 'there are no seeds')
        with tempfile.TemporaryDirectory(dir=os.path.join(self.build, 'fuzz')) as corpus:
            result = run([self.program, f'-max_total_time={SECONDS}', f'-max_len={MAX_LENGTH}',
                          '-timeout=25', '-rss_limit_mb=2048', '-print_final_stats=1',
                          '-artifact_prefix=' + os.path.join(self.crashes, ''),
                          corpus, self.seeds])
        if result.returncode:
            found = re.search(r'Test unit written to (\S+)', result.stdout)
            hint = f'replay with {self.replay(found.group(1))}' if found else 'no input was kept'
            raise Failure(f'the fuzzer has found something: {hint}\n{result.stdout[-6000:]}')
        executed = int(re.search(r'number_of_executed_units: *(\d+)', result.stdout).group(1))
        seed = re.search(r'Seed: *(\d+)', result.stdout).group(1)
        covered = re.findall(r'cov: (\d+)', result.stdout)
        note(f'{executed} inputs, {len(os.listdir(self.seeds))} of them seeds; '
             f'coverage {covered[0]} to {covered[-1]}; libFuzzer seed {seed}')
        check(executed > len(os.listdir(self.seeds)), 'only the seeds were run')


class Failure(Exception):
    """A case that fails, with the reason."""


def check(condition, *what):
    """Fail with these words unless it holds."""
    if not condition:
        raise Failure(' '.join(str(w) for w in what))


def note(text):
    """Lines of TAP that are for people."""
    for line in str(text).splitlines():
        print('#', line, flush=True)


def run(command, **kwargs):
    """Run to the end; both outputs as one text."""
    env = {**os.environ, 'UBSAN_OPTIONS': 'print_stacktrace=1', **kwargs.pop('env', {})}
    return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors='replace', check=False,
                          env=env, **kwargs)


def record_engine(build, directory):
    """What the conformance suite sends. Returns its program."""
    program = os.path.join(build, 'kvmi', 'tests', 'qtest', 'introspection-test')
    if not directory:
        return program
    env = {'QTEST_QEMU_BINARY': os.path.join(build, 'qemu-system-x86_64'),
           'QTEST_INTROSPECTION_GUEST': os.path.join(build, 'kvmi', 'tests', 'guest', 'guest.bin'),
           'QTEST_INTROSPECTION_ENGINE': 'tcg-multi',
           'QTEST_INTROSPECTION_RECORD': directory}
    root = '/x86_64/introspection/tcg-multi/'
    for groups in ([word for group in SLOW_GROUPS for word in ('-s', root + group)],
                   [word for case in FAST_CASES for word in ('-p', root + case)]):
        result = run([program, '--tap', '-k', *groups], cwd=build, env=env)
        check(result.returncode == 0, 'the conformance suite fails:', result.stdout[-3000:])
    return program


def record_client(build, directory):
    """What the client library's tests play. Returns their program."""
    program = os.path.join(build, 'kvmi', 'tests', 'tools', 'kvmi-client-test')
    if directory:
        result = run([program, '--tap'], env={'KVMI_FAKE_VM_RECORD': directory})
        check(result.returncode == 0, "the client library's tests fail:", result.stdout[-3000:])
    return program


def why_not():
    """Why there can be no fuzzing here, or None."""
    if not shutil.which('clang'):
        return 'there is no clang: scripts/packages --install check'
    with tempfile.TemporaryDirectory() as directory:
        source = os.path.join(directory, 'empty.c')
        with open(source, 'w', encoding='utf-8') as file:
            file.write('int LLVMFuzzerTestOneInput(const char *data, long size)\n'
                       '{ return 0; }\n')
        if run(['clang', '-fsanitize=fuzzer,address,undefined', source, '-o',
                os.path.join(directory, 'empty')]).returncode:
            return 'this clang has no libFuzzer: scripts/packages --install check'
    return None


def run_threads(build):
    """The engine's threads: no data race, no deadlock."""
    seed = str(random.randrange(1 << 31))
    program = os.path.join(build, 'kvmi', 'tests', 'fuzz', 'engine-threads')
    result = run([program, str(SECONDS // 2), seed], timeout=SECONDS + 120,
                 env={'TSAN_OPTIONS': 'halt_on_error=1 second_deadlock_stack=1'})
    check(result.returncode == 0, f'it fails with the seed {seed}:', result.stdout[-6000:])
    note(f'{result.stdout.strip()}; seed {seed}')


def cases(build, targets, threads):
    """Names and functions, in the order in which they are run."""
    if threads:
        yield 'engine/threads', lambda: run_threads(build)
    for target in targets:
        yield f'{target.name}/seeds', target.make_seeds
        yield f'{target.name}/found-before', target.run_kept
        yield f'{target.name}/fuzz', target.run


def main():
    """All cases; the status says whether any failed."""
    if len(sys.argv) < 3:
        sys.exit('usage: fuzz-test.py BUILD PROGRAM...')
    build = os.path.abspath(sys.argv[1])
    reason = why_not()
    if reason:
        print(f'1..0 # SKIP {reason}')
        return 0
    known = {
        'engine': ([bytes(3), b'\7\x55\0', b'\0\0\5', b'\0\0\x40'], record_engine),
        'client': ([b'\7', b'\0'], record_client),
    }
    built = run(['ninja', '-C', build] + [f'kvmi/tests/fuzz/{name}' for name in sys.argv[2:]])
    if built.returncode:
        print('Bail out! the fuzz targets cannot be built')
        note(built.stdout)
        return 1
    targets = [Target(build, name, prefixes, lambda directory, record=record:
                      record(build, directory))
               for name, (prefixes, record) in known.items() if 'fuzz-' + name in sys.argv[2:]]
    todo = list(cases(build, targets, 'engine-threads' in sys.argv[2:]))
    failed = False
    print(f'1..{len(todo)}', flush=True)
    for number, (name, function) in enumerate(todo, 1):
        try:
            function()
            print(f'ok {number} /kvmi/fuzz/{name}', flush=True)
        except Failure as error:
            failed = True
            print(f'not ok {number} /kvmi/fuzz/{name}', flush=True)
            note(error)
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
