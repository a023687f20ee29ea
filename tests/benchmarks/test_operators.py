"""The time of each kind of operator, from onnxruntime's own profile."""

from __future__ import annotations

from benchmarks.operators import main, profile
from petinfer.session.opening import BUNDLED_MODEL

from ..conftest import cli_runner


def test_the_profile_has_every_convolution() -> None:
    found = profile(BUNDLED_MODEL, 1, 3)
    assert found["QLinearConv"].operations == 36
    assert found["QLinearConv"].microseconds == max(each.microseconds for each in found.values()) > 0


def test_the_table_ends_with_the_sum_of_all() -> None:
    result = cli_runner().invoke(main, ["--runs", "2", "--model", "lite"])
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.output.splitlines()[-2:]] == ["others", "all"]
