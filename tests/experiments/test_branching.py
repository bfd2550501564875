"""Clones, changed conditions, previews and interventions against their exact truth on mixtures."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from critwin.errors import InputError
from critwin.experiments import clone, effects, following, intervene, preview, prompt_switch
from critwin.experiments.arms import Arm, Segment, arms_of, boundaries_of
from critwin.experiments.in_memory import loaded_parts
from critwin.experiments.sources import plan_generated
from critwin.experiments.spec import Spec
from critwin.experiments.switches import followed
from critwin.experiments.trajectories import Waypoints, follow_sources
from critwin.experiments.units import Level
from critwin.features.function import FunctionFeature
from critwin.levels import alpha_sigma, logsnr_of_ou_time
from critwin.models.denoiser import Denoiser
from critwin.models.mixture import MixtureModel
from critwin.records import FeatureColumns, Records, digest
from critwin.theory.exact import exact_transitions
from critwin.theory.mixtures import GaussianMixture, posterior_mean
from critwin.views import transitions_from_records

MEANS, VARIANCES, WEIGHTS = np.array([-8.0, -3.0, 5.0]), np.array([0.3, 0.2, 0.5]), np.ones(3) / 3
MIXTURE = GaussianMixture(
    weights=WEIGHTS,
    means=MEANS[:, None],
    covariances=VARIANCES[:, None, None],
    names=["a", "b", "c"],
)
MODEL = MixtureModel(MIXTURE, steps=60)
SIDE = FunctionFeature(
    "component", ["a", "b", "c"], lambda x: np.searchsorted([-5.5, 1.0], np.asarray(x)[:, 0])
)
TIMES = [2.6, 1.8, 1.1, 0.5]


def within(share: float, wanted: float, num: int, z: float = 4.0) -> bool:
    """Whether a share agrees with a probability, to ``z`` of its standard errors."""
    return abs(share - wanted) <= z * np.sqrt(max(wanted * (1 - wanted), 1e-4) / num)


def law_at(components: list[int], t: float, y: np.ndarray) -> np.ndarray:
    """Densities of components at an OU time times their weights, shape ``(K, Y)``."""
    alpha, sigma = (float(v) for v in alpha_sigma(float(logsnr_of_ou_time(t))))
    scale = np.sqrt(alpha**2 * VARIANCES + sigma**2)
    return np.stack([WEIGHTS[k] * norm.pdf(y, alpha * MEANS[k], scale[k]) for k in components])


def rows_at(records: Records, t: float) -> np.ndarray:
    level = float(logsnr_of_ou_time(t))
    return np.abs(np.asarray(records.logsnr) - level) < 1e-6


@pytest.mark.parametrize("reversal", ["posterior", "stochastic"])
def test_clones_have_the_table_of_forward_reverse(reversal: str) -> None:
    records = clone(
        MODEL,
        SIDE,
        TIMES,
        unit="t",
        num_sources=900,
        replicates=2,
        reversal=reversal,
        batch_size=300,
    )
    counted = transitions_from_records(records, "component")
    exact = exact_transitions(MIXTURE, logsnr_of_ou_time(np.array(TIMES))[::-1])
    order = np.argsort(-exact.logsnr)
    for level, row in enumerate(order):
        for i in range(3):
            sources = int(np.sum(counted.source_before == i))
            for j in range(3):
                got, wanted = counted.probs[level, i, j], exact.probs[row, i, j]
                assert within(got, wanted, sources), (level, i, j, got, wanted)


def test_clones_of_an_ode_are_all_alike() -> None:
    records = clone(
        MODEL, SIDE, TIMES, unit="t", num_sources=60, replicates=2, reversal="ode", batch_size=60
    )
    columns = records.features["component"]
    # second order forgets its memory at a stop, so a source on the border may still change side
    assert np.mean(columns.after == columns.before) > 0.98


def test_a_source_that_is_not_on_its_trajectory_is_noticed(monkeypatch: Any) -> None:
    """The planted bug: clones start from another source's state."""
    at = Waypoints.at

    def shifted(self: Waypoints, model: Any, sources: Any, level: float, spec: Any) -> Any:
        return torch.roll(at(self, model, sources, level, spec), 1, dims=0)

    monkeypatch.setattr(Waypoints, "at", shifted)
    records = clone(MODEL, SIDE, [0.5], unit="t", num_sources=300, batch_size=300)
    columns = records.features["component"]
    exact = exact_transitions(MIXTURE, logsnr_of_ou_time(np.array([0.5])))
    stay = float(np.einsum("i,ii", WEIGHTS, exact.probs[0]))
    assert not within(float(np.mean(columns.after == columns.before)), stay, 300)


