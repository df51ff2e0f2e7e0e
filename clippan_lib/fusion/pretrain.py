"""Trains the band-wise network of the package: `python -m clippan_lib.fusion.pretrain --out DIR --seed 0`.

It sees synthetic scenes with their truth at full resolution, in more kinds of optics, PAN responses, noise and
misregistration than sensors have, so that it serves any of them as it is.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clippan_lib.data.synthetic import draw
from clippan_lib.data.synthetic.materials import CENTRE_NM
from clippan_lib.files import write_tensors
from clippan_lib.fusion.classical import bt_h, exp, gsa
from clippan_lib.fusion.consistency import consistent
from clippan_lib.fusion.networks.bandwise import STEPS, BandWise
from clippan_lib.mtf import degrade
from clippan_lib.sensors import get_sensor
from clippan_lib.shapes import HRMS, LRMS, PAN, Scalar

FIRST_TRAINING_SEED, FIRST_HELD_OUT_SEED = 2_000_000, 2_900_000
RATIO = 4
# Bands of a patch among the eight of WorldView, and how often: most sensors have blue, green, red and near infrared
_SETS = (((1, 2, 4, 6), 0.7), ((1, 2, 4), 0.1), ((0, 1, 2, 3, 4, 5, 6, 7), 0.2))
_BORDER = 8  # PAN px that the loss leaves out


@dataclass(frozen=True)
class PretrainConfig:
    """Numbers of one training; the defaults are those of the shipped weights.

    Args:
        seed: decides scenes, initial weights and all draws.
        scenes: drawn for training, 256 x 256 PAN px.
        held_out_scenes: for the scores.
        steps: optimiser steps.
        batch: patches per step, each of a scene of its own.
        patch: PAN px.
        lr: peak learning rate (Adam, 5 % warm-up, one cosine).
    """

    seed: int = 0
    scenes: int = 600
    held_out_scenes: int = 24
    steps: int = 7500
    batch: int = 3
    patch: int = 128
    lr: float = 2e-3


@dataclass(frozen=True)
class Seen:
    """A scene through the optics of one sensor that might exist.

    Args:
        gt: (c, H, W), the bands on PAN's grid, as sharp as `gain` at its Nyquist frequency.
        pan: (1, H, W).
        gains: (c,).
    """

    gt: Tensor
    pan: Tensor
    gains: Tensor


@dataclass(frozen=True)
class Pair:
    """A patch as it would be delivered, and its truth.

    Args:
        lrms, pan, gt: a batch of one.
        gnyq: as they are told, which is not quite as they are.
    """

    lrms: LRMS
    pan: PAN
    gt: HRMS
    gnyq: tuple[float, ...]


def look(seed: int, size: int = 256) -> Seen:
    """Draw a scene and a sensor that sees it.

    The truth is about as sharp as PAN, between 0.7 and 1.4 times its gain at Nyquist; PAN's lies between 0.15, what
    optics alone leave, and 0.5, what a provider's sharpening makes of it. Bands lie at the eight wavelengths of
    WorldView, 15 nm to either side; PAN's response is anywhere in the visible and near infrared.
    """
    rng = np.random.default_rng([seed, 1])
    nm = np.array([CENTRE_NM[band] for band in get_sensor("WV3").bands])
    land = draw(seed, nm + rng.uniform(-15, 15, len(nm)), size)
    pan_gain = rng.uniform(0.15, 0.5)
    sharpness = np.clip(pan_gain * rng.uniform(0.7, 1.4), 0.15, 0.55)
    gains = np.clip(sharpness * rng.uniform(0.92, 1.08, len(nm)), 0.1, 0.6)
    response = {
        "centre": rng.uniform(560, 680),
        "width": rng.uniform(90, 170),
        "own": rng.uniform(0, 0.4),
    }
    gt, pan = land.bands(gains.tolist()), land.pan(pan_gain, **response)
    return Seen(*(torch.from_numpy(np.ascontiguousarray(x)).float() for x in (gt, pan, gains)))


def deliver(
    scene: Seen, config: PretrainConfig, rng: np.random.Generator, bands: Sequence[int] | None = None
) -> Pair:
    """A patch of a scene with the bands that a sensor has, turned, blurred, shifted and noisy.

    In more than half of the patches LRMS has the truth's own gains, as Wald's protocol has it; in the others it is
    softer, down to 0.05, as many products are. The gains that are told are wrong by up to a tenth.

    Args:
        scene: from `look`.
        config: size of the patch.
        rng: draws.
        bands: which of the eight of WorldView; None draws a set.
    """
    height, width = scene.gt.shape[-2:]
    chosen = [*(bands or _SETS[rng.choice(len(_SETS), p=[share for _, share in _SETS])][0])]
    top, left = (int(rng.integers(0, side - config.patch + 1)) for side in (height, width))
    where = (..., slice(top, top + config.patch), slice(left, left + config.patch))
    gt, pan = scene.gt[chosen][where], scene.pan[where]
    turn = int(rng.integers(8))
    gt, pan = (_turned(image, turn)[None] for image in (gt, pan))
    soft = rng.random() < 0.45
    gains = np.full(len(chosen), rng.uniform(0.05, 0.3)) if soft else scene.gains[chosen].numpy()
    gains = np.clip(gains * rng.uniform(0.9, 1.1) * rng.uniform(0.95, 1.05, len(chosen)), 0.04, 0.65)
    lrms = degrade(gt, tuple(gains), RATIO)
    lrms = lrms + float(np.exp(rng.uniform(np.log(3e-4), np.log(3e-3)))) * _noise(lrms, rng)
    if rng.random() < 0.5:
        pan = _shifted(pan, *rng.uniform(-0.5, 0.5, 2))
    pan = pan + float(np.exp(rng.uniform(np.log(3e-4), np.log(4e-3)))) * _noise(pan, rng)
    told = np.clip(gains * rng.uniform(0.9, 1.1, len(chosen)), 0.03, 0.7)
    return Pair(lrms.clamp(0, 1), pan.clamp(0, 1), gt, tuple(told.tolist()))


def _turned(image: Tensor, turn: int) -> Tensor:
    image = image.rot90(turn % 4, (-2, -1))
    return image.mT if turn >= 4 else image


def _noise(image: Tensor, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(tuple(image.shape), np.float32))


def _shifted(image: Tensor, down: float, right: float) -> Tensor:
    """By a part of a pixel, as a camera would: between the pixels, linearly."""
    rows = 1 - abs(down), abs(down)
    columns = 1 - abs(right), abs(right)
    moved = rows[0] * image + rows[1] * image.roll(int(np.sign(down)), -2)
    return columns[0] * moved + columns[1] * moved.roll(int(np.sign(right)), -1)


def fidelity(hrms: HRMS, gt: HRMS) -> Scalar:
    """Mean over bands of log10 of the squared error: MPSNR / -10, but for what an image of one colour would need.

    Args:
        hrms, gt: (b, c, H, W), [0, 1].
    """
    inside = (..., slice(_BORDER, -_BORDER), slice(_BORDER, -_BORDER))
    error = (hrms - gt)[inside].square().mean((-2, -1))
    return (error + 1e-7).log10().mean()


def fuse(network: BandWise, pair: Pair) -> HRMS:
    """The network with the last layer that it is used with."""
    hrms = network.through(pair.gnyq)(pair.lrms, pair.pan)
    return consistent(hrms, pair.lrms, pair.gnyq, RATIO, STEPS)


def train(config: PretrainConfig, log: Path | None = None) -> tuple[BandWise, dict[str, object]]:
    """The trained network, and facts about the training."""
    started = time.time()
    scenes = [look(FIRST_TRAINING_SEED + 10_000 * config.seed + k) for k in range(config.scenes)]
    drawn, rng = time.time(), np.random.default_rng(config.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = BandWise(1, RATIO)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.lr)
    losses = []
    for step in range(config.steps):
        rise = min(1.0, (step + 1) / max(1, 0.05 * config.steps))
        optimiser.param_groups[0]["lr"] = config.lr * rise * (1 + math.cos(math.pi * step / config.steps)) / 2
        optimiser.zero_grad()
        total = 0.0
        for scene in rng.choice(len(scenes), config.batch, replace=False):
            pair = deliver(scenes[scene], config, rng)
            loss = fidelity(fuse(network, pair), pair.gt) / config.batch
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(total)
        if log and (step + 1) % 100 == 0:
            note = f"{step + 1} {time.time() - started:.0f} s {-10 * np.mean(losses[-100:]):.3f} dB\n"
            log.open("a").write(note)
    trained = time.time()
    network.requires_grad_(False).eval()
    facts = asdict(config) | {
        "draw_seconds": round(drawn - started),
        "train_seconds": round(trained - drawn),
        "last_hundred_db": round(-10 * float(np.mean(losses[-100:])), 3),
        "held_out_db": scores(network, config),
    }
    return network, facts


@torch.no_grad()
def scores(network: BandWise, config: PretrainConfig) -> dict[str, float]:
    """Mean MPSNR (dB) on scenes not trained on, beside classical methods with the same steps of consistency."""
    rng = np.random.default_rng([config.seed, 2])
    pairs = [deliver(look(FIRST_HELD_OUT_SEED + k), config, rng) for k in range(config.held_out_scenes)]
    found: dict[str, list[float]] = {"bandwise": [], "exp": [], "gsa": [], "bt_h": []}
    for pair in pairs:
        images = {"bandwise": fuse(network, pair)}
        for name, method in {"exp": exp, "gsa": gsa, "bt_h": bt_h}.items():
            hrms = method(pair.lrms, pair.pan, RATIO)
            images[name] = consistent(hrms, pair.lrms, pair.gnyq, RATIO, STEPS)
        for name, image in images.items():
            found[name].append(-10 * fidelity(image, pair.gt).item())
    return {name: round(float(np.mean(values)), 3) for name, values in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and write bandwise.safetensors with the facts in its header."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the weights, made if need be")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=PretrainConfig.steps)
    parser.add_argument("--scenes", type=int, default=PretrainConfig.scenes)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    config = PretrainConfig(seed=options.seed, steps=options.steps, scenes=options.scenes)
    network, facts = train(config, options.out / "log.txt")
    write_tensors(options.out / "bandwise.safetensors", network.state_dict(), {"facts": json.dumps(facts)})
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main()
