"""Which method is best on a scene of one's own: parts, contest, verdict, page and commands."""

import csv
import io
import re
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from rasters import grid, noise, save
from scenes import HEIGHT, WIDTH, land, scene
from scipy import stats

from clippan_lib import cli
from clippan_lib.commands import sensor_of
from clippan_lib.commands.adapt import certify
from clippan_lib.data import wald
from clippan_lib.data.pair import open_pair
from clippan_lib.errors import DataError, OutputError
from clippan_lib.files import kept
from clippan_lib.fusion import CLASSICAL, get_method, network_for
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.metrics import BETTER, full_scores, reduced_scores
from clippan_lib.sensors import Sensor, get_sensor
from clippan_lib.sharpening import plan_job
from clippan_lib.sharpening.adapted import adapted
from clippan_lib.sharpening.areas import choose_areas, settings_of
from clippan_lib.sharpening.certificate import known_trust, write_certificate
from clippan_lib.sharpening.contest import colours, images, in_blocks, plan_contest, run_contest
from clippan_lib.sharpening.delivered import open_on_grid, score_fused
from clippan_lib.sharpening.verdict import Place, best_of_each, leads, scores_of, trust, verdict

QB = get_sensor("QB")
QUICK = ["exp", "gsa", "mtf_glp"]


def large(folder, height, width, hole=None):
    """A pair of noise without anything to fuse, for what only counts pixels."""
    ms, pan = noise(4, height, width), noise(1, 4 * height, 4 * width, seed=1)
    if hole:
        ms[:, *hole] = 0
    return open_pair(
        save(folder / "ms.tif", ms, grid(4, 0.5, 0.5), nodata=0),
        save(folder / "pan.tif", pan, grid(), nodata=0),
    )


def rows(*entries):
    """Of (method, consistency, setting, metric, value, blocks)."""
    names = ["method", "consistency", "setting", "metric", "value", "blocks"]
    return pd.DataFrame([dict(zip(names, entry, strict=True)) | {"seed": None} for entry in entries])


# What is compared


def test_a_small_scene_is_compared_as_a_whole_cut_to_what_blocks_tile(tmp_path):
    areas = choose_areas(large(tmp_path, 75, 84), QB)
    assert areas.lrms.shape == (1, 4, 72, 80) and areas.pan.shape == (1, 1, 288, 320)
    assert areas.corners == [(0, 0)] and areas.largest == 2047
    assert areas.in_words == "one area of 72 x 80 LRMS px, 91% of the scene"
    pixels = choose_areas(large(tmp_path, 75, 84), None)
    assert pixels.largest == 119 and pixels.lrms.max() == 1


def test_of_a_scene_with_holes_or_a_large_one_squares_without_any_are_compared(tmp_path):
    holed = choose_areas(large(tmp_path, 100, 180, (slice(40, 60), slice(0, 20))), QB)
    assert holed.lrms.shape == (2, 4, 80, 80) or holed.lrms.shape == (1, 4, 80, 80)
    assert (holed.lrms > 0).all()
    wide = choose_areas(large(tmp_path, 330, 660), QB)
    assert wide.lrms.shape == (4, 4, 160, 160) and len(set(wide.corners)) == 4
    # as many pixels without a truth as of one whole area of 160
    full = settings_of(wide, QB)[-1]
    assert full.setting == "full" and full.lrms.shape == (4, 4, 80, 80)
    assert torch.equal(full.lrms, wide.lrms[..., 40:120, 40:120])
    assert torch.equal(full.pan, wide.pan[..., 160:480, 160:480])


def test_a_scene_without_a_square_of_data_is_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"no square of 40 x 40 LRMS px of the scene \(50 x 60\) is free of NoData"
    ):
        choose_areas(large(tmp_path, 50, 60, (slice(None), slice(25, 35))), QB)
    with pytest.raises(DataError, match=r"\(30 x 60\)"):
        choose_areas(large(tmp_path, 30, 60), QB)


