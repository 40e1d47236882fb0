"""A Plan says which units of a transformer stay; a Shape says how many."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from narrows.core.errors import NarrowsError

Basis = Literal["channels", "pca"]


@dataclass(frozen=True)
class Shape:
    """How many units stay: all that a cost depends on.

    `heads` and `neurons` have one entry per layer, 0 for a removed block; `rank` is None for an unfactored word table;
    `tail` is the width between the two Linears of a classification head.
    """

    hidden: int
    heads: tuple[int, ...]
    neurons: tuple[int, ...]
    vocab: int
    rank: int | None
    tail: int


@dataclass(frozen=True)
class LayerPlan:
    """Kept heads and FFN neurons of one layer; an empty tuple removes the whole block, its output bias too."""

    heads: tuple[int, ...]
    neurons: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Which units stay, as sorted indices into the dense model.

    `hidden` indexes channels, or principal directions of the residual stream when `basis` is `"pca"`.
    `rank` factors the word table (None keeps it whole), `vocab` lists the kept token ids (None keeps all).
    `tail` is the kept width inside the classification head (None keeps the dense one; the uniform export needs it).
    """

    hidden: tuple[int, ...]
    layers: tuple[LayerPlan, ...]
    rank: int | None = None
    vocab: tuple[int, ...] | None = None
    basis: Basis = "channels"
    tail: int | None = None

    def __post_init__(self) -> None:
        groups = {"hidden": self.hidden, "vocab": (0,) if self.vocab is None else self.vocab}
        for i, layer in enumerate(self.layers):
            groups |= {f"heads of layer {i}": layer.heads or (0,), f"neurons of layer {i}": layer.neurons or (0,)}
        for name, ids in groups.items():
            if set(map(type, ids)) != {int} or ids[0] < 0 or list(ids) != sorted(set(ids)):
                raise NarrowsError(f"a plan needs sorted, distinct, non-negative indices; {name} has {_short(ids)}")
        for name, size in (("rank of a word table", self.rank), ("tail width of a head", self.tail)):
            if size is not None and size < 1:
                raise NarrowsError(f"the {name} is at least 1, got {size}")
        if self.basis not in get_args(Basis):
            raise NarrowsError(f"a basis is {' or '.join(get_args(Basis))}, got {self.basis!r}")
        if self.basis == "pca" and self.hidden != tuple(range(len(self.hidden))):
            raise NarrowsError("in the basis 'pca' a plan keeps the leading directions: hidden must be 0, 1, 2, ...")

    @property
    def uniform(self) -> bool:
        """Whether all layers keep the same numbers of heads and neurons."""
        return len({(len(layer.heads), len(layer.neurons)) for layer in self.layers}) == 1

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_json` is the inverse."""
        return {
            "hidden": list(self.hidden),
            "layers": [{"heads": list(layer.heads), "neurons": list(layer.neurons)} for layer in self.layers],
            "rank": self.rank,
            "vocab": None if self.vocab is None else list(self.vocab),
            "basis": self.basis,
            "tail": self.tail,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> Plan:
        """The plan of a dictionary or a JSON text made by `to_json`."""
        try:
            raw: Mapping[str, Any] = json.loads(data) if isinstance(data, str) else data
            return cls(
                hidden=tuple(raw["hidden"]),
                layers=tuple(LayerPlan(tuple(x["heads"]), tuple(x["neurons"])) for x in raw["layers"]),
                rank=raw["rank"],
                vocab=None if raw["vocab"] is None else tuple(raw["vocab"]),
                basis=raw["basis"],
                tail=raw["tail"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise NarrowsError(f"not a plan: {error!r}") from None


def _short(ids: tuple[int, ...]) -> str:
    return str(list(ids)) if len(ids) <= 6 else f"[{', '.join(map(str, ids[:6]))}, ...]"
