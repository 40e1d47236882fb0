"""The `narrows` command: each command parses, calls the library and prints what came back.

Nothing heavy is imported before a command needs it, so that `narrows --help` answers at once.
"""

from narrows.cli.application import app
from narrows.cli.inspecting import inspect
from narrows.cli.measuring import measure
from narrows.cli.pruning import prune
from narrows.cli.results import compare, evaluate
from narrows.cli.sources import cite, papers

__all__ = ["app"]

for command in (inspect, prune, measure, evaluate, compare, cite, papers):
    app.command()(command)
