"""A spec that has the number of classes of its images, where folders alone tell it; no torch."""

import os
from collections.abc import Sequence

from nifbuild.data.class_names import check_num_classes, require_several
from nifbuild.spec.data import ImageFolderData
from nifbuild.spec.resolve import Resolved, load_spec


def load_counted(
    path: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    overrides: Sequence[str] = (),
) -> Resolved:
    """Reads a spec as `load_spec`; one whose image folder is there gets its number of classes.

    So it is the model that would be trained, and what does not suit these images is told before.

    Raises:
        SpecError: With all problems of the spec, or where it does not suit its images.
        RunError: The folder cannot be read, or its class folders are not in order.
    """
    resolved = load_spec(path, data=data, overrides=overrides)
    images = resolved.spec.data
    if not isinstance(images, ImageFolderData):
        return resolved
    from nifbuild.data.folders import class_names, folder_of

    if not folder_of(images).is_dir():  # it may be on another machine
        return resolved
    with resolved.placing():
        names = class_names(images)
        require_several(names)
        check_num_classes(images, names)
        return resolved.adopt(len(names))
