"""The one place where YAML is read: scenarios, quorums, channels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from .errors import ConfigError

__all__ = ["read_yaml"]


def read_yaml(path: Path, what: str = "") -> dict[str, Any]:
    """The mapping of fields in a file of YAML or JSON.

    what  the kind of file, for the error where it cannot be read, such as "scenario"
    Raises ConfigError, in one line: for a file that cannot be read, is not YAML or holds no mapping, and for a key that
    stands twice in one mapping, which YAML itself forbids and its readers let pass.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read {what + ' ' if what else ''}{path}: {reason}") from None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if twice := _twice(loader, node):
            raise ConfigError(f"{path}: {twice}")
        data = None if node is None else loader.construct_document(node)
        json.dumps(data, default=str, skipkeys=True)  # ValueError where a list holds itself, by an alias
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # The last three are what PyYAML makes of tags whose values do not fit, and of too deep nesting.
        raise ConfigError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if data is None:
        raise ConfigError(f"{path} is empty: it must hold a mapping of fields")
    if not isinstance(data, dict):
        found = "a list" if isinstance(data, list) else "a single value"
        raise ConfigError(f"{path} must hold a mapping of fields, not {found}")
    return data


def _twice(loader: yaml.SafeLoader, root: yaml.Node | None) -> str:
    """What to say of the first mapping with a key given twice; empty where there is none.

    Nodes are looked at before anything is constructed: what `<<` merges in may be given anew.
    """
    left, seen = [root], set()
    while left:
        node = left.pop()
        # Aliases are the same node again, and may go in circles.
        if id(node) in seen:
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left += reversed(node.value)
        elif isinstance(node, yaml.MappingNode):
            lines: dict[Any, int] = {}
            for key, value in node.value:
                left.append(value)
                if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                    continue
                name, line = loader.construct_object(key), key.start_mark.line + 1
                if name in lines:
                    return f"'{key.value}' is given twice, in lines {lines[name]} and {line}"
                lines[name] = line
    return ""
