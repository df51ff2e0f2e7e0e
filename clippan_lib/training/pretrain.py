"""Trains the CLIP that comes with the package: `python -m clippan_lib.training.pretrain --out DIR --seed 0`.

No published CLIP is small enough to ship, or has a gradient that is an image. Words and images are taught together.
The loss of a text (`guidance.dense_direction`) must have a gradient that points from any fused image to what the text
asks for, on synthetic deliveries whose truth is known; it must rank fused images as the truth does; and captions must
agree with the images that they describe, as CLIP has it.
"""

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from clippan_lib.clip.aims import AIMS, TRUTH, blurred
from clippan_lib.clip.captioned import COVER_NAMES, VARIANTS, draw_captions
from clippan_lib.clip.prompts import PROMPTS, ROLES
from clippan_lib.data.synthetic import COVERS
from clippan_lib.files import write_json, write_tensors
from clippan_lib.losses.alignment import of_captions
from clippan_lib.losses.ascent import order
from clippan_lib.training.deliveries import Cut, Delivery, cut, make
from clippan_lib.training.judge import Judge, Shown, Terms, judged, shown

MODEL = json.loads(files("clippan_lib.assets").joinpath("embedded_clip.json").read_text())
FIRST_TRAINING_SEED, FIRST_HELD_OUT_SEED = 4_000_000, 4_900_000


@dataclass(frozen=True)
class PretrainConfig:
    """Numbers of one training.

    Args:
        seed: decides deliveries, initial weights and all draws.
        deliveries: for training, 128 x 128 PAN px.
        held_out: for the scores.
        steps: optimiser steps.
        batch: crops per step, each of a delivery of its own.
        candidates: fused images of a crop whose gradient is judged.
        ranked: fused images of a crop that are ranked besides.
        crop: side of a crop, LRMS px.
        truth_share: share of the candidates, for which the text asks for the truth.
        w_rank, w_caption: weights of the other two terms.
        lr, lr_text: peak learning rates of the image tower and of the text tower.
    """

    seed: int = 0
    deliveries: int = 480
    held_out: int = 24
    steps: int = 3000
    batch: int = 4
    candidates: int = 3
    ranked: int = 2
    crop: int = 12
    truth_share: float = 0.7
    w_rank: float = 0.3
    w_caption: float = 0.1
    lr: float = 3e-3
    lr_text: float = 1e-3


