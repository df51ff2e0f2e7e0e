"""Which index ranks fused images as the truth does, and does the winner one scale down win at full resolution?

    python benchmarks/indices.py --shared ../shared --out docs/indices.json

Real scenes have a truth one scale down (`one_scale_down.py`'s judges). Synthetic scenes have one at full resolution,
too. On each, all seventeen classical methods and the band-wise network are fused, as they are, with three steps of
consistency with LRMS and with one step with PAN; the stack; and beside them stand fifteen spoiled truths (blur, noise,
a shift, a colour cast, halos). Every index is computed as if there were no truth, and compared with the truth. "with
spoiled" ranks all images, "fusions" the fusions alone: an index that tells a fusion from a blurred truth may still not
tell two fusions apart.

On the synthetic scenes the winner one scale down, chosen by truth as `clippan compare` does it, and every index's
winner at full resolution are compared with the best by the truth there. Nothing is drawn at random but the noise, whose
seed is fixed.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from one_scale_down import SCENES, native

from clippan_lib.data import Batch, load_manifest, open_dataset, wald
from clippan_lib.data.stacks import is_soft, sharpness_of_truth
from clippan_lib.evaluation.ranking import ranking
from clippan_lib.files import write_json
from clippan_lib.fusion import CLASSICAL, get_method
from clippan_lib.fusion.consistency import consistent, consistent_with_both
from clippan_lib.fusion.registry import load_stack
from clippan_lib.metrics import BETTER, Judge, reduced_scores
from clippan_lib.mtf import filter_image, mtf_kernel
from clippan_lib.optics import measure_optics
from clippan_lib.sensors import Sensor

MANIFESTS = Path(__file__).resolve().parents[1] / "data_manifests"
SYNTHETIC = ("synthetic_wv3", "synthetic_qb")
BLOCK = 32
SIZE, DRAWN = 768, 3  # PAN px; scenes per split
TRUTHS = ("MPSNR", "SAM", "Q2n")
BLIND = tuple(name for name in BETTER if name not in ("MPSNR", "ERGAS", "SAM", "Q2n", "SCC"))
STRENGTHS = (1, 2, 4)


def fusions(batch: Batch, sensor: Sensor, ratio: int, sharpness: float) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and image of each fusion: as it is, with three steps ("+3"), with one step with PAN ("++1"); the stack."""
    lrms, pan = batch.lrms, batch.pan
    for name in [*CLASSICAL, "bandwise"]:
        plain = get_method(name, sensor, ratio)(lrms, pan)
        yield name, plain
        yield f"{name}+3", consistent(plain, lrms, sensor.gnyq, ratio, 3)
        yield f"{name}++1", consistent_with_both(plain, lrms, pan, sensor.gnyq, ratio, 1, sharpness)
    yield "stack", replace(load_stack(sensor, ratio), sharpness=sharpness)(lrms, pan)


