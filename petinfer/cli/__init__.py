"""The command line over the public names. Answers go to standard output, everything else to standard error."""

from .app import main as main
