"""What the losses of Stage II bring: the demo preset and changes of it, judged by the truth of the synthetic scenes.

    python benchmarks/recipe.py --seeds 0 1 2 --out benchmarks/results/recipe.json

PNN at full resolution, without language but where a row has a weight for it; one pseudo-supervisor and one Stage I per
seed, from which all rows of the seed start. The preset's values were chosen by the column `val`: areas that do not
judge. `test` is what the notebooks show. The stack, and methods with the last layer of Stage II, get PAN as sharp as
the truth, as Stage II does.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from clippan_lib.files import write_json
from clippan_lib.fusion import Method, get_method, is_classical, title_of
from clippan_lib.fusion.consistency import Consistent
from clippan_lib.fusion.registry import load_stack
from clippan_lib.metrics import mpsnr
from clippan_lib.runs.run import Run, open_run
from clippan_lib.shapes import HRMS, LRMS, PAN
from clippan_lib.training.batches import PatchStore
from clippan_lib.training.stage2 import pan_sharpness, train_fusion

MANIFEST = Path(__file__).resolve().parents[1] / "data_manifests" / "synthetic_wv3.yaml"
CLASSICAL = ("gsa", "bt_h", "bdsd_pc", "mtf_glp_hpm_r", "sr_d", "tv", "bt_h+3", "bdsd_pc+3")
SHARP = ("bt_h", "bdsd_pc", "bandwise")  # with the last layer of Stage II behind
CHANGES: dict[str, dict[str, Any]] = {
    "the preset": {},
    "last layer with LRMS alone": {"consistent_with": "lrms"},
    "PAN as it is": {"spat_pan": "pan"},
    "w_spat .3": {"w_spat": 0.3},
    "w_pseudo 0": {"w_pseudo": 0.0},
    "w_pseudo 1": {"w_pseudo": 1.0},
    "w_qnr .1": {"w_qnr": 0.1},
    "L_spec with bicubic": {"spec_degradation": "bicubic"},
    "rate .0003": {"stage2_lr": 3e-4},
    "rate .002": {"stage2_lr": 2e-3},
    "20 iterations": {"stage2_iterations": 20},
    "60 iterations": {"stage2_iterations": 60},
    "120 iterations": {"stage2_iterations": 120},
    "language .003": {"w_language": 0.003},
    "language .02": {"w_language": 0.02},
}


def behind(layer: Consistent, method: Method, lrms: LRMS, pan: PAN) -> HRMS:
    """A method with the last layer of a network behind it."""
    return layer.behind(method(lrms, pan), lrms, pan)


@torch.no_grad()
def score(method: Method, run: Run, split: str) -> float:
    """Mean MPSNR (dB) over the scenes of a split at full resolution."""
    scenes = [scene.read() for scene in run.dataset.scenes(split, "full")]
    found = [mpsnr(method(scene.lrms, scene.pan).clamp(0, 1), scene.gt).item() for scene in scenes]
    return sum(found) / len(found)


def rows(run: Run, store: PatchStore) -> list[dict[str, Any]]:
    """One row per change, of one seed."""
    pseudo, supervisor = run.pseudo_supervisor(), run.new_supervisor()
    run.stage1(supervisor, "supervisor")
    layered = run.new_network(store.patches, run.seed)
    assert isinstance(layered, Consistent) and isinstance(pseudo, Consistent)
    layered.network.load_state_dict(pseudo.network.state_dict())
    starts = {"start": pseudo, "start with the last layer": layered.eval()}
    found = [
        {"row": title, **{split: score(network, run, split) for split in ("val", "test")}}
        for title, network in starts.items()
    ]
    for title, change in CHANGES.items():
        config, start = run.config.model_copy(update=change), time.perf_counter()
        network = replace(run, config=config).new_network(store.patches, run.seed)
        guide = supervisor if "w_language" in change else None
        train_fusion(network, store, config, supervised=False, supervisor=guide, pseudo=pseudo, seed=run.seed)
        seconds = time.perf_counter() - start
        scores = {split: score(network.eval(), run, split) for split in ("val", "test")}
        found.append({"row": title, "seconds": seconds, **scores})
    return [{"seed": run.seed, **row} for row in found]


def main() -> None:
    """Train, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            run = open_run(MANIFEST, "", folder, "demo", seed, "cpu", {})
            found += rows(run, PatchStore(run.patches("train", "full"), run.device))
            print(pd.DataFrame(found[-len(CHANGES) - 2 :]).round(3).to_string(), flush=True)
    sensor, ratio = run.dataset.sensor, run.dataset.ratio
    sharpness = pan_sharpness(run.patches("train", "full"), run.config)
    others = {title_of(name): get_method(name, sensor, ratio) for name in CLASSICAL}
    layer = run.new_network(run.patches("train", "full"), run.seed)
    assert isinstance(layer, Consistent)
    for name in SHARP:
        title = title_of(name) if is_classical(name) else name
        others[f"{title} with the last layer"] = partial(behind, layer, get_method(name, sensor, ratio))
    others["stack"] = replace(load_stack(sensor, ratio), sharpness=sharpness)
    for title, method in others.items():
        found.append({"row": title, **{split: score(method, run, split) for split in ("val", "test")}})
    table = pd.DataFrame(found).groupby("row", sort=False)[["val", "test"]].agg(["mean", "std"])
    print(table.round(3).to_string())
    if options.out:
        write_json(options.out, found)


if __name__ == "__main__":
    main()
