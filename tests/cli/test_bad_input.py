"""Whatever a user can mend gives one line on stderr, exit code 2, and leaves nothing behind."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
import transformers
from safetensors import SafetensorError

from narrows.core import files
from narrows.distill.finetune import LabelObjective
from narrows.distill.heal import DistillObjective


def copy_of(model: Path, to: Path, **settings) -> Path:
    """The model with other values in its config.json."""
    to.mkdir()
    for file in model.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    config = json.loads((to / "config.json").read_text(encoding="utf-8"))
    (to / "config.json").write_text(json.dumps(config | settings), encoding="utf-8")
    return to


def write(folder: Path, text: str, name: str = "data.tsv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def rows(place, label=lambda i: i % 2) -> str:
    texts = [line.split("\t")[0] for line in place.data.read_text(encoding="utf-8").splitlines()[1:]]
    return "text\tlabel\n" + "".join(f"{text}\t{label(i)}\n" for i, text in enumerate(texts))


# Each case: (place, tmp_path) -> (arguments that replace those of a good run, words of the line).
CASES = {
    "missing column": lambda p, t: (["--label", "stars"], ["'stars'", "'text', 'label'", "--label"]),
    "no such data": lambda p, t: (["--data", t / "none.csv"], ["none.csv", "no such file"]),
    "empty file": lambda p, t: (["--data", write(t, "")], ["data.tsv", "empty"]),
    "no rows": lambda p, t: (["--data", write(t, "text\tlabel\n")], ["no rows"]),
    "one class": lambda p, t: (["--data", write(t, rows(p, lambda i: 1))], ["'1'", "two classes"]),
    "too many classes": lambda p, t: (["--data", write(t, rows(p, lambda i: f"name {i}"))], ["120 different"]),
    "strange suffix": lambda p, t: (["--data", write(t, rows(p), "data.xls")], [".csv", ".parquet"]),
    "bad evaluation file": lambda p, t: (["--eval", write(t, "text\tlabel\na film\tugly\n")], ["'ugly'", "'bad'"]),
    "columns of shipped data": lambda p, t: (["--data", "movie-reviews", "--label", "score"], ["movie-reviews"]),
    "unreadable budget": lambda p, t: (["--budget", "a fifth"], ["'a fifth'", '"20% params"']),
    "budget of nothing": lambda p, t: (["--budget", "0% params"], ["positive"]),
    "budget above the whole": lambda p, t: (["--budget", "120% params"], ["100 %"]),
    "impossible budget": lambda p, t: (["--budget", "1% params"], ["smallest possible", "raise the budget"]),
    "impossible size": lambda p, t: (["--budget", "1 kB"], ["smallest possible"]),
    "unknown method": lambda p, t: (["--method", "guess"], ["'guess'", "fisher"]),
    "unknown vocabulary": lambda p, t: (["--vocab", "half"], ["'half'", "--vocab", "narrows prune --help"]),
    "no steps": lambda p, t: (["--steps", "0"], ["steps", "at least 1"]),
    "steps and epochs": lambda p, t: (["--epochs", "1"], ["--steps", "--epochs"]),
    "share of nothing": lambda p, t: (["--held-out", "0"], ["held-out", "between 0 and 1"]),
    "unknown option": lambda p, t: (["--colour", "red"], ["--colour"]),
    "folder exists": lambda p, t: (["--out", p.model], ["exists already"]),
    "file exists": lambda p, t: (["--out", p.data], ["exists already"]),
    "folder inside a file": lambda p, t: (["--out", p.data / "small"], ["reviews.tsv", "another place"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_nothing_left(case, place, narrows, arguments, tmp_path):
    inputs, outputs = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    outputs.mkdir()
    more, words = CASES[case](place, inputs)
    check(narrows, arguments(outputs / "small", *more), outputs, words)


def check(narrows, given, outputs, words):
    for form in ([], ["--json"]):
        done = narrows(*given, *form)
        assert done.exit_code == 2, done.output
        assert done.stdout == ""
        assert list(outputs.iterdir()) == []
        *progress, line = done.stderr.splitlines()
        if form:
            assert progress == []
            assert json.loads(line).keys() == {"error"}
            line = json.loads(line)["error"]
        assert all(word in line for word in words), line
        assert "Traceback" not in done.output


def with_code(model: Path, to: Path) -> Path:
    """A folder whose code would leave a trace where the model lies."""
    folder = copy_of(model, to, model_type="evil", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"})
    (folder / "evil.py").write_text(f"open({str(to.parent / 'trace')!r}, 'w')\n", encoding="utf-8")
    return folder


def cut_short(model: Path, to: Path) -> Path:
    file = copy_of(model, to) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    return to


def pickled(model: Path, to: Path) -> Path:
    (copy_of(model, to) / "model.safetensors").rename(to / "pytorch_model.bin")
    return to


def without_config(model: Path, to: Path) -> Path:
    (copy_of(model, to) / "config.json").unlink()
    return to


def other_family(model: Path, to: Path) -> Path:
    """A model that transformers knows and narrows does not."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 80, "hidden_size": 16, "embedding_size": 16, "intermediate_size": 16}
    config = transformers.AlbertConfig(**sizes, num_attention_heads=2, max_position_embeddings=64)
    copy_of(model, to)
    transformers.AlbertForSequenceClassification(config).save_pretrained(to)
    return to


