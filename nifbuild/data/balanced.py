"""The order of training images in which each class is drawn equally often."""

import hashlib
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from nifbuild.data.splits import Rows


class BalancedSampler(Sampler[int]):
    """As many draws as there are images, the same number of each class, in random order.

    Within a class, images are drawn without replacement: none twice before all others once. Where
    the number of draws is no multiple of that of classes, some, by chance, are drawn once more. The
    order follows from seed and epoch alone. (Of classes that are very unequal, such draws are
    called class-balanced sampling: Kang et al., arXiv 1910.09217.)

    A draw is the place of an image; a second one of the same image in an epoch is that place plus
    the number of images, and so on, as `ImageSet.repeated` takes them.
    """

    def __init__(self, labels: Rows, seed: int) -> None:
        """Takes the class of each image, shape [images], and the seed of training."""
        self.places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        self.number, self.seed, self.epoch = len(labels), seed, 0

    def __len__(self) -> int:
        return self.number

    def set_epoch(self, epoch: int) -> None:
        """Says which epoch is next, counted from 0."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        digest = hashlib.sha256(f"balanced/{self.seed}/{self.epoch}".encode()).digest()
        # Of numpy's generators, this one gives the same numbers in each version.
        stream = np.random.RandomState(np.frombuffer(digest, dtype="<u4"))
        each, more = divmod(self.number, len(self.places))
        counts = np.full(len(self.places), each)
        counts[stream.permutation(len(self.places))[:more]] += 1
        draws = [
            self._draws(places, count, stream)
            for places, count in zip(self.places, counts, strict=True)
        ]
        yield from stream.permutation(np.concatenate(draws)).tolist()

    def _draws(self, places: Rows, count: int, stream: np.random.RandomState) -> Rows:
        """So many draws of a class."""
        passes = -(-count // len(places))
        drawn = [stream.permutation(places) + again * self.number for again in range(passes)]
        return np.concatenate([*drawn, np.empty(0, dtype=np.int64)])[:count]
