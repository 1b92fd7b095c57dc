import json
import re
import shutil
import signal
import time

import pytest
import torch

from nifbuild import evaluate_run, load_spec
from nifbuild.data.catalog import open_data
from nifbuild.data.images import MemoryImages
from nifbuild.errors import InterruptedRun, RunError, SpecError
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.runs.loaded import load_run
from nifbuild.train.initial_weights import fresh_model
from nifbuild.train.loop import Trainer
from nifbuild.train.run import train_run
from tests.tiny_runs import Stop, best_of, contents, losses, without_times


def test_what_a_run_leaves(resolve, tmp_path):
    result = train_run(resolve(), tmp_path / "run").document()
    run = RunDirectory(tmp_path / "run")
    assert sorted(p.name for p in run.path.iterdir()) == [
        "best.json",
        "checkpoints",
        "data.json",
        "environment.json",
        "metrics.json",
        "metrics.jsonl",
        "spec.yaml",
    ]
    assert {**run.result(), "directory": str(run.path)} == result
    assert (result["split"], result["num_samples"]) == ("test", 17)
    lines = run.metrics()
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 5), (2, 10), (3, 15)]
    assert {line["split"] for line in lines} == {"validation"}
    best = max(lines, key=lambda line: (line["top1"], line["epoch"]))
    assert result["epoch"] == best["epoch"]
    assert result["checkpoint"] == f"step_{best['step']:08d}"
    assert [line["best"] for line in lines][best["epoch"] - 1]
    described = run.data()
    assert described["splits"] == {"train": 40, "validation": 21, "test": 17}
    assert len(described["class_names"]) == 10
    assert len(described["mean"]) == len(described["std"]) == 1
    (start,) = json.loads((run.path / "environment.json").read_text())["starts"]
    assert start["packages"]["torch"] == torch.__version__
    assert start["processes"] == 1


@pytest.mark.parametrize("ema", ["null", "0.9"])
def test_evaluate_repeats_the_figures(resolve, tmp_path, ema):
    settings = (f"train.ema={ema}", "train.precision=bf16", "train.channels_last=true")
    result = train_run(resolve(*settings), tmp_path / "run").document()
    again = evaluate_run(tmp_path / "run").only.document()
    same = ("top1", "top5", "loss", "num_samples", "per_class", "confusion_matrix", "checkpoint")
    assert {key: again[key] for key in same} == {key: result[key] for key in same}
    last = evaluate_run(tmp_path / "run", split="validation", checkpoint="last").only.document()
    line = RunDirectory(tmp_path / "run").metrics()[-1]
    assert {key: last[key] for key in ("top1", "loss")} == {k: line[k] for k in ("top1", "loss")}


def test_training_learns(resolve, tmp_path):
    result = train_run(
        resolve(
            "train.epochs=6",
            "train.batch_size=10",
            "train.optimizer.lr=0.03",
            "data.limit={train: 600, test: 100}",
            "train.optimizer.filters={lr_factor: 1}",
        ),
        tmp_path / "run",
    ).document()
    assert result["top1"] > 0.6


