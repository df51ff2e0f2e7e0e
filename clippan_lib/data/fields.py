"""The fields of a YAML file that a user writes: read, and explained where they are wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from clippan_lib.errors import ManifestError

LONGEST, DEEPEST = 2**20, 20  # bytes of a text, and blocks in blocks


class Block(BaseModel):
    """Fields of which no other is allowed, each of its type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def read_fields(path: Path, what: str) -> dict[str, Any]:
    """The fields at the top of a YAML file.

    Args:
        path: path of the file.
        what: it should be, for messages.
    Raises: ManifestError if it cannot be read, or holds no fields.
    """
    try:
        with path.open("rb") as file:
            content = parse(file.read(LONGEST + 1).decode("utf-8"))
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); give {what}'s path") from error
    except ValueError as error:
        raise ManifestError(f"{path}: is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ManifestError(
            f"{path}: holds {type(content).__name__}, not fields; see data_manifests/README.md"
        )
    if odd := [key for key in content if not isinstance(key, str)]:
        raise ManifestError(
            f"{path}: field {odd[0]} is unknown: names of fields are text; correct or remove it"
        )
    return content


def parse(text: str) -> Any:
    """The content of YAML that somebody wrote by hand; what a few bytes make large is refused before it is.

    Raises: ValueError saying in one line what is wrong.
    """
    if len(text.encode(errors="replace")) > LONGEST:
        raise ValueError(f"has more than {LONGEST} bytes; give only what is asked for")
    depth = 0
    try:
        for event in yaml.parse(text, yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                at = event.start_mark.line + 1
                raise ValueError(f"has an alias, *{event.anchor} in line {at}; write out what it stands for")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEEPEST:
                at = event.start_mark.line + 1
                raise ValueError(f"is nested {depth} deep in line {at}; at most {DEEPEST} are of any use")
        content = yaml.safe_load(text)
        repr(content)  # a ValueError for numbers of thousands of digits
        return content
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def explain(path: Path, item: Mapping[str, Any]) -> str:
    """What is wrong with a field, and the remedy.

    Args:
        path: path of the file.
        item: an item of `ValidationError.errors()`.
    """
    field = ".".join(str(part) for part in item["loc"]) or "manifest"
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "missing":
        return f"{path}: field {field} is missing; add it"
    if item["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return (
            f"{path}: field {field} = {_brief(item['input'])} is unknown; correct its spelling or remove it"
        )
    if not item["loc"]:
        return f"{path}: {message}"
    return f"{path}: field {field} = {_brief(item['input'])}: {message}"


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]} ... ({len(text)} characters)"
