"""What a scoring server runs with: its virtual environment, its command, its variables."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from .config import Config, environment_for_tools
from .errors import DeploymentFailure
from .logs import LogFile, last_words
from .process import ChildProcess, Guard
from .records import Spec

# The protocol of `slipway_scoring environment`: this file is written last, its mtime says when somebody last asked.
MARKER = ".slipway-complete"

# Everything else of the host's environment (tokens, cloud credentials, proxies) stays out of user code.
_PASSED = ("LANG", "LC_ALL", "LC_CTYPE", "TZ", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is needed to start a scoring server, but for its socket."""

    model_dir: Path
    environment: Path
    command: tuple[str, ...]
    variables: dict[str, str]
    work: Path


async def ensure_environment(config: Config, model_dir: Path, digest: str, log: LogFile, guard: Guard) -> Path:
    """The virtual environment of a model, made by the scoring package's own command if it is not there.

    Raises:
        DeploymentFailure: the model has no such lock, or the environment cannot be made in time.
    """
    lock = model_dir / "slipway" / "requirements.lock"
    if not lock.is_file():
        raise DeploymentFailure(
            "The model has no slipway/requirements.lock, so its environment is unknown; "
            "register it with register_model."
        )
    found = hashlib.sha256(lock.read_bytes()).hexdigest()
    if found != digest:
        raise DeploymentFailure(
            f"The model's lock has the digest {found[:12]}…, and {digest[:12]}… was asked for; deploy with the "
            "lock_digest of its slipway/manifest.json."
        )
    environment = config.environments / digest
    with contextlib.suppress(FileNotFoundError):
        # The command would do no more than this, and take the time in which a Python starts.
        os.utime(environment / MARKER)
        return environment
    command = [sys.executable, "-m", "slipway_scoring", "environment", "--lock", str(lock)]
    variables = environment_for_tools() | {"PYTHONPATH": str(config.scoring_home)}
    variables.pop("VIRTUAL_ENV", None)
    process = await ChildProcess.start([*command, "--root", str(config.environments)], variables, model_dir, log, guard)
    try:
        async with asyncio.timeout(config.environment_seconds):
            code = await process.wait()
    except TimeoutError:
        raise DeploymentFailure(
            f"Making the environment took over {config.environment_seconds:g} s; raise environment_seconds or check "
            "the package index."
        ) from None
    finally:
        await process.stop(0)
    if code != 0:
        raise DeploymentFailure(f"The environment cannot be made: {last_words(log.tail)}")
    if not (environment / "bin" / "python").exists():
        raise DeploymentFailure(f"The environment {environment} has no bin/python; remove that folder, deploy again.")
    return environment


def make_plan(
    config: Config, endpoint: str, spec: Spec, model_dir: Path, environment: Path, *, work: Path, token: str | None
) -> Plan:
    """The command and variables of a scoring server; its home and temporary folder are its own (0700)."""
    for folder in (work, work / "tmp"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    names = [*_PASSED, *(name.strip() for name in config.pass_env.split(",") if name.strip())]
    variables = {name: os.environ[name] for name in names if name in os.environ} | {
        "PATH": f"{environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(work),
        "TMPDIR": str(work / "tmp"),
        "PYTHONPATH": str(config.scoring_home),
        "PYTHONUNBUFFERED": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONSAFEPATH": "1",
        "SLIPWAY_MODEL_NAME": spec.model,
        "SLIPWAY_MODEL_VERSION": spec.version,
    }
    if token is not None:
        variables["SLIPWAY_SCORING_TOKEN"] = token
    command = (
        str(environment / "bin" / "python"), "-m", "slipway_scoring", "serve", "--model", str(model_dir),
        "--workers", str(spec.workers), "--root-path", f"/endpoints/{endpoint}",
    )  # fmt: skip
    return Plan(model_dir, environment, command, spec.env | variables, work)
