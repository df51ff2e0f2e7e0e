"""The examples in the docstrings of what a user calls first are true."""

import doctest
import sys
from pathlib import Path

import pytest

from clippan_lib.data import Dataset, load_manifest, open_dataset
from clippan_lib.data.stacks import wald
from clippan_lib.fusion import build_network, get_method
from clippan_lib.metrics.reference import mpsnr, q2n, sam
from clippan_lib.mtf import degrade, upsample
from clippan_lib.sensors import get_sensor

FIRST = [get_sensor, load_manifest, open_dataset, Dataset.scenes, wald, degrade, upsample]
FIRST += [get_method, build_network, mpsnr, sam, q2n]


def failures(function) -> tuple[int, str]:
    """How many examples a docstring has, and what is wrong with them."""
    [test] = doctest.DocTestFinder(recurse=False).find(
        function, globs=dict(vars(sys.modules[function.__module__]))
    )
    said: list[str] = []
    runner = doctest.DocTestRunner()
    runner.run(test, out=said.append)
    return len(test.examples), "".join(said)


@pytest.mark.parametrize("function", FIRST, ids=lambda function: function.__qualname__)
def test_the_example_of_a_docstring_gives_what_it_says(function, monkeypatch):
    monkeypatch.chdir(Path(__file__).resolve().parents[1])  # where the manifests are
    count, wrong = failures(function)
    assert count and not wrong, wrong


def test_a_wrong_example_is_found():
    def planted():
        """
        >>> get_sensor("WV3").n_bands
        4
        """

    assert "Expected:\n    4\nGot:\n    8" in failures(planted)[1]
