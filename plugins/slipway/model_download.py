"""A model version's files, brought to this machine without importing MLflow where its server hands them out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from slipway.domain import ModelVersion
from slipway.errors import SlipwayError, Unavailable, UserError
from slipway.hooks.mlflow import MlflowHook

if TYPE_CHECKING:
    import httpx

__all__ = ["download_model"]

# Source of the protocol: https://mlflow.org/docs/latest/self-hosting/architecture/artifact-store/
_ROUTE = "/api/2.0/mlflow-artifacts/artifacts"
_STREAMS = 4
_MAX_DEPTH = 32
_CHUNK = 1 << 20
_PAUSES = (0.5, 2.0)


def download_model(version: ModelVersion, folder: Path, mlflow_conn_id: str = "mlflow_default") -> Path:
    """Download a version's model directory into `folder` and return its path.

    Memory use does not grow with the size of the files. What an earlier try left in `folder` is overwritten.

    :param folder: an existing folder, the caller's own.
    :raises UserError: if the version's files are no model directory, or have unsafe names.
    :raises Unavailable: if the server does not hand them out whole.
    """
    hook = MlflowHook(mlflow_conn_id)
    uri = hook.artifact_uri(version)
    parts = urlsplit(uri)
    if parts.scheme == "mlflow-artifacts" and not parts.netloc:
        found = folder / "model"
        found.mkdir(exist_ok=True)
        _from_server(hook, unquote(parts.path).strip("/"), found)
    else:
        found = hook.download(version.uri, folder)
    if not (found / "MLmodel").is_file():
        raise UserError(
            f"Version {version.version} of model '{version.name}' has no file 'MLmodel' at {uri}: its files were "
            "removed from MLflow's artifact store; register the model again with force."
        )
    return found


def _from_server(hook: MlflowHook, root: str, folder: Path) -> None:
    files = list(_files(hook, root, "", 0))
    client, given_up = hook.get_conn(), threading.Event()

    def fetch(path: str, size: int | None) -> None:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        for pause in (*_PAUSES, None):
            if given_up.is_set():
                break
            try:
                _fetch(hook, client, f"{_ROUTE}/{quote(f'{root}/{path}')}", target, size)
                break
            except Unavailable:
                if pause is None:
                    given_up.set()
                    raise
                time.sleep(pause)

    with client, ThreadPoolExecutor(_STREAMS) as pool:
        for done in [pool.submit(fetch, path, size) for path, size in files]:
            done.result()


def _files(hook: MlflowHook, root: str, below: str, depth: int) -> Iterator[tuple[str, int | None]]:
    """Yield all files under `root`/`below`: path relative to `root`, and size in bytes if the server tells it."""
    if depth > _MAX_DEPTH:
        raise UserError(f"The model at '{root}' has folders over {_MAX_DEPTH} deep: log a simpler one.")
    answer = hook.call("GET", _ROUTE, params={"path": f"{root}/{below}".strip("/")})
    for entry in (answer or {}).get("files", []):
        name = str(entry["path"])
        if name in {"", ".", ".."} or "/" in name or "\\" in name or "\0" in name:
            raise UserError(f"The model at '{root}' has a file with the unsafe name {name[:80]!r}: rename it.")
        path = f"{below}/{name}".strip("/")
        if entry.get("is_dir"):
            yield from _files(hook, root, path, depth + 1)
        else:
            size = entry.get("file_size")
            yield path, None if size is None else int(size)


def _fetch(hook: MlflowHook, client: httpx.Client, route: str, target: Path, size: int | None) -> None:
    import httpx

    try:
        with client.stream("GET", route) as answer, target.open("wb") as file:
            if not answer.is_success:
                answer.read()
                raise hook.failure(answer)
            for data in answer.iter_bytes(_CHUNK):
                file.write(data)
            arrived = file.tell()
    except httpx.TransportError as e:
        raise Unavailable(f"The download of {target.name} broke ({type(e).__name__}).") from None
    except OSError as e:
        raise SlipwayError(f"{target.name} cannot be written ({e.strerror}): make room on this machine.") from None
    if size is not None and arrived != size:
        raise Unavailable(f"{target.name} arrived with {arrived} of {size} bytes.")
