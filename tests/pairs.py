"""Small random image pairs, and how closely two images agree."""

import numpy as np
import torch

from clippan_lib import mtf


def assert_same(actual, expected, atol=1e-9):
    np.testing.assert_allclose(actual, expected, atol=atol)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(h=10, w=14, ratio=4, batch=2, seed=0):
    """Correlated bands and a PAN that sees them all."""
    scene = draw(batch, 4, h, w, seed=seed)
    lrms = 2 + scene[:, :1] + 0.3 * scene[:, 1:]
    noise = draw(batch, 1, ratio * h, ratio * w, seed=seed + 1)
    return lrms, mtf.upsample(lrms, ratio).mean(1, keepdim=True) + 0.1 * noise
