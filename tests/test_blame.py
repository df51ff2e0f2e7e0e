"""What inputs do to a method is said of the inputs: which file, which band, which value, how many pixels."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasters import grid, noise, save
from scenes import scene

from clippan_lib import cli
from clippan_lib.data.pair import open_pair
from clippan_lib.errors import CheckpointError, DataError
from clippan_lib.fusion import network_for
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening import plan_job, sharpen
from clippan_lib.sharpening.contest import plan_contest
from clippan_lib.sharpening.delivered import score_fused

QB = get_sensor("QB")
STILL = (0.0, 0.0)


def spoilt(folder: Path, file: str, band: int, value: float, count: int | None) -> tuple[Path, Path]:
    """A scene in floats, without NoData, with a value in some pixels of a band, or in all."""
    paths = scene(folder)
    for path in paths:
        with warnings.catch_warnings(), rasterio.open(path) as old:
            image, profile = old.read().astype(np.float32), old.profile | {"dtype": "float32", "nodata": None}
        if path.name == file:
            values = image[band - 1].reshape(-1)
            values[np.random.default_rng(1).permutation(values.size)[:count]] = value
        with rasterio.open(path, "w", **profile) as new:
            new.write(image)
    return paths


def command(name: str, paths: tuple[Path, Path], *more: str) -> int:
    return cli.main([name, "--ms", str(paths[0]), "--pan", str(paths[1]), *more])


@pytest.mark.parametrize(("file", "band"), [("ms.tif", 4), ("ms.tif", 1), ("pan.tif", 1)])
@pytest.mark.parametrize(("value", "count"), [(1e10, 1), (-1e18, 3), (3e18, 2)])
def test_a_few_absurd_values_are_refused_with_file_band_value_and_number(
    tmp_path, capsys, file, band, value, count
):
    paths = spoilt(tmp_path, file, band, value, count)
    assert command("sharpen", paths, "--out", str(tmp_path / "o.tif"), "--sensor", "QB") == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"clippan: {tmp_path / file}: band {band} holds {np.float32(value)!s} in {count} of "
    )
    assert f"--nodata={np.float32(value)!s})" in said and said.count("\n") == 1
    assert not [*tmp_path.glob("*o.tif*")]


@pytest.mark.parametrize("method", ["gsa", "brovey", "exp"])
def test_a_value_that_is_said_to_be_no_data_harms_no_method(tmp_path, method):
    paths = spoilt(tmp_path, "ms.tif", 2, -1e18, 2)
    with pytest.raises(DataError, match=r"ms\.tif: band 2 holds -1e\+18 in 2 of"):
        plan_job(*paths, method, shift=STILL)
    sharpen(plan_job(*paths, method, shift=STILL, nodata=-1e18), tmp_path / "o.tif")
    with rasterio.open(tmp_path / "o.tif") as out:
        assert out.nodata == np.float32(-1e18)
        assert -3000 < out.read(masked=True).min() < out.read().max() < 3000


def test_comparing_and_scoring_name_absurd_values_too(tmp_path):
    paths = spoilt(tmp_path, "pan.tif", 1, 1e12, 1)
    with pytest.raises(DataError, match=r"pan\.tif: band 1 holds 1e\+12 in 1 of"):
        plan_contest(*paths, shift=STILL)
    with pytest.raises(DataError, match=r"pan\.tif: band 1 holds 1e\+12 in 1 of"):
        score_fused(save(tmp_path / "fused.tif", noise(4, 300, 336), grid()), *paths, shift=STILL)


def test_glints_and_dead_pixels_are_data(tmp_path):
    paths = spoilt(tmp_path, "ms.tif", 1, 65535 * 256, 2)
    window = open_pair(*paths).read(slice(None), slice(None))
    assert window.lrms_valid.all() and window.lrms.max() > 1e7


@pytest.mark.parametrize("value", [np.nan, np.inf, -3.4e38, 1e20])
@pytest.mark.parametrize(("file", "band"), [("ms.tif", 3), ("pan.tif", 1)])
def test_a_band_without_any_data_is_named_with_what_it_holds(tmp_path, capsys, file, band, value):
    paths = spoilt(tmp_path, file, band, value, None)
    assert command("sharpen", paths, "--out", str(tmp_path / "o.tif")) == 2
    said = capsys.readouterr().err
    assert (
        f"{tmp_path / file}: band {band} holds {np.float32(value)!s} and the like, which is no data, in all"
        in said
    )


def network(file: Path, max_value: float = 2047.0, weight: float | None = None) -> Path:
    fresh = network_for("pnn", QB).eval()
    if weight is not None:
        with torch.no_grad():
            next(fresh.parameters()).view(-1)[:3] = weight
    TrainedNetwork(fresh, "pnn", QB, max_value, {}).save(file)
    return file


@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_blamed_on_the_networks_file(tmp_path, weight):
    paths, file = scene(tmp_path), network(tmp_path / "n.safetensors", weight=weight)
    for planned in (
        lambda: plan_job(*paths, file, shift=STILL),
        lambda: plan_contest(*paths, networks=[file], shift=STILL),
    ):
        with pytest.raises(CheckpointError, match=r"n\.safetensors: .* values that are not finite"):
            planned()


@pytest.mark.parametrize("max_value", [1e300, 1e30, 1e9, 1e-3, 1e-300])
def test_a_largest_value_that_no_scene_could_have_is_blamed_on_the_networks_file(tmp_path, max_value):
    paths, file = scene(tmp_path), network(tmp_path / "n.safetensors", max_value)
    with pytest.raises(
        CheckpointError, match=r"n\.safetensors: was trained with values up to .* of the scene are about"
    ):
        plan_job(*paths, file, shift=STILL)
    plan_job(*paths, network(file, 65535.0), shift=STILL)
