"""metrics.json and progress.json: what notebooks leave for the runner."""

import csv
import io
import json
import math
import re

import pandas as pd
import pytest
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_markdown_cell

from clippan_lib.errors import ResultsError
from clippan_lib.figures import best_in_bold
from clippan_lib.files import write_json, write_text
from clippan_lib.runs import results
from clippan_lib.runs.progress import clear_progress, file_progress, read_progress
from clippan_lib.runs.watch import Watch
from clippan_lib.runs.wide import displayed

SCORES = pd.DataFrame(
    {
        "method": ["EXP", "pnn", "pnn", "EXP", "pnn", "pnn"],
        "seed": pd.array([None, 3, 4] * 2, dtype="Int64"),
        "scene": ["s0"] * 3 + ["s1"] * 3,
        "resolution": "reduced",
        "MPSNR": [30.0, 31.0, 33.0, 32.0, 35.0, 34.0],
        "SAM": [1 / 3, 2.5, 2.0, 1.0, 3.5, 2.0],
    }
)


def number(value, **other):
    return pd.DataFrame([{"metric": "ERGAS", "value": value, "unit": None} | other])


def only(folder):
    """What a reader sees of the only table."""
    [rows] = results.frames(folder).values()
    return displayed(rows)


def test_one_line_of_pandas_reads_the_numbers_of_a_run_and_every_value_is_a_number(tmp_path):
    results.record(tmp_path / "new", "04_stage2_training", {"Scores": results.tidy(SCORES)})
    rows = pd.read_json(tmp_path / "new" / "metrics.json")
    assert list(rows) == list(results.COLUMNS)
    assert rows["value"].dtype == float and len(rows) == 12
    found = rows.query("metric == 'MPSNR' and resolution == 'reduced' and method == 'pnn'")
    assert found.groupby("seed")["value"].mean().to_dict() == {3: 33.0, 4: 33.5}
    assert set(found["unit"]) == {"dB"} and set(found["table"]) == {"Scores"}
    assert rows.loc[rows["method"] == "EXP", "seed"].isna().all()


def test_the_csv_holds_the_same_and_numbers_come_back_to_the_last_digit(tmp_path):
    results.record(tmp_path, "04", {"Scores": results.tidy(SCORES)})
    rows = json.loads((tmp_path / "metrics.json").read_text())
    as_text = [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert [*csv.DictReader(file)] == as_text
    assert results.load(tmp_path)["value"].tolist() == SCORES[["MPSNR", "SAM"]].to_numpy().ravel().tolist()


def test_a_notebook_replaces_what_it_had_recorded_and_nothing_else(tmp_path):
    results.record(tmp_path, "04", {"Old": number(1.0), "Older": number(2.0)})
    results.record(tmp_path, "02", {"Kept": number(3.0)})
    results.record(tmp_path, "04", {"New": number(4.0)})
    rows = results.load(tmp_path)[["notebook", "table", "value"]].to_numpy().tolist()
    assert rows == [["02", "Kept", 3.0], ["04", "New", 4.0]]
    assert pd.read_csv(tmp_path / "metrics.csv")["value"].tolist() == [3.0, 4.0]
    results.record(tmp_path, "02", {})
    assert set(results.load(tmp_path)["notebook"]) == {"04"}


@pytest.mark.parametrize("cell", ["0.0000 *", "33.04 ± 0.03", "12.5", True])
def test_a_formatted_cell_is_refused_and_what_was_there_stays(tmp_path, cell):
    results.record(tmp_path, "04", {"Scores": number(1.5)})
    with pytest.raises(ResultsError, match=re.escape(f"04, table 'Scores', ERGAS: {cell!r} is no number")):
        results.record(tmp_path, "04", {"Scores": number(cell)})
    with pytest.raises(ResultsError, match="is no number; record numbers, format them to show"):
        results.record(tmp_path, "04", {"Scores": results.tidy(pd.DataFrame({"ERGAS": [cell]}))})
    assert results.load(tmp_path)["value"].tolist() == [1.5]


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (number(1.0).drop(columns="metric"), r"lacks the columns \['metric'\]; it has \['value', 'unit'\]"),
        (number(1.0).drop(columns="value"), r"lacks the columns \['value'\]"),
        (SCORES, r"lacks the columns \['metric', 'value', 'unit'\].*make its rows by `tidy`"),
        (number(1.0, metod="EXP"), r"has the columns \['metod'\]; a row has only method, variant, seed"),
        (number(1.0, metric=None), "a row without the name of its metric"),
        (number(1.0, seed="first"), "ERGAS: seed 'first' is no whole number"),
        (number(1.0, seed=0.5), "ERGAS: seed 0.5 is no whole number"),
        (pd.concat([number(1.0), number(2.0)]), "two values of ERGAS for the same method, variant"),
    ],
)
def test_a_table_that_is_not_one_row_per_number_is_refused(tmp_path, table, said):
    with pytest.raises(ResultsError, match=f"04, table 'Scores'.*{said}"):
        results.record(tmp_path, "04", {"Scores": table})
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finite_becomes_null(tmp_path):
    table = pd.DataFrame({"method": ["a", "b", "c"], "SAM": [1.0, math.nan, math.inf]})
    results.record(tmp_path, "04", {"Scores": results.tidy(table)})
    assert [row["value"] for row in json.loads((tmp_path / "metrics.json").read_text())] == [1.0, None, None]


