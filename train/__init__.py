"""The training stage: fastai's lesson as a command. See ``python -m train --help``."""
