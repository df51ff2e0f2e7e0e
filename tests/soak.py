"""Bad inputs, kills, full disks and large scenes, until something gives: `make soak`, which is `python tests/soak.py`.

Takes an hour or more, so it is no part of the tests; test_soak.py does a tenth of it. Prints one table: what was tried,
how often it went as it must, and what did not.
"""

import argparse
import contextlib
import hashlib
import io
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from soak_inputs import REFUSED, TRAP, Case, of_files, sound
from soak_kills import KILLED, memory, two_at_once, with_kills, without_room
from soak_networks import of_networks
from soak_outputs import of_outputs
from soak_settings import of_settings

from clippan_lib.cli import main as clippan

OUTPUTS = ("out.tif", "audit.html", "out.clippan.json")  # what a command that is served may leave


@dataclass(frozen=True)
class Outcome:
    """What became of one try: "" if it went as it must, else what was wrong."""

    kind: str
    name: str
    result: str
    wrong: str


def cases() -> list[Case]:
    """All bad inputs, each with a name of its own."""
    return [*of_files(), *of_networks(), *of_settings(), *of_outputs()]


def attempt(case: Case, template: Path, folder: Path) -> Outcome:
    """Put one bad input through its command, in this process; look what was said and what is left.

    Args:
        case: the input.
        template: a folder with sound files.
        folder: where to work; made anew.
    """
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(template, folder)
    arguments = case.make(folder)
    before = _contents(folder)
    errors, problem = io.StringIO(), ""
    with contextlib.chdir(folder), _without_notebooks(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                status = clippan(arguments)
        except SystemExit as end:  # argparse
            status = end.code
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            status, problem = (
                1,
                f"a traceback: {''.join(traceback.format_exception_only(error)).strip()[:300]}",
            )
    return Outcome(
        case.kind, case.name, str(status), problem or _wrong(case, status, errors.getvalue(), before, folder)
    )


def _wrong(case: Case, status: object, said: str, before: dict[str, str], folder: Path) -> str:
    after = _contents(folder)
    lost = [name for name, content in before.items() if after.get(name) != content]
    if case.expected == REFUSED and status == 0:
        return f"accepted: {said.strip()[-200:]}"
    if lost:
        return f"destroyed: {', '.join(lost)}"
    if TRAP in after:
        return "code in it was run"
    left = sorted(after.keys() - before.keys())
    if status not in (0, 1, 2):
        return f"status {status}"
    # an audit finds faults with status 1, on its page
    if status == 0 or (status == 1 and left == ["audit.html"]):
        return "" if set(left) <= set(OUTPUTS) else f"left {', '.join(left)}"
    lines = [line for line in said.splitlines() if line.startswith("clippan: ") or ": error: " in line]
    if len(lines) != 1 or "Traceback" in said:
        return f"said {said.strip()[-300:]!r}"
    return f"refused, but left {', '.join(left)}" if left else ""


def _contents(folder: Path) -> dict[str, str]:
    found = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"-> {os.readlink(path)}"
        elif path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@contextlib.contextmanager
def _without_notebooks() -> Iterator[None]:
    """What is planned counts as accepted: no notebook runs."""
    with (
        mock.patch("clippan_lib.commands.run.execute"),
        mock.patch("clippan_lib.commands.run.results.frames", return_value={}),
        mock.patch("clippan_lib.commands.table.run_campaign", return_value=[]),
        mock.patch("clippan_lib.commands.table.write_pages", return_value=[]),
        mock.patch("clippan_lib.commands.table.tables.all_tables", return_value=[]),
        mock.patch("clippan_lib.commands.table.load"),
    ):
        yield


def bad_inputs(every: int = 1, first: int = 0) -> Iterator[Outcome]:
    """Each `every`-th bad input, from the `first` on."""
    with tempfile.TemporaryDirectory() as place:
        template = Path(place) / "sound"
        template.mkdir()
        sound(template)
        for case in cases()[first::every]:
            yield attempt(case, template, Path(place) / "work")


def table(outcomes: Sequence[Outcome]) -> str:
    """One line per kind, then what was wrong."""
    tried, bad = Counter(each.kind for each in outcomes), [each for each in outcomes if each.wrong]
    failed = Counter(each.kind for each in bad)
    lines = [f"{'kind':24} {'tried':>6} {'as it must':>11} {'not':>5}"]
    lines += [f"{kind:24} {tried[kind]:6} {tried[kind] - failed[kind]:11} {failed[kind]:5}" for kind in tried]
    lines += [f"{each.name} (status {each.result}): {each.wrong}" for each in bad]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all parts, or those that are named; the exit status is 0 if all went as it must."""
    parts: dict[str, Callable[[int], Iterator[tuple[str, str, str]]]] = {
        **{name: (lambda kills, name=name: with_kills(name, kills)) for name in KILLED},
        "full disk": lambda kills: without_room(),
        "two at once": lambda kills: two_at_once(),
        "memory": lambda kills: memory(),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"inputs, {', '.join(parts)} (default: all)")
    parser.add_argument("--kills", type=int, default=50, help="of each command (default: 50)")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each N-th bad input")
    given = parser.parse_args(arguments)
    unknown = set(given.parts) - {"inputs", *parts}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    outcomes = []
    if not given.parts or "inputs" in given.parts:
        outcomes += bad_inputs(given.every)
    for name, part in parts.items():
        if not given.parts or name in given.parts:
            for row in part(given.kills):
                outcomes.append(Outcome(name, *row))
                print(f"{name}: {row[0]}: {row[1]} {row[2]}", flush=True)
    print(f"\n{table(outcomes)}")
    return 1 if any(each.wrong for each in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
