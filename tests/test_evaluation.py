"""Judging methods on scenes: which scores, whose mean, and what pairs with what."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from layouts import h5_dataset, save_h5
from tiny import SENSOR, TinyPatches

from clippan_lib.data import load_manifest, open_dataset
from clippan_lib.data.stacks import Scene, SceneStack
from clippan_lib.evaluation.scores import (
    evaluate,
    fuse,
    paired,
    speed,
    summary,
)
from clippan_lib.fusion import CLASSICAL, get_method
from clippan_lib.metrics import TABLES, full_scores, reduced_scores
from clippan_lib.metrics.reference import crop_border, mpsnr

CPU = torch.device("cpu")


class TinyStack(SceneStack):
    def __init__(self, count, resolution, has_gt):
        super().__init__(tuple(f"s{i}" for i in range(count)), SENSOR, resolution, 16, 16, has_gt, 1000.0)
        self.patches = TinyPatches(count=count, has_gt=has_gt)

    def read(self, windows):
        return self.patches.batch(windows.scenes)


def scenes(count=2, resolution="full", has_gt=True):
    return [Scene(TinyStack(count, resolution, has_gt), i) for i in range(count)]


def scores(values):
    rows = [
        {"method": method, "seed": seed, "scene": f"s{i}", "resolution": "full", "ERGAS": value}
        for (method, seed), each in values.items()
        for i, value in enumerate(each)
    ]
    return pd.DataFrame(rows)


def test_full_resolution_with_a_truth_gives_both_kinds_of_scores_and_without_one_only_its_own():
    exp = {"EXP": get_method("exp", SENSOR, 4)}
    both = set(evaluate(exp, scenes(1), CPU).columns)
    assert {"MPSNR", "ERGAS", "SAM", "Q2n", "SCC", "D_lambda", "D_s", "QNR", "D_lambda_K", "HQNR"} <= both
    assert "MPSNR" not in evaluate(exp, scenes(1, has_gt=False), CPU)
    assert "QNR" not in evaluate(exp, scenes(1, resolution="reduced"), CPU)


def test_a_list_of_methods_is_one_method_with_seeds():
    exp, gsa = get_method("exp", SENSOR, 4), get_method("gsa", SENSOR, 4)
    table = evaluate({"pair": [exp, gsa], "EXP": exp}, scenes(2), CPU, first_seed=7)
    assert table[["method", "seed", "scene", "resolution"]].values.tolist()[:3] == [
        ["pair", 7, "s0", "full"],
        ["pair", 8, "s0", "full"],
        ["EXP", pd.NA, "s0", "full"],
    ]
    assert (
        table.query("method == 'pair' and seed == 7")["ERGAS"].tolist()
        == table.query("method == 'EXP'")["ERGAS"].tolist()
    )


def test_the_truth_itself_scores_perfectly():
    patches = TinyPatches(count=1)
    table = evaluate({"truth": lambda lrms, pan: patches.gt}, scenes(1), CPU)
    assert table["ERGAS"].item() == pytest.approx(0, abs=1e-5) and table["SAM"].item() == pytest.approx(
        0, abs=0.05
    )


def test_fusing_clips_and_turns_training_mode_off():
    network = torch.nn.Module()
    network.forward = lambda lrms, pan: 9 * torch.ones(1, 4, 64, 64, requires_grad=True)
    hrms = fuse(network.train(), TinyPatches(count=1).batch([0]))
    assert hrms.max() == 1 and not hrms.requires_grad and not network.training


def test_the_mean_is_over_scenes_first_and_the_spread_over_seeds():
    mean, spread = summary(scores({("a", 0): [1, 3], ("a", 1): [5, 7], ("b", 0): [2, 2]}))
    assert mean["ERGAS"].to_dict() == {"a": 4, "b": 2}
    assert spread.loc["a", "ERGAS"] == pytest.approx(8**0.5) and pd.isna(spread.loc["b", "ERGAS"])


def test_differences_are_taken_seed_by_seed():
    table = scores({("plain", 0): [1, 3], ("plain", 1): [4, 4], ("c", 0): [1, 1], ("c", 1): [5, 7]})
    assert paired(table, "c", "plain")["ERGAS"].tolist() == [-1, 2]


def test_two_methods_without_a_seed_pair_as_one():
    table = scores({("plain", None): [1, 3], ("c", None): [4, 6]}).astype({"seed": "Int64"})
    assert paired(table, "c", "plain")["ERGAS"].tolist() == [3]
    assert summary(table)[0]["ERGAS"].to_dict() == {"plain": 2, "c": 5}


def test_scores_of_two_resolutions_have_no_common_mean():
    table = scores({("a", 0): [1, 3]})
    both = pd.concat([table, table.assign(resolution="reduced")])
    with pytest.raises(ValueError, match="scores at full, reduced resolution have no common mean"):
        summary(both)
    with pytest.raises(ValueError, match="no common mean"):
        paired(both, "a", "a")


def test_what_does_not_pair_is_refused():
    table = scores({("plain", 0): [1], ("plain", 1): [4], ("c", 0): [1]})
    with pytest.raises(ValueError, match="different seeds"):
        paired(table, "c", "plain")
    with pytest.raises(ValueError, match="no scores of 'd'; there are: plain, c"):
        paired(table, "d", "plain")


def test_no_scenes_are_refused():
    with pytest.raises(ValueError, match="no test scene"):
        evaluate({}, [], CPU)


def test_speed_is_megapixels_over_the_fastest_run_and_the_first_is_not_timed(monkeypatch):
    clock = iter([0, 8, 10, 14, 20, 22, 30, 33])  # 8 s to warm up, then 4, 2 and 3 s
    monkeypatch.setattr("clippan_lib.evaluation.scores.time.perf_counter", lambda: next(clock))
    batch = TinyPatches(count=2).batch([0, 1])
    assert speed(get_method("exp", SENSOR, 4), batch) == pytest.approx(2 * 64 * 64 / 1e6 / 2)


def test_digital_numbers_are_those_of_the_manifest_and_not_of_the_sensor(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"ms": (2, 4, 8, 8), "pan": (2, 1, 32, 32), "gt": (2, 4, 32, 32)}
    eight_bits = {key: rng.integers(1, 256, shape).astype(np.float64) for key, shape in shapes.items()}
    save_h5(tmp_path / "test_reduced.h5", **eight_bits)
    save_h5(tmp_path / "test_full.h5", full=True, ms=eight_bits["ms"], pan=eight_bits["pan"])
    dataset = h5_dataset(tmp_path, max_value=255)
    method = get_method("gsa", SENSOR, 4)
    lrms, pan, gt = (torch.from_numpy(eight_bits[key][:1]).float() / 255 for key in ("ms", "pan", "gt"))
    hrms = fuse(method, dataset.scenes("test", "full")[0].read()).double()
    others = []
    for dn_max in (255, 2047):
        expected = reduced_scores(hrms, gt.double(), 4, dn_max)
        expected |= full_scores(hrms, lrms.double(), pan.double(), SENSOR, 4, dn_max)
        others.append({name: value.item() for name, value in expected.items() if name in TABLES})
    seen = [evaluate({"GSA": method}, dataset.scenes("test", at)[:1], CPU) for at in ("reduced", "full")]
    row = pd.concat(seen).groupby("method").first().loc["GSA"]
    assert {name: row[name] for name in others[0]} == pytest.approx(others[0], rel=1e-9)
    moved = {name for name in others[0] if others[0][name] != others[1][name]}
    assert moved == {"Q2n", "R_Q2n", "D_lambda_K", "HQNR", "RQNR"}


@pytest.mark.slow
def test_who_is_first_with_repeated_borders_is_first_without_any_and_with_joined_ones_is_not():
    manifest = Path(__file__).resolve().parents[1] / "data_manifests" / "synthetic_wv3.yaml"
    dataset = open_dataset(load_manifest(manifest))
    batches = [scene.read() for scene in dataset.scenes("test", "reduced")]
    ranks = {}
    for border in ("replicate", "circular"):
        table = {}
        for name in CLASSICAL:
            method = get_method(name, dataset.sensor, 4, border=border)
            pairs = [(fuse(method, batch), batch.gt) for batch in batches]
            table[name] = [
                np.mean([mpsnr(crop_border(hrms, cut), crop_border(gt, cut)).item() for hrms, gt in pairs])
                for cut in (0, 21)
            ]
        ranks[border] = pd.DataFrame(table, index=["whole", "cut"]).T.rank(ascending=False)
    whole, cut = ranks["replicate"]["whole"], ranks["replicate"]["cut"]
    assert whole.idxmin() == cut.idxmin() != ranks["circular"]["whole"].idxmin()
    assert ranks["circular"]["cut"].idxmin() == cut.idxmin()  # the border alone makes the difference
    distance = {border: ((table["whole"] - table["cut"]) ** 2).sum() for border, table in ranks.items()}
    assert distance["replicate"] < distance["circular"] / 2
