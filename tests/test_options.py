"""What the commands' options share."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field

from splitpoint.errors import UsageError
from splitpoint.options import checked, host_port


class Config(BaseModel):
    learning_rate: float = Field(gt=0)


def test_an_option_that_does_not_validate_is_named_as_it_is_typed() -> None:
    assert checked(Config, learning_rate=0.5).learning_rate == 0.5
    with pytest.raises(UsageError, match=r"^--learning-rate: Input should be greater than 0$"):
        checked(Config, learning_rate=0.0)


def test_an_address_is_a_host_and_a_port() -> None:
    assert host_port("[::1]:65535") == ("[::1]", 65535)
    for text in ("host", ":80", "host:", "host:-1", "host:65536", "host:\u0663", "host:" + "1" * 5000):
        with pytest.raises(UsageError, match="is not HOST:PORT"):
            host_port(text)
