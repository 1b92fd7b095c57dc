"""A class for each pixel, where telling it needs reach: a U-Net with filters as large as the image.

In the built-in data `distant_mark`, pixels are black or white at random, and the class of each is
what stands 12 pixels to its left. A U-Net of 3x3 convolutions with one halving does not see that
far, and is at chance: half of the pixels right, a mean IoU of a third. The same network with
implicit filters finds all. Run it with `python examples/unet_reach.py`: half a minute on a CPU.
"""

import tempfile
from pathlib import Path

from nifbuild import load_spec
from nifbuild.train.run import train_run

SPEC = """
version: 1
vars: {kind: standard, width: 8, num_classes: 2}
defaults: {conv: {kernel_size: 3}}
input: {channels: 1, size: 24}
blocks:
  double:
    args: {out_channels: int}
    body: [{op: filters, repeat: 2, id: conv$i, index: i, out_channels: $out_channels}, relu]
  filters:
    args: {out_channels: int}
    body: {id: filter, op: conv, kind: $kind, out_channels: $out_channels}
model:
  - {id: down, op: double, out_channels: $width}
  - {op: max_pool, kernel_size: 2}
  - {id: bottom, op: double, out_channels: $width * 2}
  - {id: enlarge, op: conv_transpose, out_channels: $width}
  - {op: concat, from: [down, previous]}
  - {id: up, op: double, out_channels: $width}
  - {id: head, op: conv, kernel_size: 1, out_channels: $num_classes}
data: {source: distant_mark, distance: 12, size: [24, 24], images: 300}
train:
  epochs: 6
  batch_size: 16
  optimizer: {lr: 0.01}
  monitor: miou
  trackers: []
  device: cpu
"""
KINDS = {
    "3x3 convolutions": [],
    "implicit filters": ["vars.kind=implicit_frequency", "defaults.conv.harmonics=4"],
}


def main() -> None:
    """Trains both, and prints what they reach on test images."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "unet.yaml"
        path.write_text(SPEC)
        for kind, overrides in KINDS.items():
            found = train_run(load_spec(path, overrides=overrides), Path(folder) / kind)
            print(f"{kind}: mean IoU {found.miou:.1%}, pixel accuracy {found.top1:.1%}")


if __name__ == "__main__":
    main()
