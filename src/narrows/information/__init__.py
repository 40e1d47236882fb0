"""How much information there is: one file per estimator, three doors.

    estimate = narrows.information.mutual_information(x, y)         nats; method="auto" says which part answered
    narrows.information.entropy(x, method="kozachenko_leonenko")
    narrows.information.dependence(x, y, method="hsic")             measures that are not mutual information

Every estimator is a function of its own as well, and answers with an `Estimate`: the value, its unit, its standard
error where there is one, and cautions where the data is beyond what the method can do.

To add one: write `information/NAME.py` with a function `NAME(x, y, ...) -> MIEstimate` (or `Estimate`) that begins with
`pair` of `inputs` and ends with its cautions; name its paper with `@cites`; add one line to the table it belongs to in
`methods.py`, which brings it into the shared tests (`tests/information/test_matrix.py`) and the scoreboard; prove its
mathematics in `tests/information/test_NAME.py`; give it a folder in `papers/` if a paper is behind it.
"""

from narrows.information.diffusion_spectral import (
    DSELoss,
    diffusion_spectral_entropy,
    diffusion_spectral_information,
    median_distance,
    spectral_clusters,
    suggest_sigma,
    suggest_t,
)
from narrows.information.estimate import Caution, Estimate, MIEstimate, saturation
from narrows.information.ksg import ksg, ksg_extrapolated, mixed_ksg
from narrows.information.manifold_capacity import (
    MMCRLoss,
    MMCRMomentumLoss,
    ema_update,
    mmcr_capacity,
    mmcr_loss,
)
from narrows.information.methods import (
    DEPENDENCE,
    ENTROPY,
    MUTUAL_INFORMATION,
    Method,
    dependence,
    entropy,
    mutual_information,
)

__all__ = [
    "DEPENDENCE",
    "ENTROPY",
    "MUTUAL_INFORMATION",
    "Caution",
    "DSELoss",
    "Estimate",
    "MIEstimate",
    "MMCRLoss",
    "MMCRMomentumLoss",
    "Method",
    "dependence",
    "diffusion_spectral_entropy",
    "diffusion_spectral_information",
    "ema_update",
    "entropy",
    "ksg",
    "ksg_extrapolated",
    "median_distance",
    "mixed_ksg",
    "mmcr_capacity",
    "mmcr_loss",
    "mutual_information",
    "saturation",
    "spectral_clusters",
    "suggest_sigma",
    "suggest_t",
]
