"""What a committed notebook must be, and nbval's verdict on it. The checks are tested on planted mistakes."""

import ast
import copy
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as xml
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from clippan_lib.errors import Refusal
from clippan_lib.runs.kernels import kernel_environment
from clippan_lib.runs.parameters import notebook_parameters

CHECKED = "nbval-check-output"
LONGEST_CELL = 15
CELL_TIMEOUT = 900
SOLUTION = re.compile(r"<details><summary>Solution[^<]*</summary>\n(.*?)</details>", re.S)
# /folder/folder/..., but no part of a relative path or of a web address
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/-])/(?:[\w.-]+/){2,}")

# A measured number, where a sentence should compute it
BY_HAND = re.compile(r"\d+\.\d+\b|\d+ (?:dB|DN)\b")


def problems(path: Path) -> list[str]:
    """Everything about a notebook's form that our rules forbid."""
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    found = _parameter_problems(path) + _title_problems(notebook)
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("the kernel is not python3")
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        found.append("the code cells have not been run once each, in order")
    if not any(CHECKED in _tags(cell) for cell in code):
        found.append(f"no cell is tagged {CHECKED}")
    for number, cell in enumerate(code):
        found += [f"cell {number}: {problem}" for problem in _cell_problems(cell)]
    return found


def _parameter_problems(path: Path) -> list[str]:
    try:
        parameters = notebook_parameters(path)
    except Refusal as error:
        return [str(error)]
    return [f"parameter {name} has no type: None" for name, value in parameters.items() if value is None]


def _title_problems(notebook: NotebookNode) -> list[str]:
    first = notebook.cells[0]
    title = first.source.splitlines()[0] if first.source else ""
    good = first.cell_type == "markdown" and title.startswith("# ") and title.rstrip().endswith("?")
    return [] if good else ["the title is not a question"]


def _cell_problems(cell: NotebookNode) -> Iterator[str]:
    texts = [text for _, _, text in text_outputs(cell)]
    if sum(bool(line.strip()) for line in cell.source.splitlines()) > LONGEST_CELL:
        yield f"more than {LONGEST_CELL} lines"
    if re.search(r"^\s*(async )?(def|class)\b", cell.source, re.M):
        yield "defines a function or a class"
    if any(output.output_type == "error" for output in cell.outputs):
        yield "a stored error"
    if CHECKED in _tags(cell) and not any(re.search(r"\d", text) for text in texts):
        yield "checked, but its stored output holds no number"
    if "said(" in cell.source and any(map(BY_HAND.search, _literals(cell.source))):
        yield "a sentence with a number by hand"
    if any(ABSOLUTE_PATH.search(text) for text in [cell.source, *texts]):
        yield "a path of somebody's computer"


def _literals(code: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def text_outputs(cell: NotebookNode) -> Iterator[tuple[NotebookNode, str, str]]:
    """(holder, key, text) of the stored outputs that nbval compares; a figure's placeholder is none."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output, "text", output.text
        elif not output.get("data", {}).get("text/plain", "<Figure").startswith("<Figure"):
            yield output.data, "text/plain", output.data["text/plain"]


def with_changed_digits(notebook: NotebookNode) -> tuple[NotebookNode, set[int]]:
    """A copy whose checked outputs differ in their last digit, and the numbers of those code cells."""
    changed, cells = copy.deepcopy(notebook), set()
    for number, cell in enumerate(cell for cell in changed.cells if cell.cell_type == "code"):
        if CHECKED not in _tags(cell):
            continue
        for holder, key, text in text_outputs(cell):
            holder[key] = re.sub(r"\d(?=\D*$)", lambda digit: str((int(digit[0]) + 1) % 10), text)
            if holder[key] != text:
                cells.add(number)
    return changed, cells


def solutions(notebook: NotebookNode) -> list[str]:
    """The code of the hidden solutions of the exercises, in order."""
    texts = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    hidden = [solution for text in texts for solution in SOLUTION.findall(text)]
    return [code for text in hidden for code in re.findall(r"```python\n(.*?)```", text, re.S)]


def with_solutions(notebook: NotebookNode) -> NotebookNode:
    """A copy that runs the solutions after its last cell."""
    solved = copy.deepcopy(notebook)
    solved.cells += [new_code_cell(code) for code in solutions(notebook)]
    return solved


def replaying(notebook: NotebookNode) -> NotebookNode:
    """A copy whose code cells do nothing but give their stored outputs again."""
    replay = copy.deepcopy(notebook)
    for cell in replay.cells:
        if cell.cell_type == "code":
            cell.source = "import sys"
            for output in cell.outputs:
                if output.output_type == "stream":
                    cell.source += f"\nprint({output.text!r}, end='', file=sys.{output.name}, flush=True)"
                else:
                    cell.source += f"\ndisplay({dict(output.data)!r}, raw=True)"
    return replay


def nbval(paths: Sequence[Path], log: Path) -> dict[str, dict[int, str | None]]:
    """Run notebooks where they lie: per file name and code cell, None or why the cell failed.

    Args:
        paths: notebooks, run in this order by one pytest process.
        log: where the XML record goes.
    """
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["--nbval-lax", f"--nbval-cell-timeout={CELL_TIMEOUT}", f"--junitxml={log}"]
    with kernel_environment():
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run([*command, *paths], cwd=log.parent, env=own, capture_output=True, text=True)
    ended = f"pytest ended with {done.returncode}"
    assert done.returncode in (0, 1), f"{ended}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    verdict = {path.name: {} for path in paths}
    for case in xml.parse(log).iter("testcase"):
        name = next(name for name in verdict if case.get("classname").endswith(name))
        failures = [child.get("message") or child.text for child in case if child.tag in ("failure", "error")]
        verdict[name][int(case.get("name").split()[-1])] = "\n".join(failures) if failures else None
    return verdict
