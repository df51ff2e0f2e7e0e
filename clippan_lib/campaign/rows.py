"""The rows of the paper's five tables."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TITLES = {
    1: "Networks without and with CLIPPan",
    2: "Losses of Stage II",
    3: "Losses of Stage I",
    4: "Stems: how CLIP sees the bands",
    5: "Texts that describe the HRMS image",
}
# The classical methods of the paper's Table 1
COMPARED = ("sr_d", "mtf_glp_hpm_r")
WITHOUT = "without language"


@dataclass(frozen=True)
class Row:
    """A row of a table: how a network is trained.

    Args:
        label: as the table prints it.
        changes: fields of `RunConfig`; the clip_weights "random" stand for random ones of the run's seed.
        language: with the language term or without.
        shuffle: with the texts of Stage I given to the wrong image types, a control.
        baseline: label of the row it is compared with, seed by seed.
    """

    label: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    language: bool = True
    shuffle: bool = False
    baseline: str = ""


_CONTROLS = (
    Row(WITHOUT, language=False),
    Row("random CLIP", {"clip_weights": "random"}, baseline=WITHOUT),
    Row("shuffled prompts", shuffle=True, baseline=WITHOUT),
)
# a learned context would change the texts before any training
_UNTUNED = {"adapters": "shared", "stage1_iterations": 0, "image_residual": 0.0, "text_residual": 0.0}
ROWS = {
    2: (
        Row("L_spec + L_spat", {"w_qnr": 0.0, "w_pseudo": 0.0}, language=False),
        Row("L_QNR", {"w_spec": 0.0, "w_spat": 0.0, "w_pseudo": 0.0}, language=False),
        Row("L_unsup", {"w_pseudo": 0.0}, language=False),
        Row("L_unsup + L_ship", language=False),
        Row("L_unsup + L_d", {"w_pseudo": 0.0}, baseline="L_unsup"),
        Row("L_unsup + L_ship + L_d", baseline="L_unsup + L_ship"),
        Row("random CLIP", {"clip_weights": "random"}, baseline="L_unsup + L_ship"),
        Row("shuffled prompts", shuffle=True, baseline="L_unsup + L_ship"),
    ),
    3: (
        *_CONTROLS,
        Row("w/o fine-tuning", _UNTUNED, baseline=WITHOUT),
        Row("L_intra", {"w_inter": 0.0, "w_fusion": 0.0}, baseline=WITHOUT),
        Row("L_intra + L_inter", {"w_fusion": 0.0}, baseline=WITHOUT),
        Row("L_intra + L_inter + L_1", baseline=WITHOUT),
        # not in the paper's table: it cites both as other ways to adapt a CLIP
        Row("ours: LoRA in place of CA", {"adapters": "lora"}, baseline=WITHOUT),
        Row("ours: learned prompts in place of CA", {"adapters": "prompts"}, baseline=WITHOUT),
    ),
    4: (
        *_CONTROLS,
        *(Row(label, {"stem": label.lower()}, baseline=WITHOUT) for label in ("PCA", "RGB", "GBNIR", "Conv")),
    ),
    5: (
        *_CONTROLS,
        *(
            Row(label, {"prompts": prompts}, baseline=WITHOUT)
            for label, prompts in {
                "Noise": "noise",
                "I": "i",
                "II": "ii",
                "Khan's": "khan",
                "Wald's": "wald",
            }.items()
        ),
    ),
}
