"""Commands of README and the pages, as printed, for a network and pictures of a stranger's."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from conftest import paint
from foreign import save_fine_tuned

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "slurm" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CLASSES = ("zebra", "tabby", "beagle", "toucan", "snail")
SMALL = ["device=cpu", "data.num_images=10"]  # added, so that a minute is enough
NEED_MORE = ("scale=paper", "hydra/launcher=slurm", "wandb sweep")  # weights, a cluster, an account


def commands():
    """Words after `python run.py` in every block of bash, `$M` replaced by what it stands for."""
    found = {}
    for page in PAGES:
        for block in re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.M | re.S):
            lines = block.replace("\\\n", " ").splitlines()
            given = [line for line in lines if line.startswith("M=")]
            meant = shlex.split(given[0], comments=True)[0][2:] if given else ""
            for line in lines:
                line = line.replace("$M", meant or stranger())
                if line.startswith("python run.py ") and not any(w in line for w in NEED_MORE):
                    words = shlex.split(line, comments=True)[2:]
                    found[" ".join(words)] = words
    return found.values()


def stranger():
    """What README's `$M` stands for, in blocks after the one that sets it."""
    return re.search(r'^M="(.*?)"', (ROOT / "README.md").read_text(), re.M)[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`my-vit`, as HuggingFace saves it, and `pets`, a folder of pictures per class."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "src").symlink_to(ROOT / "src")  # a picture of ours
    save_fine_tuned(folder / "my-vit", CLASSES, unlikely="zebra")  # the guide
    rng = np.random.default_rng(0)
    for name in CLASSES:
        for number in range(4):
            paint(folder / "pets" / name / f"{number}.jpg", rng)
    return folder


def run(command, folder, words):
    """What a command says; it must end well."""
    offline = {"WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
    code, text = command(words, cwd=folder, env=offline)
    assert code == 0, text[-3000:]
    return text


def is_run(words):
    return any(word.startswith("experiment=") for word in words) and "--multirun" not in words


@pytest.mark.parametrize("words", [*filter(is_run, commands())], ids=" ".join)
def test_every_command_can_be_run(words, folder, command):
    """Everything that can fail is tried, as `stage=check` does."""
    words = [word for word in words if not word.startswith("stage=")]
    assert "All checks passed" in run(command, folder, [*words, "device=cpu", "stage=check"])


@pytest.mark.system
@pytest.mark.parametrize("words", [*filter(is_run, commands())], ids=" ".join)
def test_every_command_gives_a_report(words, folder, command, tmp_path):
    if "stage=check" in words:
        return
    run(command, folder, [*words, *SMALL, f"run_dir={tmp_path / 'run'}"])
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.system
def test_a_sweep_is_gathered(folder, command):
    sweep, gather = (
        [words for words in commands() if mark in words]
        for mark in ("--multirun", "stage=aggregate")
    )
    for words in sweep:
        run(command, folder, [*words, *SMALL, "runner.fractions=[0,0.5]", gather[0][-1]])
    for words in gather:
        run(command, folder, words)
    assert list(folder.rglob("aggregate.csv"))


def test_the_dashboard_is_stored_without_network(folder, command):
    [words] = [words for words in commands() if "stage=dashboard" in words]
    assert "TEAM" in " ".join(words)
    run(command, folder, words)
    assert (folder / "outputs" / "dashboard.json").is_file()
