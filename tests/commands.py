"""Commands in this process: what `main` says, with a run in place of the real one where asked."""

import json
import sys

import pytest

from attnguide.runs import main
from attnguide.runs import run as life


@pytest.fixture
def answer(monkeypatch, capsys):
    """Words to (exit status, output, errors) of `python run.py`."""
    for name in ("HYDRA_FULL_ERROR", main.WHOLE):
        monkeypatch.setenv(name, "")  # restored afterwards, whatever main sets
        monkeypatch.delenv(name)

    def call(*words, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["run.py", *words])
        main.failed.clear()
        main.sweeps.clear()
        status = said = None
        try:
            main.main()
        except SystemExit as end:
            status, said = end.code, end.code
        out, err = capsys.readouterr()
        status = 1 if isinstance(said, str) else status or 0
        return status, out, err + (said if isinstance(said, str) else "")

    return call


@pytest.fixture
def jobs(monkeypatch):
    """What each job is told; runs come ready made, or fail as `jobs.fails` says."""
    seen, fails = [], {}

    def job(config, overrides, run_dir, *, sweep, stored):
        seen.append((config, overrides, run_dir, sweep))
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / "config.yaml").write_text(f"experiment: {config['experiment']}\n")
        if run_dir.name in fails:
            raise main.InputError(fails[run_dir.name])
        told = {"title": f"<{config['experiment']}>", "claim": "", "caption": "", "found": []}
        (run_dir / "findings.json").write_text(json.dumps(told))
        (run_dir / "provenance.json").write_text(json.dumps({"finished": "now", "seconds": 1}))
        (run_dir / "figure.png").write_bytes(b"")
        shown = config["runner"].get("shown", 0)
        (run_dir / "summary.csv").write_text(
            "method,order,quantity,auc,n,model\n"
            f"gae,negative,accuracy,{shown},9,m\ngae,positive,accuracy,{10 - shown},9,m\n"
            "complete,negative,accuracy,5.5,9,m\n"
        )

    monkeypatch.setattr(life, "run", job)
    job.seen, job.fails = seen, fails
    return job
