"""What is wrong with a configuration, in one line that names the field and the nearest valid one."""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import ValidationError

from .errors import did_you_mean

__all__ = ["first_problem"]


def first_problem(error: ValidationError, schema: dict[str, Any]) -> str:
    """The first problem; `schema` is the JSON Schema that the file should have met.

    An unknown key comes before whatever else is wrong: what is missing has often been written in another way.
    """
    problem = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _keys_at(schema, problem["loc"][:-1])
        return f"unknown key '{place}': {did_you_mean(str(problem['loc'][-1]), known)}"
    if problem["type"] == "union_tag_invalid":
        kinds = [kind.strip("'") for kind in problem["ctx"]["expected_tags"].split(", ")]
        return (
            f"{place}: unknown kind '{problem['ctx']['tag']}': {did_you_mean(problem['ctx']['tag'], kinds)}"
        )
    if problem["type"] == "union_tag_not_found":
        return f"{place}.kind: Field required"
    message = _in_yaml(problem["msg"].removeprefix("Value error, "))
    given = "" if problem["type"] == "missing" else f" (given: {_shown(problem['input'])[:60]})"
    return f"{place}: {message}{given}" if place else f"{message}"


def _in_yaml(message: str) -> str:
    """pydantic's words in those of the file: it has lists and mappings, not Python's tuples and models."""
    for pattern, said in (
        ("a valid tuple", "a list"),
        ("Tuple", "List"),
        (" after validation", ""),
        (r"a valid dictionary or (an )?instance of \w+", "a mapping of fields"),
        ("a valid dictionary", "a mapping"),
    ):
        message = re.sub(pattern, said, message)
    return message


def _shown(value: Any) -> str:
    try:
        return json.dumps(value, default=str)
    except TypeError:  # YAML knows keys that JSON does not, dates for one
        return str(value)


def _keys_at(schema: dict[str, Any], place: tuple[int | str, ...]) -> list[str]:
    """Valid keys at a place of the schema; the tags of unions count as steps of the way."""
    nodes = [schema]
    for step in place:
        following: list[dict[str, Any]] = []
        for node in _open(schema, nodes):
            if isinstance(step, int):
                following += [node[key] for key in ("items",) if isinstance(node.get(key), dict)]
            elif step in node.get("properties", {}):
                following.append(node["properties"][step])
            elif node.get("properties", {}).get("kind", {}).get("const") == step:
                following.append(node)
        nodes = following or nodes
    return [key for node in _open(schema, nodes) for key in node.get("properties", {})]


def _open(schema: dict[str, Any], nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Follow references and unions down to nodes that say what they hold."""
    opened: list[dict[str, Any]] = []
    for node in nodes:
        if "$ref" in node:
            opened += _open(schema, [schema["$defs"][node["$ref"].rsplit("/", 1)[1]]])
        elif branches := node.get("oneOf") or node.get("anyOf") or node.get("allOf"):
            opened += _open(schema, branches)
        else:
            opened.append(node)
    return opened
