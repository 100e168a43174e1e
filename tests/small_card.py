"""The card of the small network that tests of several folders use."""

from splitpoint.models.card import ModelCard

__all__ = ["SMALL"]

SMALL = ModelCard(
    name="small",
    image_size=(16, 16),
    channels=1,
    classes=tuple("abcde"),
    mean=(0.5,),
    std=(0.25,),
    patch=4,
    dim=24,
    depth=4,
    heads=2,
    exits=(1, 2, 4),
    exit_state_dim=8,
)
