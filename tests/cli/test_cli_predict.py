import csv

import numpy as np
import pytest
from PIL import Image

from groundup.data import digits


@pytest.fixture
def pictures(tmp_path):
    """Three valid digits, 10 times as large: white on black as in training, and black on white."""
    split = digits()
    names = {"as-is": [], "inverted": []}
    for i in range(3):
        pixels = (split.x_valid[i].reshape(8, 8) * 255).astype(np.uint8)
        for kind, shown in (("as-is", pixels), ("inverted", 255 - pixels)):
            path = tmp_path / f"{kind}-{i}.png"
            Image.fromarray(shown).convert("RGB").resize((80, 80), Image.Resampling.NEAREST).save(
                path
            )
            names[kind].append(path.name)
    return names, [str(label) for label in split.y_valid[:3]]


def table(text):
    """The printed rows, without their head."""
    return [line.split() for line in text.splitlines()[1:]]


def test_images_get_a_class_a_probability_and_the_next_two(groundup, digits_run, pictures):
    names, labels = pictures
    result = groundup("predict", digits_run[0], *names["as-is"])
    assert result.exit_code == 0, result.output
    rows = table(result.stdout)
    assert [row[0] for row in rows] == names["as-is"]
    assert [row[1] for row in rows] == labels
    assert all(row[2].endswith("%") and len(row) == 7 for row in rows)
    assert result.stderr == ""


def test_a_bright_background_is_noticed_said_and_turned(groundup, digits_run, pictures):
    names, labels = pictures
    result = groundup("predict", digits_run[0], *names["inverted"], names["as-is"][0])
    assert [row[1] for row in table(result.stdout)] == [*labels, labels[0]]
    assert result.stderr == (
        "inverted-0.png, inverted-1.png, inverted-2.png: bright background, dark in training, so "
        "black and white are swapped (--invert no leaves them)\n"
    )


def test_invert_may_be_said(groundup, digits_run, pictures):
    names, labels = pictures
    turned = groundup("predict", digits_run[0], *names["inverted"], "--invert", "yes")
    assert [row[1] for row in table(turned.stdout)] == labels
    left = groundup("predict", digits_run[0], *names["inverted"], "--invert", "no")
    assert [row[1] for row in table(left.stdout)] != labels
    assert turned.stderr == left.stderr == ""
    assert groundup("predict", digits_run[0], "x.png", "--invert", "maybe").exit_code == 2


def test_images_trained_on_a_bright_background(groundup, tmp_path):
    """What is dark then is the unusual one."""
    for name, place in (("left", 0), ("right", 8)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(10):
            pixels = np.full((12, 12), 255, np.uint8)
            pixels[2 + i % 3 : 9, 1 + place : 3 + place] = 0
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{i}.png")
    Image.fromarray(255 - pixels).save(tmp_path / "dark.png")
    assert groundup("train", "data", "--size", 12, "--epochs", 10, "--no-check").exit_code == 0
    result = groundup("predict", "runs/data-1", "dark.png", "data/left/0.png")
    assert [row[1] for row in table(result.stdout)] == ["right", "left"]
    assert "dark.png: dark background, bright in training" in result.stderr


def test_predictions_may_be_written(groundup, digits_run, pictures, tmp_path):
    names, labels = pictures
    result = groundup("predict", digits_run[0], *names["as-is"], "--out", "p.csv")
    assert result.stdout == "3 predictions in p.csv\n"
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["input"] for row in rows] == names["as-is"]
    assert [row["prediction"] for row in rows] == labels
    assert all(0.5 < float(row["probability"]) <= 1 for row in rows)


def test_a_table_is_predicted_as_the_training_saw_it(groundup, houses, tmp_path):
    import pandas as pd

    assert groundup("train", houses, "--epochs", 40, "--no-check").exit_code == 0
    whole = pd.read_csv(houses)
    whole.iloc[:50, [2, 1, 0]].to_csv(tmp_path / "new.csv", index=False)  # other columns' order
    result = groundup("predict", "runs/houses-1", "new.csv", "--out", "p.csv")
    assert result.exit_code == 0, result.output
    predicted = pd.read_csv(tmp_path / "p.csv")
    assert list(predicted.columns) == ["input", "price"]
    assert np.abs(predicted.price - whole.price[:50]).mean() < 3e4
    shown = table(groundup("predict", "runs/houses-1", "new.csv").stdout)
    assert shown[0][:2] == ["row", "1"]
    assert float(shown[0][2]) == pytest.approx(predicted.price[0], rel=1e-5)
    two = groundup("predict", "runs/houses-1", "new.csv", "new.csv").stdout
    assert table(two)[50][0] == "new.csv:1"


def test_columns_that_are_lacking_are_named(groundup, houses, tmp_path):
    groundup("train", houses, "--epochs", 1, "--no-check")
    (tmp_path / "bad.csv").write_text("area,rooms\n1,2\n")
    result = groundup("predict", "runs/houses-1", "bad.csv")
    assert result.exit_code == 1
    assert "error: bad.csv has no column 'city'. Its columns: 'area', 'rooms'" in result.stderr


def test_what_does_not_go_together(groundup, digits_run, houses, tmp_path):
    result = groundup("predict", digits_run[0], houses)
    assert result.exit_code == 1
    assert "is a table, and the run was trained on images" in result.stderr
    groundup("train", houses, "--epochs", 1, "--no-check")
    result = groundup("predict", "runs/houses-1", "x.png")
    assert "x.png is no table (.csv, .tsv, .txt, .parquet), as the run needs" in result.stderr
    result = groundup("predict", digits_run[0], "none.png")
    assert result.exit_code == 1
    assert result.stderr == "error: there is no image none.png\n"


def test_a_run_without_weights_says_how_to_go_on(groundup, tmp_path):
    groundup("train", "--epochs", 1, "--no-check")
    (tmp_path / "runs" / "digits-1" / "weights.safetensors").unlink()
    result = groundup("predict", "runs/digits-1", "x.png")
    assert result.exit_code == 1
    assert "Go on with it: groundup train --resume runs/digits-1" in result.stderr


def test_predict_needs_an_input(groundup, digits_run):
    assert groundup("predict", digits_run[0]).exit_code == 2
    assert groundup("predict").exit_code == 2
