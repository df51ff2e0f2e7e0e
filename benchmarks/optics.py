"""How exact and how fast the gains are that `measure_optics` finds, and what others say of the same pairs.

    python benchmarks/optics.py --shared ../shared --out benchmarks/results/optics.json

First synthetic scenes degraded with known gains, moved by a known shift; their error is that of log(gain). Then
native pairs: our gains; the gain at Nyquist of the filter that FE-HPM estimates (`estimate_psf`); and the slope of
the power spectra: that of PAN's best combination of bands over that of PAN, up to Nyquist.
"""

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
import torch.nn.functional as F
import yaml

from clippan_lib.data.pair import open_pair
from clippan_lib.data.synthetic import render
from clippan_lib.files import write_json
from clippan_lib.fusion.classical.filter_estimation import estimate_psf
from clippan_lib.mtf import degrade, imresize, mtf_kernel, upsample
from clippan_lib.optics import measure_optics
from clippan_lib.sensors import get_sensor, read_sensor

GAINS = ((0.3, 0.3, 0.3, 0.3), (0.34, 0.32, 0.30, 0.22), (0.08, 0.08, 0.07, 0.07), (0.07, 0.15, 0.30, 0.50))
SHIFTS = ((0.0, 0.0), (0.5, -0.5), (1.0, 2.0), (-1.75, 0.25))
Pair = tuple[torch.Tensor, torch.Tensor, int, torch.Tensor | None]


