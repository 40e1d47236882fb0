"""Which papers the code in use comes from."""

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from narrows.core.errors import NarrowsError

T = TypeVar("T")

_REFERENCES: dict[str, "Reference"] = {}
_MARK = "__narrows_cites__"


@dataclass(frozen=True)
class Reference:
    """A publication. `key` is how code names it, such as `"arXiv:2406.05276"`; `authors` are "First Last"."""

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str | None = None
    url: str | None = None

    @property
    def arxiv(self) -> str | None:
        """The arXiv identifier, where the key is one."""
        return self.key.removeprefix("arXiv:") if self.key.startswith("arXiv:") else None

    def bibtex(self) -> str:
        """One BibTeX entry."""
        family = re.sub(r"\W", "", self.authors[0].split()[-1]).lower()
        word = next((w.lower() for w in re.findall(r"\w+", self.title) if len(w) > 3), "")
        values = {
            "title": "{" + _escape(self.title) + "}",
            "author": _escape(" and ".join(self.authors)),
            "year": str(self.year),
        }
        if self.venue:
            values["journal"] = _escape(self.venue)
        if self.arxiv:
            values |= {"eprint": self.arxiv, "archiveprefix": "arXiv"}
        url = self.url or (f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else None)
        if url:
            values["url"] = url
        lines = [f"  {name} = {{{value}}}" for name, value in values.items()]
        kind = "article" if self.venue else "misc"
        return f"@{kind}{{{family}{self.year}{word},\n" + ",\n".join(lines) + "\n}"


def register_reference(reference: Reference) -> Reference:
    """Make a reference known by its key; registering the same one again changes nothing."""
    known = _REFERENCES.setdefault(reference.key, reference)
    if known != reference:
        raise ValueError(f"{reference.key} is registered already with other details: {known}")
    return reference


def cites(*keys: str) -> Callable[[T], T]:
    """Decorate a function or class with the keys of the references it comes from."""

    def mark(target: T) -> T:
        setattr(target, _MARK, keys)
        return target

    return mark


def references(subject: object) -> tuple[Reference, ...]:
    """The references of a function, class (with its bases), instance, key, or a collection of these."""
    found: dict[str, Reference] = {}
    for key in _keys(subject):
        if key not in _REFERENCES:
            known = ", ".join(sorted(_REFERENCES)) or "none"
            raise NarrowsError(f"no reference is known by the name {key!r}; known are: {known}")
        found[key] = _REFERENCES[key]
    return tuple(found.values())


def cite(subject: object) -> str:
    """BibTeX for what `references` finds; NarrowsError where there is nothing to cite."""
    found = references(subject)
    if not found:
        raise NarrowsError(f"{getattr(subject, '__qualname__', subject)!r} names no publication to cite")
    return "\n\n".join(reference.bibtex() for reference in found)


def _keys(subject: object) -> Iterable[str]:
    if isinstance(subject, str):
        return [subject]
    if isinstance(subject, functools.partial):
        return _keys(subject.func)
    if isinstance(subject, list | tuple | set | frozenset):
        return [key for item in subject for key in _keys(item)]
    if not isinstance(subject, type) and hasattr(subject, _MARK) and callable(subject) and hasattr(subject, "__name__"):
        return list(getattr(subject, _MARK))
    kind = subject if isinstance(subject, type) else type(subject)
    return [key for base in kind.__mro__ for key in vars(base).get(_MARK, ())]


def _escape(text: str) -> str:
    return re.sub(r"([&%$#_])", r"\\\1", text)
