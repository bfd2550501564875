"""Every number that the theory pages print, computed by the package, in one table.

Each row holds a number to the digits in which it is known (printed in a paper, or computed by
independent code) and what the package gives; it agrees if it rounds to the same digits, or, for a
Monte-Carlo number, if it lies within three of its standard errors. Exits with 1 if a row does not.

Usage:
    python benchmarks/theory_numbers.py [--out benchmarks/results/theory_numbers.md] [--quick]
"""

import argparse
import math
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np

from critwin import exact_transitions
from critwin.levels import from_logsnr, logsnr_of_ou_time, ou_time
from critwin.quantities import leak
from critwin.theory.bounds import log_concave_times, log_concave_tv_lower, translate_upper
from critwin.theory.distances import affinity, total_variation
from critwin.theory.exact import clean_transitions
from critwin.theory.families import load_family
from critwin.theory.families.formulas import inter_group_time
from critwin.theory.families.hierarchies import tree_ladder
from critwin.theory.log_concave import ProductMixture, affine, log_concave_density
from critwin.theory.mixtures import GaussianMixture
from critwin.theory.ode import ode_transitions
from critwin.theory.regimes import (
    collapse_balance,
    collapse_time,
    immse,
    information,
    information_peaks,
    random_hierarchy_map,
    speciation_time,
    symmetry_breaking,
    symmetry_breaking_level,
)
from critwin.theory.survey import survey

LI_CHEN = "Li & Chen (2024)"
LKC = "Li, Karan & Chen (2025)"
BIROLI = "Biroli et al. (2024)"
RAYA = "Raya & Ambrogioni (2023)"
OWN = "independent code"

FOUR = GaussianMixture(
    weights=[0.4, 0.3, 0.2, 0.1],
    means=[-8.0, -4.0, 6.0, 8.0],
    covariances=np.array([1.0, 0.5, 0.7, 1.2]) ** 2,
    names=["0", "1", "2", "3"],
)


class Row(NamedTuple):
    """One number."""

    part: str
    what: str
    known: str
    found: float
    source: str
    error: float | None = None  # standard error of the known number

    @property
    def agrees(self) -> bool:
        """Whether it is the known number, as far as that is known."""
        known = float(self.known)
        if self.error is not None:
            return abs(self.found - known) <= 3 * self.error
        exponent = Decimal(self.known).as_tuple().exponent
        assert isinstance(exponent, int)
        rounding = 1e-12 * max(1.0, abs(known))  # and one unit of float64 beyond that
        return abs(self.found - known) <= 0.5000001 * 10.0**exponent + rounding


def pair(k: float, weights: tuple[float, float] = (0.5, 0.5)) -> GaussianMixture:
    """Two unit Gaussians whose separation without noise is k."""
    return GaussianMixture(weights=list(weights), means=[-k, k], names=["+", "-"])


def phi(k: float) -> float:
    return float(clean_transitions(pair(k)).probs[0, 0, 0])


def at(t: float) -> np.ndarray:
    return np.asarray(logsnr_of_ou_time(np.array([t])))


