"""The committed notebooks: their form, their numbers, and a proof that a wrong number would be noticed."""

import re
import shutil
from pathlib import Path

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_checks import (
    CHECKED,
    nbval,
    problems,
    replaying,
    solutions,
    with_changed_digits,
    with_solutions,
)
from tiny_notebooks import foreign_kernel

ROOT = Path(__file__).resolve().parents[1]
COURSE = sorted((ROOT / "notebooks").glob("*.ipynb"))
CAMPAIGN = sorted((ROOT / "notebooks" / "campaign").glob("*.ipynb"))
# Those of the campaign take what the course leaves behind
NOTEBOOKS = COURSE + CAMPAIGN
# What the checked numbers do not hang on
SHORTER = {"gate_scenes": 0, "n_seeds": 2, "stage2_iterations": 8}
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def tiny(folder: Path) -> Path:
    """A notebook that keeps all rules, run."""
    checked = {"tags": [CHECKED]}
    cells = [
        new_markdown_cell("# Is this small?"),
        new_code_cell("seed = 3", metadata={"tags": ["parameters"]}),
        new_code_cell("print(f'accuracy {seed / 4:.2f}')", metadata=checked),
        new_code_cell("import time\nprint(time.time())"),
        new_code_cell("seed + 8", metadata=checked),
    ]
    notebook = new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / "tiny.ipynb"
    nbformat.write(notebook, path)
    papermill.execute_notebook(path, path, progress_bar=False)
    return path


@pytest.fixture(scope="module")
def tiny_path(tmp_path_factory) -> Path:
    return tiny(tmp_path_factory.mktemp("tiny"))


def plant(notebook, mistake: str) -> None:
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    match mistake:
        case "the title is not a question":
            notebook.cells[0].source = "# This is small"
        case "0 cells are tagged 'parameters'":
            code[0].metadata["tags"] = []
        case "may only assign literals":
            code[0].source = "seed = 1 + 2"
        case "parameter seed has no type":
            code[0].source = "seed = None"
        case "the kernel is not python3":
            notebook.metadata["kernelspec"]["name"] = "conda-env-mine"
        case "have not been run once each":
            code[2].execution_count = None
        case "no cell is tagged nbval-check-output":
            code[1].metadata["tags"] = code[3].metadata["tags"] = []
        case "cell 1: checked, but its stored output holds no number":
            code[1].outputs = [new_output("display_data", {"text/plain": "<Figure size 640x480>"})]
        case "cell 2: more than 15 lines":
            code[2].source = "print(1)\n" * 16
        case "cell 2: defines a function or a class":
            code[2].source = "def twice(x):\n    return 2 * x"
        case "cell 2: a stored error":
            code[2].outputs = [new_output("error", ename="KeyError", evalue="x", traceback=[])]
        case "cell 2: a sentence with a number by hand":
            code[2].source = "said(f'It rises to {2:.1f} and falls to 37.3 dB.')"
        case "cell 2: a path of somebody's computer":
            code[2].outputs = [new_output("stream", text="saved to " + "/".join(["", "home", "me", "run"]))]