def new_model(seed: int) -> open_clip.CLIP:
    """The untrained CLIP; torch's random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return open_clip.CLIP(**MODEL)


def _text(name: str, rng: np.random.Generator, cover: int, unseen: bool = False) -> str:
    aim = AIMS[name]
    texts = aim.unseen if unseen else aim.wordings
    return _filled(texts[int(rng.integers(len(texts)))], rng, cover)


def _filled(text: str, rng: np.random.Generator, cover: int) -> str:
    names = COVER_NAMES[COVERS[cover]]
    return text.format(cover=names[int(rng.integers(len(names)))])


def _inputs(rng: np.random.Generator, cover: int) -> list[str]:
    """A text of LRMS, and one of PAN."""
    texts = [VARIANTS[name] for name in ("lrms", "pan")]
    return [_filled(each[int(rng.integers(len(each)))], rng, cover) for each in texts]


def _variants(part: Cut, judge: Judge, how: Shown, rng: np.random.Generator) -> dict[str, Tensor]:
    """Mean features of a truth that was blurred, distorted or made noisy, and of a blurred PAN."""
    sigma, share, level = 0.9 + 1.6 * rng.random(), 0.4 + 0.5 * rng.random(), 0.25 + 0.5 * rng.random()
    gt, deviation = part.gt, how.deviation
    level_of_bands = gt.mean((-2, -1), keepdim=True)
    if rng.random() < 0.5:
        distorted = gt.roll(1, 1) * deviation / deviation.roll(1, 1)
    else:
        grey = level_of_bands + deviation * ((gt - level_of_bands) / deviation).mean(1, keepdim=True)
        distorted = (1 - share) * gt + share * grey
    noisy = gt + level * deviation * torch.from_numpy(rng.standard_normal(tuple(gt.shape), np.float32))
    images = judge.bands(torch.cat([blurred(gt, sigma), distorted, noisy]), how).mean((-2, -1))
    pan = judge.pan(blurred(part.pan, sigma), how).mean((-2, -1))
    return {"blurred": images[:1], "distorted": images[1:2], "noisy": images[2:], "blurred_pan": pan}


def _aims(config: PretrainConfig, rng: np.random.Generator) -> list[str]:
    """One per image whose gradient is judged."""
    others = [name for name in AIMS if name != TRUTH]
    return [
        TRUTH if rng.random() < config.truth_share else others[int(rng.integers(len(others)))]
        for _ in range(config.candidates)
    ]


def step(
    judge: Judge, deliveries: Sequence[Delivery], config: PretrainConfig, rng: np.random.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one step, and its parts."""
    chosen = [deliveries[number] for number in rng.choice(len(deliveries), config.batch, replace=False)]
    count, covers = config.candidates + config.ranked, [delivery.cover for delivery in chosen]
    parts = [cut(delivery, count, config.crop, rng) for delivery in chosen]
    shows = [shown(delivery, judge.tower, rng) for delivery in chosen]
    aims = [_aims(config, rng) for _ in chosen]
    texts = [
        text
        for names, cover in zip(aims, covers, strict=True)
        for text in (*_inputs(rng, cover), *(_text(name, rng, cover) for name in (TRUTH, *names)))
    ]
    captions, said = draw_captions(torch.Generator().manual_seed(int(rng.integers(2**31))))
    features = judge.texts([*texts, *captions])
    of_each = features[: len(texts)].split(3 + config.candidates)
    judgements: list[Terms] = []
    means: list[Tensor] = []
    facts, kinds = [], [*VARIANTS]
    for part, how, names, found, cover in zip(parts, shows, aims, of_each, covers, strict=True):
        terms = judged(judge, part, how, names, _asked(found[:2], found[3:]), found[:3])
        # half the time of a step, were they made of every crop
        seen = terms.means if judgements else terms.means | _variants(part, judge, how, rng)
        judgements.append(terms)
        means += seen.values()
        facts += [(kinds.index(name), cover) for name in seen]
    agree = ((torch.tensor(facts)[:, None] == said[None]) | (said[None] < 0)).all(-1).float()
    similar = F.normalize(torch.cat(means), dim=1) @ features[len(texts) :].T
    caption = of_captions(judge.model.logit_scale.exp() * similar, agree)
    cosines = torch.cat([terms.cosines for terms in judgements])
    orders, right = (
        torch.stack(each) for each in zip(*(order(t.losses, t.errors) for t in judgements), strict=True)
    )
    loss = (1 - cosines).mean() + config.w_rank * orders.mean() + config.w_caption * caption
    of_truth = torch.tensor([name == TRUTH for names in aims for name in names])
    return loss, {
        "cosine": _mean(cosines[of_truth]),
        "of_aims": _mean(cosines[~of_truth]),
        "right": _mean(right),
        "caption": caption.item(),
    }


def _asked(inputs: Float[Tensor, "2 d"], aims: Float[Tensor, "k d"]) -> Float[Tensor, "k 3 d"]:
    return torch.stack([torch.cat([inputs, aim[None]]) for aim in aims])


def _mean(values: Tensor) -> float:
    return values.mean().item() if len(values) else math.nan


def train(
    model: open_clip.CLIP,
    deliveries: Sequence[Delivery],
    held_out: Sequence[Delivery],
    config: PretrainConfig,
    out: Path,
) -> None:
    """Train both towers; a line of means every hundred steps, and the model as it is every five hundred."""
    rng, judge, kept = np.random.default_rng(config.seed), Judge(model).train(), []
    groups = [{"params": list(model.visual.parameters()), "peak": config.lr}]
    words = [p for name, p in model.named_parameters() if not name.startswith("visual.")]
    groups.append({"params": words, "peak": config.lr_text})
    optimiser, started = torch.optim.Adam(groups), time.time()
    for number in range(config.steps):
        rise = min(1.0, (number + 1) / max(1, 0.03 * config.steps))
        share = rise * (1 + math.cos(math.pi * number / config.steps)) / 2
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * share
        loss, record = step(judge, deliveries, config, rng)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        model.logit_scale.data.clamp_(max=math.log(100))
        kept.append(record)
        if (number + 1) % 100 == 0:
            means = {key: round(float(np.nanmean([row[key] for row in kept[-100:]])), 3) for key in record}
            line = f"{number + 1} {time.time() - started:.0f} s {means}"
            if (number + 1) % 500 == 0:
                line += f" held out {held(judge, held_out, config)}"
                save(model, out, {"steps": number + 1})
            with (out / "log.txt").open("a") as file:
                print(line, file=file)


