"""A typed text is judged as the protocol laboratory judges it, at once, and a text that says nothing is told so."""

import pytest
import torch
from tiny import WHOLE, open_tiny

from clippan_lib.clip.prompts import PROMPTS
from clippan_lib.clip.supervisor import Supervisor
from clippan_lib.errors import MissingStage
from clippan_lib.evaluation import protocol
from clippan_lib.evaluation.protocol import TRUE
from clippan_lib.explore.embedding import BEFORE_AFTER
from clippan_lib.explore.prompts import NO_AIM, YOURS, prompts
from clippan_lib.fusion import get_method

SCENES = {"train": 1, "test": 2, "size": 128}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = open_tiny(tmp_path_factory.mktemp("prompts"), WHOLE, **SCENES)
    run.stage1(run.new_supervisor(), "supervisor")
    return run


@pytest.fixture(scope="module")
def explorer(run):
    return prompts(run)


@pytest.fixture
def counted(monkeypatch):
    """How often images and texts are embedded from here on."""
    counts = dict.fromkeys(("maps", "embed_texts"), 0)
    for name in counts:
        original = getattr(Supervisor, name)

        def count(self, *images, name=name, original=original):
            counts[name] += 1
            return original(self, *images)

        monkeypatch.setattr(Supervisor, name, count)
    return counts


@pytest.mark.parametrize("stage", BEFORE_AFTER)
@pytest.mark.parametrize("text", ["a blurred photograph", "tomato soup"])
def test_a_text_has_the_agreement_and_the_share_of_the_protocol(explorer, run, stage, text):
    explorer.set(stage=stage, text=text)
    before = stage == BEFORE_AFTER[0]
    supervisor = run.new_supervisor(adapted=False) if before else run.adapted_supervisor()
    fuse = get_method("mtf_glp_hpm_r", run.dataset.sensor, run.dataset.ratio)
    fusions = protocol.embed_fusions(supervisor, run.patches("test", "full"), fuse, seed=run.seed, dense=True)
    [given] = protocol.describe({"mine": text}, supervisor.prompts)
    step = protocol.text_steps(supervisor, [given])["mine"][None]
    agreement = protocol.agreement(step, fusions.steps[TRUE])[0]
    row = explorer.table.loc[YOURS]
    assert row["agreement"] == pytest.approx(agreement.mean().item(), abs=1e-6)
    assert row["agreement_low"] == pytest.approx(agreement.quantile(0.05).item(), abs=1e-6)
    assert row["wins"] == pytest.approx(protocol.share_won(step, fusions).item(), abs=1e-6)
    assert f"{agreement.mean():.3f}" in explorer.numbers.value


def test_the_stored_sets_stand_below_the_text_in_their_order(explorer, run):
    assert list(explorer.table.index) == [YOURS, *PROMPTS, NO_AIM]
    labels = [label.get_text() for label in explorer.figure().axes[0].get_yticklabels()]
    assert labels == list(explorer.table.index)


def test_the_dots_and_lines_are_the_numbers(explorer):
    explorer.set(stage=BEFORE_AFTER[1], text="tomato soup")
    for ax, column in zip(explorer.figure().axes, ("agreement", "wins"), strict=True):
        marks = [line for line in ax.lines if len(set(line.get_ydata())) == 1]
        dots = [line.get_xdata()[0] for line in marks if len(line.get_xdata()) == 1]
        spans = [list(line.get_xdata()) for line in marks if len(line.get_xdata()) == 2]
        assert dots == list(explorer.table[column])
        assert spans == explorer.table[[f"{column}_low", f"{column}_high"]].to_numpy().tolist()


def test_the_text_of_a_stored_set_stands_where_that_set_does(explorer, run):
    explorer.set(stage=BEFORE_AFTER[1], text=PROMPTS["khan"].hrms)
    shown = ["agreement", "wins", "lead"]
    assert explorer.table.loc[YOURS, shown].to_numpy() == pytest.approx(
        explorer.table.loc["khan", shown].to_numpy(), abs=1e-9
    )
    explorer.set(text=explorer.base.hrms)
    assert explorer.table.loc[YOURS, "lead"] == pytest.approx(0, abs=1e-9)


