"""The command as a process: what is on the way to the first answer, in the order that gets there soonest."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .device import Opening


def run() -> None:
    """Run the command, and leave when it is done: taking numpy and onnxruntime apart takes 30 ms more."""
    gc.set_threshold(100_000)  # modules that load leave little garbage, and looking for it costs 10 ms
    # numpy multiplies nothing here, and the threads that it would start spin
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # it is ignored in the background
    if interruptible:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # a KeyboardInterrupt would tear an import apart
    opening = _begin(sys.argv[1:])
    from .cli import main

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 0
    try:
        main(obj=opening)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:  # of a closed pipe, click told already
            os.write(2, f"Error: cannot write: {error.strerror} (check where the answers go)\n".encode())
            status = 2
    os._exit(status)


def _begin(arguments: list[str]) -> Opening | None:
    """The bundled model's session, which opens while click and the rest load; None where that is not what is asked for."""
    others = ("--model", "--device", "--threads", "--help", "-h")
    if len(arguments) < 2 or arguments[0] != "classify" or any(each.startswith(others) for each in arguments):
        return None
    from .classifier import begin

    return begin()


if __name__ == "__main__":
    run()
