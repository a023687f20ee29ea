"""The scores that familiarity is compared with: each by its definition, and the table."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.familiarity_scores import Outputs, main, scores

from ..conftest import REPOSITORY

MODELS = REPOSITORY / "petinfer" / "models"
GOLDEN = str(REPOSITORY / "petinfer" / "golden")


def outputs(seed: int, photos: int = 400, outside: float = 0.1) -> Outputs:
    """Features that vary in 8 of 40 directions, and little in the others; logits of two classes."""
    random = np.random.default_rng(seed)
    features = random.normal(0, outside, (photos, 40))
    features[:, :8] += random.normal(5, 1, (photos, 8))
    return Outputs(features, features[:, :2] * [1, -1])


TRAINED, FAMILIAR, STRANGE = outputs(0), outputs(1), outputs(2, outside=2)


def test_scores_of_logits_are_as_defined() -> None:
    found, logits = scores(TRAINED), FAMILIAR.logits
    assert found["largest logit"](FAMILIAR) == pytest.approx(logits.max(1))
    assert found["energy (arXiv 2010.03759)"](FAMILIAR) == pytest.approx(np.log(np.exp(logits).sum(1)))
    margin = found["margin between the two largest logits"](FAMILIAR)
    assert margin == pytest.approx(np.abs(logits[:, 0] - logits[:, 1]))


def test_nearest_neighbours_are_those_of_all_distances() -> None:
    unit, known = (each.features / np.linalg.norm(each.features, axis=1)[:, None] for each in (FAMILIAR, TRAINED))
    distances = np.square(unit[:, None] - known[None]).sum(2)
    ranked, found = -np.sort(distances, axis=1), scores(TRAINED)
    assert found["tenth nearest neighbour"](FAMILIAR) == pytest.approx(ranked[:, 9])
    assert found["second nearest neighbour (arXiv 2204.06507)"](FAMILIAR) == pytest.approx(ranked[:, 1])


@pytest.mark.parametrize(
    "name",
    [
        "Mahalanobis distance (arXiv 1807.03888)",
        "neighbours and Mahalanobis distance, as in a file",
        "tenth nearest neighbour",
    ],
)
def test_features_in_other_directions_are_less_familiar(name: str) -> None:
    score = scores(TRAINED)[name]
    assert score(STRANGE).max() < np.quantile(score(FAMILIAR), 0.05)


def test_vim_is_energy_less_the_scaled_length_outside_the_principal_space() -> None:
    random = np.random.default_rng(3)
    spread = np.r_[np.full(20, 9.0), np.full(60, 0.1)]
    trained = Outputs(random.normal(0, spread, (900, 80)), random.normal(0, 3, (900, 2)))
    strange = Outputs(random.normal(0, 1, (50, 80)), random.normal(0, 3, (50, 2)))
    found = scores(trained)
    lost = found["energy (arXiv 2010.03759)"](strange) - found["ViM (arXiv 2203.10807)"](strange)
    outside = [np.linalg.norm(each.features[:, 20:], axis=1) for each in (trained, strange)]
    assert lost == pytest.approx(trained.logits.max(1).mean() / outside[0].mean() * outside[1], rel=0.05)


def test_photos_of_other_things_are_used_where_they_are_given() -> None:
    found = scores(TRAINED, STRANGE)
    assert set(found) - set(scores(TRAINED)) == {
        "regression against other things",
        "neighbours and regression, as in a file",
    }
    regression = found["regression against other things"]
    assert regression(STRANGE).max() < regression(FAMILIAR).min()
    chosen, margin = found["neighbours and regression, as in a file"], np.abs(np.diff(FAMILIAR.logits))[:, 0]
    scales = chosen(TRAINED).std(), np.abs(np.diff(TRAINED.logits)).std()
    assert found["… and margin"](FAMILIAR) == pytest.approx(chosen(FAMILIAR) / scales[0] + margin / scales[1])


def test_the_table_has_a_row_for_each_score() -> None:
    done = CliRunner().invoke(
        main, [str(MODELS / "pets-lite-int8.onnx"), GOLDEN, GOLDEN, GOLDEN, "--unfamiliar", GOLDEN]
    )
    assert done.exit_code == 0, done.output
    rows = done.stdout.splitlines()
    assert len(rows) == 1 + len(scores(TRAINED, STRANGE))
    assert all(row.endswith("100.0%") for row in rows[1:])
