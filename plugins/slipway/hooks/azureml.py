"""AzureML's managed online endpoints: what runs there, its traffic, its keys, requests to it."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException
from airflow.sdk.log import mask_secret

from slipway.azureml import names, traffic
from slipway.azureml.arm import PENDING, Arm, state_of
from slipway.azureml.autoscale import Autoscaling, setting_path
from slipway.azureml.failures import explained, one_line
from slipway.azureml.ownership import claims, made_at
from slipway.azureml.workspace import Workspace
from slipway.errors import SlipwayError, Unavailable, UserError
from slipway.targets import Condition, Served

if TYPE_CHECKING:
    from slipway.azureml.assets import MlClient

__all__ = ["AzureMLEndpointHook", "AzureMLHook", "endpoint_path", "traffic_of"]

_LOG_LINES = 60
_SETTLE_SECONDS = 300.0
_PASSING = {408, 429, 500, 502, 503, 504}
_PAUSES = (0.5, 1.0, 2.0, 4.0)
# In these a deployment answers, also while it is changed.
_SERVING = {"Succeeded", "Updating", "Scaling"}
_READ_ONLY = {"provisioningState", "scoringUri", "swaggerUri"}


class AzureMLHook(BaseHook):
    """A workspace, as a connection of type `azureml` names it.

    :param conn_id: the connection.
    """

    conn_name_attr = "conn_id"
    default_conn_name = "azureml_default"
    conn_type = "azureml"
    hook_name = "Azure Machine Learning"

    def __init__(self, conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.conn_id = conn_id

    @cached_property
    def workspace(self) -> Workspace:
        """The workspace.

        :raises UserError: if the connection is not there, or lacks something.
        """
        try:
            return Workspace.from_connection(self.get_connection(self.conn_id))
        except AirflowNotFoundException:
            raise _no_connection(self.conn_id) from None

    async def aworkspace(self) -> Workspace:
        """Return the workspace without blocking the triggerer."""
        try:
            return Workspace.from_connection(await self.aget_connection(self.conn_id))
        except AirflowNotFoundException:
            raise _no_connection(self.conn_id) from None

    @cached_property
    def client(self) -> MlClient:
        """azure-ai-ml's client of the workspace, which takes seconds to import."""
        from slipway.azureml.assets import MlClient

        return MlClient(self.workspace)

    @cached_property
    def arm(self) -> Arm:
        """The client of the workspace's REST API."""
        return Arm(self.workspace)

    def check(self) -> str:
        """Sign in and read the workspace; return where it is.

        :raises UserError: if the connection is wrong, or the workspace is not there.
        :raises Unavailable: if Azure does not answer.
        """
        found = self.arm.get()
        if found is None:
            workspace = self.workspace
            raise UserError(
                f"Resource group '{workspace.resource_group}' has no workspace '{workspace.name}': correct the names "
                f"in connection '{self.conn_id}'."
            )
        return str(found.get("location"))

    def test_connection(self) -> tuple[bool, str]:
        """Say whether the connection works; for the Test button of Airflow's UI."""
        try:
            location = self.check()
        except SlipwayError as e:
            return False, str(e)
        return True, f"Workspace '{self.workspace.name}' in {location} answers."


