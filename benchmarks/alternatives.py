"""Masked evaluations with the packages that a user has instead, where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

Work = tuple[str, Callable[[], object], int]  # title, the work, its masked and clean evaluations
PACKAGES = {"captum": "captum", "quantus": "quantus", "pytorch_grad_cam": "pytorch-grad-cam"}


def alternatives(module: Any, images: Tensor, relevance: Tensor, label: Tensor) -> list[Work]:
    """What is installed.

    Args:
        module: A timm network.
        images: (B, 3, 224, 224).
        relevance: (B, 14, 14).
        label: (B,).
    """
    makers = {"captum": _captum, "quantus": _quantus, "pytorch_grad_cam": _grad_cam}
    return [
        make(module, images, relevance, label)
        for name, make in makers.items()
        if find_spec(name) is not None
    ]


def not_installed() -> list[str]:
    """Names of the packages that are missing."""
    return [title for name, title in PACKAGES.items() if find_spec(name) is None]


def _captum(module: Any, images: Tensor, relevance: Tensor, label: Tensor) -> Work:
    """Feature ablation of 18 groups of patches."""
    feature_ablation = import_module("captum.attr").FeatureAblation(module)
    groups = relevance[:1].flatten(1).argsort(-1).argsort(-1) * 18 // relevance[0].numel()
    mask = groups.view(1, 1, *relevance.shape[1:]).repeat_interleave(16, 2).repeat_interleave(16, 3)

    def run() -> None:
        with torch.no_grad():
            feature_ablation.attribute(
                images, target=label, feature_mask=mask, perturbations_per_eval=2
            )

    return "captum FeatureAblation", run, 19 * len(images)


def _quantus(module: Any, images: Tensor, relevance: Tensor, label: Tensor) -> Work:
    """Region perturbation, one order, 16 regions."""
    regions = import_module("quantus").RegionPerturbation(
        patch_size=56, regions_evaluation=16, disable_warnings=True
    )
    maps = relevance.repeat_interleave(16, 1).repeat_interleave(16, 2).unsqueeze(1).numpy()
    pictures, labels = images.numpy(), label.numpy()

    def run() -> None:
        regions(module, pictures, labels, maps, device="cpu", softmax=True, batch_size=8)

    return "Quantus RegionPerturbation", run, 17 * len(images)


def _grad_cam(module: Any, images: Tensor, relevance: Tensor, label: Tensor) -> Work:
    """The perturbation metric with zeros, 9 percentiles in both orders."""
    confidence = import_module("pytorch_grad_cam.metrics.perturbation_confidence")
    targets = [
        import_module("pytorch_grad_cam.utils.model_targets").ClassifierOutputSoftmaxTarget(int(c))
        for c in label
    ]
    maps = relevance.repeat_interleave(16, 1).repeat_interleave(16, 2)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    cams = ((maps - low) / (high - low)).numpy()
    metrics = [
        confidence.PerturbationConfidenceMetric(order(percentile, torch.multiply))
        for order in (confidence.RemoveMostRelevantFirst, confidence.RemoveLeastRelevantFirst)
        for percentile in range(10, 100, 10)
    ]

    def run() -> None:
        for metric in metrics:
            metric(images, cams, targets, module)

    return "pytorch-grad-cam metric, zeros", run, len(metrics) * len(images)
