"""Fusion methods, classical and networks: `registry` names them all, `tiled` has them in stages."""

from clippan_lib.fusion.registry import (
    CLASSICAL,
    NETWORKS,
    ClassicalMethod,
    Method,
    build_network,
    find_method,
    get_method,
    is_classical,
    network_for,
    title_of,
)
from clippan_lib.fusion.tiled import StagedMethod, as_staged, staged_method

__all__ = [
    "CLASSICAL",
    "NETWORKS",
    "ClassicalMethod",
    "Method",
    "StagedMethod",
    "as_staged",
    "build_network",
    "find_method",
    "get_method",
    "is_classical",
    "network_for",
    "staged_method",
    "title_of",
]
