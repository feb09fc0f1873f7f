"""Microsoft Entra ID as azure-identity and MSAL call it: discovery, the v2.0 token endpoint, managed identity.

Protocol: https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow, and for App Service's
managed identity https://learn.microsoft.com/azure/app-service/overview-managed-identity#rest-endpoint-reference.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from slipway_sandbox.azure.errors import ArmError
from slipway_sandbox.azure.faults import Faults
from slipway_sandbox.azure.settings import Settings

__all__ = ["Login"]

LIFETIME_SECONDS = 3600
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Login:
    """Issues tokens and checks them."""

    def __init__(self, settings: Settings, faults: Faults) -> None:
        self.settings = settings
        self.faults = faults
        self._key = secrets.token_bytes(32)
        self.identity_header = secrets.token_hex(16)
        self.issued = 0

    def routes(self) -> list[Route]:
        """The routes of the authority."""
        return [
            Route("/{tenant}/v2.0/.well-known/openid-configuration", self._openid),
            Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
            Route("/_sandbox/msi/token", self._managed_identity),
        ]

    def issue(self, audience: str) -> str:
        """Return a token for a resource, signed by this sandbox."""
        now = time.time()
        valid = {"nbf": now - 300, "exp": now + LIFETIME_SECONDS}
        if self.faults.take("expired_token", audience):
            valid = {"nbf": now - 7200, "exp": now - 3600}
        elif self.faults.take("skewed_token", audience):
            valid = {"nbf": now + 600, "exp": now + 4200}
        self.issued += 1
        parts = [{"alg": "HS256", "typ": "JWT"}, {"aud": audience.rstrip("/"), "tid": self.settings.tenant, **valid}]
        signed = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{self._signature(signed)}"

    def check(self, authorization: str, audience: str) -> None:
        """Check a bearer token, with the answers of Azure Resource Manager.

        :raises ArmError: 401 with its reason.
        """
        scheme, _, token = authorization.partition(" ")
        signed, _, signature = token.rpartition(".")
        if scheme.lower() != "bearer" or not hmac.compare_digest(signature, self._signature(signed)):
            raise _refused("InvalidAuthenticationToken", "The access token is invalid.")
        claims = json.loads(_decoded(signed.split(".")[1]))
        if claims["aud"] != audience.rstrip("/"):
            raise _refused("InvalidAuthenticationTokenAudience", f"The access token is for '{claims['aud']}'.")
        if claims["exp"] < time.time():
            raise _refused(
                "ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time."
            )
        if claims["nbf"] > time.time() + 300:  # Azure allows for five minutes
            raise _refused("AuthenticationFailed", "The access token is not yet valid: its nbf is in the future.")

    def _signature(self, signed: str) -> str:
        return _encoded(hmac.new(self._key, signed.encode(), hashlib.sha256).digest())

    async def _openid(self, request: Request) -> JSONResponse:
        root = f"{self.settings.url}/{request.path_params['tenant']}"
        return JSONResponse(
            {
                "token_endpoint": f"{root}/oauth2/v2.0/token",
                "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
                "issuer": f"{root}/v2.0",
                "jwks_uri": f"{root}/discovery/v2.0/keys",
                "response_types_supported": ["token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    async def _token(self, request: Request) -> JSONResponse:
        form = await request.form()
        known = self.settings
        if request.path_params["tenant"] != known.tenant:
            return _denied("invalid_request", f"AADSTS90002: Tenant '{request.path_params['tenant']}' not found.")
        if form.get("client_id") != known.client_id:
            return _denied("unauthorized_client", f"AADSTS700016: Application '{form.get('client_id')}' was not found.")
        federated = form.get("client_assertion_type") == ASSERTION and form.get("client_assertion")
        if not federated and form.get("client_secret") != known.client_secret:
            return _denied("invalid_client", "AADSTS7000215: Invalid client secret provided.")
        audience = str(form.get("scope", "")).split()[0].removesuffix(".default").rstrip("/")
        return JSONResponse(
            {"token_type": "Bearer", "expires_in": LIFETIME_SECONDS, "access_token": self.issue(audience)}
        )

    async def _managed_identity(self, request: Request) -> JSONResponse:
        if request.headers.get("X-IDENTITY-HEADER") != self.identity_header:
            return JSONResponse({"statusCode": 401, "message": "The identity header is wrong."}, 401)
        audience = request.query_params["resource"].rstrip("/")
        answer: dict[str, Any] = {
            "access_token": self.issue(audience),
            "expires_on": str(int(time.time()) + LIFETIME_SECONDS),
            "resource": audience,
            "token_type": "Bearer",
        }
        return JSONResponse(answer)


def _denied(error: str, description: str) -> JSONResponse:
    return JSONResponse({"error": error, "error_description": description}, 400 if error != "invalid_client" else 401)


def _refused(code: str, message: str) -> ArmError:
    challenge = f'Bearer error="invalid_token", error_description="{message}"'
    return ArmError(401, code, message, {"WWW-Authenticate": challenge})


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
