"""What only a GPU can show, in less than eight minutes: `make gpu`, which is `python tests/gpu.py`.

Five parts, each in a process of its own that is stopped at its limit. Every row that is printed says what was measured
and the bound that it had to keep. test_gpu.py runs the same parts on the CPU, at a tiny size.
"""

import json
import multiprocessing
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from gpu_parts import ROOT, Row, paper, scan, scenes, suite, training

from clippan_lib.files import write_json

RESULTS = ROOT / "benchmarks" / "results" / "gpu.json"
NO_GPU = "nothing to check: torch sees no GPU"


@dataclass(frozen=True)
class Part:
    """Rows from the name of a device, made in `limit` seconds or not at all."""

    rows: Callable[[str], Iterator[Row]]
    limit: float


@dataclass(frozen=True)
class Outcome:
    """What became of a part; `problem` is why it did not come to its end, "" if it did."""

    name: str
    limit: float
    seconds: float
    rows: list[Row]
    problem: str

    @property
    def passed(self) -> bool:
        return not self.problem and bool(self.rows) and all(row.passed for row in self.rows)

    @property
    def line(self) -> str:
        failed = [row.what for row in self.rows if not row.passed]
        reason = self.problem or ", ".join(failed) or ("" if self.rows else "it checked nothing")
        took = f"in {self.seconds:.0f} s of {self.limit:.0f} s"
        return f"{self.name}: passed {took}" if self.passed else f"{self.name}: FAILED {took}: {reason}"


# Limits in seconds. On an H200, where nobody has run them yet, half of that should do.
PARTS = {
    "tests": Part(suite, 130),
    "training": Part(training, 90),
    "paper preset": Part(paper, 90),
    "scenes": Part(scenes, 110),
    "selective scan": Part(scan, 40),
}


def check(name: str, part: Part, device: str) -> Outcome:
    """Run a part in a process of its own, which is killed, with all that it has started, at the limit."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(theirs, part.rows, device))
    start = time.monotonic()
    process.start()
    theirs.close()
    rows, problem = [], ""
    try:
        while ours.poll(max(0.0, start + part.limit - time.monotonic())):
            message = ours.recv()
            if isinstance(message, str):
                problem = message
            else:
                rows.append(message)
        problem = f"stopped at its limit of {part.limit:g} s"
    except EOFError:
        process.join(10)
        if process.exitcode and not problem:
            problem = f"its process ended with status {process.exitcode}"
    finally:
        if process.is_alive():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.join()
    return Outcome(name, part.limit, time.monotonic() - start, rows, problem)


def child(connection, rows: Callable[[str], Iterator[Row]], device: str) -> None:
    """Send the rows as they are made; then, if there was one, the problem."""
    os.setsid()
    # weights that are not at hand are not fetched
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        for row in rows(device):
            connection.send(row)
    except Exception as error:
        traceback.print_exc()
        connection.send(f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}")


def table(outcomes: Sequence[Outcome]) -> str:
    """One line per row of every part."""
    lines = []
    for outcome in outcomes:
        for row in outcome.rows:
            numbers = ", ".join(
                f"{name} {value if isinstance(value, str) else f'{value:.3g}'}".strip()
                for name, value in row.numbers.items()
                if value is not None
            )
            result = "passed" if row.passed else "FAILED"
            lines.append(f"{outcome.name:15} {row.what:52} {result}  {numbers}")
    return "\n".join(lines)


def about(device: str) -> dict[str, str | None]:
    """The machine and the versions, which decide the numbers."""
    on_gpu = device == "cuda"
    return {
        "device": torch.cuda.get_device_name() if on_gpu else device,
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "clippan": version("clippan"),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": str(torch.backends.cudnn.version()) if on_gpu else None,
        "open_clip": version("open_clip_torch"),
    }


def main(parts: Mapping[str, Part] = PARTS, device: str = "cuda", out: Path = RESULTS) -> int:
    """Run the parts in their order, print and write what came out; the exit status, 0 if all passed."""
    if device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU)
        return 1
    outcomes = []
    for name, part in parts.items():
        outcomes.append(check(name, part, device))
        print(outcomes[-1].line, flush=True)
    where = about(device)
    print(f"\n{table(outcomes)}\n")
    whole = [outcome.name for outcome in outcomes if not outcome.problem]
    cut = [outcome.name for outcome in outcomes if outcome.problem]
    print(
        f"run to the end on {where['device']}: {', '.join(whole) or 'none'}; not: {', '.join(cut) or 'none'}"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, {"about": where, "parts": [finite(asdict(o) | {"passed": o.passed}) for o in outcomes]})
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def finite(content: dict) -> dict:
    """As JSON can hold it: a number that is none becomes null."""
    return json.loads(json.dumps(content), parse_constant=lambda _: None)


if __name__ == "__main__":
    sys.exit(main())
