"""A Kubernetes API server in one process, for tests: real wire protocol, real controllers, real scoring servers.

with FakeCluster(folder, environments) as cluster:
    cluster.images["registry.example/churn@sha256:…"] = model_dir
    cluster.kubeconfig                      # for any Kubernetes client
    cluster.faults.unschedulable = True     # and so on: faults.py
"""

from slipway_sandbox.kubernetes.cluster import FakeCluster
from slipway_sandbox.kubernetes.faults import ApiFault, Faults

__all__ = ["ApiFault", "FakeCluster", "Faults"]
