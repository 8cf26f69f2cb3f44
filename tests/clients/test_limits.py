"""Limits seen from outside: exact counts, all or nothing, slots, reasons, metrics."""

import http.client
import socket
import threading

from support import DEADLINE_S, LOOPBACK, Case, answer_bytes, wait_until

ENDPOINTS = """
[[endpoints]]
match = "GET /v1/charges"
name = "charges.list"
[[endpoints]]
match = "GET /v1/customers"
name = "customers.list"
[[endpoints]]
match = "POST /v1/charges"
name = "charges.create"
"""

# Figures so slow that nothing comes back while a test runs: counts are exact.
SCARCE = """
[[limits]]
name = "account-budget"
stage = "global"
rate = "10/h"
burst = 10
[[limits]]
name = "charges-budget"
stage = "endpoint"
rate = "2/h"
burst = 2
when = { endpoint = "charges.list" }
"""


def concurrency(figure, stage="global"):
    return f'\n[[limits]]\nname = "slots"\nstage = "{stage}"\nconcurrency = {figure}\n'


class Limits(Case):
    """One gateway, one scripted upstream, limits of the test's own."""

    def start(self, limits, *, behavior=None, server=""):
        self.upstream = self.start_upstream(behavior)
        self.secret = self.keys.new("acct_platform")
        self.gateway = self.start_gateway(self.body(limits), server=server)
        return self.gateway

    def body(self, limits):
        return f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{self.upstream.port}"]\n' + ENDPOINTS + limits

    def get(self, path="/v1/charges", secret=None):
        return self.gateway.request("GET", path, secret or self.secret)

    def statuses(self, count, path="/v1/charges"):
        return [self.get(path).status for _ in range(count)]

    def background(self, path="/v1/charges"):
        """Sends a request from another thread; `result()` joins it."""
        answers = []
        thread = threading.Thread(target=lambda: answers.append(self.get(path)), daemon=True)
        thread.start()

        def result():
            thread.join(DEADLINE_S)
            self.assertTrue(answers, "no answer")
            return answers[0]

        return result

    def test_a_refused_request_costs_nothing(self):
        self.start(SCARCE)
        self.assertEqual(self.statuses(22), [200] * 2 + [429] * 20)
        self.assert_limited(self.get(), "endpoint-rate", "charges-budget")
        # Two tokens of ten are spent, not 23.
        self.assertEqual(self.statuses(9, "/v1/customers"), [200] * 8 + [429])
        self.assert_limited(self.get("/v1/customers"), "global-rate", "account-budget")
        self.assertEqual(len(self.upstream.received), 10)

    def test_metrics_count_what_the_client_saw(self):
        gateway = self.start(SCARCE)
        seen = self.statuses(15) + self.statuses(12, "/v1/customers")
        metric = gateway.metric
        self.assertEqual(metric("tollgate_rejections_total"), seen.count(429))
        self.assertEqual(metric("tollgate_rejections_total", reason="endpoint-rate", limit="charges-budget"), 13)
        self.assertEqual(metric("tollgate_rejections_total", reason="global-rate", limit="account-budget"), 4)
        self.assertEqual(metric("tollgate_requests_total", status="429"), seen.count(429))
        self.assertEqual(metric("tollgate_requests_total", status="200", mode="test", access="read"), seen.count(200))
        self.assertEqual(metric("tollgate_decisions_total", limit="charges-budget", verdict="reject"), 13)
        wait_until("nothing is in flight", lambda: gateway.in_flight() == 0)
        scrape = gateway.admin("/metrics")[1]
        self.assert_no_secret(scrape, "the metrics")
        self.assertNotIn("acct_platform", scrape)

    def test_accounts_and_modes_do_not_share(self):
        self.start(SCARCE)
        other = self.keys.new("acct_other")
        live = self.keys.new("acct_platform", mode="live")
        wait_until("the new keys are known", lambda: self.get("/v1/customers", live).status == 200)
        wait_until("the new keys are known", lambda: self.get("/v1/customers", other).status == 200)
        self.assertEqual(self.statuses(3), [200, 200, 429])
        for secret in (other, live):
            self.assertEqual([self.get(secret=secret).status for _ in range(3)], [200, 200, 429])

    def test_path_variants_share_one_bucket(self):
        self.start(SCARCE)
        dodges = ("//v1/charges", "/v1/./charges", "/v1/x/../charges", "/v1/%63harges", "/v1/charges/", "/v1//charges")
        dodges += ("/v1/charges;a=b", "/v1/%2e/charges", "/V1/Charges", "/v1/charges?", "/v1/charges?x=/v1/customers")
        self.assertEqual(self.get(dodges[0]).status, 200)
        self.assertEqual(self.get(dodges[1]).status, 200)
        self.assertEqual([one.target for one in self.upstream.received], ["/v1/charges"] * 2)
        for path in dodges:
            with self.subTest(path=path):
                self.assert_limited(self.get(path), "endpoint-rate", "charges-budget")
        for headers in ({"X-HTTP-Method-Override": "POST"}, {"X-Original-URL": "/v1/customers"}):
            with self.subTest(headers=headers):
                answer = self.gateway.request("GET", "/v1/charges", self.secret, headers=headers)
                self.assert_limited(answer, "endpoint-rate", "charges-budget")
        self.assertEqual(self.gateway.request("HEAD", "/v1/charges", self.secret).status, 429)

    def test_a_shadow_limit_refuses_nobody_and_is_counted(self):
        gateway = self.start(SCARCE.replace("burst = 2", "burst = 2\nenforce = false"))
        self.assertEqual(self.statuses(5), [200] * 5)
        self.assertEqual(gateway.metric("tollgate_decisions_total", limit="charges-budget", verdict="shadow_reject"), 3)
        self.assertEqual(gateway.metric("tollgate_rejections_total"), 0)

    def third_in_flight_is_refused(self, stage):
        gateway = self.start(concurrency(2, stage))
        self.upstream.hold()
        held = [self.background(), self.background()]
        wait_until("two requests are upstream", lambda: self.upstream.waiting == 2)
        self.assert_limited(self.get(), f"{stage}-concurrency", "slots", retry_after=False)
        self.upstream.release()
        self.assertEqual([one().status for one in held], [200, 200])
        wait_until("the slots are back", lambda: gateway.in_flight() == 0)
        self.assertEqual(self.statuses(4), [200] * 4)

    def test_the_third_in_flight_is_refused_by_a_global_limit(self):
        self.third_in_flight_is_refused("global")

    def test_the_third_in_flight_is_refused_by_an_endpoint_limit(self):
        self.third_in_flight_is_refused("endpoint")

    def test_a_slot_is_held_until_the_last_byte(self):
        gate = threading.Event()
        self.addCleanup(gate.set)

        def half_then_wait(request, connection):
            if request.target != "/v1/charges":
                return answer_bytes(200, {})
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            gate.wait(2 * DEADLINE_S)
            return b"full"

        gateway = self.start(concurrency(1), behavior=half_then_wait)
        connection = http.client.HTTPConnection(LOOPBACK, gateway.port, timeout=DEADLINE_S)
        self.addCleanup(connection.close)
        connection.request("GET", "/v1/charges", headers={"Authorization": f"Bearer {self.secret}"})
        answer = connection.getresponse()
        self.assertEqual(answer.read(4), b"half")
        self.assertEqual(self.get("/v1/customers").status, 429)
        gate.set()
        self.assertEqual(answer.read(), b"full")
        wait_until("the slot is back", lambda: self.get("/v1/customers").status == 200)

    def test_a_client_that_leaves_gives_its_slot_back(self):
        gateway = self.start(concurrency(1))
        self.upstream.hold()
        head = f"GET /v1/charges HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {self.secret}\r\n\r\n"
        with socket.create_connection((LOOPBACK, gateway.port), DEADLINE_S) as leaving:
            leaving.sendall(head.encode())
            wait_until("the request is upstream", lambda: self.upstream.waiting == 1)
            self.assertEqual(self.get().status, 429)
        wait_until("the slot is back", lambda: gateway.in_flight() == 0)
        self.upstream.release()
        self.assertEqual(self.get().status, 200)

    def test_an_upload_that_is_refused_still_gets_its_answer(self):
        self.start(SCARCE)
        self.assertEqual(self.statuses(10, "/v1/customers"), [200] * 10)
        body = b"x=" + b"y" * 50_000
        self.assert_limited(
            self.gateway.request("POST", "/v1/charges", self.secret, body), "global-rate", "account-budget"
        )
