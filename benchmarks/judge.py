"""Gates of a CLIP as it is, without Stage I: on drawn scenes, and on real ones one scale down, whose MS is the truth.

    python benchmarks/judge.py --shared ../shared --clip embedded --out benchmarks/results/judge.json

A real scene's MS and PAN are degraded once with the gains that were measured on it (soft products are halved first, as
`data.wald` does with a sharp truth), and up to 64 x 64 LRMS px of it are judged. `cosine`, in pixels and in what LRMS
does not see, is that of the gradient of the language term, with Wald's text, with what a fusion lacks; `walk` is what
ten steps along it gain. Aims: how far ten steps along each aim's words move each axis from the stack, in per cent.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from one_scale_down import SCENES, native

from clippan_lib.clip import Supervisor, load_clip
from clippan_lib.clip.aims import AIMS
from clippan_lib.data import wald
from clippan_lib.data.stacks import is_soft, sharpness_of_truth
from clippan_lib.evaluation.gates import Case, ascend, point, rank, steer
from clippan_lib.evaluation.judgement import case_of
from clippan_lib.files import write_json
from clippan_lib.fusion import get_method
from clippan_lib.fusion.registry import load_bandwise, load_stack
from clippan_lib.losses.guidance import guide, guides
from clippan_lib.optics import measure_optics
from clippan_lib.sensors import Sensor
from clippan_lib.training.deliveries import METHODS, UNSEEN_METHODS, make

SIDE = 64  # LRMS px
FIRST_SEED = 4_955_000
STARTS = ("bt_h+3", "bandwise", "stack")
SIZES = (0.002, 0.005, 0.01)
STEPS = 10


@torch.no_grad()
def real(shared: Path, name: str) -> tuple[Case, Sensor]:
    """A scene of the shared folder, one scale down."""
    ms, pan, table, largest = native(shared, name)
    sensor = replace(table, gnyq=measure_optics(ms, pan, 4).gnyq, measured=True)
    sharp = is_soft(sensor)
    batch = wald(ms, pan, sensor, sharp)
    stack = replace(load_stack(sensor, 4), sharpness=sharpness_of_truth(sensor, sharp))
    fused = {method: get_method(method, sensor, 4)(batch.lrms, batch.pan) for method in METHODS}
    fused |= {
        "bandwise": load_bandwise(sensor, 4)(batch.lrms, batch.pan),
        "stack": stack(batch.lrms, batch.pan),
    }
    height, width = (min(SIDE, side) for side in batch.lrms.shape[-2:])

    def part(image: torch.Tensor, scale: int = 4) -> torch.Tensor:
        return image[..., : scale * height, : scale * width].clamp(0, 1).float()

    images = part(batch.lrms, 1), part(batch.pan), part(batch.gt)
    return Case(
        name, *images, {key: part(image) for key, image in fused.items()}, sensor.gnyq, 4, largest
    ), sensor


def judged(case: Case, supervisor: Supervisor, dense: bool) -> dict[str, Any]:
    """All numbers of one scene."""
    with torch.no_grad():
        loss = guide(supervisor, case.lrms, case.pan, dense)
    starts = replace(case, fused={name: case.fused[name] for name in STARTS})
    cosines = point(loss, starts)
    return {
        "scene": case.name,
        "right": rank(loss, case).right.to_dict(),
        "cosine": cosines.pixels.to_dict(),
        "null": cosines.null.to_dict(),
        "walk": {
            name: {size: ascend(loss, case, name, size, (STEPS,))[STEPS] for size in SIZES} for name in STARTS
        },
    }


def steered(case: Case, supervisor: Supervisor, dense: bool, unseen: bool) -> pd.DataFrame:
    """Per cent by which walks along words move each axis from the stack: a row per aim, means over its wordings."""
    rows = {}
    with torch.no_grad():
        told = guides(supervisor, case.lrms, case.pan, dense)
    for name, aim in AIMS.items():
        texts = aim.unseen if unseen else aim.wordings
        losses = {text: told(text.format(cover="land")) for text in texts}
        of_pair = case.lrms, case.pan, case.gnyq, case.ratio
        rows[name] = steer(losses, case.fused["stack"], *of_pair)[1].mean()
    return pd.DataFrame(rows).T


def main() -> None:
    """Judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and scenes/")
    parser.add_argument("--scenes", nargs="*", default=[*SCENES])
    parser.add_argument("--clip", default="embedded", help="as for `load_clip`")
    parser.add_argument("--weights")
    parser.add_argument("--guidance", choices=("global", "dense"), default="dense")
    parser.add_argument("--drawn", type=int, default=12, metavar="N", help="drawn scenes")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    towers = load_clip(options.clip, options.weights)
    dense, found = options.guidance == "dense", []
    for number in range(options.drawn):
        delivery = make(FIRST_SEED + number, (*METHODS, *UNSEEN_METHODS))
        case = replace(case_of(delivery, 2047.0), name=f"drawn {number}")
        supervisor = Supervisor.as_it_is(towers, delivery.sensor, case.lrms, case.pan)
        found.append(judged(case, supervisor, dense))
    if found:
        table = pd.json_normalize(found).drop(columns="scene")
        print(f"{options.drawn} drawn scenes\n{table.mean().round(3).to_string()}\n")
    for name in options.scenes:
        case, sensor = real(options.shared, name)
        supervisor = Supervisor.as_it_is(towers, sensor, case.lrms, case.pan)
        row = judged(case, supervisor, dense)
        print(f"{name}\n{pd.json_normalize(row).drop(columns='scene').T.round(3)[0].to_string()}")
        for unseen in (False, True):
            moves = steered(case, supervisor, dense, unseen)
            print(f"{'unseen' if unseen else 'trained'} words\n{moves.round(1).to_string()}\n", flush=True)
            row["unseen" if unseen else "trained"] = moves.to_dict("index")
        found.append(row)
    if options.out:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
