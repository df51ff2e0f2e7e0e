"""Walk a fused image along words, step by step, and see what they change."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from textwrap import shorten
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from ipywidgets import Dropdown, IntSlider, Text
from jaxtyping import Float
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from clippan_lib.clip import ClipTowers, Supervisor
from clippan_lib.clip.aims import AIMS
from clippan_lib.data import Batch, Scene
from clippan_lib.evaluation.gates import axes
from clippan_lib.evaluation.scores import fuse
from clippan_lib.explore.areas import Area, AreaExplorer, area_around, area_sliders
from clippan_lib.explore.base import scrolled
from clippan_lib.explore.canvas import Canvas, Frame, Tile, bar
from clippan_lib.explore.panels import Panel
from clippan_lib.figures import error_map, fit_stretch
from clippan_lib.figures.style import new_figure
from clippan_lib.fusion import Method
from clippan_lib.fusion.walk import SIZE, STEPS, Loss, rate_of, walk
from clippan_lib.losses.guidance import guides
from clippan_lib.shapes import HRMS, Image
from clippan_lib.training.deliveries import deviation_of

OWN = "words of your own"
MOST = 20  # steps
_BLOCK, _LARGEST = 32, 256  # PAN px: a step on the largest area is waited for
_KEPT = 4  # walks, each with the images of all its steps
_END = 3.0  # of the scale of differences, in lengths of a walk
_LAND = "land"  # what aims call the scene

_FIRST = {name: aim.wordings[0].format(cover=_LAND) for name, aim in AIMS.items()}
_BY_WORDS = {text: name for name, text in _FIRST.items()}


@dataclass(frozen=True)
class Walk:
    """A start and the images behind each step so far.

    Args:
        loss: what the words say of an image.
        rate: of all steps.
        images: (1, c, H, W) each, the start first.
    """

    loss: Loss
    rate: Float[Tensor, "1 1 1 1"]
    images: list[HRMS]


def words(scene: Scene, starts: Mapping[str, Image | Method], towers: ClipTowers) -> "Words":
    """A fused image, walked along words in what LRMS does not see of it (`fusion.walk`), beside its start.

    The features of LRMS and PAN are computed once for an area, and steps are kept: moving back costs nothing.

    Args:
        scene: what was fused.
        starts: title to fused image, (1, c, H, W) in [0, 1], or to the method that makes it.
        towers: the CLIP that reads the words, as it is, with a feature for every pixel.
    Raises: ValueError on no starts, on a CLIP whose image tower looks at patches or at a whole image, or a scene of
        fewer than 32 PAN pixels a side; of the control `text` on blank words or more than the CLIP takes.
    """
    return Words(scene, starts, towers)


class Words(AreaExplorer):
    """What `words` returns.

    Controls: `aim` (of `clip.aims`, or words of your own) sets `text`; `start` (titles), `steps`; `row`, `column`,
    `size` (centre and side of the area, PAN px). A click into the scene sets the centre. In the other pictures a drag,
    the wheel, and shift with a drag look closer at the area.
    """

    def __init__(self, scene: Scene, starts: Mapping[str, Image | Method], towers: ClipTowers) -> None:
        """Args: as of `words`."""
        if not starts:
            raise ValueError("no image to start from: give one or more")
        towers.check_pixels()
        self.scene, self.batch, self.starts = scene, scene.read(), dict(starts)
        self.supervisor = Supervisor.as_it_is(towers, scene.sensor, self.batch.lrms, self.batch.pan)
        self.deviation = deviation_of(self.batch.lrms)
        self._stretch = fit_stretch(self.batch.lrms, scene.sensor.rgb)
        self._fused = lru_cache(self._fuse)
        self._guides = lru_cache(1)(self._know)
        self._walk = lru_cache(_KEPT)(self._begin)
        controls = self._controls()
        most = controls["size"].max
        self.pictures = Canvas((most, most), (_BLOCK // 2, most, _BLOCK // 4), share=0.6)
        self.pictures.on_msg(lambda _, content, __: self._answer(self.pictures, content))
        self._looked: Area = (0, 0, 0)
        self.pictures.observe(self._closer, names="wanted")
        super().__init__(controls, [self.pictures])

    def _controls(self) -> dict[str, Dropdown | IntSlider | Text]:
        height, width = self.batch.pan.shape[-2:]
        largest = min(height, width, _LARGEST) // _BLOCK * _BLOCK
        if not largest:
            raise ValueError(f"the scene is {height}×{width} PAN px: give one of {_BLOCK} or more a side")
        aim = "sharper"
        found = {
            "aim": Dropdown(options=[OWN, *AIMS], value=aim, description="aim"),
            "text": Text(
                _FIRST[aim],
                description="words",
                placeholder="what the image shall be; Enter shows it",
            ),
            "start": Dropdown(options=list(self.starts), description="start"),
            "steps": IntSlider(STEPS, 0, MOST, description="steps"),
            **area_sliders((height, width), (min(128, largest), _BLOCK, largest, _BLOCK)),
        }
        for control in found.values():
            control.continuous_update = False  # a step is waited for
        return found

    def _follow(self, name: str) -> None:
        if name == "aim" and self["aim"] != OWN:
            self.controls["text"].value = _FIRST[self["aim"]]
        if name == "text":
            self.controls["aim"].value = _BY_WORDS.get(str(self["text"]), OWN)

    @property
    def area(self) -> Area:
        """Top, left and side of what is seen, PAN px: around the centre, inside the scene, on whole LRMS px."""
        sides = tuple(self.batch.pan.shape[-2:])
        return area_around((self["row"], self["column"]), self["size"], sides, self.scene.ratio)

    @property
    def table(self) -> pd.DataFrame:
        """`evaluation.gates.axes` of the start and of what is shown, one row each; change in per cent."""
        pair = self._pair(self.area)
        told = pair.lrms, pair.pan, self.scene.sensor.gnyq, self.scene.ratio
        found = pd.DataFrame({"start": axes(self.before, *told), "shown": axes(self.after, *told)})
        return found.assign(change=100 * (found.shown / found.start - 1))

    def _fuse(self, title: str) -> HRMS:
        given = self.starts[title]
        image = given if isinstance(given, Tensor) else fuse(given, self.batch)
        wanted = (1, self.batch.lrms.shape[1], *self.batch.pan.shape[-2:])
        if tuple(image.shape) != wanted:
            raise ValueError(f"{title} has shape {tuple(image.shape)}; the scene's is {wanted}")
        return image.float()

    def _pair(self, area: tuple[int, int, int]) -> Batch:
        ratio = self.scene.ratio
        lrms = _cut(self.batch.lrms, *(part // ratio for part in area))
        return Batch(lrms.float(), _cut(self.batch.pan, *area).float(), None, self.batch.index)

    @torch.no_grad()
    def _know(self, area: tuple[int, int, int]):
        pair = self._pair(area)
        return guides(self.supervisor, pair.lrms, pair.pan, dense=True)

    def _begin(self, area: tuple[int, int, int], start: str, text: str) -> Walk:
        loss, image = self._guides(area)(text), _cut(self._fused(start), *area)
        return Walk(loss, rate_of(image, loss, self.deviation, size=SIZE, **self._seen), [image])

    @property
    def _seen(self) -> dict[str, Any]:
        return {"gnyq": self.scene.sensor.gnyq, "ratio": self.scene.ratio}

    def _settle(self) -> None:
        text = self["text"].strip()
        if not text:
            raise ValueError("the words are blank; say what the image shall be")
        found = self._walk(self.area, self["start"], text)
        while len(found.images) <= self["steps"]:
            with self.working(f"step {len(found.images)} of {self['steps']}"):
                step = walk(
                    found.images[-1], found.loss, self.deviation, steps=1, rate=found.rate, **self._seen
                )
            found.images.append(step)
        self.before, self.after = found.images[0], found.images[cast(int, self["steps"])]

    @property
    def _limit(self) -> float:
        """End of the scale of differences: it stays where it is, so that what a slider does is seen."""
        return _END * SIZE * MOST * self.deviation.mean().item() * self.scene.dn_max

    def _numbers(self) -> str:
        names = {"start": self["start"], "shown": f"after {self['steps']} steps", "change": "change (%)"}
        shown = self.table.round({"start": 4, "shown": 4, "change": 1}).rename(columns=names)
        note = "In units of the bands' deviations; axes of evaluation.gates says what each is."
        return scrolled(shown) + note

    def _closer(self, change: Mapping[str, Any]) -> None:
        top, left, size = (round(each) for each in change["new"][1:])
        self._looked = top, left, size
        self.pictures.view = [change["new"][0], *self._looked]

    def _answer(self, canvas: Canvas, content: dict[str, Any]) -> None:
        row, column = int(content["row"]), int(content["column"])
        if content["kind"] == "click":  # into the scene, the only picture that does not follow the view
            self.set(row=row, column=column)
        elif content["kind"] == "hover" and content["frame"]:
            canvas.say(self._said(content["frame"], row, column))

    def _said(self, frame: int, row: int, column: int) -> str:
        top, left, size = self.area
        if not (0 <= row < size and 0 <= column < size):
            return ""
        image = [self.before, self.after, (self.after - self.before).abs()][frame - 1]
        values = " ".join(f"{value:.0f}" for value in image[0, :, row, column] * self.scene.dn_max)
        name = [*self._titles()][frame]
        return f"row {top + row}, column {left + column}: {name} {values} DN"

    def _draw(self) -> None:
        top, left, size = self.area
        if self.pictures.extent != [size, size] or not self._looked[2]:
            self.pictures.extent = [size, size]
            self.pictures.sizes = [_BLOCK // 2, size, _BLOCK // 4]
            self._looked = 0, 0, size
        state = self.area, self["start"], self["text"].strip(), self["steps"]
        keys = [("scene",), state[:2], state, ("difference", *state)]
        scene = 0, 0, max(self.batch.pan.shape[-2:])
        frames = [
            Frame(
                name,
                note,
                {key: partial(self._tile, name)},
                still=None if number else scene,
                box=None if number else self.area,
            )
            for number, ((name, note), key) in enumerate(zip(self._titles().items(), keys, strict=True))
        ]
        self.pictures.bars = [
            bar(self._differences, "absolute difference to the start, mean over bands (DN)")
        ]
        self.pictures.show(frames, self._looked)

    def _titles(self) -> dict[str, str]:
        """Of each picture, and its note."""
        top, left, size = self.area
        mean = (error_map(self.after, self.before) * self.scene.dn_max).mean()
        return {
            self.scene.name: f"rows {top}–{top + size - 1}, columns {left}–{left + size - 1}",
            f"{self['start']}: the start": "",
            f"after {self['steps']} steps": "",
            "difference": f"mean {mean:.3g} DN",
        }

    @property
    def _differences(self) -> ScalarMappable:
        return ScalarMappable(Normalize(0, self._limit), "magma")

    def _picture(self, number: int) -> np.ndarray:
        """The start, what is shown, or the difference of the two, as bytes."""
        if number == 2:
            difference = (error_map(self.after, self.before) * self.scene.dn_max).numpy()
            return self._differences.to_rgba(difference, bytes=True)
        return (self._stretch.apply((self.before, self.after)[number]) * 255).round().astype(np.uint8)

    def _tile(self, name: str) -> Tile:
        number = [*self._titles()].index(name)
        if number:
            return Tile(self._picture(number - 1), (0, 0, self.area[2], self.area[2]))
        height, width = self.batch.pan.shape[-2:]
        shown = self._stretch.apply(self.batch.lrms)
        return Tile((shown * 255).round().astype(np.uint8), (0, 0, height, width))

    def _print(self) -> Figure:
        figure = new_figure(4.6)
        cells = figure.add_gridspec(2, 3, height_ratios=(3.2, 0.12))
        titles = list(self._titles().items())
        for column in range(3):
            title = "\n".join(filter(None, titles[column + 1]))
            Panel(figure.add_subplot(cells[0, column])).show(self._picture(column), title)
        label = "absolute difference to the start,\nmean over bands (DN)"
        place = figure.add_subplot(cells[1, 2])
        figure.colorbar(self._differences, cax=place, orientation="horizontal", extend="max", label=label)
        figure.suptitle(f"“{shorten(self['text'], 80)}”\n{': '.join(titles[0])}", parse_math=False)
        return figure


def _cut(
    image: Float[Tensor, "1 c _ _"], top: int, left: int, size: int
) -> Float[Tensor, "1 c {size} {size}"]:
    return image[..., top : top + size, left : left + size]
