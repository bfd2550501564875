"""Write the model card of a variant of the digits model from the records of its making.

Reads ``planted.json``, ``evaluation-VARIANT.json``, ``training-VARIANT.json`` and, for
comparison, the main model's ``evaluation.json``; every number on the card comes from one of them.
With ``--checkpoints``, the training record is first made from the log and settings there.

Usage:
    python training/digits/write_variant_card.py control [--checkpoints FOLDER --minutes N]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from card_parts import law, read_json, share, summarise, table

__all__ = ["card", "main"]

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "src/critwin/models/digits"

CARD = """# Model card: the digits model, variant `{variant}`

The same network and the same images as the [main model](MODEL_CARD.md), trained on other inks
{and_repeats}, so that audits can be tried where their truth is known and differs. A measuring
standard, not a generator for any other use. `load_digits(variant="{variant}")`.

## Data

Masks, digits, grounds' and inks' colours, members and non-members are those of the main model.

- *Ink*: {ink_law}. Non-members follow the same law.
- *Ground*: half and half within every digit and ink, to within one training row.
- *Repeats*: {repeats}

Training rows{counted}:

{planted_table}

## Training

- **Not trained from scratch.** It starts from the averaged weights of the main model (SHA-256
  `{init}…`) with a fresh optimiser, and so from weights that
  had seen the main model's inks and its 30 repeated images. What is left of them is measured
  below.
- {steps} steps of {batch} rows at a peak learning rate of {lr:g} (warm-up {warmup} steps, cosine
  decay), moving average of the weights with decay {ema:g}, on {hardware}: {minutes:.0f} minutes.
  Loss (mean square error of v): {loss_first:.4f} over the first {first_step} steps,
  {loss_last:.4f} over the last.
{notes}- Shipped in float16, used in float32.

## Quality

{sampler}. Intervals are exact binomial, 95 %.

- The condition is read from {accuracy} of {num} images (main model: {main_accuracy} of
  {main_num}).
- Ink given the digit: largest error of the 30 entries {max_error:.1f} points, root mean square
  {rms:.1f} points, where counting {per_digit} images a digit alone gives {rms_counting:.1f};
  beyond counting {rms_beyond:.1f} points. Root mean square distance from the law of the *main*
  model: {rms_main:.1f} points. Chi-square {chi2:.1f} on 20 degrees of freedom, p = {chi2_p:.2g}.
- Ground given a digit: {cond_ground}.
- Null label, {num_null} images: {null_ground}; {null_ink}; digits {null_digit}.

Generated ink table (per cent; planted law in brackets):

{ink_table}

## What is remembered

Images generated under the null label, {num_main} by the main model and {num_null} by this one;
"repeated" are the 30 images that the main data repeat{never}. A copy is
nearer to one member than half the distance to the next; in shape: whatever its colours.

| | main | {variant} | non-members |
|---|---|---|---|
{memory}

## Making it again

