"""JSON for people's own programs: strict readers take it."""

import json
import math

from splitpoint.json_text import json_text


def test_what_json_does_not_know_is_null() -> None:
    value = {"a": math.nan, "b": [1.5, -math.inf, (math.inf, None)], "c": {"d": True, "e": "NaN", "f": 3}}
    known = {"a": None, "b": [1.5, None, [None, None]], "c": {"d": True, "e": "NaN", "f": 3}}
    assert json.loads(json_text(value)) == known
    assert json_text(known, 2) == json.dumps(known, indent=2)
