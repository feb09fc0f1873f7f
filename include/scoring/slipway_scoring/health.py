"""The command `health`: whether the server of this container is ready, for the image's HEALTHCHECK."""

from __future__ import annotations

import http.client
import socket
import ssl
import sys

from slipway_scoring.settings import Settings, SettingsError

_SECONDS = 4.0


def main(arguments: list[str]) -> int:
    """`health`: 0 if the server that the environment's settings describe answers `/ping` with success, else 1."""
    try:
        settings = Settings.read(arguments)
        status = _ping(settings)
    except (SettingsError, OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"The server does not answer: {error}\n")
        return 1
    if status != http.client.OK:
        sys.stderr.write(f"The server answers with HTTP {status}.\n")
        return 1
    return 0


def _ping(settings: Settings) -> int:
    if settings.uds:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as own:
            own.settimeout(_SECONDS)
            own.connect(settings.uds)
            answered = http.client.HTTPConnection("localhost")
            answered.sock = own
            answered.request("GET", f"{settings.root_path}/ping")
            return answered.getresponse().status
    host = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host  # noqa: S104  # compared, not bound
    connection: http.client.HTTPConnection
    if settings.tls_cert:
        # The certificate is for the server's own name, and this is a question to oneself.
        context = ssl._create_unverified_context()  # noqa: S323
        connection = http.client.HTTPSConnection(host, settings.port, timeout=_SECONDS, context=context)
    else:
        connection = http.client.HTTPConnection(host, settings.port, timeout=_SECONDS)
    try:
        connection.request("GET", f"{settings.root_path}/ping")
        return connection.getresponse().status
    finally:
        connection.close()
