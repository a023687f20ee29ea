"""The Gradio page: its answers through the API, and the page itself in headless Chromium."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from petinfer import Classifier

from .conftest import Program

pytest.importorskip("gradio", reason="pip install -r examples/requirements.txt")
import gradio_client


@pytest.fixture(scope="module")
def url(start: Callable[..., Program]) -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    program = start(sys.executable, "examples/gradio_page.py", GRADIO_SERVER_PORT=port, HF_HUB_OFFLINE="1")
    return program.wait_for(r"http://127\.0\.0\.1:\d+")[0]


def test_answers_are_those_of_the_file_as_it_was_sent(url: str, cat_photo: Path, lying_photo: Path) -> None:
    client = gradio_client.Client(url, verbose=False)
    for photo in (cat_photo, lying_photo):
        answer = client.predict(gradio_client.handle_file(str(photo)), api_name="/classify")
        shown = {each["label"]: each["confidence"] for each in answer["confidences"]}
        assert shown == Classifier().predict(photo).probabilities


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=quiet)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.route(lambda address: not address.startswith(url), lambda route: route.abort())  # fonts from elsewhere
    page.goto(url)
    yield page
    page.close()


def test_a_visitor_sees_the_class_of_a_photo(page: Any, cat_photo: Path) -> None:
    page.set_input_files("input[type=file]", cat_photo)
    page.get_by_role("button", name="Submit").click()
    page.get_by_text(f"{Classifier().predict(cat_photo).probability:.0%}").first.wait_for()
    assert page.locator("h2").inner_text().strip() == "cat"


def test_a_visitor_sees_why_a_file_is_no_photo(page: Any, cat_photo: Path, tmp_path: Path) -> None:
    (tmp_path / "half.jpg").write_bytes(cat_photo.read_bytes()[:9000])
    page.set_input_files("input[type=file]", tmp_path / "half.jpg")
    page.get_by_role("button", name="Submit").click()
    page.get_by_text("cannot be read").first.wait_for()
