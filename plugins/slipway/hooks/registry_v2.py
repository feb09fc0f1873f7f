"""A container registry over its HTTP API, without an engine: what has it got?

Sources of the protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md and, for tokens,
https://distribution.github.io/distribution/spec/auth/token/.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from slipway.errors import SlipwayError, Unavailable, UserError

if TYPE_CHECKING:
    import httpx

__all__ = ["ImageRegistry", "Login", "RegistryClient", "challenge"]

_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_PAUSES = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Login:
    """Who pushes and pulls; the password may be a token that ends soon."""

    user: str
    password: str = field(repr=False)


class ImageRegistry(Protocol):
    """A registry that images are pushed to: its address, who we are there, and what a repository needs first."""

    @property
    def url(self) -> str:
        """Root of its API, such as `https://registry.example.com`."""
        ...

    @property
    def login(self) -> Login | None:
        """The login for push and pull, if it asks for one."""
        ...

    def prepare(self, repository: str) -> None:
        """Make a repository ready for its first push; nothing happens if it is."""
        ...


class RegistryClient:
    """Looks up images in one registry.

    :param url: root of its API.
    :param login: who asks.
    :param source: names the connection, for the errors.
    """

    def __init__(self, url: str, login: Login | None, source: str) -> None:
        self.url = url.rstrip("/")
        self.login = login
        self.source = source

    @property
    def host(self) -> str:
        """What references to its images begin with."""
        return self.url.partition("://")[2]

    @cached_property
    def _http(self) -> httpx.Client:
        import httpx

        # Proxies of the environment apply to the registry and to whoever issues its tokens.
        return httpx.Client(timeout=httpx.Timeout(30.0, connect=10.0), follow_redirects=True)

    def find(self, repository: str, tag: str) -> str | None:
        """Return the digest, `sha256:…`, of the image with this tag, or None.

        :raises UserError: if the registry refuses.
        :raises Unavailable: if it is away or fails.
        """
        path = f"/v2/{repository}/manifests/{tag}"
        response = self._answer("HEAD", path)
        if response.status_code == 404:
            return None
        if not response.is_success:
            raise self._failure(response)
        digest = response.headers.get("Docker-Content-Digest", "")
        if not digest.startswith("sha256:"):
            raise UserError(f"What answers at {self.url} is no registry: correct the address in {self.source}.")
        return str(digest)

    def _answer(self, method: str, path: str) -> httpx.Response:
        response = self._send(method, f"{self.url}{path}", {"Accept": _MANIFESTS})
        if response.status_code == 401 and (header := self._authorization(response)):
            response = self._send(method, f"{self.url}{path}", {"Accept": _MANIFESTS, "Authorization": header})
        return response

    def _send(self, method: str, url: str, headers: dict[str, str], **options: object) -> httpx.Response:
        import httpx

        for pause in (*_PAUSES, None):
            try:
                response = self._http.request(method, url, headers=headers, **options)  # type: ignore[arg-type]
            except httpx.TransportError as e:
                failure: SlipwayError = Unavailable(
                    f"The registry does not answer at {self.url} ({type(e).__name__}): check that it runs, and "
                    f"that {self.source} names its address."
                )
            else:
                if response.status_code not in {429, 502, 503, 504}:
                    return response
                failure = self._failure(response)
            if pause is None:
                raise failure
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _authorization(self, refusal: httpx.Response) -> str | None:
        """Return the header that the registry's challenge asks for."""
        import httpx

        basic = httpx.BasicAuth(self.login.user, self.login.password) if self.login else None
        asked = challenge(refusal)
        if asked["scheme"] == "basic" and basic:
            return str(next(basic.auth_flow(httpx.Request("GET", self.url))).headers["Authorization"])
        if asked["scheme"] != "bearer" or not asked.get("realm"):
            return None
        query = {key: asked[key] for key in ("service", "scope") if key in asked}
        response = self._send("GET", asked["realm"], {}, params=query, auth=basic)
        if not response.is_success:
            raise self._failure(response)
        answer = response.json()
        return f"Bearer {answer.get('token') or answer.get('access_token')}"

    def _failure(self, response: httpx.Response) -> SlipwayError:
        if response.status_code in {401, 403}:
            return UserError(
                f"The registry at {self.url} refuses the login of {self.source} (HTTP {response.status_code}): correct "
                "it, or give it the right to push."
            )
        return Unavailable(f"The registry at {self.url} failed with HTTP {response.status_code}.")


def challenge(refusal: httpx.Response) -> dict[str, str]:
    """Return what an answer's `WWW-Authenticate` asks for: `scheme` (in lower case), `realm`, `service`, `scope`."""
    scheme, _, rest = refusal.headers.get("WWW-Authenticate", "").partition(" ")
    return {**dict(_CHALLENGE.findall(rest)), "scheme": scheme.lower()}
