"""The Open Inference Protocol's tensors: as JSON, and as Triton's raw bytes behind the JSON
(https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md).

A model with a column signature gets each column as a tensor of shape [rows] or [rows, 1], or one tensor of shape
[rows, columns]. Predictions are the output `predictions`, a DataFrame's columns outputs of their own.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson
import pandas as pd

from slipway_scoring import enforce
from slipway_scoring.codecs import json_in, json_out
from slipway_scoring.errors import BadPayload
from slipway_scoring.model import Model
from slipway_scoring.outputs import whole
from slipway_scoring.payload import Array, Payload, Tensors
from slipway_scoring.schema import Column, Schema, Tensor
from slipway_scoring.tables import TableReader, check_depth

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_), "BYTES": np.dtype(object), "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32), "FP64": np.dtype(np.float64),
    "INT8": np.dtype(np.int8), "INT16": np.dtype(np.int16), "INT32": np.dtype(np.int32), "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8), "UINT16": np.dtype(np.uint16), "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in DATATYPES.items()}
_LENGTH = struct.Struct("<I")
_ONLY_OUTPUT = "predictions"


def read_document(body: bytes, header_length: str | None) -> tuple[dict[str, Any], memoryview]:
    """Split a body into its JSON object and the raw bytes behind it (none without the header).

    Raises:
        BadPayload: the header's length does not fit the body, or that is no JSON object.
    """
    length = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or int(header_length) > length:
            raise BadPayload("Inference-Header-Content-Length must be the length of the JSON at the body's start.")
        length = int(header_length)
    document = json_in.loads(body[:length])
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list) or not document["inputs"]:
        raise BadPayload('The body has no \'inputs\': send {"inputs": [{"name", "shape", "datatype", "data"}]}.')
    return document, memoryview(body)[length:]


def parameters(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """The `parameters` object of a request or a tensor."""
    found = item.get("parameters")
    return found if isinstance(found, dict) else {}


def decode(
    document: Mapping[str, Any], binary: memoryview, reader: TableReader
) -> tuple[Payload, Mapping[str, Any] | None]:
    """The payload of an inference request; its `parameters` are MLflow's `params`.

    Raises:
        BadPayload: a tensor is not what it says, or the signature declares something else.
    """
    arrays: dict[str, Array] = {}
    offset = 0
    for item in document["inputs"]:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise BadPayload("An input has no name: send every input with name, shape, datatype and data.")
        size = parameters(item).get("binary_data_size")
        if size is None:
            arrays[item["name"]] = _from_json(item)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or size < 0 or offset + size > len(binary):
            raise BadPayload(f"Input '{item['name']}' has a binary_data_size beyond the body: send all its bytes.")
        arrays[item["name"]] = _from_bytes(item, binary[offset : offset + size])
        offset += size
    params = {name: value for name, value in parameters(document).items() if name != "binary_data_output"}
    return _payload(arrays, reader), params or None


def _shape(item: Mapping[str, Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    name, shape = item["name"], item.get("shape")
    dtype = DATATYPES.get(item["datatype"]) if isinstance(item.get("datatype"), str) else None
    if dtype is None:
        raise BadPayload(f"Input '{name}' has no known datatype: send one of {', '.join(DATATYPES)}.")
    if not isinstance(shape, list) or not all(type(size) is int and 0 <= size < 2**31 for size in shape):
        raise BadPayload(f"Input '{name}' has no valid shape: send a list of sizes.")
    return dtype, tuple(shape)


def _from_json(item: Mapping[str, Any]) -> Array:
    dtype, shape = _shape(item)
    data = item.get("data")
    if not isinstance(data, list):
        raise BadPayload(f"Input '{item['name']}' has no data: send a list, nested or flat.")
    check_depth(data)
    try:
        # Nested or flat, the protocol allows both: flatten first, then give it the shape.
        if dtype.kind == "O":
            return _objects(_flat(data)).reshape(shape)
        return np.array(data if not data or not isinstance(data[0], list) else _flat(data), dtype=dtype).reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadPayload(
            f"Input '{item['name']}' is no {item['datatype']} tensor of shape {list(shape)} "
            f"({' '.join(str(error).split())[:200]}): send matching data."
        ) from error


def _flat(data: list[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        data = [value for part in data for value in (part if isinstance(part, list) else [part])]
    return data


def _objects(values: Sequence[Any]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _from_bytes(item: Mapping[str, Any], raw: memoryview) -> Array:
    dtype, shape = _shape(item)
    if dtype.kind == "O":
        values: list[str] = []
        position = 0
        while position < len(raw):
            if position + _LENGTH.size > len(raw):
                break
            (length,) = _LENGTH.unpack_from(raw, position)
            values.append(bytes(raw[position + 4 : position + 4 + length]).decode("utf-8", "replace"))
            position += _LENGTH.size + length
        if position != len(raw) or len(values) != math.prod(shape):
            raise BadPayload(f"Input '{item['name']}' has bytes that do not make {math.prod(shape)} strings.")
        return _objects(values).reshape(shape)
    if len(raw) != math.prod(shape) * dtype.itemsize:
        raise BadPayload(
            f"Input '{item['name']}' has {len(raw)} bytes: shape {list(shape)} of {item['datatype']} takes "
            f"{math.prod(shape) * dtype.itemsize}."
        )
    return np.frombuffer(raw, dtype=dtype).reshape(shape)


def _payload(arrays: dict[str, Array], reader: TableReader) -> Payload:
    schema = reader.schema
    if schema is None:
        only = next(iter(arrays.values()))
        return Tensors(only if len(arrays) == 1 else arrays)
    if schema.tensors:
        return Tensors(_declared_tensors(arrays, schema))
    names = schema.names or tuple(str(number) for number in range(len(schema.columns)))
    if len(arrays) == 1 and len(names) > 1:
        table = next(iter(arrays.values()))
        if table.ndim != 2 or table.shape[1] != len(names):
            raise BadPayload(f"The one input has shape {list(table.shape)}: a table has shape [rows, {len(names)}].")
        arrays = {name: table[:, number] for number, name in enumerate(names)}
    columns: dict[str, Array] = {}
    for name, array in arrays.items():
        flat = array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
        if flat.ndim != 1:
            raise BadPayload(f"Input '{name}' has shape {list(array.shape)}: a column has shape [rows] or [rows, 1].")
        columns[name] = flat
    if len({len(column) for column in columns.values()}) > 1:
        raise BadPayload("The inputs have different numbers of rows: send columns of one length.")
    enforce.check_columns(list(columns), schema)
    wanted = {column.name: column for column in schema.columns}
    return reader.arrays({name: _declared(column, wanted.get(name)) for name, column in columns.items()})


def _declared(values: Array, column: Column | None) -> Array:
    """The protocol's tensors come from clients that often know FP32 alone: numbers become the declared numbers."""
    if column is None or values.dtype == column.type.dtype or not column.type.is_scalar:
        return values
    wanted = column.type.dtype
    if np.can_cast(values.dtype, wanted, "same_kind") and values.dtype.kind in "iufb":
        return values.astype(wanted)
    return values


