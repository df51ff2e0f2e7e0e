"""Which fusion of a real scene is the best one, by a truth: all methods and the stack, one scale down.

    python benchmarks/one_scale_down.py --shared ../shared --out benchmarks/results/one_scale_down.json

A scene's MS and PAN are degraded once with the gains that were measured on it; its MS is then the truth, which only
judges. Classical methods are judged as they are, with three steps of consistency with LRMS, and with three steps of
consistency with LRMS and PAN; the best of each kind is chosen by that truth. The stack is weighted one scale lower
still, and nothing is chosen for it; four variants of it show what its parts bring, and two kinds of spoiled LRMS what
its one step of consistency is good for. Two judges: the truth as
delivered, and, where the product is soft, the pair halved first (`data.wald`); and the table's gains. Nothing is drawn
at random, so there are no seeds. The gains are those of the whole scene, so a few numbers of it leak; `halves` has
what each half of it says.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.io
import torch
import yaml
from scipy import ndimage

from clippan_lib.data import Batch, wald
from clippan_lib.data.pair import open_pair
from clippan_lib.data.stacks import is_soft, sharpness_of_truth
from clippan_lib.files import write_json
from clippan_lib.fusion import CLASSICAL, get_method
from clippan_lib.fusion.consistency import consistent, consistent_with_both
from clippan_lib.fusion.registry import load_stack
from clippan_lib.fusion.stack import in_words, rounded
from clippan_lib.metrics import reduced_scores
from clippan_lib.mtf import degrade
from clippan_lib.optics import measure_optics
from clippan_lib.sensors import Sensor, get_sensor, read_sensor

SCENES = ("imgWV2", "imgIK", "qb_fields", "phr_urban", "spot6_cropland")
METRICS = ("MPSNR", "SAM", "Q2n")
STEPS = 3
NOISE, APART = 0.03, 0.4  # share of a band's deviation; PAN px


def native(shared: Path, name: str) -> tuple[torch.Tensor, torch.Tensor, Sensor, float]:
    """MS and PAN in [0, 1], the sensor of the table, and the largest digital number."""
    if name.startswith("img"):
        data = scipy.io.loadmat(shared / "data" / f"{name}.mat")
        sensor, largest = (
            get_sensor({"imgWV2": "WV2", "imgIK": "IKONOS"}[name]),
            2.0 ** int(data["L"].item()) - 1,
        )
        ms, pan = (np.atleast_3d(data[key]).astype(np.float32) / largest for key in ("I_MS", "I_PAN"))
        return *(torch.from_numpy(image).permute(2, 0, 1)[None] for image in (ms, pan)), sensor, largest
    folder = shared / "scenes" / name
    manifest = yaml.safe_load((folder / "manifest.yaml").read_text())
    given = manifest["sensor"]
    sensor = get_sensor(given) if isinstance(given, str) else read_sensor(given)
    pair = open_pair(
        folder / "ms.tif", folder / "pan.tif", bands=manifest["source"].get("bands"), sensor=sensor
    )
    window, largest = (
        pair.read(slice(None), slice(None)),
        float(manifest.get("max_value") or sensor.max_value),
    )
    rows, columns = (side // 32 * 32 for side in window.lrms.shape[-2:])
    ms = (window.lrms / largest).clamp(0, 1)[..., :rows, :columns]
    pan = (window.pan / largest).clamp(0, 1)[..., : 4 * rows, : 4 * columns]
    return ms.float(), pan.float(), sensor, largest


@torch.no_grad()
def judged(hrms: torch.Tensor, scene: Batch, largest: float) -> dict[str, float]:
    """The scores of one fusion."""
    scores = reduced_scores(hrms.clamp(0, 1).double(), scene.gt.double(), 4, largest)
    return {name: scores[name].item() for name in METRICS}


@torch.no_grad()
def contest(scene: Batch, sensor: Sensor, largest: float, sharpness: float) -> list[dict[str, Any]]:
    """One row per method: as it is, with three steps ("+3"), with three steps with PAN ("++3"), and the stack."""
    rows = []

    def add(name: str, kind: str, hrms: torch.Tensor, start: float, **more: Any) -> None:
        about = {"method": name, "kind": kind, "seconds": time.process_time() - start}
        rows.append(about | more | judged(hrms, scene, largest))

    for name in [*CLASSICAL, "bandwise"]:
        start = time.process_time()
        plain = get_method(name, sensor, 4)(scene.lrms, scene.pan)
        add(name, "as it is", plain, start)
        bound = (sensor.gnyq, 4, STEPS)
        add(f"{name}+{STEPS}", "LRMS", consistent(plain, scene.lrms, *bound), start)
        both = consistent_with_both(plain, scene.lrms, scene.pan, *bound, sharpness)
        add(f"{name}++{STEPS}", "LRMS and PAN", both, start)
    stack = replace(load_stack(sensor, 4), sharpness=sharpness)
    classical = {name: method for name, method in stack.methods.items() if name != "bandwise"}
    variants = {
        "stack": stack,
        "stack, weights without ridge": replace(stack, ridge=0.0),
        "stack, ridge of 3": replace(stack, ridge=3.0),
        "stack, three steps": replace(stack, steps=3),
        "stack without bandwise": replace(stack, methods=classical),
    }
    for name, variant in variants.items():
        start = time.process_time()
        weights = rounded(variant.weigh(scene.lrms, scene.pan))
        hrms = variant.fuse(weights, scene.lrms, scene.pan)
        add(name, name, hrms, start, weights=in_words(weights))
    return rows


@torch.no_grad()
def spoiled(scene: Batch, sensor: Sensor, largest: float, sharpness: float) -> list[dict[str, Any]]:
    """The stack with one step and with three, of an LRMS that is not what `degrade` makes of the truth.

    Noise of 3 % of each band's deviation; or bands that lie .8 PAN px apart on each axis, as detectors side by side see
    them.
    """
    stack = replace(load_stack(sensor, 4), sharpness=sharpness)
    unit = scene.lrms.std((-2, -1), keepdim=True)
    noise = torch.randn(scene.lrms.shape, generator=torch.Generator().manual_seed(0))
    places = [(APART * (-1) ** k, APART * (-1) ** (k // 2)) for k in range(sensor.n_bands)]
    apart = np.stack(
        [
            ndimage.shift(band, place, order=5, mode="nearest")
            for band, place in zip(scene.gt[0].numpy(), places, strict=True)
        ]
    )
    kinds = {
        "noise": scene.lrms + NOISE * unit * noise,
        "bands apart": degrade(torch.from_numpy(apart)[None], sensor.gnyq, 4),
    }
    return [
        {"method": name, "kind": kind, **judged(replace(stack, steps=steps)(lrms, scene.pan), scene, largest)}
        for kind, lrms in kinds.items()
        for name, steps in (("stack", 1), ("stack, three steps", 3))
    ]


def main() -> None:
    """Judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and scenes/")
    parser.add_argument("--scenes", nargs="+", default=[*SCENES])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for name in options.scenes:
        ms, pan, table, largest = native(options.shared, name)
        optics, half = measure_optics(ms, pan, 4), ms.shape[-2] // 2
        halves = [
            measure_optics(ms[..., part, :], pan[..., slice(4 * part.start, 4 * part.stop), :], 4).common
            for part in (slice(0, half), slice(half, 2 * half))
        ]
        measured = replace(table, gnyq=optics.gnyq, measured=True)
        judges = {"measured": (measured, False), "table": (table, False)}
        if is_soft(measured):
            judges["measured, sharp truth"] = (measured, True)
        for judge, (sensor, sharp) in judges.items():
            pair = wald(ms, pan, sensor, sharp), sensor, largest, sharpness_of_truth(sensor, sharp)
            rows = contest(*pair)
            about = {"scene": name, "judge": judge, "common": optics.common, "halves": halves}
            found += [about | row for row in rows]
            if judge != "table":
                found += [about | row | {"judge": f"{judge}, {row['kind']}"} for row in spoiled(*pair)]
            table_of = pd.DataFrame(rows).set_index("method").sort_values("MPSNR", ascending=False)
            best = table_of.drop(index=[n for n in table_of.index if n.startswith("bandwise")]).groupby(
                "kind"
            )
            shown = pd.concat([best.head(1), table_of[table_of.index.str.startswith("bandwise")]])
            print(f"\n{name}, gains {judge} ({optics.common:.2f}; halves {halves[0]:.2f}, {halves[1]:.2f})")
            print(f"weights: {table_of.weights['stack']}")
            print(shown.drop(columns="weights").round(3).to_string(), flush=True)
    frame = pd.DataFrame(found)
    ours = frame[frame.kind == "stack"].set_index(["scene", "judge"])[[*METRICS]]
    theirs = frame[frame.kind.isin(["as it is", "LRMS"]) & ~frame.method.str.startswith("bandwise")]
    best = theirs.loc[theirs.groupby(["scene", "judge"]).MPSNR.idxmax()].set_index(["scene", "judge"])
    print(
        "\nStack minus the best of the classical methods, with steps or without, chosen by the truth's MPSNR"
    )
    print((ours - best[[*METRICS]]).assign(against=best.method).round(3).to_string())
    if options.out:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
