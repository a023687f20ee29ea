"""The error of the training stage, for a person to read: one line, ``<what>: <problem> (<remedy>)``."""


class TrainingError(Exception):
    """Training cannot start or continue: no photos, unsuitable weights, no network to download from."""


def one_line(error: Exception) -> str:
    """The message of another library's exception, as one line of at most 160 characters."""
    return " ".join(str(error).split())[:160]