def _declared_tensors(arrays: Mapping[str, Array], schema: Schema) -> Any:
    if not schema.names:
        if len(arrays) > 1:
            raise BadPayload(f"There are {len(arrays)} inputs: the model's signature asks for one tensor.")
        return enforce.enforce_tensor(_cast(next(iter(arrays.values())), schema.tensors[0]), schema.tensors[0])
    missing = [name for name in schema.names if name not in arrays]
    if missing:
        raise BadPayload(f"The inputs lack '{missing[0]}': the model's signature requires it, so add it.")
    return {
        str(tensor.name): enforce.enforce_tensor(_cast(arrays[str(tensor.name)], tensor), tensor)
        for tensor in schema.tensors
    }


def _cast(values: Array, tensor: Tensor) -> Array:
    return values.astype(tensor.dtype) if np.can_cast(values.dtype, tensor.dtype, "same_kind") else values


def of_result(result: Any) -> dict[str, Array]:
    """A model's output as named tensors; what is neither number nor text becomes JSON text."""
    result = whole(result)
    if isinstance(result, pd.DataFrame):
        return {str(name): _tensor(result.iloc[:, number].to_numpy()) for number, name in enumerate(result.columns)}
    if isinstance(result, dict) and result:
        return {str(name): _tensor(value) for name, value in result.items()}
    if isinstance(result, pd.Series):
        result = result.to_numpy()
    return {_ONLY_OUTPUT: _tensor(result)}


