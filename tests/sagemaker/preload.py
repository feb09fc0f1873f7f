"""Everything that a run imports and reads, so that a process forked after it has no more to do than its work."""

from __future__ import annotations

from importlib import import_module

import boto3

from tests.sagemaker import driver

for hook in ("base_aws", "logs", "s3", "sagemaker"):
    import_module(f"airflow.providers.amazon.aws.hooks.{hook}")
import_module("aiobotocore.session")
for dag_id in ("deploy_sagemaker", "undeploy_sagemaker"):
    driver.load(dag_id)
for service in ("sagemaker", "sagemaker-runtime", "s3", "application-autoscaling", "logs"):
    boto3.client(service, region_name="us-east-1", aws_access_key_id="-", aws_secret_access_key="-")
