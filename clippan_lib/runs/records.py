"""The records of a run's folder, settings.json and run.json: believed only as far as they are what was written."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from clippan_lib.errors import Refusal, on_one_line
from clippan_lib.files import write_json

_CHECKSUM = "sha256"


class SettingsRecord(BaseModel):
    """Of settings.json, see `Settings.record`."""

    model_config = ConfigDict(strict=True)

    dataset: str
    manifest: str
    data: dict[str, Any]
    preset: str
    seed: int
    config: dict[str, Any]
    keys: dict[str, str]
    campaign: bool
    own: dict[str, str] = {}


class RunRecord(BaseModel):
    """Of run.json, what is read of it again, see `report.run_record`."""

    model_config = ConfigDict(strict=True)

    commit: str | None
    files: dict[str, Any]
    parameters: dict[str, dict[str, Any]]
    seconds: dict[str, float]


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record with its checksum beside the rest, whole or not at all."""
    write_json(path, record | {_CHECKSUM: _digest(record)})


def read_record(path: Path, kind: type[BaseModel], remedy: str) -> dict[str, Any] | None:
    """What `write_record` wrote.

    Args:
        path: the file.
        kind: what it has to say.
        remedy: what is done if it does not.
    Returns: the record without its checksum, which older versions did not write; None if the file is not there.
    Raises: Refusal naming the file on one that cannot be read, is cut short or altered, or says other things.
    """
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record, dict):
            raise ValueError(f"a {type(record).__name__} where an object should be")
        checksum = record.pop(_CHECKSUM, None)
        if checksum not in (None, _digest(record)):
            raise ValueError("it is not as it was written")
        kind.model_validate(record)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise Refusal(f"{path} is damaged ({on_one_line(error)}); {remedy}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise Refusal(f"{path} is damaged ({error}); {remedy}") from None
    return record


def _digest(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
