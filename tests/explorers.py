"""What a canvas of an explorer was sent, as a browser would show it."""

import io

import numpy as np
from matplotlib.image import imread

from clippan_lib.explore.canvas import Canvas


def decoded(png):
    """(H, W, 3) of bytes."""
    return (imread(io.BytesIO(png))[..., :3] * 255).round().astype(np.uint8)


def tile(canvas, frame=0, number=0):
    """A tile of a frame, with its place and its picture."""
    sent = canvas.tiles[frame][number]
    return {**sent, "picture": decoded(sent["png"])}


def seen(canvas, frame=0, number=0):
    """What of a tile lies in the view, tile pixel by tile pixel."""
    sent = tile(canvas, frame, number)
    top, left, size = canvas.view[1:]
    scale = sent["height"] // len(sent["picture"])
    rows = slice((top - sent["top"]) // scale, (top - sent["top"] + size) // scale)
    columns = slice((left - sent["left"]) // scale, (left - sent["left"] + size) // scale)
    return sent["picture"][rows, columns]


def shown(view):
    """All that a browser shows of an explorer's canvases, plots and texts, to tell one state from another."""
    found, left = [], [view.widget]
    while left:
        widget = left.pop()
        left += getattr(widget, "children", ())
        if isinstance(widget, Canvas):
            keys = [[each["key"] for each in frame] for frame in widget.tiles]
            found += [keys, widget.frames, widget.view[1:], widget.spot, widget.split, widget.bars]
        elif type(widget).__name__ == "Image":
            found.append(widget.value)
    return found


def names(canvas):
    """Titles of its frames."""
    return [frame["name"] for frame in canvas.frames]
