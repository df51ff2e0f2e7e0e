"""Stage I: what makes CLIP a supervisor (Eqs. 1-5 of CLIPPan [jian2026clippan])."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clippan_lib.shapes import Scalar

TypedFeatures = Float[Tensor, "types n d"]
TextFeatures = Float[Tensor, "texts d"]
ImageFeatures = Float[Tensor, "m d"]


def inter_modal(image_features: TypedFeatures, text_features: TextFeatures, temperature: float) -> Scalar:
    """Bind each image type to its text.

    Eq. 2, CLIPPan. Departs from it in: the classes are the type prompts. Read literally, the denominator holds
    N copies of one caption, and the loss is the constant log N with zero gradient.

    Args:
        image_features: (3, n, d), unit length; axis 0 is lrms, pan, hrms.
        text_features: (3, d), unit length, in the same order.
        temperature: positive; divides the cosines.
    Returns: mean cross-entropy over types and images; 0 is best, log 3 is undecided.
    Raises: ValueError if the number of types differs.
    """
    types, n, _ = image_features.shape
    if types != len(text_features):
        raise ValueError(f"{types} image types but {len(text_features)} texts; give one text per type")
    logits = image_features.flatten(0, 1) @ text_features.T / temperature
    return F.cross_entropy(logits, torch.arange(types, device=logits.device).repeat_interleave(n))


def intra_modal(features: TypedFeatures, temperature: float) -> Scalar:
    """Draw the three pictures of one scene together and other scenes apart.

    Eq. 3, CLIPPan. Departs from it in: the anchor itself leaves the denominator (as printed it is its own
    nearest neighbour), and every anchor has both other types of its scene as positives (mean over the two).

    Args:
        features: (3, n, d), unit length; axis 1 runs over scenes, so n is at least 2.
        temperature: positive; divides the cosines.
    Returns: mean over the 3n anchors; log 2 is best (two equal positives share the denominator),
        log(3n - 1) when all features coincide.
    Raises: ValueError for a single scene, which has no negatives.
    """
    types, n, _ = features.shape
    if n < 2:
        raise ValueError(f"intra-modal contrast needs 2 scenes or more in a batch, got {n}")
    flat = features.flatten(0, 1)
    scene = torch.arange(n, device=flat.device).repeat(types)
    itself = torch.eye(types * n, dtype=torch.bool, device=flat.device)
    log_probability = F.log_softmax((flat @ flat.T / temperature).masked_fill(itself, float("-inf")), dim=1)
    positive = (scene[:, None] == scene) & ~itself
    return -log_probability[positive].mean()


def fusion_alignment(
    fused_text: TextFeatures, text: TextFeatures, fused_image: ImageFeatures, image: ImageFeatures
) -> Scalar:
    """Teach the fusion adapters to predict HRMS from LRMS and PAN.

    Eq. 5, CLIPPan: L1 on the text side plus L1 on the image side. Departs from it in: a mean over features and
    not a sum, which would outweigh the contrastive terms tenfold and collapse them; the targets are detached.

    Args:
        fused_text: (n, d), TFA of the lrms and pan texts.
        text: (n, d), the hrms text; a target.
        fused_image: (m, d), IFA of the lrms and pan features.
        image: (m, d), the hrms features; a target.
    Returns: a scalar, 0 is best.
    """
    return F.l1_loss(fused_text, text.detach()) + F.l1_loss(fused_image, image.detach())


def of_captions(logits: Float[Tensor, "b k"], positive: Float[Tensor, "b k"]) -> Scalar:
    """Symmetric contrastive loss in which every caption that is true of an image is a positive.

    Not of the paper: CLIP's own loss (Radford et al. 2021 [radford2021learning]), with several positives.

    Args:
        logits: scaled similarity of every image with every caption.
        positive: 1 where the caption is true of the image, else 0; each image has one at least.
    Returns: mean of the two sides; 0 is best. A caption that is true of no image counts as a negative only.
    """
    image_side = -(logits.log_softmax(1) * positive / positive.sum(1, keepdim=True)).sum(1).mean()
    used = positive.sum(0) > 0
    share = positive[:, used] / positive[:, used].sum(0)
    return 0.5 * (image_side - (logits[:, used].log_softmax(0) * share).sum(0).mean())
