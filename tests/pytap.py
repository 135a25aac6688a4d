# SPDX-License-Identifier: GPL-2.0-or-later
"""Named cases in Python, reported as TAP

A case is a function case_NAME.  It fails by an exception, and says by what it
returns, or by Skip, why it was skipped, if it was.
"""

import sys
import time
import traceback

PATIENCE = 60           # seconds until something that should happen has failed


class Failure(Exception):
    pass


class Skip(Exception):
    pass


def check(condition, *what):
    if not condition:
        raise Failure(' '.join(str(w) for w in what))


def equal(have, want, what=''):
    check(have == want, what, 'is', repr(have), 'and should be', repr(want))


def note(*what):
    print('#', *what, flush=True)


def wait_for(condition, what, seconds=PATIENCE):
    """Until @condition gives something true, which is returned."""
    end = time.monotonic() + seconds
    while not (result := condition()):
        check(time.monotonic() < end, 'waited in vain for', what)
        time.sleep(0.02)
    return result


def run_case(number, name, function, after_failure):
    start = time.monotonic()
    try:
        skipped = function()
    except Skip as reason:
        skipped = reason
    except Exception as error:  # pylint: disable=broad-except
        print(f'not ok {number} {name}')
        for line in ''.join(traceback.format_exception(error)).splitlines():
            note(line)
        after_failure()
        return False
    note(f'{time.monotonic() - start:.1f} s')
    skipped = f' # SKIP {skipped}' if skipped else ''
    print(f'ok {number} {name}{skipped}', flush=True)
    return True


def run_cases(prefix, functions, wanted, after_failure=lambda: None):
    """Whether all passed of the @wanted names, or of all if there are none."""
    cases = [(name[5:].replace('_', '-'), function)
             for name, function in functions.items()
             if name.startswith('case_')]
    unknown = set(wanted) - {name for name, _ in cases}
    if unknown:
        sys.exit(f'Bail out! there is no case {", ".join(unknown)}')
    cases = [case for case in cases if not wanted or case[0] in wanted]
    print(f'1..{len(cases)}', flush=True)
    results = [run_case(number, prefix + name, function, after_failure)
               for number, (name, function) in enumerate(cases, 1)]
    return all(results)


def skip_all(reason):
    print('1..0 # SKIP', reason)
    sys.exit(0)