def transitions_rows() -> Iterator[Row]:
    for k, value, entropy in (
        (0.5, ".602027", ".58173"),
        (1.0, ".775200", ".35632"),
        (1.5, ".901379", ".16637"),
        (2.0, ".965701", ".06043"),
        (3.0, ".997924", ".00385"),
    ):
        yield Row("two Gaussians", f"phi({k:g})", value, phi(k), OWN)
        found = float(information(pair(k), [np.inf]).entropy[0])
        yield Row("two Gaussians", f"H(label | x_t), k = {k:g}, nats", entropy, found, OWN)
    for k, value in (
        (0.92241229, ".75"), (1.08073377, ".8"), (1.49261051, ".9"),
        (1.83364275, ".95"), (2.48074080, ".99"),
    ):  # fmt: skip
        yield Row("two Gaussians", f"phi({k:.8f})", value + "000000", phi(k), OWN)
    for name, k, value in (
        ("drift potential splits", 1 / math.sqrt(2), ".675057"),
        ("density becomes bimodal", 1.0, ".775200"),
        ("phi steepest in t", 1.119568, ".811362"),
        ("entropy rate peaks in t", 1.228141, ".841044"),
    ):
        yield Row("two Gaussians", f"phi where {name}", value, phi(k), OWN)
    table = clean_transitions(pair(1.0, (0.8, 0.2))).probs[0]
    yield Row("unequal weights", "C[1,1]", ".898015872475219", float(table[0, 0]), OWN)
    yield Row("unequal weights", "C[2,2]", ".592063489900874", float(table[1, 1]), OWN)
    stay = ode_transitions(pair(1.0), np.array([40.0]), labeller="map").probs[0, 0, 0]
    yield Row("reversal by ODE", "stay, k = 1, no noise: 1", "1.0000000", float(stay), LKC)
    four = exact_transitions(FOUR, at(1.5))
    truth = [
        (".632665", ".331401", ".028416", ".007518"),
        (".441867", ".419187", ".106251", ".032695"),
        (".056832", ".159376", ".513868", ".269923"),
        (".030072", ".098084", ".539846", ".331999"),
    ]
    for i, row in enumerate(truth):
        for j, value in enumerate(row):
            what = f"C[{i},{j}], t = 1.5"
            yield Row("four in 1-D", what, value, float(four.probs[0, i, j]), OWN)
    yield Row(
        "four in 1-D", "leak({0,1})", ".0800818722274", float(leak(four, ["0", "1"])[0]), OWN
    )
    root = np.sqrt(np.array([0.4, 0.3, 0.2, 0.1]))
    values = np.linalg.eigvals(root[:, None] * four.probs[0] / root[None])
    for value, number in zip(
        ("1", ".75020418314", ".122989035423", ".024525925031"),
        np.sort(values.real)[::-1], strict=True,
    ):  # fmt: skip
        yield Row("four in 1-D", "eigenvalue", value, float(number), OWN)
    entropy = float(information(FOUR, at(1.5)).entropy[0])
    yield Row("four in 1-D", "H(label | x_t)", ".785630396429", entropy, OWN)
    nine = GaussianMixture(
        means=np.zeros((2, 8)), covariances=[1.0, 9.0], covariance_kind="isotropic"
    )
    for t, value in (
        (0.5, ".86323591397427"),
        (1.0, ".677398788126875"),
        (2.0, ".509117100985774"),
    ):
        found = float(exact_transitions(nine, at(t)).probs[0, 0, 0])
        yield Row("equal means, D = 8", f"stay, t = {t:g}", value, found, OWN)


def distance_rows() -> Iterator[Row]:
    two = GaussianMixture(means=[0.0, 1.0], covariances=[1.0, 4.0], names=["0", "1"])
    for t, tv, bc in (
        (0.0, ".390065660121056", ".85080546215264"),
        (0.5, ".249209263309941", ".938540029996817"),
        (1.0, ".149779379227005", ".978940483808845"),
    ):
        level = np.array([np.inf]) if t == 0 else at(t)
        found = float(total_variation(two, "0", "1", level).estimate[0])
        yield Row("N(0,1), N(1, sd 2)", f"TV, t = {t:g}", tv, found, OWN)
        yield Row(
            "N(0,1), N(1, sd 2)",
            f"affinity, t = {t:g}",
            bc,
            float(affinity(two, level)[0, 0, 1]),
            OWN,
        )
    for a, b, value in (
        ("0", "1", ".347726641808"),
        ("0", ("0", "1"), ".149025703632"),
        (("0", "1"), ("2", "3"), ".8306449803"),
    ):
        found = float(total_variation(FOUR, a, b, at(1.5)).estimate[0])
        yield Row("four in 1-D", f"TV({a}, {b}), t = 1.5", value, found, OWN)
    quartic = log_concave_density(lambda x: -0.5 * x**2 - x**4, name="quartic", m=1.0)
    m = ProductMixture(components=[quartic, affine(quartic, shift=4.0)], names=["0", "1"])
    found = float(total_variation(m, "0", "1", at(0.3)).estimate[0])
    yield Row("exp(-x^2/2 - x^4), shift 4", "TV, t = .3", ".9437846398731", found, OWN)
    lower = float(log_concave_tv_lower(4.0, at(0.3), 1.0)[0])
    yield Row("exp(-x^2/2 - x^4), shift 4", "log-concave lower bound", ".332673662855", lower, OWN)
    upper = float(translate_upper(4.0, at(0.3))[0])
    yield Row("exp(-x^2/2 - x^4), shift 4", "translate bound", ".972600774543", upper, OWN)


