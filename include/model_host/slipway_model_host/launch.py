"""Run a command so that it dies with the model host. Standard library only; run as a file: `python -I -S launch.py`.

Arguments: the host's pid, RLIMIT_DATA and RLIMIT_NOFILE (0: leave), then the command. This step between fork and exec
is a program of its own because Python code between the two is unsafe in a process with threads.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Set the limits and become the command."""
    parent, memory, files = (int(text) for text in arguments[:3])
    command = arguments[3:]
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit("The system refuses PR_SET_PDEATHSIG; the model host needs Linux.")
    if os.getppid() != parent:  # the host died before the call above
        sys.exit(1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    if files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    os.umask(0o077)
    os.execv(command[0], command)  # noqa: S606 - no shell


if __name__ == "__main__":
    main(sys.argv[1:])
