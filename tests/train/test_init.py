"""`train.init`: runs that start from the weights of a checkpoint."""

import json
import re
import signal

import pytest
import safetensors.torch
import torch
from torch import nn

from nifbuild import build_model, evaluate_run, load_spec
from nifbuild.errors import InterruptedRun, RunError, SpecError
from nifbuild.machine.progress import Reporter
from nifbuild.runs.directory import RunDirectory
from nifbuild.train.initial_weights import fresh_model
from nifbuild.train.run import train_run


def weights(classes=10, conv2=(8, 6, 3, 3)):
    """What `SPEC` of conftest.py holds, with an ordinary second convolution; values all differ."""
    shapes = {
        "conv1.weight": (6, 1, 3, 3),
        "conv1.bias": (6,),
        "conv2.weight": conv2,
        "conv2.bias": (8,),
        "fc.weight": (classes, 8),
        "fc.bias": (classes,),
    }
    for name, width in (("bn1", 6), ("bn2", 8)):
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}.{part}"] = (width,)
    generator = torch.Generator().manual_seed(1)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def start(spec_file, tmp_path):
    """The tiny spec with `train.init`; its second convolution is ordinary unless said otherwise."""

    def load(init, *overrides, kind="standard"):
        path, text = tmp_path / "start.yaml", spec_file().read_text()
        path.write_text(text.replace("kind: implicit_frequency", f"kind: {kind}"))
        return load_spec(path, overrides=[f"train.init={init}", *overrides])

    return load


class Notes(Reporter):
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)


class StopAt(Reporter):
    def step(self, step, loss, images_per_second, memory):
        if step == 2:
            signal.raise_signal(signal.SIGTERM)


def save_as(form, content, tmp_path):
    path = tmp_path / f"weights.{form}"
    if form in ("safetensors", "unnamed"):  # the second is known by its content
        safetensors.torch.save_file(content, path)
    elif form == "old":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif form in ("state_dict", "model"):
        torch.save({"epoch": 3, form: content, "optimizer": {"lr": 0.1}}, path)
    elif form == "wrapped":  # as DataParallel names them
        torch.save({f"module.{name}": tensor for name, tensor in content.items()}, path)
    else:
        torch.save(content, path)
    return path


FORMS = ["safetensors", "unnamed", "pt", "old", "state_dict", "model", "wrapped"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_checkpoint(start, tmp_path, form):
    content = weights()
    model = fresh_model(start(save_as(form, content, tmp_path)))
    state = model.state_dict()
    assert len(content) == len(state) - 2  # the file has no counters of batches
    for name, tensor in content.items():
        assert torch.equal(state[name], tensor), name


def test_half_precision_becomes_float32(start, tmp_path):
    content = {name: tensor.half() for name, tensor in weights().items()}
    state = fresh_model(start(save_as("pt", content, tmp_path))).state_dict()
    assert state["conv1.weight"].dtype == torch.float32
    assert torch.equal(state["conv1.weight"], content["conv1.weight"].float())


def test_a_run_starts_from_them_and_says_so(start, tmp_path):
    content = weights()
    path = save_as("pt", content, tmp_path)
    resolved = start(path, "train.optimizer={name: sgd, lr: 1e-30, weight_decay: 0}")
    notes = Notes()
    train_run(resolved, tmp_path / "run", report=notes)
    run = RunDirectory(tmp_path / "run")
    saved = safetensors.torch.load_file(run.checkpoints[-1] / "model.safetensors")
    for name in ("conv1.weight", "conv2.weight", "fc.weight"):
        assert torch.allclose(saved[name], content[name])
    assert notes.texts[0] == f"weights from {path}: 14 of 14 tensors"
    record = json.loads((run.path / "init.json").read_text())
    assert record["file"] == str(path)
    assert sorted(record["loaded"]) == sorted(content)
    assert record["fresh"] == record["unused"] == []
    assert re.fullmatch("[0-9a-f]{64}", record["fingerprint"])
    path.unlink()  # an evaluation needs the run alone
    assert evaluate_run(run.path).only.num_samples == 17


@pytest.mark.parametrize("which", ["run", "checkpoint"])
def test_from_a_run_the_weights_that_its_evaluation_uses(start, resolve, tmp_path, which):
    first = tmp_path / "first"
    content = save_as("pt", weights(), tmp_path)
    result = train_run(start(content, "train.ema=0.5", "train.keep=9"), first).document()
    best = first / "checkpoints" / result["checkpoint"]
    other = next(p for p in RunDirectory(first).checkpoints if p != best)
    source = first if which == "run" else other
    average = safetensors.torch.load_file((best if which == "run" else other) / "ema.safetensors")
    state = fresh_model(start(source)).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in average.items())


