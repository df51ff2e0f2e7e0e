"""metrics.json and progress.json: what notebooks leave for the runner."""

import io
import json
import math

import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell

from clippan_lib.figures import best_in_bold
from clippan_lib.files import write_json, write_text
from clippan_lib.runs import results
from clippan_lib.runs.progress import clear_progress, file_progress, read_progress
from clippan_lib.runs.watch import Watch


def test_sections_are_merged_and_one_section_is_replaced(tmp_path):
    folder = tmp_path / "runs" / "new"
    results.record(folder, "04_stage2", {"old": pd.DataFrame({"a": [1]})})
    results.record(folder, "02_stage1", facts={"accuracy": 0.5})
    results.record(folder, "04_stage2", {"new": pd.DataFrame({"a": [2]})})
    assert results.load(folder) == {
        "sections": {
            "02_stage1": {"tables": {}, "facts": {"accuracy": 0.5}},
            "04_stage2": {"tables": {"new": {"columns": ["a"], "rows": [[2]]}}, "facts": {}},
        }
    }


def test_a_table_comes_back_with_index_columns_and_full_precision(tmp_path):
    scores = pd.DataFrame({"method": ["EXP", "EXP", "PNN"], "SAM": [0.1, 0.2, 1 / 3]})
    table = scores.groupby("method").agg(["mean", "count"])
    results.record(tmp_path, "04", {"Scores": table})
    [found] = results.frames(tmp_path).values()
    assert list(found.columns) == ["method", "SAM mean", "SAM count"]
    assert found["SAM mean"].tolist() == pytest.approx([0.15, 1 / 3], rel=1e-14)
    assert found["SAM count"].tolist() == [2, 1]


def test_what_json_lacks_becomes_null_in_a_table_and_is_refused_as_a_fact(tmp_path):
    results.record(tmp_path, "04", {"Scores": pd.DataFrame({"a": [1.0, math.nan, math.inf]})})
    assert results.load(tmp_path)["sections"]["04"]["tables"]["Scores"]["rows"] == [[1.0], [None], [None]]
    with pytest.raises(ValueError, match="JSON"):
        results.record(tmp_path, "04", facts={"a": math.nan})
    assert results.load(tmp_path)["sections"]["04"]["facts"] == {}


def test_unwanted_sections_go_and_the_empty_file_with_them(tmp_path):
    for name in ("02_a", "04_b"):
        results.record(tmp_path, name)
    results.keep(tmp_path, lambda name: name.startswith("02"))
    assert list(results.load(tmp_path)["sections"]) == ["02_a"]
    results.keep(tmp_path, lambda name: False)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"a": math.inf})
    with pytest.raises(UnicodeEncodeError):
        write_text(path, "\ud800")
    assert json.loads(path.read_text()) == {"a": 1}


def test_the_latest_iteration_can_be_read_and_forgotten(tmp_path):
    assert read_progress(tmp_path) is None
    file_progress(tmp_path)("stage I", 1, 9, {"total": 0.5, "inter": math.nan})
    expected = {"label": "stage I", "iteration": 1, "iterations": 9, "terms": {"total": 0.5, "inter": None}}
    assert read_progress(tmp_path) == expected
    clear_progress(tmp_path)
    assert read_progress(tmp_path) is None


