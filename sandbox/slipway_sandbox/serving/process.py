"""The server as a process of `slipway_scoring`, in the environment that the model's lock describes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway_sandbox.serving.server import ServingError
from slipway_scoring.environment import EnvironmentMakeError, ensure_environment
from slipway_stack.leftovers import Group
from slipway_stack.ports import LOOPBACK, pick_free
from slipway_stack.settings import CHECKOUT

__all__ = ["end_leftovers", "start"]

_SCORING = CHECKOUT / "include" / "scoring"
_STOP_SECONDS = 10


class ProcessServer:
    """A scoring server in a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path, note: Path) -> None:
        self.url = f"http://{LOOPBACK}:{port}"
        self._process = process
        self._log = log
        self._note = note

    def exit_status(self) -> int | None:
        return self._process.poll()

    def logs(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines() if self._log.exists() else []

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Its workers are of its group: none outlives it.
        group = Group.noted(self._note)
        if group:
            group.end()
        self._note.unlink(missing_ok=True)
        self._log.unlink(missing_ok=True)


def start(
    name: str, model_dir: Path, *, folder: Path, environments: Path, env: Mapping[str, str], argv: Sequence[str]
) -> ProcessServer:
    """Start `python -m slipway_scoring` with the model's environment.

    :raises ServingError: if the model has no lock, or its environment cannot be made.
    """
    lock = model_dir / "slipway" / "requirements.lock"
    if not lock.is_file():
        raise ServingError(f"{model_dir} has no slipway/requirements.lock: the model was not registered by Slipway.")
    try:
        home = ensure_environment(lock, environments)
    except EnvironmentMakeError as error:
        raise ServingError(str(error)) from None
    (port,) = pick_free(1)
    variables = {
        **env,
        # Nothing of the caller's own environment: cloud credentials have no place in a model's process.
        "PATH": f"{home / 'bin'}:{os.defpath}",
        "HOME": str(folder),
        "PYTHONPATH": str(_SCORING),
        "PYTHONUNBUFFERED": "1",
        "SLIPWAY_SCORING_MODEL": str(model_dir),
        "SLIPWAY_SCORING_PORT": str(port),
    }
    log, note = folder / f"{name}.log", folder / f"{name}.group"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [str(home / "bin" / "python"), "-m", "slipway_scoring", *argv],
            env=variables, cwd=folder, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True,
        )  # fmt: skip
    Group(process.pid, process.pid, Group.own().boot).note(note)
    return ProcessServer(process, port, log, note)


def end_leftovers(folder: Path) -> int:
    """End every server that a note in `folder` tells of; return how many."""
    count = 0
    for note in folder.glob("serving-*.group"):
        group = Group.noted(note)
        count += bool(group and group.end())
        note.unlink(missing_ok=True)
        note.with_suffix(".log").unlink(missing_ok=True)
    return count
