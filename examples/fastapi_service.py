"""A web service: POST a photo, get its classes as JSON. A full worker answers 503 instead of letting requests queue up.

uvicorn --app-dir examples fastapi_service:app --workers 2     # one per core: each computes with one thread
curl --data-binary @docs/chelsea.jpg http://127.0.0.1:8000/classify
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from prometheus_fastapi_instrumentator import Instrumentator
from starlette.requests import ClientDisconnect

from petinfer import Classifier, PhotoError

PLACES, BYTES, PIXELS, UPLOAD_SECONDS = 8, 10_000_000, 25_000_000, 30
clf = Classifier(os.environ.get("PETINFER_MODEL"), threads=1, max_bytes=BYTES, max_pixels=PIXELS)
pool = ThreadPoolExecutor(1)  # apart from the thread that accepts requests and answers /health
places = asyncio.Semaphore(PLACES)  # for this worker's photos, from the first byte of the upload to the answer
app = FastAPI(title="petinfer")
Instrumentator(should_group_status_codes=False).instrument(app).expose(app)  # /metrics: requests by path and status


@app.post("/classify", openapi_extra={"requestBody": {"content": {"image/*": {}}, "required": True}})
async def classify(request: Request) -> dict[str, Any]:
    """Classify the photo in the request's body. With `UploadFile`, FastAPI would read all of it before this starts."""
    if places.locked():
        raise HTTPException(503, "all places are taken, try again", {"Retry-After": "1"})
    async with places:
        content = await body(request)
        try:
            prediction = await asyncio.get_running_loop().run_in_executor(pool, clf.predict, content)
        except PhotoError as error:
            raise HTTPException(422, str(error)) from None
    return asdict(prediction)


async def body(request: Request) -> bytes:
    """The request's body, given up as soon as it is over the limit or takes too long."""
    content = bytearray()
    try:
        async with asyncio.timeout(UPLOAD_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > BYTES:
                    raise HTTPException(413, f"the photo is over the limit of {BYTES:,} bytes")
    except (TimeoutError, ClientDisconnect):
        raise HTTPException(408, f"the upload took more than {UPLOAD_SECONDS} s, or was broken off") from None
    return bytes(content)


@app.get("/health")
async def health() -> dict[str, str]:
    """Which model answers; comes from the event loop, so also while photos are computed."""
    return {"status": "ok", "model": clf.spec.sha256, "provider": clf.provider}
