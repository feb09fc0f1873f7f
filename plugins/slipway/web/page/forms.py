"""A form out of a DAG's params, as its author wrote them: labels, help, defaults, and the rules of their JSON Schema.

What Airflow would refuse is said here first, next to the field. Params whose names mean the same in every DAG (`model`,
`endpoint`, …) are held to the rules of `slipway.naming` as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jsonschema

from slipway import naming
from slipway.errors import UserError

__all__ = ["Choice", "Field", "fields", "parse"]

Params = Mapping[str, Mapping[str, Any]]
_RULES: dict[str, Callable[[str], object]] = {
    "model": naming.check_model,
    "name": naming.check_model,
    "endpoint": naming.check_endpoint,
    "alias": naming.check_alias,
    "bundle": naming.check_digest,
}
_LONGEST = 100_000


@dataclass(frozen=True)
class Choice:
    """One option of a field."""

    value: str
    label: str


@dataclass(frozen=True)
class Field:
    """One field of a form.

    :param kind: `text`, `number`, `checkbox`, `select`, `textarea`, `json` or `password`.
    """

    name: str
    label: str
    help: str
    kind: str
    value: str
    required: bool
    fixed: bool = False  # shown, and not to be changed
    choices: tuple[Choice, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()  # HTML's own checks, as the browser knows them
    error: str = ""


def fields(
    params: Params,
    values: Mapping[str, object],
    *,
    fixed: frozenset[str] = frozenset(),
    choices: Mapping[str, list[Choice]] | None = None,
    errors: Mapping[str, str] | None = None,
) -> list[Field]:
    """Return the form's fields, in the order of the DAG's author.

    :param values: what the fields hold in place of the params' defaults.
    :param fixed: names of fields that the page decides.
    :param choices: what a text field may be chosen from, where the page knows.
    :param errors: what is wrong, by field.
    """
    made = []
    for name, param in params.items():
        schema = param.get("schema") or {}
        value = values.get(name, param.get("value"))
        kind = _kind(schema)
        options = tuple(Choice(str(v), _label(schema, v)) for v in schema.get("enum") or ())
        if not options and choices and name in choices and kind == "text":
            options = tuple(choices[name])
            current = "" if value is None else str(value)
            if current not in {option.value for option in options}:
                options = (Choice(current, current or "(none)"), *options)
        made.append(
            Field(
                name=name,
                label=str(schema.get("title") or name),
                help=str(schema.get("description_md") or param.get("description") or schema.get("description") or ""),
                kind="select" if options else kind,
                value=_shown(value, kind),
                required="null" not in _types(schema) and kind != "checkbox" and bool(schema),
                fixed=name in fixed,
                choices=options,
                attributes=tuple(_attributes(schema, kind)),
                error=(errors or {}).get(name, ""),
            )
        )
    return made


def parse(params: Params, posted: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a run's conf out of a posted form, and what is wrong with it by field.

    Fields that were left empty are given as null where they may be, so that the run says what it was made with.
    """
    conf: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for name, param in params.items():
        schema = param.get("schema") or {}
        kind = _kind(schema)
        text = posted.get(name, "")
        try:
            conf[name] = _value(kind, text, schema)
            json.dumps(conf[name], allow_nan=False)  # JSON has no such numbers, and a run's conf is JSON
            jsonschema.validate(conf[name], schema, format_checker=jsonschema.FormatChecker())
            if name in _RULES and conf[name] is not None:
                _RULES[name](conf[name])
        except UserError as e:
            errors[name] = str(e)
        except jsonschema.ValidationError as e:
            errors[name] = _sentence(e, schema, text)
        except (ValueError, RecursionError):
            errors[name] = {"number": "Give a number.", "json": "Give valid JSON."}.get(kind, "Give another value.")
    # Where each can be left out, they are two ways to name one thing.
    optional = all(
        "null" in _types(params[name].get("schema") or {}) for name in ("version", "alias") if name in params
    )
    if optional and conf.get("version") and conf.get("alias"):
        errors["alias"] = "Both version and alias are given: give one of the two."
    return conf, errors


def _value(kind: str, text: str, schema: Mapping[str, Any]) -> Any:
    if len(text) > _LONGEST:
        raise ValueError("too long")
    if kind == "checkbox":
        return text == "true"
    if kind not in {"json", "textarea"}:
        text = text.strip()
    if not text and "null" in _types(schema):
        return None
    if kind == "number":
        return int(text) if "integer" in _types(schema) else float(text)
    if kind == "json":
        return json.loads(text)
    enum = schema.get("enum") or ()
    return next((option for option in enum if str(option) == text), text)


def _types(schema: Mapping[str, Any]) -> set[str]:
    found = schema.get("type")
    return {found} if isinstance(found, str) else set(found or ())


def _kind(schema: Mapping[str, Any]) -> str:
    types = _types(schema) - {"null"}
    if schema.get("enum"):
        return "text"
    if types == {"boolean"}:
        return "checkbox"
    if types and types <= {"integer", "number"}:
        return "number"
    if types & {"array", "object"}:
        return "json"
    if schema.get("format") in {"multiline", "password"}:
        return {"multiline": "textarea", "password": "password"}[schema["format"]]
    return "text"


def _shown(value: object, kind: str) -> str:
    if value is None:
        return ""
    if kind == "checkbox":
        return "true" if value else ""
    return json.dumps(value, indent=2) if kind == "json" else str(value)


def _label(schema: Mapping[str, Any], value: object) -> str:
    named = schema.get("values_display") or {}
    return str(named.get(str(value), value))


def _attributes(schema: Mapping[str, Any], kind: str) -> list[tuple[str, str]]:
    names = {"minLength": "minlength", "maxLength": "maxlength", "pattern": "pattern"}
    found = [(html, str(schema[key])) for key, html in names.items() if key in schema and kind in {"text", "password"}]
    if kind == "number":
        found += [
            (html, str(schema[key])) for key, html in {"minimum": "min", "maximum": "max"}.items() if key in schema
        ]
        found.append(("step", "1" if "integer" in _types(schema) else "any"))
    return found


def _sentence(error: jsonschema.ValidationError, schema: Mapping[str, Any], text: str) -> str:
    if not text.strip():
        return "This field is needed."
    match error.validator:
        case "minimum" | "maximum":
            low, high = schema.get("minimum"), schema.get("maximum")
            return f"Give a number from {low} to {high}." if None not in {low, high} else f"{error.message}."
        case "enum":
            return f"Give one of {', '.join(str(option) for option in schema['enum'])}."
        case "pattern":
            return f"Give something of the form {schema['pattern']}."
    return f"{error.message[:200]}."
