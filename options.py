"""What the commands' options share: how they are checked, and what is said of them."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from .errors import MissingExtra, UsageError

__all__ = [
    "AcceleratorName",
    "AcceleratorOption",
    "ImageFormatOption",
    "Json",
    "checked",
    "host_port",
    "need_sim",
]

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


class AcceleratorName(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


AcceleratorOption = Annotated[
    AcceleratorName, typer.Option(help="Where to train; auto: on CUDA where torch finds it.")
]

ImageFormatOption = Annotated[
    str, typer.Option(help="How raw inputs are sent: png, webp:QUALITY or jpeg:QUALITY.")
]


def checked(kind: Any, **values: Any) -> Any:
    """A configuration from options; what does not validate is the user's mistake, in one line."""
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        problem = error.errors()[0]
        place = "-".join(map(str, problem["loc"])).replace("_", "-")
        said = problem["msg"].removeprefix("Value error, ")
        raise UsageError(f"--{place}: {said}" if place else said) from None


def need_sim(what: str, *modules: str) -> None:
    """MissingExtra, naming what needs it, where one of these modules of the extra `sim`, by default torch, is not
    installed."""
    if any(find_spec(module) is None for module in modules or ("torch",)):
        raise MissingExtra(what, "sim")


def host_port(text: str) -> tuple[str, int]:
    """HOST:PORT; UsageError for what is none."""
    host, _, port = text.rpartition(":")
    # Longer ones are no ports, and beyond 4 300 digits no numbers for Python.
    if not host or not (port.isascii() and port.isdecimal()) or len(port) > 5 or int(port) > 65535:
        raise UsageError(f"'{text}' is not HOST:PORT")
    return host, int(port)
