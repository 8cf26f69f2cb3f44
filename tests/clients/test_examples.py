"""The examples' files run as their READMEs say, but for the ports."""

import shutil
import subprocess

from support import BINARY, DEADLINE_S, LOOPBACK, ROOT, Case, Gateway, Program, free_port, wait_until


class Example(Gateway):
    """A gateway that runs an example's own file, its ports replaced by free ones."""

    def write(self, body):
        self.mock_port = free_port()
        text = body
        for written, port in ((8080, self.port), (9090, self.admin_port), (9000, self.mock_port)):
            text = text.replace(f"127.0.0.1:{written}", f"{LOOPBACK}:{port}")
        self.write_raw(text)


class Examples(Case):
    """Each example passes its own check without a warning and serves."""

    def start(self, name):
        source = ROOT / "examples" / name / "tollgate.toml"
        command = [BINARY, "check", "--strict", "--config", shutil.copy(source, self.folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        gateway = self.use(Example(self.folder, self.keys, source.read_text()), self._close_gateway)
        address = f"{LOOPBACK}:{gateway.mock_port}"
        mock = self.use(Program([BINARY, "mock", "--listen", address], self.folder, "mock"))
        secret = self.keys.secrets[0] if self.keys.secrets else "sk_test_anything_you_like_1234"

        def serves():
            mock.must_live()
            return gateway.request("GET", "/v1/charges", secret).status == 200

        wait_until("the example serves", serves)
        return gateway, secret

    def test_edge(self):
        self.keys.new("acct_small")
        gateway, secret = self.start("edge")
        answers = [gateway.request("POST", "/v1/refund_batches", secret, b"charge=ch_1") for _ in range(30)]
        refused = [one for one in answers if one.status == 429]
        self.assertNotIn(429, [one.status for one in answers[:4]], "the burst is four")
        self.assertTrue(refused)
        self.assert_limited(refused[0], "endpoint-rate", "refund-batches-rate")

    def test_sidecar(self):
        gateway, secret = self.start("sidecar")
        self.assertEqual(gateway.client(secret).v1.charges.list().object, "list")
        self.assertNotIn(secret, gateway.log())

    def test_every_example_folder_is_tested(self):
        folders = {path.parent.name for path in (ROOT / "examples").glob("*/tollgate.toml")}
        # That of the compose file is `test_material.py`'s, that of the cluster `test_shared.py`'s.
        self.assertEqual(folders, {"edge", "sidecar", "compose", "cluster"})
