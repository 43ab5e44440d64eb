"""W&B holds what the files hold, and neither prompts nor blocks."""

import itertools
import json
import shlex
import subprocess
import sys
import time
import warnings
from pathlib import Path
from unittest.mock import MagicMock

import fake_study
import pytest
import wandb
import yaml
from matplotlib.figure import Figure
from test_wandb_payload import CLAIMS, ROWS, SUMMARY, shown
from wandb_file import read_part, read_run

from attnguide.findings import Findings
from attnguide.store.table import Results, merge
from attnguide.tracking import WandB

WANDB = ("logger=wandb", "logger.mode=offline")
SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path_factory):
    """No key, no settings of the person who runs the tests, and the fake study."""
    wandb.teardown()
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC", "SLURM_ARRAY_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    home = str(tmp_path_factory.mktemp("home"))
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, home)
    fake_study.install(monkeypatch.setitem, monkeypatch.setattr)
    monkeypatch.setattr(fake_study, "computed", [])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_offline_run_holds_what_the_files_hold_and_no_secret(tmp_path, monkeypatch, capsys):
    for name in ("WANDB_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    tags = f"logger.tags=[mine,of {SECRET}]"
    fake_study.start_fake(tmp_path / "sweep", *WANDB, tags, "data=creatures", sweep=True)
    found = read_run(tmp_path / "sweep")
    assert found["run"].project == "attnguide"
    assert found["run"].job_type == "fake_study"
    assert found["run"].run_group == "/".join(tmp_path.resolve().parts[-2:])
    assert set(found["run"].tags) == {"mine", "of ***", "embedded", "complete", "creatures"}
    assert found["run"].run_id.startswith("fake_study-")
    assert found["run"].display_name == "fake_study · creatures · complete"
    assert found["run"].notes.splitlines()[0] == fake_study.FakeStudy.title
    assert found["config"]["experiment"] == "fake_study"
    assert found["config"]["method"] == ["complete"]
    assert found["config"]["method_settings"]["complete"]["gradient"] == "plain"
    assert found["config"]["logger"]["tags"] == ["mine", "of ***"]
    stored = json.loads((tmp_path / "sweep" / "provenance.json").read_text())
    assert found["config"]["provenance"] == stored
    progress = [line for line in found["history"] if "progress/images" in line]
    assert progress[-1]["progress/images"] == 12
    assert found["metrics"]["curve*"].step_metric == "fraction"
    logged = {"/".join(key.split("/")[:2]) for line in found["history"] for key in line}
    assert {"table/summary", "figure/figure", "report/_type"} <= logged
    assert found["artifacts"]["results"] == [
        "claims.csv", "config.yaml", "provenance.json", "results.parquet", "summary.csv",
    ]  # fmt: skip
    assert found["artifacts"]["figure"] == ["figure.pdf", "figure.png"]
    assert found["artifacts"]["report"] == ["report.html"]
    assert found["config"]["inputs"]["data-creatures"]["name"] == "creatures"
    assert not [key for key in found["summary"] if key.startswith(("curve/", "progress/"))]
    assert found["exit"] == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 15
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err
    assert f"to send it: wandb beta sync --id {found['run'].run_id} {tmp_path}/sweep" in told.out


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_shard_tells_of_its_progress_in_a_run_of_its_own(tmp_path):
    fake_study.start_fake(tmp_path, *WANDB, "data.shard=1", "data.num_shards=2")
    found = read_run(tmp_path)
    assert found["run"].run_id.endswith("-shard0001")
    assert found["run"].display_name == "fake_study · creatures · complete · shard 1"
    assert found["run"].run_group == "/".join(tmp_path.resolve().parts[-2:])
    assert [line["progress/images"] for line in found["history"]] == [3, 6]  # the first batch, too
    assert found["artifacts"] == {}


UNREACHABLE = {
    "WANDB_HTTP_TIMEOUT": "1",
    "WANDB_API_KEY": SECRET,
    "WANDB_BASE_URL": "http://127.0.0.1:9",  # nobody listens there
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("environment", "why"), [({}, "no key here"), (UNREACHABLE, "out of reach")]
)
def test_what_cannot_be_sent_is_offline_with_one_warning(tmp_path, monkeypatch, environment, why):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with Results(tmp_path, ("image_id", "method", "order", "fraction")) as results:
        results.append(ROWS)
    merge(tmp_path)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", UserWarning)
        with WandB(mode="online").open(tmp_path, {}) as logger:
            logger.log(Findings(Figure(), SUMMARY, "A caption.", ("Found.",)))
    [one] = [str(w.message) for w in told if w.category is UserWarning]
    assert why in one
    assert "so this run is logged offline; later: wandb login" in one
    found = read_run(tmp_path)
    steps = [line for line in found["history"] if "fraction" in line]
    assert [line["fraction"] for line in steps] == [0.0, 0.5]
    assert [line["curve/negative_accuracy/gae"] for line in steps] == [100.0, 100.0]
    assert [line["curve/positive_probability/gae"] for line in steps] == [0.0, 25.0]
    assert found["summary"]["auc/negative_accuracy/complete"] == 90.0
    assert not [key for key in found["summary"] if key.startswith("curve/") or key == "fraction"]


def test_whatever_wandb_raises_the_run_is_complete(tmp_path, monkeypatch, capsys):
    def init(**_):
        raise RuntimeError("a fault of W&B")

    monkeypatch.setattr(wandb, "init", init)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        fake_study.start_fake(tmp_path, *WANDB)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"results.parquet", "summary.csv", "figure.png", "report.html"} <= names
    assert capsys.readouterr().out.count("a fault of W&B") == 1


