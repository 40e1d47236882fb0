"""Commands about where methods come from: `narrows cite` and `narrows papers`."""

from __future__ import annotations

import contextlib
import importlib
import json
import pkgutil
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

import narrows
from narrows.cli.console import print_table
from narrows.cli.records import RECORD, read_record
from narrows.core.cite import cite as bibtex
from narrows.core.cite import references
from narrows.core.errors import NarrowsError


def cite(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|DIR",
            help="A method (vtrans), anything public in narrows (VIBGate), an arXiv number, or a folder that "
            "narrows prune wrote.",
        ),
    ],
) -> None:
    """Print BibTeX for a method, or for what a checkpoint really used.

    \b
    Examples:
      narrows cite vtrans
      narrows cite small >> references.bib
    """
    if (Path(name) / RECORD).is_file() or Path(name).is_dir():
        keys = read_record(Path(name))["citations"]
        if not keys:
            raise NarrowsError(f"{name} used nothing that names a publication")
        _import_rooms()
        print(bibtex(keys))
        return
    print(bibtex(_subject(name)))


def papers(
    folder: Annotated[
        Path | None, typer.Option("--dir", help="The papers folder of a checkout of narrows.  [default: where it is]")
    ] = None,
) -> None:
    """Show which papers were tested here, and whether their claims held.

    \b
    Examples:
      narrows papers
      narrows papers --dir narrows/papers
    """
    found = sorted((folder or _papers()).glob("*/paper.toml"))
    if not found:
        raise NarrowsError(
            f"{folder or _papers()} has no papers: expected folders with a paper.toml (name it with --dir)"
        )
    print_table("papers", ("paper", "title", "verdict", "figures"), [_row(file) for file in found], left=4)


def _import_rooms() -> None:
    """Importing the rooms of the library makes their references known."""
    for module in pkgutil.iter_modules(narrows.__path__):
        if module.ispkg and module.name not in ("cli", "report", "data"):
            importlib.import_module(f"narrows.{module.name}")


def _subject(name: str) -> Any:
    """What a name means: a method, a key, or anything in narrows that names a publication."""
    _import_rooms()
    from narrows.prune import METHODS

    if name in METHODS:
        return METHODS[name]
    for key in (name, f"arXiv:{name}"):
        with contextlib.suppress(NarrowsError):
            references(key)
            return key
    for module in sorted(m for m in sys.modules if m.startswith("narrows.")):
        found = getattr(sys.modules[module], name, None)
        if callable(found) and references(found):
            return found
    raise NarrowsError(f"no publication is known for {name!r}; methods are {', '.join(METHODS)}")


def _papers() -> Path:
    """The papers of the checkout that the command runs in, or that narrows is installed from."""
    places = [*(p / "papers" for p in (Path.cwd(), *Path.cwd().parents)), Path(narrows.__file__).parents[2] / "papers"]
    for place in places:
        if any(place.glob("*/paper.toml")):
            return place
    raise NarrowsError(
        "there is no papers folder here: run this in a checkout of narrows, or name the folder with --dir"
    )


def _row(file: Path) -> tuple[str, ...]:
    try:
        facts = tomllib.loads(file.read_text(encoding="utf-8"))
        stored = file.with_name("result.json")
        verdict, shown = "not run yet", ""
        if stored.exists():
            result: dict[str, Any] = json.loads(stored.read_text(encoding="utf-8"))
            verdict = str(result["verdict"])
            shown = "; ".join(_figure(name, result["figures"][name]) for name in facts["figures"])
        return file.parent.name, f"{facts['title']} ({facts['year']})", verdict, shown
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NarrowsError(f"{file.parent} is not a paper's folder: {type(error).__name__} {error}") from error


def _figure(name: str, values: dict[str, Any]) -> str:
    if "mean" not in values:
        return f"{name}: " + ", ".join(f"{key} {value}" for key, value in values.items() if not isinstance(value, list))
    spread = "" if values.get("spread") is None else f" ± {values['spread']:.2g}"
    return f"{name} {values['mean']:.4g}{spread}"
