"""docs/supervisor.md says what was measured."""

import importlib.util
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]


def script():
    spec = importlib.util.spec_from_file_location("write_supervisor", ROOT / "docs" / "write_supervisor.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_says_what_was_measured(capsys):
    assert script().main(["--check"]) == 0, capsys.readouterr().err


def test_differences_are_paired_by_scene_and_seed():
    rows = [
        {"scene": scene, "truth": "delivered", "variant": variant, "seed": seed, "MPSNR": value}
        for scene, level in (("a", 30.0), ("b", 40.0))
        for seed in (0, 1, 2)
        for variant, value in (
            ("without language", level + seed),
            ("language", level + seed + 0.1 + 0.001 * seed),
            ("random CLIP", level + seed + 0.01 * seed),
            ("shuffled prompts", level + seed - 0.2 + 0.001 * seed),
        )
    ]
    table, says = script().on_stage2(pd.DataFrame(rows))
    assert table.loc["a", "language"].startswith("+0.1010 ±") and table.loc[
        "b", "shuffled prompts"
    ].startswith("-0.1990 ±")
    assert "on 2 of 2 scenes (a, b)" in says
