"""Adapters of features, and stems from bands to three channels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from torch import Tensor

from clippan_lib.clip.adapters import STEMS, ClipAdapter, FusionAdapter, MsStem, PanStem, Stretch
from clippan_lib.sensors import Sensor, get_sensor

QB = get_sensor("QB")


def patches(n: int = 6, bands: int = 4, seed: int = 0) -> Tensor:
    """Random patches whose bands share a part, as those of a scene do, dark as an 11 bit scene is."""
    generator = torch.Generator().manual_seed(seed)
    shared = torch.rand(n, 1, 5, 7, generator=generator)
    own = torch.rand(n, bands, 5, 7, generator=generator)
    return 0.02 + 0.2 * (shared + 0.5 * own)


def fitted(kind: str, images: Tensor) -> MsStem:
    stem = MsStem(kind, QB)
    stem.fit(images)
    return stem


# Adapters.


def test_the_adapter_by_hand():
    adapter = ClipAdapter(2, reduction=2, residual=0.5)
    adapter.bottleneck[0].weight.data = torch.tensor([[1.0, 0.0]])
    adapter.bottleneck[2].weight.data = torch.tensor([[0.0], [-2.0]])
    mixed = torch.tensor([[0.3, 0.4 - 0.6]])
    torch.testing.assert_close(adapter(torch.tensor([[0.6, 0.8]])), mixed / 0.13**0.5)


def test_without_a_share_the_adapter_changes_nothing():
    features = torch.nn.functional.normalize(torch.randn(3, 8), dim=1)
    torch.testing.assert_close(ClipAdapter(8, residual=0.0)(features), features)


def test_the_fusion_adapter_by_hand_reaches_negative_features():
    adapter = FusionAdapter(2, reduction=4)
    adapter.bottleneck[0].weight.data = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    adapter.bottleneck[2].weight.data = torch.tensor([[-3.0], [4.0]])
    fused = adapter(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    torch.testing.assert_close(fused, torch.tensor([[-0.6, 0.8]]))


def test_parameter_counts_are_those_of_the_release_at_512():
    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    assert count(ClipAdapter(512)) == 2 * 512 * 128
    assert count(FusionAdapter(512)) == 1024 * 256 + 256 * 512
    assert 4 * count(ClipAdapter(512)) + 2 * count(FusionAdapter(512)) == 1_310_720


@pytest.mark.parametrize("residual", [-0.1, 1.1])
def test_a_residual_ratio_outside_zero_and_one_is_refused(residual: float):
    with pytest.raises(ValueError, match=f"{residual} is outside"):
        ClipAdapter(8, residual=residual)


@pytest.mark.parametrize("reduction", [0, -1, 9])
def test_a_reduction_that_leaves_no_unit_is_refused(reduction: int):
    with pytest.raises(ValueError, match=f"reduction {reduction} leaves no unit of 8"):
        ClipAdapter(8, reduction)


def test_the_derivatives_of_the_adapters_are_right():
    x, y = (torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(ClipAdapter(4, 2).double(), x)
    assert torch.autograd.gradcheck(FusionAdapter(4, 2).double(), (x, y))


# Display stretch.


def test_the_stretch_by_hand_maps_the_percentiles_to_zero_and_one_and_does_not_clamp():
    ramp = torch.arange(101.0).view(1, 1, 1, 101)
    stretch = Stretch(1)
    stretch.fit(torch.cat([ramp, ramp]).view(2, 1, 1, 101))
    result = stretch(torch.tensor([2.0, 50.0, 98.0, -94.0, 194.0]).view(1, 1, 1, 5))
    torch.testing.assert_close(result.flatten(), torch.tensor([0.0, 0.5, 1.0, -1.0, 2.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_limits_are_the_percentiles_of_each_band_over_all_patches(dtype: torch.dtype):
    images = patches().to(dtype)
    stretch = Stretch(4)
    stretch.fit(images)
    values = images.transpose(0, 1).flatten(1).numpy()
    expected = np.percentile(values, [2, 98], axis=1, method="nearest")
    np.testing.assert_allclose(torch.stack([stretch.lo, stretch.hi]).numpy(), expected, rtol=1e-6)


@settings(max_examples=10, deadline=None)
@given(gain=st.floats(0.1, 10), offset=st.floats(-1, 1))
def test_what_clip_sees_does_not_depend_on_gain_and_offset_of_the_scene(gain: float, offset: float):
    images = patches()
    seen, seen_scaled = (fitted("rgb", x)(x) for x in (images, gain * images + offset))
    torch.testing.assert_close(seen, seen_scaled, atol=1e-3, rtol=1e-3)


def test_pixels_beyond_the_percentiles_keep_their_gradient():
    images = patches()
    stem = fitted("rgb", images)
    extreme = torch.tensor([-1.0, 2.0]).view(2, 1, 1, 1).expand(2, 4, 5, 7).clone().requires_grad_()
    stem(extreme).sum().backward()
    assert (extreme.grad[:, list(QB.rgb)] > 0).all()


def test_a_stretch_without_limits_says_how_to_get_them():
    with pytest.raises(ValueError, match="call fit_stretch"):
        PanStem()(torch.rand(1, 1, 4, 4))


def test_a_band_that_is_mostly_one_value_is_stretched_over_all_it_has_and_a_constant_one_is_shown_as_0():
    images = patches()
    images[:, 1], images[:, 2] = 0.6, 0.3
    images[0, 1, 0, 0] = 0.1
    stretch = Stretch(4)
    stretch.fit(images)
    np.testing.assert_allclose(stretch.lo[1:3], [0.1, 0.3], rtol=1e-6)
    np.testing.assert_allclose(stretch.hi[1:3], [0.6, 1.3], rtol=1e-6)
    shown = stretch(images)
    assert (shown[:, 2] == 0).all() and shown[0, 1].unique().tolist() == [0, 1]
    assert torch.isfinite(shown).all()


def test_another_number_of_bands_is_refused_on_fitting_and_on_use():
    with pytest.raises(ValueError, match="8 bands, this stem takes 4"):
        MsStem("rgb", QB).fit(patches(bands=8))
    with pytest.raises(ValueError, match="8 bands, this stem takes 4"):
        fitted("rgb", patches())(patches(bands=8))


# Stems.


@pytest.mark.parametrize(("kind", "bands"), [("rgb", [2, 1, 0]), ("gbnir", [1, 0, 3])])
def test_the_fixed_stems_show_the_sensors_bands(kind: str, bands: list[int]):
    images = patches()
    stem = fitted(kind, images)
    torch.testing.assert_close(stem(images), stem.stretch(images)[:, bands])
    assert not list(stem.parameters())


def test_before_stage_1_the_learnable_stem_equals_rgb_and_can_leave_it():
    images = patches()
    stem = fitted("conv", images)
    torch.testing.assert_close(stem(images), fitted("rgb", images)(images))
    stem(images).square().sum().backward()
    assert stem.residual[-1].weight.grad.abs().sum() > 0
    torch.nn.init.normal_(stem.residual[-1].weight)
    assert not torch.allclose(stem(images), fitted("rgb", images)(images))


def test_the_derivative_of_the_learnable_stem_is_right():
    stem = fitted("conv", patches()).double()
    torch.nn.init.normal_(stem.residual[-1].weight)
    image = patches(n=1).double().requires_grad_()
    assert torch.autograd.gradcheck(stem, image)


def test_the_components_are_those_of_a_principal_component_analysis():
    images = patches()
    stem = fitted("pca", images)
    pixels = stem.stretch(images).transpose(0, 1).flatten(1).T
    expected = PCA(3).fit(pixels.numpy()).components_
    directions = torch.nn.functional.normalize(stem.weight, dim=1)
    np.testing.assert_allclose(np.abs((directions.numpy() * expected).sum(axis=1)), 1, atol=1e-4)
    assert (directions.gather(1, directions.abs().argmax(1, keepdim=True)) > 0).all()


def test_the_components_fill_the_range_a_picture_has():
    images = patches()
    values = fitted("pca", images)(images).transpose(0, 1).flatten(1).numpy()
    limits = np.percentile(values, [2, 98], axis=1, method="nearest")
    np.testing.assert_allclose(limits, [[0] * 3, [1] * 3], atol=1e-4)


def test_patches_without_three_components_are_refused():
    with pytest.raises(ValueError, match="needs three components"):
        fitted("pca", patches(bands=1).expand(-1, 4, -1, -1))


def test_a_sensor_of_two_bands_has_no_three_components():
    sensor = Sensor("two", ("red", "nir"), 8, 2, (0.3, 0.3), 0.15, (0, 0, 1), (0, 0, 1))
    with pytest.raises(ValueError, match="needs three components"):
        MsStem("pca", sensor).fit(patches(bands=2))


def test_pan_is_stretched_and_repeated():
    pan = patches(bands=1)
    stem = PanStem()
    stem.fit(pan)
    channels = stem(pan)
    assert channels.shape == (6, 3, 5, 7)
    assert torch.equal(channels[:, 0], channels[:, 2])
    torch.testing.assert_close(channels[:, :1], stem.stretch(pan))


def test_an_unknown_stem_lists_the_known_ones():
    with pytest.raises(ValueError, match=f"'ndvi'; known: {', '.join(STEMS)}"):
        MsStem("ndvi", QB)
