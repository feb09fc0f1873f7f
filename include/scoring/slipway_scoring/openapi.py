"""The OpenAPI document of one served model: its columns, its types, its golden sample as the example."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from slipway_scoring import __version__
from slipway_scoring.codecs import negotiation
from slipway_scoring.model import Model
from slipway_scoring.schema import Column, Schema, Tensor, Type

Json = dict[str, Any]

_SCALARS: dict[str, Json] = {
    "boolean": {"type": "boolean"},
    "integer": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "long": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
    "float": {"type": ["number", "null"]},
    "double": {"type": ["number", "null"]},
    "string": {"type": ["string", "null"]},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "datetime": {"type": "string", "format": "date-time"},
}


def describe(model: Model, root_path: str) -> Json:
    """The document (https://spec.openapis.org/oas/v3.1.0), with every route of every dialect."""
    schema = model.signature.inputs
    example = dict(model.golden.input) if model.golden else _made_up(schema)
    table = example.get("dataframe_split")
    inference = f"/v2/models/{model.name}"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": model.name,
            "version": model.version,
            "description": f"Scores the model {model.name}, version {model.version}.",
        },
        "servers": [{"url": root_path or "/"}],
        "security": [{"bearer": []}, {}],
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": {
                    "type": "object",
                    "required": ["error_code", "message"],
                    "properties": {"error_code": {"type": "string"}, "message": {"type": "string"}},
                },
                "Predictions": {
                    "type": "object",
                    "required": ["predictions"],
                    "properties": {"predictions": {}},
                },
                "Row": _row(schema),
                "Split": _split(schema),
                "Request": _request(schema),
            },
        },
        "paths": {
            "/invocations": {"post": _scoring("Score, in MLflow's and SageMaker's formats", "Request", example, model)},
            "/predict": {
                "post": _scoring("Score a pandas table (orient='split')", "Split", table or _empty_table(schema), model)
            },
            "/score": {"post": _scoring("Score, in AzureML's formats", "Request", example, model)},
            f"{inference}/infer": {"post": _inference(schema, table)},
            inference: {"get": _reading("The model's inputs and outputs, by the Open Inference Protocol")},
            f"{inference}/ready": {"get": _reading("Whether the model takes requests")},
            "/v2": {"get": _reading("The server, by the Open Inference Protocol")},
            "/v2/health/live": {"get": _reading("Whether the server lives")},
            "/v2/health/ready": {"get": _reading("Whether the server takes requests")},
            "/ping": {"get": _reading("Whether the server takes requests")},
            "/health": {"get": _reading("Whether the server takes requests")},
            "/ready": {"get": _reading("Whether the server takes requests")},
            "/": {"get": _reading("Whether the server lives")},
            "/version": {"get": _reading("Which model and which server this is")},
            "/execution-parameters": {"get": _reading("How SageMaker's batch transform sends its records")},
            "/metrics": {"get": _reading("Metrics for Prometheus", "text/plain")},
            "/openapi.json": {"get": _reading("This document")},
        },
        "x-slipway-server": __version__,
    }


def _scoring(summary: str, schema: str, example: Any, model: Model) -> Json:
    body: Json = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}, "example": example}}
    if schema == "Request":
        text = {"schema": {"type": "string"}}
        body |= {"text/csv": text, negotiation.JSON_LINES: text}
        raw = {"schema": {"type": "string", "format": "binary"}}
        body |= {negotiation.PARQUET: raw, negotiation.ARROW: raw}
    good: Json = {"schema": {"$ref": "#/components/schemas/Predictions"}}
    if model.golden is not None:
        good["example"] = {"predictions": model.golden.output}
    content: Json = {"application/json": good if schema != "Request" else {**good, "schema": {}}}
    for kind in negotiation.OFFERED[1:]:
        content[kind] = {"schema": {"type": "string"}}
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": body},
        "responses": {"200": {"description": "The predictions", "content": content}, **_refusals()},
    }


def _refusals() -> Json:
    reasons = {
        "400": "The body is not what the model's signature asks for",
        "401": "The bearer token is missing or wrong",
        "404": "No such model",
        "406": "No such output format",
        "413": "Too many bytes or rows",
        "415": "No such input format",
        "429": "The queue is full",
        "503": "Not ready",
        "504": "The time limit is over",
    }
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {status: {"description": text, "content": error} for status, text in reasons.items()}


def _reading(summary: str, content_type: str = "application/json") -> Json:
    refusals = {status: answer for status, answer in _refusals().items() if status in {"401", "404", "503"}}
    return {
        "summary": summary,
        "responses": {"200": {"description": "Yes", "content": {content_type: {"schema": {}}}}, **refusals},
    }


