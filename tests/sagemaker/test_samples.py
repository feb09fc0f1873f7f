"""The published sample code, pasted: boto3, the AWS CLI and curl, with the credentials that a user has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slipway_sandbox.aws.signature import ACCESS_KEY, SECRET_KEY
from tests.sagemaker.account import Account
from tests.sagemaker.actions import deploy, undeploy


@pytest.mark.requires("curl")
def test_each_sample_predicts_when_pasted(
    account: Account, versions: dict[str, str], endpoint: str, tmp_path: Path
) -> None:
    run = deploy(endpoint, version=versions["one"])
    assert run.ok, run.error
    samples = run["publish"]["samples"]
    tools = Path(sys.executable).parent
    environment = {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
    }

    def pasted(*command: str, **more: str) -> str:
        done = subprocess.run(
            command, env=environment | more, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    for kind in ("python", "boto3"):
        assert pasted(sys.executable, "-c", samples[kind]).strip() == "['one', 'one']"
    assert '{"predictions":["one","one"]}' in pasted("sh", "-c", samples["curl"])
    # Credentials that last for some hours: their token is signed too.
    assert '{"predictions":["one","one"]}' in pasted("sh", "-c", samples["curl"], AWS_SESSION_TOKEN="a/token+==")
    refused = pasted("sh", "-c", samples["curl"], AWS_SECRET_ACCESS_KEY="wrong")
    assert "signature we calculated does not match" in refused
    assert '{"predictions":["one","one"]}' in pasted("sh", "-c", samples["cli"])
    assert SECRET_KEY not in str(samples)
    assert undeploy(endpoint, delete_data=True).ok
