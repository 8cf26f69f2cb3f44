"""What is measured: contenders that do equal work, one load, and the figures that Tollgate has to reach beside them."""
import collections
import math
import statistics

import loads
from contenders import MAX_CONNECTIONS, haproxy, nginx, raw_forwarder, tollgate


class Case:
    """A load that contenders take turns at. `bounds` are the highest ratios of Tollgate's CPU time a request to a peer's."""

    def __init__(self, name, title, contenders, load, bounds=None, main="tollgate", beside=None):
        self.name, self.title, self.contenders, self.load = name, title, contenders, load
        self.bounds, self.main, self.rounds, self.notes = bounds or {}, main, {}, []
        self.beside = beside or [contender.name for contender in contenders if contender.name != main]

    def run(self, bench, arguments):
        self.rounds = {contender.name: [] for contender in self.contenders}
        try:
            for contender in self.contenders:
                contender.start(bench)
                self.load(contender, bench, 1)
            for turn in range(arguments.rounds):
                for contender in self.contenders if turn % 2 == 0 else self.contenders[::-1]:
                    self.rounds[contender.name].append(self.one_round(contender, bench, arguments.seconds))
            self.after(bench, arguments)
        finally:
            for contender in self.contenders:
                contender.stop()

    def one_round(self, contender, bench, seconds):
        before, split_before = contender.processor_seconds(), contender.system_share()
        result = self.load(contender, bench, seconds)
        after, split_after = contender.processor_seconds(), contender.system_share()
        check(contender, result)
        user, system = (b - a for a, b in zip(split_before, split_after))
        return {**result, "cpu": (after - before) / result["requests"] * 1e6, "user": user / max(user + system, 1e-9),
                "rss": contender.resident_kib() / 1024}

    def after(self, bench, arguments):
        """What a case measures besides, while its contenders run."""

    def middle(self, name, key="cpu"):
        return statistics.median(one[key] for one in self.rounds[name])

    def ratio(self, name, peer, key="cpu"):
        """The median of the ratios round by round: what disturbed a round disturbed both."""
        return statistics.median(a[key] / b[key] for a, b in zip(self.rounds[name], self.rounds[peer]))

    def verdicts(self):
        """(what, figure, bound) for each bound."""
        return [(f"CPU vs {peer}", self.ratio(self.main, peer), bound) for peer, bound in self.bounds.items()]

    def render(self):
        peers = self.beside
        head = ["contender", "CPU µs/request", "spread", "user", "requests/s", "p50 µs", "p99 µs", "RSS MiB"]
        lines = row(head + [f"CPU vs {peer}" for peer in peers]) + ["|---" + "|---:" * (len(head) + len(peers) - 1) + "|"]
        for contender in self.contenders:
            name, all_cpu = contender.name, [one["cpu"] for one in self.rounds[contender.name]]
            cells = [name, f"{statistics.median(all_cpu):.2f}", f"{min(all_cpu):.2f}–{max(all_cpu):.2f}",
                     f"{self.middle(name, 'user'):.0%}", f"{self.middle(name, 'rate'):.0f}", figure(self.middle(name, "p50")),
                     figure(self.middle(name, "p99")), f"{self.middle(name, 'rss'):.1f}"]
            lines += row(cells + [f"{self.ratio(name, peer):.2f}" for peer in peers])
        return lines + [""] + [f"- {note}" for note in self.notes]


def check(contender, result):
    done, refused = result["requests"], result["refused"]
    fine = done and (refused > 0.9 * done if contender.refuses else refused == 0)
    if not fine or result["errors"]:
        raise SystemExit(f"{contender.name}: {done} requests, {refused} refused, errors: {result['errors']}")


def row(cells):
    return ["| " + " | ".join(cells) + " |"]


def figure(value):
    return "" if math.isnan(value) else f"{value:.0f}"


