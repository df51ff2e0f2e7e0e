"""The API reference: public modules with their functions, readable without a network, linked with the course."""

import re
from importlib import import_module

import pytest
from write_reference import PUBLIC, write_reference


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_module_says_in_a_sentence_what_it_is(name):
    assert import_module(f"clippan_lib.{name}").__doc__.split("\n")[0].endswith(".")


def test_the_pages_show_what_is_imported_on_demand_and_need_no_network(tmp_path):
    pytest.importorskip("pdoc", reason="the extra `docs` has pdoc, which makes the API reference")
    [link] = write_reference(tmp_path / "api", ["data"])
    page = (tmp_path / link.href).read_text()
    assert link.text == "clippan_lib.data" and 'id="open_dataset"' in page
    assert "<strong>Returns:</strong>" in page and "jaxtyping" in page
    assert 'href="../../index.html">The course' in page
    assert not re.findall(r'(?:src|<link[^>]* href)="?(?:https?:)?//', page)
