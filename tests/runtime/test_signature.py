"""`petinfer verify --signature`: a file that the key did not sign is refused before it is loaded."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from petinfer import ModelError, PetinferError
from petinfer.classifier import BUNDLED_MODEL
from petinfer.cli import main
from petinfer.signature import check_signature

from ..conftest import cli_runner


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two key pairs, a copy of the bundled model, and its signature by the first."""
    signing = pytest.importorskip("model_signing.signing", reason="needs the extra signature", exc_type=ImportError)
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    folder = tmp_path_factory.mktemp("signed")
    for name in ("signer", "other"):
        key = ec.generate_private_key(ec.SECP256R1())
        private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.key").write_bytes(private)
        (folder / f"{name}.pub").write_bytes(public)
    shutil.copy(BUNDLED_MODEL, folder / "model.onnx")
    signer = signing.Config().use_elliptic_key_signer(private_key=folder / "signer.key")
    signer.sign(folder / "model.onnx", folder / "model.sig")
    return folder


def test_a_signed_file_is_verified(signed: Path) -> None:
    options = [
        "--model",
        str(signed / "model.onnx"),
        "--signature",
        str(signed / "model.sig"),
        str(signed / "signer.pub"),
    ]
    result = cli_runner().invoke(main, ["verify", *options])
    assert (result.exit_code, result.stderr) == (0, f"signed by {signed / 'signer.pub'}\n")


def test_a_resealed_file_is_not_signed(signed: Path, tmp_path: Path) -> None:
    """The description is changed, and the digest with it, so that all else passes."""
    content = (signed / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(content.replace(b'"labels": ["dog", "cat"]', b'"labels": ["cat", "dog"]'))
    with pytest.raises(ModelError, match=r"is not a signature of this file by the key .* \(do not use the file\)"):
        check_signature(tmp_path / "model.onnx", signed / "model.sig", signed / "signer.pub")


def test_another_key_is_refused(signed: Path) -> None:
    arguments = ["--signature", str(signed / "model.sig"), str(signed / "other.pub")]
    result = cli_runner().invoke(main, ["verify", "--model", str(signed / "model.onnx"), *arguments])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "is not a signature of this file by the key" in result.stderr


def test_what_is_no_signature_or_no_key_is_one_line(signed: Path) -> None:
    model, signature, key = (signed / name for name in ("model.onnx", "model.sig", "signer.pub"))
    with pytest.raises(ModelError, match="is not a signature of this file"):
        check_signature(model, key, key)
    with pytest.raises(PetinferError, match=r"--signature: .*model\.sig: not a public key in PEM"):
        check_signature(model, signature, signature)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PetinferError, match=r"--signature: .*absent\.sig: no such file \(check the path\)"):
        check_signature(BUNDLED_MODEL, tmp_path / "absent.sig", tmp_path / "absent.pub")


@pytest.mark.skipif(importlib.util.find_spec("model_signing") is not None, reason="model-signing is installed here")
def test_without_the_extra_one_line_says_how_to_install_it(tmp_path: Path) -> None:
    for name in ("model.sig", "signer.pub"):
        (tmp_path / name).touch()
    arguments = ["--signature", str(tmp_path / "model.sig"), str(tmp_path / "signer.pub")]
    result = cli_runner().invoke(main, ["verify", *arguments])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "model-signing is not installed" in result.stderr
    assert "(pip install model-signing pyopenssl)" in result.stderr
