"""A run's report, ``report.html``."""

from .page import RunDetails, write_report

__all__ = ["RunDetails", "write_report"]
