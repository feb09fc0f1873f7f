"""`python -S -m slipway_model_host.lone.ask live|drop|status [deployment]`: one question to the door of this container.

It is run for each question, so it imports next to nothing.
"""

import json
import socket
import sys

CONTROL = "door.sock"
_PATIENCE_SECONDS = 20.0


def main(home: str, command: str, deployment: str = "") -> int:
    """Print the door's answer as JSON; 0 if it is no error."""
    question = json.dumps({"command": command, "deployment": deployment}).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.settimeout(_PATIENCE_SECONDS)
            control.connect(f"{home}/{CONTROL}")
            control.sendall(question)
            with control.makefile("rb") as stream:
                answer = json.loads(stream.readline())
    except (OSError, ValueError) as error:
        answer = {"error": f"The front door does not answer: {error}"}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