def held(
    judge: Judge, deliveries: Sequence[Delivery], config: PretrainConfig, cuts: int = 2
) -> dict[str, float]:
    """Cosines per aim, with seen and unseen wordings, and the share of pairs ranked right, on deliveries kept apart."""
    rng = np.random.default_rng([config.seed, 5])
    found: dict[str, list[float]] = {"right": []}
    for delivery in deliveries:
        for _ in range(cuts):
            part, how = cut(delivery, len(AIMS), config.crop, rng), shown(delivery, judge.tower, rng)
            inputs = _inputs(rng, delivery.cover)
            for unseen in (False, True):
                asked = (_text(name, rng, delivery.cover, unseen) for name in AIMS)
                with torch.no_grad():
                    texts = judge.texts([*inputs, *asked])
                terms = judged(
                    judge, part, how, [*AIMS], _asked(texts[:2], texts[2:]), texts[:3], graph=False
                )
                for name, cosine in zip(AIMS, terms.cosines.tolist(), strict=True):
                    found.setdefault(f"{name}{' (unseen)' * unseen}", []).append(cosine)
                if not unseen:
                    found["right"].append(order(terms.losses, terms.errors)[1].item())
    return {name: round(float(np.mean(values)), 3) for name, values in found.items()}


@torch.no_grad()
def accuracies(
    judge: Judge, deliveries: Sequence[Delivery], config: PretrainConfig, cuts: int = 4
) -> dict[str, float]:
    """Zero-shot accuracies of the features of images, on deliveries kept apart.

    Returns: `modality_<prompt set>` over LRMS, PAN and HRMS; `variant` over all of `captioned.VARIANTS`; `cover` over
        kinds of land, of LRMS, PAN and HRMS; each in [0, 1].
    """
    rng, kinds = np.random.default_rng([config.seed, 6]), [*VARIANTS]
    found: dict[str, list[Tensor]] = {name: [] for name in kinds}
    for delivery in deliveries:
        for _ in range(cuts):
            part, how = cut(delivery, 1, config.crop, rng), shown(delivery, judge.tower, rng)
            means = {"lrms": judge.bands(part.lrms, how), "hrms": judge.bands(part.gt, how)}
            means |= {"pan": judge.pan(part.pan, how)}
            means = {name: maps.mean((-2, -1)) for name, maps in means.items()}
            for name, mean in (means | _variants(part, judge, how, rng)).items():
                found[name].append(mean)
    every = F.normalize(torch.cat([torch.cat(found[name]) for name in kinds]), dim=1)
    kind = torch.arange(len(kinds)).repeat_interleave(cuts * len(deliveries))
    cover = torch.tensor([delivery.cover for delivery in deliveries])
    cover = cover.repeat_interleave(cuts).repeat(len(kinds))
    of_roles = torch.cat([(kind == kinds.index(role)).nonzero()[:, 0] for role in ROLES])
    roles = torch.arange(len(ROLES)).repeat_interleave(cuts * len(deliveries))

    def share(images: Tensor, texts: Sequence[str], truth: Tensor) -> float:
        return round(((images @ judge.texts(texts).T).argmax(1) == truth).float().mean().item(), 4)

    scores = {
        f"modality_{name}": share(every[of_roles], prompts.texts, roles) for name, prompts in PROMPTS.items()
    }
    plain = [next(text for text in texts if "{" not in text) for texts in VARIANTS.values()]
    lands = [f"a satellite image of {COVER_NAMES[land][0]}" for land in COVERS]
    return scores | {
        "variant": share(every, plain, kind),
        "cover": share(every[of_roles], lands, cover[of_roles]),
    }


def save(model: open_clip.CLIP, folder: Path, facts: Mapping[str, object]) -> None:
    """A folder that open_clip loads ("local-dir:FOLDER"): configuration, and weights in half precision."""
    preprocess = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    write_json(folder / "open_clip_config.json", {"model_cfg": MODEL, "preprocess_cfg": preprocess})
    tensors = {
        name: value.half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    about = {"format": "pt", "facts": json.dumps(facts)}
    write_tensors(folder / "open_clip_model.safetensors", tensors, about)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=PretrainConfig.steps)
    parser.add_argument("--deliveries", type=int, default=PretrainConfig.deliveries)
    parser.add_argument("--held-out", type=int, default=PretrainConfig.held_out)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    config = PretrainConfig(options.seed, options.deliveries, options.held_out, options.steps)
    options.out.mkdir(parents=True, exist_ok=True)
    started = time.time()
    deliveries = [
        make(FIRST_TRAINING_SEED + 10_000 * config.seed + number) for number in range(config.deliveries)
    ]
    held_out = [make(FIRST_HELD_OUT_SEED + number) for number in range(config.held_out)]
    drawn = time.time()
    model = new_model(config.seed)
    train(model, deliveries, held_out, config, options.out)
    trained = time.time()
    model = model.eval().half().float()  # measure what the file holds
    facts = asdict(config) | {
        "draw_seconds": round(drawn - started),
        "train_seconds": round(trained - drawn),
        "held_out_scores": held(Judge(model), held_out, config),
        "held_out_accuracies": accuracies(Judge(model), held_out, config),
        "open_clip": open_clip.__version__,
        "torch": torch.__version__,
    }
    save(model, options.out, facts)
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
