"""Looking at a deployment that is starting, through a restart of its engine."""

from __future__ import annotations

from slipway.hooks.docker import DockerEndpointHook, Ended

__all__ = ["Candidate"]


class Candidate:
    """A deployment that is waited for: what was ended from outside is started once more.

    An engine that comes back does so with what serves, and not with candidates, so that one that fails is not started
    again and again.
    """

    def __init__(self, conn_id: str, endpoint: str, deployment: str) -> None:
        self.conn_id = conn_id
        self.endpoint = endpoint
        self.deployment = deployment
        self._started_again = False

    def state(self) -> str:
        """Return `starting` or `ready`.

        :raises UserError: if the container ended by itself, or from outside for the second time.
        :raises NotFound: if it is not there.
        :raises Unavailable: if the engine is away.
        """
        hook = DockerEndpointHook(self.conn_id)
        try:
            return hook.deployment_state(self.endpoint, self.deployment)
        except Ended as e:
            if self._started_again:
                raise
            hook.engine.log.warning("%s; it is started once more.", e)
            hook.start(self.endpoint, self.deployment)
            self._started_again = True
            return "starting"
