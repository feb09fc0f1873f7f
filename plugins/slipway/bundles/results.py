"""What the steps of an import hand each other: values that Airflow can keep as JSON."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Checked", "Locked", "Probed", "Stored"]


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check` hands on."""

    digest: str
    name: str
    description: str | None
    source_uri: str
    run_id: str
    kind: str  # "bundle" or "model"
    known: bool  # the store has it already: the next steps have nothing to do
    staging: str | None
    files: int
    total_bytes: int
    methods: list[str]
    sample: str | None  # name of the sample input's file


@dataclass(frozen=True, slots=True)
class Locked:
    """What `lock` hands on."""

    lock_digest: str
    python: str
    requirements: list[str]  # the bundle's own, pinned


@dataclass(frozen=True, slots=True)
class Probed:
    """What `probe` hands on; the golden sample stays in the store."""

    ok: bool
    isolated: bool
    has_golden_sample: bool
    rows_independent: bool | None
    load_seconds: float
    predict_seconds: float | None
    peak_rss_bytes: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What `commit` returns."""

    digest: str
    name: str
    lock_digest: str
    created: bool  # False: the store had it already
