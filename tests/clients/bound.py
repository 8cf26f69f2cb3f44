"""One limit over many gateways, seen from outside: what the upstream gets, held against what the limit says.

Usage: bound.py [--seconds N] [--gateways N] [--mode leased|exact] [--case NAME]...
(TOLLGATE_BIN names another build than target/debug/tollgate)

Rates: one account is hot, requests come at three times the rate (at least 60/s) whatever the answers are, spread evenly or with
nine tenths at one gateway. Admitted must be at most rate x time + burst + what all leases may hold, and at least 95 % of
rate x time + burst. Slots: the upstream counts how many requests it has at once. Kill: a gateway dies holding slots; they come
back within `lease_ttl`, and never more than the limit are at the upstream.
"""

import argparse
import asyncio
import dataclasses
import sys
import tempfile
import time

from fleet import Client, CountingUpstream, Fleet, Redis, Seen, flood, most_in_window
from support import Keys

SHARE_OF_DUE = 0.95
SKEW = 0.9
SLOTS = 30
LEASE_TTL_S = 5
# Of the slots, so many must be in use at once for a case to say anything.
USED = 0.8
PATIENCE_S = 30.0
# What a test on a busy machine may be late by, in what it takes for the beginning and the end of the load.
SLACK_S = 0.5


@dataclasses.dataclass
class Result:
    """One line of the table, and what is wrong with it."""

    name: str
    figures: str
    wrong: list


class Bench:
    """A Redis, an upstream and a fleet for each case."""

    def __init__(self, folder, arguments):
        self.folder, self.arguments = folder, arguments
        self.keys = Keys(folder)
        self.secret = self.keys.new("acct_hot", mode="live", key_id="key_hot")
        self.number = 0

    def store(self, redis):
        return (f'kind = "redis"\nurls = ["{redis.url()}"]\nmode = "{self.arguments.mode}"\nlease_ttl = "{LEASE_TTL_S}s"\n'
                'command_timeout = "250ms"\n')

    def place(self):
        """A folder for one more case."""
        self.number += 1
        return tempfile.mkdtemp(prefix=f"case-{self.number}-", dir=self.folder)

    async def with_fleet(self, limits, hold_s, work):
        """Runs `work(fleet, upstream, redis)` against fresh processes."""
        upstream, place = CountingUpstream(hold_s), self.place()
        await upstream.start()
        loop = asyncio.get_running_loop()
        redis = await loop.run_in_executor(None, lambda: Redis(place))
        try:
            # The upstream answers health checks meanwhile, if there are any: starting must not hold up the loop.
            count = self.arguments.gateways
            fleet = await loop.run_in_executor(
                None, lambda: Fleet(place, self.keys, upstream.port, self.store(redis), limits, count))
            try:
                return await work(fleet, upstream, redis)
            finally:
                await loop.run_in_executor(None, fleet.close)
        finally:
            await loop.run_in_executor(None, redis.close)
            upstream.close()


