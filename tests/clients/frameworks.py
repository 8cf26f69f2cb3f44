"""Web frameworks as they route: which endpoint a request reaches, without sockets.

Each is given the path that its servers would give it: for WSGI and ASGI the target up to `?`, its escapes decoded once; for
Express the target as it is.
"""

import json
import pathlib
import re
import subprocess
import urllib.parse

import django
import django.conf
import django.http
import django.urls
import flask
import starlette.routing
import werkzeug.exceptions
import werkzeug.routing
from support import NODE_MODULES

PARAMETER = re.compile(r"\{(\w+)\}")


def endpoint_name(method, template):
    return f"{method} {template}"


def numbered(template, write):
    """The template with its parameters called p0, p1 and so on: a name that comes twice is not allowed everywhere."""
    count = iter(range(20))
    return PARAMETER.sub(lambda _: write(f"p{next(count)}"), template)


def decoded(target):
    """The path that a server of WSGI or ASGI hands on; `None` where it could not be text."""
    path = urllib.parse.unquote_to_bytes(target.partition("?")[0])
    try:
        return path.decode()
    except UnicodeDecodeError:
        return None


class Flask:
    """Werkzeug's routing, as a Flask application sets it up."""

    def __init__(self, endpoints):
        app = flask.Flask("oracle", static_folder=None)
        for method, template in endpoints:
            rule = numbered(template, lambda name: f"<{name}>")
            app.add_url_rule(rule, endpoint_name(method, template), lambda **_: "", methods=[method])
        self.map = app.url_map.bind("api.test")

    def route(self, method, target):
        path = decoded(target)
        if path is None:
            return None
        try:
            return self.map.match(path, method)[0]
        except (werkzeug.exceptions.HTTPException, werkzeug.routing.RequestRedirect):
            # A redirect is no execution: the client comes again.
            return None


class Django:
    """Django's resolver. It asks no method: a view of each path looks at the method in capitals, as `HttpRequest` has it."""

    def __init__(self, endpoints):
        if not django.conf.settings.configured:
            django.conf.settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="oracle", ALLOWED_HOSTS=["*"])
        by_template = {}
        for method, template in endpoints:
            by_template.setdefault(template, {})[method] = endpoint_name(method, template)
        patterns = []
        for template, methods in by_template.items():
            view = self._view(methods)
            patterns.append(django.urls.path(numbered(template, lambda name: f"<str:{name}>")[1:], view))
        self.resolver = django.urls.resolvers.URLResolver(django.urls.resolvers.RegexPattern(r"^/"), patterns)
        self.known = {}

    @staticmethod
    def _view(methods):
        def view(method):
            method = method.upper()
            return methods.get(method) or (methods.get("GET") if method == "HEAD" else None)

        return view

    def route(self, method, target):
        path = decoded(target)
        if path is None:
            return None
        if path not in self.known:
            try:
                self.known[path] = self.resolver.resolve(path).func
            except django.urls.Resolver404:
                self.known[path] = None
        view = self.known[path]
        return view(method) if view else None


class Starlette:
    """Starlette's router. The expressions are asked first, since building a match for each route takes seconds."""

    def __init__(self, endpoints):
        self.routes = [
            starlette.routing.Route(numbered(template, lambda name: f"{{{name}}}"), str, methods=[method], name=endpoint_name(method, template))
            for method, template in endpoints
        ]
        self.known = {}

    def route(self, method, target):
        path = decoded(target)
        if path is None:
            return None
        if path not in self.known:
            self.known[path] = [route for route in self.routes if route.path_regex.match(path)]
        scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
        for route in self.known[path]:
            if route.matches(scope)[0] == starlette.routing.Match.FULL:
                return route.name
        return None


class Express:
    """Express, in a Node process that is asked all at once."""

    def __init__(self, endpoints):
        self.routes = [
            (method, numbered(template, lambda name: f"{{{name}}}"), endpoint_name(method, template))
            for method, template in endpoints
        ]

    def route_all(self, requests):
        script = str(pathlib.Path(__file__).with_name("frameworks.cjs"))
        question = json.dumps({"routes": self.routes, "requests": requests})
        done = subprocess.run(
            ["node", script, NODE_MODULES], input=question, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode != 0:
            raise AssertionError(f"Express: {done.stderr[-2000:]}")
        return json.loads(done.stdout)


class Frameworks:
    """All of them with the same endpoints, pairs of a method and a template."""

    def __init__(self, endpoints):
        self.python = {"Flask": Flask(endpoints), "Django": Django(endpoints), "Starlette": Starlette(endpoints)}
        self.express = Express(endpoints)

    def route(self, requests):
        """For each request, a method and a target, what each framework makes of it: a dict of endpoint names or `None`."""
        express = self.express.route_all(requests)
        return [
            {name: one.route(method, target) for name, one in self.python.items()} | {"Express": reached}
            for (method, target), reached in zip(requests, express)
        ]
