"""A bounded load test of fastapi_service.py, on this machine only: each client sends a photo, waits for the answer, goes on.

python examples/load_test.py http://127.0.0.1:8000/classify docs/chelsea.jpg --clients 8 --requests 400
"""

import argparse
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from statistics import quantiles
from typing import Any
from urllib.parse import SplitResult, urlsplit


def client(url: SplitResult, photo: bytes, requests: int, stop: float) -> list[tuple[int, float]]:
    """Send the photo until there are enough answers or it is time to stop; return each one's status and seconds."""
    connection = HTTPConnection(str(url.hostname), url.port, timeout=60)
    answers: list[tuple[int, float]] = []
    while len(answers) < requests and time.perf_counter() < stop:
        start = time.perf_counter()
        try:
            connection.request("POST", url.path, photo)
            response = connection.getresponse()
            response.read()
            status, pause = response.status, float(response.headers.get("Retry-After", 0))
        except (OSError, HTTPException):
            connection.close()
            status, pause = 0, 0.1
        answers.append((status, time.perf_counter() - start))
        time.sleep(min(pause, max(0, stop - time.perf_counter())))  # as the 503 asks
    return answers


def load(url: str, photo: bytes, clients: int, requests: int, seconds: float = 60) -> dict[str, Any]:
    """What the clients got: answers per second, how many of each status, and the quantiles of the answers with 200."""
    target = urlsplit(url)
    if target.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise SystemExit(f"{url}: not this machine (a load test is for your own server, on loopback)")
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        jobs = [pool.submit(client, target, photo, requests // clients, start + seconds) for _ in range(clients)]
        answers = [answer for job in jobs for answer in job.result()]
    elapsed, statuses = time.perf_counter() - start, Counter(status for status, _ in answers)
    ranks = quantiles([1000 * each for status, each in answers if status == 200] or [0, 0], n=100, method="inclusive")
    errors = len(answers) - statuses[200] - statuses[503]
    return {"answers_per_second": round(statuses[200] / elapsed, 1), "errors": errors, "statuses": dict(statuses),
            "p50_ms": round(ranks[49]), "p99_ms": round(ranks[98])}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url"), parser.add_argument("photo", type=Path)
    parser.add_argument("--clients", type=int, default=8), parser.add_argument("--requests", type=int, default=400)
    options = parser.parse_args()
    print(json.dumps(load(options.url, options.photo.read_bytes(), options.clients, options.requests)))
