"""From scores.csv to the printed tables: hand-worked statistics, what is missing, and files that are refused."""

import json
import re
from math import sqrt
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import write_results

from clippan_lib.campaign import paper, record, tables
from clippan_lib.metrics import BETTER, TABLES

ROOT = Path(__file__).resolve().parents[1]
WITHOUT = "without language"
RECORD = {
    "table": 5,
    "title": "Texts",
    "preset": "demo",
    "seeds": [0, 1, 2],
    "device": "cpu",
    "command": "clippan table 5 data_manifests/wv2_grip.yaml --seeds 0 1 2",
    "commit": "0123abcd",
    "started": "2026-01-02T03:04:05Z",
    "seconds": 150.0,
    "datasets": {"wv2_grip": {"title": "One scene", "sensor": "WV2", "n_bands": 8}},
    "config": {},
}
# MPSNR at reduced resolution by seed; None has failed, a row without seeds is missing
MPSNR = {
    WITHOUT: (30.0, 31.0, 32.0),
    "random CLIP": (29.9, 31.1, 32.0),
    "Noise": (31.0, 32.0, 33.0),
    "I": (31.5, 31.0, None),
    "II": (None, None, None),
    "Khan's": (),
    "Wald's": (30.1, 31.3, 32.2),
}


def line(row, seed, value, judged="reduced", dataset="wv2_grip", baseline=None, **scores):
    status = "done" if value is not None else "failed"
    metrics = {"reduced": ("MPSNR", "ERGAS", "SAM", "Q2n", "SCC")}.get(judged, TABLES[5:])
    found = dict.fromkeys(metrics, value) if status == "done" else {}
    baseline = ("" if row == WITHOUT else WITHOUT) if baseline is None else baseline
    keys = {"dataset": dataset, "row": row, "baseline": baseline, "seed": seed, "judged": judged}
    return (
        keys | {"status": status, "run": f"{dataset}/a_seed{seed}"} | dict.fromkeys(TABLES) | found | scores
    )


def lines(judged="reduced", dataset="wv2_grip"):
    done = [
        line(row, seed, v, judged, dataset) for row, values in MPSNR.items() for seed, v in enumerate(values)
    ]
    missing = [
        line("Khan's", seed, None, judged, dataset) | {"status": "missing", "run": ""} for seed in range(3)
    ]
    return done[:-3] + missing + done[-3:]


def written(folder, found=None, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "campaign.json").write_text(json.dumps(RECORD | changes))
    pd.DataFrame(lines() if found is None else found).to_csv(folder / "scores.csv", index=False)
    return folder


@pytest.fixture
def results(tmp_path):
    return record.load(written(tmp_path))


def cells(results, number=0):
    table = tables.all_tables(results)[number]
    return table.text.rename(columns=lambda name: name.split()[0]), table


# mean and spread


def test_mean_and_standard_deviation_are_those_of_the_seeds_that_are_done(results):
    text, _ = cells(results)
    assert list(text) == ["MPSNR", "ERGAS", "SAM", "Q2n"]
    assert text.loc[WITHOUT].tolist() == ["31.000 ± 1.000"] * 3 + ["31.0000 ± 1.0000"]
    assert text.loc["Noise", "MPSNR"] == "32.000 ± 1.000"
    assert text.loc["I (2 of 3 seeds)", "MPSNR"] == f"31.250 ± {0.5 / sqrt(2):.3f}"


def test_rows_without_a_score_say_whether_they_failed_or_are_missing_in_their_place(results):
    text, _ = cells(results)
    assert text.index.str.split(" \\(").str[0].tolist() == list(MPSNR)
    assert set(text.loc["II"]) == {"failed"} and set(text.loc["Khan's"]) == {"missing"}
    assert len(results.not_done) == 7
    assert results.not_done["status"].value_counts().to_dict() == {"failed": 4, "missing": 3}


