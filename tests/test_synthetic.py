"""Synthetic scenes are seeded, obey Wald's protocol, and hide detail from the LRMS that the PAN has."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from clippan_lib.data.synthetic import COVERS, draw, render
from clippan_lib.data.synthetic.camera import see
from clippan_lib.data.synthetic.materials import CENTRE_NM, MATERIALS, spectra, wavelengths
from clippan_lib.mtf import degrade
from clippan_lib.sensors import SENSORS, get_sensor

WV3 = get_sensor("WV3")


def plane_std(image: torch.Tensor) -> float:
    return image.std().item()


@pytest.mark.parametrize("name", SENSORS)
def test_every_sensor_of_the_table_gets_a_scene_of_its_shape(name):
    sensor = get_sensor(name)
    scene = render(3, sensor, 64)
    low = 64 // sensor.ratio
    assert scene["lrms"].shape == (sensor.n_bands, low, low)
    assert scene["pan"].shape == (1, 64, 64)
    assert scene["gt"].shape == (sensor.n_bands, 64, 64)
    assert scene["cover"] in COVERS
    for key in ("lrms", "pan", "gt"):
        assert scene[key].dtype == torch.float32
        assert scene[key].min() >= 0 and scene[key].max() <= 1


def test_the_same_seed_gives_the_same_scene_and_another_seed_another():
    first, again, other = render(5, WV3, 64), render(5, WV3, 64), render(6, WV3, 64)
    assert all(torch.equal(first[key], again[key]) for key in ("lrms", "pan", "gt"))
    assert not torch.equal(first["gt"], other["gt"])


def test_no_global_random_state_is_read_or_moved():
    torch.manual_seed(0)
    first, state = render(5, WV3, 64), torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(first["gt"], render(5, WV3, 64)["gt"])
    torch.manual_seed(0)
    assert torch.equal(state, torch.get_rng_state())


def test_values_are_whole_digital_numbers_of_the_sensor():
    gf2 = get_sensor("GF2")
    scene = render(1, gf2, 64)
    for key in ("lrms", "pan", "gt"):
        digital = scene[key].double() * gf2.max_value
        assert (digital - digital.round()).abs().max() < 1e-3
        assert digital.max() > 30


def test_lrms_is_the_degraded_reference_up_to_noise():
    scene = render(2, WV3, 128)
    expected = degrade(scene["gt"][None], WV3.gnyq, 4)[0]
    error = (scene["lrms"] - expected).abs()
    assert error.mean() < 0.003
    assert plane_std(scene["lrms"]) > 0.02


def test_the_same_seed_shows_the_same_land_to_another_sensor():
    wv3, qb = (draw(4, wavelengths(get_sensor(name)), 64) for name in ("WV3", "QB"))
    assert wv3.cover == qb.cover
    assert np.allclose(wv3.light[[1, 2, 4, 8, 9, 10]], qb.light[[0, 1, 2, 4, 5, 6]], atol=1e-3)


@pytest.mark.parametrize("gain", [0.07, 0.15, 0.3, 0.5])
def test_a_wave_at_the_nyquist_frequency_comes_through_optics_with_their_gain(gain):
    # period 4 on the fine grid is period 2, the Nyquist frequency, on the image's
    wave = np.cos(np.pi / 2 * np.arange(120))
    down, across = np.broadcast_to(wave[:, None], (120, 96)), np.broadcast_to(wave[:96], (120, 96))
    seen = see(np.stack([down, across]).astype(np.float32), (gain, gain))
    assert seen.shape == (2, 60, 48)
    expected = gain * np.cos(np.pi * np.arange(60))
    assert np.allclose(seen[0, 8:-8], expected[8:-8, None], atol=0.01)
    assert np.allclose(seen[1, :, 8:-8], expected[8:40], atol=0.01)


def test_optics_leave_even_light_as_it_is_and_each_band_has_its_own():
    light = np.ones((2, 20, 28), np.float32) * np.array([0.2, 0.6], np.float32)[:, None, None]
    assert np.allclose(see(light, (0.1, 0.5)), light[:, ::2, ::2], atol=1e-6)
    spot = np.zeros((2, 21, 29), np.float32)
    spot[:, 10, 14] = 1
    soft, sharp = see(spot, (0.1, 0.5))
    assert sharp[5, 7] > 2 * soft[5, 7] > 0


def test_the_reference_is_as_sharp_as_the_gains_of_its_bands_and_pan_as_its_own():
    land = draw(11, wavelengths(WV3), 96)
    scene = render(11, WV3, 96)
    assert np.abs(scene["gt"].numpy() - np.clip(land.bands(WV3.gnyq), 0, 1)).max() < 1 / WV3.max_value
    assert np.abs(scene["pan"].numpy() - np.clip(land.pan(WV3.gnyq_pan), 0, 1)).mean() < 0.003
    soft = render(11, replace(WV3, gnyq=(0.05,) * 8), 96)
    detail = [plane_std(image["gt"][..., 1:] - image["gt"][..., :-1]) for image in (soft, scene)]
    assert detail[0] < 0.85 * detail[1]


def test_pan_follows_the_bands_but_is_no_exact_sum_of_them():
    scene = render(11, WV3, 128)
    design = torch.cat([scene["gt"].flatten(1), torch.ones(1, 128 * 128)]).T.double()
    target = scene["pan"].flatten().double()
    residual = target - design @ torch.linalg.lstsq(design, target[:, None]).solution[:, 0]
    assert 0.002 < residual.std() < 0.1 * target.std()


def test_pan_carries_detail_that_the_lrms_does_not():
    scene = render(14, WV3, 256)
    smooth = torch.nn.functional.interpolate(scene["lrms"][None], (256, 256), mode="bicubic")[0]
    missing = (scene["gt"] - smooth)[:5].mean(0).flatten()
    pan = scene["pan"][0]
    blurred = torch.nn.functional.avg_pool2d(pan[None, None], 9, 1, 4, count_include_pad=False)[0, 0]
    assert torch.corrcoef(torch.stack([missing, (pan - blurred).flatten()]))[0, 1] > 0.7


def test_all_land_covers_appear_and_look_different():
    scenes = [render(seed, get_sensor("QB"), 64) for seed in range(60)]
    greenness = {cover: [] for cover in COVERS}
    for scene in scenes:
        red, nir = scene["gt"][2].mean(), scene["gt"][3].mean()
        greenness[scene["cover"]].append(((nir - red) / (nir + red)).item())
    means = {cover: np.mean(values) for cover, values in greenness.items()}
    assert all(len(values) >= 3 for values in greenness.values())
    assert means["forest"] > means["urban"] + 0.1 and means["forest"] > means["desert"] + 0.1


def test_brightness_is_that_of_real_scenes():
    means = torch.stack([render(seed, WV3, 64)["gt"].mean() for seed in range(30)])
    assert 0.1 < means.mean() < 0.35


def test_a_size_the_ratio_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="size 66 is no positive multiple of the ratio 4 of WV3"):
        render(0, WV3, 66)


def test_a_band_without_a_wavelength_is_refused():
    odd = replace(WV3, name="MINE", bands=("ultraviolet", *WV3.bands[1:]))
    with pytest.raises(ValueError, match=r"MINE: no wavelength known for bands \['ultraviolet'\]"):
        render(0, odd, 64)


def test_vegetation_reflects_infrared_and_water_does_not():
    nm = wavelengths(get_sensor("QB"))
    assert nm.tolist() == [CENTRE_NM[band] for band in ("blue", "green", "red", "nir")]
    mean, change = spectra(nm, np.random.default_rng(0))
    red, nir = mean[:, 2], mean[:, 3]
    tree, water, sand = (MATERIALS.index(name) for name in ("tree", "water", "sand"))
    assert nir[tree] > 5 * red[tree]
    assert nir[water] < red[water]
    assert sand != tree and change[tree][2] > 0


def test_band_spectra_do_not_depend_on_which_other_bands_are_asked():
    both = spectra(np.array([550.0, 830.0]), np.random.default_rng(0))[0]
    one = spectra(np.array([830.0]), np.random.default_rng(0))[0]
    assert np.allclose(both[:, 1:], one)
