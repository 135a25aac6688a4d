# SPDX-License-Identifier: GPL-2.0-or-later
"""What GDB itself takes for a thing; runs inside of GDB.

Each of it is done in the cheapest way that GDB has. A line 'bench: MICROSECONDS' says
how long, one that begins with 'bench: error' that it was not what was to be measured.
"""

import functools
import time

import gdb  # pylint: disable=import-error

# Of a breakpoint that GDB goes on from by itself, and of reads.
HITS = 100
SLICE = 0.3
PAGE = 4096


class State:
    """What connect() was told."""
    busy = 0


def say(text):
    """To the bench, which finds it among what GDB says."""
    print(f'bench: {text}', flush=True)


def for_bench(function):
    """Failures are something to say, too."""
    @functools.wraps(function)
    def call(*args):
        try:
            function(*args)
        except gdb.error as error:
            say(f'error: {error}')
    return call


def go_on():
    """Until the guest stops and GDB has something to say about it."""
    gdb.execute('continue', to_string=True)


def read_number(address):
    """Eight bytes of the guest's."""
    return int.from_bytes(gdb.selected_inferior().read_memory(address, 8).tobytes(), 'little')


@for_bench
def connect(port, busy):
    """To QEMU, whose guest is stopped by that."""
    for setting in ('pagination off', 'confirm off', 'architecture i386:x86-64'):
        gdb.execute(f'set {setting}', to_string=True)
    gdb.execute(f'target remote 127.0.0.1:{port}', to_string=True)
    State.busy = busy
    say(0)


def hit(point, counter, go_through):
    """The time of HITS of the guest's hits of a point that is hit without end."""
    try:
        go_on()
        hits, counted, busy = point.hit_count, read_number(counter), read_number(State.busy)
        start = time.monotonic()
        go_through(point)
        end = time.monotonic()
        hits = point.hit_count - hits
        counted = read_number(counter) - counted
        busy = read_number(State.busy) - busy
        if hits != HITS or counted != HITS or not busy:
            say(f'error: {hits} hits instead of {HITS}; the guest counted {counted}, '
                f'and its other vCPU {busy}')
        else:
            say(f'{(end - start) / HITS * 1e6:.3f}')
    finally:
        point.delete()


def told(_):
    """GDB says at each hit where the guest is, and is told to go on."""
    for _ in range(HITS):
        go_on()


def ignored(point):
    """Nobody hears of the hits but the last: GDB counts them, and goes on at once."""
    point.ignore_count = HITS - 1
    go_on()


def at_instruction(address):
    """One that the guest comes to without end."""
    return gdb.Breakpoint(f'*{address:#x}')


def at_memory(address):
    """Some to which the guest writes something else without end."""
    return gdb.Breakpoint(f'*(unsigned long *){address:#x}', gdb.BP_WATCHPOINT, gdb.WP_WRITE)


@for_bench
def breakpoint_told(address, counter):
    hit(at_instruction(address), counter, told)


@for_bench
def breakpoint_ignored(address, counter):
    hit(at_instruction(address), counter, ignored)


@for_bench
def watchpoint_told(address, counter):
    hit(at_memory(address), counter, told)


@for_bench
def watchpoint_ignored(address, counter):
    hit(at_memory(address), counter, ignored)


@for_bench
def reads(address, _):
    """A page of a guest that stands still."""
    count = 0
    start = time.monotonic()
    while time.monotonic() < start + SLICE:
        gdb.selected_inferior().read_memory(address, PAGE)
        count += 1
    say(f'{(time.monotonic() - start) / count * 1e6:.3f}')


@for_bench
def reads_running(address, _):
    """A page of a guest that runs: GDB has to stop it, and lets it go on. GDB hears of
    the stop in its event loop, so each read begins the next."""
    begin, count = time.monotonic(), 0

    @for_bench
    def interrupt():
        gdb.execute('continue &', to_string=True)
        gdb.execute('interrupt', to_string=True)

    @for_bench
    def stopped(_):
        nonlocal count
        gdb.selected_inferior().read_memory(address, PAGE)
        count += 1
        if time.monotonic() < begin + SLICE:
            gdb.post_event(interrupt)
        else:
            gdb.events.stop.disconnect(stopped)
            say(f'{(time.monotonic() - begin) / count * 1e6:.3f}')

    gdb.events.stop.connect(stopped)
    interrupt()
