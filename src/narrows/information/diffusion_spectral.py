"""Diffusion spectral entropy: how many things a representation tells apart, and how much of that a label explains.

Liao, Liu, Christensen, Tong, Huguet, Wolf, Nickel, Adelstein and Krishnaswamy, "Assessing neural network
representations during training using noise-resilient diffusion spectral entropy" (2023): with
G_ij = exp(-|z_i - z_j|^2 / (2 sigma^2)), g = G 1, and l the eigenvalues, all in [0, 1], of
K = diag(g)^(-1/2) G diag(g)^(-1/2),

    p_i = l_i^t / sum_j l_j^t,    S(Z) = -sum_i p_i ln p_i,    between 0 and ln n,
    DSMI(Z; Y) = sum_c P(Y = c) [S(as many rows of Z, drawn at random) - S(rows of Z with Y = c)].

S is the entropy of a spectrum, not of the law of Z: k tight clusters far apart give ln k whatever their sizes, it
depends on sigma, and it grows with n. So DSMI is no mutual information either: it is not symmetric and can be negative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from narrows.core.cite import Reference, cites, register_reference
from narrows.core.errors import DataError
from narrows.core.seeds import derive
from narrows.information.estimate import Caution, Estimate
from narrows.information.inputs import Codes, Real, Samples, codes, column_cautions, columns, is_label, same_rows
from narrows.information.kernel_spectrum import Kernel, Spectrum

DSE = register_reference(
    Reference(
        "arXiv:2312.04823",
        "Assessing neural network representations during training using noise-resilient diffusion spectral entropy",
        (
            "Danqi Liao",
            "Chen Liu",
            "Benjamin W. Christensen",
            "Alexander Tong",
            "Guillaume Huguet",
            "Guy Wolf",
            "Maximilian Nickel",
            "Ian Adelstein",
            "Smita Krishnaswamy",
        ),
        2023,
    )
)

Sigma = float | Literal["median"]
Normalization = Literal["code", "paper"]

_PAIRS = 1000  # rows whose pairs give the median distance
_LOW, _HIGH = 0.02, 0.98  # shares of ln n beyond which S says more about sigma than about the data
_FINE = 1e-12


@cites(DSE.key)
def diffusion_spectral_entropy(
    x: Samples,
    sigma: Sigma = 10.0,
    t: float = 1.0,
    *,
    normalization: Normalization = "code",
    tolerance: float = 1e-7,
    max_n: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """Diffusion spectral entropy in nats of x (n, d).

    `sigma`: the bandwidth, in the units of x; 10 is the published one, "median" is half the median distance of two
    rows, which makes the value independent of the scale of x. Compare values at the same n, and not across layers of
    different scale at one fixed sigma. `t`: steps of diffusion; more of them leave fewer, larger eigenvalues.
    `normalization`: "code" is K as above, with which all figures were published; "paper" divides K by its row sums
    once more, as the text of the paper has it. Beyond `max_n` rows that many are drawn with `seed`.

    The result is within `tolerance` of that of the full spectrum; details["remainder bound"] says how near (0: all
    eigenvalues were computed). Time is of order n^2 d where the eigenvalues decay fast (few columns, large sigma), of
    order n^3 otherwise, and then memory is n^2. Raises DataError for sigma or t that are not positive.
    Source: Liao et al. 2023.
    """
    rows = columns(x)
    _require(t, normalization, tolerance, max_n)
    same_rows(rows, rows)
    n = len(rows)
    cautions = row_cautions(rows)
    rows, fewer = _thinned(rows, max_n, seed)
    middle = median_distance(rows, seed)
    width = bandwidth(sigma, middle)
    found = _spectrum(rows, width, t, normalization, tolerance)
    value, bound = _entropy(found, t)
    return Estimate(
        value,
        "diffusion_spectral_entropy",
        n,
        (rows.shape[1],),
        cautions=(*cautions, *fewer, *_ends(value, math.log(len(rows)), width, middle)),
        details={
            "sigma": width,
            "median distance": middle,
            "t": t,
            "normalization": normalization,
            "eigenvalues": len(found.values),
            "remainder bound": bound,
            "share of eigenvalues above 0.01": float((found.values**t > 0.01).sum()) / found.n,
        },
    )


@cites(DSE.key)
def diffusion_spectral_information(
    x: Samples,
    y: Samples,
    sigma: Sigma = 10.0,
    t: float = 1.0,
    *,
    repeats: int = 5,
    bins: int = 10,
    normalization: Normalization = "code",
    tolerance: float = 1e-7,
    max_n: int = 10_000,
    seed: int = 0,
) -> Estimate:
    """DSMI in nats of a representation x (n, d) and y: how much smaller the entropy of x is where y is known.

    y is a label (names, booleans, whole numbers of an integer type), one column of quantities, which is cut into `bins`
    of equal width, or several columns, which are clustered into `bins` (see `spectral_clusters`: keep what it gives and
    pass it as y where one y meets many x). The entropy of as many rows as a class has is the mean of `repeats` draws
    without replacement; classes of one size share their draws. The other options are those of
    `diffusion_spectral_entropy`. For k balanced tight clusters and their labels the value is ln k, less what is lost
    where a draw misses a cluster; for labels that say nothing it is 0 within the noise of the draws, of either sign.
    """
    rows = columns(x)
    _require(t, normalization, tolerance, max_n)
    if repeats < 1 or bins < 2:
        raise DataError(f"repeats must be at least 1 and bins at least 2, got {repeats} and {bins}")
    same_rows(rows, codes(y, "y"))
    n = len(rows)
    dims = 1 if np.ndim(y) == 1 else np.shape(y)[1]
    classes, how = _classes(y, dims, bins, seed)
    cautions = row_cautions(rows)
    kept, fewer = _thinned(np.concatenate([rows, classes[:, None]], axis=1), max_n, seed)
    rows, classes = np.ascontiguousarray(kept[:, :-1]), kept[:, -1].astype(np.int64)
    middle = median_distance(rows, seed)
    width = bandwidth(sigma, middle)

    def entropies(parts: Sequence[Real]) -> tuple[float, float]:
        both = [_entropy(_spectrum(part, width, t, normalization, tolerance), t) for part in parts]
        return float(np.mean([value for value, _ in both])), max(bound for _, bound in both)

    sizes = np.unique(classes, return_counts=True)[1]
    drawn = {int(m): entropies(_draws(rows, int(m), repeats, seed)) for m in np.unique(sizes)}
    own = [entropies([rows[classes == c]]) for c in np.unique(classes)]
    shares = sizes / len(rows)
    of_draws = [drawn[int(m)] for m in sizes]
    level = sum(share * value for share, (value, _) in zip(shares, of_draws, strict=True))
    value = float(level - sum(share * value for share, (value, _) in zip(shares, own, strict=True)))
    bound = sum(p * (a[1] + b[1]) for p, a, b in zip(shares, of_draws, own, strict=True))
    single = int((sizes == 1).sum())
    alone = (Caution("few samples", f"{single} of {len(sizes)} classes have one row: they count as 0"),)
    return Estimate(
        value,
        "diffusion_spectral_information",
        n,
        (rows.shape[1], dims),
        cautions=(
            *cautions,
            *fewer,
            *how,
            *(alone if single else ()),
            *_ends(float(level), float(shares @ np.log(sizes)), width, middle),
        ),
        details={
            "sigma": width,
            "median distance": middle,
            "t": t,
            "normalization": normalization,
            "class sizes": sizes.tolist(),
            "entropy of draws": [value for value, _ in of_draws],
            "entropy of classes": [value for value, _ in own],
            "remainder bound": float(bound),
        },
    )


@cites(DSE.key)
class DSELoss(nn.Module):
    """Diffusion spectral entropy of a batch, differentiable: minimise it to gather rows, its negative to spread them.

    Takes z of shape (n, d), on any device with float64, and answers with a scalar in nats, in the type of z; inside it
    takes all n eigenvalues in float64. Repeating the rows of a batch changes nothing. Source: Liao et al. 2023.
    """

    def __init__(self, sigma: float = 10.0, t: float = 1.0, normalization: Normalization = "code") -> None:
        super().__init__()
        _require(t, normalization, 0.0, 2)
        self.sigma = _positive(sigma)
        self.t = t
        self.normalization = normalization

    def forward(self, z: Tensor) -> Tensor:
        if z.ndim != 2 or len(z) < 2:
            raise DataError(f"expected a batch of shape (n, d) with two rows or more, got {tuple(z.shape)}")
        points = z.double()
        points = (points - points.detach().mean(dim=0)) / (self.sigma * math.sqrt(2))
        inner = points @ points.T
        square = inner.diagonal()
        kernel = (2 * inner - square - square[:, None]).clamp(max=0).exp()
        for _ in range(2 if self.normalization == "paper" else 1):
            scale = kernel.sum(dim=1).rsqrt()
            kernel = kernel * scale * scale[:, None]
        powers = torch.linalg.eigvalsh(kernel).clamp(min=_FINE) ** self.t
        p = powers / powers.sum()
        entropy: Tensor = -(p * p.log()).sum()
        return entropy.to(z.dtype)

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}, t={self.t}, normalization={self.normalization!r}"


def median_distance(x: Samples, seed: int = 0) -> float:
    """The median Euclidean distance of two rows of x (n, d); of the pairs of 1,000 rows where there are more."""
    rows = columns(x)
    same_rows(rows, rows)
    return float(np.median(torch.pdist(torch.from_numpy(_thinned(rows, _PAIRS, seed)[0])).numpy()))


def suggest_sigma(x: Samples, seed: int = 0) -> float:
    """Half the median distance of two rows: a bandwidth at which S is neither 0 nor ln n for most data."""
    return bandwidth("median", median_distance(x, seed))


@cites(DSE.key)
def suggest_t(x: Samples, sigma: Sigma = 10.0, seed: int = 0) -> int:
    """Which t of 1, 2, 3 leaves nearest to 1 % of the eigenvalues^t above 0.01, the authors' rule of thumb."""
    shares = [
        diffusion_spectral_entropy(x, sigma, t, seed=seed).details["share of eigenvalues above 0.01"] for t in (1, 2, 3)
    ]
    return 1 + int(np.argmin(np.abs(np.array(shares) - 0.01)))


