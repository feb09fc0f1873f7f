"""One page of the list of models: the bundle store and MLflow together, in two calls of MLflow's.

MLflow filters, sorts and cuts pages itself, so what a page costs does not grow with the number of models. Bundles that
are not registered are merged in: both lists are in the same order, so those between the first and the last model of
MLflow's page belong between them. Which version is deployed is read from the versions of the shown models; to find all
that are deployed on a target, MLflow is asked for the tag `slipway.targets`, an index that `Registry` keeps.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from slipway.bundles.store import BundleStore
from slipway.registry import TARGETS_TAG
from slipway.web.page.airflow import TARGETS, Run, Runs
from slipway.web.page.models import Model, PageMlflow, bundles_of, read_model

__all__ = ["SORTS", "STATES", "Listing", "Query", "Row", "list_models"]

PAGE = 25
STATES = {
    "": "All states",
    "imported": "Imported only",
    "registered": "Registered",
    "deployed": "Deployed",
    "running": "Action running",
    "failed": "Last action failed",
}
SORTS = {
    "name": ("name ASC", "Name, A to Z"),
    "-name": ("name DESC", "Name, Z to A"),
    "-updated": ("last_updated_timestamp DESC", "Newest change first"),
    "updated": ("last_updated_timestamp ASC", "Oldest change first"),
}
_MOST_BATCHES = 2
_MOST_NAMED = 200
_LONGEST_TEXT = 100
_NAME = re.compile(r"[A-Za-z0-9._ -]+")  # a run may be about anything that its caller wrote
_SIGNS = re.compile(r"[^A-Za-z0-9. -]")

Key = tuple[Any, ...]
Entry = tuple[Key, str]


@dataclass(frozen=True)
class Query:
    """What the list is to show."""

    text: str = ""
    state: str = ""
    target: str = ""
    sort: str = "name"
    trail: tuple[str, ...] = ()  # a cursor for each page after the first, up to the one that is shown

    @classmethod
    def of(cls, params: Mapping[str, str]) -> Query:
        """Read a URL's query; what is not known is left out."""
        return cls(
            text=params.get("q", "").strip()[:_LONGEST_TEXT],
            state=params.get("state", "") if params.get("state", "") in STATES else "",
            target=params.get("target", "") if params.get("target", "") in TARGETS else "",
            sort=params.get("sort", "") if params.get("sort", "") in SORTS else "name",
            trail=tuple(part for part in params.get("page", "").split(".") if part),
        )

    @property
    def narrowed(self) -> bool:
        """Whether anything is filtered."""
        return bool(self.text or self.state or self.target)

    def params(self, trail: Iterable[str] = ()) -> dict[str, str]:
        """Return the query of the same list at another page."""
        found = {"q": self.text, "state": self.state, "target": self.target, "page": ".".join(trail)}
        if self.sort != "name":
            found["sort"] = self.sort
        return {name: value for name, value in found.items() if value}


@dataclass(frozen=True)
class Row:
    """One line of the list."""

    model: Model
    active: Run | None
    failed: Run | None


@dataclass(frozen=True)
class Listing:
    """A page of the list."""

    query: Query
    rows: tuple[Row, ...]
    next: str | None  # the cursor of the page that follows
    mlflow_error: str | None = None  # why only bundles are shown


class BadCursor(ValueError):
    """The URL's page is not one that we made."""


