import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from narrows.core import NarrowsError
from narrows.core.experiment import Cell, CellResult, Experiment, Mode


def rule(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Reproduced when the mean is above 0.5."""
    return "reproduced" if figures["accuracy"]["mean"] > 0.5 else "contradicted"


class Trial:
    """An experiment in a temporary folder that counts what it measures."""

    def __init__(self, folder: Path) -> None:
        self.measured: list[int] = []
        self.fail_at: int | None = None
        self.folder = folder
        self.experiment = Experiment(
            str(folder / "run.py"),
            "1",
            cells=self.cells,
            measure=self.measure,
            figures=self.figures,
            verdict=rule,
        )

    def cells(self, mode: Mode) -> Sequence[Cell]:
        return [{"method": "fisher", "seed": seed} for seed in range(1 if mode == "smoke" else 3)]

    def measure(self, cell: Cell, work: Path) -> dict[str, Any]:
        if cell["seed"] == self.fail_at:
            raise KeyboardInterrupt
        self.measured.append(cell["seed"])
        (work / "cache").touch()
        return {"accuracy": 0.8 + 0.1 * cell["seed"], "_predictions": [1, 0, 1]}

    def figures(self, results: Sequence[CellResult]) -> dict[str, Any]:
        rows = [len(r.result["_predictions"]) for r in results]
        return {"accuracy": [r.result["accuracy"] for r in results], "test": {"p": 0.5, "rows": sum(rows)}}


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    (tmp_path / "01-x").mkdir()
    return Trial(tmp_path / "01-x")


def test_writes_figures_verdict_and_its_rule(trial: Trial) -> None:
    trial.experiment.main([])
    record = json.loads((trial.folder / "result.json").read_text())
    assert record["paper"] == "01-x"
    assert record["verdict"] == "reproduced"
    assert record["rule"] == "Reproduced when the mean is above 0.5."
    assert "def rule(" in record["rule_code"]
    assert record["figures"]["accuracy"]["mean"] == pytest.approx(0.9)
    assert record["figures"]["accuracy"]["spread"] == pytest.approx(0.1)
    assert record["figures"]["test"] == {"p": 0.5, "rows": 9}
    assert record["seeds"] == [0, 1, 2]
    assert record["environment"]["versions"]["torch"]
    assert record["cells"][2]["result"] == {"accuracy": 1.0}


def test_a_stopped_run_goes_on(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    trial.fail_at = 1
    with pytest.raises(SystemExit) as stopped:
        trial.experiment.main([])
    assert stopped.value.code == 130
    assert "run the same command again" in capsys.readouterr().err
    assert not (trial.folder / "result.json").exists()
    trial.fail_at = None
    trial.experiment.main([])
    assert trial.measured == [0, 1, 2]
    trial.experiment.main([])
    assert trial.measured == [0, 1, 2]


def test_cells_hold_small_files_only_and_finish_gets_the_record(trial: Trial) -> None:
    seen = []
    replace(trial.experiment, finish=lambda record, folder: seen.append((record["verdict"], folder))).main([])
    assert seen == [("reproduced", trial.folder)]
    assert len(list((trial.folder / "cells").iterdir())) == 3
    assert all(file.suffix == ".json" for file in (trial.folder / "cells").iterdir())
    assert (trial.folder / "cells.work" / "cache").exists()


def test_other_code_and_fresh_measure_again(trial: Trial) -> None:
    trial.experiment.main([])
    replace(trial.experiment, revision="2").main([])
    assert trial.measured == [0, 1, 2] * 2
    trial.experiment.main(["--fresh"])
    assert trial.measured == [0, 1, 2] * 3


def test_a_smoke_run_leaves_the_committed_result_alone(trial: Trial) -> None:
    trial.experiment.main(["--smoke"])
    assert not (trial.folder / "result.json").exists()
    assert json.loads((trial.folder / "smoke.work" / "result.json").read_text())["mode"] == "smoke"


def test_a_rule_without_words_or_with_other_words_is_refused(trial: Trial) -> None:
    with pytest.raises(ValueError, match="docstring"):
        replace(trial.experiment, verdict=lambda _: "reproduced")

    def great(_: Mapping[str, Any]) -> str:
        """Always great."""
        return "great"

    with pytest.raises(ValueError, match="great"):
        replace(trial.experiment, verdict=great).main([])


def test_mendable_errors_are_one_line(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(cell: Cell, work: Path) -> dict[str, Any]:
        raise NarrowsError("the data is gone")

    with pytest.raises(SystemExit) as stopped:
        replace(trial.experiment, measure=broken).main([])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "01-x: the data is gone\n"