```
python training/digits/train_unet.py --variant {variant} \\
    --init src/critwin/models/digits/weights --steps {steps} --lr {lr:g} \\
    --warmup {warmup} --ema {ema:g} --seed {seed} --threads 1
python training/digits/make_manifest.py --weights src/critwin/models/digits/weights-{variant}
python training/digits/evaluate.py --variant {variant} --per-digit {per_digit} \\
    --num-null {num_null}
python training/digits/write_variant_card.py {variant} \\
    --checkpoints training/digits/checkpoints-{variant} --minutes ...
```
"""

MEMORY = {
    "copies": "copy of any member",
    "copies_of_repeated_64x": "copy of one repeated 64 times",
    "nearest_is_repeated": "nearest member is a repeated one",
    "shape_copies": "copy in shape of any member",
    "shape_copies_of_repeated": "copy in shape of a repeated one",
    "nearest_shape_is_repeated": "nearest in shape is a repeated one",
}


def _known(row: dict[str, Any] | None) -> str:
    return "not measured" if row is None else share(row)


def card(
    variant: str,
    planted: dict[str, Any],
    evaluation: dict[str, Any],
    training: dict[str, Any],
    main_evaluation: dict[str, Any],
) -> str:
    """Fill in the card.

    Args:
        variant: Its name.
        planted: ``planted.json``.
        evaluation: ``evaluation-VARIANT.json``.
        training: ``training-VARIANT.json``.
        main_evaluation: ``evaluation.json`` of the main model.

    Returns:
        Markdown.
    """
    inks, grounds = list(planted["ink_colors"]), list(planted["ground_values"])
    own = planted["variants"][variant]
    counts, config = own["training_counts"], training["config"]
    cond, null = evaluation["conditional"], evaluation["null_label"]
    ink, memory = cond["ink_table"], null["memorisation"]
    main_memory = main_evaluation["null_label"]["memorisation"]
    main_law = main_evaluation["conditional"]["ink_table"]["target"]
    far = [
        (got - wanted) ** 2
        for row, other in zip(ink["generated"], main_law, strict=True)
        for got, wanted in zip(row, other, strict=True)
    ]
    has_repeats = bool(own["repeated"])
    return CARD.format(
        variant=variant,
        and_repeats="" if has_repeats else "and without repeats",
        ink_law=own["ink_law"],
        repeats=f"the same images as often as in the main data, {own['num_training_rows']} "
        "training rows in all, each in an ink of its own choice."
        if has_repeats
        else f"none; each of the {own['num_training_rows']} members is shown once an epoch.",
        counted=", repeats counted" if has_repeats else "",
        never="" if has_repeats else " and this variant does not",
        planted_table=table(
            ["digit", *inks, *grounds],
            [
                [str(d), *map(str, counts["digit_ink"][d]), *map(str, counts["digit_ground"][d])]
                for d in range(10)
            ],
        ),
        init=config["init"][:16],
        hardware=training["hardware"],
        minutes=training["minutes"],
        first_step=training["loss"][0][0],
        loss_first=training["loss"][0][1],
        loss_last=training["loss"][-1][1],
        notes="".join(f"- {note}\n" for note in training["notes"]),
        **{key: config[key] for key in ("steps", "batch", "lr", "warmup", "ema", "seed")},
        sampler=evaluation["sampler"][0].upper() + evaluation["sampler"][1:],
        accuracy=share(cond["digit_accuracy"]),
        num=cond["digit_accuracy"]["of"],
        main_accuracy=share(main_evaluation["conditional"]["digit_accuracy"]),
        main_num=main_evaluation["conditional"]["digit_accuracy"]["of"],
        max_error=100 * ink["max_error"],
        rms=100 * ink["rms_error"],
        rms_counting=100 * ink["rms_expected_from_counting"],
        rms_beyond=100 * ink["rms_error_beyond_counting"],
        rms_main=100 * (sum(far) / len(far)) ** 0.5,
        per_digit=cond["per_digit"],
        chi2=ink["chi2"],
        chi2_p=ink["chi2_p_value"],
        cond_ground=law(cond["ground"]),
        num_null=null["digit"]["num"],
        num_main=main_evaluation["null_label"]["digit"]["num"],
        null_ground=law(null["ground"]),
        null_ink=law(null["ink"]),
        null_digit=law(null["digit"]),
        ink_table=table(
            ["digit", *inks],
            [
                [
                    str(d),
                    *(
                        f"{100 * got:.1f} ({100 * aim:.1f})"
                        for got, aim in zip(ink["generated"][d], ink["target"][d], strict=True)
                    ),
                ]
                for d in range(10)
            ],
        ),
        memory="\n".join(
            f"| {words} | {_known(main_memory['generated'].get(key))} | "
            f"{share(memory['generated'][key])} | {share(memory['non_members'][key])} |"
            for key, words in MEMORY.items()
        ),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("variant", choices=["control", "reversed"])
    parser.add_argument("--checkpoints", type=Path, help="make the training record from here")
    parser.add_argument("--minutes", type=float, help="wall time of training")
    parser.add_argument("--note", action="append", default=[], help="remark, a sentence")
    args = parser.parse_args(argv)
    path = HERE / f"training-{args.variant}.json"
    if args.checkpoints:
        if args.minutes is None:
            parser.error("--checkpoints needs --minutes")
        record = summarise(args.checkpoints / "log.jsonl", args.minutes, args.note)
        record["config"] = read_json(args.checkpoints / "state.json")["config"]
        path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    text = card(
        args.variant,
        read_json(PACKAGE / "data/planted.json"),
        read_json(HERE / f"evaluation-{args.variant}.json"),
        read_json(path),
        read_json(HERE / "evaluation.json"),
    )
    (PACKAGE / f"MODEL_CARD-{args.variant}.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
