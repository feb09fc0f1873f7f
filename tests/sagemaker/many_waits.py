"""Waits for the endpoints that are named as arguments, in one event loop, and says what that took."""

from __future__ import annotations

import asyncio
import json
import sys
import time

import psutil

from slipway.triggers import sagemaker as triggers
from slipway.triggers.sagemaker import SageMakerEndpointTrigger
from slipway_sandbox.aws.server import REGION


async def main(names: list[str]) -> None:
    """Print the statuses, the most clients at a time, and the memory of this process in the middle of it."""
    seen = {"clients": 0, "rss": 0}

    async def wait(name: str) -> str | None:
        trigger = SageMakerEndpointTrigger("aws_default", REGION, time.time() + 500, name)
        (event,) = [event.payload async for event in trigger.run()]
        return str(event["status"])

    async def look() -> None:
        while True:
            seen["clients"] = max(seen["clients"], len(triggers._clients))
            seen["rss"] = max(seen["rss"], psutil.Process().memory_info().rss)
            await asyncio.sleep(0.1)

    looking = asyncio.create_task(look())
    statuses = await asyncio.gather(*(wait(name) for name in names))
    looking.cancel()
    used = time.process_time()
    print(json.dumps({"statuses": sorted(set(statuses)), "cpu": used, "left": len(triggers._clients), **seen}))


asyncio.run(main(sys.argv[1:]))
