"""A score workflow as its YAML file declares it (`include/workflows/*.yaml`), checked as far as a file alone can be.

Field by field explained in docs/workflows.md; `schema()` gives the JSON Schema for editors.
"""

from __future__ import annotations

import posixpath
import re
from datetime import date
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from slipway.errors import UserError
from slipway.workflows.places import overlapping
from slipway.workflows.values import ParameterType, convert, placeholders

__all__ = [
    "Definition",
    "Node",
    "Parameter",
    "ReadNode",
    "Schedule",
    "ScoreNode",
    "SqlNode",
    "WriteNode",
    "schema",
]

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Slug = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Text = Annotated[str, Field(min_length=1, max_length=4096)]
Option = StrictStr | StrictBool | StrictInt | StrictFloat
OUTPUT_TYPES = Literal["boolean", "integer", "long", "float", "double", "string", "datetime"]

# A marker for a parameter in SQL, outside of quotes; `::` is a cast and no marker.
_SQL_TOKENS = re.compile(
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|--[^\n]*|/\*.*?\*/|::|:([A-Za-z_]\w*)", re.DOTALL
)
# Options that would let a definition name code, or fight with how rejects are found.
_OWN_OPTIONS = {"mode", "columnnameofcorruptrecord", "path", "compressionclass"}
_JDBC_OPTIONS = {"url", "dbtable", "query", "driver", "fetchsize", "partitioncolumn", "lowerbound", "upperbound",
                 "numpartitions", "querytimeout", "sessioninitstatement", "user", "password"}  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Parameter(_Part):
    """A value that a caller may give: by `--name value`, in JSON, or by a schedule's data interval."""

    name: Name
    type: ParameterType = "string"
    default: Option | date | None = None
    required: bool = False
    description: str = ""

    @model_validator(mode="after")
    def _default_fits(self) -> Self:
        if self.required and self.default is not None:
            raise ValueError(f"Parameter '{self.name}' is required and has a default: give one of the two.")
        if self.default is not None:
            try:
                convert(self.name, self.type, self.default)
            except UserError as e:
                raise ValueError(f"The default is wrong: {e}") from None
        return self


class Schedule(_Part):
    """When a workflow runs by itself: each run is for one data interval, and `interval` hands its bounds on."""

    cron: Text
    start: date
    catchup: bool = True
    paused: bool = Field(default=False, description="Made switched off: somebody switches it on in Airflow.")
    interval: dict[Name, Literal["start", "end"]] = Field(
        default_factory=dict, description="Parameters (date or timestamp) that get a bound of the data interval."
    )
    parameters: dict[Name, Option | date] = Field(default_factory=dict, description="Other parameters' values.")
    email_on_success: str = ""
    email_on_failure: str = ""
    on_champion: bool = Field(default=False, description="Run also when the `champion` of a model of it moves.")

    @model_validator(mode="after")
    def _cron_is_one(self) -> Self:
        from croniter import croniter

        if not croniter.is_valid(self.cron) or len(self.cron.split()) != 5:
            raise ValueError(f"Cron expression '{self.cron}' is not one: give five fields, such as '0 3 * * *'.")
        return self


class _Node(_Part):
    id: Name


class ReadNode(_Node):
    """Data at rest: files, or a table over JDBC."""

    type: Literal["read"]
    format: Literal["csv", "json", "parquet", "orc", "jdbc"]
    path: Text | None = Field(default=None, description="File, folder or glob; relative to the definition's folder.")
    schema_: str | None = Field(default=None, alias="schema", description="As in SQL: `id BIGINT, day DATE`.")
    connection: Text | None = Field(default=None, description="For jdbc: Airflow connection with user and password.")
    options: dict[str, Option] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_format(self) -> Self:
        if self.format == "jdbc":
            if self.path is not None or self.schema_ is not None:
                raise ValueError("A jdbc node has neither path nor schema: give options.url and options.dbtable.")
            names = {name.lower() for name in self.options}
            if "url" not in names or not names & {"dbtable", "query"}:
                raise ValueError("A jdbc node needs options.url, and options.dbtable or options.query.")
            if names - _JDBC_OPTIONS:
                raise ValueError(f"Option '{min(names - _JDBC_OPTIONS)}' of a jdbc node is not known.")
            if "password" in names:
                raise ValueError("A password does not belong in a definition: name an Airflow connection.")
        elif self.path is None:
            raise ValueError(f"A {self.format} node needs a path.")
        elif self.connection is not None:
            raise ValueError("Only a jdbc node has a connection.")
        _check_options(self.options)
        return self

    @property
    def inputs(self) -> tuple[str, ...]:
        """The nodes it takes: none."""
        return ()

    @property
    def texts(self) -> tuple[str, ...]:
        """Where `${parameter}` may stand."""
        texts = [value for value in self.options.values() if isinstance(value, str)]
        return (*([self.path] if self.path else []), *texts)