class Paced(Case):
    """Open loop at half of what HAProxy can take, the same rate for all; what each adds to what the load takes when it asks
    itself. That it asks, and answers as the upstream, without ever leaving its core, is why rounds are alike.

    Percentiles are of each tenth of a second (some two thousand requests), and the figure is their median over all rounds.
    On a machine that is shared, a core stops for some milliseconds now and then, whoever runs on it (the kernel's own threads,
    the host), and everything that is due meanwhile waits: one such stop in two seconds, and the worst hundredth of the whole
    round is what waited for it. What a contender itself stops for now and then does not show in such a median: for that, p99 of
    the slowest tenth of all windows, how many windows a stop spoiled, and percentiles of whole rounds are told beside."""

    KEYS = ("p50", "p99", "p999")
    CONNECTIONS = 32
    # Who waits longer, in microseconds, waited for something that stopped.
    STOPPED = 1000

    def __init__(self, name, title, contenders):
        super().__init__(name, title, contenders, self.paced)
        self.rate, self.bare, self.loop = 0, {}, None

    def paced(self, contender, _bench, seconds):
        before, own_before = contender.waited_seconds(), self.loop.waited_seconds()
        seen = self.loop.run(contender.port, self.rate, self.CONNECTIONS, seconds)
        put_off, own = contender.waited_seconds() - before, self.loop.waited_seconds() - own_before
        return {**seen, "put off": f"{put_off / seconds:.1%} and {own / seconds:.1%}"}

    def run(self, bench, arguments):
        self.rate = saturation(bench) // 2
        with loads.OpenLoop(bench) as self.loop, bench.upstream_at(self.loop.port):
            super().run(bench, arguments)

    def after(self, bench, arguments):
        runs = [self.paced(self.loop, bench, arguments.seconds) for _ in range(arguments.rounds)]
        self.bare = {key: of_windows(runs, key) for key in self.KEYS}
        self.notes.append(f"{self.rate} requests/s on {self.CONNECTIONS} connections. The load by itself: "
                          + ", ".join(f"{key} {self.bare[key]:.0f} µs" for key in self.KEYS) + ", taken off above.")
        for contender in self.contenders:
            each = self.rounds[contender.name]
            self.notes.append(f"{contender.name}: p50 and p99 of each whole round "
                              + ", ".join(f"{run['p50']:.0f} and {run['p99']:.0f} µs ({run['put off']})" for run in each))
        self.notes.append("In parentheses: for how much of the round the contender, and the load, waited for their core because others "
                          "of the machine had it. From 1 % on, p99 is theirs; with half of it, everything is.")

    def added(self, name, key):
        return max(of_windows(self.rounds[name], key) - self.bare[key], 0.1)

    def stopped(self, name):
        """The share of windows in which a hundredth of the requests waited for something that had stopped."""
        return statistics.mean(window["p99"] > self.STOPPED for run in self.rounds[name] for window in run["windows"])

    def slowest(self, name):
        """p99 of the window that a tenth of all windows are slower than."""
        return statistics.quantiles([window["p99"] for run in self.rounds[name] for window in run["windows"]], n=10)[-1]

    def verdicts(self):
        return [(f"added {key} vs haproxy", self.added(self.main, key) / self.added("haproxy", key), 1.0) for key in self.KEYS]

    def render(self):
        head = ["contender", "CPU µs/request"] + [f"added {key} µs" for key in self.KEYS] + [f"{key} vs haproxy" for key in self.KEYS]
        head += ["tenths of a second spoiled", "p99 µs, slowest tenth of them", "p99 µs, whole rounds", "p999 µs, whole rounds"]
        lines = row(head) + ["|---" + "|---:" * (len(head) - 1) + "|"]
        for contender in self.contenders:
            name = contender.name
            lines += row([name, f"{self.middle(name):.2f}"] + [f"{self.added(name, key):.0f}" for key in self.KEYS]
                         + [f"{self.added(name, key) / self.added('haproxy', key):.2f}" for key in self.KEYS]
                         + [f"{self.stopped(name):.0%}", f"{self.slowest(name):.0f}", f"{self.middle(name, 'p99'):.0f}", f"{self.middle(name, 'p999'):.0f}"])
        return lines + [""] + [f"- {note}" for note in self.notes]


def of_windows(runs, key):
    return statistics.median(window[key] for run in runs for window in run["windows"])


class Crowded(Case):
    """Many connections that are open and idle, 64 that are not; what each idle one costs."""

    def __init__(self, idle, **more):
        super().__init__(f"connections-{idle}", f"{idle} idle connections beside 64 busy ones",
                         [raw_forwarder(), haproxy(), nginx(), tollgate()], get, **more)
        self.idle, self.each = idle, {}

    def run(self, bench, arguments):
        self.rounds = {contender.name: [] for contender in self.contenders}
        # One at a time: together, they would need more descriptors than one load generator has.
        for contender in self.contenders:
            try:
                contender.start(bench)
                loads.wrk(contender, 64, 1)
                before = contender.resident_kib()
                with loads.Held(contender, bench, self.idle):
                    self.each[contender.name] = (contender.resident_kib() - before) / self.idle
                    for _ in range(arguments.rounds):
                        self.rounds[contender.name].append(self.one_round(contender, bench, arguments.seconds))
            finally:
                contender.stop()
        self.notes += [f"{name}: {kib:.2f} KiB for each idle connection" for name, kib in self.each.items()]

    def verdicts(self):
        return super().verdicts() + [("KiB an idle connection", self.each[self.main], 8.0)]


