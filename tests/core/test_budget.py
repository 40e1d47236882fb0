import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narrows.core import Budget, BudgetError, Cost

DENSE = Cost(params=1000, embedding_params=400, macs=5000, tokens=64, bytes=4000, latency_ms={"1": 8.0, "32": 90.0})


@pytest.mark.parametrize(
    ("text", "measure", "amount", "relative"),
    [
        ("20% params", "params", 20, True),
        ("20 % latency", "latency", 20, True),
        ("30% MACs", "macs", 30, True),
        ("50% bytes", "bytes", 50, True),
        ("2.5 % parameters", "params", 2.5, True),
        ("2M params", "params", 2_000_000, False),
        ("1.5B params", "params", 1.5e9, False),
        ("1234 params", "params", 1234, False),
        ("2 GMACs", "macs", 2e9, False),
        ("2e9 macs", "macs", 2e9, False),
        ("4 MB", "bytes", 4e6, False),
        ("4096 bytes", "bytes", 4096, False),
        ("5 ms", "latency", 5, False),
        ("0.005 s", "latency", 5, False),
    ],
)
def test_reads_what_people_write(text: str, measure: str, amount: float, relative: bool) -> None:
    assert Budget.parse(text) == Budget(measure, amount, relative)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20%",
        "params",
        "20",
        "20 apples",
        "5 latency",
        "3 size",
        "% params",
        "-3M params",
        "1,5M params",
        "nan params",
        "2 Xparams",
    ],
)
def test_refuses_anything_else_and_shows_the_accepted_forms(text: str) -> None:
    with pytest.raises(BudgetError, match="accepted are for example"):
        Budget.parse(text)


@pytest.mark.parametrize("text", ["0% params", "101% params", "0 ms"])
def test_refuses_amounts_that_make_no_sense(text: str) -> None:
    with pytest.raises(BudgetError):
        Budget.parse(text)


absolute = st.one_of(st.integers(1, 10**13).map(float), st.floats(1e-6, 1e13))


@given(st.sampled_from(["params", "macs", "bytes", "latency"]), absolute)
def test_text_round_trip_absolute(measure: str, amount: float) -> None:
    budget = Budget(measure, amount, relative=False)
    assert Budget.parse(str(budget)) == budget


@given(st.sampled_from(["params", "macs", "bytes", "latency"]), st.floats(1e-6, 100))
def test_text_round_trip_relative(measure: str, amount: float) -> None:
    budget = Budget(measure, amount, relative=True)
    assert Budget.parse(str(budget)) == budget


def test_round_numbers_read_well() -> None:
    texts = ["20% params", "2M params", "2 GMACs", "30% MACs", "4 MB", "5 ms", "20% latency"]
    assert [str(Budget.parse(text)) for text in texts] == texts


def test_limit_and_what_is_allowed() -> None:
    tenth = Budget.parse("10% params")
    assert tenth.limit(DENSE) == 100
    assert tenth.allows(Cost(100, 0, 1, 64, 400), DENSE)
    assert not tenth.allows(Cost(101, 0, 1, 64, 404), DENSE)
    assert Budget.parse("2 ms").limit(DENSE) == 2
    assert Budget.parse("25% latency").limit(DENSE) == 2
    assert all(Budget.parse(f"100% {m}").allows(DENSE, DENSE) for m in ("params", "MACs", "bytes", "latency"))


def test_latency_must_have_been_measured() -> None:
    with pytest.raises(BudgetError, match="not measured"):
        Budget.parse("5 ms").spent(Cost(1, 0, 1, 1, 4))


def test_not_a_number() -> None:
    with pytest.raises(BudgetError):
        Budget("params", math.nan, relative=False)
