import csv
import errno
import json
import os

import numpy as np
import pytest

import groundup as gu
from groundup import nn
from groundup.errors import DataNotFoundError, StateError
from groundup.train.files import load_tensors

PNG = b"\x89PNG\r\n\x1a\n"


def weights(folder):
    return {k: v.tobytes() for k, v in load_tensors(folder / "weights.safetensors")[0].items()}


def test_digits_pass_97_percent_and_all_files_are_there(digits_run):
    folder, result = digits_run
    assert result.exit_code == 0, result.output
    config = json.loads((folder / "config.json").read_text())
    assert config["result"]["accuracy"] >= 0.97
    assert config["result"]["epoch"] == 30
    assert config["versions"]["groundup"] == gu.__version__
    assert config["versions"].keys() == {"groundup", "numpy", "python"}
    assert len(config["fingerprint"]) == 16
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints",
        "config.json",
        "confusion.png",
        "curves.png",
        "log.csv",
        "weights.safetensors",
        "wrong.png",
    ]
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(PNG)
    with open(folder / "log.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 31))
    assert float(rows[-1]["accuracy"]) == config["result"]["accuracy"]
    assert sum(float(row["seconds"]) for row in rows) < 30


def test_what_it_prints(digits_run):
    folder, result = digits_run
    lines = result.stdout.splitlines()
    facts = "data digits: 1,437 training and 360 valid images of 8x8, 10 classes"
    assert " ".join(lines[0].split()) == facts
    assert "64 -> 50 relu -> 10: 3,760 parameters" in lines[1]
    assert "30 epochs of 45 batches of 32, adam, one-cycle lr 0.01, seed 0" in lines[2]
    checks = [line.split() for line in lines if line.endswith(" ok")]
    assert [row[:3] for row in checks] == [
        ["layers.0", "Linear", "input"],
        ["layers.0", "Linear", "w"],
        ["layers.0", "Linear", "b"],
        ["layers.1", "Relu", "input"],
        ["layers.2", "Linear", "input"],
        ["layers.2", "Linear", "w"],
        ["layers.2", "Linear", "b"],
        ["loss", "CrossEntropy", "input"],
    ]
    accuracy = json.loads((folder / "config.json").read_text())["result"]["accuracy"]
    assert f"  {accuracy:.2%} of the valid rows right, after 30 epochs in" in result.stdout
    assert f"  {folder}{os.sep}\n" in result.stdout
    assert lines[-1] == f"  groundup predict {folder} IMAGE.png"
    assert result.stdout.isascii()
    assert "\x1b" not in result.stdout
    assert result.stderr == ""


def test_runs_are_numbered_and_never_overwritten(groundup, tmp_path):
    for _ in range(2):
        assert groundup("train", "--epochs", 1, "--no-check").exit_code == 0
    (tmp_path / "runs" / "digits-3").mkdir()
    assert groundup("train", "--epochs", 1, "--no-check", "--seed", 1).exit_code == 0
    runs = tmp_path / "runs"
    assert sorted(os.listdir(runs)) == ["digits-1", "digits-2", "digits-3", "digits-4"]
    assert weights(runs / "digits-1") == weights(runs / "digits-2")
    assert weights(runs / "digits-1") != weights(runs / "digits-4")
    assert os.listdir(runs / "digits-3") == []


def test_the_options_make_the_model_and_the_training(groundup, tmp_path):
    words = (
        "--hidden 20,10 --hidden 5 --epochs 1 --batch-size 100 --opt sgd --momentum 0.5 --lr 0.1"
    )
    result = groundup("train", *words.split(), "--dropout", 0.25, "--weight-decay", 0.001)
    assert result.exit_code == 0, result.output
    hidden = "64 -> 20 relu and dropout 0.25 -> 10 relu and dropout 0.25 -> 5 relu and dropout 0.25"
    assert f"{hidden} -> 10: 1,625 parameters" in result.stdout
    assert (
        "15 batches of 100, sgd, momentum 0.5, weight decay 0.001, one-cycle lr 0.1"
        in result.stdout
    )
    shapes = {k: len(v) // 4 for k, v in weights(tmp_path / "runs" / "digits-1").items()}
    assert sorted(shapes.values()) == [5, 10, 10, 20, 50, 50, 200, 1280]


def test_no_hidden_layer(groundup):
    result = groundup("train", "--hidden", 0, "--epochs", 1)
    assert "64 -> 10: 650 parameters" in result.stdout
    assert result.exit_code == 0


# The gradients


@pytest.fixture
def wrong_relu(monkeypatch):
    monkeypatch.setattr(nn.Relu, "bwd", lambda self, out, inp: setattr(inp, "g", out.g))


@pytest.mark.usefixtures("wrong_relu")
def test_a_wrong_gradient_stops_everything(groundup, tmp_path):
    result = groundup("train")
    assert result.exit_code == 1
    (wrong,) = [line for line in result.stdout.splitlines() if line.endswith("WRONG")]
    assert wrong.split()[:3] == ["layers.1", "Relu", "input"]
    assert (
        "error: the gradient of layers.1 Relu in its input is wrong: see its bwd" in result.stderr
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("wrong_relu")
def test_no_check_trains_all_the_same(groundup):
    result = groundup("train", "--no-check", "--epochs", 1)
    assert result.exit_code == 0
    assert "gradient of" not in result.stdout


@pytest.mark.usefixtures("wrong_relu")
def test_in_a_terminal_a_wrong_gradient_is_red(groundup, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    out = groundup("train").stdout
    (wrong,) = [line for line in out.splitlines() if "WRONG" in line]
    assert wrong.startswith("\x1b[1;31m")


# Folders of images, tables


@pytest.fixture
def photos(tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, bright in (("bright", 200), ("dark", 20)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(20):
            noise = rng.integers(0, 50, (10 + i, 12), np.uint8)
            Image.fromarray(noise + np.uint8(bright)).save(tmp_path / "photos" / name / f"{i}.png")
    return tmp_path / "photos"


def test_a_folder_of_images(groundup, tmp_path, photos):
    result = groundup("train", photos, "--size", 6, "--epochs", 5)
    assert result.exit_code == 0, result.output
    assert "photos: 32 training and 8 valid images of 6x6, 2 classes" in result.stdout
    config = json.loads((tmp_path / "runs" / "photos-1" / "config.json").read_text())
    assert config["classes"] == ["bright", "dark"]
    assert config["result"]["accuracy"] == 1.0


def test_a_table_with_a_number_to_predict(groundup, tmp_path, houses):
    result = groundup("train", houses, "--target", "price", "--epochs", 40)
    assert result.exit_code == 0, result.output
    assert "240 training and 60 valid rows, 4 inputs, a number: price" in result.stdout
    assert "mean absolute error" in result.stdout
    folder = tmp_path / "runs" / "houses-1"
    config = json.loads((folder / "config.json").read_text())
    assert config["result"]["r2"] > 0.95
    assert 5e3 < config["result"]["mae"] < 3e4  # in the price's unit: the noise's std is 1e4
    assert (folder / "predicted.png").read_bytes().startswith(PNG)
    assert not (folder / "confusion.png").exists()


def test_a_table_of_classes(groundup, tmp_path, houses):
    result = groundup("train", houses, "--target", "city", "--epochs", 40)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "runs" / "houses-1"
    config = json.loads((folder / "config.json").read_text())
    assert config["classes"] == ["Oslo", "Rome"]
    assert config["result"]["accuracy"] > 0.9
    assert (folder / "confusion.png").read_bytes().startswith(PNG)
    assert not (folder / "wrong.png").exists()


def test_a_data_set_that_is_not_there_says_what_to_put_where(groundup, tmp_path, monkeypatch):
    def offline(*args):
        raise DataNotFoundError("no connection")

    monkeypatch.setattr("groundup.data.sets.download", offline)
    monkeypatch.setattr("groundup.data.sets.cache_folder", lambda cache: str(tmp_path / "cache"))
    result = groundup("train", "mnist")
    assert result.exit_code == 1
    assert "put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz into" in result.stderr
    assert str(tmp_path / "cache" / "mnist") in result.stderr
    assert "for this command: --data-folder" in result.stderr
    assert "Traceback" not in result.output


def test_idx_files_in_a_folder(groundup, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (120, 28, 28), np.uint8)
    labels = rng.integers(0, 10, 120, np.uint8)
    for name, array in (("train-images-idx3-ubyte", images), ("train-labels-idx1-ubyte", labels)):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        (tmp_path / name).write_bytes(header + array.tobytes())
    result = groundup("train", "mnist", "--data-folder", tmp_path, "--epochs", 1, "--hidden", 5)
    assert result.exit_code == 0, result.output
    assert "mnist: 100 training and 20 valid images of 28x28, 10 classes" in result.stdout


# Errors and usage


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["nonsense"], "neither a data set"),
        (["--epochs", "0"], "--epochs"),
        (["--epochs", "many"], "--epochs"),
        (["--batch-size", "0"], "--batch-size"),
        (["--lr", "0"], "--lr"),
        (["--lr", "-1"], "--lr"),
        (["--hidden", "50,x"], "--hidden"),
        (["--hidden", "-5"], "--hidden"),
        (["--opt", "sgdd"], "--opt"),
        (["--dropout", "1"], "--dropout"),
        (["--momentum", "0.9"], "--momentum"),
        (["--target", "price"], "--target"),
        (["--data-folder", "here"], "--data-folder"),
        (["--seed", "-1"], "--seed"),
        (["--nonsense"], "--nonsense"),
        (["digits", "--resume", "runs/digits-1"], "data: the run's config.json says this already"),
        (["--resume", "runs/digits-1", "--lr", "1", "--epochs", "3"], "lr, epochs: the run's"),
    ],
)
def test_bad_usage_exits_with_2(groundup, tmp_path, words, match):
    result = groundup("train", *words)
    assert result.exit_code == 2
    assert " ".join(match.split()) in " ".join(result.stderr.replace("│", " ").split())
    assert not (tmp_path / "runs").exists()


def test_errors_are_one_line_and_debug_shows_all(groundup, tmp_path):
    result = groundup("train", "houses.csv")
    assert result.exit_code == 1
    assert result.stderr == f"error: there is no file {tmp_path / 'houses.csv'}\n"
    result = groundup("--debug", "train", "houses.csv")
    assert isinstance(result.exception, DataNotFoundError)


def test_a_loss_that_explodes_says_what_to_do(groundup, tmp_path):
    result = groundup("train", "--opt", "sgd", "--lr", 1e30, "--no-check")
    assert result.exit_code == 1
    assert "a learning rate that is too large (it is" in result.stderr
    assert "The last good checkpoint is" in result.stderr
    assert "runs" in result.stderr


def test_help_has_examples_and_version_is_the_packages(groundup):
    for command in ("train", "predict"):
        result = groundup(command, "--help")
        assert result.exit_code == 0
        assert "Examples" in result.stdout
        assert f"groundup {command} " in result.stdout
    assert groundup("--version").stdout == f"groundup {gu.__version__}\n"
    assert groundup("--help").exit_code == 0


# Going on


def test_a_finished_run_has_nothing_to_go_on_with(groundup, tmp_path):
    groundup("train", "--epochs", 2, "--no-check")
    folder = tmp_path / "runs" / "digits-1"
    before = weights(folder), (folder / "log.csv").read_bytes()
    (folder / "curves.png").unlink()
    result = groundup("train", "--resume", folder)
    assert result.exit_code == 0, result.output
    assert (weights(folder), (folder / "log.csv").read_bytes()) == before
    assert (folder / "curves.png").exists()


def test_a_run_is_not_resumed_with_other_data(groundup, tmp_path, houses):
    table = tmp_path / "houses.csv"
    table.write_bytes(houses.read_bytes())
    groundup("train", table, "--epochs", 1, "--no-check")
    table.write_bytes(b"\n".join(houses.read_bytes().split(b"\n")[:-20]))
    result = groundup("train", "--resume", "runs/houses-1")
    assert result.exit_code == 1
    assert "runs/houses-1 cannot be resumed: the data" in result.stderr


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "is no run folder: it has no config.json"),
        ("{", "config.json is damaged"),
        ('{"format": 1}', "config.json is damaged (KeyError: 'settings')"),
        ('{"format": 99}', "config.json is of a format that this version of groundup cannot read"),
    ],
)
def test_folders_that_are_no_runs(groundup, tmp_path, content, match):
    (tmp_path / "run").mkdir()
    if content is not None:
        (tmp_path / "run" / "config.json").write_text(content)
    for words in (["train", "--resume", "run"], ["predict", "run", "x.png"]):
        result = groundup(*words)
        assert result.exit_code == 1
        assert match in result.stderr


