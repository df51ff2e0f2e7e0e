"""Whole scenes: a PAN and an MS file as delivered, on one grid, read by windows."""

from clippan_lib.scenes.pair import PairWindow, ScenePair, open_pair

__all__ = ["PairWindow", "ScenePair", "open_pair"]
