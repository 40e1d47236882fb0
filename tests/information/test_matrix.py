"""What every estimator of the room must do, whatever it estimates: one line in `methods.py` brings it in here."""

import json
import math

import numpy as np
import pytest
import torch

from narrows.core.errors import NarrowsError
from narrows.information import (
    DEPENDENCE,
    ENTROPY,
    MUTUAL_INFORMATION,
    Estimate,
    MIEstimate,
    dependence,
    entropy,
    mutual_information,
)

TWO_SIDED = {**MUTUAL_INFORMATION, **DEPENDENCE}
N = 300

two_sided = pytest.mark.parametrize("name", TWO_SIDED)
one_sided = pytest.mark.parametrize("name", ENTROPY)
every = pytest.mark.parametrize("name", [*TWO_SIDED, *ENTROPY])
exact = pytest.mark.parametrize("name", [n for n, m in {**TWO_SIDED, **ENTROPY}.items() if m.exact])
symmetric = pytest.mark.parametrize("name", [n for n, m in TWO_SIDED.items() if m.symmetric])


def sides(takes, n=N, rho=0.8, seed=0):
    """Dependent x and y of the kind that a method takes."""
    dice = np.random.default_rng(seed)
    x = dice.standard_normal((n, 2))
    y = rho * x + math.sqrt(1 - rho**2) * dice.standard_normal((n, 2))
    if takes in ("real", "any"):
        return x, y
    label = (y[:, 0] > 0).astype(np.int64) + (y[:, 0] > 1)
    return (x, label) if takes == "label" else (((x[:, 0] * 2).round().clip(-3, 3)).astype(np.int64), label)


def ask(name, *data, **options):
    if name in ENTROPY:
        return entropy(data[0], name, **options)
    door = mutual_information if name in MUTUAL_INFORMATION else dependence
    return door(*data, name, **options)


def method(name):
    return {**TWO_SIDED, **ENTROPY}[name]


@every
def test_the_answer_says_what_it_is(name):
    data = sides(method(name).takes)
    found = ask(name, *data)
    assert isinstance(found, Estimate)
    assert isinstance(found, MIEstimate) == (name in MUTUAL_INFORMATION)
    assert found.n == N
    assert found.dims == tuple(1 if s.ndim == 1 else s.shape[1] for s in data[: len(found.dims)])
    assert found.method == name or found.details["part"]
    assert math.isfinite(found.value)
    assert found.standard_error is None or found.standard_error >= 0
    assert found.unit == "nats" or name in DEPENDENCE
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["value"] == found.value
    assert all(caution.text for caution in found.cautions)
    assert method(name).function.__doc__


@every
def test_arrays_tensors_lists_and_precisions_agree(name):
    data = [np.round(s, 2) if s.dtype.kind == "f" else s for s in sides(method(name).takes)]
    value = ask(name, *data).value
    assert ask(name, *(torch.from_numpy(s) for s in data)).value == pytest.approx(value, abs=1e-9)
    assert ask(name, *(s.tolist() for s in data)).value == pytest.approx(value, abs=1e-9)
    single = [s.astype(np.float32) if s.dtype.kind == "f" else s for s in data]
    assert ask(name, *single).value == pytest.approx(value, abs=2e-3)
    needing = [torch.from_numpy(s).requires_grad_(s.dtype.kind == "f") for s in data]
    assert ask(name, *needing).value == pytest.approx(value, abs=1e-9)


@every
def test_the_data_stays_and_the_same_call_gives_the_same_answer(name):
    data = sides(method(name).takes)
    copies = [s.copy() for s in data]
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    first = ask(name, *data)
    assert ask(name, *data) == first
    assert all(np.array_equal(a, b) for a, b in zip(data, copies, strict=True))
    assert np.array_equal(np.random.get_state()[1], before[0])
    assert torch.equal(torch.get_rng_state(), before[1])


@exact
def test_the_order_of_the_rows_does_not_matter(name):
    data = sides(method(name).takes)
    order = np.random.default_rng(1).permutation(N)
    assert ask(name, *(s[order] for s in data)).value == pytest.approx(ask(name, *data).value, abs=1e-9)


@symmetric
def test_the_sides_may_change_places(name):
    x, y = sides(method(name).takes)
    assert ask(name, y, x).value == pytest.approx(ask(name, x, y).value, abs=1e-9)


@two_sided
def test_more_dependence_is_more(name):
    takes = method(name).takes
    seeds = range(1 if method(name).slow else 2)
    values = [np.mean([ask(name, *sides(takes, rho=rho, seed=s)).value for s in seeds]) for rho in (0.0, 0.6, 0.95)]
    assert values == sorted(values)


@every
def test_nan_infinity_and_text_are_refused(name):
    data = sides(method(name).takes)
    for bad in (np.nan, np.inf):
        broken = [s.astype(np.float64) for s in data]
        broken[0].flat[5] = bad
        with pytest.raises(NarrowsError, match="NaN or infinity"):
            ask(name, *broken)
    with pytest.raises(NarrowsError):
        ask(name, *[np.full(N, "a", dtype=object)] * 2)


@two_sided
def test_lengths_that_differ_are_refused(name):
    x, y = sides(method(name).takes)
    with pytest.raises(NarrowsError, match=r"300 rows and y has 299"):
        ask(name, x, y[:-1])


@every
def test_empty_and_odd_shapes_are_refused(name):
    data = sides(method(name).takes)
    for bad in (np.zeros((0, 2)), np.zeros((N, 2, 2)), np.zeros((N, 0)), np.float64(3.0)):
        with pytest.raises(NarrowsError):
            ask(name, *[bad] * len(data))


@every
def test_one_row_is_refused_or_says_nothing(name):
    data = [s[:1] for s in sides(method(name).takes)]
    try:
        found = ask(name, *data)
    except NarrowsError:
        return
    assert found.value == pytest.approx(0, abs=1e-9)


@every
def test_an_option_that_is_none_is_refused(name):
    with pytest.raises(NarrowsError, match="no option 'colour'"):
        ask(name, *sides(method(name).takes), colour=3)


def test_unknown_methods_are_refused():
    for door, data in ((mutual_information, 2), (dependence, 2), (entropy, 1)):
        with pytest.raises(NarrowsError, match="is called 'guess'"):
            door(*[np.arange(5.0)] * data, "guess")


def test_names_of_methods_are_names_of_the_room():
    import narrows.information as room

    for table in (MUTUAL_INFORMATION, ENTROPY, DEPENDENCE):
        for name, entry in table.items():
            assert getattr(room, name, None) is entry.function, f"{name} is not importable from narrows.information"
            assert name in room.__all__
