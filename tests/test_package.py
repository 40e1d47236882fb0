import os
import subprocess
import sys

import pytest

import narrows


def python(code: str, **environment: str) -> str:
    command = [sys.executable, "-c", code]
    clean = {key: value for key, value in os.environ.items() if key != "NARROWS_LAZY"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=clean | environment)
    return done.stdout.strip()


def test_lazy_import_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'transformers', 'numpy', 'scipy', 'pandas', 'datasets'}"
    code = f"import sys, narrows, narrows.core; print(sorted({heavy} & sys.modules.keys()))"
    assert python(code, NARROWS_LAZY="1") == "[]"


def test_plain_import_registers_the_checkpoint_classes() -> None:
    code = "import narrows, transformers; print(transformers.AutoConfig.for_model('narrow-bert').model_type)"
    assert python(code) == "narrow-bert"


def test_public_names() -> None:
    assert {"load", "prune", "evaluate", "cite", "Budget", "Cost", "Plan", "Frontier"} == set(narrows.__all__)
    assert set(narrows.__all__) <= set(dir(narrows))
    assert narrows.Budget.parse("20% params").amount == 20
    with pytest.raises(AttributeError, match="public names"):
        _ = narrows.quantise
