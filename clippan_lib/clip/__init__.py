"""CLIP as a supervisor: the frozen towers, the prompts, and what Stage I adapts around them."""

from clippan_lib.clip.model import ClipTowers, load_clip
from clippan_lib.clip.prompts import PROMPTS, PromptSet, get_prompts, shuffled
from clippan_lib.clip.supervisor import Supervisor

__all__ = [
    "PROMPTS",
    "ClipTowers",
    "PromptSet",
    "Supervisor",
    "get_prompts",
    "load_clip",
    "shuffled",
]
