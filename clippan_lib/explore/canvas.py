"""Pictures of one place, drawn in the browser: dragging, zooming and swiping need no answer from the kernel."""

import struct
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import numpy as np
from anywidget import AnyWidget
from matplotlib.cm import ScalarMappable
from traitlets import Float, Int, List

_ASSETS = files("clippan_lib.assets")
_BAR = 128  # px, a colour bar


def png(pixels: np.ndarray) -> bytes:
    """PNG with every row as its difference to the one above: half the time of a writer that tries all filters.

    Args:
        pixels: (H, W, 3 or more) of bytes; red, green and blue are written.
    """
    rgb = pixels[..., :3]
    height, width, _ = rgb.shape
    rows = np.empty((height, 1 + 3 * width), np.uint8)
    rows[:, 0] = 2  # filter "up"
    rows[0, 1:], rows[1:, 1:] = rgb[0].ravel(), (rgb[1:] - rgb[:-1]).reshape(height - 1, 3 * width)
    packer = zlib.compressobj(1, strategy=zlib.Z_RLE)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", packer.compress(rows) + packer.flush()), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


@dataclass(frozen=True)
class Tile:
    """A part of a scene as a picture.

    Args:
        pixels: (H, W, 3 or 4) of bytes.
        place: top, left, height and width in the scene's pixels, however many pixels the picture has.
    """

    pixels: np.ndarray
    place: tuple[int, int, int, int]


@dataclass(frozen=True)
class Frame:
    """One of the pictures side by side.

    Args:
        name: its title.
        note: stands below it.
        tiles: key of a picture to what makes it; a picture whose key was shown before is not made again. Two of them
            are the two sides of a swipe.
        still: top, left and size of what it always shows; None: it follows the view.
        box: top, left and size of a square that is drawn over it.
        points: what is drawn over it as a map; see `points`.
        marked: whether its border is green.
    """

    name: str
    note: str = ""
    tiles: Mapping[Hashable, Callable[[], Tile]] = field(default_factory=dict)
    still: tuple[int, int, int] | None = None
    box: tuple[int, int, int] | None = None
    points: Mapping[str, Any] | None = None
    marked: bool = False


class Canvas(AnyWidget):
    """Frames in the browser: a drag moves the view, the wheel zooms, a click sets the cross, shift and a drag choose.

    The browser moves the view by itself and then says where it is (`wanted`); Python answers with `view`, the same or
    the nearest that it can show. Messages of other events go to `on_msg`, as ipywidgets has it: "hover", "click",
    "pick", "lasso" and "step".
    """

    _esm = (_ASSETS / "canvas.js").read_text(encoding="utf-8")
    _css = (_ASSETS / "canvas.css").read_text(encoding="utf-8")

    frames = List().tag(sync=True)
    tiles = List().tag(sync=True)
    bars = List().tag(sync=True)
    extent = List().tag(sync=True)
    sizes = List().tag(sync=True)
    grid = Int(1).tag(sync=True)
    view = List().tag(sync=True)
    wanted = List().tag(sync=True)
    split = Float(0.5).tag(sync=True)
    spot = List(allow_none=True, default_value=None).tag(sync=True)
    share = Float(0.5).tag(sync=True)

    def __init__(
        self, extent: tuple[int, int], sizes: tuple[int, int, int], grid: int = 1, share: float = 0.5
    ) -> None:
        """
        Args:
            extent: height and width of the scene, px.
            sizes: the least and the largest side of a view, and the step between two sides, px.
            grid: corners of a view at rest are multiples of it.
            share: of the window's height that the frames may take.
        """
        self._made: dict[Hashable, dict[str, Any]] = {}
        super().__init__(extent=list(extent), sizes=list(sizes), grid=grid, share=share)

    def show(self, frames: Sequence[Frame], area: Sequence[float | int]) -> None:
        """Send what the browser lacks.

        Args:
            frames: all of them.
            area: top, left and side of the view.
        """
        keys = {key: make for frame in frames for key, make in frame.tiles.items()}
        self._made = {key: self._made.get(key) or _packed(key, make()) for key, make in keys.items()}
        self.tiles = [[self._made[key] for key in frame.tiles] for frame in frames]
        self.frames = [
            {
                "name": frame.name,
                "note": frame.note,
                "still": frame.still,
                "box": frame.box,
                "points": frame.points,
                "marked": frame.marked,
            }
            for frame in frames
        ]
        self.view = [self.wanted[0] if self.wanted else 0, *area]

    def say(self, text: str) -> None:
        """Show a line about what the pointer is on."""
        self.send({"kind": "said", "text": text})


def _packed(key: Hashable, tile: Tile) -> dict[str, Any]:
    top, left, height, width = tile.place
    name = f"{hash(key):x} {key}"
    return {"key": name, "png": png(tile.pixels), "top": top, "left": left, "height": height, "width": width}


def bar(scale: ScalarMappable, label: str, digits: int = 3) -> dict[str, Any]:
    """A colour bar below the frames.

    Args:
        scale: from value to colour.
        label: what the values are, with their unit.
        digits: of its ends.
    """
    low, high = scale.get_clim()
    colours = scale.to_rgba(np.linspace(low, high, _BAR)[None], bytes=True)
    return {"png": png(colours), "low": f"{low:.{digits}g}", "high": f"{high:.{digits}g}", "label": label}


def points(
    plane: np.ndarray,
    colours: Sequence[str],
    shapes: Sequence[str],
    chosen: Sequence[int] = (),
    ring: Sequence[int] = (),
) -> dict[str, Any]:
    """A map of points for a frame.

    Args:
        plane: (n, 2), where each lies: across, and down.
        colours: of each, as "#rrggbb".
        shapes: of each: "circle", "square" or "triangle".
        chosen: those of a lasso; the others are pale.
        ring: rings around these, the first one the largest, and a line from each to the first.
    """
    tie = [each for other in ring[1:] for each in (ring[0], other)]
    return {
        "x": plane[:, 0].round(2).tolist(),
        "y": plane[:, 1].round(2).tolist(),
        "colour": list(colours),
        "shape": list(shapes),
        "chosen": [int(each) for each in chosen],
        "ring": [int(each) for each in ring],
        "tie": [int(each) for each in tie],
    }
