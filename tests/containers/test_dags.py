"""build_and_push_image, deploy_docker and undeploy_docker through a real Airflow, engine and registry."""

from __future__ import annotations

import json
import secrets
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import bcrypt
import httpx
import pytest

from tests.images.conftest import BASE
from tests.images.registries import running_registry
from tests.stack.running import RunningStack, running_stack
from tests.system import steps

pytestmark = pytest.mark.requires("docker", "docker-registry")
SECRET = f"planted-{secrets.token_hex(8)}"
MODEL = f"docker-{secrets.token_hex(3)}"


@dataclass(frozen=True)
class Site:
    """A stack, and the registry that its connection `registry` names."""

    stack: RunningStack
    registry: str


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    users = folder / "users"
    users.write_text(f"pusher:{bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(4)).decode()}\n")
    settings = f"auth: {{htpasswd: {{realm: here, path: {users}}}}}\n"
    with running_registry(folder / "registry", settings=settings) as host:
        connection = {"conn_type": "docker", "host": host, "login": "pusher", "password": SECRET}
        variables = {"AIRFLOW_CONN_REGISTRY": json.dumps(connection), "AIRFLOW__SLIPWAY__BASE_IMAGE": BASE}
        with running_stack(variables) as stack:
            for answer in ("one", "two"):
                bundle = steps.constant_bundle(folder / f"{answer}.zip", answer)
                steps.register(stack, bundle, MODEL)
            yield Site(stack, host)
            subprocess.run(["docker", "rm", "-f", f"slipway-{MODEL}"], capture_output=True, check=False)


class Commands:
    """Looks at the command lines of all processes for as long as it runs."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Commands:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.2):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    if SECRET.encode() in (line := path.read_bytes()):
                        self.found.append(line.decode(errors="replace"))


def test_an_image_is_pushed_deployed_replaced_under_load_and_taken_away(site: Site) -> None:
    stack = site.stack
    with Commands() as commands:
        wanted = {"registry": "registry", "model": MODEL, "version": "1", "include_model": True}
        pushed = stack.xcom(stack.succeed("build_and_push_image", wanted), "image")
        assert pushed["built"]
        assert pushed["image"].startswith(f"{site.registry}/slipway/{MODEL}@sha256:")
        again = stack.xcom(stack.succeed("build_and_push_image", wanted), "image")
        assert again == {**pushed, "built": False}

        conf = {"model": MODEL, "version": "1", "registry": "registry", "memory": "1g"}
        first = stack.xcom(stack.succeed("deploy_docker", conf), "publish")
        assert first["image"] == pushed["image"]
        assert first["details"]["memory"] == "1g"
        assert steps.score(first["url"]) == ["one", "one"]
        steps.check_page(stack, MODEL, "docker", MODEL, "one")
        assert stack.xcom(stack.succeed("deploy_docker", conf), "publish")["deployed_at"] == first["deployed_at"]
        printed = subprocess.run(["bash", "-c", first["samples"]["curl"]], capture_output=True, text=True, check=True)
        assert json.loads(printed.stdout)["predictions"] == ["one", "one"]

        total: Counter[str] = Counter()
        over = threading.Event()

        def ask() -> None:
            with httpx.Client(timeout=60) as client:
                while not over.wait(0.01):
                    answer = client.post(f"{first['url']}/invocations", json={"dataframe_split": steps.SAMPLE})
                    total[f"{answer.status_code} {answer.text}"] += 1

        client = threading.Thread(target=ask)
        client.start()
        try:
            second = stack.xcom(stack.succeed("deploy_docker", {"model": MODEL}), "publish")
        finally:
            over.set()
            client.join()
        print(f"{total.total()} requests during the redeploy: {dict(total)}")
        assert set(total) == {'200 {"predictions":["one","one"]}', '200 {"predictions":["two","two"]}'}
        assert second["url"] == first["url"]
        assert second["version"] == "2"

        stack.succeed("undeploy_docker", {"model": MODEL})
        left = ["docker", "ps", "--all", "--quiet", "--filter", f"label=slipway.endpoint={MODEL}"]
        assert subprocess.run(left, capture_output=True, text=True, check=True).stdout == ""
        task, sentence = stack.fail("undeploy_docker", {"model": MODEL})
        assert task == "undeploy"
        assert "is not deployed to endpoint" in sentence
    assert commands.found == []


def test_the_planted_secret_is_in_no_log_and_no_xcom(site: Site) -> None:
    """After the other test: Airflow's database with its XComs, the tasks' logs, and those of the stack."""
    stack = site.stack.stack
    found = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "--text", SECRET, stack.airflow, stack.logs, stack.mlflow],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.stdout == ""
    assert found.returncode == 1, found.stderr


def test_wrong_params_fail_at_once_in_one_sentence(site: Site) -> None:
    task, sentence = site.stack.fail("build_and_push_image", {"registry": "nowhere", "model": MODEL})
    assert (task, "Connection 'nowhere' does not exist" in sentence) == ("image", True), sentence
    task, sentence = site.stack.fail("deploy_docker", {"model": MODEL, "memory": "1 elephant"})
    assert (task, "memory is '1 elephant'" in sentence) == ("deploy", True), sentence