def test_equal_seeds_are_equal_runs_and_others_are_not(resolve, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        train_run(resolve(f"train.seed={seed}", dropout=True), tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a")[0] != contents(tmp_path / "c")[0]


THOROUGH = (
    "train.early_stopping={patience: 3}",
    "train.accumulate=2",
    "train.ema=0.8",
    "train.clip_norm=0.5",
    "train.checkpoint_every=0.4",
    "train.keep=20",
    "data.augment={crop: 1, mixup: 0.4}",
)


@pytest.mark.parametrize(
    ("optimizer", "stops"),
    [
        ("{name: adamw, lr: 0.01, filters: {lr_factor: 0.3}}", [Stop(at_step=7)]),
        ("{name: sgd, lr: 0.1}", [Stop(at_step=3), Stop(at_step=4), Stop(at_step=10)]),
        ("{name: sgd, lr: 0.1}", [Stop(at_batch=2), Stop(at_batch=17), Stop(at_batch=8)]),
    ],
    ids=["in an epoch", "three times", "while evaluating"],
)
def test_a_resumed_run_is_bit_identical(resolve, tmp_path, optimizer, stops):
    resolved = resolve(*THOROUGH, f"train.optimizer={optimizer}", dropout=True)
    result = train_run(resolved, tmp_path / "whole").document()
    for stop in stops:
        with pytest.raises(InterruptedRun, match="after step") as caught:
            train_run(resolved, tmp_path / "parts", resume=True, report=stop)
        assert caught.value.exit_code == 143
    resumed = train_run(resolved, tmp_path / "parts", resume=True).document()
    assert without_times(resumed) == without_times(result)
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    # The interruption saved steps that the whole run did not.
    assert whole[0].items() <= parts[0].items()
    assert whole[2:] == parts[2:]
    starts = json.loads((tmp_path / "parts" / "environment.json").read_text())["starts"]
    assert len(starts) == len(stops) + 1


def test_resume_after_a_crash_writes_its_lines_again(resolve, tmp_path):
    resolved = resolve("train.checkpoint_every=2", "train.monitor=loss", "train.select=last")
    train_run(resolved, tmp_path / "whole")
    with pytest.raises(InterruptedRun):
        train_run(resolved, tmp_path / "run", report=Stop(at_step=8))
    run = RunDirectory(tmp_path / "run")
    run.add_metrics({"step": 10, "epoch": 2, "train_loss": 9.0})  # of an epoch that was not saved
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "epo')
    train_run(resolved, run.path, resume=True)
    assert contents(run.path)[2] == contents(tmp_path / "whole")[2]


def test_resume_starts_what_was_never_started_and_keeps_what_is_complete(resolve, tmp_path):
    result = train_run(resolve(), tmp_path / "run", resume=True).document()
    before = contents(tmp_path / "run")
    assert train_run(resolve(), tmp_path / "run", resume=True).document() == result
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("train.optimizer.lr=0.02", "+    lr: 0.02"),
        ("data.limit.train=41", "data's fingerprint|limit"),
        ("train.precision=bf16", "the precision has changed"),
    ],
)
def test_resume_refuses_a_changed_run(resolve, tmp_path, change, shown):
    with pytest.raises(InterruptedRun):
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=2))
    before = contents(tmp_path / "run")
    with pytest.raises(SpecError, match=re.escape(shown).replace(r"\|", "|")) as caught:
        train_run(resolve(change), tmp_path / "run", resume=True)
    assert "--overwrite" in str(caught.value)
    assert contents(tmp_path / "run") == before


def test_resume_without_the_options_of_the_start_says_how_to_go_on(resolve, tmp_path):
    with pytest.raises(InterruptedRun):
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=2))
    others = ["train.schedule={name: step, at_epochs: [2]}", "train.optimizer={name: rmsprop}"]
    with pytest.raises(SpecError) as caught:
        train_run(resolve(*others), tmp_path / "run", resume=True)
    run = tmp_path / "run"
    told = str(caught.value)
    assert f"\n    nifbuild train {run}/spec.yaml --out {run} --resume\n" in told
    assert "lines more" in told and told.count("\n") < 20
    assert train_run(load_spec(run / "spec.yaml"), run, resume=True).epochs == 3


