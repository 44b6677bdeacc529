"""Files that settings name: secrets, keys and key sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jwt
from pydantic import ValidationInfo


def read_secret(path: Path) -> str:
    """Give the text of a secret file without its last line ending.

    Raises ValueError, which names the path and never the content, for a file that is missing, empty or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error
    if not text.strip():
        raise ValueError(f"{path} is empty")
    return text


def value_or_file(value: Any, info: ValidationInfo) -> Any:
    """Read the field from its `<field>_file`, which is declared before it, unless it has a value of its own."""
    path = info.data.get(f"{info.field_name}_file")
    if path is None:
        return value
    if value:
        raise ValueError(f"is given, and so is {info.field_name}_file: give one of the two")
    return read_secret(path)


def key_set_file(path: Path | None) -> Path | None:
    """Make sure that a file holds a JSON Web Key Set in which a key can be used, and none that signs tokens.

    Raises ValueError, which names the path and says what to put there.
    """
    if path is None:
        return None
    text = read_secret(path)
    remedy = 'save what your identity provider serves at its jwks_uri, {"keys": [...]}'
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {remedy}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no key set (RFC 7517): {remedy}")
    try:
        jwt.PyJWKSet.from_dict(found)
    except jwt.PyJWKSetError as error:
        raise ValueError(f"{path} has no key that can be used: {remedy}") from error
    # RFC 7518: 6.2.2 and 6.3.2 for `d`, 6.4 for `oct`, which is the secret itself.
    if any("d" in key or key.get("kty") == "oct" for key in found["keys"] if isinstance(key, dict)):
        raise ValueError(f"{path} holds a private or secret key, which stays where tokens are issued: {remedy}")
    return path
