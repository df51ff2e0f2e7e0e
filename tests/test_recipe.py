"""docs/recipe.md is what its script writes, and its sentences follow the numbers."""

import json
import shutil
from pathlib import Path

import write_recipe

DOCS = Path(write_recipe.__file__).resolve().parent


def test_the_committed_page_is_the_one_that_the_script_writes():
    assert write_recipe.main(["--check"]) == 0


def test_other_numbers_make_other_sentences(tmp_path, capsys):
    shutil.copytree(DOCS / "recipe", tmp_path / "recipe")
    assert write_recipe.main(["--check"], tmp_path) == 1
    assert write_recipe.main([], tmp_path) == 0
    page = (tmp_path / "recipe.md").read_text()
    assert page == (DOCS / "recipe.md").read_text()
    file = tmp_path / "recipe" / "one_scale_down.json"
    rows = json.loads(file.read_text())
    for row in rows:
        row["MPSNR"] -= 10 * (row["method"] == "stack" and row["scene"] == "imgIK")
    file.write_text(json.dumps(rows))
    trained = tmp_path / "recipe" / "one_scale_down_trained.json"
    rows = json.loads(trained.read_text())
    for row in rows:
        row["MPSNR"] -= 10 * (row["variant"] == "language" and row["scene"] == "imgIK")
    trained.write_text(json.dumps(rows))
    assert write_recipe.main(["--check"], tmp_path) == 1
    write_recipe.main([], tmp_path)
    changed = (tmp_path / "recipe.md").read_text()
    assert "above the best classical method on 5 of 5 scenes" in page
    assert "delivered Stage II is above the best classical method on 5 of 5" in page
    assert "delivered Stage II is above the best classical method on 4 of 5" in changed
    assert "None of them moves a scene" in page and "None of them moves a scene" not in changed
    assert (
        "above the best classical method on 4 of 5 scenes" in changed and "it is below on imgIK." in changed
    )
