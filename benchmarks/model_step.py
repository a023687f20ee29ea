"""The network alone, on a prepared batch of one: the same weights in every runtime.

usage: python -m benchmarks.model_step RUN PHOTOS
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from fastai.vision.all import Learner

from petinfer import Classifier

from . import learner
from .conversions import Conversions
from .measurement import Contender, Findings, Row, Seconds, differing, fastest, in_turn, row_of
from .photos import photos_below, spread
from .question import command, thread_counts

QUESTION = "model step"
COMPARED = 48  # photos whose labels are compared before anything is timed

# OpenVINO's names in ours; one that is not known must not pass for fp32.
PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


def ask(forms: Conversions, rounds: int) -> Findings:
    """Time the network alone on a prepared batch of one, in every runtime."""
    findings = Findings()
    learn = learner.load(forms.run)
    photos = spread(photos_below(forms.photos), COMPARED)
    expected = learner.decisions(learn, photos)
    see = Classifier(forms.run / "onnx" / "model-fp32.onnx", orientation="stored")
    images = [see.pixels(photo) for photo in photos]
    for threads in thread_counts():
        torch.set_num_threads(threads)
        torch.compiler.reset()  # compiled code keeps the number of threads that it was compiled for
        contenders = field_of_contenders(forms, learn, threads, findings)
        differ = {each.title: differing(each, images, expected) for each in contenders}
        seconds = in_turn(contenders, images, rounds, f"{QUESTION}, threads {threads}")
        findings.rows += rows_of(contenders, seconds, differ, threads, len(images))
    return findings


def field_of_contenders(forms: Conversions, learn: Learner, threads: int, findings: Findings) -> list[Contender]:
    """Everybody who can take part here, at this number of threads."""
    own = [by_petinfer(forms, threads, precision) for precision in ("int8", "fp32")]
    builds = {
        "onnxruntime": lambda: by_onnxruntime(forms, learn, threads),
        "torch eager": lambda: by_torch(learn, "torch eager", learn.model),
        "torch.compile": lambda: by_torch(learn, "torch.compile", torch.compile(learn.model)),
        "OpenVINO fp32": lambda: by_openvino("OpenVINO", forms.run / "onnx" / "model-fp32.onnx", threads, "f32"),
        "OpenVINO at its default precision": lambda: by_openvino(
            "OpenVINO", forms.run / "onnx" / "model-fp32.onnx", threads
        ),
        "OpenVINO int8 (nncf)": lambda: by_openvino(
            "OpenVINO (nncf)", forms.path("openvino_int8"), threads, called="int8"
        ),
        "OpenVINO int8 (petinfer's file)": lambda: by_openvino(
            "OpenVINO (petinfer's file)", forms.run / "onnx" / "model-int8.onnx", threads, called="int8"
        ),
        "ncnn": lambda: by_ncnn(forms, learn, threads),
    }
    rivals = [each for name, build in builds.items() for each in findings.attempt(name, build)]
    return list({each.title: each for each in reversed(own + rivals)}.values())[::-1]  # OpenVINO's default may be fp32


def rows_of(
    contenders: list[Contender], seconds: Seconds, differ: dict[str, int], threads: int, compared: int
) -> list[Row]:
    """Everybody beside the fastest fp32 peer; then petinfer's int8 beside OpenVINO's fastest."""
    peers = [each for each in contenders if each.precision == "fp32" and each.name != "petinfer"]
    openvino = [each for each in contenders if each.precision == "int8" and each.name.startswith("OpenVINO")]
    pairs = [(each, fastest(peers, seconds)) for each in contenders]
    pairs += [(contenders[0], fastest(openvino, seconds))] if openvino else []
    return [
        row_of(QUESTION, each, peer, seconds, threads=threads, answers=compared, differ=differ[each.title])
        for each, peer in pairs
    ]


def by_petinfer(forms: Conversions, threads: int, precision: str) -> Contender:
    """petinfer's own session."""
    classifier = Classifier(forms.run / "onnx" / f"model-{precision}.onnx", threads=threads)
    return Contender(
        "petinfer", precision, lambda batch: classifier.run(batch)[1], prepare=lambda image: image[np.newaxis]
    )


def by_onnxruntime(forms: Conversions, learn: Learner, threads: int) -> Contender:
    """onnxruntime at its defaults on the network as torch exports it."""
    session = plain_session(forms.path("plain_onnx"), threads)
    statistics = learner.statistics_of(learn)
    return Contender(
        "onnxruntime",
        "fp32",
        lambda batch: session.run(None, {"input": batch})[0],
        prepare=lambda image: learner.normalise(image, statistics),
    )


def plain_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session as onnxruntime's tutorials open it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def by_torch(learn: Learner, name: str, model: Callable[[Any], Any]) -> Contender:
    """The Learner's network, as it is or compiled; a first run compiles."""
    statistics = learner.statistics_of(learn)

    def run(batch: torch.Tensor) -> Any:
        with torch.inference_mode():
            return model(batch).numpy()

    run(torch.zeros(1, 3, 224, 224))
    return Contender(name, "fp32", run, prepare=lambda image: torch.from_numpy(learner.normalise(image, statistics)))


def by_openvino(name: str, path: Path, threads: int, precision: str | None = None, called: str = "") -> Contender:
    """OpenVINO tuned for latency. Without a ``precision`` it takes its default: bf16 on processors that multiply that."""
    import openvino

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision:
        config["INFERENCE_PRECISION_HINT"] = precision
    model = openvino.Core().compile_model(path, "CPU", config)
    request = model.create_infer_request()
    taken = PRECISIONS[model.get_property("INFERENCE_PRECISION_HINT").to_string()]
    return Contender(
        name,
        called or taken,
        lambda batch: request.infer({"image": batch}, share_inputs=True)["logits"],
        prepare=lambda image: image[np.newaxis],
    )


def by_ncnn(forms: Conversions, learn: Learner, threads: int) -> Contender:
    """ncnn, kept from storing in half precision."""
    import ncnn

    path, statistics = forms.path("ncnn"), learner.statistics_of(learn)
    network = ncnn.Net()
    network.opt.num_threads = threads
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    if network.load_param(str(path)) or network.load_model(str(path.with_suffix(".bin"))):
        raise OSError(f"{path}: ncnn cannot load it")

    def run(batch: Any) -> Any:
        with network.create_extractor() as extractor:
            extractor.input("in0", batch)
            return np.array(extractor.extract("out0")[1])

    def prepare(image: Any) -> Any:
        batch = learner.normalise(image, statistics)[0]
        return ncnn.Mat(batch).clone()  # a Mat only borrows the array's memory, which must live until it is copied

    return Contender("ncnn", "fp32", run, prepare)


main = command(ask, "rounds", 50, "Rounds at each number of threads.")

if __name__ == "__main__":
    main()
