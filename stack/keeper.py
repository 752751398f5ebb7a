"""Runs one command and ends it when our standard input ends: `python -m stack.keeper COMMAND …`.

A parent that is killed cannot tidy up, but the kernel closes its end of the pipe. Where Linux can
do it, the command also dies with this process, should this one be killed instead.
"""

import ctypes
import signal
import subprocess
import sys
import threading

PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def keep(command: list[str]) -> int:
    """Run `command` until it ends or stdin does; the command's exit code."""
    child = subprocess.Popen(  # noqa: S603 - our own command
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - no threads yet
    )
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())

    def end_with_stdin() -> None:
        sys.stdin.buffer.read()
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()

    threading.Thread(target=end_with_stdin, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(keep(sys.argv[1:]))
