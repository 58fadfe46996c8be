"""The report of a check: as text, as JSON, in a notebook, as a truth value, in tests."""

from __future__ import annotations

import json

import numpy as np
import pytest

import groundup as gu
from groundup.check.report import Finding, Report, Row
from groundup.errors import GradientError, GroundupError

RIGHT = Row("x", (2, 3), "right", 0.0, 0.0, (0, 0), 1.5, 1.5, {"ops": 0.0})
WRONG = Row("w", (3,), "wrong", 1.25, 0.5, (2,), 2.5, 1.25, {"ops": 0.5})
KINDS = [("mean", 0.9), ("factor", 0.85), ("sign", 0.8), ("sum", 0.79), ("axis", 0.3)]
FINDINGS = tuple(
    Finding(k, ("w",), f"what {k} is (w)", f"fix {k}", f"{k} is seen", c) for k, c in KINDS
)
REPORT = Report("dense", (RIGHT, WRONG), FINDINGS[:1], 0.25)

GOLDEN = """\
gradients of dense
┏━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━┳━━━━━━━┓
┃ gradient ┃ shape  ┃ verdict ┃ rel. error ┃ at     ┃ backward ┃ truth ┃
┡━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━╇━━━━━━━┩
│ x        │ (2, 3) │ right   │    0.0e+00 │ [0, 0] │      1.5 │   1.5 │
│ w        │ (3,)   │ WRONG   │    5.0e-01 │ [2]    │      2.5 │  1.25 │
└──────────┴────────┴─────────┴────────────┴────────┴──────────┴───────┘
It looks like [mean]: what mean is (w)
    evidence: mean is seen
    fix: fix mean"""


def halved() -> Report:
    return gu.check(
        lambda x, w: x * w,
        np.array([1.0, 2.0, 3.0]),
        np.array([0.5, -1.0, 4.0]),
        backward=lambda dout, x, w: (dout * w, dout * x / 2),
    )


def test_the_text_is_a_table_with_the_likely_mistake_below() -> None:
    assert str(REPORT) == GOLDEN
    assert repr(REPORT) == GOLDEN


def test_the_text_of_a_check_names_gradient_verdict_and_mistake() -> None:
    text = str(halved())
    (row,) = [line for line in text.splitlines() if line.startswith("│ w ")]
    assert "WRONG" in row
    assert "5.0e-01" in row
    assert "It looks like [factor]: a wrong constant factor (w)" in text
    assert "evidence: " in text
    assert "fix: " in text


def test_the_text_has_no_colours_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def backward(dout, x):
        raise ValueError("no such axis")

    failed = gu.check(lambda x: x * x, np.ones(3), backward=backward)
    for report in (halved(), failed):
        print(report)
        printed = capsys.readouterr().out
        assert printed == f"{report}\n"
        for unwanted in ("\x1b", "Traceback", "File \"", "0x"):  # fmt: skip
            assert unwanted not in printed
    assert "ERROR" in str(failed)
    assert "x: backward raised ValueError: no such axis" in str(failed)


def test_markup_in_names_is_shown_as_it_is() -> None:
    report = Report("f", (Row("[bold]x[/bold]", (), "wrong", note="a [red]note[/red]"),))
    assert "[bold]x[/bold]" in str(report)
    assert "[bold]x[/bold]: a [red]note[/red]" in str(report)


def test_json_has_everything() -> None:
    loaded = json.loads(REPORT.to_json())
    assert loaded["ok"] is False
    assert loaded["subject"] == "dense"
    assert loaded["seconds"] == 0.25
    assert [r["name"] for r in loaded["rows"]] == ["x", "w"]
    assert loaded["rows"][1] == {
        "name": "w", "shape": [3], "verdict": "wrong", "absolute": 1.25, "relative": 0.5,
        "index": [2], "value": 2.5, "expected": 1.25, "errors": {"ops": 0.5}, "note": "",
    }  # fmt: skip
    assert loaded["findings"] == [
        {
            "kind": "mean", "gradients": ["w"], "what": "what mean is (w)", "fix": "fix mean",
            "evidence": "mean is seen", "confidence": 0.9,
        }
    ]  # fmt: skip


