"""The life of a run: computed once, resumed exactly, drawn from what is stored."""

import json
import logging
import random
import warnings
import weakref
from types import SimpleNamespace

import fake_study
import numpy as np
import pytest
import torch
from fake_study import fake_config, start_fake
from PIL import Image
from running import provenance, start

from attnguide.data.find import list_folder
from attnguide.errors import InputError
from attnguide.runs.predict import Explainer
from attnguide.runs.run import run
from attnguide.store.table import read

pytestmark = pytest.mark.usefixtures("study", "undrawn")
EXPLAIN = ["experiment=explain", "method=gae", "device=cpu", "batch_size=2"]


def test_a_run_leaves_its_files_and_says_where(tmp_path, capsys):
    start_fake(tmp_path / "run", "seed=3")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.yaml",
        "inputs.json",
        "provenance.json",
        "results.parquet",
        "summary.csv",
        "summary.md",
        "summary.tex",
        "claims.csv",
        "findings.json",
        "figure.png",
        "figure.pdf",
        "report.html",
        "parts",
    }
    told = json.loads((tmp_path / "run" / "findings.json").read_text())
    assert told["title"] == fake_study.FakeStudy.title
    assert set(told) == {"title", "claim", "caption", "found"}
    rows = read(tmp_path / "run")
    assert list(rows["image_id"]) == [f"image {i:02d}" for i in range(12)]
    assert set(rows["model"]) == {"tiny class_token"}
    assert (rows["relevance"].abs() > 0).all()  # no gradient, no relevance
    stored = provenance(tmp_path / "run")
    assert stored["finished"] >= stored["started"]
    assert (stored["seed"], stored["resumed"]) == (3, False)
    assert len(stored["commit"]) == 40
    told = capsys.readouterr().out
    assert "12 of 12 images" in told
    assert str(tmp_path / "run" / "report.html") in told
    assert "12 images." in told


def test_a_finished_run_is_drawn_again_and_not_computed(tmp_path, study, capsys):
    start_fake(tmp_path)
    (tmp_path / "figure.png").unlink()
    study.computed.clear()
    start_fake(tmp_path)
    assert study.computed == []
    assert (tmp_path / "figure.png").exists()
    assert "is already finished; redrawing" in capsys.readouterr().out


def test_another_config_in_the_same_folder_is_refused_by_key(tmp_path, study):
    start_fake(tmp_path)
    with pytest.raises(ValueError, match=r"seed \(there 0, now 1\); runner.count \(there None"):
        start_fake(tmp_path, "seed=1", count=3)
    study.computed.clear()
    start_fake(tmp_path, "batch_size=5", "data.workers=1")  # how fast, not what
    assert study.computed == []


