"""Trackers by name: each hears the same figures. Their packages are stood in for."""

import sys
from importlib.machinery import ModuleSpec
from unittest.mock import MagicMock

import pytest

from nifbuild.errors import RunError, SpecError
from nifbuild.runs.directory import RunDirectory
from nifbuild.train.run import train_run
from tests.tiny_runs import contents

NAMES = ("mlflow", "comet_ml", "clearml", "aim", "swanlab", "trackio", "dvclive")


def stood_in(name, monkeypatch):
    """A package of that name that takes any call and remembers it."""
    module = MagicMock(__spec__=ModuleSpec(name, None, origin="stand-in"), __version__="9.9.9")
    module.utils.validation.MAX_PARAM_VAL_LENGTH = 6000
    module.utils.validation.MAX_PARAMS_TAGS_PER_BATCH = 10
    module.Task.current_task.return_value = None
    monkeypatch.setitem(sys.modules, name, module)
    if name == "dvclive":
        monkeypatch.setitem(sys.modules, "dvclive.plots", module.plots)
    return module


def heard(name, module):
    """What was logged: (name, step, value); the step is None where a call does not tell it."""
    if name == "mlflow":
        calls = module.log_metrics.call_args_list
        return [(k, c.kwargs["step"], v) for c in calls for k, v in c.args[0].items()]
    if name in ("swanlab", "trackio"):
        calls = module.init.return_value.log.call_args_list
        return [(k, c.kwargs["step"], v) for c in calls for k, v in c.args[0].items()]
    if name == "comet_ml":
        calls = module.start.return_value.log_metric.call_args_list
        return [(c.args[0], c.kwargs["step"], c.args[1]) for c in calls]
    if name == "clearml":
        logger = module.Task.init.return_value.get_logger.return_value
        steps = [c.kwargs for c in logger.report_scalar.call_args_list]
        single = [c.kwargs for c in logger.report_single_value.call_args_list]
        found = [(c["title"], c["iteration"], c["value"]) for c in steps]
        return found + [(c["name"], None, c["value"]) for c in single]
    if name == "aim":
        calls = module.Run.return_value.track.call_args_list
        return [(c.kwargs["name"], c.kwargs["step"], c.args[0]) for c in calls]
    calls = module.Live.return_value.log_metric.call_args_list
    return [(c.args[0], None, c.args[1]) for c in calls]


def settings_of(name, module):
    """The values and the text of the spec that were logged."""
    if name == "mlflow":
        values = {k: v for c in module.log_params.call_args_list for k, v in c.args[0].items()}
        return values, module.log_text.call_args.args[0]
    if name == "comet_ml":
        run = module.start.return_value
        return run.log_parameters.call_args.args[0], run.log_asset_data.call_args.args[0]
    if name == "aim":
        (found,) = module.Run.return_value.__setitem__.call_args_list
        values = found.args[1]
    elif name == "clearml":
        values = module.Task.init.return_value.connect_configuration.call_args.args[0]
    elif name == "dvclive":
        values = module.Live.return_value.log_params.call_args.args[0]
    else:
        values = module.config.update.call_args.args[0]
    return values, values["spec"]


@pytest.mark.parametrize("name", NAMES)
def test_each_hears_the_same(resolve, two_epochs, tmp_path, monkeypatch, name):
    module = stood_in(name, monkeypatch)
    resolved = resolve("train.epochs=2", f"train.trackers=[{name}]")
    result = train_run(resolved, tmp_path / "run")
    found = heard(name, module)
    has_steps = name != "dvclive"
    for line in RunDirectory(tmp_path / "run").metrics():
        step = line["step"] if has_steps else None
        for told, key in (
            ("loss/train", "train_loss"),
            ("loss/validation", "loss"),
            ("top1/train", "train_top1"),
            ("top1/validation", "top1"),
            ("top5/validation", "top5"),
            ("lr", "lr"),
        ):
            assert (told, step, line[key]) in found
    losses = [entry for entry in found if entry[0] == "loss/step"]
    assert len(losses) == 10
    assert [step for _, step, _ in losses] == (list(range(1, 11)) if has_steps else [None] * 10)
    assert ("final/top1", None, result.top1) in found
    values, text = settings_of(name, module)
    assert values["train.optimizer.lr"] == 0.01 and text == resolved.text
    assert contents(tmp_path / "run")[2:] == contents(two_epochs)[2:]  # training does not notice