# A full disk


def fill_disk_from(monkeypatch, name):
    """From when a file of that name is written on, there is no space left."""
    replace = os.replace

    def full(old, new):
        if name in os.path.basename(new):
            monkeypatch.setattr("os.fsync", no_space)
        replace(old, new)

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)


def test_a_disk_that_fills_up_in_training(groundup, tmp_path, monkeypatch):
    whole = groundup("train", "--epochs", 3, "--no-check", "--out", "whole")
    with monkeypatch.context() as patched:
        fill_disk_from(patched, "checkpoint-0000000045")
        result = groundup("train", "--epochs", 3, "--no-check")
    assert whole.exit_code == 0
    assert result.exit_code == 1
    folder = tmp_path / "runs" / "digits-1"
    assert "warning: the checkpoint of step 90 could not be written to" in result.stderr
    assert "checkpoint-0000000045.safetensors is still there" in result.stderr
    assert (
        "error: trained, but runs/digits-1 could not be written to (No space left" in result.stderr
    )
    assert "Go on: groundup train --resume runs/digits-1" in result.stderr
    assert groundup("train", "--resume", folder).exit_code == 0
    assert weights(folder) == weights(tmp_path / "whole" / "digits-1")


def test_state_errors_are_groundups():
    assert issubclass(StateError, gu.errors.GroundupError)
