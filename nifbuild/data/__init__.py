"""Images and labels: sources, splits, decoding, augmentation.

`open_data(spec)` finds rows, classes and splits without decoding an image; `Catalog.load` gives
sets of images; `Preprocess` turns their batches into what a model takes. Reading order: `sources`
(and `folders`, `hub`; they share `listing`, `table_cache`), `columns`, `splits`, `catalog`,
`decode` (and `crops`, `modes`), `images`, `augment`, `batches`.
"""

from nifbuild.data.augment import Preprocess
from nifbuild.data.catalog import Catalog, open_data
from nifbuild.data.images import Batch, ImageData, ImageSet

__all__ = ["Batch", "Catalog", "ImageData", "ImageSet", "Preprocess", "open_data"]
