"""Repeats the notebooks for one dataset: refuses early, resumes where it stopped, ends with a report.

A run is a folder, runs/<dataset>/<name>/. Each notebook is executed into it under a temporary name and gets
its own name and a stamp when it is through; `run.json` and `index.html` appear when all are. So nothing looks
finished before it is, and a repeated command goes on at the first notebook without a valid stamp.
"""

from clippan_lib.errors import RunFailed
import contextlib
import hashlib
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
from papermill.exceptions import PapermillExecutionError

from clippan_lib.runs import report, results
from clippan_lib.files import held, read_json, write_json
from clippan_lib.errors import Refusal
from clippan_lib.runs.plan import Plan
from clippan_lib.runs.watch import Watch

try:
    import resource
except ImportError:  # Windows
    resource = None

PACKAGE = Path(__file__).resolve().parents[1]
# A kernel's own log has nothing for the reader of the progress; errors of cells come as exceptions.
_QUIET = ["--IPKernelApp.log_level=CRITICAL"]
# What kernels get unless it is set already. Idle OpenMP threads spin for some 10 us and then sleep: libgomp's default,
# a hundred times that, slows a step by two thirds where another process wants the core, and no spinning at all slows
# the classical methods by a fifth on cores that are free. glibc keeps what images leave: asking the kernel for fresh
# pages took a fifth of those methods' time.
KERNEL_ENVIRONMENT = {
    "OMP_WAIT_POLICY": "passive",
    "GOMP_SPINCOUNT": "3000",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the most that mallopt(3) allows
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
}


def execute(plan: Plan, stream: io.TextIOBase) -> None:
    """Run the notebooks that are not finished yet, then write the report.

    Args:
        plan: from `plan_run`.
        stream: where the progress is shown.
    Raises: RunFailed if a notebook stops, Refusal if another process runs in the same folder.
    """
    plan.folder.mkdir(parents=True, exist_ok=True)
    running = Refusal(f"another process is running in {plan.folder}; wait for it, or give --name")
    with held(plan.folder, running), _kernel_environment():
        keys = _keys(plan)
        done = _finished(plan, keys)
        if done < len(plan.notebooks):
            _withdraw(plan, done)
        for number, path in enumerate(plan.notebooks, start=1):
            title = f"[{number}/{len(plan.notebooks)}] {path.stem}"
            if number <= done:
                print(f"{title}: finished before", file=stream, flush=True)
                continue
            seconds = _run_notebook(plan, path, title, stream)
            stamp = {"key": keys[path.stem], "seconds": seconds, "peak_mb": _peak_mb()}
            write_json(_stamp(plan, path), stamp)
            print(f"{title}: {seconds:.0f} s", file=stream, flush=True)
        if not results.frames(plan.folder):
            raise RunFailed(f"no notebook recorded a table in {plan.folder / results.FILE}")
        stamps = {path.stem: read_json(_stamp(plan, path)) for path in plan.notebooks}
        report.write(plan, stamps)


def _keys(plan: Plan) -> dict[str, str]:
    """Per notebook, a digest of all that decides its result, the notebooks before it included."""
    keys, previous = {}, f"{_source_digest()} {plan.manifest.digest()} {plan.config.key('unsupervised')}"
    for path in plan.notebooks:
        notebook = hashlib.sha256(path.read_bytes()).hexdigest()
        text = json.dumps([previous, plan.parameters[path.stem], notebook])
        keys[path.stem] = previous = hashlib.sha256(text.encode()).hexdigest()
    return keys


def _source_digest() -> str:
    """Of the library's code and of the weights it ships."""
    source = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*")):
        if path.suffix in {".py", ".json", ".safetensors"}:
            source.update(str(path.relative_to(PACKAGE)).encode() + path.read_bytes())
    return source.hexdigest()


def _stamp(plan: Plan, path: Path) -> Path:
    return plan.folder / f".{path.stem}.done.json"


def _finished(plan: Plan, keys: dict[str, str]) -> int:
    """How many notebooks, from the first on, need not run again."""
    for number, path in enumerate(plan.notebooks):
        stamp = read_json(_stamp(plan, path))
        if not stamp or stamp["key"] != keys[path.stem] or not (plan.folder / path.name).is_file():
            return number
    return len(plan.notebooks)


def _withdraw(plan: Plan, done: int) -> None:
    """Take away what would make the folder look further than its first `done` notebooks."""
    for name in (report.PAGE, report.RECORD):
        (plan.folder / name).unlink(missing_ok=True)
    for path in plan.notebooks[done:]:
        _stamp(plan, path).unlink(missing_ok=True)
        for suffix in (".ipynb", ".html", ".failed.ipynb"):
            (plan.folder / f"{path.stem}{suffix}").unlink(missing_ok=True)
    for path in (plan.folder / "figures").glob("*") if done == 0 else ():
        path.unlink()
    kept = {path.stem.split("_")[0] for path in plan.notebooks[:done]}
    results.keep(plan.folder, lambda section: section.split("_")[0] in kept)


def _run_notebook(plan: Plan, path: Path, title: str, stream: io.TextIOBase) -> float:
    """Execute one notebook into the run's folder; returns seconds."""
    start = time.monotonic()
    running, failed = plan.folder / f".{path.stem}.running.ipynb", plan.folder / f"{path.stem}.failed.ipynb"
    with Watch(plan.folder, title, len(nbformat.read(path, 4).cells), stream) as watch:
        reason = execute_notebook(path, running, plan.parameters[path.stem], watch.cell)
    if reason:
        if running.exists():
            os.replace(running, failed)
        lines = "\n".join(f"    {line}" for line in watch.source.splitlines()[:3])
        where = f"{path.stem} failed in code cell {watch.code_cell}"
        raise RunFailed(f"{where}:\n{lines}\n{reason}\nSo far: {failed}")
    os.replace(running, plan.folder / path.name)
    return round(time.monotonic() - start, 1)


def execute_notebook(
    path: Path, output: Path, parameters: dict[str, Any], on_cell: Callable[..., None] | None = None
) -> str | None:
    """Run one notebook in its own folder.

    Args:
        path: of the notebook.
        output: where it goes with its outputs.
        parameters: that replace those of its tagged cell.
        on_cell: called with (cell, index) when a cell starts.
    Returns: why it did not come to its end, None if it did. Judged by exceptions: papermill's metadata say "completed"
        when a kernel died.
    """
    try:
        executed = papermill.execute_notebook(
            path,
            output,
            parameters=parameters,
            kernel_name="python3",
            cwd=path.parent,
            progress_bar=False,
            start_timeout=120,
            on_cell_start=on_cell,
            extra_arguments=_QUIET,
        )
    except PapermillExecutionError as error:
        return f"{error.ename}: {error.evalue}"
    except (RuntimeError, TimeoutError) as error:
        return f"the kernel did not start, died (out of memory?) or hung: {error}"
    code = [cell for cell in executed.cells if cell.cell_type == "code" and cell.source.strip()]
    # papermill takes sys.exit() for a good end
    return None if all(cell.execution_count for cell in code) else "the notebook left before its end"


def _peak_mb() -> int | None:
    """Largest resident memory of a kernel so far; None where the system does not keep that of ended processes."""
    if resource is None:
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // unit


@contextlib.contextmanager
def _kernel_environment() -> Iterator[None]:
    added = KERNEL_ENVIRONMENT.keys() - os.environ.keys()
    os.environ.update({name: KERNEL_ENVIRONMENT[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
