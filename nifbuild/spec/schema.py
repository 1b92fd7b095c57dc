"""JSON Schema of the language, for editors; generated from the models.

An editor sees one file at a time, before variables, `defaults` and `extends` have done their work.
So the schema also takes `$name` for any value, a block's name for an op, and does not demand fields
that another file may give.
"""

from typing import Any

from nifbuild.spec.document import SpecFile
from nifbuild.spec.ops import OPS, Op, all_op_classes, load_all_installed
from nifbuild.spec.study import StudySpec

_EXPRESSION = {
    "type": "string",
    "pattern": r"\$[A-Za-z_]",
    "description": "a variable, or arithmetic with variables",
}
_FREE_SECTIONS = ("vars", "defaults", "extends", "version")
_IDENTITY = ("op", "source")


def json_schema() -> dict[str, Any]:
    """The schema of a spec file, draft 2020-12."""
    load_all_installed()
    schema = SpecFile.model_json_schema()
    definitions: dict[str, Any] = schema["$defs"]
    for op_class in all_op_classes():
        if op_class.__name__ not in definitions:  # of an installed package
            own = op_class.model_json_schema()
            definitions.update(own.pop("$defs", {}))
            definitions[op_class.__name__] = own
        _loosen_op(definitions[op_class.__name__], op_class)
    bodies = {c.__name__ for c in all_op_classes()}
    for name, definition in definitions.items():
        _loosen(definition, keep_required=("op", "body") if name in bodies else ())
    for name, field in schema["properties"].items():
        if name not in _FREE_SECTIONS and "$ref" not in field:
            schema["properties"][name] = _or_expression(field)
    schema.pop("required", None)
    definitions["Body"] = _body(definitions)
    definitions["Branches"] = _branches()
    schema["properties"]["model"] = _described(schema["properties"]["model"], "#/$defs/Body")
    for name in ("Block", "AuxiliaryHead"):
        definitions[name]["properties"]["body"] = {"$ref": "#/$defs/Body"}
    for name, field in (("Insertion", "before"), ("Insertion", "after"), ("Patch", "replace")):
        properties = definitions[name]["properties"]
        properties[field] = _described(properties[field], "#/$defs/Body")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "nifbuild spec"
    result: dict[str, Any] = _any_of(schema)
    return result


def study_schema() -> dict[str, Any]:
    """The schema of a study, draft 2020-12; fragments have the sections of a spec."""
    schema = StudySpec.model_json_schema()
    spec = json_schema()
    definitions = spec.pop("$defs")
    definitions["Fragment"] = spec
    axis = {"anyOf": [{"type": "array", "minItems": 1}, {"$ref": "#/$defs/Labels"}]}
    fragment = {"anyOf": [{"$ref": "#/$defs/Fragment"}, {"type": "null"}]}
    definitions["Labels"] = {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": fragment,
    }
    schema["properties"]["matrix"]["additionalProperties"] = axis
    schema["oneOf"] = [{"required": ["matrix"]}, {"required": ["search"]}]
    schema["$defs"] = {**schema.get("$defs", {}), **definitions}
    schema["$schema"] = spec.pop("$schema")
    schema["title"] = "nifbuild study"
    return schema


def _body(definitions: dict[str, Any]) -> dict[str, Any]:
    """An op, or a list of ops."""
    names = sorted(OPS)
    definitions["BlockCall"] = {
        "type": "object",
        "description": "A block of this spec, with its arguments.",
        "properties": {"op": {"type": "string", "not": {"enum": names}}, **repeat_fields()},
        "required": ["op"],
    }
    refs = [{"$ref": f"#/$defs/{c.__name__}"} for c in all_op_classes()]
    named = {"anyOf": [{"enum": names}, {"type": "string", "minLength": 1}]}
    definitions["OpItem"] = {"anyOf": [named, *refs, {"$ref": "#/$defs/BlockCall"}]}
    item = {"$ref": "#/$defs/OpItem"}
    return {"anyOf": [item, {"type": "array", "items": item}]}


def _branches() -> dict[str, Any]:
    """Bodies side by side, with names or without."""
    body = {"$ref": "#/$defs/Body"}
    listed = {"type": "array", "items": body}
    named = {"type": "object", "not": {"required": ["op"]}, "additionalProperties": body}
    return {"anyOf": [{"$ref": "#/$defs/OpItem"}, listed, named]}


def repeat_fields() -> dict[str, Any]:
    """The schema of the fields of every op that say whether and how often it stands there."""
    count = {"type": "integer", "minimum": 1}
    truth = {"anyOf": [{"type": "boolean"}, _EXPRESSION]}
    fields = {"type": "array", "items": {"type": "object"}, "minItems": 1}
    return {
        "when": {**truth, "description": "Whether the op is there; if not, it leaves no trace."},
        "repeat": {
            "anyOf": [count, fields, _EXPRESSION],
            "description": "How often the op stands here, one after another; or a list with the "
            "fields of each repetition.",
        },
        "first": {"type": "object", "description": "Fields of the first repetition."},
        "last": {"type": "object", "description": "Fields of the last repetition."},
        "index": {
            "type": "string",
            "description": "A variable that holds the number of the repetition, from 0.",
        },
    }


def _loosen_op(definition: dict[str, Any], op_class: type[Op]) -> None:
    properties = definition["properties"]
    for field, words in op_class.bodies.items():
        ref = "#/$defs/Branches" if field in op_class.parallel else "#/$defs/Body"
        properties[field] = _described(properties[field], ref, words)
    for field in ("id", "from"):
        properties[field] = {
            **properties[field],
            "anyOf": [*properties[field]["anyOf"], {"type": "integer", "minimum": 0}],
        }
    properties.update(repeat_fields())


def _described(old: dict[str, Any], ref: str, words: tuple[str, ...] = ()) -> dict[str, Any]:
    kept = _kept(old)
    options = [{"enum": list(words)}] if words else []
    return {**kept, "anyOf": [*options, {"$ref": ref}]}


def _loosen(definition: dict[str, Any], keep_required: tuple[str, ...]) -> None:
    if "properties" not in definition:
        return
    for name, field in definition["properties"].items():
        if name not in _IDENTITY:
            definition["properties"][name] = _or_expression(field)
    required = [name for name in definition.get("required", ()) if name in keep_required]
    definition.pop("required", None)
    if required:
        definition["required"] = required


def _or_expression(field: dict[str, Any]) -> dict[str, Any]:
    kept = _kept(field)
    rest = {key: value for key, value in field.items() if key not in kept}
    return {**kept, "anyOf": [_items_too(rest), _EXPRESSION]}


def _items_too(field: dict[str, Any]) -> dict[str, Any]:
    """Lets expressions stand for the values in lists, as in `size: [$s, $s]`."""
    loose = dict(field)
    for word in ("anyOf", "oneOf"):
        if word in field:
            loose[word] = [_items_too(option) for option in field[word]]
    if "prefixItems" in field:
        loose["prefixItems"] = [_or_expression(item) for item in field["prefixItems"]]
    if isinstance(field.get("items"), dict):
        loose["items"] = _or_expression(field["items"])
    return loose


def _kept(field: dict[str, Any]) -> dict[str, Any]:
    return {key: field[key] for key in ("description", "default", "title") if key in field}


def _any_of(value: Any) -> Any:
    """`oneOf` as `anyOf`: with a variable for `kind`, more than one form may fit."""
    if isinstance(value, list):
        return [_any_of(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        ("anyOf" if key == "oneOf" else key): _any_of(item)
        for key, item in value.items()
        if key != "discriminator"
    }
