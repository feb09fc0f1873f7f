"""The sandbox as a whole: registries, application, HTTP server, and what every account has to start with."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.moto_api._internal.models import moto_api_backend
from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server

from slipway_sandbox import serving
from slipway_sandbox.aws.app import Application
from slipway_sandbox.aws.registry import Registries, Registry
from slipway_sandbox.aws.settings import ACCOUNT, Place
from slipway_sandbox.aws.signature import ACCESS_KEY, SECRET_KEY
from slipway_stack.ports import LOOPBACK

__all__ = ["REGION", "Sandbox"]

REGION = "us-east-1"
ROLE = "slipway-sagemaker"


class Sandbox:
    """A local AWS, in threads of this process.

    with Sandbox(Place(folder, environments)) as sandbox:
        boto3.client("sagemaker", endpoint_url=sandbox.url, …)

    :param place: where it runs.
    :param port: where it listens; 0: any free port.
    """

    def __init__(self, place: Place, port: int = 0) -> None:
        self._place = place
        self._registries = Registries(place.folder / "registries") if Registry.is_installed() else None
        self.application = Application(place, self._registries)
        self._server = make_server(
            LOOPBACK, port, self.application, threaded=True, request_handler=_QuietRequestHandler
        )
        self.url = f"http://{LOOPBACK}:{self._server.server_port}"

    def __enter__(self) -> Sandbox:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; what an earlier one left behind in this place is ended."""
        self._place.folder.mkdir(parents=True, exist_ok=True)
        serving.end_leftovers(self._servers)
        if self._registries:
            self._registries.end_leftovers()
        threading.Thread(target=self._server.serve_forever, daemon=True, name="sandbox-aws").start()
        self._seed()

    def stop(self) -> None:
        """End everything."""
        self._server.shutdown()
        self._server.server_close()
        self.application.stop()
        serving.end_leftovers(self._servers)
        if self._registries:
            self._registries.stop()
        # moto keeps one world for the process: the next sandbox is to find it empty.
        moto_api_backend.reset()

    @property
    def _servers(self) -> Path:
        return self._place.folder / "servers"

    def _seed(self) -> None:
        """Make a role that SageMaker may take, and the bucket that SageMaker's own tools would make."""
        options = {
            "endpoint_url": self.url,
            "region_name": REGION,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
            "config": Config(retries={"max_attempts": 1}),
        }
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}
            ],
        }
        boto3.client("iam", **options).create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(trust))
        boto3.client("s3", **options).create_bucket(Bucket=f"sagemaker-{REGION}-{ACCOUNT}")

    @property
    def environment(self) -> dict[str, str]:
        """What AWS's own tools, boto3 and Airflow read from their environment to talk to this sandbox."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(self.connection),
            **{f"AIRFLOW_VAR_{name.upper()}": value for name, value in self.variables.items()},
        }

    @property
    def connection(self) -> dict[str, Any]:
        """Airflow's connection `aws_default` to this sandbox."""
        # STS by itself, because the Test button of Airflow's UI does not ask it at the address of all services.
        services = {"sts": {"endpoint_url": self.url}}
        extra = {"endpoint_url": self.url, "region_name": REGION, "service_config": services}
        return {"conn_type": "aws", "login": ACCESS_KEY, "password": SECRET_KEY, "extra": extra}

    @property
    def variables(self) -> dict[str, str]:
        """The Airflow Variables that Slipway asks for."""
        return {"mlops.region": REGION, "mlops.aws_id": ACCOUNT, "mlops.arn": f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"}


class _QuietRequestHandler(MotoRequestHandler):
    """Logs nothing: a line a request would drown what the servers say."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing."""
