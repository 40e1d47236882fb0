"""How one cell is measured: layers and features of a network, their complexity, and what it goes with."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn

from narrows.core.experiment import Cell
from narrows.core.seeds import derive, generator
from narrows.core.statistics import bootstrap
from narrows.data import minilm, movie_reviews_path, read_examples
from narrows.information import (
    RidgeProbe,
    feature_complexity,
    feature_flow,
    feature_sensitivity,
    head_importance,
    layer_activations,
    learned_at,
    v_information,
)

Real = NDArray[np.float64]

TOKENS = 48
LAYERS = ("embeddings", *(f"encoder.layer.{i}" for i in range(6)))
# A block adds a branch to its input, and normalises the sum: first attention, then the feed-forward network.
BLOCKS = tuple(
    block
    for i, layer in enumerate(LAYERS[1:])
    for block in (
        (LAYERS[i], f"{layer}.attention.output.dense"),
        (f"{layer}.attention.output", f"{layer}.output.dense"),
    )
)
CHECKPOINTS = (0, 1, 2, 4, 8, 16, 32, 60)
TRAIN = 1200
WIDTHS = (64, 96, 96, 96, 96, 64)
NOISE = 0.1  # of pixels between 0 and 1
KEPT, DRAWS = 4, 10  # one in four numbers of the last layer, drawn ten times
LIVELY = 0.05  # a neuron below this deviation is as good as dead


def measure(cell: Cell, work: Path) -> Mapping[str, Any]:
    if cell["part"] == "digits":
        return _digits(cell)
    return (_sentiment if cell["part"] == "sentiment" else _sentences)(cell, work)


def _sentiment(cell: Cell, work: Path) -> dict[str, Any]:
    """V-information of logistic predictors from each layer to whether a sentence is positive, in nats."""
    states, score = _encoded(cell["rows"], cell["seed"], work)
    signed = score != 0
    found = [v_information(states[name][signed], score[signed] > 0, seed=cell["seed"]) for name in LAYERS]
    return {
        "V-information": [f.value for f in found],
        "standard errors": [f.standard_error for f in found],
        "entropy": found[0].details["entropy"],
    }


def _sentences(cell: Cell, work: Path) -> dict[str, Any]:
    states, score = _encoded(cell["rows"], cell["seed"], work)
    layers = {name: states[name] for name in LAYERS}
    test = np.arange(len(score)) >= 2 * len(score) // 3
    z = _features(cell, layers[LAYERS[-1]], ~test)
    found = feature_complexity(layers, z, test=test, seed=cell["seed"])
    head = RidgeProbe().fit(z[~test], score[~test])
    importance = head_importance(z[test], head.coef_[None])
    kept = np.isfinite(found.k)
    k, variance = found.k[kept], z[test][:, kept].var(axis=0)
    flow, of_flow = _flow(cell, states, z[:, kept], test)
    spare = _redundancy(cell, layers[LAYERS[-1]], z[:, kept], test)
    return _described(k, found.r2[:, kept]) | {
        "features": int(kept.sum()),
        "clipped": found.clipped,
        "mean standard error of K": float(found.k_standard_error[kept].mean()),
        "head R2": float(head.score(z[test], score[test])),
        "K": k.tolist(),
        "importance": importance[kept].tolist(),
        "flow": flow,
        "spearman": _correlations(k, variance, {"importance": importance[kept], "redundancy": spare, **of_flow}, cell),
    }


def _flow(
    cell: Cell, states: Mapping[str, Real], z: Real, test: NDArray[np.bool_]
) -> tuple[dict[str, list[Any]], dict[str, Real]]:
    """By block, and as means over blocks: how alike features are to what residual blocks keep and what they add."""
    blocks = {branch: (states[stream], states[branch]) for stream, branch in BLOCKS}
    alike = feature_flow({name: (u[test], r[test]) for name, (u, r) in blocks.items()}, z[test])
    # R^2 of each side is what the complexity of layers has.
    sides = {f"{name} {j}": side for name, pair in blocks.items() for j, side in enumerate(pair)}
    r2 = feature_complexity(sides, z, test=test, seed=cell["seed"], resamples=1).r2.reshape(len(blocks), 2, -1)
    by_block = {
        "stream": alike.stream.mean(axis=1).tolist(),
        "branch": alike.branch.mean(axis=1).tolist(),
        "stream R2": r2[:, 0].mean(axis=1).tolist(),
        "branch R2": r2[:, 1].mean(axis=1).tolist(),
    }
    of_features = {
        "stream": alike.stream.mean(axis=0),
        "branch": alike.branch.mean(axis=0),
        "branch's share": alike.share.mean(axis=0),
        "branch's share of R2": (r2[:, 1] / r2.sum(axis=1).clip(1e-12)).mean(axis=0),
    }
    return by_block | {f"{name} by feature": value.tolist() for name, value in of_features.items()}, of_features


def _redundancy(cell: Cell, last: Real, z: Real, test: NDArray[np.bool_], own: NDArray[np.intp] | None = None) -> Real:
    """Mean held-out R^2 of each feature from random parts of the last layer; `own` neurons of features are left out."""
    dice = np.random.default_rng(derive(cell["seed"], "redundancy"))
    parts = [dice.permutation(last.shape[1])[: last.shape[1] // KEPT] for _ in range(DRAWS)]

    def read(features: Real, without: int = -1) -> Real:
        rest = [last[:, part[part != without]] for part in parts]
        return feature_complexity(rest, features, test=test, resamples=1).r2.mean(axis=0)

    return read(z) if own is None else np.concatenate([read(z[:, i], j) for i, j in enumerate(own)])


def _encoded(rows: int, seed: int, work: Path) -> tuple[dict[str, Real], Real]:
    """The layers of MiniLM and their branches, averaged over tokens, for `rows` sentences, and the sentences' scores.

    Each seed has other sentences.
    """
    file = work / f"minilm-{rows}-{seed}.npz"
    if not file.exists():
        examples = read_examples(movie_reviews_path(), label="score", task="regression")
        order = np.random.default_rng(derive(0, "sentences")).permutation(len(examples))
        chosen = order[(seed * rows + np.arange(rows)) % len(order)]
        states = _forward([examples.texts[i] for i in chosen])
        np.savez(file, score=np.array([examples.labels[i] for i in chosen], dtype=np.float64), **states)
    with np.load(file) as stored:
        return {name: stored[name].astype(np.float64) for name in stored if name != "score"}, stored["score"]


def _forward(texts: list[str]) -> dict[str, NDArray[np.float32]]:
    from transformers import AutoModel, AutoTokenizer

    folder = str(minilm())
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding
    batches = [
        tokenizer([texts[i] for i in part], truncation=True, max_length=TOKENS, padding=True, return_tensors="pt")
        for part in (order[start : start + 64] for start in range(0, len(order), 64))
    ]
    names = sorted({*LAYERS, *(name for block in BLOCKS for name in block)})
    found = layer_activations(model, names, batches, call=lambda model, batch: model(**batch))
    back = np.argsort(order)
    return {name: states.numpy()[back] for name, states in found.items()}


def _features(cell: Cell, last: Real, train: NDArray[np.bool_]) -> Real:
    """Scores of `count` directions of the last layer; what is fitted sees training rows only."""
    count, seed = cell["count"], derive(cell["seed"], "features") % 2**32
    if cell["features"] == "nmf":
        from sklearn.decomposition import NMF

        positive = last.clip(0)  # the encoder's last layer has both signs
        nmf = NMF(count, init="nndsvda", max_iter=400, tol=1e-3, random_state=seed).fit(positive[train])
        return np.asarray(nmf.transform(positive), dtype=np.float64)
    middle = last[train].mean(axis=0)
    if cell["features"] == "pca":
        directions = np.linalg.svd(last[train] - middle, full_matrices=False)[2][:count].T
    else:
        directions = np.random.default_rng(seed).standard_normal((last.shape[1], count))
        directions /= np.linalg.norm(directions, axis=0)
    return np.asarray((last - middle) @ directions, dtype=np.float64)


def _digits(cell: Cell) -> dict[str, Any]:
    """Trains a classifier, and asks at each checkpoint what its layers show of the features of the finished one."""
    x, y = _digit_data()
    order = np.random.default_rng(derive(cell["seed"], "digits")).permutation(len(x))
    x, y = x[order], y[order]
    test = np.arange(len(x)) >= TRAIN
    net, seen, times = _train(x[:TRAIN], y[:TRAIN], x, cell["epochs"], cell["seed"])
    last = seen[-1][-1]
    lively = last[:TRAIN].std(axis=0) > LIVELY
    z = last[:, lively]
    whole = [feature_complexity(layers, z, test=test, seed=cell["seed"]) for layers in seen]
    k = whole[-1].k
    time = learned_at(np.stack([found.r2[-1] for found in whole]), times)
    importance = head_importance(z[test], net[-1].weight.detach()[:, torch.from_numpy(lively)])
    spare = _redundancy(cell, last, z, test, np.flatnonzero(lively))
    kept = np.isfinite(k) & np.isfinite(time)
    most = importance >= np.quantile(importance[kept], 2 / 3)
    moved = feature_sensitivity(net[:-1], x[test], NOISE, seed=cell["seed"])[lively]
    with torch.no_grad():
        right = (net(x).argmax(1) == y).numpy()
    return _described(k[kept], whole[-1].r2[:, kept]) | {
        "features": int(kept.sum()),
        "clipped": whole[-1].clipped,
        "mean standard error of K": float(whole[-1].k_standard_error[kept].mean()),
        "train accuracy": float(right[:TRAIN].mean()),
        "test accuracy": float(right[TRAIN:].mean()),
        "times": list(times),
        "learning time": time[kept].tolist(),
        "K": k[kept].tolist(),
        "importance": importance[kept].tolist(),
        "sedimentation": {
            "most important third": [float(found.k[kept & most].mean()) for found in whole],
            "other features": [float(found.k[kept & ~most].mean()) for found in whole],
        },
        "spearman": _correlations(
            k[kept],
            z[test][:, kept].var(axis=0),
            {
                "importance": importance[kept],
                "learning time": time[kept],
                "sensitivity to noise": moved[kept],
                "redundancy": spare[kept],
            },
            cell,
        ),
    }


def _digit_data() -> tuple[torch.Tensor, torch.Tensor]:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)


def _train(
    x: torch.Tensor, y: torch.Tensor, everything: torch.Tensor, epochs: int, seed: int
) -> tuple[nn.Sequential, list[list[Real]], list[int]]:
    """The finished network, and at each checkpoint the input and the outputs of all hidden layers for every row."""
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "init"))
        parts: list[nn.Module] = []
        for a, b in pairwise(WIDTHS):
            parts += [nn.Linear(a, b), nn.ReLU()]
        net = nn.Sequential(*parts, nn.Linear(WIDTHS[-1], 10))
    hidden = [str(i) for i, module in enumerate(net) if isinstance(module, nn.ReLU)]
    optimiser, dice = torch.optim.Adam(net.parameters(), 1e-3), generator(seed, "batches")
    times = [e for e in CHECKPOINTS if e <= epochs]
    seen = []
    for epoch in range(epochs + 1):
        if epoch in times:
            layers = layer_activations(net, hidden, [everything])
            seen.append([t.double().numpy() for t in (everything, *layers.values())])
        if epoch < epochs:
            for part in torch.randperm(len(x), generator=dice).split(64):
                optimiser.zero_grad()
                nn.functional.cross_entropy(net(x[part]), y[part]).backward()
                optimiser.step()
    return net, seen, times


def _described(k: Real, r2: Real) -> dict[str, Any]:
    mean = r2.mean(axis=1)
    return {
        "least K": float(k.min()),
        "median K": float(np.median(k)),
        "largest K": float(k.max()),
        "mean R2": mean.tolist(),
        "deepest fall of R2": float(-np.diff(mean).min()),
    }


def _correlations(k: Real, variance: Real, others: Mapping[str, Real], cell: Cell) -> dict[str, Any]:
    found = {"variance": _interval(spearman, cell, k, variance)}
    for name, values in others.items():
        found[name] = _interval(spearman, cell, k, values)
        found[f"{name}, variance held"] = _interval(partial_spearman, cell, k, values, variance)
    return found


def _interval(statistic: Any, cell: Cell, *rows: Real) -> dict[str, float]:
    low, high = bootstrap(statistic, *rows, seed=cell["seed"], resamples=1000, confidence=0.9)
    return {"value": statistic(*rows), "low": low, "high": high}


def spearman(a: Real, b: Real) -> float:
    """Spearman's correlation; 0 where a side never changes, which then goes with nothing."""
    return float(spearmanr(a, b)[0]) if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0


def partial_spearman(a: Real, b: Real, given: Real) -> float:
    """Spearman's correlation of a and b when the ranks of `given` are held."""
    ab, ac, bc = spearman(a, b), spearman(a, given), spearman(b, given)
    rest = (1 - ac**2) * (1 - bc**2)
    return float((ab - ac * bc) / np.sqrt(rest)) if rest > 1e-12 else 0.0