class AzureMLEndpointHook(AzureMLHook):
    """The endpoints of a workspace, as the shared steps of every target want them (`slipway.targets.EndpointHook`)."""

    def endpoint(self, endpoint: str) -> dict[str, Any] | None:
        """Return an endpoint's ARM resource; None if it is not there."""
        return self.arm.get(endpoint_path(endpoint))

    def deployment(self, endpoint: str, deployment: str) -> dict[str, Any] | None:
        """Return a deployment's ARM resource; None if it is not there."""
        return self.arm.get(endpoint_path(endpoint, deployment))

    def deployments(self, endpoint: str) -> dict[str, dict[str, Any]]:
        """Return the ARM resources of all deployments of an endpoint, by name."""
        return {found["name"]: found for found in self.arm.list(f"{endpoint_path(endpoint)}/deployments")}

    def served(self, endpoint: str) -> Served | None:
        """Return what is there of an endpoint; None if there is nothing of it."""
        found = self.endpoint(endpoint)
        if found is None:
            return None
        deployments = self.deployments(endpoint)
        live = traffic.live_of(traffic_of(found))
        before = [
            (made_at(resource), name)
            for name, resource in deployments.items()
            if name != live and state_of(resource) == "Succeeded" and names.of_slipway(resource)
        ]
        return Served(
            endpoint,
            model=(found.get("tags") or {}).get(names.MODEL),
            live=live,
            previous=max(before)[1] if before else None,
            deployments=frozenset(deployments),
        )

    def condition(self, endpoint: str, deployment: str) -> Condition:
        """Return how a deployment is, by its provisioning state and its endpoint's; what is changed serves on."""
        states = {
            f"endpoint '{endpoint}'": state_of(self.endpoint(endpoint)),
            f"deployment {deployment}": state_of(self.deployment(endpoint, deployment)),
        }
        ill = [f"{what} is {state or 'gone'}" for what, state in states.items() if state not in _SERVING]
        if ill:
            return Condition(False, f"Azure says that {' and '.join(ill)}: see the deployment's log in the studio.")
        changing = [f"{what} is {state}" for what, state in states.items() if state != "Succeeded"]
        return Condition(True, f"In service; {' and '.join(changing)}." if changing else "In service.")

    def replaced(self, endpoint: str, deployment: str) -> list[str]:
        """Return which of Slipway's deployments one that has all traffic has replaced; none if it has not.

        A younger one is another run's that is under way, for as long as that claims the endpoint.
        """
        deployments, found = self.deployments(endpoint), self.endpoint(endpoint)
        ours = deployments.get(deployment)
        if ours is None or found is None or traffic_of(found) != {deployment: 100}:
            self.log.info("Deployment %s is not the one that serves (any more): it has replaced none.", deployment)
            return []
        return [
            name
            for name, d in deployments.items()
            if name != deployment and names.of_slipway(d) and (made_at(d) < made_at(ours) or not claims(d))
        ]

    def remove_models(self, model: str) -> list[str]:
        """Remove the assets of a model that Slipway made and no deployment of any endpoint uses; return their names."""
        used = {
            str(deployment["properties"].get("model") or "").lower()
            for endpoint in self.arm.list("/onlineEndpoints")
            for deployment in self.deployments(endpoint["name"]).values()
        }
        removed = []
        for version in self.arm.list(f"/models/{model}/versions"):
            name = f"{model}:{version['name']}"
            if names.MODEL not in (version["properties"].get("tags") or {}):
                continue
            if str(version["id"]).lower() in used:
                self.log.info("Model asset %s stays: a deployment of another endpoint uses it.", name)
                continue
            self.arm.delete(f"/models/{model}/versions/{version['name']}")
            removed.append(name)
        return removed

    def set_live(self, endpoint: str, deployment: str) -> None:
        """Give a deployment all traffic, and wait until it has it."""
        self.set_traffic(endpoint, {deployment: 100})
        self._settled(endpoint)

    def set_traffic(self, endpoint: str, shares: dict[str, int], mirror: dict[str, int] | None = None) -> str | None:
        """Ask for other traffic, unless it is so already; what else is known of the endpoint stays.

        :return: URL of the operation, if there is something to wait for.
        :raises Unavailable: if the endpoint is not there any more, or busy.
        """
        found = self._settled(endpoint)
        if traffic_of(found) == shares and traffic_of(found, "mirrorTraffic") == (mirror or {}):
            return None
        kept = {key: value for key, value in found["properties"].items() if key not in _READ_ONLY}
        properties = {**kept, "traffic": shares, "mirrorTraffic": mirror or {}}
        body = {key: found[key] for key in ("location", "tags", "identity", "kind", "sku") if found.get(key)}
        return self.arm.put(endpoint_path(endpoint), {**body, "properties": properties})

    def delete_deployment(self, endpoint: str, deployment: str) -> None:
        """Remove a deployment and wait for it; traffic that it still has goes to the one with the most."""
        found = self.endpoint(endpoint)
        if found is None:
            return
        shares, mirror = traffic_of(found), traffic_of(found, "mirrorTraffic")
        if deployment in shares or deployment in mirror:
            self.set_traffic(endpoint, traffic.without(shares, deployment))
        self._settled(endpoint)
        self.begin_delete(endpoint, deployment)
        self.arm.settle(endpoint_path(endpoint, deployment), _SETTLE_SECONDS)

    def delete_endpoint(self, endpoint: str) -> None:
        """Remove an endpoint with all its deployments, and wait for it."""
        path = endpoint_path(endpoint)
        # An operation that is under way ends first: Azure does one at a time.
        self.arm.settle(path, _SETTLE_SECONDS)
        self.begin_delete(endpoint)
        self.arm.settle(path, _SETTLE_SECONDS)

    def begin_delete(self, endpoint: str, deployment: str | None = None) -> None:
        """Ask for the removal of an endpoint or a deployment, unless it is under way or done."""
        path = endpoint_path(endpoint, deployment)
        found = self.arm.get(path)
        if state_of(found) in {None, "Deleting"}:
            return
        doomed = self.deployments(endpoint).values() if deployment is None else [found or {}]
        for one in doomed:
            if names.AUTOSCALED in (one.get("tags") or {}):
                self.arm.delete(setting_path(self.workspace, endpoint, str(one["name"])))
        self.arm.delete(path)

    def scale(self, plan: dict[str, Any], rules: Autoscaling) -> None:
        """Let Azure scale a deployment."""
        found = self.deployment(plan["endpoint"], plan["deployment"])
        if found is not None:
            path = setting_path(self.workspace, plan["endpoint"], plan["deployment"])
            self.arm.put(path, rules.setting(found, plan))

    def logs(self, endpoint: str, deployment: str) -> str:
        """Return the end of a deployment's container log; empty if there is none."""
        for kind in ("InferenceServer", "StorageInitializer"):
            try:
                path = f"{endpoint_path(endpoint, deployment)}/getLogs"
                answer = self.arm.post(path, {"containerType": kind, "tail": _LOG_LINES})
            except SlipwayError as e:
                self.log.warning("No logs of deployment %s: %s", deployment, e)
                return ""
            if content := str((answer or {}).get("content") or "").strip():
                return content
        return ""

    def secret(self, endpoint: str, found: dict[str, Any]) -> str:
        """Return the key or the token that requests to an endpoint carry."""
        mode = str(found["properties"].get("authMode")).lower()
        if mode == "aadtoken":
            with explained(self.conn_id):
                scope = f"{self.workspace.cloud.machine_learning}/.default"
                secret = str(self.workspace.credential().get_token(scope).token)
        else:
            action, field = ("listKeys", "primaryKey") if mode == "key" else ("token", "accessToken")
            secret = str(self.arm.post(f"{endpoint_path(endpoint)}/{action}")[field])
        mask_secret(secret)
        return secret

    def invoke(self, endpoint: str, payload: dict[str, Any], *, deployment: str | None = None) -> Any:
        """Send a body to an endpoint's scoring URI and return the predictions.

        :param payload: one of MLflow's JSON bodies.
        :param deployment: ask this deployment, with traffic or without.
        :raises UserError: if the endpoint is not there, refuses its key, does not answer as Slipway's images do, or the
            model fails on the input.
        :raises Unavailable: if it does not answer.
        """
        import httpx

        found = self.endpoint(endpoint)
        if found is None:
            raise UserError(f"Endpoint '{endpoint}' is not in workspace '{self.workspace.name}' (any more).")
        url = found["properties"]["scoringUri"]
        headers = {"Authorization": f"Bearer {self.secret(endpoint, found)}"}
        if deployment:
            headers["azureml-model-deployment"] = deployment
        for pause in (*_PAUSES, None):
            try:
                response = httpx.post(url, json=payload, headers=headers, timeout=90)
            except httpx.TransportError as e:
                failure = f"it does not answer ({type(e).__name__})"
            else:
                if response.is_success:
                    return _predictions(endpoint, response)
                if response.status_code not in _PASSING:
                    raise _refusal(endpoint, response)
                failure = f"HTTP {response.status_code}: {one_line(response.text)}"
            if pause is not None:
                time.sleep(pause)
        raise Unavailable(f"Endpoint '{endpoint}' fails at {url} ({failure}).")

    def _settled(self, endpoint: str) -> dict[str, Any]:
        found = self.arm.settle(endpoint_path(endpoint), _SETTLE_SECONDS)
        if found is None:
            raise Unavailable(f"Endpoint '{endpoint}' is gone from workspace '{self.workspace.name}'.")
        if (state := state_of(found)) in PENDING:
            raise Unavailable(f"Endpoint '{endpoint}' is still {state} in Azure.")
        return found