def family_rows() -> Iterator[Row]:
    facts = survey(load_family("two-gaussians", distance=20), epsilon=0.1).as_dict()
    for key, value in (
        ("T_after", "1.356414"), ("T_before", "3.675580"),
        ("t_after", "1.90205848649855"), ("t_before", "3.0078187151851"),
    ):  # fmt: skip
        yield Row("two Gaussians, |mu| = 10, eps = .1", key, value, facts[key], OWN)
    for time in load_family("two-gaussians", distance=20).published(0.1):
        value = {
            ("T_after", "published"): ".938530",
            ("T_before", "published"): "5.298317",
            ("T_after", "corrected"): "1.192422",
        }.get((time.symbol, time.kind))
        if value is not None and time.value is not None:
            what = f"{time.symbol}, {time.kind}"
            yield Row("two Gaussians, |mu| = 10, eps = .1", what, value, time.value, time.source)
    masking = load_family("masking", distance=10).exact(0.1)
    for key, value in (("T_before", ".977932768542929"), ("T_after", ".630957344480193")):
        yield Row("masking, h = 10, eps = .1", key, value, float(masking[key] or 0), LKC)
    pairwise = inter_group_time(30.0, 0.25, 1, 0.1)
    yield Row("|mean difference| 30, m = .25", "T_upper bound", "1.4516208517", pairwise, OWN)
    closed = log_concave_times(1.0, 30.0, 0.25, 1, 0.1).T_upper
    yield Row("|mean difference| 30, m = .25", "the same", "1.4516208517", float(closed or 0), OWN)
    wide = GaussianMixture(means=[0.0, 30.0], covariances=4.0, names=["0", "1"])
    exact = survey(wide, after="0", epsilon=0.1).as_dict()["T_after"]
    yield Row("N(0,4), N(30,4)", "T_after", "1.71556585754518", exact, OWN)
    ladder = tree_ladder(3, 3, 0.7)
    for rung, value in zip(ladder, ("5.538282", "2.361759", "1.2597", ".51"), strict=True):
        yield Row(
            "Gaussian tree, b = 3, L = 3, rho = .7", "eigenvalue", value, rung.eigenvalue, OWN
        )


def regime_rows() -> Iterator[Row]:
    yield Row(
        "collapse",
        "n = 20000, D = 256",
        "1.29879",
        float(collapse_time(20000, dim=256).t or 0),
        BIROLI,
    )
    direction = np.ones(256)
    biroli = GaussianMixture(means=np.stack([direction, -direction]), covariances=1.0)
    balance = collapse_balance(biroli, 20000).t
    yield Row("collapse", "with label information", "1.33373087854805", float(balance or 0), OWN)
    deltas = symmetry_breaking_level(1.0).alpha
    yield Row("symmetry breaking", "two deltas", ".643594", float(deltas or 0), RAYA)
    for s, value in ((0.5, ".23549827682963"), (1.0, ".235702260395516")):
        m = GaussianMixture(means=[-3.0, 3.0], covariances=s**2)
        yield Row(
            "symmetry breaking",
            f"|m| = 3, s = {s:g}",
            value,
            float(symmetry_breaking(m).alpha or 0),
            OWN,
        )
    three = pair(3.0)
    between = speciation_time(three, covariance="between").t
    stay = float(exact_transitions(three, at(float(between or 0))).probs[0, 0, 0])
    yield Row("speciation", "phi at t_S, between classes", ".7752", stay, BIROLI)
    whole = float(speciation_time(three).t or 0)
    stay = float(exact_transitions(three, at(whole)).probs[0, 0, 0])
    yield Row("speciation", "phi at t_S, whole covariance, |m| = 3", ".758671", stay, OWN)
    points = GaussianMixture(means=[-8.0, -4.0, 6.0, 8.0], covariances=0.0, names=list("abcd"))
    peaks = sorted((p.sigma for p in information_peaks(points)), reverse=True)
    for value, found in zip(("4.6735", "1.3518"), peaks, strict=False):
        yield Row("points -8, -4, 6, 8", "sigma of an entropy peak", value, found, OWN)
    split = information_peaks(points, labels={"left": ["a", "b"], "right": ["c", "d"]})
    top = max(split, key=lambda p: p.rate)
    yield Row("points -8, -4, 6, 8", "the same, pair split", "5.3259", top.sigma, OWN)
    curve = immse(FOUR, [math.log(0.05)])
    for what, value, number in (
        ("mmse, gamma = .05", "10.45155501", curve.mmse[0]),
        ("mmse given the label", ".68501123", curve.mmse_given_label[0]),
        ("dI/dgamma", "4.88327189", curve.information_rate[0]),
    ):
        yield Row("four in 1-D", what, value, float(number), OWN)
    hierarchy = random_hierarchy_map(32, 8, 2)
    yield Row(
        "random hierarchy, v = 32, m = 8",
        "p*",
        ".29167",
        float(hierarchy.p_star or 0),
        "Sclocchi, Favero & Wyart (2025)",
    )
    yield Row(
        "random hierarchy, v = 32, m = 8",
        "eps*",
        ".73118",
        float(hierarchy.epsilon_star or 0),
        "Sclocchi, Favero & Wyart (2025)",
    )
    for t, value, stderr in zip(
        np.arange(1.0, 5.1, 0.5),
        ("1", ".9994", ".9775", ".8620", ".7012", ".5925", ".5343", ".5201", ".5027"),
        (0.0005, 0.0005, 0.0015, 0.0035, 0.0046, 0.0049, 0.005, 0.005, 0.005),
        strict=True,
    ):
        found = float(exact_transitions(biroli, at(float(t))).probs[0, 0, 0])
        yield Row("Biroli's pair, D = 256", f"phi, t = {t:g}", value, found, BIROLI, stderr)


