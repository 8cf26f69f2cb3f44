"""One limit over many gateways while Redis is out of order, seen from outside: what callers get, and what the upstream gets.

Usage: faults.py [--seconds N] [--gateways N] [--rate N] [--mode leased|exact] [--fault NAME]...
(TOLLGATE_BIN names another build than target/debug/tollgate)

One account, three times as many requests as its rate, evenly over the gateways. Meanwhile Redis is killed and started again, stopped,
put to sleep, filled, demoted, made to forget its scripts, or loses a primary of its cluster. Nobody may be answered but 200 and
429, nobody may wait for Redis longer than a time-out, the upstream gets at most rate x time + burst + what all leases may hold
+ one request a gateway (with leases + half a burst an outage, else + what a gateway has not heard of yet when an outage begins, as
docs/scale.md has it), and Redis is in use again at the end.
"""

import argparse
import asyncio
import contextlib
import math
import signal
import sys
import tempfile
import time

from bound import Result, failures, lease_bound
from fleet import Cluster, CountingUpstream, Fleet, Redis, flood
from support import Keys, wait_until

COMMAND_TIMEOUT_S = 0.25
# What a busy machine may add to a request. Who waits for a Redis that is stopped waits longer than both together.
SLACK_S = 3.0
STOPPED_S = 5.0
KILLED_EVERY_S = 3.0
# Between the beginning of the load and the first fault, so that leases and connections are there.
CALM_S = 1.0
# Of what is due, so much must be admitted whatever happens: gateways go on with their shares.
SHARE_OF_DUE = 0.7


async def aside(work, *arguments):
    """Blocking work that must not hold up the load."""
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


async def killed(redis):
    """kill -9, half a second without, empty again."""
    while True:
        await aside(redis.kill)
        await asyncio.sleep(0.5)
        await aside(redis.restart)
        await asyncio.sleep(KILLED_EVERY_S - 0.5)


async def stopped(redis):
    """It takes connections and says nothing."""
    redis.signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(STOPPED_S)
    finally:
        redis.signal(signal.SIGCONT)


async def asleep(redis):
    """One command that takes long."""
    await aside(redis.ask, "DEBUG", "SLEEP", STOPPED_S)


async def for_a_while(redis, begin, end):
    await aside(redis.ask, *begin)
    try:
        await asyncio.sleep(STOPPED_S / 2)
    finally:
        redis.ask(*end)


async def full(redis):
    """Writes are refused with OOM."""
    await for_a_while(redis, ["CONFIG", "SET", "maxmemory", "1"], ["CONFIG", "SET", "maxmemory", "0"])


async def demoted(redis):
    """Writes are refused with READONLY, or the data are called stale."""
    await for_a_while(redis, ["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"])


async def forgetful(redis):
    """Scripts are gone, again and again."""
    while True:
        await aside(redis.ask, "SCRIPT", "FLUSH")
        await asyncio.sleep(0.2)


async def lost_primary(cluster):
    """The one that has the account's counts is killed; its replica takes over."""
    await aside(max(cluster.primaries, key=Redis.calls).kill)


FAULTS = {"killed": killed, "stopped": stopped, "asleep": asleep, "full": full, "demoted": demoted, "forgetful": forgetful,
          "lost-primary": lost_primary}


async def under_load(fault, redis, load):
    """The load, and from its first second on the fault until the load ends; it is undone then."""

    async def trouble():
        await asyncio.sleep(CALM_S)
        await fault(redis)

    task = asyncio.ensure_future(trouble())
    try:
        return await load
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def store_lines(redis, mode):
    urls = ", ".join(f'"{url}"' for url in redis.urls())
    return (f'kind = "redis"\nurls = [{urls}]\ntopology = "{redis.topology}"\nmode = "{mode}"\n'
            f'command_timeout = "{round(COMMAND_TIMEOUT_S * 1000)}ms"\n')


