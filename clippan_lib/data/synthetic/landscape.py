"""The canvas synthetic landscapes are painted on, and what stands on it: trees, roads, cars, buildings."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from clippan_lib.data.synthetic.materials import MATERIALS

Window = tuple[slice, slice]
Box = tuple[Window, np.ndarray, np.ndarray, np.ndarray]
Value = np.ndarray | float | None


@lru_cache(maxsize=64)
def _interpolation(cells: int, n: int) -> np.ndarray:
    """(n, cells + 1) matrix of smooth weights from a coarse grid to n pixels."""
    position = np.arange(n) * (cells / n)
    left = position.astype(int)
    step = position - left
    step = step * step * (3 - 2 * step)
    matrix = np.zeros((n, cells + 1), np.float32)
    matrix[np.arange(n), left], matrix[np.arange(n), left + 1] = 1 - step, step
    return matrix


@dataclass
class Canvas:
    """The maps a landscape is painted on, at twice the PAN resolution; `m` is pixels per metre."""

    rng: np.random.Generator
    n: int
    m: float
    angle: float
    material: np.ndarray = field(init=False)
    vigour: np.ndarray = field(init=False)
    tone: np.ndarray = field(init=False)
    height: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        n = self.n
        self.material = np.zeros((n, n), np.uint8)
        self.vigour, self.tone, self.height = (np.full((n, n), value, np.float32) for value in (0, 1, 0))
        y, x = np.mgrid[:n, :n].astype(np.float32) - n / 2
        self.u = x * np.cos(self.angle) + y * np.sin(self.angle)
        self.v = y * np.cos(self.angle) - x * np.sin(self.angle)
        self.whole = (slice(0, n), slice(0, n))

    def noise(self, metres: float, octaves: int = 1) -> np.ndarray:
        """Smooth noise of about unit variance whose largest feature is `metres` wide."""
        total = np.zeros((self.n, self.n), np.float32)
        for octave in range(octaves):
            cells = int(np.clip(self.n / self.m / metres * 2**octave, 2, self.n // 2))
            weights = _interpolation(cells, self.n)
            grid = self.rng.standard_normal((cells + 1,) * 2, np.float32)
            total += 0.6**octave * weights @ grid @ weights.T
        return total * np.float32(1.5)

    def window(self, u: float, v: float, radius: float) -> Window:
        """The slice of the canvas within `radius` pixels of the point (u, v)."""
        x = u * np.cos(self.angle) - v * np.sin(self.angle) + self.n / 2
        y = u * np.sin(self.angle) + v * np.cos(self.angle) + self.n / 2
        rows, columns = (np.clip((int(c - radius), int(c + radius) + 2), 0, self.n) for c in (y, x))
        return slice(*rows), slice(*columns)

    def paint(
        self, window: Window, mask: np.ndarray, material: str, vigour: Value = None, tone: Value = None,
        height: Value = None,
    ) -> None:  # fmt: skip
        """Cover `mask` of `window` with a material; the other maps take a value, or keep theirs on None."""
        self.material[window][mask] = MATERIALS.index(material)
        for plane, value in ((self.vigour, vigour), (self.tone, tone), (self.height, height)):
            if value is not None:
                plane[window][mask] = value[mask] if isinstance(value, np.ndarray) else value

    def box(self, u: float, v: float, length: float, width: float, slack: float = 2) -> Box:
        """Window, inside mask and local coordinates of a rectangle centred on (u, v)."""
        window = self.window(u, v, np.hypot(length, width) / 2 + slack)
        du, dv = self.u[window] - u, self.v[window] - v
        return window, (np.abs(du) <= length / 2) & (np.abs(dv) <= width / 2), du, dv

    def place(self) -> tuple[float, float]:
        """A uniform random point, as (u, v)."""
        x, y = self.rng.uniform(-self.n / 2, self.n / 2, 2)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return x * cos + y * sin, y * cos - x * sin


def split(rng: np.random.Generator, extent: float, side: float) -> list[tuple[float, float, float, float]]:
    """Cut the square of half-width `extent` into (u0, u1, v0, v1) rectangles whose sides are about `side`."""
    todo, done = [(-extent, extent, -extent, extent)], []
    while todo:
        u0, u1, v0, v1 = todo.pop()
        if max(u1 - u0, v1 - v0) < side * rng.uniform(1.2, 2.2):
            done.append((u0, u1, v0, v1))
            continue
        cut = rng.uniform(0.35, 0.65)
        if u1 - u0 > v1 - v0:
            middle = u0 + cut * (u1 - u0)
            todo += [(u0, middle, v0, v1), (middle, u1, v0, v1)]
        else:
            middle = v0 + cut * (v1 - v0)
            todo += [(u0, u1, v0, middle), (u0, u1, middle, v1)]
    return done


def tree(canvas: Canvas, u: float, v: float, metres: float) -> None:
    radius = metres * canvas.m
    window = canvas.window(u, v, radius)
    distance = np.hypot(canvas.u[window] - u, canvas.v[window] - v) / radius
    dome = 1.1 * radius * (0.6 + np.sqrt(np.clip(1 - distance**2, 0, 1)))
    kind, tone = canvas.rng.choice(["tree", "conifer"]), float(canvas.rng.uniform(0.8, 1.2))
    canvas.paint(window, distance < 1, kind, float(canvas.rng.uniform(-0.1, 0.25)), tone, dome)


def scatter_trees(
    canvas: Canvas, per_scene: float, materials: tuple[str, ...], metres: tuple[float, float] = (1.5, 4.0)
) -> None:
    """Single trees, `per_scene` tried on a 256-pixel scene, only where the ground is one of `materials`."""
    allowed = [MATERIALS.index(name) for name in materials]
    for _ in range(int(per_scene * (canvas.n / 512) ** 2)):
        u, v = canvas.place()
        spot = canvas.window(u, v, 1.0)
        on_ground = canvas.height[spot] < canvas.m
        if on_ground.size and on_ground[0, 0] and canvas.material[spot][0, 0] in allowed:
            tree(canvas, u, v, canvas.rng.uniform(*metres))


def _crowns(canvas: Canvas, cell: float, cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance, in cells, to the nearest point of a jittered grid, and which point that is."""
    jitter = canvas.rng.uniform(0.1, 0.9, (2, cells, cells)).astype(np.float32)
    x = np.arange(canvas.n, dtype=np.float32) / cell + 1
    y = x[:, None]
    best, owner = np.full((canvas.n,) * 2, np.inf, np.float32), np.zeros((canvas.n,) * 2, np.int32)
    for row in (np.floor(y - 0.5).astype(int), np.floor(y + 0.5).astype(int)):
        for column in (np.floor(x - 0.5).astype(int), np.floor(x + 0.5).astype(int)):
            index = row * cells + column
            distance = (y - row - jitter[0].take(index)) ** 2 + (x - column - jitter[1].take(index)) ** 2
            closer = distance < best
            best, owner = np.where(closer, distance, best), np.where(closer, index, owner)
    return best, owner


