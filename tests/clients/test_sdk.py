"""The official Python SDK through the gateway, in front of a third-party stand-in for the Stripe API."""

import concurrent.futures
import threading

import stripe

from support import DEADLINE_S, LOOPBACK, Case, answer_bytes, wait_until

STRIPE = 'presets = ["stripe"]'


def upstream(port):
    return f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{port}"]\n'


class StandIn(Case):
    """What a real client does all day: nothing of it may be broken by the gateway."""

    def setUp(self):
        super().setUp()
        self.mock = self.start_mock()

    def gateway_for(self, account="acct_platform", **key):
        secret = self.keys.new(account, **key)
        gateway = self.start_gateway(upstream(self.mock.port), top=STRIPE)
        return gateway, gateway.client(secret)

    def test_create_retrieve_update_and_list(self):
        _, client = self.gateway_for()
        made = client.v1.customers.create({"email": "jenny@example.com", "metadata": {"order": "6735"}})
        self.assertTrue(made.id.startswith("cus_"))
        changed = client.v1.customers.update(made.id, {"description": "a & b = c, ü"})
        self.assertEqual(changed.description, "a & b = c, ü")
        found = client.v1.customers.retrieve(made.id)
        self.assertEqual((found.email, found.metadata["order"]), ("jenny@example.com", "6735"))
        charge = client.v1.charges.create({"amount": 1250, "currency": "usd", "source": "tok_visa"})
        listed = client.v1.charges.list({"limit": 3})
        self.assertEqual([one.id for one in listed.data], [charge.id])

    def test_idempotent_replay(self):
        _, client = self.gateway_for()
        order = {"amount": 500, "currency": "usd", "source": "tok_visa"}
        options = {"idempotency_key": "order-6735"}
        first = client.v1.charges.create(order, options)
        again = client.v1.charges.create(order, options)
        self.assertEqual(again.id, first.id)
        self.assertEqual(again.last_response.headers["idempotent-replayed"], "true")
        self.assertEqual(again.last_response.headers["original-request"], first.last_response.headers["request-id"])
        self.assertNotIn("idempotent-replayed", first.last_response.headers)
        with self.assertRaises(stripe.IdempotencyError) as raised:
            client.v1.charges.create(order | {"amount": 501}, options)
        self.assertEqual(raised.exception.http_status, 400)
        self.assertEqual(len(client.v1.charges.list().data), 1)

    def test_an_upstreams_own_errors_pass_untouched(self):
        gateway, client = self.gateway_for()
        with self.assertRaises(stripe.InvalidRequestError) as raised:
            client.v1.customers.retrieve("cus_nobody")
        self.assertEqual((raised.exception.http_status, raised.exception.code), (404, "resource_missing"))
        with self.assertRaises(stripe.RateLimitError) as raised:
            client.v1.charges.create({"amount": 1, "currency": "usd", "source": "tok_429"})
        self.assertNotIn("stripe-rate-limited-reason", {name.lower() for name in raised.exception.headers})
        self.assertEqual(gateway.metric("tollgate_rejections_total"), 0)

    def test_connect_isolation(self):
        for account in ("acct_a", "acct_b", "acct_stranger"):
            self.mock.create_account(account)
        _, client = self.gateway_for(connected=("acct_a", "acct_b"))
        made = client.v1.customers.create({"email": "a@example.com"}, {"stripe_account": "acct_a"})
        self.assertEqual(client.v1.customers.retrieve(made.id, options={"stripe_account": "acct_a"}).id, made.id)
        for options in ({"stripe_account": "acct_b"}, {}):
            with self.assertRaises(stripe.InvalidRequestError) as raised:
                client.v1.customers.retrieve(made.id, options=options)
            self.assertEqual(raised.exception.http_status, 404)
        with self.assertRaises(stripe.PermissionError) as raised:
            client.v1.customers.list(options={"stripe_account": "acct_stranger"})
        self.assertEqual(raised.exception.http_status, 403)
        self.assertIn("acct_stranger", raised.exception.user_message)

    def test_a_burst_ends_in_a_rate_limit_error_with_its_reason(self):
        gateway, client = self.gateway_for()
        outcome = self.hammer(client)
        refused = outcome["refused"]
        self.assertGreaterEqual(outcome["admitted"], 25, "the burst of a test account is 25")
        error = refused[0]
        self.assertEqual((error.http_status, error.error.code), (429, "rate_limit"))
        self.assertEqual(error.error.type, "invalid_request_error")
        headers = {name.lower(): value for name, value in error.headers.items()}
        self.assertEqual(headers["stripe-rate-limited-reason"], "global-rate")
        self.assertRegex(headers["retry-after"], r"^[1-9]\d*$")
        self.assertIn("ratelimit", headers)
        self.assertIn("ratelimit-policy", headers)
        self.assertTrue(error.request_id.startswith("req_"))
        self.assertEqual(gateway.metric("tollgate_rejections_total", mode="test"), len(refused))
        self.assertEqual(gateway.metric("tollgate_rejections_total", reason="global-rate"), len(refused))
        # What was refused costs nothing: the account is served again as soon as a token is back.
        wait_until("the account is served again", lambda: self.is_served(client))

    def hammer(self, client):
        """Eight threads list charges until one is refused; bounded, so that a gateway without limits fails."""
        stop, lock = threading.Event(), threading.Lock()
        outcome = {"admitted": 0, "refused": []}

        def work():
            for _ in range(100):
                if stop.is_set():
                    return
                try:
                    client.v1.charges.list({"limit": 1})
                    with lock:
                        outcome["admitted"] += 1
                except stripe.RateLimitError as error:
                    stop.set()
                    with lock:
                        outcome["refused"].append(error)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(work) for _ in range(8)]:
                done.result(2 * DEADLINE_S)
        self.assertTrue(outcome["refused"], "800 requests in one go and none was refused")
        return outcome

    @staticmethod
    def is_served(client):
        try:
            client.v1.charges.list({"limit": 1})
            return True
        except stripe.RateLimitError:
            return False


