"""The export stage: a Learner becomes one model file that proves to answer alike. See ``python -m export --help``."""
