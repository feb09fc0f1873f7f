"""The ways to load a model: one module a flavour, none of which imports MLflow except the last resort, `pyfunc`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from slipway_scoring import samples
from slipway_scoring.bundle_pyfunc import BundleError
from slipway_scoring.model import Golden, Model, ModelLoadError, Predictor, read_manifest
from slipway_scoring.schema import Signature

FLAVORS = {
    "bundle_pyfunc": "bundle",
    "mlflow.sklearn": "sklearn",
    "mlflow.xgboost": "xgboost",
    "mlflow.lightgbm": "lightgbm",
    "mlflow.onnx": "onnx",
}
"""MLflow's `loader_module` to the module here that needs no MLflow."""


def load(directory: Path) -> Model:
    """Load the MLflow model in `directory`.

    Raises:
        ModelLoadError: it is no such directory, or the model does not load; one sentence.
    """
    description = read_mlmodel(directory)
    manifest = read_manifest(directory)
    flavors = description.get("flavors") or {}
    pyfunc = flavors.get("python_function")
    if not isinstance(pyfunc, dict) or "loader_module" not in pyfunc:
        raise ModelLoadError(
            f"{directory / 'MLmodel'} has no python_function flavour: the server runs only models that have one, so "
            "save the model with a flavour that adds it."
        )
    module = FLAVORS.get(pyfunc["loader_module"], "pyfunc")
    if module != "bundle" and pyfunc.get("code"):
        module = "pyfunc"  # Code of the user's own: let MLflow arrange its import.
    try:
        predictor: Predictor = import_module(f"slipway_scoring.loaders.{module}").load(directory, description)
        signature = Signature.parse(manifest.get("signature") or description.get("signature"))
    except (ModelLoadError, BundleError):
        raise
    except ImportError as error:
        raise ModelLoadError(
            f"The model needs the Python package '{error.name or error}', which is not installed: add it to the "
            "model's requirements."
        ) from error
    except Exception as error:  # a model's own loading code may raise anything
        raise ModelLoadError(
            f"The {module} model in {directory} cannot be loaded ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:300]}): check that the model's requirements match the packages it was "
            "saved with."
        ) from error
    return Model(predictor, signature, manifest, flavor=module, golden=_golden(directory, manifest, description))


def _golden(directory: Path, manifest: dict[str, Any], description: dict[str, Any]) -> Golden | None:
    """The golden sample, or for a plain MLflow model its input example."""
    golden = manifest.get("golden")
    if golden:
        return Golden(golden["input"], golden.get("output"))
    example = samples.of_model(directory, description)
    return None if example is None else Golden(example)


def read_mlmodel(directory: Path) -> dict[str, Any]:
    """The parsed `MLmodel` of a model directory."""
    import yaml

    path = directory / "MLmodel"
    try:
        description = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except OSError as error:
        raise ModelLoadError(
            f"{path} cannot be read ({error.strerror}): give --model an MLflow model directory, which has that file."
        ) from error
    except yaml.YAMLError as error:
        raise ModelLoadError(
            f"{path} is not valid YAML ({' '.join(str(error).split())}): save the model again."
        ) from error
    if not isinstance(description, dict):
        raise ModelLoadError(f"{path} is empty: save the model again.")
    return description
