"""The mock API through the gateway, as the official SDKs for Python and Node see it."""

import json
import re
import time

from sdks import NodeSdk, PythonSdk, RustSdk
from support import BINARY, LOOPBACK, Case, Program, wait_until


class Mock(Case):
    """`tollgate mock` behind `tollgate run` with the preset's endpoints and no limit that a test could meet."""

    def start(self, *flags):
        mock = self.use(Program([BINARY, "mock", "--listen", f"{LOOPBACK}:0", *flags], self.folder, "mock"))
        found = wait_until("the mock listens", lambda: mock.must_live() and re.search(rf"{LOOPBACK}:(\d+)", mock.log()))
        self.secret = self.keys.new("acct_platform", mode="live")
        body = f'[upstreams.api]\nservers = ["http://{found.group(0)}"]\n'
        return self.start_gateway(body + UNLIMITED, top='presets = ["stripe"]')

    def test_a_day_of_the_python_sdk(self):
        client = self.start().client(self.secret)
        made = client.v1.customers.create({"email": "jenny@example.com", "metadata": {"order": "6735"}})
        self.assertEqual((made.email, made.metadata["order"], made.livemode), ("jenny@example.com", "6735", True))
        self.assertEqual(client.v1.customers.retrieve(made.id).id, made.id)
        changed = client.v1.customers.update(made.id, {"address": {"city": "Köln"}})
        self.assertEqual((changed.id, changed.address.city), (made.id, "Köln"))
        self.assertTrue(client.v1.customers.delete(made.id).deleted)
        intent = client.v1.payment_intents.create({"amount": 1250, "currency": "usd"})
        self.assertEqual((intent.amount, intent.status), (1250, "requires_payment_method"))
        self.assertEqual(client.v1.payment_intents.confirm(intent.id).status, "succeeded")
        subscription = client.v1.subscriptions.create({"customer": "cus_1", "items": [{"price": "price_1"}]})
        self.assertEqual(subscription["items"][0]["price"], "price_1")
        self.assertEqual(client.v1.balance.retrieve().available[0].amount, 0)
        options = {"idempotency_key": "order-6735"}
        refunds = [client.v1.refunds.create({"charge": "ch_1"}, options).id for _ in range(2)]
        self.assertEqual(refunds[0], refunds[1])

    def test_the_sdk_turns_the_pages(self):
        client = self.start().client(self.secret)
        first = client.v1.charges.list({"limit": 10})
        everything = [one.id for one in first.auto_paging_iter()]
        self.assertEqual((first.has_more, len(everything), len(set(everything))), (True, 25, 25))
        found = client.v1.customers.search({"query": "email:'a'", "limit": 20})
        self.assertEqual((found.object, len(list(found.auto_paging_iter()))), ("search_result", 25))
        last = client.v1.charges.list({"ending_before": everything[5], "limit": 2})
        self.assertEqual([one.id for one in last.data], everything[3:5])

    def test_strict_types_can_read_its_objects(self):
        port = self.start().port
        sdk = RustSdk(self, self.secret)
        kinds = ["Account", "BalanceTransaction", "Charge", "Coupon", "Customer", "Event", "Invoice", "PaymentIntent"]
        kinds += ["PaymentMethod", "Payout", "Price", "Product", "Refund", "SetupIntent", "Token", "Topup", "Transfer"]
        for kind in kinds:
            with self.subTest(kind=kind):
                path = "/" + re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind).lower() + "s"
                self.assertIsNone(sdk.post(port, path, {}, kind=kind).kind)
        self.assertIsNone(sdk.post(port, "/charges", {"amount": 7, "currency": "eur"}, kind="Charge").kind)
        self.assertEqual(sdk.post(port, "/terminal/readers", {}, kind="Charge").kind, "Client")

    def test_both_sdks_read_its_errors(self):
        gateway = self.start()
        for kind in (PythonSdk, NodeSdk):
            with self.subTest(sdk=kind.__name__):
                sdk = kind(self, self.secret)
                self.assertRegex(sdk.call(gateway.port, "payouts.create", {"amount": 1, "currency": "usd"}).id, r"^po_")
                missing = sdk.call(gateway.port, "customers.retrieve", "cus_missing")
                self.assertEqual((missing.status, missing.code), (404, "resource_missing"))
                self.assertEqual(missing.kind, "StripeInvalidRequestError")
                self.assertEqual(missing.message, "No such customer: 'cus_missing'")
        self.assertEqual(gateway.metric("tollgate_rejections_total"), 0)

    def test_failures_are_retried_as_the_sdks_do(self):
        gateway = self.start("--lock-timeout-rate", "50%", "--seed", "3")
        for kind in (PythonSdk, NodeSdk):
            with self.subTest(sdk=kind.__name__):
                sdk = kind(self, self.secret)
                plain = [sdk.call(gateway.port, "customers.update", "cus_1", {"name": "a"}) for _ in range(12)]
                refused = [one for one in plain if one.status == 429]
                self.assertTrue(0 < len(refused) < 12, f"{len(refused)} of 12")
                self.assertEqual({one.code for one in refused}, {"lock_timeout"})
                # The header says that trying again is worth it, and each try has its own dice.
                tried = [sdk.call(gateway.port, "customers.update", "cus_1", {"name": "a"}, retries=4) for _ in range(2)]
                self.assertIn("cus_1", [one.id for one in tried])

    def test_the_same_seed_gives_the_same_run(self):
        def run():
            gateway = self.start("--seed", "7", "--error-rate", "0.2")
            answers = [gateway.request("POST", "/v1/refunds", self.secret, b"charge=ch_1") for _ in range(40)]
            self.assertEqual({one.status for one in answers}, {200, 500})
            return [(one.status, one.body, one.header("request-id")) for one in answers]

        self.assertEqual(run(), run())

    def test_latencies_are_those_of_a_recording(self):
        recording = self.folder + "/slow.jsonl"
        line = {"ts": "2026-11-22T14:39:32Z", "duration_ms": 250.0, "request_id": "req_1", "client": LOOPBACK, "account": "a"}
        with open(recording, "w") as out:
            out.write(json.dumps(line | {"method": "GET", "path": "/v1/charges", "status": 200}) + "\n")
        client = self.start("--latency", recording).client(self.secret)
        began = time.monotonic()
        client.v1.charges.list()
        self.assertGreaterEqual(time.monotonic() - began, 0.25)


UNLIMITED = """
[accounts.acct_platform]
limits.global-live = { rate = "100000/s" }
limits.search = { rate = "100000/s" }
limits.endpoint-default = { rate = "100000/s" }
"""
