"""What a user brings, and the small real data sets that ship inside packages."""

from narrows.data.icosahedron import (
    icosahedron_invariants,
    icosahedron_noisy_task,
    icosahedron_patterns,
    icosahedron_task,
)
from narrows.data.shipped import (
    minilm,
    movie_reviews,
    movie_reviews_path,
    product_reviews,
    product_reviews_path,
    shipped_examples,
    shipped_model,
)
from narrows.data.table import Examples, class_numbers, read_examples, split

__all__ = [
    "Examples",
    "class_numbers",
    "icosahedron_invariants",
    "icosahedron_noisy_task",
    "icosahedron_patterns",
    "icosahedron_task",
    "minilm",
    "movie_reviews",
    "movie_reviews_path",
    "product_reviews",
    "product_reviews_path",
    "read_examples",
    "shipped_examples",
    "shipped_model",
    "split",
]