MISTAKES = [
    "the title is not a question",
    "0 cells are tagged 'parameters'",
    "may only assign literals",
    "parameter seed has no type",
    "the kernel is not python3",
    "have not been run once each",
    "no cell is tagged nbval-check-output",
    "cell 1: checked, but its stored output holds no number",
    "cell 2: more than 15 lines",
    "cell 2: defines a function or a class",
    "cell 2: a stored error",
    "cell 2: a sentence with a number by hand",
    "cell 2: a path of somebody's computer",
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_planted_mistake_in_form_is_found(tiny_path, tmp_path, mistake):
    assert problems(tiny_path) == []
    notebook = nbformat.read(tiny_path, 4)
    plant(notebook, mistake)
    nbformat.write(notebook, tmp_path / "planted.ipynb")
    [found] = problems(tmp_path / "planted.ipynb")
    assert mistake in found


SOLVED = """## Exercises
1. What is twice the seed?
2. And three times?

<details><summary>Solution 1</summary>

```python
assert 2 * seed == 6
```
Six.

</details>

<details><summary>Solution 2</summary>

```python
assert 3 * seed == 10
```
</details>
"""


def test_exactly_the_cells_with_a_planted_wrong_number_and_the_wrong_solution_fail(
    tiny_path, tmp_path, monkeypatch
):
    # which nbval would take without `kernel_environment`, and end with a dead kernel
    monkeypatch.setenv("JUPYTER_PATH", str(foreign_kernel(tmp_path / "foreign")))
    notebook, cells = with_changed_digits(nbformat.read(tiny_path, 4))
    assert cells == {1, 3}
    notebook.cells.append(new_markdown_cell(SOLVED))
    assert solutions(notebook) == ["assert 2 * seed == 6\n", "assert 3 * seed == 10\n"]
    nbformat.write(with_solutions(notebook), tmp_path / "changed.ipynb")
    shutil.copy(tiny_path, tmp_path / "right.ipynb")
    verdict = nbval([tmp_path / "changed.ipynb", tmp_path / "right.ipynb"], tmp_path / "log.xml")
    assert {cell for cell, failure in verdict["changed.ipynb"].items() if failure} == {1, 3, 5}
    assert verdict["right.ipynb"] == dict.fromkeys(range(4))


def test_the_notebooks_of_the_story_are_there_and_numbered():
    assert [path.stem[:3] for path in COURSE] == [f"{number:02d}_" for number in range(11)]
    assert [path.stem[:3] for path in CAMPAIGN] == [f"{number:02d}_" for number in range(1, 7)]


@EACH
def test_a_notebook_keeps_the_rules_of_form(path):
    assert problems(path) == []


@pytest.mark.parametrize("path", COURSE, ids=lambda path: path.stem)
def test_a_chapter_says_what_it_needs_makes_and_takes_and_ends_with_exercises_that_have_solutions(path):
    notebook = nbformat.read(path, 4)
    for said in ("**Needs** ", "**Makes** ", "**Takes** ", "demo preset", "paper preset"):
        assert said in notebook.cells[0].source.replace("\n", " "), said
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    asked = re.findall(r"(?m)^(\d)\. ", text.partition("## Exercises\n")[2].partition("<details>")[0])
    assert len(asked) >= 2 and asked == re.findall(r"<summary>Solution (\d)</summary>", text)
    assert len(solutions(notebook)) == len(asked)


@pytest.fixture(scope="module")
def as_run(tmp_path_factory) -> dict[str, dict[int, str | None]]:
    """nbval's verdict on the notebooks and the solutions of their exercises, run in a copy of what they need."""
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("notebooks", "data_manifests", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    copies = [folder / path.relative_to(ROOT) for path in NOTEBOOKS]
    for path in copies:
        solved = with_solutions(nbformat.read(path, 4))
        # Shorter than as committed, by minutes; in the folder that a run without overrides has
        root = "../" * len(path.relative_to(folder).parts[:-1])
        for cell in solved.cells:
            cell.source = cell.source.replace("overrides = {}", f"overrides = {SHORTER}")
            cell.source = cell.source.replace(
                'run_dir = ""', f'run_dir = "{root}runs/synthetic_wv3/demo_pnn_seed0"'
            )
        nbformat.write(solved, path)
    return nbval(copies, folder / "log.xml")


@pytest.fixture(scope="module")
def as_changed(tmp_path_factory) -> dict[str, dict[int, str | None]]:
    """The same where every checked output is stored with a wrong digit.

    The cells give the right outputs without computing them: that they do compute them is what `as_run` shows.
    """
    folder = tmp_path_factory.mktemp("changed")
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, 4)
        changed, _ = with_changed_digits(notebook)
        for cell, replay in zip(changed.cells, replaying(notebook).cells, strict=True):
            cell.source = replay.source
        nbformat.write(changed, folder / path.name)
    return nbval([folder / path.name for path in NOTEBOOKS], folder / "log.xml")


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.timeout(2400)
@EACH
def test_a_notebook_runs_its_stored_numbers_hold_and_its_exercises_are_solved(path, as_run):
    cells = sum(cell.cell_type == "code" for cell in with_solutions(nbformat.read(path, 4)).cells)
    assert as_run[path.name] == dict.fromkeys(range(cells))


@pytest.mark.slow
@pytest.mark.notebook
@pytest.mark.timeout(2400)
@EACH
def test_a_wrong_number_in_a_notebook_is_noticed(path, as_changed):
    _, cells = with_changed_digits(nbformat.read(path, 4))
    assert {cell for cell, failure in as_changed[path.name].items() if failure} == cells