def test_implicit_convolutions_start_fresh_where_the_file_has_ordinary_ones(start, tmp_path):
    content = weights()
    resolved = start(save_as("pt", content, tmp_path), kind="implicit_frequency")
    drawn = fresh_model(load_spec(tmp_path / "start.yaml")).state_dict()
    state = fresh_model(resolved).state_dict()
    for name in state:
        expected = content[name] if name in content else drawn[name]
        assert torch.equal(state[name], expected), name
    notes = Notes()
    train_run(resolved, tmp_path / "run", report=notes)
    head, fresh, unused = notes.texts[0].splitlines()
    own = {n for n in state if n.startswith("conv2.") and n != "conv2.bias"}
    assert head.endswith(f": 13 of {13 + len(own)} tensors")
    assert fresh == "  freshly drawn: conv2"
    assert unused == "  in the file, and not used: conv2"
    record = json.loads((tmp_path / "run" / "init.json").read_text())
    assert set(record["fresh"]) == own
    assert record["unused"] == ["conv2.weight"]


def test_implicit_convolutions_take_over_implicit_ones(start, resolve, tmp_path):
    train_run(resolve(), tmp_path / "first")
    best = RunDirectory(tmp_path / "first").find_checkpoint()
    expected = safetensors.torch.load_file(best / "model.safetensors")
    state = fresh_model(start(tmp_path / "first", kind="implicit_frequency")).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_another_number_of_classes_is_refused_with_a_way_out(start, tmp_path):
    path = save_as("pt", weights(classes=1000), tmp_path)
    resolved = start(path)
    with pytest.raises(SpecError) as caught, resolved.placing():
        train_run(resolved, tmp_path / "run")
    (problem,) = caught.value.problems
    assert problem.where is not None and problem.where.file == f"--set train.init={path}"
    assert problem.what == (
        "fc: weight is 1000x8 in the file and 10x8 in the model, "
        "bias is 1000 in the file and 10 in the model"
    )
    says, hint = problem.fix.splitlines()
    assert says == "the file is for 1000 classes and the model for 10"
    way_out = re.search(r"train\.init: (\{.*\})$", hint)
    assert way_out is not None
    assert not (tmp_path / "run").exists()
    train_run(start(way_out[1]), tmp_path / "run")
    record = json.loads((tmp_path / "run" / "init.json").read_text())
    assert record["fresh"] == record["unused"] == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize("selector", ["fc", "fc.*", "f*", "**.weight", "fc.weight"])
def test_selectors_mean_weights_or_modules(start, tmp_path, selector):
    content = weights()
    init = f"{{from: {save_as('pt', content, tmp_path)}, skip: ['{selector}']}}"
    state = fresh_model(start(init)).state_dict()
    skipped = {"**.weight": {n for n in content if n.endswith(".weight")}}
    skipped |= {name: {"fc.weight", "fc.bias"} for name in ("fc", "fc.*", "f*")}
    different = {name for name in content if not torch.equal(state[name], content[name])}
    assert different == skipped.get(selector, {"fc.weight"})


def changed(**changes):
    content = weights()
    for name, shape in changes.items():
        if shape is None:
            del content[name.replace("__", ".")]
        else:
            content[name.replace("__", ".")] = torch.zeros(shape)
    return content


