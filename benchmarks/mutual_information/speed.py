"""How long KSG takes, beside peers, on 10,000 rows of 1, 5 and 20 columns a side.

    OMP_NUM_THREADS=2 python benchmarks/mutual_information/speed.py --peers ENVS        writes speed.json

All take turns on the same data; the least of the turns counts, by the clock and by the processor (which says more on a
busy machine). Before that, our value is compared with brute force.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers import Peer, interpreter
from scipy.special import digamma

from narrows.core.files import write_json
from narrows.core.record import environment
from narrows.information import ksg, ksg_extrapolated

ROWS, K = 10_000, 5
COLUMNS = (1, 5, 20)
SLOW = 10.0  # seconds after which a peer gets no second turn
PEERS = ("scikit-learn", "ennemi", "infomeasure KSG", "benchmark-mi KSG")


def main() -> None:
    """Measure and write speed.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, help="folder of environments, one for each peer")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    result: dict[str, Any] = {"environment": environment(), "rows": ROWS, "threads": torch.get_num_threads()}
    for d in COLUMNS:
        result[f"{d}x{d}"] = compare(d, options)
        print(d, result[f"{d}x{d}"], flush=True)
    write_json(Path(__file__).with_suffix(".json"), result)


def compare(d: int, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and values of all on the same data."""
    dice = np.random.default_rng(0)
    x = dice.standard_normal((ROWS, d))
    y = 0.6 * x + 0.8 * dice.standard_normal((ROWS, d))
    difference = abs(ksg(x, y, K).value - brute_force(x, y))
    assert difference < 1e-9, difference
    clock: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    values: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Peer(name, interpreter(options.peers, name))) for name in PEERS}
        for _ in range(options.turns):
            for name, function in (("narrows ksg", ksg), ("narrows ksg_extrapolated", ksg_extrapolated)):
                start, work = time.perf_counter(), time.process_time()
                values[name] = function(x, y).value
                clock.setdefault(name, []).append(time.perf_counter() - start)
                processor.setdefault(name, []).append(time.process_time() - work)
            for name, worker in list(workers.items()):
                try:
                    values[name] = worker(x, y)
                except RuntimeError as error:
                    print(name, d, error)
                    del workers[name]
                    continue
                clock[name], processor[name] = worker.seconds, worker.processor
                if worker.seconds[-1] > SLOW:
                    del workers[name]
    least = {name: min(times) for name, times in clock.items()}
    work = {name: min(times) for name, times in processor.items()}
    return {
        "seconds": least,
        "processor seconds": work,
        "values": values,
        "times faster than the fastest peer": _ratio(least),
        "times less work than the fastest peer": _ratio(work),
        "difference from brute force": difference,
    }


def _ratio(seconds: dict[str, float]) -> float | None:
    peers = [s for name, s in seconds.items() if not name.startswith("narrows")]
    return min(peers) / seconds["narrows ksg"] if peers else None


def brute_force(x: np.ndarray, y: np.ndarray) -> float:
    """KSG from all distances, a block of rows at a time."""
    x, y = (torch.from_numpy((side - side.mean(axis=0)) / side.std(axis=0)) for side in (x, y))
    total = 0.0
    for start in range(0, ROWS, 500):
        dx, dy = (torch.cdist(side[start : start + 500], side, p=math.inf) for side in (x, y))
        joint = torch.maximum(dx, dy)
        reach = joint.kthvalue(K + 1, dim=1, keepdim=True).values  # the row itself is the first
        total += sum(digamma((d < reach).sum(dim=1).numpy()).sum() for d in (dx, dy))
    return float(digamma(K) + digamma(ROWS) - total / ROWS)


if __name__ == "__main__":
    main()
