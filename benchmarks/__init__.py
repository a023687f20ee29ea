"""Measures petinfer and its alternatives in the same run. One script per question; each checks the answers that it times."""