def spoiled(gt: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and image of each spoiled truth, three strengths of each kind."""
    noise = torch.randn(gt.shape, generator=torch.Generator().manual_seed(0))
    soft = filter_image(gt, mtf_kernel((0.3,), 2))
    unit = gt.std((-2, -1), keepdim=True)
    cast = torch.linspace(-1, 1, gt.shape[1])[:, None, None]
    for strength in STRENGTHS:
        yield f"blur {strength}", gt + 0.2 * strength * (soft - gt)
        yield f"noise {strength}", gt + 0.03 * strength * unit * noise
        yield f"shift {strength}", gt + 0.1 * strength * (gt.roll(1, -1) - gt)
        yield f"cast {strength}", gt * (1 + 0.02 * strength * cast)
        yield f"halo {strength}", gt + 0.3 * strength * (gt - soft)


@torch.no_grad()
def judged(batch: Batch, sensor: Sensor, ratio: int, dn_max: float, sharpness: float) -> pd.DataFrame:
    """All scores of all images; the spoiled truths have names with a blank."""
    height, width = (side - side % BLOCK for side in batch.pan.shape[-2:])  # what blocks tile

    def cut(image: torch.Tensor, scale: int = 1) -> torch.Tensor:
        return image[..., : height // scale, : width // scale].double()

    rows, truth = {}, cut(batch.gt)
    judge = Judge(cut(batch.lrms, ratio), cut(batch.pan), sensor, ratio, dn_max)
    for name, image in (*fusions(batch, sensor, ratio, sharpness), *spoiled(batch.gt)):
        hrms = cut(image.clamp(0, 1))
        scores = judge.scores(hrms) | reduced_scores(hrms, truth, ratio, dn_max)
        rows[name] = {metric: value.item() for metric, value in scores.items()}
    return pd.DataFrame.from_dict(rows, orient="index")


def ranked(scores: pd.DataFrame, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per index, truth and choice of images."""
    rows = []
    alone = scores[[" " not in name for name in scores.index]]
    for images, table in {"with spoiled": scores, "fusions": alone}.items():
        for truth in TRUTHS:
            clear = {"MPSNR": 0.1, "SAM": 0.02, "Q2n": 0.001}[truth]
            found = ranking(table, truth, BLIND, BETTER, clear).round(4).reset_index(names="index")
            rows += [{**about, "images": images, "truth": truth, **row} for row in found.to_dict("records")]
    return rows


def synthetic(name: str) -> Iterator[tuple[str, Batch, Sensor]]:
    """Scenes with their truth at full resolution, larger than the demo's so that one scale down is left."""
    manifest = load_manifest(MANIFESTS / f"{name}.yaml")
    counts = manifest.source.scenes.model_copy(update={"train": 1, "val": 1, "test": DRAWN})
    source = manifest.source.model_copy(update={"size": SIZE, "scenes": counts, "seed": 11})
    dataset = open_dataset(manifest.model_copy(update={"source": source}), Path("."))
    for scene in dataset.scenes("test", "full"):
        yield scene.name, scene.read(), scene.sensor


def winners(full: pd.DataFrame, lower: pd.DataFrame, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the fusions: what each way of choosing has against the best at full resolution, dB."""
    full, lower = (table[[" " not in name for name in table.index]] for table in (full, lower))
    best = full.MPSNR.max()
    rows = [("truth one scale down", lower.MPSNR.idxmax())]
    rows += [(name, full[name].idxmax() if BETTER[name] == "high" else full[name].idxmin()) for name in BLIND]
    rows += [(f"always {name}", name) for name in ("exp", "gsa", "bt_h", "bandwise", "stack")]
    return [
        {
            **about,
            "by": by,
            "winner": name,
            "best": full.MPSNR.idxmax(),
            "loss": round(best - full.MPSNR[name], 4),
        }
        for by, name in rows
    ]


def main() -> None:
    """Judge, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shared", type=Path, help="folder with data/ and scenes/; without it synthetic scenes alone"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    ranks: list[dict[str, Any]] = []
    won: list[dict[str, Any]] = []
    count = len(CLASSICAL) * 3 + 3 + 1  # see `fusions`

    def keep() -> None:
        if options.out:
            about = {"size": SIZE, "fusions": count}
            write_json(options.out, about | {"ranks": ranks, "winners": won})

    for name in SCENES if options.shared else ():
        ms, pan, table, largest = native(options.shared, name)
        sensor = replace(table, gnyq=measure_optics(ms, pan, 4).gnyq, measured=True)
        for sharp in (False, True) if is_soft(sensor) else (False,):
            scores = judged(
                wald(ms, pan, sensor, sharp), sensor, 4, largest, sharpness_of_truth(sensor, sharp)
            )
            ranks += ranked(
                scores, {"scene": name, "setting": "one scale down, sharp" if sharp else "one scale down"}
            )
            print(f"{name}: {len(scores)} images", flush=True)
            keep()
    for dataset in SYNTHETIC:
        for name, batch, sensor in synthetic(dataset):
            largest = float(sensor.max_value)
            sharpness = sharpness_of_truth(sensor, False, sensor.gnyq_pan)
            full = judged(batch, sensor, sensor.ratio, largest, sharpness)
            lower = judged(
                wald(batch.lrms, batch.pan, sensor),
                sensor,
                sensor.ratio,
                largest,
                sharpness_of_truth(sensor, False),
            )
            about = {"scene": f"{dataset} {name}"}
            ranks += ranked(full, about | {"setting": "full resolution"})
            ranks += ranked(lower, about | {"setting": "one scale down"})
            won += winners(full, lower, about)
            print(f"{dataset} {name}: {len(full)} images at each scale", flush=True)
            keep()
    ranked_frame, won_frame = pd.DataFrame(ranks), pd.DataFrame(won)
    means = ranked_frame.groupby(["images", "truth", "index"], sort=False)[
        ["spearman", "agreement", "loss"]
    ].mean()
    print(means.unstack("truth").round(3).to_string())
    losses = won_frame.groupby("by", sort=False).loss.agg(["mean", "max", lambda x: (x <= 0).mean()])
    print(losses.round(3).to_string())


if __name__ == "__main__":
    main()
