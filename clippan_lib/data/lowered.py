"""A source one scale down: its scenes of reduced resolution are taken for measured ones, and degraded once more."""

from functools import cache
from typing import Any

from clippan_lib.data.pair.sources import States
from clippan_lib.data.reader import Key, Reader
from clippan_lib.data.stacks import RESOLUTIONS, Resolution, SceneStack


class LoweredReader(Reader):
    """See `Dataset.lowered`.

    Args:
        reader: a reader of any kind of source; splits without reduced resolution are left out.
        judged: whether the training scenes are the test scenes.
    """

    def __init__(self, reader: Reader, judged: bool) -> None:
        super().__init__(reader.manifest, reader.root)
        self.reader, self.judged = reader, judged
        self.sensor, self.max_value, self.sharp_truth = reader.sensor, reader.max_value, reader.sharp_truth
        self._below = cache(lambda split: reader.stack(split, "reduced"))

    def again(self, **changed: Any) -> Reader:
        return type(self)(self.reader.again(**changed), self.judged)

    def through(self, gnyq: tuple[float, ...]) -> Reader:
        return LoweredReader(self.reader.through(gnyq), self.judged)

    def sharpened(self) -> Reader:
        return LoweredReader(self.reader.sharpened(), self.judged)

    @property
    def available(self) -> tuple[Key, ...]:
        there = [split for split, resolution in self.reader.available if resolution == "reduced"]
        if self.judged:
            there = ["train", *(split for split in there if split != "train")] if "test" in there else []
        found = [(split, resolution) for split in there for resolution in RESOLUTIONS]
        return tuple(key for key in found if not self.absence(*key))

    def absence(self, split: str, resolution: str) -> str:
        if self.judged and (split, resolution) == ("test", "reduced"):
            return (
                " (patches_from='judged': the pseudo-supervisor has been trained with that very truth, so nothing may "
                "be judged by it)"
            )
        return ""

    def stack(self, split: str, resolution: Resolution) -> SceneStack:
        # the truth is the judge's: what is not there cannot reach a training
        below = self._below("test" if self.judged and split == "train" else split)
        lowered = below.as_full(truth=split != "train")
        return lowered if resolution == "full" else lowered.degraded(self.sharp_truth)

    def state(self) -> States:
        return self.reader.state()