def test_the_best_and_the_second_best_are_marked_in_each_columns_own_direction(results):
    _, table = cells(results)
    columns = dict(zip(["MPSNR", "ERGAS"], table.placed.to_numpy().T, strict=False))
    assert columns["MPSNR"].tolist() == [0, 0, 1, 2, 0, 0, 0]
    assert columns["ERGAS"].tolist() == [1, 1, 0, 0, 0, 0, 2]
    assert "**32.000 ± 1.000**" in table.markdown and "_31.250 ± 0.354_" in table.markdown


def test_headers_say_units_and_which_way_is_better(results):
    assert [*tables.all_tables(results)[0].text] == ["MPSNR (dB) ↑", "ERGAS ↓", "SAM (°) ↓", "Q2n ↑"]


def test_a_method_without_randomness_has_no_spread_and_one_seed_says_that_it_is_one(tmp_path):
    same = [line("SR-D", seed, 0.1 + 0.2, baseline="") for seed in range(3)]
    text, _ = cells(record.load(written(tmp_path / "same", same)))
    assert text.loc["SR-D", "MPSNR"] == "0.300"
    one = record.load(written(tmp_path / "one", [line(WITHOUT, 4, 1.0), line("I", 4, 2.0)], seeds=[4]))
    scores, differences = tables.all_tables(one)
    assert scores.text.loc["I", "MPSNR (dB) ↑"] == "2.000"
    assert differences.text.loc[f"I vs {WITHOUT}", "MPSNR (dB) ↑"] == "+1.000"
    assert "One seed has no interval" in differences.note and "One seed" in tables.reading(one)


def test_full_resolution_shows_scores_against_a_truth_only_where_there_is_one(tmp_path):
    blind = ["D_lambda", "D_s", "QNR", "HQNR"]
    [contest] = record.load(written(tmp_path / "real", lines("full"))).contests
    assert contest.metrics == blind
    truth = [each | {"MPSNR": 30.0, "ERGAS": 1.0, "SAM": 1.0, "Q2n": 0.9} for each in lines("full")]
    [contest] = record.load(written(tmp_path / "synthetic", truth)).contests
    assert contest.metrics == [*blind, "MPSNR", "ERGAS", "SAM", "Q2n"]


def test_a_score_that_is_no_number_makes_its_line_a_failed_one(tmp_path):
    found = [
        each | {"SAM": None} if (each["row"], each["seed"]) == ("Wald's", 1) else each for each in lines()
    ]
    results = record.load(written(tmp_path, found))
    assert ("Wald's", 1) in set(results.not_done[["row", "seed"]].itertuples(index=False, name=None))
    assert "Wald's (2 of 3 seeds)" in cells(results)[0].index


# paired differences


def test_paired_differences_have_the_textbooks_interval_over_the_seeds_of_both(results):
    text, _ = cells(results, 1)
    # differences .1, .3, .2: sd .1, t(2) = 4.302653
    assert text.loc[f"Wald's vs {WITHOUT}", "MPSNR"] == f"+0.200 ± {4.302653 * 0.1 / sqrt(3):.3f}"
    # 1.5 and 0: sd 1.5 / sqrt 2, t(1) = 12.706205
    assert text.loc[f"I vs {WITHOUT} (2 of 3 seeds)", "MPSNR"] == f"+0.750 ± {12.706205 * 0.75:.3f}"
    assert set(text.loc[f"II vs {WITHOUT}"]) == {"no seed of both"}


def test_better_and_worse_are_said_only_where_the_interval_excludes_zero_and_how_many_do(results):
    text, table = cells(results, 1)
    assert text.loc[f"Noise vs {WITHOUT}", ["MPSNR", "ERGAS"]].tolist() == [
        "+1.000 ± 0.000 better",
        "+1.000 ± 0.000 worse",
    ]
    assert text.loc[f"random CLIP vs {WITHOUT}", "MPSNR"].lstrip("+-") == "0.000 ± 0.248"
    assert "excludes 0: 4 of 16." in table.note
    assert "corrected for the number of comparisons" in table.note


def test_a_baseline_without_seeds_leaves_nothing_to_compare(tmp_path):
    found = [line(WITHOUT, 0, None), line("I", 0, 1.0)]
    text, table = cells(record.load(written(tmp_path, found)), 1)
    assert set(text.loc[f"I vs {WITHOUT}"]) == {"no seed of both"} and "tell nothing apart" in table.note


