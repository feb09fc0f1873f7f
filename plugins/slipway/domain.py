"""What Slipway talks about, as values: no I/O, and nothing of ours imported."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "DeploymentRecord",
    "GoldenSample",
    "ModelManifest",
    "ModelVersion",
    "Samples",
    "Signature",
    "Target",
]

Target = Literal["mlflow", "docker", "kubernetes", "sagemaker", "azureml"]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Signature(_Value):
    """A model's schema as MLflow's `ModelSignature.to_dict` writes it: each part is JSON text, or None."""

    inputs: str | None = None
    outputs: str | None = None
    params: str | None = None


class GoldenSample(_Value):
    """An input and the output that the model gave for it when it was probed.

    `input` is a body for MLflow's `/invocations` (`{"dataframe_split": …}`); `output` is what comes back
    under `predictions`.
    """

    input: dict[str, Any]
    output: Any


class ModelManifest(_Value):
    """`slipway/manifest.json` of a served model directory: what a scoring server and a deploy must know."""

    bundle_digest: str | None = None
    lock_digest: str | None = None
    python: str | None = None
    name: str | None = None
    description: str | None = None
    rows_independent: bool | None = None
    batching: dict[str, Any] | None = None
    signature: Signature | None = None
    golden: GoldenSample | None = None


class ModelVersion(_Value):
    """A version of a registered model, as MLflow knows it."""

    name: str
    version: str
    source: str
    status: str = "READY"
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = Field(default_factory=dict)

    @property
    def uri(self) -> str:
        """The version's MLflow URI, such as `models:/breast-cancer/3`."""
        return f"models:/{self.name}/{self.version}"


class Samples(_Value):
    """Code that scores the golden sample (or an example made from the signature) when pasted."""

    curl: str
    python: str
    boto3: str | None = None
    cli: str | None = None


class DeploymentRecord(_Value):
    """What an endpoint serves, as published in MLflow tags, in XCom and on pages.

    `details` are the target's own facts for a reader, such as instance type, count and region; `console_url` is the
    page of the endpoint in the target's own console.
    """

    endpoint: str
    target: Target
    url: str
    model: str
    version: str
    deployment: str
    auth: str = "none"
    environment: str | None = None
    image: str | None = None
    console_url: str | None = None
    details: dict[str, str | int | float | bool | None] = Field(default_factory=dict)
    deployed_at: datetime
    run: str
    samples: Samples | None = None
