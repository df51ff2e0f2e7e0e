"""Shows on a terminal, or in a log, how far the runner's current notebook is."""

import threading
import time
from pathlib import Path

from nbformat import NotebookNode
from tqdm import tqdm

from clippan_lib.runs.progress import Stream, clear_progress, read_progress

POLL = 0.5
LOG_EVERY = 15.0


class Watch:
    """Context manager around one notebook: a moving line on a terminal, a plain line now and then elsewhere.

    Call `cell` when a cell starts; until the next one, the progress of a training loop is shown, if any. The
    last code cell is remembered: `code_cell` counts as the notebook's own In [n], `source` is its text.
    """

    def __init__(self, folder: Path, title: str, cells: int, stream: Stream) -> None:
        """
        Args:
            folder: the run's folder, where loops leave their progress.
            title: what stands at the front of the line.
            cells: how many cells the notebook has.
            stream: where to write, usually standard error.
        """
        self.folder, self.title, self.cells, self.stream = folder, title, cells, stream
        self.current, self.code_cell, self.source = 0, 0, ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)
        self._bar = tqdm(file=stream, leave=False, disable=not stream.isatty(), desc=title, total=cells)
        self._shown: object = None
        self._logged = time.monotonic()

    def cell(self, cell: NotebookNode, cell_index: int) -> None:
        """A cell starts; `cell_index` counts from 0 over all cells, those of text included."""
        clear_progress(self.folder)
        self.current = min(cell_index + 1, self.cells)
        # papermill adds a code cell of its own, which the notebook in the repository has not
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", []):
            self.code_cell, self.source = self.code_cell + 1, cell.source

    def __enter__(self) -> "Watch":
        if self._bar.disable:
            self._say(self.title)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._bar.close()
        clear_progress(self.folder)

    def _loop(self) -> None:
        while not self._stop.wait(POLL):
            self.show()

    def show(self) -> None:
        """Show how far the notebook is now; a thread calls this twice a second."""
        record = read_progress(self.folder)
        if record is None:
            record = {"label": "cell", "iteration": self.current, "iterations": self.cells, "terms": {}}
        finite = {name: value for name, value in record["terms"].items() if value is not None}
        terms = ", ".join(f"{name} {value:.3g}" for name, value in finite.items())
        if self._bar.disable:
            self._log(f"    {record['label']} {record['iteration']}/{record['iterations']}  {terms}".rstrip())
        else:
            self._move(record, terms)

    def _move(self, record: dict, terms: str) -> None:
        self._bar.set_description_str(f"{self.title}: {record['label']}", refresh=False)
        self._bar.set_postfix_str(terms, refresh=False)
        if self._shown != record["label"]:
            self._shown = record["label"]
            self._bar.reset(record["iterations"])
        self._bar.update(record["iteration"] - self._bar.n)
        self._bar.refresh()

    def _log(self, line: str) -> None:
        now = time.monotonic()
        if line != self._shown and now - self._logged >= LOG_EVERY:
            self._shown, self._logged = line, now
            self._say(line)

    def _say(self, line: str) -> None:
        print(line, file=self.stream, flush=True)
