"""`python -m slipway_sandbox.aws`: run the sandbox until it is interrupted, and connect the local stack to it."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import threading

from slipway_sandbox.aws.connect import connect
from slipway_sandbox.aws.registry import Registry
from slipway_sandbox.aws.server import Sandbox
from slipway_sandbox.aws.settings import Place


def main() -> int:
    """Run it; the lines on standard output are for a shell to read."""
    parser = argparse.ArgumentParser(prog="slipway_sandbox.aws", description=__doc__)
    parser.add_argument("--port", type=int, default=4566, help="where it listens on 127.0.0.1")
    parser.add_argument(
        "--processes", action="store_true", help="serve from processes, so that no image is needed, even with an engine"
    )
    options = parser.parse_args()
    place = Place.default(processes=options.processes)
    sandbox = Sandbox(place, options.port)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        with sandbox:
            _say(f"# AWS answers at {sandbox.url}, in region us-east-1. For boto3 and the AWS CLI:")
            for name, value in sandbox.environment.items():
                if name.startswith("AWS_"):
                    sys.stdout.write(f"export {name}={shlex.quote(value)}\n")
            registry = "a real registry" if Registry.is_installed() else "no registry (apt-get install docker-registry)"
            runs = "containers" if place.containers else "processes, whatever image is asked for"
            _say(f"# Behind ECR is {registry}. Models run in {runs}.")
            _say(f"# {connect(sandbox)}")
            _say("# Ctrl-C ends it; what is in it goes with it.")
            ended.wait()
    except OSError as error:
        sys.stderr.write(f"The sandbox cannot listen on port {options.port}: {error.strerror}; give another --port.\n")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
