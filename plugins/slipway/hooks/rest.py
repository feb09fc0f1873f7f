"""What the hooks of JSON services share: the connection, retries of passing faults, one-sentence errors."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from airflow.sdk import BaseHook

from slipway.errors import NotFound, SlipwayError, Unavailable, UserError

if TYPE_CHECKING:
    import httpx
    from airflow.sdk import Connection

__all__ = ["RestHook", "base_url", "explained"]

_PASSING = {429, 502, 503, 504}
_PAUSES = (0.2, 0.5, 1.0, 2.0)


def base_url(connection: Connection) -> str:
    """Return the root URL that an HTTP connection names, without a trailing slash.

    As Airflow's HTTP provider does: `host` may be a whole URL; else `schema` is the protocol.
    """
    host = connection.host or ""
    if "://" not in host:
        host = f"{connection.schema or 'http'}://{host}"
    parts = urlsplit(host)
    netloc = parts.netloc
    if connection.port and parts.port is None:
        netloc = f"{netloc}:{connection.port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


class RestHook(BaseHook):
    """A client of one JSON service, made from an HTTP connection.

    :param conn_id: the connection; a login makes basic authentication, a password alone a bearer token.
    """

    service = "The service"
    timeout_seconds = 30.0

    def __init__(self, conn_id: str) -> None:
        super().__init__()
        self.conn_id = conn_id

    @cached_property
    def connection(self) -> Connection:
        """The Airflow connection.

        :raises UserError: if there is none of that id.
        """
        try:
            return self.get_connection(self.conn_id)
        except Exception as e:
            if type(e).__name__ == "AirflowNotFoundException":
                raise UserError(
                    f"Connection '{self.conn_id}' does not exist: create it under Admin → Connections (type HTTP, "
                    f"the address of {self.service[0].lower()}{self.service[1:]})."
                ) from None
            raise

    def get_conn(self) -> httpx.Client:
        """Return a new client with the connection's address and credentials."""
        import httpx

        return httpx.Client(**self._client_options(self.connection))

    @cached_property
    def _client(self) -> httpx.Client:
        return self.get_conn()

    def _client_options(self, connection: Connection) -> dict[str, Any]:
        import httpx

        options: dict[str, Any] = {
            "base_url": base_url(connection),
            "timeout": httpx.Timeout(self.timeout_seconds, connect=5.0),
        }
        if connection.login:
            options["auth"] = (connection.login, connection.password or "")
        elif connection.password:
            options["headers"] = {"Authorization": f"Bearer {connection.password}"}
        return options

    def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        timeout: float | None = None,
        idempotent: bool = True,
        text: bool = False,
    ) -> Any:
        """Send one request and return the decoded JSON answer (None where the body is empty).

        Passing faults are retried here, for some seconds.

        :param idempotent: False for a call that must not be sent twice; its passing faults are the caller's.
        :param text: return the answer's text as it is.
        :raises NotFound: on 404.
        :raises UserError: on another 4xx.
        :raises Unavailable: if the service stays away, throttles or fails.
        """
        import httpx

        kwargs: dict[str, Any] = {"params": params}
        if json is not None:
            kwargs["json"] = json
        if timeout is not None:
            kwargs["timeout"] = timeout
        for pause in (*(_PAUSES if idempotent else ()), None):
            try:
                response = self._client.request(method, path, **kwargs)
            except (httpx.TransportError, httpx.InvalidURL) as e:
                failure: SlipwayError = Unavailable(
                    f"{self.service} does not answer at {self._client.base_url} ({type(e).__name__}): "
                    f"check that it runs and that connection '{self.conn_id}' names its address."
                )
            else:
                if response.is_success:
                    return response.text if text else self._decoded(response)
                failure = self.failure(response)
                if response.status_code not in _PASSING:
                    raise failure
            if pause is None:
                raise failure
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _decoded(self, response: httpx.Response) -> Any:
        try:
            return response.json() if response.content else None
        except ValueError:
            raise UserError(
                f"What answers at {self._client.base_url} is not {self.service[0].lower()}{self.service[1:]}: "
                f"correct the address in connection '{self.conn_id}'."
            ) from None

    def failure(self, response: httpx.Response) -> SlipwayError:
        """Turn an error response into the exception to raise."""
        message, code = explained(response)
        status = response.status_code
        if status == 404:
            return NotFound(message, code)
        if status in {401, 403}:
            return UserError(
                f"{self.service} refuses the credentials of connection '{self.conn_id}' (HTTP {status}): "
                "correct its login and password."
            )
        if 400 <= status < 500 and status not in _PASSING:
            return UserError(message, code)
        return Unavailable(f"{self.service} failed with HTTP {status}: {message}", code)


def explained(response: httpx.Response) -> tuple[str, str]:
    """Return an error's sentence and code: MLflow, the model host and the scoring server agree on their keys."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return " ".join(body["message"].split()), str(body.get("error_code", ""))
    return f"HTTP {response.status_code} from {response.request.method} {response.request.url.path}", ""
