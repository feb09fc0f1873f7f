"""One request to a scoring server, and its refusals in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.errors import NotFound, Unavailable, UserError
from slipway.hooks.rest import explained

__all__ = ["post_invocation"]

_TIMEOUT_SECONDS = 120


def post_invocation(
    endpoint: str, url: str, payload: dict[str, Any], headers: Mapping[str, str] | None = None, *, log: str
) -> Any:
    """Send a body to `/invocations` below `url` and return the predictions.

    :param endpoint: its name, for the errors.
    :param log: where its log is, as in "the container's log".
    :raises UserError: if the server refuses the body, or the model fails on it.
    :raises Unavailable: if it does not answer.
    """
    import httpx

    try:
        response = httpx.post(f"{url}/invocations", json=payload, headers=headers, timeout=_TIMEOUT_SECONDS)
    except httpx.TransportError as e:
        raise Unavailable(f"Endpoint '{endpoint}' does not answer at {url} ({type(e).__name__}): see {log}.") from None
    if response.is_success:
        return response.json()["predictions"]
    status = response.status_code
    if status in {401, 403}:
        raise UserError(f"Endpoint '{endpoint}' refuses the token that is known for it: deploy it again.")
    message, code = explained(response)
    if status == 500:  # the scoring server is well, and its model fails: it would fail again
        raise UserError(f"The model fails on this input at endpoint '{endpoint}': {message}", code)
    if status == 404:
        raise NotFound(message, code)
    if 400 <= status < 500 and status != 429:
        raise UserError(message, code)
    raise Unavailable(f"Endpoint '{endpoint}' failed with HTTP {status}: {message}", code)
