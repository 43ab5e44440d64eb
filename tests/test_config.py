"""Every choice composes, means what its name says, and is refused where it cannot be."""

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf, open_dict

import run
from attnguide.config import check

GROUPS = ("data", "experiment", "guide", "logger", "loss", "method", "model")
CHOICES = {group: sorted(p.stem for p in (run.CONF / group).glob("*.yaml")) for group in GROUPS}
FOLDER = ["data.root=pictures"]
SAMPLE = ["scale=sample", "model.checkpoint=w.safetensors", *FOLDER]


def config(*words):
    """The checked config of a command line, as `run.py` makes it."""
    with initialize_config_dir(str(run.CONF), version_base="1.3"):
        cfg = compose("config", list(words), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return check(OmegaConf.to_object(cfg))


@pytest.mark.parametrize("turn", range(max(map(len, CHOICES.values()))))
def test_every_choice_composes(turn):
    words = {group: names[turn % len(names)] for group, names in CHOICES.items()}
    made = config(*(f"{group}={name}" for group, name in words.items()), *FOLDER)
    assert made.experiment == words["experiment"]
    assert list(made.method) == [words["method"]]
    assert made.loss == words["loss"]
    assert made.guide.layout == words["guide"]
    assert made.logger.name == words["logger"]
    assert made.data.name == words["data"]
    assert made.models[0][0].startswith("vit_base" if words["model"] == "paper" else words["model"])


def test_the_default_is_the_embedded_study_of_two_methods():
    made = config("experiment=fig12_perturbation")
    assert (made.scale, made.model.name, made.data.name) == ("embedded", "creatures", "creatures")
    assert list(made.method) == ["complete", "gae"]
    assert Path(made.run_dir).parent == Path("outputs/fig12_perturbation")


def test_sample_and_paper_choose_model_data_and_logger():
    sample = config(*SAMPLE)
    assert sample.models == (("vit_tiny_patch16_224", "w.safetensors"),)
    assert (sample.data.name, sample.logger.name) == ("folder", "files")
    paper = config("scale=paper")
    names = [name for name, _ in paper.models]
    assert [name.split("_")[1] for name in names] == ["base", "large"]
    assert {name.partition(".")[2] for name in names} == {"augreg_in21k_ft_in1k"}
    assert (paper.data.name, paper.data.num_images, paper.logger.name) == (
        "imagenet_val",
        5000,
        "wandb",
    )


def test_the_command_line_overrides_a_scale():
    made = config("scale=paper", "logger=files", "model=vit_base_patch16_224", "data.num_images=10")
    assert (made.logger.name, len(made.models), made.data.num_images) == ("files", 1, 10)


def test_imagenet_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("IMAGENET_DIR", "/data/imagenet")
    assert config("scale=paper").data.root == "/data/imagenet"
    assert config("scale=paper", "data.root=mine").data.root == "mine"


@pytest.mark.parametrize(
    ("rule", "method"),
    [
        ("positive", "gae"),
        ("complete", "complete"),
        ("absolute", "absolute"),
        ("identity", "rollout"),
    ],
)
def test_a_rule_is_its_method(rule, method):
    assert config(f"rule={rule}").method == {method: {}}


def test_methods_merge_with_their_settings():
    made = config("method=[gae,rollout]", "method.rollout.normalize=true")
    assert made.method == {"gae": {}, "rollout": {"normalize": True, "start_layer": 0}}


def test_a_target_may_be_an_index_or_a_name():
    assert config("target=340").target == "340"
    assert config("target=long-tailed crane").target == "long-tailed crane"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scale=sample"], "pass model.checkpoint=FILE"),
        (["scale=sample", "model.checkpoint=f"], "pass data.root=DIR"),
        (["data.shard=4", "data.num_shards=4"], r"must lie in \[0, 3\].*got 4"),
        (["data.num_images=0"], "data.num_images must be at least 1, got 0"),
        (["data.on_error=skipp"], "unknown data.on_error 'skipp'; did you mean skip?"),
        (["guide.layout=rigth"], "unknown guide.layout 'rigth'; did you mean right?"),
        (["guide.fraction=50"], "must lie in .* got 50; pass 0.5"),
        (["batch_size=-1"], "batch_size must be at least 1, got -1"),
        (["device=gpu"], "unknown device 'gpu'; did you mean cpu?"),
        (["precision=fp16"], "unknown precision 'fp16'"),
        (["stage=drow"], "unknown stage 'drow'; did you mean draw?"),
        (["model.name=[]"], "must be a name or a list of names"),
        (["model.name=[a,b]", "model.checkpoint=[c]"], r"one file per model \(2: a, b\), got 1"),
        (["experiment=fig05_multi_class", "variant=clean"], "fig05_multi_class has no variants"),
        (["method.gae=3"], "method.gae must hold settings by name, got 3"),
    ],
)
def test_impossible_values_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        config(*words)


@pytest.mark.parametrize(
    "words", [["seed=one"], ["data.workers=2.5"], ["guide.fraction=half"], ["logger.tags=7"]]
)
def test_values_of_the_wrong_type_are_refused(words):
    with pytest.raises(ConfigCompositionException, match=words[0]):
        config(*words)


def test_sweeps_on_slurm_are_requeued_and_go_on():
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    words = ["experiment=fig12_perturbation", "hydra/launcher=slurm"]
    with initialize_config_dir(str(run.CONF), version_base="1.3"):
        launcher = compose("config", words, return_hydra_config=True).hydra.launcher
    assert launcher._target_.endswith(".SlurmLauncher")
    assert launcher.max_num_timeout >= 3
    assert launcher.additional_parameters.requeue is True
    assert 600 < 60 * launcher.timeout_min > 2 * launcher.signal_delay_s


def test_a_variant_is_a_plain_key_and_the_runners_own():
    plain = config("experiment=train_creatures", "variant=contaminated")
    longer = config("experiment=train_creatures", "runner.variant=contaminated")
    assert plain.runner == longer.runner
    assert plain.runner["variant"] == "contaminated"
    assert config("experiment=train_creatures").runner["variant"] == "clean"
