"""Each contender has its own process; one that fails does not stop the others, and none computes while it waits."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from benchmarks.measurement import Contender, ContenderError, Findings
from benchmarks.turns import Turns, load, measure_in_turns, rest, started
from benchmarks.worker import Worker

from . import simple_contenders as simple


@pytest.fixture
def worker() -> Iterator[Worker]:
    started = Worker(simple.parity)
    yield started
    started.close()


def test_a_worker_answers_and_measures(worker: Worker) -> None:
    worker.load([3, 4])
    assert (worker.title, worker.answers()) == ("parity fp32", [1, 0])
    assert worker.measure(0) > 0
    assert worker.answer() == 1


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (simple.refusing, "ValueError: 3 is refused"),
        (simple.crashing, "its process ended with signal SIGKILL"),
        (simple.hanging, "no answer within 0.5 s"),
    ],
)
def test_a_failed_query_is_one_error_and_ends_the_process(build: Callable[[], Contender], reason: str) -> None:
    failing = Worker(build, answering=0.5)
    with pytest.raises(ContenderError, match=f"^{reason}$"):
        failing.load([3])
    with pytest.raises(ContenderError):
        failing.answers()


def test_a_missing_package_is_named() -> None:
    with pytest.raises(ContenderError, match=r"^rival is not installed$"):
        Worker(simple.missing)


def test_a_failing_contender_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    findings = Findings()
    builds = {"parity": simple.parity, "crashing": simple.crashing, "rival": simple.missing, "another": simple.another}
    with started(builds, findings) as workers:
        seconds = measure_in_turns(Turns(load(workers, [3, 4], findings), findings), 2, 3, "test")
    assert {title: len(taken) for title, taken in seconds.items()} == {"parity fp32": 3, "another fp32": 3}
    assert findings.skipped == [
        "rival: skipped: rival is not installed",
        "crashing fp32: skipped: its process ended with signal SIGKILL",
    ]


def test_one_that_fails_in_its_turn_is_left_out_of_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    findings = Findings()
    with started({"parity": simple.parity, "hanging": simple.hanging}, findings, answering=0.5) as workers:
        loaded = load(workers, [3], findings, warm_up=0)
        seconds = measure_in_turns(Turns(loaded, findings), 1, 2, "test")
    assert list(seconds) == ["parity fp32"]
    assert findings.skipped == ["hanging fp32: skipped: no answer within 0.5 s"]


def test_the_one_that_others_are_compared_with_must_not_fail() -> None:
    with pytest.raises(ContenderError, match=r"^lost fp32: failed, and the others are compared with it"):
        Turns([], Findings()).find("lost fp32")


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a process's CPU time cannot be read, and each is stopped"
)
def test_a_waiting_worker_uses_no_cpu_time(worker: Worker) -> None:
    findings = Findings()
    worker.load([3])
    rest(worker, findings)
    before = worker.cpu_seconds()
    with started({"another": simple.another}, findings):
        assert worker.cpu_seconds() - before < 0.005
    assert findings.notes == []


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a process's CPU time cannot be read, and each is stopped"
)
def test_one_that_polls_is_stopped_until_its_turn(capsys: pytest.CaptureFixture[str]) -> None:
    findings = Findings()
    with started({"polling": simple.polling}, findings) as (polling,):
        assert polling.stopped
        before = polling.cpu_seconds()
        with started({"another": simple.another}, findings):
            assert polling.cpu_seconds() - before < 0.005  # a signal takes a moment
        polling.load([3])
        assert not polling.stopped
    (note,) = findings.notes
    assert note.startswith("polling fp32: computes for over 0.3 s after an answer")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process's CPU time cannot be read")
def test_one_that_computes_during_other_turns_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    findings = Findings()
    with started({"parity": simple.parity, "polling": simple.polling}, findings) as workers:
        turns = Turns(load(workers, [3], findings), findings)
        workers[1].load([3])  # continues it, and no rest follows
        for _ in range(20_000):  # until the system gives it a core
            turns.take(workers[0], 0, resting=False)
            turns.report()
            if len(findings.notes) > 1:
                break
    assert any(line.startswith("polling fp32: used ") and line.endswith("are too long") for line in findings.notes)
