"""Hostile requests and broken upstreams: each gets one truthful answer, and the gateway serves on."""

import http.client
import socket

from support import DEADLINE_S, LOOPBACK, Case, ScriptedUpstream, answer_bytes, free_port, wait_until

GOOD_HOST = "Host: api.example.com"


def request(line, *headers, secret, body=""):
    """The bytes of a request whose lines are taken as they are."""
    lines = [line, *headers, f"Authorization: Bearer {secret}", "", body]
    return "\r\n".join(lines).encode("latin-1")


class Requests(Case):
    """What must never reach an upstream."""

    def setUp(self):
        super().setUp()
        self.upstream = self.start_upstream()
        self.secret = self.keys.new("acct_platform", mode="live")
        body = f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{self.upstream.port}"]\n'
        self.gateway = self.start_gateway(body, top='presets = ["stripe"]')

    def refused(self, name, data, status):
        """These bytes are answered with this status, nothing of them is forwarded, and the next request is served."""
        with self.subTest(name):
            before = len(self.upstream.received)
            answer = self.gateway.raw(data)
            self.assertEqual(len(self.upstream.received), before, "it reached the upstream")
            self.assert_own_answer(answer, status)
            wait_until("the next request is served", self.serves, deadline_s=5)

    def serves(self):
        return self.gateway.request("GET", "/v1/customers", self.secret).status == 200

    def refused_lines(self, cases, status):
        for name, line, *headers in cases:
            data = request(line, *(headers or [GOOD_HOST]), secret=self.secret)
            self.refused(name, data, status)

    def test_targets_that_have_no_canonical_form(self):
        targets = {
            "encoded slash": "/v1/customers%2fcus_1",
            "encoded backslash": "/v1/customers%5ccus_1",
            "backslash": "/v1/customers\\cus_1",
            "NUL": "/v1/customers%00",
            "encoded control": "/v1/customers%0a",
            "bad escape": "/v1/%zz",
            "truncated escape": "/v1/customers%4",
            "not UTF-8": "/v1/customers%ff",
            "overlong": "/v1/%c0%af",
            "fragment": "/v1/customers#x",
            "authority-form": "a:80",
            "a mark": "!",
            "no slash": "v1/customers",
            "star on GET": "*",
            "user-info": "http://a@b/v1/customers",
        }
        self.refused_lines([(name, f"GET {target} HTTP/1.1") for name, target in targets.items()], 400)

    def test_the_same_by_curl(self):
        for path in ("/v1/%2f", "/v1/%00", "/v1/%zz", "/v1/a\\b"):
            with self.subTest(path):
                self.assert_own_answer(self.gateway.curl("--user", f"{self.secret}:", path=path), 400)
        self.assert_own_answer(self.gateway.curl("--user", f"{self.secret}:", "--request", "TRACE"), 405)
        self.assertEqual(self.upstream.received, [])

    def test_host(self):
        line = "GET /v1/customers HTTP/1.1"
        cases = [
            ("two hosts", line, "Host: a", "Host: b"),
            ("the same twice", line, "Host: a", "Host: a"),
            ("no host", line, "X-Other: 1"),
            ("empty host", line, "Host: "),
            ("a path in it", line, "Host: a/../b?x"),
            ("a contradiction", "GET http://one/v1/customers HTTP/1.1", "Host: two"),
        ]
        self.refused_lines(cases, 400)

    def test_headers_that_decide_come_once(self):
        line = "POST /v1/customers HTTP/1.1"
        pairs = {
            "Authorization": "Bearer sk_live_x",
            "Stripe-Account": "acct_a",
            "Idempotency-Key": "k",
            "Content-Type": "application/json",
        }
        cases = [(name, line, GOOD_HOST, f"{name}: {value}", f"{name}: {value}2") for name, value in pairs.items()]
        self.refused_lines(cases, 400)

    def test_methods(self):
        self.refused_lines([("CONNECT", "CONNECT a:80 HTTP/1.1", "Host: a:80")], (405, 501))
        self.refused_lines([("TRACE", "TRACE /v1/customers HTTP/1.1")], 405)
        self.refused_lines([("a brace", "G{T /v1/customers HTTP/1.1")], 400)
        self.refused_lines([("5,000 letters", f"{'G' * 5000} /v1/customers HTTP/1.1")], (400, 501))

    def test_framing(self):
        line, chunked = "POST /v1/customers HTTP/1.1", "Transfer-Encoding: chunked"
        cases = [
            ("both framings", line, GOOD_HOST, "Content-Length: 2", chunked),
            ("two lengths", line, GOOD_HOST, "Content-Length: 2", "Content-Length: 3"),
            ("a list of lengths", line, GOOD_HOST, "Content-Length: 2, 2"),
            ("a signed length", line, GOOD_HOST, "Content-Length: +2"),
            ("a hex length", line, GOOD_HOST, "Content-Length: 0x2"),
            ("an empty length", line, GOOD_HOST, "Content-Length: "),
            ("a huge length", line, GOOD_HOST, "Content-Length: 18446744073709551616"),
            ("a fold", line, GOOD_HOST, "X-Folded: a", " b", "Content-Length: 0"),
            ("space before colon", line, GOOD_HOST, "X-Space : a", "Content-Length: 0"),
            ("no colon", line, GOOD_HOST, "nothing", "Content-Length: 0"),
            ("an empty name", line, GOOD_HOST, ": a", "Content-Length: 0"),
            ("NUL in a value", line, GOOD_HOST, "X-Nul: a\0b", "Content-Length: 0"),
            ("chunked in 1.0", "POST /v1/customers HTTP/1.0", GOOD_HOST, chunked),
        ]
        self.refused_lines(cases, 400)
        codings = ("xchunked", "chunked, gzip", "gzip, chunked", "identity", ",chunked")
        self.refused_lines([(one, line, GOOD_HOST, f"Transfer-Encoding: {one}") for one in codings], (400, 501))
        bare = f"GET /v1/customers HTTP/1.1\n{GOOD_HOST}\nAuthorization: Bearer {self.secret}\n\n"
        self.refused("bare line feeds", bare.encode(), 400)

    def test_a_bad_chunk_is_the_clients_fault(self):
        for size in ("0x1", "-1", "zz", "1" * 17):
            with self.subTest(size):
                body = f"{size}\r\na\r\n0\r\n\r\n"
                lines = ("POST /v1/customers HTTP/1.1", GOOD_HOST, "Transfer-Encoding: chunked")
                self.assert_own_answer(self.gateway.raw(request(*lines, secret=self.secret, body=body)), 400)
                self.assertTrue(self.serves())

    def test_heads_out_of_bounds(self):
        line = "GET /v1/customers HTTP/1.1"
        self.refused_lines([("a huge header", line, GOOD_HOST, "X-Big: " + "a" * 60_000)], 431)
        self.refused_lines([("many headers", line, GOOD_HOST, *[f"X-{n}: 1" for n in range(150)])], 431)
        self.refused_lines([("a long target", f"GET /v1/{'a' * 20_000} HTTP/1.1")], (414, 431))

    def test_other_protocols(self):
        self.refused_lines([("1.2", "GET /v1/customers HTTP/1.2")], (400, 505))
        self.refused_lines([("2.0", "GET /v1/customers HTTP/2.0")], (400, 505))
        self.refused("HTTP/0.9", b"GET /v1/customers\r\n\r\n", (400, 505))
        self.refused("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n", (400, 505))

    def test_pipelined_requests_are_each_answered(self):
        one = request("GET /v1/customers HTTP/1.1", GOOD_HOST, secret=self.secret)
        bad = request("GET /v1/%00 HTTP/1.1", GOOD_HOST, secret=self.secret)
        with socket.create_connection((LOOPBACK, self.gateway.port), DEADLINE_S) as connection:
            connection.sendall(one + one + bad)
            stream = connection.makefile("rb")
            statuses = [self.read_status(stream) for _ in range(3)]
        self.assertEqual(statuses, [200, 200, 400])

    @staticmethod
    def read_status(stream):
        """Reads one answer of a pipelined row to its end."""
        first = stream.readline(65536)
        length = 0
        for line in iter(lambda: stream.readline(65536).strip().lower(), b""):
            name, _, value = line.partition(b":")
            length = int(value) if name == b"content-length" else length
        stream.read(length)
        return int(first.split()[1]) if first else None


