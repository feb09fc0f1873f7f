"""What a caller asks for: the six fields of the requirement's call, checked against the workflow's definition."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from slipway.errors import UserError
from slipway.workflows.catalog import Problem
from slipway.workflows.definition import Definition
from slipway.workflows.spark_config import parse_lib_jars, parse_spark_config
from slipway.workflows.values import ParameterType, convert

__all__ = ["FIELDS", "Execution", "WrongRequest", "check", "parse_emails", "parse_program_parameters"]

Values = dict[str, tuple[ParameterType, str | None]]

FIELDS: dict[str, str] = {
    "workflowId": "Number of the workflow: `id` in its definition.",
    "programParameters": "Values of the workflow's parameters, as `--name value` pairs or a JSON object.",
    "sparkConfig": "Spark settings, as spark-submit takes them (`--conf key=value --executor-memory 2g`), or JSON.",
    "libJars": "Jars for Spark, separated by commas; below one of [slipway] spark_jar_dirs.",
    "emailOnSuccess": "Who gets a mail when the scoring succeeds; addresses separated by commas. Empty: nobody.",
    "emailOnFailure": "Who gets a mail when the scoring fails; addresses separated by commas. Empty: nobody.",
}

_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?")
_MOST_EMAILS = 50
_LONGEST = 16_384


class Execution(BaseModel):
    """The body of `POST /api/v1/workflow/execute`, as the requirement writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_max_length=_LONGEST)

    workflowId: int = Field(strict=True, description=FIELDS["workflowId"], examples=[1])  # noqa: N815
    programParameters: str | None = Field(  # noqa: N815
        default=None, description=FIELDS["programParameters"], examples=["--input cells.csv"]
    )
    sparkConfig: str | None = Field(default=None, description=FIELDS["sparkConfig"], examples=["--executor-memory 2g"])  # noqa: N815
    libJars: str | None = Field(default=None, description=FIELDS["libJars"], examples=[""])  # noqa: N815
    emailOnSuccess: str | None = Field(default=None, description=FIELDS["emailOnSuccess"], examples=[""])  # noqa: N815
    emailOnFailure: str | None = Field(default=None, description=FIELDS["emailOnFailure"], examples=[""])  # noqa: N815


class WrongRequest(UserError):
    """One or more fields are wrong; `problems` has all of them."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(" ".join(problem.message for problem in problems))
        self.problems = problems


class Checked(BaseModel):
    """The request, parsed."""

    model_config = ConfigDict(frozen=True)

    values: dict[str, tuple[ParameterType, str | None]]
    spark_config: dict[str, str]
    lib_jars: list[str]
    email_on_success: list[str]
    email_on_failure: list[str]


def check(definition: Definition, fields: Mapping[str, Any]) -> Checked:
    """Parse the five strings of a request for `definition`.

    :raises WrongRequest: with every field that is wrong.
    """
    problems: list[Problem] = []
    parsed: dict[str, Any] = {}
    for field, parse in (
        ("programParameters", lambda text: values_for(definition, parse_program_parameters(text))),
        ("sparkConfig", parse_spark_config),
        ("libJars", parse_lib_jars),
        ("emailOnSuccess", lambda text: parse_emails("emailOnSuccess", text)),
        ("emailOnFailure", lambda text: parse_emails("emailOnFailure", text)),
    ):
        try:
            parsed[field] = parse(fields.get(field))
        except UserError as e:
            problems.append(Problem(field, str(e)))
    if problems:
        raise WrongRequest(problems)
    return Checked(
        values=parsed["programParameters"],
        spark_config=parsed["sparkConfig"],
        lib_jars=parsed["libJars"],
        email_on_success=parsed["emailOnSuccess"],
        email_on_failure=parsed["emailOnFailure"],
    )


def parse_program_parameters(text: str | None) -> dict[str, Any]:
    """Return the values in `--name value`, `--name=value` or a JSON object.

    :raises UserError: if it is neither, or a name comes twice.
    """
    text = (text or "").strip()
    if len(text) > _LONGEST:
        raise UserError(f"programParameters has {len(text)} characters: give at most {_LONGEST}.")
    pairs = _from_json(text) if text.startswith("{") else _from_words(text)
    names = [name for name, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"programParameters gives '{twice[0]}' twice: give it once.")
    return dict(pairs)


def _from_json(text: str) -> list[tuple[str, Any]]:
    try:
        raw: Any = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError) as e:
        raise UserError(f"programParameters begins as JSON and is none ({e}): give one object.") from None
    if not all(isinstance(pair, tuple) and isinstance(pair[1], str | int | float | bool) for pair in raw):
        raise UserError("programParameters is JSON with lists, objects or null in it: give single values.")
    return list(raw)


def _from_words(text: str) -> list[tuple[str, Any]]:
    try:
        words = shlex.split(text)
    except ValueError as e:
        raise UserError(f"programParameters has an open quote ({e}): close it.") from None
    pairs: list[tuple[str, Any]] = []
    rest = iter(words)
    for word in rest:
        name, joined, value = word.partition("=")
        if not name.startswith("--") or len(name) == 2:
            raise UserError(
                f"programParameters has {word[:60]!r} where a name should be: write --name value, or a JSON object."
            )
        if not joined:
            following = next(rest, None)
            if following is None:
                raise UserError(f"programParameters gives '{name}' no value: write {name} value.")
            value = following
        pairs.append((name.removeprefix("--"), value))
    return pairs


def values_for(definition: Definition, given: Mapping[str, Any]) -> Values:
    """Return a value for each declared parameter, from what is given and the defaults.

    :raises UserError: if one is not declared, missing, or of another type.
    """
    declared = {parameter.name: parameter for parameter in definition.parameters}
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise UserError(f"Workflow {definition.id} has no parameter '{name[:60]}': its parameters are {known}.")
    values: Values = {}
    for name, parameter in declared.items():
        value = given.get(name, parameter.default)
        if value is None and parameter.required:
            raise UserError(f"Workflow {definition.id} needs parameter '{name}': give --{name} value.")
        values[name] = (parameter.type, None if value is None else convert(name, parameter.type, value))
    return values


def parse_emails(field: Literal["emailOnSuccess", "emailOnFailure"], text: str | None) -> list[str]:
    """Return the addresses in a comma-separated list; none if it is empty.

    :raises UserError: if one is no address, or there are too many.
    """
    addresses = [part.strip(" \t") for part in (text or "").split(",") if part.strip(" \t")]
    for address in addresses:
        if not _EMAIL.fullmatch(address):
            raise UserError(f"{field} holds {address[:80]!r}, which is no address: write one such as ann@example.com.")
    if len(addresses) > _MOST_EMAILS:
        raise UserError(f"{field} has {len(addresses)} addresses: give at most {_MOST_EMAILS}, or a list's address.")
    return addresses