def test_without_its_condition_a_generation_follows_the_row_of_the_table() -> None:
    """From component b to the whole mixture: ``C_t[b, j]``."""
    records = prompt_switch(
        MODEL, SIDE, TIMES, unit="t", conditions=["b"], condition=None,
        num_sources=1500, batch_size=500,
    )  # fmt: skip
    assert set(records.planted["source_condition"]) == {"b"}
    assert set(records.condition) == {""}
    exact = exact_transitions(MIXTURE, logsnr_of_ou_time(np.array(TIMES[::-1])))
    for name, j in (("a", 0), ("b", 1), ("c", 2)):
        curve = following(records, "component", name)
        for level, share in zip(curve.logsnr, curve.share, strict=True):
            row = int(np.argmin(np.abs(exact.logsnr - level)))
            assert within(share, exact.probs[row, 1, j], 1500), (name, level)
    assert np.all((curve.low <= curve.share) & (curve.share <= curve.high))


def conditional() -> Denoiser:
    """An exact denoiser whose conditions are sub-mixtures: left = {a, b}, right = {b, c}."""
    allowed = torch.tensor([[True, True, False], [False, True, True], [True, True, True]])

    def function(x: torch.Tensor, level: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        alpha, sigma = (float(v) for v in alpha_sigma(float(level[0])))
        return posterior_mean(MIXTURE, x, alpha=alpha, sigma=sigma, allowed=allowed[label])

    return Denoiser(
        function, shape=(1,), conditions=["left", "right"], dtype=torch.float64, steps=70
    )


def test_between_sub_mixtures_the_share_that_follows_is_an_integral() -> None:
    times, num = [2.4, 1.4, 0.8], 1200
    records = prompt_switch(
        conditional(), SIDE, times, unit="t", conditions=["left"], condition="right",
        num_sources=num, batch_size=400,
    )  # fmt: skip
    y = np.linspace(-20, 20, 8001)
    columns = records.features["component"]
    for t in times:
        left, right = law_at([0, 1], t, y), law_at([1, 2], t, y)
        start = left.sum(axis=0) / (2 / 3)
        wanted = float(np.sum(start * right[1] / right.sum(axis=0)) * (y[1] - y[0]))
        share = float(np.mean(columns.after[rows_at(records, t)] == 2))
        assert within(share, wanted, num), (t, share, wanted)


def test_previews_agree_as_often_as_the_best_guess_is_right() -> None:
    """Two equal Gaussians: the preview tells the sign of x_t, so ``Phi(k)``, not ``phi(k)``."""
    pair = MixtureModel(
        GaussianMixture(weights=[0.5, 0.5], means=[[-4.0], [4.0]], covariances=1.0)
    )
    sign = FunctionFeature("sign", ["-", "+"], lambda x: (np.asarray(x)[:, 0] > 0).astype(int))
    times = np.array([2.2, 1.7, 1.2])
    records = preview(pair, sign, times, unit="t", num_sources=1500, batch_size=500)
    columns = records.features["sign"]
    for t in times:
        here = rows_at(records, t)
        share = float(np.mean(columns.after[here] == columns.before[here]))
        assert within(share, norm.cdf(4 * np.exp(-t)), 1500), t


def arm_truth(t_high: float, t_low: float) -> float:
    """P(a) when ``a`` is asked for between two levels only, by quadrature."""
    y = np.linspace(-14, 12, 1601)
    step = y[1] - y[0]
    high, low = (float(logsnr_of_ou_time(t)) for t in (t_high, t_low))
    alpha, sigma = (float(v) for v in alpha_sigma(high))
    alpha_r, sigma_r = (float(v) for v in alpha_sigma(low))
    before = law_at([0, 1, 2], t_high, y).sum(axis=0)
    noised = alpha**2 * VARIANCES[0] + sigma**2
    mean = MEANS[0] + alpha * VARIANCES[0] / noised * (y - alpha * MEANS[0])
    variance = VARIANCES[0] * sigma**2 / noised
    # the bridge x_low | x_0, x_high of the process x_high = (alpha / alpha_r) x_low + noise
    ratio = alpha / alpha_r
    gap = sigma**2 - ratio**2 * sigma_r**2
    on_x0 = alpha_r * gap / sigma**2
    on_y = ratio * sigma_r**2 / sigma**2
    spread = np.sqrt(sigma_r**2 * gap / sigma**2 + on_x0**2 * variance)
    law = law_at([0, 1, 2], t_low, y)
    is_a = law[0] / law.sum(axis=0)
    reached = norm.pdf(y[None], (on_x0 * mean + on_y * y)[:, None], spread)
    return float(np.sum(before[:, None] * reached * is_a[None]) * step**2)


def test_an_intervention_between_two_levels_has_its_exact_effect() -> None:
    arms = {
        "none": [],
        "inside": [{"from": 2.2, "to": 1.2, "condition": "a"}],
        "late": [{"from": 0.9, "to": 0.4, "condition": "a"}],
        "everywhere": [{"condition": "a"}],
    }
    num = 800
    records = intervene(MODEL, SIDE, arms, num_sources=num, batch_size=400)
    assert set(records.experiment) == {f"intervene:{name}" for name in arms}
    columns = records.features["component"]

    def share(name: str) -> float:
        here = np.asarray(records.experiment) == f"intervene:{name}"
        return float(np.mean(columns.after[here] == 0))

    none = np.asarray(records.experiment) == "intervene:none"
    assert np.array_equal(columns.after[none], columns.before[none])  # paired, bit for bit
    assert share("everywhere") == 1.0
    for name, (high, low) in {"inside": (2.2, 1.2), "late": (0.9, 0.4)}.items():
        assert within(share(name), arm_truth(high, low), num), name
    assert within(share("none"), 1 / 3, num)


def test_other_draws_from_the_same_noise() -> None:
    records = intervene(
        MODEL,
        SIDE,
        {"none": []},
        num_sources=200,
        replicates=2,
        batch_size=200,
        reversal="stochastic",
    )
    columns, again = records.features["component"], np.asarray(records.replicate) == 1
    assert not np.array_equal(columns.after[again], columns.before[again])


def test_sources_come_back_the_same() -> None:
    """States that were dropped, other batches' neighbours, another order: the same numbers."""
    options: dict[str, Any] = {"unit": "t", "batch_size": 4, "reversal": "stochastic"}
    few = clone(MODEL, SIDE, TIMES, num_sources=5, **options)
    many = clone(MODEL, SIDE, TIMES, num_sources=11, **options)
    kept = np.isin(many.source, np.unique(few.source))
    from critwin.records import select

    assert digest(select(many, kept)) == digest(few)
    engine, _ = loaded_parts(MODEL, SIDE)
    level = Level(float(logsnr_of_ou_time(1.0)), float(logsnr_of_ou_time(1.0)))
    spec = Spec(
        sources=tuple(plan_generated(9, kind="trajectory")), levels=(level,), stops=(level,),
        reversal="stochastic", batch_size=3, experiment="clone",
    )  # fmt: skip
    small, large = Waypoints(most_bytes=0), Waypoints()
    for source in (*spec.sources, *spec.sources):
        a = small.at(engine, [source], level.effective, spec)
        assert torch.equal(a, large.at(engine, [source], level.effective, spec))
    assert follow_sources(engine, spec.sources[:2], spec).clean.shape == (2, 1)


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({}, "no arms"),
        ({"x": [{"from": 1, "to": 2, "condition": "a"}]}, "from more noise to less"),
        ({"x": [{"from": 2, "to": 1}]}, "changes nothing"),
        ({"x": [{"from": 2, "to": 1, "prompt": "a"}]}, "unknown entry of a segment"),
        ({"x": [{"from": 2, "to": 1, "condition": "zebra"}]}, "does not know this condition"),
        ({"x:y": []}, "not the name of an arm"),
        (
            {"x": [{"from": 3, "to": 1, "condition": "a"}, {"from": 2, "condition": "b"}]},
            "overlap",
        ),
        ([Arm(name="x"), Arm(name="x")], "two arms have the same name"),
    ],
)
def test_arms_that_cannot_be(arms: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        intervene(MODEL, SIDE, arms, num_sources=2)


def test_boundaries_are_shared() -> None:
    arms = arms_of(
        {"x": {"from": 2, "to": 1, "condition": "a"}, "y": [Segment(t_high=3, guidance=2)]}
    )
    assert boundaries_of(arms) == (3.0, 2.0, 1.0)


def test_what_is_wrong_with_a_branch() -> None:
    with pytest.raises(InputError, match="unknown label"):
        following(clone(MODEL, SIDE, [1.0], unit="t", num_sources=2), "component", "z")
    with pytest.raises(InputError, match="unknown feature"):
        following(clone(MODEL, SIDE, [1.0], unit="t", num_sources=2), "nothing", "z")
    with pytest.raises(InputError, match="does not know this condition"):
        prompt_switch(MODEL, SIDE, [1.0], unit="t", condition="zebra", num_sources=2)


def test_what_arms_cost_is_what_they_call() -> None:
    """Guidance doubles a call on its stretch alone; the records say what each arm cost."""
    calls: list[float] = []

    def function(x: torch.Tensor, level: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        calls.append(float(level[0]))
        return 0.1 * x + label[:, None].to(x.dtype)

    model = Denoiser(function, shape=(1,), conditions=["u", "v"], steps=23)
    arms = {
        "none": [],
        "guided late": [{"from": 0.9, "guidance": 3.0}],
        "inside": [{"from": 2.2, "to": 1.2, "condition": "v"}],
        "all": [{"guidance": 2.0}],
    }
    spent = []
    options: dict[str, Any] = {"conditions": ["u"], "num_sources": 5, "batch_size": 5}
    for chosen in ({"none": [], "x": arms[name]} for name in arms):
        # the same stops in every arm: those of all arms
        chosen["stops"] = [s for name in ("guided late", "inside") for s in arms[name]]
        calls.clear()
        records = intervene(model, SIDE, chosen, **options)
        found = {e.arm: e.evaluations for e in effects(records, "component")}
        own = found["none"]
        assert own is not None
        assert len(calls) == own + sum(number or 0 for number in found.values())
        spent.append(found["x"])
    assert spent[0] == spent[2] < spent[1] < spent[3] == 2 * spent[0]


def test_effects_are_paired_and_their_limits_hold() -> None:
    """Coverage of the difference under an arm whose effect is known; unpaired limits are wider."""
    truth = arm_truth(2.2, 1.2) - 1 / 3
    arms = {"inside": [{"from": 2.2, "to": 1.2, "condition": "a"}], "none": []}
    covered = 0
    for seed in range(40):
        records = intervene(MODEL, SIDE, arms, num_sources=60, batch_size=60, seed=seed)
        found = {(e.arm, e.label): e for e in effects(records, "component")}
        here = found["inside", "a"]
        covered += here.low <= truth <= here.high
        none = found["none", "b"]
        assert none.difference == 0.0
        assert -0.1 < none.low < 0 < none.high < 0.1  # exact limits of 0 of 60
        share, num = here.share, here.num_sources
        free = np.sqrt((share * (1 - share) + 2 / 9) / num)
        assert here.high - here.low < 2 * 1.96 * free
    assert covered >= 34  # of 40: below by chance once in 10^3 at 95 %
    with pytest.raises(InputError, match="belong to an intervention"):
        effects(clone(MODEL, SIDE, [1.0], unit="t", num_sources=2), "component")


def test_conditions_have_windows_of_their_own() -> None:
    """Two sub-mixtures as prompts: each window is that of its own law, never of the pool."""
    from critwin.experiments.forward_reverse import forward_reverse
    from critwin.overview import overview, tables_of_records

    times = np.linspace(0.3, 3.2, 7)
    records = forward_reverse(
        conditional(), SIDE, times, unit="t", conditions=["left", "right"], num_sources=400,
        batch_size=200, steps=40,
    )  # fmt: skip
    tables, reasons = tables_of_records(records)
    assert (set(tables), reasons) == ({"component (left)", "component (right)"}, {})
    found = overview(tables).windows
    for name, (i, j) in {"left": (0, 1), "right": (1, 2)}.items():
        pair = GaussianMixture(
            weights=[0.5, 0.5],
            means=MEANS[[i, j], None],
            covariances=VARIANCES[[i, j], None, None],
        )
        from critwin.windows import critical_window

        exact = critical_window(
            exact_transitions(pair, logsnr_of_ou_time(np.linspace(0.05, 5, 200)))
        )
        middle = found[f"component ({name})"].midpoint.t
        assert middle.covers(exact.midpoint.t.value), name
        assert tables[f"component ({name})"].is_weights_estimated


def switched(shares: Sequence[float], *, num: int = 60) -> Records:
    """Results of a switch whose share of the new label at each level is exactly ``shares``."""
    t = np.linspace(0.2, 2.6, len(shares))
    new = np.concatenate([np.arange(num) < round(share * num) for share in shares])
    columns = FeatureColumns(
        labels=("car", "van"),
        before=np.zeros(len(new), dtype=np.int64),
        after=new.astype(np.int64),
    )
    return Records(
        source=np.tile([f"s{k:02d}" for k in range(num)], len(t)),
        logsnr=np.repeat(logsnr_of_ou_time(t), num),
        experiment=np.full(len(new), "prompt_switch"),
        condition=np.full(len(new), "a van"),
        features={"vehicle": columns},
    )


def test_a_switch_says_from_which_level_on_it_takes_over() -> None:
    first, second = followed(switched([0.0, 0.05, 0.9, 1.0]), "vehicle")
    assert (first.labels, second.labels) == (("van",), ("car",))
    words = first.in_words()
    assert words.startswith("vehicle: van in 0.0 % [0.0, ")
    assert "100.0 % [" in words
    assert words.endswith("; most follow from t = 1.80 on, not yet at t = 1.00")


def test_a_switch_claims_no_more_than_its_limits() -> None:
    flat = followed(switched([0.4, 0.5, 0.45, 0.5]), "vehicle")[0]
    assert flat.in_words().endswith("no effect of the change is established")
    half = followed(switched([0.2, 0.45, 0.5, 0.55]), "vehicle")[0]
    assert "most follow" not in half.in_words()
    assert "not yet at t = 0.20" in half.in_words()
    one = followed(switched([0.0, 1.0], num=1), "vehicle")[0]  # a single source has no limits
    assert one.in_words().endswith("no effect of the change is established")
    assert "[" not in one.in_words()
