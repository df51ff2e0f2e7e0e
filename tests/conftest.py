"""What all tests share."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes as long as all others together comes first, so that two workers end together."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference outputs and real scenes, which is not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(
            "the folder ../shared (reference outputs, real scenes) is absent: its licences differ from ours"
        )
    return SHARED
