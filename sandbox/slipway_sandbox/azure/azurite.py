"""Azurite, Microsoft's own emulator of blob storage: https://github.com/Azure/Azurite. Installed once from npm."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slipway_sandbox.azure.settings import CONTAINER, Settings
from slipway_sandbox.azure.tls import Certificates

__all__ = ["blob_service", "running_azurite", "sas_token"]

VERSION = "3.35.0"
INSTALLED = Path(__file__).resolve().parents[3] / "build" / f"azurite-{VERSION}"


def program() -> Path:
    """Return Azurite's blob server, installed first where it is not there yet."""
    found = INSTALLED / "node_modules" / ".bin" / "azurite-blob"
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with (INSTALLED / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests install it in parallel
        if not found.exists():
            subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", f"--prefix={INSTALLED}",
                 f"azurite@{VERSION}"],
                check=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
    return found


@contextmanager
def running_azurite(settings: Settings, certificates: Certificates) -> Iterator[None]:
    """Run Azurite for the sandbox's storage account, with the workspace's container in it."""
    folder = settings.home / "blobs"
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        str(program()), "--blobHost", "127.0.0.1", "--blobPort", str(settings.blob_port), "--location", str(folder),
        "--cert", str(certificates.chain), "--key", str(certificates.key), "--silent", "--skipApiVersionCheck",
        "--disableTelemetry",
    ]  # fmt: skip
    accounts = {"AZURITE_ACCOUNTS": f"{settings.blob_account}:{settings.account_key}"}
    with (folder / "azurite.log").open("ab") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **accounts}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        _wait(process, settings.blob_port, folder / "azurite.log")
        _make_container(settings, certificates)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"Azurite ended: {log.read_text()[-500:]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise RuntimeError("Azurite does not come up.")


def blob_service(settings: Settings, certificates: Certificates):  # type: ignore[no-untyped-def]
    """Return a client of the storage account."""
    from azure.storage.blob import BlobServiceClient

    return BlobServiceClient(
        settings.blob_url, credential=sas_token(settings), connection_verify=str(certificates.bundle)
    )


def sas_token(settings: Settings, hours: float = 1.0) -> str:
    """Return a shared access signature for the whole account, as a workspace hands out for its datastore."""
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    return str(
        generate_account_sas(
            account_name=settings.blob_account,
            account_key=settings.account_key,
            resource_types=ResourceTypes(service=True, container=True, object=True),
            permission=AccountSasPermissions(read=True, write=True, delete=True, list=True, add=True, create=True),
            expiry=datetime.now(UTC) + timedelta(hours=hours),
        )
    )


def _make_container(settings: Settings, certificates: Certificates) -> None:
    container = blob_service(settings, certificates).get_container_client(CONTAINER)
    if not container.exists():
        container.create_container()
