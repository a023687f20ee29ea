"""The command as a process: what is on the way to the first answer, in the order that gets there soonest."""

from __future__ import annotations

import errno
import gc
import os
import sys


def run() -> None:
    """Run the command, and leave when it is done: taking numpy and onnxruntime apart takes 30 ms more."""
    gc.set_threshold(100_000)  # modules that load leave little garbage, and looking for it costs 10 ms
    # numpy multiplies nothing here, and the threads that it would start spin
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.argv[1:2] == ["classify"] and not any(each.startswith(_OTHER_SESSION) for each in sys.argv):
        from .classifier import begin

        begin()  # the session opens while click and the rest load
    from .cli import main

    status = 0
    try:
        main()
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


_OTHER_SESSION = ("--model", "--device", "--threads", "--help", "-h")

if __name__ == "__main__":
    run()
