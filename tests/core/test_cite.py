import functools
from collections.abc import Iterator

import pytest

from narrows.core import NarrowsError, Reference, cite, cites, register_reference
from narrows.core import references as references_of
from narrows.core.cite import _REFERENCES

GATES = Reference("arXiv:2406.05276", "VTrans: Pruning & More", ("Oshin Dutta", "Sumeet Agarwal"), 2024)
OLD = Reference("lecun1990", "Optimal Brain Damage", ("Yann LeCun",), 1990, venue="NeurIPS")


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    saved = dict(_REFERENCES)
    _REFERENCES.clear()
    register_reference(GATES)
    register_reference(OLD)
    yield
    _REFERENCES.clear()
    _REFERENCES.update(saved)


@cites("lecun1990")
class Scores:
    def __call__(self) -> None: ...


@cites("arXiv:2406.05276")
class Gates(Scores):
    pass


@cites("arXiv:2406.05276", "lecun1990")
def prune(amount: float) -> None: ...


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (Scores, [OLD]),
        (Gates, [GATES, OLD]),
        (Gates(), [GATES, OLD]),
        (prune, [GATES, OLD]),
        (functools.partial(prune, 0.1), [GATES, OLD]),
        ("lecun1990", [OLD]),
        (["lecun1990", prune, Scores()], [OLD, GATES]),
        (int, []),
    ],
)
def test_finds_each_reference_once(subject: object, expected: list[Reference]) -> None:
    assert list(references_of(subject)) == expected


def test_bibtex_is_well_formed() -> None:
    text = cite(prune)
    assert text.startswith("@misc{dutta2024vtrans,\n")
    assert "title = {{VTrans: Pruning \\& More}}" in text
    assert "author = {Oshin Dutta and Sumeet Agarwal}" in text
    assert "eprint = {2406.05276}" in text
    assert "@article{lecun1990optimal,\n" in text
    assert text.count("{") == text.count("}")


def test_nothing_to_cite_and_unknown_names() -> None:
    with pytest.raises(NarrowsError, match="no publication"):
        cite(int)
    with pytest.raises(NarrowsError, match=r"arXiv:1.*known are.*lecun1990"):
        cite("arXiv:1")


def test_one_key_one_reference() -> None:
    assert register_reference(OLD) is OLD
    with pytest.raises(ValueError, match="already"):
        register_reference(Reference("lecun1990", "Something else", ("A B",), 1990))
