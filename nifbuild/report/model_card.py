"""Model cards: what a model is, what it learned and reached, how to use it.

They are in the form of the Hugging Face hub's (https://huggingface.co/docs/hub/model-cards), YAML
between two lines and then Markdown, so that a folder with a model and its card can be uploaded.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nifbuild.errors import NifbuildError
from nifbuild.machine.progress import Reporter
from nifbuild.machine.sealed_text import kept
from nifbuild.report.card_usage import nifbuild_usage
from nifbuild.report.show.markdown import code_block, markdown, markdown_text
from nifbuild.report.show.tables import Grid
from nifbuild.report.show.units import percent_text
from nifbuild.report.side_by_side.recorded import OPS, recorded
from nifbuild.report.summary import figure_rows, is_per_pixel
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.documents import Document
from nifbuild.runs.ownership import CARD
from nifbuild.spec.canonical import yaml_text
from nifbuild.spec.ops import kinds_of
from nifbuild.spec.ops.global_conv import GlobalConv

_LISTED_CLASSES = 20
_GLOBAL_KINDS = tuple(
    kind for kind, op_class in kinds_of("conv").items() if issubclass(op_class, GlobalConv)
)
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


@dataclass(frozen=True)
class ModelFacts:
    """What a card tells.

    Attributes:
        name: Of the model.
        settings: The values of its spec by dotted path, and how many ops of each kind.
        spec: Its text, written out.
        is_per_pixel: Whether it gives each pixel a class, rather than each image.
        params: Its weights; None where that is not known.
        usage: How to load and use it, as Markdown.
        described: Its run's `data.json`; None for a model that was not trained.
        result: Its figures, as in `metrics.json`; None where there are none.
        best: The line of `metrics.jsonl` of the epoch that was best on validation.
        start: How its run was started last; an entry of `environment.json`.
    """

    name: str
    settings: Mapping[str, Any]
    spec: str
    is_per_pixel: bool
    params: int | None
    usage: str
    described: Document | None = None
    result: Document | None = None
    best: Document | None = None
    start: Document | None = None


def card_text(facts: ModelFacts) -> str:
    """The card."""
    parts = [
        f"---\n{yaml_text(_front_matter(facts))}---",
        f"# {markdown_text(facts.name)}",
        " ".join(_what_it_is(facts)),
        "## Use",
        facts.usage,
        "## Figures",
        *_figures(facts),
        "## Data",
        *_data(facts),
        "## Environment",
        _environment(facts.start),
        "## Spec",
        code_block(facts.spec.rstrip("\n"), "yaml"),
        "## License",
        _license(facts.settings.get("license")),
    ]
    return "\n\n".join(parts) + "\n"


def run_facts(run: RunDirectory) -> ModelFacts:
    """What the files of a complete run tell.

    Raises:
        RunError: One is damaged.
    """
    found = recorded(run.path)
    result, starts = run.result() or {}, run.starts()
    chosen = [line for line in found.epochs if line.get("best")]
    per_pixel = is_per_pixel(result)
    return ModelFacts(
        name=found.name,
        settings=found.settings,
        spec=run.spec.read_text(encoding="utf-8"),
        is_per_pixel=per_pixel,
        params=result.get("params"),
        described=run.data(),
        result=result or None,
        best=chosen[-1] if chosen else None,
        start=starts[-1] if starts else None,
        usage=nifbuild_usage(None, is_per_pixel=per_pixel),
    )


def write_run_card(run: RunDirectory, report: Reporter) -> None:
    """Writes the card of a complete run; one that people have written or changed stays.

    Where it cannot be written, that is a warning: the run is there, whatever comes of this.
    """
    try:
        if not run.write_page(CARD, card_text(run_facts(run))):
            report.warning(kept(run.path / CARD))
    except (NifbuildError, OSError) as error:
        report.warning(f"the model card {run.path / CARD} could not be written: {error}")


# The front matter


def _front_matter(facts: ModelFacts) -> dict[str, Any]:
    """What the hub reads."""
    task = "image-segmentation" if facts.is_per_pixel else "image-classification"
    license_id = facts.settings.get("license")
    metric = "mean_iou" if facts.is_per_pixel else "accuracy"
    found: dict[str, Any] = {"library_name": "nifbuild"}
    if license_id is not None:
        found["license"] = license_id.lower()  # as the hub writes them
    found |= {"pipeline_tag": task, "tags": [task, "nifbuild", *_implicit_kinds(facts)]}
    if (hub := _hub_data(facts)) is not None:
        found["datasets"] = [hub]
    found["metrics"] = [metric]
    if facts.result is not None:
        found["model-index"] = [{"name": facts.name, "results": [_hub_result(facts, task, metric)]}]
    return found


def _hub_result(facts: ModelFacts, task: str, metric: str) -> dict[str, Any]:
    assert facts.result is not None
    data = {"name": _source(facts), "type": _hub_data(facts) or _source(facts)}
    value = facts.result["miou" if facts.is_per_pixel else "top1"]
    return {
        "task": {"type": task},
        "dataset": {**data, "split": facts.result["split"]},
        "metrics": [{"type": metric, "value": value}],
    }


def _hub_data(facts: ModelFacts) -> str | None:
    """The name of the data on the hub."""
    name = str(facts.settings.get("data.id", ""))
    is_hub = facts.settings.get("data.source") == "hub"
    # A folder in the hub's layout may stand in its place.
    return name if is_hub and _HUB_ID.fullmatch(name) and not Path(name).exists() else None


def _source(facts: ModelFacts) -> str:
    """What the data is called."""
    return str(facts.settings.get("data.id") or facts.settings.get("data.source") or "none")


def _implicit_kinds(facts: ModelFacts) -> list[str]:
    return [kind.replace("_", "-") for kind in _GLOBAL_KINDS if f"{OPS}{kind}" in facts.settings]


# The sections


def _what_it_is(facts: ModelFacts) -> Iterator[str]:
    channels, size = facts.settings["input.channels"], facts.settings["input.size"]
    height, width = size if isinstance(size, list | tuple) else (size, size)
    colours = {1: "gray ", 3: "RGB "}.get(channels, "")
    gives = "each pixel" if facts.is_per_pixel else "an image"
    yield f"A convolutional network that gives {gives} a class."
    yield f"It takes {colours}images of {height}x{width} pixels (height x width)"
    if facts.params is None:
        yield "and was made by nifbuild from the spec below."
    else:
        yield f"and has {facts.params:,} parameters; nifbuild made it from the spec below."
    counts = {
        key.removeprefix(OPS): number
        for key, number in facts.settings.items()
        if key.startswith(OPS)
    }
    for kind, number in counts.items():
        if kind in _GLOBAL_KINDS:
            yield f"Convolutions with filters as large as the image: {number} of `kind: {kind}`."


def _figures(facts: ModelFacts) -> Iterator[str]:
    result = facts.result
    if result is None:
        yield "None: this model was not evaluated as it is here."
        return
    rows = list(figure_rows(result))
    if (best := facts.best) is not None:
        by = facts.settings.get("train.monitor", "top1")
        figure = f"{best['loss']:.4f}" if by == "loss" else percent_text(best[by])
        rows.append((f"best {by} on validation", f"{figure}, after epoch {best['epoch']}"))
    if result.get("train_top1") is not None:
        changes = (v for key, v in facts.settings.items() if key.startswith("data.augment."))
        figure = percent_text(result["train_top1"]) + ", images as augmented" * any(changes)
        rows.append(("top-1 in training, last epoch", figure))
    yield markdown([Grid("", ("figure", "value"), 1, tuple(rows))])
    yield " ".join(_conditions(facts, result))


def _conditions(facts: ModelFacts, result: Document) -> Iterator[str]:
    yield f"On the {result['split']} images of `{markdown_text(_source(facts))}`,"
    if result.get("epochs") == 0:
        yield "by the weights that the run started from, as no epoch was trained,"
    else:
        yield f"by the weights of epoch {result['epoch']} ({markdown_text(result['selected'])}),"
    seed = facts.settings.get("train.seed", 0)
    yield f"in one run with seed {seed};"
    start = facts.start or {}
    device = start.get("device_name") or start.get("device") or "an unknown device"
    where = markdown_text(str(device))
    yield f"{facts.settings.get('train.precision', 'fp32')} on {where}."


def _data(facts: ModelFacts) -> Iterator[str]:
    data = facts.described
    if data is None:
        yield "None: the weights are those that training would start from."
        return
    sizes = ", ".join(f"{number:,} {role}" for role, number in data.get("splits", {}).items())
    yield f"Source: `{markdown_text(_source(facts))}`; images: {sizes or 'unknown'}."
    names = data["class_names"]
    listed = ", ".join(markdown_text(name) for name in names[:_LISTED_CLASSES])
    more = len(names) - _LISTED_CLASSES
    yield f"{len(names):,} classes: {listed}{f' and {more:,} more' if more > 0 else ''}."
    mean, std = (", ".join(f"{value:.4f}" for value in data[key]) for key in ("mean", "std"))
    yield f"Normalisation, where white is 1: less the mean {mean}, over the deviation {std}."
    yield f"Fingerprint of images and labels: `{data['fingerprint']}`."


def _environment(start: Document | None) -> str:
    if start is None:
        return "Unknown."
    packages = start.get("packages", {})
    rows = [
        ("Python", start.get("python")),
        *((name, packages.get(name)) for name in ("torch", "nifbuild", "accelerate")),
        ("git commit of the working directory", start.get("git_commit")),
        ("device", start.get("device_name")),
        ("processes", start.get("processes")),
        ("started", start.get("started")),
    ]
    cells = tuple((name, str(value)) for name, value in rows if value is not None)
    return markdown([Grid("", ("", ""), 2, cells)])


def _license(identifier: str | None) -> str:
    if identifier is None:
        return "None is stated: `license:` in the spec would say it here."
    return f"`{identifier}`"
