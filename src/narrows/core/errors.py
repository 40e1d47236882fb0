"""The errors a user can mend. The command line prints their text on one line and exits with code 2."""

from typing import Self


class NarrowsError(Exception):
    """Something a user can mend: the text says what was got, what was expected and what to do."""


class DataError(NarrowsError):
    """Examples that cannot be read or cannot be learned from."""


class ModelError(NarrowsError):
    """A model that narrows does not know or cannot cut."""


class BudgetError(NarrowsError):
    """A budget that cannot be read or cannot be met."""


class CheckpointError(NarrowsError):
    """A checkpoint folder that is damaged, incomplete or not what it says it is."""


class TrainingError(NarrowsError):
    """A training run that cannot go on, such as a loss that is not a number."""


class Interrupted(NarrowsError):  # noqa: N818
    """A run that was told to stop and left a state to go on from; `step` of `total` steps are done."""

    def __init__(self, text: str, step: int, total: int) -> None:
        super().__init__(text)
        self.step = step
        self.total = total


class MissingExtra(NarrowsError, ImportError):  # noqa: N818
    """A package that is not installed because it belongs to an extra."""

    @classmethod
    def for_package(cls, package: str, extra: str | None) -> Self:
        """The error for `package`, naming the extra of narrows that brings it (None: no extra does)."""
        install = f"narrows[{extra}]" if extra else package
        return cls(f"this needs the package {package}, which is not installed: pip install '{install}'")
