"""Make docs/explain.svg, README's drawing of a small network's forward and backward pass.

python docs/drawing.py
"""

from pathlib import Path

import groundup as gu
from groundup import nn

gu.manual_seed(0)
x, y, _, _ = gu.data.digits()
model = nn.Sequential(nn.Linear(64, 50), nn.Relu(), nn.Linear(50, 10))
gu.explain(model, x[:64], y[:64]).save(Path(__file__).parent / "explain.svg")
