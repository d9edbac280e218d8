"""Starts a program that does not outlive its parent: `python -m crossfade.child PARENT_PID PROGRAM ARGUMENT...`.

On Linux the kernel ends the program with SIGKILL when the parent goes, whatever ends the parent. Elsewhere nothing
does, and the next start ends what is left.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def with_parent(command: Sequence[str]) -> list[str]:
    """The command, bound to the life of the calling process. To be started from its main thread only."""
    if not sys.platform.startswith("linux"):
        return list(command)
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> None:
    """Binds this process to its parent and becomes the program."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we were bound to it
        sys.exit(1)
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming another program is the purpose
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main()
