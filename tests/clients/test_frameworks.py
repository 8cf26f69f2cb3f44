"""Dodges by spelling: whatever a web framework routes to an endpoint, the gateway counts as that endpoint or refuses.

Every endpoint of the Stripe presets in every disguise, through the gateway and through the routers of Flask, Django, Starlette
and Express: of the target as the client sends it, and of the one that the gateway forwards.
"""

import json
import pathlib
import re
import socket
import threading

from frameworks import PARAMETER, Frameworks, endpoint_name
from support import DEADLINE_S, LOOPBACK, ROOT, Case, wait_until

THREADS = 4

# What a client may make of a path to be taken for another; each is one way for every endpoint.
DISGUISES = {
    "plain": lambda path: path,
    "a slash behind": lambda path: path + "/",
    "two slashes behind": lambda path: path + "//",
    "a slash before": lambda path: "/" + path,
    "slashes doubled": lambda path: path.replace("/", "//"),
    "dots": lambda path: path.replace("/", "/./", 1),
    "a detour": lambda path: "/x/.." + path,
    "a detour with parameters": lambda path: "/x/..;y" + path,
    "a detour, escaped": lambda path: "/x/%2e%2E" + path,
    "dots behind": lambda path: path + "/.",
    "a detour behind": lambda path: path + "/x/..",
    "one letter escaped": lambda path: re.sub(r"([a-z])(\w*)$", lambda it: f"%{ord(it[1]):02x}{it[2]}", path),
    "every letter escaped": lambda path: re.sub(r"\w", lambda it: f"%{ord(it[0]):02X}", path),
    "escaped twice": lambda path: path.replace("v", "%2576", 1),
    "capitals": str.upper,
    "one capital": lambda path: path[:4] + path[4:].capitalize(),
    "parameters behind": lambda path: path + ";a=b",
    "parameters within": lambda path: path.replace("/", ";a/").removeprefix(";a"),
    "parameters alone": lambda path: path + "/;a",
    "an escaped blank": lambda path: path + "%20",
    "an escaped question mark": lambda path: path + "%3fa=b",
    "an escaped hash": lambda path: path + "%23a",
    "an empty query": lambda path: path + "?",
    "a query with a path": lambda path: path + "?/../x",
    "a suffix": lambda path: path + ".json",
    "a dot behind": lambda path: path + ".",
    "full-width dots": lambda path: "/x/%ef%bc%8e%ef%bc%8e" + path,
    "a long s": lambda path: path.replace("s", "%c5%bf", 1),
    "a no-break blank": lambda path: path + "%c2%a0",
}

# What has no canonical form, whatever the endpoint: each costs a connection, so every tenth endpoint does.
REFUSED = {
    "an encoded slash": lambda path: "%2f".join(path.rsplit("/", 1)),
    "a backslash": lambda path: "\\".join(path.rsplit("/", 1)),
    "an encoded backslash": lambda path: "%5c".join(path.rsplit("/", 1)),
    "NUL": lambda path: path + "%00",
    "NUL and more": lambda path: path + "%00.json",
    "a line feed": lambda path: path + "%0a",
    "overlong": lambda path: "/x/%c0%ae%c0%ae" + path,
}
EVERY = 10

# Methods in disguise, of every endpoint's plain path; and those that are refused whatever the endpoint.
METHODS = {"HEAD": lambda method: "HEAD"}
REFUSED_METHODS = {"lower case": str.lower, "mixed case": str.capitalize}


def operations():
    """The endpoints of the presets: pairs of a method and a template."""
    found = []
    for line in (ROOT / "config/stripe-operations.txt").read_text().splitlines():
        words = line.split("#")[0].split()
        found += [(method, words[-1]) for method in words[:-1]]
    return found


def requests_of(endpoints):
    """Every request to try: method, target, what it is called, and the endpoint that it means."""
    for number, (method, template) in enumerate(endpoints):
        path = PARAMETER.sub(f"id_{number}", template)
        own = endpoint_name(method, template)
        is_tenth = number % EVERY == 0
        for name, disguise in (DISGUISES | (REFUSED if is_tenth else {})).items():
            yield method, disguise(path), name, own
        for name, disguise in (METHODS | (REFUSED_METHODS if is_tenth else {})).items():
            yield disguise(method), path, name, own


