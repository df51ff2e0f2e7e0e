"""Which index ranks as the truth does: the measure by hand, and the page that says what was measured."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clippan_lib.evaluation.ranking import oriented, ranking
from clippan_lib.sharpening.certificate import known_trust

ROOT = Path(__file__).resolve().parents[1]
BETTER = {"MPSNR": "high", "Q": "high", "D": "low", "flat": "high"}


def scores(**columns):
    return pd.DataFrame(columns, index=[*"abcd"[: len(columns["MPSNR"])]])


def test_ranking_worked_by_hand():
    table = scores(
        MPSNR=[30.0, 31.0, 32.0, 32.05], Q=[0.1, 0.3, 0.2, 0.4], D=[0.4, 0.3, 0.2, 0.1], flat=[1.0] * 4
    )
    found = ranking(table, "MPSNR", ["Q", "D", "flat"], BETTER)
    # five of six pairs are .1 dB apart or more; Q has b before c, the wrong way round
    assert found.agreement.to_dict() == pytest.approx({"Q": 0.8, "D": 1.0, "flat": 0.5})
    assert found.spearman["D"] == pytest.approx(1.0) and found.spearman["Q"] == pytest.approx(0.8)
    assert np.isnan(found.spearman["flat"])
    assert found.loss.to_dict() == pytest.approx({"Q": 0.0, "D": 0.0, "flat": 2.05})


def test_an_index_turned_round_agrees_as_much_less_as_it_did_more():
    table = scores(MPSNR=[30.0, 31.0, 32.0], Q=[0.1, 0.3, 0.2])
    turned = ranking(table.assign(Q=-table.Q), "MPSNR", ["Q"], BETTER)
    assert turned.agreement["Q"] == pytest.approx(1 - ranking(table, "MPSNR", ["Q"], BETTER).agreement["Q"])
    assert oriented(table.assign(D=1.0)[["D"]], BETTER).D.tolist() == [-1.0] * 3


def test_too_few_images_and_scores_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="1 images, or a score that is not finite"):
        ranking(scores(MPSNR=[30.0], Q=[0.1]), "MPSNR", ["Q"], BETTER)
    with pytest.raises(ValueError, match="not finite"):
        ranking(scores(MPSNR=[30.0, np.nan], Q=[0.1, 0.2]), "MPSNR", ["Q"], BETTER)


def script():
    spec = importlib.util.spec_from_file_location("write_indices", ROOT / "docs" / "write_indices.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_and_the_certificates_say_what_was_measured(capsys):
    assert script().main(["--check"]) == 0, capsys.readouterr().err


def test_other_measurements_are_noticed_and_written(tmp_path, capsys):
    writer = script()
    measured = json.loads((ROOT / "docs" / "indices.json").read_text(encoding="utf-8"))
    for row in measured["winners"]:
        row["loss"] *= 2
    (tmp_path / "indices.json").write_text(json.dumps(measured))
    asset = tmp_path / "certificate.json"
    assert writer.main(["--check"], tmp_path, asset) == 1
    assert "indices.md is not what was measured" in capsys.readouterr().err and not asset.exists()
    assert writer.main([], tmp_path, asset) == 0 == writer.main(["--check"], tmp_path, asset)
    assert json.loads(asset.read_text())["mean"] == pytest.approx(2 * known_trust()["mean"], abs=0.011)
