"""Stripe's catalogue as its SDKs meet it: the preset `stripe`, figures lowered for one account, a scripted upstream.

Every test of `Catalogue` runs with every SDK that can be had: Python and Node (official), Rust (async-stripe). What differs
between them is written down in sdks.py and held to what each was seen to do.
"""

import json
import signal

from sdks import NodeSdk, PythonSdk, Recorder, RustSdk
from support import DEADLINE_S, LOOPBACK, Case, answer_bytes, wait_until

STRIPE = 'presets = ["stripe"]'
ACCOUNT = "acct_platform"
RETRIES = 2


def lowered(**figures):
    """Limits of the preset with figures of this account's own: small ones, so that a test sends few requests."""
    lines = "".join(f'limits.{name.replace("_", "-")} = {{ {figure} }}\n' for name, figure in figures.items())
    return f"\n[accounts.{ACCOUNT}]\n{lines}"


LOCK = """
[[endpoints]]
match = "POST /v1/payment_intents/{intent}"
name = "intents.update"
lock = { per = ["path.intent"], wait = "50ms" }
"""


def meter_event(customer, meter="tokens"):
    return {"event_name": meter, "payload": {"stripe_customer_id": customer, "value": "25"}}


def quantity(number):
    return {"items": [{"id": "si_1", "quantity": number}]}


