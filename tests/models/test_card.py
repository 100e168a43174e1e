import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from splitpoint.errors import DataError
from splitpoint.models.card import ModelCard, has_card, read_card

from .conftest import tiny_card


def test_shape_follows_from_the_card() -> None:
    card = tiny_card()
    assert (card.patch_tokens, card.class_count, card.hidden) == (24, 4, 32)


def test_exits_within_a_range_of_blocks() -> None:
    card = tiny_card()
    assert card.exits_within(0, 0) == []
    assert card.exits_within(0, 3) == [0, 1]
    assert card.exits_within(1, 4) == [1, 2]
    assert [card.stops(0, stop) for stop in (1, 2, 3)] == [[1], [1, 2], [1, 3]]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"exits": (1, 3)}, "depth 4"),
        ({"exits": (3, 1, 4)}, "must rise"),
        ({"heads": 3}, "heads 3"),
        ({"image_size": (18, 24)}, "patch 4"),
        ({"mean": (0.5,)}, "mean and std"),
        ({"exit_state_dim": 0}, "exit_state_dim"),
        ({"stem": "conv", "patch": 3, "image_size": (18, 24)}, "conv stem"),
        ({"depth": 0}, "at least 1"),
        ({"colour": 3}, "colour"),
        ({"std": (0.2, 0.0, 0.2)}, "std"),
        ({"mean": (0.2, float("nan"), 0.2)}, "mean"),
        ({"mlp_ratio": -1.0}, "mlp_ratio"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio"),
        ({"exit_state_dim": -8}, "exit_state_dim"),
    ],
)
def test_an_inconsistent_card_is_refused(change: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        tiny_card(**change)


def test_the_message_says_what_the_card_says() -> None:
    card = tiny_card(id="0123456789abcdef")
    message = card.to_message()
    assert (message.id, message.depth, message.dim, message.patch_tokens) == (card.id, 4, 16, 24)
    assert tuple(message.exits) == card.exits
    assert tuple(message.classes) == card.classes
    assert (message.image_height, message.image_width, message.channels, message.exit_state_dim) == (
        16,
        24,
        3,
        8,
    )


def test_the_card_is_read_without_the_weights(tiny_file: Path) -> None:
    card = read_card(tiny_file)
    assert has_card(tiny_file)
    assert len(card.id) == 16
    assert card == tiny_card(id=card.id)


def _safetensors(path: Path, header: dict[str, object]) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    return path


def test_files_without_a_good_card_are_named(tmp_path: Path) -> None:
    broken = ModelCard.model_dump(tiny_card()) | {"heads": 3}
    newer = ModelCard.model_dump(tiny_card()) | {"window": 7}
    for path, said in (
        (tmp_path / "absent.safetensors", "cannot read"),
        (_safetensors(tmp_path / "bare.safetensors", {}), "no model card"),
        (
            _safetensors(tmp_path / "bad.safetensors", {"__metadata__": {"card": json.dumps(broken)}}),
            "broken: dim 16 is not a multiple of heads 3",
        ),
        (
            _safetensors(tmp_path / "new.safetensors", {"__metadata__": {"card": json.dumps(newer)}}),
            "does not know its field 'window'; is it of a newer one",
        ),
    ):
        with pytest.raises(DataError, match=said) as caught:
            read_card(path)
        assert str(path) in str(caught.value)
    noise = tmp_path / "noise.safetensors"
    noise.write_bytes(b"\xff" * 100)
    with pytest.raises(DataError, match="not a safetensors file"):
        has_card(noise)