@pytest.mark.parametrize(
    ("name", "ends"),
    [
        ("mlflow", lambda m: m.end_run),
        ("comet_ml", lambda m: m.start.return_value.end),
        ("clearml", lambda m: m.Task.init.return_value.close),
        ("aim", lambda m: m.Run.return_value.close),
        ("swanlab", lambda m: m.init.return_value.finish),
        ("trackio", lambda m: m.init.return_value.finish),
        ("dvclive", lambda m: m.Live.return_value.end),
    ],
)
def test_each_is_ended_also_where_training_fails(resolve, tmp_path, monkeypatch, name, ends):
    module = stood_in(name, monkeypatch)
    resolved = resolve(
        "train.optimizer.lr=1.0e+12", "train.optimizer.name=sgd", f"train.trackers=[{name}]"
    )
    with pytest.raises(RunError):
        train_run(resolved, tmp_path / "run")
    ends(module).assert_called_once()


def test_what_is_missing_is_told_in_one_error(resolve, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SpecError) as caught:
        train_run(resolve("train.trackers=[mlflow, wandb, comet_ml]"), tmp_path / "run")
    (problem,) = caught.value.problems
    assert problem.what == "'mlflow', 'wandb', 'comet_ml' are not installed"
    assert problem.fix.startswith("pip install 'mlflow' 'nifbuild[wandb]' 'comet_ml', or leave")


def test_a_folder_of_that_name_is_no_package(resolve, tmp_path, monkeypatch):
    (tmp_path / "dvclive").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SpecError, match="'dvclive' is not installed"):
        train_run(resolve("train.trackers=[dvclive]"), tmp_path / "run")


def test_an_unknown_one_is_told_with_what_there_is(resolve):
    with pytest.raises(SpecError, match=r"did you mean 'mlflow'\?"):
        resolve("train.trackers=[mlflw]")


def test_one_that_fails_leaves_what_goes_on(resolve, two_epochs, tmp_path, monkeypatch):
    module = stood_in("trackio", monkeypatch)
    run = module.init.return_value
    # A network that is gone is no full disk.
    run.log.side_effect = lambda values, step: (
        (_ for _ in ()).throw(ConnectionError("no server")) if step == 7 else None
    )
    with pytest.raises(RunError, match="trackio failed: no server") as caught:
        train_run(resolve("train.epochs=2", "train.trackers=[trackio]"), tmp_path / "run")
    assert "--resume goes on" in str(caught.value)
    train_run(resolve("train.epochs=2"), tmp_path / "run", resume=True)
    assert str(contents(tmp_path / "run")) == str(contents(two_epochs))


def test_what_they_print_is_no_result(resolve, tmp_path, monkeypatch, capsys):
    module = stood_in("trackio", monkeypatch)
    module.init.return_value.finish.side_effect = lambda: sys.stdout.write("visit our page")
    train_run(resolve("train.epochs=1", "train.trackers=[trackio]"), tmp_path / "run")
    said = capsys.readouterr()
    assert said.out == "" and "visit our page" in said.err


@pytest.mark.parametrize("failing", ["trackio", "swanlab"])
def test_all_are_ended_where_one_fails_in_it(resolve, tmp_path, monkeypatch, failing):
    runs = {n: stood_in(n, monkeypatch).init.return_value for n in ("trackio", "swanlab")}
    runs[failing].finish.side_effect = RuntimeError("no room")
    with pytest.raises(RunError, match=f"{failing} failed: no room"):
        train_run(resolve("train.epochs=1", "train.trackers=[trackio, swanlab]"), tmp_path / "run")
    for run in runs.values():
        run.finish.assert_called_once()
    assert RunDirectory(tmp_path / "run").result() is not None


def test_those_that_started_are_ended_where_another_does_not(resolve, tmp_path, monkeypatch):
    first = stood_in("trackio", monkeypatch).init.return_value
    stood_in("swanlab", monkeypatch).init.side_effect = RuntimeError("who are you?")
    with pytest.raises(RunError, match=r"swanlab did not start: who are you\?") as caught:
        train_run(resolve("train.trackers=[trackio, swanlab]"), tmp_path / "run")
    assert "swanlab login" in str(caught.value)
    first.finish.assert_called_once()
