"""An ssh server of a test's own: Debian's `sshd` on an ephemeral loopback port, with a host key and a user's key."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko

from slipway_stack.ports import pick_free

_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin"


@dataclass(frozen=True)
class SshServer:
    """One `sshd` that lets this user in with one key, and knows the engine that the tests use."""

    folder: Path
    port: int

    @property
    def address(self) -> str:
        """What a connection names."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def let_in(self, home: Path, *, host_key: Path | None = None, user_key: Path | None = None) -> None:
        """Write a user's `.ssh`: the host's key among the known ones, and the key that the host takes, or others."""
        ssh = home / ".ssh"
        ssh.mkdir(mode=0o700, exist_ok=True)
        public = (host_key or self.folder / "host").with_suffix(".pub").read_text()
        (ssh / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {public}")
        shutil.copy(user_key or self.folder / "user", ssh / "id_ed25519")


def make_key(path: Path) -> Path:
    """Make a key pair without a passphrase: the path, and beside it `.pub`."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path], check=True)
    return path


@contextmanager
def running_sshd(folder: Path) -> Iterator[SshServer]:
    """Run a server with its files in `folder`."""
    (port,) = pick_free(1)
    for name in ("host", "user"):
        make_key(folder / name)
    environment = {"PATH": os.environ["PATH"]}
    if "DOCKER_HOST" in os.environ:
        environment["DOCKER_HOST"] = os.environ["DOCKER_HOST"]
    (folder / "sshd_config").write_text(
        "\n".join(
            (
                f"ListenAddress 127.0.0.1:{port}",
                f"HostKey {folder}/host",
                f"AuthorizedKeysFile {folder}/user.pub",
                "AuthenticationMethods publickey",
                "PermitRootLogin prohibit-password",
                # The folders above belong to whoever runs the tests, or to all.
                "StrictModes no",
                "UsePAM no",
                "PidFile none",
                f"SetEnv {' '.join(f'{name}={value}' for name, value in environment.items())}",
            )
        )
        + "\n"
    )
    if os.geteuid() == 0:
        # The package's service makes it when it starts, which it does not without systemd.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    # By a name alone it refuses to start.
    command = [str(shutil.which("sshd", path=_PATH)), "-D", "-e", "-f", str(folder / "sshd_config")]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until_up(process, port, folder / "log")
        yield SshServer(folder, port)
    finally:
        process.terminate()
        process.wait(10)


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            with paramiko.Transport(("127.0.0.1", port)) as transport:
                transport.start_client(timeout=10)
            return
        except (OSError, paramiko.SSHException):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
