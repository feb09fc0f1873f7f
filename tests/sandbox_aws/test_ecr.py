"""ECR with a real registry, and endpoints that run the images that were pushed to it, as SageMaker runs them."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from slipway_sandbox.aws.server import Sandbox
from slipway_sandbox.aws.settings import Place
from tests.model_host.hosts import ModelMaker
from tests.sandbox_aws.cloud import client, create_config, create_model, settled, upload_model, wait_for

pytestmark = pytest.mark.requires("docker", "docker-registry")

# What SageMaker asks of a container, and no more.
SERVE = """#!/usr/bin/python3
import http.server, json, os, sys, time
assert sys.argv == ["/usr/local/bin/serve"]
model = open("/opt/ml/model/MLmodel").read()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer({})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        time.sleep(asked.get("sleep", 0))
        self.answer({"model": "loader_module" in model, "asked": asked, "padding": "x" * asked.get("padding", 0)},
                    asked.get("status", 200))

    def answer(self, body, status=200):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

http.server.ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def sandbox(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(Place(tmp_path_factory.mktemp("aws"), environments, containers=True)) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def image(sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image in the sandbox's ECR, pushed as the Docker CLI pushes it after `get-login-password`."""
    folder: Path = tmp_path_factory.mktemp("image")
    (folder / "serve").write_text(SERVE)
    (folder / "serve").chmod(0o755)
    (folder / "Dockerfile").write_text("FROM slipway-test/base:bookworm\nCOPY serve /usr/local/bin/serve\n")
    ecr = client(sandbox, "ecr")
    uri = ecr.create_repository(repositoryName=f"aws/{secrets.token_hex(4)}")["repository"]["repositoryUri"]
    (granted,) = ecr.get_authorization_token()["authorizationData"]
    user, _, password = base64.b64decode(granted["authorizationToken"]).decode().partition(":")
    assert user == "AWS"
    assert granted["proxyEndpoint"].removeprefix("http://") == uri.partition("/")[0]
    engine = docker.from_env()
    engine.images.build(path=str(folder), tag=f"{uri}:1")
    said = engine.images.push(uri, "1", auth_config={"username": user, "password": password})
    assert "digest:" in said, said
    yield f"{uri}:1"
    engine.images.remove(f"{uri}:1", force=True)


def test_what_was_pushed_is_listed(sandbox: Sandbox, image: str) -> None:
    repository, _, tag = image.partition("/")[2].partition(":")
    ecr = client(sandbox, "ecr")
    (found,) = ecr.describe_images(repositoryName=repository)["imageDetails"]
    assert found["imageTags"] == [tag]
    assert found["imageDigest"].startswith("sha256:")
    with pytest.raises(ecr.exceptions.ImageNotFoundException):
        ecr.describe_images(repositoryName=repository, imageIds=[{"imageTag": "nothing"}])


def test_an_endpoint_runs_the_image_and_keeps_sagemakers_limits(
    sandbox: Sandbox, image: str, models: ModelMaker
) -> None:
    data = upload_model(sandbox, models.make("one").folder, "container.tar.gz")
    sagemaker, runtime = client(sandbox, "sagemaker"), client(sandbox, "sagemaker-runtime")
    for wrong, said in ((f"{image}x", "not found"), ("docker.io/library/python:3", "non-ECR image")):
        with pytest.raises(sagemaker.exceptions.ClientError, match=said):
            create_model(sandbox, "refused", data, image=wrong)
    create_model(sandbox, "container", data, image=image)
    create_config(sandbox, "container")
    sagemaker.create_endpoint(EndpointName="container", EndpointConfigName="container")
    assert settled(sandbox, "container", 120)["EndpointStatus"] == "InService"

    def ask(**asked: Any) -> dict[str, Any]:
        answer = runtime.invoke_endpoint(EndpointName="container", Body=json.dumps(asked))
        return dict(json.load(answer["Body"]))

    assert ask()["model"], "the model's files are in /opt/ml/model"
    with pytest.raises(runtime.exceptions.ModelError) as caught:
        ask(status=418)
    assert caught.value.response["OriginalStatusCode"] == 418
    with pytest.raises(runtime.exceptions.ModelError, match="larger than"):
        ask(padding=7 * 2**20)
    with pytest.raises(runtime.exceptions.ClientError, match="larger than"):
        runtime.invoke_endpoint(EndpointName="container", Body=b"x" * (7 * 2**20))
    sandbox.application.behaviour.update({"invocation_seconds": 0.5})
    with pytest.raises(runtime.exceptions.ModelError, match="timed out"):
        ask(sleep=2)
    sagemaker.delete_endpoint(EndpointName="container")
    wait_for(lambda: sagemaker.list_endpoints()["Endpoints"], lambda there: not there)
    label = f"slipway.sandbox.folder={sandbox._place.folder / 'servers'}"
    assert docker.from_env().containers.list(all=True, filters={"label": label}) == []