def test_unwanted_notebooks_go_and_the_empty_files_with_them(tmp_path):
    for name in ("02_a", "04_b"):
        results.record(tmp_path, name, {"Scores": number(1.0)})
    results.keep(tmp_path, lambda name: name.startswith("02"))
    assert list(results.load(tmp_path)["notebook"]) == ["02_a"]
    results.keep(tmp_path, lambda name: False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ['{"sections": {}}', '[{"metric": "SAM"}]', "[1]"])
def test_a_file_that_is_no_such_table_is_refused(tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(
        ResultsError, match="metrics.json is no table with the columns notebook, table, .*delete"
    ):
        results.load(tmp_path)


def test_names_of_columns_and_of_the_index_say_what_a_row_is_about_and_the_rest_are_metrics_with_units():
    table = pd.DataFrame({"error (DN)": [4.0, 5.0], "Q2n": [0.5, 0.75]}, index=["EXP", "GSA"])
    rows = results.tidy(table.rename_axis("method"), scene="s0")
    assert list(rows) == [*results.KEYS, *results.NUMBER]
    assert rows[["method", "metric", "value"]].to_numpy().tolist() == [
        ["EXP", "error", 4.0],
        ["EXP", "Q2n", 0.5],
        ["GSA", "error", 5.0],
        ["GSA", "Q2n", 0.75],
    ]
    assert rows["unit"].fillna("").tolist() == ["DN", "", "DN", ""] and set(rows["scene"]) == {"s0"}


def test_a_score_that_a_resolution_does_not_have_makes_no_row_and_one_that_failed_does():
    table = pd.DataFrame({"resolution": ["reduced", "full", "full"], "scene": ["a", "a", "b"]})
    rows = results.tidy(table.assign(SAM=[1.0, math.nan, 2.0], QNR=[math.nan, 0.9, 0.8], HQNR=math.nan))
    counts = rows.groupby(["resolution", "metric"]).size().to_dict()
    assert counts[("full", "SAM")] == 2 and counts[("full", "QNR")] == 2
    assert ("reduced", "QNR") not in counts and counts[("reduced", "HQNR")] == 1


@pytest.mark.parametrize(
    ("table", "same", "said"),
    [
        (pd.DataFrame({"SAM": [1.0]}, index=["EXP"]), {}, r"the index \['EXP'\] has no name: rename_axis"),
        (pd.DataFrame({"SAM": [1.0]}, index=pd.Index(["EXP"], name="who")), {}, r"not by \['who'\]"),
        (pd.DataFrame({"SAM": [1.0]}), {"where": "full"}, r"not by \['where'\]"),
        (SCORES, {"method": "EXP"}, "say each of them once"),
    ],
)
def test_rows_that_cannot_be_told_apart_are_refused(table, same, said):
    with pytest.raises(ResultsError, match=said):
        results.tidy(table, **same)


def test_differences_are_kept_seed_by_seed_and_are_no_scores(tmp_path):
    index = pd.Index([3, 4], name="seed")
    differences = {"pnn-C": pd.DataFrame({"MPSNR": [0.25, -0.5]}, index=index)}
    results.record(
        tmp_path, "04", {"Change": results.tidy_differences(differences, "pnn", resolution="full")}
    )
    rows = results.load(tmp_path)
    assert rows[["method", "variant", "seed", "value"]].to_numpy().tolist() == [
        ["pnn-C", "minus pnn", 3, 0.25],
        ["pnn-C", "minus pnn", 4, -0.5],
    ]
    assert set(rows["metric"]) == {"MPSNR difference"} and set(rows["unit"]) == {"dB"}


# what is shown


def test_mean_and_spread_are_over_seeds_of_the_means_over_scenes(tmp_path):
    results.record(tmp_path, "04", {"Scores": results.tidy(SCORES)})
    text, _ = only(tmp_path)
    assert list(text) == ["MPSNR (dB) ↑", "SAM (°) ↓"]
    # seeds 3 and 4: 33 and 33.5 dB, 3 and 2 degrees; EXP has no seed
    assert text.loc["pnn"].tolist() == ["33.250 ± 0.354", "2.500 ± 0.707"]
    assert text.loc["EXP"].tolist() == ["31.000", "0.667"]


def test_a_value_that_is_missing_on_one_scene_leaves_no_mean(tmp_path):
    table = pd.DataFrame(
        {"method": ["a", "a", "b", "b"], "scene": ["s", "t"] * 2, "SAM": [1, math.nan, 2, 4]}
    )
    results.record(tmp_path, "04", {"Scores": results.tidy(table)})
    assert only(tmp_path)[0]["SAM (°) ↓"].tolist() == ["-", "3.000"]


def test_the_best_is_marked_among_several_rows_only_and_where_a_direction_is_known(tmp_path):
    two = pd.DataFrame({"method": ["a", "b"], "SAM": [2.0, 1.0], "speed (MP/s)": [3.0, 5.0]})
    results.record(tmp_path, "04", {"Scores": results.tidy(two)})
    assert only(tmp_path)[1].to_numpy().tolist() == [[2, 0], [1, 0]]
    results.record(tmp_path, "04", {"Scores": results.tidy(two[:1])})
    assert only(tmp_path)[1].to_numpy().tolist() == [[0, 0]]


def test_each_resolution_has_a_table_of_its_own_and_the_variant_stands_beside_the_method(tmp_path):
    both = pd.concat([SCORES.assign(variant="x"), SCORES.assign(variant="x", resolution="full", MPSNR=20.0)])
    results.record(tmp_path, "04", {"Scores": results.tidy(both)})
    tables = {title: displayed(rows)[0] for (_, title), rows in results.frames(tmp_path).items()}
    assert list(tables) == ["Scores, reduced resolution", "Scores, full resolution"]
    assert list(tables["Scores, full resolution"].index) == [("EXP", "x"), ("pnn", "x")]
    assert tables["Scores, full resolution"]["MPSNR (dB) ↑"].tolist() == ["20.000", "20.000 ± 0"]


def test_numbers_of_no_method_stand_below_one_another_with_as_many_digits_as_they_need(tmp_path):
    facts = {"patches": 180, "shift (DN)": 13.6041, "variance": 0.39561, "loss": 4.382e-06}
    results.record(tmp_path, "04", {"Facts": results.tidy(pd.DataFrame([facts]))})
    text, _ = only(tmp_path)
    assert text["value"].to_dict() == {
        "patches": "180",
        "shift (DN)": "13.60",
        "variance": "0.3956",
        "loss (10⁻⁶)": "4.38",
    }


def test_no_number_that_is_not_zero_looks_like_zero_and_none_has_an_exponent(tmp_path):
    values = pd.DataFrame(
        {"method": ["a", "b", "c"], "Q2n": [0.9, 2e-7, -3e-6], "loss": [4e-5, 8.54e-5, 0.0]}
    )
    results.record(tmp_path, "04", {"Scores": results.tidy(values)})
    text, _ = only(tmp_path)
    assert text["Q2n ↑"].tolist() == ["0.9000", "<0.0001", ">-0.0001"]
    assert text["loss (10⁻³)"].tolist() == ["0.0400", "0.0854", "0"]


# files


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
