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
        default="test",
        choices=["train", "val", "test"],
        help="the split to measure on (default: %(default)s)",
    )
    command.add_argument(
        "--out", type=Path, help="folder of the report (default: next to the checkpoint)"
    )


def run_evaluate(arguments: argparse.Namespace) -> None:
    import torch

    from training.data.datasets import load_dataset
    from training.evaluate.metrics import Evaluation, compute_metrics, predict_split
    from training.fit.checkpoint import load_checkpoint
    from training.networks.classifier import compute_probabilities
    from training.report.plots import format_metrics, format_table, save_report_plots

    config, labels, model, rest = load_checkpoint(arguments.checkpoint)
    split = load_dataset(config).get_split(arguments.split)
    logits = torch.from_numpy(predict_split(model.predict, split))
    probabilities = compute_probabilities(logits, config.task == "multilabel").numpy()
    figures = compute_metrics(probabilities, split.labels, labels)
    folder = arguments.out or arguments.checkpoint.parent / f"report-{arguments.split}"
    title = f"{config.name}: {len(split):,} pictures ({arguments.split})"
    evaluation = Evaluation(labels, split, probabilities, figures)
    save_report_plots(folder, evaluation, rest["history"])
    page = [f"# {title}", "", *format_metrics(folder, figures), ""]
    (folder / "README.md").write_text("\n".join(page), encoding="utf-8")
    for line in format_table(figures):
        print(line)
    print(f"{folder / 'README.md'} has the rest.")
