"""The bundle store: every bundle once, under its digest; a bundle is there when its manifest is.

    <store>/<digest>/files/…              the normalised bundle
    <store>/<digest>/requirements.lock
    <store>/<digest>/manifest.json        written last
    <store>/names/<name>/<digest>.json    {"imported_at", "source_uri", "description"}
    <store>/.staging/<run>/…              imports under way, see `staging`

A committed bundle never changes. On a local disk it appears by one rename.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slipway.bundles.folder import Folder, open_folder
from slipway.bundles.layout import complete
from slipway.bundles.wording import shown
from slipway.errors import NotFound, SlipwayError, UserError

__all__ = ["FILES", "LOCK", "MANIFEST", "BundleStore", "StoredBundle"]

LOCK = "requirements.lock"
MANIFEST = "manifest.json"
FILES = "files"
_NAMES = "names"


@dataclass(frozen=True, slots=True)
class StoredBundle:
    """A stored bundle on the local disk."""

    digest: str
    manifest: dict[str, Any]
    files: Path  # the normalised bundle; not to be written to
    lock: str  # text of requirements.lock
    requirements: list[str]  # the bundle's direct requirements, pinned as in the lock


class BundleStore:
    """Reads a bundle store; `staging.Staging` writes it."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.folder: Folder = open_folder(uri)

    def manifest(self, digest: str) -> dict[str, Any] | None:
        """Return the manifest of a bundle; None if there is no such bundle.

        :raises SlipwayError: if the store is damaged.
        """
        data = self.folder.read(f"{digest}/{MANIFEST}")
        if data is None:
            return None
        try:
            manifest: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise SlipwayError(
                f"Manifest of bundle {digest} in the bundle store is damaged: remove it and import again."
            ) from error
        return manifest

    def digests(self) -> list[str]:
        """Return the digests of all bundles, sorted."""
        return [
            name
            for name in self.folder.names()
            if len(name) == 64 and self.folder.read(f"{name}/{MANIFEST}") is not None
        ]

    def names(self) -> list[str]:
        """Return the names under which bundles were imported, sorted."""
        return self.folder.names(_NAMES)

    def newest(self) -> dict[str, float]:
        """Return when a bundle was last imported, by name; seconds since 1970. One call, however many there are."""
        return self.folder.newest(_NAMES)

    def imports(self, name: str) -> dict[str, dict[str, Any]]:
        """Return what is recorded of each bundle of that name, oldest first: digest to record."""
        records: dict[str, dict[str, Any]] = {}
        for entry in self.folder.names(f"{_NAMES}/{name}"):
            data = self.folder.read(f"{_NAMES}/{name}/{entry}")
            if data is not None and entry.endswith(".json"):
                records[entry.removesuffix(".json")] = json.loads(data)
        return dict(sorted(records.items(), key=lambda item: (item[1]["imported_at"], item[0])))

    def record(self, name: str, digest: str, source_uri: str, description: str | None) -> bool:
        """Record that a bundle was imported under `name`; False, and nothing changes, if that is known already."""
        key = f"{_NAMES}/{name}/{digest}.json"
        if self.folder.read(key) is not None:
            return False
        record = {"imported_at": datetime.now(UTC).isoformat(), "source_uri": source_uri, "description": description}
        self.folder.write(key, json.dumps(record, indent=2, sort_keys=True).encode())
        return True

    def find(self, name: str, digest: str | None = None) -> str:
        """Return the full digest of a bundle.

        :param digest: the digest or its beginning; by default that of the bundle last imported as `name`.
        :raises NotFound: if there is none.
        :raises UserError: if the beginning fits more than one.
        """
        if digest is None:
            known = [found for found in self.imports(name) if self.manifest(found) is not None]
            if not known:
                raise NotFound(
                    f"There is no bundle named {shown(name)} in the bundle store: import one first, or name its digest."
                )
            return known[-1]
        fitting = [
            found for found in self.folder.names() if found.startswith(digest) and self.manifest(found) is not None
        ]
        if not fitting:
            raise NotFound(f"There is no bundle {shown(digest)} in the bundle store: import it first.")
        if len(fitting) > 1:
            raise UserError(f"Digest {shown(digest)} is the beginning of {len(fitting)} bundles: give more of it.")
        return fitting[0]

    @contextmanager
    def materialise(self, digest: str) -> Iterator[StoredBundle]:
        """Give a bundle as local files: in place if the store is on a local disk, else a private copy for the while.

        :raises NotFound: if there is no such bundle.
        :raises SlipwayError: if its files are not what its manifest says.
        """
        manifest = self.manifest(digest)
        if manifest is None:
            raise NotFound(f"There is no bundle {shown(digest)} in the bundle store: import it first.")
        lock = self.folder.read(f"{digest}/{LOCK}") or b""
        if hashlib.sha256(lock).hexdigest() != manifest["lock_digest"]:
            raise SlipwayError(
                f"Lock of bundle {digest} in the bundle store is damaged: remove the bundle and import it again."
            )
        requirements = list(manifest["requirements"])
        if self.folder.local is not None:
            yield StoredBundle(digest, manifest, self.folder.local / digest / FILES, lock.decode(), requirements)
            return
        with TemporaryDirectory(prefix="slipway-bundle-") as private:
            self.folder.get(f"{digest}/{FILES}", Path(private))
            for record in manifest["files"]:
                file = Path(private) / record["path"]
                if not file.is_file() or file.stat().st_size != record["size"]:
                    raise SlipwayError(
                        f"File {shown(record['path'])} of bundle {digest} is damaged in the bundle store: import it "
                        "again."
                    )
            complete(Path(private))
            yield StoredBundle(digest, manifest, Path(private), lock.decode(), requirements)
