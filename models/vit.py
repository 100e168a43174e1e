"""`SplitViT`: a vision transformer that runs any range of its blocks, with recursive exits.

Parameter names follow timm's where timm has the part (`blocks.3.attn.qkv`, `cls_token`, `pos_embed`,
`patch_embed.proj`), so that DeiT and timm checkpoints map easily; the classifier of a plain ViT is its last
exit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .card import ModelCard
from .gates import Gates

__all__ = ["RecursiveExit", "SplitViT", "StemBlock"]


class StemBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut, (B, w, h, b) to the same shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return out


class _PatchEmbed(nn.Module):
    """(B, C, H, W) to (B, n, d), patches in row-major order."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        if card.stem == "patch":
            self.proj: nn.Module = nn.Conv2d(card.channels, card.dim, card.patch, card.patch)
            return
        layers: list[nn.Module] = []
        width = card.channels
        for place, out in enumerate(card.stem_channels):
            layers += [nn.Conv2d(width, out, 3, 2, 1, bias=False), nn.BatchNorm2d(out), nn.GELU()]
            layers += [StemBlock(out) for _ in range(card.stem_blocks[place] if card.stem_blocks else 0)]
            width = out
        # Without blocks a last convolution lets a token see beyond its patch: 31 pixels at a stride of 8.
        kernel = 1 if card.stem_blocks else 3
        layers.append(nn.Conv2d(width, card.dim, kernel, 1, kernel // 2))
        self.proj = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        tokens: Tensor = self.proj(images).flatten(2).transpose(1, 2)
        return tokens


class _Attention(nn.Module):
    # Written out, not fused: the CLS row is wanted, and one arithmetic serves runs, export and training.
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        batch, count, dim = x.shape
        width = dim // self.heads
        q, k, v = self.qkv(x).reshape(batch, count, 3, self.heads, width).permute(2, 0, 3, 1, 4)
        products = (q * width**-0.5) @ k.transpose(-2, -1)
        attention = products.softmax(dim=-1) if keys is None else _masked_softmax(products, keys)
        mixed = (attention @ v).transpose(1, 2).reshape(batch, count, dim)
        return self.proj(mixed), attention[:, :, 0, 1:].mean(dim=1)


def _masked_softmax(products: Tensor, keys: Tensor) -> Tensor:
    """Softmax of (B, H, T, T) over the keys whose entry of (B, T) is 1; the others, 0, get a gradient only."""
    weights = keys[:, None, None, :]
    highest = products.detach().masked_fill(weights == 0, -torch.inf).amax(dim=-1, keepdim=True)
    # A masked key may lie above all others: what it would have weighed must stay finite.
    raised = (products - highest).clamp(max=20.0).exp() * weights
    return raised / raised.sum(dim=-1, keepdim=True)


class _Mlp(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class _Block(nn.Module):
    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(card.dim, eps=1e-6)
        self.attn = _Attention(card.dim, card.heads)
        self.norm2 = nn.LayerNorm(card.dim, eps=1e-6)
        self.mlp = _Mlp(card.dim, card.hidden)

    def forward(self, x: Tensor, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mixed, scores = self.attn(self.norm1(x), keys)
        x = x + mixed
        return x + self.mlp(self.norm2(x)), scores


class RecursiveExit(nn.Module):
    """v = e(norm(h)), u = phi([v; u_prev]), q = p(u); h (B, dim) is the CLS token or a pooled map.

    `phi` is shared by all exits and passed in.
    """

    def __init__(self, dim: int, state_dim: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.e = nn.Linear(dim, state_dim)
        self.act = nn.GELU()
        self.p = nn.Linear(state_dim, classes)

    def forward(self, h: Tensor, u: Tensor, phi: nn.Module) -> tuple[Tensor, Tensor]:
        v = self.act(self.e(self.norm(h)))
        u = self.act(phi(torch.cat([v, u], dim=-1)))
        return self.p(u), u


class _LinearExit(nn.Module):
    """q = head(norm(CLS)), the classifier of a plain ViT; no state."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(card.dim, eps=1e-6)
        self.head = nn.Linear(card.dim, card.class_count)

    def forward(self, cls: Tensor) -> Tensor:
        logits: Tensor = self.head(self.norm(cls))
        return logits


def _sin_cos(card: ModelCard) -> Tensor:
    """Sines and cosines of row and column, (n, d): where training of the positions starts from."""
    rows, columns = (side // card.patch for side in card.image_size)
    quarter = card.dim // 4
    frequency = 1.0 / 100.0 ** (torch.arange(quarter) / max(1, quarter))
    y = torch.arange(rows).repeat_interleave(columns)[:, None] * frequency
    x = torch.arange(columns).repeat(rows)[:, None] * frequency
    waves = torch.cat([y.sin(), y.cos(), x.sin(), x.cos()], dim=1)
    return torch.cat([waves, torch.zeros(rows * columns, card.dim - 4 * quarter)], dim=1)


class SplitViT(nn.Module):
    """The network of one model card.

    embed  images float (B, C, H, W), normalised  -> tokens (B, n+1, d), CLS first
    run    tokens (B, T, d), T any, through blocks [start, stop) -> tokens, scores (B, T-1)
    exit   tokens -> logits q_i (B, classes) and state u_i (B, exit_state_dim)
    """

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        self.patch_embed = _PatchEmbed(card)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, card.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, card.patch_tokens + 1, card.dim))
        self.blocks = nn.ModuleList(_Block(card) for _ in range(card.depth))
        recursive = card.exit_kind == "recursive"
        self.exits = nn.ModuleList(
            RecursiveExit(card.dim, card.exit_state_dim, card.class_count) if recursive else _LinearExit(card)
            for _ in card.exits
        )
        if recursive:
            self.phi = nn.Linear(2 * card.exit_state_dim, card.exit_state_dim)
        if card.gates:
            self.gates = Gates(card.dim, card.depth)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        self.pos_embed.data[0, 1:] = _sin_cos(card)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)

    def embed(self, images: Tensor) -> Tensor:
        patches = self.patch_embed(images)
        cls = self.cls_token.expand(patches.shape[0], -1, -1)
        return torch.cat([cls, patches], dim=1) + self.pos_embed

    def run(self, x: Tensor, start: int, stop: int, keys: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Blocks [start, stop); the scores are those of block stop-1, uniform when no block is run.

        keys  float (B, T), what each token counts in the attention of all: 0, it is seen by none; m, as m equal
              tokens; None: 1 each
        """
        if not 0 <= start <= stop <= self.card.depth:
            raise ValueError(f"blocks [{start}, {stop}) are not within depth {self.card.depth}")
        patches = x.shape[1] - 1
        scores = x.new_full((x.shape[0], patches), 1.0 / max(1, patches))
        for index in range(start, stop):
            x, scores = self.blocks[index](x, keys)
        return x, scores

    def exit(self, x: Tensor, index: int, u: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Exit `index` on tokens (B, T, d); `u` is the previous exit's state, None before the first."""
        cls = x[:, 0]
        if self.card.exit_kind == "linear":
            return self.exits[index](cls), cls.new_zeros(cls.shape[0], 0)
        if u is None:
            u = cls.new_zeros(cls.shape[0], self.card.exit_state_dim)
        logits, state = self.exits[index](cls, u, self.phi)
        return logits, state

    def forward(self, images: Tensor) -> list[Tensor]:
        """Raw logits q_i of every exit, each (B, classes), nothing compressed."""
        x, u, at, out = self.embed(images), None, 0, []
        for index, after in enumerate(self.card.exits):
            x, _ = self.run(x, at, after)
            at = after
            q, u = self.exit(x, index, u)
            out.append(q)
        return out
