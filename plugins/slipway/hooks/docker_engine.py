"""A Docker Engine, on this machine or another one, through the docker provider's hook."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from slipway import settings
from slipway.errors import NotFound, SlipwayError, Unavailable, UserError
from slipway.hooks.docker_ssh import ssh_errors, ssh_refusal
from slipway.images.progress import EngineRefusal, Stages, follow

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from slipway.hooks.registry_v2 import Login

__all__ = ["CONFLICT", "DockerEngineHook", "engine_address"]

CONFLICT = "409"

_SCHEMES = {"unix", "tcp", "http", "https", "ssh", "npipe"}
_TIMEOUT_SECONDS = 120
_TLS = ("ca_cert", "client_cert", "client_key")
# Words of the engine's, which has no codes for them: what would be refused again, and what may go well next time.
# A status is a number of its own: an address such as 127.0.0.1:40144 is in these messages too.
_REFUSALS = re.compile(
    "denied|unauthorized|authentication required|forbidden|not found|manifest unknown|invalid reference|name unknown|"
    r"immutable|no basic auth credentials|no match for platform|(?<![\w:.])40[13]\b",
    re.IGNORECASE,
)
_PASSING = ("no space left", "temporary failure", "connection reset", "connection refused", "timed out",
            "network is unreachable", "error sending request", "failed to fetch", "dns error")  # fmt: skip


class DockerEngineHook(BaseHook):
    """Builds, pushes and pulls images, and hands out the client for containers.

    :param conn_id: a docker connection whose host is the engine's address: `unix:///var/run/docker.sock`,
        `tcp://host:2376` (with the extras `ca_cert`, `client_cert` and `client_key`, paths of PEM files) or
        `ssh://user@host`. Without such a connection, `$DOCKER_HOST` or this machine's engine.
    """

    def __init__(self, conn_id: str = "docker_default") -> None:
        super().__init__()
        self.conn_id = conn_id

    @cached_property
    def _where(self) -> tuple[str, dict[str, Any]]:
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            connection = self.get_connection(self.conn_id)
        except AirflowNotFoundException:
            if self.conn_id == "docker_default":
                return settings.docker_host(), {}
            raise UserError(
                f"Connection '{self.conn_id}' does not exist: create it under Admin → Connections (type Docker, the "
                "engine's address as host), or leave it out for this machine's engine."
            ) from None
        extra = connection.extra_dejson
        return engine_address(connection, extra) or settings.docker_host(), extra

    @property
    def extra(self) -> dict[str, Any]:
        """The extras of the engine's connection."""
        return self._where[1]

    @property
    def address(self) -> str:
        """The engine's address, such as `tcp://host:2376`."""
        return self._where[0]

    @cached_property
    def client(self) -> Any:
        """docker-py's client of the Engine API.

        :raises Unavailable: if no engine answers.
        """
        from airflow.providers.docker.hooks.docker import DockerHook
        from airflow.sdk.exceptions import AirflowException

        address, extra = self._where
        tls = {key: extra[key] for key in _TLS if extra.get(key)}
        if tls and len(tls) < len(_TLS):
            raise UserError(
                f"Connection '{self.conn_id}' names {', '.join(tls)} alone: TLS needs the paths ca_cert, client_cert "
                "and client_key in its extra."
            )
        # No login here: what the engine is to present to a registry goes with each call, and is stored nowhere.
        try:
            hook = DockerHook(
                docker_conn_id=None,
                base_url=address,
                version="auto",
                tls=_own_trust(**tls) if tls else None,
                timeout=_TIMEOUT_SECONDS,
            )
            return hook.get_conn()
        except (AirflowException, OSError, ValueError) as e:
            raise self._away(e) from None
        except ssh_errors(address) as e:
            raise self._away(e) from None

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """Translate the client's errors to Slipway's.

        :param what: the action, as in "The image cannot be pushed".
        :raises NotFound: if the engine does not have it.
        :raises UserError: if the engine refuses.
        :raises Unavailable: if it is away, fails, or is at something that is in the way; its HTTP status is the `code`.
        """
        import requests
        from docker.errors import APIError, DockerException
        from docker.errors import NotFound as Missing

        try:
            yield
        except Missing as e:
            raise NotFound(f"{what}: {_one_line(e.explanation or e)}.") from None
        except APIError as e:
            # A conflict is with what somebody else does at this moment: a name in use, a removal in progress.
            status = str(e.status_code or "")
            kind = Unavailable if e.is_server_error() or status == CONFLICT else UserError
            raise kind(f"{what}: {_one_line(e.explanation or e)}.", status) from None
        except (DockerException, requests.RequestException, OSError) as e:
            raise self._away(e) from None
        except ssh_errors(self.address) as e:
            raise self._away(e) from None

    def find_image(self, image: str) -> dict[str, Any] | None:
        """Return what the engine knows of an image, or None if it does not have it."""
        try:
            with self.errors(f"Image {image} cannot be looked up"):
                return dict(self.client.inspect_image(image))
        except NotFound:
            return None

    def build(
        self,
        context: BinaryIO,
        tag: str,
        *,
        arguments: Mapping[str, str],
        labels: Mapping[str, str],
        platform: str,
        keep_stages: bool,
    ) -> None:
        """Build an image from a tar.

        :param keep_stages: whether the engine may keep the stages before the last one, which make the next build of
            the same environment fast.
        :raises UserError: if a step fails; the sentence holds its last lines.
        :raises Unavailable: if the engine is away or out of space.
        """
        with self.errors("The image cannot be built"):
            stream = self.client.build(
                fileobj=context,
                custom_context=True,
                tag=tag,
                buildargs=dict(arguments),
                labels=dict(labels),
                platform=platform if platform != self._native() else None,
                rm=True,
                forcerm=True,
                decode=True,
            )
            stages = Stages()
            try:
                for _ in follow(stages.watch(stream), self.log.info):
                    pass
            except EngineRefusal as e:
                # The engine quotes the whole step; what the step said last is what helps.
                said = [line for line in e.tail if not line.startswith("Step ")]
                code = _one_line(e).rpartition("returned a non-zero code: ")[2]
                why = f"{' / '.join(said[-6:])}; a step ended with: {code}" if said else _one_line(e)
                passing = any(word in why.lower() for word in _PASSING)
                raise (Unavailable if passing else UserError)(f"The image cannot be built ({why[:1500]}).") from None
            finally:
                if not keep_stages:
                    self._remove_images(stages.before_last)

    def push(self, repository: str, tag: str, login: Login | None) -> str:
        """Push an image and return its manifest's digest, `sha256:…`.

        :raises UserError: if the registry refuses.
        :raises Unavailable: if it is away, breaks off or is full.
        """
        what = f"Image {repository}:{tag} cannot be pushed"
        digest = ""
        with self.errors(what):
            stream = self.client.push(repository, tag=tag, stream=True, decode=True, auth_config=_auth(login))
            for aux in self._followed(stream, what):
                digest = aux.get("Digest") or digest
        if not digest:
            raise Unavailable(f"{what}: the engine ended without saying so; see its log.")
        return digest

    def pull(self, image: str, login: Login | None, platform: str | None = None) -> None:
        """Pull an image that the engine does not have.

        :raises UserError: if there is none, or the registry refuses.
        :raises Unavailable: if the registry is away.
        """
        what = f"Image {image} cannot be pulled"
        name, at, digest = image.partition("@")
        with self.errors(what):
            stream = self.client.pull(
                name if at else image, tag=digest or None, stream=True, decode=True, auth_config=_auth(login),
                platform=platform,
            )  # fmt: skip
            for _ in self._followed(stream, what):
                pass

    def _remove_images(self, images: list[str]) -> None:
        """Remove untagged images, with those that they alone were built on."""
        for image in images:
            try:
                with self.errors(f"Image {image} cannot be removed"):
                    self.client.remove_image(image)
            except SlipwayError as e:
                self.log.warning("%s", e)

    def _followed(self, stream: Any, what: str) -> Iterator[dict[str, Any]]:
        try:
            yield from follow(stream, self.log.info)
        except EngineRefusal as e:
            why = str(e)[:600]
            raise (UserError if _REFUSALS.search(why) else Unavailable)(f"{what} ({why}).") from None

    def _native(self) -> str:
        version = self.client.version()
        return f"{version['Os']}/{version['Arch']}"

    def _away(self, error: Exception) -> SlipwayError:
        refusal = ssh_refusal(error, self.address) if isinstance(error, ssh_errors(self.address)) else None
        return refusal or Unavailable(
            f"No Docker Engine answers at {self.address} ({_one_line(error)[:200]}): check that it runs, and that "
            f"connection '{self.conn_id}' names its address."
        )


