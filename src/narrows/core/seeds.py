"""Independent random streams from one seed, the same in every process and on every machine."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(seed: int, *keys: object) -> int:
    """A seed in [0, 2**63) for the stream that `keys` name; different keys give unrelated seeds.

    Keys are text, numbers, booleans, None, bytes, or tuples of these. Anything else raises TypeError: its
    text could differ between processes.
    """
    return int.from_bytes(blake2b(_encode((seed, *keys)), digest_size=8).digest(), "big") >> 1


def generator(seed: int, *keys: object) -> torch.Generator:
    """A CPU generator for the stream that `keys` name."""
    import torch

    return torch.Generator().manual_seed(derive(seed, *keys))


def _encode(key: object) -> bytes:
    if isinstance(key, tuple):
        body = b"".join(map(_encode, key))
    elif key is None or isinstance(key, str | int | float | bytes):
        body = repr(key).encode()
    else:
        raise TypeError(f"a seed key is text, a number, bytes, None or a tuple of these, got {type(key).__name__}")
    # Type and length in front: no two keys, and no two ways to group them, read alike.
    return f"{type(key).__name__}:{len(body)}:".encode() + body
