"""Methods of the user's own: entered, trained and judged as those of the library, and refused before anything runs."""

import re
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from rasters import grid, noise, save
from tiny import tiny_manifest

from clippan_lib import cli
from clippan_lib.errors import Refusal
from clippan_lib.evaluation.scores import classical_methods, evaluate, fuse, summary
from clippan_lib.fusion import (
    CLASSICAL,
    NETWORKS,
    build_network,
    get_method,
    plugins,
    register,
    staged_method,
)
from clippan_lib.fusion.plugins import load_installed, load_plugin, try_out
from clippan_lib.fusion.trained import TrainedNetwork
from clippan_lib.runs.folder import RunFolder
from clippan_lib.runs.plan import plan_run
from clippan_lib.runs.run import open_run
from clippan_lib.runs.runner import _keys
from clippan_lib.sensors import get_sensor
from clippan_lib.training.config import RunConfig, make_config

PAGE = Path(__file__).resolve().parents[1] / "docs" / "own_method.md"
FUNCTION, NETWORK = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
QB = get_sensor("QB")
PAIR = torch.rand(1, 4, 6, 8), torch.rand(1, 1, 24, 32)
HEAD = "import torch\nfrom torch import nn\nfrom clippan_lib.fusion import register\n"


@pytest.fixture(autouse=True)
def nothing_stays():
    yield
    plugins.forget(*plugins._OWN)


@pytest.fixture
def plugin(tmp_path):
    """The page's two examples in one file."""
    (tmp_path / "mine.py").write_text(FUNCTION + NETWORK)
    (tmp_path / "tiny.yaml").write_text(tiny_manifest())
    return tmp_path / "mine.py"


def plan(plugin: Path, **options):
    known = {"preset": "smoke", "device": "cpu", "runs": plugin.parent / "runs"}
    return plan_run(plugin.parent / "tiny.yaml", plugin=plugin, **known | options)


def written(folder: Path, text: str) -> Path:
    (folder / "mine.py").write_text(HEAD + text)
    return folder / "mine.py"


def test_the_examples_are_short_and_enter_the_registry(plugin):
    assert max(text.count("\n") for text in (FUNCTION, NETWORK)) <= 30
    assert load_plugin(plugin) == ("ratio_of_means", "two_layers")
    fused = get_method("ratio_of_means", QB, 4)(*PAIR)
    assert fused.shape == (1, 4, 24, 32)
    network = build_network("two_layers", 4, 4)
    assert network(*PAIR).shape == (1, 4, 24, 32) and isinstance(network, NETWORKS["two_layers"])


def test_a_plan_compares_own_networks_and_notes_the_file_and_its_code(plugin):
    plain = plan(plugin, network="two_layers")
    assert plain.config.plugin == str(plugin) and plain.config.network == plain.config.pseudo == "two_layers"
    assert plain.config.compared == [*make_config("smoke").compared, "two_layers"]
    assert plain.settings.record["own"].keys() == {"ratio_of_means", "two_layers"}
    given = plain.parameters["06_methods_compared"]["overrides"]
    assert given["plugin"] == str(plugin) and given["compared"] == plain.config.compared
    assert plan(plugin, changes={"compared": ["pnn"]}).config.compared == ["pnn"]


def test_a_changed_file_is_a_changed_setting_and_only_its_own_networks_train_again(plugin):
    before = {name: plan(plugin, network=name) for name in ("pnn", "two_layers")}
    keys = {name: found.settings.record["keys"] for name, found in before.items()}
    RunFolder(before["pnn"].folder).write_settings(before["pnn"].settings)
    written_before = _keys(before["pnn"])
    plugin.write_text(FUNCTION + NETWORK + "\n# another\n")
    after = {name: plan(plugin, network=name) for name in before}
    assert after["pnn"].folder == before["pnn"].folder and _keys(after["pnn"]) != written_before
    with pytest.raises(Refusal, match="the code of ratio_of_means, two_layers has changed since"):
        RunFolder(before["pnn"].folder).claim(after["pnn"].settings)
    same = {name: after[name].settings.record["keys"] == keys[name] for name in after}
    assert same == {"pnn": True, "two_layers": False}
    changed = after["two_layers"].settings.record["keys"]
    assert changed["stage1"] == keys["two_layers"]["stage1"]


