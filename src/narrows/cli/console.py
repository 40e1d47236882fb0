"""What commands print on stdout: tables, lines, or one JSON object."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

WIDTH = 100  # where stdout is not a terminal


def plain(text: object) -> str:
    """Text on one line without control characters: names in files must not steer the terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    print(json.dumps(value, allow_nan=False))


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> None:
    """A table; the first `left` columns are words, the others figures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    console.print(Text(plain(title), style="bold"))
    console.print(table)


def print_facts(facts: Mapping[str, object]) -> None:
    """Names and values, one a line."""
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {plain(value)}")


def _cell(value: object) -> str:
    # The spaces between a number and its unit keep them on one line.
    return "".join(c if c.isprintable() or c == "\u00a0" else " " for c in str(value))
