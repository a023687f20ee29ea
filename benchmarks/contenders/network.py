"""The network alone, on a batch of one that is prepared before the clock starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..measurement import Contender
from .normalisation import Statistics, normalise

# OpenVINO's names for precisions. An unknown one is an error, so that it cannot pass for fp32.
PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16"}


def petinfer(path: Path, threads: int, precision: str) -> Contender:
    """petinfer's own session."""
    from petinfer import Classifier

    classifier = Classifier(path, threads=threads)
    return Contender("petinfer", precision, lambda batch: classifier.run(batch)[1], prepare=_batch_of_one)


def _batch_of_one(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return image[np.newaxis]


def plain_onnxruntime(path: Path, statistics: Statistics, threads: int) -> Contender:
    """onnxruntime with its defaults, on the network as torch exports it."""
    session = plain_session(path, threads)
    return Contender(
        "onnxruntime",
        "fp32",
        lambda batch: session.run(None, {"input": batch})[0],
        prepare=lambda image: normalise(image, statistics),
    )


def plain_session(path: Path, threads: int) -> Any:
    """A session opened as in onnxruntime's tutorials."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def torch_network(run: Path, statistics: Statistics, threads: int, compiled: bool) -> Contender:
    """The Learner's network, eager or compiled; a first run compiles it."""
    import torch

    from .. import learner

    torch.set_num_threads(threads)
    network = learner.load(run).model
    model = torch.compile(network) if compiled else network

    def infer(batch: torch.Tensor) -> Any:
        with torch.inference_mode():
            return model(batch).numpy()

    infer(torch.zeros(1, 3, 224, 224))
    name = "torch.compile" if compiled else "torch eager"
    return Contender(name, "fp32", infer, prepare=lambda image: torch.from_numpy(normalise(image, statistics)))


def openvino_in_fp(path: Path, threads: int, precision: str | None = None) -> Contender:
    """OpenVINO on an fp32 file. Without a ``precision``, its default: bf16 on processors that multiply bf16."""
    model = openvino_model(path, threads, precision)
    used = PRECISIONS[model.get_property("INFERENCE_PRECISION_HINT").to_string()]
    return Contender("OpenVINO", used, _openvino_run(model), prepare=_batch_of_one)


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


def ncnn_network(path: Path, precision: str, statistics: Statistics, threads: int) -> Contender:
    """ncnn; by default it would store an fp32 network's values in half precision."""
    import ncnn

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
        batch = normalise(image, statistics)[0]
        return ncnn.Mat(batch).clone()  # a Mat only borrows the array's memory, so it must be copied

    return Contender("ncnn", precision, run, prepare)


def executorch_network(path: Path, precision: str, statistics: Statistics, threads: int) -> Contender:
    """ExecuTorch's runtime with XNNPACK."""
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    portable_lib._unsafe_reset_threadpool(threads)
    method = Runtime.get().load_program(path).load_method("forward")
    return Contender(
        "ExecuTorch",
        precision,
        lambda batch: method.execute([batch])[0].numpy(),
        prepare=lambda image: torch.from_numpy(normalise(image, statistics)),
    )


def litert_network(path: Path, precision: str, statistics: Statistics, threads: int) -> Contender:
    """LiteRT's interpreter, which uses XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(str(path), num_threads=threads).get_signature_runner()
    ((argument, details),), (answer,) = run.get_input_details().items(), run.get_output_details()

    def prepare(image: NDArray[np.uint8]) -> NDArray[Any]:
        batch = normalise(image, statistics)
        if details["dtype"] is np.float32:
            return batch
        scale, zero_point = details["quantization"]
        quantized: NDArray[Any] = np.clip(np.rint(batch / scale + zero_point), -128, 127).astype(details["dtype"])
        return quantized

    return Contender("LiteRT", precision, lambda batch: run(**{argument: batch})[answer], prepare)


def onnx_file(name: str, path: Path, threads: int) -> Contender:
    """A file that takes ``image`` and gives ``logits``, with petinfer's session options; it decides the logits."""
    import onnxruntime

    from petinfer.session.opening import session_options

    session = onnxruntime.InferenceSession(path, session_options(threads), providers=["CPUExecutionProvider"])
    return Contender(name, "", _logits_of(session), prepare=_batch_of_one, decide=lambda logits: logits[0].tolist())


def _logits_of(session: Any) -> Callable[[Any], Any]:
    return lambda batch: session.run(["logits"], {"image": batch})[0]


def all_outputs(name: str, path: Path, threads: int) -> Contender:
    """petinfer's session, which computes every output of the file."""
    import onnxruntime

    from petinfer.session.opening import session_options

    session = onnxruntime.InferenceSession(path, session_options(threads), providers=["CPUExecutionProvider"])
    return Contender(name, "", lambda batch: session.run(None, {"image": batch})[1], prepare=_batch_of_one)


def spinning(name: str, path: Path, threads: int, entries: dict[str, str]) -> Contender:
    """petinfer's session, whose idle threads poll as ``entries`` say: ``session.intra_op.`` options of onnxruntime."""
    import onnxruntime

    from petinfer.session.opening import session_options

    onnxruntime.set_default_logger_severity(4)  # it warns that a value is replaced
    options = session_options(threads)
    for key, value in entries.items():
        options.add_session_config_entry(f"session.intra_op.{key}", value)  # replaces petinfer's value
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return Contender(name, "", _logits_of(session), prepare=_batch_of_one)