@dataclass(frozen=True)
class _Cursor:
    """Where a page begins: MLflow's token of the batch, and the last entry of the page before."""

    token: str = ""
    after: Key | None = None

    def encode(self) -> str:
        text = json.dumps([self.token, self.after], separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> _Cursor:
        try:
            token, after = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            if isinstance(token, str) and isinstance(after, list):
                return cls(token, _tuple(after))
        except (ValueError, TypeError):
            pass
        raise BadCursor("This page of the list is not known: go back to the first one.")


# The models of a page, and where the next one begins.
Found = tuple[list[Model], _Cursor | None]


def list_models(mlflow: PageMlflow, store: BundleStore, query: Query, runs: Runs) -> Listing:
    """Return one page of the list.

    :param runs: the runs that say which models are being worked on.
    :raises SlipwayError: if MLflow or the bundle store fails.
    """
    cursor = _Cursor.decode(query.trail[-1]) if query.trail else _Cursor()
    imported = {name: at for name, at in store.newest().items() if _matches(name, query)}
    if query.state in {"running", "failed"}:
        named = runs.active() if query.state == "running" else runs.failed()
        found = _named(mlflow, imported, [n for n in named if _NAME.fullmatch(n) and _matches(n, query)], query, cursor)
    elif query.state == "imported":
        found = _unregistered(mlflow, imported, query, cursor)
    else:
        found = _merged(mlflow, imported, query, cursor)
    models, following = found
    active, failed = runs.active(), runs.failed()
    rows = tuple(Row(_with_bundle(m, store, imported), active.get(m.name), failed.get(m.name)) for m in models)
    return Listing(query, rows, following.encode() if following else None)


def list_bundles(store: BundleStore, query: Query, runs: Runs, error: str) -> Listing:
    """Return a page of the list with MLflow away: the bundles, and what is known of their runs."""
    cursor = _Cursor.decode(query.trail[-1]) if query.trail else _Cursor()
    imported = {name: at for name, at in store.newest().items() if _matches(name, query)}
    entries, following = _cut(_entries(imported, query), cursor)
    active, failed = runs.active(), runs.failed()
    rows = [
        Row(_with_bundle(_bundle_only(name, imported), store, imported), active.get(name), failed.get(name))
        for _, name in entries
    ]
    return Listing(query, tuple(rows), following.encode() if following else None, error)


def _merged(mlflow: PageMlflow, imported: dict[str, float], query: Query, cursor: _Cursor) -> Found:
    """Merge MLflow's models, in its own order, with the bundles that are not registered."""
    bundles = {} if query.state or query.target else imported
    token, after = cursor.token, cursor.after
    shown: list[Model] = []
    for _ in range(_MOST_BATCHES):
        raw, following = mlflow.search_models(_conditions(query), SORTS[query.sort][0], token=token, limit=PAGE)
        batch = {m["name"]: m for m in raw if _matches(m["name"], query)}
        last = _key(query.sort, raw[-1]["name"], _seconds(raw[-1])) if following else None
        between = [e for e in _entries(bundles, query) if e[1] not in batch and (last is None or e[0] <= last)]
        between = sorted(e for e in between if after is None or e[0] > after)
        entries = [(_key(query.sort, name, _seconds(m)), name) for name, m in batch.items()]
        entries = sorted([e for e in entries if after is None or e[0] > after] + between)
        until = None
        if "updated" in query.sort:
            entries, until = _without_registered(mlflow, entries, between)
        taken = entries[: PAGE - len(shown)]
        versions = mlflow.versions_of(name for _, name in taken)
        for key, name in taken:
            after = key
            if name in batch:
                shown.append(read_model(batch[name], versions.get(name, ()), imported=name in imported))
            elif name not in versions:  # else MLflow sorts it elsewhere, and shows it there
                shown.append(_bundle_only(name, imported))
        if len(taken) < len(entries):
            return shown, _Cursor(token, after)
        if until is not None:
            return shown, _Cursor(token, until)
        if not following:
            return shown, None
        token = following
        if len(shown) == PAGE:
            break
    return shown, _Cursor(token, after)


def _without_registered(
    mlflow: PageMlflow, entries: list[Entry], between: list[Entry]
) -> tuple[list[Entry], Key | None]:
    """Leave out the bundles that MLflow has a model of: in the order of time, that one may stand anywhere.

    Only so many are asked for. If there are more, the entries end with the last of them, whose key is returned too.
    """
    asked = between[:_MOST_NAMED]
    if not asked:
        return entries, None
    raw, _ = mlflow.search_models([_in(name for _, name in asked)], "name ASC", limit=_MOST_NAMED)
    registered = {m["name"] for m in raw} & {name for _, name in asked}
    until = asked[-1][0] if len(between) > len(asked) else None
    gone = {e for e in asked if e[1] in registered}
    return [e for e in entries if e not in gone and (until is None or e[0] <= until)], until


def _unregistered(mlflow: PageMlflow, imported: dict[str, float], query: Query, cursor: _Cursor) -> Found:
    """Find the bundles that MLflow has no model of, some names at a time."""
    entries = sorted(e for e in _entries(imported, query) if cursor.after is None or e[0] > cursor.after)
    shown: list[Model] = []
    for start in range(0, min(len(entries), _MOST_NAMED * _MOST_BATCHES), _MOST_NAMED):
        chunk = entries[start : start + _MOST_NAMED]
        raw, _ = mlflow.search_models([_in(name for _, name in chunk)], "name ASC", limit=_MOST_NAMED)
        registered = {m["name"] for m in raw}
        for key, name in chunk:
            if len(shown) == PAGE:
                return shown, cursor
            cursor = _Cursor("", key)
            if name not in registered:
                shown.append(_bundle_only(name, imported))
    more = len(entries) > _MOST_NAMED * _MOST_BATCHES
    return shown, cursor if more else None


def _named(mlflow: PageMlflow, imported: dict[str, float], names: list[str], query: Query, cursor: _Cursor) -> Found:
    """Return the models of those names that there are."""
    entries, following = _cut([(_key(query.sort, n, imported.get(n, 0.0)), n) for n in names], cursor)
    wanted = [name for _, name in entries]
    if not wanted:
        return [], None
    raw, _ = mlflow.search_models(
        [*_conditions(replace(query, text="", state="")), _in(wanted)], "name ASC", limit=PAGE
    )
    batch = {m["name"]: m for m in raw}
    versions = mlflow.versions_of(wanted)
    models = [
        read_model(batch[name], versions.get(name, ()), imported=name in imported)
        if name in batch
        else _bundle_only(name, imported)
        for name in wanted
        if name in batch or not query.target
    ]
    return models, following


def _cut(entries: list[Entry], cursor: _Cursor) -> tuple[list[Entry], _Cursor | None]:
    rest = sorted(e for e in entries if cursor.after is None or e[0] > cursor.after)
    return rest[:PAGE], _Cursor("", rest[PAGE - 1][0]) if len(rest) > PAGE else None


def _entries(imported: dict[str, float], query: Query) -> list[Entry]:
    return [(_key(query.sort, name, at), name) for name, at in imported.items()]


def _key(sort: str, name: str, seconds: float) -> Key:
    """Return what entries are compared by, so that the smallest comes first."""
    match sort:
        case "-name":
            return (*(-ord(c) for c in name), 1)  # the longer of two with the same beginning comes first
        case "updated":
            return seconds, name
        case "-updated":
            return -seconds, name
        case _:
            return (name,)


def _seconds(raw: dict[str, Any]) -> float:
    return int(raw.get("last_updated_timestamp", 0)) / 1000


def _conditions(query: Query) -> list[str]:
    conditions = []
    if query.text:
        # What is a sign of MLflow's language or of LIKE's stands for any letter here; `_matches` looks again.
        conditions.append(f"name ILIKE '%{_SIGNS.sub('_', query.text)}%'")
    if query.target or query.state == "deployed":
        conditions.append(f"tags.`{TARGETS_TAG}` LIKE '%{query.target or '_'}%'")
    return conditions


def _in(names: Iterable[str]) -> str:
    listed = ", ".join(f"'{name}'" for name in names)
    return f"name IN ({listed})"


def _matches(name: str, query: Query) -> bool:
    return query.text.casefold() in name.casefold()


def _bundle_only(name: str, imported: dict[str, float]) -> Model:
    at = imported.get(name)
    return Model(name, updated=datetime.fromtimestamp(at, UTC) if at else None, imported=name in imported)


def _with_bundle(model: Model, store: BundleStore, imported: dict[str, float]) -> Model:
    """Add the description that an import gave, where MLflow has none."""
    if model.description or model.name not in imported:
        return model
    bundles = bundles_of(store, model.name)
    return replace(model, bundles=bundles, description=bundles[0].description if bundles else "")


def _tuple(values: list[Any]) -> Key:
    return tuple(values)
