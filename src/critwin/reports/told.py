"""What each experiment did, in the words of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Told", "what_was_done"]


class Told(NamedTuple):
    """Sentences of the page that depend on the experiment.

    Attributes:
        done: What was done to each source, and what it means for a feature.
        became: What the right picture of the gallery is.
        rows: What the transition matrices show at their ends.
    """

    done: str
    became: str
    rows: str


_ALIKE = "Without noise the diagonal is 1; with much noise all rows are alike."
_TOLD = {
    "forward_reverse": Told(
        "Each source was noised to a level and denoised again with the whole model; then the "
        "feature was read once more. A feature that is still decided by the noised picture comes "
        "back as it was; one that is not yet decided is drawn afresh.",
        "what it became after noising to the chosen level and denoising",
        _ALIKE,
    ),
    "clone": Told(
        "Each source is a generation of the model that was stopped at a level and continued from "
        "the same state with other random numbers; then the feature was read once more. A feature "
        "that is decided by then comes back as it was; one that is not yet decided is drawn "
        "afresh.",
        "its clone, stopped at the chosen level and continued with other random numbers",
        _ALIKE,
    ),
    "prompt_switch": Told(
        "Each source is a generation of the model under its own condition. It was stopped at a "
        "level and continued from the same state under another condition; then the feature was "
        "read once more. A feature that is decided by then stays as it was; one that is not is "
        "decided under the new condition, so the share of results that carry a label of the new "
        "one grows with the level at which the condition changed.",
        "what it became when the condition changed at the chosen level",
        "Without noise the diagonal is 1; with much noise all rows are those of the new "
        "condition.",
    ),
    "preview": Told(
        "Each source is a generation of the model that was looked at on its way: the feature was "
        "read off the clean picture that the model expects at a level, which is no sample, and "
        "off the finished generation. Nothing was noised and nothing drawn again.",
        "the clean picture that the model expects at the chosen level of its generation",
        "Without noise the diagonal is 1.",
    ),
    "intervene": Told(
        "Each source was generated again from the same noise with something changed on the way; "
        "then the feature was read once more and compared with the source's own generation.",
        "what it became when it was generated again with the change",
        "The rows speak of the changed generations.",
    ),
}


def what_was_done(experiments: Sequence[str]) -> Told:
    """The sentences for the experiments of a report.

    Args:
        experiments: Their names.

    Returns:
        Those of the only one; several are told one after the other.
    """
    found = [_TOLD[name] for name in experiments if name in _TOLD] or [_TOLD["forward_reverse"]]
    if len(found) == 1:
        return found[0]
    return Told(
        " ".join(told.done for told in found),
        "what it became: " + "; or ".join(told.became for told in found),
        " ".join(dict.fromkeys(told.rows for told in found)),
    )
