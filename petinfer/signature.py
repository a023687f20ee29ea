"""Checks a model file's signature with OpenSSF's model-signing, and the key of whoever signed it. Offline."""

from __future__ import annotations

from pathlib import Path

from .errors import ModelError, PetinferError


def check_signature(model: Path, signature: Path, public_key: Path) -> None:
    """Refuse a file that the key did not sign.

    Args:
        model: the model file.
        signature: what ``model_signing sign key`` wrote for it.
        public_key: the signer's, PEM. It must come from somewhere you trust, not with the model.

    Raises:
        PetinferError: model-signing is not installed, or the signature or the key cannot be read.
        ModelError: the signature is not this key's, or not for this file.
    """
    for path in (signature, public_key):
        if not path.is_file():
            raise PetinferError(f"--signature: {path}: no such file (check the path)")
    try:
        from model_signing import verifying
    except ImportError as error:
        raise PetinferError(
            f"--signature: model-signing is not installed: {error} (pip install model-signing pyopenssl)"
        ) from error
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except Exception as error:  # cryptography's own classes share no base but this
        raise PetinferError(f"--signature: {public_key}: not a public key in PEM (check the file)") from error
    try:
        verifier.verify(model, signature)
    except Exception as error:  # cryptography's, protobuf's, ValueError, KeyError, …
        problem = f"{signature} is not a signature of this file by the key {public_key}"
        raise ModelError(f"{model}: {problem} (do not use the file)") from error
