"""Repeats the notebooks for one dataset: refuses early, resumes where it stopped, ends with a report.

A run is a folder, runs/<dataset>/<name>/. Each notebook is executed into its `unfinished/` under a temporary name and
gets its own name and a stamp when it is through; a repeated command goes on at the first notebook without a valid
stamp. When all are through, results and report take the place of those that may have been there before. So nothing
looks finished before it is, and nothing that is shown is half old and half new.
"""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from clippan_lib.errors import Refusal, ResultsError, RunFailed
from clippan_lib.files import held, keep, kept, library_digest, throw_away
from clippan_lib.runs import report, results
from clippan_lib.runs.folder import PAGE
from clippan_lib.runs.kernels import KERNEL, Kernels
from clippan_lib.runs.plan import Plan
from clippan_lib.runs.progress import Stream
from clippan_lib.runs.watch import Watch

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]  # and `_peak_mb` says so


def execute(plan: Plan, stream: Stream) -> None:
    """Run the notebooks that are not finished yet, then write the report.

    Args:
        plan: from `plan_run`.
        stream: where the progress is shown.
    Raises: RunFailed if a notebook stops, Refusal if another process runs in the same folder.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    running = Refusal(f"another process is running in {plan.folder}; wait for it, or give --name")
    for remark in plan.remarks:
        print(remark, file=stream, flush=True)
    with held(plan.folder, running), Kernels() as kernels:
        place, keys = plan.place, _keys(plan)
        if (place.unfinished / PAGE).is_file():  # stopped while its results took their places
            place.publish()
        done = _finished(plan, keys)
        if done < len(plan.notebooks):
            place.write_settings(plan.settings)
            _begin(plan, done)
        elif not place.unfinished.is_dir() and not report.is_whole(plan):
            _begin(plan, done)
        for number, path in enumerate(plan.notebooks, start=1):
            title = f"[{number}/{len(plan.notebooks)}] {path.stem}"
            if number <= done:
                print(f"{title}: finished before", file=stream, flush=True)
                continue
            seconds = _run_notebook(plan, path, title, stream, kernels)
            stamp = {"key": keys[path.stem], "seconds": seconds, "peak_mb": _peak_mb()}
            keep(_stamp(place.results, path), stamp | {"metrics": results.digest(plan.folder, path.stem)})
            print(f"{title}: {seconds:.0f} s", file=stream, flush=True)
        if not results.frames(plan.folder):
            raise RunFailed(f"no notebook recorded a table in {place.results / results.FILE}")
        if place.unfinished.is_dir():
            stamps = {path.stem: kept(_stamp(place.results, path)) for path in plan.notebooks}
            report.write(plan, stamps)
            place.publish()


def _keys(plan: Plan) -> dict[str, str]:
    """Per notebook, a digest of all that decides its result, the notebooks before it included."""
    decides = [library_digest(), plan.settings.record, plan.files]
    keys, previous = {}, json.dumps(decides, sort_keys=True)
    for path in plan.notebooks:
        text = json.dumps([previous, plan.parameters[path.stem], _code(path)])
        keys[path.stem] = previous = hashlib.sha256(text.encode()).hexdigest()
    return keys


def _code(path: Path) -> list[str]:
    """What a notebook computes: neither its text, nor its outputs or whatever else saving it changes."""
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]


def _stamp(folder: Path, path: Path) -> Path:
    return folder / f".{path.stem}.done.json"


def _finished(plan: Plan, keys: dict[str, str]) -> int:
    """How many notebooks, from the first on, need not run again; none in a folder of other settings or data.

    What is damaged is thrown away, so that it is made again.
    """
    if not plan.place.is_of(plan.settings):
        return 0
    folder = plan.place.results
    try:
        results.load(plan.folder)
    except ResultsError as error:
        throw_away(folder / results.FILE, f"{error}, which is done now")
        return 0
    for number, path in enumerate(plan.notebooks):
        stamp, file = kept(_stamp(folder, path)) or {}, folder / path.name
        if stamp.get("key") != keys[path.stem] or not file.is_file():
            return number
        faults = {
            "cannot be read": not _is_notebook(file),
            f"has other numbers in {results.FILE} than it recorded": stamp["metrics"]
            != results.digest(plan.folder, path.stem),
        }
        for fault, found in faults.items():
            if found:
                throw_away(_stamp(folder, path), f"{file} {fault}: it runs again")
                return number
    return len(plan.notebooks)


def _is_notebook(path: Path) -> bool:
    try:
        nbformat.validate(nbformat.read(path, 4))
    except Exception:  # nbformat stumbles over what is none in many ways
        return False
    return True


def _begin(plan: Plan, done: int) -> None:
    """Keep, of what the folder shows, what its first `done` notebooks made; the report of before stays as it is."""
    kept = {path.stem[:3] for path in plan.notebooks[:done]}
    plan.place.begin(lambda name: name.lstrip(".")[:3] in kept or (done > 0 and name.startswith("metrics.")))
    if done:
        results.keep(plan.folder, lambda notebook: notebook[:3] in kept)


def _run_notebook(plan: Plan, path: Path, title: str, stream: Stream, kernels: Kernels) -> float:
    """Execute one notebook into the run's folder; returns seconds."""
    start, folder = time.monotonic(), plan.place.results
    running, failed = folder / f".{path.stem}.running.ipynb", folder / f"{path.stem}.failed.ipynb"
    with Watch(plan.folder, title, len(nbformat.read(path, 4).cells), stream) as watch:
        following = plan.notebooks[plan.notebooks.index(path) + 1 :][:1]
        reason = execute_notebook(path, running, plan.parameters[path.stem], watch.cell, kernels, following)
    if reason:
        if running.exists():
            os.replace(running, failed)
        lines = "\n".join(f"    {line}" for line in watch.source.splitlines()[:3])
        where = f"{path.stem} failed in code cell {watch.code_cell}"
        raise RunFailed(f"{where}:\n{lines}\n{reason}\nSo far: {failed}")
    os.replace(running, folder / path.name)
    return round(time.monotonic() - start, 1)


