"""Check AWS Signature Version 4 with botocore's own signer.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from urllib.parse import quote

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials
from werkzeug.wrappers import Request

from slipway_sandbox.aws.protocol import AwsError

__all__ = ["ACCESS_KEY", "SECRET_KEY", "Scope", "check_signature", "scope_of"]

# The one account's key. No secret: it opens nothing but this sandbox.
ACCESS_KEY = "AKIASLIPWAYSANDBOX00"
SECRET_KEY = "slipway-sandbox-secret-key"  # noqa: S105

_HEADER = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/]+)/(?P<date>\d{8})/(?P<region>[^/]+)/(?P<service>[^/]+)/aws4_request, *"
    r"SignedHeaders=(?P<headers>[^,]+), *Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True)
class Scope:
    """For whom, where and for which service a request was signed."""

    key: str
    region: str
    service: str


def scope_of(authorization: str) -> Scope | None:
    """Return the scope that an Authorization header names, if it is one of this kind."""
    found = _HEADER.match(authorization)
    return Scope(found["key"], found["region"], found["service"]) if found else None


def check_signature(request: Request, body: bytes) -> None:
    """Check who signed a request.

    :raises AwsError: if it is not signed, by an unknown key, or not with that key's secret.
    """
    found = _HEADER.match(request.headers.get("Authorization", ""))
    if found is None:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
    if found["key"] != ACCESS_KEY:
        raise AwsError("UnrecognizedClientException", "The security token included in the request is invalid.", 403)
    signed = {name: request.headers.get(name, "") for name in found["headers"].split(";")}
    copy = AWSRequest(request.method, _url(request), headers=signed, data=body)
    copy.context["timestamp"] = request.headers.get("X-Amz-Date", "")
    signer = _Signer(Credentials(ACCESS_KEY, SECRET_KEY), found["service"], found["region"])
    wanted = signer.signature_of(copy)
    if not hmac.compare_digest(wanted, found["signature"]):
        raise AwsError(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details.",
            403,
        )


def _url(request: Request) -> str:
    query = request.query_string.decode()
    return f"http://{request.host}{quote(request.path, safe='/-_.~')}{'?' + query if query else ''}"


class _Signer(SigV4Auth):  # type: ignore[misc]
    """botocore's signer, for a request that has only the headers that its client chose to sign."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        """Return all of them; botocore itself would leave out some."""
        headers = HTTPHeaders()
        for name, value in request.headers.items():
            headers[name.lower()] = value
        return headers

    def signature_of(self, request: AWSRequest) -> str:
        """Return the signature that the secret gives."""
        return str(self.signature(self.string_to_sign(request, self.canonical_request(request)), request))
