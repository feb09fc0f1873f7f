"""The scoring image against what `mlflow models build-docker` makes, and the swap of `deploy_docker`.

    python -m benchmarks.images.run [--rounds N] [--json FILE]

The same model is put into an image on the same base by both, without anything cached: the base is made for this run.
A whole stack is started in a temporary home, with a registry beside it; the engine is this machine's.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / "include" / room) for room in ("stack", "model_host")), str(ROOT / "plugins")]

import docker  # noqa: E402

from benchmarks.images import swap  # noqa: E402
from tests.images.registries import running_registry  # noqa: E402
from tests.stack.running import RunningStack, running_stack  # noqa: E402

DEBIAN = "slipway-test/base:bookworm"
# What MLflow's recipe expects of its own base, `python:3.x-slim`, and Debian lacks: `python` and `pip` for everybody.
BASE = f"""\
FROM {DEBIAN}
RUN python3 -m venv /opt/python
# Newer versions of pip, which MLflow installs, do not look where Debian keeps the machine's authorities.
ENV PATH=/opt/python/bin:$PATH PIP_CERT=/etc/ssl/certs/ca-certificates.crt
"""
MODEL = "breast-cancer"


@dataclass(frozen=True)
class Line:
    """One row of the table: a ratio, and at most what it may be."""

    measure: str
    ratio: float
    bound: float

    def __str__(self) -> str:
        holds = "yes" if self.ratio <= self.bound else "**no**"
        return f"| {self.measure} | ≤ {self.bound:.3g} | {self.ratio:.3g} | {holds} |"


@contextmanager
def own_base(client: docker.APIClient) -> Iterator[str]:
    """Make a base that no other build has used; all that was built on it is removed in the end."""
    # MLflow takes an image of this name for one that has Python; the tag is nobody else's.
    name, label = f"python:slipway-{secrets.token_hex(4)}", f"benchmark={secrets.token_hex(8)}"
    try:
        recipe = io.BytesIO(f"{BASE}LABEL {label}\n".encode())
        for step in client.build(fileobj=recipe, tag=name, rm=True, decode=True):
            if "error" in step:
                raise SystemExit(f"The base cannot be made: {step['error']}")
        yield name
    finally:
        for image in client.images(all=True, filters={"label": label}):
            with contextlib.suppress(docker.errors.APIError):  # it went with one that was built on it
                client.remove_image(image["Id"], force=True)


def note(text: str) -> None:
    """Tell what is being done."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def seconds(action: Callable[[], Any]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def build_with_mlflow(stack: RunningStack, base: str, name: str) -> None:
    """Do what `mlflow models build-docker` does; its command line has no option for the base."""
    call = (
        "import sys; from mlflow.models import build_docker; "
        "build_docker(sys.argv[1], sys.argv[2], env_manager='local', base_image=sys.argv[3])"
    )
    command = [sys.executable, "-c", call, f"models:/{MODEL}/1", name, base]
    environment = os.environ | {"MLFLOW_TRACKING_URI": stack.mlflow_url}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"MLflow cannot build its image: {done.stderr[-1000:]}\n{done.stdout[-3000:]}")


def measure(rounds: int) -> list[Line]:
    """Build with both, look up, swap."""
    client = docker.from_env().api
    os.environ["AIRFLOW__SLIPWAY__BASE_IMAGE"] = DEBIAN  # the front door's
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory()))
        host = cleanup.enter_context(running_registry(folder / "registry"))
        base = cleanup.enter_context(own_base(client))
        connections = {
            "REGISTRY": {"conn_type": "docker", "host": host},
            "AWAY": {"conn_type": "docker", "host": "tcp://127.0.0.1:9"},
        }
        variables = {f"AIRFLOW_CONN_{name}": json.dumps(value) for name, value in connections.items()}
        stack = cleanup.enter_context(running_stack(variables))
        bundle = folder / f"{MODEL}.zip"
        zipping = [sys.executable, ROOT / "include/model_bundles/zip_bundle.py"]
        subprocess.run([*zipping, ROOT / "include/model_bundles" / MODEL, bundle], check=True)
        stack.succeed("import_bundle", {"bundle_uri": bundle.as_uri(), "name": MODEL})
        for force in (False, True):
            stack.succeed("register_model", {"name": MODEL, "force": force})

        conf = {"registry": "registry", "model": MODEL, "include_model": True, "base_image": base}
        built: list[dict[str, Any]] = []

        def build(version: str, **more: str) -> None:
            run = stack.succeed("build_and_push_image", {**conf, "version": version, **more}, timeout=1800)
            built.append(stack.xcom(run, "image"))

        first = seconds(lambda: build("1"))
        note(f"ours is built and pushed in {first:.0f} s")
        second = seconds(lambda: build("2"))
        note(f"the next version in {second:.0f} s")
        again = statistics.median(seconds(lambda: build("1", docker_conn_id="away")) for _ in range(rounds))
        assert [image["built"] for image in built] == [True, True, *[False] * rounds], built
        note(f"found in {again:.1f} s")
        theirs_name = f"{base}-mlflow"
        theirs = seconds(lambda: build_with_mlflow(stack, base, theirs_name))
        note(f"MLflow's is built in {theirs:.0f} s")

        tags = [f"{image['repository']}:{image['tag']}" for image in built[:2]]
        sizes = {
            name: client.inspect_image(image)["Size"]
            for name, image in {"base": base, "ours": tags[0], "mlflow": theirs_name}.items()
        }
        note(f"MB: { {name: round(size / 1e6) for name, size in sizes.items()} }")
        sample = json.loads((ROOT / "include/model_bundles" / MODEL / "model_bundle/sample_input.json").read_text())
        found = swap.measure(MODEL, tags, sample, swaps=5 * rounds)
        note(str(found))
    return [
        Line("size of the image, against MLflow's", sizes["ours"] / sizes["mlflow"], 0.6),
        Line(
            "size of what is added to the base, against MLflow's",
            (sizes["ours"] - sizes["base"]) / (sizes["mlflow"] - sizes["base"]),
            0.6,
        ),
        Line("first build and push, against MLflow's build alone", first / theirs, 1),
        Line("next version of the model, against the first", second / first, 0.5),
        Line("finding it in the registry without an engine, against building it", again / first, 0.1),
        Line("requests that fail while versions are swapped", found.failed, 0),
        Line("slowest request of all swaps, against the start of a server", found.slowest, 0.1),
    ]


def main() -> int:
    """Measure, print the table; 1 if a bound is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the ratios here too")
    options = parser.parse_args()
    lines = measure(options.rounds)
    print("| measure | bound | measured | holds |\n| --- | --- | --- | --- |")
    print("\n".join(map(str, lines)))
    if options.json:
        options.json.write_text(json.dumps({line.measure: line.ratio for line in lines}, indent=1))
    return int(any(line.ratio > line.bound for line in lines))


if __name__ == "__main__":
    sys.exit(main())
