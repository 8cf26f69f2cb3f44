"""What passes through: bodies both ways, headers, trailers, connections."""

import hashlib
import http.client
import socket

from support import DEADLINE_S, LOOPBACK, Answer, Case, answer_bytes


class Forwarding(Case):
    """One gateway without limits in front of a scripted upstream."""

    def start(self, behavior=None):
        self.upstream = self.start_upstream(behavior)
        self.secret = self.keys.new("acct_platform", key_id="key_main")
        self.gateway = self.start_gateway(f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{self.upstream.port}"]\n')
        return self.gateway

    def head(self, line, *headers):
        lines = [line, "Host: api.example.com", f"Authorization: Bearer {self.secret}", *headers, "", ""]
        return "\r\n".join(lines).encode()

    def test_a_chunked_upload_arrives_whole(self):
        gateway = self.start()
        chunks = [bytes([number]) * 4099 for number in range(256)]
        answer = gateway.request("POST", "/v1/files", self.secret, iter(chunks))
        self.assertEqual(answer.status, 200)
        self.assertEqual(digest(self.upstream.received[0].body), digest(b"".join(chunks)))

    def test_an_upload_after_expect_by_curl(self):
        gateway = self.start()
        arguments = ("--user", f"{self.secret}:", "--data-binary", "x" * 100_000, "--expect100-timeout", "10")
        answer = gateway.curl(*arguments, "--header", "Expect: 100-continue", path="/v1/files")
        # curl shows the interim answer too.
        self.assertIn(answer.status, (100, 200))
        self.assertEqual(len(self.upstream.received[0].body), 100_000)
        self.assertNotIn("expect", self.upstream.received[0].headers)

    def test_a_large_answer_arrives_whole(self):
        body = b"".join(hashlib.sha256(bytes([n % 256, n // 256])).digest() for n in range(65_536)) * 4
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        gateway = self.start(lambda request, connection: head + body)
        answer = gateway.request("GET", "/v1/files/file_1/contents", self.secret)
        self.assertEqual((answer.header("content-type"), digest(answer.body)), ("text/csv", digest(body)))

    def test_an_answer_passes_untouched(self):
        sent = b"HTTP/1.1 402 X\r\nRequest-Id: req_upstream123\r\nStripe-Should-Retry: false\r\nX-Two: a\r\nX-Two: b\r\n"
        gateway = self.start(lambda request, connection: sent + b"Content-Length: 2\r\n\r\n{}")
        answer = gateway.request("POST", "/v1/charges", self.secret, b"amount=1")
        self.assertEqual((answer.status, answer.body), (402, b"{}"))
        self.assertEqual(answer.header("request-id"), "req_upstream123")
        self.assertEqual(answer.header("stripe-should-retry"), "false")
        self.assertEqual([value for name, value in answer.headers if name.lower() == "x-two"], ["a", "b"])

    def test_hop_by_hop_headers_end_here(self):
        gateway = self.start()
        private = ("Keep-Alive: 5", "Proxy-Authorization: x", "Proxy-Connection: y", "HTTP2-Settings: AAMAAABk")
        named = "Connection: keep-alive, X-Private, Tollgate-Account, HTTP2-Settings"
        answer = gateway.raw(self.head("GET /v1/charges HTTP/1.1", named, "X-Private: 1", "X-Public: 2", *private))
        self.assertEqual(answer.status, 200)
        received = self.upstream.received[0].headers
        for name in ("x-private", "keep-alive", "proxy-authorization", "proxy-connection", "http2-settings"):
            self.assertNotIn(name, received)
        self.assertEqual((received["x-public"], received["tollgate-account"]), ("2", "acct_platform"))
        self.assertEqual(received["tollgate-key-id"], "key_main")

    def test_trailers_pass_when_asked_for(self):
        chunked = b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n"
        gateway = self.start(lambda request, connection: chunked + b"2\r\nab\r\n0\r\nX-Sum: 42\r\n\r\n")
        data = self.head("GET /v1/charges HTTP/1.1", "TE: trailers", "Connection: TE, close")
        with socket.create_connection((LOOPBACK, gateway.port), DEADLINE_S) as connection:
            connection.sendall(data)
            received = b"".join(iter(lambda: connection.recv(65536), b"")).lower()
        self.assertTrue(received.endswith(b"0\r\nx-sum: 42\r\n\r\n"), received)

    def test_interim_answers_do_no_harm(self):
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 3
        gateway = self.start(lambda request, connection: early + answer_bytes(200, {"id": "ch_1"}))
        for _ in range(2):
            answer = gateway.request("GET", "/v1/charges", self.secret)
            self.assertEqual((answer.status, answer.body), (200, b'{"id": "ch_1"}'))

    def test_head_and_no_content_have_no_body_and_keep_the_connection(self):
        def behavior(request, connection):
            if request.method == "HEAD":
                return b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"
            return b"HTTP/1.1 204 No Content\r\n\r\n" if request.method == "DELETE" else answer_bytes(200, {})

        gateway = self.start(behavior)
        connection = http.client.HTTPConnection(LOOPBACK, gateway.port, timeout=DEADLINE_S)
        self.addCleanup(connection.close)
        for method, status in (("HEAD", 200), ("DELETE", 204), ("GET", 200)) * 2:
            connection.request(method, "/v1/x", headers={"Authorization": f"Bearer {self.secret}"})
            answer = Answer.read(connection.getresponse())
            self.assertEqual((method, answer.status), (method, status))
        self.assertEqual(self.upstream.accepted, 1, "one client connection, one upstream connection, used again")

    def test_a_stray_second_answer_reaches_nobody(self):
        stray = answer_bytes(200, {"id": "stray"})

        def behavior(request, connection):
            own = answer_bytes(200, {"id": request.target})
            return own + stray if request.target == "/v1/first" else own

        gateway = self.start(behavior)
        connection = http.client.HTTPConnection(LOOPBACK, gateway.port, timeout=DEADLINE_S)
        self.addCleanup(connection.close)
        for target in ("/v1/first", "/v1/second", "/v1/third"):
            connection.request("GET", target, headers={"Authorization": f"Bearer {self.secret}"})
            self.assertEqual(Answer.read(connection.getresponse()).body, f'{{"id": "{target}"}}'.encode())


def digest(data):
    return hashlib.sha256(data).hexdigest()
