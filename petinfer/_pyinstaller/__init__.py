"""PyInstaller's hook for petinfer: its model and golden photos, and the modules that are imported on first use."""

from pathlib import Path


def hook_folders() -> list[str]:
    """The folders that PyInstaller searches for hooks."""
    return [str(Path(__file__).parent)]
