"""What operators are given, held by the programs that will read it: promtool, systemd, a validator of schemas, a shell."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import tomllib

import jsonschema
import yaml

from support import BINARY, DEADLINE_S, LOOPBACK, ROOT, Case, free_port

EXAMPLES = ROOT / "examples"


class Material(Case):
    """Each file is read as its reader reads it."""

    def run_tool(self, *command, **options):
        """Runs a program to its end; a missing one is a failure."""
        done = subprocess.run(command, capture_output=True, text=True, timeout=3 * DEADLINE_S, check=False, **options)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def schema(self):
        schema = json.loads((ROOT / "config/tollgate.schema.json").read_text())
        self.assertEqual(json.loads(self.run_tool(BINARY, "schema")), schema)
        return schema

    def test_every_configuration_is_valid_by_the_schema_and_a_bad_one_is_not(self):
        schema = self.schema()
        validator = jsonschema.validators.validator_for(schema)
        validator.check_schema(schema)
        validator = validator(schema)
        files = sorted([*ROOT.glob("config/*.toml"), *EXAMPLES.glob("**/*.toml")])
        self.assertGreaterEqual(len(files), 7)
        texts = {path.name: path.read_text() for path in files} | dict(self.kubernetes_configurations())
        reference = (ROOT / "config/tollgate.toml").read_text()
        # With what is commented out in force, so that every key is held.
        texts["every key"] = re.sub(r"^#(?![ :])", "", reference, flags=re.MULTILINE)
        for name, text in texts.items():
            with self.subTest(file=name):
                errors = [f"{'.'.join(map(str, one.path))}: {one.message}" for one in validator.iter_errors(tomllib.loads(text))]
                self.assertEqual(errors, [])
        for bad in ("bogus = 1", "[server]\nlisten = 5", '[[limits]]\nname = "a"\nstage = "globl"'):
            self.assertTrue(list(validator.iter_errors(tomllib.loads(bad))), bad)

    def test_alert_rules(self):
        rules = EXAMPLES / "prometheus/alerts.yml"
        self.run_tool("promtool", "check", "rules", "--lint-fatal", rules)
        self.run_tool("promtool", "test", "rules", "alerts.test.yml", cwd=rules.parent)
        self.run_tool("promtool", "check", "config", "--lint-fatal", "prometheus.yml", cwd=rules.parent)

    def test_expressions_of_the_dashboard_are_promql(self):
        dashboard = json.loads((EXAMPLES / "grafana/tollgate.json").read_text())
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        expressions += [one["expr"] for one in dashboard["annotations"]["list"]]
        self.assertGreater(len(expressions), 40)
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(dashboard)))
        known = {one["name"] for one in dashboard["templating"]["list"]} | {"__rate_interval", "__all"}
        self.assertEqual(used - known, set())
        rules = [
            {"record": f"dashboard:{nth}", "expr": text.replace("$__rate_interval", "5m").replace("$instance", ".*")}
            for nth, text in enumerate(expressions)
        ]
        path = pathlib.Path(self.folder) / "dashboard.yml"
        path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
        self.run_tool("promtool", "check", "rules", path)

    def test_units(self):
        for name in ("tollgate.service", "tollgate.socket"):
            text = (EXAMPLES / "systemd" / name).read_text()
            (pathlib.Path(self.folder) / name).write_text(text.replace("/usr/bin/tollgate", str(BINARY)))
        units = [f"{self.folder}/tollgate.service", f"{self.folder}/tollgate.socket"]
        self.run_tool("systemd-analyze", "verify", "--man=no", *units)
        # Of ten; what is left is being on the network and reading the files of the system.
        self.run_tool("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", units[0])

    def compositions(self):
        """Each compose file with what it says, anchors and merges resolved."""
        found = {path: yaml.safe_load(path.read_text()) for path in sorted(EXAMPLES.glob("**/compose.yaml"))}
        self.assertEqual(len(found), 2)
        return found.items()

    def test_compositions_name_keys_services_and_ports_that_there_are(self):
        known = {"image", "build", "command", "depends_on", "ports", "volumes", "environment", "healthcheck", "restart",
                 "stop_grace_period", "read_only", "cap_drop", "security_opt", "ulimits"}
        for path, text in self.compositions():
            services, named, taken = text["services"], text.get("volumes") or {}, []
            for name, service in services.items():
                label = f"{path}: {name}"
                self.assertEqual(service.keys() - known, set(), label)
                self.assertTrue(re.fullmatch(r"tollgate|[a-z./-]+:[a-z0-9.-]+", service["image"]), label)
                self.assertLessEqual(set(service.get("depends_on", [])), services.keys(), label)
                if "build" in service:
                    self.assertTrue((path.parent / service["build"] / "Dockerfile").is_file(), label)
                for port in service.get("ports", []):
                    address, outside, inside = port.rsplit(":", 2)
                    self.assertEqual(address, LOOPBACK, f"{label} is open to everybody")
                    self.assertTrue(outside.isdecimal() and inside.isdecimal(), label)
                    taken.append(outside)
                for mount in service.get("volumes", []):
                    source, target = mount.split(":")[:2]
                    self.assertTrue(target.startswith("/"), label)
                    there = (path.parent / source).exists() if source.startswith(".") else source in named
                    self.assertTrue(there, f"{label} mounts {source}")
            self.assertEqual(len(taken), len(set(taken)), f"{path}: two services have one port")
            # Whatever runs the image that is built here: somebody builds it.
            self.assertTrue(any("build" in service for service in services.values() if service["image"] == "tollgate"))

    def test_compositions_run_configurations_that_pass_and_reach_each_other(self):
        for path, text in self.compositions():
            services = text["services"]
            gateways = {name: service for name, service in services.items()
                        if service["image"] == "tollgate" and "mock" not in service.get("command", [])}
            self.assertTrue(gateways)
            scraped = self.scraped(path, services["prometheus"])
            for name, service in gateways.items():
                config = self.mounted(path, service, "/etc/tollgate/tollgate.toml")
                self.run_tool(BINARY, "check", "--config", str(config))
                read = tomllib.loads(config.read_text())
                self.assertEqual(service["ports"][0].rsplit(":", 1)[1], read["server"]["listen"].rsplit(":", 1)[1])
                self.assertIn(f'{name}:{read["admin"]["listen"].rsplit(":", 1)[1]}', scraped)
                urls = [url for upstream in read["upstreams"].values() for url in upstream["servers"]]
                for url in urls + read.get("store", {"urls": []})["urls"]:
                    host = re.fullmatch(r"[a-z]+://([a-z0-9.-]+):\d+", url).group(1)
                    self.assertIn(host, services, f"{path}: {name} asks {url}")

    def scraped(self, path, prometheus):
        read = yaml.safe_load(self.mounted(path, prometheus, "/etc/prometheus/prometheus.yml").read_text())
        return [target for job in read["scrape_configs"] for given in job["static_configs"] for target in given["targets"]]

    def mounted(self, path, service, wanted):
        """The file here that a service finds there."""
        for mount in service["volumes"]:
            source, target = mount.split(":")[:2]
            if pathlib.PurePosixPath(wanted).is_relative_to(target):
                return path.parent / source / pathlib.PurePosixPath(wanted).relative_to(target)
        raise self.failureException(f"{path}: nothing is mounted at {wanted}")

    def kubernetes(self):
        for path in sorted(EXAMPLES.glob("kubernetes/*.yaml")):
            for thing in yaml.safe_load_all(path.read_text()):
                yield path.name, thing

    def kubernetes_configurations(self):
        for name, thing in self.kubernetes():
            if thing["kind"] == "ConfigMap":
                yield name, thing["data"]["tollgate.toml"]

    def test_configurations_of_the_examples_pass_their_own_check(self):
        found = dict(self.kubernetes_configurations())
        found["compose"] = (EXAMPLES / "compose/tollgate.toml").read_text()
        self.assertEqual(len(found), 3)
        for name, text in found.items():
            with self.subTest(file=name):
                path = pathlib.Path(self.folder) / "tollgate.toml"
                path.write_text(text.replace("/etc/tollgate/keys/keys.toml", self.keys.path.name))
                command = [BINARY, "check", "--config", path]
                done = subprocess.run(command, capture_output=True, text=True, timeout=3 * DEADLINE_S, check=False)
                warnings = re.findall(r"(?:warning|error): (.*)", done.stderr.rsplit("\n", 2)[0])
                # In the containers' own network, as the files say.
                expected = ["the admin can be reached from other machines, and asks for no key"] if "0.0.0.0:9090" in text else []
                self.assertEqual((done.returncode, warnings), (0, expected), done.stderr)

    def test_kubernetes_names_ports_and_commands_that_there_are(self):
        containers = 0
        for name, thing in self.kubernetes():
            self.assertLessEqual({"apiVersion", "kind", "metadata"}, set(thing), name)
            if thing["kind"] != "Deployment":
                continue
            configuration = tomllib.loads(dict(self.kubernetes_configurations())[name])
            spec = thing["spec"]["template"]["spec"]
            self.assertEqual(thing["spec"]["selector"]["matchLabels"], thing["spec"]["template"]["metadata"]["labels"])
            volumes = {one["name"] for one in spec["volumes"]}
            for container in [*spec["containers"], *spec.get("initContainers", [])]:
                if container["image"] != "tollgate":
                    continue
                containers += 1
                security = container["securityContext"]
                self.assertFalse(security["allowPrivilegeEscalation"])
                self.assertTrue(security["readOnlyRootFilesystem"])
                self.assertEqual(container["args"][:2], ["run", "--config"])
                mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
                self.assertLessEqual(set(mounts.values()), volumes)
                self.assertIn(str(pathlib.PurePosixPath(container["args"][2]).parent), mounts)
                ports = {one["name"]: one["containerPort"] for one in container.get("ports", [])}
                addresses = [configuration[table]["listen"].rpartition(":") for table in ("server", "admin")]
                if ports:
                    self.assertEqual([ports["http"], ports["admin"]], [int(port) for _, _, port in addresses])
                for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
                    self.check_probe(container.get(kind), ports, addresses[1])
        self.assertEqual(containers, 2)

    def check_probe(self, probe, ports, admin):
        if probe is None:
            return
        if "httpGet" in probe:
            self.assertEqual(ports[probe["httpGet"]["port"]], int(admin[2]))
            self.assertEqual(admin[0], "0.0.0.0", "the kubelet does not come to loopback")
            self.assertIn(probe["httpGet"]["path"], ("/healthz", "/readyz"))
        else:
            binary, *arguments = probe["exec"]["command"]
            self.assertEqual((binary, arguments[0]), ("/usr/local/bin/tollgate", "health"))
            self.run_tool(BINARY, *arguments, "--help")

    def test_man_pages_are_read_without_complaint(self):
        pages = sorted((ROOT / "docs/man").glob("*.1"))
        self.assertGreater(len(pages), 10)
        self.assertIn(".TH tollgate 1", (ROOT / "docs/man/tollgate.1").read_text())


class Pages(Case):
    """The commands of the pages work, in their order, but for the ports."""

    PORTS = (8080, 9090, 9000)

    def run_page(self, text):
        blocks = re.findall(r"^( *)```sh\n(.*?)^ *```$", text, flags=re.MULTILINE | re.DOTALL)
        script = "".join(re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in blocks)
        ports = {port: free_port() for port in self.PORTS}
        for known, free in ports.items():
            script = script.replace(f"{LOOPBACK}:{known}", f"{LOOPBACK}:{free}")
        # The pages leave the admin listener at its default, which another process may have.
        first = "cat > tollgate.toml <<'END'\n"
        self.assertIn(first, script)
        script = script.replace(first, f'{first}admin.listen = "{LOOPBACK}:{ports[9090]}"\n')
        script = script.replace("tollgate health", f"tollgate health --admin {LOOPBACK}:{ports[9090]}")
        head = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT\n"
        folder = pathlib.Path(self.folder)
        os.symlink(BINARY, folder / "tollgate")
        environment = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}
        path = folder / "page.sh"
        path.write_text(head + script)
        command = ["timeout", "--kill-after=5", str(3 * DEADLINE_S), "bash", str(path)]
        with open(folder / "page.out", "w+") as out:
            done = subprocess.run(command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, check=False)
            out.seek(0)
            return done.returncode, out.read()

    def test_operations(self):
        status, out = self.run_page((ROOT / "docs/operations.md").read_text())
        self.assertEqual(status, 0, out)
        # Whom the limit refused, and what the override was answered with.
        self.assertRegex(out, r'\d+ "account":"acct_1"')
        self.assertIn("launch day", out)

    def test_the_first_minute_of_the_readme(self):
        text = (ROOT / "README.md").read_text()
        section = text.split("## A first limit in one minute")[1].split("\n## ")[0]
        section = re.sub(r"^cargo build.*\n|^mkdir .*\n", "", section, flags=re.MULTILINE)
        wait = 'until curl --silent --output first.json "http://127.0.0.1:8080/"; do sleep 0.1; done\n'
        section = section.replace("tollgate run --config tollgate.toml &\n", "tollgate run --config tollgate.toml &\n" + wait)
        status, out = self.run_page(section)
        self.assertEqual(status, 0, out)
        self.assertEqual(re.findall(r"^200$", out, flags=re.MULTILINE), ["200"] * 3, out)
        shown, answered = (re.search(r'^\{"error":\{.*?\}\}', text, flags=re.MULTILINE).group(0) for text in (section, out))
        self.assertIn("HTTP/1.1 429 Too Many Requests", out)
        self.assertEqual(json.loads(answered), json.loads(shown))
        for header in ("stripe-rate-limited-reason: global-rate", "retry-after: 20", "ratelimit-policy:"):
            self.assertIn(header, section.lower())
            self.assertIn(header, out.lower())


def setUpModule():
    for tool in ("promtool", "systemd-analyze"):
        if not shutil.which(tool):
            raise AssertionError(f"{tool} is missing; scripts/test installs it")
