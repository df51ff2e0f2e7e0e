"""Run a campaign: each task once, side by side if wanted, and again only what is not finished."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from clippan_lib.campaign.grid import Campaign, Entry
from clippan_lib.campaign.record import RECORD, SCORES
from clippan_lib.campaign.rows import TITLES
from clippan_lib.campaign.task import CLASSICAL, NOTEBOOKS, Task, file_of
from clippan_lib.errors import ResultsError, RunFailed
from clippan_lib.files import write_json, write_text
from clippan_lib.metrics import TABLES
from clippan_lib.runs import results
from clippan_lib.runs.folder import RunFolder
from clippan_lib.runs.plan import Plan
from clippan_lib.runs.runner import execute
from clippan_lib.shapes import Progress

FAILURE, LOG = "failed.json", "run.log"
THREADS = 1


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Args:
        place: its folder below the folder of runs.
        failure: why it has no result; None if it has.
    """

    place: str
    failure: str | None = None


def run_campaign(
    campaign: Campaign,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    progress: Progress | None = None,
    notebooks: Path = NOTEBOOKS,
) -> list[Outcome]:
    """Run what is not finished, then collect the scores in `scores.csv` beside `campaign.json`.

    A task that fails leaves `failed.json` in its folder; those that need it fail too, the others run. The same call
    again runs what is missing or failed. A finished run is kept, also if the library has changed since: its commit
    stands in its `run.json`.

    Each run computes on one thread, because the last digits of a training depend on their number: a table is the same
    for any `jobs`.

    Args:
        campaign: from `plan_campaign`.
        jobs: runs side by side on this machine.
        scheduler: address of a Dask scheduler, whose workers then do the runs; they must see the repository, the data
            and the runs under the same paths.
        progress: called with ("runs", done, in all, {}).
        notebooks: folder of the notebooks.
    Returns: how each task ended.
    """
    started = time.time()
    campaign.folder.mkdir(parents=True, exist_ok=True)
    _write_record(campaign, started)
    tasks, outcomes = campaign.tasks, []
    try:
        with _engine(min(jobs, len(tasks)), scheduler) as each:
            for outcome in each(_Perform(campaign.runs, notebooks), tasks):
                outcomes.append(outcome)
                if progress:
                    progress("runs", len(outcomes), len(tasks), {})
    finally:
        write_text(campaign.folder / SCORES, collect(campaign).to_csv(index=False))
        _write_record(campaign, started)
    return outcomes


def collect(campaign: Campaign) -> pd.DataFrame:
    """The scores of a campaign, from its run folders alone.

    Returns: one line per row of the table, dataset, seed and resolution of the test scenes: columns dataset, row,
        baseline, seed, judged, status (done, failed or missing), run, and one per metric, the mean over test scenes.
    """
    tables = {task.place: _read_scores(campaign.runs / task.place) for task in campaign.tasks}
    return pd.DataFrame([_line(entry, *tables[entry.task.place]) for entry in campaign.entries])


def _line(entry: Entry, status: str, scores: pd.DataFrame | None) -> dict[str, Any]:
    line = {
        "dataset": entry.dataset,
        "row": entry.row,
        "baseline": entry.baseline,
        "seed": entry.seed,
        "judged": entry.judged,
        "status": status,
        "run": entry.task.place,
    }
    if scores is None:
        return line | dict.fromkeys(TABLES)
    mine = scores[scores["resolution"] == ("full" if entry.judged == "lowered" else entry.judged)]
    if entry.task.notebook == CLASSICAL:
        mine = mine[mine["method"] == entry.row]
    # a scene that cannot be scored has no score at all
    mine = mine[mine["value"].notna().groupby([mine["method"], mine["scene"]], dropna=False).transform("any")]
    means = {metric: values.mean(skipna=False) for metric, values in mine.groupby("metric")["value"]}
    return line | {metric: means.get(metric) for metric in TABLES}


def _read_scores(folder: Path) -> tuple[str, pd.DataFrame | None]:
    if _record_of(folder) is None:
        return ("failed" if (folder / FAILURE).exists() else "missing"), None
    return "done", results.load(folder).query("table == 'Scores'")


def _record_of(folder: Path) -> dict[str, Any] | None:
    """What a run that has results says of itself; None of one that has none, or of older settings than its last start.

    Results that are damaged, or not those that the run recorded, are none.
    """
    if RunFolder(folder).unfinished.is_dir() or (folder / FAILURE).exists():
        return None
    record = RunFolder(folder).read_record()
    try:
        # runs of older versions do not say it
        same = record is not None and record.get("metrics") in (None, results.digest(folder))
    except ResultsError:
        return None
    return record if same else None


