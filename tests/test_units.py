"""Pairs in unlike units are noticed, and which methods mind them."""

import pytest
import torch
from pairs import draw, pair

from clippan_lib.fusion import CLASSICAL, get_method
from clippan_lib.mtf import upsample
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening.units import NEED_ONE_UNIT, other_unit, typical, unlike_units

QB = get_sensor("QB")


def seen(ms=1.0, pan=1.0, valid=None):
    """What is said of a pair whose files are in these units."""
    lrms, high = (image.float() for image in pair(h=9, w=13))
    everywhere = torch.ones(2, 1, 9, 13, dtype=torch.bool)
    return unlike_units(ms * lrms, pan * high, everywhere if valid is None else valid)


@pytest.mark.parametrize("name", [*CLASSICAL, "bandwise", "stack"])
@torch.inference_mode()
def test_the_methods_that_need_one_unit_are_those_that_gain_and_offset_of_pan_change(name):
    scene = torch.rand(1, 5, 20, 24, generator=torch.Generator().manual_seed(0))
    lrms = 0.2 + 0.5 * scene[:, :1] + 0.3 * scene[:, 1:]
    pan = upsample(lrms, 4).mean(1, keepdim=True) + 0.03 * draw(1, 1, 80, 96).float()
    fuse = get_method(name, QB, 4)
    detail = (fuse(lrms, pan) - get_method("exp", QB, 4)(lrms, pan)).std() or 1.0
    moved = (fuse(lrms, 3 * pan + 6) - fuse(lrms, pan)).abs().max()
    assert (moved > 0.2 * detail) == (name in NEED_ONE_UNIT)


@pytest.mark.parametrize(("ms", "pan"), [(1e-4, 1.0), (1.0, 1e4), (1.0, 4.0), (255.0, 1.0), (-1.0, 60.0)])
def test_unlike_units_are_noticed(ms, pan):
    said = seen(ms, pan)
    assert (
        "the two are in different units" in said and "pracs" in said and "gsa" not in said.split("are off")[0]
    )


@pytest.mark.parametrize(("ms", "pan"), [(1.0, 1.0), (1e4, 1e4), (1.0, 2.0), (2.0, 1.0)])
def test_the_spread_of_sensors_is_no_other_unit(ms, pan):
    assert seen(ms, pan) == ""


def test_the_remark_names_both_values():
    flat, wide = torch.full((1, 4, 3, 5), 0.12), torch.full((1, 1, 12, 20), 7400.0)
    said = unlike_units(flat, wide, torch.ones(1, 1, 3, 5, dtype=torch.bool))
    assert said.startswith("MS has values about 0.12 and PAN about 7.4e+03: ")


def test_neither_pixels_without_data_nor_zeros_nor_a_scene_of_zeros_tell_of_units():
    lrms, pan = (image.abs().float() + 1 for image in pair(h=9, w=13))
    valid = torch.ones(2, 1, 9, 13, dtype=torch.bool)
    valid[..., :8, :] = False
    lrms[..., :8, :] = 1e20
    assert unlike_units(lrms, pan, valid) == "" != unlike_units(lrms, pan, ~valid)
    pan[..., 32:, 4:] = 0  # nine tenths of what is left
    assert unlike_units(lrms, pan, valid) == ""
    assert unlike_units(lrms, 0 * pan, valid) == unlike_units(lrms, pan, valid & False) == ""


def test_the_typical_value_is_the_median_magnitude_of_what_is_not_0():
    assert typical(torch.tensor([0.0, 0, 0, 0, -3, 4, 1e20])) == 4
    assert typical(torch.zeros(3)) == 0


@pytest.mark.parametrize(
    ("factor", "noticed"), [(0.2, True), (0.3, False), (1, False), (3.5, False), (5, True)]
)
def test_a_fused_image_in_another_unit_is_noticed(factor, noticed):
    image = draw(1, 4, 5, 7).abs() + 1
    said = other_unit(factor * image, image, "MS")
    assert ("and MS about" in said) is noticed and bool(said) is noticed
