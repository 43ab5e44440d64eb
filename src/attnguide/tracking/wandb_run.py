"""One run at Weights and Biases, from `wandb.init` to `finish`."""

from __future__ import annotations

import json
import logging
import os
import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from attnguide.findings import Findings, ShownPicture
from attnguide.store.table import read
from attnguide.tracking import wandb_payload as payload
from attnguide.tracking.loggers import WandB

FILES = {
    "results": (
        *("results.parquet", "claims.csv", "summary.csv", "config.yaml", "provenance.json"),
        "aggregate.csv",
    ),
    "figure": ("figure.png", "figure.pdf", "aggregate.png", "aggregate.pdf"),
    "report": ("report.html", "aggregate.html"),
    "maps": ("maps.npz",),
}
INIT_TIMEOUT_S = 15  # for W&B to answer
FINISH_TIMEOUT_S = 120  # for the last upload

_log = logging.getLogger("attnguide")


class WandBRun:
    """One W&B run per run folder and shard.

    Whatever W&B raises is reported once, and the run goes on without it. Steps are W&B's own:
    curves are drawn over `fraction`, progress over the number of images, so that a resumed run
    continues its lines.

    Args:
        settings: Of the logger, without secrets.
        run_dir, config, shard, group: As of `WandB.open`. The id comes from folder and shard, so
            a resumed or requeued run goes on in its W&B run.
    """

    def __init__(
        self,
        settings: WandB,
        run_dir: Path,
        config: Mapping[str, Any],
        *,
        shard: int | None = None,
        group: str | None = None,
    ) -> None:
        self.run_dir, self.config, self.failed = run_dir, config, False
        self.run: Any = None
        experiment = payload.slug(config.get("experiment"))
        digest = sha256(str(run_dir.resolve()).encode()).hexdigest()[:8]
        self.id = f"{experiment}-{digest}" + ("" if shard is None else f"-shard{shard:04d}")
        chosen: dict[str, Any] = {
            "project": settings.project,
            "entity": settings.entity,
            "name": payload.display_name(config, shard),
            "group": settings.group or group or _group(run_dir, config, shard),
            "job_type": experiment,
            "tags": payload.tags(settings.tags, config),
            "config": payload.as_filtered(config),
            "dir": str(run_dir),
            "id": self.id,
            "resume": "allow",
        }
        if "WANDB_SWEEP_ID" in os.environ:  # the agent has named the run, and where it goes
            for name in ("project", "entity", "id", "resume"):
                del chosen[name]
        self._try(self._begin, chosen, settings.mode)

    def _begin(self, chosen: dict[str, Any], mode: str | None) -> None:
        import wandb

        mode = mode or os.environ.get("WANDB_MODE") or "online"
        if mode == "online" and (why := why_offline()):
            warnings.warn(
                f"{why}, so this run is logged offline; later: wandb login, {self._sync_command()}",
                stacklevel=5,
            )
            mode = "offline"
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,  # an address may hold a token
            save_code=False,
            init_timeout=INIT_TIMEOUT_S,
            finish_timeout=FINISH_TIMEOUT_S,
        )
        self.run = wandb.init(**chosen, mode=mode, settings=settings)  # type: ignore[arg-type]
        self.id = self.run.id
        for pattern, step in (("curve*", "fraction"), ("progress/*", "progress/images")):
            self.run.define_metric(step, hidden=True, summary="none")
            self.run.define_metric(pattern, step_metric=step, summary="none")
        if not self.run.offline:
            _log.info("W&B     %s", self.run.url)

    def _sync_command(self) -> str:
        """What sends every part of an offline run as one, in the order in which they began."""
        folder = shlex.quote(str(self.run_dir / "wandb"))
        return f"wandb beta sync --id {self.id} {folder}/offline-run-*-{self.id}"

    def progress(self, model: str, images: int, rate: float) -> None:
        """Images done so far with a model, and how many per second."""
        name = f"progress/{model}/images_per_second"
        self._try(lambda: self.run.log({"progress/images": images, name: rate}))

    def log(self, findings: Findings, viewer: Sequence[ShownPicture] = ()) -> None:
        """Log provenance, claims, numbers, curves, tables, pictures, and the files as artifacts.

        Args:
            findings: What was found; the run's files are written.
            viewer: Pictures with maps; the first of them become a table with overlays.
        """
        self._try(self._log_findings, findings, viewer)
        self._try(self._log_files)

    def _log_findings(self, findings: Findings, viewer: Sequence[ShownPicture]) -> None:
        if provenance := self._provenance():
            self.run.config.update({"provenance": provenance}, allow_val_change=True)
        self.run.notes = payload.notes(findings)
        self.run.summary.update(payload.scalars(findings.summary))
        self.run.summary.update(payload.claim_scalars(findings.claims))
        rows = read(self.run_dir) if (self.run_dir / "results.parquet").is_file() else None
        for step in [] if rows is None else payload.curves(rows):
            self.run.log(step)
        self.run.log(payload.media(findings, rows, viewer, self.run_dir))

    def _log_files(self) -> None:
        """Weights and data as inputs, whose lineage W&B keeps online only, and the run's files."""
        from wandb import Artifact

        inputs = list(payload.inputs(self.config, self._provenance()))
        described = {name: about for name, _, about in inputs}
        self.run.config.update({"inputs": described}, allow_val_change=True)
        for name, kind, about in [] if self.run.offline else inputs:
            artifact = Artifact(name, type=kind, metadata=about)
            with artifact.new_file("about.json") as file:
                file.write(json.dumps(about, indent=1, sort_keys=True))
            self.run.use_artifact(artifact)
        for kind, names in FILES.items():
            artifact = Artifact(f"{kind}-{self.id}", type=kind)
            for path in filter(Path.is_file, (self.run_dir / name for name in names)):
                artifact.add_file(str(path))
            if artifact.manifest.entries:
                self.run.log_artifact(artifact)

    def _provenance(self) -> dict[str, Any]:
        stored = self.run_dir / "provenance.json"
        values: dict[str, Any] = json.loads(stored.read_text()) if stored.is_file() else {}
        return values

    def __enter__(self) -> WandBRun:
        """Itself."""
        return self

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        """End the run, and alert of a failure."""
        if self.run is None:
            return
        self.failed = False  # also after an error, what is there is sent
        if isinstance(error, Exception):
            self._try(self.run.alert, *payload.alert(self.config, error), "ERROR")
        folder, offline = Path(self.run.dir).parent, self.run.offline
        self._try(self.run.finish, int(error is not None))
        if offline and folder.is_dir():
            _log.info("W&B     %s\n        to send it: %s", folder, self._sync_command())

    def _try(self, action: Callable[..., Any], *given: Any) -> None:
        """Do it, or warn once that W&B could not."""
        if self.failed:
            return
        try:
            action(*given)
        except Exception as error:
            self.failed = True
            warnings.warn(
                f"W&B failed ({error!r}); the run goes on without it, and its files are complete",
                stacklevel=4,
            )


def _group(run_dir: Path, config: Mapping[str, Any], shard: int | None) -> str | None:
    """The run that shards make together, so that the merged one joins them; or the array."""
    if shard is not None or (config.get("data") or {}).get("num_shards", 1) > 1:
        return "/".join(run_dir.resolve().parts[-2:])
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"array-{array}" if array else None


def why_offline() -> str:
    """Why nothing can be sent to W&B; empty where it accepts the user's key. Never prompts."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    try:
        return "" if wandb.login(prompt=False) else "W&B has no key here"
    except Exception as error:
        return f"W&B is out of reach ({str(error).splitlines()[0]})"
