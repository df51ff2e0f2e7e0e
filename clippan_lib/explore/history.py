"""The losses of a run's trainings, drawn while they fall."""

import html
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import pandas as pd
from ipywidgets import Button, IntSlider, SelectMultiple, ToggleButton
from matplotlib.figure import Figure

from clippan_lib.errors import CheckpointError
from clippan_lib.explore.base import Explorer
from clippan_lib.explore.plot import Plot, Update, built
from clippan_lib.figures import curves
from clippan_lib.figures.style import new_figure
from clippan_lib.figures.trainings import follow_curves
from clippan_lib.files import read_metadata
from clippan_lib.runs.folder import RunFolder
from clippan_lib.runs.progress import FILE, read_progress
from clippan_lib.runs.run import Run
from clippan_lib.training.loop import History, Row

POLL = 2.0  # seconds between two looks
PAUSE = 30.0  # seconds after a finished training in which the run's next one begins
PATIENCE = 600.0  # seconds without any iteration after which nobody waits for one
_ANEW = "delete it, and its training starts anew"
_NO_TERMS = ("iteration", "lr")
_LAST = ("total", "grad_norm")


def kept_histories(folder: Path) -> dict[str, list[Row]]:
    """What the checkpoints of a run remember of their trainings, the latest first.

    Args:
        folder: the run's folder.
    Returns: the checkpoint's path in it without the key ("stage1/supervisor", "stage2/full/pnn-C-0") to one row per
        iteration; of several settings under one name the latest.
    """
    found: dict[str, list[Row]] = {}
    names = RunFolder(folder).checkpoints
    times = {path: path.stat().st_mtime_ns for path in names}
    for path in sorted(times, key=lambda each: (times[each], each), reverse=True):
        found.setdefault(names[path], _rows(path, times[path]))
    return {name: rows for name, rows in found.items() if rows}


@lru_cache(maxsize=1000)
def _rows(path: Path, _: int) -> list[Row]:
    metadata = read_metadata(path, _ANEW)
    try:
        return History.of_text(metadata.get("rows", "[]")).rows
    except ValueError as error:
        raise CheckpointError(f"{path}: its history is none ({error}); {_ANEW}") from None


