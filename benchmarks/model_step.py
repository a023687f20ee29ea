"""Times the network alone, on a prepared batch of one: the same weights in every runtime.

usage: python -m benchmarks.model_step RUN PHOTOS
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from petinfer import Classifier

from . import learner
from .contenders import network
from .contenders.normalisation import Statistics
from .conversions import Conversions
from .measurement import Contender, ContenderError, Findings, Row, Setting, count_different, fastest, make_row
from .photos import evenly_spaced, photos_below
from .question import command, thread_counts
from .turns import Recipes, Turns, load, measure_in_turns, started
from .worker import Build

QUESTION = "model step"
COMPARED = 48  # photos whose labels are compared before anything is timed


def ask(conversions: Conversions, rounds: int) -> Findings:
    """Time the network alone on a prepared batch of one, in every runtime."""
    findings = Findings()
    learn = learner.load(conversions.run)
    statistics = learner.statistics_of(learn)
    photos = evenly_spaced(photos_below(conversions.photos), COMPARED)
    expected = learner.decisions(learn, photos)
    images = prepared_images(conversions, len(photos))
    for threads in thread_counts():
        with started(recipes(conversions, statistics, threads, findings), findings) as workers:
            turns = Turns(load(workers, images, findings), findings)
            findings.rows += measure(turns, expected, threads, rounds)
    return findings


def prepared_images(conversions: Conversions, number: int) -> list[NDArray[np.uint8]]:
    """The network's input for ``number`` of the photos, uint8 [height, width, 3] each."""
    classifier = Classifier(conversions.run / "onnx" / "model-fp32.onnx", orientation="stored")
    return [classifier.pixels(photo) for photo in evenly_spaced(photos_below(conversions.photos), number)]


def measure(turns: Turns, expected: Sequence[int], threads: int, rounds: int) -> list[Row]:
    """Each contender compared with the fastest fp32 peer, then petinfer's int8 with OpenVINO's fastest int8."""
    differ = compare_answers(turns, expected)
    seconds = measure_in_turns(turns, len(expected), rounds, f"{QUESTION}, threads {threads}")
    measured = turns.workers
    peers = [each for each in measured if each.precision == "fp32" and each.name != "petinfer"]
    openvinos = [each for each in measured if each.precision == "int8" and each.name.startswith("OpenVINO")]
    if not peers:
        raise ContenderError("every fp32 peer failed, and the others are compared with the fastest (see above)")
    pairs = [(each, fastest(peers, seconds)) for each in measured]
    pairs += [(each, fastest(openvinos, seconds)) for each in measured if openvinos and each.title == "petinfer int8"]
    setting = Setting(QUESTION, threads)
    return [make_row(setting, each, peer, seconds, len(expected), differ[each.title]) for each, peer in pairs]


def compare_answers(turns: Turns, expected: Sequence[int]) -> dict[str, int]:
    """How many of its classes are not the Learner's, by contender. One that fails takes no turns."""
    differ = {}
    for each in [*turns.workers]:
        for found in turns.findings.attempt(each.title, each.answers):
            differ[each.title] = count_different(each, found, expected)
    turns.workers = [each for each in turns.workers if each.title in differ]
    return differ


def recipes(conversions: Conversions, statistics: Statistics, threads: int, findings: Findings) -> Recipes:
    """What builds petinfer and every rival, by name; without those whose file cannot be converted."""
    fp32, int8 = (conversions.run / "onnx" / f"model-{precision}.onnx" for precision in ("fp32", "int8"))
    convert, run = conversions.path, conversions.run

    def mobile(build: Callable[..., Contender], name: str, precision: str) -> Build:
        return partial(build, convert(f"{name}_{precision}"), precision, statistics, threads)

    plans: dict[str, Callable[[], Build]] = {
        "petinfer int8": lambda: partial(network.petinfer, int8, threads, "int8"),
        "petinfer fp32": lambda: partial(network.petinfer, fp32, threads, "fp32"),
        "onnxruntime": lambda: partial(network.plain_onnxruntime, convert("plain_onnx"), statistics, threads),
        "torch eager": lambda: partial(network.torch_network, run, statistics, threads, compiled=False),
        "torch.compile": lambda: partial(network.torch_network, run, statistics, threads, compiled=True),
        "OpenVINO fp32": lambda: partial(network.openvino_in_fp, fp32, threads, "f32"),
        "OpenVINO at its default precision": lambda: partial(network.openvino_in_fp, fp32, threads),
        "OpenVINO int8 (nncf)": lambda: partial(network.openvino_in_int8, "nncf", convert("openvino_int8"), threads),
        "OpenVINO int8 (petinfer's file)": lambda: partial(network.openvino_in_int8, "petinfer's file", int8, threads),
        "ncnn": lambda: partial(network.ncnn_network, convert("ncnn"), "fp32", statistics, threads),
        "ncnn int8": lambda: partial(network.ncnn_network, convert("ncnn_int8"), "int8", statistics, threads),
        "ExecuTorch fp32": lambda: mobile(network.executorch_network, "executorch", "fp32"),
        "ExecuTorch int8": lambda: mobile(network.executorch_network, "executorch", "int8"),
        "LiteRT fp32": lambda: mobile(network.litert_network, "litert", "fp32"),
        "LiteRT int8": lambda: mobile(network.litert_network, "litert", "int8"),
    }
    return {name: build for name, plan in plans.items() for build in findings.attempt(name, plan)}


main = command(ask, "rounds", 50, "Rounds for each number of threads.")

if __name__ == "__main__":
    main()
