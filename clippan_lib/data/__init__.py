"""Data: a manifest becomes a dataset, its scenes and its patches.

Names are looked up when they are asked for: two files as delivered (`data.pair`) need neither HDF5 nor manifests, whose
import takes as long as that of all the rest.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clippan_lib.data.manifest import Manifest, load_manifest
    from clippan_lib.data.patches import Dataset, PatchSet, open_dataset
    from clippan_lib.data.stacks import Batch, Scene, wald

__all__ = [
    "Batch",
    "Dataset",
    "Manifest",
    "PatchSet",
    "Scene",
    "load_manifest",
    "open_dataset",
    "wald",
]
_WHERE = {
    "Manifest": "manifest",
    "load_manifest": "manifest",
    "Batch": "stacks",
    "Scene": "stacks",
    "wald": "stacks",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE.get(name, 'patches')}"), name)
