"""Which fusion of a real scene is the best one, by a truth: all methods and the stack, one scale down.

    python benchmarks/one_scale_down.py --shared ../shared --out benchmarks/results/one_scale_down.json

A scene's MS and PAN are degraded once with the gains that were measured on it; its MS is then the truth, which only
judges. Classical methods are judged as they are and with three steps of consistency, the best of both being chosen
by that truth. The stack is weighted, and its networks are trained, one scale lower still. Two judges: the truth as
delivered, and, where the product is soft, the pair halved first (`data.wald`). The gains are those of the whole scene,
so a few numbers of it leak; `halves` has what each half of it says.
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

from clippan_lib.data import Batch, wald
from clippan_lib.data.pair import open_pair
from clippan_lib.data.stacks import is_soft
from clippan_lib.files import write_json
from clippan_lib.fusion import CLASSICAL, get_method
from clippan_lib.metrics import reduced_scores
from clippan_lib.optics import measure_optics
from clippan_lib.sensors import Sensor, get_sensor, read_sensor
from clippan_lib.training.stack import fit_stack

SCENES = ("imgWV2", "imgIK", "qb_fields", "phr_urban", "spot6_cropland")
METRICS = ("MPSNR", "SAM", "Q2n")
STEPS = 3


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


def contest(scene: Batch, sensor: Sensor, largest: float, seeds: list[int]) -> list[dict[str, Any]]:
    """One row per method, and per seed of what is trained."""
    rows = []
    for name in [*CLASSICAL, *(f"{name}+{STEPS}" for name in CLASSICAL), "bandwise"]:
        start = time.process_time()
        with torch.no_grad():
            hrms = get_method(name, sensor, 4)(scene.lrms, scene.pan)
        rows.append({"method": name, "seconds": time.process_time() - start, **judged(hrms, scene, largest)})
    for seed in seeds:
        start = time.process_time()
        lower = wald(scene.lrms, scene.pan, sensor)
        stack = fit_stack(lower, sensor, seed=seed)
        with torch.no_grad():
            hrms = stack(scene.lrms, scene.pan)
        seconds = time.process_time() - start
        about = {"method": "stack", "seed": seed, "seconds": seconds, "weights": stack.summary}
        rows.append(about | judged(hrms, scene, largest))
    return rows


def main() -> None:
    """Judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and scenes/")
    parser.add_argument("--scenes", nargs="+", default=[*SCENES])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
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
            rows = contest(wald(ms, pan, sensor, sharp), sensor, largest, options.seeds)
            about = {"scene": name, "judge": judge, "common": optics.common, "halves": halves}
            found += [about | row for row in rows]
            table_of = pd.DataFrame(rows).drop(columns=["seed", "weights"]).groupby("method", sort=False)
            mean = table_of.mean().sort_values("MPSNR", ascending=False)
            spread = table_of["MPSNR"].std()["stack"] if len(options.seeds) > 1 else float("nan")
            print(f"\n{name}, gains {judge} ({optics.common:.2f}; halves {halves[0]:.2f}, {halves[1]:.2f})")
            print(f"stack ± {spread:.3f} dB: {rows[-1]['weights']}")
            print(mean.head(8).round(3).to_string(), flush=True)
    if options.out:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
