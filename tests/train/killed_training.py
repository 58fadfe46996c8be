"""The program that the tests kill: python killed_training.py FOLDER HOW.

HOW is "run", "slow" (a step takes 4 ms, so that there is time to be killed in), or the name of a
place in the writing of a file and a count: "half 3" dies when half of the third file is written.
It goes on from what is in the folder, and writes weights.safetensors and log.csv at its end.
"""

import os
import signal
import sys
import time
from functools import partial

from small_training import EPOCHS, make_learner

from groundup import optim
from groundup.train import Callback, Checkpoint, CsvLog, EarlyStopping, KeepBest, files


class Slow(Callback):
    def after_backward(self, learner):
        time.sleep(0.004)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def dies_at(place, count):
    """Let the count-th file that is written end the process at a place in its writing."""
    fsync, replace, whole = os.fsync, os.replace, files.write_atomically
    state = {"files": 0}

    def counting(path, content):
        state["files"] += 1
        whole(path, content)
        if place == "after" and state["files"] == count:
            die()

    def syncing(descriptor):
        if place == "half" and state["files"] == count:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
            die()
        fsync(descriptor)

    def replacing(old, new):
        if place == "before" and state["files"] == count:
            die()
        replace(old, new)
        if place == "replaced" and state["files"] == count:
            die()

    from groundup.train import callbacks

    os.fsync, os.replace = syncing, replacing
    files.write_atomically = callbacks.write_atomically = counting


def main(folder, how):
    more = [Slow()] if how == "slow" else []
    if " " in how:
        place, count = how.split()
        dies_at(place, int(count))
    learner = make_learner(
        callbacks=[
            *more,
            Checkpoint(f"{folder}/checkpoints", every=3),
            CsvLog(f"{folder}/log.csv"),
            EarlyStopping("train_loss", patience=EPOCHS),
            KeepBest("accuracy"),
        ],
        opt=partial(optim.SGD, momentum=0.9, nesterov=True),
    )
    learner.fit(EPOCHS, resume=True)
    learner.save(f"{folder}/weights.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
