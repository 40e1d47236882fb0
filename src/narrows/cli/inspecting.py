"""`narrows inspect`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from narrows.cli.console import print_facts, print_json, print_table
from narrows.cli.options import Json, Model

if TYPE_CHECKING:
    from narrows.transformer.anatomy import Anatomy


def inspect(
    model: Model,
    tokens: Annotated[int, typer.Option(min=1, help="Length of the example whose MACs are counted.")] = 64,
    as_json: Json = False,
) -> None:
    """Show what a model is made of and what it costs.

    \b
    Examples:
      narrows inspect minilm
      narrows inspect small --tokens 128 --json
    """
    from narrows.data import shipped_model
    from narrows.transformer.anatomy import Anatomy
    from narrows.transformer.checkpoint import load, quiet

    with quiet():
        anatomy = Anatomy.of(load(shipped_model(model) or model).model)
    found = describe(anatomy, tokens) | {"model": model}
    if as_json:
        print_json(found)
        return
    _print(found)


def describe(anatomy: Anatomy, tokens: int) -> dict[str, Any]:
    """Units and costs of a model, JSON-ready.

    `parts` split parameters and MACs by kind; `rest` is LayerNorms, pooler and head. `smallest` is what no
    budget can go below.
    """
    from narrows.transformer.cost import cost_of_shape, least_cost

    shape = anatomy.shape
    none = (0,) * anatomy.layers
    whole = cost_of_shape(anatomy, shape, tokens)
    attention = cost_of_shape(anatomy, replace(shape, neurons=none), tokens)
    ffn = cost_of_shape(anatomy, replace(shape, heads=none), tokens)
    bare = replace(shape, heads=none, neurons=none)
    rest = cost_of_shape(anatomy, bare, tokens)
    least = least_cost(anatomy, tokens)
    project = tokens * shape.rank * shape.hidden if shape.rank is not None else 0
    parts = {
        "embeddings": (whole.embedding_params, project),
        "attention": (attention.params - rest.params, attention.macs - rest.macs),
        "feed-forward": (ffn.params - rest.params, ffn.macs - rest.macs),
        "rest": (rest.params - whole.embedding_params, rest.macs - project),
    }
    return {
        "family": anatomy.family.model_type,
        "class": anatomy.class_name,
        "hidden": shape.hidden,
        "head_dim": anatomy.head_dim,
        "vocabulary": shape.vocab,
        "rank": shape.rank,
        "layers": [{"heads": h, "neurons": n} for h, n in zip(shape.heads, shape.neurons, strict=True)],
        "tokens": tokens,
        "cost": {
            "parameters": whole.params,
            "macs": whole.macs,
            "bytes": whole.bytes,
            "without_embeddings": {
                "parameters": whole.body_params,
                "macs": whole.macs - project,
                "bytes": whole.body_params * anatomy.itemsize,
            },
        },
        "parts": {name: {"parameters": params, "macs": macs} for name, (params, macs) in parts.items()},
        "smallest": {"parameters": least.params, "macs": least.macs, "bytes": least.bytes},
    }


def _print(found: Mapping[str, Any]) -> None:
    from narrows.report import words

    cost, body, parts = found["cost"], found["cost"]["without_embeddings"], found["parts"]
    rank = "" if found["rank"] is None else f", word table of rank {found['rank']}"
    print_facts(
        {
            "model": found["model"],
            "class": f"{found['class']} (family {found['family']})",
            "width": f"{found['hidden']}{rank}",
            "head size": found["head_dim"],
            "vocabulary": words.count(found["vocabulary"]),
        }
    )
    print_table(
        "layers", ("layer", "heads", "neurons"), [(i, x["heads"], x["neurons"]) for i, x in enumerate(found["layers"])]
    )
    writers = {"parameters": words.count, "macs": words.short, "bytes": words.size}
    names = {"parameters": "parameters", "macs": f"MACs, {found['tokens']} tokens", "bytes": "bytes"}
    print_table(
        "cost",
        ("", "all", "without embeddings"),
        [(names[key], write(cost[key]), write(body[key])) for key, write in writers.items()],
    )
    print_table(
        "parts",
        ("", "parameters", "share", "MACs", "share"),
        [
            (
                name,
                words.count(part["parameters"]),
                words.percent(part["parameters"] / cost["parameters"]),
                words.short(part["macs"]),
                words.percent(part["macs"] / max(1, cost["macs"])),
            )
            for name, part in parts.items()
        ],
    )
    least = found["smallest"]["parameters"]
    share = words.percent(least / cost["parameters"])
    print_facts({"smallest budget": f"about {share} params ({words.count(least)}); less with --vocab data"})
