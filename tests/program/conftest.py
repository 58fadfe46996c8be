"""These tests are about Programs run by NumPy, to the same bits as eager steps."""

from __future__ import annotations

from functools import partial

import pytest

import groundup as gu


@pytest.fixture(autouse=True)
def numpy_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gu, "compile", partial(gu.compile, engine="numpy"))
