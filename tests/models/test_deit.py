import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import ViTConfig, ViTForImageClassification

from splitpoint.errors import DataError
from splitpoint.models.card import ModelCard
from splitpoint.models.deit import from_state_dict, load_vit
from splitpoint.models.store import load_network
from splitpoint.models.vit import SplitViT

from .conftest import tiny_card


def _reference(
    seed: int = 0, image_size: int | tuple[int, int] = 32, qkv_bias: bool = True
) -> ViTForImageClassification:
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        image_size=image_size,
        patch_size=8,
        num_labels=7,
        qkv_bias=qkv_bias,
    )
    model = ViTForImageClassification(config).eval()
    # Random weights of a size that makes logits differ; transformers' own start them near zero.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15)
    return model


_PLAIN: dict[str, object] = {"depth": 1, "exits": (1,), "exit_kind": "linear", "exit_state_dim": 0}


def _timm_names(network: SplitViT) -> dict[str, torch.Tensor]:
    return {name.removeprefix("exits.0."): value for name, value in network.state_dict().items()}


@torch.inference_mode()
def test_logits_agree_with_transformers() -> None:
    reference = _reference()
    network, card = from_state_dict(reference.state_dict(), heads=4)
    images = torch.randn(4, 3, 32, 32)
    expected = reference(images).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(network(images)[-1], expected, atol=1e-4, rtol=0)
    assert (card.depth, card.dim, card.patch, card.exits, card.class_count) == (3, 48, 8, (3,), 7)


@torch.inference_mode()
def test_a_saved_hugging_face_folder_is_read_with_its_configuration(tmp_path: Path) -> None:
    reference = _reference()
    # Names as published checkpoints have them, by file.
    state: dict[str, torch.Tensor] = {}
    for name, value in reference.state_dict().items():
        for new, old in (
            ("vit.layers.", "vit.encoder.layer."),
            ("attention.q_proj", "attention.attention.query"),
            ("attention.k_proj", "attention.attention.key"),
            ("attention.v_proj", "attention.attention.value"),
            ("attention.o_proj", "attention.output.dense"),
            ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
        ):
            name = name.replace(new, old)
        state[name] = value.contiguous()
    save_file(state, tmp_path / "model.safetensors")
    labels = {str(i): f"class {i}" for i in range(7)}
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 4, "id2label": labels}))
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3})
    )
    network, card = load_network(tmp_path / "model.safetensors")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(images)[-1], reference(images).logits, atol=1e-4, rtol=0)
    assert card.classes == tuple(f"class {i}" for i in range(7))
    assert (card.heads, card.mean, card.std) == (4, (0.5,) * 3, (0.25,) * 3)


@torch.inference_mode()
def test_timm_names_map_as_well(tmp_path: Path) -> None:
    network, _ = from_state_dict(_reference().state_dict(), heads=4)
    save_file({k: v.contiguous() for k, v in _timm_names(network).items()}, tmp_path / "timm.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"num_attention_heads": 4, "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [1, 1, 1]}})
    )
    again, card = load_vit(tmp_path / "timm.safetensors")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again(images)[-1], network(images)[-1])
    assert len(card.id) == 16
    assert card.mean == (0.1, 0.2, 0.3)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_half_and_double_precision_are_widened(dtype: torch.dtype) -> None:
    reference = _reference().to(dtype)
    network, _ = from_state_dict(reference.state_dict(), heads=4)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(images)[-1], reference.float()(images).logits, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_attention_without_biases_has_zeros_for_them() -> None:
    reference = _reference(qkv_bias=False)
    network, _ = from_state_dict(reference.state_dict(), heads=4)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(network(images)[-1], reference(images).logits, atol=1e-4, rtol=0)


@torch.inference_mode()
def test_an_image_that_is_not_square_is_known_from_the_configuration(tmp_path: Path) -> None:
    reference = _reference(image_size=(16, 32))
    state = {name: value.contiguous() for name, value in reference.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="8 positions do not fit 24x24"):
        from_state_dict(state, heads=4)
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": 4, "image_size": [16, 32]}))
    network, card = load_vit(tmp_path / "model.safetensors")
    images = torch.randn(2, 3, 16, 32)
    torch.testing.assert_close(network(images)[-1], reference(images).logits, atol=1e-4, rtol=0)
    assert card.image_size == (16, 32)


