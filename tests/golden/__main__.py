"""Whether every experiment still gives its numbers: `python tests/golden [--make] [NAME ...]`.

Each experiment runs in a small size on the embedded model, and on photographs where `../shared` has
weights and pictures. Its rows, summary and claims are compared with those in `tables.zip` beside
this file, and a line says whether they are equal to the bit, equal within the tolerance, or
different, and where. Rows are matched by their names, claims by their numbers, so that another
sentence is no difference. `--make` stores what came out, after a change that is meant.

The stored numbers are those of one kind of processor and of the versions in constraints.txt;
elsewhere a flag may turn, and a number may differ by more than the tolerance.
"""

import os

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

import argparse
import hashlib
import io
import json
import sys
import tempfile
import time
import zipfile
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
STORED = Path(__file__).with_name("tables.zip")
ASSETS = ROOT.parent / "shared" / "assets"
TOLERANCE = 1e-6  # absolute or relative, whichever is larger

RULES = "complete,gae,absolute,complete_libra"
CHEAP = "complete,gae,complete_libra,t_attr,lrp,partial_lrp,cp_lrp,attn_lrp,attn_gradcam,gradcam,layercam,legrad,attcat,cdam,input_x_gradient,bi_head,bi_token,tam,grad_eclip"  # noqa: E501
SAMPLED = "dix,integrated_gradients,smoothgrad"
BLIND = "rollout,raw_attention,attention_flow"
# Words of each experiment, small; studies of many methods name them, whatever their default is
RUNS = {
    "explain": f"method=[{RULES}] target=predicted data.num_images=4",
    "fig02_pipeline": "data.num_images=8",
    "fig03_gradient_corrections": "data.num_images=16",
    "fig04_encoder_mechanism": "data.num_images=16",
    "fig05_multi_class": "data.num_images=12",
    "fig06_attention_transfer": "data.num_images=6 runner.steps=4",
    "fig07_single_class": "data.num_images=16",
    "fig08_guided": "data.num_images=8 runner.sweep_images=4",
    "fig09_detail": "data.num_images=10 runner.impostors=6",
    "fig10_other_methods": f"method=[{CHEAP},{SAMPLED}] data.num_images=4",
    "fig11_rewrite": "data.num_images=6 runner.max_steps=6",
    "fig12_perturbation": f"method=[{RULES}] data.num_images=12",
    "fig13_method_comparison": f"method=[{CHEAP},{SAMPLED},vit_cx,tis] data.num_images=4",
    "guide_controls": "data.num_images=12 runner.sweep_images=1",
    "in_domain_deletion": f"method=[{CHEAP},{SAMPLED}] data.num_images=4",
    "label_audit": "data.num_images=32 runner.impostors=6",
    "localization": f"method=[{CHEAP},{SAMPLED}] data.num_images=4 runner.grids=2",
    "parts": f"method=[{CHEAP}] data.num_images=4",
    "sanity_checks": f"method=[{CHEAP}] data.num_images=4 runner.precision_images=2",
    "scorecard": f"method=[{CHEAP},{SAMPLED},{BLIND}] data.num_images=4 runner.grids=2",
    "train_creatures": "runner.steps=[2,1,1] runner.views_per_step=8 runner.singles=32 "
    "runner.pairs=8",
}
# The same on photographs, where that differs; None where an experiment has creatures alone.
PHOTOGRAPHS = {
    "fig08_guided": "data.num_images=4 runner.sweep_images=2",
    "fig10_other_methods": f"method=[{RULES},lrp,layercam,grad_eclip] data.num_images=4",
    "fig12_perturbation": f"method=[{RULES}] data.num_images=6",
    "fig13_method_comparison": f"method=[{CHEAP}] data.num_images=4",
    "guide_controls": "data.num_images=4 runner.sweep_images=1",
    "in_domain_deletion": None,
    "label_audit": "data.num_images=16 runner.impostors=4",
    "localization": f"method=[{CHEAP},dix] data.num_images=4 runner.grids=2",
    "parts": None,
    "sanity_checks": "method=[complete,gae,lrp] data.num_images=2 runner.precision_images=1",
    "scorecard": f"method=[{RULES},cp_lrp,legrad] data.num_images=4 runner.grids=2",
    "train_creatures": None,
}


