"""The FastAPI service: answers, limits, a full worker, load, metrics and a graceful stop."""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
import sys
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from petinfer import Classifier

from .conftest import Program

for package in ("fastapi", "uvicorn", "prometheus_fastapi_instrumentator"):
    pytest.importorskip(package, reason="pip install -r examples/requirements.txt")

from examples import fastapi_service, load_test  # noqa: E402


def started(start: Callable[..., Program], workers: int, **environment: str) -> tuple[Program, int]:
    """A service on a free port of the loopback interface, once its workers are ready, and the port."""
    command = [sys.executable, "-m", "uvicorn", "--app-dir", "examples", "fastapi_service:app", "--port", 0]
    program = start(*command, "--workers", workers, **environment)
    lines = [program.wait_for(r"startup complete|running on http://127\.0\.0\.1:(\d+)") for _ in range(workers + 1)]
    return program, next(int(line[1]) for line in lines if line[1])


@pytest.fixture(scope="module")
def port(start: Callable[..., Program], tmp_path_factory: pytest.TempPathFactory) -> int:
    metrics = str(tmp_path_factory.mktemp("metrics"))
    return started(start, 2, PROMETHEUS_MULTIPROC_DIR=metrics)[1]


def ask(port: int, method: str, path: str, body: Any = None) -> tuple[int, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read().decode()


def test_answers_are_the_classifiers(port: int, cat_photo: Path, lying_photo: Path) -> None:
    for photo in (cat_photo, lying_photo):
        status, answer = ask(port, "POST", "/classify", photo.read_bytes())
        assert (status, json.loads(answer)) == (200, json.loads(json.dumps(vars(Classifier(threads=1).predict(photo)))))


def test_health_names_the_model(port: int) -> None:
    status, answer = ask(port, "GET", "/health")
    assert (status, json.loads(answer)["model"]) == (200, Classifier().spec.sha256)


def test_what_is_not_a_photo_is_422_with_the_reason(port: int) -> None:
    status, answer = ask(port, "POST", "/classify", b"not a photo")
    assert (status, "not a photo in a known format" in answer) == (422, True)


def test_too_many_pixels_are_422(port: int) -> None:
    photo = io.BytesIO()
    Image.new("1", (6000, 5000)).save(photo, "PNG")  # 30 megapixels in 4 kB
    status, answer = ask(port, "POST", "/classify", photo.getvalue())
    assert (status, "over the limit of 25,000,000" in answer) == (422, True)


@pytest.mark.parametrize("chunked", [False, True])
def test_too_many_bytes_are_413(port: int, chunked: bool) -> None:
    body = bytes(fastapi_service.BYTES + 1)
    status, answer = ask(port, "POST", "/classify", iter([body[:7], body[7:]]) if chunked else body)
    assert (status, "over the limit of 10,000,000 bytes" in answer) == (413, True)


def call(receive: Callable[[], Any]) -> list[dict[str, Any]]:
    """What the application sends if called in this process with a body that comes from ``receive``."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/classify", "headers": [], "query_string": b""}
    asyncio.run(fastapi_service.app(scope, receive, send))
    return sent


def test_a_slow_upload_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing_comes() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(fastapi_service, "UPLOAD_SECONDS", 0.01)
    assert call(nothing_comes)[0]["status"] == 408


def test_a_full_worker_answers_503_before_it_reads_the_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    async def must_not_be_read() -> None:
        raise AssertionError("the body was read")

    monkeypatch.setattr(fastapi_service, "places", asyncio.Semaphore(0))
    response = call(must_not_be_read)[0]
    assert (response["status"], dict(response["headers"])[b"retry-after"]) == (503, b"1")


@pytest.fixture
def url(port: int) -> Iterator[str]:
    yield f"http://127.0.0.1:{port}/classify"


def test_as_many_clients_as_places_are_all_answered(url: str, cat_photo: Path) -> None:
    result = load_test.load(url, cat_photo.read_bytes(), fastapi_service.PLACES, 80)
    assert (result["statuses"], result["errors"]) == ({200: 80}, 0), result


def test_beyond_saturation_the_only_refusal_is_503(url: str, cat_photo: Path) -> None:
    result = load_test.load(url, cat_photo.read_bytes(), 6 * fastapi_service.PLACES, 144)
    assert (set(result["statuses"]), result["errors"]) == ({200, 503}, 0), result


def test_metrics_count_the_answers_of_all_workers(port: int, cat_photo: Path) -> None:
    def counted() -> float:
        pattern = r'http_requests_total\{handler="/classify",method="POST",status="200"\} (\S+)'
        return float(re.findall(pattern, ask(port, "GET", "/metrics")[1])[0])

    ask(port, "POST", "/classify", cat_photo.read_bytes())
    before = counted()
    for _ in range(6):
        ask(port, "POST", "/classify", cat_photo.read_bytes())
    assert counted() - before == 6


def test_a_photo_that_is_being_uploaded_at_sigterm_is_answered(start: Callable[..., Program], cat_photo: Path) -> None:
    program, port = started(start, 1)
    photo = cat_photo.read_bytes()
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("POST", "/classify")
    connection.putheader("Content-Length", str(len(photo)))
    connection.endheaders(photo[:1000])
    assert ask(port, "GET", "/health")[0] == 200  # by now the server has the first part
    program.process.send_signal(signal.SIGTERM)
    program.wait_for("Shutting down")
    connection.send(photo[1000:])
    assert json.loads(connection.getresponse().read())["label"] == "cat"
    assert program.process.wait(timeout=60) in (0, -signal.SIGTERM)


def test_the_load_test_refuses_other_hosts() -> None:
    with pytest.raises(SystemExit, match="not this machine"):
        load_test.load("http://192.0.2.1/classify", b"", 1, 1)
