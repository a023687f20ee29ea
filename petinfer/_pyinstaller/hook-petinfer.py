"""Run by PyInstaller for every program that imports petinfer."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

datas = collect_data_files("petinfer")
hiddenimports = collect_submodules("petinfer", filter=lambda name: "_pyinstaller" not in name)