class Catalogue:
    """What every SDK must see. A class below adds the SDK."""

    sdk_class = None

    def start(self, body="", *, top=STRIPE, mode="live"):
        self.upstream = self.start_upstream(lambda request, connection: answer_bytes(200, {"id": "done_1", "object": "x"}))
        secret = self.keys.new(ACCOUNT, mode=mode)
        text = f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{self.upstream.port}"]\n' + body
        self.gateway = self.start_gateway(text, top=top)
        self.sdk = self.sdk_class(self, secret)
        return self.gateway

    def send(self, operation, *arguments, **options):
        return self.sdk.send(self.gateway.port, operation, *arguments, **options)

    def call(self, operation, *arguments, **options):
        return self.send(operation, *arguments, **options).result(2 * DEADLINE_S)

    def assert_passed(self, outcome):
        self.assertEqual((outcome.status, outcome.message, outcome.id), (None, None, "done_1"))

    def assert_refused(self, outcome, reason, limit):
        """The SDK's error for a limit; the reason is read where the SDK shows it, and is counted anyway."""
        self.assertEqual((outcome.status, outcome.code), (429, "rate_limit"), outcome)
        self.assertIn(limit, outcome.message)
        self.assertGreater(self.gateway.metric("tollgate_rejections_total", reason=reason, limit=limit), 0)
        if self.sdk.shows_headers:
            self.assertEqual(outcome.kind, "StripeRateLimitError")
            self.assertEqual(outcome.headers["stripe-rate-limited-reason"], reason)

    def test_meter_events_one_in_flight_for_a_customer_and_meter(self):
        self.start()
        self.upstream.hold()
        held = [self.send("billing.meter_events.create", meter_event(name)) for name in ("cus_a", "cus_b")]
        wait_until("both customers are upstream", lambda: self.upstream.waiting == 2)
        refused = self.call("billing.meter_events.create", meter_event("cus_a"))
        self.assert_refused(refused, "resource-specific", "meter-event-in-flight")
        held.append(self.send("billing.meter_events.create", meter_event("cus_a", "requests")))
        wait_until("the other meter is upstream", lambda: self.upstream.waiting == 3)
        self.upstream.release()
        for one in held:
            self.assert_passed(one.result(DEADLINE_S))
        wait_until("the slots are back", lambda: self.gateway.in_flight() == 0)
        self.assert_passed(self.call("billing.meter_events.create", meter_event("cus_a")))
        self.assertEqual(len(self.upstream.received), 4)

    def test_updates_of_one_payment_intent(self):
        self.start(lowered(payment_intent_updates='quota = "3/h"'))
        for _ in range(3):
            self.assert_passed(self.call("payment_intents.update", "pi_1", {"description": "x"}))
        refused = self.call("payment_intents.update", "pi_1", {"description": "x"})
        self.assert_refused(refused, "resource-specific", "payment-intent-updates")
        self.assert_passed(self.call("payment_intents.update", "pi_2", {"description": "x"}))
        self.assertEqual(len(self.upstream.received), 4)

    def test_payouts_past_their_rate(self):
        self.start()
        passed, refused = 0, []
        # The preset's own figure comes back with time: eight at once are faster than 15 a second anywhere.
        for _ in range(40):
            batch = [self.send("payouts.create", {"amount": 1100, "currency": "usd"}) for _ in range(8)]
            outcomes = [one.result(2 * DEADLINE_S) for one in batch]
            passed += sum(one.id is not None for one in outcomes)
            refused = [one for one in outcomes if one.id is None]
            if refused:
                break
        self.assertTrue(refused, "320 payouts in a row and none was refused")
        self.assertGreaterEqual(passed, 15)
        for one in refused:
            self.assert_refused(one, "endpoint-rate", "payouts-rate")
        self.assertEqual(len(self.upstream.received), passed)

    def test_quantity_updates_of_one_subscription(self):
        self.start(lowered(quantity_updates='quota = "3/h"'))
        for number in range(3):
            self.assert_passed(self.call("subscriptions.update", "sub_1", quantity(number + 1)))
        refused = self.call("subscriptions.update", "sub_1", quantity(9))
        self.assert_refused(refused, "resource-specific", "quantity-updates")
        self.assert_passed(self.call("subscriptions.update", "sub_1", {"metadata": {"quantity": "9"}}))
        self.assert_passed(self.call("subscriptions.update", "sub_2", quantity(1)))
        # An item's update names no subscription: it counts by item.
        for _ in range(3):
            self.assert_passed(self.call("subscription_items.update", "si_1", {"quantity": 2}))
        refused = self.call("subscription_items.update", "si_1", {"quantity": 2})
        self.assert_refused(refused, "resource-specific", "quantity-updates")
        self.assertEqual(len(self.upstream.received), 8)

    def test_new_invoices_of_one_subscription(self):
        self.start(lowered(new_invoices_a_minute='quota = "3/h"'))
        prorated = {"proration_behavior": "always_invoice"}
        self.assert_passed(self.call("subscriptions.update", "sub_1", prorated))
        self.assert_passed(self.call("subscriptions.update", "sub_1", {"billing_cycle_anchor": "now"}))
        self.assert_passed(self.call("invoices.create", {"customer": "cus_a", "subscription": "sub_1"}))
        for refused in (
            self.call("invoices.create", {"customer": "cus_a", "subscription": "sub_1"}),
            self.call("subscriptions.update", "sub_1", prorated),
        ):
            self.assert_refused(refused, "resource-specific", "new-invoices-a-minute")
        self.assert_passed(self.call("invoices.create", {"customer": "cus_a"}))
        self.assert_passed(self.call("subscriptions.update", "sub_1", {"proration_behavior": "none"}))
        self.assert_passed(self.call("subscriptions.update", "sub_2", prorated))
        self.assertEqual(len(self.upstream.received), 6)

    def attempts_of_a_refused_call(self, responses=""):
        """Spends a quota of one, then calls again with retries on; the attempts as they were sent."""
        self.start(responses + lowered(payment_intent_updates='quota = "1/h"'))
        self.assert_passed(self.call("payment_intents.update", "pi_1", {"description": "x"}))
        recorder = self.use(Recorder(self.gateway))
        call = self.sdk.send(recorder.port, "payment_intents.update", "pi_1", {"description": "y"}, retries=RETRIES)
        self.assert_refused(call.result(2 * DEADLINE_S), "resource-specific", "payment-intent-updates")
        attempts = recorder.received
        rejections = self.gateway.metric("tollgate_rejections_total", limit="payment-intent-updates")
        self.assertEqual(len(attempts), rejections)
        self.assertEqual(len(self.upstream.received), 1)
        return attempts

    def assert_one_key(self, attempts):
        keys = {one.headers["idempotency-key"] for one in attempts}
        self.assertEqual(len(keys), 1)
        self.assertEqual(len({one.body for one in attempts}), 1)

    def test_a_plain_429_is_final(self):
        attempts = self.attempts_of_a_refused_call()
        self.assertEqual(len(attempts), 1 + RETRIES if self.sdk.retries_any_429 else 1)

    def test_a_429_is_retried_when_the_header_says_so(self):
        attempts = self.attempts_of_a_refused_call('[responses]\nshould_retry = "true"\n')
        self.assertEqual(len(attempts), 1 + RETRIES)
        self.assert_one_key(attempts)

    def test_a_429_is_final_when_the_header_says_so(self):
        self.assertEqual(len(self.attempts_of_a_refused_call('[responses]\nshould_retry = "false"\n')), 1)

    def test_a_spent_quota_outlives_a_kill(self):
        state = '\n[state]\ndir = "state"\npersist_interval = "100ms"\n'
        gateway = self.start(state + lowered(payment_intent_updates='quota = "2/h"'))
        for _ in range(2):
            self.assert_passed(self.call("payment_intents.update", "pi_1", {"description": "x"}))
        # The write that brings another object's count to disk brings all that was spent before.
        self.assert_passed(self.call("payment_intents.update", "pi_2", {"description": "x"}))
        wait_until("the counts are on disk", lambda: gateway.metric("tollgate_state_windows") == 2)
        gateway.kill_and_run()
        refused = self.call("payment_intents.update", "pi_1", {"description": "x"})
        self.assert_refused(refused, "resource-specific", "payment-intent-updates")
        self.assert_passed(self.call("payment_intents.update", "pi_3", {"description": "x"}))
        self.assertEqual(len(self.upstream.received), 4)

    def start_locked(self):
        """One update of `pi_1` is upstream and holds the lock until `release()`."""
        self.start(LOCK)
        self.upstream.hold()
        first = self.send("payment_intents.update", "pi_1", {"description": "first"})
        wait_until("the first is upstream", lambda: self.upstream.waiting == 1)
        return first

    def timeouts(self):
        return self.gateway.metric("tollgate_lock_timeouts_total", endpoint="intents.update", cause="waited")

    def test_a_lock_timeout_is_retried_and_succeeds(self):
        first = self.start_locked()

        def end_the_first(status, body):
            if status == 429:
                self.assertEqual(json.loads(body)["error"]["code"], "lock_timeout")
                self.upstream.release()
                self.assert_passed(first.result(DEADLINE_S))

        recorder = self.use(Recorder(self.gateway, end_the_first))
        second = self.sdk.send(recorder.port, "payment_intents.update", "pi_1", {"description": "second"}, retries=RETRIES)
        self.assert_passed(second.result(2 * DEADLINE_S))
        self.assertEqual(self.timeouts(), 1)
        self.assertEqual(len(recorder.received), 2)
        self.assert_one_key(recorder.received)
        bodies = [one.body for one in self.upstream.received]
        self.assertEqual(bodies, [b"description=first", b"description=second"])

    def test_a_lock_timeout_without_retries(self):
        first = self.start_locked()
        refused = self.call("payment_intents.update", "pi_1", {"description": "second"})
        self.assertEqual((refused.status, refused.code), (429, "lock_timeout"))
        if self.sdk.shows_headers:
            self.assertEqual(refused.kind, "StripeRateLimitError")
            self.assertEqual(refused.headers["stripe-should-retry"], "true")
            self.assertNotIn("stripe-rate-limited-reason", refused.headers)
        self.upstream.release()
        self.assert_passed(first.result(DEADLINE_S))
        self.assertEqual(self.timeouts(), 1)
        self.assertEqual(len(self.upstream.received), 1)


class PythonCatalogue(Catalogue, Case):
    """stripe from PyPI."""

    sdk_class = PythonSdk


class NodeCatalogue(Catalogue, Case):
    """stripe from npm."""

    sdk_class = NodeSdk


class RustCatalogue(Catalogue, Case):
    """async-stripe, from the community."""

    sdk_class = RustSdk