def test_the_truth_is_the_bands_made_sharp_where_they_are_soft(tmp_path):
    areas = choose_areas(large(tmp_path, 80, 80), QB)
    sharp, delivered, _ = settings_of(areas, replace(QB, gnyq=(0.1,) * 4))
    assert (sharp.setting, delivered.setting) == ("reduced", "as_delivered")
    batch = wald(areas.lrms, areas.pan, replace(QB, gnyq=(0.1,) * 4), sharp=True)
    assert torch.equal(sharp.gt, batch.gt) and torch.equal(sharp.pan, batch.pan)
    assert torch.equal(delivered.gt, areas.lrms) and sharp.sharpness > delivered.sharpness
    only, full = settings_of(areas, QB)
    assert (only.setting, full.setting) == ("reduced", "full")
    assert torch.equal(only.gt, areas.lrms) and full.gt is None


def test_blocks_are_the_parts_of_an_image_row_by_row():
    image = torch.arange(2 * 3 * 70 * 100.0).view(2, 3, 70, 100)
    parts = in_blocks(image)  # 32 px at least: 2 x 3 of each image
    assert parts.shape == (12, 3, 32, 32)
    assert torch.equal(parts[1], image[0, :, :32, 32:64])
    assert torch.equal(parts[9], image[1, :, 32:64, :32])
    assert in_blocks(image[..., :20, :]).shape == (2 * 5, 3, 20, 20)


def test_colours_are_found_by_name_or_are_the_first_three():
    assert colours(("blue", "green", "red", "nir")) == (2, 1, 0)
    assert colours(("a", "b", "c", "d")) == (0, 1, 2)
    assert colours(("a", "b")) == (0, 0, 0)


# The contest


def test_every_method_takes_part_with_and_without_consistency(tmp_path):
    contest = plan_contest(*scene(tmp_path), sensor=QB)
    assert [entrant.name for entrant in contest.entrants] == [*CLASSICAL, "bandwise", "stack"]
    behind = {entrant.name: [str(steps) for steps in entrant.behind] for entrant in contest.entrants}
    assert behind["gsa"] == ["", "+3", "++1"] and behind["bandwise"] == ["", "+3"] and behind["stack"] == [""]
    assert contest.absent == []


def test_what_consistency_needs_decides_who_takes_part(tmp_path):
    off = plan_contest(*scene(tmp_path, shift=(2, 0)), sensor=QB)
    assert all(len(entrant.behind) == 1 for entrant in off.entrants)
    assert "stack" not in {entrant.name for entrant in off.entrants}
    assert re.match(r"steps of consistency: PAN lies \+[12]\.\d\d rows and .* off MS", off.absent[0])
    assert off.absent[1] == "stack: it ends in consistency"
    unnamed = plan_contest(*scene(tmp_path))
    assert {entrant.name for entrant in unnamed.entrants}.isdisjoint({"bdsd", "bdsd_pc"})
    assert all("needs PAN's gain" in reason for reason in unnamed.absent)


def test_a_contest_that_cannot_be_is_refused(tmp_path):
    with pytest.raises(DataError, match="unknown methods gsb, x; known: exp, "):
        plan_contest(*scene(tmp_path), sensor=QB, methods=["gsb", "gsa", "x"])
    with pytest.raises(DataError, match="no method is left to compare: bdsd: it needs PAN's gain"):
        plan_contest(*scene(tmp_path), methods=["bdsd"])


def test_images_are_those_of_the_methods_by_name(tmp_path):
    contest = plan_contest(*scene(tmp_path), sensor=QB, methods=["gsa", "stack"])
    reduced = next(judged for judged in contest.settings if judged.setting == "reduced")
    gsa, stack = contest.entrants
    found = {str(steps): hrms for steps, hrms in images(gsa, reduced, contest.sensor)}
    for name in ("gsa", "gsa+3"):
        expected = get_method(name, contest.sensor, 4)(reduced.lrms, reduced.pan).clamp(0, 1)
        torch.testing.assert_close(found[name.removeprefix("gsa")], expected)
    assert not torch.equal(found["++1"], found["+3"])
    (_, hrms), *others = images(stack, reduced, contest.sensor)
    assert hrms.shape == reduced.gt.shape and not others