def test_resuming_what_is_not_there_is_told(resolve, tmp_path):
    class Heard(Reporter):
        def note(self, text):
            notes.append(text)

    notes: list[str] = []
    (tmp_path / "rum").mkdir()
    train_run(resolve("train.epochs=1"), tmp_path / "run", resume=True, report=Heard())
    told = f"no run in {tmp_path}/run to go on from: one is begun"
    assert f"{told}; did you mean '{tmp_path}/rum'?" in notes


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda run, name: shutil.rmtree(run / "checkpoints" / name), r"delete metrics\.json"),
        (lambda run, name: shutil.rmtree(run / "checkpoints"), "start anew with --overwrite"),
        (
            lambda run, name: (run / "checkpoints" / name / "model.safetensors").write_text("x"),
            r"cannot load .*model\.safetensors",
        ),
        (lambda run, name: (run / "data.json").write_text("{}"), r"data\.json cannot be read"),
        (lambda run, name: (run / "best.json").write_text("{}"), r"best\.json cannot be read"),
    ],
)
def test_resume_notices_that_a_complete_run_was_damaged(
    resolve, two_epochs, tmp_path, damage, message
):
    shutil.copytree(two_epochs, tmp_path / "run")
    damage(tmp_path / "run", RunDirectory(two_epochs).result()["checkpoint"])
    figures = (tmp_path / "run" / "metrics.json").read_text()
    with pytest.raises(RunError, match=message):
        train_run(resolve("train.epochs=2"), tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "metrics.json").read_text() == figures


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_the_end_of_the_terminal_saves_a_checkpoint(resolve, tmp_path):
    with pytest.raises(InterruptedRun, match="SIGHUP after step 2; saved") as caught:
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=2, number=signal.SIGHUP))
    assert caught.value.exit_code == 128 + signal.SIGHUP
    assert RunDirectory(tmp_path / "run").checkpoints


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_nohup_lets_a_run_outlive_its_terminal(resolve, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        report = Stop(at_step=2, number=signal.SIGHUP)
        assert train_run(resolve("train.epochs=1"), tmp_path / "run", report=report).step == 5
    finally:
        signal.signal(signal.SIGHUP, before)


def test_figures_that_were_deleted_are_found_again(resolve, tmp_path):
    result = train_run(resolve("train.epochs=2"), tmp_path / "run").document()
    (tmp_path / "run" / "metrics.json").unlink()
    again = train_run(resolve("train.epochs=2"), tmp_path / "run", resume=True).document()
    assert without_times(again) == without_times(result)


def test_resume_refuses_other_data_and_another_number_of_processes(resolve, tmp_path):
    with pytest.raises(InterruptedRun):
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=2))
    (progress,) = (tmp_path / "run" / "checkpoints").glob("*/progress.json")
    document = json.loads(progress.read_text())
    document["identity"] |= {"data": "0123", "world_size": 2}
    progress.write_text(json.dumps(document))
    with pytest.raises(SpecError) as caught:
        train_run(resolve(), tmp_path / "run", resume=True)
    assert [p.what for p in caught.value.problems] == [
        "cannot resume: the number of processes has changed since the run was started",
        "cannot resume: the data's fingerprint has changed since the run was started",
    ]
    assert "was 2, now 1: nifbuild train ... --resume --processes 2" in str(caught.value)


def test_a_damaged_checkpoint_is_named(resolve, tmp_path):
    with pytest.raises(InterruptedRun):
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=2))
    weights = tmp_path / "run" / "checkpoints" / "step_00000002" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(RunError, match=r"cannot load .*step_00000002/model.safetensors"):
        train_run(resolve(), tmp_path / "run", resume=True)


def test_damaged_optimizer_state_is_named_without_advice_to_load_it_unsafely(resolve, tmp_path):
    with pytest.raises(InterruptedRun):
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=2))
    (tmp_path / "run" / "checkpoints" / "step_00000002" / "optimizer.pt").write_text("{}")
    with pytest.raises(RunError, match=r"cannot load .*optimizer\.pt: it is damaged") as caught:
        train_run(resolve(), tmp_path / "run", resume=True)
    assert "weights_only" not in str(caught.value)


def test_normalisation_that_does_not_fit_the_run_is_named(resolve, tmp_path):
    train_run(resolve("train.epochs=1"), tmp_path / "run")
    path = tmp_path / "run" / "data.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mean": [0.5, 0.5]}))
    with pytest.raises(RunError, match=r"data\.json does not fit the run: .* not for 1 channel\b"):
        evaluate_run(tmp_path / "run")


def test_without_validation_nothing_is_chosen_on_the_test_images(resolve, tmp_path):
    result = train_run(resolve("data.validation=0"), tmp_path / "run").document()
    run = RunDirectory(tmp_path / "run")
    assert {line["split"] for line in run.metrics()} == {"test"}
    assert not any(line["best"] for line in run.metrics())
    assert (result["selected"], result["epoch"]) == ("last", 3)
    assert best_of(run) is None
    assert run.find_checkpoint() == run.checkpoints[-1]
    with pytest.raises(RunError, match=r"no best checkpoint.*\n.*leave --checkpoint out"):
        evaluate_run(tmp_path / "run", checkpoint="best")


