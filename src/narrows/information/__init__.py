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

from narrows.information.activations import layer_activations
from narrows.information.auto import auto
from narrows.information.binning import (
    AdaptiveBins,
    FixedBins,
    QuantileBins,
    adaptive_binned,
    binned,
    binned_entropy,
    quantile_binned,
)
from narrows.information.cauchy_schwarz import batched_cs_divergence, batched_cs_qmi, cs_divergence, cs_qmi
from narrows.information.diffusion_spectral import (
    DSELoss,
    diffusion_spectral_entropy,
    diffusion_spectral_information,
    median_distance,
    spectral_clusters,
    suggest_sigma,
    suggest_t,
)
from narrows.information.diffusion_variants import matrix_entry_entropy, neighbour_graph_entropy
from narrows.information.discrete import discrete, discrete_entropy
from narrows.information.elliptical import elliptical
from narrows.information.encoder_mi import encoder_mi, feature_mi, noise_levels
from narrows.information.estimate import Caution, Estimate, MIEstimate, saturation
from narrows.information.feature_complexity import (
    FeatureComplexity,
    FeatureFlow,
    feature_complexity,
    feature_flow,
    feature_sensitivity,
    head_importance,
    learned_at,
)
from narrows.information.gaussian import gaussian
from narrows.information.generalization_bound import (
    GeneralizationBound,
    MIConstraint,
    generalization_bound,
    loss_factor,
    parameter_bound,
)
from narrows.information.hsic import batched_hsic, hsic
from narrows.information.ib_curve import IBCurve, ib_curve, squared_ib_curve
from narrows.information.kde import Bounds, kde, kde_entropy, mixture_entropy, mixture_information, noise_variance
from narrows.information.kozachenko_leonenko import kozachenko_leonenko, neighbour_weights
from narrows.information.ksg import ksg, ksg_extrapolated, mixed_ksg
from narrows.information.label import label
from narrows.information.layers import GaussianNoise, NoisyLayer, noisy_layer_information
from narrows.information.linear_cka import linear_cka
from narrows.information.lossy import lossy
from narrows.information.manifold_capacity import MMCRLoss, MMCRMomentumLoss, ema_update, mmcr_capacity, mmcr_loss
from narrows.information.methods import (
    DEPENDENCE,
    ENTROPY,
    MUTUAL_INFORMATION,
    Method,
    dependence,
    entropy,
    mutual_information,
)
from narrows.information.neural import SeparableCritic, infonce, mine, nwj, smile
from narrows.information.objectives import (
    dv_bound,
    infonce_bound,
    js_objective,
    mine_objective,
    nwj_bound,
    pair_terms,
    smile_objective,
)
from narrows.information.plane import InformationPlane, KernelNoise, LayerInformation, compression, layer_information
from narrows.information.renyi import batched_renyi_entropy, batched_renyi_information, renyi_entropy, renyi_information
from narrows.information.ridge_probe import RidgeProbe
from narrows.information.screen import screen
from narrows.information.sliced import sliced
from narrows.information.swag import SWAGCollector, parameter_mi
from narrows.information.tasks import EXTRA_TASKS, TASKS, Task, evaluate
from narrows.information.track import Moment, Tracker, named, principal, reservoir, track
from narrows.information.v_information import v_information
from narrows.information.wasserstein_dependency import WPCLoss, lipschitz_penalty, wasserstein_dependency

__all__ = [
    "DEPENDENCE",
    "ENTROPY",
    "EXTRA_TASKS",
    "MUTUAL_INFORMATION",
    "TASKS",
    "AdaptiveBins",
    "Bounds",
    "Caution",
    "DSELoss",
    "Estimate",
    "FeatureComplexity",
    "FeatureFlow",
    "FixedBins",
    "GaussianNoise",
    "GeneralizationBound",
    "IBCurve",
    "InformationPlane",
    "KernelNoise",
    "LayerInformation",
    "MIConstraint",
    "MIEstimate",
    "MMCRLoss",
    "MMCRMomentumLoss",
    "Method",
    "Moment",
    "NoisyLayer",
    "QuantileBins",
    "RidgeProbe",
    "SWAGCollector",
    "SeparableCritic",
    "Task",
    "Tracker",
    "WPCLoss",
    "adaptive_binned",
    "auto",
    "batched_cs_divergence",
    "batched_cs_qmi",
    "batched_hsic",
    "batched_renyi_entropy",
    "batched_renyi_information",
    "binned",
    "binned_entropy",
    "compression",
    "cs_divergence",
    "cs_qmi",
    "dependence",
    "diffusion_spectral_entropy",
    "diffusion_spectral_information",
    "discrete",
    "discrete_entropy",
    "dv_bound",
    "elliptical",
    "ema_update",
    "encoder_mi",
    "entropy",
    "evaluate",
    "feature_complexity",
    "feature_flow",
    "feature_mi",
    "feature_sensitivity",
    "gaussian",
    "generalization_bound",
    "head_importance",
    "hsic",
    "ib_curve",
    "infonce",
    "infonce_bound",
    "js_objective",
    "kde",
    "kde_entropy",
    "kozachenko_leonenko",
    "ksg",
    "ksg_extrapolated",
    "label",
    "layer_activations",
    "layer_information",
    "learned_at",
    "linear_cka",
    "lipschitz_penalty",
    "loss_factor",
    "lossy",
    "matrix_entry_entropy",
    "median_distance",
    "mine",
    "mine_objective",
    "mixed_ksg",
    "mixture_entropy",
    "mixture_information",
    "mmcr_capacity",
    "mmcr_loss",
    "mutual_information",
    "named",
    "neighbour_graph_entropy",
    "neighbour_weights",
    "noise_levels",
    "noise_variance",
    "noisy_layer_information",
    "nwj",
    "nwj_bound",
    "pair_terms",
    "parameter_bound",
    "parameter_mi",
    "principal",
    "quantile_binned",
    "renyi_entropy",
    "renyi_information",
    "reservoir",
    "saturation",
    "screen",
    "sliced",
    "smile",
    "smile_objective",
    "spectral_clusters",
    "squared_ib_curve",
    "suggest_sigma",
    "suggest_t",
    "track",
    "v_information",
    "wasserstein_dependency",
]
