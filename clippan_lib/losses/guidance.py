"""Stage II: language as the supervisor (Eqs. 6-8 of CLIPPan [jian2026clippan])."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clippan_lib.shapes import Features, Scalar


def direction(out: Features, lrms: Features, pan: Features, texts: Float[Tensor, "3 d"]) -> Scalar:
    """The step from each input to the output must point where language says.

    Eqs. 6-8, CLIPPan: 1 - (cos(dV_MS of images, of texts) + cos(dV_PAN of images, of texts)) / 2.
    Departs from it in: nothing; the features are the adapted, normalised ones.

    Args:
        out: (b, d), embedding of the fused image; the only argument that needs a gradient.
        lrms: (b, d), embedding of the LRMS input.
        pan: (b, d), embedding of the PAN input.
        texts: (3, d), embeddings of the lrms, pan and hrms texts.
    Returns: mean over the batch, in [0, 2]; 0 when both steps agree, 1 when they are orthogonal.
    """
    text_lrms, text_pan, text_hrms = texts
    from_lrms = F.cosine_similarity(out - lrms, (text_hrms - text_lrms)[None])
    from_pan = F.cosine_similarity(out - pan, (text_hrms - text_pan)[None])
    return (1 - (from_lrms + from_pan) / 2).mean()