def spectral_clusters(y: Samples, clusters: int = 10, seed: int = 0) -> Codes:
    """The cluster of each row of y (n, d) by spectral clustering on nearest neighbours; whole numbers of shape (n,)."""
    from sklearn.cluster import SpectralClustering

    rows = columns(y, "y")
    if clusters < 2 or len(rows) < 2 * clusters:
        raise DataError(f"{len(rows)} rows cannot be put into {clusters} clusters: expected 2 or more, of 2 rows")
    near = min(10, len(rows) - 1)
    method = SpectralClustering(
        clusters,
        affinity="nearest_neighbors",
        n_neighbors=near,
        assign_labels="cluster_qr",
        random_state=derive(seed, "clusters") % 2**32,
    )
    return np.asarray(method.fit_predict(rows), dtype=np.int64)


def _entropy(spectrum: Spectrum, t: float) -> tuple[float, float]:
    """S in nats, and how far it can be from that of all eigenvalues."""
    a = spectrum.values**t
    total = float(a.sum())
    value = math.log(total) + float(torch.special.entr(a).sum()) / total
    return max(value, 0.0), _bound(_lost(spectrum.missing, t, spectrum.n), total, spectrum.n)


def _lost(missing: float, t: float, n: int) -> float:
    """How much the sum of the l^t can grow where the l, all at most 1, grow by `missing` in all."""
    return t * missing if t >= 1 else float(n ** (1 - t) * missing**t)


