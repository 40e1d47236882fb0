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
from narrows.information.encoder_mi import encoder_mi, feature_mi, noise_levels
from narrows.information.diffusion_spectral import (
    DSELoss,
    diffusion_spectral_entropy,
    diffusion_spectral_information,
    median_distance,
    spectral_clusters,
    suggest_sigma,
    suggest_t,
)
from narrows.information.cauchy_schwarz import cs_qmi
from narrows.information.estimate import Caution, Estimate, MIEstimate, saturation
from narrows.information.feature_complexity import FeatureComplexity, feature_complexity, head_importance, learned_at
from narrows.information.generalization_bound import (
    GeneralizationBound,
    MIConstraint,
    generalization_bound,
    loss_factor,
    parameter_bound,
)
from narrows.information.binning import (
    AdaptiveBins,
    FixedBins,
    QuantileBins,
    adaptive_binned,
    binned,
    binned_entropy,
    quantile_binned,
)
from narrows.information.discrete import discrete, discrete_entropy
from narrows.information.estimate import Caution, Estimate, MIEstimate, saturation
from narrows.information.kde import Bounds, kde, kde_entropy, mixture_entropy, mixture_information, noise_variance
from narrows.information.ksg import ksg, ksg_extrapolated, mixed_ksg
from narrows.information.linear_cka import linear_cka
from narrows.information.manifold_capacity import (
    MMCRLoss,
    MMCRMomentumLoss,
    ema_update,
    mmcr_capacity,
    mmcr_loss,
)
from narrows.information.auto import auto
from narrows.information.elliptical import elliptical
from narrows.information.estimate import Caution, Estimate, MIEstimate, saturation
from narrows.information.gaussian import gaussian
from narrows.information.ksg import ksg, ksg_extrapolated, mixed_ksg
from narrows.information.label import label
from narrows.information.layers import GaussianNoise, LayerInformation, layer_information
from narrows.information.lossy import lossy
from narrows.information.methods import (
    DEPENDENCE,
    ENTROPY,
    MUTUAL_INFORMATION,
    Method,
    dependence,
    entropy,
    mutual_information,
)
from narrows.information.ridge_probe import RidgeProbe
from narrows.information.swag import SWAGCollector, parameter_mi
from narrows.information.v_information import v_information
from narrows.information.plane import InformationPlane, KernelNoise, LayerInformation, compression, layer_information
from narrows.information.screen import screen
from narrows.information.tasks import EXTRA_TASKS, TASKS, Task, evaluate
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
from narrows.information.sliced import sliced
from narrows.information.weighted_entropy import neighbour_weights, weighted_entropy

__all__ = [
    "DEPENDENCE",
    "ENTROPY",
    "EXTRA_TASKS",
    "MUTUAL_INFORMATION",
    "AdaptiveBins",
    "Bounds",
    "TASKS",
    "Caution",
    "DSELoss",
    "Estimate",
    "FeatureComplexity",
    "GeneralizationBound",
    "MIConstraint",
    "GaussianNoise",
    "LayerInformation",
    "MIEstimate",
    "MMCRLoss",
    "MMCRMomentumLoss",
    "Method",
    "RidgeProbe",
    "SWAGCollector",
    "dependence",
    "encoder_mi",
    "diffusion_spectral_entropy",
    "diffusion_spectral_information",
    "ema_update",
    "entropy",
    "feature_complexity",
    "feature_mi",
    "generalization_bound",
    "head_importance",
    "ksg",
    "ksg_extrapolated",
    "layer_activations",
    "learned_at",
    "linear_cka",
    "loss_factor",
    "FixedBins",
    "InformationPlane",
    "KernelNoise",
    "LayerInformation",
    "MIEstimate",
    "Method",
    "QuantileBins",
    "adaptive_binned",
    "binned",
    "binned_entropy",
    "compression",
    "dependence",
    "discrete",
    "discrete_entropy",
    "entropy",
    "kde",
    "kde_entropy",
    "ksg",
    "ksg_extrapolated",
    "layer_information",
    "Task",
    "auto",
    "dependence",
    "elliptical",
    "entropy",
    "evaluate",
    "gaussian",
    "ksg",
    "ksg_extrapolated",
    "label",
    "SeparableCritic",
    "cs_qmi",
    "dependence",
    "dv_bound",
    "entropy",
    "infonce",
    "infonce_bound",
    "js_objective",
    "ksg",
    "ksg_extrapolated",
    "layer_information",
    "lossy",
    "mine",
    "mine_objective",
    "mixed_ksg",
    "mixture_entropy",
    "mixture_information",
    "median_distance",
    "mixed_ksg",
    "mmcr_capacity",
    "mmcr_loss",
    "mutual_information",
    "noise_levels",
    "parameter_bound",
    "parameter_mi",
    "noise_variance",
    "quantile_binned",
    "saturation",
    "v_information",
    "spectral_clusters",
    "suggest_sigma",
    "suggest_t",
    "screen",
    "neighbour_weights",
    "nwj",
    "nwj_bound",
    "pair_terms",
    "saturation",
    "sliced",
    "smile",
    "smile_objective",
    "weighted_entropy",
]