def _tensor(values: Any) -> Array:
    array = np.asarray(values) if not isinstance(values, list) or _is_regular(values) else _objects(values)
    if array.ndim == 0:
        array = array.reshape(1)
    if array.dtype in _NAMES and array.dtype.kind != "O":
        return array
    texts = [item if isinstance(item, str) else json_out.dumps(item).decode() for item in array.ravel().tolist()]
    return _objects(texts).reshape(array.shape)


def _is_regular(values: list[Any]) -> bool:
    try:
        return np.array(values).dtype.kind != "O"
    except ValueError:
        return False


def encode(
    outputs: Mapping[str, Array], wishes: Sequence[Any] | None, *, everything_binary: bool
) -> tuple[list[dict[str, Any]], list[bytes]]:
    """The `outputs` of an answer, and the bytes that follow the JSON.

    Args:
        outputs: every output of the model.
        wishes: the request's `outputs`: which to send and whether as bytes; None sends all.
        everything_binary: the request's `binary_data_output`.

    Raises:
        BadPayload: a wish names no output.
    """
    chosen: list[tuple[str, bool]] = [(name, everything_binary) for name in outputs]
    if wishes:
        chosen = []
        for wish in wishes:
            name = wish.get("name") if isinstance(wish, dict) else None
            if not isinstance(name, str) or name not in outputs:
                raise BadPayload(f"'outputs' asks for {str(name)[:100]!r}: the model has {', '.join(outputs)}.")
            chosen.append((name, parameters(wish).get("binary_data", everything_binary) is True))
    header: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name, binary in chosen:
        array = outputs[name]
        described: dict[str, Any] = {"name": name, "datatype": _NAMES[array.dtype], "shape": list(array.shape)}
        if binary:
            parts.append(_to_bytes(array))
            described["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            described["data"] = orjson.Fragment(json_out.dumps(np.ascontiguousarray(array).ravel()))
        header.append(described)
    return header, parts


def _to_bytes(array: Array) -> bytes:
    if array.dtype.kind != "O":
        return np.ascontiguousarray(array).tobytes()
    texts = [text.encode() for text in array.ravel().tolist()]
    return b"".join(part for text in texts for part in (_LENGTH.pack(len(text)), text))


def model_metadata(model: Model) -> dict[str, Any]:
    """The answer of `GET /v2/models/{name}`."""
    return {
        "name": model.name,
        "versions": [model.version],
        "platform": f"mlflow_{model.flavor}",
        "inputs": _describe(model.signature.inputs),
        "outputs": _describe(model.signature.outputs, _ONLY_OUTPUT),
    }


def _describe(schema: Schema | None, unnamed: str = "input") -> list[dict[str, Any]]:
    if schema is None:
        return []
    columns = [
        {"name": column.name or f"{unnamed}", "datatype": _NAMES.get(column.type.dtype, "BYTES"), "shape": [-1]}
        for column in schema.columns
    ]
    tensors = [
        {"name": tensor.name or unnamed, "datatype": _NAMES.get(tensor.dtype, "BYTES"), "shape": list(tensor.shape)}
        for tensor in schema.tensors
    ]
    return [*columns, *tensors]
