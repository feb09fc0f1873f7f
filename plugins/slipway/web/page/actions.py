"""The actions menu: which actions a model has, and why one of them cannot be chosen now.

The rules are the requirement's: deploying needs a registered version, undeploying a deployment, sample code a
deployment, and nothing runs twice at once. A DAG that Airflow does not have is not offered at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from slipway.web.page.airflow import TARGETS, Dag, Run, busy
from slipway.web.page.models import Model

__all__ = ["Action", "Group", "find", "menu"]


@dataclass(frozen=True)
class Action:
    """One entry of the menu.

    :param id: names it in URLs: a DAG's id, or `re_register`.
    :param why: why it cannot be chosen now; empty if it can.
    :param preset: values of the DAG's params that the page knows.
    """

    id: str
    label: str
    dag_id: str
    why: str = ""
    preset: dict[str, object] = field(default_factory=dict)

    @property
    def enabled(self) -> bool:
        """Whether it can be chosen now."""
        return not self.why


@dataclass(frozen=True)
class Group:
    """Entries that belong together, under a heading."""

    title: str
    actions: tuple[Action, ...]


def menu(model: Model, dags: Mapping[str, Dag], active: Run | None) -> list[Group]:
    """Return the menu of a model.

    :param dags: our DAGs that Airflow has, with whether the user may run them.
    :param active: a run about the model that is not over.
    """
    groups = [
        Group("Register", tuple(_offered(_register(model), dags, active))),
        Group("Deploy", tuple(_offered(_deploy(model), dags, active))),
        Group("Undeploy", tuple(_offered(_undeploy(model), dags, active))),
    ]
    return [group for group in groups if group.actions]


def find(groups: list[Group], action_id: str) -> Action | None:
    """Return an entry by its id."""
    return next((action for group in groups for action in group.actions if action.id == action_id), None)


def _register(model: Model) -> list[Action]:
    foreign = next((v for v in model.versions if not v.ours), None)
    waiting = model.unregistered
    preset: dict[str, object] = {"name": model.name}
    if model.bundles:
        preset["bundle"] = model.bundles[0].digest
    elif foreign:
        preset["model_uri"] = foreign.known.uri
    done = any(version.ours for version in model.versions)
    if waiting or (foreign and not model.bundles and not done):
        first = ""
    elif model.bundles:
        first = "The newest bundle is registered already: use Re-register to make another version of it."
    elif done:
        first = "The model is registered already, and its bundle is not in the bundle store."
    else:
        first = "Nothing was imported under this name yet: import a bundle first."
    again = "" if done and model.bundles else "Only a registered model whose bundle is there can be registered again."
    return [
        Action("register_model", "Register", "register_model", first, preset),
        Action("re_register", "Re-register", "register_model", again, {**preset, "force": True}),
    ]


def _deploy(model: Model) -> list[Action]:
    newest = next((version for version in model.versions if version.deployable), None)
    if newest:
        why = ""
    elif model.versions:
        why = "No version of it was registered by Slipway, so nothing is known of its environment: register it first."
    else:
        why = "Only a registered model can be deployed: register it first."
    preset: dict[str, object] = {"model": model.name}
    if newest:
        preset["version"] = newest.number
    deploys = [Action(f"deploy_{t}", f"Deploy to {name}", f"deploy_{t}", why, preset) for t, name in TARGETS.items()]
    return [*deploys, Action("build_and_push_image", "Build and push image", "build_and_push_image", why, preset)]


def _undeploy(model: Model) -> list[Action]:
    actions = []
    for target, name in TARGETS.items():
        there = [record.endpoint for record in model.deployments if record.target == target]
        why = "" if there else f"It is not deployed to {name}."
        preset: dict[str, object] = {"model": model.name}
        if there:
            preset["endpoint"] = there[0]
        actions.append(Action(f"undeploy_{target}", f"Undeploy from {name}", f"undeploy_{target}", why, preset))
    return actions


def _offered(actions: list[Action], dags: Mapping[str, Dag], active: Run | None) -> list[Action]:
    found = []
    for action in actions:
        dag = dags.get(action.dag_id)
        if dag is None:
            continue
        why = dag.refusal or action.why
        if active and not why:
            why = busy(active)
        found.append(Action(action.id, action.label, action.dag_id, why, action.preset))
    return found
