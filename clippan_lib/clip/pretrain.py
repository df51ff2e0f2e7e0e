"""Trains the small CLIP of the package: `python -m clippan_lib.clip.pretrain --out DIR --seed 0`.

No published CLIP is small enough to ship, or to train with on two CPU cores. This one has seen nothing but
rendered landscapes (`data.synthetic`), in the seven ways of `captioned.VARIANTS`, with templated captions.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import open_clip
import torch
from jaxtyping import Float
from torch import Tensor, nn

from clippan_lib.clip.captioned import (
    COVER_NAMES,
    VARIANTS,
    Patches,
    augment,
    draw_captions,
    make_patches,
    show_variant,
)
from clippan_lib.clip.model import prepare_image
from clippan_lib.clip.prompts import PROMPTS
from clippan_lib.data.synthetic import COVERS
from clippan_lib.files import write_tensors

FIRST_TRAINING_SEED, FIRST_HELD_OUT_SEED = 1_000_000, 2_000_000
_NORMALISE = (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)


@dataclass(frozen=True)
class PretrainConfig:
    """Numbers of one pre-training run; the defaults are those of the shipped weights.

    Args:
        seed: decides initial weights, order and augmentation.
        scenes: rendered training scenes of 256 x 256 pixels.
        held_out_scenes: for the accuracies, with seeds of their own.
        patches: patches per scene.
        steps: optimiser steps.
        per_variant: images of each of the seven variants in a step.
        lr: peak learning rate (AdamW, one cosine, 5 % warm-up).
        weight_decay: of matrices and filters, not of the token table.
    """

    seed: int = 0
    scenes: int = 400
    held_out_scenes: int = 40
    patches: int = 9
    steps: int = 800
    per_variant: int = 10
    lr: float = 2e-3
    weight_decay: float = 0.05


def caption_loss(logits: Float[Tensor, "b k"], positive: Float[Tensor, "b k"]) -> Float[Tensor, ""]:
    """Symmetric contrastive loss in which every caption that is true of an image is a positive.

    Args:
        logits: scaled similarity of every image with every caption.
        positive: 1 where the caption is true of the image, else 0; each image has one at least.
    """
    image_side = -(logits.log_softmax(1) * positive / positive.sum(1, keepdim=True)).sum(1).mean()
    used = positive.sum(0) > 0
    share = positive[:, used] / positive[:, used].sum(0)
    return 0.5 * (image_side - (logits[:, used].log_softmax(0) * share).sum(0).mean())


def new_model(seed: int) -> nn.Module:
    """The untrained CLIP of assets/embedded_clip.json; torch's random state is left as it was."""
    config = json.loads(files("clippan_lib.assets").joinpath("embedded_clip.json").read_text())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return open_clip.CLIP(**config)


def _optimiser(model: nn.Module, config: PretrainConfig) -> tuple[torch.optim.AdamW, list[float]]:
    """AdamW [loshchilov2019decoupled], but for the undecayed token table: words never seen keep their random rows."""
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and "token_embedding" not in name]
    kept = [p for name, p in model.named_parameters() if p.ndim < 2 or "token_embedding" in name]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    warm = max(1, config.steps // 20)
    rates = [
        config.lr * min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * step / config.steps)))
        for step in range(config.steps)
    ]
    return torch.optim.AdamW(groups, lr=config.lr), rates


def _encode_texts(model: nn.Module, texts: Sequence[str]) -> Tensor:
    return model.encode_text(open_clip.tokenize(list(texts)), normalize=True)


