"""Imports under way: what they have unpacked so far, where nobody takes it for a bundle.

    <store>/.staging/<run>-<attempt>.json    the claim: who works on it, since when; written first, removed last
    <store>/.staging/<run>-<attempt>/        bundle/{files/…,requirements.lock}, and notes of the steps

The steps of an import run in tasks of their own, perhaps on different machines, so nothing of it is kept in memory.
An import that dies leaves a staging area, and nothing else; the next import removes those that are dead.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from slipway.bundles.folder import Folder, sync_folder
from slipway.bundles.layout import complete
from slipway.bundles.store import FILES, LOCK, MANIFEST, BundleStore
from slipway.errors import SlipwayError

__all__ = ["CHECK_NOTES", "PROBE_NOTES", "Staging", "collect"]

CHECK_NOTES = "check.json"
PROBE_NOTES = "probe.json"

_AREA = ".staging"


class Staging:
    """The staging area of one attempt at an import."""

    def __init__(self, store: BundleStore, key: str) -> None:
        self.store = store
        self.key = key
        self._folder: Folder = store.folder
        self._path = f"{_AREA}/{key}"

    @classmethod
    @contextmanager
    def unpacking(cls, store: BundleStore, run_id: str) -> Iterator[tuple[Staging, Path]]:
        """Begin an import: remove what earlier attempts of the run have left, and give a local folder to unpack to.

        What is in the folder at the end is the staged bundle. On an error nothing stays.
        """
        run = _run_key(run_id)
        for key in _keys(store.folder):
            if key.startswith(f"{run}-"):
                cls(store, key).discard()
        staging = cls(store, f"{run}-{secrets.token_hex(4)}")
        staging._claim(unpacking=True)
        try:
            with staging._unpack_folder() as folder:
                yield staging, folder
            staging._claim(unpacking=False)
        except BaseException:
            staging.discard()
            raise

    @contextmanager
    def _unpack_folder(self) -> Iterator[Path]:
        if self._folder.local is not None:
            # On the store's own disk, so that the commit is a rename.
            target = self._folder.local / self._path / "bundle" / FILES
            target.mkdir(parents=True)
            yield target
            return
        with TemporaryDirectory(prefix="slipway-unpack-") as private:
            yield Path(private)
            self._folder.put(Path(private), f"{self._path}/bundle/{FILES}")

    def touch(self) -> None:
        """Show that the import lives.

        :raises SlipwayError: if its staging area is gone.
        """
        if self._folder.read(f"{self._path}.json") is None:
            raise SlipwayError("The import's staging area in the bundle store is gone: run import_bundle again.")
        self._claim(unpacking=False)

    def write(self, name: str, data: bytes) -> None:
        """Keep the result of a step."""
        self._folder.write(f"{self._path}/{name}", data)

    def read(self, name: str) -> bytes:
        """Return what `write` kept.

        :raises SlipwayError: if it is not there.
        """
        data = self._folder.read(f"{self._path}/{name}")
        if data is None:
            raise SlipwayError("The import's staging area in the bundle store is incomplete: run import_bundle again.")
        return data

    @contextmanager
    def files(self) -> Iterator[Path]:
        """Give the staged bundle as a local folder, in place if the store is on a local disk."""
        if self._folder.local is not None:
            yield self._folder.local / self._path / "bundle" / FILES
            return
        with TemporaryDirectory(prefix="slipway-bundle-") as private:
            self._folder.get(f"{self._path}/bundle/{FILES}", Path(private))
            complete(Path(private))
            yield Path(private)

    def commit(self, digest: str, manifest: dict[str, Any], lock: bytes) -> bool:
        """Make the staged bundle a stored one; False, and the store stays as it is, if it is stored already."""
        data = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False).encode()
        if self.store.manifest(digest) is not None:
            made = False
        elif self._folder.local is not None:
            made = self._rename(self._folder.local, digest, data, lock)
        else:
            made = self._upload(digest, data, lock)
        self.discard()
        return made

    def discard(self) -> None:
        """Remove the staging area; nothing happens if it is gone."""
        self._folder.remove(self._path)
        self._folder.remove(f"{self._path}.json")

    def _rename(self, root: Path, digest: str, manifest: bytes, lock: bytes) -> bool:
        bundle = root / self._path / "bundle"
        (bundle / LOCK).write_bytes(lock)
        (bundle / MANIFEST).write_bytes(manifest)
        _sync_tree(bundle)
        target = root / digest
        if target.exists() and not (target / MANIFEST).exists():
            # Half of a bundle, perhaps of a store copied from elsewhere: out of the way, with this staging area.
            target.rename(root / self._path / "replaced")
        try:
            bundle.rename(target)
        except OSError:
            if (target / MANIFEST).exists():
                return False  # another import of the same bundle was faster
            raise
        sync_folder(root)
        return True

    def _upload(self, digest: str, manifest: bytes, lock: bytes) -> bool:
        # Every import of the same digest writes the same files, so that none harms the other.
        self._folder.copy(f"{self._path}/bundle/{FILES}", f"{digest}/{FILES}")
        if self.store.manifest(digest) is not None:
            return False
        self._folder.write(f"{digest}/{LOCK}", lock)
        self._folder.write(f"{digest}/{MANIFEST}", manifest)
        stored = self.store.manifest(digest) or {}
        # Two at once may have locked at different hours: the lock must be the one that the last manifest names.
        if (
            stored.get("lock_digest") == hashlib.sha256(lock).hexdigest()
            and self._folder.read(f"{digest}/{LOCK}") != lock
        ):
            self._folder.write(f"{digest}/{LOCK}", lock)
        return True

    def _claim(self, *, unpacking: bool) -> None:
        claim = {"touched": time.time(), "worker": _worker() if unpacking else None}
        self._folder.write(f"{self._path}.json", json.dumps(claim).encode())


def collect(store: BundleStore, max_age_seconds: float) -> list[str]:
    """Remove the staging areas of dead imports and return their keys.

    Dead is what was killed while it unpacked, as far as this machine can see, and what nobody touched for so long.
    """
    removed = []
    for key in _keys(store.folder):
        staging = Staging(store, key)
        data = store.folder.read(f"{_AREA}/{key}.json")
        claim: dict[str, Any] = json.loads(data) if data else {"touched": 0, "worker": None}
        if time.time() - claim["touched"] > max_age_seconds or _is_dead(claim["worker"]):
            staging.discard()
            removed.append(key)
    return removed


def _keys(folder: Folder) -> list[str]:
    # A folder without a claim is what remains of a removal that was interrupted.
    return sorted({name.removesuffix(".json") for name in folder.names(_AREA)})


def _run_key(run_id: str) -> str:
    return hashlib.sha256(run_id.encode()).hexdigest()[:16]


def _worker() -> dict[str, Any]:
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": _started(os.getpid())}


def _is_dead(worker: dict[str, Any] | None) -> bool:
    return (
        worker is not None and worker["host"] == socket.gethostname() and _started(worker["pid"]) != worker["started"]
    )


def _started(pid: int) -> str | None:
    """Return when a process was started, in ticks since boot, and which boot that was; None if it does not run."""
    try:
        # After the name in parentheses, which may hold anything: field 22 of proc(5).
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}-{ticks}"
    except (OSError, IndexError):
        return None


def _sync_tree(root: Path) -> None:
    for folder, _, files in os.walk(root):
        for name in files:
            descriptor = os.open(Path(folder) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_folder(Path(folder))
