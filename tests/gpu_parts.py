"""What `make gpu` checks: five functions that give rows from the name of a device. See gpu.py."""

import importlib.util
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import rasterio
import torch
from rasters import grid, save

from clippan_lib.clip import Supervisor, load_clip
from clippan_lib.data import Dataset, load_manifest, open_dataset
from clippan_lib.data.synthetic import render
from clippan_lib.errors import ClipWeightsError, TrainingError
from clippan_lib.fusion import build_network
from clippan_lib.fusion.networks.selective_scan import selective_scan
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.sensors import get_sensor
from clippan_lib.sharpening import plan_job, sharpen
from clippan_lib.training.batches import PatchStore
from clippan_lib.training.config import RunConfig, make_config
from clippan_lib.training.loop import History
from clippan_lib.training.pseudo import train_pseudo
from clippan_lib.training.stage1 import fit_supervisor
from clippan_lib.training.stage2 import train_fusion

ROOT = Path(__file__).resolve().parents[1]
SENSOR = get_sensor("WV3")

# Times the loss in float32, or its inverse: five times what was seen on a CPU, where PNN and FusionNet ended within
# 4 % of it after 60 iterations at batch 8 (LFormer within .3 % after 30), and another seed up to 6 % away.
LOSS = 1.2
# DN of 2047. On a CPU no method's float32 was more than .0012 away from its float64; a GPU adds in another order.
FLOAT32 = 0.02
# DN. TF32 keeps 10 bits of what a convolution reads: rounded so on a CPU, FusionNet's output moved by up to .19.
TF32 = 1.0
# Times the distance of the CPU's float32 from its float64, which cuts of time as on a GPU made 1.6 times as large.
SCAN = 10.0


@dataclass(frozen=True)
class Row:
    """One thing that was checked: what came out, and whether it kept its bound."""

    what: str
    passed: bool
    numbers: dict[str, float | str | None] = field(default_factory=dict)


# 1. Tests


def suite(device: str, files: Sequence[str | Path] = (ROOT / "tests",), marker: str = "gpu") -> Iterator[Row]:
    """The tests that have the fixture `device`, which run on the GPU under the marker `gpu`."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", marker, "-p", "no:cacheprovider", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        print(done.stdout[-10_000:], file=sys.stderr)
    summary = done.stdout.strip().splitlines()[-1].strip("= ")
    yield Row(f"pytest -m {marker}", done.returncode == 0, {"": summary})


# 2. Training in float32 and bfloat16


def training(
    device: str,
    networks: Sequence[str] = ("pnn", "fusionnet", "lformer"),
    iterations: int = 60,
    batch: int = 32,
    side: int = 512,
) -> Iterator[Row]:
    """Supervised training from the same start on the same batches, with the demo preset's numbers of it."""
    patches, lr = synthetic(side).patches("train", "full", 16), make_config("demo").pseudo_lr
    for name in networks:
        losses = []
        for precision in ("float32", "bfloat16"):
            changes = {"network": name, "precision": precision, "stage2_iterations": iterations}
            config = make_config("demo", **changes, stage2_batch=batch, stage2_lr=lr, warm_start=False)
            train = partial(
                train_fusion,
                build_network(name, SENSOR.n_bands, SENSOR.ratio),
                PatchStore(patches, device),
                config,
                supervised=True,
                seed=0,
            )
            row = measured(f"{name}, {precision}, batch {batch}", device, train)
            losses.append(row.numbers.get("loss", math.nan))
            yield row
        ratio = losses[1] / losses[0]
        yield Row(f"{name}, bfloat16 / float32", 1 / LOSS <= ratio <= LOSS, {"loss": ratio, "at most": LOSS})