class Authentication(Case):
    """Who is let in, and what a stranger learns."""

    def setUp(self):
        super().setUp()
        self.upstream = self.start_upstream()
        self.secret = self.keys.new("acct_platform", key_id="key_main")

    def start(self):
        return self.start_gateway(upstream(self.upstream.port), top=STRIPE)

    def test_unknown_key(self):
        gateway = self.start()
        wrong = "sk_test_" + "Zq7" * 8 + "Aso0"
        with self.assertRaises(stripe.AuthenticationError) as raised:
            gateway.client(wrong).v1.charges.list()
        error = raised.exception
        self.assertEqual(error.http_status, 401)
        self.assertRegex(error.user_message, r"^Invalid API Key provided: sk_test_\*+Aso0$")
        self.assertNotIn(wrong, str(error))
        self.assertNotIn(wrong[8:-4], gateway.log())
        answer = gateway.request("GET", "/v1/charges", wrong)
        self.assertEqual(set(self.assert_own_answer(answer, 401).error()), {"message", "type"})
        self.assertEqual(gateway.metric("tollgate_auth_failures_total"), 2)
        self.assertEqual(self.upstream.received, [])

    def test_no_key_and_malformed_ones(self):
        gateway = self.start()
        answer = self.assert_own_answer(gateway.curl(), 401)
        self.assertRegex(answer.header("www-authenticate") or "", r'^Basic realm="[^"]+"$')
        self.assertTrue(answer.error()["message"].startswith("You did not provide an API key."))
        for value in ("null", "Bearer", "Bearer ", "Basic", "Basic !!!", "Basic Og==", "Digest x", "Bearer a b", "\xff"):
            with self.subTest(authorization=value):
                self.assert_own_answer(gateway.request("GET", "/v1/charges", headers={"Authorization": value}), 401)
        self.assertEqual(self.upstream.received, [])

    def test_bearer_and_basic_by_curl(self):
        gateway = self.start()
        self.assertEqual(gateway.curl("--user", f"{self.secret}:").status, 200)
        self.assertEqual(gateway.curl("--oauth2-bearer", self.secret).status, 200)
        self.assertEqual(gateway.curl("--user", f"{self.secret}:", "--data", "amount=1").status, 200)
        self.assertEqual([one.method for one in self.upstream.received], ["GET", "GET", "POST"])

    def test_a_restricted_key_stays_in_its_list(self):
        secret = self.keys.new("acct_platform", kind="restricted", allow=("GET /v1/charges*",))
        client = self.start().client(secret)
        client.v1.charges.list()
        with self.assertRaises(stripe.PermissionError) as raised:
            client.v1.customers.list()
        self.assertEqual(raised.exception.http_status, 403)
        self.assertNotIn(secret, str(raised.exception))
        self.assertEqual(len(self.upstream.received), 1)

    def test_a_revoked_key_is_refused_without_a_restart(self):
        gateway = self.start()
        client = gateway.client(self.secret)
        client.v1.charges.list()
        self.keys.revoke("key_main")

        def refused():
            try:
                client.v1.charges.list()
                return False
            except stripe.AuthenticationError:
                return True
            except stripe.RateLimitError:
                return False

        wait_until("the revoked key is refused", refused)

    def test_the_upstream_learns_who_called_and_a_client_cannot_say_so(self):
        gateway = self.start()
        forged = {"Tollgate-Account": "acct_evil", "Tollgate-Mode": "live", "tollgate-key-id": "key_evil"}
        self.assertEqual(gateway.request("GET", "/v1/charges?limit=3", self.secret, headers=forged).status, 200)
        request = self.upstream.received[0]
        names = ("tollgate-account", "tollgate-mode", "tollgate-key-id")
        self.assertEqual([request.headers.get(name) for name in names], ["acct_platform", "test", "key_main"])
        self.assertEqual(request.target, "/v1/charges?limit=3")
        for name in ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "via", "request-id", "traceparent"):
            self.assertIn(name, request.headers)


