"""What can stand in the place of the paper's CA, of the ways that the paper cites: LoRA and learned prompts.

Both leave the tensors of the frozen CLIP as they are, so that several supervisors can share one.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from clippan_lib.clip.model import ClipTowers
from clippan_lib.shapes import Features

RANK = 4  # of LoRA's updates
CONTEXT = 4  # learned vectors in front of a prompt, CoOp's shorter length
_STD = 0.02  # CoOp's
_LAYERS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)


class Unchanged(nn.Module):
    """Stands where a CA would, if something else is trained in its place: features stay as they are."""

    def forward(self, features: Features) -> Features:
        return features

    def of_places(self, features: Float[Tensor, "b d H W"]) -> Float[Tensor, "b d H W"]:
        """As `ClipAdapter.of_places`."""
        return features


class LowRank(nn.Module):
    """LoRA on an image tower: W + (alpha / r) B A for the weight W of every linear, attention or convolution layer.

    Source: Hu et al. 2022 [hu2022lora], Eq. (3), with alpha = r as there; r is `RANK`. B begins at 0, so that Stage I
    starts from CLIP itself. A kernel counts as a matrix with one row per output channel. All images have the same
    update. The paper cites CLIP-LoRA (Zanella and Ben Ayed 2024 [zanella2024low]), which updates the attention of both
    towers with r = 2. Departs from it in: the text tower stays as it is; all layers are updated, since a tower may have
    no attention.

    Args:
        tower: the frozen image tower; only its names and shapes are kept.
    """

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.down, self.up = nn.ParameterDict(), nn.ParameterDict()
        for name, weight in _matrices(tower).items():
            rows, columns = weight.flatten(1).shape
            # a parameter's name must not hold a dot
            key = name.replace(".", "/")
            self.down[key] = nn.Parameter(torch.randn(RANK, columns) / columns**0.5)
            self.up[key] = nn.Parameter(torch.zeros(rows, RANK))

    def encode_image(self, towers: ClipTowers, rgb: Float[Tensor, "b 3 H W"]) -> Features:
        """As `ClipTowers.encode_image`, by the updated weights."""
        return self._ask("encode_image", towers, rgb)

    def encode_pixels(self, towers: ClipTowers, rgb: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b d h w"]:
        """As `ClipTowers.encode_pixels`, by the updated weights."""
        return self._ask("encode_pixels", towers, rgb)

    def _ask(self, method: str, towers: ClipTowers, rgb: Tensor) -> Tensor:
        weights = {
            f"towers.model.visual.{name}": weight + (self.up[key] @ self.down[key]).view(weight.shape)
            for name, weight in _matrices(towers.model.visual).items()
            for key in [name.replace(".", "/")]
        }
        return functional_call(_Asked(towers, method), weights, (rgb,))


class _Asked(nn.Module):
    """`functional_call` calls a module's `forward`: this leads it to another method of the towers."""

    def __init__(self, towers: ClipTowers, method: str) -> None:
        super().__init__()
        self.towers, self.method = towers, method

    def forward(self, rgb: Tensor) -> Tensor:
        return getattr(self.towers, self.method)(rgb)


def _matrices(tower: nn.Module) -> dict[str, nn.Parameter]:
    """The weights of a tower's layers, without biases, by name."""
    return {
        f"{place}.{name}": weight
        for place, layer in tower.named_modules()
        if isinstance(layer, _LAYERS)
        for name, weight in layer.named_parameters(recurse=False)
        if weight.ndim > 1
    }


class LearnedContext(nn.Module):
    """CoOp: learned vectors between a text's begin mark and its words, through the frozen text tower.

    Source: Zhou et al. 2022 [zhou2022learning], Eq. (2), the unified context: all texts have the same, so that only
    their words tell them apart. It has `CONTEXT` vectors, drawn with deviation 0.02 as there.

    Args:
        towers: the frozen CLIP; only the width of its token embedding is kept.
        texts: what will stand behind the context.
    Raises: ValueError on a CLIP whose text tower is not open_clip's own, with its own tokenizer; on a text that is too
        long with the context.
    """

    def __init__(self, towers: ClipTowers, texts: list[str]) -> None:
        super().__init__()
        self.vectors = nn.Parameter(_STD * torch.randn(CONTEXT, _embedding(towers).embedding_dim))
        towers.tokens(texts, spare=CONTEXT)

    def forward(self, towers: ClipTowers, texts: list[str]) -> Features:
        """Features (n, d) of unit length, with a graph to the context.

        Raises: ValueError on a text that is too long with the context.
        """
        tokens = towers.tokens(texts, spare=CONTEXT)
        # begin marks keep the places: no padding mask hides them, and the end mark stays the highest token
        places = tokens[:, :1].expand(-1, CONTEXT)
        tokens = torch.cat([tokens[:, :1], places, tokens[:, 1:-CONTEXT]], 1)

        def put(_module: nn.Module, _given: Any, found: Tensor) -> Tensor:
            context = self.vectors.to(found.dtype).expand(len(found), -1, -1)
            return torch.cat([found[:, :1], context, found[:, 1 + CONTEXT :]], 1)

        # for this call only: other supervisors have the same towers
        hook = _embedding(towers).register_forward_hook(put)
        try:
            return F.normalize(towers.model.encode_text(tokens), dim=-1)
        finally:
            hook.remove()


def _embedding(towers: ClipTowers) -> nn.Embedding:
    """Of tokens: open_clip has it in the model, or in a text tower of its own."""
    text = getattr(towers.model, "text", towers.model)
    found = getattr(text, "token_embedding", None)
    if not isinstance(found, nn.Embedding) or not hasattr(towers.tokenizer, "sot_token_id"):
        raise ValueError(
            f"the text tower of {towers.name} ({type(text).__name__}, {type(towers.tokenizer).__name__}) takes no "
            "learned prompts: where its texts begin is not known here; take a CLIP with open_clip's own text tower "
            "and tokenizer, or adapters='lora'"
        )
    return found