def canopy(canvas: Canvas, mask: np.ndarray, kind: str, metres: float) -> None:
    """Closed forest: one dome per cell of a jittered grid, tone, size and vigour per crown."""
    rng, cell = canvas.rng, metres * canvas.m
    cells = int(canvas.n / cell) + 4
    distance, owner = _crowns(canvas, cell, cells)
    tones, sizes = rng.normal(1, 0.14, cells**2), rng.uniform(0.2, 0.6, cells**2)
    vigours = rng.normal(0.03, 0.06, cells**2) + (rng.random(cells**2) < 0.05) * rng.uniform(0, 0.5, cells**2)
    tone, size, vigour = (values.astype(np.float32).take(owner) for values in (tones, sizes, vigours))
    dome = np.sqrt(np.clip(1 - distance / size, 0, 1)) + 0.12 * canvas.noise(1.2)
    canvas.paint(canvas.whole, mask, kind, vigour, tone * (0.55 + 0.5 * dome), cell * (1.6 + dome))


def road(canvas: Canvas, width: float, material: str, along_u: bool, marks: bool) -> None:
    """A winding road across the scene, with centre marks and cars if `marks`."""
    rng = canvas.rng
    run, cross = (canvas.u, canvas.v) if along_u else (canvas.v, canvas.u)
    bend, wave = rng.uniform(0, 0.12) * canvas.n, rng.uniform(0.5, 1.5) * np.pi / canvas.n
    phase = rng.uniform(0, 2 * np.pi)
    shift = rng.uniform(-0.35, 0.35) * canvas.n
    distance = cross - shift - bend * np.sin(wave * run + phase)
    half = width * canvas.m / 2
    canvas.paint(canvas.whole, np.abs(distance) < half + 1.2 * canvas.m, "soil", 0.2, 1.0, 0.0)
    canvas.paint(canvas.whole, np.abs(distance) < half, material, 0.0, float(rng.uniform(0.85, 1.15)), 0.0)
    if not marks:
        return
    dashes = (np.abs(distance) < 0.15 * canvas.m + 0.4) & (np.mod(run, 9 * canvas.m) < 4 * canvas.m)
    edges = np.abs(np.abs(distance) - half + 0.5 * canvas.m) < 0.1 * canvas.m + 0.3
    canvas.paint(canvas.whole, dashes | edges, "paint")
    for _ in range(rng.integers(2, 8)):
        at, lane = rng.uniform(-0.6, 0.6) * canvas.n, rng.choice([-0.5, 0.5]) * half
        beside = shift + bend * np.sin(wave * at + phase) + lane
        u, v = (at, beside) if along_u else (beside, at)
        car(canvas, u, v, along_u)


