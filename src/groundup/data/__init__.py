"""Data sets, and what is done to them before training: split, scaled, in batches."""

from groundup.data.batching import Batches, batches, chunks
from groundup.data.idx import read_idx
from groundup.data.images import ImageFolder, image_folder, load_images
from groundup.data.pickles import load_mnist_pickle
from groundup.data.scaling import mean_std, normalize
from groundup.data.sets import DIGIT_CLASSES, FASHION_CLASSES, digits, fashion_mnist, mnist
from groundup.data.split import Split, split_rows
from groundup.data.tables import Table, TableEncoder, table

__all__ = [
    "DIGIT_CLASSES",
    "FASHION_CLASSES",
    "Batches",
    "ImageFolder",
    "Split",
    "Table",
    "TableEncoder",
    "batches",
    "chunks",
    "digits",
    "fashion_mnist",
    "image_folder",
    "load_images",
    "load_mnist_pickle",
    "mean_std",
    "mnist",
    "normalize",
    "read_idx",
    "split_rows",
    "table",
]
