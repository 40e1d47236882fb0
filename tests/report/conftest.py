import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("narrows_report_record", Path(__file__).with_name("record.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_record() -> Callable[..., dict[str, Any]]:
    return _load().make_record


@pytest.fixture(scope="session")
def variants() -> dict[str, dict[str, Any]]:
    return _load().make_variants()


@pytest.fixture(scope="session")
def make_measurement() -> Callable[..., dict[str, Any]]:
    return _load().make_measurement
