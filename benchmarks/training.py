"""What training in bfloat16 gains and costs: time of an iteration and accuracy, next to float32, in one run.

    python benchmarks/training.py --networks pnn fusionnet --seeds 3 --threads 2

Each network is trained at reduced resolution as the pseudo-supervisor is, with the demo preset's numbers, and judged on
the test scenes, in float32 both times. The seconds are the median of the iterations after the first.
--iterations 3 is enough for the time alone; the accuracy is not printed then.
"""

import argparse
import statistics
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from clippan_lib.data import Dataset, load_manifest, open_dataset
from clippan_lib.evaluation.intervals import confidence_interval
from clippan_lib.evaluation.scores import evaluate
from clippan_lib.figures.tables import difference_text
from clippan_lib.files import write_json
from clippan_lib.fusion import NETWORKS
from clippan_lib.training.config import PRESETS, make_config
from clippan_lib.training.pseudo import train_pseudo

PRECISIONS = ("float32", "bfloat16")
WHOLE = PRESETS["demo"]["pseudo_iterations"]
MANIFEST = Path(__file__).resolve().parents[1] / "data_manifests" / "synthetic_wv3.yaml"


def measure(dataset: Dataset, name: str, precision: str, seed: int, iterations: int, device: str) -> dict:
    """Train one network; its seconds per iteration, and its MPSNR where it was trained to the end."""
    changes = {"network": name, "pseudo": name, "pseudo_iterations": iterations, "precision": precision}
    config = make_config("demo", **changes)
    patches = dataset.patches("train", "reduced", config.patch, config.stride_reduced)
    ends = []  # each iteration ends with numbers on the CPU, so a GPU has finished it
    network, _ = train_pseudo(
        patches, config, seed=seed, device=device, progress=lambda *call: ends.append(time.perf_counter())
    )
    row = {"network": name, "precision": precision, "seed": seed}
    row["seconds"] = statistics.median(b - a for a, b in pairwise(ends))
    if iterations == WHOLE:
        scores = evaluate({name: network}, dataset.scenes("test", "reduced"), torch.device(device))
        row["mpsnr"] = scores["MPSNR"].mean()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=[*NETWORKS])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=WHOLE, help="at least 3")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/training.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    dataset, rows = open_dataset(load_manifest(MANIFEST)), []
    print(f"{'network':12}{'float32 s':>11}{'bfloat16 s':>12}{'faster':>8}{'bfloat16 - float32, dB':>26}")
    for name in options.networks:
        pairs = [
            [measure(dataset, name, p, seed, options.iterations, options.device) for p in PRECISIONS]
            for seed in range(options.seeds)
        ]
        rows += [row for pair in pairs for row in pair]
        exact, rounded = (
            statistics.median(row["seconds"] for row in column) for column in zip(*pairs, strict=True)
        )
        print(f"{name:12}{exact:11.3f}{rounded:12.3f}{exact / rounded:8.2f}{gap(pairs):>26}", flush=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: getattr(options, key) for key in ("iterations", "device", "threads")}
    write_json(options.out, {"torch": torch.__version__, **settings, "rows": rows})


def gap(pairs: list[list[dict]]) -> str:
    """The paired difference in MPSNR over the seeds, where the networks were trained to the end."""
    if "mpsnr" not in pairs[0][0]:
        return ""
    differences = np.array([rounded["mpsnr"] - exact["mpsnr"] for exact, rounded in pairs])
    return difference_text(*confidence_interval(differences), digits=2)


if __name__ == "__main__":
    main()
