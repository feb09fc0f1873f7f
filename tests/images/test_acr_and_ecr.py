"""The clouds' registries: their logins are real exchanges, and the registry behind them is a real one."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.errors import UserError
from slipway.hooks.docker_engine import DockerEngineHook
from slipway.hooks.ecr import EcrRegistryHook
from slipway.images.ensure import Ingredients, ensure_in_registry
from slipway_sandbox.aws.server import Sandbox as AwsSandbox
from slipway_sandbox.aws.settings import Place
from slipway_sandbox.azure.acr import running_acr_tokens
from slipway_sandbox.azure.errors import ArmError
from slipway_sandbox.azure.server import Sandbox
from tests.images.registries import running_registry
from tests.sandbox_aws.cloud import client
from tests.sandbox_azure.sandboxes import environments, running_azure, sandbox

__all__ = ["environments", "running_azure", "sandbox"]

pytestmark = pytest.mark.requires("docker", "docker-registry")
AUDIENCE = "https://containerregistry.azure.net"


def test_acr_takes_the_token_that_azure_s_credential_is_exchanged_for(
    sandbox: Sandbox, tmp_path: Path, small: Callable[[], Ingredients], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    seen: list[str] = []

    def accepts(token: str) -> bool:
        seen.append(token)
        try:
            sandbox.login.check(f"Bearer {token}", AUDIENCE)
        except ArmError:
            return False
        return True

    with running_acr_tokens(accepts) as tokens:
        settings = tokens.registry_settings(tmp_path)
        with running_registry(tmp_path / "registry", settings=settings) as host:
            connection = {"conn_type": "azure_container_registry", "host": host}
            monkeypatch.setenv("AIRFLOW_CONN_AZURE_CONTAINER_REGISTRY_DEFAULT", json.dumps(connection))
            made_of = small()
            pushed = ensure_in_registry(made_of, "acr", DockerEngineHook())
            assert pushed["built"]
            assert ensure_in_registry(made_of, "acr", DockerEngineHook()) == {**pushed, "built": False}
            assert seen
            assert tokens.refresh_tokens
            for secret in (*seen, *tokens.refresh_tokens):
                assert secret not in caplog.text
                assert secret not in json.dumps(pushed)
            tokens.accepts = lambda _: False
            with pytest.raises(
                UserError, match=r"takes no token of connection 'azureml_default' \(HTTP 401\).*AcrPush"
            ):
                ensure_in_registry(small(), "acr", DockerEngineHook())


def test_ecr_gives_a_token_and_a_repository_whose_tags_stay(
    tmp_path: Path, small: Callable[[], Ingredients], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with AwsSandbox(Place(tmp_path / "aws", tmp_path / "environments", containers=True)) as aws:
        for name, value in aws.environment.items():
            monkeypatch.setenv(name, value)
        made_of = small()
        pushed = ensure_in_registry(made_of, "ecr", DockerEngineHook())
        assert pushed["built"]
        assert ensure_in_registry(made_of, "ecr", DockerEngineHook()) == {**pushed, "built": False}
        ecr = client(aws, "ecr")
        (made,) = ecr.describe_repositories(repositoryNames=[made_of.repository])["repositories"]
        assert made["imageTagMutability"] == "IMMUTABLE"
        assert made["imageScanningConfiguration"] == {"scanOnPush": True}
        assert pushed["repository"] == made["repositoryUri"]
        elsewhere = ensure_in_registry(made_of, "ecr:eu-west-1", DockerEngineHook())
        assert elsewhere["built"], "a registry is a region's"
        registry = EcrRegistryHook()
        registry.prepare(made_of.repository)
        assert registry.login.password not in caplog.text
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({**aws.connection, "password": "wrong"}))
        with pytest.raises(UserError, match="Slipway cannot get a token for ECR"):
            ensure_in_registry(small(), "ecr", DockerEngineHook())
