"""What an action will do, in sentences, before anybody starts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway import naming
from slipway.domain import DeploymentRecord
from slipway.errors import UserError
from slipway.web.page.airflow import TARGETS
from slipway.web.page.models import Model

__all__ = ["effects"]


def effects(dag_id: str, conf: Mapping[str, Any], model: Model) -> list[str]:
    """Return what a run of a DAG with this conf will do to a model; nothing for a DAG that is not known here."""
    verb, _, target = dag_id.partition("_")
    match dag_id, verb:
        case "register_model", _:
            return _register(conf, model)
        case "set_alias", _:
            return _alias(conf, model)
        case "build_and_push_image", _:
            return [f"Builds the image of {_version(conf, model)} of '{model.name}' and pushes it, unless it is there."]
        case _, "deploy":
            return _deploy(conf, model, target)
        case _, "undeploy":
            return _undeploy(conf, model, target)
    return []


def _deploy(conf: Mapping[str, Any], model: Model, target: str) -> list[str]:
    endpoint, served = _served(conf, model, target)
    lines = [f"Deploys {_version(conf, model)} of '{model.name}' to {TARGETS[target]} as endpoint '{endpoint}'."]
    if served and served.version == conf.get("version"):
        lines.append("This version serves there already: with the same options nothing changes.")
    elif served:
        lines.append(f"Version {served.version} serves there now, and goes on until the new one has proved itself.")
    return [*lines, "The golden sample is sent to it before it serves; if anything fails, nothing changes."]


def _undeploy(conf: Mapping[str, Any], model: Model, target: str) -> list[str]:
    endpoint, served = _served(conf, model, target)
    if served is None:
        return [f"Looks for endpoint '{endpoint}' on {TARGETS[target]} and removes it: MLflow has no record of it."]
    return [
        f"Removes endpoint '{endpoint}' from {TARGETS[target]}, which serves version {served.version} now.",
        "Requests that are under way are answered first. The model stays registered.",
    ]


def _served(conf: Mapping[str, Any], model: Model, target: str) -> tuple[str, DeploymentRecord | None]:
    endpoint = str(conf.get("endpoint") or _default_endpoint(model.name))
    found = [record for record in model.deployments if (record.target, record.endpoint) == (target, endpoint)]
    return endpoint, found[0] if found else None


def _register(conf: Mapping[str, Any], model: Model) -> list[str]:
    number = max((int(v.number) for v in model.versions), default=0) + 1
    lines = []
    if conf.get("model_uri"):
        lines.append(f"Takes the MLflow model {conf['model_uri']} in: its files are scanned, locked and tried.")
        lines.append(f"Registers it as version {number} of '{model.name}'.")
    elif conf.get("force"):
        lines.append(
            f"Makes version {number} of '{model.name}' in MLflow, though the bundle may be registered already."
        )
    else:
        lines.append(f"Registers the bundle as version {number} of '{model.name}', unless it is a version already.")
    if conf.get("alias"):
        before = model.aliases.get(str(conf["alias"]))
        lines.append(f"Sets alias '{conf['alias']}' on it{f', in place of version {before}' if before else ''}.")
    return lines


def _alias(conf: Mapping[str, Any], model: Model) -> list[str]:
    before = model.aliases.get(str(conf.get("alias")))
    moved = f" It is version {before} now." if before else ""
    return [f"Makes version {conf.get('version')} the {conf.get('alias')} of '{model.name}'.{moved}",
            "What is deployed stays as it is."]  # fmt: skip


def _version(conf: Mapping[str, Any], model: Model) -> str:
    if conf.get("version"):
        return f"version {conf['version']}"
    if alias := conf.get("alias"):
        known = model.aliases.get(str(alias))
        return f"'{alias}'" + (f" (version {known})" if known else "")
    return "the newest version"


def _default_endpoint(model: str) -> str:
    try:
        return naming.default_endpoint(model)
    except UserError:
        return model
