"""Words for mistakes that many modules share."""

import pytest

from critwin._texts import unknown_name


@pytest.mark.parametrize(
    ("name", "known", "more", "said"),
    [
        ("hat", ["ink", "digit"], "", "unknown feature: got hat; wanted one of ink, digit"),
        (
            "digt", ["ink", "digit"], ", or a product a*b",
            "unknown feature: got digt; wanted one of ink, digit, or a product a*b; "
            "did you mean 'digit'?",
        ),
        ("hat", [], "", "unknown feature: got hat; wanted none: there is none"),
        (
            "hat", [f"f{k}" for k in range(40)], "",
            "unknown feature: got hat; wanted one of f0, f1, f2, f3, f4, f5, f6, f7, f8, f9, f10, "
            "f11, … (40 in all)",
        ),
    ],
)  # fmt: skip
def test_a_name_that_there_is_not(name: str, known: list[str], more: str, said: str) -> None:
    assert str(unknown_name("feature", name, known, more=more)) == said
