"""Small random vision transformers, one per shape that the library must serve."""

import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

from attnguide import wrap_model
from attnguide.models.preprocess import Preprocess
from attnguide.types import ViT

SHAPES = {
    "class_token": {},
    "registers": {"reg_tokens": 3},
    "average": {"global_pool": "avg", "class_token": False},
    "average_with_class": {"global_pool": "avg"},
    "non_square": {"img_size": (16, 32)},
    "qk_norm": {"qk_norm": True},
    "layer_scale": {"init_values": 0.5},
    "distilled": {},
}


class HandWritten(torch.nn.Module):
    """timm's attention without PyTorch's fused function, as people write it."""

    def __init__(self, attn):
        super().__init__()
        self.attn = attn

    def forward(self, x, **_):
        b, n, _ = x.shape
        heads = self.attn.num_heads
        q, k, v = self.attn.qkv(x).reshape(b, n, 3, heads, -1).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.mT * self.attn.scale, dim=-1)
        return self.attn.proj((weights @ v).transpose(1, 2).reshape(b, n, -1))


def tiny(shape: str = "class_token", *, dtype: torch.dtype = torch.float32, **kwargs) -> ViT:
    """Two layers, two heads, 4 x 4 patches of 4 pixels, 5 classes, weights that matter."""
    settings = {
        "img_size": 16,
        "patch_size": 4,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 2,
        "num_classes": 5,
        **SHAPES[shape],
        **kwargs,
    }
    kind = VisionTransformerDistilled if shape == "distilled" else VisionTransformer
    module = kind(**settings)
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.data = noise + (1 if parameter.ndim == 1 and parameter.mean() > 0.9 else 0)
    names = [f"class {index}" for index in range(settings["num_classes"])]
    size = tuple(module.patch_embed.img_size)
    return wrap_model(module.to(dtype), Preprocess(size), names, name=f"tiny {shape}")


def pictures(vit: ViT, count: int = 3, seed: int = 1) -> torch.Tensor:
    """(count, 3, H, W) random normalised images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, *vit.image_size, generator=generator).to(vit.dtype)
