"""Walk a fused image along words, step by step, and see what they change."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from textwrap import shorten
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from ipywidgets import Dropdown, IntSlider, Layout, Text
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
from clippan_lib.explore.base import Explorer, Update, scrolled
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


class Words(Explorer):
    """What `words` returns.

    Controls: `aim` (of `clip.aims`, or words of your own) sets `text`; `start` (titles), `steps`; `row`, `column`,
    `size` (centre and side of the area, PAN px).
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
        super().__init__(self._controls())

    def _controls(self) -> dict[str, Dropdown | IntSlider | Text]:
        height, width = self.batch.pan.shape[-2:]
        largest = min(height, width, _LARGEST) // _BLOCK * _BLOCK
        if not largest:
            raise ValueError(f"the scene is {height}×{width} PAN px: give one of {_BLOCK} or more a side")
        aim = "sharper"
        return {
            "aim": Dropdown(options=[OWN, *AIMS], value=aim, description="aim"),
            "text": Text(
                _FIRST[aim],
                description="words",
                placeholder="what the image shall be; Enter shows it",
                continuous_update=False,
                layout=Layout(width="460px"),
            ),
            "start": Dropdown(options=list(self.starts), description="start"),
            "steps": IntSlider(STEPS, 0, MOST, description="steps", continuous_update=False),
            "row": IntSlider(height // 2, 0, height - 1, description="row (px)", continuous_update=False),
            "column": IntSlider(width // 2, 0, width - 1, description="column (px)", continuous_update=False),
            "size": IntSlider(
                min(128, largest), _BLOCK, largest, _BLOCK, description="size (px)", continuous_update=False
            ),
        }

    def _follow(self, name: str) -> None:
        if name == "aim" and self["aim"] != OWN:
            self.controls["text"].value = _FIRST[self["aim"]]
        if name == "text":
            self.controls["aim"].value = _BY_WORDS.get(str(self["text"]), OWN)

    @property
    def area(self) -> tuple[int, int, int]:
        """Top, left and side of what is seen, PAN px: around the centre, inside the scene, on whole LRMS px."""
        size, ratio = self["size"], self.scene.ratio
        sides = zip((self["row"], self["column"]), self.batch.pan.shape[-2:], strict=True)
        top, left = (min(max(centre - size // 2, 0), side - size) // ratio * ratio for centre, side in sides)
        return top, left, size

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
            step = walk(found.images[-1], found.loss, self.deviation, steps=1, rate=found.rate, **self._seen)
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

    def _build(self) -> tuple[Figure, Update]:
        figure = new_figure(4.6)
        cells = figure.add_gridspec(2, 3, height_ratios=(3.2, 0.12))
        panels = [Panel(figure.add_subplot(cells[0, column])) for column in range(3)]
        scale = ScalarMappable(Normalize(0, self._limit), "magma")
        label = "absolute difference to the start,\nmean over bands (DN)"
        bar = figure.add_subplot(cells[1, 2])
        figure.colorbar(scale, cax=bar, orientation="horizontal", extend="max", label=label)
        heading = figure.suptitle(" \n ", parse_math=False)
        heading.set_animated(True)

        def update() -> None:
            top, left, size = self.area
            difference = error_map(self.after, self.before) * self.scene.dn_max
            where = f"rows {top} to {top + size - 1}, columns {left} to {left + size - 1}"
            heading.set_text(f"“{shorten(self['text'], 80)}”\n{self.scene.name}, {where}")
            for panel, image, title in zip(
                panels,
                (self.before, self.after),
                (f"{self['start']}: the start", f"after {self['steps']} steps"),
                strict=False,
            ):
                panel.show((self._stretch.apply(image) * 255).round().astype(np.uint8), title)
            shown = scale.to_rgba(difference.numpy(), bytes=True)
            panels[2].show(shown, f"difference\nmean {difference.mean():.3g} DN")

        return figure, update


def _cut(
    image: Float[Tensor, "1 c _ _"], top: int, left: int, size: int
) -> Float[Tensor, "1 c {size} {size}"]:
    return image[..., top : top + size, left : left + size]