class SqlNode(_Node):
    """One SELECT in Spark's SQL over the nodes it names; `:parameter` is a value, never text."""

    type: Literal["sql"]
    inputs: tuple[Name, ...] = Field(min_length=1)
    sql: Text

    @model_validator(mode="after")
    def _is_a_query(self) -> Self:
        words = _SQL_TOKENS.sub(" ", self.sql).split()
        if not words or words[0].lower().lstrip("(") not in {"select", "with", "values", "from", "table"}:
            raise ValueError("A sql node holds one query: begin it with SELECT or WITH.")
        if "${" in self.sql:
            raise ValueError("SQL takes parameters as :name, not as ${name}: their values are never read as SQL.")
        return self

    @property
    def markers(self) -> list[str]:
        """The parameters that the query names."""
        return sorted({found for found in _SQL_TOKENS.findall(self.sql) if found})

    @property
    def texts(self) -> tuple[str, ...]:
        """Where `${parameter}` may stand: nowhere."""
        return ()


class _Follower(_Node):
    """A node that takes one other."""

    input: Name

    @property
    def inputs(self) -> tuple[str, ...]:
        """The node it takes."""
        return (self.input,)


class ScoreNode(_Follower):
    """Score each row with a registered model."""

    type: Literal["score"]
    model: Text
    version: Annotated[str, Field(pattern=r"^\d+$")] | None = None
    alias: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,62}$")] | None = None
    keep: tuple[Text, ...] | None = Field(default=None, description="Input columns to keep; all if not given.")
    outputs: tuple[Text, ...] | dict[Text, OUTPUT_TYPES] | None = Field(
        default=None, description="Names of the output columns; with types for a model that declares none."
    )

    @model_validator(mode="after")
    def _names_one_version(self) -> Self:
        if self.version and self.alias:
            raise ValueError("Both version and alias are given: give one of the two.")
        names = list(self.outputs or ())
        if len(set(names)) < len(names):
            raise ValueError("Two outputs have the same name: give each its own.")
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """Where `${parameter}` may stand."""
        return (self.model,)


class WriteNode(_Follower):
    """Where results go: `<path>/execution=<id>/`, published at once."""

    type: Literal["write"]
    format: Literal["csv", "json", "parquet", "orc"] = "parquet"
    path: Text = Field(description="Folder; relative to [slipway] scores_dir.")
    mode: Literal["append", "overwrite", "error"] = "append"
    partitions: tuple[Text, ...] = ()
    options: dict[str, Option] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _options_are_fine(self) -> Self:
        _check_options(self.options)
        return self

    @property
    def texts(self) -> tuple[str, ...]:
        """Where `${parameter}` may stand."""
        return (self.path, *(value for value in self.options.values() if isinstance(value, str)))


Node = Annotated[ReadNode | SqlNode | ScoreNode | WriteNode, Field(discriminator="type")]


class Rejects(_Part):
    """Rows that cannot be read or scored."""

    path: Text | None = Field(default=None, description="Folder; default `rejects/<name>` in [slipway] scores_dir.")
    max_share: float = Field(default=1.0, ge=0, le=1, description="More of a node's rows than this fails the run.")