MODELS = {
    "unknown type": (lambda m, t: copy_of(m, t, model_type="gpt9"), ["'gpt9'"]),
    "unsupported family": (other_family, ["'albert'", "bert", "roberta"]),
    "cut short": (cut_short, ["model.safetensors", "damaged"]),
    "own code": (with_code, ["own Python code", "evil.Config", "not run"]),
    "pickle": (pickled, ["pickle"]),
    "no config": (without_config, ["config.json"]),
    "other sizes": (lambda m, t: copy_of(m, t, hidden_size=64), ["shape"]),
    "no model": (lambda m, t: t / "none" / "at" / "all", ["no folder"]),
}


CALLS = [(case, command) for case in MODELS for command in ("prune", "inspect", "evaluate")]
CALLS.remove(("unsupported family", "evaluate"))  # nothing is cut there


@pytest.mark.parametrize(("case", "command"), CALLS)
def test_models_that_cannot_be_used(case, command, place, narrows, arguments, tmp_path):
    outputs = tmp_path / "out"
    outputs.mkdir()
    make, words = MODELS[case]
    model = make(place.model, tmp_path / "model")
    given = {
        "prune": [*arguments(outputs / "small")],
        "inspect": ["inspect", ""],
        "evaluate": ["evaluate", "", "--data", str(place.data)],
    }[command]
    given[1] = str(model)
    check(narrows, given, outputs, words)
    assert not (tmp_path / "trace").exists()


def breaking_at(wanted, whole):
    def loss(self, model, batch, step):
        value, figures = whole(self, model, batch, step)
        return value * (float("nan") if step == wanted else 1.0), figures

    return loss


@pytest.mark.parametrize("objective", [LabelObjective, DistillObjective])
def test_a_loss_that_is_not_a_number(objective, narrows, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(objective, "loss", breaking_at(2, objective.loss))
    check(narrows, arguments(tmp_path / "small"), tmp_path, ["the loss is nan at step 3", "learning rate"])


def test_a_state_that_the_message_names_is_kept(narrows, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(DistillObjective, "loss", breaking_at(27, DistillObjective.loss))
    done = narrows(*arguments(tmp_path / "small", "--steps", 30))
    assert done.exit_code == 2
    state = tmp_path / "small.work" / "heal-0" / "checkpoint-25"
    assert f"the last saved state is {state}" in done.stderr
    assert state.exists()


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def full_as_safetensors_says_it(*_, **__):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


WRITERS = {
    "state of training": ("narrows.distill.state.save_file", full_as_safetensors_says_it),
    "outputs of the teacher": ("narrows.distill.teacher.save_file", full),
    "checkpoint": ("transformers.PreTrainedModel.save_pretrained", full_as_safetensors_says_it),
    "tokenizer": ("transformers.PreTrainedTokenizerFast.save_pretrained", full),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk(writer, narrows, arguments, tmp_path, monkeypatch):
    name, failure = WRITERS[writer]
    out = tmp_path / "small"
    with monkeypatch.context() as patch:
        patch.setattr(name, failure)
        done = narrows(*arguments(out))
    assert done.exit_code == 2
    assert (done.stdout, out.exists()) == ("", False)
    assert "the disk is full" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.output
    assert not list(tmp_path.rglob("*.tmp"))
    # With room again the run goes on.
    assert narrows(*arguments(out, "--resume")).exit_code == 0
    assert (out / "report.html").exists()


def test_a_disk_that_is_full_at_the_very_end(narrows, arguments, tmp_path, monkeypatch):
    out, whole = tmp_path / "small", files.write_text

    def write_text(path, text):
        full() if Path(path).name == "report.html" else whole(path, text)

    with monkeypatch.context() as patch:
        patch.setattr("narrows.road.door.write_text", write_text)
        done = narrows(*arguments(out))
    assert done.exit_code == 2
    assert not out.exists()
    assert done.stderr.splitlines()[-1] == "narrows: the disk is full"
    assert narrows(*arguments(out, "--resume")).exit_code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["small"]


def test_the_folder_that_the_command_runs_in(narrows, arguments, tmp_path, monkeypatch):
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    check(narrows, arguments("."), empty, ["cannot be replaced", "name a new folder"])
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_an_empty_folder_is_filled(narrows, arguments, tmp_path):
    (tmp_path / "small").mkdir()
    assert narrows(*arguments(tmp_path / "small")).exit_code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["small"]


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written(narrows, arguments, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    check(narrows, arguments(closed / "small"), closed, ["closed", "another place"])


def test_a_refused_folder_for_root_too(narrows, arguments, tmp_path, monkeypatch):
    def mkdir(self, *_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    check(narrows, arguments(tmp_path / "small"), tmp_path, [str(tmp_path / "small"), "Permission denied"])


def test_other_arguments_do_not_go_on_with_a_run(narrows, arguments, tmp_path, monkeypatch):
    out = tmp_path / "small"
    with monkeypatch.context() as patch:
        patch.setattr("transformers.PreTrainedModel.save_pretrained", full)
        assert narrows(*arguments(out)).exit_code == 2
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    without, other = narrows(*arguments(out)), narrows(*arguments(out, "--seed", "1", "--resume"))
    assert (without.exit_code, other.exit_code) == (2, 2)
    assert "--resume" in without.stderr
    assert "other options" in other.stderr
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_a_mistake_of_narrows_is_one_line(narrows, place, monkeypatch):
    def broken(*_):
        raise ValueError("first\nsecond \x1b[31m")

    monkeypatch.setattr("narrows.transformer.anatomy.Anatomy.of", broken)
    done = narrows("inspect", place.model)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("narrows: unexpected ValueError: first second [31m (")
    assert "NARROWS_DEBUG=1" in done.stderr
    monkeypatch.setenv("NARROWS_DEBUG", "1")
    assert "Traceback" in narrows("inspect", place.model).stderr
