"""The steps of an import, as plain functions: check, lock, probe, commit; discard after a failure.

Each may run in a process of its own on another machine, and may run again: they hand each other JSON, and keep the
rest in the staging area of the bundle store. Nothing of a bundle runs in the calling process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slipway import naming
from slipway.bundles.limits import Site
from slipway.bundles.results import Checked, Locked, Probed, Stored
from slipway.bundles.staging import CHECK_NOTES, PROBE_NOTES, Staging, collect
from slipway.bundles.store import LOCK, BundleStore, StoredBundle
from slipway.bundles.wording import shown
from slipway.errors import UserError

__all__ = [
    "Checked",
    "Locked",
    "Probed",
    "Stored",
    "check",
    "commit",
    "discard",
    "find",
    "lock",
    "materialise",
    "probe",
    "take_model",
]


def check(
    bundle_uri: str, name: str | None = None, description: str | None = None, *, run_id: str, site: Site | None = None
) -> dict[str, Any]:
    """Open the archive at `bundle_uri`, check it, and unpack it to the store's staging area.

    :param bundle_uri: any URI that Airflow's ObjectStoragePath reads, or a local path.
    :param name: name of the model; by default from `bundle.yaml`, or else the archive's file name.
    :param description: what the model does; by default from `bundle.yaml`.
    :param run_id: names the import: a second call with the same starts over.
    :returns: `Checked` as a dict.
    :raises UserError: for everything that is wrong with the bundle; nothing of it stays.
    :raises Unavailable: if the disk is full.
    """
    from slipway.bundles import archive, layout, scan, source, spec, static, unpack
    from slipway.bundles.requirements import read_requirements

    site = site or Site.from_settings()
    limits = site.limits
    if name:
        naming.check_model(name)
    store = BundleStore(site.store)
    for dead in collect(store, limits.staging_seconds):
        site.tell(f"Removed what the dead import {dead} had left in the bundle store.")
    with source.open_source(bundle_uri, limits.archive_bytes) as file:
        members = {member.path: member for member in archive.read_members(file, limits)}
        plan = {inner: members[path] for path, inner in layout.normalise(members).items()}
        total = sum(member.size for member in plan.values())
        site.tell(f"The archive holds {len(plan)} files of the bundle, {total:,} bytes.")
        with Staging.unpacking(store, run_id) as (staging, folder):
            records = unpack.unpack(file, plan, folder)
            layout.complete(folder)
            paths = [record.path for record in records]
            methods = static.check_code(folder, paths, limits.text_bytes)
            declared = spec.read_spec(folder, limits.text_bytes)
            sample = spec.check_sample(folder, limits.sample_bytes)
            read_requirements(folder / layout.REQUIREMENTS, limits.text_bytes)
            found = scan.scan_files(folder, paths, limits)
            digest = unpack.bundle_digest(records)
            checked = Checked(
                digest=digest,
                name=_name(name, declared.name, bundle_uri),
                description=description or declared.description,
                source_uri=bundle_uri.partition("?")[0],
                run_id=run_id,
                kind="bundle",
                known=store.manifest(digest) is not None,
                staging=staging.key,
                files=len(records),
                total_bytes=total,
                methods=methods,
                sample=sample,
            )
            notes = {
                "files": [asdict(record) for record in records],
                "pickle_globals": found,
                "bundle_yaml": declared.model_dump(mode="json", exclude_none=True),
            }
            staging.write(CHECK_NOTES, json.dumps(notes).encode())
    return asdict(_without_staging_if_known(checked, site))


def lock(checked: dict[str, Any], *, site: Site | None = None) -> dict[str, Any]:
    """Resolve the bundle's requirements with the scoring server's to a lock, and make the environment it names.

    :param checked: what `check` returned.
    :returns: `Locked` as a dict.
    :raises UserError: if they cannot be resolved or installed.
    :raises Unavailable: if the package index cannot be reached.
    """
    from slipway.bundles.layout import REQUIREMENTS
    from slipway.bundles.lock import make_lock
    from slipway.bundles.probe import make_environment
    from slipway.bundles.requirements import pins, read_requirements

    site = site or Site.from_settings()
    work = Checked(**checked)
    store = BundleStore(site.store)
    manifest = store.manifest(work.digest)
    if manifest is not None:
        return asdict(Locked(manifest["lock_digest"], manifest["python"], manifest["requirements"]))
    staging = _staging(store, work)
    with staging.files() as folder:
        requirements = read_requirements(folder / REQUIREMENTS, site.limits.text_bytes)
    made = make_lock(requirements, site)
    staging.write(LOCK, made.text.encode())
    site.tell(f"The requirements are locked as {made.digest}.")
    _environment(made.text.encode(), site, make_environment)
    return asdict(Locked(made.digest, made.python, pins(requirements, made.text)))


def probe(checked: dict[str, Any], locked: dict[str, Any], *, site: Site | None = None) -> dict[str, Any]:
    """Load the bundle in its own environment, apart from this machine, and predict its sample.

    :returns: `Probed` as a dict.
    :raises UserError: if the bundle's code fails or needs more than it may have.
    """
    from slipway.bundles.probe import ProbeResult, make_environment, run_probe

    site = site or Site.from_settings()
    work = Checked(**checked)
    store = BundleStore(site.store)
    manifest = store.manifest(work.digest)
    if manifest is not None:
        return asdict(Probed(**manifest["probe"]))
    staging = _staging(store, work)
    text = staging.read(LOCK)
    if Locked(**locked).lock_digest != hashlib.sha256(text).hexdigest():
        raise UserError("The lock in the staging area is not the one that was made: run import_bundle again.")
    environment = _environment(text, site, make_environment)
    with staging.files() as folder:
        result: ProbeResult = run_probe(folder, environment, site, kind=work.kind)
    staging.write(PROBE_NOTES, result.model_dump_json().encode())
    return asdict(_probed(result.model_dump(mode="json")))


def commit(
    checked: dict[str, Any], locked: dict[str, Any], probed: dict[str, Any], *, site: Site | None = None
) -> dict[str, Any]:
    """Store the bundle under its digest; one that is there already stays as it is.

    :returns: `Stored` as a dict.
    """
    site = site or Site.from_settings()
    work, versions, seen = Checked(**checked), Locked(**locked), Probed(**probed)
    store = BundleStore(site.store)
    manifest = store.manifest(work.digest)
    created = False
    if manifest is None:
        staging = _staging(store, work)
        manifest = _manifest(
            work, versions, seen, json.loads(staging.read(CHECK_NOTES)), json.loads(staging.read(PROBE_NOTES))
        )
        created = staging.commit(work.digest, manifest, staging.read(LOCK))
        manifest = store.manifest(work.digest) or manifest
    else:
        discard(checked, site=site)
    recorded = store.record(work.name, work.digest, work.source_uri, work.description)
    site.tell(
        f"Bundle {work.digest} is stored as {shown(work.name)}{'' if created or recorded else ', as it was before'}."
    )
    return asdict(Stored(work.digest, work.name, manifest["lock_digest"], created))


def discard(checked: dict[str, Any], *, site: Site | None = None) -> None:
    """Remove what an import has left in the staging area. A stored bundle stays."""
    site = site or Site.from_settings()
    work = Checked(**checked)
    if work.staging is not None:
        Staging(BundleStore(site.store), work.staging).discard()


def take_model(model: Path, *, name: str, source_uri: str, run_id: str, site: Site | None = None) -> str:
    """Take an MLflow model directory made elsewhere into the store, through the same steps as a bundle.

    :param model: the directory with its `MLmodel`.
    :returns: the digest under which it is stored.
    :raises UserError: if it cannot be locked, scanned, or probed.
    """
    from slipway.bundles.mlflow_model import check_model

    site = site or Site.from_settings()
    found = check_model(model, name=name, source_uri=source_uri, run_id=run_id, site=site)
    checked = asdict(_without_staging_if_known(found, site))
    try:
        locked = lock(checked, site=site)
        stored = commit(checked, locked, probe(checked, locked, site=site), site=site)
    except BaseException:
        discard(checked, site=site)
        raise
    return str(stored["digest"])


def find(name: str, digest: str | None = None, *, site: Site | None = None) -> str:
    """Return the full digest of a bundle: of the one that `digest` begins, or of the last import as `name`.

    :raises NotFound: if there is none.
    """
    return BundleStore((site or Site.from_settings()).store).find(name, digest)


@contextmanager
def materialise(digest: str, *, site: Site | None = None) -> Iterator[StoredBundle]:
    """Give a stored bundle as local files for the while, without a copy if the store is on a local disk.

    :raises NotFound: if there is no such bundle.
    """
    with BundleStore((site or Site.from_settings()).store).materialise(digest) as stored:
        yield stored


def _name(given: str | None, declared: str | None, uri: str) -> str:
    from slipway.bundles.source import default_name

    try:
        return naming.check_model(given or declared or default_name(uri))
    except UserError as error:
        if given:
            raise
        whence = "bundle.yaml" if declared else "the archive's file name"
        raise UserError(
            f"{str(error).rstrip('.')}; it comes from {whence}, so give another with the parameter 'name'."
        ) from error


def _without_staging_if_known(checked: Checked, site: Site) -> Checked:
    if not checked.known:
        return checked
    site.tell(f"Bundle {checked.digest} is in the store already.")
    discard(asdict(checked), site=site)
    return replace(checked, staging=None)


def _staging(store: BundleStore, work: Checked) -> Staging:
    if work.staging is None:
        raise UserError(f"Bundle {work.digest} has been removed from the store meanwhile: run import_bundle again.")
    staging = Staging(store, work.staging)
    staging.touch()
    return staging


def _environment(text: bytes, site: Site, make: Any) -> Path:
    with TemporaryDirectory(prefix="slipway-lock-") as private:
        file = Path(private) / LOCK
        file.write_bytes(text)
        made: Path = make(file, site)
    return made


def _probed(result: dict[str, Any]) -> Probed:
    kept = {name: result[name] for name in Probed.__dataclass_fields__ if name in result}
    return Probed(has_golden_sample=result["golden"] is not None, **kept)


def _manifest(
    work: Checked, versions: Locked, seen: Probed, notes: dict[str, Any], result: dict[str, Any]
) -> dict[str, Any]:
    """Return what the store keeps of a bundle; `slipway.domain.ModelManifest` reads the part that a deploy needs."""
    declared = notes["bundle_yaml"]
    return {
        "bundle_digest": work.digest,
        "kind": work.kind,
        "name": work.name,
        "description": work.description,
        "created_at": datetime.now(UTC).isoformat(),
        "files": notes["files"],
        "total_bytes": work.total_bytes,
        "methods": work.methods,
        "pickle_globals": notes["pickle_globals"],
        "lock_digest": versions.lock_digest,
        "python": versions.python,
        "requirements": versions.requirements,
        "batching": declared.get("batching"),
        "signature": result["signature"],
        "golden": result["golden"],
        "rows_independent": result["rows_independent"],
        "probe": asdict(seen),
    }
