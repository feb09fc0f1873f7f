"""Real registries for tests: Debian's `docker-registry` with a configuration of its own, on an ephemeral port."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from slipway_stack.ports import pick_free


@contextmanager
def running_registry(folder: Path, *, settings: str = "", limit_bytes: int | None = None) -> Iterator[str]:
    """Run a registry that keeps its files below `folder`; yields `127.0.0.1:port`.

    `settings` are more top-level YAML; with `limit_bytes`, no file that it writes may grow larger.
    """
    (port,) = pick_free(1)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n{settings}"
    )
    command = ["docker-registry", "serve", str(folder / "config.yml")]
    if limit_bytes is not None:
        command = ["prlimit", f"--fsize={limit_bytes}", *command]
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": os.environ["PATH"]})
    try:
        url = f"http://127.0.0.1:{port}/v2/"
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(url, timeout=5)
                break
            except httpx.TransportError:
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, "the registry does not come up"
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