def car(canvas: Canvas, u: float, v: float, along_u: bool) -> None:
    size = (4.6 * canvas.m, 1.9 * canvas.m)
    window, inside, du, dv = canvas.box(u, v, *(size if along_u else size[::-1]))
    kind = canvas.rng.choice(["roof_white", "roof_grey", "car_red", "car_dark", "roof_blue"])
    canvas.paint(window, inside, kind, 0.0, float(canvas.rng.uniform(0.7, 1.2)), 1.4 * canvas.m)
    glass = inside & (np.abs((du if along_u else dv) - 0.7 * canvas.m) < 0.5 * canvas.m)
    canvas.paint(window, glass, "car_dark")


def building(
    canvas: Canvas,
    u: float,
    v: float,
    length: float,
    width: float,
    tall: bool,
    eaves: tuple[float, float] | None = None,
) -> None:
    """A house with a gable roof, or a taller flat block with roof machinery; `eaves`: its range of heights, m."""
    rng, m = canvas.rng, canvas.m
    kinds = "roof_grey roof_white concrete gravel" if tall else "roof_tile roof_tile roof_grey roof_blue"
    kind, tone, vigour = rng.choice(kinds.split()), rng.uniform(0.75, 1.2), rng.uniform(-0.5, 0.5)
    window, inside, du, dv = canvas.box(u, v, length, width)
    eave = rng.uniform(*(eaves or ((7, 16) if tall else (3, 6)))) * m
    across, half = (dv, width / 2) if length > width else (du, length / 2)
    slope = 0.0 if tall else rng.uniform(0.35, 0.7)
    canvas.paint(window, inside, kind, vigour, tone, eave + slope * (half - np.abs(across)))
    if not tall:
        canvas.paint(window, inside & (np.abs(across) < 0.12 * m + 0.4), kind, vigour, 0.7 * tone)
        return
    rim = inside & ((np.abs(du) > length / 2 - 0.6 * m) | (np.abs(dv) > width / 2 - 0.6 * m))
    canvas.paint(window, rim, "concrete", 0.0, 1.1 * tone, eave + 0.8 * m)
    for _ in range(rng.integers(1, 5)):
        a, b = rng.uniform(-0.35, 0.35, 2) * (length, width)
        machine = canvas.box(u + a, v + b, *(rng.uniform(1.5, 4, 2) * m))
        canvas.paint(*machine[:2], "concrete", 0.0, 0.8, eave + 2 * m)
