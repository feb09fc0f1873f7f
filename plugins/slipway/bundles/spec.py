"""Reads what a bundle says of itself: `bundle.yaml` and the sample input."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway.bundles.layout import SAMPLES, SPEC
from slipway.bundles.wording import one_line, shown, size
from slipway.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Batching", "BundleSpec", "Column", "OutputColumn", "SignatureSpec", "check_sample", "read_spec"]

# https://mlflow.org/docs/latest/model/signatures: the scalar types of a column.
_ColumnType = Literal["boolean", "integer", "long", "float", "double", "string", "binary", "datetime"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Column(_Strict):
    """One column of the model's input or output, in MLflow's names of types."""

    name: Annotated[str, Field(min_length=1, max_length=500)]
    type: _ColumnType
    required: bool = True


class OutputColumn(_Strict):
    """One column of the model's output; a model that answers a plain list gives its only column no name."""

    name: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    type: _ColumnType
    required: bool = True


class SignatureSpec(_Strict):
    """The signature that a bundle declares instead of having it inferred from the sample."""

    inputs: Annotated[list[Column], Field(min_length=1, max_length=10_000)]
    outputs: Annotated[list[OutputColumn], Field(max_length=10_000)] | None = None


class Batching(_Strict):
    """How the scoring server may put requests together."""

    enabled: bool = True
    max_size: Annotated[int, Field(ge=1, le=65_536)] | None = None  # rows
    max_delay_ms: Annotated[float, Field(ge=0, le=10_000)] | None = None


class BundleSpec(_Strict):
    """`bundle.yaml`: every field is optional."""

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    description: Annotated[str, Field(max_length=5_000)] | None = None
    signature: SignatureSpec | None = None
    batching: Batching | None = None


class _Loader(yaml.SafeLoader):
    """Safe YAML, without aliases (a few unfold to gigabytes) and without repeated keys (one would win unseen)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.get_event().start_mark  # type: ignore[no-untyped-call]  # types-PyYAML leaves it out
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if len(mapping) < len(node.value):
            raise yaml.MarkedYAMLError(problem="a key stands twice", problem_mark=node.start_mark)
        return mapping


def read_spec(root: Path, max_bytes: int) -> BundleSpec:
    """Return the bundle's `bundle.yaml`, or an empty one where it has none.

    :param root: folder of the normalised bundle.
    :raises UserError: if it is not YAML, or has unknown fields or wrong values.
    """
    file = root / SPEC
    if not file.exists():
        return BundleSpec()
    try:
        # A subclass of SafeLoader makes plain values only.
        value = yaml.load(_text(file, max_bytes), Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(
            f"{SPEC} is not plain YAML, {_yaml_problem(error)}: correct it or leave the file out."
        ) from error
    if value is None:
        return BundleSpec()
    if not isinstance(value, dict):
        raise UserError(f"{SPEC} does not hold fields and values: write lines such as 'name: breast-cancer'.")
    try:
        return BundleSpec.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{SPEC} is wrong {_field_problem(error)}: correct it or leave the field out.") from error


def check_sample(root: Path, max_bytes: int) -> str | None:
    """Return the name of the bundle's sample input if it has one and it parses, else None.

    :raises UserError: if it is there and is not a table in one of the accepted forms.
    """
    for name in SAMPLES:
        file = root / name
        if file.exists():
            try:
                _check_json(_text(file, max_bytes)) if name.endswith(".json") else _check_csv(_text(file, max_bytes))
            except (ValueError, csv.Error, RecursionError) as error:
                why = "it is nested too deeply" if isinstance(error, RecursionError) else one_line(str(error))
                raise UserError(
                    f"{name} is not a sample input, {why}: write a pandas split object or a list of records, with one "
                    "row or more."
                    if name.endswith(".json")
                    else f"{name} is not a sample input, {why}: write a header line and one row or more."
                ) from error
            return name
    return None


def _check_json(text: str) -> None:
    value = json.loads(text)
    if isinstance(value, dict):
        if set(value) == {"dataframe_split"}:
            value = value["dataframe_split"]
        elif set(value) == {"dataframe_records"}:
            value = value["dataframe_records"]
    if isinstance(value, dict):
        _check_split(value)
    elif not isinstance(value, list) or not value:
        raise ValueError("it has no rows")
    elif not all(isinstance(row, dict) and row for row in value):
        raise ValueError("its list has an element that is not a record")


def _check_split(value: dict[str, Any]) -> None:
    columns, rows = value.get("columns"), value.get("data")
    if not set(value) <= {"columns", "data", "index"} or not isinstance(rows, list):
        raise ValueError("it has neither 'columns' and 'data' nor 'dataframe_split' nor 'dataframe_records'")
    if not rows:
        raise ValueError("it has no rows")
    if not all(isinstance(row, list) for row in rows):
        raise ValueError("its 'data' has a row that is not a list")
    if columns is not None and (not isinstance(columns, list) or any(len(row) != len(columns) for row in rows)):
        raise ValueError("a row has another number of values than there are columns")


def _check_csv(text: str) -> None:
    rows: Sequence[list[str]] = [row for row in csv.reader(text.splitlines(), strict=True) if row]
    if len(rows) < 2:
        raise ValueError("it has no rows below its header")
    if any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("a row has another number of values than the header")


def _text(file: Path, max_bytes: int) -> str:
    if file.stat().st_size > max_bytes:
        raise ValueError(f"it is larger than {size(max_bytes)}")
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 text") from error


def _yaml_problem(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{one_line(error.problem or 'it does not parse')} on line {error.problem_mark.line + 1}"
    return "it is nested too deeply" if isinstance(error, RecursionError) else one_line(str(error))


def _field_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"at {shown(field)}, a field that it does not have"
    return f"at {shown(field)}, {one_line(first['msg'])}"
