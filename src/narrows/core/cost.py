"""What a model costs."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, Self

from narrows.core.errors import NarrowsError


@dataclass(frozen=True)
class Cost:
    """What a model costs, for examples of `tokens` tokens. Everything but the latency is exact.

    `embedding_params` counts the word table (both factors where it is factored), positions and token types.
    `macs` are multiply-accumulates per example, `bytes` the weights as stored.
    `latency_ms` maps a batch size, as text, to milliseconds per batch; None where it was not measured.
    """

    params: int
    embedding_params: int
    macs: int
    tokens: int
    bytes: int
    latency_ms: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for name in ("params", "embedding_params", "macs", "tokens", "bytes"):
            if getattr(self, name) < 0:
                raise NarrowsError(f"a cost is never negative, got {name} = {getattr(self, name)}")
        if self.embedding_params > self.params:
            raise NarrowsError(f"{self.embedding_params} embedding parameters of only {self.params} in total")
        if self.latency_ms is not None:
            object.__setattr__(self, "latency_ms", MappingProxyType(dict(self.latency_ms)))

    @property
    def body_params(self) -> int:
        """Parameters outside the embeddings."""
        return self.params - self.embedding_params

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary; `from_json` is the inverse."""
        latency = None if self.latency_ms is None else dict(self.latency_ms)
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "latency_ms"} | {"latency_ms": latency}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The cost in a dictionary made by `to_json`; further keys, as in a report, are ignored."""
        try:
            return cls(**{f.name: data[f.name] for f in fields(cls) if f.name != "latency_ms" or f.name in data})
        except KeyError as missing:
            raise NarrowsError(f"not a cost: the key {missing} is missing") from None