def endpoint_path(endpoint: str, deployment: str | None = None) -> str:
    """Return the path of an endpoint, or of one of its deployments, below the workspace."""
    return f"/onlineEndpoints/{endpoint}" + (f"/deployments/{deployment}" if deployment else "")


def traffic_of(found: dict[str, Any], kind: str = "traffic") -> dict[str, int]:
    """Return an endpoint's traffic without the zeroes."""
    shares = found["properties"].get(kind) or {}
    return {name: int(share) for name, share in shares.items() if int(share)}


def _predictions(endpoint: str, response: Any) -> Any:
    try:
        return response.json()["predictions"]
    except (ValueError, KeyError, TypeError):
        raise UserError(
            f"Endpoint '{endpoint}' answers {one_line(response.text)[:100]!r} where Slipway's scoring images answer "
            '{"predictions": …}: deploy without image, or with one that build_and_push_image has made.'
        ) from None


def _refusal(endpoint: str, response: Any) -> SlipwayError:
    """Return the error of a request that would fail again.

    https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints#http-status-codes
    """
    said = one_line(_message(response))
    if response.status_code in {401, 403}:
        return UserError(f"Endpoint '{endpoint}' refuses the key or token that Azure gave for it ({said}).")
    if response.status_code == 424:
        status = response.headers.get("ms-azureml-model-error-statuscode", "500")
        kind = Unavailable if int(status) in _PASSING - {500} else UserError
        return kind(f"The model fails on this input at endpoint '{endpoint}' (HTTP {status}): {said}")
    return UserError(f"Endpoint '{endpoint}' answers HTTP {response.status_code}: {said}.")


def _message(response: Any) -> str:
    try:
        return str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return str(response.text)


def _no_connection(conn_id: str) -> UserError:
    return UserError(
        f"Connection '{conn_id}' does not exist: create it under Admin → Connections (type Azure Machine Learning)."
    )