# the paper


def test_the_papers_numbers_are_those_printed():
    full, reduced = paper.printed(1, "full"), paper.printed(1, "reduced")
    assert full["QB"].loc["arbrpn-C"].tolist() == [0.0030, 0.0279, 0.9691]
    assert reduced["WV3"].loc["MTF-GLP-HPM-R"].tolist() == [30.5174, 6.2900, 6.4423, 0.7710]
    assert reduced["QB"].loc["pan_mamba"].tolist() == [50.5325, 0.5927, 0.7778, 0.8998]
    assert [len(paper.printed(table, "reduced")["WV3"]) for table in range(1, 6)] == [12, 6, 4, 4, 5]
    assert paper.printed(2, "reduced")["WV3"].loc["L_unsup + L_d"].tolist() == [
        32.3696,
        5.7517,
        6.5471,
        0.7366,
    ]
    assert paper.printed(5, "full") == {}


def test_every_number_is_in_the_papers_text_in_the_same_order(shared):
    text = (shared / "paper" / "clippan.md").read_text(encoding="utf-8")
    lines = [re.findall(r"\d+\.\d{4}", line) for line in text.splitlines() if "\t" in line]
    full, reduced = paper.printed(1, "full"), paper.printed(1, "reduced")
    networks = pd.concat([full["QB"], reduced["QB"], full["WV3"], reduced["WV3"]], axis=1)
    frames = [networks, *(paper.printed(table, "reduced")["WV3"] for table in range(2, 6))]
    ours = [[f"{value:.4f}" for value in row] for frame in frames for row in frame.to_numpy()]
    assert ours == [line for line in lines if line]


def test_the_papers_qnr_is_about_the_product_of_its_parts():
    for scores in paper.printed(1, "full").values():
        product = (1 - scores["D_lambda"]) * (1 - scores["D_s"])
        # a mean of products over scenes, not the product of means
        assert (product - scores["QNR"]).abs().max() < 3e-3


def test_the_papers_best_of_each_ablation_is_where_it_prints_bold():
    bold = {
        2: ["L_unsup + L_ship + L_d"] * 4,
        3: ["L_intra + L_inter + L_1"] * 2 + ["L_intra + L_inter", "L_intra + L_inter + L_1"],
        4: ["Conv"] * 4,
        5: ["II", "Wald's", "I", "Wald's"],
    }
    for table, rows in bold.items():
        scores = paper.printed(table, "reduced")["WV3"]
        best = [getattr(scores[name], "idxmax" if BETTER[name] == "high" else "idxmin")() for name in scores]
        assert best == rows


def test_the_papers_numbers_stand_beside_ours_where_the_scenes_may_be_the_same_and_nowhere_else(tmp_path):
    name = "pancollection_wv3"
    found = lines(dataset=name)
    same = record.load(written(tmp_path / "same", found, datasets={name: {"title": "PanCollection"}}))
    table = tables.all_tables(same)[0]
    assert table.text.loc["Wald's", ("paper", "MPSNR (dB) ↑")] == "34.7191"
    assert table.text.loc["random CLIP", ("paper", "MPSNR (dB) ↑")] == "-"
    assert not table.placed["paper"].any(axis=None) and table.placed["ours"].any(axis=None)
    assert "paper MPSNR (dB) ↑" in table.markdown
    numbers = tables.summary(same).set_index(["row", "metric"])["paper"]
    assert numbers["Wald's", "ERGAS"] == 4.4922
    other = record.load(written(tmp_path / "other"))
    assert "paper" not in tables.all_tables(other)[0].text.columns.get_level_values(0)
    assert "not comparable" in tables.reading(other) and "not comparable" not in tables.reading(same)


def ordered(folder, order, **changes):
    """A campaign whose rows have the given ranks in every metric."""
    found = [line(row, 0, float(rank), baseline="") for row, rank in order.items()]
    return tables.order(record.load(written(folder, found, seeds=[0], **changes)))


