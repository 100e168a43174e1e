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


def _reference(seed: int = 0) -> ViTForImageClassification:
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=96,
        image_size=32,
        patch_size=8,
        num_labels=7,
    )
    model = ViTForImageClassification(config).eval()
    # Random weights of a size that makes logits differ; transformers' own start them near zero.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15)
    return model


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dist_token": torch.zeros(1, 1, 48)}, "distilled"),
        ({"blocks.0.ls1.gamma": torch.zeros(48)}, "blocks.0.ls1.gamma"),
        ({"head.weight": None}, "no tensor 'head.weight'"),
        ({"blocks.1.attn.qkv.bias": None}, "no tensor 'blocks.1.attn.qkv.bias'"),
        ({"blocks.1.mlp.fc1.weight": torch.zeros(5, 48)}, "blocks.1.mlp.fc1.weight"),
        ({"pos_embed": torch.zeros(1, 12, 48)}, "11 positions"),
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
