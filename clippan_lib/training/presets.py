"""The three presets: what differs from the defaults of `RunConfig`, by field."""

from typing import Any

_DEMO = {
    "clip_model": "embedded",
    "clip_weights": None,
    "adapters": "shared",
    "image_residual": 0.5,
    "tau_intra": 0.1,
    "w_fusion": 0.05,
    "stride_reduced": 4,
    "pseudo": "pnn",
    "compared": ["pnn", "fusionnet"],
    "stage1_iterations": 40,
    "stage1_batch": 8,
    "gains": "measured",
    "truth": "sharp",
    "consistency": 2,
    "consistent_with": "both",
    "spec_degradation": "mtf",
    "spat_pan": "truth",
    "pseudo_iterations": 60,
    "pseudo_batch": 8,
    "pseudo_lr": 1e-3,
    "stage2_iterations": 30,
    "stage2_batch": 8,
    "stage2_lr": 1e-3,
    "schedule": "cosine",
    "clip_norm": 1.0,
    "warm_start": True,
    "w_spat": 1.0,
    "w_pseudo": 0.1,
    "w_qnr": 0.0,
    "guidance": "dense",
    "w_language": 0.001,
    "gate_scenes": 8,
    "n_seeds": 3,
    "checkpoint_every": 20,
}
_SMOKE = _DEMO | {
    "compared": ["pnn"],
    "stage1_iterations": 3,
    "stage1_batch": 4,
    "pseudo_iterations": 4,
    "pseudo_batch": 2,
    "stage2_iterations": 3,
    "stage2_batch": 2,
    "gate_scenes": 0,
    "most_scenes": 1,
    "most_patches": 16,
    "n_seeds": 1,
    "checkpoint_every": 1,
}

# paper: the paper's numbers, with the release's where it is silent. demo: what worked in minutes on a CPU
# with a small CLIP. smoke: demo, shortened to seconds; its results mean nothing.
PRESETS: dict[str, dict[str, Any]] = {"smoke": _SMOKE, "demo": _DEMO, "paper": {}}
