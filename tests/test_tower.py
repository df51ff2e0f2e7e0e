"""The tower whose gradient is an image: shapes, what a pixel sees, open_clip's loading, and a second derivative."""

import numpy as np
import open_clip
import pytest
import timm
import torch

from clippan_lib.clip.tower import TOWER, DenseTower

VISION = {"timm_model_name": TOWER, "timm_pool": "", "timm_proj": "", "image_size": 64}
TEXT = {"context_length": 77, "vocab_size": 100, "width": 16, "heads": 2, "layers": 1}


@pytest.fixture(scope="module")
def tower() -> DenseTower:
    torch.manual_seed(0)
    tower = DenseTower(8, width=6, depth=2)
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return tower.double()


def image(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", [(16, 16), (17, 22), (5, 4)])
def test_every_pixel_has_a_feature_and_their_mean_is_that_of_the_image(tower, size):
    x = image(2, 3, *size)
    maps = tower.forward_features(x)
    assert maps.shape == (2, 8, *size)
    torch.testing.assert_close(tower(x), maps.mean((-2, -1)))


def test_a_part_has_the_features_that_it_has_in_the_whole(tower):
    x = image(1, 3, 96, 96)
    part = tower.forward_features(x[..., 16:80, 16:80])
    whole = tower.forward_features(x)[..., 16:80, 16:80]
    torch.testing.assert_close(part[..., 24:40, 24:40], whole[..., 24:40, 24:40])
    assert not torch.allclose(part, whole)


def test_a_feature_looks_as_far_as_the_tower_says_and_no_farther(tower):
    x, far = image(1, 3, 64, 64), tower.reach
    for at in range(32, 32 + tower.align):
        x = x.requires_grad_()
        (seen,) = torch.autograd.grad(tower.forward_features(x)[..., at, at].square().sum(), x)
        rows = seen.abs().sum((0, 1, 3)).nonzero().flatten() - at
        assert -far <= rows.min() and rows.max() <= far
        assert max(-rows.min(), rows.max()) == far or at % tower.align in (0, tower.align - 1)


def test_a_part_that_starts_between_two_coarse_pixels_has_other_features(tower):
    x = image(1, 3, 96, 96)
    whole = tower.forward_features(x)
    for start in range(1, 2 * tower.align):
        part = tower.forward_features(x[..., start:, start:])[..., 40:48, 40:48]
        same = torch.allclose(part, whole[..., 40 + start : 48 + start, 40 + start : 48 + start])
        assert same == (start % tower.align == 0)


def test_an_image_of_one_colour_has_one_feature(tower):
    maps = tower.forward_features(torch.full((1, 3, 18, 21), 0.4, dtype=torch.float64))
    torch.testing.assert_close(maps, maps[..., :1, :1].expand_as(maps))


def test_the_gradient_has_a_gradient(tower):
    def gradient(x):
        (found,) = torch.autograd.grad(tower(x).square().sum(), x, create_graph=True)
        return found

    assert torch.autograd.gradcheck(gradient, image(1, 3, 8, 8).requires_grad_(), atol=1e-6)


def test_open_clip_builds_it_and_loads_its_state():
    model = open_clip.CLIP(embed_dim=8, vision_cfg=VISION, text_cfg=TEXT)
    other = open_clip.CLIP(embed_dim=8, vision_cfg=VISION, text_cfg=TEXT)
    other.load_state_dict(model.state_dict(), strict=True)
    x = torch.rand(2, 3, 33, 20)
    torch.testing.assert_close(other.encode_image(x), model.encode_image(x))
    assert isinstance(model.visual.trunk, DenseTower) and model.encode_image(x).shape == (2, 8)


def test_it_has_no_weights_to_download():
    with pytest.raises(ValueError, match="no weights of its own"):
        timm.create_model(TOWER, pretrained=True)


def test_four_bands_become_three_channels_that_keep_grey_grey():
    tower = DenseTower()
    weights = tower.weights_of(np.array([478.0, 546.0, 659.0, 833.0]))
    assert weights.shape == (3, 4)
    torch.testing.assert_close(weights.sum(1), torch.ones(3))
    assert weights.argmax(1).tolist() == [2, 1, 0]
    weights.sum().backward()
    assert tower.of_bands.grad.count_nonzero() > 0


def test_a_wavelength_between_two_knots_has_their_mean():
    tower = DenseTower()
    between, ends = (tower.weights_of(np.array(nm)) for nm in ([512.0], [478.0, 546.0]))
    torch.testing.assert_close(between[:, 0] / 4, ends.mean(1) / 2)
