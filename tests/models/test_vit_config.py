"""What stands beside somebody's ViT: read as timm and Hugging Face write it, and refused where it is not run."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from splitpoint.errors import DataError
from splitpoint.models.deit import load_vit
from splitpoint.models.vit import SplitViT

from .conftest import tiny_network

CLASSES = tuple("gfed")


def _plain(folder: Path, image_size: tuple[int, int] = (16, 16), **files: object) -> tuple[SplitViT, Path]:
    """A plain ViT of 16 dims and 2 heads, and its file in timm's names with the JSON files beside it."""
    network = tiny_network(exits=(4,), exit_kind="linear", exit_state_dim=0, image_size=image_size)
    state = {name.removeprefix("exits.0."): value for name, value in network.state_dict().items()}
    save_file(state, folder / "model.safetensors")
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    return network, folder / "model.safetensors"


def test_a_mean_that_is_guessed_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, path = _plain(tmp_path, config={"num_attention_heads": 2})
    for _ in range(2):
        load_vit(path)
    assert caplog.text.count("neither config.json nor preprocessor_config.json has image_mean") == 1
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    caplog.clear()
    load_vit(path)
    assert not caplog.text


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    _, path = _plain(tmp_path, config='\ufeff{"num_attention_heads": 2}')
    assert load_vit(path)[1].heads == 2


@torch.inference_mode()
@pytest.mark.parametrize(
    "config",
    [
        # As `timm.models.save_for_hf` writes it, with what the model was made with; and as it did in old versions.
        {
            "architecture": "vit_tiny_patch16_224",
            "global_pool": "token",
            "label_names": list(CLASSES),
            "model_args": {"num_heads": 2, "img_size": [8, 32]},
            "pretrained_cfg": {"input_size": [3, 224, 224], "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]},
        },
        {
            "label_names": {"3": "d", "2": "e", "1": "f", "0": "g"},
            "model_args": {"num_heads": 2},
            "pretrained_cfg": {"input_size": [3, 8, 32], "mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]},
        },
        {
            "architecture": "vit_tiny_patch16_224",
            "num_attention_heads": 2,
            "input_size": [3, 8, 32],
            "labels": list(CLASSES),
            "mean": [0.1, 0.2, 0.3],
            "std": [1, 1, 1],
        },
    ],
)
def test_what_timm_writes_beside_a_model_is_read(tmp_path: Path, config: dict[str, object]) -> None:
    reference, path = _plain(tmp_path, (8, 32), config=config)  # as many patches as a square of 16
    network, card = load_vit(path)
    images = torch.randn(2, 3, 8, 32)
    torch.testing.assert_close(network(images)[-1], reference(images)[-1])
    assert (card.heads, card.image_size, card.classes) == (2, (8, 32), CLASSES)
    assert (card.mean, card.std) == ((0.1, 0.2, 0.3), (1.0, 1.0, 1.0))


def test_an_input_size_that_the_positions_do_not_fit_is_passed_over(tmp_path: Path) -> None:
    config = {"num_attention_heads": 2, "pretrained_cfg": {"input_size": [3, 224, 224]}, "model_args": None}
    assert load_vit(_plain(tmp_path, config=config)[1])[1].image_size == (16, 16)


def test_names_of_classes_are_those_of_timm(tmp_path: Path) -> None:
    config = {"num_attention_heads": 2, "pretrained_cfg": {"label_names": CLASSES}}
    assert load_vit(_plain(tmp_path, config=config)[1])[1].classes == CLASSES


def test_pixels_that_are_not_normalised_stay_so(tmp_path: Path) -> None:
    told = {"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    path = _plain(tmp_path, config={"num_attention_heads": 2}, preprocessor_config=told)[1]
    card = load_vit(path)[1]
    assert (card.mean, card.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"num_attention_heads": 2, "hidden_act": "relu"}, "hidden_act 'relu'; only 'gelu'"),
        ({"num_attention_heads": "x"}, "num_attention_heads: "),
        ({"num_attention_heads": 5}, "dim 16 is not a multiple of heads 5"),
        ({"num_attention_heads": 2, "id2label": {"0": "a"}}, "4 classes, but 1 are named"),
        ({"id2label": ["a"]}, "id2label: "),
        ({"id2label": {str(i): "x" for i in range(1, 5)}}, r"id2label: .* numbered 0, 1"),
        ({"num_attention_heads": 2, "pretrained_cfg": {"std": [0, 1, 1]}}, r"std\.0: .*greater than 0"),
        ({"num_attention_heads": 2, "image_mean": [0.5], "image_std": [0.5]}, "one value a channel"),
        ({"model_args": {"num_heads": 2, "act_layer": "quick_gelu"}}, "act_layer 'quick_gelu'; only 'gelu'"),
        ({"num_attention_heads": 2, "global_pool": "avg"}, "global_pool 'avg'; only 'token'"),
        ({"model_args": {"num_heads": 2, "global_pool": "avg"}}, "global_pool 'avg'; only 'token'"),
        ({"num_attention_heads": 2, "layer_norm_eps": 1e-3}, "layer_norm_eps 0.001"),
        ({"num_attention_heads": 2, "do_rescale": False}, "pixels are scaled by 1/255"),
        ({"num_attention_heads": 2, "rescale_factor": 1 / 127.5}, "pixels are scaled by 1/255"),
        (
            {"num_attention_heads": 2, "pretrained_cfg": {"mean": [124, 116, 104], "std": [58, 57, 57]}},
            "a mean of 124; pixels are scaled by 1/255",
        ),
        ([1], r"config\.json: Input should be"),
        ("text", "is not JSON"),
    ],
)
def test_a_configuration_that_does_not_fit_is_named_in_one_line(
    tmp_path: Path, config: object, said: str
) -> None:
    path = _plain(tmp_path, config=config)[1]
    with pytest.raises(DataError, match=said) as caught:
        load_vit(path)
    assert "\n" not in str(caught.value)


def test_a_configuration_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    path = _plain(tmp_path, preprocessor_config={"image_mean": [0.5] * 3})[1]
    (tmp_path / "config.json").mkdir()
    with pytest.raises(DataError, match=r"cannot read .*config\.json: Is a directory"):
        load_vit(path)