async def fault_case(name, arguments, keys, secret, folder):
    """One fault against fresh processes."""
    place = tempfile.mkdtemp(prefix=f"{name}-", dir=folder)
    rate, count = arguments.rate, arguments.gateways
    limits = f'[[limits]]\nname = "hot"\nstage = "global"\nrate = "{rate}/s"\nburst = {rate}\n'
    upstream = CountingUpstream()
    await upstream.start()
    start = Cluster if name == "lost-primary" else lambda place: Redis(place, lines=["enable-debug-command yes"])
    redis = await aside(start, place)
    try:
        fleet = await aside(lambda: Fleet(place, keys, upstream.port, store_lines(redis, arguments.mode), limits, count))
        try:
            # Who has not heard of the others yet would take the whole figure for its share of it.
            await aside(must_be_known, fleet, count)
            began = time.monotonic()
            load = flood([member.port for member in fleet.members], secret, 3 * rate, arguments.seconds)
            seen = await under_load(FAULTS[name], redis, load)
            took, admitted = time.monotonic() - began, len(upstream.moments)
            await aside(must_recover, redis, fleet)
        finally:
            await aside(fleet.close)
    finally:
        await aside(redis.close)
        upstream.close()
    return judge(name, arguments, seen, admitted, took)


def must_be_known(fleet, count):
    for member in fleet.members:
        wait_until("a gateway has its part", lambda member=member: member.metric("tollgate_store_parts") == count)


def must_recover(redis, fleet):
    redis.bring_back()
    for member in fleet.members:
        wait_until("a gateway uses Redis again", lambda member=member: member.metric("tollgate_store_up") == 1)


def judge(name, arguments, seen, admitted, took):
    rate, count = arguments.rate, arguments.gateways
    outages = math.ceil((took - CALM_S) / KILLED_EVERY_S) if name == "killed" else 1
    if arguments.mode == "leased":
        beyond = lease_bound(rate, count) + outages * rate / 2
    else:
        # A gateway goes on from what it last heard. Each asks rate * 3 / count times a second, and what all admit between two of
        # its asks it has not seen.
        beyond = outages * count * math.ceil(count / 3)
    due, most = rate * arguments.seconds + rate, rate * took + rate + beyond + count
    wrong = failures(name, seen)
    if admitted > most:
        wrong.append(f"{name}: {admitted} admitted, {most:.0f} at most")
    if admitted < SHARE_OF_DUE * due:
        wrong.append(f"{name}: {admitted} admitted, {due} were due")
    if seen.slowest_s > COMMAND_TIMEOUT_S + SLACK_S:
        wrong.append(f"{name}: a request took {seen.slowest_s:.2f} s")
    late = sum(seconds > COMMAND_TIMEOUT_S / 2 for seconds in seen.seconds)
    figures = (f"{seen.sent} sent, {admitted} admitted = {admitted / due:.1%} of {due} due, bound {most:.0f}; {late} took longer than "
               f"{COMMAND_TIMEOUT_S * 500:.0f} ms, the slowest {seen.slowest_s * 1000:.0f} ms; none answered 5xx: {not failures(name, seen)}")
    return Result(f"{arguments.mode}, {name}", figures, wrong)


def parse(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--gateways", type=int, default=4)
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--mode", choices=["leased", "exact"], default="leased")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), default=[])
    return parser.parse_args(words)


def run(words):
    """All chosen faults, one after another: their results."""
    arguments = parse(words)

    async def each(folder):
        keys = Keys(folder)
        secret, results = keys.new("acct_hot", mode="live", key_id="key_hot"), []
        for name in arguments.fault or FAULTS:
            results.append(await fault_case(name, arguments, keys, secret, folder))
            print(f"{results[-1].name}: {results[-1].figures}", flush=True)
        return results

    with tempfile.TemporaryDirectory(prefix="tollgate-faults-") as folder:
        return asyncio.run(each(folder))


def main():
    wrong = [line for result in run(sys.argv[1:]) for line in result.wrong]
    for line in wrong:
        print("WRONG", line)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
