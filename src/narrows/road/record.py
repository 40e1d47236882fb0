"""What a run says when it is done: the measurements before and after, as plain data."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from narrows.core.cite import references
from narrows.core.cost import Cost
from narrows.core.record import environment
from narrows.data import Examples
from narrows.distill import EncodedTexts, Evaluation
from narrows.distill import evaluate as evaluate_model
from narrows.prune.methods import pruner, resolve
from narrows.road.options import Options
from narrows.transformer.anatomy import Anatomy
from narrows.transformer.checkpoint import save
from narrows.transformer.cost import cost_of
from narrows.transformer.latency import TOKENS, measure_latency
from narrows.transformer.plan import Plan

CHANGED = 12  # examples of each kind in the report


@dataclass(frozen=True)
class Report:
    """What a run found: `record` is plain data (what `--json` prints and narrows.json holds)."""

    record: dict[str, Any]
    plan: Plan
    tokenizer: PreTrainedTokenizerBase

    @property
    def html(self) -> str:
        """The report as one self-contained page."""
        from narrows.report import render_report

        return render_report(self.record)

    def __getitem__(self, key: str) -> Any:
        return self.record[key]


@dataclass(frozen=True)
class Side:
    """A model that is measured: the dense one or the small one, with the held-out examples as it reads them."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    held_out: EncodedTexts


@dataclass(frozen=True)
class Sides:
    """Both models measured: before, after."""

    results: tuple[Evaluation, Evaluation]
    costs: tuple[Cost, Cost]
    stored: tuple[int, int]

    def to_json(self, index: int) -> dict[str, Any]:
        """One side of the before/after table."""
        result, cost = self.results[index], self.costs[index]
        quality = {"quality": result.quality, "quality_se": result.standard_error, **result.figures}
        return quality | cost.to_json() | {"bytes": self.stored[index]}


def measure(pair: tuple[Side, Side], dense: Cost, work: Path) -> Sides:
    """Quality on the held-out examples, exact cost, latency in turns, bytes of the checkpoint."""
    before, after = (evaluate_model(side.model, side.held_out) for side in pair)
    latency = measure_latency([side.model for side in pair])
    small = Anatomy.of(pair[1].model)
    costs = (dense, cost_of(small, small.full_plan(), TOKENS))
    return Sides(
        (before, after),
        (replace(costs[0], latency_ms=latency[0]), replace(costs[1], latency_ms=latency[1])),
        (_stored_bytes(pair[0], work), _stored_bytes(pair[1], work)),
    )


def make_record(options: Options, sides: Sides, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The run's record: what was asked, what was measured, and the `facts` that the stages collected."""
    dense, small = sides.costs
    return {
        "schema": 1,
        "environment": environment(),
        "method": resolve(options.method),
        "seed": options.seed,
        "options": options.to_json(),
        "budgets": [
            {"text": str(b), "measure": b.measure, "limit": b.limit(dense), "reached": b.spent(small)}
            for b in options.budgets
        ],
        "before": sides.to_json(0),
        "after": sides.to_json(1),
        "citations": [r.key for r in references(pruner(options.method))],
        **facts,
    }


def _stored_bytes(side: Side, work: Path) -> int:
    """Bytes of the checkpoint's weights on disk."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        path = save(side.model, side.tokenizer, Path(folder) / "model")
        return sum(f.stat().st_size for f in path.glob("*.safetensors"))


def picture(anatomy: Anatomy, plan: Plan) -> dict[str, Any]:
    """The plan as the report shows it: what is kept of what."""
    shape = anatomy.shape
    words = shape.vocab if plan.vocab is None else len(plan.vocab)
    return {
        "basis": plan.basis,
        "hidden": {"kept": len(plan.hidden), "of": shape.hidden},
        "rank": None if plan.rank is None else {"kept": plan.rank, "of": shape.rank or shape.hidden},
        "vocab": {"kept": words, "of": shape.vocab},
        "layers": [
            {
                "heads": list(layer.heads),
                "heads_of": shape.heads[i],
                "neurons": list(layer.neurons),
                "neurons_of": shape.neurons[i],
            }
            for i, layer in enumerate(plan.layers)
        ],
    }


def changed(examples: Examples, before: Evaluation, after: Evaluation) -> dict[str, Any]:
    """Held-out examples whose prediction changed, and of classes how many: lost and won ones."""
    counts: dict[str, int] | None = None
    if examples.label_names is None:
        worse = abs(after.predictions - before.predictions)
        chosen = worse.argsort()[::-1][:CHANGED].tolist()

        def say(value: float) -> str:
            return f"{value:.2f}"
    else:
        names = examples.label_names
        different = (before.predictions != after.predictions).nonzero()[0].tolist()
        lost = [i for i in different if before.predictions[i] == examples.labels[i]]
        won = [i for i in different if after.predictions[i] == examples.labels[i]]
        chosen = [*lost[:CHANGED], *won[:CHANGED]]
        counts = {"lost": len(lost), "won": len(won)}

        def say(value: float) -> str:
            return names[int(value)]

    items = [
        {
            "text": examples.texts[i] + (f" | {examples.pairs[i]}" if examples.pairs else ""),
            "label": say(examples.labels[i]),
            "before": say(before.predictions[i]),
            "after": say(after.predictions[i]),
        }
        for i in chosen
    ]
    return {"changed": items, "changed_counts": counts}