def test_the_rows_are_the_scores_of_each_setting_and_what_was_scored_is_kept(tmp_path, monkeypatch):
    contest = plan_contest(*scene(tmp_path), sensor=QB, methods=QUICK)
    seen = []
    table = run_contest(contest, tmp_path / "kept.json", lambda *told: seen.append(told[:3]))
    assert seen[0] == ("one scale down", 1, 3) and len(seen) == 9
    reduced, _, full = contest.settings
    largest = contest.areas.largest
    gsa = table[(table.method == "gsa") & (table.consistency == "none")]
    hrms = get_method("gsa", contest.sensor, 4)(reduced.lrms, reduced.pan).clamp(0, 1)
    values = gsa[gsa.setting == "reduced"].set_index("metric")
    expected = reduced_scores(hrms, reduced.gt, 4, largest)
    assert values.value.to_dict() == pytest.approx({name: score.item() for name, score in expected.items()})
    parts = reduced_scores(in_blocks(hrms), in_blocks(reduced.gt), 4, largest)["MPSNR"]
    assert values.blocks["MPSNR"] == pytest.approx(parts.tolist(), abs=1e-5)
    hrms = get_method("gsa", contest.sensor, 4)(full.lrms, full.pan).clamp(0, 1)
    expected = full_scores(hrms, full.lrms, full.pan, contest.sensor, 4, largest)
    values = gsa[gsa.setting == "full"].set_index("metric").value
    assert values.to_dict() == pytest.approx({name: score.item() for name, score in expected.items()})
    assert set(table.metric) == set(BETTER) and table.value.notna().all()

    def never(_):
        raise AssertionError("fused again")

    again = replace(contest, entrants=[replace(entrant, fused=never) for entrant in contest.entrants])
    pd.testing.assert_frame_equal(run_contest(again, tmp_path / "kept.json"), table)
    with pytest.raises(AssertionError, match="fused again"):
        run_contest(replace(again, key="another"), tmp_path / "kept.json")


def test_a_stopped_contest_goes_on_where_it_was(tmp_path):
    contest = plan_contest(*scene(tmp_path), sensor=QB, methods=QUICK)

    def stopped(_):
        raise KeyboardInterrupt

    cut = [contest.entrants[0], replace(contest.entrants[1], fused=stopped)]
    with pytest.raises(KeyboardInterrupt):
        run_contest(replace(contest, entrants=cut), tmp_path / "kept.json")
    assert [*kept(tmp_path / "kept.json")["rows"]] == ["reduced exp"]


@pytest.mark.parametrize(
    "spoilt",
    [lambda text: text[:-30], lambda text: "", lambda text: text.replace('"value": 3', '"value": 4', 1)],
)
def test_scores_that_were_cut_or_altered_are_named_and_found_again(tmp_path, caplog, spoilt):
    contest = plan_contest(*scene(tmp_path), sensor=QB, methods=["exp"])
    alone, file = replace(contest, settings=contest.settings[:1]), tmp_path / "kept.json"
    table = run_contest(alone, file)
    whole = file.read_text()
    file.write_text(spoilt(whole))
    assert file.read_text() != whole
    pd.testing.assert_frame_equal(run_contest(alone, file), table)
    assert "kept.json: is empty, cut short or altered" in caplog.text and file.read_text() == whole


def test_scores_that_cannot_be_kept_say_where(tmp_path):
    contest = plan_contest(*scene(tmp_path), sensor=QB, methods=["exp"])
    (tmp_path / "kept.json").mkdir()
    with pytest.raises(OutputError, match=r"kept\.json: cannot be kept .Is a directory"):
        run_contest(replace(contest, settings=contest.settings[:1]), tmp_path / "kept.json")


def test_a_trained_network_takes_part_in_the_units_of_its_training(tmp_path):
    network = network_for("pnn", QB, seed=0)
    file = tmp_path / "pnn-0.safetensors"
    TrainedNetwork(network, "pnn", QB, 1000.0, {}).save(file)
    contest = plan_contest(*scene(tmp_path), methods=["exp"], networks=[file])
    _, entrant = contest.entrants
    full = contest.settings[-1]
    assert entrant.name == "pnn of pnn-0.safetensors"
    with torch.no_grad():
        expected = network(full.lrms * 2.047, full.pan * 2.047) / 2.047
        torch.testing.assert_close(entrant.fused(full), expected)
    with pytest.raises(ValueError, match="was trained for sensor QB, not IKONOS"):
        plan_contest(*scene(tmp_path), sensor=get_sensor("IKONOS"), networks=[file])


