"""A real registry (CNCF Distribution, Debian's `docker-registry`) with a password, as ECR has one behind its API."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import threading
import time
from pathlib import Path

import bcrypt
import httpx

from slipway_sandbox.serving import Login
from slipway_stack.leftovers import Group
from slipway_stack.ports import LOOPBACK, pick_free

__all__ = ["MANIFEST_TYPES", "Registries", "Registry"]

MANIFEST_TYPES = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in ("docker.distribution.manifest.v2", "docker.distribution.manifest.list.v2",
                 "oci.image.manifest.v1", "oci.image.index.v1")
)  # fmt: skip
_START_SECONDS = 20
_NOTE = "registry.group"


class Registries:
    """A registry for each region, as AWS has them; each starts when it is first asked for.

    :param folder: for what they keep.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._of: dict[str, Registry] = {}
        self._lock = threading.Lock()

    def end_leftovers(self) -> None:
        """End those that an earlier sandbox of this folder left running."""
        for note in self._folder.glob(f"*/{_NOTE}"):
            if earlier := Group.noted(note):
                earlier.end()

    def of(self, region: str) -> Registry:
        """Return a region's registry.

        :raises RuntimeError: if it does not start, with the end of its log.
        """
        with self._lock:
            if region not in self._of:
                registry = Registry(self._folder / region)
                registry.start()
                self._of[region] = registry
            return self._of[region]

    def stop(self) -> None:
        """End them all."""
        with self._lock:
            while self._of:
                self._of.popitem()[1].stop()


class Registry:
    """The registry's process; its data is below the sandbox's folder and goes with it.

    :param folder: for data, configuration and log.
    """

    def __init__(self, folder: Path) -> None:
        self.login = Login("AWS", secrets.token_urlsafe(32))
        self.host = f"{LOOPBACK}:{pick_free(1)[0]}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def is_installed() -> bool:
        """Whether the registry's program is on this machine."""
        return shutil.which("docker-registry") is not None

    @property
    def url(self) -> str:
        """Its address, as ECR's proxyEndpoint."""
        return f"http://{self.host}"

    def start(self) -> None:
        """Start it and wait until it answers.

        :raises RuntimeError: if it does not, with the end of its log.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        hashed = bcrypt.hashpw(self.login.password.encode(), bcrypt.gensalt(4)).decode()
        (self._folder / "htpasswd").write_text(f"{self.login.user}:{hashed}\n")
        # JSON is YAML. Source: https://distribution.github.io/distribution/about/configuration/
        (self._folder / "config.json").write_text(
            json.dumps(
                {
                    "version": "0.1",
                    "log": {"level": "warn"},
                    "storage": {
                        "filesystem": {"rootdirectory": str(self._folder / "data")},
                        "delete": {"enabled": True},
                    },
                    "http": {"addr": self.host, "secret": secrets.token_hex(16)},
                    "auth": {"htpasswd": {"realm": "sandbox", "path": str(self._folder / "htpasswd")}},
                }
            )
        )
        log = self._folder / "log"
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self._folder / "config.json")],
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip
        Group(self._process.pid, self._process.pid, Group.own().boot).note(self._note)
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                if httpx.get(f"{self.url}/v2/").status_code == httpx.codes.UNAUTHORIZED:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"docker-registry does not start: {log.read_text()[-500:]}")

    def stop(self) -> None:
        """End it."""
        if self._process:
            self._process.terminate()
            self._process.wait()
        self._note.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self._folder / _NOTE

    def tags(self, repository: str) -> list[str]:
        """Return a repository's tags."""
        answer = self._ask("GET", f"/v2/{repository}/tags/list")
        return list(answer.json().get("tags") or []) if answer.is_success else []

    def digest(self, repository: str, reference: str) -> str | None:
        """Return the digest of the manifest that a tag or digest names, or None."""
        answer = self._ask("HEAD", f"/v2/{repository}/manifests/{reference}")
        return answer.headers.get("docker-content-digest") if answer.is_success else None

    def _ask(self, method: str, path: str) -> httpx.Response:
        login = (self.login.user, self.login.password)
        return httpx.request(method, f"{self.url}{path}", auth=login, headers={"Accept": MANIFEST_TYPES})
