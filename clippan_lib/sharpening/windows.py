"""A few windows of a scene, far apart, by which the whole of it is judged."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from clippan_lib.data.pair.scene import PairWindow, ScenePair
from clippan_lib.shapes import LRMS, PAN

WINDOWS = 4
SIDE = 256  # LRMS px, of a scene that has no room for several
NARROW = 160  # LRMS px, of one that has: four of them take less than twice the time of one large one
_PLACES = 8  # on each axis, at most: so many squared are read where nearly all is NoData


def far_windows(pair: ScenePair) -> list[PairWindow]:
    """The first of windows of one size, far apart, of which half holds data; else those that hold most."""
    lengths = (pair.height, pair.width)
    side = NARROW if min(lengths) >= 2 * SIDE else SIDE
    starts = [
        np.linspace(0, length - min(length, side), min(_PLACES, max(1, length // side))).astype(int).tolist()
        for length in lengths
    ]
    kept: list[tuple[float, PairWindow]] = []
    for top, left in far_apart(list(product(*starts))):
        bottom, right = min(top + side, pair.height), min(left + side, pair.width)
        window = pair.read(slice(top, bottom), slice(left, right))
        kept.append((held(window).double().mean().item(), window))
        kept = sorted((each for each in kept if each[0]), key=lambda each: -each[0])[:WINDOWS]
        if len(kept) == WINDOWS and kept[-1][0] >= 0.5:
            break
    return [window for _, window in kept]


def far_apart(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """All of them; the first four evenly spread, then those between, and so on."""
    last = len(places) - 1
    counts = [3 * 2**level + 1 for level in range(len(places).bit_length())]
    return list(dict.fromkeys(places[round(at)] for n in counts for at in np.linspace(0, last, n).tolist()))


def gathered(windows: Sequence[PairWindow]) -> tuple[LRMS, PAN, Bool[Tensor, "_ 1 _ _"]]:
    """All windows as one batch, of LRMS, PAN and `held`; one at least."""
    lrms, pan = (torch.cat([getattr(window, name) for window in windows]) for name in ("lrms", "pan"))
    return lrms, pan, torch.cat([held(window) for window in windows])


def held(window: PairWindow) -> Bool[Tensor, "1 1 h w"]:
    """Which LRMS pixels hold data, and all PAN pixels that they cover."""
    ratio = window.pan_valid.shape[-1] // window.lrms_valid.shape[-1]
    return window.valid.unflatten(-1, (-1, ratio)).unflatten(-3, (-1, ratio)).all(-1).all(-2)


def scaled(image: LRMS | PAN) -> LRMS | PAN:
    """Digital numbers by their largest: files of one pair may be in different units, and the fit does not mind."""
    return image / (image.abs().max().item() or 1.0)
