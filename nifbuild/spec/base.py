"""The base of every model that YAML may say."""

from pydantic import BaseModel, ConfigDict


class Spec(BaseModel):
    """A frozen, strict mapping: unknown keys and values of another type are errors.

    Docstrings under the fields become the descriptions in the JSON Schema, and so the help that an
    editor shows; they state units and the meaning of the default.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )
