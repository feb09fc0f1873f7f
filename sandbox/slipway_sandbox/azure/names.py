"""What Azure allows of endpoints and deployments: names, instance types, quota
(https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas#azure-machine-learning-online-endpoints-and-batch-endpoints,
https://learn.microsoft.com/azure/machine-learning/reference-managed-online-endpoints-vm-sku-list)."""

from __future__ import annotations

import re

from slipway_sandbox.azure.errors import ArmError

__all__ = ["CORES", "check_name", "check_traffic"]

_NAME = re.compile(r"[a-zA-Z]([a-zA-Z0-9-]{1,30})[a-zA-Z0-9]")

CORES = {
    "standard_ds1_v2": 1, "standard_ds2_v2": 2, "standard_ds3_v2": 4, "standard_ds4_v2": 8, "standard_ds5_v2": 16,
    "standard_f2s_v2": 2, "standard_f4s_v2": 4, "standard_f8s_v2": 8, "standard_f16s_v2": 16,
    "standard_e2s_v3": 2, "standard_e4s_v3": 4, "standard_e8s_v3": 8, "standard_e16s_v3": 16,
}  # fmt: skip


def check_name(kind: str, name: str) -> None:
    """Check a name of an endpoint or a deployment.

    :raises ArmError: 400.
    """
    if not _NAME.fullmatch(name):
        message = (
            f"The {kind} name '{name}' is invalid: it must be 3 to 32 letters, digits or '-', begin with a letter and "
            "end with a letter or digit."
        )
        raise ArmError(400, "BadRequest", message)


def check_traffic(traffic: dict[str, int], mirror: dict[str, int], ready: set[str]) -> None:
    """Check an endpoint's traffic rules.

    :param ready: the deployments that can take traffic.
    :raises ArmError: 400.
    """
    unknown = (set(traffic) | set(mirror)) - ready
    if unknown:
        raise ArmError(
            400, "BadRequest", f"Traffic names deployments that are not ready: {', '.join(sorted(unknown))}."
        )
    if sum(traffic.values()) not in {0, 100}:
        raise ArmError(400, "BadRequest", "The sum of all traffic percentages must be 0 or 100.")
    if len(mirror) > 1 or any(not 0 < share <= 50 for share in mirror.values()):
        raise ArmError(400, "BadRequest", "Mirror traffic goes to one deployment, at most 50 %.")
    if any(traffic.get(name) for name in mirror):
        raise ArmError(400, "BadRequest", "A deployment cannot take live and mirrored traffic at once.")