def test_a_sensor_of_ones_own_is_read_from_a_file(tmp_path, capsys):
    ms, pan = scene(tmp_path)
    own = tmp_path / "mine.yaml"
    fields = "bands: [a, b, c, d]\nbits: 12\nratio: 4\ngnyq: [0.3, 0.3, 0.3, 0.2]\ngnyq_pan: 0.2\n"
    own.write_text(f"name: MINE\n{fields}rgb: [2, 1, 0]\ngbnir: [1, 0, 3]\n")
    command = ["score", "--fused", str(ms), "--ms", str(ms), "--pan", str(pan), "--sensor", str(own)]
    assert sensor_of(str(own)) == Sensor(
        "MINE", ("a", "b", "c", "d"), 12, 4, (0.3, 0.3, 0.3, 0.2), 0.2, (2, 1, 0), (1, 0, 3)
    )
    job = plan_job(ms, pan, "mtf_glp", sensor=sensor_of(str(own)), gains="table", bands=["D", "b"])
    assert job.optics.gnyq == (0.2, 0.3) and job.pair.band_names == ("d", "b")
    own.write_text(f"name: MINE\n{fields}rgb: [2, 1, 0]\ngbnir: [1, 0, 3]\ngain: 3\n")
    assert cli.main(command) == 2
    assert "field gain = 3 is unknown; correct its spelling or remove it" in capsys.readouterr().err
    assert cli.main([*command[:-1], str(tmp_path / "none.yaml")]) == 2
    assert "none.yaml: cannot be read" in capsys.readouterr().err


def test_an_image_whose_last_band_its_writer_tagged_alpha_is_scored_with_it(tmp_path):
    pair = large(tmp_path, 20, 24)
    image = noise(4, 80, 96, dtype=np.uint8)
    opened = open_on_grid(save(tmp_path / "fused.tif", image, grid()), pair)
    assert rasterio.open(tmp_path / "fused.tif").colorinterp[3].name == "alpha"
    assert opened.raster.bands == (1, 2, 3, 4)
    image[3] = 255
    with pytest.raises(DataError, match="3 bands, and MS has 4"):
        open_on_grid(save(tmp_path / "fused.tif", image, grid()), pair)


# The verdict


def test_the_verdict_is_the_best_and_how_far_it_leads():
    table = rows(
        ("stack", "none", "reduced", "MPSNR", 40.0, [41.0, 39.0, 40.0]),
        ("gsa", "none", "reduced", "MPSNR", 38.0, [38.5, 37.5, 38.0]),
        ("gsa", "+3", "reduced", "MPSNR", 39.0, [39.5, 38.5, 39.0]),
        ("bandwise", "none", "reduced", "MPSNR", 39.9, [40.0, 40.0, 39.7]),
        ("stack", "none", "full", "D_rho", 0.1, []),
    )
    result = verdict(table)
    assert result.best == ("stack", "none") and result.leads.other == ("gsa", "+3")
    # differences 1.5, .5, 1: mean 1, sd .5
    half = stats.t.ppf(0.975, 2) * 0.5 / 3**0.5
    assert (result.leads.mean, result.leads.half) == pytest.approx((1.0, half))
    assert result.sentence == (
        "By the truth one scale down stack is best on this scene: 40.00 dB (MPSNR). The best classical method, GSA + 3 "
        "steps, has 1.00 ± 1.24 dB less (95 % interval over 3 parts of the scene), so the two cannot be told apart."
    )
    assert leads(table, result.best)[Place("bandwise", "none")].mean == pytest.approx(0.1)
    assert [*best_of_each(scores_of(table, "reduced")).index] == [
        ("stack", "none"),
        ("bandwise", "none"),
        ("gsa", "+3"),
    ]


def test_a_classical_winner_is_compared_with_the_next_and_one_alone_with_nobody():
    table = rows(
        ("gsa", "+3", "reduced", "MPSNR", 39.0, [39.0, 39.1]),
        ("stack", "none", "reduced", "MPSNR", 38.0, [38.0, 38.1]),
    )
    result = verdict(table)
    assert result.leads.clear and "The next best method, stack, has 1.00 ± 0.00 dB less" in result.sentence
    assert result.best.name == "gsa+3"
    assert verdict(table[:1]).sentence.endswith("39.00 dB (MPSNR). Nothing else was compared.")
    with pytest.raises(DataError, match="no method has a score one scale down"):
        verdict(table.assign(setting="full"))