def test_progress_is_written_now_and_then_at_a_new_loop_and_at_the_end(tmp_path):
    write = file_progress(tmp_path, interval=3600.0)
    seen = []
    for label, iteration in [("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 9)]:
        write(label, iteration, 9, {})
        record = read_progress(tmp_path)
        seen.append((record["label"], record["iteration"]))
    assert seen == [("a", 1), ("a", 1), ("a", 1), ("b", 1), ("b", 1), ("b", 9)]


def test_the_watch_counts_the_notebooks_own_code_cells(tmp_path):
    watch = Watch(tmp_path, "[1/1] tiny", 3, io.StringIO())
    cells = [new_markdown_cell("# Title"), new_code_cell("a = 1"), new_code_cell("a = 2"), new_code_cell("a")]
    cells[2].metadata["tags"] = ["injected-parameters"]
    for index, cell in enumerate(cells):
        watch.cell(cell=cell, cell_index=index)
    assert (watch.code_cell, watch.source, watch.current) == (2, "a", 3)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_the_loop_of_the_current_cell_only(tmp_path):
    stream = Terminal()
    watch = Watch(tmp_path, "[2/6] 02_stage1", 9, stream)
    file_progress(tmp_path)("stage I", 40, 100, {"total": 0.25})
    watch.show()
    assert "[2/6] 02_stage1: stage I" in stream.getvalue()
    assert "40/100" in stream.getvalue()
    assert "total 0.25" in stream.getvalue()
    stream.truncate(0)
    watch.cell(cell=new_code_cell("1"), cell_index=4)
    watch.show()
    assert "[2/6] 02_stage1: cell" in stream.getvalue()
    assert "5/9" in stream.getvalue()
    assert "40/100" not in stream.getvalue()


def test_a_log_gets_whole_lines_and_no_line_twice(tmp_path, monkeypatch):
    monkeypatch.setattr("clippan_lib.runs.watch.LOG_EVERY", 0.0)
    stream = io.StringIO()
    file_progress(tmp_path)("stage I", 40, 100, {"total": 0.25})
    with Watch(tmp_path, "[2/6] 02_stage1", 9, stream) as watch:
        watch.show()
        watch.show()
    assert stream.getvalue().splitlines() == ["[2/6] 02_stage1", "    stage I 40/100  total 0.25"]
    assert read_progress(tmp_path) is None


def test_numbers_within_the_tolerance_are_printed_as_recorded():
    text = results.compared({"accuracy": 0.93, "loss": 2.0}, {"accuracy": 0.95, "loss": 1.5}, tolerance=0.1)
    assert text.splitlines() == ["accuracy: 0.95 (± 0.1)", "loss: 2; the stored demo has 1.5 (± 0.1)"]


def test_numbers_with_other_names_are_refused():
    with pytest.raises(ValueError, match="values have \\['a'\\], recorded are \\['b'\\]"):
        results.compared({"a": 1.0}, {"b": 1.0}, tolerance=0.1)


def test_a_figure_is_kept_as_png_and_as_pdf_and_handed_on(tmp_path):
    figure = Figure()
    assert results.save_figure(tmp_path, "one", figure) is figure
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["one.pdf", "one.png"]
    assert (tmp_path / "figures" / "one.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "figures" / "one.pdf").read_bytes().startswith(b"%PDF")


def test_text_of_a_pdf_is_truetype_and_the_same_figure_gives_the_same_bytes(tmp_path):
    figure = Figure(figsize=(2, 1))
    figure.text(0.1, 0.5, "± 0.5 × 3")
    pages = []
    for folder in ("a", "b"):
        results.save_figure(tmp_path / folder, "one", figure)
        pages.append((tmp_path / folder / "figures" / "one.pdf").read_bytes())
    assert pages[0] == pages[1] and b"CreationDate" not in pages[0]
    assert b"/FontFile2" in pages[0] and b"/Type3" not in pages[0]


def test_a_table_is_kept_as_latex_with_the_best_in_bold_and_its_names_escaped(tmp_path):
    scores = pd.DataFrame({"D_lambda": [0.25, 0.125]}, index=["EXP", "A_B"])
    table = best_in_bold(scores, {"D_lambda": "low"}, digits=3)
    results.save_latex(tmp_path, "scores", table)
    assert [path.name for path in (tmp_path / "tables").iterdir()] == ["scores.tex"]
    text = (tmp_path / "tables" / "scores.tex").read_text()
    assert "D\\_lambda" in text and "EXP & 0.250" in text and "A\\_B & \\bfseries 0.125" in text
    assert "\\toprule" in text and "D_lambda" in table.to_html()
