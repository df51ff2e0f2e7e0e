"""What all tests share."""

from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

SHARED = Path(__file__).resolve().parents[2] / "shared"
GPUS = [pytest.param("cuda", marks=pytest.mark.gpu)] if torch.cuda.is_available() else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The file that takes as long as all others together comes first, so that two workers end together."""
    items.sort(key=lambda item: item.path.name != "test_notebooks.py")


@pytest.fixture(params=["cpu", *GPUS])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where a test computes: on the CPU, and on the GPU too if torch sees one; there in float32, not in TF32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    return request.param


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference outputs and real scenes, which is not part of the repository."""
    if not SHARED.is_dir():
        pytest.skip(
            "the folder ../shared (reference outputs, real scenes) is absent: its licences differ from ours"
        )
    return SHARED
