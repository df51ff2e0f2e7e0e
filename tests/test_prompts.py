"""Prompt sets: the paper's wording, the user's own, and the shuffled control."""

import re
from pathlib import Path

import pytest

from clippan_lib.clip.prompts import PROMPTS, PromptSet, get_prompts, shuffled

OWN = {"lrms": "coarse", "pan": "grey", "hrms": "fine"}


def test_the_known_sets_are_the_papers_the_releases_and_our_khan():
    assert list(PROMPTS) == ["wald", "khan", "i", "ii", "noise", "release_i", "release_ii"]
    assert all(PROMPTS[name].name == name for name in PROMPTS)


@pytest.mark.parametrize("name", ["wald", "i", "ii", "noise"])
def test_the_papers_texts_stand_in_the_paper_word_by_word(name: str, shared: Path):
    paper = re.sub(r"\s+", " ", (shared / "paper" / "clippan.md").read_text().replace("’", "'"))
    assert all(text in paper for text in PROMPTS[name].texts)


@pytest.mark.parametrize("name", ["khan", "i", "ii", "noise"])
def test_the_variants_of_table_5_change_only_the_text_of_hrms(name: str):
    wald, variant = PROMPTS["wald"], PROMPTS[name]
    assert (variant.lrms, variant.pan) == (wald.lrms, wald.pan)
    assert variant.hrms != wald.hrms


def test_the_wording_after_khan_is_marked_as_ours():
    assert PROMPTS["khan"].source == "ours, after Khan's consistency protocol"


def test_texts_come_in_the_order_lrms_pan_hrms():
    assert get_prompts(OWN).texts == ("coarse", "grey", "fine")


def test_own_texts_need_no_name_and_no_source_but_keep_them_if_given():
    assert (get_prompts(OWN).name, get_prompts(OWN).source) == ("custom", "given by the user")
    named = get_prompts({**OWN, "name": "mine", "source": "me"})
    assert (named.name, named.source) == ("mine", "me")


def test_a_finished_set_is_returned_as_it_is():
    assert get_prompts(PROMPTS["ii"]) is PROMPTS["ii"]
    assert get_prompts("ii") is PROMPTS["ii"]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'wahl'.*wald, khan"):
        get_prompts("wahl")


def test_a_missing_or_unknown_key_is_named():
    with pytest.raises(ValueError, match=r"missing: \['hrms'\], unknown: \['ms'\]"):
        get_prompts({"lrms": "a", "pan": "b", "ms": "c"})


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_text_is_refused_by_its_type(blank: str):
    with pytest.raises(ValueError, match="text of pan is blank"):
        get_prompts({**OWN, "pan": blank})


def test_two_equal_texts_are_refused_since_no_direction_leads_from_one_to_the_other():
    with pytest.raises(ValueError, match="three different texts"):
        PromptSet("twice", "a", "b", "a", "test")


@pytest.mark.parametrize("seed", range(4))
def test_shuffling_moves_every_text_and_loses_none(seed: int):
    wald = PROMPTS["wald"]
    moved = shuffled(wald, seed)
    assert sorted(moved.texts) == sorted(wald.texts)
    assert all(new != old for new, old in zip(moved.texts, wald.texts, strict=True))
    assert "control" in moved.source
    assert moved.name != wald.name


def test_even_and_odd_seeds_take_the_two_derangements():
    own = get_prompts(OWN)
    assert shuffled(own, 0).texts == ("grey", "fine", "coarse")
    assert shuffled(own, 1).texts == ("fine", "coarse", "grey")
    assert shuffled(own, 2) == shuffled(own, 0)
    assert shuffled(own, 0).name != shuffled(own, 1).name
