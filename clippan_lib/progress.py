"""How far a long loop is: left in a small file for whoever watches a run, or shown as bars."""

import math
import time
from collections.abc import Callable, Mapping
from io import TextIOBase
from pathlib import Path
from typing import Any

from tqdm import tqdm

from clippan_lib.files import read_json, write_json

FILE = "progress.json"

Progress = Callable[[str, int, int, Mapping[str, float | int]], None]


def file_progress(folder: str | Path, interval: float = 0.5) -> Progress:
    """A callback that leaves the latest iteration in `progress.json` of a folder.

    Args:
        folder: the run's folder; it must exist.
        interval: seconds between two writes of one loop; the last iteration is always written.
    Returns: callback(label, iteration, iterations, terms); `terms` are that iteration's loss terms by name.
    """
    path = Path(folder) / FILE
    latest: dict[str, Any] = {"label": None, "time": -math.inf}

    def write(label: str, iteration: int, iterations: int, terms: Mapping[str, float | int]) -> None:
        now = time.monotonic()
        due = label != latest["label"] or now - latest["time"] >= interval or iteration >= iterations
        if not due:
            return
        latest.update(label=label, time=now)
        values = {name: float(value) for name, value in terms.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        write_json(path, {"label": label, "iteration": iteration, "iterations": iterations, "terms": finite})

    return write


def read_progress(folder: str | Path) -> dict[str, Any] | None:
    """What `file_progress` wrote last, None before the first iteration."""
    return read_json(Path(folder) / FILE)


def clear_progress(folder: str | Path) -> None:
    """Forget the last loop, so that it is not taken for the current one."""
    (Path(folder) / FILE).unlink(missing_ok=True)


def bars(stream: TextIOBase, unit: str) -> Progress:
    """A callback for long work outside the notebooks: one bar per label on a terminal, nothing in a log.

    Args:
        stream: where to write, usually standard error.
        unit: of what is counted; "B" is shown with prefixes.
    """
    shown: dict[str, tqdm] = {}

    def show(label: str, done: int, whole: int, _: Mapping[str, float | int]) -> None:
        if label not in shown:
            quiet = not stream.isatty()
            shown[label] = tqdm(file=stream, disable=quiet, desc=label, unit=unit, unit_scale=unit == "B")
        shown[label].total = whole or None
        shown[label].update(done - shown[label].n)

    return show
