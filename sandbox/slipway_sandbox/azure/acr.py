"""The token service of an Azure container registry, before a real registry that believes it.

`/oauth2/exchange` makes a refresh token of a Microsoft Entra token, `/oauth2/token` an access token of a refresh token.
Protocol: https://azure.github.io/acr/AAD-OAuth.html; the access tokens are those of
https://distribution.github.io/distribution/spec/auth/jwt/, signed with the key in `bundle`.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

__all__ = ["AcrTokens", "running_acr_tokens"]

_SERVICE = "registry.azurecr.sandbox"
_ISSUER = "Azure Container Registry"
_USER = "00000000-0000-0000-0000-000000000000"
_LIFETIME_SECONDS = 600


@dataclass
class AcrTokens:
    """The service's key, and what it knows.

    :param accepts: tells whether a Microsoft Entra token is good.
    """

    accepts: Callable[[str], bool]
    url: str = ""
    refresh_tokens: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _ISSUER)])
        now = dt.datetime.now(dt.UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .sign(self._key, hashes.SHA256())
        )

    def registry_settings(self, folder: Path) -> str:
        """Return the YAML with which a registry takes this service's tokens; its certificate goes into `folder`."""
        bundle = folder / "acr.pem"
        bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        return (
            f"auth: {{token: {{realm: '{self.url}/oauth2/token', service: {_SERVICE}, issuer: {_ISSUER}, "
            f"rootcertbundle: {bundle}}}}}\n"
        )

    def exchange(self, form: dict[str, str]) -> tuple[int, dict[str, str]]:
        """Answer `/oauth2/exchange`."""
        if form.get("grant_type") != "access_token" or form.get("service") != _SERVICE:
            return 400, {"error": "invalid_request"}
        if not self.accepts(form.get("access_token", "")):
            return 401, {"error": "unauthorized"}
        token = secrets.token_urlsafe(48)
        self.refresh_tokens.add(token)
        return 200, {"refresh_token": token}

    def token(self, form: dict[str, str], basic: str) -> tuple[int, dict[str, str]]:
        """Answer `/oauth2/token`, for a refresh token in the form, or as the password of basic authentication."""
        user, _, password = base64.b64decode(basic).decode().partition(":") if basic else ("", "", "")
        refresh = form.get("refresh_token") or (password if user == _USER else "")
        if refresh not in self.refresh_tokens or form.get("service") != _SERVICE:
            return 401, {"error": "unauthorized"}
        now = int(time.time())
        claims = {
            "iss": _ISSUER, "sub": _USER, "aud": _SERVICE, "exp": now + _LIFETIME_SECONDS, "nbf": now - 10, "iat": now,
            "jti": secrets.token_hex(8), "access": [_access(scope) for scope in form.get("scope", "").split()],
        }  # fmt: skip
        chain = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        token = jwt.encode(claims, self._key, algorithm="RS256", headers={"x5c": [chain]})
        return 200, {"access_token": token}


@contextmanager
def running_acr_tokens(accepts: Callable[[str], bool]) -> Iterator[AcrTokens]:
    """Run the service on an ephemeral port of this machine."""
    tokens = AcrTokens(accepts)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(urlsplit(self.path).query)

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())

        def _answer(self, query: str) -> None:
            form = {key: " ".join(values) for key, values in parse_qs(query).items()}
            basic = self.headers.get("Authorization", "").removeprefix("Basic ")
            path = urlsplit(self.path).path
            if path == "/oauth2/exchange" and self.command == "POST":
                status, body = tokens.exchange(form)
            elif path == "/oauth2/token":
                status, body = tokens.token(form, basic)
            else:
                status, body = 404, {"error": "not_found"}
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    tokens.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield tokens
    finally:
        server.shutdown()
        server.server_close()


def _access(scope: str) -> dict[str, Any]:
    """Return a scope, `repository:name:pull,push`, as a token holds it."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return {"type": kind, "name": name, "actions": actions.split(",")}
