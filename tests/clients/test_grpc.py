"""gRPC's own client and server with the gateway between them: all kinds of calls, trailers, deadlines, refusals."""

import concurrent.futures
import threading

import grpc

from support import DEADLINE_S, LOOPBACK, Case, wait_until

SERVICE = "pay.Payments"
CALLS = f"/{SERVICE}/"


class Payments(grpc.GenericRpcHandler):
    """A service whose messages are plain bytes, so that no code need be generated."""

    def __init__(self):
        self.metadata = {}
        self.cancelled = threading.Event()

    def service(self, details):
        self.metadata = {pair.key: pair.value for pair in details.invocation_metadata}
        return {
            f"{CALLS}Echo": grpc.unary_unary_rpc_method_handler(self.echo),
            f"{CALLS}List": grpc.unary_stream_rpc_method_handler(self.list),
            f"{CALLS}Sum": grpc.stream_unary_rpc_method_handler(self.sum),
            f"{CALLS}Chat": grpc.stream_stream_rpc_method_handler(self.chat),
            f"{CALLS}Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            f"{CALLS}Wait": grpc.unary_unary_rpc_method_handler(self.wait),
        }.get(details.method)

    def echo(self, request, context):
        context.send_initial_metadata((("x-first", "1"),))
        context.set_trailing_metadata((("x-last", str(len(request))), ("x-binary-bin", b"\0\xff")))
        return request

    def list(self, request, context):
        for number in range(int(request)):
            yield b"%d " % number * 1000

    def sum(self, requests, context):
        return b"%d" % sum(len(request) for request in requests)

    def chat(self, requests, context):
        for request in requests:
            yield request.upper()

    def fail(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the payment is gone: 50 % ü")

    def wait(self, request, context):
        context.add_callback(self.cancelled.set)
        self.cancelled.wait(DEADLINE_S)
        return b"late"


class Grpc(Case):
    """A client, the gateway, a server."""

    def start(self, limits=""):
        self.payments = Payments()
        pool = concurrent.futures.ThreadPoolExecutor(8)
        self.server = grpc.server(pool, handlers=[self.payments])
        port = self.server.add_insecure_port(f"{LOOPBACK}:0")
        self.server.start()
        self.use(self.server, lambda it: it.stop(None).wait(DEADLINE_S))
        secret = self.keys.new("acct_platform")
        upstream = f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{port}"]\nprotocol = "http2"\n'
        self.gateway = self.start_gateway(upstream + limits)
        # Channels to one address would share a connection, with what another test has left of it.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self.channel = self.use(grpc.insecure_channel(f"{LOOPBACK}:{self.gateway.port}", options))
        self.options = {"metadata": (("authorization", f"Bearer {secret}"),), "timeout": DEADLINE_S}

    def unary(self, name, request, **options):
        return self.channel.unary_unary(CALLS + name).with_call(request, **(self.options | options))

    def assert_refused(self, code, name, request=b"x", **options):
        with self.assertRaises(grpc.RpcError) as raised:
            self.unary(name, request, **options)
        self.assertEqual(raised.exception.code(), code, raised.exception)
        return raised.exception

    def test_a_unary_call_with_its_metadata(self):
        self.start()
        for size in (0, 1, 100_000, 3_000_000):
            message = b"m" * size
            answer, call = self.unary("Echo", message)
            self.assertEqual(answer, message)
            self.assertEqual(call.code(), grpc.StatusCode.OK)
            last = dict(call.trailing_metadata())
            self.assertEqual((dict(call.initial_metadata())["x-first"], last["x-last"]), ("1", str(size)))
            self.assertEqual(last["x-binary-bin"], b"\0\xff")
        self.assertEqual(self.payments.metadata["tollgate-account"], "acct_platform")
        self.assertRegex(self.payments.metadata["request-id"], r"^req_")
        self.assertEqual(self.gateway.metric("tollgate_requests_total", status="200"), 4)

    def test_the_server_streams(self):
        self.start()
        answers = list(self.channel.unary_stream(CALLS + "List")(b"500", **self.options))
        self.assertEqual(answers, [b"%d " % number * 1000 for number in range(500)])

    def test_the_client_streams(self):
        self.start()
        pieces = (b"x" * 10_000 for _ in range(300))
        self.assertEqual(self.channel.stream_unary(CALLS + "Sum")(pieces, **self.options), b"3000000")

    def test_both_stream_and_answer_each_other(self):
        self.start()
        heard = threading.Semaphore(1)

        def speak():
            # The next word only once the last was answered: nothing is gathered on the way.
            for number in range(50):
                self.assertTrue(heard.acquire(timeout=DEADLINE_S))
                yield b"word %d" % number

        answers = []
        for answer in self.channel.stream_stream(CALLS + "Chat")(speak(), **self.options):
            answers.append(answer)
            heard.release()
        self.assertEqual(answers, [b"WORD %d" % number for number in range(50)])
        wait_until("nothing is in flight", lambda: self.gateway.in_flight() == 0)

    def test_many_calls_at_once_share_connections(self):
        self.start()
        call = self.channel.unary_unary(CALLS + "Echo")
        running = [call.future(b"%d" % number, **self.options) for number in range(500)]
        self.assertEqual([future.result() for future in running], [b"%d" % number for number in range(500)])

    def test_a_failure_of_the_server_passes_untouched(self):
        self.start()
        failed = self.assert_refused(grpc.StatusCode.FAILED_PRECONDITION, "Fail")
        self.assertEqual(failed.details(), "the payment is gone: 50 % ü")
        self.assert_refused(grpc.StatusCode.UNIMPLEMENTED, "Nothing")

    def test_a_limit_refuses_with_a_status_and_a_reason(self):
        self.start('[[limits]]\nname = "calls"\nstage = "global"\nrate = "1/10s"\nburst = 1\n')
        self.assertEqual(self.unary("Echo", b"hello")[0], b"hello")
        refused = self.assert_refused(grpc.StatusCode.RESOURCE_EXHAUSTED, "Echo")
        self.assertIn("'calls'", refused.details())
        told = dict(refused.initial_metadata()) | dict(refused.trailing_metadata())
        self.assertEqual(told["stripe-rate-limited-reason"], "global-rate")
        self.assertGreater(int(told["grpc-retry-pushback-ms"]), 1000)
        streamed = self.channel.stream_stream(CALLS + "Chat")(iter([b"a", b"b"]), **self.options)
        with self.assertRaises(grpc.RpcError) as raised:
            list(streamed)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertEqual(self.gateway.metric("tollgate_requests_total", status="429"), 2)

    def test_keys_that_nobody_issued(self):
        self.start()
        unknown = (("authorization", "Bearer sk_test_nobody"),)
        self.assert_refused(grpc.StatusCode.UNAUTHENTICATED, "Echo", metadata=unknown)
        self.assert_refused(grpc.StatusCode.UNAUTHENTICATED, "Echo", metadata=())

    def test_a_deadline_and_a_cancelled_call_reach_the_server(self):
        self.start('[[limits]]\nname = "slots"\nstage = "global"\nconcurrency = 1\n')
        self.assert_refused(grpc.StatusCode.DEADLINE_EXCEEDED, "Wait", timeout=0.5)
        wait_until("the server knows", self.payments.cancelled.is_set)
        wait_until("the slot is back", lambda: self.gateway.in_flight() == 0)
        self.assertEqual(self.unary("Echo", b"next")[0], b"next")

    def test_a_server_that_is_gone(self):
        self.start()
        self.assertEqual(self.unary("Echo", b"hello")[0], b"hello")
        self.server.stop(None).wait(DEADLINE_S)
        # It says so before it closes its connection: a call between the two may break off, with nobody knowing what became of it.
        wait_until("its connection is gone", lambda: self.gateway.metric("tollgate_upstream_connections") == 0)
        refused = self.assert_refused(grpc.StatusCode.UNAVAILABLE, "Echo")
        self.assertTrue(refused.details())