def test_own_methods_train_and_stand_in_the_table_and_the_maps(plugin):
    overrides = {
        "plugin": str(plugin),
        "network": "two_layers",
        "pseudo_iterations": 2,
        "stage2_iterations": 2,
    }
    run = open_run(plugin.parent / "tiny.yaml", "", plugin.parent / "run", "smoke", 0, "cpu", overrides)
    [trained] = run.stage2({"two_layers": None}, run.pseudo_supervisor(), "reduced", n_seeds=1)["two_layers"]
    assert len(trained.history.frame()) == 2
    classical = classical_methods(run.dataset, ["exp", *[name for name in CLASSICAL if name in plugins._OWN]])
    scenes = run.dataset.scenes("test", "reduced")
    table, _ = summary(evaluate(classical | {"two_layers, reduced": trained.network}, scenes, run.device))
    assert [*table.index] == ["EXP", "ratio_of_means", "two_layers, reduced"]
    assert table["MPSNR"].notna().all() and table.loc["ratio_of_means", "MPSNR"] > table.loc["EXP", "MPSNR"]
    file = run.layout.network("reduced", "two_layers", 0)
    kept = TrainedNetwork.load(file)
    batch = scenes[0].read()
    assert torch.allclose(fuse(kept.network, batch), fuse(trained.network, batch), atol=1e-5)


def test_a_record_of_a_run_never_runs_what_it_names(plugin):
    made = plan(plugin, network="two_layers")
    RunFolder(made.folder).write_settings(made.settings)
    plugins.forget(*plugins._OWN)
    plugin.write_text("raise SystemExit('ran')")
    with pytest.raises(
        Refusal, match=r"fits no configuration .*\(network.* first load_plugin\('.*mine.py'\)"
    ):
        _ = RunFolder(made.folder).config
    assert RunConfig(plugin=str(plugin)).plugin == str(plugin)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1 / 0", r"mine.py, line 4: ZeroDivisionError: division by zero"),
        ("def f(:", "SyntaxError"),
        ("raise SystemExit(3)", "line 4: SystemExit: 3"),
        ("x = 1", "registers no method: put @register"),
        ("@register('gsa')\ndef f(lrms, pan): ...", "'gsa': the name is taken; choose another"),
        ("@register('Bt-h')\ndef f(lrms, pan): ...", "'Bt-h': a name is of letters"),
        ("@register('exp')\nclass F(nn.Module): ...", "'exp': the name is taken"),
        ("@register('Tv')\ndef f(lrms, pan): ...", "'Tv': the name is taken"),
        ("@register('stack')\ndef f(lrms, pan): ...", "'stack': the name is taken"),
        ("for _ in 'ab': register('a')(min)", "'a': the name is taken, by .*mine.py"),
        ("@register('a')\nclass A: ...", "'a': class A is no torch.nn.Module"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_and_leaves_nothing(tmp_path, text, message):
    with pytest.raises(Refusal, match=message):
        load_plugin(
            written(tmp_path, "@register('first')\ndef first(lrms, pan): ...\n" * ("a'" in text) + text)
        )
    assert not plugins._OWN and {"first", "a"}.isdisjoint([*NETWORKS, *CLASSICAL])


@pytest.mark.parametrize("name", ["none.py", "folder", "text.txt"])
def test_a_file_that_is_not_there_is_refused(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "text.txt").write_text(FUNCTION)
    with pytest.raises(Refusal, match=f"{name}: no such file of Python"):
        load_plugin(tmp_path / name)


BAD = {
    "return lrms": r"own method 'a' returned shape \(1, 4, 16, 16\); give \(1, 4, 64, 64\)",
    "return pan.repeat(1, 4, 1, 1).double()": "own method 'a' returned torch.float64; give torch.float32, as lrms has",
    "return pan.repeat(1, 4, 1, 1) / 0": r"own method 'a' returned \d+ values that are NaN or infinite",
    "return pan.numpy()": "own method 'a' returned a ndarray; give a tensor",
    "return lrms.nothing": "own method 'a': AttributeError: 'Tensor' object has no attribute 'nothing'",
}


@pytest.mark.parametrize("body", BAD)
def test_a_function_that_gives_no_image_is_named_before_anything_runs(plugin, body):
    written(plugin.parent, f"@register('a')\ndef a(lrms, pan):\n    {body}\n")
    with pytest.raises(Refusal, match=rf"mine.py: {BAD[body]} \(tried with 4 bands, ratio 4"):
        plan(plugin)
    assert not (plugin.parent / "runs").exists()


def test_a_function_is_checked_at_each_call_and_cannot_change_the_others_images():
    @register("moody")
    def moody(lrms, pan):
        pan -= 1
        return pan.repeat(1, 4, 1, 1) if lrms.mean() < 0.9 else lrms

    before = PAIR[1].clone()
    method = get_method("moody", QB, 4)
    assert method(*PAIR).max() <= 0 and torch.equal(PAIR[1], before)
    with pytest.raises(ValueError, match=r"own method 'moody' returned shape \(1, 4, 6, 8\)"):
        method(torch.ones(1, 4, 6, 8), PAIR[1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def __init__(self): super().__init__()", "TypeError: .*__init__"),
        ("def __init__(self, bands, ratio): raise KeyError(bands)", "own method 'a': KeyError: 4"),
        (
            "def __init__(self, bands, ratio): super().__init__()\n    def forward(self, lrms, pan): return pan",
            r"own method 'a' returned shape \(1, 1, 64, 64\)",
        ),
        ("def __init__(self, bands, ratio): super().__init__()", "NotImplementedError"),
    ],
)
def test_a_network_that_cannot_be_built_or_called_is_named_before_anything_runs(plugin, text, message):
    written(plugin.parent, f"@register('a')\nclass A(nn.Module):\n    {text}\n")
    with pytest.raises(Refusal, match=message):
        plan(plugin)


def test_a_file_is_run_once_and_again_when_it_has_changed(tmp_path):
    count = "from pathlib import Path\nwith open(Path(__file__).with_suffix('.log'), 'a') as log: log.write('x')\n"
    for name in ("a", "a", "b"):
        assert load_plugin(written(tmp_path, f"{count}@register('{name}')\ndef f(lrms, pan): ...")) == (name,)
    assert (tmp_path / "mine.log").read_text() == "xx"
    assert "b" in CLASSICAL and "a" not in CLASSICAL


def test_methods_of_installed_packages_need_no_option_and_a_broken_one_is_left_out(monkeypatch):
    group = plugins.GROUP
    points = [
        EntryPoint("nothing", "torch.nn:nothing", group),
        EntryPoint("installed", "torch.nn:Bilinear", group),
    ]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points)
    load_installed.cache_clear()
    with pytest.warns(UserWarning, match="method 'nothing' of torch.nn:nothing is left out"):
        load_installed()
    assert NETWORKS["installed"] is torch.nn.Bilinear and "nothing" not in NETWORKS
    load_installed.cache_clear()


