"""petinfer's exceptions. Each message is one line: ``<what>: <problem> (<remedy>)``.

::

    PetinferError
    ├── PhotoError    this photo cannot be read
    ├── ModelError    this file is damaged, or petinfer did not write it
    └── DeviceError   the requested device or number of threads is not available
"""


class PetinferError(Exception):
    """The base class of petinfer's exceptions."""


class PhotoError(PetinferError):
    """A photo is missing, damaged, too large, or in a format that petinfer does not read."""


class ModelError(PetinferError):
    """A model file is missing or damaged, or has no description for petinfer."""


class DeviceError(PetinferError):
    """The requested device or number of threads is not available on this machine."""