@pytest.fixture
def begun(monkeypatch):
    """What `wandb.init` is called with; it fails."""
    calls = []

    def init(**chosen):
        calls.append(chosen)
        raise RuntimeError

    monkeypatch.setattr(wandb, "init", init)
    return calls


def begin(run_dir, config=None, **options):
    logger = WandB(mode="offline")
    with (
        pytest.warns(UserWarning, match="W&B failed"),
        logger.open(run_dir, config or {}, **options),
    ):
        pass


def test_a_requeued_shard_goes_on_in_its_own_wandb_run(tmp_path, monkeypatch, begun):
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4711")
    for shard in (0, 1, 1, None):
        begin(tmp_path, {"data": {"num_shards": 2}}, shard=shard)
    ids = [chosen["id"] for chosen in begun]
    assert ids[0] != ids[1] == ids[2] != ids[3]
    assert not set("".join(ids)) & set(":;,#?/'")  # W&B refuses these
    assert {chosen["resume"] for chosen in begun} == {"allow"}


def test_shards_and_what_they_are_merged_to_are_one_group(tmp_path, monkeypatch, begun):
    own = "/".join(tmp_path.resolve().parts[-2:])
    for shard in (0, None):
        begin(tmp_path, {"data": {"num_shards": 2}}, shard=shard)
    begin(tmp_path, {"data": {"num_shards": 1}})
    begin(tmp_path, group="sweep")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "4711")
    begin(tmp_path, {"data": {"num_shards": 2}}, shard=1)
    begin(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "abc")  # whose agent names the run
    begin(tmp_path, group="sweep")
    groups = [chosen["group"] for chosen in begun]
    assert not {"id", "resume", "project", "entity"} & set(begun.pop())
    assert groups == [own, own, None, "sweep", own, "array-4711", "sweep"]


