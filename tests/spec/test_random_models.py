"""Random models from the language's grammar compile, run, and can be written out and read again.

The generator keeps its own account of shapes, by which those that are inferred are judged; torch
judges both.
"""

import random
from dataclasses import dataclass, field

import pytest
import torch
import yaml

from nifbuild import build_model, load_spec

NUM_MODELS = 80
NUM_SLOW = 2_000


@dataclass
class Generator:
    """Writes ops and knows, for every id, the channels and the (square) size of what it gives."""

    rng: random.Random
    count: int = 0
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By full path, all that later ops may refer to."""

    def id(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def body(self, shape, prefix, depth, keep_size):
        """A few ops, and the shape after them."""
        ops = []
        for _ in range(self.rng.randint(1, 4)):
            op, shape = self.op(shape, prefix, depth, keep_size)
            ops.append(op)
        return ops, shape

    def op(self, shape, prefix, depth, keep_size):
        makers = [self.conv, self.conv, self.plain, self.shuffle, self.reference, self.repeat]
        if not keep_size:
            makers += [self.pool, self.upsample]
        if depth < 3:
            makers += [self.sequence, self.residual, self.concat, self.add, self.gate]
        return self.rng.choice(makers)(shape, prefix, depth, keep_size)

    def named(self, op, shape, prefix):
        """The op, most often with an id."""
        if self.rng.random() < 0.7:
            op = {"id": self.id(), **op}
            self.shapes[prefix + op["id"]] = shape
        return op, shape

    def conv(self, shape, prefix, depth, keep_size, channels=None):
        channels = channels or self.rng.choice([2, 4, 6, 12])
        stride = 1 if keep_size else self.rng.choice([1, 1, 2])
        op = {"op": "conv", "out_channels": channels, "stride": stride}
        op["kernel_size"] = self.rng.choice([1, 3, 5])
        if self.rng.random() < 0.3:
            op["kind"] = "implicit_frequency"
        return self.named(op, (channels, -(-shape[1] // stride)), prefix)

    def plain(self, shape, prefix, depth, keep_size):
        name = self.rng.choice(["relu", "gelu", "batch_norm", "layer_norm", "layer_scale"])
        return self.named({"op": name}, shape, prefix)

    def shuffle(self, shape, prefix, depth, keep_size):
        return self.named({"op": "channel_shuffle", "groups": 2}, shape, prefix)

    def pool(self, shape, prefix, depth, keep_size):
        if shape[1] < 2:
            return self.plain(shape, prefix, depth, keep_size)
        op = {"op": "max_pool", "kernel_size": 2}
        return self.named(op, (shape[0], shape[1] // 2), prefix)

    def upsample(self, shape, prefix, depth, keep_size):
        if shape[1] > 16:
            return self.plain(shape, prefix, depth, keep_size)
        return self.named({"op": "upsample"}, (shape[0], 2 * shape[1]), prefix)

    def reference(self, shape, prefix, depth, keep_size):
        """Joins what an earlier op gave: by its whole path, or the part below a level around."""
        fitting = [path for path, (_, size) in self.shapes.items() if size == shape[1]]
        if not fitting:
            return self.plain(shape, prefix, depth, keep_size)
        path = self.rng.choice(fitting)
        short = path.removeprefix(prefix) if self.rng.random() < 0.5 else path
        joins = [("concat", shape[0] + self.shapes[path][0])]
        if self.shapes[path] == shape:
            joins += [("sum", shape[0]), ("multiply", shape[0])]
        name, channels = self.rng.choice(joins)
        op = {"op": name, "from": self.rng.sample(["previous", short], 2)}
        return self.named(op, (channels, shape[1]), prefix)

    def repeat(self, shape, prefix, depth, keep_size):
        op, _ = self.conv(shape, prefix, depth, True, shape[0])
        name = op.pop("id", None)
        times = self.rng.randint(1, 3)
        if name is None:
            return {**op, "repeat": times}, shape
        self.shapes.update({f"{prefix}{name}.{i}": shape for i in range(times)})
        return {"id": name, **op, "repeat": times}, shape

    def level(self, prefix):
        """An id for a structure and the prefix of the names in it; both may say nothing."""
        if self.rng.random() < 0.5:
            return {}, prefix
        name = self.id()
        return {"id": name}, f"{prefix}{name}."

    def closed(self, level, op, shape, prefix):
        if level:
            self.shapes[prefix + level["id"]] = shape
        return {**level, **op}, shape

    def sequence(self, shape, prefix, depth, keep_size):
        level, inner = self.level(prefix)
        ops, after = self.body(shape, inner, depth + 1, keep_size)
        return self.closed(level, {"op": "sequence", "body": ops}, after, prefix)

    def residual(self, shape, prefix, depth, keep_size):
        level, inner = self.level(prefix)
        # The auto shortcut is named `downsample`; in a level of its own it meets no other one.
        level = level or {"id": self.id()}
        inner = f"{prefix}{level['id']}."
        ops, after = self.body(shape, inner, depth + 1, True)
        depth_field = {"stochastic_depth": {"rate": 0.2}} if self.rng.random() < 0.3 else {}
        return self.closed(level, {"op": "residual", "body": ops, **depth_field}, after, prefix)

    def branches(self, shape, prefix, depth, count, channels=None):
        """Branches of one size: as a mapping of names, or a list."""
        named = self.rng.random() < 0.5
        bodies, total, names = [], 0, [self.id() for _ in range(count)]
        for name in names:
            inner = f"{prefix}{name}." if named else prefix
            ops, after = self.body(shape, inner, depth + 1, True)
            if channels is not None:
                last, after = self.conv(after, inner, depth, True, channels)
                ops.append(last)
            bodies.append(ops)
            total += after[0]
            if named:
                self.shapes[inner.rstrip(".")] = after
        return (dict(zip(names, bodies, strict=True)) if named else bodies), total

    def concat(self, shape, prefix, depth, keep_size):
        level, inner = self.level(prefix)
        if shape[0] % 4 == 0 and self.rng.random() < 0.5:
            branches, total = self.branches((shape[0] // 2, shape[1]), inner, depth, 2)
            op = {"op": "concat", "split": "even", "branches": branches}
        else:
            branches, total = self.branches(shape, inner, depth, self.rng.randint(1, 3))
            op = {"op": "concat", "branches": branches}
        return self.closed(level, op, (total, shape[1]), prefix)

    def add(self, shape, prefix, depth, keep_size):
        level, inner = self.level(prefix)
        branches, _ = self.branches(shape, inner, depth, self.rng.randint(1, 3), 4)
        return self.closed(level, {"op": "sum", "branches": branches}, (4, shape[1]), prefix)

    def gate(self, shape, prefix, depth, keep_size):
        squeeze = {"op": "conv", "out_channels": 2, "kernel_size": 1}
        excite = {"op": "conv", "out_channels": shape[0], "kernel_size": 1}
        gate = ["global_avg_pool", squeeze, "relu", excite, "sigmoid"]
        return self.named({"op": "multiply", "branches": ["identity", gate]}, shape, prefix)


def check(seed, folder):
    generator = Generator(random.Random(seed))
    ops, expected = generator.body((4, 8), "", 0, False)
    path = folder / "random.yaml"
    content = {"version": 1, "input": {"channels": 4, "size": 8}, "model": ops}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    resolved = load_spec(path)
    found = resolved.graph.output_shape
    assert (found.channels, found.size) == (expected[0], (expected[1],) * 2)
    for node in resolved.graph.nodes:
        if node.path in generator.shapes:
            channels, size = generator.shapes[node.path]
            assert (node.output_shape.channels, *node.output_shape.size) == (channels, size, size)
    with torch.device("meta"):
        model = build_model(resolved)
        output = model(torch.zeros(3, 4, 8, 8, requires_grad=True))
        assert output.shape == (3, expected[0], expected[1], expected[1])
        output.sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    path.write_text(resolved.text)
    again = load_spec(path)
    assert again.spec == resolved.spec and again.graph.nodes == resolved.graph.nodes
    return {node.op.op for node in resolved.graph.nodes} | {op["op"] for op in ops}


@pytest.mark.parametrize(
    "start",
    [
        *range(0, NUM_MODELS, 40),
        *(pytest.param(s, marks=pytest.mark.slow) for s in range(NUM_MODELS, NUM_SLOW, 40)),
    ],
)
def test_random_models(start, tmp_path):
    seen = set()
    for seed in range(start, start + 40):
        seen |= check(seed, tmp_path)
    assert {"conv", "concat", "add", "multiply", "channel_slice", "upsample"} <= seen
