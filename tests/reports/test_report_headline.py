from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from critwin.estimates import ABOVE, BELOW, Edge, Estimate
from critwin.records import Records
from critwin.reports.headline import decision_order, headline, summarize
from critwin.reports.order import midpoint_gaps
from critwin.reports.wording import estimate, interval, number, scrub, the, tie
from critwin.significance import WindowTest
from critwin.transitions import Transitions
from critwin.views import transitions_from_records
from critwin.windows import CriticalWindow, critical_window

PRESENT = WindowTest(is_present=True, p_flat=0.002, p_chance=0.002, size=0.05)


def window(
    feature: str,
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    *,
    confidence: float | None = 0.95,
    reason: str | None = None,
    test: WindowTest | None = PRESENT,
    num_sources: int | None = 40,
    notes: tuple[str, ...] = (),
) -> CriticalWindow:
    middle = Estimate(value=value, low=low, high=high, confidence=confidence, reason=reason)
    return CriticalWindow(
        criterion="kept",
        feature=feature,
        kind="counted" if confidence is not None else "exact",
        midpoint=Edge(t=middle, logsnr=middle),
        num_sources=num_sources,
        confidence=confidence,
        test=test,
        notes=notes,
    )


def named(*windows: CriticalWindow) -> dict[str, CriticalWindow]:
    return {w.feature: w for w in windows}


GROUND = window("ground", 2.7, 2.61, 2.79)
INK = window("ink", 1.9, 1.8, 2.0)
DIGIT = window("digit", 1.1, 1.02, 1.17)


def test_three_settled_features_are_said_in_the_order_of_generation() -> None:
    assert headline(named(DIGIT, GROUND, INK)) == (
        "Generating from noise, the model decides the ground first, at t = 2.70 (95 % interval "
        "2.61 to 2.79), then the ink at t = 1.90 (1.80 to 2.00), and last the digit at t = 1.10 "
        "(1.02 to 1.17)."
    )


def test_two_settled_features() -> None:
    assert headline(named(DIGIT, INK)) == (
        "Generating from noise, the model decides the ink first, at t = 1.90 (95 % interval 1.80 "
        "to 2.00), then the digit at t = 1.10 (1.02 to 1.17)."
    )


def test_one_feature() -> None:
    assert headline(named(DIGIT)) == (
        "The digit is decided at t = 1.10 (95 % interval 1.02 to 1.17)."
    )


def test_an_exact_window_says_so() -> None:
    exact = window("label", 2.25, 2.25, 2.25, confidence=None, test=None, num_sources=None)
    assert headline(named(exact)) == "The label is decided at t = 2.25 (exact)."


def test_overlapping_intervals_claim_no_order() -> None:
    text = headline(named(GROUND, INK, window("shade", 1.85, 1.7, 2.05)))
    assert "first," not in text
    assert "last" not in text
    assert text.endswith(
        "Which of the ink and the shade is decided first is not settled: their intervals overlap."
    )


def test_a_paired_difference_settles_what_overlapping_intervals_do_not() -> None:
    pair = named(INK, window("shade", 1.75, 1.65, 1.85))
    assert "not settled" in headline(pair)
    gap = Estimate(value=0.15, low=0.05, high=0.25, confidence=0.95)
    assert "decides the ink first" in headline(pair, gaps={("ink", "shade"): gap})


def test_a_paired_difference_that_covers_zero_unsettles() -> None:
    gap = Estimate(value=0.8, low=-0.1, high=1.7, confidence=0.95)
    text = headline(named(GROUND, INK), gaps={("ground", "ink"): gap})
    assert "their midpoints differ by 0.80 (95 % interval −0.10 to 1.70)" in text
    assert "first," not in text


def test_nothing_is_settled_among_many() -> None:
    near = [window(name, 1.5 + 0.01 * k, 1.2, 1.8) for k, name in enumerate("abc")]
    assert "Which of them is decided first is not settled." in headline(named(*near))


def test_a_midpoint_above_the_levels_is_bounded_with_one_sided_confidence() -> None:
    text = headline(named(DIGIT, window("ground", None, 2.4, reason=ABOVE)))
    assert text.startswith("The digit is decided at t = 1.10")
    assert (
        "More than half of the ground is still kept at the highest noise tried, so it is decided "
        "above it (above t = 2.40 with 97.5 % confidence)." in text
    )


def test_a_midpoint_below_the_levels() -> None:
    text = headline(named(window("digit", None, None, 0.4, reason=BELOW)))
    assert text.startswith("No feature has a midpoint that these levels can show.")
    assert "is lost at the lowest noise tried" in text
    assert "(below t = 0.40 with 97.5 % confidence)" in text


def test_a_flat_curve_is_not_called_decided() -> None:
    flat = WindowTest(
        is_present=False, p_flat=0.4, p_chance=0.002, size=0.05, reason="the curve may be flat"
    )
    text = headline(named(GROUND, window("digit", 1.1, 0.5, 1.8, test=flat)))
    assert "the digit is decided" not in text.lower()
    assert "For the digit no window is established: the curve may be flat." in text


def test_one_sided_intervals_say_which_side_is_missing() -> None:
    assert "95 % interval from 0.90, no upper limit" in headline(named(window("x", 1.0, 0.9)))
    assert "95 % interval up to 1.20, no lower limit" in headline(
        named(window("x", 1.0, None, 1.2))
    )
    assert "no 95 % interval" in headline(named(window("x", 1.0)))


