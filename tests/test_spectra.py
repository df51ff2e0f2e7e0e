"""Power spectra: a wave is one peak, white noise is flat, and MS counts its frequencies on the grid of PAN."""

import numpy as np
import pytest
import torch

from clippan_lib.mtf import filter_image
from clippan_lib.optics import power_spectrum


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def wave(down: int, across: int, height: int = 96, width: int = 160) -> torch.Tensor:
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width) / width
    return torch.cos(2 * torch.pi * (down * rows + across * columns))[None, None]


@pytest.mark.parametrize(
    ("down", "across", "frequency"),
    [
        (24, 0, 24 / 96),
        (0, 24, 24 / 160),
        (12, 16, np.hypot(0.125, 0.1)),
        (33, 27, np.hypot(33 / 96, 27 / 160)),
    ],
)
def test_a_cosine_is_one_peak_at_its_frequency(down, across, frequency):
    found = power_spectrum(3 + 0.01 * wave(down, across))
    peak = found.power.argmax()
    width = 0.5 / len(found.power)
    assert found.frequency[peak] == pytest.approx(frequency, abs=width / 2 + 0.5 / 96)
    # the window spreads it over one bin to either side, which may lie in the next ring
    assert np.delete(found.power, range(peak - 1, peak + 2)).max() < 1e-9 * found.power[peak]


def test_the_rings_of_a_cosine_of_eight_pixels_hold_what_is_worked_by_hand():
    # The window spreads the bin (0, 2) over its neighbours: half its amplitude along each axis, so 1/4 of its energy,
    # and 1/16 where both are one away. With those of (0, -2) that is 2 * 9/4 in 64 bins, 9/128 in the mean.
    # Up to 1 bin away from the centre, 4 bins: (0, +-1), 1/4 each.              1/2 / 4  = 9/128 * 16/9
    # up to 2, 8 bins: (0, +-2), 1 each, and (+-1, +-1), 1/16 each.              9/4 / 8  = 9/128 * 4
    # up to 3, 16 bins: (0, +-3), 1/4 each, and (+-1, +-2), 1/4 each.            3/2 / 16 = 9/128 * 4/3
    # up to 4, 18 bins: (+-1, +-3), 1/16 each.                                   1/4 / 18 = 9/128 * 16/81
    found = power_spectrum(wave(0, 2, 8, 8))
    np.testing.assert_allclose(found.power, [16 / 9, 4, 4 / 3, 16 / 81], rtol=1e-5)
    np.testing.assert_allclose(found.frequency[:2], [1 / 8, (4 * 2 + 4 * np.sqrt(2)) / 64])


def test_white_noise_is_flat_at_one_whatever_its_deviation_and_mean():
    found = power_spectrum(0.2 + torch.tensor([1e-3, 0.7])[:, None, None] * noise(2, 2, 240, 320))
    np.testing.assert_allclose(found.power[6:], 1, atol=0.1)
    assert found.power.mean() == pytest.approx(1, abs=0.02)
    assert len(found.power) == 32 and found.frequency[-1] < 0.5 < found.frequency[-1] + 1 / 64


def test_every_plane_counts_the_same_however_strong_its_detail():
    one, other = wave(24, 0), wave(0, 64)
    both = power_spectrum(torch.cat([one, 1e-3 * other + 0.5], 1))
    alone = [power_spectrum(each).power for each in (one, other)]
    np.testing.assert_allclose(both.power, np.mean(alone, 0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        power_spectrum(torch.cat([one, other])).power, both.power, rtol=1e-4, atol=1e-6
    )


def test_a_filter_shows_as_the_square_of_its_response():
    # (1, 2, 1)/4 along both axes: (cos(pi f))^2 along an axis; a ring's mean lies between axis and diagonal
    kernel = torch.outer(*[torch.tensor([1.0, 2, 1]) / 4] * 2)[None]
    image = noise(4, 1, 256, 256)
    before, after = power_spectrum(image), power_spectrum(filter_image(image, kernel))
    change = after.power / before.power
    along = np.cos(np.pi * before.frequency) ** 4
    diagonal = np.cos(np.pi * before.frequency / np.sqrt(2)) ** 8
    low, high = np.minimum(along, diagonal), np.maximum(along, diagonal)
    scale = change[4] / along[4]  # both are divided by their own variance
    assert (change[4:] > 0.9 * scale * low[4:]).all() and (change[4:] < 1.1 * scale * high[4:]).all()


def test_frequencies_of_ms_are_counted_on_the_grid_of_pan_and_its_white_noise_is_that_much_denser():
    image = noise(1, 3, 120, 72)
    own, on_pan = power_spectrum(image), power_spectrum(image, 4)
    np.testing.assert_allclose(on_pan.frequency, own.frequency / 4)
    np.testing.assert_allclose(on_pan.power, 16 * own.power)
    assert on_pan.frequency[-1] < 0.125


def test_borders_that_do_not_meet_are_no_detail():
    ramp = torch.linspace(0, 1, 128).expand(1, 1, 96, 128)
    assert power_spectrum(ramp).power[16:].max() < 1e-4


def test_what_has_no_spectrum_is_refused_with_what_was_seen():
    with pytest.raises(ValueError, match=r"image \(1, 1, 7, 20\) and ratio 1: sides of 8 px"):
        power_spectrum(noise(1, 1, 7, 20))
    with pytest.raises(ValueError, match="ratio 0: .* at least 1"):
        power_spectrum(noise(1, 1, 9, 20), 0)
    image = noise(1, 2, 9, 20)
    image[0, 1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="values that are not finite"):
        power_spectrum(image)


def test_a_plane_of_one_value_is_left_out_and_where_nothing_else_is_there_is_no_power():
    image = noise(1, 2, 9, 20)
    image[:, 1] = 0.3
    np.testing.assert_allclose(power_spectrum(image).power, power_spectrum(image[:, :1]).power, rtol=1e-9)
    alone = power_spectrum(image[:, 1:])
    assert np.isnan(alone.power).all() and np.isfinite(alone.frequency).all()
