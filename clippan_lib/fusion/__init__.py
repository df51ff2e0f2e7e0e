"""Fusion methods, classical and networks: `registry` names them all, `tiled` has them in stages."""

from clippan_lib.fusion.plugins import register
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
from clippan_lib.fusion.stack import STACK
from clippan_lib.fusion.tiled import StagedMethod, as_staged, staged_method, staged_stack

__all__ = [
    "CLASSICAL",
    "NETWORKS",
    "STACK",
    "ClassicalMethod",
    "Method",
    "StagedMethod",
    "as_staged",
    "build_network",
    "find_method",
    "get_method",
    "is_classical",
    "network_for",
    "register",
    "staged_method",
    "staged_stack",
    "title_of",
]
