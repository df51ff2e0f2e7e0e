"""Pairs whose ratio is no whole number, as SkySat's: refused with a command, and fused after it."""

import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio import Affine
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT
from rasters import PIXEL, grid, save
from scenes import land
from scipy.ndimage import gaussian_filter

from clippan_lib import cli
from clippan_lib.data.pair import open_pair
from clippan_lib.errors import DataError
from clippan_lib.sensors import get_sensor

SKYSAT = get_sensor("SkySat")
NAMES = ("Blue", "Green", "Red", "Near-infrared")  # the provider's
SHARPER = "if PAN shows finer detail all the same, as SkySat's does, resample MS"


def resampled(source: Path, to: Path, across: float, down: float, kernel: str) -> Path:
    """What `gdalwarp -tr ACROSS DOWN -r KERNEL SOURCE TO` makes of a north-up file."""
    with rasterio.open(source) as file:
        left, bottom, right, top = file.bounds
        size = {"width": round((right - left) / across), "height": round((top - bottom) / down)}
        placed = Affine(across, 0, left, 0, -down, top)
        with WarpedVRT(file, transform=placed, **size, resampling=Resampling[kernel]) as warped:
            rasterio.shutil.copy(warped, to, driver="GTiff")
    return to


def delivered(folder: Path, ratio: float) -> tuple[Path, Path, np.ndarray]:
    """The land seen by PAN, and by MS of a softer camera on pixels of `ratio` times PAN's; and the land itself."""
    truth, pan = ((40_000 * image[0]).numpy().astype(np.float32) for image in land())
    soft = save(folder / "soft.tif", gaussian_filter(truth, (0, 1.2, 1.2)), grid())
    side = ratio * PIXEL
    ms = resampled(soft, folder / "ms.tif", side, side, "average")
    soft.unlink()
    with rasterio.open(ms) as file:
        image, placed = file.read().round().astype(np.uint16), file.transform
    save(ms, image, placed, names=NAMES)
    return ms, save(folder / "pan.tif", pan.round().astype(np.uint16), grid()), truth


def fused(folder: Path, method: str, ms: Path, pan: Path) -> np.ndarray:
    out = folder / f"{method}.tif"
    asked = [
        "--ms",
        ms,
        "--pan",
        pan,
        "--sensor",
        "SkySat",
        "--method",
        method,
        "--device",
        "cpu",
        "--out",
        out,
    ]
    assert cli.main(["sharpen", *map(str, asked)]) == 0
    with rasterio.open(out) as file:
        assert file.descriptions == NAMES
        return file.read().astype(np.float32)


@pytest.mark.parametrize(
    ("ratio", "told", "kernel"),
    # orthoimages; basic products of .65 and .81 m, nearly; an MS that has more than two of PAN's pixels
    [(1, SHARPER, "average"), (1.25, SHARPER, "average"), (2.5, "or resample MS", "cubic")],
)
def test_a_pair_as_skysats_is_refused_with_a_command_after_which_it_is_fused(tmp_path, ratio, told, kernel):
    ms, pan, truth = delivered(tmp_path, ratio)
    with pytest.raises(DataError) as refusal:
        open_pair(ms, pan, sensor=SKYSAT)
    said = str(refusal.value)
    assert f"ratios {ratio} x {ratio}, which must be one whole number" in said
    command = (
        rf"{told} to 2 times PAN's pixel: gdalwarp -tr (\S+) (\S+) -r {kernel} {re.escape(str(ms))} OUTPUT"
    )
    found = re.search(command, said)
    assert found, said
    assert [float(size) for size in found.groups()] == [2 * PIXEL, 2 * PIXEL]
    ready = resampled(ms, tmp_path / "resampled.tif", *map(float, found.groups()), kernel)
    pair = open_pair(ready, pan, sensor=SKYSAT)
    assert (pair.ratio, pair.band_names) == (2, SKYSAT.bands)
    row, column = (round(at) for at in (~grid() @ (pair.transform.c, pair.transform.f))[::-1])
    high, wide = (2 * side for side in (pair.height, pair.width))
    expected = truth[:, row : row + high, column : column + wide]
    errors = {}
    for method in ("exp", "gsa"):
        seen = fused(tmp_path, method, ready, pan)
        assert seen.shape == expected.shape
        errors[method] = float(np.sqrt(np.mean((seen - expected)[:, 8:-8, 8:-8] ** 2)))
    assert errors["gsa"] < 0.3 * errors["exp"]


def test_the_bands_of_skysat_are_known_by_the_providers_names_and_numbers(tmp_path):
    image = np.arange(400, 0, -100, dtype=np.uint16)[:, None, None] + np.zeros((4, 24, 24), np.uint16)
    image += np.random.default_rng(0).integers(0, 20, image.shape, np.uint16)
    pan = save(tmp_path / "pan.tif", image[:1].repeat(2, 1).repeat(2, 2), grid())
    for names in (NAMES[::-1], ("B4", "B3", "B2", "B1")):
        ms = save(tmp_path / "ms.tif", image, grid(2), names=names)
        pair = open_pair(ms, pan, sensor=SKYSAT)
        assert pair.band_names == ("blue", "green", "red", "nir")
        assert (pair.read(slice(None), slice(None)).lrms[0].mean((1, 2)) // 100).tolist() == [1, 2, 3, 4]