def _batch(patches: Patches, config: PretrainConfig, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images of every variant, ready for the tower, and the (variant, cover) of each."""
    images, facts = [], []
    for number, name in enumerate(VARIANTS):
        index = torch.randint(len(patches.cover), (config.per_variant,), generator=generator)
        images.append(augment(show_variant(name, patches, index, generator), generator))
        facts.append(torch.stack([torch.full_like(index, number), patches.cover[index]], 1))
    pixels = prepare_image(torch.cat(images), (64, 64), *_NORMALISE)
    return pixels.contiguous(memory_format=torch.channels_last), torch.cat(facts)


def train(model: nn.Module, patches: Patches, config: PretrainConfig) -> list[float]:
    """Train both towers on captioned patches.

    Args:
        model: from `new_model`; left in evaluation mode.
        patches: from `make_patches`.
        config: the numbers of the run.
    Returns: the loss of every step.
    """
    generator = torch.Generator().manual_seed(config.seed)
    optimiser, rates = _optimiser(model, config)
    losses = []
    model.train().to(memory_format=torch.channels_last)  # a third faster on one core
    for rate in rates:
        for group in optimiser.param_groups:
            group["lr"] = rate
        images, seen = _batch(patches, config, generator)
        texts, said = draw_captions(generator)
        agree = (seen[:, None] == said[None]) | (said[None] < 0)
        features = model.encode_image(images, normalize=True)
        logits = model.logit_scale.exp() * features @ _encode_texts(model, texts).T
        loss = caption_loss(logits, agree.all(-1).float())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        losses.append(loss.item())
    model.eval()
    return losses


@torch.no_grad()
def accuracies(model: nn.Module, patches: Patches, seed: int = 0) -> dict[str, float]:
    """Zero-shot accuracies on patches of scenes not trained on.

    Args:
        model: in evaluation mode.
        patches: from `make_patches`.
        seed: of the random strength of blur, noise and distortion.
    Returns: `modality_<prompt set>` over LRMS, PAN and HRMS, `variant` over all seven, `cover` over the land
        covers (LRMS, PAN and HRMS images), each in [0, 1].
    """
    generator, every = torch.Generator().manual_seed(seed), torch.arange(len(patches.cover))
    images = {name: show_variant(name, patches, every, generator) for name in VARIANTS}
    features = {
        name: model.encode_image(prepare_image(image, (64, 64), *_NORMALISE), normalize=True)
        for name, image in images.items()
    }
    three = torch.cat([features[name] for name in ("lrms", "pan", "hrms")])
    kinds = torch.arange(3).repeat_interleave(len(every))
    scores = {}
    for name, prompts in PROMPTS.items():
        scores[f"modality_{name}"] = _share(three, _encode_texts(model, prompts.texts), kinds)
    texts = [next(text for text in templates if "{" not in text) for templates in VARIANTS.values()]
    texts[1] = PROMPTS["wald"].hrms
    kinds = torch.arange(len(VARIANTS)).repeat_interleave(len(every))
    scores["variant"] = _share(torch.cat(list(features.values())), _encode_texts(model, texts), kinds)
    covers = [f"a satellite image of {COVER_NAMES[cover][0]}" for cover in COVERS]
    scores["cover"] = _share(three, _encode_texts(model, covers), patches.cover.repeat(3))
    return scores


def _share(images: Float[Tensor, "b d"], texts: Float[Tensor, "k d"], truth: Tensor) -> float:
    return round(((images @ texts.T).argmax(1) == truth).float().mean().item(), 4)


def save(model: nn.Module, path: Path, facts: dict) -> None:
    """Write a checkpoint that open_clip loads strictly: half precision, facts in the header."""
    tensors = {name: t.half() if t.is_floating_point() else t for name, t in model.state_dict().items()}
    write_tensors(path, tensors, {"format": "pt", "facts": json.dumps(facts)})


def pretrain(out: Path, config: PretrainConfig) -> dict:
    """Render, train, measure and write `embedded_clip.safetensors`.

    Args:
        out: folder, made if absent.
        config: the numbers of the run.
    Returns: the facts written into the file's header: configuration, seconds, final loss, accuracies.
    """
    start = time.perf_counter()
    patches = make_patches(FIRST_TRAINING_SEED, config.scenes, config.patches)
    rendered = time.perf_counter()
    model = new_model(config.seed)
    losses = train(model, patches, config)
    trained = time.perf_counter()
    model = model.half().float()  # measure what the file holds
    tail = losses[-50:]
    unseen = make_patches(FIRST_HELD_OUT_SEED, config.held_out_scenes, config.patches)
    facts = {
        **asdict(config),
        "render_seconds": round(rendered - start),
        "train_seconds": round(trained - rendered),
        "final_loss": round(sum(tail) / len(tail), 4),
        "held_out": accuracies(model, unseen),
        "open_clip": open_clip.__version__,
        "torch": torch.__version__,
    }
    save(model, out / "embedded_clip.safetensors", facts)
    return facts


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the CLIP that comes with the package, on one core.")
    parser.add_argument("--out", type=Path, required=True, help="folder for embedded_clip.safetensors")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(pretrain(arguments.out, PretrainConfig(seed=arguments.seed)), indent=2))


if __name__ == "__main__":
    main()