def test_json_of_a_check_loads() -> None:
    loaded = json.loads(halved().to_json())
    assert [r["verdict"] for r in loaded["rows"]] == ["right", "wrong"]
    assert loaded["findings"][0]["kind"] == "factor"


def test_html_escapes_what_others_wrote() -> None:
    evil = Finding("mean", ("w",), "<i>what</i>", "<i>fix</i>", "<i>evidence</i>", 0.9)
    row = Row("<script>x</script>", (2,), "wrong", note="<img src=x>")
    shown = Report("<b>subject</b>", (row,), (evil,))._repr_html_()
    for tag in ("<script>", "<img", "<i>", "<b>subject"):
        assert tag not in shown
    for text in ("&lt;script&gt;x", "&lt;img", "&lt;i&gt;what", "&lt;i&gt;fix", "&lt;i&gt;evi"):
        assert text in shown
    assert "&lt;b&gt;subject" in shown


def test_html_has_a_row_for_every_gradient_and_the_mistake() -> None:
    shown = REPORT._repr_html_()
    assert shown.count("<tr>") == 3
    assert "WRONG" in shown
    assert "<li><b>what mean is (w)</b> [mean]" in shown
    assert "<ol>" not in Report("dense", (RIGHT,))._repr_html_()


def test_a_report_is_true_if_no_gradient_is_wrong() -> None:
    assert Report("dense", (RIGHT,))
    assert Report("dense", (RIGHT,)).ok is True
    assert not REPORT
    assert REPORT.ok is False
    for verdict in ("kink", "noise", "cut", "unsure"):
        assert Report("dense", (RIGHT, Row("w", (3,), verdict)))


def test_assert_ok_raises_the_whole_text_for_a_wrong_gradient_only() -> None:
    Report("dense", (RIGHT,)).assert_ok()
    for kind in (AssertionError, GradientError, GroundupError):
        with pytest.raises(kind) as caught:
            REPORT.assert_ok()
        assert str(caught.value) == "\n" + GOLDEN


def test_rows_are_had_by_name() -> None:
    assert REPORT["w"] is WRONG
    assert REPORT["x"] is RIGHT
    with pytest.raises(KeyError, match="there is no gradient 'v' among x, w"):
        REPORT["v"]


def test_likely_findings_are_the_first_and_what_is_nearly_as_likely_three_at_most() -> None:
    def likely(*findings: Finding) -> list[str]:
        return [f.kind for f in Report("dense", (WRONG,), findings).likely]

    assert likely() == []
    assert likely(*FINDINGS) == ["mean", "factor", "sign"]
    assert likely(FINDINGS[0], FINDINGS[4]) == ["mean"]
    assert likely(FINDINGS[4]) == ["axis"]
    text = str(Report("dense", (WRONG,), FINDINGS))
    assert text.count("It looks like [mean]") == 1
    assert "or [factor]: what factor is (w)" in text
    assert "[sum]" not in text


def test_a_right_report_has_no_findings_and_diagnose_can_be_left_out() -> None:
    right = gu.check(lambda x: x * x, np.ones(3), backward=lambda dout, x: 2 * x * dout)
    assert right.findings == ()
    assert "looks like" not in str(right)
    wrong = gu.check(
        lambda x: x * x, np.ones(3), backward=lambda dout, x: 3 * x * dout, diagnose=False
    )
    assert not wrong
    assert wrong.findings == ()


def test_small_numbers_below_zero_are_not_shown_as_minus_nothing() -> None:
    report = Report("dense", (Row("w", (1,), "right", 0.0, 0.0, (0,), -0.0, 0.0),))
    assert "-0" not in str(report).replace("0.0e+00", "")