def test_titles_say_the_steps():
    assert Place("gsa", "none").title == "GSA"
    assert Place("gsa", "++1").title == "GSA + 1 step with PAN"
    assert Place("bandwise", "+3").title == "bandwise + 3 steps"


def test_how_far_it_can_be_trusted_is_said_with_the_numbers_that_were_measured():
    told = trust(known_trust())
    assert f"On {known_trust()['scenes']} synthetic scenes" in told and "with HQNR" in told


# The page and the commands


def test_the_command_writes_scores_and_a_page_that_needs_nothing_else(tmp_path, capsys):
    ms, pan = scene(tmp_path)
    out = tmp_path / "compared"
    command = ["compare", "--ms", str(ms), "--pan", str(pan), "--sensor", "QB", "--out", str(out)]
    assert cli.main([*command, "--methods", "exp,gsa,bt_h"]) == 0
    said, told = capsys.readouterr()
    assert "gains measured on the scene" in told
    table = pd.read_csv(out / "scores.csv", keep_default_na=False)
    assert [*table] == ["method", "consistency", "setting", "seed", "metric", "value"]
    assert {*table.consistency} == {"none", "+3", "++1"} and {*table.setting} == {
        "reduced",
        "as_delivered",
        "full",
    }
    page = (out / "index.html").read_text(encoding="utf-8")
    assert said.splitlines()[0] in page and said.splitlines()[1:] == [
        str(out / "index.html"),
        str(out / "scores.csv"),
    ]
    assert len(page) < 3e6 and not re.search(r'(src|href)="(?!data:)', page)
    assert page.count("<img") == 3 and "What this page cannot say" in page
    stamp = (out / ".kept.json").stat().st_mtime_ns
    assert cli.main([*command, "--methods", "exp,gsa,bt_h"]) == 0
    assert (out / ".kept.json").stat().st_mtime_ns == stamp


