"""Diffusion spectral entropy beside the authors' package: the same output in less time, and within its bound.

    pip install --no-deps dse-dsmi; python benchmarks/diffusion_spectral.py     writes diffusion_spectral.json

The authors' package (dse-dsmi 1.1, for non-commercial use only) and narrows take turns in this one process, at 5,000
rows. Each case is real pixels or Gaussian points, at a bandwidth where eigenvalues decay fast, slowly, or not at all;
quote the ratios, which are medians over turns of times in one turn.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from dse_dsmi import diffusion_spectral_entropy as peer_entropy
from dse_dsmi import diffusion_spectral_mutual_information as peer_information
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image
from threadpoolctl import threadpool_info

from narrows.core.files import write_json
from narrows.core.record import environment
from narrows.information import diffusion_spectral_entropy, diffusion_spectral_information, suggest_sigma

N, TURNS = 5000, 3


def main() -> None:
    """Measure every case and write the record."""
    pools = {pool["filepath"].split("/")[-1].split(".")[0]: pool["num_threads"] for pool in threadpool_info()}
    result: dict[str, Any] = {"environment": environment(), "threads": pools, "rows": N, "turns": TURNS}
    for name, (x, sigma) in cases().items():
        result[name] = beside(
            lambda x=x, s=sigma: diffusion_spectral_entropy(x, s),
            lambda x=x, s=sigma: peer_entropy(x, gaussian_kernel_sigma=s),
        )
        print(name, result[name], flush=True)
    x, sigma = cases()["colours, half median"]
    label = pixels()[1][:, 0].argsort().argsort() * 10 // N  # how high in the photograph
    result["colours and their height in 10 classes, half median"] = beside(
        lambda: diffusion_spectral_information(x, label, sigma),
        lambda: peer_information(x, label[:, None], gaussian_kernel_sigma=sigma)[0],
        exact=False,
    )
    write_json(Path(__file__).with_suffix(".json"), result)


def cases() -> dict[str, tuple[NDArray[np.float64], float]]:
    """Rows and a bandwidth by name."""
    photo, corners = pixels()
    patches = np.stack([photo[i : i + 3, j : j + 3].mean(axis=2).ravel() for i, j in corners])
    colours = np.stack([photo[i, j] for i, j in corners])
    wide = np.random.default_rng(0).standard_normal((N, 20))
    return {
        "colours, half median": (colours, suggest_sigma(colours)),
        "colours, tenth of the median": (colours, suggest_sigma(colours) / 5),
        "patches, median": (patches, 2 * suggest_sigma(patches)),
        "patches, half median": (patches, suggest_sigma(patches)),
        "20 normal columns, half median": (wide, suggest_sigma(wide)),
    }


def pixels() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A photograph, and N places in it."""
    photo = load_sample_image("china.jpg") / 255
    height, width, _ = photo.shape
    return photo, np.random.default_rng(0).integers(0, [height - 3, width - 3], (N, 2))


def beside(ours: Callable[[], Any], theirs: Callable[[], float], *, exact: bool = True) -> dict[str, Any]:
    """Seconds of both and their ratio; how far the values are apart (bits), and how far they can be by our bound."""
    times: dict[str, list[float]] = {"narrows": [], "dse-dsmi": []}
    for _ in range(TURNS):
        start = time.perf_counter()
        found = ours()
        middle = time.perf_counter()
        value = float(theirs())
        times["narrows"].append(middle - start)
        times["dse-dsmi"].append(time.perf_counter() - middle)
    ratios = [b / a for a, b in zip(*times.values(), strict=True)]
    record: dict[str, Any] = {f"{name}_s": statistics.median(seconds) for name, seconds in times.items()}
    record |= {"ratio": statistics.median(ratios), "ratios": ratios, "bits": found.bits, "their bits": value}
    if exact:
        record |= {"difference_nats": abs(found.bits - value) * float(np.log(2))}
        record |= {key: found.details[key] for key in ("eigenvalues", "remainder bound")}
    return record


if __name__ == "__main__":
    main()
