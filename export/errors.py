"""The export stage's errors. Each message is one line: ``<what>: <problem> (<remedy>)``."""


class ExportError(Exception):
    """The source cannot be read, or petinfer could not answer as it does. Exit code 2."""


class ParityError(Exception):
    """A file does not answer as the Learner does and was not written. Exit code 1."""


def one_line(error: BaseException, length: int = 300) -> str:
    """A foreign exception's type and message on one line."""
    return " ".join(f"{type(error).__name__} {error}".split())[:length]