def test_a_text_and_a_stage_change_picture_and_numbers(explorer):
    explorer.set(stage=BEFORE_AFTER[1], text="one text")
    seen = {(explorer._plot.widget.value, explorer.numbers.value)}
    explorer.controls["text"].value = "another"
    seen.add((explorer._plot.widget.value, explorer.numbers.value))
    explorer.set(stage=BEFORE_AFTER[0])
    seen.add((explorer._plot.widget.value, explorer.numbers.value))
    pictures, numbers = zip(*seen, strict=True)
    assert len(set(pictures)) == len(set(numbers)) == 3


def test_another_text_embeds_no_image_and_a_text_seen_before_nothing(explorer, counted):
    explorer.set(stage=BEFORE_AFTER[1], text="the first of two texts")
    counted.update(dict.fromkeys(counted, 0))
    explorer.set(text="the second of two texts")
    assert counted == {"maps": 0, "embed_texts": 1}
    explorer.set(text="the first of two texts")
    assert counted["embed_texts"] == 1


def test_a_new_stage_embeds_each_image_once(run, counted):
    prompts(run)
    chunks = -(-len(run.patches("test", "full")) // 16)
    assert counted["maps"] == (1 + 1 + 5) * chunks  # LRMS, PAN, and a true fusion with four spoiled ones


@pytest.mark.parametrize(
    "text, told",
    [
        ("", "text of hrms is blank"),
        ("   ", "text of hrms is blank"),
        ("a multispectral image", "give three different texts"),
        (" a panchromatic image ", "give three different texts"),
    ],
)
def test_a_text_without_a_direction_is_told_above_the_picture_that_stays(explorer, text, told):
    explorer.set(stage=BEFORE_AFTER[1], text="a good text")
    picture, table = explorer._plot.widget.value, explorer.table
    with pytest.raises(ValueError, match=told):
        explorer.controls["text"].value = text
    assert told in explorer.alarm.value and explorer._plot.widget.value == picture and explorer.table is table
    assert "a good text" in explorer.figure().get_suptitle()
    explorer.set(text="another good text")
    assert explorer.alarm.value == ""


def test_signs_of_mathematics_and_html_are_letters(explorer):
    explorer.set(stage=BEFORE_AFTER[1], text="$x^2$ & <b>")
    assert "“$x^2$ & <b>”" in explorer.figure().get_suptitle() and "<b>”" not in explorer.numbers.value


def test_a_stronger_spoiling_is_judged_when_it_is_asked_for(run, explorer):
    stronger = prompts(run, "tomato soup", strength=2.0)
    explorer.set(stage=stronger["stage"], text="tomato soup")
    assert stronger.table["agreement"].equals(explorer.table["agreement"])
    assert not stronger.table["difference"].equals(explorer.table["difference"])


def test_without_stage_one_there_is_the_answer_before_and_a_word_about_the_other(tmp_path):
    explorer = prompts(open_tiny(tmp_path, WHOLE, **SCENES))
    assert explorer["stage"] == BEFORE_AFTER[0] and torch.isfinite(explorer.judge.chance).all()
    with pytest.raises(MissingStage):
        explorer.set(stage=BEFORE_AFTER[1])
    assert "run 02_stage1_adaptation" in explorer.alarm.value
    assert BEFORE_AFTER[0] in explorer.figure().get_suptitle()


def test_a_viewer_without_widgets_gets_a_still_image(explorer):
    bundle = explorer._repr_mimebundle_()
    assert len(bundle["image/png"]) > 1000 and "application/vnd.jupyter.widget-view+json" in bundle
    assert "still image" in bundle["text/plain"]
