"""A registered version in the hands of stock MLflow, with nothing of ours installed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from slipway.golden import first_difference
from slipway_stack.ports import pick_free
from tests.stack.running import RunningStack
from tests.system.steps import register

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("model", ["breast-cancer", "diabetes-boosted"])
def test_mlflow_models_serve_in_a_bare_environment_gives_the_same_predictions(
    stack: RunningStack, model: str, tmp_path: Path
) -> None:
    version = register(stack, (ROOT / "build" / "bundles" / f"{model}.zip").as_uri(), model)
    uv = shutil.which("uv") or str(ROOT / ".venv" / "bin" / "uv")
    home = {"PATH": f"{tmp_path / 'bare' / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}
    environment = {key: value for key, value in os.environ.items() if key.endswith(("_BUNDLE", "_CERT", "_PROXY"))}
    environment |= home | {"MLFLOW_TRACKING_URI": stack.mlflow_url}
    files = tmp_path / "files"

    # The model's own requirements, which name MLflow, and not a thing more.
    requirements = tmp_path / "requirements.txt"
    query = {"name": model, "version": version, "path": "requirements.txt"}
    requirements.write_text(httpx.get(f"{stack.mlflow_url}/model-versions/get-artifact", params=query).text)
    assert "mlflow" in requirements.read_text()
    python = tmp_path / "bare" / "bin" / "python"
    subprocess.run([uv, "venv", "-q", "--python", "3.11", str(tmp_path / "bare")], check=True)
    subprocess.run([uv, "pip", "install", "-q", "--python", str(python), "-r", str(requirements)], check=True)
    download = [
        str(python),
        "-m",
        "mlflow",
        "artifacts",
        "download",
        "-u",
        f"models:/{model}/{version}",
        "-d",
        str(files),
    ]
    subprocess.run(download, check=True, env=environment, cwd=tmp_path, capture_output=True)
    manifest = json.loads(next(files.rglob("slipway/manifest.json")).read_text())

    (port,) = pick_free(1)
    serve = [str(python), "-m", "mlflow", "models", "serve", "-m", f"models:/{model}/{version}"]
    serve += ["--env-manager", "local", "--port", str(port), "--workers", "1"]
    log = tmp_path / "log"
    with log.open("w") as file:
        server = subprocess.Popen(
            serve, env=environment, cwd=tmp_path, stdout=file, stderr=file, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while True:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            try:
                if httpx.get(f"{url}/ping").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.3)
        answer = httpx.post(f"{url}/invocations", json=manifest["golden"]["input"], timeout=60)
        assert answer.is_success, answer.text
        assert first_difference(manifest["golden"]["output"], answer.json()["predictions"], 1e-6) is None
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