def test_an_own_function_sharpens_a_scene_in_the_units_of_its_sensor(plugin, tmp_path, capsys):
    ms, pan = noise(4, 40, 40), noise(1, 160, 160, seed=1)
    files = save(tmp_path / "ms.tif", ms, grid(4)), save(tmp_path / "pan.tif", pan, grid())
    typed = ["sharpen", "--ms", str(files[0]), "--pan", str(files[1]), "--out", str(tmp_path / "out.tif")]
    typed += ["--shift=0,0", "--method", "ratio_of_means"]
    assert cli.main(typed) == 2
    assert "no such file or folder, and no classical method" in capsys.readouterr().err
    typed += ["--plugin", str(plugin)]
    assert cli.main(typed) == 2
    assert "ratio_of_means takes images in [0, 1]: give the sensor" in capsys.readouterr().err
    assert cli.main([*typed, "--sensor", "QB"]) == 0
    with rasterio.open(tmp_path / "out.tif") as file:
        assert file.read().shape == (4, 160, 160) and 20 < np.median(file.read()) < 100


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--scheduler", "tcp://host:1"], "--plugin and --scheduler"),
        (["--adapt"], "--plugin and --adapt"),
        (["--plugin", "none.py"], "plugin none.py: no such file"),
    ],
)
def test_what_a_plugin_cannot_go_with_is_refused_by_the_command(plugin, capsys, more, message):
    typed = ["sharpen", "--ms", "m", "--pan", "p", "--out", "o.tif", "--plugin", str(plugin), *more]
    assert cli.main(typed) == 2
    assert message in capsys.readouterr().err


def test_tiles_of_an_own_function_overlap_by_what_it_says(plugin):
    load_plugin(plugin)
    assert staged_method("ratio_of_means", QB, 4).reach is None
    CLASSICAL["ratio_of_means"].fuse.function.reach = 2
    assert staged_method("ratio_of_means", QB, 4).reach == 2


def test_a_plugin_among_the_parameters_is_sent_to_its_option(plugin):
    with pytest.raises(Refusal, match="plugin cannot be set among the parameters: set it by --plugin"):
        plan(plugin, changes={"plugin": "x.py"})


def test_trying_out_leaves_torchs_generator_alone(plugin):
    state = torch.get_rng_state()
    try_out(load_plugin(plugin), 4, 4, 16)
    assert torch.equal(torch.get_rng_state(), state)
