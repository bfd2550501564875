"""Which arm to recommend: chosen on one half of the sources, told by the other half.

The best of several arms looks better than it is where it was chosen. An arm that was chosen for
losing little on one half may lose more on the other, and then this is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from critwin.audits.interventions import ArmEffect
    from critwin.estimates import Estimate

__all__ = ["LossVerdict", "Recommendation", "recommend"]

LossVerdict = Literal["within", "may exceed", "exceeds", "not asked"]


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """An arm, or why there is none.

    Attributes:
        arm: Effect of the recommended arm on the half that did not choose it, or None.
        reason: Why none is recommended.
        loss: Share of the images of that half that the arm loses to the condition; None: not
            asked, or no arm.
        loss_verdict: ``"within"``: the accepted loss is above all of the loss's interval; ``"may
            exceed"``: it is above the loss and inside its interval; ``"exceeds"``: the loss is
            larger; ``"not asked"``: no feature tells; None: no arm.
    """

    arm: ArmEffect | None = None
    reason: str | None = None
    loss: Estimate | None = None
    loss_verdict: LossVerdict | None = None


def recommend(
    halves: Mapping[str, tuple[ArmEffect, ArmEffect]] | None, *, gap: float, largest_loss: float
) -> Recommendation:
    """The arm that closes most at an accepted loss.

    Args:
        halves: Arm -> its effect on the half that chooses, and on the half that tells; None: the
            halves would be too small.
        gap: The gap to the reference in the own generations of all sources.
        largest_loss: Loss of fidelity that is accepted.

    Returns:
        The arm as the second half has it, with the loss there; or why there is none.
    """
    if halves is None:
        return Recommendation(reason="too few to say: halves of the sources would be too small")
    closing = {name: one for name, (one, _) in halves.items() if (one.closed.low or 0.0) > 0}
    able = {name: one for name, one in closing.items() if _cost(one) <= largest_loss}
    if not able:
        if not gap > 0:
            return Recommendation(reason="there is no gap to close")
        if closing:
            why = (
                "every arm that closes the gap loses more pictures of the condition than the "
                f"{100 * largest_loss:g} points that are allowed"
            )
            return Recommendation(reason=why)
        return Recommendation(reason="no arm is shown to close the gap")
    best = max(able, key=lambda name: able[name].closed.value or 0.0)
    chosen = halves[best][1]
    if not (chosen.closed.low or 0.0) > 0:
        why = f"the arm {best!r} closes the gap on one half of the sources, not the other"
        return Recommendation(reason=why)
    loss = _loss(chosen)
    return Recommendation(arm=chosen, loss=loss, loss_verdict=_verdict(loss, largest_loss))


def _loss(effect: ArmEffect) -> Estimate | None:
    """The change of fidelity with its sign turned."""
    change = effect.fidelity_change
    if change is None or change.value is None:
        return None
    return replace(
        change,
        value=-change.value,
        low=None if change.high is None else -change.high,
        high=None if change.low is None else -change.low,
    )


def _cost(effect: ArmEffect) -> float:
    loss = _loss(effect)
    return 0.0 if loss is None or loss.value is None else loss.value


def _verdict(loss: Estimate | None, largest: float) -> LossVerdict:
    if loss is None or loss.value is None:
        return "not asked"
    if loss.value > largest:
        return "exceeds"
    return "within" if loss.high is not None and loss.high <= largest else "may exceed"
