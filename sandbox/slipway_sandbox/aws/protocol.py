"""AWS's JSON protocol: requests checked against botocore's own model of the service, errors as the services word them.

Source: https://smithy.io/2.0/aws/protocols/aws-json-1_1-protocol.html
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import botocore.session
from botocore.model import ListShape, MapShape, ServiceModel, Shape, StructureShape
from botocore.validate import ParamValidator
from werkzeug.wrappers import Response

__all__ = ["AwsError", "check", "error_response", "json_response", "service_model"]


class AwsError(Exception):
    """An error that a service answers.

    :param code: such as `ValidationException`.
    :param message: for the user.
    :param status: HTTP status.
    :param more: further members of the error's body.
    """

    def __init__(self, code: str, message: str, status: int = 400, **more: Any) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.more = more


def json_response(body: dict[str, Any]) -> Response:
    """Return a success."""
    return Response(json.dumps(body), 200, content_type="application/x-amz-json-1.1")


def error_response(error: AwsError) -> Response:
    """Return an error; the header is for REST-JSON services, the body's `__type` for JSON ones."""
    # Services disagree on the case of this key, and clients take both.
    body = {"__type": error.code, "message": error.message, "Message": error.message, **error.more}
    headers = {"x-amzn-errortype": error.code}
    return Response(json.dumps(body), error.status, headers, content_type="application/x-amz-json-1.1")


@cache
def service_model(service: str) -> ServiceModel:
    """Return botocore's model of a service."""
    return botocore.session.get_session().get_service_model(service)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Return a service's pattern, which is written for Java, as Python has it."""
    for java, python in ((r"\p{L}", r"\w"), (r"\p{N}", r"\d"), (r"\p{Z}", r"\s"), ("[^]", r"[\s\S]")):
        text = text.replace(java, python)
    return re.compile(text)


def check(service: str, operation: str, params: dict[str, Any]) -> None:
    """Check a request's parameters: names, types, what is required, ranges, patterns and enumerations.

    :raises AwsError: if the service would refuse them.
    """
    shape = service_model(service).operation_model(operation).input_shape
    if shape is None:
        return
    report = ParamValidator().validate(params, shape)
    problems = [report.generate_report()] if report.has_errors() else list(_violations(params, shape, ""))
    if problems:
        count = f"{len(problems)} validation error{'s' * (len(problems) > 1)} detected"
        raise AwsError("ValidationException", f"{count}: {'; '.join(problems)}")


def _violations(value: Any, shape: Shape, path: str) -> list[str]:
    """What botocore itself leaves to the service."""
    if isinstance(shape, StructureShape):
        return [
            problem
            for name, member in value.items()
            for problem in _violations(member, shape.members[name], f"{path}.{name[0].lower()}{name[1:]}".lstrip("."))
        ]
    if isinstance(shape, ListShape):
        return [p for i, item in enumerate(value, 1) for p in _violations(item, shape.member, f"{path}.{i}.member")]
    if isinstance(shape, MapShape):
        return [p for key, item in value.items() for p in _violations(item, shape.value, f"{path}.{key}")]
    rules = shape.metadata
    broken = ""
    if allowed := rules.get("enum"):
        if value not in allowed:
            broken = f"Member must satisfy enum value set: [{', '.join(allowed)}]"
    elif isinstance(value, str):
        if "pattern" in rules and not _pattern(rules["pattern"]).fullmatch(value):
            broken = f"Member must satisfy regular expression pattern: {rules['pattern']}"
        elif len(value) > rules.get("max", len(value)):
            broken = f"Member must have length less than or equal to {rules['max']}"
    elif isinstance(value, (int, float)) and value > rules.get("max", value):
        broken = f"Member must have value less than or equal to {rules['max']}"
    return [f"Value '{value}' at '{path}' failed to satisfy constraint: {broken}"] if broken else []
