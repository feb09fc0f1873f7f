"""The steps of importing a bundle; each is one function of `slipway.bundles.intake`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway.assets import BUNDLE
from slipway.operators.base import SlipwayOperator
from slipway.operators.ending import AfterAllOperator

__all__ = [
    "CheckBundleOperator",
    "DiscardBundleOperator",
    "LockBundleOperator",
    "ProbeBundleOperator",
    "StoreBundleOperator",
]


class CheckBundleOperator(SlipwayOperator):
    """Open the archive, check it, scan its pickles, and unpack it to the store's staging area.

    :param bundle_uri: where the zip is; any URI that Airflow's ObjectStoragePath reads.
    :param name: name of the model; by default from `bundle.yaml`, or else the file's name.
    :param description: what the model does; by default from `bundle.yaml`.
    """

    template_fields: Sequence[str] = ("bundle_uri", "name", "description")

    def __init__(self, *, bundle_uri: Any, name: Any = None, description: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bundle_uri = bundle_uri
        self.name = name
        self.description = description

    def run(self, context: Context) -> dict[str, Any]:
        """Return what was found, for the next steps.

        :raises UserError: for each kind of bad archive in `docs/bad-input.md`.
        """
        from slipway.bundles import intake

        return intake.check(self.bundle_uri, name=self.name, description=self.description, run_id=context["run_id"])


class _Step(SlipwayOperator):
    """A step that takes what earlier steps returned."""

    template_fields: Sequence[str] = ("checked", "locked", "probed", "stored")

    def __init__(
        self, *, checked: Any, locked: Any = None, probed: Any = None, stored: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.checked = checked
        self.locked = locked
        self.probed = probed
        self.stored = stored


class LockBundleOperator(_Step):
    """Resolve the bundle's requirements to a lock, and make the environment that it names."""

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return the lock's digest and text.

        :raises UserError: if the requirements are malformed or cannot be resolved.
        """
        from slipway.bundles import intake

        return intake.lock(self.checked)


class ProbeBundleOperator(_Step):
    """Load the bundle and predict its sample, in its own environment and in isolation."""

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return the golden sample, the signature and whether rows are independent.

        :raises UserError: if the bundle's code fails, or needs more time or memory than it may have.
        """
        from slipway.bundles import intake

        probed = intake.probe(self.checked, self.locked)
        self.log.info(
            "The bundle loads in %.1f s and peaks at %d MiB; %s; it ran %s.",
            probed["load_seconds"],
            probed["peak_rss_bytes"] // 1024**2,
            "its golden sample is kept" if probed["has_golden_sample"] else "it has no sample to predict",
            "without network and apart from this machine" if probed["isolated"] else "without isolation",
        )
        return probed


class StoreBundleOperator(_Step):
    """Store the bundle under its digest; one that is there already stays as it is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(outlets=[BUNDLE], **kwargs)

    def run(self, context: Context) -> dict[str, Any]:
        """Return the bundle's `digest` and `name`."""
        from slipway.bundles import intake

        stored = intake.commit(self.checked, self.locked, self.probed)
        context["outlet_events"][BUNDLE].extra = {"digest": stored["digest"], "name": stored["name"]}
        return stored


class DiscardBundleOperator(AfterAllOperator, _Step):
    """Remove what an import leaves behind: its staging area if it failed, the upload that it came from if not."""

    def run(self, context: Context) -> None:  # noqa: ARG002
        """Remove it. The upload of a failed import stays for another try."""
        from slipway import settings
        from slipway.bundles import intake, uploads

        if self.stored:
            uploads.forget(settings.bundle_store(), self.checked["source_uri"])
        elif self.checked:
            intake.discard(self.checked)
