"""The scoring image as its users start it: confined, on SageMaker's and AzureML's terms, and offline."""

from __future__ import annotations

import io
import json
import secrets
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipway.containers.spec import parse_cpus, parse_memory
from slipway.hooks.docker_engine import DockerEngineHook
from slipway.images.ensure import ensure_in_engine
from slipway.kubernetes import manifests
from slipway.kubernetes.options import parse
from tests.images.conftest import forget, with_model
from tests.model_host.hosts import ModelMaker

pytestmark = pytest.mark.requires("docker")

ROWS = {"dataframe_split": {"columns": ["x"], "data": [[1], [2]]}}
Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def engine() -> DockerEngineHook:
    return DockerEngineHook()


@pytest.fixture(scope="module")
def image(models: ModelMaker, engine: DockerEngineHook) -> Iterator[str]:
    """The image with model version 1 inside."""
    made = str(ensure_in_engine(with_model(models, models.make("1")), engine)["image"])
    yield made
    forget(engine, made)


@pytest.fixture
def run(engine: DockerEngineHook, image: str) -> Iterator[Run]:
    """Runs a container with the image, confined as far as an engine goes; `files` are copied in before the start."""
    names: list[str] = []

    def start(
        *command: str, port: int = 8080, env: dict[str, str] | None = None, files: dict[str, Path] | None = None,
        binds: list[str] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        names.append(f"images-test-{secrets.token_hex(4)}")
        confined = files is None
        client = engine.client
        client.create_container(
            image, list(command), name=names[-1], environment=env or {}, ports=[port],
            host_config=client.create_host_config(
                read_only=confined, cap_drop=["ALL"], security_opt=["no-new-privileges"], binds=binds,
                port_bindings={port: ("127.0.0.1", None)},
            ),
        )  # fmt: skip
        for folder, source in (files or {}).items():
            client.put_archive(names[-1], "/", packed(folder, source))
        client.start(names[-1])
        return dict(client.inspect_container(names[-1]))

    yield start
    for name in names:
        engine.client.remove_container(name, force=True)


def packed(folder: str, source: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(source, folder.strip("/"))
    return buffer.getvalue()


def ready(engine: DockerEngineHook, container: dict[str, Any], port: int = 8080) -> str:
    """The URL of a container's server once it answers."""
    binding = container["NetworkSettings"]["Ports"][f"{port}/tcp"][0]
    url = f"http://127.0.0.1:{binding['HostPort']}"
    deadline = time.monotonic() + 120
    while True:
        try:
            if httpx.get(f"{url}/ping", timeout=5).is_success:
                return url
        except httpx.TransportError:
            assert time.monotonic() < deadline, engine.client.logs(container["Id"]).decode()
        assert engine.client.inspect_container(container["Id"])["State"]["Running"], engine.client.logs(container["Id"])
        time.sleep(0.1)


def test_it_serves_with_a_read_only_root_no_capability_and_no_name(engine: DockerEngineHook, run: Run) -> None:
    container = run()
    url = ready(engine, container)
    assert httpx.post(f"{url}/invocations", json=ROWS).json() == {"predictions": ["1", "1"]}
    assert container["Config"]["User"] == "10001:10001"
    health = engine.client.exec_create(container["Id"], ["python", "-m", "slipway_scoring", "health"])
    engine.client.exec_start(health["Id"])
    assert engine.client.exec_inspect(health["Id"])["ExitCode"] == 0
    engine.client.stop(container["Id"], timeout=40)
    assert engine.client.inspect_container(container["Id"])["State"]["ExitCode"] == 0


def test_what_it_says_of_itself(engine: DockerEngineHook, image: str) -> None:
    config = engine.client.inspect_image(image)["Config"]
    assert config["Labels"]["com.amazonaws.sagemaker.capabilities.accept-bind-to-port"] == "true"
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "-m", "slipway_scoring", "health"]
    assert config["Entrypoint"] == ["python", "-m", "slipway_scoring"]
    assert list(config["ExposedPorts"]) == ["8080/tcp"]


def test_sagemaker_starts_it_with_serve_a_port_and_the_model_beside(
    engine: DockerEngineHook, run: Run, models: ModelMaker
) -> None:
    files = {"/opt/ml/model": models.make("2").folder}
    container = run("serve", port=8099, env={"SAGEMAKER_BIND_TO_PORT": "8099"}, files=files)
    url = ready(engine, container, 8099)
    csv = httpx.post(f"{url}/invocations", content="x\n1\n", headers={"Content-Type": "text/csv", "Accept": "text/csv"})
    assert csv.text.split() == ["2"]
    assert httpx.get(f"{url}/execution-parameters").is_success


def test_azureml_starts_it_with_its_folder_and_port(engine: DockerEngineHook, run: Run, models: ModelMaker) -> None:
    place = "/var/azureml-app/azureml-models/echo/2"
    container = run(port=5001, env={"AZUREML_MODEL_DIR": place}, files={f"{place}/model": models.make("2").folder})
    url = ready(engine, container, 5001)
    assert httpx.get(url).is_success
    answer = httpx.post(f"{url}/score", json={"input_data": {"columns": ["x"], "data": [[1]]}})
    assert answer.json() == ["2"]


def test_it_scores_files_in_a_mounted_folder(engine: DockerEngineHook, run: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "rows.csv").write_text("x\n1\n2\n3\n")
    (tmp_path / "out").mkdir(mode=0o777)
    (tmp_path / "out").chmod(0o777)
    container = run(
        "score", "--model", "/opt/ml/model", "--input", "/data/in", "--output", "/data/out", "--quiet",
        binds=[f"{tmp_path}:/data"],
    )  # fmt: skip
    assert engine.client.wait(container["Id"], timeout=180)["StatusCode"] == 0, engine.client.logs(container["Id"])
    found = "".join(path.read_text() for path in sorted((tmp_path / "out").rglob("part-*")))
    assert found.count("1") >= 3, json.dumps(sorted(map(str, (tmp_path / "out").rglob("*"))))


@pytest.fixture
def pod(engine: DockerEngineHook, image: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The pod of a deploy to Kubernetes, and a container that an engine makes of it just as a kubelet has it made."""
    options = parse({"resources": {"limits": {"cpu": 1, "memory": "1Gi"}}})
    workload = manifests.Workload("echo", "v1-00000000", "echo", "1", image, options)
    spec: dict[str, Any] = manifests.deployment(workload, 1)["spec"]["template"]["spec"]
    (wanted,) = spec["containers"]
    rights, limits, client = wanted["securityContext"], wanted["resources"]["limits"], engine.client
    empty = {volume["name"] for volume in spec["volumes"] if "emptyDir" in volume}
    name, ports = f"images-test-{secrets.token_hex(4)}", [port["containerPort"] for port in wanted["ports"]]
    client.create_container(
        wanted["image"], wanted["args"], name=name, ports=ports,
        environment={variable["name"]: variable["value"] for variable in wanted["env"]},
        host_config=client.create_host_config(
            read_only=rights["readOnlyRootFilesystem"], cap_drop=rights["capabilities"]["drop"],
            security_opt=[] if rights["allowPrivilegeEscalation"] else ["no-new-privileges"],
            tmpfs={mount["mountPath"]: "" for mount in wanted["volumeMounts"] if mount["name"] in empty},
            nano_cpus=int((parse_cpus(limits["cpu"]) or 0) * 1e9), mem_limit=parse_memory(limits["memory"]),
            port_bindings=dict.fromkeys(ports, ("127.0.0.1", None)),
        ),
    )  # fmt: skip
    try:
        client.start(name)
        yield spec, dict(client.inspect_container(name))
    finally:
        client.remove_container(name, force=True)


def test_a_pod_s_container_comes_up_is_probed_and_ends_as_its_manifest_says(
    engine: DockerEngineHook, pod: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    spec, container = pod
    (wanted,) = spec["containers"]
    # Under runAsNonRoot a kubelet refuses an image whose user is root, or a name.
    assert spec["securityContext"]["runAsNonRoot"]
    assert int(container["Config"]["User"].partition(":")[0]) > 0
    assert container["HostConfig"]["ReadonlyRootfs"]
    (port,) = (port["containerPort"] for port in wanted["ports"])
    url = ready(engine, container, port)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = wanted[probe]["httpGet"]
        assert asked["port"] == wanted["ports"][0]["name"]
        assert httpx.get(f"{url}{asked['path']}", timeout=wanted[probe]["timeoutSeconds"]).status_code == 200
    assert httpx.post(f"{url}/invocations", json=ROWS).json() == {"predictions": ["1", "1"]}
    before_its_end = engine.client.exec_create(container["Id"], wanted["lifecycle"]["preStop"]["exec"]["command"])
    engine.client.exec_start(before_its_end["Id"])
    assert engine.client.exec_inspect(before_its_end["Id"])["ExitCode"] == 0
    engine.client.stop(container["Id"], timeout=spec["terminationGracePeriodSeconds"])
    assert engine.client.inspect_container(container["Id"])["State"]["ExitCode"] == 0
