"""Other libraries: our methods for Quantus, and an attribution of captum as a method of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from attnguide.api import explain
from attnguide.errors import InputError
from attnguide.methods._sampling import patch_sums
from attnguide.tracing.trace import AttentionTrace
from attnguide.types import ViT

Explainer = Callable[..., NDArray[np.float32]]


def quantus_explain(vit: ViT, method: str = "complete", **settings: Any) -> Explainer:
    """What Quantus takes as `explain_func`: (model, inputs, targets) to pixel maps (B, 1, H, W).

    Every patch's relevance is spread evenly over its pixels, so that sums are kept. Quantus' own
    metrics then run on it:

        explain_func = quantus_explain(vit, "gae")
        metric(model=vit.module, x_batch=x, y_batch=y, explain_func=explain_func)

    Where Quantus changes the model (MPRT), it passes the changed one, and that is explained.

    Args:
        vit: Says how the network is to be read.
        method, settings: As in `explain`.
    """

    def explain_func(model: Any, inputs: Any, targets: Any, **_: Any) -> NDArray[np.float32]:
        from dataclasses import replace

        images = torch.as_tensor(np.asarray(inputs)).to(vit.device, vit.dtype)
        seen = replace(vit, module=vit.module if model is None else model)
        found = explain(seen, images, torch.as_tensor(np.asarray(targets)).long(), method=method,
                        **settings)  # fmt: skip
        height, width = vit.patch_size
        pixels = found.relevance.float().cpu() / (height * width)
        pixels = pixels.repeat_interleave(height, 1).repeat_interleave(width, 2)
        return np.asarray(pixels.unsqueeze(1).numpy(), dtype=np.float32)

    return explain_func


def captum_method(attribution: Callable[[Any], Any], **settings: Any) -> Callable[..., Tensor]:
    """A method of ours from an attribution of captum, whose pixels are summed over every patch.

        explain(vit, images, 3, method=captum_method(captum.attr.Saliency, abs=False))

    Args:
        attribution: A class of `captum.attr` that takes the network.
        settings: Of its `attribute`.
    """

    def captum(trace: AttentionTrace) -> Tensor:
        """(B, rows, cols), signed as the attribution is."""
        images = trace.images.detach().clone().requires_grad_()
        with torch.inference_mode(False), torch.enable_grad():
            tool = attribution(trace.vit.logits)
            pixels = tool.attribute(images, target=trace.target, **settings)
        if not isinstance(pixels, Tensor) or pixels.shape != images.shape:
            shape = tuple(getattr(pixels, "shape", ())) or type(pixels).__name__
            raise InputError(
                f"captum_method needs one value per pixel, (B, 3, H, W); "
                f"{getattr(attribution, '__name__', 'the attribution')} gave {shape}"
            )
        return patch_sums(trace, pixels.detach())

    return captum
