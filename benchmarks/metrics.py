"""Time every score on eight bands, beside torchmetrics where it has one of the same name.

    python benchmarks/metrics.py --sides 256 1024 --threads 1 --out benchmarks/results/metrics.json

torchmetrics' SAM and ERGAS are the same numbers as ours. Its PSNR pools the bands, and its D_lambda, D_s and
QNR use a Gaussian window at every pixel, lrms in place of EXP, and a mean filter on PAN: other numbers for the
same purpose.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torchmetrics
from torchmetrics.functional import image as tm

from clippan_lib.metrics import full_scores, reduced_scores
from clippan_lib.metrics.no_reference import d_lambda, d_lambda_k, d_s, hqnr, pan_lowpass, qnr
from clippan_lib.metrics.reference import ergas, mpsnr, q2n, sam, scc
from clippan_lib.mtf import degrade, exp23
from clippan_lib.sensors import get_sensor

SENSOR = get_sensor("WV3")
Call = Callable[[], object]


def smooth_noise(side: int) -> torch.Tensor:
    """Eight correlated bands with structure at several scales, in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(1, SENSOR.n_bands, side, side)
    for cells in (4, 16, 64):
        layer = torch.rand(1, SENSOR.n_bands, cells, cells, generator=generator)
        image += (
            torch.nn.functional.interpolate(layer + layer.mean(1, keepdim=True), side, mode="bilinear") / 6
        )
    return image


def calls(side: int) -> dict[str, tuple[Call, Call | None]]:
    """Score name to our call and torchmetrics', if there is one."""
    gt = smooth_noise(side)
    pan, lrms = gt.mean(1, keepdim=True), degrade(gt, SENSOR.gnyq, 4)
    hrms = gt + 0.01 * torch.randn(gt.shape, generator=torch.Generator().manual_seed(1))
    lms, pan_lp, dn = exp23(lrms, 4), pan_lowpass(pan, 4), SENSOR.max_value
    full, khan = (hrms, lms, pan, pan_lp), (SENSOR.gnyq, 4, dn)
    return {
        "MPSNR": (partial(mpsnr, hrms, gt), partial(tm.peak_signal_noise_ratio, hrms, gt, data_range=1.0)),
        "ERGAS": (
            partial(ergas, hrms, gt, 4),
            partial(tm.error_relative_global_dimensionless_synthesis, hrms, gt, ratio=4),
        ),
        "SAM": (partial(sam, hrms, gt), partial(tm.spectral_angle_mapper, hrms, gt)),
        "Q2n": (partial(q2n, hrms, gt, dn_max=dn), None),
        "SCC": (partial(scc, hrms, gt), None),
        "D_lambda": (partial(d_lambda, hrms, lms), partial(tm.spectral_distortion_index, hrms, lrms)),
        "D_s": (
            partial(d_s, *full),
            partial(tm.spatial_distortion_index, hrms, lrms, pan.expand_as(hrms)),
        ),
        "QNR": (
            partial(qnr, *full),
            partial(tm.quality_with_no_reference, hrms, lrms, pan.expand_as(hrms)),
        ),
        "D_lambda_K": (partial(d_lambda_k, hrms, lms, *khan), None),
        "HQNR": (partial(hqnr, *full, *khan), None),
        "reduced_scores": (partial(reduced_scores, hrms, gt, 4, dn), None),
        "full_scores": (partial(full_scores, hrms, lrms, pan, SENSOR, 4), None),
    }


def milliseconds(call: Call, repeats: int) -> dict[str, float]:
    """Fastest of `repeats`, or of what fits 10 s: elapsed, and of the processor (steady on a busy machine)."""
    wall, cpu = [], []
    while len(wall) < repeats and sum(wall) < 10:
        start_wall, start_cpu = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start_wall)
        cpu.append(time.process_time() - start_cpu)
    return {"wall_ms": round(min(wall) * 1e3, 3), "cpu_ms": round(min(cpu) * 1e3, 3)}


def measure(side: int, repeats: int) -> list[dict]:
    rows = []
    for name, (ours, theirs) in calls(side).items():
        row = {"score": name, "side": side, "ours": milliseconds(ours, repeats)}
        row["torchmetrics"] = milliseconds(theirs, repeats) if theirs else None
        rows.append(row)
    return rows


def write(path: Path, result: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_suffix(".part")
    partial_file.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(partial_file, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/metrics.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.no_grad():
        rows = [row for side in options.sides for row in measure(side, options.repeats)]
    print(f"{'score':15}{'side':>6}{'ours ms':>12}{'torchmetrics ms':>18}   (processor time)")
    for row in rows:
        theirs = f"{row['torchmetrics']['cpu_ms']:.1f}" if row["torchmetrics"] else "-"
        print(f"{row['score']:15}{row['side']:6}{row['ours']['cpu_ms']:12.1f}{theirs:>18}")
    result = {
        "torch": torch.__version__,
        "torchmetrics": torchmetrics.__version__,
        "machine": platform.machine(),
        "bands": SENSOR.n_bands,
        "dtype": "float32",
        "threads": options.threads,
        "rows": rows,
    }
    write(options.out, result)


if __name__ == "__main__":
    main()