def lease_bound(burst, gateways):
    """What all leases together may hold, as docs/scale.md has it."""
    return gateways * max(1, burst // max(4, gateways))


async def rate_case(bench, rate, burst, skewed):
    arguments, name = bench.arguments, f"{rate}/s {'skewed' if skewed else 'even'}"
    limits = f'[[limits]]\nname = "hot"\nstage = "global"\nrate = "{rate}/s"\nburst = {burst}\n'

    async def work(fleet, upstream, redis):
        ports, before = [member.port for member in fleet.members], redis.calls()
        began = time.monotonic()
        seen = await flood(ports, bench.secret, max(60, 3 * rate), arguments.seconds, SKEW if skewed else None)
        took = time.monotonic() - began
        return seen, upstream.moments, took, redis.calls() - before

    seen, moments, took, calls = await bench.with_fleet(limits, 0.0, work)
    leased = lease_bound(burst, arguments.gateways) if arguments.mode == "leased" else 0
    due, admitted = rate * arguments.seconds + burst, len(moments)
    most = rate * took + burst + leased
    tenth = most_in_window(moments, 1.0)
    wrong = failures(name, seen)
    if admitted > most:
        wrong.append(f"{name}: {admitted} admitted, {most:.0f} at most")
    if tenth > rate * (1.0 + SLACK_S) + burst + leased:
        wrong.append(f"{name}: {tenth} within one second")
    if admitted < SHARE_OF_DUE * due:
        wrong.append(f"{name}: {admitted} admitted, {due} were due")
    if admitted != seen.count(200):
        wrong.append(f"{name}: {admitted} came to the upstream, {seen.count(200)} were answered")
    figures = (f"{seen.sent} sent, {admitted} admitted = {admitted / due:.1%} of {due} due, bound {most:.0f}; "
               f"{calls / seen.sent:.3f} calls of Redis a request; slowest {seen.slowest_s * 1000:.0f} ms")
    return Result(f"rate {name}", figures, wrong)


def failures(name, seen):
    wrong = [f"{name}: {count} answered with {status}" for status, count in seen.failures().items()]
    return wrong + ([f"{name}: {seen.lost} got no answer"] if seen.lost else [])


CONCURRENCY = f'[[limits]]\nname = "slots"\nstage = "global"\nconcurrency = {SLOTS}\n'


async def slots_case(bench):
    async def work(fleet, upstream, redis):
        ports = [member.port for member in fleet.members]
        seen = await flood(ports, bench.secret, 200, bench.arguments.seconds)
        return seen, upstream.most_at_once, redis

    seen, most, _ = await bench.with_fleet(CONCURRENCY, 0.4, work)
    wrong = failures("slots", seen)
    if most > SLOTS:
        wrong.append(f"slots: {most} at once at the upstream")
    if most < SLOTS * USED:
        wrong.append(f"slots: at most {most} of {SLOTS} were ever used")
    held = seen.count(200) * 0.4 / bench.arguments.seconds
    return Result("slots", f"{most} at once at most, {held:.1f} on average, of {SLOTS}", wrong)


async def batch(client):
    """As many requests at once as there are slots."""
    seen = Seen()
    await asyncio.gather(*[client.ask(seen) for _ in range(SLOTS)])
    return seen


async def kill_case(bench):
    """A gateway that holds slots is killed: another gets them, not before they have ended and not later than said."""

    async def work(fleet, upstream, redis):
        first, second = fleet.members[:2]
        client, began = Client(first.port, bench.secret), time.monotonic()
        asked = asyncio.ensure_future(batch(client))
        while upstream.at_once < SLOTS * USED:
            if asked.done():
                asked = asyncio.ensure_future(batch(client))
            if time.monotonic() - began > PATIENCE_S:
                break
            await asyncio.sleep(0.02)
        held = upstream.at_once
        first.process.kill()
        killed, client = time.monotonic(), Client(second.port, bench.secret)
        await asked
        while True:
            seen, sent = await batch(client), time.monotonic() - upstream.hold_s
            if seen.count(200) >= SLOTS * USED or sent - killed > PATIENCE_S:
                return held, seen, sent - killed, upstream.most_at_once

    held, seen, back_s, most = await bench.with_fleet(CONCURRENCY, 1.0, work)
    wrong = failures("kill", seen)
    if held < SLOTS * USED:
        wrong.append(f"kill: only {held} slots were in use when the gateway was killed")
    if seen.count(200) < SLOTS * USED or back_s > LEASE_TTL_S + 2.0 + SLACK_S:
        wrong.append(f"kill: {seen.count(200)} slots were back after {back_s:.1f} s")
    if most > SLOTS:
        wrong.append(f"kill: {most} at once at the upstream")
    figures = f"{held} of {SLOTS} slots held, back after {back_s:.1f} s, lease_ttl is {LEASE_TTL_S} s; {most} at once at most"
    return Result("kill -9 with slots held", figures, wrong)


def cases(arguments):
    every = {}
    for rate, burst in ((100, 100), (25, 25), (1, 1)):
        for skewed in (False, True):
            name = f"{rate}-{'skewed' if skewed else 'even'}"
            every[name] = lambda bench, rate=rate, burst=burst, skewed=skewed: rate_case(bench, rate, burst, skewed)
    every |= {"slots": slots_case, "kill": kill_case}
    unknown = set(arguments.case) - every.keys()
    if unknown:
        raise SystemExit(f"no such case: {', '.join(unknown)}; there are {', '.join(every)}")
    return [run for name, run in every.items() if not arguments.case or name in arguments.case]


def say(result):
    """As soon as it is known: a long run is watched."""
    print(f"{result.name}: {result.figures}", flush=True)
    return result


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--gateways", type=int, default=8)
    parser.add_argument("--mode", choices=["leased", "exact"], default="leased")
    parser.add_argument("--case", action="append", default=[])
    return parser.parse_args(words)


def run(words):
    """All chosen cases: their results."""
    arguments = parse(words)

    async def each(bench):
        return [say(await case(bench)) for case in cases(arguments)]

    with tempfile.TemporaryDirectory(prefix="tollgate-bound-") as folder:
        return asyncio.run(each(Bench(folder, arguments)))


def main():
    wrong = []
    for result in run(sys.argv[1:]):
        wrong += result.wrong
    for line in wrong:
        print("WRONG", line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
