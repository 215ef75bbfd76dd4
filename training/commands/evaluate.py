"""`evaluate` measures a checkpoint on a split and writes a report."""

import argparse
from pathlib import Path

from training.commands.parsers import Commands, add_command


def add_evaluate(commands: Commands) -> None:
    command = add_command(
        commands,
        "evaluate",
        "measure a checkpoint on a split of its data set",
        "evaluate runs/lenet5/best.pt",
        run_evaluate,
    )
    command.add_argument("checkpoint", type=Path, help="the best.pt of a run")
    command.add_argument(
        "--split",
        choices=["train", "val", "test"],
        help="the split to measure on (default: test, or val if there is no test split)",
    )
    command.add_argument(
        "--out", type=Path, help="folder of the report (default: next to the checkpoint)"
    )


def run_evaluate(arguments: argparse.Namespace) -> None:
    import torch

    from training.data.datasets import load_trained_dataset
    from training.data.mask_folder import MaskSplit
    from training.data.splits import VALIDATION_CAUTION
    from training.evaluate.masks.overlap import evaluate_masks
    from training.evaluate.metrics import Evaluation, compute_metrics, predict_split
    from training.fit.checkpoint import load_checkpoint
    from training.networks.classifier import compute_probabilities
    from training.report.masks import save_mask_plots
    from training.report.plots import (
        format_metrics,
        format_table,
        list_remarks,
        save_report_plots,
    )

    config, labels, model, rest = load_checkpoint(arguments.checkpoint)
    data = load_trained_dataset(config, labels)
    name = arguments.split or data.measured_split
    split = data.get_split(name)
    cautions = [VALIDATION_CAUTION] if name != arguments.split and name == "val" else []
    folder = arguments.out or arguments.checkpoint.parent / f"report-{name}"
    title = f"{config.name}: {len(split):,} pictures ({name})"
    if isinstance(split, MaskSplit):
        found = evaluate_masks(
            lambda p: model.predict(p).argmax(1).astype("uint8"), split, labels, config.input
        )
        figures = found.figures
        save_mask_plots(folder, found, rest["history"])
    else:
        logits = torch.from_numpy(predict_split(model.predict, split))
        probabilities = compute_probabilities(logits, config.task == "multilabel").numpy()
        figures = compute_metrics(probabilities, split.labels, labels)
        evaluation = Evaluation(labels, split, probabilities, figures)
        save_report_plots(folder, evaluation, rest["history"])
    page = [f"# {title}", "", *cautions, "", *format_metrics(folder, figures), ""]
    (folder / "README.md").write_text("\n".join(page), encoding="utf-8")
    for line in [*cautions, *format_table(figures), *list_remarks(figures)]:
        print(line)
    print(f"{folder / 'README.md'} has the rest.")