def _inference(schema: Schema | None, table: Any) -> Json:
    tensor: Json = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "datatype": {"type": "string"},
            "data": {"type": "array", "items": {}},
        },
    }
    content: Json = {
        "schema": {
            "type": "object",
            "required": ["inputs"],
            "properties": {"id": {"type": "string"}, "inputs": {"type": "array", "minItems": 1, "items": tensor}},
        }
    }
    if schema is not None and isinstance(table, Mapping):
        content["example"] = {"inputs": _example_tensors(schema, table)}
    answer = {"schema": {"type": "object", "required": ["model_name", "outputs"]}}
    return {
        "summary": "Score tensors, by the Open Inference Protocol",
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {"200": {"description": "Tensors", "content": {"application/json": answer}}, **_refusals()},
    }


_DATATYPES = {"double": "FP64", "float": "FP32", "long": "INT64", "integer": "INT32", "boolean": "BOOL"}


def _example_tensors(schema: Schema, table: Mapping[str, Any]) -> list[Json]:
    kinds = {column.name: column.type.kind for column in schema.columns}
    rows = table["data"]
    return [
        {
            "name": name,
            "shape": [len(rows)],
            "datatype": _DATATYPES.get(kinds.get(name, "string"), "BYTES"),
            "data": [row[number] for row in rows],
        }
        for number, name in enumerate(table.get("columns") or [])
    ]


def _request(schema: Schema | None) -> Json:
    """MLflow's shapes, each in an object of its own."""
    rows: Json = {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Row"}}
    shapes: dict[str, Json] = {
        "dataframe_split": {"$ref": "#/components/schemas/Split"},
        "dataframe_records": rows,
        "instances": rows if schema is None or schema.columns else {"type": "array", "items": {}},
        "inputs": {} if schema is None or not schema.columns else rows,
    }
    return {
        "oneOf": [
            {
                "type": "object",
                "required": [name],
                "properties": {name: shape, "params": {"type": "object"}},
                "additionalProperties": False,
            }
            for name, shape in shapes.items()
        ]
    }


def _row(schema: Schema | None) -> Json:
    if schema is None or not schema.columns:
        return {"type": "object"}
    return {
        "type": "object",
        "required": list(schema.required),
        "properties": {column.name or str(n): of_type(column.type) for n, column in enumerate(schema.columns)},
    }


def _split(schema: Schema | None) -> Json:
    data: Json = {"type": "array", "minItems": 1, "items": {"type": "array"}}
    columns: Json = {"type": "array", "items": {"type": "string"}}
    if schema is not None and schema.columns:
        width = len(schema.columns)
        data["items"] = {
            "type": "array",
            "prefixItems": [of_type(column.type) for column in schema.columns],
            "minItems": width,
            "maxItems": width,
        }
        columns["const"] = [column.name or str(number) for number, column in enumerate(schema.columns)]
    return {
        "type": "object",
        "required": ["columns", "data"],
        "properties": {"columns": columns, "data": data},
        "additionalProperties": False,
    }


def of_type(kind: Type) -> Json:
    """JSON Schema of one value of an MLflow type."""
    if kind.kind == "array" and kind.items is not None:
        return {"type": "array", "items": of_type(kind.items)}
    if kind.kind == "map" and kind.items is not None:
        return {"type": "object", "additionalProperties": of_type(kind.items)}
    if kind.kind == "object":
        return {
            "type": "object",
            "required": [name for name, item in kind.properties.items() if item.required],
            "properties": {name: of_type(item.type) for name, item in kind.properties.items()},
            "additionalProperties": False,
        }
    return dict(_SCALARS.get(kind.kind, {}))


_EXAMPLES: dict[str, Any] = {
    "boolean": True, "integer": 1, "long": 1, "float": 0.5, "double": 0.5, "string": "text",
    "binary": "Ynl0ZXM=", "datetime": "2026-01-01T00:00:00",
}  # fmt: skip


def _example(kind: Type) -> Any:
    if kind.kind == "array" and kind.items is not None:
        return [_example(kind.items)]
    if kind.kind == "map" and kind.items is not None:
        return {"key": _example(kind.items)}
    if kind.kind == "object":
        return {name: _example(item.type) for name, item in kind.properties.items()}
    return _EXAMPLES.get(kind.kind)


def _made_up(schema: Schema | None) -> Json:
    """An example for a model that has no golden sample."""
    if schema is not None and schema.tensors:
        tensors = {tensor.name or "": _zeros(tensor) for tensor in schema.tensors}
        return {"inputs": tensors if schema.names else tensors[""]}
    return {"dataframe_split": _empty_table(schema)}


def _empty_table(schema: Schema | None) -> Json:
    columns: tuple[Column, ...] = schema.columns if schema is not None else ()
    return {
        "columns": [column.name or str(number) for number, column in enumerate(columns)],
        "data": [[_example(column.type) for column in columns]],
    }


def _zeros(tensor: Tensor) -> Any:
    value: Any = "text" if tensor.dtype.kind in "OU" else json.loads(json.dumps(tensor.dtype.type(0).item()))
    for size in reversed(tensor.shape):
        value = [value] * (1 if size == -1 else min(size, 64))
    return value
