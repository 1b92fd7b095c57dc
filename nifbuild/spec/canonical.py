"""A typed spec as YAML text that loads to the same spec."""

from collections.abc import Mapping
from typing import Any

import yaml

from nifbuild.spec.document import RunSpec
from nifbuild.spec.source import resolve_scalar


def canonical_text(spec: RunSpec) -> str:
    """The spec written out in full, one line for each op, defaults included, nulls left out."""
    return yaml_text(spec.model_dump(mode="json", by_alias=True, exclude_none=True))


def yaml_text(content: dict[str, Any]) -> str:
    """A spec's sections, given as plain data, as YAML with one line for each op."""
    return yaml.dump(
        _flowed(content), Dumper=_Dumper, sort_keys=False, width=2**20, allow_unicode=True
    )


def settings(spec: RunSpec) -> dict[str, Any]:
    """All values of a spec but for its ops, by dotted path, as in `train.optimizer.lr`."""
    bodies: Any = {"model": True, "auxiliary": {"__all__": {"body"}}}
    content = spec.model_dump(mode="json", by_alias=True, exclude=bodies)
    return flat({key: value for key, value in content.items() if value is not None})


def flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Mappings within mappings as one, by dotted path; empty ones stay."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        if isinstance(value, dict) and value:
            found |= {f"{key}.{within}": v for within, v in flat(value).items()}
        else:
            found[key] = value
    return found


class _Flow(dict[str, Any]):
    """A mapping that is written on one line."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _flowed(value: Any, depth: int = 0) -> Any:
    """The content with every mapping that holds no mappings, below the sections, on one line."""
    if isinstance(value, dict):
        items = {key: _flowed(item, depth + 1) for key, item in value.items()}
        nested = any(isinstance(item, dict) or _has_mapping(item) for item in value.values())
        return items if nested or depth < 2 else _Flow(items)
    if isinstance(value, list):
        return [_flowed(item, depth + 1) for item in value]
    return value


def _has_mapping(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(item, dict) for item in value)


def _represent_flow(dumper: yaml.SafeDumper, value: _Flow) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value.items(), flow_style=True)


def _represent_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    flow = not any(isinstance(item, dict) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flow)


def _represent_text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    # Quoted where YAML 1.2 would read something else than text; 1.1, which PyYAML writes, differs.
    style = None if isinstance(resolve_scalar(value), str) else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(_Flow, _represent_flow)
_Dumper.add_representer(list, _represent_list)
_Dumper.add_representer(str, _represent_text)
