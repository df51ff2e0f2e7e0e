"""Which bands PAN does not see."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from rasters import grid, save
from scenes import land

from clippan_lib import cli
from clippan_lib.data.pair import ScenePair, open_pair
from clippan_lib.mtf import degrade
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening.seen import seen_by_pan, warning
from clippan_lib.sharpening.windows import far_windows


def seen_of(pair: ScenePair) -> tuple[float, ...]:
    return seen_by_pan(far_windows(pair), pair.ratio)


def unlike(folder: Path, hole: int = 0) -> tuple[Path, Path]:
    """Four bands: three that PAN is made of, and one of another place."""
    gt, _ = land()
    pan = gt[:, :3].mean(1, keepdim=True)
    gt = torch.cat([gt[:, :3], gt[:, 3:].flip(-1)], 1)
    ms, high = (
        (2000 * image[0]).round().numpy().astype(np.uint16) + 1 for image in (degrade(gt, (0.25,), 4), pan)
    )
    ms[:, :, :hole], high[:, :, : 4 * hole] = 0, 0
    return (
        save(folder / "ms.tif", ms, grid(4, 0.5, 0.5), nodata=0, names=get_sensor("QB").bands),
        save(folder / "pan.tif", high, grid(), nodata=0),
    )


@pytest.mark.parametrize("hole", [0, 17])
def test_a_band_that_pan_is_not_made_of_is_known_by_its_correlation(tmp_path, hole):
    seen = seen_of(open_pair(*unlike(tmp_path, hole)))
    assert len(seen) == 4 and min(seen[:3]) > 0.9 and abs(seen[3]) < 0.3


def test_the_correlation_is_that_of_details(tmp_path):
    """By hand: PAN without any detail of its own but one band's, whose level alone differs, and a flat band."""
    low = np.random.default_rng(0).integers(500, 900, (1, 40, 50)).astype(np.uint16)
    ramp = 100 * np.arange(50, dtype=np.uint16)
    save(tmp_path / "ms.tif", np.concatenate([low, low + ramp, np.full_like(low, 7), 2000 - low]), grid(2))
    save(tmp_path / "pan.tif", low.repeat(2, 1).repeat(2, 2), grid())
    same, tilted, flat, negative = seen_of(open_pair(tmp_path / "ms.tif", tmp_path / "pan.tif"))
    assert same > 0.85 and abs(same - tilted) < 1e-3 and flat == 0 and negative < -0.7


def test_the_warning_names_bands_and_numbers():
    assert warning(["red", "nir"], [0.95, 0.6]) == ""
    one = warning(["red", "nir"], [0.95, 0.121])
    assert one.startswith("Warning: PAN hardly shows band nir (correlation .12): ") and one.endswith(
        "with exp"
    )
    assert "bands nir (correlation -.09), swir1 (correlation .58):" in warning(
        ["nir", "swir1"], [-0.093, 0.583]
    )


@pytest.mark.parametrize("command", ["sharpen", "compare"])
def test_the_commands_warn_of_bands_that_pan_does_not_see_and_say_which_is_which(tmp_path, capsys, command):
    ms, pan = unlike(tmp_path)
    options = {"sharpen": ["--method", "gsa"], "compare": ["--methods", "exp"]}[command]
    files = ["--ms", str(ms), "--pan", str(pan), "--sensor", "WV3", "--out", str(tmp_path / "out.tif")]
    assert cli.main([command, *files, *options]) == 0
    said = capsys.readouterr().err
    assert said.count("Warning: PAN hardly shows band nir1 (correlation ") == 1
    assert (
        "bands of WV3 in MS: blue is band 1, green is band 2, red is band 3, nir1 is band 4 ('nir')\n" in said
    )


@pytest.mark.parametrize(
    ("name", "bands", "unseen"),
    [
        ("l8_elkton", None, {"5", "6"}),
        ("l8_volcano", None, {"4", "5", "6"}),
        ("spot6_cropland", None, {"4"}),
        ("qb_fields", None, set()),
        ("phr_urban", None, set()),
    ],
)
def test_on_real_scenes_it_is_infrared_that_pan_does_not_see(shared, name, bands, unseen):
    folder = shared / "scenes" / name
    pair = open_pair(folder / "ms.tif", folder / "pan.tif", bands=bands)
    told = warning(pair.band_names, seen_of(pair))
    assert set(re.findall(r"(\d) \(", told)) == unseen