def commands(names):
    """Name and words of each run, long ones first."""
    places = {
        "model.checkpoint": ASSETS / "vit_tiny_patch16_224.augreg_in21k_ft_in1k.safetensors",
        "data.root": ASSETS / "imagenet_sample",
        "data.boxes": ROOT / "docs" / "boxes.json",
    }
    sample = ["scale=sample", *(f"{key}={path}" for key, path in places.items())]
    for name, words in reversed(RUNS.items()):
        if names and name not in names:
            continue
        yield name, words.split()
        words = PHOTOGRAPHS.get(name, words)
        if words is not None and ASSETS.is_dir():
            yield f"{name} on photographs", [*sample, *words.split()]


def run(job, folder):
    """Run a command in this process; its name, its seconds, and the end of its words if it failed.

    Args:
        job: Name and words.
        folder: Gets a folder of this name, and a file with what the command says.
    """
    name, words = job
    if (folder / name / "summary.csv").is_file():
        return name, 0, None
    log = folder / f"{name}.log"
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    begun, code = time.process_time(), 0
    words = [f"experiment={name.split()[0]}", *words, "device=cpu", "batch_size=4"]
    sys.argv = ["run.py", *words, f"run_dir='{folder / name}'"]
    try:
        program.main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    return name, time.process_time() - begun, code and log.read_text()[-2000:]


def tables(run_dir):
    """What a run left, by name; arrays are one number each."""
    found = {"results": pd.read_parquet(run_dir / "results.parquet")}
    for kind in ("summary", "claims"):
        if (run_dir / f"{kind}.csv").is_file():
            found[kind] = pd.read_csv(
                run_dir / f"{kind}.csv", keep_default_na=False, na_values=[""]
            )
    for table in found.values():
        for name, column in table.items():
            if column.map(lambda value: isinstance(value, bytes | np.ndarray | list)).any():
                table[name] = column.map(fingerprint, na_action="ignore").astype(float)
    return found


def fingerprint(value):
    """One number that tells arrays apart: a sum with weights that depend on the place."""
    if isinstance(value, bytes) and value[:2] == b"PK":
        with np.load(io.BytesIO(value), allow_pickle=False) as opened:
            value = np.concatenate([np.ravel(opened[name]) for name in opened.files])
    elif isinstance(value, bytes):
        value = np.frombuffer(value, "<f4")
    value = np.ravel(np.asarray(value, dtype=float))
    return float(value @ np.cos(np.arange(value.size)))


def digests(table):
    """What is equal only where a column is equal to the bit, by column."""
    hashes = {
        name: pd.util.hash_pandas_object(column, index=False) for name, column in table.items()
    }
    return {
        name: hashlib.sha256(h.to_numpy().tobytes()).hexdigest()[:12] for name, h in hashes.items()
    }


def as_text(table):
    return table.to_csv(index=False, float_format="%.8g")


def of_text(text):
    return pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])


def store(found):
    """Put the tables of runs into the zip; those of others stay."""
    kept = {}
    if STORED.is_file():
        with zipfile.ZipFile(STORED) as opened:
            kept = {name: opened.read(name).decode() for name in opened.namelist()}
    for run_name, kinds in found.items():
        for kind, table in kinds.items():
            kept[f"{run_name}/{kind}.csv"] = as_text(table)
            kept[f"{run_name}/{kind}.json"] = json.dumps(digests(table))
    with zipfile.ZipFile(STORED, "w", zipfile.ZIP_LZMA) as opened:
        for name, text in sorted(kept.items()):
            opened.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_LZMA)


