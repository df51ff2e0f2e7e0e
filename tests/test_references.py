"""docs/references.bib and the texts that cite it agree: every key leads to one entry, every entry is cited."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
BIBLIOGRAPHY = ROOT / "docs/references.bib"
KEY = r"[a-z]+(?:19|20)\d\d[a-z]+"
CITATION = re.compile(rf"\[({KEY}(?:, {KEY})*)\]")
YEAR = re.compile(r"(?<![\w.,-])(?:19[5-9]|20[0-2])\d(?![\w%]|,\d|\.\d)")
DOI = re.compile(r"10\.\d{4,}/[!-~]*[^.,;\s]")
NEEDED = {"author", "title", "year"}
WHERE = {"journal", "booktitle", "publisher", "institution", "howpublished"}


def entries(text: str) -> list[tuple[str, dict[str, str]]]:
    """Key and fields of each entry, in the file's order."""
    found = []
    for block in re.split(r"(?m)^@", text)[1:]:
        head = re.match(rf"\w+\{{({KEY}),", block)
        assert head, f"not an entry with a key like wald1997fusion: {block[:60]!r}"
        fields, at = {}, head.end()
        while name := re.compile(r"[\s,]*(\w+)\s*=\s*\{").match(block, at):
            start = at = name.end()
            depth = 1
            while depth:
                depth += {"{": 1, "}": -1}.get(block[at], 0)
                at += 1
            assert name[1] not in fields, f"{head[1]} has two fields {name[1]}"
            fields[name[1]] = " ".join(block[start : at - 1].split())
        assert block[at:].strip() == "}", f"{head[1]}: not understood: {block[at:].strip()[:60]!r}"
        found.append((head[1], fields))
    return found


def cited(text: str) -> set[str]:
    return {key for group in CITATION.findall(text) for key in group.split(", ")}


def docstrings(source: str) -> Iterator[str]:
    """All of a module, those under the fields of a class too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(text := getattr(node.value, "value", None), str):
            yield text


def years_without_source(text: str) -> set[str]:
    """The years that a docstring names though none of the keys that it cites is of that year."""
    known = {re.search(r"\d{4}", key)[0] for key in cited(text)}
    return set(YEAR.findall(CITATION.sub("", text))) - known


MODULES = sorted((ROOT / "clippan_lib").rglob("*.py"))


def texts() -> Iterator[tuple[str, str]]:
    """Everything that may cite: the library, and what stands beside it."""
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    for path in [*MODULES, *pages, *sorted((ROOT / "clippan_lib").rglob("*.md"))]:
        yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        for cell in nbformat.read(path, 4).cells:
            yield str(path.relative_to(ROOT)), cell.source


def known() -> dict[str, dict[str, str]]:
    return dict(entries(BIBLIOGRAPHY.read_text(encoding="utf-8")))


def test_every_key_that_is_cited_is_in_the_bibliography():
    missing = {(name, key) for name, text in texts() for key in cited(text) - known().keys()}
    assert missing == set()


def test_every_entry_of_the_bibliography_is_cited():
    assert known().keys() - set().union(*(cited(text) for _, text in texts())) == set()


def test_no_key_stands_twice_and_the_keys_are_sorted():
    keys = [key for key, _ in entries(BIBLIOGRAPHY.read_text(encoding="utf-8"))]
    assert keys == sorted(set(keys))


@pytest.mark.parametrize("key", known())
def test_an_entry_says_who_wrote_what_when_and_where(key):
    fields = known()[key]
    assert fields.keys() >= NEEDED and all(fields.values())
    assert fields.keys() & WHERE
    assert fields["year"] == re.search(r"\d{4}", key)[0]
    first = re.sub(r"[^a-z]", "", fields["author"].split(",")[0].lower())
    assert key.startswith(first + fields["year"])


@pytest.mark.parametrize("key", known())
def test_an_entry_has_a_doi_of_the_right_form_or_says_why_it_has_none(key):
    fields = known()[key]
    if "doi" in fields:
        assert DOI.fullmatch(fields["doi"])
    else:
        assert "DOI" in fields["note"]


def test_no_doi_stands_twice():
    dois = [fields["doi"].lower() for fields in known().values() if "doi" in fields]
    assert len(dois) == len(set(dois))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_docstring_that_names_a_source_gives_its_key(path):
    without = {
        text.splitlines()[0]: years
        for text in docstrings(path.read_text(encoding="utf-8"))
        if (years := years_without_source(text))
    }
    assert without == {}


def test_citations_and_years_are_told_from_other_numbers_and_brackets():
    assert cited("Vivone 2015 [vivone2015critical], also [aiazzi2003mtf, aiazzi2006mtf].") == {
        "vivone2015critical",
        "aiazzi2003mtf",
        "aiazzi2006mtf",
    }
    assert cited("`names[0]`, [0, 1], [1 4 6 4 1], [2015]") == set()
    assert years_without_source("Wald 2000 [wald2000quality]; Wald 1997.") == {"1997"}
    assert (
        years_without_source("474,352 and 2,000 parameters, DN up to 2047, 1999 [a1999b], v2019.1, 0.2015")
        == set()
    )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("@book{Wald, title = {A}}", "not an entry"),
        ("@book{wald2000a,\n  title = {A},\n  title = {B}\n}", "two fields title"),
        ("@book{wald2000a,\n  title = A\n}", "not understood"),
    ],
)
def test_an_entry_that_cannot_be_read_is_refused(text, why):
    with pytest.raises(AssertionError, match=why):
        entries(text)
