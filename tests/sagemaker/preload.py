"""Everything that a run imports, so that a process forked after it has no more to do than its work."""

from __future__ import annotations

from tests.sagemaker import driver

for dag_id in ("deploy_sagemaker", "undeploy_sagemaker"):
    driver.load(dag_id)