@torch.inference_mode()
def test_a_base_model_without_prefix_and_classifier_is_good_for_training(tmp_path: Path) -> None:
    reference = _reference()
    state = {name.removeprefix("vit."): value.contiguous() for name, value in reference.state_dict().items()}
    state = {name: value for name, value in state.items() if not name.startswith("classifier")}
    save_file(state | {"pooler.dense.weight": torch.zeros(48, 48)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(
        json.dumps({"num_attention_heads": 4, "id2label": {"0": "a", "1": "b"}})
    )
    with pytest.raises(DataError, match="has no classifier"):
        load_network(tmp_path / "model.safetensors")
    network, card = load_network(tmp_path / "model.safetensors", without_classifier=True)
    assert card.class_count == 1
    images = torch.randn(2, 3, 32, 32)
    tokens, _ = network.run(network.embed(images), 0, 3)
    hidden = reference.vit(images, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(tokens, hidden, atol=1e-4, rtol=0)


def test_heads_default_to_64_wide_ones() -> None:
    card = ModelCard(
        name="x",
        image_size=(16, 16),
        channels=3,
        classes=("a", "b"),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        patch=8,
        dim=192,
        depth=1,
        heads=3,
        exits=(1,),
        exit_kind="linear",
    )
    _, found = from_state_dict(_timm_names(SplitViT(card)))
    assert found.heads == 3


def test_heads_of_the_widest_are_not_guessed() -> None:
    # ViT-huge has 16 heads of 80 dims.
    names = _timm_names(SplitViT(tiny_card(**_PLAIN, dim=1280, heads=16, mlp_ratio=0.1)))
    with pytest.raises(DataError, match="do not tell the number of heads, which at dim 1280"):
        from_state_dict(names)
    assert from_state_dict(names, heads=16, image_size=(16, 24))[1].heads == 16


def test_any_width_of_the_mlp_is_read() -> None:
    # 112 * (488 / 112) is less than 488.
    names = _timm_names(SplitViT(tiny_card(**_PLAIN, dim=112, mlp_ratio=4.36)))
    assert names["blocks.0.mlp.fc1.weight"].shape == (488, 112)
    assert from_state_dict(names, heads=2, image_size=(16, 24))[1].hidden == 488


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dist_token": torch.zeros(1, 1, 48)}, "distilled"),
        ({"blocks.0.ls1.gamma": torch.zeros(48)}, "blocks.0.ls1.gamma"),
        ({"cls_token": None}, "no tensor 'cls_token'"),
        (
            {"reg_token": torch.zeros(1, 4, 48), "pos_embed": torch.zeros(1, 16, 48)},
            "has a tensor 'reg_token'",
        ),
        ({"pos_embed": torch.zeros(1, 16, 48)}, "CLS token has no position"),
        ({"head.weight": None}, r"no classifier \('head.weight'\); `splitpoint train --model` gives it one"),
        ({"blocks.0.norm1.weight": torch.full((48,), torch.nan)}, r"'blocks.0.norm1.weight' holds NaN"),
        ({"head.bias": torch.tensor([torch.inf] * 7)}, r"'head.bias' holds NaN or infinity"),
        ({"blocks.0.attn.qkv.weight": torch.zeros(144, 48, dtype=torch.int8)}, r"torch\.int8, not of floats"),
        ({"blocks.9999999.norm1.weight": torch.zeros(48)}, "no tensor 'blocks.3."),
        ({"head.weight": torch.zeros(0, 48), "head.bias": torch.zeros(0)}, "classifier has no classes"),
        ({"blocks.1.attn.qkv.bias": None}, "no tensor 'blocks.1.attn.qkv.bias'"),
        ({"blocks.1.mlp.fc1.weight": torch.zeros(5, 48)}, "blocks.1.mlp.fc1.weight"),
        ({"pos_embed": torch.zeros(1, 12, 48)}, "11 positions .* put image_size"),
        ({"pos_embed": torch.zeros(17, 48)}, "pos_embed"),
    ],
)
def test_anything_but_a_plain_vit_is_refused_in_one_line(
    change: dict[str, torch.Tensor | None], said: str
) -> None:
    network, _ = from_state_dict(_reference().state_dict(), heads=4)
    state: dict[str, torch.Tensor | None] = {**_timm_names(network), **change}
    with pytest.raises(DataError, match=said) as caught:
        from_state_dict({k: v for k, v in state.items() if v is not None}, heads=4)
    assert "\n" not in str(caught.value)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"other\.safetensors is not a plain ViT"):
        load_network(tmp_path / "other.safetensors")
    (tmp_path / "text.safetensors").write_text("hello, this is not a checkpoint")
    with pytest.raises(DataError, match="not a safetensors file"):
        load_network(tmp_path / "text.safetensors")
