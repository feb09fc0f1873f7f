"""Azure's errors as one sentence each: what it is about, what Azure says, what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from slipway.errors import NotFound, SlipwayError, Unavailable, UserError

__all__ = ["explain", "explained", "explained_operation", "one_line"]

_CLOCK = (
    "Azure takes this machine's token for not valid at this time ({code}): set the clock of this machine right, or "
    "wait if it was set just now."
)
_PASSING = frozenset({408, 409, 412, 429})

# Codes of a deployment that failed (https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints),
# with what helps. The first whose code and text fit.
_REMEDIES = (
    ("OutOfQuota", "", "choose a smaller instance type or count, or have the quota of that family raised"),
    ("", "quota", "choose a smaller instance type or count, or have the quota of that family raised"),
    (
        "",
        "container image",
        "see that the image is in the registry, and that the endpoint's identity has AcrPull on it, which Azure itself "
        "grants on the workspace's own registry alone",
    ),
    ("", "user model", "see that the endpoint's identity may read the workspace's storage account"),
    ("", "instance type", "choose one that this region has"),
    ("AuthorizationFailed", "", "give the connection's identity the role 'AzureML Data Scientist' on the workspace"),
    ("ResourceNotReady", "", "see the container's log above: the scoring server must answer its liveness route"),
    ("ImageBuildFailure", "", "see the build's log in the workspace's storage"),
)
# What Entra would say again until somebody changes the connection, the application or a rule of the tenant
# (https://learn.microsoft.com/entra/identity-platform/reference-error-codes).
_PERMANENT = {
    "AADSTS7000215": "the client secret is wrong",
    "AADSTS7000222": "the client secret has expired",
    "AADSTS7000112": "the application is disabled",
    "AADSTS700016": "the tenant does not know the client id",
    "AADSTS700027": "the application does not know the certificate of the assertion",
    "AADSTS70021": "the application has no federated credential for this workload",
    "AADSTS700211": "the application has no federated credential for this workload's issuer",
    "AADSTS700212": "the application has no federated credential for this workload's audience",
    "AADSTS700213": "the application has no federated credential for this workload's subject",
    "AADSTS90002": "the tenant does not exist",
    "AADSTS900023": "the tenant's id is neither a domain nor a GUID",
    "AADSTS53000": "conditional access asks for a compliant device",
    "AADSTS53003": "conditional access blocks it",
    "AADSTS530003": "conditional access asks for a managed device",
    "AADSTS50105": "the application may not be used by this identity",
    "AADSTS500011": "the tenant does not know the resource that the token is for",
    "AADSTS65001": "nobody has consented to what the application asks for",
}
_ENTRAS_CODE = re.compile(r"AADSTS\d+")
# azure-identity has the same exception, and the words "no response", where the machine's metadata endpoint answered.
_NO_IDENTITY = re.compile(
    "identity not found|no identity has been assigned|no .{0,40}managed identity (endpoint )?found", re.IGNORECASE
)
# Failures of Azure itself, which another try may get past.
_AZURES_OWN = frozenset({"InternalServerError", "InternalError", "ServiceUnavailable", "OperationCanceled", "Timeout"})


def explain(error: Exception, conn_id: str) -> SlipwayError:
    """Turn an exception of azure-core, azure-identity or azure-ai-ml into the one to raise."""
    from azure.core.exceptions import ClientAuthenticationError, HttpResponseError

    status = getattr(error, "status_code", None)
    if isinstance(error, ClientAuthenticationError) and not status:
        return _sign_in_failed(error, conn_id)
    if isinstance(error, HttpResponseError) and status and status >= 400:
        return _refused(error, int(status), conn_id)
    return Unavailable(
        f"Azure does not answer ({type(error).__name__}: {one_line(error)}): check the network of this machine, and "
        f"the cloud of connection '{conn_id}'."
    )


@contextmanager
def explained(conn_id: str) -> Iterator[None]:
    """Raise what azure-core raises in this block as `explain` puts it."""
    from azure.core.exceptions import AzureError

    try:
        yield
    except AzureError as e:
        raise explain(e, conn_id) from None


def explained_operation(what: str, error: dict[str, Any] | None, log: str) -> SlipwayError:
    """Return why a long-running operation failed.

    :param what: what failed, as the beginning of a sentence.
    :param error: Azure's `{"code", "message"}`, where it is known.
    :param log: the end of the container's log, where there is one.
    """
    code = str((error or {}).get("code") or "Failed")
    message = one_line((error or {}).get("message") or "Azure gives no reason")
    fits = (remedy for c, text, remedy in _REMEDIES if c in {"", code} and text in message.lower())
    remedy = next(fits, "see the endpoint in AzureML's studio")
    lines = log.strip().splitlines()
    last = f" the container's last line is '{one_line(lines[-1])}';" if lines else ""
    kind = Unavailable if code in _AZURES_OWN else UserError
    return kind(f"{what} failed at Azure with {code} ({message.rstrip('.')}):{last} {remedy}.", code)


def one_line(text: object) -> str:
    """Return a text in one line of bearable length."""
    line = " ".join(str(text).split())
    return line if len(line) <= 300 else f"{line[:297]}…"


def _sign_in_failed(error: Exception, conn_id: str) -> SlipwayError:
    from azure.identity import CredentialUnavailableError

    text = one_line(error)
    if "AADSTS700024" in text:  # the assertion is not within its valid time range
        return Unavailable(_CLOCK.format(code="AADSTS700024"))
    code = next((code for code in _ENTRAS_CODE.findall(text) if code in _PERMANENT), "")
    absent = isinstance(error, CredentialUnavailableError) and _NO_IDENTITY.search(text)
    if not code and not absent:
        # Entra is busy, or does not answer in a sane way; so is, or does, the machine's own metadata endpoint.
        return Unavailable(f"Azure's sign-in does not answer connection '{conn_id}' now ({text}).")
    reason = f"{_PERMANENT[code]} ({code})" if code else "this machine has no such managed identity"
    return UserError(f"Azure refuses the sign-in of connection '{conn_id}', because {reason}: correct the connection.")


def _refused(error: Any, status: int, conn_id: str) -> SlipwayError:
    details = getattr(error, "error", None)
    code = str(getattr(details, "code", None) or f"HTTP {status}")
    message = one_line(getattr(details, "message", None) or getattr(error, "reason", "") or error)
    if status == 401:
        if "nbf" in message or code == "ExpiredAuthenticationToken":
            return Unavailable(_CLOCK.format(code=code))
        return Unavailable(f"Azure does not take the token of connection '{conn_id}' ({code}: {message}).", code)
    if status == 403:
        return UserError(
            f"The identity of connection '{conn_id}' may not do this ({code}: {message.rstrip('.')}): give it the role "
            "'AzureML Data Scientist' on the workspace.",
            code,
        )
    if status == 404:
        return NotFound(f"Azure does not find it ({code}: {message.rstrip('.')}).", code)
    if status in _PASSING or status >= 500:
        return Unavailable(f"Azure cannot do this now ({code}: {message.rstrip('.')}).", code)
    return UserError(f"Azure refuses this ({code}: {message.rstrip('.')}): correct the request.", code)
