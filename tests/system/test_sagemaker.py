"""A model's whole life on SageMaker: a real Airflow, and the sandbox with a real registry and real containers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from slipway_sandbox.aws.connect import connect
from slipway_sandbox.aws.server import Sandbox
from slipway_sandbox.aws.settings import Place
from tests.sagemaker.account import Account
from tests.stack.running import RunningStack, running_stack
from tests.system.steps import check_page, constant_bundle, register, version_tags, write_bundle

pytestmark = pytest.mark.requires("docker", "docker-registry")

# Predicts while it is imported, and not where it is served.
HOMESICK = """
import os

class CustomPreprocessor:
    def load(self, artifacts):
        if os.environ.get("SLIPWAY_MODEL_VERSION"):
            raise RuntimeError("this is not where I was trained")

    def predict(self, frame):
        return ["three"] * len(frame)
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder: Path = tmp_path_factory.mktemp("aws")
    with Sandbox(Place(folder, folder / "environments")) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
def cloud_stack(sandbox: Sandbox) -> Iterator[RunningStack]:
    settings = {"AIRFLOW__SLIPWAY__BASE_IMAGE": "slipway-test/base:bookworm", "AIRFLOW__SLIPWAY__POLL_SECONDS": "1"}
    with running_stack(settings) as stack:
        assert "deploy_sagemaker is ready" in connect(sandbox), "as `make sandbox-aws` does"
        yield stack


def test_from_bundle_to_endpoint_and_back(cloud_stack: RunningStack, sandbox: Sandbox, tmp_path: Path) -> None:
    stack, account = cloud_stack, Account(sandbox.url)
    one, two = (register(stack, constant_bundle(tmp_path / f"{a}.zip", a), "aws-life") for a in ("one", "two"))
    three = register(stack, write_bundle(tmp_path / "three.zip", HOMESICK), "aws-life")
    conf = {"model": "aws-life"}

    published = stack.xcom(stack.succeed("deploy_sagemaker", {**conf, "version": one}, timeout=1500), "publish")
    assert "@sha256:" in published["image"]
    assert published["details"]["instance_type"] == "ml.m5.large"
    assert account.predict("aws-life") == ["one", "one"]
    answer = account.runtime.invoke_endpoint(
        EndpointName="aws-life", ContentType="text/csv", Accept="text/csv", Body="a\n1\n2\n"
    )
    assert answer["Body"].read().decode().split() == ["one", "one"]
    check_page(stack, "aws-life", "sagemaker", "aws-life", "one")
    assert json.loads(version_tags(stack, "aws-life", one)["slipway.deployment.sagemaker.aws-life"])["url"]

    stop, answers, failures = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(account.predict("aws-life")[0])
            except ClientError as e:
                failures.append(str(e))
            stop.wait(0.05)

    client = threading.Thread(target=ask)
    client.start()
    try:
        canary = {"strategy": {"canary": {"size": 30, "wait": 60}}}
        stack.succeed("deploy_sagemaker", {**conf, "version": two, **canary}, timeout=900)
        task, sentence = stack.fail("deploy_sagemaker", {**conf, "version": three}, timeout=900)
        assert task == "endpoint"
        assert "SageMaker rolled back to" in sentence
        assert "this is not where I was trained" in sentence
        assert account.predict("aws-life") == ["two", "two"]
        run = stack.succeed("deploy_sagemaker", {**conf, "rollback": True}, timeout=900)
        assert stack.xcom(run, "publish")["version"] == one
    finally:
        stop.set()
        client.join()
    assert failures == []
    assert {"one", "two"} == set(answers)
    assert account.predict("aws-life") == ["one", "one"]

    stack.succeed("undeploy_sagemaker", {**conf, "delete_data": True}, timeout=600)
    assert not any(account.resources("aws-life").values())