def test_a_single_source_is_said() -> None:
    assert "All of this comes from 1 source" in headline(
        named(window("digit", 1.1, 1.0, 1.2, num_sources=1))
    )


def test_nothing_at_all() -> None:
    assert headline({}) == "No window could be computed."


def test_an_operational_window_names_its_labels_and_tolerance() -> None:
    after = Estimate(value=1.0, low=0.9, high=1.1, confidence=0.95)
    before = Estimate(value=None, confidence=0.95, reason="it does not exist")
    pair = CriticalWindow(
        criterion="operational",
        feature="digit",
        kind="counted",
        after=("3", "8"),
        epsilon=0.1,
        t_after=Edge(t=after, logsnr=after),
        t_before=Edge(t=before, logsnr=before),
    )
    assert headline({"digit": pair}) == (
        "For the digit, 3 and 8 are kept up to t = 1.00 (95 % interval 0.90 to 1.10) and are no "
        "longer told from the rest beyond no level that can be named (it does not exist) at "
        "tolerance 0.1."
    )


def test_order_places_what_lies_outside_of_the_levels() -> None:
    windows = named(
        window("low", None, reason=BELOW),
        DIGIT,
        window("odd", None, reason="too few sources"),
        window("high", None, reason=ABOVE),
        GROUND,
    )
    assert decision_order(windows) == ["high", "ground", "digit", "low", "odd"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ground", "the ground"),
        ("hair_colour", "the hair colour"),
        ("ground*ink", "the feature “ground*ink”"),
        ("<b>", "the feature “<b>”"),
        ("a\x1b[31m", "the feature “a\ufffd[31m”"),
    ],
)
def test_names_become_noun_phrases(name: str, words: str) -> None:
    assert the(name) == words


def test_numbers_keep_two_digits_where_decimals_vanish() -> None:
    assert [number(x) for x in (2.7, 0.004, -1.5, 0.0, -0.0, None, float("nan"), 3e6)] == [
        "2.70", "0.004", "−1.50", "0.00", "0.00", "–", "–", "3e+06",
    ]  # fmt: skip


def test_estimates_say_what_is_missing() -> None:
    def of(**parts: float | str | None) -> str:
        return estimate(Estimate(**{"value": None, "confidence": 0.95, **parts}))  # type: ignore[arg-type]

    assert of(value=1.0, low=0.9, high=1.1) == "1.00 (0.90 to 1.10)"
    assert of(value=1.0, low=0.9) == "1.00 (from 0.90)"
    assert of(value=1.0, high=1.1) == "1.00 (up to 1.10)"
    assert of(value=1.0) == "1.00 (no limits)"
    assert of(value=1.0, low=1.0, high=1.0, confidence=None) == "1.00 exact"
    assert of(low=2.0, reason=ABOVE) == f"none: {ABOVE} (at least 2.00)"
    assert of(high=2.0, reason=BELOW) == f"none: {BELOW} (at most 2.00)"
    assert estimate(None) == "–"
    assert interval(Estimate(value=1.0, low=0.9, high=1.1, confidence=0.9)) == (
        "90 % interval 0.90 to 1.10"
    )


def test_home_folders_users_and_tokens_are_scrubbed() -> None:
    text = scrub(
        "/home/jane/runs/a /Users/jane/x C:\\Users\\jane\\y /root/z hf_abcdefghijklmnopqrstuv "
        "keep/home/me\x00"
    )
    assert "jane" not in text
    assert "/root" not in text
    assert "hf_" not in text
    assert text.startswith("~/runs/a ~/x ~\\y ~/z (removed)")


def test_times_do_not_break_across_lines() -> None:
    assert tie("at t = 2.70 (95 % interval") == "at t\u00a0=\u00a02.70 (95\u00a0% interval"


def test_summary_separates_the_finding_from_its_caveats() -> None:
    found = summarize(named(GROUND, window("digit", None, reason=BELOW)))
    assert found.sentence.startswith("The ground is decided")
    assert len(found.caveats) == 1
    assert str(found) == f"{found.sentence} {found.caveats[0]}"


def test_gaps_use_that_both_midpoints_move_with_the_same_sources(records: Records) -> None:
    # the twin loses what ink loses: its midpoint is the same, whatever the sources
    twin = replace(
        records,
        features={**records.features, "twin": records.features["ink"]},
        priors={**records.priors, "twin": records.priors["ink"]},
    )
    tables = {n: transitions_from_records(twin, n) for n in ("ground", "ink", "twin")}
    windows = {n: critical_window(tr, test=False) for n, tr in tables.items()}
    gaps = midpoint_gaps(tables, windows)
    width = {}
    for name, table in (("paired", tables["twin"]), ("apart", renamed(tables["twin"]))):
        gap = midpoint_gaps({**tables, "twin": table}, windows)["ink", "twin"]
        assert gap.value == 0
        assert gap.low is not None
        assert gap.high is not None
        width[name] = gap.high - gap.low
    assert width["paired"] < 0.5 * width["apart"]
    middles = [windows[n].midpoint for n in ("ground", "ink")]
    values = [middle.t.value for middle in middles if middle is not None]
    gap = gaps["ground", "ink"]
    assert gap.value == pytest.approx((values[0] or 0) - (values[1] or 0))
    assert gap.low is not None
    assert gap.low > 0


def renamed(tr: Transitions) -> Transitions:
    """The same table from sources of other names: nothing is paired."""
    assert tr.sources is not None
    return replace(tr, sources=np.array([f"other-{name}" for name in tr.sources]))
