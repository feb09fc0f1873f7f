"""The definitions that there are: the YAML files in the workflows' folder."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from slipway import settings
from slipway.errors import NotFound, UserError
from slipway.workflows.definition import Definition

__all__ = ["Catalog", "Problem", "load", "parse", "problems_of"]

_LARGEST_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Problem:
    """What is wrong with one field: where, and which rule it breaks."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}" if self.field else self.message


class BadDefinition(UserError):
    """A definition's file is wrong; `problems` has every mistake."""

    def __init__(self, file: str, problems: list[Problem]) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"Workflow definition {file} is wrong: {problems[0]}{more}")
        self.problems = problems


@dataclass(frozen=True)
class Catalog:
    """All definitions of a folder, by id, and the files that are none."""

    definitions: dict[int, tuple[Definition, Path]]
    broken: dict[str, UserError]

    def find(self, workflow_id: int) -> tuple[Definition, Path]:
        """Return a definition and its file.

        :raises NotFound: if there is none, in a sentence that names those that there are.
        """
        if workflow_id in self.definitions:
            return self.definitions[workflow_id]
        known = ", ".join(f"{i} ({d.name})" for i, (d, _) in sorted(self.definitions.items())) or "none"
        hint = f"; {', '.join(sorted(self.broken))} cannot be read" if self.broken else ""
        raise NotFound(f"There is no workflow {workflow_id}: the known ones are {known}{hint}.")


def load(folder: Path | None = None) -> Catalog:
    """Read all definitions; a wrong file does not hide the others.

    :param folder: default: what `[slipway] workflows_dir` says.
    """
    root = folder or settings.workflows_dir()
    definitions: dict[int, tuple[Definition, Path]] = {}
    broken: dict[str, UserError] = {}
    names: set[str] = set()
    for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        try:
            definition = parse(_beginning(path), path.name)
            if definition.id in definitions:
                other = definitions[definition.id][1].name
                raise UserError(f"{path.name} and {other} both have id {definition.id}: give each its own.")
            if definition.name in names:
                raise UserError(f"{path.name} has the name '{definition.name}' of another one: give each its own.")
        except (UserError, OSError) as e:
            broken[path.name] = e if isinstance(e, UserError) else UserError(f"{path.name} cannot be read ({e}).")
            continue
        names.add(definition.name)
        definitions[definition.id] = (definition, path)
    return Catalog(definitions, broken)


def _beginning(path: Path) -> bytes:
    """A file's content, and of one that is too large no more than shows it."""
    with path.open("rb") as file:
        return file.read(_LARGEST_BYTES + 1)


def parse(content: bytes, name: str) -> Definition:
    """Read one definition.

    :raises BadDefinition: if it is not YAML, or not a definition.
    """
    if len(content) > _LARGEST_BYTES:
        raise BadDefinition(name, [Problem("", "larger than 1 MiB: definitions are short, so take data out of it.")])
    try:
        raw = yaml.load(content, Loader=_Loader)  # noqa: S506  # a safe loader, below
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as e:
        raise BadDefinition(name, [Problem("", f"not valid YAML ({' '.join(str(e).split())[:200]}).")]) from None
    if not isinstance(raw, dict):
        raise BadDefinition(name, [Problem("", "not a mapping: begin with `id: 1`.")])
    try:
        return Definition.model_validate(raw)
    except ValidationError as e:
        raise BadDefinition(name, problems_of(e.errors(include_url=False))) from None
    except RecursionError:
        raise BadDefinition(name, [Problem("", "nested too deeply.")]) from None


def problems_of(errors: Iterable[Any]) -> list[Problem]:
    """Pydantic's errors as fields and rules."""
    return [
        Problem(
            ".".join(str(part) for position, part in enumerate(error["loc"]) if not _is_tag(error["loc"], position)),
            str(error["msg"]).removeprefix("Value error, "),
        )
        for error in errors
    ]


def _is_tag(place: tuple[Any, ...], position: int) -> bool:
    """Whether a part of an error's place is the type that Pydantic puts behind a node's number."""
    return position == 2 and place[0] == "nodes"


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (a page of them can unfold to gigabytes) and without keys given twice."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed in a definition")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        twice = [key for position, key in enumerate(keys) if key in keys[:position]]
        if twice:
            raise yaml.YAMLError(f"key '{twice[0]}' is there twice")
        return super().construct_mapping(node, deep=deep)
