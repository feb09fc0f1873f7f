"""What the steps of a deploy to AzureML share: waiting without holding a worker, and going on after it."""

from __future__ import annotations

import time
from abc import abstractmethod
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk.definitions.context import Context

from slipway import settings
from slipway.azureml.arm import PENDING, state_of
from slipway.azureml.failures import explained_operation
from slipway.errors import UserError
from slipway.hooks.azureml import AzureMLEndpointHook
from slipway.operators.base import PlanOperator, one_sentence
from slipway.triggers.azureml import AzureMLStateTrigger

__all__ = ["FAILED", "AzureMLOperator"]

# Changes that are over sooner than this are not worth a trip to the triggerer and back.
_SHORT_WAIT_SECONDS = 5.0
FAILED = frozenset({"Failed", "Canceled"})


class AzureMLOperator(PlanOperator):
    """Base of the steps that wait for Azure: a step is written so that it can begin anew at any moment.

    What Azure says decides what is left to do, so that a retried, cleared or killed task goes on where it ended.
    """

    def run(self, context: Context) -> Any:
        """Do the step."""
        return self.advance(context, self.azure(), time.time() + settings.ready_timeout_seconds())

    def execute_complete(self, context: Context, event: dict[str, Any], deadline: float) -> Any:
        """Go on after a wait.

        :raises UserError: if Azure refuses, or the wait was too long.
        """
        with one_sentence(context):
            hook = self.azure()
            if "refused" in event:
                self.give_up(hook, UserError(event["refused"]))
            if "late" in event:
                patience = settings.ready_timeout_seconds()
                sentence = (
                    f"{event['path'].rpartition('/')[2]} was still {event['late']} in Azure after {patience} s, which "
                    "is the limit: see the endpoint in AzureML's studio, or raise [slipway] ready_timeout_seconds."
                )
                self.give_up(hook, UserError(sentence))
            if event["state"] in FAILED and event["operation"]:
                self.failed(hook, event["error"])
            return self.advance(context, hook, deadline)

    @abstractmethod
    def advance(self, context: Context, hook: AzureMLEndpointHook, deadline: float) -> Any:
        """Do what is left of the step, and return what later tasks need.

        :param deadline: when to give up waiting, in seconds since the epoch.
        """

    def failed(self, hook: AzureMLEndpointHook, error: dict[str, Any] | None) -> NoReturn:
        """Raise that an operation failed, with Azure's `{"code", "message"}` where that is known."""
        self.give_up(hook, explained_operation(f"A change of endpoint '{self.plan['endpoint']}'", error, ""))

    def give_up(self, hook: AzureMLEndpointHook, error: Exception) -> NoReturn:  # noqa: ARG002
        """Raise what ends the task; what it has begun is undone here, or by the DAG's last task."""
        raise error

    def azure(self) -> AzureMLEndpointHook:
        """Return the hook of the plan's workspace."""
        return AzureMLEndpointHook(self.plan["conn_id"])

    def wait(self, hook: AzureMLEndpointHook, path: str, deadline: float, operation: str | None = None) -> None:
        """Return when nothing is under way on a resource; defer if that takes longer than a moment.

        :param operation: URL of the operation that this task began. That it failed is this task's failure; what an
            earlier one left failed is for `advance` to see.
        """
        settled = state_of(hook.arm.settle(path, _SHORT_WAIT_SECONDS))
        if settled in PENDING:
            self.log.info("%s is %s: waiting.", path, settled)
            self.defer_to(AzureMLStateTrigger(hook.conn_id, path, operation, deadline), deadline)
        if settled in FAILED and operation:
            self.failed(hook, hook.arm.operation_error(operation))

    def defer_to(self, trigger: Any, deadline: float) -> NoReturn:
        """Give up the worker until the trigger fires."""
        self.defer(
            trigger=trigger,
            method_name="execute_complete",
            kwargs={"deadline": deadline},
            # Somewhat later than the trigger's own: for the case that no triggerer runs.
            timeout=timedelta(seconds=max(deadline - time.time(), 0) + 300),
        )
        raise AssertionError("defer raises")