class Definition(_Part):
    """One score workflow."""

    id: StrictInt = Field(ge=1)
    name: Slug
    description: Text
    parameters: tuple[Parameter, ...] = ()
    schedule: Schedule | None = None
    rejects: Rejects = Rejects()
    nodes: tuple[Node, ...] = Field(min_length=2, max_length=100)

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        _check_names([node.id for node in self.nodes], "Node")
        _check_names([parameter.name for parameter in self.parameters], "Parameter")
        self._check_inputs()
        self._check_ends()
        self._check_parameters()
        self._check_schedule()
        return self

    def _check_inputs(self) -> None:
        known = {node.id: node for node in self.nodes}
        for node in self.nodes:
            for name in node.inputs:
                if name not in known:
                    raise ValueError(
                        f"Node '{node.id}' takes '{name}', which is no node: the nodes are {', '.join(known)}."
                    )
                if isinstance(known[name], WriteNode):
                    raise ValueError(f"Node '{node.id}' takes '{name}', which writes and gives nothing on.")
        try:
            TopologicalSorter({node.id: node.inputs for node in self.nodes}).prepare()
        except CycleError as e:
            raise ValueError(f"The nodes {' → '.join(reversed(e.args[1]))} form a cycle: data flows one way.") from None

    def _check_ends(self) -> None:
        taken = {name for node in self.nodes for name in node.inputs}
        if not any(isinstance(node, WriteNode) for node in self.nodes):
            raise ValueError("No node writes: add a write node.")
        if not any(isinstance(node, ScoreNode) for node in self.nodes):
            raise ValueError("No node scores: add a score node.")
        for node in self.nodes:
            if not isinstance(node, WriteNode) and node.id not in taken:
                raise ValueError(f"Nothing takes what node '{node.id}' gives: remove it, or write it.")
        # As far as the text tells; planning looks again when the parameters are filled in.
        writes = {f"node '{node.id}'": node.path for node in self.nodes if isinstance(node, WriteNode)}
        texts = {**writes, "rejects": self.rejects_path}
        clash = overlapping({name: posixpath.normpath(path) for name, path in texts.items()})
        if clash:
            raise ValueError(
                f"{clash[0].capitalize()} and {clash[1]} write to the same path, or one below the other: give each a "
                "folder of its own."
            )

    def _check_parameters(self) -> None:
        declared = {parameter.name for parameter in self.parameters}
        used = set()
        for node in self.nodes:
            names = node.markers if isinstance(node, SqlNode) else []
            names = [*names, *(name for text in node.texts for name in placeholders(text))]
            for name in names:
                if name not in declared:
                    raise ValueError(f"Node '{node.id}' uses parameter '{name}', which is not declared: declare it.")
            used |= set(names)
        if declared - used:
            raise ValueError(f"Parameter '{min(declared - used)}' is declared and not used: remove it.")

    def _check_schedule(self) -> None:
        if self.schedule is None:
            return
        types = {parameter.name: parameter.type for parameter in self.parameters}
        for name in (*self.schedule.interval, *self.schedule.parameters):
            if name not in types:
                raise ValueError(f"The schedule sets parameter '{name}', which is not declared.")
        for name in self.schedule.interval:
            if types[name] not in {"date", "timestamp"}:
                raise ValueError(
                    f"Parameter '{name}' gets a bound of the interval: its type must be date or timestamp."
                )
        for name, value in self.schedule.parameters.items():
            try:
                convert(name, types[name], value)
            except UserError as e:
                raise ValueError(str(e)) from None
        given = {*self.schedule.interval, *self.schedule.parameters}
        for parameter in self.parameters:
            if parameter.required and parameter.name not in given:
                raise ValueError(f"Parameter '{parameter.name}' is required, and the schedule does not set it.")

    @property
    def rejects_path(self) -> str:
        """Where rejected rows go, as it is written."""
        return self.rejects.path or f"rejects/{self.name}"

    @property
    def ordered(self) -> list[ReadNode | SqlNode | ScoreNode | WriteNode]:
        """The nodes, inputs before those that take them."""
        known = {node.id: node for node in self.nodes}
        return [known[name] for name in TopologicalSorter({n.id: n.inputs for n in self.nodes}).static_order()]

    @property
    def models(self) -> set[str]:
        """The registered models that it names (a name that a parameter gives is not among them)."""
        return {n.model for n in self.nodes if isinstance(n, ScoreNode) and not placeholders(n.model)}


def schema() -> dict[str, Any]:
    """The JSON Schema of a definition's file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Definition.model_json_schema(by_alias=True)}


def _check_names(names: list[str], what: str) -> None:
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"{what} '{min(twice)}' is there twice: give each its own name.")


def _check_options(options: dict[str, Option]) -> None:
    for name in options:
        if name.lower() in _OWN_OPTIONS:
            raise ValueError(f"Option '{name}' is set by Slipway itself: leave it out.")
