"""A peer in its own process and, where needed, its own environment: answers requests on standard input.

    python worker.py PEER

Each line asks with the path of a .npz file that has x and y (and, for a discrete side, its name in `discrete`); the
answer is a line of JSON with the value in nats, the seconds and the MiB that it took, or the error.
"""

import ctypes
import json
import math
import resource
import sys
import time
import warnings
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")


def scikit_learn():
    from sklearn.feature_selection import mutual_info_classif, mutual_info_regression

    def call(x, y, discrete):
        one_column(x, y)
        if discrete == "x":
            x, y = y, x
        if discrete:
            return mutual_info_classif(x, y[:, 0].astype(int), random_state=0)[0]
        return mutual_info_regression(x, y[:, 0], random_state=0)[0]

    return call


def ennemi():
    from ennemi import estimate_mi

    def call(x, y, discrete):
        one_column(x, y)
        return float(np.squeeze(estimate_mi(y[:, 0], x[:, 0], discrete_x=discrete == "x", discrete_y=discrete == "y")))

    return call


def infomeasure():
    import infomeasure

    def call(x, y, discrete):
        return infomeasure.mutual_information(squeezed(x), squeezed(y), approach="ksg", base="e")

    return call


def benchmark_mi(which):
    def make():
        import bmi.estimators as estimators

        def call(x, y, discrete):
            known = {
                "KSG": lambda: estimators.KSGEnsembleFirstEstimator(neighborhoods=(5,)),
                "CCA": estimators.CCAMutualInformationEstimator,
                "InfoNCE": estimators.InfoNCEEstimator,
                "MINE": estimators.MINEEstimator,
            }
            return float(known[which]().estimate(x, y))

        return call

    return make


def latentmi():
    from latentmi import lmi

    def call(x, y, discrete):
        return float(np.nanmean(lmi.estimate(x, y)[0]))

    return call


def torch_mist():
    from torch_mist import estimate_mi

    def call(x, y, discrete):
        found = estimate_mi(data=(x.astype(np.float32), y.astype(np.float32)), estimator="smile", verbose=False, seed=0)
        return float(found[0] if isinstance(found, tuple) else found)

    return call


def gmm_mi():
    from gmm_mi.mi import EstimateMI

    def call(x, y, discrete):
        one_column(x, y)
        found = EstimateMI().fit_estimate(np.concatenate([x, y], axis=1))
        return float(found[0] if isinstance(found, tuple) else found.MI_mean)

    return call


PEERS = {
    "scikit-learn": scikit_learn,
    "ennemi": ennemi,
    "infomeasure KSG": infomeasure,
    "benchmark-mi KSG": benchmark_mi("KSG"),
    "benchmark-mi CCA": benchmark_mi("CCA"),
    "benchmark-mi InfoNCE": benchmark_mi("InfoNCE"),
    "latentmi": latentmi,
    "torch-mist SMILE": torch_mist,
    "gmm-mi": gmm_mi,
}


def one_column(x, y):
    if x.shape[1] > 1 or y.shape[1] > 1:
        raise NotImplementedError("takes one column a side")


def squeezed(x):
    return x[:, 0] if x.shape[1] == 1 else x


def answer(estimator, path):
    with np.load(path) as data:
        x, y, discrete = data["x"], data["y"], str(data["discrete"])
    before, start, work = reset_peak(), time.perf_counter(), time.process_time()
    value = float(estimator(x, y, discrete))
    seconds = {"seconds": time.perf_counter() - start, "processor": time.process_time() - work}
    return {"value": value, **seconds, "memory": peak() - before}


def reset_peak():
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        return status("VmRSS")
    except (OSError, AttributeError, TypeError):
        return math.nan


def peak():
    return status("VmHWM") if sys.platform == "linux" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def main():
    out, sys.stdout = sys.stdout, sys.stderr  # peers print
    try:
        estimator, problem = PEERS[sys.argv[1]](), None
    except Exception as error:
        estimator, problem = None, f"{type(error).__name__}: {error}"
    print(json.dumps({"ready": problem is None, "error": problem}), file=out, flush=True)
    for line in sys.stdin:
        try:
            found = answer(estimator, line.strip())
        except Exception as error:
            found = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(found), file=out, flush=True)


if __name__ == "__main__":
    main()
