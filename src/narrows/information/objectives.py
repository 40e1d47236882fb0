"""Variational bounds of mutual information on a matrix of scores, as plain functions that can be differentiated.

A critic gives scores f_ij = f(x_i, y_j); the diagonal has the pairs that belong together, all other entries pairs that
do not. With LME the logarithm of the mean exponential over the n (n - 1) entries off the diagonal:

    InfoNCE  mean_i [f_ii - ln sum_j e^f_ij] + ln n    lower bound, never above ln n
    DV       mean_i f_ii - LME(f)                      lower bound of Donsker and Varadhan, best f = ln ratio + any c
    NWJ      mean_i f_ii - exp(LME(f) - 1)             lower bound of Nguyen, Wainwright, Jordan, best f = 1 + ln ratio
    JS       mean_i -sp(-f_ii) - mean sp(f_ij)         sp is softplus; to train by only, best f = ln ratio
    SMILE    mean_i f_ii - LME(clamp(f, -tau, tau))    no bound; trained by JS
    MINE     DV, whose gradient divides by a moving average of the partition sum

Poole et al. 2019 (arXiv:1905.06922), van den Oord et al. 2018 (arXiv:1807.03748), Belghazi et al. 2018
(arXiv:1801.04062), Song and Ermon 2020 (arXiv:1910.06222). DV, NWJ and SMILE have a variance of at least
(e^I - 1) / n even with the best critic: above about ln n they are noise.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError

INFONCE = register_reference(
    Reference(
        "arXiv:1807.03748",
        "Representation learning with contrastive predictive coding",
        ("Aaron van den Oord", "Yazhe Li", "Oriol Vinyals"),
        2018,
    )
)
MINE = register_reference(
    Reference(
        "arXiv:1801.04062",
        "Mutual information neural estimation",
        (
            "Mohamed Ishmael Belghazi",
            "Aristide Baratin",
            "Sai Rajeswar",
            "Sherjil Ozair",
            "Yoshua Bengio",
            "Aaron Courville",
            "R Devon Hjelm",
        ),
        2018,
        "International Conference on Machine Learning",
    )
)
BOUNDS = register_reference(
    Reference(
        "arXiv:1905.06922",
        "On variational bounds of mutual information",
        ("Ben Poole", "Sherjil Ozair", "Aaron van den Oord", "Alexander A. Alemi", "George Tucker"),
        2019,
        "International Conference on Machine Learning",
    )
)
SMILE = register_reference(
    Reference(
        "arXiv:1910.06222",
        "Understanding the limitations of variational mutual information estimators",
        ("Jiaming Song", "Stefano Ermon"),
        2020,
        "International Conference on Learning Representations",
    )
)

Bound = Literal["infonce", "dv", "nwj", "smile"]
TAU = 5.0
"""Where SMILE clamps the scores."""


@cites(INFONCE.key)
def infonce_bound(scores: Tensor) -> Tensor:
    """InfoNCE in nats from scores (n, n); at most ln n, unchanged by scores + c_i. Source: van den Oord et al. 2018."""
    n = _square(scores)
    return (scores.diagonal() - scores.logsumexp(dim=1)).mean() + math.log(n)


@cites(MINE.key)
def dv_bound(scores: Tensor) -> Tensor:
    """The bound of Donsker and Varadhan in nats from scores (n, n). Source: Belghazi et al. 2018."""
    log_z = log_mean_exp_off(scores)
    return scores.diagonal().mean() - log_z


@cites(BOUNDS.key)
def nwj_bound(scores: Tensor) -> Tensor:
    """The bound of Nguyen, Wainwright and Jordan in nats from scores (n, n). Source: Poole et al. 2019."""
    log_z = log_mean_exp_off(scores)
    return scores.diagonal().mean() - (log_z - 1).exp()


@cites(BOUNDS.key)
def js_objective(scores: Tensor) -> Tensor:
    """The Jensen-Shannon objective of scores (n, n): what to train by; its value is no mutual information."""
    n = _square(scores)
    apart = softplus(scores)
    return logsigmoid(scores.diagonal()).mean() - (apart.sum() - apart.diagonal().sum()) / (n * (n - 1))


@cites(SMILE.key)
def smile_objective(scores: Tensor, tau: float = TAU) -> Tensor:
    """SMILE in nats from scores (n, n), with the gradient of `js_objective`. Source: Song and Ermon 2020."""
    by = js_objective(scores)
    value = scores.diagonal().mean() - log_mean_exp_off(scores.clamp(-tau, tau))
    return by + (value - by).detach()


@cites(MINE.key)
def mine_objective(scores: Tensor, log_average: Tensor | None, decay: float = 0.99) -> tuple[Tensor, Tensor]:
    """DV in nats from scores (n, n), with MINE's gradient, and the log of the new moving average of the partition sum.

    The gradient of ln Z over a batch is biased, as it divides by the Z of that batch; here it divides by an average
    over batches: `log_average` is what the last call gave, None the first time. Source: Belghazi et al. 2018, eq. 12.
    """
    log_z = log_mean_exp_off(scores)
    now = log_z.detach()
    if log_average is None:
        log_average = now
    log_average = torch.logaddexp(log_average + math.log(decay), now + math.log1p(-decay))
    joint = scores.diagonal().mean()
    by = joint - (log_z - log_average).exp()
    return by + (joint - log_z - by).detach(), log_average


def log_mean_exp_off(scores: Tensor) -> Tensor:
    """The logarithm of the mean exponential of scores (n, n) over the n (n - 1) entries off the diagonal."""
    n = _square(scores)
    return _without_diagonal(scores).logsumexp(dim=(0, 1)) - math.log(n * (n - 1))


def pair_terms(bound: Bound, scores: Tensor, tau: float = TAU) -> Tensor:
    """What each pair contributes to a bound; shape (n,). The mean is the bound itself.

    Their deviation over sqrt(n) is its standard error for a fixed critic (infinitesimal jackknife): every pair counts
    with its place in the row, in the column and on the diagonal.
    """
    n = _square(scores)
    joint = scores.diagonal()
    if bound == "infonce":
        rows = scores.logsumexp(dim=1)
        columns = (scores - rows[:, None]).exp().sum(dim=0)
        return joint - rows + math.log(n) + 1 - columns
    apart = _without_diagonal(scores if bound != "smile" else scores.clamp(-tau, tau))
    log_z = apart.logsumexp(dim=(0, 1)) - math.log(n * (n - 1))
    shift = 1.0 if bound == "nwj" else log_z
    weights = (apart - shift).exp() / (n - 1)
    own = weights.sum(dim=0) + weights.sum(dim=1)
    if bound == "nwj":
        return joint - own + (log_z - 1).exp()
    return joint - log_z + 2 - own


def _without_diagonal(scores: Tensor) -> Tensor:
    return scores.masked_fill(torch.eye(len(scores), dtype=torch.bool, device=scores.device), -torch.inf)


def _square(scores: Tensor) -> int:
    n = len(scores) if scores.ndim == 2 else 0
    if n < 2 or scores.shape != (n, n):
        raise DataError(f"scores have the shape {tuple(scores.shape)}, expected (n, n) with at least 2 rows")
    return n
