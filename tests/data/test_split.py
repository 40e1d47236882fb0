"""The split is by text, stratified, deterministic and of the size asked for."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narrows.core.errors import DataError
from narrows.data import Examples, movie_reviews, product_reviews, split

seeds = st.integers(0, 2**63 - 1)
fractions = st.floats(0.05, 0.5)


def classified(labels: list[int], texts: list[str] | None = None, pairs: list[str] | None = None) -> Examples:
    words = tuple(texts or [f"text {i}" for i in range(len(labels))])
    return Examples(words, tuple(pairs) if pairs else None, tuple(labels), ("a", "b", "c"))


@given(st.lists(st.integers(0, 2), min_size=40, max_size=200), fractions, seeds)
def test_different_texts_give_the_exact_size_and_proportions(labels: list[int], fraction: float, seed: int) -> None:
    examples = classified(labels)
    rest, held = split(examples, fraction, seed)
    assert len(held) == round(fraction * len(examples))
    assert sorted(rest.texts + held.texts) == sorted(examples.texts)
    assert not set(rest.texts) & set(held.texts)
    everything, there = Counter(labels), Counter(held.labels)
    for label, count in everything.items():
        # A class of one text stays in the rest, so others may take its place: one more than rounding.
        assert abs(there[label] - fraction * count) < 1 + sum(n == 1 for n in everything.values())
        assert there[label] < count
    assert dict(zip(held.texts + rest.texts, held.labels + rest.labels, strict=True)) == dict(
        zip(examples.texts, labels, strict=True)
    )


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2)), min_size=60, max_size=200), fractions, seeds)
def test_equal_texts_stay_on_one_side(rows: list[tuple[int, int]], fraction: float, seed: int) -> None:
    examples = classified([y for _, y in rows], [f"text {t}" for t, _ in rows])
    copies = Counter(examples.texts)
    if len(copies) < 20:
        return
    rest, held = split(examples, fraction, seed)
    assert not set(rest.texts) & set(held.texts)
    assert Counter(rest.texts) + Counter(held.texts) == copies
    wanted = round(fraction * len(examples))
    assert wanted - max(copies.values()) < len(held) <= wanted


def test_what_repeated_texts_leave_open_in_a_class_is_filled_from_the_others() -> None:
    # 5 of 20 rows are due in each class, but rows come in twos: 4 + 4 + 4, and one more pair fits into 15.
    examples = classified([i // 20 for i in range(60)], [f"text {i // 2}" for i in range(60)])
    assert len(split(examples, 0.25, 0)[1]) == 14


def test_a_class_never_leaves_the_rest() -> None:
    examples = classified([0] * 20 + [1, 2, 2])
    for seed in range(20):
        rest, held = split(examples, 0.9, seed)
        assert set(rest.labels) == {0, 1, 2}
        assert 1 not in held.labels


@given(seeds)
@settings(max_examples=20)
def test_the_split_follows_from_the_seed_alone(seed: int) -> None:
    examples = classified([i % 3 for i in range(300)])
    assert split(examples, 0.3, seed) == split(examples, 0.3, seed)
    assert split(examples, 0.3, seed) != split(examples, 0.3, seed + 1)
    rest, held = split(examples, 0.3, seed)
    order = {t: i for i, t in enumerate(examples.texts)}
    for side in (rest, held):
        assert sorted(order[t] for t in side.texts) == [order[t] for t in side.texts]


def test_the_split_of_a_seed_is_the_same_everywhere() -> None:
    held = split(classified([i % 3 for i in range(30)]), 0.2, 7)[1]
    assert held.texts == ("text 4", "text 13", "text 14", "text 15", "text 21", "text 29")


def test_a_pair_counts_as_one_text() -> None:
    texts = ["premise"] * 40
    pairs = [f"hypothesis {i // 2}" for i in range(40)]
    rest, held = split(classified([i % 2 for i in range(40)], texts, pairs), 0.25, 0)
    assert len(held) == 10
    assert held.pairs is not None
    assert rest.pairs is not None
    assert not set(rest.pairs) & set(held.pairs)


@pytest.mark.parametrize("seed", range(3))
def test_the_shipped_sets_split_exactly(seed: int) -> None:
    movies = movie_reviews()
    rest, held = split(movies, 2000 / len(movies), seed)
    assert len(held) == 2000
    assert not set(rest.texts) & set(held.texts)
    assert abs(sum(held.labels) / len(held) - sum(movies.labels) / len(movies)) < 2 / 2000
    products = product_reviews()
    rest, held = split(products, 0.1, seed)
    assert len(held) == round(0.1 * len(products))
    assert not set(rest.texts) & set(held.texts)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_a_fraction_outside_its_range(fraction: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        split(classified([0, 1] * 5), fraction, 0)


def test_nothing_to_hold_out() -> None:
    with pytest.raises(DataError, match="cannot hold out"):
        split(classified([0, 1] * 5, ["same"] * 10), 0.5, 0)
    with pytest.raises(DataError, match="cannot hold out"):
        split(classified([0, 1] * 5), 0.01, 0)
