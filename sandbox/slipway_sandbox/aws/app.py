"""One address for all services: SageMaker and ECR's registry are answered here, everything else by moto.

Which service a request is for says its signature, as with moto's own server.
"""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Request, Response

from slipway_sandbox.aws.ecr import Ecr
from slipway_sandbox.aws.endpoints import Endpoints
from slipway_sandbox.aws.faults import Fault, Faults, strike
from slipway_sandbox.aws.fleet import Fleets
from slipway_sandbox.aws.protocol import AwsError, check, error_response, json_response
from slipway_sandbox.aws.registry import Registries
from slipway_sandbox.aws.resources import Resources
from slipway_sandbox.aws.runtime import Runtime
from slipway_sandbox.aws.settings import Behaviour, Place
from slipway_sandbox.aws.signature import Scope, check_signature, scope_of
from slipway_sandbox.aws.store import Region

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Application"]

_log = logging.getLogger(__name__)
_INVOCATIONS = "/invocations"


class Application:
    """The WSGI application.

    :param place: where it runs.
    :param registries: the registries behind ECR; without them, ECR is moto's, and images are taken on trust.
    """

    def __init__(self, place: Place, registries: Registries | None) -> None:
        self.behaviour = Behaviour()
        self.faults = Faults()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._ecr = Ecr(registries) if registries else None
        self._regions: dict[str, Region] = {}
        self._regions_lock = threading.Lock()
        self._writes = threading.Lock()
        self._endpoints = Endpoints(Fleets(place, self.behaviour, registries), self.behaviour)
        self._runtime = Runtime(self.behaviour)
        resources = Resources(registries if place.containers else None, self.behaviour)
        # `create_endpoint_config` answers CreateEndpointConfig.
        self._calls: dict[str, Callable[[Region, dict[str, Any]], dict[str, Any]]] = {
            "".join(word.title() for word in name.split("_")): getattr(owner, name)
            for owner in (resources, self._endpoints)
            for name in dir(owner)
            if name.startswith(("create_", "describe_", "update_", "delete_", "list_", "add_"))
        }

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        request = Request(environ)
        if request.path.startswith("/_sandbox/"):
            return self._administer(request)(environ, start_response)
        scope = scope_of(request.headers.get("Authorization", ""))
        service = scope.service if scope else "s3"
        operation = request.headers.get("X-Amz-Target", "").rpartition(".")[2] or request.method
        if service == "sagemaker" and request.path.endswith(_INVOCATIONS):
            operation = "InvokeEndpoint"
        fault = self.faults.match(f"{service}:{operation}")
        try:
            strike(fault, "before")
            answer = self._answer(request, service, operation, scope)
            if answer is None:
                return self._by_moto(environ, start_response, fault, request)
            strike(fault, "after")
        except AwsError as error:
            answer = error_response(error)
        except Exception:  # noqa: BLE001  # logged, and answered as a service answers its own faults
            _log.exception("The sandbox itself failed at %s", operation)
            answer = error_response(AwsError("InternalFailure", "The sandbox itself failed: see its log.", 500))
        return answer(environ, start_response)

    def _answer(self, request: Request, service: str, operation: str, scope: Scope | None) -> Response | None:
        """Return the answer, or None if moto is to give it."""
        if scope is None or service not in {"sagemaker", "ecr", "logs"}:
            return None
        region = self._region(scope.region)
        if service == "logs":
            self._endpoints.publish_logs(region)
            return None
        if service == "ecr":
            return self._answer_ecr(request, operation, scope)
        if operation != "InvokeEndpoint" and operation not in self._calls:
            return None
        body = request.get_data()
        check_signature(request, body)
        if operation == "InvokeEndpoint":
            return self._runtime.invoke(region, request.path.split("/")[2], request, body)
        params = json.loads(body or b"{}")
        check("sagemaker", operation, params)
        return json_response(self._calls[operation](region, params))

    def _answer_ecr(self, request: Request, operation: str, scope: Scope) -> Response | None:
        if self._ecr is None:
            return None
        body = request.get_data()
        check_signature(request, body)
        if operation in self._ecr.calls:
            return json_response(self._ecr.answer(operation, scope.region, json.loads(body or b"{}")))
        # What has been read cannot be read again.
        answer = Response.from_app(self._moto, {**request.environ, "wsgi.input": io.BytesIO(body)})
        answer.set_data(self._ecr.localised(answer.get_data(), scope.region))
        return answer

    def _by_moto(
        self, environ: WSGIEnvironment, start_response: StartResponse, fault: Fault | None, request: Request
    ) -> Iterable[bytes]:
        if {"If-Match", "If-None-Match"} & set(request.headers.keys()) and request.method == "PUT":
            with self._writes:  # what S3 promises of conditional writes, moto keeps for one thread only
                answer = Response.from_app(self._moto, environ)
        else:
            answer = Response.from_app(self._moto, environ)
        strike(fault, "after")
        return answer(environ, start_response)

    def _region(self, name: str) -> Region:
        with self._regions_lock:
            return self._regions.setdefault(name, Region(name))

    def _administer(self, request: Request) -> Response:
        """Answer `/_sandbox/health`, `settings`, `faults` (GET, PUT) and `calls` (GET, DELETE)."""
        what, method = request.path.removeprefix("/_sandbox/"), request.method
        try:
            if method == "PUT" and what == "settings":
                self.behaviour.update(request.get_json())
            elif method == "PUT" and what == "faults":
                self.faults.put(request.get_json())
        except (ValueError, TypeError) as error:
            return Response(json.dumps({"message": str(error)}), 400, content_type="application/json")
        answers: dict[str, Callable[[], Any]] = {
            "health": lambda: {"healthy": True},
            "settings": self.behaviour.listed,
            "faults": self.faults.listed,
            "calls": lambda: self.faults.calls(reset=method == "DELETE"),
        }
        if what not in answers:
            return Response(json.dumps({"message": f"There is {sorted(answers)}."}), 404)
        return Response(json.dumps(answers[what]()), content_type="application/json")

    def stop(self) -> None:
        """End every server."""
        for region in self._regions.values():
            self._endpoints.stop(region)