def test_the_order_is_compared_by_spearmans_correlation_over_the_rows_in_common(tmp_path):
    # the paper's order by MPSNR: Noise < I < Khan's < Wald's < II; swapping the last two of five gives 0.9
    ranks = {WITHOUT: 9, "Noise": 1, "I": 2, "Khan's": 3, "II": 4, "Wald's": 5}
    [found] = ordered(tmp_path, ranks).to_dict("records")
    assert (found["rows"], found["by chance"], found["paper"]) == (5, 0.5, "WV3")
    assert found["MPSNR"] == pytest.approx(1 - 6 * 2 / (5 * 24)) and found["MPSNR"] == pytest.approx(0.9)


def test_classical_methods_do_not_count_in_the_order_and_both_sensors_are_asked(tmp_path):
    ranks = {"SR-D": 50, "MTF-GLP-HPM-R": 60, "lambda_pnn": 1, "pnn": 2, "arbrpn": 3}
    found = ordered(tmp_path, ranks, table=1)
    assert found["rows"].tolist() == [3, 3] and found["paper"].tolist() == ["QB", "WV3"]
    assert found["MPSNR"].tolist() == pytest.approx([1, 1]) and found["ERGAS"].tolist() == pytest.approx(
        [-1, -1]
    )


def test_two_rows_have_no_order_to_speak_of_and_equal_rows_none_at_all(tmp_path):
    assert ordered(tmp_path / "two", {"I": 1, "II": 2}).empty
    equal = {"Noise": 1, "I": 1, "II": 1}
    assert np.isnan(ordered(tmp_path / "equal", equal)["MPSNR"].item())
    assert tables.all_tables(record.load(tmp_path / "equal"))[-1].text["MPSNR"].tolist() == ["-"]


# files


def test_markdown_names_command_commit_time_preset_seeds_and_what_is_not_done(results):
    text = tables.as_markdown(results)
    for fact in (RECORD["command"], "commit 0123abcd", "preset demo", "seeds 0, 1, 2", "2026-01-02", "2 min"):
        assert fact in text.splitlines()[0]
    assert "Not done: I, seed 2, wv2_grip, reduced resolution: failed." in text
    unknown = record.Record.model_validate(RECORD | {"commit": None, "seconds": None})
    assert "commit unknown" in unknown.origin and "not finished" in unknown.origin


def test_everything_is_saved_with_numbers_that_read_back(results, tmp_path):
    tables.save(results, tmp_path / "out")
    folder = tmp_path / "out" / "tables"
    names = ["differences.csv", "order.csv", "results.md", "summary.csv"]
    latex = ["order.tex", "wv2_grip_reduced.tex", "wv2_grip_reduced_differences.tex"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names + latex)
    numbers = pd.read_csv(folder / "summary.csv").set_index(["row", "metric"])
    assert numbers.loc[("Noise", "MPSNR"), ["mean", "standard deviation", "seeds"]].tolist() == [32, 1, 3]
    differences = pd.read_csv(folder / "differences.csv")
    assert differences["seeds"].tolist() == [seeds for seeds in (3, 3, 2, 0, 0, 3) for _ in range(4)]
    assert set(differences["verdict"][:8]) == {"open", "better", "worse"}
    assert set(differences["verdict"][12:20]) == {"no interval"}


def test_latex_has_rules_bold_and_underlined_cells_and_escaped_names(tmp_path):
    found = [line("L_QNR", 0, 1.0, baseline=""), line("L_unsup", 0, 2.0, baseline="")]
    tables.save(record.load(written(tmp_path, found, table=2, seeds=[0])), tmp_path)
    text = (tmp_path / "tables" / "wv2_grip_reduced.tex").read_text()
    assert "\\toprule" in text and "\\bottomrule" in text
    assert "L\\_QNR & \\underline{1.000} & \\bfseries 1.000" in text


def test_html_has_bold_and_underlined_cells(results):
    html = tables.all_tables(results)[0].styled.to_html()
    assert "font-weight: bold" in html and "text-decoration: underline" in html


