"""What the commands write to a terminal, to a pipe, and to a pipe that nobody reads any more."""

import contextlib
import os
import pathlib
import pty
import subprocess
import tempfile
import unittest

from support import BINARY

DEADLINE_S = 60
CONFIG = """
[auth]
mode = "passthrough"
[upstreams.api]
servers = ["http://127.0.0.1:9"]
[[limits]]
name = "rate"
stage = "global"
rate = "5/s"
"""
LINE = (
    '{"ts":"2026-11-22T10:00:%02d.%03d000000Z","duration_ms":5,"request_id":"req_1","client":"192.0.2.1","account":"acct_1",'
    '"mode":"live","access":"read","endpoint":"any","method":"GET","path":"/v1/charges","status":200}\n'
)
ESCAPE = b"\x1b["
# What decides on color besides TERM: builders' machines are taken to show it.
DECIDING = {"CI", "CLICOLOR", "CLICOLOR_FORCE", "NO_COLOR"}


class Terminal(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tollgate-terminal-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "one.toml").write_text(CONFIG)
        # More than fits in any pipe, and enough for a bar to move.
        lines = (LINE % (number // 1_000, number % 1_000) for number in range(20_000))
        (self.folder / "trace.jsonl").write_text("".join(lines))

    def on_terminal(self, *arguments, stdout=None, **environment):
        """Runs with a terminal as standard error, and as standard output unless told otherwise; returns what that showed."""
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "rb", buffering=0) as screen:
            base = {name: value for name, value in os.environ.items() if name not in DECIDING}
            with subprocess.Popen(
                [BINARY, *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=theirs if stdout is None else stdout,
                stderr=theirs,
                env=base | {"TERM": "xterm-256color"} | environment,
            ) as child:
                os.close(theirs)
                shown = b""
                # A terminal whose last program has gone is an error to read from.
                with contextlib.suppress(OSError):
                    while piece := screen.read(65_536):
                        shown += piece
                self.assertEqual(child.wait(DEADLINE_S), 0, shown)
        return shown

    def test_an_explanation_has_color_on_a_terminal_only(self):
        explain = ["explain", "--config", "one.toml", "GET", "/v1/charges"]
        self.assertIn(ESCAPE, self.on_terminal(*explain))
        for environment in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            self.assertNotIn(ESCAPE, self.on_terminal(*explain, **environment), environment)
        piped = subprocess.run([BINARY, *explain], cwd=self.folder, capture_output=True, timeout=DEADLINE_S, check=True)
        self.assertNotIn(ESCAPE, piped.stdout)
        self.assertIn(b"rate", piped.stdout)

    def test_a_replay_shows_how_far_it_is_on_a_terminal_only(self):
        replay = ["replay", "--once", "--json", "--config", "one.toml", "trace.jsonl"]
        with tempfile.TemporaryFile() as out:
            shown = self.on_terminal(*replay, stdout=out).decode()
            out.seek(0)
            report = out.read()
        for piece in ("replaying", "% 8192 lines", "/s", " left"):
            self.assertIn(piece, shown)
        piped = subprocess.run([BINARY, *replay], cwd=self.folder, capture_output=True, timeout=DEADLINE_S, check=True)
        self.assertEqual((piped.stderr, piped.stdout), (b"", report))

    def test_who_stops_reading_gets_no_complaint(self):
        explain = ["explain", "--config", "one.toml", "GET", "/v1/charges"]
        replay = ["replay", "--once", "--config", "one.toml", "trace.jsonl"]
        shells = [["completions", shell] for shell in ("bash", "elvish", "fish", "powershell", "zsh")]
        for arguments in (explain, [*explain, "--json"], replay, [*replay, "--json"], ["schema"], ["--help"], *shells):
            with self.subTest(arguments=arguments):
                reader, writer = os.pipe()
                os.close(reader)
                with os.fdopen(writer, "wb") as nobody:
                    done = subprocess.run(
                        [BINARY, *arguments], cwd=self.folder, stdout=nobody, stderr=subprocess.PIPE, timeout=DEADLINE_S, check=False
                    )
                self.assertEqual((done.returncode, done.stderr), (0, b""))


if __name__ == "__main__":
    unittest.main()