def test_without_test_images_the_figures_are_those_of_validation(resolve, tmp_path):
    result = train_run(resolve("data.test=0"), tmp_path / "run").document()
    assert result["split"] == "validation"
    result = train_run(resolve("data.test=0", "data.validation=0"), tmp_path / "all").document()
    assert (result["split"], result["num_samples"]) == ("train", 40)
    assert "split" not in RunDirectory(tmp_path / "all").metrics()[0]


def test_evaluate_every_and_keep(resolve, tmp_path):
    settings = ("train.epochs=5", "train.evaluate_every=2", "train.keep=1")
    train_run(resolve(*settings), tmp_path / "run")
    run = RunDirectory(tmp_path / "run")
    assert ["top1" in line for line in run.metrics()] == [False, True, False, True, True]
    best = run.find_checkpoint("best")
    assert run.checkpoints == sorted({best, run.checkpoint_path(25)})


def test_select_last(resolve, tmp_path):
    result = train_run(resolve("train.select=last"), tmp_path / "run").document()
    assert (result["epoch"], result["selected"]) == (3, "last")


def test_monitor_loss(resolve, tmp_path):
    result = train_run(resolve("train.monitor=loss"), tmp_path / "run").document()
    lines = RunDirectory(tmp_path / "run").metrics()
    assert result["epoch"] == min(lines, key=lambda line: line["loss"])["epoch"]


@pytest.mark.parametrize(
    "setting",
    [
        "train.label_smoothing=0.3",
        "train.clip_norm=0.01",
        "train.schedule={name: constant}",
        "train.optimizer.weight_decay=0.5",
        "train.optimizer.lr=0.02",
        "train.optimizer.betas=[0.5, 0.9]",
        "train.optimizer.eps=0.1",
        "train.optimizer={name: sgd}",
        "train.batch_size=10",
        "train.accumulate=2",  # through batch normalisation
        "train.precision=bf16",
        "train.seed=1",
        "data.augment.flip=0.5",
    ],
)
def test_each_setting_has_an_effect(resolve, two_epochs, tmp_path, setting):
    train_run(resolve("train.epochs=2", setting), tmp_path / "run")
    assert losses(tmp_path / "run") != losses(two_epochs)


def test_filters_have_a_learning_rate_of_their_own(resolve, tmp_path):
    setting = "train.optimizer.filters={lr_factor: 1e-9, weight_decay: 0}"
    resolved = resolve("train.epochs=1", setting)
    train_run(resolved, tmp_path / "run")
    trained = load_run(tmp_path / "run").model.state_dict()
    for name, start in fresh_model(resolved).state_dict().items():
        moved = (trained[name] - start).abs().max()
        assert (moved < 1e-6) == name.startswith("conv2.filter_network"), name


def test_images_that_workers_decode(resolve, two_epochs, tmp_path):
    settings = ("train.epochs=2", "data.in_memory=false", "data.workers=2")
    train_run(resolve(*settings), tmp_path / "lazy")
    assert losses(tmp_path / "lazy") == losses(two_epochs)


def test_the_share_of_time_spent_waiting_for_data(resolve, tmp_path, monkeypatch):
    """With a loader and a step that take known times."""

    def slow(call, seconds):
        def called(*arguments):
            time.sleep(seconds)
            return call(*arguments)

        return called

    resolved = resolve("train.epochs=2")
    monkeypatch.setattr(MemoryImages, "__getitems__", slow(MemoryImages.__getitems__, 0.05))
    result = train_run(resolved, tmp_path / "waits").document()
    lines = RunDirectory(tmp_path / "waits").metrics()
    assert result["data_wait_share"] == lines[-1]["data_wait_share"]
    assert all(line["data_wait_share"] > 0.5 for line in lines)
    monkeypatch.undo()
    monkeypatch.setattr(Trainer, "train_step", slow(Trainer.train_step, 0.05))
    assert train_run(resolved, tmp_path / "works").data_wait_share < 0.5


def test_channels_last_reaches_the_model(resolve, tmp_path, monkeypatch):
    seen = []
    original = torch.nn.Conv2d.forward

    def forward(self, images):
        seen.append(images.is_contiguous(memory_format=torch.channels_last))
        return original(self, images)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", forward)
    settings = ("train.epochs=1", "train.channels_last=true", "input.channels=3")
    train_run(resolve(*settings), tmp_path / "run")
    assert all(seen)


