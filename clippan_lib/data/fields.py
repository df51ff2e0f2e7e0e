"""The fields of a YAML file that a user writes: read, and explained where they are wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from clippan_lib.errors import ManifestError


class Block(BaseModel):
    """Fields of which no other is allowed, each of its type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def read_fields(path: Path, what: str) -> dict[str, Any]:
    """The fields at the top of a YAML file.

    Args:
        path: of the file.
        what: it should be, for messages.
    Raises: ManifestError if it cannot be read, or holds no fields.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); give {what}'s path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ManifestError(
            f"{path}: holds {type(content).__name__}, not fields; see data_manifests/README.md"
        )
    return content


def explain(path: Path, item: Mapping[str, Any]) -> str:
    """What is wrong with a field, and the remedy.

    Args:
        path: of the file.
        item: of `ValidationError.errors()`.
    """
    field = ".".join(str(part) for part in item["loc"]) or "manifest"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{path}: field {field} is missing; add it"
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{path}: field {field} = {item['input']!r} is unknown; correct its spelling or remove it"
    if not item["loc"]:
        return f"{path}: {message}"
    return f"{path}: field {field} = {item['input']!r}: {message}"
