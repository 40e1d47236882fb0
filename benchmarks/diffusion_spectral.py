"""Diffusion spectral entropy beside the authors' package: the same output in less time, and within its bound.

    pip install --no-deps dse-dsmi; python benchmarks/diffusion_spectral.py     writes diffusion_spectral.json

The authors' package (dse-dsmi 1.1, for non-commercial use only) and narrows take turns in this one process. The data
are pixels of a photograph, at bandwidths where eigenvalues decay fast, slowly, or too slowly for a part of them to do.
Quote the ratios, which are medians over turns of the two times in one turn; on a busy machine, those of processor time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_sample_image
from threadpoolctl import threadpool_info

from narrows.core.files import write_json
from narrows.core.record import environment
from narrows.information import diffusion_spectral_entropy, diffusion_spectral_information, suggest_sigma

try:
    from dse_dsmi import diffusion_spectral_entropy as peer_entropy
    from dse_dsmi import diffusion_spectral_mutual_information as peer_information
except ImportError:
    raise SystemExit("the peer is missing: pip install --no-deps dse-dsmi (for non-commercial use only)") from None

N, TURNS = 5000, 3
Times = tuple[float, float]  # by the clock, of the processor


def main() -> None:
    """Measure every case and write the record."""
    pools = {pool["filepath"].split("/")[-1].split(".")[0]: pool["num_threads"] for pool in threadpool_info()}
    result: dict[str, Any] = {"environment": environment(), "threads": pools, "rows": N, "turns": TURNS}
    x, sigma = cases()["colours, half median"]
    label = pixels()[1][:, 0].argsort().argsort() * 10 // N  # how high in the photograph
    result["colours and their height in 10 classes, half median"] = beside(
        lambda: diffusion_spectral_information(x, label, sigma),
        lambda: peer_information(x, label[:, None], gaussian_kernel_sigma=sigma)[0],
        exact=False,
    )
    for name, (x, sigma) in cases().items():
        result[name] = beside(
            lambda x=x, s=sigma: diffusion_spectral_entropy(x, s),
            lambda x=x, s=sigma: peer_entropy(x, gaussian_kernel_sigma=s),
        )
        print(name, result[name], flush=True)
        write_json(Path(__file__).with_suffix(".json"), result)


def cases() -> dict[str, tuple[NDArray[np.float64], float]]:
    """Rows and a bandwidth by name."""
    photo, corners = pixels()
    patches = np.stack([photo[i : i + 3, j : j + 3].mean(axis=2).ravel() for i, j in corners])
    colours = np.stack([photo[i, j] for i, j in corners])
    return {
        "patches, half median, 2000 rows": (patches[:2000], suggest_sigma(patches)),
        "colours, half median": (colours, suggest_sigma(colours)),
        "colours, tenth of the median": (colours, suggest_sigma(colours) / 5),
        "patches, half median": (patches, suggest_sigma(patches)),
        "patches, median": (patches, 2 * suggest_sigma(patches)),
    }


def pixels() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A photograph, and N places in it."""
    photo = load_sample_image("china.jpg") / 255
    height, width, _ = photo.shape
    return photo, np.random.default_rng(0).integers(0, [height - 3, width - 3], (N, 2))


def beside(ours: Callable[[], Any], theirs: Callable[[], float], *, exact: bool = True) -> dict[str, Any]:
    """Seconds of both and their ratio; how far the values are apart (bits), and how far they can be by our bound."""
    turns = []
    for _ in range(TURNS):
        found, our_times = timed(ours)
        value, their_times = timed(theirs)
        turns.append((our_times, their_times))
    record: dict[str, Any] = {}
    for k, clock in enumerate(("", "processor ")):
        record[f"{clock}seconds"] = {
            "narrows": statistics.median(a[k] for a, _ in turns),
            "dse-dsmi": statistics.median(b[k] for _, b in turns),
        }
        record[f"{clock}ratios"] = [b[k] / a[k] for a, b in turns]
        record[f"{clock}ratio"] = statistics.median(record[f"{clock}ratios"])
    record |= {"bits": found.bits, "their bits": float(value)}
    if exact:
        record |= {"difference_nats": abs(found.bits - float(value)) * float(np.log(2))}
        record |= {key: found.details[key] for key in ("eigenvalues", "remainder bound")}
    return record


def timed(call: Callable[[], Any]) -> tuple[Any, Times]:
    """What a call gives, and how long it takes."""
    start, busy = time.perf_counter(), time.process_time()
    found = call()
    return found, (time.perf_counter() - start, time.process_time() - busy)


if __name__ == "__main__":
    main()
