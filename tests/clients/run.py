"""Runs the client tests and prints `N passed, N failed` as the last line.

Usage: run.py [-v] [-k PATTERN]...   A watchdog ends everything after `--deadline` seconds.
"""

import argparse
import faulthandler
import os
import pathlib
import signal
import sys
import threading
import unittest

import support


def end_everything(reason):
    """The last resort: says why, ends the children, and fails. No test's own cleanup runs any more."""
    print(f"client tests: {reason}", file=sys.stderr)
    for program in list(support.RUNNING):
        program.kill()
    print("0 passed, 1 failed", flush=True)
    os._exit(1)


def out_of_time():
    """Shows where the threads stand before everything ends."""
    faulthandler.dump_traceback()
    end_everything("out of time")


class Result(unittest.TextTestResult):
    """Counts whole tests: one with three failed subtests is one failed test."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.broken = set()

    def addError(self, test, err):
        super().addError(test, err)
        self.broken.add(test.id())

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.broken.add(test.id())

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.broken.add(test.id())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("-k", dest="patterns", action="append", help="only tests whose id contains this")
    parser.add_argument("--deadline", type=float, default=480.0, help="seconds for everything")
    options = parser.parse_args()
    watchdog = threading.Timer(options.deadline, out_of_time)
    watchdog.daemon = True
    watchdog.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: end_everything(f"stopped by {signal.Signals(number).name}"))

    loader = unittest.TestLoader()
    if options.patterns:
        loader.testNamePatterns = [f"*{pattern}*" for pattern in options.patterns]
    suite = loader.discover(str(pathlib.Path(__file__).parent))
    runner = unittest.TextTestRunner(sys.stdout, resultclass=Result, verbosity=2 if options.verbose else 1)
    result = runner.run(suite)
    failed = len(result.broken)
    passed = result.testsRun - failed
    if result.testsRun == 0:
        print("no test matched", file=sys.stderr)
        failed = 1
    print(f"{max(passed, 0)} passed, {failed} failed", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