def is_named_like_a_neighbor(path, own, theirs):
    """Whether a framework takes for an id what the gateway takes for the name of the endpoint beside it, in other letters.

    `/v1/charges/SEARCH` is the search to a server that does not mind capitals, and the charge "SEARCH" to one that does. It is
    counted as the search, which is the narrower limit, and all that it could reach besides is one object of that name.
    """
    (method, counted), (theirs_method, taken) = own.split(" "), theirs.split(" ")
    segments = [segment.partition(";")[0].lower() for segment in path.partition("?")[0].rstrip("/").split("/")]
    pairs = list(zip(counted.split("/"), taken.split("/")))
    fits = len(pairs) == len(segments) and method.replace("HEAD", "GET") == theirs_method.replace("HEAD", "GET")
    alike = [ours == other or (other.startswith("{") and ours == segment) for (ours, other), segment in zip(pairs, segments)]
    # Parameters may be called differently.
    return fits and all(same or (ours[:1] == other[:1] == "{") for same, (ours, other) in zip(alike, pairs))


class Recorder:
    """An upstream that keeps the target of each request by its id and answers at once."""

    def __init__(self):
        self.heads = {}
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.close()

    def _accept(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        data = b""
        with connection:
            while piece := connection.recv(65536):
                data += piece
                while b"\r\n\r\n" in data:
                    head, _, data = data.partition(b"\r\n\r\n")
                    lines = head.decode("latin-1").split("\r\n")
                    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
                    self.heads[fields["request-id"]] = (*lines[0].split(" ")[:2], fields)
                    connection.sendall(b"HTTP/1.1 204 Done\r\n\r\n")


class Client:
    """Sends bare requests on a connection that is made again where the gateway has closed it."""

    def __init__(self, port, lines):
        self.port, self.lines = port, lines
        self.connection = None

    def ask(self, method, target, request_id):
        """The answer's status."""
        if self.connection is None:
            self.connection = socket.create_connection((LOOPBACK, self.port), DEADLINE_S)
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = f"{method} {target} HTTP/1.1\r\nHost: api.test\r\nRequest-Id: {request_id}\r\n{self.lines}\r\n"
        self.connection.sendall(request.encode())
        data = b""
        while b"\r\n\r\n" not in data:
            piece = self.connection.recv(65536)
            if not piece:
                raise AssertionError(f"no answer to {method} {target}")
            data += piece
        head = data.partition(b"\r\n\r\n")[0].lower()
        if b" 204 " not in head.split(b"\r\n")[0] + b" ":
            # What it says is of no interest here, and neither is whether the connection lives.
            self.close()
        return int(head.split(b" ")[1])

    def close(self):
        if self.connection:
            self.connection.close()
            self.connection = None


class Oracle(Case):
    """One gateway with the endpoints of the presets, without limits."""

    maxDiff = None

    def setUp(self):
        super().setUp()
        self.endpoints = operations()
        self.upstream = self.use(Recorder())
        self.secret = self.keys.new("acct_platform")
        tables = "".join(f'[[endpoints]]\nmatch = "{method} {template}"\n' for method, template in self.endpoints)
        self.log_path = pathlib.Path(self.folder) / "access.jsonl"
        servers = f'[upstreams.api]\nservers = ["http://{LOOPBACK}:{self.upstream.port}"]\n'
        self.gateway = self.start_gateway(f'{servers}{tables}[log]\naccess = "{self.log_path}"\n')
        self.lines = f"Authorization: Bearer {self.secret}\r\n"

    def test_no_spelling_of_an_endpoint_is_taken_for_another(self):
        asked = list(requests_of(self.endpoints))
        self.assertGreater(len(self.endpoints), 600)
        statuses = self.send(asked)
        records = self.records(len([status for status in statuses if status == 204]))
        frameworks = Frameworks(self.endpoints)
        raw = frameworks.route([(method, target) for method, target, _, _ in asked])
        passed = [number for number, status in enumerate(statuses) if status == 204]
        forwarded = frameworks.route([self.upstream.heads[f"n-{number}"][:2] for number in passed])
        wrong = []
        for number, reached in zip(passed, forwarded):
            own, (_, _, name, endpoint) = records[f"n-{number}"]["endpoint"], asked[number]
            # A HEAD is counted as its GET, whatever answers it.
            known = {None, own, own.replace("GET ", "HEAD ", 1)}
            path = self.upstream.heads[f"n-{number}"][1]
            known = {None, own, own.replace("GET ", "HEAD ", 1)}
            wrong += [
                f"{name}: {asked[number][:2]} is forwarded as {path}, counted as {own}, and {framework} takes it for {theirs}"
                for framework, theirs in reached.items()
                if theirs not in known and not is_named_like_a_neighbor(path, own, theirs)
            ]
            wrong += [
                f"{name}: {framework} sees through {asked[number][:2]}, which is counted as {own}"
                for framework, theirs in raw[number].items()
                if theirs == endpoint and theirs not in known and not is_named_like_a_neighbor(path, own, theirs)
            ]
        self.assertEqual(wrong[:5], [], f"{len(wrong)} in all")
        self.assert_telling(asked, statuses, raw)

    def assert_telling(self, asked, statuses, raw):
        """The oracle can say no: plain paths reach their endpoint everywhere, and some disguises do in one framework or other."""
        plain = [number for number, request in enumerate(asked) if request[2] == "plain"]
        for number, (method, template) in zip(plain, self.endpoints):
            self.assertEqual(statuses[number], 204)
            # Another template may take it as well: what matters is that all say the same.
            self.assertEqual(len(set(raw[number].values())), 1, (method, template, raw[number]))
            self.assertIsNotNone(raw[number]["Express"])
        for framework, name in (("Express", "capitals"), ("Flask", "one letter escaped"), ("Django", "lower case")):
            reached = [raw[number][framework] for number, request in enumerate(asked) if request[2] == name]
            self.assertGreater(sum(theirs is not None for theirs in reached), len(reached) // 2, (framework, name))
        refused = {asked[number][2] for number, status in enumerate(statuses) if status == 400}
        self.assertLessEqual({"lower case", "an encoded slash", "NUL", "a backslash", "overlong"}, refused)

    def test_no_header_turns_a_request_into_another(self):
        names = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "X-Original-URL", "X-Rewrite-URL"]
        lines = "".join(f"{name}: DELETE\r\n{name.replace('-', '_')}: DELETE\r\n" for name in names)
        client = self.use(Client(self.gateway.port, self.lines + lines))
        status = client.ask("POST", "/v1/customers/cus_1?_method=DELETE", "n-0")
        if status != 204:
            self.assertIn(status, (400, 431))
            client = self.use(Client(self.gateway.port, self.lines + "".join(f"{name}: DELETE\r\n" for name in names)))
            self.assertEqual(client.ask("POST", "/v1/customers/cus_1", "n-0"), 204)
        method, _, fields = self.upstream.heads["n-0"]
        left = sorted(name for name in fields if name.replace("_", "-") in [known.lower() for known in names])
        self.assertEqual((method, left), ("POST", []))

    def send(self, asked):
        """Sends everything on a few connections; the statuses in the order of the requests."""
        statuses, failures, lock, numbers = [None] * len(asked), [], threading.Lock(), iter(range(len(asked)))

        def run():
            client = Client(self.gateway.port, self.lines)
            while not failures:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    break
                try:
                    statuses[number] = client.ask(*asked[number][:2], f"n-{number}")
                except Exception as error:  # noqa: BLE001 - whatever it is, the test fails of it
                    failures.append(f"{asked[number]}: {error!r}")
            client.close()

        threads = [threading.Thread(target=run) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        return statuses

    def records(self, count):
        """The access log by request id, once it has this many requests that were forwarded."""

        def read():
            records = [json.loads(line) for line in self.log_path.read_text().splitlines() if line.endswith("}")]
            found = {record["request_id"]: record for record in records if record["status"] == 204}
            return found if len(found) >= count else None

        return wait_until("the log is written", read)


