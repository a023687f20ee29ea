"""Measures how long a photo takes on this machine."""