def moved(image: torch.Tensor, down: float, right: float) -> torch.Tensor:
    """The image moved by fractions of a pixel, around its borders."""
    rows, columns = (torch.fft.fftfreq(side, dtype=torch.float64) for side in image.shape[-2:])
    turn = torch.exp(-2j * torch.pi * (down * rows[:, None] + right * columns))
    return torch.fft.ifft2(torch.fft.fft2(image.double()) * turn).real.to(image)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its processor seconds."""
    start = time.process_time()
    return call(), time.process_time() - start


def known(seed: int, side: int) -> Iterator[dict[str, Any]]:
    """One synthetic scene, degraded with each set of gains, with noise of .5 % of full scale."""
    scene = render(seed, get_sensor("IKONOS"), side)
    draw = torch.Generator().manual_seed(seed)
    for gains, shift in zip(GAINS, SHIFTS, strict=True):
        lrms, pan = degrade(scene["gt"][None], gains, 4), moved(scene["pan"][None], *shift)
        lrms, pan = (each + 0.005 * torch.randn(each.shape, generator=draw) for each in (lrms, pan))
        found, seconds = timed(lambda lrms=lrms, pan=pan: measure_optics(lrms, pan, 4))
        inside = [low <= true <= high for true, (low, high) in zip(gains, found.interval, strict=True)]
        yield {
            "scene": f"{seed} {scene['cover']}",
            "gains": gains,
            "found": found.gnyq,
            "common": found.common,
            "error": np.log(np.divide(found.gnyq, gains)).tolist(),
            "inside": inside,
            "shift_error": np.subtract(found.shift, shift).tolist(),
            "r2": found.r2,
            "good": found.good,
            "psf": by_psf(lrms, pan, 4),
            "spectra": by_spectra(lrms, pan, 4),
            "seconds": seconds,
        }


def native(shared: Path) -> Iterator[tuple[str, tuple[float, ...], Pair]]:
    """Name, gains of the table, and the pair of every real scene in the folder."""
    for file, sensor in (("imgIK", get_sensor("IKONOS")), ("imgWV2", get_sensor("WV2"))):
        stored = scipy.io.loadmat(shared / f"data/{file}.mat")
        lrms, pan = (
            torch.from_numpy(np.atleast_3d(stored[key]).astype(np.float32) / sensor.max_value).permute(
                2, 0, 1
            )[None]
            for key in ("I_MS", "I_PAN")
        )
        yield file, sensor.gnyq, (lrms, pan, 4, None)
    for path in sorted(shared.glob("scenes/*/manifest.yaml")):
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
        row = manifest["sensor"]
        sensor = get_sensor(row) if isinstance(row, str) else read_sensor(row)
        full = manifest.get("max_value") or sensor.max_value
        scene = open_pair(
            path.parent / "ms.tif",
            path.parent / "pan.tif",
            bands=manifest["source"].get("bands"),
            sensor=sensor,
        )
        window = scene.read(slice(None), slice(None))
        valid = ~F.max_pool2d((~window.valid).float(), scene.ratio).bool()
        yield path.parent.name, sensor.gnyq, (window.lrms / full, window.pan / full, scene.ratio, valid)


def at_nyquist(kernel: torch.Tensor, ratio: int) -> float:
    """A filter's gain at the Nyquist frequency of the bands, mean of both axes, over its gain at 0."""
    wave = torch.cos(torch.pi * (torch.arange(kernel.shape[-1]) - kernel.shape[-1] // 2) / ratio).to(kernel)
    return float((kernel.sum(0) + kernel.sum(1)) @ wave / (2 * kernel.sum()))


def by_psf(lrms: torch.Tensor, pan: torch.Tensor, ratio: int) -> float:
    """The gain in the terms of `degrade`, whose response at Nyquist is lower than its gain."""
    psf = estimate_psf(upsample(lrms, ratio), pan, ratio, taps=min(25, min(pan.shape[-2:]) // 2 * 2 - 1))[0]
    kernel = mtf_kernel((0.3,), ratio)[0]
    return at_nyquist(psf, ratio) * 0.3 / at_nyquist(kernel, ratio)


def by_spectra(lrms: torch.Tensor, pan: torch.Tensor, ratio: int) -> float:
    """exp of the slope of log(amplitude) over (frequency/Nyquist)^2, between .1 and 1 of Nyquist."""
    low = imresize(pan, (lrms.shape[-2], lrms.shape[-1])).flatten().double()
    bands = torch.cat([lrms, torch.ones_like(lrms[:, :1])], 1)[0].double()
    weights = torch.linalg.lstsq(bands.flatten(1).T, low[:, None]).solution
    powers = []
    for image in (torch.einsum("chw,co->ohw", bands, weights)[0], pan[0, 0].double()):
        rows, columns = (torch.hann_window(side, periodic=False, dtype=torch.float64) for side in image.shape)
        powers.append(torch.fft.fft2((image - image.mean()) * rows[:, None] * columns).abs().square())
    frequencies = [torch.fft.fftfreq(side, dtype=torch.float64) * 2 for side in lrms.shape[-2:]]
    places = [(torch.fft.fftfreq(side) * side).round().long() for side in lrms.shape[-2:]]
    fine = powers[1][places[0][:, None] % pan.shape[-2], places[1] % pan.shape[-1]]
    radius = (frequencies[0][:, None].square() + frequencies[1].square()).sqrt()
    rings = (radius * 20).long()
    ratios, where = [], []
    for ring in range(2, 20):
        ratios.append(float(0.5 * (powers[0][rings == ring].mean() / fine[rings == ring].mean()).log()))
        where.append(((ring + 0.5) / 20) ** 2)
    return float(np.exp(np.polyfit(where, ratios, 1)[0]))


def compared(shared: Path) -> Iterator[dict[str, Any]]:
    """What each method says of the real pairs."""
    for name, table, (lrms, pan, ratio, valid) in native(shared):
        found, ours = timed(lambda pair=(lrms, pan, ratio, valid): measure_optics(*pair))
        psf, seconds_psf = timed(lambda pair=(lrms, pan, ratio): by_psf(*pair))
        slope, seconds_slope = timed(lambda pair=(lrms, pan, ratio): by_spectra(*pair))
        yield {
            "scene": name,
            "lrms": list(lrms.shape),
            "table": table,
            "found": found.gnyq,
            "interval": found.interval,
            "common": found.common,
            "shift": found.shift,
            "r2": found.r2,
            "good": found.good,
            "psf": psf,
            "spectra": slope,
            "seconds": {"ours": ours, "psf": seconds_psf, "spectra": seconds_slope},
        }


def numbers(values: Any) -> str:
    return " ".join(f"{value:.2f}".lstrip("0") for value in values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder with the real scenes")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(10, 16)))
    parser.add_argument("--side", type=int, default=512, help="PAN px of a synthetic scene")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/optics.json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    synthetic = [row for seed in options.seeds for row in known(seed, options.side)]
    print(
        "synthetic     true              found              common   psf slope     R2 off, px inside    s  good"
    )
    for row in synthetic:
        off = max(map(abs, row["shift_error"]))
        inside = f"{sum(row['inside'])}/{len(row['inside'])}"
        print(
            f"{row['scene']:14}{numbers(row['gains']):18}{numbers(row['found']):18}{row['common']:7.3f}{row['psf']:6.2f}"
            f"{row['spectra']:6.2f}{row['r2']:7.3f}{off:8.3f}{inside:>7}{row['seconds']:5.1f}  {row['good']}"
        )
    if synthetic:
        errors, inside = (np.array([row[key] for row in synthetic]) for key in ("error", "inside"))
        rms, mean, share = np.sqrt((errors**2).mean()), errors.mean(), inside.mean()
        print(f"error of log(gain): rms {rms:.3f}, mean {mean:+.3f}; in its interval: {share:.2f}")

    real = list(compared(options.shared)) if options.shared.is_dir() else []
    print(
        "\nnative            common   psf slope     R2         shift    s    s    s  good  per band (table)"
    )
    for row in real:
        times = "".join(f"{value:5.1f}" for value in row["seconds"].values())
        shift = "{:+.2f} {:+.2f}".format(*row["shift"])
        print(
            f"{row['scene']:18}{row['common']:6.3f}{row['psf']:6.2f}{row['spectra']:6.2f}{row['r2']:7.3f}{shift:>14}"
            f"{times}  {row['good']!s:5} {numbers(row['found'])} ({numbers(row['table'])})"
        )
    result = {
        "torch": torch.__version__,
        "machine": platform.machine(),
        "threads": options.threads,
        "side": options.side,
        "synthetic": synthetic,
        "native": real,
    }
    write_json(options.out, result)


if __name__ == "__main__":
    main()