def _bound(lost: float, total: float, n: int) -> float:
    """How much S can change where the a_i = l_i^t <= 1, of sum `total`, grow by e_i >= 0, of sum `lost`.

    S = ln A + H / A with A = sum a, H = sum h(a), h(a) = -a ln a. As h is concave and h' >= -1, each h grows by -e to
    h(e), and the h(e) sum to lost ln(n / lost) at most. H / A is ln(n / A) at most.
    """
    if lost == 0:
        return 0.0
    if lost >= min(total, n / math.e):
        return math.log(n)
    return min(lost / total * (1 + math.log(n / lost)), math.log(n))


def _spectrum(rows: Real, sigma: float, t: float, normalization: Normalization, tolerance: float) -> Spectrum:
    n = len(rows)
    kernel = Kernel.of(torch.from_numpy(rows), sigma).balanced()
    if normalization == "paper":
        kernel = kernel.balanced()

    def enough(missing: float, trace: float) -> bool:
        # The largest eigenvalue is 1.
        total = trace - missing if t == 1 else max(1 - missing, 0.0) ** t
        return _bound(_lost(missing, t, n), total, n) <= tolerance

    return kernel.spectrum(enough)


def _draws(rows: Real, size: int, repeats: int, seed: int) -> list[Real]:
    if size == len(rows):
        return [rows]
    dice = [np.random.default_rng(derive(seed, "draw", size, i)) for i in range(repeats)]
    return [rows[np.sort(d.choice(len(rows), size, replace=False))] for d in dice]


