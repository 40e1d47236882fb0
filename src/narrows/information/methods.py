"""The doors of the room: every estimator by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from narrows.core.errors import NarrowsError
from narrows.information.auto import auto
from narrows.information.binning import adaptive_binned, binned, binned_entropy, quantile_binned
from narrows.information.cauchy_schwarz import cs_qmi
from narrows.information.diffusion_spectral import diffusion_spectral_entropy, diffusion_spectral_information
from narrows.information.diffusion_variants import matrix_entry_entropy, neighbour_graph_entropy
from narrows.information.discrete import discrete, discrete_entropy
from narrows.information.elliptical import elliptical
from narrows.information.estimate import Estimate, MIEstimate
from narrows.information.gaussian import gaussian
from narrows.information.hsic import hsic
from narrows.information.inputs import Samples
from narrows.information.kde import kde, kde_entropy
from narrows.information.kozachenko_leonenko import kozachenko_leonenko
from narrows.information.ksg import ksg, ksg_extrapolated, mixed_ksg
from narrows.information.label import label
from narrows.information.linear_cka import linear_cka
from narrows.information.lossy import lossy
from narrows.information.manifold_capacity import mmcr_capacity
from narrows.information.neural import infonce, mine, nwj, smile
from narrows.information.renyi import renyi_entropy, renyi_information
from narrows.information.screen import screen
from narrows.information.sliced import sliced
from narrows.information.v_information import v_information
from narrows.information.wasserstein_dependency import wasserstein_dependency

Takes = Literal["real", "codes", "any", "label"]


@dataclass(frozen=True)
class Method:
    """An estimator and what the shared tests must know of it.

    `takes`: "real" (continuous columns), "codes" (discrete values), "any", or "label" (y is a label, x is real).
    `symmetric`: x and y may change places. `exact`: the order of the rows does not matter to 1e-9 (a method that draws
    batches or splits is not). `slow`: takes seconds at a few hundred rows.
    """

    function: Callable[..., Estimate]
    takes: Takes = "real"
    symmetric: bool = True
    exact: bool = True
    slow: bool = False


MUTUAL_INFORMATION: Mapping[str, Method] = {
    "auto": Method(auto, takes="any", exact=False),
    "adaptive_binned": Method(adaptive_binned),
    "binned": Method(binned),
    "discrete": Method(discrete, takes="codes"),
    "elliptical": Method(elliptical),
    "gaussian": Method(gaussian),
    "infonce": Method(infonce, takes="any", symmetric=False, exact=False, slow=True),
    "kde": Method(kde, takes="label", symmetric=False),
    "ksg": Method(ksg),
    "ksg_extrapolated": Method(ksg_extrapolated),
    "label": Method(label, takes="label", symmetric=False, exact=False),
    "lossy": Method(lossy, takes="any"),
    "mine": Method(mine, takes="any", symmetric=False, exact=False, slow=True),
    "mixed_ksg": Method(mixed_ksg, takes="any"),
    "nwj": Method(nwj, takes="any", symmetric=False, exact=False, slow=True),
    "quantile_binned": Method(quantile_binned),
    "screen": Method(screen, exact=False),
    "smile": Method(smile, takes="any", symmetric=False, exact=False, slow=True),
    "v_information": Method(v_information, takes="any", symmetric=False, exact=False),
}
ENTROPY: Mapping[str, Method] = {
    "binned_entropy": Method(binned_entropy),
    "diffusion_spectral_entropy": Method(diffusion_spectral_entropy),
    "discrete_entropy": Method(discrete_entropy, takes="codes"),
    "kde_entropy": Method(kde_entropy),
    "kozachenko_leonenko": Method(kozachenko_leonenko),
    "matrix_entry_entropy": Method(matrix_entry_entropy),
    "neighbour_graph_entropy": Method(neighbour_graph_entropy, exact=False),
    "renyi_entropy": Method(renyi_entropy, takes="any"),
}
DEPENDENCE: Mapping[str, Method] = {
    "cs_qmi": Method(cs_qmi, takes="any"),
    "diffusion_spectral_information": Method(
        diffusion_spectral_information, takes="label", symmetric=False, exact=False
    ),
    "hsic": Method(hsic, takes="any"),
    "linear_cka": Method(linear_cka),
    "mmcr_capacity": Method(mmcr_capacity, takes="label", symmetric=False),
    "renyi_information": Method(renyi_information, takes="any"),
    "sliced": Method(sliced),
    "wasserstein_dependency": Method(wasserstein_dependency, symmetric=False, exact=False, slow=True),
}


def mutual_information(x: Samples, y: Samples, method: str = "auto", **options: Any) -> MIEstimate:
    """Mutual information in nats of x and y, arrays or tensors of shape (n,) or (n, d), row by row.

    `method` is a key of `MUTUAL_INFORMATION`, `options` are that function's own. "auto" looks at the data, takes what
    can be trusted there, and says in `details` which part answered and why. Raises NarrowsError for anything that a
    user can mend.
    """
    found = _call("mutual information", MUTUAL_INFORMATION, method, (x, y), options)
    assert isinstance(found, MIEstimate)
    return found


def entropy(x: Samples, method: str, **options: Any) -> Estimate:
    """Entropy in nats of x, of shape (n,) or (n, d): of its values, or the differential one, as `method` says.

    `method` is a key of `ENTROPY`, `options` are that function's own.
    """
    return _call("entropy", ENTROPY, method, (x,), options)


def dependence(x: Samples, y: Samples, method: str, **options: Any) -> Estimate:
    """How strongly x and y depend on each other, by a measure that is not mutual information.

    `method` is a key of `DEPENDENCE`, `options` are that function's own; its docstring says the unit and the range.
    """
    return _call("dependence", DEPENDENCE, method, (x, y), options)


def _call(
    what: str, known: Mapping[str, Method], name: str, sides: tuple[Samples, ...], options: Mapping[str, Any]
) -> Estimate:
    if name not in known:
        raise NarrowsError(f"no estimator of {what} is called {name!r}; there are {', '.join(known)}")
    function = known[name].function
    allowed = list(inspect.signature(function).parameters)[len(sides) :]
    unknown = [option for option in options if option not in allowed]
    if unknown:
        raise NarrowsError(f"{name} has no option {unknown[0]!r}; it has {', '.join(allowed) or 'none'}")
    return function(*sides, **options)
