"""Whole scenes: a PAN and an MS file as delivered, on one grid, read by windows."""

from clippan_lib.data.pair.inputs import located
from clippan_lib.data.pair.scene import PairWindow, ScenePair, open_pair

__all__ = ["PairWindow", "ScenePair", "located", "open_pair"]