class Training:
    """The training that a run's progress file speaks of.

    The file holds the latest iteration only: what came before is what was seen while looking, and, once its checkpoint
    is recognised by an iteration both have, all that the checkpoint remembers.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.label, self.iteration, self.iterations, self.changed = "", 0, 0, 0.0
        self.seen: dict[int, Row] = {}
        self._first = (0.0, 0)

    def look(self) -> bool:
        """Read the file; says whether it has anything new."""
        # The time first: a file written meanwhile then counts as new at the next look
        changed, record = self._time(), read_progress(self.folder)
        # Without terms it is no training: 08 writes a scene
        if record is None or not record["terms"] or changed == self.changed:
            return False
        row = {**record["terms"], "iteration": record["iteration"] - 1}
        same = record["label"] == self.label and record["iterations"] == self.iterations
        if not same or record["iteration"] < self.iteration or self.seen.get(row["iteration"], row) != row:
            self.seen, self._first = {}, (changed, record["iteration"])
        self.label, self.iterations = record["label"], record["iterations"]
        self.iteration, self.changed = record["iteration"], changed
        self.seen[row["iteration"]] = row
        return True

    def _time(self) -> float:
        try:
            return (self.folder / FILE).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    @property
    def done(self) -> bool:
        """Whether its last iteration is over."""
        return self.iteration >= self.iterations

    @property
    def seconds_left(self) -> float | None:
        """At the pace seen so far; None before two iterations were seen."""
        steps = self.iteration - self._first[1]
        if not steps:
            return None
        return (self.iterations - self.iteration) * (self.changed - self._first[0]) / steps

    def rows(self, kept: Mapping[str, Sequence[Row]]) -> list[Row]:
        """All that is known of it, by iteration.

        Args:
            kept: of `kept_histories`; the first that agrees with every iteration seen is its own.
        """
        for rows in kept.values():
            both = [number for number in self.seen if number < len(rows)]
            if both and all(rows[number] == self.seen[number] for number in both):
                known = dict(enumerate(rows[: self.iteration])) | self.seen
                return [known[number] for number in sorted(known)]
        return [self.seen[number] for number in sorted(self.seen)]


class HistoryExplorer(Explorer):
    """See `history`."""

    def __init__(self, folder: Path, live: bool) -> None:
        """
        Args:
            folder: the run's folder.
            live: whether the timer runs from the start.
        """
        self.training = Training(folder)
        self._kept: dict[str, list[Row]] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        controls = {
            "beside": SelectMultiple(description="beside it", options=[], rows=8),
            "smooth": IntSlider(1, 1, 25, description="smooth", continuous_update=False),
            "live": ToggleButton(live, description="live"),
        }
        refresh = Button(description="refresh")
        refresh.on_click(lambda _: self.redraw())
        self._plot = Plot(self._build, self._panels)
        super().__init__(controls, [self._plot.widget], buttons=[refresh])

    def redraw(self) -> None:
        """Look at the disk and draw; the timer and the controls take turns."""
        with self._lock:
            super().redraw()

    @contextmanager
    def held(self) -> Iterator[None]:
        """As any explorer's; the timer waits meanwhile."""
        with self._lock, super().held():
            yield

    def _settle(self) -> None:
        self.training.look()
        self._kept = kept_histories(self.training.folder)
        beside = self.controls["beside"]
        if beside.options != tuple(self._kept):
            chosen = [name for name in beside.value if name in self._kept]
            beside.options = tuple(self._kept)
            beside.value = chosen
        if self["live"] != self.watching:
            self._watch() if self["live"] else self._stop.set()

    def _histories(self) -> dict[str, pd.DataFrame]:
        """What is drawn: the training watched, and those chosen; if there is neither, the latest."""
        chosen = {name: self._kept[name] for name in self["beside"]}
        if self.training.seen:
            chosen = {f"{self.training.label} (latest)": self.training.rows(self._kept)} | chosen
        elif not chosen:
            chosen = dict([*self._kept.items()][:1])
        return {name: pd.DataFrame(rows) for name, rows in chosen.items()}

    def _draw(self) -> None:
        self._plot.draw()

    def _print(self) -> Figure:
        return built(self._build)[0]

    def _panels(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is drawn, and the terms, each with a panel."""
        histories = self._histories()
        terms = dict.fromkeys(term for frame in histories.values() for term in frame if term not in _NO_TERMS)
        return tuple(histories), tuple(sorted(terms, key=_LAST.__contains__))

    def _build(self) -> tuple[Figure, Update]:
        _, terms = self._panels()
        if terms:
            figure = curves(self._histories(), terms, self["smooth"])
            return figure, lambda: follow_curves(figure, self._histories(), self["smooth"])
        figure = new_figure(1.0)
        figure.text(0.5, 0.5, "no training has left anything in this run yet", ha="center", va="center")
        return figure, lambda: None

    def _numbers(self) -> str:
        training = self.training
        if not training.seen:
            return "No training is under way in this run."
        latest = training.seen[training.iteration - 1]
        terms = {name: value for name, value in latest.items() if name not in _NO_TERMS and value is not None}
        told = ", ".join(f"{html.escape(name)} {value:.4g}" for name, value in terms.items())
        bar = f'<progress value="{training.iteration}" max="{training.iterations}"></progress>'
        where = f"iteration {training.iteration} of {training.iterations}, {self._time_left()}"
        return f"<b>{html.escape(training.label)}</b> {bar} {where}<br>{told}"

    def _time_left(self) -> str:
        silent = time.time() - self.training.changed
        if self.training.done:
            return "done"
        if silent > PATIENCE:
            return f"no sign for {silent / 60:.0f} minutes: interrupted? Its cell, run again, goes on"
        left = self.training.seconds_left
        return "time left not known yet" if left is None else f"about {left:.0f} s left"

    @property
    def watching(self) -> bool:
        """Whether the timer runs."""
        return self._thread is not None and self._thread.is_alive() and not self._stop.is_set()

    def _watch(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=_tick, args=(weakref.ref(self), self._stop), daemon=True)
        self._thread.start()

    def _look_again(self, started: float) -> bool:
        """One tick of the timer; says whether there is reason for another."""
        with self._lock:
            if self.training.look():
                with suppress(Exception):  # already shown above the picture, and the next look may succeed
                    self.redraw()
        patience = PAUSE if self.training.done and self.training.changed > started else PATIENCE
        return time.time() - max(self.training.changed, started) < patience


def _tick(explorer: "weakref.ref[HistoryExplorer]", stop: threading.Event) -> None:
    """The timer's thread; it keeps no explorer alive that nobody shows any more."""
    started = time.time()
    while not stop.wait(POLL):
        shown = explorer()
        if shown is None or not shown._look_again(started):
            break
        del shown
    stop.set()
    if (shown := explorer()) is not None:
        shown.controls["live"].value = False


def history(run: Run, live: bool = False) -> HistoryExplorer:
    """The loss curves of a run, live while it trains: in this notebook, in another one or in a terminal.

    The curve of the latest training, and of any others of the run chosen to stand beside it, one panel per term; its
    iteration, terms and time left below. "live" starts a timer that looks every other second. It stops by itself half
    a minute after the last training, or when nothing was done for ten minutes. While a cell of the same notebook
    trains, the timer goes on, but buttons and sliders answer only after it.

    Args:
        run: from `open_run`; only its folder is read.
        live: whether the timer runs from the start.
    Returns: the explorer; controls: beside, smooth and live.
    """
    return HistoryExplorer(run.folder, live)
