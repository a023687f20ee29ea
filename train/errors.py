"""What the training stage raises for a person to read: one line, ``<what>: <problem> (<remedy>)``."""


class TrainingError(Exception):
    """Training cannot start or go on: no photos, a wrong weights file, no network to fetch from."""