def measured(what: str, device: str, train: Callable[..., History]) -> Row:
    """A training's time and memory, and its loss in the end; or why it stopped."""
    watch = Watch(device)
    try:
        rows = train(progress=watch.progress).rows
    except TrainingError as error:
        return Row(what, False, {"": str(error)})
    last = rows[-max(1, len(rows) // 10) :]
    return Row(what, True, watch.numbers() | {"loss": statistics.mean(row["total"] for row in last)})


def synthetic(side: int) -> Dataset:
    """Four scenes of data_manifests/synthetic_wv3.yaml, of `side` PAN pixels."""
    manifest = load_manifest(ROOT / "data_manifests" / "synthetic_wv3.yaml")
    scenes = manifest.source.scenes.model_copy(update={"train": 4})
    source = manifest.source.model_copy(update={"scenes": scenes, "size": side})
    return open_dataset(manifest.model_copy(update={"source": source}))


class Watch:
    """Time and memory of a training, from the moment that it is made."""

    def __init__(self, device: str) -> None:
        self.device, self.ends = torch.device(device), [time.perf_counter()]
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def progress(self, *_: object) -> None:
        """Called after each iteration: it has read the gradient's norm, so the GPU has finished all but Adam."""
        self.ends.append(time.perf_counter())

    def numbers(self) -> dict[str, float | None]:
        """Median over the iterations, but for a fifth of them in which kernels are loaded and chosen."""
        steps = [after - before for before, after in pairwise(self.ends)]
        peak = torch.cuda.max_memory_allocated() / 2**20 if self.device.type == "cuda" else None
        return {"s/iteration": statistics.median(steps[len(steps) // 5 :]), "peak of MiB": peak}


# 3. The paper preset


def paper(
    device: str, iterations: int = 30, side: int = 512, seed: int = 0, **changes: object
) -> Iterator[Row]:
    """Stage I, the pseudo-supervisor and Stage II with the paper's numbers, but for how many iterations."""
    names = ("stage1_iterations", "pseudo_iterations", "stage2_iterations")
    config = make_config("paper", **(dict.fromkeys(names, iterations) | changes))
    patches = synthetic(side).patches("train", "full", config.patch, config.stride_full)
    supervisor, weights = build_supervisor(config, seed)
    known = patches.batch(range(len(patches)))
    supervisor.fit_stretch(known.lrms, known.pan)

    train = partial(fit_supervisor, supervisor, patches, config, seed=seed, device=device)
    title = f"Stage I, {config.clip_model}, weights {weights}, batch {config.stage1_batch}"
    yield measured(title, device, train)
    reduced, methods = synthetic(side).patches("train", "reduced", config.patch, config.stride_reduced), []

    def pseudo(**how: object) -> History:
        method, history = train_pseudo(reduced, config, seed=seed, device=device, **how)
        methods.append(method)
        return history

    row = measured(f"pseudo-supervisor, {config.pseudo}, batch {config.pseudo_batch}", device, pseudo)
    yield row
    if not row.passed:
        return
    train = partial(
        train_fusion,
        build_network(config.network, SENSOR.n_bands, SENSOR.ratio, seed),
        PatchStore(patches, device),
        config,
        supervised=False,
        supervisor=supervisor,
        pseudo=methods[0],
        seed=seed,
    )
    yield measured(f"Stage II, {config.network}, batch {config.stage2_batch}", device, train)


def build_supervisor(config: RunConfig, seed: int) -> tuple[Supervisor, str]:
    """The configured supervisor and the name of its weights: random ones if the configured are not at hand."""
    weights = config.clip_weights
    try:
        towers = load_clip(config.clip_model, weights)
    except ClipWeightsError:
        weights = f"random:{seed}"
        towers = load_clip(config.clip_model, weights)
    torch.manual_seed(seed)
    names = ("stem", "adapters", "reduction", "image_residual", "text_residual")
    options = {name: getattr(config, name) for name in names}
    return Supervisor(towers, SENSOR, config.prompts, **options), weights or "of the package"


# 4. Whole scenes


def scenes(device: str, side: int = 2048, tile: int = 1024) -> Iterator[Row]:
    """A GeoTIFF pair sharpened there and on the CPU; in float32, so that rounding to DN hides no difference."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pair, network = write_pair(folder, side), folder / "fusionnet.safetensors"
        untrained = build_network("fusionnet", SENSOR.n_bands, SENSOR.ratio)
        TrainedNetwork(untrained, "fusionnet", SENSOR, float(SENSOR.max_value), {}).save(network)
        for title, method, tf32, bound in (
            ("gsa", "gsa", False, FLOAT32),
            ("mtf_glp_hpm_r", "mtf_glp_hpm_r", False, FLOAT32),
            ("fusionnet", network, False, FLOAT32),
            ("fusionnet, TF32 as torch has it", network, True, TF32),
        ):
            with convolutions(tf32):
                ours, rate = sharpened(pair, method, folder / "ours.tif", tile, device)
                wanted, cpu_rate = sharpened(pair, method, folder / "wanted.tif", tile, "cpu")
            yield compared(title, ours, wanted, bound, {"MP/s": rate, "MP/s, CPU": cpu_rate})


def write_pair(folder: Path, side: int) -> tuple[Path, Path]:
    """A synthetic scene and its mirror images as ms.tif and pan.tif; `side` in PAN px."""
    made, paths = render(0, SENSOR, min(side, 1024)), []
    for name, key, scale in (("ms", "lrms", SENSOR.ratio), ("pan", "pan", 1)):
        image, length = made[key].numpy() * np.float32(SENSOR.max_value), side // scale
        more = (0, length - image.shape[-1])
        image = np.pad(image, ((0, 0), more, more), mode="symmetric")
        names = SENSOR.bands if name == "ms" else ("pan",)
        paths.append(save(folder / f"{name}.tif", image, grid(scale), names=names))
    return tuple(paths)


@contextmanager
def convolutions(tf32: bool) -> Iterator[None]:
    """Whether convolutions may round what they read to TF32, which is what torch does unless told otherwise."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def sharpened(
    pair: Sequence[Path], method: str | Path, out: Path, tile: int, device: str
) -> tuple[np.ma.MaskedArray, float]:
    """The image, and megapixels of PAN in a second from plan to file; on a GPU of a second run, all kernels loaded."""
    times = []
    for _ in range(1 if device == "cpu" else 2):
        start = time.perf_counter()
        sensor = SENSOR if isinstance(method, str) else None
        sharpen(plan_job(*pair, method, sensor=sensor, tile=tile, device=device), out)
        times.append(time.perf_counter() - start)
    with rasterio.open(out) as file:
        image = file.read(masked=True)
    return image, image[0].size / 1e6 / min(times)


def compared(
    what: str, ours: np.ma.MaskedArray, wanted: np.ma.MaskedArray, bound: float, numbers: Mapping[str, float]
) -> Row:
    """Two images of one scene, which may differ by `bound` DN and not in where they hold data."""
    difference = float(np.abs(ours.astype(np.float64) - wanted).max())
    same = np.array_equal(np.ma.getmaskarray(ours), np.ma.getmaskarray(wanted))
    return Row(what, same and difference <= bound, {"DN apart": difference, "at most": bound, **numbers})


# 5. The selective scan


def scan(
    device: str, batch: int = 4, tokens: int = 4096, d: int = 64, n: int = 16, timed: int = 32
) -> Iterator[Row]:
    """Pan-Mamba's scan of patches of 64 x 64 PAN pixels: its distance from float64 beside the CPU's, and its time."""
    by = "mamba_ssm" if device == "cuda" and importlib.util.find_spec("mamba_ssm") else "torch"
    given = scan_arguments(batch, tokens, d, n)
    truth = both_ways(given)
    floats = [tensor.float() for tensor in given]
    cpu = both_ways(floats)
    ours = both_ways([tensor.to(device) for tensor in floats])
    for name, exact, wanted, found in zip(("y", *NAMES), truth, cpu, ours, strict=True):
        here, there = (
            ((tensor.cpu() - exact).abs().max() / exact.abs().max()).item() for tensor in (found, wanted)
        )
        what = "y" if name == "y" else f"gradient of {name}"
        yield Row(
            f"{what}, by {by}",
            here <= SCAN * there,
            {"off by": here, "at most": SCAN * there},
        )
    large = [tensor.float().to(device) for tensor in scan_arguments(timed, tokens, d, n)]
    watch = Watch(device)
    for _ in range(10):
        both_ways(large)[0].sum().item()
        watch.progress()
    yield Row(f"forward and backward, {timed} x {tokens} tokens, by {by}", True, watch.numbers())


NAMES = ("x", "dt", "A", "B", "C", "D")


def scan_arguments(batch: int, tokens: int, d: int, n: int) -> list[torch.Tensor]:
    """x, dt, A, B, C and D as in an untrained Pan-Mamba: steps of .001 to .1, decays of 1 to n."""
    draw = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    x, B, C = normal(batch, tokens, d), normal(batch, tokens, n), normal(batch, tokens, n)
    dt = 10 ** (2 * torch.rand(batch, tokens, d, generator=draw, dtype=torch.float64) - 3)
    A = -torch.arange(1, n + 1, dtype=torch.float64).expand(d, n)
    return [x, dt, A.contiguous(), B, C, normal(d)]


def both_ways(given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The scan's output, and the gradients of the sum of its sines."""
    given = [tensor.detach().requires_grad_() for tensor in given]
    y = selective_scan(*given)
    return [y.detach(), *torch.autograd.grad(y.sin().sum(), given)]
