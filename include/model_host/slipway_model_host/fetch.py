"""A model's files: fetched once for each artifact URI, whole or not at all."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import secrets
import shutil
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import httpx

from .config import Config, environment_for_tools
from .errors import DeploymentFailure
from .logs import LogFile, last_words
from .process import ChildProcess, Guard
from .store import Store, sync_folder

_ROUTE = "/api/2.0/mlflow-artifacts/artifacts"
_STREAMS = 4
_MAX_DEPTH = 32


class Models:
    """The folder `HOME/models`: one folder `<sha256 of the artifact URI>` for each model, its files in `model/`."""

    def __init__(self, config: Config, store: Store, guard: Guard) -> None:
        self._config = config
        self._store = store
        self._guard = guard
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def folder(self, artifact_uri: str) -> Path:
        """Where the files of `artifact_uri` are, or would be."""
        return self._store.models / hashlib.sha256(artifact_uri.encode()).hexdigest() / "model"

    async def ensure(self, artifact_uri: str) -> Path:
        """The model's folder, fetched if it is not there; marks it as used now.

        Raises:
            DeploymentFailure: the artifacts cannot be had, or are no MLflow model.
        """
        folder = self.folder(artifact_uri)
        async with self._locks[artifact_uri]:
            if not folder.exists():
                await self._fetch(artifact_uri, folder.parent)
            os.utime(folder.parent)
        return folder

    async def _fetch(self, uri: str, final: Path) -> None:
        temporary = final.with_name(f".{final.name}.{secrets.token_hex(4)}")
        target = temporary / "model"
        try:
            target.mkdir(parents=True)
            async with asyncio.timeout(self._config.fetch_seconds):
                scheme = urlsplit(uri).scheme
                if scheme == "mlflow-artifacts":
                    await self._from_server(uri, target)
                elif scheme in {"", "file"}:
                    await asyncio.to_thread(_copy, Path(unquote(urlsplit(uri).path)), target)
                else:
                    await self._by_mlflow(uri, target)
            if not (target / "MLmodel").is_file():
                raise DeploymentFailure(f"{uri} holds no MLmodel file; deploy a registered MLflow model.")
            (temporary / "source.json").write_text(json.dumps({"artifact_uri": uri}), encoding="utf-8")
            await asyncio.to_thread(_sync, temporary)
            temporary.rename(final)
            sync_folder(final.parent)
        except TimeoutError:
            raise DeploymentFailure(
                f"Fetching {uri} took over {self._config.fetch_seconds:g} s; raise fetch_seconds or check the store."
            ) from None
        except httpx.HTTPError as error:
            raise DeploymentFailure(
                f"The model's files cannot be fetched from {self._config.tracking_uri} "
                f"({error or type(error).__name__}); check that the MLflow server is up and has {uri}."
            ) from error
        except OSError as error:
            raise DeploymentFailure(
                f"The files of {uri} cannot be stored ({error.strerror or error}); check the path and the free disk."
            ) from error
        finally:
            await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)

    # Through the tracking server's artifact proxy (`mlflow server --serve-artifacts`).

    async def _from_server(self, uri: str, target: Path) -> None:
        base = self._config.tracking_uri
        if base is None or urlsplit(base).scheme not in {"http", "https"}:
            raise DeploymentFailure(
                f"{uri} is kept by an MLflow server, and this host knows none; set MODEL_HOST_TRACKING_URI to its URL."
            )
        parts = urlsplit(uri)
        if parts.netloc and parts.netloc != urlsplit(base).netloc:
            # The credentials are for one server only.
            raise DeploymentFailure(f"{uri} is kept by another MLflow server than {base}; deploy from that one.")
        root = unquote(parts.path).strip("/")
        async with _client(base) as client:
            files = [found async for found in _list(client, root, "", 0)]
            room = asyncio.Semaphore(_STREAMS)

            async def download(path: str, size: int | None) -> None:
                async with room:
                    await _download(client, f"{root}/{path}", target / path, size)

            try:
                async with asyncio.TaskGroup() as group:
                    for path, size in files:
                        group.create_task(download(path, size))
            except ExceptionGroup as failures:
                raise failures.exceptions[0] from None

    # By MLflow itself, which knows every other kind of store.

    async def _by_mlflow(self, uri: str, target: Path) -> None:
        folder = target.parent / "download"
        folder.mkdir()
        log = LogFile(self._store.logs / "fetch.log", self._config.log_bytes, self._config.log_files)
        command = [sys.executable, "-m", "mlflow", "artifacts", "download", "--artifact-uri", uri]
        process = await ChildProcess.start(
            [*command, "--dst-path", str(folder)], environment_for_tools(), folder, log, self._guard
        )
        try:
            code = await process.wait()
        finally:
            await process.stop(0)
            log.close()
        if code != 0:
            raise DeploymentFailure(f"MLflow cannot download {uri}: {last_words(log.tail)}; check the store's access.")
        await asyncio.to_thread(_take_model, folder, target)


def _client(base: str) -> httpx.AsyncClient:
    """An HTTP client with the credentials that MLflow's own environment variables name."""
    environ = os.environ
    headers = {}
    if token := environ.get("MLFLOW_TRACKING_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    elif user := environ.get("MLFLOW_TRACKING_USERNAME"):
        pair = f"{user}:{environ.get('MLFLOW_TRACKING_PASSWORD', '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    verify: bool | str = environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
    if environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"true", "1"}:
        verify = False
    cert = environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH")
    return httpx.AsyncClient(base_url=base, headers=headers, verify=verify, cert=cert, timeout=60)


async def _list(client: httpx.AsyncClient, root: str, below: str, depth: int) -> AsyncIterator[tuple[str, int | None]]:
    """All files under `root`/`below`: path relative to `root`, and size in bytes."""
    if depth > _MAX_DEPTH:
        raise DeploymentFailure(f"{root} has folders over {_MAX_DEPTH} deep; log a simpler model.")
    answer = await client.get(_ROUTE, params={"path": f"{root}/{below}".strip("/")})
    answer.raise_for_status()
    for entry in answer.json().get("files", []):
        name = str(entry["path"])
        if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
            raise DeploymentFailure(f"{root} has a file with the unsafe name {name[:80]!r}; rename it.")
        path = f"{below}/{name}".strip("/")
        if entry.get("is_dir"):
            async for found in _list(client, root, path, depth + 1):
                yield found
        else:
            size = entry.get("file_size")
            yield path, None if size is None else int(size)


async def _download(client: httpx.AsyncClient, path: str, target: Path, size: int | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    async with client.stream("GET", f"{_ROUTE}/{quote(path)}") as answer:
        answer.raise_for_status()
        with target.open("wb") as file:
            async for data in answer.aiter_bytes(1 << 20):
                await asyncio.to_thread(file.write, data) if len(data) > 1 << 16 else file.write(data)
            if size is not None and file.tell() != size:
                raise DeploymentFailure(f"{path} arrived with {file.tell()} of {size} bytes; deploy again.")


def _take_model(download: Path, target: Path) -> None:
    """Move what MLflow downloaded, into `download` itself or one folder below, to `target`."""
    for marker in [download / "MLmodel", *download.glob("*/MLmodel")]:
        if marker.is_file():
            target.rmdir()
            marker.parent.rename(target)
            return


def _copy(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise DeploymentFailure(f"{source} is no folder on this machine; log the model to a store that the host reads.")
    shutil.copytree(source, target, dirs_exist_ok=True, symlinks=False)


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
