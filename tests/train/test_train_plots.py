import sys

import numpy as np
import pytest
from small_training import make_learner

from groundup import nn
from groundup.errors import GroundupError
from groundup.train import ActivationStats, Learner, accuracy, mae, plots, r2, top_k
from groundup.train.stats import QUANTITIES

PNG = b"\x89PNG\r\n\x1a\n"


def lines(axis):
    return {line.get_label(): list(line.get_ydata()) for line in axis.get_lines()}


def test_the_history_is_what_is_plotted(tmp_path):
    learner = make_learner(metrics=[accuracy, top_k(2)]).fit(3)
    figure = learner.plot(tmp_path / "curves.png")
    losses, shares = figure.axes
    column = {name: [row[name] for row in learner.history] for name in learner.columns}
    assert lines(losses) == {"train": column["train_loss"], "valid": column["valid_loss"]}
    assert lines(shares) == {"accuracy": column["accuracy"], "top 2": column["top_2"]}
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)
    learner.plot(tmp_path / "curves.svg")
    assert b"<svg" in (tmp_path / "curves.svg").read_bytes()


def test_each_metric_of_another_unit_has_its_panel():
    x = np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)
    data = (x, x[:, 0], x, x[:, 0])
    learner = Learner(
        nn.Sequential(nn.Linear(6, 1)), data, nn.Mse(), metrics=[mae, r2], display=False
    )
    assert [axis.get_ylabel() for axis in learner.fit(1).plot().axes] == ["loss", "mae", "r2"]


def test_there_is_nothing_to_plot_before_the_first_epoch():
    with pytest.raises(GroundupError, match="nothing to plot before the first epoch"):
        make_learner().plot()


def test_without_valid_rows_one_line(data):
    learner = make_learner((data.x_train, data.y_train, data.x_valid[:0], data.y_valid[:0]))
    (losses,) = learner.fit(1).plot().axes
    assert list(lines(losses)) == ["train"]


def test_the_rate_search_is_plotted(tmp_path):
    found = make_learner().lr_find()
    (axis,) = found.plot(tmp_path / "lr.png").axes
    assert axis.get_xscale() == "log"
    assert f"suggested: {found.suggestion:.2g}" in lines(axis)
    assert (tmp_path / "lr.png").read_bytes().startswith(PNG)


def test_statistics_are_plotted_for_each_layer(tmp_path):
    stats = ActivationStats(2)
    make_learner(callbacks=[stats]).fit(1)
    figure = stats.plot(tmp_path / "stats.png")
    for axis, quantity in zip(figure.axes, QUANTITIES, strict=False):
        assert lines(axis) == {layer: values[quantity] for layer, values in stats.stats.items()}
    assert (tmp_path / "stats.png").read_bytes().startswith(PNG)


def test_the_confusion_matrix_counts():
    figure = plots.plot_confusion(
        np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 0]), ("a", "b", "c")
    )
    (axis,) = figure.axes
    counts = {tuple(map(int, t.get_position()))[::-1]: t.get_text() for t in axis.texts}
    assert counts == {(0, 0): "1", (0, 1): "1", (1, 1): "2", (2, 0): "1"}
    assert axis.get_title() == "2 mistakes in 5 (60.00% right)"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c"]


def test_a_confusion_matrix_of_many_classes_and_of_no_mistakes(tmp_path):
    many = np.arange(60)
    plots.save_figure(
        plots.plot_confusion(many, many, [str(i) for i in many]), tmp_path / "many.png"
    )
    assert (tmp_path / "many.png").read_bytes().startswith(PNG)


def test_the_most_wrong_come_first():
    images = np.zeros((4, 2, 2))
    true = np.array([0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.99, 0.01], [0.7, 0.3]])
    figure = plots.plot_wrong(images, true, probabilities, ("cat", "dog"))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["said cat (99%)\nit is dog", "said cat (60%)\nit is dog"]
    assert figure.get_suptitle() == "2 of 4 wrong"


def test_if_none_is_wrong_the_least_sure_are_shown():
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4]])
    figure = plots.plot_wrong(np.zeros((2, 2, 2)), np.array([0, 0]), probabilities, ("a", "b"))
    assert figure.get_suptitle() == "none of 2 wrong; the least sure"
    assert figure.axes[0].get_title() == "said a (60%)\nit is a"


def test_predictions_against_what_is_true(tmp_path):
    true = np.array([1.0, 2.0, 3.0])
    figure = plots.plot_predicted(true, true + 0.1, "price")
    (axis,) = figure.axes
    assert axis.get_xlabel() == "true price"
    assert axis.get_title() == f"r2 {1 - 0.03 / 2:.4f} over 3 rows"
    plots.save_figure(figure, tmp_path / "p.png")
    constant = plots.plot_predicted(np.ones(3), np.ones(3), "x")
    plots.save_figure(constant, tmp_path / "q.png")


def test_nothing_global_is_left():
    if "matplotlib.pyplot" in sys.modules:
        assert not sys.modules["matplotlib.pyplot"].get_fignums()