def _write_record(campaign: Campaign, started: float) -> None:
    """The time is that of all its runs, whenever and for whichever table they were made; None before all are done."""
    folders = [campaign.runs / task.place for task in campaign.tasks]
    done = [record for folder in folders if (record := _record_of(folder))]
    commits = dict.fromkeys(str(record["commit"]) for record in done)
    seconds = sum(sum(record["seconds"].values()) for record in done)
    datasets = {
        manifest.name: {
            "title": manifest.title,
            "sensor": manifest.resolve_sensor().name,
            "n_bands": manifest.resolve_sensor().n_bands,
            "manifest": file_of(manifest).name,
        }
        for manifest in campaign.manifests
    }
    record = {
        "table": campaign.table,
        "title": TITLES[campaign.table],
        "preset": campaign.preset,
        "seeds": list(campaign.seeds),
        "device": campaign.device,
        "command": campaign.command,
        "commit": ", ".join(commits) or None,
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(seconds) if len(done) == len(folders) else None,
        "datasets": datasets,
        "config": campaign.config.model_dump(mode="json"),
    }
    write_json(campaign.folder / RECORD, record)


@dataclass(frozen=True)
class _Perform:
    """Do a task, unless it is finished or one that it needs has failed."""

    runs: Path
    notebooks: Path

    def __call__(self, task: Task, *needed: Outcome) -> Outcome:
        folder = self.runs / task.place
        failed = [outcome.place for outcome in needed if outcome.failure]
        if failed:
            return self._failed(task, f"it needs {', '.join(failed)}, which failed")
        try:
            plan = task.plan(self.runs, self.notebooks)
            if not _finished(plan):
                folder.mkdir(parents=True, exist_ok=True)
                with (folder / LOG).open("a") as log, _threads():
                    execute(plan, log)
            (folder / FAILURE).unlink(missing_ok=True)
        except (RunFailed, ValueError, OSError) as error:
            return self._failed(task, str(error))
        return Outcome(task.place)

    def _failed(self, task: Task, reason: str) -> Outcome:
        folder = self.runs / task.place
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / FAILURE, {"reason": reason})
        except OSError as error:
            reason = f"{reason}; nor can that be written ({error})"
        return Outcome(task.place, reason)


def _finished(plan: Plan) -> bool:
    record = _record_of(plan.folder)
    return (
        record is not None
        and record["parameters"] == plan.parameters
        and plan.place.is_of(plan.settings)
        and record["files"] == plan.files
    )


@contextmanager
def _threads() -> Iterator[None]:
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = str(THREADS)
    try:
        yield
    finally:
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before


# Calls a function for each task and the outcomes of those it needs; outcomes come as they are there
Each = Callable[[_Perform, Sequence[Task]], Iterator[Outcome]]


@contextmanager
def _engine(jobs: int, scheduler: str | None) -> Iterator[Each]:
    if jobs == 1 and scheduler is None:
        yield _one_by_one
        return
    from distributed import Client, LocalCluster  # half a second, for those who have several

    if scheduler is not None:
        with Client(scheduler) as client:
            yield partial(_side_by_side, client)
        return
    with (
        LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=":0", memory_limit=0) as cluster,
        Client(cluster) as client,
    ):
        yield partial(_side_by_side, client)


def _one_by_one(perform: _Perform, tasks: Sequence[Task]) -> Iterator[Outcome]:
    outcomes: dict[str, Outcome] = {}
    for task in tasks:
        needed = [outcomes[need.place] for need in task.needs.values()]
        outcomes[task.place] = perform(task, *needed)
        yield outcomes[task.place]


def _side_by_side(client: Any, perform: _Perform, tasks: Sequence[Task]) -> Iterator[Outcome]:
    from distributed import as_completed

    futures: dict[str, Any] = {}
    for task in tasks:
        needed = [futures[need.place] for need in task.needs.values()]
        futures[task.place] = client.submit(perform, task, *needed, pure=False)
    places = {future.key: place for place, future in futures.items()}
    for future in as_completed(futures.values(), raise_errors=False):
        # a worker that dies, for want of memory say, leaves no outcome
        yield (
            future.result()
            if future.status == "finished"
            else Outcome(places[future.key], str(future.exception()))
        )
