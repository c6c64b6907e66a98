from pathlib import Path

import pytest

from tests.nvml.build import build


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built(tmp_path_factory, old_driver=False)


@pytest.fixture(scope="session")
def old_nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _built(tmp_path_factory, old_driver=True)


def _built(tmp_path_factory: pytest.TempPathFactory, *, old_driver: bool) -> Path:
    try:
        return build(tmp_path_factory.mktemp("nvml"), old_driver=old_driver)
    except FileNotFoundError as error:
        pytest.skip(str(error))
