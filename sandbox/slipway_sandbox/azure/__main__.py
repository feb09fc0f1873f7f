"""`python -m slipway_sandbox.azure`: run the sandbox and say how to use it."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType

from slipway_sandbox.azure import az
from slipway_sandbox.azure.server import running_sandbox
from slipway_sandbox.azure.settings import Settings
from slipway_stack.settings import Stack


def main() -> int:
    """Run until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="slipway_sandbox.azure", description=__doc__)
    parser.add_argument(
        "--home",
        type=Path,
        default=Stack.from_environment().home / "sandbox-azure",
        help="folder for all that it keeps",
    )
    parser.add_argument("--port", type=int, default=5443, help="port of ARM, login and scoring")
    parser.add_argument("--blob-port", type=int, default=5444, help="port of Azurite")
    parser.add_argument("--environments", type=Path, help="the models' environments; default: beside the home")
    parser.add_argument("--pace", type=float, default=2.0, help="seconds that each operation takes at least")
    parser.add_argument(
        "--processes", action="store_true", help="serve from processes, so that no image is needed, even with an engine"
    )
    options = parser.parse_args()
    home = options.home.resolve()
    settings = Settings(
        home, options.port, options.blob_port, pace=options.pace, containers=not options.processes,
        environments_dir=(options.environments or home.parent / "environments").resolve(),
    )  # fmt: skip

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    with running_sandbox(settings) as sandbox:
        lines = [f"export {name}={shlex.quote(value)}" for name, value in sandbox.environment.items()]
        # The samples fetch an endpoint's key or token by the Azure CLI.
        lines.append(f'export PATH={shlex.quote(str(az.install(home / "bin", sandbox.environment)))}:"$PATH"')
        # For a shell to source: the file is this user's alone, the connection's secret is in it.
        exports = home / "environment.sh"
        exports.touch(mode=0o600)
        exports.write_text("\n".join(lines) + "\n")
        sys.stdout.write(
            f"The Azure sandbox runs at {settings.url}. For a shell that is to use it:\n\n  source {exports}\n\n"
            "There, `make stop demo` starts a stack with the connection azureml_default to it.\n"
            f"Faults: PUT {settings.url}/_sandbox/faults. Ctrl-C ends it; what is in it goes with it.\n"
        )
        sys.stdout.flush()
        try:
            signal.pause()
        except KeyboardInterrupt:
            sys.stdout.write("The Azure sandbox ends.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