class Accounts(Case):
    """The same GET by one account and by many in random order, which Tollgate tells apart by their keys alone
    (`mode = "passthrough"`): what a request costs in the long run.

    Of a million accounts each asks every 20 or 30 seconds. By then its bucket is full again, and whether it is still known is
    for each contender to say: HAProxy forgets after 10 seconds, Tollgate looks for what is idle every 10, nginx keeps 60 or as
    much as fits. So there is no load under which all of them would know a million accounts, nor would users have one. Making
    what is counted for an account, finding it among the others and forgetting it are all part of what a request costs them,
    but in the first seconds hardly anything is there to be found, and nothing to be forgotten: a request is cheaper then, with
    HAProxy by a fifth to a third. Hence a round begins with 10 seconds that do not count, and lasts 10, so that each has tidied
    up once. Ten thousand accounts ask several times a second: they are made in the second before, and used."""

    # How many, seconds before a round, and seconds that a round has at least.
    MANY = ((1, 1, 1), (10_000, 1, 1), (1_000_000, 10, 10))

    def __init__(self):
        contenders = [make(accounts=many[0], label=f"{make.__name__}, {many[0]:,} accounts")
                      for make in (haproxy, nginx, tollgate) for many in self.MANY]
        super().__init__("accounts", "Accounts: one, 10,000 and 1,000,000 in random order", contenders, self.by_many,
                         main="tollgate, 1,000,000 accounts", beside=["tollgate, 1 accounts", "haproxy, 1,000,000 accounts"])
        self.notes.append("A round of 1,000,000 lasts 10 s at least, after 10 s that do not count.")
        self.seeds = collections.Counter()

    def one_round(self, contender, bench, seconds):
        before, least = next(rest for count, *rest in self.MANY if count == contender.accounts)
        self.by_many(contender, bench, before)
        return super().one_round(contender, bench, max(seconds, least))

    def by_many(self, contender, bench, seconds):
        # Each load has a sequence of its own, or it would meet those whom the one before met: the same for all contenders.
        self.seeds[contender.name] += 1
        return loads.closed(contender, bench, 64, seconds, contender.accounts, self.seeds[contender.name])

    def verdicts(self):
        return [("CPU, 1,000,000 accounts vs 1", self.ratio(self.main, "tollgate, 1 accounts"), 1.15)]


class Cores(Case):
    """One thread on one core, two threads on both: what a request costs then. The load generator and the upstream share the
    second core, so throughput itself would measure them; requests per second of processor time is what is compared."""

    def __init__(self):
        contenders = [make(threads=n, label=f"{make.__name__}, {n} threads") for make in (haproxy, nginx, tollgate) for n in (1, 2)]
        super().__init__("cores", "Two cores against one, one hot account", contenders, get, main="tollgate, 2 threads", beside=["tollgate, 1 threads", "haproxy, 2 threads"])

    def verdicts(self):
        gain = 2 / self.ratio(self.main, "tollgate, 1 threads")
        # Turned over, so that less is better here too.
        return [(f"1.7 / gain of a second core ({gain:.2f})", 1.7 / gain, 1.0)]


def get(contender, _bench, seconds):
    return loads.wrk(contender, 64, seconds)


def post(length):
    return lambda contender, _bench, seconds: loads.wrk(contender, 64, seconds, "post.lua", length)


def get_h2(contender, _bench, seconds):
    return loads.h2load(contender, 16, 4, seconds)


def saturation(bench):
    """Requests a second that HAProxy can take. What disturbs it only lowers that, so it is the best of three."""
    probe = haproxy()
    try:
        probe.start(bench)
        return int(max(loads.wrk(probe, 64, 1)["rate"] for _ in range(3)))
    finally:
        probe.stop()


def peers(**options):
    return [haproxy(**options), nginx(**options), tollgate(**options)]


def all_cases(also):
    """Every case. `also` are further builds of Tollgate, as (name, binary)."""
    others = [tollgate(f"tollgate {name}", binary) for name, binary in also]
    no_limits = tollgate("tollgate, no limits", template="tollgate-no-limits.toml")
    return [
        Case("get", "Forwarded GET", [raw_forwarder()] + peers() + [no_limits] + others, get,
             {"haproxy": 0.90, "nginx": 0.75, "raw forwarder": 1.25, "tollgate, no limits": 1.06}),
        Case("refuse", "Refused with 429", peers(refuses=True) + [
            tollgate(f"tollgate {name}", binary, refuses=True) for name, binary in also], get, {"nginx": 0.90, "haproxy": 0.85}),
        Case("post-1k", "POST with 1 KB", [raw_forwarder()] + peers(), post(1024)),
        Case("post-64k", "POST with 64 KB", [raw_forwarder()] + peers(), post(65536), {"haproxy": 1.0}),
        Case("tls-h1", "TLS 1.3, HTTP/1.1", peers(tls=True), get, {"haproxy": 1.0, "nginx": 1.0}),
        Case("tls-h2", "TLS 1.3, HTTP/2, 16 connections of 4 streams", peers(tls=True), get_h2, {"haproxy": 1.0, "nginx": 1.0}),
        Accounts(),
        Crowded(1_000),
        # 10,000, or as many as descriptors allow.
        Crowded(MAX_CONNECTIONS - 100 if MAX_CONNECTIONS < 10_200 else 10_000),
        Paced("latency", "Latency at half load, open loop", [raw_forwarder()] + peers() + others),
        Cores(),
    ]
