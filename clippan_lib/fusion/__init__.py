"""Fusion methods, classical and networks: `registry` names them all."""

from clippan_lib.fusion.registry import (
    CLASSICAL,
    NETWORKS,
    ClassicalMethod,
    Method,
    StagedMethod,
    as_staged,
    build_network,
    get_method,
    staged_method,
)

__all__ = [
    "CLASSICAL",
    "NETWORKS",
    "ClassicalMethod",
    "Method",
    "StagedMethod",
    "as_staged",
    "build_network",
    "get_method",
    "staged_method",
]
