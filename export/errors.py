"""What the export stage raises for a person to read: one line, ``<what>: <problem> (<remedy>)``."""


class ExportError(Exception):
    """Nothing can be exported: no such Learner, or one that the runtime could not answer for. Exit code 2."""


class ParityError(Exception):
    """The exported file does not answer as the Learner does; it was not put in place. Exit code 1."""
