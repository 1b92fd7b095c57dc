"""Images and labels: sources, splits, decoding, augmentation.

`open_data(spec)` finds rows, classes and splits without decoding an image; `Catalog.load` gives
sets of images; `Preprocess` turns their batches into what a model takes. Reading order: `sources`
(and `folders`, `hub`; they share `listing`, `table_cache`), `columns`, `splits`, `catalog`,
`decode` (and `crops`, `modes`), `images`, `augment`, `batches`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nifbuild.data.augment import Preprocess
    from nifbuild.data.catalog import Catalog, open_data
    from nifbuild.data.images import Batch, ImageData, ImageSet

__all__ = ["Batch", "Catalog", "ImageData", "ImageSet", "Preprocess", "open_data"]

_HOMES = {
    "Batch": "nifbuild.data.images",
    "Catalog": "nifbuild.data.catalog",
    "ImageData": "nifbuild.data.images",
    "ImageSet": "nifbuild.data.images",
    "Preprocess": "nifbuild.data.augment",
    "open_data": "nifbuild.data.catalog",
}


def __getattr__(name: str) -> Any:
    """Imports the names above on first use: to count the folders of classes, no torch is needed."""
    if name not in _HOMES:
        raise AttributeError(f"module 'nifbuild.data' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