def axis_rows() -> Iterator[Row]:
    for logsnr, value in (
        (2.5, ".0394448671462748"),
        (-9.0, "4.50006170109486"),
        (20.0, "1.03057681015719e-9"),
    ):
        yield Row("axis", f"t(logsnr = {logsnr:g})", value, float(ou_time(logsnr)), OWN)
    end = from_logsnr(math.log(math.expm1(2 * 2.684)) * -1, "t")
    yield Row("axis", "t of Stable Diffusion's last step", "2.684", float(end), "its schedule")


def digits_rows(num_seeds: int) -> Iterator[Row]:
    from critwin.models.digits.data import load_data
    from critwin.theory.datasets import dataset_transitions

    data = load_data()
    pixels = np.asarray(data.masks, dtype=np.float32).reshape(len(data), -1)
    points = pixels / (255.0 if pixels.max() > 1 else 1.0) * 2 - 1
    found = speciation_time(points)
    yield Row("5,000 MNIST digits", "top covariance eigenvalue", "20.77883", found.eigenvalue, OWN)
    yield Row("5,000 MNIST digits", "t_S", "1.51697", float(found.t or 0), OWN)
    times = (1.27586, 1.41207, 1.54828)
    levels = logsnr_of_ou_time(np.array(times))
    error = 0.012 * math.sqrt(1 / 40 + 1 / num_seeds)
    for is_out, name, values in (
        (False, "class agreement", (".6831", ".5468", ".4293")),
        (True, "leave-one-out", (".5604", ".4687", ".3859")),
    ):
        table = dataset_transitions(
            points, data.label("digit"), levels, leave_one_out=is_out, num_seeds=num_seeds
        )
        assert table.weights is not None
        for k, (t, value) in enumerate(zip(times, values, strict=True)):
            mean = float(table.weights @ np.diagonal(table.probs[k]))
            yield Row("5,000 MNIST digits", f"{name}, t = {t:g}", value, mean, OWN, error)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="leave the digits out")
    parser.add_argument("--seeds", type=int, default=2, help="noise seeds of the digits")
    args = parser.parse_args()
    rows = [*axis_rows(), *transitions_rows(), *distance_rows(), *family_rows(), *regime_rows()]
    if not args.quick:
        rows += digits_rows(args.seeds)
    lines = [
        "# Numbers of the theory",
        "",
        "Made by `python benchmarks/theory_numbers.py`: numbers known to the digits shown, from",
        "papers or from independent code (distances: mpmath, 30 digits), and what the package",
        "computes. Where a standard error stands, the known number is a Monte-Carlo one, and",
        "agreement means three of them.",
        "",
        "| where | what | known | source | found | agrees |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        what = row.what.replace("|", "\\|")
        known = row.known if row.error is None else f"{row.known} ± {row.error:.4f}"
        where = row.part.replace("|", "\\|")
        lines.append(
            f"| {where} | {what} | {known} | {row.source} | {row.found:.15g} "
            f"| {'yes' if row.agrees else '**NO**'} |"
        )
    num = sum(row.agrees for row in rows)
    lines += ["", f"{num} of {len(rows)} agree."]
    text = "\n".join(lines) + "\n"
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    print(text)
    return 0 if num == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
