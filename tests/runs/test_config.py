"""Every choice composes, means what its name says, and is refused where it cannot be."""

from functools import partial

import pytest
import running
from hydra import compose, initialize_config_dir
from running import CONF, EXPERIMENTS, config, start

from attnguide import losses, rules
from attnguide.data import Creatures, Photographs
from attnguide.figures.experiment import Task
from attnguide.guides import Guide, no_guide
from attnguide.runs.console import make_console
from attnguide.runs.objects import (
    Problems,
    build,
    build_choices,
    build_experiment,
    build_methods,
)
from attnguide.runs.run import Run
from attnguide.runs.settings import SHARES, read_settings

GROUPS = ("data", "guide", "loss", "method", "model", "rule", "scale", "trainer")
NAMES = {group: sorted(p.stem for p in (CONF / group).glob("*.yaml")) for group in GROUPS}
FIG12 = "experiment=fig12_perturbation"


def choices_of(*words):
    """The objects of a command line, as a run makes them."""
    made = config(*words)
    takes = build_experiment(made).uses
    return build_choices(made, read_settings(made), takes, Problems())


@pytest.mark.parametrize("group", GROUPS)
def test_every_choice_composes_and_is_made(group):
    for name in NAMES[group]:
        made = config(FIG12, f"{group}={name}")
        if group == "method":
            assert list(made["method"]) == [name]
            assert isinstance(build_methods(made)[name], partial)
        if group in ("loss", "rule"):
            assert build(made[group], group) is getattr(
                {"loss": losses, "rule": rules}[group], name
            )
        if group == "guide":
            guide = build(made["guide"], "guide")
            assert guide == (no_guide() if name == "none" else Guide(layout=name))
        if group in ("data", "model"):
            node = {key: value for key, value in made[group].items() if key not in SHARES}
            assert build(node, group)


def test_the_default_is_the_embedded_study_of_two_methods():
    made = config(FIG12)
    assert (made["scale"], made["model"]["name"], made["data"]["name"]) == (
        "embedded",
        "creatures",
        "creatures",
    )
    assert list(made["method"]) == ["complete", "gae"]
    chosen = choices_of(FIG12)
    assert isinstance(chosen.pictures, Creatures)
    assert list(chosen.methods) == ["complete", "gae"]
    assert chosen.loss is losses.logit


def test_sample_and_paper_choose_model_data_and_logger():
    sample = choices_of(FIG12, "scale=sample", "model.checkpoint=w.safetensors", "data.root=x")
    assert sample.models.names == ("vit_tiny_patch16_224",)
    assert sample.models.checkpoint == "w.safetensors"
    assert isinstance(sample.pictures, Photographs)
    assert (sample.pictures.name, sample.pictures.root) == ("folder", "x")
    paper = config(FIG12, "scale=paper")
    names = build(paper["model"], "model").names
    assert [name.split("_")[1] for name in names] == ["base", "large"]
    assert {name.partition(".")[2] for name in names} == {"augreg_in21k_ft_in1k"}
    assert (paper["data"]["name"], paper["data"]["num_images"]) == ("imagenet_val", 5000)
    assert (CONF / "logger" / "wandb.yaml").read_text().find(str(paper["logger"]["project"])) > 0


def test_the_command_line_overrides_a_scale():
    words = ["scale=paper", "logger=files", "model=vit_base_patch16_224", "data.num_images=10"]
    made = config(FIG12, *words)
    assert made["logger"] == {"_target_": "attnguide.tracking.Files"}
    assert (len(build(made["model"], "model").names), made["data"]["num_images"]) == (1, 10)


def test_imagenet_comes_from_the_environment(monkeypatch):
    words = [FIG12, "scale=paper"]
    monkeypatch.setattr(running, "_composed", running._composed.__wrapped__)  # anew
    monkeypatch.setenv("IMAGENET_DIR", "/data/imagenet")
    assert config(*words)["data"]["root"] == "/data/imagenet"
    assert config(*words, "data.root=mine")["data"]["root"] == "mine"


@pytest.mark.parametrize(
    ("rule", "method"),
    [
        ("positive", "gae"),
        ("complete", "complete"),
        ("absolute", "absolute"),
        ("identity", "rollout"),
    ],
)
def test_a_rule_is_the_method_that_propagates_it(rule, method):
    made = build_methods(config(FIG12, f"rule={rule}"))
    assert list(made) == [method]
    assert made[method].keywords == {"rule": getattr(rules, rule)}


def test_methods_merge_with_their_settings():
    made = config(FIG12, "method=[gae,rollout]", "method.rollout.normalize=true")
    bound = {name: method.keywords for name, method in build_methods(made).items()}
    assert bound == {
        "gae": {"gradient": "plain"},
        "rollout": {"normalize": True, "start_layer": 0},
    }


def test_a_target_may_be_an_index_or_a_name():
    assert choices_of(FIG12, "target=340").target == "340"
    assert choices_of(FIG12, "target=long-tailed crane").target == "long-tailed crane"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data.shard=4", "data.num_shards=4"], r"data.shard must lie in \[0, 3\].*got 4"),
        (["data.num_images=many"], "data.num_images must be a valid integer, got 'many'"),
        (["precision=fp16"], "precision must be 'fp32', 'tf32' or 'bf16', got 'fp16'"),
        (["stage=drow"], "stage must be .*'draw'.* got 'drow'"),
        (["model.name=7"], r"model.name must be .*, got 7"),
        (["variant=clean"], "unknown setting of runner .variant."),
        (["method.gae=3"], "method.gae needs a `_target_`, got 3"),
        (["precision=bf16", "experiment=fig05_multi_class"], "remove it"),
    ],
)
def test_impossible_values_are_refused(words, message, tmp_path, no_models):
    with pytest.raises(ValueError, match=message):
        start(tmp_path / "run", FIG12, *words)
    assert not (tmp_path / "run").exists()


def test_sweeps_on_slurm_are_requeued_and_go_on():
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = [FIG12, "hydra/launcher=slurm"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        launcher = compose("config", words, return_hydra_config=True).hydra.launcher
    assert launcher._target_.endswith(".SlurmLauncher")
    assert launcher.max_num_timeout >= 3
    assert launcher.additional_parameters.requeue is True
    assert 600 < 60 * launcher.timeout_min > 2 * launcher.signal_delay_s


def test_a_variant_is_a_plain_key_and_the_runners_own():
    plain = build_experiment(config("experiment=train_creatures", "variant=contaminated"))
    longer = build_experiment(config("experiment=train_creatures", "runner.variant=contaminated"))
    assert plain == longer
    assert plain.variant == "contaminated"
    assert isinstance(plain, Task)
    assert build_experiment(config("experiment=train_creatures")).variant == "clean"


def passes(self, choices):
    """Whatever it takes."""


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_what_is_not_taken_is_not_recorded(name, tmp_path, small_models, monkeypatch):
    """The stored config names what was used, and nothing else."""
    made = config(f"experiment={name}", "device=cpu")
    assert made["experiment"] == name
    kind = type(build_experiment(made))
    assert kind.title
    assert kind.claim
    monkeypatch.setattr(kind, "check", passes)
    made_run = Run(made, [], tmp_path, make_console())
    nodes = {"method", "loss", "reference", "target", "guide"}
    assert nodes & set(made_run.config) == nodes & made_run.experiment.uses
    used = {"compile", "backend"} <= set(made_run.config)
    assert used == ("engine" in made_run.experiment.uses)
    assert "rule" not in made_run.config or "method" in made_run.experiment.uses
