"""Speed, peak memory and parameters of every fusion method, side by side in one run.

    python benchmarks/methods.py --sides 256 1024 --threads 1 --out benchmarks/results/methods.json

Each method runs in a process of its own, forked from one that has loaded everything, so that its peak memory is its
own: on a CPU the growth of the resident set (all that the images and torch's buffers need), on a GPU what torch
allocated. Networks have untrained weights, on which neither speed nor memory depends. A method that a size does not
fit into memory for is reported as such.
"""

import argparse
import json
import multiprocessing
import os
import platform
import resource
from pathlib import Path

import torch

from clippan_lib.data import Batch
from clippan_lib.evaluation import speed
from clippan_lib.fusion import CLASSICAL, NETWORKS, get_method
from clippan_lib.mtf import degrade
from clippan_lib.sensors import get_sensor

RATIO = 4


def scene(sensor_name: str, side: int, device: str) -> Batch:
    """Correlated bands with structure at several scales, in [0, 1]; side in PAN pixels."""
    sensor = get_sensor(sensor_name)
    generator = torch.Generator().manual_seed(0)
    image = torch.zeros(1, sensor.n_bands, side, side)
    for cells in (4, 16, 64):
        layer = torch.rand(1, sensor.n_bands, cells, cells, generator=generator)
        image += (
            torch.nn.functional.interpolate(layer + layer.mean(1, keepdim=True), side, mode="bilinear") / 6
        )
    lrms, pan = degrade(image, sensor.gnyq, RATIO), image.mean(1, keepdim=True)
    return Batch(lrms, pan, None, torch.zeros(1, dtype=torch.long)).to(device)


def measure(name: str, sensor_name: str, side: int, device: str, repeats: int) -> dict:
    """One row; runs in the child process."""
    batch = scene(sensor_name, side, device)
    method = get_method(name, get_sensor(sensor_name), RATIO)
    parameters = sum(p.numel() for p in method.parameters()) if isinstance(method, torch.nn.Module) else 0
    before = resident_peak()
    rate = speed(method, batch, repeats)
    peak = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else resident_peak() - before
    return {"parameters": parameters, "megapixels_per_second": rate, "peak_mib": round(peak, 1)}


def resident_peak() -> float:
    """The largest resident set of this process so far, in MiB."""
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def child(connection, *arguments) -> None:
    try:
        connection.send(measure(*arguments))
    except (RuntimeError, MemoryError, ValueError) as error:
        connection.send({"refused": str(error).splitlines()[0]})


def apart(*arguments) -> dict:
    """`measure` in a process of its own; torch must not have started CUDA or threads in this one."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(theirs, *arguments))
    process.start()
    theirs.close()
    try:
        row = ours.recv()
    except EOFError:
        row = {"refused": "the process was killed; memory ran out?"}
    process.join()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--sensor", default="WV3")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 1024], help="of PAN, in pixels")
    parser.add_argument("--methods", nargs="+", default=[*CLASSICAL, *NETWORKS])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/methods.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    print(f"{'method':15}{'side':>6}{'parameters':>12}{'MP/s':>10}{'peak MiB':>10}")
    for side in options.sides:
        for name in options.methods:
            row = apart(name, options.sensor, side, options.device, options.repeats)
            rows.append({"method": name, "side": side, **row})
            shown = (
                f"{row['parameters']:12,}{row['megapixels_per_second']:10.3g}{row['peak_mib']:10.0f}"
                if "refused" not in row
                else f"   {row['refused']}"
            )
            print(f"{name:15}{side:6}{shown}", flush=True)
    write(
        options.out,
        {"torch": torch.__version__, "machine": platform.machine(), **vars_of(options), "rows": rows},
    )


def vars_of(options: argparse.Namespace) -> dict:
    return {key: getattr(options, key) for key in ("sensor", "device", "threads", "repeats")}


def write(path: Path, result: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_suffix(".part")
    partial_file.write_text(json.dumps(result, indent=1) + "\n")
    os.replace(partial_file, path)


if __name__ == "__main__":
    main()