@pytest.mark.parametrize(
    ("content", "skip", "what", "fix"),
    [
        (
            changed(conv2__weight=(8, 6, 5, 5)),
            "[]",
            "conv2: weight is 8x6x5x5 in the file and 8x6x3x3 in the model",
            "skip: [conv2]}",
        ),
        (
            changed(bn1__weight=None, bn1__bias=None),
            "[]",
            "bn1: the file has no weight (6), bias (6)",
            "skip: [bn1]}",
        ),
        (
            changed(fc__weight=None, fc__wieght=(10, 8)),
            "[]",
            "fc: the file has no weight (10x8)",
            "did you mean 'fc.wieght'? (fc.wieght is 10x8)",
        ),
        (
            changed(fc__weight=None, fc__wieght=(10, 8)),
            "[]",
            "fc: the file has wieght (10x8), for which the model has no place",
            "did you mean 'fc.weight'? (fc.weight is 10x8)",
        ),
        (
            changed(head__scale=()),
            "[conv1]",
            "head: the file has scale (a number), for which the model has no place",
            "skip: [conv1, head.scale]}",
        ),
        (changed(), "[fcc]", "skip: 'fcc' selects neither a weight nor a module", "'fc'"),
        (changed(), "['zzz.*']", "skip: 'zzz.*' selects neither", "modules: conv1, bn1,"),
        (changed(), "['**']", "is used: all of the model starts freshly drawn", "skip less"),
    ],
)
def test_what_does_not_fit(start, tmp_path, content, skip, what, fix):
    path = save_as("pt", content, tmp_path)
    with pytest.raises(SpecError) as caught:
        fresh_model(start(f"{{from: {path}, skip: {skip}}}"))
    (problem,) = [p for p in caught.value.problems if what in p.what]
    assert fix in problem.fix
    assert problem.path.startswith("train.init")


def test_another_architecture_is_few_lines(tmp_path):
    content = build_model(load_spec("specs/architectures/resnet18.yaml")).state_dict()
    path = save_as("pt", content, tmp_path)
    resolved = load_spec("specs/architectures/resnet50.yaml", overrides=[f"train.init={path}"])
    with pytest.raises(SpecError) as caught:
        fresh_model(resolved)
    *shown, last = caught.value.problems
    assert len(shown) == 8
    assert re.fullmatch(r"\d+ more modules do not fit", last.what)


@pytest.mark.parametrize(
    ("name", "content", "error", "what", "fix"),
    [
        ("weigths.pt", None, SpecError, "there is no", "did you mean 'weights.pt'?"),
        ("text.pt", b"not a checkpoint", SpecError, "is not a checkpoint", "safetensors"),
        ("empty.pt", b"", RunError, "it is empty", "damaged"),
        ("cut.safetensors", b"\x40\0\0\0\0\0\0\0{", RunError, "cannot be read", "damaged"),
        ("cut.pt", b"PK\x03\x04 and no more", RunError, "cannot be read", "damaged"),
        ("cut_old.pt", b"\x80\x02 and no more", RunError, "cannot be read", "damaged"),
        ("list.pt", [torch.zeros(2)], SpecError, "no state_dict", "a list"),
        ("tensor.pt", torch.zeros(2), SpecError, "no state_dict", "a Tensor"),
        ("nested.pt", {"net": {"fc": weights()}}, SpecError, "no state_dict", "the keys net"),
        ("deep.pt", {"model": {"fc": weights()}}, SpecError, "no state_dict", "the keys model"),
        ("none.pt", {}, SpecError, "no state_dict", "a dict"),
        ("numbered.pt", {1: torch.zeros(2)}, SpecError, "no state_dict", "the keys 1"),
        ("other.pt", {"epoch": 1}, SpecError, "no state_dict", "the keys epoch"),
        ("module.pt", nn.Linear(1, 1), SpecError, "holds Python objects", "state_dict()"),
        (".", None, SpecError, "neither a run directory nor one", "nifbuild train"),
        ("nowhere/a.pt", None, SpecError, "there is no", "working directory"),
    ],
)
def test_files_that_are_no_checkpoint(start, tmp_path, name, content, error, what, fix):
    save_as("pt", weights(), tmp_path)
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(error) as caught:
        fresh_model(start(path))
    (problem,) = caught.value.problems
    assert what in problem.what and fix in problem.fix
    assert "weights_only" not in str(problem)
    assert problem.path == "train.init"


