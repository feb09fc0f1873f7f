"""The model host's admin API, and requests to the endpoints that it serves."""

from __future__ import annotations

from typing import Any

from slipway.errors import NotFound, Unavailable, UserError
from slipway.hooks.inference import post_invocation
from slipway.hooks.rest import RestHook, base_url
from slipway.targets import Served

__all__ = ["PENDING", "ModelHostHook"]

PENDING = frozenset({"preparing", "starting"})


class ModelHostHook(RestHook):
    """The model host of the `mlflow` target.

    :param conn_id: HTTP connection with the admin API's address, and its token as the password; `front_door` in its
        extra is where Airflow's workers reach the endpoints, if that is not the address for everybody else.
    """

    service = "The model host"

    def __init__(self, conn_id: str = "model_host_default") -> None:
        super().__init__(conn_id)

    def find_endpoint(self, endpoint: str) -> dict[str, Any] | None:
        """Return what the host knows of an endpoint, or None."""
        try:
            return dict(self.call("GET", f"/v1/endpoints/{endpoint}"))
        except NotFound:
            return None

    def served(self, endpoint: str) -> Served | None:
        """Return what is there of an endpoint; None if there is nothing of it."""
        found = self.find_endpoint(endpoint)
        if found is None:
            return None
        models = {deployment["id"]: deployment["model"] for deployment in found["deployments"]}
        return Served(endpoint, models.get(found["live"]), found["live"], found["previous"], frozenset(models))

    def put_deployment(self, endpoint: str, deployment: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Create a deployment beside what serves, or adopt the one that is there; it is not waited for.

        :raises Unavailable: if another one of the endpoint is in the making, which passes.
        """
        try:
            return dict(self.call("PUT", f"/v1/endpoints/{endpoint}/deployments/{deployment}", json=spec))
        except UserError as e:
            raise (Unavailable(str(e), e.code) if e.code == "RESOURCE_CONFLICT" else e) from None

    def get_deployment(self, endpoint: str, deployment: str, wait: float = 0.0) -> dict[str, Any]:
        """Return a deployment, after at most `wait` seconds if it is still coming up."""
        return dict(
            self.call(
                "GET",
                f"/v1/endpoints/{endpoint}/deployments/{deployment}",
                params={"wait": wait},
                timeout=wait + self.timeout_seconds,
            )
        )

    async def wait_for_deployment(self, endpoint: str, deployment: str, wait: float) -> dict[str, Any]:
        """Return a deployment as `get_deployment` does, without blocking the triggerer.

        :raises Unavailable: if the host does not answer.
        """
        path = f"/v1/endpoints/{endpoint}/deployments/{deployment}"
        return await self._call_async("GET", path, params={"wait": wait}, timeout=wait + self.timeout_seconds)

    async def _call_async(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        import httpx

        connection = await self.aget_connection(self.conn_id)
        async with httpx.AsyncClient(**self._client_options(connection)) as client:
            try:
                response = await client.request(method, path, **options)
            except httpx.TransportError as e:
                raise Unavailable(f"{self.service} does not answer ({type(e).__name__}).") from None
        if not response.is_success:
            raise self.failure(response)
        return dict(response.json())

    def set_live(self, endpoint: str, deployment: str) -> dict[str, Any]:
        """Switch an endpoint to a deployment at once; what served before drains."""
        return dict(self.call("POST", f"/v1/endpoints/{endpoint}/live", json={"deployment": deployment}, timeout=150))

    def delete_deployment(self, endpoint: str, deployment: str) -> bool:
        """Remove a deployment that is not live; return whether there was one."""
        try:
            self.call("DELETE", f"/v1/endpoints/{endpoint}/deployments/{deployment}")
        except NotFound:
            return False
        return True

    def delete_endpoint(self, endpoint: str) -> bool:
        """Drain and remove an endpoint with all its deployments; return whether there was one."""
        try:
            self.call("DELETE", f"/v1/endpoints/{endpoint}", timeout=300)
        except NotFound:
            return False
        return True

    def get_token(self, endpoint: str) -> str:
        """Return the bearer token of an endpoint that asks for one."""
        return str(self.call("GET", f"/v1/endpoints/{endpoint}/token")["token"])

    def token_url(self, endpoint: str) -> str:
        """Return where an administrator reads an endpoint's token."""
        return f"{base_url(self.connection)}/v1/endpoints/{endpoint}/token"

    def address(self, endpoint: str, deployment: str | None = None) -> tuple[str, dict[str, str]]:
        """Return where an endpoint, or one of its deployments, is reached from here, and the headers to send there.

        :raises NotFound: if it does not exist.
        """
        known = self.call("GET", f"/v1/endpoints/{endpoint}")
        # Published addresses are for those outside; from inside a container network another one may lead there.
        inside = self.connection.extra_dejson.get("front_door")
        url = f"{str(inside).rstrip('/')}/endpoints/{endpoint}" if inside else known["url"]
        headers = {"X-Slipway-Deployment": deployment} if deployment else {}
        # A candidate may ask for a token where the live deployment does not.
        asked = next((d for d in known["deployments"] if d["id"] == (deployment or known["live"])), known)
        if asked["auth"] == "token":
            headers["Authorization"] = f"Bearer {self.get_token(endpoint)}"
        return url, headers

    def invoke(self, endpoint: str, payload: dict[str, Any], *, deployment: str | None = None) -> Any:
        """Send a body to an endpoint's `/invocations` and return the predictions.

        :param payload: one of MLflow's JSON bodies.
        :param deployment: ask this deployment rather than the live one.
        :raises UserError: if the endpoint does not exist, or its scoring server refuses the input.
        :raises Unavailable: if it does not answer.
        """
        url, headers = self.address(endpoint, deployment)
        return post_invocation(endpoint, url, payload, headers, log="the scoring server's log on the model host")
