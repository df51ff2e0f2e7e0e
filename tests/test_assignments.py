"""The options -p: text becomes typed values, once and nowhere else."""

import pytest

from clippan_lib.commands.assignments import parse_assignments
from clippan_lib.errors import Refusal


def test_values_are_read_as_yaml_and_numbers_may_have_an_exponent_without_a_dot():
    texts = ["a=3", "b=1e-4", "c=true", "d=null", "e=wald", "f=[1, x]", "g={lrms: a, pan: b}", "h='3'"]
    found = parse_assignments(texts)
    assert found == {
        "a": 3,
        "b": 1e-4,
        "c": True,
        "d": None,
        "e": "wald",
        "f": [1, "x"],
        "g": {"lrms": "a", "pan": "b"},
        "h": "3",
    }
    assert [type(found[name]) for name in "abh"] == [int, float, str]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["seed"], "-p 'seed' is not of the form name=value"),
        (["two words=1"], "-p 'two words=1' is not of the form name=value"),
        (["prompts={a"], "-p 'prompts={a': the value is not valid YAML; put quotes around text"),
        (["w_qnr=1", "w_qnr=2"], "-p w_qnr is given twice"),
    ],
)
def test_a_text_of_another_form_is_refused(texts, message):
    with pytest.raises(Refusal, match=message):
        parse_assignments(texts)
