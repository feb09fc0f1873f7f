"""A Docker Engine of a test's own: it can be restarted, and is reached over TCP with TLS."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import docker
import trustme

from slipway_stack.ports import pick_free

_SUBNETS = range(1, 255)


@dataclass
class OwnEngine:
    """One `dockerd`, on a bridge of its own, that leaves the machine's packet filter alone."""

    folder: Path
    sockets: str
    bridge: str
    port: int
    pems: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["dockerd", "--data-root", self.folder / "data", "--exec-root", self.sockets,
                 "--pidfile", self.folder / "pid", "--host", f"tcp://127.0.0.1:{self.port}", "--tlsverify",
                 "--tlscacert", self.pems["ca_cert"], "--tlscert", self.folder / "server.pem",
                 "--tlskey", self.folder / "server.key", "--bridge", self.bridge, "--iptables=false",
                 "--ip-masq=false"],
                stdout=log, stderr=log,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.client().ping():
                    return
            except docker.errors.DockerException:
                assert self.process.poll() is None, (self.folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, "dockerd does not answer"
                time.sleep(0.2)

    def stop(self) -> None:
        """Stop it as a machine that goes down does; its containers end with it."""
        assert self.process is not None
        self.process.terminate()
        self.process.wait(60)

    def client(self) -> docker.APIClient:
        """A client of this engine alone."""
        tls = docker.tls.TLSConfig(
            ca_cert=self.pems["ca_cert"], client_cert=(self.pems["client_cert"], self.pems["client_key"]), verify=True
        )
        with mock.patch.dict(os.environ):
            # requests would rather believe these than `ca_cert`.
            for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
                os.environ.pop(name, None)
            client = docker.APIClient(base_url=f"https://127.0.0.1:{self.port}", version="auto", tls=tls, timeout=120)
        client.trust_env = False
        return client

    @property
    def connection(self) -> str:
        """The Airflow connection to it."""
        return json.dumps({"conn_type": "docker", "host": f"tcp://127.0.0.1:{self.port}", "extra": self.pems})


@contextmanager
def own_engine(folder: Path) -> Iterator[OwnEngine]:
    """Run an engine with its files below `folder`; needs root."""
    (port,) = pick_free(1)
    # A socket's path has 107 characters at most, and a test's own folder is deep.
    engine = OwnEngine(folder, tempfile.mkdtemp(prefix="slw-", dir="/tmp"), f"slw{secrets.token_hex(4)}", port)
    authority = trustme.CA()
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("client")
    for name, pem in {
        "ca_cert": authority.cert_pem, "client_cert": client.cert_chain_pems[0], "client_key": client.private_key_pem,
    }.items():  # fmt: skip
        pem.write_to_path(str(folder / f"{name}.pem"))
        engine.pems[name] = str(folder / f"{name}.pem")
    server.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    server.private_key_pem.write_to_path(str(folder / "server.key"))
    _ip("link", "add", "name", engine.bridge, "type", "bridge")
    try:
        subnet = secrets.choice(_SUBNETS)
        _ip("address", "add", f"172.31.{subnet}.1/24", "dev", engine.bridge)
        _ip("link", "set", engine.bridge, "up")
        try:
            engine.start()
            yield engine
            for container in engine.client().containers(all=True):
                engine.client().remove_container(container["Id"], force=True)
        finally:
            engine.stop()
    finally:
        _ip("link", "delete", engine.bridge)
        # dockerd mounts its folder onto itself, and leaves that behind.
        subprocess.run(["umount", folder / "data"], capture_output=True, check=False)
        shutil.rmtree(folder / "data", ignore_errors=True)
        shutil.rmtree(engine.sockets, ignore_errors=True)


def _ip(*arguments: str) -> None:
    subprocess.run(
        ["ip", *arguments], check=True, capture_output=True, env={"PATH": f"{os.environ['PATH']}:/sbin:/usr/sbin"}
    )