def test_a_wrong_mode_is_refused():
    with pytest.raises(ValueError, match="did you mean offline"):
        WandB(mode="ofline")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_failure_is_told_of_and_ctrl_c_is_none(tmp_path):
    for number, error in enumerate([ValueError("no pictures\nmore"), KeyboardInterrupt()]):
        logger = WandB(mode="offline").open(tmp_path / str(number), {"experiment": "fig"})
        with pytest.raises(type(error)), logger:
            raise error
    found = [read_run(tmp_path / name) for name in "01"]
    assert found[0]["alerts"] == [("fig failed", "ValueError: no pictures", "ERROR")]
    assert found[1]["alerts"] == []
    assert [one["exit"] for one in found] == [1, 1]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parts_of_a_resumed_run_are_sent_by_the_command_that_is_told(tmp_path, caplog):
    caplog.set_level("INFO", "attnguide")
    run_dir = tmp_path / "it's a folder"
    run_dir.mkdir()
    for images in (4, 8):
        with WandB(mode="offline").open(run_dir, {"experiment": "fig"}) as logger:
            logger.progress("tiny", images, 1.0)
        time.sleep(1.1)  # W&B names folders by the second
    with WandB(mode="offline").open(run_dir, {"experiment": "fig"}, shard=1):
        pass  # another run in the same folder
    parts = sorted((run_dir / "wandb").glob("offline-run-*"))[:2]
    assert len({part.name.split("-", 3)[3] for part in parts}) == 1  # one id
    steps = [[line["progress/images"] for line in read_part(part)["history"]] for part in parts]
    assert steps == [[4], [8]]
    commands = [text.split("to send it: ")[1] for text in caplog.messages if "to send it" in text]
    command = commands[1]
    words = f"{shlex.quote(sys.executable)} -m {command} --dry-run"
    done = subprocess.run(words, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for part in parts:
        assert part.name in done.stdout + done.stderr
    assert "Would sync 2 run(s)" in done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pictures_claims_and_lineage_reach_the_offline_run(tmp_path):
    (tmp_path / "provenance.json").write_text(
        json.dumps({"weights_sha256": {"tiny": "ab" * 32}, "data_sha256": "cd" * 32})
    )
    (tmp_path / "maps.npz").write_bytes(b"maps")
    findings = Findings(Figure(), SUMMARY, "", (), title="Fig", claims=CLAIMS)
    with WandB(mode="offline").open(tmp_path, {"data": {"name": "a b"}}) as logger:
        logger.log(findings, [shown("i1", ["gae"]), shown("i2", ["gae"])])
    found = read_run(tmp_path)
    assert found["summary"]["claim/fig/right/verdict"] == "holds"
    assert found["run"].notes.splitlines()[:2] == [
        "Fig",
        "- right of 4.5 (tiny): 0.50 [0.25, 0.75], n = 12, bound > 0.2: holds",
    ]
    logged = {key.split("/_")[0] for line in found["history"] for key in line}
    assert {"table/images", "table/claims"} <= {"/".join(key.split("/")[:2]) for key in logged}
    assert found["artifacts"]["maps"] == ["maps.npz"]
    inputs = found["config"]["inputs"]
    assert inputs["weights-tiny"] == {"model": "tiny", "sha256": "ab" * 32}
    assert (inputs["data-a-b"]["name"], inputs["data-a-b"]["sha256"]) == ("a b", "cd" * 32)


def test_online_weights_and_data_are_inputs_and_the_files_outputs(tmp_path, monkeypatch):
    (tmp_path / "provenance.json").write_text('{"weights_sha256": {"tiny": "ab"}}')
    run = MagicMock(offline=False, id="fig-1", dir=str(tmp_path / "wandb" / "files"))
    begun = MagicMock(return_value=run)
    monkeypatch.setattr(wandb, "init", begun)
    monkeypatch.setattr(wandb, "login", login := MagicMock(return_value=True))
    with WandB().open(tmp_path, {"data": {"name": "a b"}}) as logger:
        logger.log(Findings(Figure(), SUMMARY, "", ()))
    login.assert_called_once_with(prompt=False)
    assert begun.call_args.kwargs["mode"] == "online"
    assert [call.args[0].name for call in run.use_artifact.call_args_list] == [
        "weights-tiny", "data-a-b",
    ]  # fmt: skip
    assert [call.args[0].type for call in run.log_artifact.call_args_list] == ["results"]
    run.finish.assert_called_once_with(0)


def test_a_sweep_over_rules_is_a_list_of_commands_that_compose(answer, jobs, tmp_path, monkeypatch):
    sweep = yaml.safe_load(Path("slurm/sweep.yaml").read_text())
    assert Path(sweep["program"]).is_file()
    assert "${args}" in sweep["command"]
    words = {
        name: one.get("values", [one.get("value")]) for name, one in sweep["parameters"].items()
    }
    assert set(words["rule"]) == {path.stem for path in Path("conf/rule").glob("*.yaml")}
    monkeypatch.chdir(tmp_path)
    for chosen in itertools.product(*words.values()):
        given = dict(zip(words, chosen, strict=True))
        args = (f"--{name}={value}" for name, value in given.items())
        assert answer(*args, WANDB_SWEEP_ID="made-up")[0] == 0
        made, _, run_dir, _ = jobs.seen[-1]
        assert made["logger"]["_target_"].endswith("WandB")
        assert run_dir == Path("outputs/rules") / given["rule"]
