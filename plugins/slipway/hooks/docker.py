"""Endpoints on a Docker Engine.

An endpoint is a front door's container, which holds the published port, and a container for each deployment. They share
a volume: servers listen there on Unix sockets, and the door keeps there which of them is live.
"""

from __future__ import annotations

import json
import time
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from slipway.containers import names
from slipway.containers.spec import STOP_SECONDS, USER, ServerSpec, confined
from slipway.errors import NotFound, SlipwayError, Unavailable, UserError
from slipway.hooks.docker_engine import CONFLICT, DockerEngineHook
from slipway.hooks.inference import post_invocation
from slipway.images.door import ensure_door_image
from slipway.targets import Served

__all__ = ["DockerEndpointHook", "Ended"]

_LOG_LINES = 30
_LOG_CHARACTERS = 1500
_RESTART_SECONDS = 300.0
_PAUSE_SECONDS = 0.5
# Statuses of SIGTERM, heeded or not, of SIGKILL, and of what was gone when the engine came back.
_FROM_OUTSIDE = {0, 137, 143, 255}
_DOOR = ["python", "-m", "slipway_model_host.lone"]
_ASK = ["python", "-S", "-m", "slipway_model_host.lone.ask", names.HOME]


class Ended(UserError):
    """A container was ended from outside, as all are when their engine stops."""


