"""What MLflow and the bundle store know of models, in as few questions as a page can do with.

No retries and short timeouts here: a page must not wait for a server that is away.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from slipway import naming, settings
from slipway.bundles.store import BundleStore
from slipway.domain import DeploymentRecord, ModelVersion
from slipway.hooks.mlflow import MlflowHook
from slipway.registry import BUNDLE_TAG, LOCK_TAG

__all__ = ["Bundle", "Model", "PageMlflow", "Version", "bundle_store", "mlflow"]

_API = "/api/2.0/mlflow"
_MOST_VERSIONS = 10_000
_HOOK_SECONDS = 30


@dataclass(frozen=True)
class Version:
    """A model version, and what is deployed of it."""

    known: ModelVersion
    created: datetime | None
    description: str
    deployments: tuple[DeploymentRecord, ...]
    damaged: tuple[str, ...] = ()  # deployment tags that are no records

    @property
    def number(self) -> str:
        """Its number, as text."""
        return self.known.version

    @property
    def bundle(self) -> str | None:
        """The digest of the bundle that it was made from."""
        return self.known.tags.get(BUNDLE_TAG)

    @property
    def ours(self) -> bool:
        """Whether register_model made it, so that it can be deployed."""
        return LOCK_TAG in self.known.tags

    @property
    def deployable(self) -> bool:
        """Whether a deploy would take it."""
        return self.ours and self.known.status == "READY"


@dataclass(frozen=True)
class Bundle:
    """An import of a bundle under a name."""

    digest: str
    imported_at: datetime
    description: str
    source: str


@dataclass(frozen=True)
class Model:
    """A model as the bundle store and MLflow know it together."""

    name: str
    description: str = ""
    updated: datetime | None = None
    registered: bool = False
    aliases: dict[str, str] = field(default_factory=dict)  # alias to version
    versions: tuple[Version, ...] = ()  # newest first
    bundles: tuple[Bundle, ...] = ()  # newest first
    imported: bool = False

    @property
    def deployments(self) -> list[DeploymentRecord]:
        """What is deployed of it: the newest record of each endpoint."""
        newest: dict[tuple[str, str], DeploymentRecord] = {}
        for version in self.versions:
            for record in version.deployments:
                key = (record.target, record.endpoint)
                if key not in newest or newest[key].deployed_at < record.deployed_at:
                    newest[key] = record
        return [newest[key] for key in sorted(newest)]

    def version(self, number: str) -> Version | None:
        """Return one of its versions."""
        return next((v for v in self.versions if v.number == number), None)

    @property
    def unregistered(self) -> Bundle | None:
        """The newest bundle, if no version was made from it."""
        made = {version.bundle for version in self.versions if version.known.status == "READY"}
        return self.bundles[0] if self.bundles and self.bundles[0].digest not in made else None


class PageMlflow(MlflowHook):
    """MLflow's registry, asked once and not for long."""

    timeout_seconds = 5.0

    def call(self, method: str, path: str, **options: Any) -> Any:
        """See `RestHook.call`; a fault that passes is the page's to show, not to wait for."""
        return super().call(method, path, **{"idempotent": False, **options})

    def search_models(
        self, conditions: Iterable[str], order: str, *, token: str = "", limit: int
    ) -> tuple[list[dict[str, Any]], str]:
        """Return some registered models as MLflow describes them, and the token of those that follow."""
        # MLflow takes each field once; equal times are ordered by name.
        orders = [order] if order.startswith("name ") else [order, "name ASC"]
        params: dict[str, Any] = {"max_results": limit, "order_by": orders}
        if filter_string := " AND ".join(conditions):
            params["filter"] = filter_string
        if token:
            params["page_token"] = token
        answer = self.call("GET", f"{_API}/registered-models/search", params=params) or {}
        return list(answer.get("registered_models", [])), str(answer.get("next_page_token", ""))

    def versions_of(self, names: Iterable[str]) -> dict[str, tuple[Version, ...]]:
        """Return the versions of some models, newest first, in one call."""
        listed = ", ".join(f"'{name}'" for name in names if "'" not in name)
        if not listed:
            return {}
        params = {"filter": f"name IN ({listed})", "max_results": _MOST_VERSIONS}
        answer = self.call("GET", f"{_API}/model-versions/search", params=params) or {}
        found: dict[str, list[Version]] = {}
        for raw in answer.get("model_versions", []):
            found.setdefault(raw["name"], []).append(read_version(raw))
        return {name: tuple(sorted(of, key=lambda v: -int(v.number))) for name, of in found.items()}

    def model(self, name: str) -> dict[str, Any]:
        """Return MLflow's description of a model.

        :raises NotFound: if it is not registered.
        """
        return dict(self.call("GET", f"{_API}/registered-models/get", params={"name": name})["registered_model"])


def read_version(raw: dict[str, Any]) -> Version:
    """Read a version as MLflow describes it."""
    tags = {tag["key"]: tag.get("value", "") for tag in raw.get("tags", [])}
    records, damaged = [], []
    for key, value in tags.items():
        if key.startswith(naming.DEPLOYMENT_TAG_PREFIX):
            try:
                records.append(DeploymentRecord.model_validate_json(value))
            except ValueError:
                damaged.append(key)
    known = ModelVersion(
        name=raw["name"],
        version=str(raw["version"]),
        source=raw.get("source", ""),
        status=raw.get("status", "READY"),
        aliases=tuple(raw.get("aliases", ())),
        tags=tags,
    )
    created = time_of(raw.get("creation_timestamp"))
    return Version(known, created, raw.get("description", ""), tuple(records), tuple(damaged))


def read_model(raw: dict[str, Any], versions: tuple[Version, ...], *, imported: bool) -> Model:
    """Read a registered model as MLflow describes it."""
    return Model(
        name=raw["name"],
        description=raw.get("description", ""),
        updated=time_of(raw.get("last_updated_timestamp")),
        registered=True,
        aliases={alias["alias"]: str(alias["version"]) for alias in raw.get("aliases", [])},
        versions=versions,
        imported=imported,
    )


def bundles_of(store: BundleStore, name: str) -> tuple[Bundle, ...]:
    """Return the bundles that were imported under a name, newest first."""
    return tuple(
        Bundle(
            digest=digest,
            imported_at=datetime.fromisoformat(record["imported_at"]),
            description=record.get("description") or "",
            source=record.get("source_uri") or "",
        )
        for digest, record in reversed(store.imports(name).items())
    )


def time_of(milliseconds: Any) -> datetime | None:
    """Return MLflow's milliseconds since 1970 as a time."""
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC) if milliseconds else None


def bundle_store() -> BundleStore:
    """Return the bundle store that Airflow's configuration names."""
    return BundleStore(settings.bundle_store())


def mlflow() -> PageMlflow:
    """Return a hook of MLflow's; kept for some seconds, because making an HTTP client costs more than a call."""
    return _mlflow(int(time.monotonic()) // _HOOK_SECONDS)


@lru_cache(maxsize=1)
def _mlflow(_: int) -> PageMlflow:
    return PageMlflow()
