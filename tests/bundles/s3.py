"""A bucket in S3, as moto serves it, and Airflow's connection to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

__all__ = ["running_bucket"]


@contextmanager
def running_bucket(conn_id: str) -> Iterator[tuple[str, Any]]:
    """Serve an empty bucket; gives its URI and a client.

    :param conn_id: of the connection that leads there, one for each user: Airflow keeps a connection's client for as
        long as the process lives.
    """
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    login = {"conn_type": "aws", "login": "testing", "password": "testing"}
    extra = {"endpoint_url": url, "region_name": "us-east-1"}
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )
    name = conn_id.replace("_", "-")
    client.create_bucket(Bucket=name)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({**login, "extra": extra}))
            yield f"s3://{conn_id}@{name}", client
    finally:
        server.stop()
