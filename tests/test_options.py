"""What the commands' options share."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field

from splitpoint.errors import UsageError
from splitpoint.options import checked


class Config(BaseModel):
    learning_rate: float = Field(gt=0)


def test_an_option_that_does_not_validate_is_named_as_it_is_typed() -> None:
    assert checked(Config, learning_rate=0.5).learning_rate == 0.5
    with pytest.raises(UsageError, match=r"^--learning-rate: Input should be greater than 0$"):
        checked(Config, learning_rate=0.0)