def test_the_published_densenet_has_names_of_old(tmp_path):
    resolved = load_spec("specs/architectures/densenet121.yaml")
    content = build_model(resolved).state_dict()
    old = re.compile(r"(denselayer\d+\.(?:norm|conv))([12])\.")
    renamed = {old.sub(r"\1.\2.", name): tensor for name, tensor in content.items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in renamed
    path = save_as("pt", renamed, tmp_path)
    resolved = load_spec("specs/architectures/densenet121.yaml", overrides=[f"train.init={path}"])
    state = fresh_model(resolved).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in content.items())


def test_resume_goes_on_bit_for_bit_and_refuses_other_weights(start, tmp_path):
    content = weights()
    path = save_as("pt", content, tmp_path)
    resolved = start(path)
    whole = train_run(resolved, tmp_path / "whole").document()
    with pytest.raises(InterruptedRun):
        train_run(resolved, tmp_path / "run", report=StopAt())
    content["conv1.bias"][0] += 1
    torch.save(content, path)
    with pytest.raises(SpecError, match="fingerprint of the weights to start from has changed"):
        train_run(resolved, tmp_path / "run", resume=True)
    content["conv1.bias"] = weights()["conv1.bias"]
    torch.save({"model": content}, path)  # another file, the same weights
    resumed = train_run(resolved, tmp_path / "run", resume=True).document()
    assert [resumed[key] for key in ("loss", "top1")] == [whole[key] for key in ("loss", "top1")]


def test_the_spec_of_a_run_says_where_it_started(start, tmp_path):
    resolved = start("{from: a.pt, skip: [fc]}")
    assert "init: {from: a.pt, skip: [fc]}" in resolved.text
    path = tmp_path / "again.yaml"
    path.write_text(resolved.text)
    assert load_spec(path).spec == resolved.spec
    with pytest.raises(SpecError, match=r"train\.init\.form: unknown field"):
        start("{form: a.pt}")


def nested(layout):
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=layout)


@pytest.mark.filterwarnings("ignore")  # some of these are deprecated, or in beta
@pytest.mark.parametrize(
    ("convert", "what"),
    [
        (lambda ones: ones.to("meta"), "has no values"),
        (torch.Tensor.to_sparse, r"is a sparse tensor \(sparse_coo\)"),
        (torch.Tensor.to_sparse_csr, r"is a sparse tensor \(sparse_csr\)"),
        (lambda ones: torch.quantize_per_tensor(ones, 0.1, 0, torch.quint8), "is quantised"),
        (lambda ones: nested(torch.jagged), "is a nested tensor"),
        (lambda ones: nested(torch.strided), "is a nested tensor"),
        (lambda ones: ones.to(torch.complex64), "is complex64 in the file and float32"),
        (torch.Tensor.int, "is int32 in the file and float32"),
        (torch.Tensor.bool, "is bool in the file and float32"),
        (lambda ones: ones * float("nan"), "holds nan"),
        (lambda ones: (ones * float("-inf")).half(), "holds -inf"),
    ],
)
def test_tensors_that_are_no_weights(start, tmp_path, convert, what):
    tensor = convert(torch.ones(10, 8))
    path = save_as("pt", {**weights(), "fc.weight": tensor}, tmp_path)
    with pytest.raises(SpecError, match=f"train.init: fc.weight {what}") as caught:
        fresh_model(start(path))
    assert "skip: [fc.weight]" in str(caught.value)
    state = fresh_model(start(f"{{from: {path}, skip: [fc.weight]}}")).state_dict()
    assert torch.equal(state["conv1.weight"], weights()["conv1.weight"])


def test_numbers_in_any_floating_type_are_weights(start, tmp_path):
    expected = fresh_model(start(save_as("pt", weights(), tmp_path))).state_dict()
    content = {name: nn.Parameter(tensor.double()) for name, tensor in weights().items()}
    content["bn1.num_batches_tracked"] = torch.tensor(3.0)  # as scripts do that convert all
    state = fresh_model(start(save_as("pt", content, tmp_path))).state_dict()
    assert state.pop("bn1.num_batches_tracked") == 3
    assert all(torch.equal(expected[name], tensor) for name, tensor in state.items())
