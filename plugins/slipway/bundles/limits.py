"""How much a bundle may ask of the machine, and where its import works. The one place that reads the settings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from slipway import settings

__all__ = ["Limits", "Site"]

_MIB = 1024**2
_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of an import, in bytes and seconds. The defaults are those of `slipway.settings`."""

    archive_bytes: int = 20 * _GIB
    unpacked_bytes: int = 40 * _GIB
    files: int = 10_000
    ratio: int = 200
    ratio_floor_bytes: int = 16 * _MIB  # below this size no ratio is suspicious: text packs well
    directory_bytes: int = 16 * _MIB  # of the zip's central directory, which is read at once
    text_bytes: int = 1 * _MIB  # of requirements.txt, bundle.yaml and each code file
    sample_bytes: int = 8 * _MIB
    pickle_operations: int = 200_000_000  # some minutes of walking
    allowed_globals: frozenset[str] = frozenset()  # "module.name" that the scanner calls dangerous, taken all the same
    lock_seconds: float = 300
    environment_seconds: float = 1800
    probe_seconds: float = 300
    probe_cpu_seconds: int = 600
    probe_memory_bytes: int = 4 * _GIB
    probe_scratch_bytes: int = 1 * _GIB  # what a probe may write, all into memory
    probe_processes: int = 512
    staging_seconds: float = 24 * 3600  # an import untouched for so long is dead

    @classmethod
    def from_settings(cls) -> Self:
        """Return the limits that Airflow's configuration sets."""
        return cls(
            archive_bytes=settings.max_archive_bytes(),
            unpacked_bytes=settings.max_unpacked_bytes(),
            files=settings.max_files(),
            ratio=settings.max_ratio(),
            probe_seconds=settings.probe_timeout_seconds(),
            probe_cpu_seconds=settings.probe_cpu_seconds(),
            probe_memory_bytes=settings.probe_memory_bytes(),
        )


@dataclass(frozen=True, slots=True)
class Site:
    """Where an import works: the store, the environments, the scoring package, what a probe must not see."""

    store: str  # URI
    environments_dir: Path
    scoring_home: Path
    python: str
    masked_dirs: tuple[Path, ...] = ()
    allow_source_distributions: bool = False
    limits: Limits = field(default_factory=Limits)
    tell: Callable[[str], None] = logging.getLogger("slipway.bundles").info  # is given each line worth logging

    @classmethod
    def from_settings(cls) -> Self:
        """Return the site that Airflow's configuration describes."""
        return cls(
            store=settings.bundle_store(),
            environments_dir=settings.environments_dir(),
            scoring_home=settings.scoring_home(),
            python=settings.python(),
            masked_dirs=tuple(settings.masked_dirs()),
            allow_source_distributions=settings.allow_source_distributions(),
            limits=Limits.from_settings(),
        )
