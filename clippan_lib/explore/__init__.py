"""Explorers for JupyterLab: controls over this package's figures; a still image where nobody can move them."""

from clippan_lib.explore.compare import compare
from clippan_lib.explore.degrade import degrade
from clippan_lib.explore.embedding import embedding
from clippan_lib.explore.history import history
from clippan_lib.explore.prompts import prompts
from clippan_lib.explore.words import words

__all__ = ["compare", "degrade", "embedding", "history", "prompts", "words"]
