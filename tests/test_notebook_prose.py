"""The text of the notebooks states no result: results stand in sentences that cells compute, or in marked folds.

What Markdown says cannot follow the numbers of another dataset, preset or network. So a number that was measured has
no place in it. A fold may describe the stored demo, if it says so.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.rglob("*.ipynb"))
# Not those of names (ViT-B-32, 95th)
NUMBER = re.compile(r"(?<![\w.,^-])\d+(?:[.,]\d+)*(?![\w^]|[.,]\d|-[^\W\d])")
FOLD = re.compile(r"<details><summary>(.*?)</summary>(.*?)</details>", re.S)
MARK = re.compile(r"stored demo|[Mm]easured on other scenes")
# No sentences: code, formulas, targets of links, and the times of the first cell
NO_TEXT = [
    r"```.*?```",
    r"`[^`]*`",
    r"\$\$.*?\$\$",
    r"\$[^$]*\$",
    r"\]\([^)]*\)",
    r"\*\*Takes\*\*.*?(?=\n\n|$)",
]
# Numbers that say where something stands, and the 95 % of all intervals
NO_RESULT = r"(?m)^\s*\d+\. |\b(?:Eqs?\.|Tables?|Figures?|[Ee]xercises?) \d+(?:(?:-| and |, )\d+)*|\b95\s%"
# Per notebook: numbers that are no results, each with the reason
GIVEN = {
    "01_data_preparation": {"0.15": "an exercise sets it"},
    "09_explore": dict.fromkeys(("0.1", "0.9"), "values to try"),
    "10_glossary": dict.fromkeys(
        ("0.1", "0.2", "0.3", "0.4"), "gains of real sensors, shares of the paper's adapters"
    )
    | {"0.5": "chance, and a share of the paper's adapters"},
}


def sentences(text: str) -> str:
    """A text without what is not read as sentences."""
    for pattern in NO_TEXT:
        text = re.sub(pattern, " ", text, flags=re.S)
    return re.sub(NO_RESULT, " ", text)


def shown(notebook: NotebookNode) -> set[float]:
    """The numbers of all stored tables and sentences."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts += [output.get("text", ""), data.get("text/plain", ""), data.get("text/markdown", "")]
    return {float(number.replace(",", "")) for text in texts for number in NUMBER.findall(text)}


def measured(text: str, found: set[float]) -> list[str]:
    """The numbers of a text that have decimals, or are 10 or more and also `found` in an output.

    Smaller whole numbers count the things of a sentence, as in "4 bands", and are in every table.
    """
    numbers = NUMBER.findall(sentences(text))
    return [n for n in numbers if "." in n or (float(n.replace(",", "")) in found and len(n) > 1)]


def stated(notebook: NotebookNode) -> Iterator[tuple[str, list[str]]]:
    """Id and numbers of each Markdown cell that states a result, outside of folds or in one without a mark."""
    found = shown(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            folds = [fold[0] for fold in FOLD.finditer(cell.source) if not MARK.search(fold[0])]
            if numbers := measured(" ".join([FOLD.sub(" ", cell.source), *folds]), found):
                yield cell.id, numbers


def of(*texts: str) -> NotebookNode:
    """A notebook with these Markdown cells below a table."""
    output = new_output("execute_result", {"text/plain": "pnn  40.152\nGSA  37.4  720"}, execution_count=1)
    return new_notebook(cells=[new_code_cell("table", outputs=[output]), *map(new_markdown_cell, texts)])


@pytest.mark.parametrize(
    "text, numbers",
    [
        ("`pnn` has 40.2 dB.", ["40.2"]),
        ("Six of the 720 patches.", ["720"]),
        ("The mean is 63.5 DN, as a figure shows.", ["63.5"]),
        ("A third (0.33) is chance.", ["0.33"]),
        ("<details><summary>Solution 1</summary>\nIt has 37.4 dB.\n</details>", ["37.4"]),
        ("1. Why is it 40.152?", ["40.152"]),
    ],
)
def test_a_number_that_was_measured_is_found(text, numbers):
    notebook = of("All is well.", text)
    assert [*stated(notebook)] == [(notebook.cells[-1].id, numbers)]


@pytest.mark.parametrize(
    "text",
    [
        "ViT-B-32 has Eqs. 6-12 and Table 720, 4 bands and 20 steps; 0 is best, the bar is a 95 % interval.",
        "The gain is $g = 0.3$, or `w = 0.1`, or [this](page.html#at-0.5).",
        "$$\\frac{1.5}{720}$$\n\n```python\nassert x < 0.97\n```",
        "**Needs** nothing. **Takes** 2.5 minutes\nwith 720 patches.\n\nText.",
        "<details><summary>What the stored demo shows</summary>\nIt has 37.4 dB.\n</details>",
        "<details><summary>Solution 1</summary>\nIn the stored demo it has 37.4 dB.\n</details>",
    ],
)
def test_a_number_that_was_not_measured_is_left_alone(text):
    assert [*stated(of(text))] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_text_of_a_notebook_states_no_result(path):
    given = GIVEN.get(path.stem, {})
    numbers = {cell: [*map(str, found)] for cell, found in stated(nbformat.read(path, 4))}
    left = {cell: [n for n in found if n not in given] for cell, found in numbers.items()}
    assert {cell: found for cell, found in left.items() if found} == {}
    assert given.keys() <= {n for found in numbers.values() for n in found}, "no longer needed"