class Retries(Case):
    """What the SDK does about a 429 is ours to say with one header."""

    BODY = """
[[endpoints]]
match = "GET /v1/charges"
[[limits]]
name = "one-an-hour"
stage = "endpoint"
rate = "1/h"
burst = 1
when = { endpoint = "GET /v1/charges" }
"""

    def refusals_of_one_call(self, responses):
        up = self.start_upstream()
        secret = self.keys.new("acct_platform")
        gateway = self.start_gateway(responses + upstream(up.port) + self.BODY)
        client = gateway.client(secret, max_network_retries=2)
        client.v1.charges.list()
        with self.assertRaises(stripe.RateLimitError) as raised:
            client.v1.charges.list()
        self.assertEqual(len(up.received), 1)
        return gateway.metric("tollgate_rejections_total", limit="one-an-hour"), raised.exception.headers

    def test_no_retry_by_default(self):
        count, headers = self.refusals_of_one_call("")
        self.assertEqual(count, 1)
        self.assertNotIn("stripe-should-retry", {name.lower() for name in headers})

    def test_retries_when_told_to(self):
        count, headers = self.refusals_of_one_call('[responses]\nshould_retry = "true"\n')
        self.assertEqual(count, 3)
        self.assertEqual({name.lower(): value for name, value in headers.items()}["stripe-should-retry"], "true")

    def test_none_when_told_not_to(self):
        count, headers = self.refusals_of_one_call('[responses]\nshould_retry = "false"\n')
        self.assertEqual(count, 1)
        self.assertEqual({name.lower(): value for name, value in headers.items()}["stripe-should-retry"], "false")

    def test_a_retried_write_keeps_its_idempotency_key(self):
        answers = iter([(500, {"error": {"type": "api_error", "message": "once"}}), (200, {"id": "ch_1"})])
        up = self.start_upstream(lambda request, connection: answer_bytes(*next(answers)))
        secret = self.keys.new("acct_platform")
        gateway = self.start_gateway(upstream(up.port))
        client = gateway.client(secret, max_network_retries=2)
        self.assertEqual(client.v1.charges.create({"amount": 1, "currency": "usd"}).id, "ch_1")
        keys = [one.headers["idempotency-key"] for one in up.received]
        self.assertEqual(len(keys), 2)
        self.assertEqual(keys[0], keys[1])
        self.assertEqual(up.received[0].body, up.received[1].body)