def test_deterministic_is_on_while_training_only(resolve, tmp_path):
    class Look(Reporter):
        def step(self, step, loss, images_per_second, memory):
            seen.add(torch.are_deterministic_algorithms_enabled())

    seen: set[bool] = set()
    resolved = resolve("train.epochs=1", "train.deterministic=true")
    train_run(resolved, tmp_path / "run", report=Look())
    assert seen == {True}
    assert not torch.are_deterministic_algorithms_enabled()


def test_signal_handlers_are_put_back(resolve, tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(InterruptedRun) as caught:
        train_run(resolve(), tmp_path / "run", report=Stop(at_step=1, number=signal.SIGINT))
    assert caught.value.exit_code == 130
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_batch_sizes_that_cannot_be(resolve, tmp_path):
    found = "a batch of 64 is more than the 40 training images"
    with pytest.raises(SpecError, match=found) as caught:
        train_run(resolve("train.batch_size=64"), tmp_path / "run")
    assert "--set train.batch_size=40" in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_devices_and_precisions_that_are_not_there(resolve, tmp_path):
    with pytest.raises(SpecError, match="fp16 needs a GPU"):
        train_run(resolve("train.precision=fp16"), tmp_path / "run")
    if not torch.cuda.is_available():
        with pytest.raises(SpecError, match="'cuda:7' is not available"):
            train_run(resolve("train.device='cuda:7'"), tmp_path / "run")
    if not torch.backends.mps.is_available():
        with pytest.raises(SpecError, match="'mps' is not available"):
            train_run(resolve("train.device=mps"), tmp_path / "run")


def test_channels_that_images_do_not_have(resolve, tmp_path):
    with pytest.raises(SpecError, match="takes 2 channels, and images have 1 or 3"):
        train_run(resolve("input.channels=2"), tmp_path / "run")


def test_a_spec_without_data(resolve, tmp_path):
    with pytest.raises(SpecError, match="tiny has no data"):
        train_run(resolve("data=null"), tmp_path / "run")


def test_missing_tracker_says_how_to_install_it(resolve, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"pip install 'nifbuild\[wandb\]'"):
        train_run(resolve("train.trackers=[wandb]"), tmp_path / "run")


def test_a_tracker_that_does_not_start(resolve, tmp_path, monkeypatch):
    def start(self):
        raise RuntimeError("no login")

    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker.start", start)
    with pytest.raises(RunError, match="tensorboard did not start: no login"):
        train_run(resolve("train.trackers=[tensorboard]"), tmp_path / "run")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_the_figures_once(resolve, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    resolved = resolve("train.trackers=[tensorboard]")
    with pytest.raises(InterruptedRun):
        train_run(resolved, tmp_path / "run", report=Stop(at_step=12))
    train_run(resolved, tmp_path / "run", resume=True)
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), purge_orphaned_data=False)
    events.Reload()
    lines = RunDirectory(tmp_path / "run").metrics()
    for tag, key in (
        ("loss/train", "train_loss"),
        ("loss/validation", "loss"),
        ("top1/train", "train_top1"),
        ("top1/validation", "top1"),
        ("lr", "lr"),
    ):
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert found == [(line["step"], pytest.approx(line[key])) for line in lines]
    steps = events.Scalars("loss/step")
    assert [event.step for event in steps] == list(range(1, 16))
    for line in lines:  # of 5 steps each
        mean = sum(event.value for event in steps if -(-event.step // 5) == line["epoch"]) / 5
        assert mean == pytest.approx(line["train_loss"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_gets_the_spec_and_the_result(resolve, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    resolved = resolve("train.trackers=[tensorboard]", "train.epochs=1")
    result = train_run(resolved, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"), purge_orphaned_data=False)
    events.Reload()
    (text,) = events.Tensors("spec/text_summary")
    assert resolved.text in text.tensor_proto.string_val[0].decode()
    (top1,) = events.Scalars("final/top1")
    assert (top1.step, top1.value) == (result.step, pytest.approx(result.top1))
    told = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(told).session_start_info.hparams
    assert values["train.optimizer.lr"].number_value == 0.01
    assert values["data.source"].string_value == "digits"
    RunDirectory(tmp_path / "run").require_free(overwrite=True)  # all of it is the run's


def test_training_accuracy(resolve, tmp_path):
    """Of a network that finds all classes equally probable, that of naming always the first."""
    resolved = resolve(
        "init.linear={name: zeros, bias: 0}",
        "train.batch_size=40",  # one step: its figures are of before it
        "train.accumulate=2",
        "train.epochs=1",
    )
    result = train_run(resolved, tmp_path / "run")
    (line,) = RunDirectory(tmp_path / "run").metrics()
    labels = open_data(resolved.spec.data).sources["train"].labels
    assert line["train_top1"] == result.train_top1 == pytest.approx((labels == 0).mean())
    model = load_run(tmp_path / "run").model
    assert result.params == sum(weight.numel() for weight in model.parameters())


def test_training_accuracy_on_blended_images(resolve, tmp_path):
    """A blend counts as the class that there is more of."""
    resolved = resolve(
        "data.augment.mixup=0.2",
        "train.epochs=50",
        "train.evaluate_every=50",
        "train.checkpoint_every=50",
        "train.optimizer.lr=0.03",
        "train.batch_size=40",
        "data.limit={train: 40}",
    )
    train_run(resolved, tmp_path / "run")
    assert RunDirectory(tmp_path / "run").metrics()[-1]["train_top1"] > 0.3


def test_load_run_and_fresh_model(resolve, tmp_path):
    resolved = resolve("train.ema=0.5")
    train_run(resolved, tmp_path / "run")
    trained = load_run(tmp_path / "run", checkpoint="last")
    assert not trained.model.training
    assert len(trained.class_names) == 10
    assert trained.mean.shape == trained.std.shape == (1,)
    assert trained.step == 15
    start, again = fresh_model(resolved), fresh_model(resolved)
    for name, value in start.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
    assert not torch.equal(start.state_dict()["conv1.weight"], trained.model.conv1.weight)


def test_evaluate_refuses(resolve, tmp_path):
    with pytest.raises(SpecError, match="does not exist"):
        evaluate_run(tmp_path / "nowhere")
    with pytest.raises(SpecError, match="is not a run directory"):
        evaluate_run(tmp_path)
    train_run(resolve("data.validation=0"), tmp_path / "run")
    with pytest.raises(SpecError, match="no split 'validation'") as caught:
        evaluate_run(tmp_path / "run", split="validation")
    assert "there are: train, test" in str(caught.value)


def test_evaluate_on_data_with_other_classes(resolve, tmp_path, photos):
    train_run(resolve("train.epochs=1"), tmp_path / "run")
    (tmp_path / "photos.yaml").write_text(f"data: {{source: imagefolder, path: {photos}}}\n")
    with pytest.raises(SpecError, match="classes that the run did not learn: 'one', 'two', 'zero'"):
        evaluate_run(tmp_path / "run", data=tmp_path / "photos.yaml")


def test_evaluate_on_other_data(resolve, tmp_path):
    train_run(resolve(), tmp_path / "run")
    (tmp_path / "all.yaml").write_text("data: {source: digits, validation: 0, test: 0.5}\n")
    found = evaluate_run(
        tmp_path / "run", data=tmp_path / "all.yaml", batch_size=100
    ).only.document()
    assert found["num_samples"] > 800
    assert found["batch_size"] == 100


def test_compile_works_or_says_why_not(resolve, tmp_path, monkeypatch):
    class Notes(Reporter):
        def warning(self, text):
            notes.append(text)

    notes: list[str] = []
    original = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: original(module, backend="aot_eager"))
    settings = ("train.epochs=1", "train.compile=true", "train.ema=0.9", "model.3.kind=standard")
    resolved = resolve(*settings)
    train_run(resolved, tmp_path / "compiled", report=Notes())
    assert notes == []

    def broken(graph, example):
        raise RuntimeError("no compiler here\nwith details")

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", lambda module: original(module, backend=broken))
    train_run(resolved, tmp_path / "eager", report=Notes())
    (note,) = notes
    assert note.startswith("train.compile has no effect: ")
    assert "no compiler here" in note
    assert "\n" not in note
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), rel=1e-4)
