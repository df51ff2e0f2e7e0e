"""How far a long loop is: left in a small file for whoever watches a run, shown as bars, or told in a line."""

import math
import time
from collections.abc import Mapping
from io import TextIOBase
from pathlib import Path
from typing import Any, TextIO

from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from clippan_lib.files import read_json, write_json
from clippan_lib.shapes import Progress

FILE = "progress.json"
TOLD_EVERY = 60.0
Stream = TextIOBase | TextIO


class _Progress(BaseModel):
    model_config = ConfigDict(strict=True)

    label: str
    iteration: int
    iterations: int
    terms: dict[str, float | None]


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
    """What `file_progress` wrote last, None before the first iteration, or if somebody else has written there."""
    try:
        record = read_json(Path(folder) / FILE)
        return None if record is None else _Progress.model_validate(record).model_dump()
    except (OSError, ValueError, RecursionError):
        return None  # nothing depends on it, and the next iteration replaces it


def clear_progress(folder: str | Path) -> None:
    """Forget the last loop, so that it is not taken for the current one."""
    (Path(folder) / FILE).unlink(missing_ok=True)


def bars(stream: Stream, unit: str) -> Progress:
    """A callback for long work outside the notebooks: one bar per label on a terminal, nothing in a log.

    Args:
        stream: where to write, usually standard error.
        unit: unit of what is counted; "B" is shown with prefixes.
    """
    shown: dict[str, tqdm] = {}

    def show(label: str, done: int, whole: int, _: Mapping[str, float | int]) -> None:
        if label not in shown:
            quiet = not stream.isatty()
            shown[label] = tqdm(file=stream, disable=quiet, desc=label, unit=unit, unit_scale=unit == "B")
        shown[label].total = whole or None
        shown[label].update(done - shown[label].n)

    return show


def run_progress(folder: str | Path) -> Progress:
    """A callback for the training loops of a run: its file, and what the cell of a notebook shows.

    Where somebody watches the cell, as in JupyterLab, that is a bar with the total loss and the time left, gone when
    the loop is over. Without anybody (papermill, nbval) it is a plain line each minute; outside notebooks, nothing.

    Args:
        folder: see `file_progress`.
    """
    keep, show = file_progress(folder), _cell_progress()

    def both(label: str, iteration: int, iterations: int, terms: Mapping[str, float | int]) -> None:
        keep(label, iteration, iterations, terms)
        show(label, iteration, iterations, terms)

    return both


def _cell_progress() -> Progress:
    from IPython import get_ipython  # half a second to import, which no command waits for

    kernel = getattr(get_ipython(), "kernel", None)
    if kernel is None:
        return lambda *_: None
    # Only a front end with a person before it offers to pass on questions such as those of input()
    watched = kernel.get_parent("shell").get("content", {}).get("allow_stdin", False)
    return _cell_bar() if watched else _cell_lines()


def _cell_bar() -> Progress:
    from tqdm.notebook import tqdm as notebook_tqdm

    bars: dict[str, tqdm] = {}

    def show(label: str, iteration: int, iterations: int, terms: Mapping[str, float | int]) -> None:
        if label not in bars:
            bars[label] = notebook_tqdm(
                total=iterations, initial=max(iteration - 1, 0), desc=label, leave=False
            )
        bar = bars[label]
        if "total" in terms:
            bar.set_postfix_str(f"loss {terms['total']:.4g}", refresh=False)
        bar.update(iteration - bar.n)
        if iteration >= iterations:
            bars.pop(label).close()

    return show


def _cell_lines() -> Progress:
    begun: dict[str, tuple[float, int]] = {}
    told = time.monotonic()

    def show(label: str, iteration: int, iterations: int, terms: Mapping[str, float | int]) -> None:
        nonlocal told
        now = time.monotonic()
        start, first = begun.setdefault(label, (now, iteration))
        if now - told < TOLD_EVERY or iteration == first:
            return
        told = now
        loss = f", loss {terms['total']:.4g}" if "total" in terms else ""
        left = (iterations - iteration) * (now - start) / (iteration - first)
        print(f"{label}: {iteration} of {iterations}{loss}, about {left:.0f} s left", flush=True)

    return show
