"""Where a CLIP comes from: open_clip's registry, the hub, a file, or this package."""

import difflib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from os.path import isdir, isfile
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

import clippan_lib.clip.tower  # noqa: F401 (a configuration may name it, and timm then must know it)
from clippan_lib.assets import EMBEDDED
from clippan_lib.clip.archive import loadable
from clippan_lib.errors import ClipWeightsError

_ASSET = "embedded_clip"
_RANDOM = "random:"
_FOLDER = "local-dir:"


def make(model: str, weights: str | None) -> tuple[nn.Module, Callable[..., Tensor], dict[str, Any]]:
    """open_clip's model, tokenizer and preprocessing for what `load_clip` is given; raises what that raises."""
    seed = _seed(weights)
    config, source = _resolve(model, weights, seed)
    with torch.random.fork_rng(devices=[]), _without_random_warning(seed is not None):
        torch.default_generator.manual_seed(seed or 0)
        # open_clip passes on whatever the hub, the disk or the file's reader raises.
        try:
            with loadable(source) as file:
                network = _create(config, file, load=seed is None)
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
    return network, tokenizer, open_clip.get_model_preprocess_cfg(network)


def check(model: str, weights: str | None) -> None:
    """Refuse what `make` refuses, without a download: weights of a file or folder are loaded once."""
    drawn = _seed(weights) is not None
    _resolve(model, weights, _seed(weights))
    if model == EMBEDDED and weights is not None and not drawn and not isfile(weights):
        raise ClipWeightsError(_help(model, weights, "this is no file"))
    if model.startswith(_FOLDER) and not isdir(model.removeprefix(_FOLDER)):
        raise ClipWeightsError(_help(model, weights, "there is no such folder"))
    if model.startswith(_FOLDER) or (weights is not None and not drawn and isfile(weights)):
        make(model, weights)


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
    if not open_clip.get_pretrained_cfg(model, weights) and not isfile(weights):
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
    if not digits.isdecimal() or len(digits) > 18:
        raise ValueError(
            f"weights={weights!r}: a whole number of at most 18 digits must follow 'random:', as in 'random:0'"
        )
    return int(digits)


def _help(model: str, weights: str | None, reason: object) -> str:
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(model)) or "none"
    return (
        f"no weights for CLIP {model!r} with weights={weights!r}: {reason}.\n"
        f"Published tags of this architecture: {tags}.\n"
        "Of a file only tensors are read (safetensors, the .pt of a state_dict, or of OpenAI): all else could run "
        "code.\n"
        "Without a connection: download the weights elsewhere (*.safetensors on the model's page of the "
        "Hugging Face hub) and pass the file's path as `weights`, or a folder that also holds "
        "open_clip_config.json as model='local-dir:folder'; or use model='embedded', without any download. "
        "Random weights are never a fallback: ask for them with weights='random:0'."
    )


def _brief(error: Exception) -> str:
    """A state that does not fit is listed key by key, a thousand of them: the first tell what is wrong."""
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= 600 else f"{text[:600]} ... ({len(text)} characters)"


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
