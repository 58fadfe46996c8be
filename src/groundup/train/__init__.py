"""Training: the Learner, its callbacks and metrics, checkpoints."""

from groundup.train.callbacks import (
    Callback as Callback,
    ClipGradients as ClipGradients,
    CsvLog as CsvLog,
    EarlyStopping as EarlyStopping,
    KeepBest as KeepBest,
)
from groundup.train.checkpoint import Checkpoint as Checkpoint
from groundup.train.learner import Learner as Learner, TrainingWarning as TrainingWarning
from groundup.train.lr_find import LrFind as LrFind
from groundup.train.metrics import (
    Metric as Metric,
    accuracy as accuracy,
    mae as mae,
    r2 as r2,
    top_k as top_k,
)
from groundup.train.plots import plot_confusion as plot_confusion, plot_wrong as plot_wrong
from groundup.train.stats import ActivationStats as ActivationStats
