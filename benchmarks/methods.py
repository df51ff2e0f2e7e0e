"""Speed, peak memory and parameters of every fusion method, side by side in one run.

    python benchmarks/methods.py --sides 256 1024 --threads 1 --out benchmarks/results/methods.json

Each method runs in a process of its own, forked from one that has loaded everything, so that its peak memory is its
own: on a CPU the growth of the resident set (all that the images and torch's buffers need), on a GPU what torch
allocated. Networks have untrained weights, on which neither speed nor memory depends. A method
that does not fit into memory at some size is reported as such.
"""

import argparse
import multiprocessing
import platform
import resource
from pathlib import Path

import torch

from clippan_lib.data import Batch
from clippan_lib.data.synthetic import render
from clippan_lib.evaluation.scores import speed
from clippan_lib.files import write_json
from clippan_lib.fusion import CLASSICAL, NETWORKS, build_network, get_method
from clippan_lib.sensors import get_sensor


def scene(sensor_name: str, side: int, device: str) -> Batch:
    """A synthetic scene; side in PAN pixels."""
    rendered = render(0, get_sensor(sensor_name), side)
    index = torch.zeros(1, dtype=torch.int64)
    return Batch(rendered["lrms"][None], rendered["pan"][None], None, index).to(device)


def measure(name: str, sensor_name: str, side: int, device: str, repeats: int) -> dict:
    """One row; runs in the child process."""
    sensor, batch = get_sensor(sensor_name), scene(sensor_name, side, device)
    if name in NETWORKS:
        method = build_network(name, sensor.n_bands, sensor.ratio)
        parameters = sum(p.numel() for p in method.parameters())
    else:
        method, parameters = get_method(name, sensor, sensor.ratio), 0
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
    options.out.parent.mkdir(parents=True, exist_ok=True)
    settings = {key: getattr(options, key) for key in ("sensor", "device", "threads", "repeats")}
    write_json(
        options.out, {"torch": torch.__version__, "machine": platform.machine(), **settings, "rows": rows}
    )


if __name__ == "__main__":
    main()