def _classes(y: Samples, dims: int, bins: int, seed: int) -> tuple[Codes, tuple[Caution, ...]]:
    """The class of each row, and what was made of y."""
    whole = not y.is_floating_point() if isinstance(y, Tensor) else np.asarray(y).dtype.kind in "iu"
    if dims == 1 and (whole or is_label(y)):
        return codes(y, "y"), ()
    side = columns(y, "y")
    if dims > 1:
        text = f"y has {dims} columns and was put into {bins} clusters, on which the figure depends"
        return spectral_clusters(side, bins, seed), (Caution("resolution", text),)
    low, high = side.min(), side.max()
    if low == high:
        return np.zeros(len(side), dtype=np.int64), ()
    text = f"y was cut into {bins} bins of equal width, on which the figure depends; pass labels as whole numbers"
    binned = np.minimum(((side[:, 0] - low) / (high - low) * bins).astype(np.int64), bins - 1)
    return binned, (Caution("resolution", text),)


def _thinned(rows: Real, most: int, seed: int) -> tuple[Real, tuple[Caution, ...]]:
    if len(rows) <= most:
        return rows, ()
    chosen = np.random.default_rng(derive(seed, "rows")).choice(len(rows), most, replace=False)
    text = f"{most} of {len(rows)} rows were drawn; the value depends on how many there are"
    return rows[np.sort(chosen)], (Caution("resolution", text),)


def row_cautions(rows: Real) -> tuple[Caution, ...]:
    """Cautions that matter to distances between rows: tied and repeated ones do not."""
    return tuple(c for c in column_cautions(x=rows) if c.trouble == "heavy tails")


def _ends(value: float, most: float, sigma: float, middle: float) -> tuple[Caution, ...]:
    return extreme(value / most, sigma, middle) if most > 0 else ()


def extreme(apart: float, sigma: float, middle: float) -> tuple[Caution, ...]:
    """The caution that sigma is so small that every row is alone (`apart` near 1), or so large that all are one (0)."""
    if _LOW <= apart <= _HIGH:
        return ()
    state = "every row is alone" if apart > _HIGH else "all rows are nearly one"
    advice = f"; half the median distance is {middle / 2:.3g}" if middle > 0 else "; most rows are the same"
    text = f"at sigma {sigma:.3g} {state} ({100 * apart:.3g} of 100){advice}"
    return (Caution("saturated", text),)


def bandwidth(sigma: Sigma, middle: float) -> float:
    """`sigma` as a number, where `middle` is the median distance."""
    if sigma == "median":
        if middle == 0:
            raise DataError("sigma='median' needs distances: more than half of the pairs of rows are the same")
        return middle / 2
    return _positive(sigma)


def _positive(sigma: float | str) -> float:
    if isinstance(sigma, str) or not 0 < sigma < math.inf:
        raise DataError(f"sigma must be a positive number, got {sigma!r}")
    return float(sigma)


def _require(t: float, normalization: str, tolerance: float, max_n: int) -> None:
    if not 0 < t < math.inf:
        raise DataError(f"t must be a positive number, got {t}")
    if normalization not in ("code", "paper"):
        raise DataError(f"normalization is 'code' or 'paper', got {normalization!r}")
    if not tolerance >= 0 or max_n < 2:
        raise DataError(f"tolerance must be at least 0 and max_n at least 2, got {tolerance} and {max_n}")
