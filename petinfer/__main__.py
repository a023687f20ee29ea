"""The command ``petinfer`` as a process: loads what the first answer needs, in the order that is fastest."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys


def run() -> None:
    """Run the command, then exit without unloading numpy and onnxruntime, which would take 30 ms."""
    gc.set_threshold(100_000)  # loading modules leaves little garbage, and each search for it costs 10 ms
    # numpy multiplies nothing here, and the threads that it would start keep polling
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # background jobs ignore it
    if interruptible:
        signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # a KeyboardInterrupt would break imports half-way
    _load_early(sys.argv[1:])
    from .cli import main

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    status = 0
    try:
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except OSError as error:  # while click writes its help
        status = _cannot_write(error)
    os._exit(_flush() or status)


def _load_early(arguments: list[str]) -> None:
    """Start to open the bundled model where `classify` will probably need it, and load numpy and Pillow meanwhile."""
    if arguments[:1] != ["classify"] or not arguments[1:] or {"-h", "--help"} & set(arguments):
        return
    if not any(each.startswith(("--model", "--device", "--threads")) for each in arguments):
        from .session.opening import open_early

        open_early()
    from . import classifier, image  # noqa: F401

    image.load_decoders()


def _flush() -> int:
    """Write what is buffered; returns the exit status of a failure, 0 otherwise."""
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except OSError as error:
        if error.errno != errno.EPIPE:  # click has handled a closed pipe
            return _cannot_write(error)
    return 0


def _cannot_write(error: OSError) -> int:
    """Say so on standard error; returns the exit status."""
    os.write(2, f"Error: cannot write: {error.strerror} (check where the answers go)\n".encode())
    return 2


if __name__ == "__main__":
    run()