def execute_notebook(
    path: Path,
    output: Path,
    parameters: dict[str, Any],
    on_cell: Callable[..., None] | None = None,
    kernels: Kernels | None = None,
    following: Sequence[Path] = (),
) -> str | None:
    """Run one notebook in its own folder, by a kernel of this interpreter.

    Args:
        path: path of the notebook.
        output: where it goes with its outputs.
        parameters: that replace those of its tagged cell.
        on_cell: called with (cell, index) when a cell starts.
        kernels: where its kernel may have been prepared; None starts one.
        following: notebooks to prepare kernels for meanwhile.
    Returns: why it did not come to its end, None if it did. Judged by exceptions: papermill's metadata say "completed"
        when a kernel died.
    """
    try:
        with contextlib.ExitStack() as stack:
            kernels = kernels or stack.enter_context(Kernels())
            kernel = stack.enter_context(kernels.kernel(path))
            for each in following:
                kernels.prepare(each)
            executed = papermill.execute_notebook(
                _literal(path),
                _literal(output),
                parameters=parameters,
                kernel_name=KERNEL,
                km=kernel,
                progress_bar=False,
                start_timeout=120,
                on_cell_start=on_cell,
            )
    except PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except (RuntimeError, TimeoutError) as error:
        return f"the kernel did not start, died (out of memory?) or hung: {error}"
    code = [cell for cell in executed.cells if cell.cell_type == "code" and cell.source.strip()]
    # papermill takes sys.exit() for a good end
    return None if all(cell.execution_count for cell in code) else "the notebook left before its end"


def _literal(path: Path) -> str:
    """papermill formats paths with the parameters: what has braces is to stay as it is."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _peak_mb() -> int | None:
    """Largest resident memory of a kernel so far; None where the system does not keep that of ended processes."""
    if resource is None:
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // unit
