"""Which of a network's classes the classes of a data set are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import DataError, did_you_mean
from .card import ModelCard

__all__ = ["classes_of_folders", "classes_of_labels", "classes_of_numbers"]


def _by_name(names: Sequence[str], card: ModelCard) -> list[int | None]:
    """The network's class of each name; None for one that it has not or that stands twice: ImageNet has two cranes."""
    there, here = Counter(card.classes), Counter(names)
    known = {name: place for place, name in enumerate(card.classes) if there[name] == here[name] == 1}
    return [known.get(name) for name in names]


def _differ(source: Path, name: str, card: ModelCard) -> DataError:
    return DataError(
        f"{source}: its class '{name}' is none of {card.name}'s; {did_you_mean(name, set(card.classes))}"
    )


def classes_of_labels(names: tuple[str, ...], card: ModelCard, source: Path) -> list[int] | None:
    """The network's class of each label of a file that names its labels; None where labels are the classes.

    Names rule over numbers: files may list the same classes in another order. Names of which the network
    knows none, or only such as have the same number there, say nothing. DataError for anything between.
    """
    if names == card.classes[: len(names)]:
        return None
    found = _by_name(names, card)
    known = [place for place in found if place is not None]
    if len(known) == len(names):
        return known
    if all(place in (None, number) for number, place in enumerate(found)):
        return None
    raise _differ(source, names[found.index(None)], card)


def classes_of_folders(names: tuple[str, ...], card: ModelCard, source: Path) -> list[int]:
    """The network's class of each class folder, which has its name; some of the classes may be absent.

    A plain ViT whose classes are but numbered takes as many folders in order of their names, as training scripts do.
    DataError for a name that the network has not.
    """
    found = _by_name(names, card)
    if None not in found:
        return [place for place in found if place is not None]
    numbered = [(str(place), f"LABEL_{place}") for place in range(card.class_count)]
    unnamed = card.exit_kind == "linear" and all(map(tuple.__contains__, numbered, card.classes))
    if unnamed and len(names) == card.class_count:
        return list(range(len(names)))
    raise _differ(source, names[found.index(None)], card)


def classes_of_numbers(labels: list[int], card: ModelCard, source: Path) -> list[int]:
    """The network's class of each label of a file that does not name its labels: itself, as a rule.

    Where all classes are numbers, as folders may be called, it is the one of that name: in order of names 10 comes
    before 2. DataError for a number that is none of them.
    """
    named = {int(name): place for place, name in enumerate(card.classes) if name.isdecimal()}
    if len(named) < card.class_count or all(number == place for number, place in named.items()):
        return labels
    for label in labels:
        if label not in named:
            raise DataError(
                f"{source}: label {label} is none of {card.name}'s classes {min(named)}..{max(named)}"
            )
    return [named[label] for label in labels]
