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

from narrows.information.cauchy_schwarz import batched_cs_divergence, batched_cs_qmi, cs_divergence, cs_qmi
from narrows.information.estimate import Caution, Estimate, MIEstimate, saturation
from narrows.information.hsic import batched_hsic, hsic
from narrows.information.kozachenko_leonenko import kozachenko_leonenko
from narrows.information.ksg import ksg, ksg_extrapolated, mixed_ksg
from narrows.information.methods import (
    DEPENDENCE,
    ENTROPY,
    MUTUAL_INFORMATION,
    Method,
    dependence,
    entropy,
    mutual_information,
)
from narrows.information.renyi import (
    batched_renyi_entropy,
    batched_renyi_information,
    renyi_entropy,
    renyi_information,
)
from narrows.information.wasserstein_dependency import WPCLoss, lipschitz_penalty, wasserstein_dependency

__all__ = [
    "DEPENDENCE",
    "ENTROPY",
    "MUTUAL_INFORMATION",
    "Caution",
    "Estimate",
    "MIEstimate",
    "Method",
    "WPCLoss",
    "batched_cs_divergence",
    "batched_cs_qmi",
    "batched_hsic",
    "batched_renyi_entropy",
    "batched_renyi_information",
    "cs_divergence",
    "cs_qmi",
    "dependence",
    "entropy",
    "hsic",
    "kozachenko_leonenko",
    "ksg",
    "ksg_extrapolated",
    "lipschitz_penalty",
    "mixed_ksg",
    "mutual_information",
    "renyi_entropy",
    "renyi_information",
    "saturation",
    "wasserstein_dependency",
]