def compare(run_name, kinds):
    """A line about a run, and whether it differs from what is stored."""
    wrong, exact, alone = [], True, []
    with zipfile.ZipFile(STORED) as opened:
        names = {
            Path(name).stem for name in opened.namelist() if Path(name).parent.name == run_name
        }
        if not names:
            return f"* {run_name}: nothing is stored of it; `--make` does that", True
        for kind in sorted(names | set(kinds)):
            if kind not in names or kind not in kinds:
                wrong.append(f"{kind} is on one side only")
                continue
            before = of_text(opened.read(f"{run_name}/{kind}.csv").decode())
            hashes, now = json.loads(opened.read(f"{run_name}/{kind}.json")), digests(kinds[kind])
            exact &= all(now[name] == h for name, h in hashes.items() if name in now)
            alone += [f"{kind}.{name}" for name in set(hashes) ^ set(now)]
            after = of_text(as_text(kinds[kind]))
            wrong += claims(before, after) if kind == "claims" else rows(kind, before, after)
    said = "; ".join(wrong) or ("equal to the bit" if exact else f"equal within {TOLERANCE}")
    columns = f" (columns on one side only: {', '.join(sorted(alone))})" if alone else ""
    return f"{'* ' if wrong else '  '}{run_name}: {said}{columns}", bool(wrong)


def rows(kind, before, after):
    """What differs in the columns that both tables have."""
    shared = [name for name in before if name in after]
    numbers = [name for name in shared if before[name].dtype.kind == "f"]
    names = [name for name in shared if name not in numbers]
    if len(before) != len(after):
        return [f"{kind}: {len(before)} rows before, {len(after)} now"]
    before, after = (
        table[shared]
        .assign(**{name: table[name].astype(object).fillna("").map(str) for name in names})
        .sort_values(names, kind="stable")
        for table in (before, after)
    )
    wrong = [
        f"{kind}.{name}: {count} of {len(before)} differ"
        for name in names
        if (count := int((before[name].to_numpy() != after[name].to_numpy()).sum()))
    ]
    for name in numbers:
        x, y = before[name].to_numpy(), pd.to_numeric(after[name], errors="coerce").to_numpy(float)
        far = ~np.isclose(y, x, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
        if far.any():
            gap = np.nanmax(np.abs(x - y))
            wrong.append(f"{kind}.{name}: {far.sum()} of {len(x)} differ, by up to {gap:.2g}")
    return wrong


def claims(before, after):
    """Claims of before whose numbers no claim has now; they may have other words and places."""
    numbers = ["value", "low", "high", "n"]
    left = after[numbers].to_numpy(float)
    gone = 0
    for line in before[numbers].to_numpy(float):
        same = np.isclose(left, line, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True).all(axis=1)
        gone += not same.any()
        left = np.delete(left, same.argmax(), axis=0) if same.any() else left
    wrong = [f"claims: the numbers of {gone} of {len(before)} are gone"] if gone else []
    return wrong + ([f"claims: {len(left)} more than before"] if len(left) else [])


def main():
    """Run, then compare or store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("names", nargs="*", help="experiments, by default all")
    parser.add_argument("--make", action="store_true", help="store instead of compare")
    parser.add_argument("--folder", type=Path, help="keep the runs here; finished ones are used")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = (args.folder or Path(made)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        found, bad = {}, 0
        with get_context("fork").Pool(2, maxtasksperchild=1) as pool:
            jobs = list(commands(args.names))
            for name, seconds, failed in pool.imap_unordered(partial(run, folder=folder), jobs):
                if failed:
                    line, wrong = f"* {name}: failed: {failed}", True
                else:
                    found[name] = tables(folder / name)
                    line, wrong = ("  " + name, False) if args.make else compare(name, found[name])
                bad += wrong
                sys.stdout.write(f"{line} ({seconds:.0f} s)\n")
                sys.stdout.flush()
        if args.make:
            store(found)
    return f"{bad} of {len(jobs)} runs differ" if bad else None


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "src")]
    import torch

    import attnguide.runs.run  # noqa: F401
    import run as program
    from attnguide.evaluation import engines

    torch.set_num_threads(1)
    engines.is_installed = lambda: False  # torch alone gives the same bits everywhere
    sys.exit(main())
