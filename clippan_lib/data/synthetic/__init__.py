"""Seeded synthetic landscapes: sensor-like LRMS and PAN with the full-resolution reference real images lack.

A scene is drawn at twice the PAN resolution as four maps (material, vigour, tone, height), lit by one sun
with cast shadows, given band spectra by wavelength, and seen on the PAN grid through the optics of each band.
Sizes are those of 0.4-0.9 m pixels, for every sensor: a Landsat "scene" has Landsat's bands, ratio and MTF, but
not its ground distance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import torch

from clippan_lib.data.synthetic.camera import PAN_ONLY_NM, expose, see, through_pan
from clippan_lib.data.synthetic.landscape import (
    Canvas,
    building,
    canopy,
    car,
    road,
    scatter_trees,
    split,
    tree,
)
from clippan_lib.data.synthetic.materials import wavelengths
from clippan_lib.mtf import degrade
from clippan_lib.sensors import Sensor

COVERS = ("urban", "farmland", "forest", "water", "desert", "city")


def _urban(canvas: Canvas) -> None:
    """Streets around blocks; a block is lots with a house and garden, or flat-roofed buildings on paving."""
    rng, m = canvas.rng, canvas.m
    canvas.paint(canvas.whole, canvas.material == 0, "asphalt", 0.0, float(rng.uniform(0.85, 1.2)))
    street = rng.uniform(7, 11) * m
    for u0, u1, v0, v1 in split(rng, 0.75 * canvas.n, rng.uniform(50, 75) * m):
        u, v, length, width = (u0 + u1) / 2, (v0 + v1) / 2, u1 - u0, v1 - v0
        canvas.paint(*canvas.box(u, v, length, 0.35 * m + 0.8)[:2], "asphalt")
        _street_marks(canvas, u0, u1, v0, v1)
        canvas.paint(*canvas.box(u, v, length - street, width - street)[:2], "concrete", 0.0, 0.85)
        tall = rng.random() < 0.4
        inner = (length - street - 3 * m, width - street - 3 * m)
        kind, vigour, tone = ("gravel", 0.0, 0.9) if tall else ("grass", 0.25, 1.0)
        canvas.paint(*canvas.box(u, v, *inner)[:2], kind, vigour, tone)
        _lots(canvas, u, v, inner, tall)
    scatter_trees(canvas, 160.0, ("grass", "concrete", "gravel"), (1.2, 3.0))


def _city(canvas: Canvas) -> None:
    """The middle of a large city: narrow streets, every lot built on, flat roofs of all heights."""
    rng, m = canvas.rng, canvas.m
    canvas.paint(canvas.whole, canvas.material == 0, "asphalt", 0.0, float(rng.uniform(0.7, 1.1)))
    street = rng.uniform(5, 9) * m
    for u0, u1, v0, v1 in split(rng, 0.75 * canvas.n, rng.uniform(35, 60) * m):
        u, v, length, width = (u0 + u1) / 2, (v0 + v1) / 2, u1 - u0, v1 - v0
        _street_marks(canvas, u0, u1, v0, v1)
        canvas.paint(*canvas.box(u, v, length - street, width - street)[:2], "concrete", 0.0, 0.8)
        if rng.random() < 0.06:
            canvas.paint(*canvas.box(u, v, length - street, width - street)[:2], "grass", 0.2)
            continue
        inner = (length - street - m, width - street - m)
        side, share = rng.uniform(11, 22) * m, (0.78, 0.99)
        _lots(canvas, u, v, inner, rng.random() < 0.8, side, share, eaves=(8.0, 38.0))
    scatter_trees(canvas, 60.0, ("grass", "concrete"), (1.2, 2.5))


def _street_marks(canvas: Canvas, u0: float, u1: float, v0: float, v1: float) -> None:
    """Dashed centre lines and cars along two sides of a block."""
    rng, m = canvas.rng, canvas.m
    for at in np.arange(u0 + 6 * m, u1 - 6 * m, 9 * m):
        canvas.paint(*canvas.box(at, v0, 4 * m, 0.3 * m + 0.8)[:2], "paint")
    for at in np.arange(v0 + 6 * m, v1 - 6 * m, 9 * m):
        canvas.paint(*canvas.box(u0, at, 0.3 * m + 0.8, 4 * m)[:2], "paint")
    for _ in range(rng.integers(1, 6)):
        side = rng.choice([-1.0, 1.0]) * 2.2 * m
        if rng.random() < 0.5:
            car(canvas, rng.uniform(u0, u1), v0 + side, True)
        else:
            car(canvas, u0 + side, rng.uniform(v0, v1), False)


def _lots(
    canvas: Canvas,
    u: float,
    v: float,
    inner: tuple[float, float],
    tall: bool,
    side: float | None = None,
    share: tuple[float, float] = (0.5, 0.82),
    eaves: tuple[float, float] | None = None,
) -> None:
    """Buildings side by side; each covers `share` of its lot along both axes."""
    rng, m = canvas.rng, canvas.m
    lot = side or (30 if tall else 17) * m
    columns, rows = (max(1, round(side / lot)) for side in inner)
    for i in range(columns):
        for j in range(rows):
            a, b = inner[0] * ((i + 0.5) / columns - 0.5), inner[1] * ((j + 0.5) / rows - 0.5)
            size = np.array(inner) / (columns, rows) * rng.uniform(*share, 2)
            if min(size) > 4 * m and rng.random() < 0.92:
                building(canvas, u + a, v + b, size[0], size[1], tall, eaves)


def _farmland(canvas: Canvas) -> None:
    """Parcels with crop rows, tracks and hedges between them, now and then a farm."""
    rng, m = canvas.rng, canvas.m
    warp = canvas.noise(150.0) * 4 * m
    canvas.u, canvas.v = canvas.u + warp, canvas.v + canvas.noise(150.0) * 4 * m
    canvas.paint(canvas.whole, canvas.material == 0, "grass", 0.3)
    vigour, grain = 0.08 * canvas.noise(40.0, 3), canvas.noise(6.0, 3)
    for u0, u1, v0, v1 in split(rng, 0.75 * canvas.n, rng.uniform(45, 90) * m):
        u, v = (u0 + u1) / 2, (v0 + v1) / 2
        gap = rng.choice([0.5, 1.0, 3.0], p=[0.4, 0.4, 0.2]) * m
        window, inside, du, dv = canvas.box(u, v, u1 - u0, v1 - v0, slack=14 * m)
        inside &= (np.abs(du) < (u1 - u0) / 2 - gap) & (np.abs(dv) < (v1 - v0) / 2 - gap)
        kind = rng.choice(["crop", "crop", "grass", "stubble", "soil", "dark_soil", "rapeseed"])
        rows = np.sin((du if rng.random() < 0.5 else dv) * (2 * np.pi / (rng.uniform(0.9, 4.5) * m)))
        depth = rng.uniform(0.03, 0.2)
        tone = rng.uniform(0.8, 1.15) * (1 + depth * rows + 0.05 * grain[window])
        canvas.paint(window, inside, kind, vigour[window] + rng.uniform(-0.1, 0.4) + depth * rows, tone)
        if rng.random() < 0.35:
            _hedge(canvas, u0, u1, v0)
    for _ in range(rng.integers(0, 4)):
        u, v = canvas.place()
        length, width = rng.uniform(9, 22, 2) * m
        building(canvas, u, v, length, width, tall=False)
    scatter_trees(canvas, 25.0, ("grass",))
    if rng.random() < 0.7:
        _track(canvas, rng.random() < 0.5)


def _hedge(canvas: Canvas, u0: float, u1: float, v0: float) -> None:
    for u in np.arange(u0, u1, 3.5 * canvas.m):
        if canvas.rng.random() < 0.8:
            tree(canvas, u + canvas.rng.normal(0, canvas.m), v0, canvas.rng.uniform(1.2, 2.8))


def _track(canvas: Canvas, marks: bool) -> None:
    rng = canvas.rng
    width, along_u = rng.uniform(6, 9) if marks else rng.uniform(2.5, 6), rng.random() < 0.5
    road(canvas, width, "asphalt" if marks else rng.choice(["soil", "gravel", "asphalt"]), along_u, marks)


def _forest(canvas: Canvas) -> None:
    """Closed canopy of two kinds, clearings of grass, a track."""
    rng = canvas.rng
    dry, tone = 0.25 + 0.1 * canvas.noise(20.0, 3), 1 + 0.08 * canvas.noise(3.0, 2)
    canvas.paint(canvas.whole, canvas.material == 0, "grass", dry, tone)
    stand, open_ground = canvas.noise(90.0, 3), canvas.noise(60.0, 3) > rng.uniform(1.6, 2.6)
    level = rng.normal(0, 0.8)
    canopy(canvas, (stand <= level) & ~open_ground, "tree", rng.uniform(4.5, 8))
    canopy(canvas, (stand > level) & ~open_ground, "conifer", rng.uniform(3, 5))
    if rng.random() < 0.6:
        _track(canvas, False)
    scatter_trees(canvas, 40.0, ("grass",))


def _water(canvas: Canvas) -> None:
    """A lake or coast: waves, shallows, a beach, boats; land beyond it as in the other covers."""
    rng, m = canvas.rng, canvas.m
    level = canvas.noise(160.0, 5) + canvas.u * rng.uniform(-4, 4) / canvas.n
    shore = np.quantile(level, rng.uniform(0.6, 0.85))
    depth = np.clip((shore - level) * rng.uniform(1, 3), 0, 4)
    (_urban, _farmland, _forest)[rng.choice(3)](canvas)
    waves = 1 + 0.06 * canvas.noise(2.5) * rng.uniform(0.3, 1.5) + 0.04 * canvas.noise(8.0, 2)
    beach = level < shore + rng.uniform(0.05, 0.35)
    sandy = rng.choice(["sand", "gravel", "soil"])
    canvas.paint(canvas.whole, beach, sandy, 0.1, 1 + 0.05 * canvas.noise(2.0, 2), 0.0)
    shallow = rng.uniform(0.2, 1.1) * np.exp(-depth) + rng.uniform(0, 0.35)
    canvas.paint(canvas.whole, level < shore, "water", shallow, waves, 0.0)
    for _ in range(rng.integers(0, 6)):
        u, v = canvas.place()
        window, hull, du, dv = canvas.box(u, v, rng.uniform(5, 14) * m, 2.6 * m)
        if hull.size and (depth[window] > 0.3).all():
            hull &= np.abs(dv) < 1.3 * m - 0.12 * np.abs(du)
            canvas.paint(window, hull, "roof_white", 0.0, 0.9, 1.5 * m)


def _desert(canvas: Canvas) -> None:
    """Dunes with a sharp lee side, outcrops of rock, dry scrub and a wheel track."""
    rng, m = canvas.rng, canvas.m
    length = rng.uniform(14, 45) * m
    phase = np.mod((canvas.u + 9 * m * canvas.noise(90.0, 2)) / length + 0.3 * canvas.noise(60.0), 1)
    dune = np.where(phase < 0.75, phase / 0.75, (1 - phase) / 0.25) * length * rng.uniform(0.03, 0.2)
    ripples = np.sin(canvas.u * (2 * np.pi / (1.3 * m)) + 2 * canvas.noise(12.0)) * 0.025
    tone = 1 + ripples + 0.04 * canvas.noise(2.0, 2)
    canvas.paint(canvas.whole, canvas.material == 0, "sand", 0.12 * canvas.noise(70.0, 3), tone, dune)
    outcrop = canvas.noise(70.0, 5) > rng.uniform(0.8, 2.5)
    rough = canvas.noise(9.0, 4)
    canvas.paint(canvas.whole, outcrop, "rock", 0.15 * rough, 1 + 0.1 * canvas.noise(1.5), (2 + rough) * m)
    scatter_trees(canvas, rng.uniform(0, 120), ("sand",), (0.5, 1.4))
    if rng.random() < 0.5:
        _track(canvas, rng.random() < 0.3)


_PAINTERS = dict(zip(COVERS, (_urban, _farmland, _forest, _water, _desert, _city), strict=True))


@dataclass(frozen=True)
class Land:
    """A landscape in the light of one day, before any sensor: made by `draw`.

    Args:
        light: (k + 3, 2*size, 2*size), radiance at the bands' wavelengths, then at `PAN_ONLY_NM`.
        nm: (k,) wavelengths of the bands, nanometres.
        cover: one of `COVERS`.
        rng: what is left of the seed's randomness.
    """

    light: np.ndarray
    nm: np.ndarray
    cover: str
    rng: np.random.Generator

    def bands(self, gains: Sequence[float]) -> np.ndarray:
        """(k, size, size): the bands through optics with these gains at Nyquist, see `camera.see`."""
        return see(self.light[: len(self.nm)], gains)

    def pan(self, gain: float, **response: float) -> np.ndarray:
        """(1, size, size): PAN through optics with this gain at Nyquist; `response` as in `camera.through_pan`."""
        return see(through_pan(self.light, self.nm, **response), (gain,))


def draw(seed: int, nm: np.ndarray, size: int) -> Land:
    """One landscape; the same seed gives the same land whatever is asked of it.

    Args:
        seed: any non-negative integer. Demo data use seeds below 100 000, CLIP pre-training those from 1 000 000, the
            band-wise network those from 2 000 000, judges of fusions those from 4 000 000.
        nm: (k,) wavelengths, nanometres.
        size: PAN pixels per side.
    """
    rng = np.random.default_rng(seed)
    cover = COVERS[rng.integers(len(COVERS))]
    canvas = Canvas(rng, 2 * size, 2 / rng.uniform(0.4, 0.9), rng.uniform(0, np.pi))
    _PAINTERS[cover](canvas)
    return Land(expose(canvas, np.concatenate([nm, PAN_ONLY_NM])), nm, cover, rng)


class Rendered(TypedDict):
    """What `render` gives."""

    lrms: torch.Tensor
    pan: torch.Tensor
    gt: torch.Tensor
    cover: str


def render(seed: int, sensor: Sensor, size: int = 256) -> Rendered:
    """One synthetic scene as a sensor sees it; the same seed shows the same land to every sensor.

    The reference is what the MS bands would record on the PAN grid: as sharp as their gains allow, `gnyq` at the
    Nyquist frequency of that grid. It is what Wald's protocol asks of a fused image (Wald, Ranchin and Mangolini 1997
    [wald1997fusion]). PAN has its own gain, `gnyq_pan`, and is no exact sum of the bands. The LRMS is the reference
    through the same MTF and decimation, plus noise. Values are multiples of one digital number of the sensor.

    Args:
        seed: as in `draw`.
        sensor: its bands must have known names (`materials.CENTRE_NM`).
        size: PAN pixels per side, a multiple of the sensor's ratio.
    Returns: lrms (c, size/ratio, size/ratio), pan (1, size, size), gt (c, size, size), float32 in [0, 1], and
        cover, one of `COVERS`.
    Raises: ValueError on a size that the ratio does not divide, or an unknown band name.
    """
    if size < 1 or size % sensor.ratio:
        raise ValueError(f"size {size} is no positive multiple of the ratio {sensor.ratio} of {sensor.name}")
    land = draw(seed, wavelengths(sensor), size)
    gt, pan = land.bands(sensor.gnyq), land.pan(sensor.gnyq_pan)
    lrms = degrade(torch.from_numpy(gt)[None], sensor.gnyq, sensor.ratio)[0].numpy()
    noise = land.rng.standard_normal
    planes = {
        "lrms": lrms + 0.0012 * noise(lrms.shape, np.float32),
        "pan": pan + 0.002 * noise(pan.shape, np.float32),
        "gt": gt,
    }
    scale = np.float32(sensor.max_value)
    digital = {key: np.rint(np.clip(plane, 0, 1) * scale) / scale for key, plane in planes.items()}
    tensors = {key: torch.from_numpy(plane.astype(np.float32)) for key, plane in digital.items()}
    return Rendered(lrms=tensors["lrms"], pan=tensors["pan"], gt=tensors["gt"], cover=land.cover)
