"""The named refusals: what callers of the library may want to catch, each with a message that says what to do."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError  # a fifth of a second to import


def on_one_line(error: "ValidationError") -> str:
    """What does not fit, field by field."""
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'all'}: {each['msg']}" for each in error.errors())


class ManifestError(ValueError):
    """A manifest that cannot be used; the message names file, field, value and remedy."""


class DataError(ValueError):
    """Data that cannot be used; the message names the file, the key, the value seen and the remedy."""


class NoWindow(DataError):
    """A part of a scene in which no square of the size that is needed is free of NoData."""


class CheckpointError(ValueError):
    """A file of tensors that cannot be read or written, or does not belong to what it is loaded into."""


class ClipWeightsError(RuntimeError):
    """The weights or the tokenizer could not be had; the message says what was tried and what to do."""


class TrainingError(RuntimeError):
    """Training cannot go on: a loss or its gradient is no longer finite."""


class Refusal(ValueError):
    """A run that cannot be; nothing has been written."""


class MissingStage(RuntimeError):
    """A notebook needs what an earlier one makes."""


class RunFailed(RuntimeError):
    """A notebook stopped; the message says which, where and why."""


class OutputError(OSError):
    """A file that cannot be written; the message names it, what was seen and the remedy."""


class ResultsError(ValueError):
    """Numbers that cannot be recorded or read; the message names notebook, table, what was seen and the remedy."""