class DockerEndpointHook:
    """Deployments, their switch, and what serves, on one engine.

    :param conn_id: the engine's docker connection; its extras `bind` (address that ports are published on) and
        `public_host` (name that clients use) say otherwise than loopback for this machine's engine, and all addresses
        and the engine's own host for a remote one.
    """

    def __init__(self, conn_id: str = "docker_default") -> None:
        self.conn_id = conn_id
        self.engine = DockerEngineHook(conn_id)

    # What is there.

    def served(self, endpoint: str) -> Served | None:
        """Return what is there of an endpoint; None if there is nothing of it."""
        containers = self._containers(endpoint)
        if not containers:
            return None
        try:
            status, answers = self._status(endpoint), True
        except Unavailable as e:
            self.engine.log.warning("%s", e)
            status, answers = {}, False
        models = {
            c["Labels"][names.DEPLOYMENT_LABEL]: c["Labels"].get(names.MODEL_LABEL)
            for c in containers
            if names.DEPLOYMENT_LABEL in c["Labels"]
        }
        live, previous = (status.get(key) if status.get(key) in models else None for key in ("live", "previous"))
        return Served(
            endpoint=endpoint,
            model=models[live] if live else min(filter(None, models.values()), default=None),
            live=live,
            previous=previous,
            deployments=frozenset(models),
            answers=answers,
        )

    def url(self, endpoint: str) -> str:
        """Return the endpoint's URL.

        :raises NotFound: if it has no front door.
        """
        with self.engine.errors(f"Endpoint '{endpoint}' is not on the engine at {self.engine.address}"):
            door = self.engine.client.inspect_container(names.door_name(endpoint))
        port = door["HostConfig"]["PortBindings"][f"{names.PORT}/tcp"][0]["HostPort"]
        host = self._publishing["public_host"]
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def address(self, endpoint: str) -> tuple[str, dict[str, str]]:
        """Return where an endpoint is reached, and the headers to send there: none."""
        return self.url(endpoint), {}

    def invoke(self, endpoint: str, payload: dict[str, Any], *, deployment: str | None = None) -> Any:
        """Send a body to an endpoint's `/invocations` and return the predictions.

        :param deployment: ask this deployment rather than the live one.
        :raises UserError: if the endpoint does not exist, or its scoring server refuses the input.
        :raises Unavailable: if it does not answer.
        """
        headers = {"X-Slipway-Deployment": deployment} if deployment else {}
        log = f"`docker logs {names.server_name(endpoint, deployment or '…')}`"
        return post_invocation(endpoint, self.url(endpoint), payload, headers, log=log)

    # Deploying.

    def put_deployment(self, spec: ServerSpec, port: int | None) -> None:
        """Create or adopt the endpoint's front door and a deployment's container, and start them.

        :param port: where the endpoint is published; None for the same as before, or one of its own.
        :raises UserError: if the port is taken, or another than the endpoint has.
        """
        self._ensure_door(spec.endpoint, port)
        if self._find(spec.name) is None:
            self._create(spec)
        self.start(spec.endpoint, spec.deployment)

    def start(self, endpoint: str, deployment: str) -> None:
        """Start a deployment's container, if it does not run."""
        name = names.server_name(endpoint, deployment)
        with self.engine.errors(f"Container {name} cannot be started"):
            self.engine.client.start(name)

    def deployment_state(self, endpoint: str, deployment: str) -> str:
        """Return `starting` or `ready`.

        :raises Ended: if the container was ended from outside.
        :raises UserError: if it ended by itself, with the last lines of its log.
        :raises NotFound: if it is not there.
        """
        name = names.server_name(endpoint, deployment)
        with self.engine.errors(f"Deployment {deployment} of endpoint '{endpoint}' is not there"):
            state = self.engine.client.inspect_container(name)["State"]
        if not state["Running"]:
            outside = state["ExitCode"] in _FROM_OUTSIDE and not state.get("OOMKilled")
            raise (Ended if outside else UserError)(self._obituary(name, state))
        try:
            upstream = self._status(endpoint).get("deployments", {}).get(deployment, {})
        except Unavailable:
            return "starting"  # so does the door, then
        return "ready" if upstream.get("up") else "starting"

    def set_live(self, endpoint: str, deployment: str) -> None:
        """Let a deployment serve; one that was stopped is started first. Requests under way end where they are."""
        name = names.server_name(endpoint, deployment)
        with self.engine.errors(f"Deployment {deployment} of endpoint '{endpoint}' cannot serve"):
            self.engine.client.update_container(name, restart_policy={"Name": "unless-stopped"})
            self.engine.client.start(name)
        self._wait_until_up(endpoint, deployment)
        self._door(endpoint, "live", deployment)

    def stop_others(self, endpoint: str, deployment: str) -> list[str]:
        """Stop and remove what does not serve any more; return the deployments.

        Each server gets SIGTERM and ends once its requests are answered.

        :raises UserError: if the deployment that is to stay is not the live one.
        :raises Unavailable: if the front door does not say what is live.
        """
        served = self.served(endpoint)
        if served and not served.answers:
            raise Unavailable(f"What endpoint '{endpoint}' serves cannot be told, so nothing of it is removed now.")
        if served is None or served.live != deployment:
            raise UserError(f"Endpoint '{endpoint}' does not serve {deployment} any more: another deploy went on.")
        others = sorted(served.deployments - {deployment})
        for other in others:
            self.delete_deployment(endpoint, other)
        return others

    def delete_deployment(self, endpoint: str, deployment: str) -> None:
        """Remove a deployment that does not serve; it is well if it is not there.

        :raises UserError: if it is live.
        :raises Unavailable: if the front door does not say.
        """
        # The door is asked before anything is removed: it may serve what its last switch named, and nobody else knows.
        if self._status(endpoint).get("live") == deployment:
            raise UserError(f"Deployment {deployment} of endpoint '{endpoint}' is live: let another one serve first.")
        self._remove(names.server_name(endpoint, deployment))
        if self._find(names.door_name(endpoint)):
            self._door(endpoint, "drop", deployment)

    def delete_endpoint(self, endpoint: str) -> None:
        """Remove all of an endpoint, the door first: nobody is let in any more, and open requests end."""
        self._remove(names.door_name(endpoint))
        for container in self._containers(endpoint):
            self._remove(container["Id"])
        try:
            with self.engine.errors(f"Volume {names.volume_name(endpoint)} cannot be removed"):
                self.engine.client.remove_volume(names.volume_name(endpoint))
        except NotFound:
            return

    def log_tail(self, container: str) -> list[str]:
        """Return the last lines of a container's log."""
        try:
            with self.engine.errors("The log cannot be read"):
                text = self.engine.client.logs(container, tail=_LOG_LINES).decode(errors="replace")
        except SlipwayError:
            return []
        return [line for line in text.splitlines() if line.strip()]

    # The front door.

    @cached_property
    def _publishing(self) -> dict[str, str]:
        """Where ports are published, and what clients call the place."""
        address = urlsplit(self.engine.address)
        remote = address.scheme not in {"unix", "npipe"}
        extra = self.engine.extra
        bind = str(extra.get("bind") or ("0.0.0.0" if remote else "127.0.0.1"))  # noqa: S104  # what remote means
        host = extra.get("public_host") or (address.hostname if remote else bind)
        return {"bind": bind, "public_host": str(host)}

    def _ensure_door(self, endpoint: str, port: int | None) -> None:
        found = self._find(names.door_name(endpoint))
        if found is not None:
            published = int(found["HostConfig"]["PortBindings"][f"{names.PORT}/tcp"][0]["HostPort"])
            if port is not None and port != published:
                raise UserError(
                    f"Endpoint '{endpoint}' is on port {published} and not {port}: leave port out, or run "
                    "undeploy_docker first to move it."
                )
            with self.engine.errors(f"The front door of endpoint '{endpoint}' cannot be started"):
                self.engine.client.start(names.door_name(endpoint))
            return
        image = ensure_door_image(self.engine)
        for candidate in [port] if port else names.likely_ports(endpoint):
            try:
                self._create_door(endpoint, image, candidate)
            except _PortTaken:
                continue
            return
        shown = f"Port {port} of the engine's machine is" if port else "All ports for the endpoint are"
        raise UserError(f"{shown} taken: free it, or give another port.")

    def _create_door(self, endpoint: str, image: str, port: int) -> None:
        client, name = self.engine.client, names.door_name(endpoint)
        with self.engine.errors(f"The front door of endpoint '{endpoint}' cannot be started"):
            created = client.create_container(
                image,
                ["--home", names.HOME, "--port", str(names.PORT)],
                entrypoint=_DOOR,
                name=name,
                user=USER,
                labels={names.ENDPOINT_LABEL: endpoint},
                ports=[names.PORT],
                healthcheck={"test": ["CMD", *_ASK, "status"], "interval": 30_000_000_000},
                host_config=client.create_host_config(
                    restart_policy={"Name": "unless-stopped"},
                    port_bindings={names.PORT: (self._publishing["bind"], port)},
                    pids_limit=256,
                    **confined(endpoint),
                ),
            )
        try:
            with self.engine.errors(f"The front door of endpoint '{endpoint}' cannot be started"):
                client.start(created["Id"])
        except SlipwayError as e:
            self._remove(created["Id"])
            if "port is already allocated" in str(e) or "address already in use" in str(e):
                raise _PortTaken from None
            raise

    def _status(self, endpoint: str) -> dict[str, Any]:
        """Return what the door knows; nothing if there is no door.

        :raises Unavailable: if it is not up.
        """
        try:
            return self._door(endpoint, "status")
        except NotFound:
            return {}

    def _door(self, endpoint: str, command: str, deployment: str = "") -> dict[str, Any]:
        """Run a command beside the door, in its container.

        :raises UserError: if the door refuses.
        :raises Unavailable: if it is not up.
        """
        name = names.door_name(endpoint)
        with self.engine.errors(f"The front door of endpoint '{endpoint}' cannot be asked"):
            client = self.engine.client
            if not client.inspect_container(name)["State"]["Running"]:
                raise Unavailable(f"The front door of endpoint '{endpoint}' does not run: see the log of {name}.")
            started = client.exec_create(name, [*_ASK, command, *([deployment] if deployment else [])])
            output = client.exec_start(started["Id"]).decode(errors="replace")
        try:
            answer: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
        except (ValueError, IndexError):
            raise Unavailable(f"The front door of endpoint '{endpoint}' does not answer: {output[-200:]}") from None
        if "error" in answer:
            away = "does not answer" in answer["error"]
            raise (Unavailable if away else UserError)(f"Endpoint '{endpoint}': {answer['error']}")
        return answer

    def _wait_until_up(self, endpoint: str, deployment: str) -> None:
        """Wait for a server that has been up before; one that runs is up at once."""
        deadline = time.monotonic() + _RESTART_SECONDS
        while self.deployment_state(endpoint, deployment) != "ready":
            if time.monotonic() > deadline:
                raise Unavailable(f"Deployment {deployment} of endpoint '{endpoint}' does not come up again.")
            time.sleep(_PAUSE_SECONDS)

    # Containers.

    def _containers(self, endpoint: str) -> list[dict[str, Any]]:
        with self.engine.errors(f"Endpoint '{endpoint}' cannot be looked up"):
            found: list[dict[str, Any]] = self.engine.client.containers(
                all=True, filters={"label": f"{names.ENDPOINT_LABEL}={endpoint}"}
            )
        return found

    def _create(self, spec: ServerSpec) -> None:
        client = self.engine.client
        try:
            with self.engine.errors(f"Container {spec.name} cannot be made"):
                client.create_container(
                    spec.image,
                    ["serve"],
                    name=spec.name,
                    user=USER,
                    environment=spec.environment,
                    labels=spec.labels,
                    stop_signal="SIGTERM",
                    host_config=client.create_host_config(
                        # A candidate that fails is looked at, not started again; the live one is.
                        restart_policy={"Name": "no"},
                        **spec.limits,
                        **confined(spec.endpoint),
                    ),
                )
        except Unavailable as e:
            # The same deploy, at the same moment: a deployment's name says all that it is, so that one is adopted.
            if e.code != CONFLICT or self._find(spec.name) is None:
                raise

    def _find(self, name: str) -> dict[str, Any] | None:
        try:
            with self.engine.errors(f"Container {name} cannot be looked up"):
                return dict(self.engine.client.inspect_container(name))
        except NotFound:
            return None

    def _remove(self, name: str) -> None:
        """Stop a container in good order, and remove it; it is well if it is not there."""
        try:
            with self.engine.errors(f"Container {name} cannot be removed"):
                self.engine.client.stop(name, timeout=STOP_SECONDS)
                self.engine.client.remove_container(name, force=True)
        except NotFound:
            return

    def _obituary(self, name: str, state: dict[str, Any]) -> str:
        why = f"with status {state['ExitCode']}"
        if state.get("OOMKilled"):
            why = "for want of memory: give it more"
        elif state.get("Error"):
            why = str(state["Error"])
        tail = " / ".join(self.log_tail(name))[-_LOG_CHARACTERS:]
        return f"Container {name} ended {why}; the end of its log: {tail or '(empty)'}"


class _PortTaken(Exception):
    """The engine cannot publish on this port."""
