"""A hook of mkdocs: one API page for every room of the package, new rooms included."""

import ast
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "narrows"


def rooms() -> list[str]:
    """The public modules and packages directly inside narrows."""
    packages = [path.parent.name for path in PACKAGE.glob("*/__init__.py")]
    modules = [path.stem for path in PACKAGE.glob("*.py")]
    return sorted(name for name in packages + modules if not name.startswith("_") and name != "cli")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add the pages to the navigation."""
    nav = config.nav or []
    nav.append({"API": [{f"narrows.{room}": f"api/{room}.md"} for room in rooms()]})
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages themselves."""
    for room in rooms():
        page = f"# narrows.{room}\n\n::: narrows.{room}\n" + "".join(
            f"\n::: narrows.{room}.{module}\n" for module in _unexported(room)
        )
        files.append(File.generated(config, f"api/{room}.md", content=page))
    return files


def _unexported(room: str) -> list[str]:
    """Modules that the room's `__init__` re-exports nothing of: people import them by their own name."""
    folder = PACKAGE / room
    if not folder.is_dir():
        return []
    named = set()
    for node in ast.walk(ast.parse((folder / "__init__.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            named.add(node.module.rpartition(".")[2])
    modules = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("_")}
    return sorted(modules - named)
