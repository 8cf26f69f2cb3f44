"""The page of `tollgate replay --html` in a browser: what stands there is the report, and nothing else happens."""

import datetime
import json
import pathlib
import random
import re
import shutil
import subprocess
import tempfile
import unittest

from support import BINARY, NODE_MODULES

DEADLINE_S = 180
START = datetime.datetime(2026, 11, 22, 22, 40, tzinfo=datetime.timezone.utc)
CONFIG = """
[auth]
mode = "passthrough"
[upstreams.api]
servers = ["http://127.0.0.1:9"]
[[endpoints]]
match = "POST /v1/charges"
name = "charges.create"
[[endpoints]]
match = "GET /v1/files/{id}"
name = "files.retrieve"
[[limits]]
name = "rate"
stage = "global"
rate = "5/s"
[[limits]]
name = "slots"
stage = "endpoint"
concurrency = 2
when = { endpoint = "files.retrieve" }
[[limits]]
name = "shadow"
stage = "global"
rate = "2/s"
enforce = false
candidate = { rate = "1/s" }
"""
OTHER = CONFIG.replace("5/s", "9/s").replace('"slots"', '"other-slots"')
# Account names that would do something if they were markup, moved what follows, or pushed the page apart.
HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<!-- <script>",
    "&lt;b&gt;",
    "bell\u0007 escape\u001b[31m null\u0000",
    "\u202eturned\u202c",
    "long_" + "x" * 5_000,
    "\u540d\u524d" * 60,
]


def line(at_s, took_ms, account, request, **more):
    """A line of the gateway's access log."""
    method, path = request.split(" ")
    at = START + datetime.timedelta(seconds=at_s)
    return json.dumps(
        {
            "ts": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "duration_ms": took_ms,
            "request_id": "req_1",
            "client": "192.0.2.1",
            "account": account,
            "key_id": "key_1",
            "mode": "live",
            "endpoint": "any",
            "method": method,
            "path": path,
            "status": 200,
        }
        | more
    )


def busy():
    """An hour of many accounts, one of which bursts and one of which is slow: refusals of two limits."""
    chance = random.Random(7)
    rows = []
    for second in range(0, 4_000, 4):
        rows.append((second, 40.0, f"acct_{chance.randrange(30)}", "POST /v1/charges"))
        if second % 400 < 20:
            rows += [(second + number / 20, 40.0, "acct_bursts", "POST /v1/charges") for number in range(12)]
        if second % 1_000 < 40:
            rows += [(second + number / 10, 3_000.0, "acct_slow", "GET /v1/files/f_1") for number in range(4)]
    rows.sort()
    return [line(*row) for row in rows]


def hostile():
    """Every name often enough to be refused, and lines that are none."""
    rows = [(number * 3 + burst / 100, 5.0, name) for number, name in enumerate(HOSTILE) for burst in range(9 + number)]
    return [line(*row, "POST /v1/charges") for row in rows] + ['{"ts":', "no line at all"]


def calm():
    """Nobody is refused."""
    return [line(number * 500, 5.0, f"acct_{number % 9}", "POST /v1/charges") for number in range(100)]


def number(text):
    """The number that a cell begins with."""
    return int(re.match(r"[\d,]+", text).group().replace(",", ""))


def steps(path, buckets):
    """What an area's path says of each bucket, as [upper edge, lower edge]."""
    upper, lower = [None] * buckets, [None] * buckets
    x = y = 0
    for command, first, second in re.findall(r"([MHVZ])([\d.]*)(?: ([\d.]+))?", path):
        if command == "M":
            x, y = int(first), int(second)
        elif command == "V":
            y = int(first)
        elif command == "H":
            goal = int(first)
            edge = upper if goal > x else lower
            for bucket in range(min(x, goal), max(x, goal)):
                edge[bucket] = y
            x = goal
    return upper, lower


