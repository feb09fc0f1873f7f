"""Makes a bundle's environment and runs the scoring package's probe in it: only there does a bundle's code run."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from slipway.bundles import process
from slipway.bundles.limits import Site
from slipway.bundles.sandbox import Outcome, run_confined
from slipway.bundles.wording import one_line, size
from slipway.errors import SlipwayError, Unavailable, UserError

__all__ = ["ProbeResult", "make_environment", "run_probe"]

_REFUSED = 3  # exit status of `slipway_scoring`: the bundle is at fault, and the result says how
_MEMORY = re.compile(r"MemoryError|bad_alloc|[Cc]annot allocate memory|Unable to allocate|out of memory", re.IGNORECASE)
_NETWORK = re.compile(
    r"failed to fetch|error sending request|dns error|connection (refused|reset)|timed out", re.IGNORECASE
)
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded")


class _Result(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Golden(_Result):
    input: dict[str, Any]
    output: Any


class _Signature(_Result):
    inputs: str | None = None
    outputs: str | None = None
    params: str | None = None


class ProbeResult(_Result):
    """What a probe found out. It comes from the bundle's own process, so it is checked and believed no further."""

    ok: bool
    python: Annotated[str, Field(max_length=40)] = ""
    methods: Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=10)] = []
    load_seconds: float = 0
    predict_seconds: float | None = None
    peak_rss_bytes: int = 0
    golden: _Golden | None = None
    signature: _Signature | None = None
    rows_independent: bool | None = None
    code: Annotated[str, Field(max_length=60)] = ""
    message: str = ""
    isolated: bool = False


def make_environment(lock: Path, site: Site) -> Path:
    """Return the virtual environment of a lock, made now if it is not there. No code of the bundle runs.

    :raises UserError: if it takes too long.
    :raises Unavailable: if the package index or the disk fails.
    """
    what = "Making the bundle's environment"
    done = process.run(
        [site.python, "-m", "slipway_scoring", "environment", "--lock", str(lock), "--root", str(site.environments_dir),
         "--python", site.python],
        seconds=site.limits.environment_seconds, what=what, cwd=Path("/"),
        environment={
            **process.allowed_environment(), "SLIPWAY_UV": process.find_uv(),
            "PYTHONPATH": str(site.scoring_home), "PYTHONDONTWRITEBYTECODE": "1",
        },
    )  # fmt: skip
    if done.returncode == 0:
        return Path(done.stdout.strip().splitlines()[-1])
    why = one_line(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"status {done.returncode}")
    if _NETWORK.search(done.stderr) or _NO_SPACE.search(done.stderr):
        raise Unavailable(f"{what} failed for now: {why}.")
    if done.returncode == _REFUSED:
        raise UserError(f"{what} failed: {why}.")
    raise SlipwayError(f"{what} failed: {why}.")


def run_probe(folder: Path, environment: Path, site: Site, *, kind: str = "bundle") -> ProbeResult:
    """Load the bundle or MLflow model in `folder` in its environment, apart from this machine, and predict its sample.

    :param kind: `bundle` for a normalised bundle, `model` for an MLflow model directory.
    :raises UserError: if its code fails, crashes, or needs more time or memory than it may have.
    """
    tell = site.tell
    python = environment / "bin" / "python"
    outcome = run_confined(
        [str(python), "-m", "slipway_scoring", "probe", f"--{kind}", str(folder), "--output", "{result}"],
        limits=site.limits,
        visible=[folder, environment, site.scoring_home / "slipway_scoring", *_interpreter_folders(python)],
        masked=site.masked_dirs,
        environment={
            "PATH": f"{environment / 'bin'}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "USER": "probe", "LOGNAME": "probe",
            "VIRTUAL_ENV": str(environment), "PYTHONPATH": str(site.scoring_home),
            "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1",
        },
        tell=tell,
    )  # fmt: skip
    for line in outcome.output.splitlines()[-50:]:
        tell(f"probe: {one_line(line, 500)}")
    result = _judge(outcome, site)
    return result.model_copy(update={"isolated": outcome.isolated})


def _interpreter_folders(python: Path) -> list[Path]:
    """Return where the interpreter behind a virtual environment and its standard library are."""
    program = "import json, sys; print(json.dumps([sys.base_prefix, sys.base_exec_prefix]))"
    done = process.run(
        [str(python), "-I", "-S", "-c", program], seconds=60, what="Starting the Python of the bundle's environment",
        environment=process.allowed_environment(), cwd=Path("/"),
    )  # fmt: skip
    if done.returncode:
        raise SlipwayError(f"The Python of the bundle's environment does not start: {one_line(done.stderr)}.")
    folders = {Path(prefix) for prefix in json.loads(done.stdout)}
    link = python
    while link.is_symlink():  # each place that the links lead through must be there, too
        link = link.parent / link.readlink()
        if not any(link.is_relative_to(folder) for folder in folders):
            folders.add(link)
    return sorted(folders)


def _judge(outcome: Outcome, site: Site) -> ProbeResult:
    limits = site.limits
    memory = (
        f"The bundle needs more than {size(limits.probe_memory_bytes)} of memory to load and predict its sample: "
        "make the model smaller or raise [slipway] probe_memory_bytes."
    )
    if outcome.stopped == "time":
        raise UserError(
            f"The bundle did not load and predict its sample within {limits.probe_seconds:g} s: make it faster or "
            "raise "
            "[slipway] probe_timeout_seconds."
        )
    if outcome.stopped == "memory":
        raise UserError(memory)
    if outcome.signal is not None:
        raise UserError(_killed(outcome, limits.probe_cpu_seconds, memory))
    result = _parsed(outcome.result)
    if result is not None and outcome.status == _REFUSED and not result.ok:
        if _MEMORY.search(result.message):
            raise UserError(memory)
        raise UserError(f"{one_line(result.message, 600)}.")
    if result is not None and outcome.status == 0 and result.ok:
        return result
    last = next((line for line in reversed(outcome.output.splitlines()) if line.strip()), "")
    if _MEMORY.search(outcome.output[-2000:]):
        raise UserError(memory)
    said = f" after printing '{one_line(last, 200)}'" if last else ""
    raise UserError(
        f"The bundle ended the probe's process itself, with exit status {outcome.status}{said}: "
        "its code must return to its caller and not exit."
    )


def _killed(outcome: Outcome, cpu_seconds: int, memory: str) -> str:
    number = outcome.signal or 0
    if number == signal.SIGXCPU:
        return (
            f"The bundle used more than {cpu_seconds} s of CPU time to load and predict its sample: make it faster or "
            "raise "
            "[slipway] probe_cpu_seconds."
        )
    if number == signal.SIGKILL or _MEMORY.search(outcome.output[-2000:]):
        return memory
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return (
        f"The bundle crashed its process by {name} while it loaded or predicted its sample: check that its compiled "
        "packages "
        "fit the versions in requirements.txt."
    )


def _parsed(data: bytes) -> ProbeResult | None:
    try:
        return ProbeResult.model_validate(json.loads(data))
    except (ValueError, ValidationError, RecursionError):
        return None