def test_a_file_name_on_the_page_is_text(tmp_path):
    ms, pan = scene(tmp_path)
    named = ms.rename(tmp_path / "<b>&.tif")
    contest = plan_contest(named, pan, sensor=QB, methods=["exp", "gsa"])
    write_certificate(contest, run_contest(contest, tmp_path / "kept.json"), tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;.tif" in page and "<b>&" not in page


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--methods", "none"], "unknown methods none"),
        (["--networks", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--sensor", "XX"], "unknown sensor 'XX'"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused_and_nothing_is_written(tmp_path, capsys, more, said):
    ms, pan = scene(tmp_path)
    out = tmp_path / "compared"
    assert cli.main(["compare", "--ms", str(ms), "--pan", str(pan), "--out", str(out), *more]) == 2
    assert said in capsys.readouterr().err and not out.exists()


def test_a_folder_that_cannot_be_made_is_refused(tmp_path, capsys):
    ms, pan = scene(tmp_path)
    (tmp_path / "file").write_text("")
    command = ["compare", "--ms", str(ms), "--pan", str(pan), "--out", str(tmp_path / "file" / "x")]
    assert cli.main([*command, "--methods", "exp"]) == 2
    assert "index.html: cannot be written (Not a directory)" in capsys.readouterr().err


def test_auto_sharpens_with_the_best_one_scale_down(tmp_path, capsys, monkeypatch):
    ms, pan = scene(tmp_path)
    monkeypatch.setattr("clippan_lib.sharpening.contest.CLASSICAL", {name: CLASSICAL[name] for name in QUICK})
    out = tmp_path / "fused.tif"
    command = ["sharpen", "--ms", str(ms), "--pan", str(pan), "--sensor", "QB", "--out", str(out)]
    assert cli.main([*command, "--method", "auto"]) == 0
    told = capsys.readouterr().err
    best = re.search(r"one scale down (.+?) is best on this scene", told)[1]
    with rasterio.open(out) as file:
        method = file.tags()["CLIPPAN_METHOD"]
    assert method.startswith(best.split()[0].lower().replace("-", "_").split("_of")[0])
    assert not list(tmp_path.glob(".fused*json"))


def test_auto_refuses_a_folder_that_is_not_there(tmp_path, capsys):
    ms, pan = scene(tmp_path)
    command = ["sharpen", "--ms", str(ms), "--pan", str(pan), "--out", str(tmp_path / "no" / "x.tif")]
    assert cli.main([*command, "--method", "auto"]) == 2
    assert "no: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [(["--consistent", "2"], "leave --consistent out"), (["--adapt", "smoke"], "leave one of the two out")],
)
def test_auto_refuses_what_it_would_have_to_guess(tmp_path, capsys, more, said):
    ms, pan = scene(tmp_path)
    command = [
        "sharpen",
        "--ms",
        str(ms),
        "--pan",
        str(pan),
        "--out",
        str(tmp_path / "x.tif"),
        "--sensor",
        "QB",
    ]
    assert cli.main([*command, "--method", "auto", *more]) == 2
    assert said in capsys.readouterr().err


# A file that another program wrote


def delivered(folder, image, name="fused.tif", transform=None, **options):
    return save(folder / name, image, transform or grid(), **options)


def test_the_score_of_a_file_is_that_of_its_pixels(tmp_path, capsys):
    ms, pan = scene(tmp_path)
    gt = (2047 * land()[0][0, :, 4:-4, 4:-4]).round().numpy().astype(np.uint16)
    bands = torch.from_numpy(rasterio.open(ms).read().astype(np.float32))[None]
    blurred = get_method("exp", QB, 4)(bands, torch.zeros(1, 1, 4 * HEIGHT, 4 * WIDTH))
    fused = delivered(tmp_path, blurred[0].clamp(0).round().numpy().astype(np.uint16))
    truth = delivered(tmp_path, gt, "truth.tif")
    command = ["score", "--fused", str(fused), "--ms", str(ms), "--pan", str(pan), "--sensor", "QB"]
    assert cli.main([*command, "--reference", str(truth)]) == 0
    found = {row["metric"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert {*found} == {*BETTER} and found["D_rho"]["better"] == "low"
    scores, areas, _ = score_fused(fused, ms, pan, sensor=QB)
    height, width = areas.pan.shape[-2:]
    hrms, reference = (
        torch.from_numpy(rasterio.open(file).read()[:, :height, :width].astype(np.float32))[None]
        / areas.largest
        for file in (fused, truth)
    )
    expected = reduced_scores(hrms, reference, 4, areas.largest)
    assert float(found["MPSNR"]["value"]) == pytest.approx(expected["MPSNR"].item(), rel=1e-5)
    assert "MPSNR" not in scores and scores["D_rho"] == pytest.approx(
        float(found["D_rho"]["value"]), rel=1e-5
    )


@pytest.mark.parametrize(
    ("factors", "said"),
    [
        (
            (1 / 2047, 1),
            "fused.tif: the image has values about 0.[0-9]*, and MS about [0-9]*: are they in the same unit",
        ),
        ((16, None), "fused.tif: the image has values about [0-9.e+]*, and MS about"),
        ((1, 1 / 2047), "truth.tif: the image has values about 0.[0-9]*, and MS about"),
        ((2.5, 0.4), "fused.tif: the image has values about [0-9.e+]*, and the reference about"),
    ],
)
def test_an_image_or_a_truth_in_another_unit_than_ms_is_not_scored(tmp_path, capsys, factors, said):
    ms, pan = scene(tmp_path)
    gt = (2047 * land()[0][0, :, 4:-4, 4:-4]).numpy()
    command = ["score", "--ms", str(ms), "--pan", str(pan), "--sensor", "QB"]
    for option, name, factor in zip(
        ("--fused", "--reference"), ("fused.tif", "truth.tif"), factors, strict=True
    ):
        if factor is not None:
            command += [option, str(delivered(tmp_path, (factor * gt).astype(np.float32), name))]
    assert cli.main(command) == 2
    assert re.search(said, capsys.readouterr().err)


def test_gdals_own_pansharpening_is_scored_where_it_lies(tmp_path):
    ms, pan = scene(tmp_path)
    bands = "".join(
        f'<SpectralBand dstBand="{n}"><SourceFilename>{ms}</SourceFilename><SourceBand>{n}</SourceBand></SpectralBand>'
        for n in range(1, 5)
    )
    weights = ",".join(["0.25"] * 4)
    vrt = tmp_path / "gdal.vrt"
    vrt.write_text(
        '<VRTDataset subClass="VRTPansharpenedDataset"><PansharpeningOptions><Algorithm>WeightedBrovey</Algorithm>'
        f"<AlgorithmOptions><Weights>{weights}</Weights></AlgorithmOptions><PanchroBand><SourceFilename>{pan}"
        f"</SourceFilename><SourceBand>1</SourceBand></PanchroBand>{bands}</PansharpeningOptions></VRTDataset>"
    )
    scores, _, _ = score_fused(vrt, ms, pan, sensor=QB)
    contest = plan_contest(ms, pan, sensor=QB, methods=["brovey", "exp"])
    ours = scores_of(run_contest(contest, tmp_path / "kept.json"), "full")
    # GDAL fuses the MS pixels where they lie, without our low-pass: near our Brovey, and far from no fusion
    assert scores["D_rho"] < 0.5 * ours.loc[("exp", "none"), "D_rho"]
    assert scores["D_rho"] == pytest.approx(ours.loc[("brovey", "none"), "D_rho"], abs=0.1)


def test_an_image_on_a_larger_grid_is_read_where_the_pair_lies(tmp_path):
    ms, pan = scene(tmp_path)
    pair = open_pair(ms, pan)
    image = noise(4, 4 * HEIGHT + 10, 4 * WIDTH + 12)
    wide = open_on_grid(delivered(tmp_path, image, transform=grid(1, -3, -5)), pair)
    assert np.array_equal(wide.read((8, 4), 16, 20)[0], image[:, 11:27, 9:29])
    bare = delivered(tmp_path, noise(4, 4 * pair.height, 4 * pair.width), "bare.tif", transform=None)
    with rasterio.open(bare, "r+") as file:
        file.transform = rasterio.Affine.identity()
    assert open_on_grid(bare, pair).first == (0, 0)


@pytest.mark.parametrize(
    ("image", "transform", "said"),
    [
        (noise(3, 300, 336), grid(), "3 bands, and MS has 4"),
        (noise(4, 150, 168), grid(2), r"pixels of 1 x -1, and PAN's are 0.5 x -0.5"),
        (
            noise(4, 300, 336),
            grid(1, 0.5, 0),
            r"lies [+-]0.50 rows and [+-]0.00 columns off the pixels of PAN",
        ),
        (noise(4, 100, 336), grid(), "do not cover rows"),
        (np.where(np.arange(336) < 9, 0, noise(4, 300, 336)).astype(np.uint16), grid(), "hold NoData"),
    ],
)
def test_an_image_that_does_not_lie_on_pan_is_refused(tmp_path, capsys, image, transform, said):
    ms, pan = scene(tmp_path)
    fused = delivered(tmp_path, image, transform=transform, nodata=0)
    assert (
        cli.main(["score", "--fused", str(fused), "--ms", str(ms), "--pan", str(pan), "--sensor", "QB"]) == 2
    )
    assert re.search(said, capsys.readouterr().err)


def test_an_image_without_a_georeference_must_have_the_pairs_size(tmp_path):
    ms, pan = scene(tmp_path)
    bare = save(tmp_path / "bare.tif", noise(4, 100, 100), None)
    with pytest.raises(DataError, match=r"without a georeference, 100 x 100 px must be \d+ x \d+"):
        open_on_grid(bare, open_pair(ms, pan))


# The package's own network, trained on the scene


def test_adapting_trains_on_what_each_setting_shows_and_takes_part(tmp_path):
    ms, pan = scene(tmp_path, gains=(0.3,) * 4)
    out = tmp_path / "compared"
    command = ["compare", "--ms", str(ms), "--pan", str(pan), "--sensor", "QB", "--out", str(out)]
    assert cli.main([*command, "--methods", "exp", "--adapt", "smoke", "--seed", "3"]) == 0
    assert "adapted" in (out / "index.html").read_text(encoding="utf-8")
    assert "adapted,none,reduced,3,MPSNR," in (out / "scores.csv").read_text()
    table = pd.read_csv(out / "scores.csv")
    ours = table[table.method == "adapted"]
    assert {*ours.setting} == {"reduced", "full"} and {*ours.seed} == {3}
    scores = scores_of(table, "reduced").MPSNR
    assert scores[("adapted", "none")] > scores[("exp", "none")] + 3


def test_what_was_kept_of_one_training_is_not_taken_for_anothers(tmp_path):
    ms, pan = scene(tmp_path, gains=(0.3,) * 4)
    contest = plan_contest(ms, pan, sensor=QB, methods=["exp"])
    made = {
        (preset, seed): adapted(contest, tmp_path / "out", preset=preset, seed=seed)
        for preset, seed in (("smoke", 0), ("smoke", 1), ("demo", 0))
    }
    assert len({entrant.identity for entrant in made.values()}) == 3
    for entrant in made.values():
        alone = replace(
            contest, settings=contest.settings[:1], entrants=[replace(entrant, fused=lambda j: 0.9 * j.gt)]
        )
        run_contest(alone, tmp_path / "kept.json")
    assert len(kept(tmp_path / "kept.json")["rows"]) == 3


def test_the_truth_that_judges_reaches_no_training(tmp_path):
    ms, pan = scene(tmp_path, gains=(0.3,) * 4)
    contest = plan_contest(ms, pan, sensor=QB, methods=["exp"])
    entrant = adapted(contest, tmp_path / "out", preset="smoke")
    assert not entrant.fused.networks  # nothing is trained before it is asked for
    patches = [
        training.dataset.patches("train", "full", training.config.patch)
        for training in entrant.fused.trainings.values()
    ]
    assert not any(each.has_gt for each in patches)
    reduced = contest.settings[0]
    cut = patches[0].batch([0])
    size = cut.lrms.shape[-1]
    torch.testing.assert_close(cut.lrms, reduced.lrms[..., :size, :size], atol=2e-3, rtol=0)


def test_a_preset_that_is_not_trained_one_scale_down_and_a_scene_too_small_are_refused(tmp_path, capsys):
    ms, pan = scene(tmp_path)
    command = ["compare", "--ms", str(ms), "--pan", str(pan), "--sensor", "QB", "--out", str(tmp_path / "x")]
    assert cli.main([*command, "--methods", "exp", "--adapt", "paper"]) == 2
    assert (
        "preset 'paper' is not trained one scale down; choose one of smoke, demo" in capsys.readouterr().err
    )
    assert cli.main([*command, "--methods", "exp", "--adapt", "smoke"]) == 2  # soft bands are halved first
    assert "one scale down 9 LRMS px are left of the scene" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_adapting_ends_with_a_certificate_of_its_own_network(tmp_path):
    ms, pan = scene(tmp_path, gains=(0.3,) * 4)
    file = tmp_path / "run" / "networks" / "full" / "bandwise-C-0.safetensors"
    trained = TrainedNetwork(network_for("bandwise", QB, seed=0), "bandwise", QB, 2047.0, {})
    trained.save(file)
    options = Namespace(
        ms=ms,
        pan=pan,
        out=tmp_path / "fused.tif",
        bands=None,
        georeference=True,
        nodata=None,
        gains="measured",
        adapt="smoke",
        seed=0,
    )
    page = certify(options, file, (0.0, 0.0))
    assert page == tmp_path / "run" / "certificate" / "index.html"
    table = pd.read_csv(page.with_name("scores.csv"))
    assert {*table[table.method == "adapted"].setting} == {"reduced", "full"}
    assert {*CLASSICAL} < {*table.method}
    # at full resolution it is the network of the file, which is not trained again
    full = scores_of(table, "full").loc[("adapted", "none")]
    contest = plan_contest(ms, pan, sensor=QB, methods=["exp"], networks=[file])
    again = scores_of(run_contest(contest, tmp_path / "kept.json"), "full")
    name = "bandwise of bandwise-C-0.safetensors"
    assert again.loc[(name, "none")].to_dict() == pytest.approx(full.to_dict(), rel=1e-4)
