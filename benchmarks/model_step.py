"""Times the network alone, on a prepared batch of one: the same weights in every runtime.

usage: python -m benchmarks.model_step RUN PHOTOS
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from fastai.vision.all import Learner
from numpy.typing import NDArray

from petinfer import Classifier

from . import learner
from .conversions import Conversions
from .measurement import (
    Contender,
    Findings,
    Row,
    Setting,
    count_different,
    fastest,
    make_row,
    measure_in_turns,
)
from .photos import evenly_spaced, photos_below
from .question import command, thread_counts

QUESTION = "model step"
COMPARED = 48  # photos whose labels are compared before anything is timed

# OpenVINO's names for precisions. An unknown one is an error, so that it cannot pass for fp32.
PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


def ask(conversions: Conversions, rounds: int) -> Findings:
    """Time the network alone on a prepared batch of one, in every runtime."""
    findings = Findings()
    learn = learner.load(conversions.run)
    photos = evenly_spaced(photos_below(conversions.photos), COMPARED)
    expected = learner.decisions(learn, photos)
    classifier = Classifier(conversions.run / "onnx" / "model-fp32.onnx", orientation="stored")
    images = [classifier.pixels(photo) for photo in photos]
    for threads in thread_counts():
        torch.set_num_threads(threads)
        torch.compiler.reset()  # compiled code keeps the number of threads it was compiled with
        contenders = all_contenders(conversions, learn, threads, findings)
        findings.rows += measure(contenders, images, expected, threads, rounds)
    return findings


def measure(
    contenders: list[Contender], images: Sequence[NDArray[np.uint8]], expected: Sequence[int], threads: int, rounds: int
) -> list[Row]:
    """Each contender compared with the fastest fp32 peer, then petinfer's int8 with OpenVINO's fastest int8."""
    differ = {each.title: count_different(each, images, expected) for each in contenders}
    seconds = measure_in_turns(contenders, images, rounds, f"{QUESTION}, threads {threads}")
    peers = [each for each in contenders if each.precision == "fp32" and each.name != "petinfer"]
    openvinos = [each for each in contenders if each.precision == "int8" and each.name.startswith("OpenVINO")]
    pairs = [(each, fastest(peers, seconds)) for each in contenders]
    pairs += [(contenders[0], fastest(openvinos, seconds))] if openvinos else []
    setting = Setting(QUESTION, threads)
    return [make_row(setting, each, peer, seconds, len(images), differ[each.title]) for each, peer in pairs]


def all_contenders(conversions: Conversions, learn: Learner, threads: int, findings: Findings) -> list[Contender]:
    """petinfer, and every rival that can take part with this number of threads."""
    fp32, int8 = (conversions.run / "onnx" / f"model-{precision}.onnx" for precision in ("fp32", "int8"))
    builds = {
        "onnxruntime": lambda: plain_onnxruntime(conversions, learn, threads),
        "torch eager": lambda: torch_network(learn, "torch eager", learn.model),
        "torch.compile": lambda: torch_network(learn, "torch.compile", torch.compile(learn.model)),
        "OpenVINO fp32": lambda: openvino_in_fp("OpenVINO", fp32, threads, "f32"),
        "OpenVINO at its default precision": lambda: openvino_in_fp("OpenVINO", fp32, threads),
        "OpenVINO int8 (nncf)": lambda: openvino_in_int8("nncf", conversions.path("openvino_int8"), threads),
        "OpenVINO int8 (petinfer's file)": lambda: openvino_in_int8("petinfer's file", int8, threads),
        "ncnn": lambda: ncnn_network(conversions, learn, threads),
    }
    own = [petinfer(path, threads, precision) for precision, path in (("int8", int8), ("fp32", fp32))]
    rivals = [each for name, build in builds.items() for each in findings.attempt(name, build)]
    return list({each.title: each for each in reversed(own + rivals)}.values())[::-1]  # OpenVINO's default may be fp32


def petinfer(path: Path, threads: int, precision: str) -> Contender:
    """petinfer's own session."""
    classifier = Classifier(path, threads=threads)
    return Contender("petinfer", precision, lambda batch: classifier.run(batch)[1], prepare=_batch_of_one)


def _batch_of_one(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[np.newaxis]


def plain_onnxruntime(conversions: Conversions, learn: Learner, threads: int) -> Contender:
    """onnxruntime with its defaults, on the network as torch exports it."""
    session = plain_session(conversions.path("plain_onnx"), threads)
    statistics = learner.statistics_of(learn)
    return Contender(
        "onnxruntime",
        "fp32",
        lambda batch: session.run(None, {"input": batch})[0],
        prepare=lambda image: learner.normalise(image, statistics),
    )


def plain_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """A session opened as in onnxruntime's tutorials."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def torch_network(learn: Learner, name: str, model: Callable[[Any], Any]) -> Contender:
    """The Learner's network, eager or compiled; a first run compiles it."""
    statistics = learner.statistics_of(learn)

    def run(batch: torch.Tensor) -> Any:
        with torch.inference_mode():
            return model(batch).numpy()

    run(torch.zeros(1, 3, 224, 224))
    return Contender(name, "fp32", run, prepare=lambda image: torch.from_numpy(learner.normalise(image, statistics)))


def openvino_in_fp(name: str, path: Path, threads: int, precision: str | None = None) -> Contender:
    """OpenVINO on an fp32 file. Without a ``precision``, its default: bf16 on processors that multiply bf16."""
    model = openvino_model(path, threads, precision)
    used = PRECISIONS[model.get_property("INFERENCE_PRECISION_HINT").to_string()]
    return Contender(name, used, _openvino_run(model), prepare=_batch_of_one)


def openvino_in_int8(source: str, path: Path, threads: int) -> Contender:
    """OpenVINO on an int8 file."""
    model = openvino_model(path, threads)
    return Contender(f"OpenVINO ({source})", "int8", _openvino_run(model), prepare=_batch_of_one)


def openvino_model(path: Path, threads: int, precision: str | None = None) -> Any:
    """A file compiled by OpenVINO for low latency on the CPU."""
    import openvino

    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    if precision:
        config["INFERENCE_PRECISION_HINT"] = precision
    return openvino.Core().compile_model(path, "CPU", config)


def _openvino_run(model: Any) -> Callable[[Any], Any]:
    request = model.create_infer_request()
    return lambda batch: request.infer({"image": batch}, share_inputs=True)["logits"]


def ncnn_network(conversions: Conversions, learn: Learner, threads: int) -> Contender:
    """ncnn in fp32; by default it would store values in half precision."""
    import ncnn

    path, statistics = conversions.path("ncnn"), learner.statistics_of(learn)
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
        return ncnn.Mat(batch).clone()  # a Mat only borrows the array's memory, so it must be copied

    return Contender("ncnn", "fp32", run, prepare)


main = command(ask, "rounds", 50, "Rounds for each number of threads.")

if __name__ == "__main__":
    main()
