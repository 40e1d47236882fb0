"""`rebuild` makes the model of a plan and refits every kept weight to the dense model's activations, without training.

The residual stream is put into the plan's basis (the leading principal directions for `"pca"`), the word table into the
plan's rank, and then, in the order of the forward pass, every Linear and LayerNorm is solved by ridge least
squares from
the small model's own inputs so far to the dense model's activations. The ridge pulls towards the sliced dense weights,
so that a plan that keeps everything gives back the dense model.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from narrows.core.errors import ModelError, NarrowsError
from narrows.transformer.anatomy import Anatomy, part
from narrows.transformer.calibrate import Batch, Calibration, Tick, calibrate, model_inputs
from narrows.transformer.cut import cut
from narrows.transformer.gates import layer_norm
from narrows.transformer.plan import Plan


@dataclass(frozen=True)
class SiteVariance:
    """How much of the variance of the dense activations at one LayerNorm output the small model reproduces (at
    most 1)."""

    site: str
    variance: float


@dataclass(frozen=True)
class Rebuilt:
    """A rebuilt model, its basis (d x h: dense activations are close to `small @ basis.T`) and its reconstruction."""

    model: PreTrainedModel
    basis: Tensor
    reconstruction: tuple[SiteVariance, ...]


def basis_of(plan: Plan, hidden: int, directions: Tensor) -> Tensor:
    """The orthonormal columns (d x h) of a plan's residual stream in the dense one.

    A LayerNorm model at full width has no use for another basis than its own: LayerNorm does not commute with
    rotations.
    """
    if plan.basis == "pca" and len(plan.hidden) < hidden:
        return directions[:, : len(plan.hidden)].contiguous()
    return torch.eye(hidden, dtype=directions.dtype)[:, list(plan.hidden)]


@torch.no_grad()
def rebuild(
    model: PreTrainedModel,
    plan: Plan,
    data: Calibration | Sequence[Batch],
    *,
    ridge: float = 1e-3,
    start: PreTrainedModel | None = None,
    stock: bool = False,
    tick: Tick | None = None,
) -> Rebuilt:
    """The small model of any plan, refitted layer by layer.

    `data`: calibration batches, or a `Calibration` of this model. Activations of one layer at a time are kept in
    temporary files, so that memory does not grow with the number of batches. `ridge` is relative to the mean variance
    of a Linear's inputs. `start` (default: the model itself) is the model whose weights the refit begins at, such
    as one with learned scales folded in; `stock` is that of `cut`.
    Raises `ModelError` for a masked-language model in the basis `"pca"`: the activation inside its head does not
    rotate.
    """
    calibration = data if isinstance(data, Calibration) else calibrate(model, data)
    anatomy = Anatomy.of(model)
    if plan.basis == "pca" and any(t.kind == "transform" for t in anatomy.family.tails_of(anatomy.class_name)):
        raise ModelError(f"{anatomy.class_name} cannot be rebuilt in the basis 'pca'; use basis='channels'")
    basis = basis_of(plan, anatomy.shape.hidden, calibration.directions.to(model.device))
    rotation = basis if plan.basis == "pca" else None
    small = cut(start or model, plan, rotation=rotation, table=calibration.table, stock=stock)
    training = small.training
    small.eval()
    was_training = model.training
    model.eval()
    try:
        with tempfile.TemporaryDirectory(prefix="narrows-") as folder:
            work = _Rebuild(model, small, anatomy, plan, basis, calibration, ridge, Path(folder), tick)
            work.run()
    finally:
        model.train(was_training)
    return Rebuilt(small.train(training), basis, tuple(work.sites))


_STILL = 1e-2  # share of the mean square below which variation is no ground to build on


class LeastSquares:
    """Ridge least squares with intercept from streamed rows: the correction to weights that are already there.

    Inputs are taken from the mean of the first rows: where they hardly vary, the difference of squares that are summed
    in single precision would be rounding and nothing else.
    """

    def __init__(self, inputs: int, outputs: int, device: torch.device) -> None:
        self.count = 0
        self.start: Tensor | None = None
        self.x, self.r, self.xx, self.xr = (
            torch.zeros(shape, dtype=torch.float64, device=device)
            for shape in ((inputs,), (outputs,), (inputs, inputs), (inputs, outputs))
        )

    def add(self, x: Tensor, residual: Tensor) -> None:
        """Rows `x` (n, inputs) and what is still missing at the output, `residual` (n, outputs)."""
        if self.start is None:
            self.start = x.mean(0)
        x = x - self.start
        self.count += len(x)
        self.x += x.sum(0, dtype=torch.float64)
        self.r += residual.sum(0, dtype=torch.float64)
        self.xx += x.T @ x
        self.xr += x.T @ residual

    def solve(self, ridge: float) -> tuple[Tensor, Tensor]:
        """(weight, bias) to add: (outputs, inputs) and (outputs,).

        `ridge` is relative to the mean input variance; where inputs hardly vary, to a hundredth of their mean square:
        weights that amplify so little variation break with the first steps of training.
        """
        x, r = self.x / self.count, self.r / self.count
        covariance = self.xx / self.count - torch.outer(x, x)
        cross = self.xr / self.count - torch.outer(x, r)
        assert self.start is not None
        mean = x + self.start
        variance, size = covariance.diagonal().mean(), mean.square().mean()
        strength = ridge * torch.maximum(variance, _STILL * size).clamp_min(1e-12)
        weight = torch.linalg.solve(covariance + strength * torch.eye(len(x), dtype=x.dtype, device=x.device), cross).T
        return weight, r - weight @ mean


class Spread:
    """Running total variance of rows of vectors."""

    def __init__(self) -> None:
        self.count = 0
        self.total: Tensor | float = 0.0
        self.squares = 0.0

    def add(self, rows: Tensor) -> None:
        self.count += len(rows)
        self.total = self.total + rows.sum(0, dtype=torch.float64)
        self.squares += float(rows.square().sum(dtype=torch.float64))

    def variance(self) -> float:
        mean = torch.as_tensor(self.total) / self.count
        return self.squares / self.count - float(mean.square().sum())


class _Stream:
    """Rows of activations, one block per batch, in a file: (rows of the batch, width)."""

    def __init__(self, path: Path, rows: Sequence[int], width: int, like: Tensor) -> None:
        self.starts = [0]
        for n in rows:
            self.starts.append(self.starts[-1] + n)
        self.device = like.device
        size = self.starts[-1] * width
        _reserve(path, size * like.element_size())
        self.data = torch.from_file(str(path), shared=True, size=size, dtype=like.dtype).view(-1, width)

    def __getitem__(self, batch: int) -> Tensor:
        return self.data[self.starts[batch] : self.starts[batch + 1]].to(self.device)

    def __setitem__(self, batch: int, rows: Tensor) -> None:
        self.data[self.starts[batch] : self.starts[batch + 1], : rows.shape[1]] = rows.cpu()


def _reserve(path: Path, size: int) -> None:
    """Make a file of `size` bytes on the disk: where there is no room, writing to its mapping kills the process."""
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise NarrowsError(
            f"no room for {size / 1e6:.0f} MB of activations in {path.parent.parent}: {error.strerror}; "
            "free some, or name another folder in the environment variable TMPDIR"
        ) from None


class _Rebuild:
    """One run of `rebuild`: capital letters are the dense model's activations, small ones the small model's."""

    def __init__(
        self,
        model: PreTrainedModel,
        small: PreTrainedModel,
        anatomy: Anatomy,
        plan: Plan,
        basis: Tensor,
        calibration: Calibration,
        ridge: float,
        folder: Path,
        tick: Tick | None,
    ) -> None:
        self.model, self.small, self.anatomy, self.plan = model, small, anatomy, plan
        self.basis, self.ridge, self.tick = basis, ridge, tick
        self.batches = calibration.batches
        self.masks = [b["attention_mask"].bool().to(model.device) for b in self.batches]
        rows = [m.numel() for m in self.masks]
        like = next(model.parameters())
        self.dense = _Stream(folder / "dense", rows, anatomy.shape.hidden, like)
        self.narrow = _Stream(folder / "narrow", rows, basis.shape[1], like)
        width = max(1, max(len(layer.heads) for layer in plan.layers)) * anatomy.head_dim
        self.context = _Stream(folder / "context", rows, width, like)
        self.sites: list[SiteVariance] = []
        self.done = 0

    def run(self) -> None:
        self._embed()
        for layer in range(self.anatomy.layers):
            if self.plan.layers[layer].heads:
                self._fit_queries(layer)
            self._attend(layer)
            self._fit_norm(layer, "attention_norm", f"layer {layer} attention")
            if self.plan.layers[layer].neurons:
                self._fit_ffn_in(layer)
            self._feed_forward(layer)
            self._fit_norm(layer, "ffn_norm", f"layer {layer} ffn")
            self._step()
        self._fit_tails()

    def _step(self) -> None:
        self.done += 1
        if self.tick:
            self.tick(self.done, self.anatomy.layers + 1)

    def _each(self) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
        """(batch, which rows are real tokens, dense rows, small rows)."""
        for b, mask in enumerate(self.masks):
            yield b, mask.flatten(), self.dense[b], self.narrow[b]

    def _part(self, model: PreTrainedModel, layer: int, name: str) -> nn.Module:
        return part(model, self.anatomy.family, layer, name)

    def _linear(self, model: PreTrainedModel, layer: int, name: str) -> nn.Linear:
        return cast(nn.Linear, self._part(model, layer, name))

    def _embed(self) -> None:
        """The sums before the embedding LayerNorm, then that norm."""
        for b, batch in enumerate(self.batches):
            self.dense[b] = _embedding_sum(self.model, self.anatomy, batch, None).flatten(0, 1)
            self.narrow[b] = _embedding_sum(self.small, self.anatomy, batch, self.plan.vocab).flatten(0, 1)
        path = self.anatomy.family.embedding_norm
        self._refit_norm(
            self.model.base_model.get_submodule(path), self.small.base_model.get_submodule(path), "embedding"
        )
        self._step()

    def _fit_norm(self, layer: int, name: str, site: str) -> None:
        self._refit_norm(self._part(self.model, layer, name), self._part(self.small, layer, name), site)

    def _refit_norm(self, dense: nn.Module, norm: nn.Module, site: str) -> None:
        """Refit slope and offset of a LayerNorm, channel by channel, and move both streams behind it."""
        weight, bias = cast(Tensor, norm.weight), cast(Tensor, norm.bias)
        width = len(weight)
        zeros = [torch.zeros(width, dtype=torch.float64, device=weight.device) for _ in range(4)]
        x, r, xx, xr = zeros
        count = 0
        for b, real, big, little in self._each():
            big = dense(big)
            self.dense[b] = big
            unit = layer_norm(norm, little)[real]
            missing = big[real] @ self.basis - unit * weight - bias
            count += len(unit)
            x += unit.sum(0)
            r += missing.sum(0)
            xx += unit.square().sum(0)
            xr += (unit * missing).sum(0)
        x, r = x / count, r / count
        variance = xx / count - x.square()
        slope = (xr / count - x * r) / (variance + self.ridge * variance.mean().clamp_min(1e-12))
        weight += slope.to(weight)
        bias += (r - slope * x).to(bias)
        wanted, error = Spread(), Spread()
        for b, real, big, little in self._each():
            after = norm(little)
            self.narrow[b] = after
            wanted.add(big[real])
            error.add(big[real] - after[real] @ self.basis.T)
        self.sites.append(SiteVariance(site, 1 - error.variance() / max(wanted.variance(), 1e-30)))

    def _fit(
        self,
        linear: nn.Linear,
        rows: Callable[[int, Tensor, Tensor], tuple[Tensor, Tensor]],
    ) -> None:
        """Refit a Linear: `rows(batch, dense, small)` gives its inputs and its wanted outputs for all rows."""
        squares = LeastSquares(linear.in_features, linear.out_features, linear.weight.device)
        for b, real, big, little in self._each():
            x, wanted = rows(b, big, little)
            squares.add(x[real], (wanted - linear(x))[real])
        _correct(linear, squares.solve(self.ridge))

    def _fit_queries(self, layer: int) -> None:
        size = self.anatomy.head_dim
        heads = torch.tensor(self.plan.layers[layer].heads)
        channels = (heads[:, None] * size + torch.arange(size)).flatten().to(self.model.device)
        names = ("query", "key", "value")
        small = [self._linear(self.small, layer, n) for n in names]
        dense = [self._linear(self.model, layer, n) for n in names]
        joint = LeastSquares(small[0].in_features, 3 * len(channels), channels.device)
        for _, real, big, little in self._each():
            big, little = big[real], little[real]
            wanted = [
                F.linear(big, d.weight[channels], d.bias[channels]) - s(little)
                for d, s in zip(dense, small, strict=True)
            ]
            joint.add(little, torch.cat(wanted, 1))
        weight, bias = joint.solve(self.ridge)
        for s, w, b in zip(small, weight.chunk(3), bias.chunk(3), strict=True):
            _correct(s, (w, b))

    def _attend(self, layer: int) -> None:
        """Refit the output of attention to the dense residual sum minus the small residual, and add both up."""
        if not self.plan.layers[layer].heads:
            for b, _, big, _ in self._each():
                self.dense[b] = self._attended(layer, b, big)
            return
        small_out = self._linear(self.small, layer, "attention_out")
        width = small_out.in_features

        def rows(b: int, big: Tensor, little: Tensor) -> tuple[Tensor, Tensor]:
            big = self._attended(layer, b, big)
            self.dense[b] = big
            context = self._context(self.small, layer, b, little)
            self.context[b] = context
            return context, big @ self.basis - little

        self._fit(small_out, rows)
        for b, _, _, little in self._each():
            self.narrow[b] = little + small_out(self.context[b][:, :width])

    def _attended(self, layer: int, b: int, rows: Tensor) -> Tensor:
        """The dense residual sum behind attention; a model that was cut before may have none in this layer."""
        if not self.anatomy.shape.heads[layer]:
            return rows
        context = self._context(self.model, layer, b, rows)
        return rows + cast(Tensor, self._part(self.model, layer, "attention_out")(context))

    def _context(self, model: PreTrainedModel, layer: int, b: int, rows: Tensor) -> Tensor:
        mask = self.masks[b]
        q, k, v = (
            self._part(model, layer, n)(rows).view(*mask.shape, -1, self.anatomy.head_dim).transpose(1, 2)
            for n in ("query", "key", "value")
        )
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return context.transpose(1, 2).flatten(2).flatten(0, 1)

    def _fit_ffn_in(self, layer: int) -> None:
        kept = torch.tensor(self.plan.layers[layer].neurons, device=self.model.device)
        dense = self._linear(self.model, layer, "ffn_in")
        weight, bias = dense.weight[kept], dense.bias[kept]
        self._fit(
            self._linear(self.small, layer, "ffn_in"), lambda b, big, little: (little, F.linear(big, weight, bias))
        )

    def _feed_forward(self, layer: int) -> None:
        """Refit the output of the FFN to the dense residual sum minus the small residual, and add both up."""
        if not self.plan.layers[layer].neurons:
            for b, _, big, _ in self._each():
                self.dense[b] = self._fed_forward(layer, big)
            return
        activation = self._part(self.model, layer, "activation")
        small_in, small_out = self._part(self.small, layer, "ffn_in"), self._linear(self.small, layer, "ffn_out")

        def rows(b: int, big: Tensor, little: Tensor) -> tuple[Tensor, Tensor]:
            big = self._fed_forward(layer, big)
            self.dense[b] = big
            return activation(small_in(little)), big @ self.basis - little

        self._fit(small_out, rows)
        for b, _, _, little in self._each():
            self.narrow[b] = little + small_out(activation(small_in(little)))

    def _fed_forward(self, layer: int, rows: Tensor) -> Tensor:
        """The dense residual sum behind the FFN; a model that was cut before may have none in this layer."""
        if not self.anatomy.shape.neurons[layer]:
            return rows
        inner, activation, out = (self._part(self.model, layer, n) for n in ("ffn_in", "activation", "ffn_out"))
        return rows + cast(Tensor, out(activation(inner(rows))))

    def _fit_tails(self) -> None:
        """Refit what reads the last layer: poolers and heads."""
        tails = self.anatomy.family.tails_of(self.anatomy.class_name)
        if any(tail.kind == "transform" for tail in tails):
            return  # what follows a transform does not read the last layer
        for tail in tails:
            if tail.kind != "read":
                continue
            source, target = (m.base_model if tail.in_base else m for m in (self.model, self.small))
            try:
                dense, linear = (cast(nn.Linear, m.get_submodule(tail.path)) for m in (source, target))
            except AttributeError:
                continue
            squares = LeastSquares(linear.in_features, linear.out_features, linear.weight.device)
            for b, real, big, little in self._each():
                mask = self.masks[b]
                chosen = (
                    real.nonzero()[:, 0]
                    if tail.per_token
                    else torch.arange(len(mask), device=mask.device) * mask.shape[1]
                )
                wanted = dense(big[chosen])[:, : linear.out_features]
                squares.add(little[chosen], wanted - linear(little[chosen]))
            _correct(linear, squares.solve(self.ridge))


def _correct(linear: nn.Linear, step: tuple[Tensor, Tensor]) -> None:
    linear.weight.add_(step[0].to(linear.weight))
    linear.bias.add_(step[1].to(linear.bias))


def _embedding_sum(model: PreTrainedModel, anatomy: Anatomy, batch: Batch, vocab: tuple[int, ...] | None) -> Tensor:
    """What the embedding LayerNorm gets, (batch, tokens, width)."""
    inputs = model_inputs(model, batch)
    inputs.pop("attention_mask")
    if vocab is not None:
        new = torch.full((anatomy.shape.vocab,), -1)
        new[list(vocab)] = torch.arange(len(vocab))
        inputs["input_ids"] = new.to(model.device)[inputs["input_ids"]]
        if bool((inputs["input_ids"] < 0).any()):
            raise ModelError("the calibration data uses tokens that the plan removes from the vocabulary")
    base = model.base_model
    caught: list[Tensor] = []
    norm = base.get_submodule(anatomy.family.embedding_norm)
    handle = norm.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    try:
        base.get_submodule(anatomy.family.word.split(".")[0])(**inputs)
    finally:
        handle.remove()
    return caught[0]