def broken(folder, name, content):
    (written(folder) / name).write_text(content)
    return folder


def test_a_folder_without_a_campaign_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"campaign.json is missing: give the folder that `clippan table` made"
    ):
        record.load(tmp_path)
    (written(tmp_path) / "scores.csv").unlink()
    with pytest.raises(ValueError, match="scores.csv is missing"):
        record.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("campaign.json", "{", "campaign.json is not a campaign's: the file: Invalid JSON"),
        ("campaign.json", '{"table": 5}', "campaign.json is not a campaign's: title: Field required"),
        (
            "campaign.json",
            json.dumps(RECORD | {"table": 6}),
            "table: Input should be less than or equal to 5",
        ),
        ("scores.csv", "", "scores.csv is not a campaign's: No columns"),
        (
            "scores.csv",
            "a,b\n1,2\n",
            r"scores.csv is not a campaign's: it lacks the columns \['dataset', 'row'",
        ),
    ],
)
def test_files_that_are_not_a_campaigns_are_refused(tmp_path, name, content, said):
    with pytest.raises(ValueError, match=said):
        record.load(broken(tmp_path, name, content))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "moon"}, r"dataset \['moon'\], expected \['wv2_grip'\]"),
        ({"seed": 7}, r"seed \[7\], expected \[0, 1, 2\]"),
        ({"seed": "one"}, "scores.csv is not a campaign's"),
        ({"judged": "half"}, r"judged \['half'\], expected \['reduced', 'full', 'lowered'\]"),
        ({"status": "fine"}, r"status \['fine'\], expected \['done', 'failed', 'missing'\]"),
        ({"baseline": "nothing"}, r"baselines \['nothing'\] are no rows"),
        ({"seed": 1}, "two lines have the same dataset, row, seed and judged"),
        ({"MPSNR": "high"}, "scores.csv is not a campaign's"),
    ],
)
def test_scores_with_a_foreign_line_are_refused(tmp_path, changes, said):
    first, *others = lines()
    with pytest.raises(ValueError, match=said):
        record.load(written(tmp_path, [first | changes, *others]))


# docs/results.md


def page(folder, text):
    written(folder / "results" / "mine")
    (folder / "results.md").write_text(text)
    return folder


BLOCK = "# Ours\n<!-- tables: mine -->\nold\n<!-- end -->\nBy hand: 1.000\n"


def test_blocks_are_written_from_their_campaigns_and_what_is_written_by_hand_stays(tmp_path):
    docs = page(tmp_path, BLOCK)
    assert write_results.main(["--check"], docs) == 1 and (docs / "results.md").read_text() == BLOCK
    assert write_results.main([], docs) == 0
    text = (docs / "results.md").read_text()
    assert text.startswith("# Ours\n<!-- tables: mine -->\n`clippan table 5") and "32.000 ± 1.000" in text
    assert text.endswith("\n<!-- end -->\nBy hand: 1.000\n")
    assert write_results.main(["--check"], docs) == 0


def test_a_wrong_number_in_a_block_is_found(tmp_path, capsys):
    docs = page(tmp_path, BLOCK)
    write_results.main([], docs)
    text = (docs / "results.md").read_text()
    (docs / "results.md").write_text(text.replace("31.250", "31.251"))
    assert write_results.main(["--check"], docs) == 1
    assert "results.md is not what its campaigns say" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BLOCK.replace("mine", "yours"), "no campaign 'yours' in results/; there are: mine"),
        (BLOCK.replace("<!-- end -->", ""), "stands 1 times, <!-- end --> 0 times: pair them"),
        ("<!-- tables: mine -->\n" + BLOCK, "stands 2 times, <!-- end --> 1 times: pair them"),
    ],
)
def test_an_unknown_campaign_and_a_block_without_an_end_are_refused(tmp_path, capsys, text, said):
    docs = page(tmp_path, text)
    assert write_results.main([], docs) == 2
    assert said in capsys.readouterr().err and (docs / "results.md").read_text() == text


def test_the_committed_page_says_what_its_campaigns_say():
    assert write_results.main(["--check"]) == 0
