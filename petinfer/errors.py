"""What petinfer raises. Each message is one line: ``<what>: <problem> (<remedy>)``.

::

    PetinferError
    ├── PhotoError    this photo cannot be read
    ├── ModelError    this file is not a model of ours, or is damaged
    └── DeviceError   the provider or the thread count asked for cannot be had
"""


class PetinferError(Exception):
    """Everything that petinfer raises by itself."""


class PhotoError(PetinferError):
    """A photo is missing, damaged, or of a format that petinfer does not read."""


class ModelError(PetinferError):
    """A model file is missing, damaged, or does not describe itself as petinfer's models do."""


class DeviceError(PetinferError):
    """A provider or a number of threads was asked for that this machine cannot give."""
