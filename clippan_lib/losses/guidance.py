"""Stage II: language as the supervisor (Eqs. 6-8 of CLIPPan [jian2026clippan])."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.shapes import HRMS, LRMS, PAN, Features, Scalar

SOFTNESS = 0.3  # of the square of a step between features of pixels, whose length is about 1

Maps = Float[Tensor, "b d H W"]
# From fused images (b, c, H, W) to the loss of each
Words = str | Float[Tensor, " d"] | None
Guide = Callable[[HRMS], Float[Tensor, " b"]]


def guide(
    supervisor: Supervisor,
    lrms: LRMS,
    pan: PAN,
    dense: bool = False,
    words: Words = None,
) -> Guide:
    """The language term of images fused from a pair; what does not depend on them is computed once, here.

    Args:
        supervisor, lrms, pan, dense: as for `guides`.
        words: what the fused image is asked to be, in the place of the prompts' hrms text; or a feature in its place.
    Returns: from fused images (b, c, H, W) to the loss of each, (b,).
    Raises: ValueError as `guides`, or if `words` are too many.
    """
    return guides(supervisor, lrms, pan, dense)(words)


def guides(supervisor: Supervisor, lrms: LRMS, pan: PAN, dense: bool = False) -> Callable[[Words], Guide]:
    """The language terms of one pair, for any words: the features of the pair are computed once, here.

    Args:
        supervisor: frozen, or to be trained.
        lrms, pan: one pair, of which any number of images may be fused, or a batch, [0, 1].
        dense: Eqs. 6-8 at every place of the image tower (`dense_direction`), not of whole images.
    Returns: from words, as `guide` takes them, to the language term.
    Raises: ValueError if the image tower has no features of places.
    """
    texts = supervisor.embed_texts()
    if dense:
        known = supervisor.maps("lrms", lrms), supervisor.maps("pan", pan)
    else:
        known = supervisor.embed_lrms(lrms), supervisor.embed_pan(pan)

    def with_words(words: Words) -> Guide:
        asked = texts
        if words is not None:
            wanted = supervisor.embed_words(words) if isinstance(words, str) else words
            asked = torch.cat([texts[:2], wanted[None]])

        def loss(hrms: HRMS) -> Float[Tensor, " b"]:
            of_lrms, of_pan = (features.expand(len(hrms), *features.shape[1:]) for features in known)
            if dense:
                return dense_direction(supervisor.maps("hrms", hrms), of_lrms, of_pan, asked)
            return directions(supervisor.embed_hrms(hrms), of_lrms, of_pan, asked)

        return loss

    return with_words


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
    return directions(out, lrms, pan, texts).mean()


def directions(
    out: Features, lrms: Features, pan: Features, texts: Float[Tensor, "3 d"]
) -> Float[Tensor, " b"]:
    """As `direction`, of each image."""
    text_lrms, text_pan, text_hrms = texts
    from_lrms = F.cosine_similarity(out - lrms, (text_hrms - text_lrms)[None])
    from_pan = F.cosine_similarity(out - pan, (text_hrms - text_pan)[None])
    return 1 - (from_lrms + from_pan) / 2


def dense_direction(
    out: Maps, lrms: Maps, pan: Maps, texts: Float[Tensor, "*b 3 d"], softness: float = SOFTNESS
) -> Float[Tensor, " b"]:
    """Eqs. 6-8 at every pixel: the step from the features of each input to those of the output, where all three lie.

    1 - (cos(dV_MS, dT_MS) + cos(dV_PAN, dT_PAN)) / 2, mean over pixels. Departs from the paper in: features are those
    of pixels, and of any length; and a step's length is sqrt(|dV|^2 + softness), so that where the output is as an
    input is the cosine is 0, and its gradient finite.

    Args:
        out: (b, d, H, W), features of the fused image's pixels.
        lrms: (b, d, H, W), of the LRMS image, interpolated to PAN's size.
        pan: (b, d, H, W), of PAN.
        texts: (3, d), or one of each image, (b, 3, d): embeddings of the lrms, pan and hrms texts.
        softness: added to the square of a step.
    Returns: (b,), each in [0, 2].
    """
    text_lrms, text_pan, text_hrms = texts.unbind(-2)
    agreement = [
        (dense_step(out, given, softness) * F.normalize(text_hrms - text, dim=-1)).sum(-1)
        for given, text in ((lrms, text_lrms), (pan, text_pan))
    ]
    return 1 - (agreement[0] + agreement[1]) / 2


def dense_step(out: Maps, given: Maps, softness: float = SOFTNESS) -> Features:
    """Mean over pixels of the steps from an input to the output, each of about unit length (`dense_direction`).

    With a step between texts its inner product is the mean of the pixels' cosines.

    Args:
        out, given: (b, d, H, W), features of pixels.
        softness: added to the square of a step.
    Returns: (b, d), at most 1 long.
    """
    step = out - given
    return (step / (step.square().sum(1, keepdim=True) + softness).sqrt()).mean((-2, -1))