def test_a_folder_that_is_no_run_is_not_written_to(tmp_path):
    (tmp_path / "results.parquet").write_text("somebody's own")
    with pytest.raises(ValueError, match=r"holds results.parquet but no config.yaml"):
        start_fake(tmp_path)
    with pytest.raises(ValueError, match="is a file"):
        start_fake(tmp_path / "results.parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["results.parquet"]
    with pytest.raises(FileNotFoundError, match="not a run"):
        start(tmp_path / "nowhere", "stage=draw")
    assert not (tmp_path / "nowhere").exists()


def test_unreadable_images_are_named_and_counted(tmp_path, capsys):
    start_fake(tmp_path, unreadable=[2, 7])
    assert len(read(tmp_path)) == 10
    assert provenance(tmp_path)["skipped"] == ["image 02", "image 07"]
    assert "skipped 2 unreadable of 12 images" in capsys.readouterr().out


def test_warnings_and_log_lines_are_plain_lines(tmp_path, study, monkeypatch, capsys):
    def speak(*_):
        warnings.warn("maps mean little here", stacklevel=1)
        logging.getLogger("attnguide.data").info("600 pictures [in] a folder")

    monkeypatch.setattr(study.FakeStudy, "check", speak)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        start_fake(tmp_path, count=3)
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["warning: maps mean little here", "600 pictures [in] a folder"]


def test_shards_merge_to_the_rows_of_one_run(tmp_path):
    """There are fewer pictures than shards."""
    words = ["batch_size=1", "data.num_shards=3"]
    start_fake(tmp_path / "whole", "batch_size=1", count=2)
    for shard in (2, 0):
        start_fake(tmp_path / "parts", *words, f"data.shard={shard}", count=2)
    with pytest.raises(ValueError, match="1 of 3 shards of .* are not finished: 1"):
        start(tmp_path / "parts", "stage=merge")
    start_fake(tmp_path / "parts", *words, "data.shard=1", count=2)
    start(tmp_path / "parts", "stage=merge")
    whole, parts = (tmp_path / name / "results.parquet" for name in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()
    assert provenance(tmp_path / "parts")["shards"] == 3


@pytest.mark.parametrize(
    ("words", "runner", "message"),
    [
        ([], {"cuont": 3}, "'cuont'; did you mean count"),
        ([], {"count": 0}, "runner.count must be at least 1"),
        (["method=[]"], {}, "no method is chosen"),
        (["method=rollout", "method.rollout.star_layer=1"], {}, "did you mean start_layer"),
        (["device=cuda:99"], {}, "CUDA devices; pass device=cpu"),
        (["model.name=vit_tyni_patch16_224"], {}, "did you mean vit_tiny_patch16_224"),
        (["model.name=vit_tiny_patch16_224", "model.checkpoint=gone.pth"], {}, "gone.pth"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, words, runner, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        start_fake(tmp_path / "run", *words, **runner)
    assert not (tmp_path / "run").exists()


def test_secrets_of_the_environment_never_reach_the_disk(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    start_fake(tmp_path, "guide.image='of 0123456789abcdef'", count=3)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in written if b"0123456789abcdef" in path.read_bytes()]
    assert "of ***" in (tmp_path / "config.yaml").read_text()


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"limit_predict_batchs": 1}, "trainer: .*limit_predict_batchs"),
        ({"precision": "17-odd"}, "trainer: .*17-odd"),
    ],
)
def test_what_lightning_refuses_is_one_line_and_leaves_nothing(tmp_path, node, message):
    made = fake_config()
    made["trainer"] |= node
    with pytest.raises(ValueError, match=message):
        run(made, [], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_seeds_reach_every_generator(tmp_path, monkeypatch, study):
    drawn = []
    items = study.FakeStudy.items

    def draw_numbers(self, chosen):
        drawn.append((random.random(), np.random.rand(), torch.rand(1).item(), chosen.seed))
        return items(self, chosen)

    monkeypatch.setattr(study.FakeStudy, "items", draw_numbers)
    for seed in (1, 2, 1):
        start_fake(tmp_path / str(len(drawn)), f"seed={seed}", count=1)
    assert drawn[0] == drawn[2]
    assert all(one != other for one, other in zip(drawn[0], drawn[1], strict=True))


def test_rows_are_let_go_once_they_are_stored(tmp_path, monkeypatch):
    kept, alive = [], []
    step = Explainer.predict_step

    def watched(self, batch, batch_idx):
        rows = step(self, batch, batch_idx)
        kept.append(weakref.ref(rows))
        alive.append(sum(ref() is not None for ref in kept))
        return rows

    monkeypatch.setattr(Explainer, "predict_step", watched)
    start_fake(tmp_path, "batch_size=1")
    assert len(alive) == 12
    assert max(alive) <= 2


def test_a_log_file_gets_a_line_now_and_then(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("attnguide.runs.console.SECONDS_BETWEEN_LINES", 0.0)
    start_fake(tmp_path, "batch_size=4")
    lines = [line for line in capsys.readouterr().out.splitlines() if " of 12 images" in line]
    assert [line.split(":")[1].split()[0] for line in lines] == ["4", "8", "12"]
    assert lines[0].endswith(" s left")
    assert " per s, " in lines[0]


@pytest.mark.parametrize("name", ["[red]run[/red]", "a\\[b] :smile:", "ü-ß b=c"])
def test_names_of_folders_are_data(tmp_path, name, capsys):
    start_fake(tmp_path / name, count=2)
    start_fake(tmp_path / name, count=2)
    said = capsys.readouterr().out
    assert f"{tmp_path / name / 'figure.png'}" in said
    assert f"{tmp_path / name} is already finished" in said.replace("\n", "")
    assert len(read(tmp_path / name)) == 2


@pytest.mark.usefixtures("small_models")
def test_a_run_inside_the_pictures_is_left_out(photographs):
    before = list_folder(photographs)
    words = [*EXPLAIN, "scale=sample", f"data.root={photographs}", "data.num_images=3"]
    start(photographs / "run", *words)
    assert (photographs / "run" / "figure.png").is_file()
    assert list_folder(photographs) == before
    start(photographs / "run", *words)


def test_a_check_tells_all_problems_and_the_cost_and_writes_nothing(tmp_path, capsys):
    start_fake(tmp_path / "run", "stage=check", unreadable=[8])
    told = capsys.readouterr().out.splitlines()
    heads = ["tracker", "model", "pictures  12 items, 12 of them here", "unreadable", "cost", "All"]
    assert all(line.startswith(head) for line, head in zip(told, heads, strict=True))
    words = ["stage=check", "device=cuda:99", "method=rollout", "method.rollout.star_layer=1"]
    with pytest.raises(InputError, match=r"^2 problems: \(1\) .*CUDA.*; \(2\) .*start_layer"):
        start_fake(tmp_path / "run", *words)
    words = ["devices=0", "method.rollout.star_layer=1", "data=folder", "data.root=gone"]
    with pytest.raises(InputError, match=r"^4 problems: \(1\) devices.*count.*gone.*star_layer"):
        start_fake(tmp_path / "run", "method=rollout", *words, "stage=check", count="many")
    assert not (tmp_path / "run").exists()


def test_a_check_computes_two_pictures_of_a_common_kind_and_one_of_a_rare(tmp_path, study, capsys):
    start_fake(tmp_path / "run", "stage=check", "data.num_shards=2", count=60, unreadable=[18])
    assert study.computed == ["image 17", "image 17", "image 19", "image 02"]
    told = "unreadable 1 of 3", " for each of 2 shards on cpu, ", " GB of memory, 0 MB stored"
    assert all(map(capsys.readouterr().out.__contains__, told))


def test_a_check_knows_shards_without_items_and_a_full_disk(tmp_path, capsys, monkeypatch):
    start_fake(tmp_path / "run", "stage=check", "data.num_shards=13", "data.shard=0")
    assert "12 items, 0 of them here" in capsys.readouterr().out
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1))
    with pytest.raises(InputError, match=r"needs about 0.0 GB and .* has 0.0 GB free; pass"):
        start_fake(tmp_path / "run", "stage=check")


def test_one_of_several_tasks_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(InputError, match=r"this is task 1 of 2 .* srun -n 1"):
        start_fake(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("small_models")
def test_pictures_that_do_not_fit_into_memory_are_skipped(tmp_path, photographs, monkeypatch):
    Image.new("1", (400, 400)).save(photographs / "n02391049" / "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    start(tmp_path / "run", *EXPLAIN, "scale=sample", f"data.root={photographs}")
    assert provenance(tmp_path / "run")["skipped"] == ["n02391049/huge.png"]
    assert len(read(tmp_path / "run")) == 8


@pytest.mark.usefixtures("small_models")
def test_a_refused_command_leaves_nothing_even_when_a_model_had_to_say_it(tmp_path):
    with pytest.raises(InputError, match="zebraa"):
        start(tmp_path / "run", *EXPLAIN, "target=zebraa")
    assert not (tmp_path / "run").exists()
