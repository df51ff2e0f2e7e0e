"""A frozen CLIP, loaded through open_clip, that never runs on weights nobody asked for."""

import difflib
import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from clippan_lib.shapes import Features

EMBEDDED = "embedded"
_ASSET = "embedded_clip"
_RANDOM = "random:"


class ClipWeightsError(RuntimeError):
    """The weights or the tokenizer could not be had; the message says what was tried and what to do."""


def prepare_image(
    rgb: Float[Tensor, "b 3 H W"],
    size: tuple[int, int],
    mean: Sequence[float] | Tensor,
    std: Sequence[float] | Tensor,
) -> Float[Tensor, "b 3 h w"]:
    """What a CLIP image tower is fed: resized to its own size, then normalised.

    Source: CLIP's preprocessing (Radford et al. 2021), on tensors and differentiable, so that a loss reaches
    the image. Departs from it in: the whole image is squeezed to `size` instead of cropped to a square, since
    a crop would leave the border without a gradient; overshoots of the bicubic kernel are not clipped.

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
        name: what `load_clip` was given as model.
        weights: what `load_clip` was given as weights.
    """

    def __init__(self, model: nn.Module, tokenizer, name: str, weights: str | None) -> None:
        super().__init__()
        preprocess = open_clip.get_model_preprocess_cfg(model)
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
            rgb: (b, 3, H, W), nominally [0, 1], any size: see `prepare_image`.
        Returns: (b, d), in the towers' dtype.
        """
        pixels = prepare_image(rgb.to(self.mean.dtype), self.image_size, self.mean, self.std)
        return F.normalize(self.model.encode_image(pixels), dim=-1)

    def encode_text(self, texts: list[str]) -> Features:
        """Text features of unit length, without a graph: nothing of a text can be trained here.

        Args:
            texts: at least one text, none longer than the context.
        Returns: (n, d).
        Raises: ValueError on a text of more tokens than the context holds: open_clip would cut it in silence.
        """
        limit = self.tokenizer.context_length
        for text in texts:
            count = _count_tokens(self.tokenizer, text)
            if count > limit:
                raise ValueError(
                    f"the text {text!r} has {count} tokens and {self.name} takes {limit} "
                    "(begin and end marks included); shorten it"
                )
        with torch.no_grad():
            tokens = self.tokenizer(texts, context_length=limit).to(self.mean.device)
            return F.normalize(self.model.encode_text(tokens), dim=-1)

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
    seed = _seed(weights)
    config, source = _resolve(model, weights, seed)
    with torch.random.fork_rng(devices=[]), _without_random_warning(seed is not None):
        torch.default_generator.manual_seed(seed or 0)
        # open_clip passes on whatever the hub, the disk or the file's reader raises.
        try:
            network = _create(config, source, load=seed is None)
        except Exception as error:
            raise ClipWeightsError(_help(model, weights, _brief(error))) from error
        try:
            tokenizer = open_clip.get_tokenizer(config)
        except Exception as error:
            raise ClipWeightsError(
                f"no tokenizer for CLIP {model!r}: {_brief(error)}.\nIt comes from the Hugging Face hub through "
                "another package: pip install transformers, and connect once. Without a connection: put the "
                "tokenizer's files into a folder with open_clip_config.json and the weights, and pass it as "
                "model='local-dir:folder'"
            ) from error
    return ClipTowers(network, tokenizer, model, weights)


def _create(config: str, source: str | None, load: bool) -> nn.Module:
    tag = open_clip.get_pretrained_cfg(config, source) if source else {}
    # open_clip 3 no longer takes on the activation a tag was trained with: it only warns and computes others.
    return open_clip.create_model(
        config,
        source,
        load_weights=load,
        require_pretrained=load,
        pretrained_text=False,
        force_quick_gelu=tag.get("quick_gelu", False),
        force_preprocess_cfg={} if tag else _normalisation(config),
    )


def _normalisation(config: str) -> dict[str, Any]:
    """Mean and deviation of an architecture's first tag; open_clip takes OpenAI's for all that has no tag."""
    tags = open_clip.list_pretrained_tags_by_model(config)
    first = open_clip.get_pretrained_cfg(config, tags[0]) if tags else {}
    return {key: first[key] for key in ("mean", "std") if key in first}


def _resolve(model: str, weights: str | None, seed: int | None) -> tuple[str, str | None]:
    """open_clip's own name of the model, and its `pretrained`."""
    if model == EMBEDDED:
        config = _register_embedded()
        return config, None if seed is not None else weights or str(_asset(".safetensors"))
    if ":" in model:
        if weights is not None and seed is None:
            raise ValueError(f"{model} brings its own weights: leave out weights={weights!r}")
        return model, None
    if model not in open_clip.list_models():
        near = difflib.get_close_matches(model, open_clip.list_models(), n=5, cutoff=0.5)
        raise ValueError(
            f"unknown CLIP architecture {model!r}; near matches: {', '.join(near) or 'none'}. Take one of "
            "open_clip.list_models(), 'hf-hub:owner/name', 'local-dir:folder' or 'embedded'"
        )
    if seed is not None:
        return model, None
    if weights is None:
        raise ClipWeightsError(_help(model, weights, "none were named"))
    if not open_clip.get_pretrained_cfg(model, weights) and not Path(weights).is_file():
        raise ClipWeightsError(_help(model, weights, "this is neither a known tag nor a file"))
    return model, weights


def _register_embedded() -> str:
    if _ASSET not in open_clip.list_models():
        open_clip.add_model_config(_asset(".json"))
    return _ASSET


def _asset(suffix: str) -> Path:
    path = Path(str(files("clippan_lib.assets"))) / f"{_ASSET}{suffix}"
    if not path.is_file():
        raise ClipWeightsError(f"{path.name} is missing from clippan_lib/assets: reinstall the package")
    return path


def _seed(weights: str | None) -> int | None:
    """SEED of "random:SEED", None for every other kind of weights."""
    if weights is None or not weights.startswith(_RANDOM):
        return None
    digits = weights.removeprefix(_RANDOM)
    if not digits.isdecimal():
        raise ValueError(f"weights={weights!r}: a whole number must follow 'random:', as in 'random:0'")
    return int(digits)


def _help(model: str, weights: str | None, reason: object) -> str:
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
    return (
        f"no weights for CLIP {model!r} with weights={weights!r}: {reason}.\n"
        f"Published tags of this architecture: {tags}.\n"
        "Of a file only tensors are read (safetensors, or the .pt of a state_dict): all else could run code.\n"
        "Without a connection: download the weights elsewhere (*.safetensors on the model's page of the "
        "Hugging Face hub) and pass the file's path as `weights`, or a folder that also holds "
        "open_clip_config.json as model='local-dir:folder'; or use model='embedded', without any download. "
        "Random weights are never a fallback: ask for them with weights='random:0'."
    )


def _brief(error: Exception) -> str:
    """A state that does not fit is listed key by key, a thousand of them: the first tell what is wrong."""
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= 600 else f"{text[:600]} ... ({len(text)} characters)"


def _count_tokens(tokenizer, text: str) -> int:
    if hasattr(tokenizer, "encode"):
        return len(tokenizer.encode(text)) + 2
    return len(tokenizer.tokenizer(text).input_ids)


@contextmanager
def _without_random_warning(active: bool) -> Iterator[None]:
    """open_clip logs a warning about the random weights that were asked for."""

    def keep(record: logging.LogRecord) -> bool:
        return not (active and "initialized randomly" in record.getMessage())

    root = logging.getLogger()
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