class Page(unittest.TestCase):
    """One browser looks at all pages."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="tollgate-report-")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        (cls.folder / "one.toml").write_text(CONFIG)
        (cls.folder / "other.toml").write_text(OTHER)
        traces = {"busy": busy(), "hostile": hostile(), "calm": calm(), "nothing": []}
        cls.reports = {}
        for name, lines in traces.items():
            (cls.folder / f"{name}.jsonl").write_text("".join(text + "\n" for text in lines))
            cls.reports[name] = cls.replay(name, f"{name}.jsonl")
        cls.reports["two"] = cls.replay("two", "--against", "other.toml", "busy.jsonl")
        views = [
            {"file": str(cls.folder / f"{name}.html"), "width": width, "scheme": scheme, "media": media}
            for name in cls.reports
            for width, scheme, media in ((1280, "light", "screen"), (390, "dark", "screen"), (688, "dark", "print"))
        ]
        browser = shutil.which("chromium")
        if browser is None:
            raise AssertionError("chromium is missing")
        script = str(pathlib.Path(__file__).with_name("browser.cjs"))
        arguments = ["node", script, NODE_MODULES, browser, json.dumps(views)]
        done = subprocess.run(arguments, capture_output=True, timeout=DEADLINE_S)
        if done.returncode != 0:
            raise AssertionError(f"the browser failed: {done.stderr.decode(errors='replace')[-4000:]}")
        seen = json.loads(done.stdout)
        cls.seen = {
            (pathlib.Path(view["file"]).stem, view["width"]): what for view, what in zip(views, seen, strict=True)
        }

    @classmethod
    def replay(cls, name, *arguments):
        """Replays, writes the page and returns the report."""
        command = [BINARY, "replay", "--config", "one.toml", "--json", "--html", f"{name}.html", *arguments]
        done = subprocess.run(command, cwd=cls.folder, capture_output=True, timeout=DEADLINE_S)
        if done.returncode != 0:
            raise AssertionError(done.stderr.decode(errors="replace"))
        return json.loads(done.stdout)

    def each(self):
        """Every page at every width; a failure says which it was."""
        for (name, width), seen in self.seen.items():
            self.at = f"{name} at {width}"
            yield self.reports[name], seen
        self.at = "all"

    def _formatMessage(self, msg, standard):
        return f"{getattr(self, 'at', 'all')}: {super()._formatMessage(msg, standard)}"

    def sides(self, report):
        return [report, report["against"]] if "against" in report else [report]

    def test_the_page_has_the_report_with_it(self):
        for report, seen in self.each():
            self.assertEqual(seen["data"], report)

    def test_nothing_is_loaded_run_or_complained_about(self):
        for _, seen in self.each():
            self.assertEqual(seen["wrong"], [])
            self.assertEqual(seen["scripts"], ["application/json"])
            self.assertEqual(seen["hostile"], [])

    def test_nothing_is_wider_than_the_screen(self):
        for _, seen in self.each():
            content, room = seen["room"]
            self.assertLessEqual(content, room)
            self.assertTrue(all(right <= room + 1 for right in seen["names"]), seen["names"])

    def test_dark_is_dark_and_print_is_not(self):
        for name in self.reports:
            grounds = [self.seen[name, width]["ground"] for width in (1280, 390, 688)]
            light, dark, paper = [sum(int(part) for part in re.findall(r"\d+", ground)[:3]) for ground in grounds]
            self.assertTrue(light > 600 and dark < 150 and paper > 600, grounds)

    def test_figures_at_a_glance(self):
        for report, seen in self.each():
            sides = self.sides(report)
            for key, value in {
                "admitted": lambda side: side["admitted"],
                "refused": lambda side: side["refused"],
                "accounts": lambda side: side["accounts"]["refused"],
                "peak": lambda side: side["peak"]["requests"] if side["peak"] else 0,
                "would_refuse": lambda side: side["would_refuse"],
                "recorded": lambda side: side["recorded"]["refused"],
            }.items():
                self.assertEqual([number(text) for text in seen["tiles"][key]], [value(side) for side in sides], key)

    def test_plots_draw_the_counts(self):
        drawn = 0
        for report, seen in self.each():
            for chart in seen["charts"]:
                names = dict((color, name) for name, color in chart["legend"])
                for side, figure in zip(self.sides(report), chart["figures"], strict=False):
                    timeline = side["timeline"]
                    buckets = len(timeline["admitted"])
                    refused = dict(timeline["refused"])
                    totals = [sum(counts[bucket] for counts in refused.values()) for bucket in range(buckets)]
                    wanted = {
                        "requests": lambda color: timeline["admitted"] if color == "ca" else totals,
                        "refusals": lambda color: refused[names[color]],
                        "busiest": lambda color: timeline["busiest_second"],
                    }[chart["key"]]
                    self.assertEqual(figure["viewBox"][:3], [0, 0, buckets])
                    for color, path in figure["paths"]:
                        upper, lower = steps(path, buckets)
                        counts = [below - above for above, below in zip(upper, lower, strict=True)]
                        self.assertEqual(counts, wanted(color), (chart["key"], color))
                        drawn += sum(counts) > 0
                    fills = figure["fills"]
                    self.assertEqual(len(set(fills)), len(fills), "colors that differ")
        self.assertGreater(drawn, 20)

    def test_plots_are_there_and_their_labels_apart(self):
        charts = {name: [chart["key"] for chart in self.seen[name, 1280]["charts"]] for name in self.reports}
        self.assertEqual(charts["busy"], ["requests", "refusals", "busiest"])
        self.assertEqual(charts["calm"], ["requests", "busiest"])
        self.assertEqual(charts["nothing"], [])
        for _, seen in self.each():
            for chart in seen["charts"]:
                for figure in chart["figures"]:
                    plot = figure["plot"]
                    self.assertGreater(plot["right"] - plot["left"], 200)
                    self.assertGreater(plot["bottom"] - plot["top"], 80)
                    below, beside = figure["labels"]
                    self.assertGreater(len(beside), 1)
                    for one, next_one in zip(below, below[1:]):
                        self.assertLess(one["right"], next_one["left"])
                    for one, next_one in zip(beside, beside[1:]):
                        self.assertLess(next_one["bottom"], one["top"] + 1)
                    self.assertTrue(all(0 <= label["left"] and label["right"] <= seen["room"][1] for label in below + beside))

    def test_limits_with_their_figures(self):
        for report, seen in self.each():
            rows = [row for row in seen["tables"]["limits"] if not row[0][1].startswith("candidate")]
            names = list(dict.fromkeys(limit["name"] for side in self.sides(report) for limit in side["limits"]))
            sides = self.sides(report)
            wanted = [next((x for x in side["limits"] if x["name"] == name), None) for name in names for side in sides]
            self.assertEqual(len(rows), len(wanted))
            for row, limit in zip(rows, wanted, strict=True):
                cells = dict((of, text) for of, text in row if of)
                if limit is None:
                    self.assertEqual(cells, {})
                    continue
                self.assertIn(limit["name"], row[0][1])
                self.assertIn(limit["reason"], row[0][1])
                counts = [number(cells[of]) for of in ("Admitted", "Refused", "Accounts refused")]
                self.assertEqual(counts, [limit["admitted"], limit["refused"], limit["accounts"]])
                for key, of in (("refuses_nobody", "Would refuse nobody"), ("refuses_one_in_1000", "Would refuse 0.1 % of accounts")):
                    figures = limit["suggested"][key]
                    written = figures and str(figures.get("rate") or figures.get("quota") or figures["concurrency"])
                    self.assertTrue(cells[of].startswith(written or "–"), (cells[of], figures))

    def test_accounts_and_endpoints(self):
        for report, seen in self.each():
            wanted = [[x for x in side["accounts"]["top"] if x["refused"]] for side in self.sides(report)]
            wanted = [side for side in wanted if side]
            self.assertEqual([len(side) for side in seen["bars"]], [len(side) for side in wanted])
            for bars, accounts in zip(seen["bars"], wanted, strict=True):
                for bar, account in zip(bars, accounts, strict=True):
                    self.assertEqual(number(bar["number"]), account["refused"])
                    self.assertEqual(bar["widths"], [count for _, count in account["by_limit"]])
            rows = {row[0][1]: [text for _, text in row] for row in seen["tables"].get("endpoints", [])}
            first = {x["name"]: x for x in report["endpoints"]}
            self.assertEqual(set(rows), set(first))
            for name, row in rows.items():
                self.assertEqual([number(row[2]), number(row[3])], [first[name]["admitted"], first[name]["refused"]])

    def test_names_are_shown_as_they_are_or_safely_cut(self):
        shown = {bar["name"] for bar in self.seen["hostile", 1280]["bars"][0]}
        self.assertEqual(len(shown), len(HOSTILE))
        self.assertLessEqual(set(HOSTILE[:5]), shown)
        self.assertIn("bell\ufffd escape\ufffd[31m null\ufffd", shown)
        self.assertIn("\ufffdturned\ufffd", shown)
        self.assertTrue(all(len(name) <= 80 for name in shown), shown)

    def test_what_changes(self):
        report, tables = self.reports["two"], self.seen["two", 1280]["tables"]
        difference = report["difference"]
        self.assertGreater(difference["newly_admitted"], 0)
        self.assertEqual(
            {row[0][1]: [number(text) for _, text in row[1:]] for row in tables["changed-accounts"]},
            {x["name"]: [x["newly_refused"], x["newly_admitted"], x["refused_elsewhere"]] for x in difference["accounts"]},
        )
        gone = dict(difference["no_longer_refused_by"])
        come = dict(difference["newly_refused_by"])
        self.assertEqual(
            {row[0][1]: [number(text) for _, text in row[1:]] for row in tables["changed-limits"]},
            {name: [come.get(name, 0), gone.get(name, 0)] for name in gone.keys() | come.keys()},
        )


if __name__ == "__main__":
    unittest.main()
