"""Becomes one process of the stack: `python -S launch.py RUN_FOLDER NAME`, started by the supervisor alone.

Before that it ends what an earlier process of that name left behind, or the new one would find its port taken. The
command and its environment, with the keys in it, are read from a private file, so that they show in no process
list. Standard library only, and little of it: this runs at each start and restart.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(folder: Path, name: str) -> None:
    """Clear the place, note the own process group, and become the command."""
    # Run as a script: its own folder, and not the package's, is on the path.
    sys.path[0] = str(Path(__file__).resolve().parents[1])
    from slipway_stack.leftovers import Group

    program = json.loads((folder / f"{name}.json").read_text())
    note = folder / f"{name}.group"
    earlier = Group.noted(note)
    count = earlier.end() if earlier else 0
    if count:
        print(f"{name}: ended {count} processes that an earlier one left behind", flush=True)
    # The supervisor makes each process the leader of a group of its own, and exec keeps both.
    Group.own().note(note)
    os.chdir(program["directory"])
    os.execvpe(program["command"][0], program["command"], program["environment"])  # noqa: S606  # no shell is meant


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