ROUTES = """
[upstreams.good]
servers = ["http://{host}:{good}"]
[upstreams.dead]
servers = ["http://{host}:{dead}"]
connect_timeout = "1s"
[upstreams.bad]
servers = ["http://{host}:{bad}"]
response_timeout = "500ms"
[[routes]]
path_prefix = "/v1"
upstream = "good"
[[routes]]
path_prefix = "/dead"
upstream = "dead"
[[routes]]
path_prefix = "/bad"
upstream = "bad"
[[limits]]
name = "slots"
stage = "global"
concurrency = 2
"""

GARBAGE = {
    "garbage": b"\x00\x01\x02 this is no HTTP \xff\xfe\r\n\r\n",
    "http-0.9": b"<html>hello</html>",
    "status-99": b"HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n",
    "two-lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "both-framings": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "huge-head": b"HTTP/1.1 200 OK\r\nX-Big: " + b"a" * 900_000 + b"\r\nContent-Length: 0\r\n\r\n",
}


class Upstreams(Case):
    """An upstream may do anything; the client learns what is true, and the slot comes back."""

    def setUp(self):
        super().setUp()
        good, bad = self.start_upstream(), self.use(ScriptedUpstream(self.misbehave))
        self.bad = bad
        self.secret = self.keys.new("acct_platform")
        ports = {"host": LOOPBACK, "good": good.port, "bad": bad.port, "dead": free_port()}
        self.gateway = self.start_gateway(ROUTES.format(**ports))

    def misbehave(self, received, connection):
        name = received.target.removeprefix("/bad/")
        if name in GARBAGE:
            connection.sendall(GARBAGE[name])
            return None
        if name == "silent":
            self.bad.wait_open()
            return None
        if name == "short":
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
            return None
        if name == "bad-chunk":
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n")
            return None
        if name == "own-429":
            return answer_bytes(429, {"error": {"type": "invalid_request_error", "code": "lock_timeout"}})
        return None  # "close": the connection ends without an answer

    def ask(self, path, method="GET"):
        return self.gateway.request(method, path, self.secret, b"amount=1" if method == "POST" else None)

    def serves_on(self):
        self.assertEqual(self.ask("/v1/customers").status, 200)
        wait_until("the slots are back", lambda: self.gateway.in_flight() == 0)

    def assert_api_error(self, answer, status):
        self.assert_own_answer(answer, status)
        self.assertEqual(answer.error()["type"], "api_error")

    def test_a_dead_upstream(self):
        for method in ("GET", "POST"):
            self.assert_api_error(self.ask("/dead/x", method), (502, 503))
            self.serves_on()

    def test_a_silent_upstream(self):
        self.bad.hold()
        for method, advice in (("GET", None), ("POST", "false")):
            answer = self.ask("/bad/silent", method)
            self.assert_api_error(answer, 504)
            if advice:
                self.assertEqual(answer.header("stripe-should-retry"), advice)
            self.serves_on()

    def test_garbage(self):
        for name in GARBAGE:
            with self.subTest(name):
                self.assert_api_error(self.ask(f"/bad/{name}"), 502)
                self.serves_on()

    def test_an_upstream_that_closes_without_an_answer(self):
        answer = self.ask("/bad/close", "POST")
        self.assert_api_error(answer, 502)
        self.assertEqual(answer.header("stripe-should-retry"), "false")
        self.serves_on()
        posts = [one for one in self.bad.received if one.method == "POST"]
        self.assertEqual(len(posts), 1, "a write is never sent twice")

    def test_a_cut_body_is_never_a_clean_end(self):
        for name in ("short", "bad-chunk"):
            with self.subTest(name):
                with self.assertRaises((http.client.IncompleteRead, ConnectionResetError)):
                    self.ask(f"/bad/{name}")
                self.serves_on()

    def test_an_upstreams_own_429_is_not_ours(self):
        answer = self.ask("/bad/own-429")
        self.assertEqual((answer.status, answer.error()["code"]), (429, "lock_timeout"))
        self.assertIsNone(answer.header("stripe-rate-limited-reason"))
        self.assertEqual(self.gateway.metric("tollgate_rejections_total"), 0)

    def test_no_route(self):
        self.assert_own_answer(self.ask("/elsewhere"), 404)
