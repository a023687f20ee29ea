"""The configurations for other programs: systemd's unit and Triton's model, checked by these programs' own rules."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from petinfer import Classifier

from ..conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
    unit = (EXAMPLES / "petinfer.service").read_text(encoding="utf-8")
    (tmp_path / "petinfer.service").write_text(unit.replace("/opt/petinfer/bin/uvicorn", "/bin/true"))  # not here
    command = ["systemd-analyze", "verify", tmp_path / "petinfer.service"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_tritons_configuration_describes_the_bundled_model() -> None:
    pytest.importorskip("tritonclient.grpc", reason="pip install 'tritonclient[grpc]'")
    from google.protobuf import text_format
    from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

    config = text_format.Parse((EXAMPLES / "triton/pets/config.pbtxt").read_text(encoding="utf-8"), ModelConfig())
    clf = Classifier()
    types = {"TYPE_UINT8": "tensor(uint8)", "TYPE_FP32": "tensor(float)"}
    outputs = [entry for entry in clf.session.get_outputs() if entry.name in ("probabilities", "logits")]
    for described, entries in ((config.input, clf.session.get_inputs()), (config.output, outputs)):
        found = {each.name: (types[DataType.Name(each.data_type)], list(each.dims)) for each in described}
        assert found == {entry.name: (entry.type, entry.shape[1:]) for entry in entries}
    labels = (EXAMPLES / "triton/pets" / config.output[0].label_filename).read_text(encoding="utf-8").splitlines()
    assert tuple(labels) == clf.labels
