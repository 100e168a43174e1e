"""`SplitConv`: a small convolutional network that runs any range of its stages, with recursive exits.

    image -> stem -> stage 1 -> ... -> stage n      exit i: pooled map -> v_i -> u_i = phi([v_i; u_{i-1}]) -> q_i

The exits are those of `SplitViT` (arXiv 2412.19587), with the pooled map in the place of the CLS token; small
learners of a pool (arXiv 2601.22711) are mostly of this kind, since convolutions learn in few epochs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .conv_card import ConvCard, ConvStage
from .vit import RecursiveExit

__all__ = ["SplitConv", "fold_norms"]

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
}


def _conv(width: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(width, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(out)]


class _Shortcut(nn.Module):
    """act(x + layers(x)); the last norm starts at zero, so that the block starts as the identity."""

    def __init__(self, layers: list[nn.Module], act: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.act = act
        nn.init.zeros_(layers[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(x + self.layers(x))
        return out


def _block(stage: ConvStage, act: type[nn.Module]) -> nn.Module:
    width, kernel = stage.width, stage.kernel
    if stage.kind == "plain":
        return nn.Sequential(*_conv(width, width, kernel), act())
    if stage.kind == "residual":
        return _Shortcut([*_conv(width, width, kernel), act(), *_conv(width, width, kernel)], act())
    wide = 2 * width
    deep = [
        *_conv(width, wide, 1),
        act(),
        *_conv(wide, wide, kernel, groups=wide),
        act(),
        *_conv(wide, width, 1),
    ]
    return _Shortcut(deep, nn.Identity())


def _stage(stage: ConvStage, width: int, act: type[nn.Module]) -> nn.Sequential:
    kernel = 3 if stage.kind == "inverted" else stage.kernel
    layers = [*_conv(width, stage.width, kernel, 2 if stage.down == "stride" else 1)]
    if stage.down == "max":
        layers.append(nn.MaxPool2d(2))
    if stage.down == "mean":
        layers.append(nn.AvgPool2d(2))
    return nn.Sequential(*layers, act(), *(_block(stage, act) for _ in range(stage.blocks)))


class SplitConv(nn.Module):
    """The network of one `ConvCard`.

    embed  images float (B, C, H, W), normalised, or a shared head's tokens as a map -> map (B, w, h, b)
    run    map, through stages [start, stop) -> map
    exit   map -> logits q_i (B, classes) and state u_i (B, exit_state_dim)
    """

    def __init__(self, card: ConvCard) -> None:
        super().__init__()
        self.card = card
        act = _ACTIVATIONS[card.activation]
        self.stem = nn.Sequential(
            *_conv(card.channels, card.stem_width, card.stem_kernel, card.stem_stride), act()
        )
        widths = [card.stem_width, *(stage.width for stage in card.stages)]
        self.stages = nn.ModuleList(
            _stage(stage, width, act) for stage, width in zip(card.stages, widths, strict=False)
        )
        self.exits = nn.ModuleList(
            RecursiveExit(card.pooled(after), card.exit_state_dim, card.class_count) for after in card.exits
        )
        self.phi = nn.Linear(2 * card.exit_state_dim, card.exit_state_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)

    def embed(self, images: Tensor) -> Tensor:
        out: Tensor = self.stem(images)
        return out

    def run(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Stages [start, stop)."""
        if not 0 <= start <= stop <= len(self.stages):
            raise ValueError(f"stages [{start}, {stop}) are not within {len(self.stages)}")
        for index in range(start, stop):
            x = self.stages[index](x)
        return x

    def _pooled(self, x: Tensor) -> Tensor:
        if self.card.pool == "mean":
            return x.mean(dim=(2, 3))
        if self.card.pool == "max":
            return x.amax(dim=(2, 3))
        return torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1)

    def exit(self, x: Tensor, index: int, u: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Exit `index` on a map; `u` is the previous exit's state, None before the first."""
        if u is None:
            u = x.new_zeros(x.shape[0], self.card.exit_state_dim)
        logits, state = self.exits[index](self._pooled(x), u, self.phi)
        return logits, state

    def forward(self, images: Tensor) -> list[Tensor]:
        """Raw logits q_i of every exit, each (B, classes)."""
        x, u, at, out = self.embed(images), None, 0, []
        for index, after in enumerate(self.card.exits):
            x = self.run(x, at, after)
            at = after
            q, u = self.exit(x, index, u)
            out.append(q)
        return out


def fold_norms(network: SplitConv) -> SplitConv:
    """The network in evaluation mode with each norm folded into its convolution: a third fewer steps at batch 1.

    It is changed in place, and can neither be trained nor saved any more.
    """
    network.eval()
    for part in list(network.modules()):
        if not isinstance(part, nn.Sequential):
            continue
        for place in range(len(part) - 1):
            conv, norm = part[place], part[place + 1]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                part[place], part[place + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    return network
