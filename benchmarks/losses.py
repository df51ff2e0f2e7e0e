"""Our SSIM next to torchmetrics' on training patches, forward and backward, in one run.

python benchmarks/losses.py --out benchmarks/results/losses.json
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from clippan_lib.losses.fidelity import ssim


def seconds(function, repeats: int = 15) -> float:
    function()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/losses.json"))
    out = parser.parse_args().out
    rows = []
    for shape in ((8, 1, 64, 64), (8, 8, 16, 16), (8, 8, 64, 64), (1, 8, 256, 256)):
        x, y = torch.rand(shape, requires_grad=True), torch.rand(shape)
        ours = seconds(lambda x=x, y=y: ssim(x, y).mean().backward())
        theirs = seconds(
            lambda x=x, y=y: structural_similarity_index_measure(x, y, data_range=1.0).backward()
        )
        rows.append(
            {"shape": shape, "ours_ms": 1e3 * ours, "torchmetrics_ms": 1e3 * theirs, "ratio": theirs / ours}
        )
        print(
            f"{shape}: {1e3 * ours:.2f} ms, torchmetrics {1e3 * theirs:.2f} ms, {theirs / ours:.1f} times as long"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"threads": torch.get_num_threads(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
