"""Small random networks of HuggingFace and torchvision, and timm's weights carried into them."""

import torch
import transformers as hf
from torchvision.models.vision_transformer import VisionTransformer as TorchvisionViT

SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 4,
    "num_labels": 5,
    "hidden_dropout_prob": 0.3,
    "attention_probs_dropout_prob": 0.3,
}
VIT = {"intermediate_size": 96}
CASES = {
    "vit": ("ViT", VIT),
    "odd vit": (
        "ViT",
        {"intermediate_size": 40, "qkv_bias": False, "layer_norm_eps": 0.1, "image_size": (8, 24)},
    ),
    "deit": ("DeiT", VIT),
    "teacher": ("DeiT", VIT),
    "dinov2": ("Dinov2", {"layerscale_value": 0.5}),
    "swiglu": ("Dinov2", {"use_swiglu_ffn": True}),
    "registers": ("Dinov2WithRegisters", {"num_register_tokens": 3}),
}


def shake(module, dtype=torch.float64):
    """Random weights large enough to matter, the same in every run."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.data = noise + (1 if parameter.ndim == 1 and parameter.mean() > 0.9 else 0)
    return module.to(dtype)


def huggingface(case, dtype=torch.float64, **settings):
    family, own = CASES[case]
    config = getattr(hf, f"{family}Config")(**{**SIZES, **own, **settings})
    suffix = "WithTeacher" if case == "teacher" else ""
    config._attn_implementation = "eager"
    return shake(getattr(hf, f"{family}ForImageClassification{suffix}")(config), dtype)


def save_fine_tuned(folder, names, unlikely=None):
    """A network of HuggingFace that knows these names, and its processor, as it saves them."""
    torch.manual_seed(0)
    settings = {**SIZES, **VIT, "image_size": 32, "patch_size": 8}
    config = hf.ViTConfig(**settings | {"num_labels": len(names)}, id2label=dict(enumerate(names)))
    network = hf.ViTForImageClassification(config)
    if unlikely:
        network.classifier.bias.data[names.index(unlikely)] = -9
    network.save_pretrained(folder)
    hf.ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)


def torchvision(**settings):
    sizes = {"num_layers": 2, "num_heads": 2, "hidden_dim": 24, "mlp_dim": 96, "num_classes": 5}
    return shake(TorchvisionViT(16, 4, **{**sizes, **settings}))


def carry_to_huggingface(timm_module):
    """timm's weights in HuggingFace's network, part by part."""
    module = huggingface("vit", layer_norm_eps=1e-6, **VIT)
    embeddings = module.vit.embeddings
    embeddings.cls_token.data = timm_module.cls_token.data.clone()
    embeddings.position_embeddings.data = timm_module.pos_embed.data.clone()
    pairs = [
        (embeddings.patch_embeddings.projection, timm_module.patch_embed.proj),
        (module.vit.layernorm, timm_module.norm),
        (module.classifier, timm_module.head),
    ]
    for own, block in zip(module.vit.layers, timm_module.blocks, strict=True):
        pairs += [
            (own.layernorm_before, block.norm1),
            (own.layernorm_after, block.norm2),
            (own.attention.o_proj, block.attn.proj),
            (own.mlp.fc1, block.mlp.fc1),
            (own.mlp.fc2, block.mlp.fc2),
        ]
        parts = (own.attention.q_proj, own.attention.k_proj, own.attention.v_proj)
        for part, weight, bias in zip(
            parts, block.attn.qkv.weight.chunk(3), block.attn.qkv.bias.chunk(3), strict=True
        ):
            part.weight.data, part.bias.data = weight.data.clone(), bias.data.clone()
    for own, part in pairs:
        own.load_state_dict(part.state_dict())
    return module


def carry_to_torchvision(timm_module):
    """timm's weights in torchvision's network, part by part."""
    module = torchvision()
    module.class_token.data = timm_module.cls_token.data.clone()
    module.encoder.pos_embedding.data = timm_module.pos_embed.data.clone()
    pairs = [
        (module.conv_proj, timm_module.patch_embed.proj),
        (module.encoder.ln, timm_module.norm),
        (module.heads.head, timm_module.head),
    ]
    for own, block in zip(module.encoder.layers, timm_module.blocks, strict=True):
        own.self_attention.in_proj_weight.data = block.attn.qkv.weight.data.clone()
        own.self_attention.in_proj_bias.data = block.attn.qkv.bias.data.clone()
        pairs += [
            (own.ln_1, block.norm1),
            (own.ln_2, block.norm2),
            (own.self_attention.out_proj, block.attn.proj),
            (own.mlp[0], block.mlp.fc1),
            (own.mlp[3], block.mlp.fc2),
        ]
    for own, part in pairs:
        own.load_state_dict(part.state_dict())
    return module