def engine_address(connection: Connection, extra: Mapping[str, Any]) -> str | None:
    """Return the engine's address that a connection names, or None: its host may be a registry's."""
    if extra.get("docker_host"):
        return str(extra["docker_host"])
    host = connection.host or ""
    scheme = urlsplit(host).scheme if "://" in host else (connection.schema or "")
    if scheme not in _SCHEMES or (scheme in {"http", "https"} and "://" in host):
        return None
    if "://" in host:
        return host
    user = f"{connection.login}@" if scheme == "ssh" and connection.login else ""
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}://{user}{host}{port}"


def _own_trust(ca_cert: str, client_cert: str, client_key: str) -> Any:
    """Return a TLS configuration that trusts the connection's authority alone.

    Without this, requests lets `$REQUESTS_CA_BUNDLE` take the place of `ca_cert`.
    """
    from docker import TLSConfig

    class OwnTrust(TLSConfig):  # type: ignore[misc]  # docker ships no types
        def configure_client(self, client: Any) -> None:
            super().configure_client(client)
            client.trust_env = False

    return OwnTrust(ca_cert=ca_cert, client_cert=(client_cert, client_key), verify=True)


def _auth(login: Login | None) -> dict[str, str]:
    """Return what goes with a push or pull; an empty one keeps docker-py from looking into this user's own logins."""
    return {"username": login.user, "password": login.password} if login else {}


def _one_line(error: object) -> str:
    return " ".join(str(error).split()).rstrip(".")
