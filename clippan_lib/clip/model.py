"""A frozen CLIP, loaded through open_clip [ilharco2021openclip], that never runs on weights nobody asked for."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from clippan_lib.assets import EMBEDDED
from clippan_lib.shapes import Features


def prepare_image(
    rgb: Float[Tensor, "b 3 H W"],
    size: tuple[int, int],
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
) -> Float[Tensor, "b 3 h w"]:
    """What a CLIP image tower is fed: resized to its own size, then normalised.

    Source: CLIP's preprocessing (Radford et al. 2021 [radford2021learning]), on tensors and differentiable, so
    that a loss reaches the image. Departs from it in: the whole image is squeezed to `size` instead of cropped
    to a square, since a crop would leave the border without a gradient; overshoots of the bicubic kernel are
    not clipped.

    Args:
        rgb: (b, 3, H, W), nominally [0, 1].
        size: (height, width) of the tower.
        mean: one value per channel.
        std: one value per channel.
    Returns: (b, 3, height, width).
    """
    if rgb.shape[-2:] != size:
        rgb = F.interpolate(rgb, size, mode="bicubic", antialias=True, align_corners=False)
    centre, scale = (torch.as_tensor(values).to(rgb).view(3, 1, 1) for values in (mean, std))
    return (rgb - centre) / scale


class ClipTowers(nn.Module):
    """The two towers of a CLIP: frozen, in evaluation mode, returning unit vectors.

    Gradients flow through the image tower into its input; no parameter receives any.

    Args:
        model: an open_clip model with its weights.
        tokenizer: the tokenizer open_clip gives for it.
        preprocess: open_clip's preprocessing of it, of which size, mean and std are read.
        name: what `load_clip` was given as model.
        weights: what `load_clip` was given as weights.
    """

    def __init__(
        self, model: nn.Module, tokenizer, preprocess: Mapping[str, Any], name: str, weights: str | None
    ) -> None:
        super().__init__()
        size = preprocess["size"]
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.weights = weights
        self.image_size: tuple[int, int] = (size, size) if isinstance(size, int) else tuple(size)
        self.register_buffer("mean", torch.tensor(preprocess["mean"]), persistent=False)
        self.register_buffer("std", torch.tensor(preprocess["std"]), persistent=False)
        self.requires_grad_(False).eval()
        self.dim = self.encode_text(["a"]).shape[-1]

    def train(self, mode: bool = True) -> "ClipTowers":
        """Stays in evaluation mode: batch statistics would let a feature depend on the rest of its batch."""
        return super().train(False)

    def encode_image(self, rgb: Float[Tensor, "b 3 H W"]) -> Features:
        """Image features of unit length.

        Args:
            rgb: (b, 3, H, W), nominally [0, 1], any size: see `prepare_image`. A tower at full resolution takes it as
                large as it is.
        Returns: (b, d), in the towers' dtype.
        """
        return F.normalize(self.model.encode_image(self._prepared(rgb)), dim=-1)

    @property
    def full_resolution(self) -> bool:
        """Whether the image tower looks at images as large as they are (`clip.tower.DenseTower`)."""
        return hasattr(self._trunk, "weights_of")

    def check_pixels(self) -> None:
        """Refuse an image tower that has no feature for every pixel: what it says of patches would show in images.

        Raises: ValueError.
        """
        if not self.full_resolution:
            raise ValueError(
                f"the CLIP {self.name} has no features of pixels, and those of patches would show in the image; give "
                "one whose image tower works at full resolution"
            )

    @property
    def reach(self) -> int:
        """Of a tower at full resolution: see `clip.tower.DenseTower`."""
        return self._trunk.reach

    @property
    def align(self) -> int:
        """Likewise."""
        return self._trunk.align

    def weights_of_bands(self, nm: np.ndarray) -> Float[Tensor, "3 c"] | None:
        """Of bands at these wavelengths in the tower's three channels, if it has learned any."""
        return self._trunk.weights_of(nm) if self.full_resolution else None

    @property
    def weights_of_pan(self) -> Float[Tensor, " 3"] | None:
        """Of PAN in the tower's three channels, if it has learned any."""
        return self._trunk.of_pan if self.full_resolution else None

    def encode_pixels(self, rgb: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d h w"]:
        """Features of places in the space of those of images, of any length.

        Of a tower at full resolution those of pixels. Of others those of its patches, the last ones, through the
        layer that ends the tower: a vision transformer's projection, or a ResNet's attention pool without attention
        (Zhou, Loy and Dai 2022 [zhou2022extract]).

        Args:
            rgb: (b, 3, H, W), nominally [0, 1].
        Returns: (b, d, h, w).
        Raises: ValueError if the tower is of another kind.
        """
        visual, pixels = self.model.visual, self._prepared(rgb)
        if self.full_resolution:
            return self._trunk.forward_features(pixels)
        pool, projection = getattr(visual, "attnpool", None), getattr(visual, "proj", None)
        if not hasattr(visual, "forward_intermediates") or not (
            pool is not None or torch.is_tensor(projection)
        ):
            raise ValueError(
                f"the image tower of {self.name} ({type(visual).__name__}) has no features of places that are known "
                "here; take a vision transformer or ResNet of open_clip, or guidance='global'"
            )
        found = visual.forward_intermediates(
            pixels, indices=1, normalize_intermediates=True, intermediates_only=True
        )
        (maps,) = found["image_intermediates"]
        if torch.is_tensor(projection):
            return torch.einsum("bkhw,kd->bdhw", maps, projection)
        for layer in (pool.v_proj, pool.c_proj):
            maps = F.conv2d(maps, layer.weight[..., None, None], layer.bias)
        return maps

    @property
    def _trunk(self) -> Any:
        return getattr(self.model.visual, "trunk", None)

    def _prepared(self, rgb: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b 3 h w"]:
        size = (rgb.shape[-2], rgb.shape[-1]) if self.full_resolution else self.image_size
        return prepare_image(rgb.to(self.mean.dtype), size, self.mean, self.std)

    def encode_text(self, texts: list[str]) -> Features:
        """Text features of unit length, without a graph: nothing of a text can be trained here.

        Args:
            texts: at least one text, none longer than the context.
        Returns: (n, d).
        Raises: ValueError on a text of more tokens than the context holds: open_clip would cut it in silence.
        """
        with torch.no_grad():
            return F.normalize(self.model.encode_text(self.tokens(texts)), dim=-1)

    def tokens(self, texts: list[str], spare: int = 0) -> Int64[Tensor, "n l"]:
        """Texts as the text tower reads them: begin mark, words, end mark, padding.

        Args:
            texts: at least one.
            spare: places of the context to leave free.
        Returns: (n, context length).
        Raises: ValueError on a text of more tokens than the context holds: open_clip would cut it in silence.
        """
        limit = self.tokenizer.context_length
        for text in texts:
            count = _count_tokens(self.tokenizer, text)
            if count + spare > limit:
                beside = f" beside {spare} learned ones" if spare else ""
                raise ValueError(
                    f"the text {text!r} has {count} tokens{beside} and {self.name} takes {limit} "
                    "(begin and end marks included); shorten it"
                )
        return self.tokenizer(texts, context_length=limit).to(self.mean.device)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of what decides the features: weights, activation and preprocessing."""
        quick_gelu = any(type(module).__name__ == "QuickGELU" for module in self.model.modules())
        setting = f"{quick_gelu} {self.image_size} {self.mean.tolist()} {self.std.tolist()}"
        digest = hashlib.sha256(setting.encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy())
        return digest.hexdigest()


def load_clip(model: str = EMBEDDED, weights: str | None = None) -> ClipTowers:
    """A frozen CLIP on the CPU in float32; torch's random state is left as it was.

    The paper does not name its CLIP; its release uses ViT-B-32 of OpenAI: `load_clip("ViT-B-32", "openai")`.

    Args:
        model: "embedded" (the small CLIP of this package), any architecture open_clip lists,
            "hf-hub:owner/name", or "local-dir:folder" holding open_clip_config.json and the weights.
        weights: a pretrained tag of the architecture, the path of a weights file, or "random:SEED" for the
            control with random weights. "embedded", "hf-hub:" and "local-dir:" bring theirs: leave it out.
            A file does not tell its activation: for a file of OpenAI's take an architecture "...-quickgelu".
            Nor does it tell its normalisation: it gets that of the architecture's first published tag.
    Raises: ValueError on an unknown architecture or a bad argument; ClipWeightsError where the weights or
        the tokenizer cannot be had.
    """
    from clippan_lib.clip import source  # open_clip brings torchvision and torch._dynamo: 2.4 s

    return ClipTowers(*source.make(model, weights), model, weights)


def check_clip(model: str, weights: str | None) -> None:
    """Refuse what `load_clip` would refuse, before work begins; the network is not asked.

    Weights of a file or a folder are loaded once, to see that they fit. Of a tag or a hub only the name is looked at.

    Args:
        model, weights: as for `load_clip`.
    Raises: ValueError or ClipWeightsError, as `load_clip` does.
    """
    if (model, weights) != (EMBEDDED, None):
        from clippan_lib.clip import source

        source.check(model, weights)


def _count_tokens(tokenizer, text: str) -> int:
    if hasattr(tokenizer, "encode"):
        return len(tokenizer.encode(text)) + 2
    return len(tokenizer.tokenizer(text).input_ids)
