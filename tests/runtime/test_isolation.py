"""No network, no shared state between threads, and faults of files and systems."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from petinfer import Classifier
from petinfer.cli.app import COMMANDS

from ..faults.memory import measure

NO_SOCKETS = """
import socket, sys
def refuse(*_): raise SystemExit("a socket was opened")
socket.socket.__init__ = socket.create_connection = socket.getaddrinfo = refuse
from petinfer.__main__ import run
run()
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify"],
        ["bench", "--queries", "1", "--duration", "0"],
        ["verify"],
        ["verify", "--providers"],
        ["info"],
        ["devices"],
        ["--help"],
        ["--version"],
    ],
    ids=" ".join,
)
def test_no_command_opens_a_socket(arguments: list[str], cat_photo: Path) -> None:
    photo = [str(cat_photo)] if arguments[0] in ("classify", "bench") else []
    command = [sys.executable, "-c", NO_SOCKETS, *arguments, *photo]
    done = subprocess.run(command, capture_output=True, timeout=300, text=True)
    assert (done.returncode, "a socket was opened" in done.stderr) == (0, False), done.stderr


def test_features_opens_no_socket(tmp_path: Path, cat_photo: Path) -> None:
    from .test_limits import limits_model  # here, since it skips where onnx is missing

    model = limits_model(tmp_path / "limits.onnx")  # the bundled one has no features
    command = [sys.executable, "-c", NO_SOCKETS, "features", "--model", model, "--out", tmp_path / "f.npz", cat_photo]
    done = subprocess.run(command, capture_output=True, timeout=300, text=True)
    assert (done.returncode, "a socket was opened" in done.stderr) == (0, False), done.stderr


def test_every_command_is_run_without_sockets() -> None:
    (mark,) = test_no_command_opens_a_socket.pytestmark  # type: ignore[attr-defined]
    assert {arguments[0] for arguments in mark.args[1]} | {"features"} >= set(COMMANDS)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_native_code_opens_no_socket_either(cat_photo: Path, tmp_path: Path) -> None:
    """onnxruntime would send telemetry from threads of its own."""
    command = [
        "strace",
        "-f",
        "-q",
        "-e",
        "trace=socket,connect",
        "-o",
        tmp_path / "trace",
        sys.executable,
        "-m",
        "petinfer",
    ]
    subprocess.run([*command, "classify", cat_photo], check=True, capture_output=True, timeout=300)
    assert "socket(" not in (tmp_path / "trace").read_text()


def test_eight_threads_on_one_classifier_give_the_serial_answers() -> None:
    classifier = Classifier()
    photos = np.random.default_rng(0).integers(0, 256, (12, 30, 40, 3), np.uint8)
    serial = [classifier.predict(photo) for photo in photos]
    with ThreadPoolExecutor(8) as pool:
        runs = list(pool.map(lambda _: [classifier.predict(photo) for photo in photos], range(8)))
    assert all(run == serial for run in runs)


def classify(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "petinfer", "classify", "--jsonl", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, timeout=120, text=True, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root can read every file")
def test_a_file_without_permission_is_one_record(cat_photo: Path, tmp_path: Path) -> None:
    shutil.copy(cat_photo, tmp_path / "secret.jpg")
    (tmp_path / "secret.jpg").chmod(0)
    done = classify(tmp_path / "secret.jpg", cat_photo)
    assert done.returncode == 1
    assert "Permission denied" in json.loads(done.stdout.splitlines()[0])["error"]


def test_broken_links_and_link_loops_are_one_record_each(cat_photo: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    done = classify(tmp_path / "broken.jpg", tmp_path / "loop.jpg", cat_photo)
    errors = [json.loads(line).get("error", "") for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert ["no such file" in errors[0], "symbolic links" in errors[1], errors[2]] == [True, True, ""]


def test_without_home_and_with_a_read_only_one_it_answers(cat_photo: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    for home in ({}, {"HOME": str(tmp_path)}):
        environment = {name: value for name, value in os.environ.items() if name != "HOME"} | home
        assert classify(cat_photo, env=environment).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_photo_that_grows_while_it_is_read_is_answered(cat_photo: Path, tmp_path: Path) -> None:
    """As a camera's file does; what follows a JPEG's end is ignored."""
    shutil.copy(cat_photo, tmp_path / "growing.jpg")
    done = threading.Event()

    def grow() -> None:
        with (tmp_path / "growing.jpg").open("ab") as file:
            while not done.is_set() and file.tell() < 2**27:
                file.write(bytes(2**16))
                file.flush()

    classifier = Classifier()
    expected = classifier.predict(cat_photo)
    writer = threading.Thread(target=grow)
    writer.start()
    try:
        assert [classifier.predict(tmp_path / "growing.jpg") for _ in range(20)] == [expected] * 20
    finally:
        done.set()
        writer.join()


@pytest.mark.slow
def test_ten_thousand_photos_are_one_record_each(cat_photo: Path, tmp_path: Path) -> None:
    """Every hundredth one is missing."""
    for i in range(10_000):
        (tmp_path / f"{i:05}.jpg").symlink_to(cat_photo if i % 100 else tmp_path / "nowhere")
    command = [sys.executable, "-m", "petinfer", "classify", "--jsonl", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, timeout=3600, text=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [Path(record["path"]).name for record in records] == [f"{i:05}.jpg" for i in range(10_000)]
    assert {("error" in record) == (i % 100 == 0) for i, record in enumerate(records)} == {True}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_after_ten_thousand_photos_is_that_after_a_hundred(tmp_path: Path) -> None:
    early, late = measure(tmp_path, 10_000)
    assert late < 1.05 * early


def test_a_photo_that_disappears_is_one_record(cat_photo: Path, tmp_path: Path) -> None:
    """The folder is listed before the photos are read: the last one is removed meanwhile."""
    photos = [tmp_path / f"{i}.jpg" for i in range(40)]
    for photo in photos:
        shutil.copy(cat_photo, photo)
    stream = Classifier().predict_stream(photos)
    first = next(stream)
    photos[-1].unlink()
    rest = list(stream)
    assert [answer == first for answer in rest] == [True] * 38 + [False]
    assert str(rest[-1]) == f"{photos[-1]}: no such file (check the path)"


def test_a_model_that_is_replaced_while_in_use_does_not_change_the_answers(cat_photo: Path, tmp_path: Path) -> None:
    """As a deployment replaces it: written beside, then renamed."""
    path = tmp_path / "model.onnx"
    shutil.copy(Classifier().path, path)
    classifier = Classifier(path)
    expected = classifier.predict(cat_photo)
    (tmp_path / "new").write_bytes(b"another model")
    (tmp_path / "new").replace(path)
    assert classifier.predict(cat_photo) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_after_sigterm_every_line_is_complete(cat_photo: Path) -> None:
    command = [sys.executable, "-m", "petinfer", "classify", "--jsonl", *[str(cat_photo)] * 2000]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        process.send_signal(signal.SIGTERM)
        lines += process.stdout.read().splitlines(keepends=True)
    assert process.returncode == -signal.SIGTERM
    assert {json.loads(line)["label"] for line in lines} == {"cat"}


def test_onnxruntime_is_imported_by_the_thread_that_opens_early() -> None:
    """It imports numpy. When the session's thread did, one start in seven failed half-way through numpy's import."""
    code = "import sys, threading; from petinfer.session.opening import open_early\n"
    code += "threading.Thread.start = lambda self: None; open_early(); print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
