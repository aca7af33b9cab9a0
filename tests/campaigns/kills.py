"""Kills every writing command at random times and around its renames, and checks the result.

    python tests/campaigns/kills.py                 # 100 kills of train and update, 50 of others
    python tests/campaigns/kills.py --kills 5 --only delete,rollback
    python tests/campaigns/kills.py --state kills.jsonl    # continues where it was stopped

Each kill starts from the same folder. After it, readers must see the state before or after the
command. Then the command is run again, and the folder must be identical, byte for byte, to that of
an uninterrupted run: the same files, and no others. Timestamps in manifests, TensorBoard curves and
durations are not compared. Prints counts; exits with 1 if something is wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import io
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import record

from dsi.cli import VERBS
from tests.helpers.fake_hub import FakeHub, serving

Answer = Any
MISSING = "missing"
_LAST = 12
WORDS = "harbour whale sailor anchor tide coral pirate cloud falcon thunder comet glider fern moss"
STEPS = ["--loop.precision", "fp32", "--loop.steps", "6", "--loop.checkpoint_every", "2"]
TRAIN = ["train", "ds", "--out", "index", "--docids", "atomic", "--per_doc", "3", *STEPS]
TRAIN += ["--loop.batch", "16", "--loop.evaluate_every", "3", "--model.dropout", "0.1"]
TRAIN_BF16 = ["bf16" if word == "fp32" else word for word in TRAIN]
UPDATE = ["update", "index", "more.jsonl", "--strategy", "generative", "--steps", "6"]
COMPARE = ["compare", "ds", "--out", "grid", "--docids", "atomic,naive", "--per_doc", "3", *STEPS]
COMPARE += ["--loop.batch", "16", "--lexical.enabled", "false", "--baselines", "none"]
CONTINUAL = ["continual", "parts", "--strategies", "finetune", "--out", "results", "--seeds", "1"]
CONTINUAL += ["--per_doc", "3", *STEPS, "--loop.batch", "16", "--update_steps", "4"]
EVALUATE = ["evaluate", "index", "ds", "--baselines", "none"]
EVALUATE += ["--table", "table.json", "--per_query", "queries.csv"]
EXPORT = ["export", "index", "table", "--format", "static", "--network_only"]
REPOSITORY = "somebody/index"


@dataclasses.dataclass(frozen=True)
class Case:
    """A command that is killed.

    Attributes:
        words: The command line; it runs in its own copy of the folder.
        start: What the folder holds before: a name in `Folders`.
        answer: What readers find in a folder.
        may_be_missing: Whether readers may find nothing until the command is run again: a folder
            that is not an index is replaced by two renames.
        grows: Whether readers may find the beginning of the final answer.
        is_done: Whether the command has done all it was to do, and is not to be run again.
    """

    words: list[str]
    start: str
    answer: Callable[[Path], Answer]
    may_be_missing: bool = False
    grows: bool = False
    is_done: Callable[[Path], bool] = lambda folder: False


def hits(folder: Path) -> Answer:
    """Returns what a search in the index finds; None where there is none yet."""
    from dsi import Index

    if not (folder / "index" / "live").exists():
        return None
    asked = [f"where is {word}zor{n}" for n, word in enumerate(WORDS.split())]
    found = Index.open(folder / "index", "cpu").search(asked, k=3)
    return [[(hit.doc_id, hit.score) for hit in some] for some in found]


def dataset(folder: Path) -> Answer:
    """Returns the content of a dataset, and what was made of it."""
    from data_prep.dataset import Dataset

    if not (folder / "ds").exists():
        return MISSING
    opened = Dataset.open(folder / "ds")
    made = {
        name: sorted(map(str, opened.pseudo_queries(name).to_list())) for name in opened.generators
    }
    memory = folder / "ds" / "memory"
    return opened.info.content_hash, made, sorted(file.name for file in memory.glob("*"))


def pseudo_queries(folder: Path) -> Answer:
    """Returns the pseudo-queries of a dataset."""
    made = dataset(folder)[1]
    return made or MISSING


def identifiers(folder: Path) -> Answer:
    """Returns the identifier of every document."""
    from docids.assignment import Assignment

    if not (folder / "ids").exists():
        return MISSING
    table = Assignment.open(folder / "ids").table
    return [(doc_id, tuple(table.sequence(row))) for row, doc_id in enumerate(table.doc_ids)]


def exported(folder: Path) -> Answer:
    """Returns the exported identifiers, and the settings beside them."""
    import numpy as np

    from dsi.export.base import IDS, NAMES, SETTINGS

    table = folder / "table"
    if not table.exists():
        return MISSING
    texts = [(table / name).read_text() for name in (NAMES, SETTINGS)]
    return np.load(table / IDS).tolist(), texts


def pulled(folder: Path) -> Answer:
    """Returns what a search in the downloaded index finds."""
    if not (folder / "index").exists():
        return MISSING
    return hits(folder)


def measured(folder: Path) -> Answer:
    """Returns the rows of a grid, without durations."""
    from data_prep.files import read_json_lines

    rows = read_json_lines(folder / "grid" / "results.jsonl")
    return [(row["cell"], row["fingerprint"], row["measures"]) for row in rows]


def continued(folder: Path) -> Answer:
    """Returns the results after each increment, without durations."""
    from data_prep.files import read_json

    found = []
    for file in sorted((folder / "results" / "results").rglob("d*.json")):
        result = read_json(file)
        found.append([result[name] for name in ("corpus", "steps", "performance")])
    return found


def parts(folder: Path) -> Answer:
    """Returns the content of the parts of a split dataset."""
    from dsi.continual.increments import open_split

    if not (folder / "parts").exists():
        return MISSING
    return [part.info.content_hash for part in open_split(folder / "parts")]


def files(*names: str) -> Callable[[Path], Answer]:
    """Returns a reader of the content of files; those that are missing are left out."""

    def read(folder: Path) -> Answer:
        return [(name, (folder / name).read_bytes()) for name in names if (folder / name).exists()]

    return read


def rolled_back(folder: Path) -> bool:
    """Tells whether the rollback is over: nothing says that one is under way."""
    live = (folder / "index" / "live").read_text().strip()
    return live == "0002" and not (folder / "index" / ".rollback").exists()


CASES = {
    "train": Case(TRAIN, "prepared", hits),
    "train-bf16": Case(TRAIN_BF16, "prepared", hits),
    "update": Case(UPDATE, "trained", hits),
    "update-bf16": Case(UPDATE, "trained_bf16", hits),
    "delete": Case(
        ["delete", "index", "d3", "d5"],
        "trained",
        hits,
        is_done=lambda folder: (folder / "index" / "live").read_text().strip() == "0002",
    ),
    "rollback": Case(["rollback", "index"], "deleted", hits, is_done=rolled_back),
    "prepare": Case(["prepare", "beir", "--out", "ds"], "kept", dataset, may_be_missing=True),
    "docids": Case(
        ["docids", "ds", "--kind", "semantic", "--out", "ids"],
        "prepared",
        identifiers,
        may_be_missing=True,
    ),
    "queries": Case(
        ["queries", "ds", "--generator", "extractive", "--per_doc", "5"],
        "prepared",
        pseudo_queries,
        may_be_missing=True,
    ),
    "prune": Case(["prune", "index", "--keep", "1"], "deleted", hits),
    "export": Case(EXPORT, "trained", exported, may_be_missing=True),
    "pull": Case(["pull", REPOSITORY, "--out", "index"], "empty", pulled, may_be_missing=True),
    "compare": Case(COMPARE, "prepared", measured, grows=True),
    "continual": Case(CONTINUAL, "split", continued, grows=True),
    "split": Case(
        ["split", "ds", "--out", "parts", "--increments", "2"],
        "prepared",
        parts,
        may_be_missing=True,
    ),
    "search": Case(
        ["search", "index", "--queries", "asked.tsv", "--run", "run.trec.gz"],
        "trained",
        files("run.trec.gz"),
    ),
    "evaluate": Case(EVALUATE, "trained", files("queries.csv"), grows=True),
}
OFTEN = ("train", "train-bf16", "update", "update-bf16")
"""Commands that are killed 100 times; the others 50 times."""


PRELOADED = [
    "dsi.cli", "dsi.command_line.arguments", "dsi.libraries", "dsi.building",
    "dsi.given_documents", "dsi.index", "dsi.indexing.build", "dsi.training.loop",
    "dsi.updating.update", "dsi.updating.training",
    "dsi.updating.strategies", "dsi.lexical.weight_training", "dsi.objectives.loss_terms",
    "dsi.continual.protocol", "dsi.continual.strategies_page", "dsi.evaluation.comparison",
    "dsi.evaluation.measures", "dsi.evaluation.comparison_page", "dsi.evaluation.significance",
    "dsi.hub.pull", "dsi.export.static", "data_prep.sources", "data_prep.generators",
    "data_prep.benchmarks", "data_prep.dataset_statistics", "docids.kinds",
    "transformers.models.t5.modeling_t5", "torch.utils.tensorboard", "torch._dynamo",
    "sentencepiece", "Stemmer", "bm25s", "faiss", "pandas", "datasets", "pyarrow.dataset",
    "pyarrow.parquet", "scipy.stats", "scipy.interpolate", "sklearn.cluster",
    "sklearn.decomposition", "rich.table", "rich.progress", "rich.console", "jsonargparse",
    "jsonargparse.typing", "docstring_parser", "typeshed_client", "attr", "attrs", "narwhals",
    "joblib", "ir_measures", "pytrec_eval", "py3langid", "xxhash", "huggingface_hub", "sqlite3",
    "multiprocess", "cloudpickle",
]  # fmt: skip
"""What commands import, and what libraries import late."""


@dataclasses.dataclass
class Moment:
    """When a child ends itself: after so many seconds, or around its n-th step on the disk."""

    seconds: float = 0.0
    step: int = 0
    after: bool = False


def start_method() -> Any:
    """Returns where children start in no time, with the libraries imported and nothing else."""
    started = multiprocessing.get_context("forkserver")
    started.set_forkserver_preload([*PRELOADED, *(where.split(":")[0] for where in VERBS.values())])
    return started


def run_in_child(
    folder: str,
    words: list[str],
    moment: Moment,
    steps: Any,
    renames: Any,
    seconds: Any,
    started: Any,
) -> None:
    """Runs a command in a folder, counts its steps on the disk, and dies at a moment."""
    os.chdir(folder)
    os.environ["TQDM_DISABLE"] = "1"

    def counted(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **more: Any) -> Any:
            if name == "open" and not given[1] & (os.O_WRONLY | os.O_RDWR):
                return plain(*given, **more)
            steps.value += 1
            mine = steps.value
            if name in ("rename", "replace") and mine < len(renames):
                renames[mine] = 1
            if mine == moment.step and not moment.after:
                os.kill(os.getpid(), signal.SIGKILL)
            done = plain(*given, **more)
            if mine == moment.step:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call

    for name in ("rename", "replace", "mkdir", "unlink", "rmdir", "open", "link"):
        setattr(os, name, counted(name, getattr(os, name)))
    from dsi.cli import main

    started.set()
    began = time.monotonic()
    told = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told):
        code = main(words)
    seconds.value = time.monotonic() - began
    if code:
        print(f"  exit {code}: {told.getvalue().strip()}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(code)


class Runner:
    """Runs commands in children and holds what the last one counted."""

    def __init__(self) -> None:
        self.context = start_method()

    def run(self, folder: Path, words: list[str], moment: Moment | None = None) -> int:
        """Returns the exit code; below 0 where the child was killed."""
        self.steps, self.seconds = self.context.Value("i", 0), self.context.Value("d", 0.0)
        self.renames = self.context.Array("b", 20_000)
        moment, started = moment or Moment(), self.context.Event()
        counted = (self.steps, self.renames, self.seconds, started)
        child = self.context.Process(
            target=run_in_child, args=(str(folder), words, moment, *counted)
        )
        child.start()
        if moment.seconds and started.wait(600):
            child.join(moment.seconds)
            child.kill()
        child.join(600)
        if child.is_alive():
            child.kill()
            child.join()
            return 124
        return child.exitcode or 0


class Folders:
    """What commands start from, each made when first asked for.

    Args:
        root: Where they are.
        runner: Runs the commands that make them.
        hub: A fake hub, for `pull`.
    """

    def __init__(self, root: Path, runner: Runner, hub: FakeHub) -> None:
        self.root, self.runner, self.hub = root, runner, hub

    def of(self, name: str) -> Path:
        """Returns a folder by its name."""
        folder = self.root / name
        if not folder.exists():
            getattr(self, f"_{name}")(folder)
        return folder

    def _grow(self, folder: Path, source: str, *commands: list[str]) -> None:
        shutil.copytree(self.of(source), folder)
        for words in commands:
            assert self.runner.run(folder, words) == 0, words

    def _source(self, folder: Path) -> None:
        """Forty documents, each with two words of its own, as a BEIR folder; and ten more."""
        rng = random.Random(0)
        words = WORDS.split()
        beir = folder / "beir"
        (beir / "qrels").mkdir(parents=True)
        lines: dict[str, list[str]] = {"corpus": [], "queries": [], "more": []}
        for number in range(50):
            some = rng.sample(words, 4)
            own = f"{words[number % len(words)]}zor{number}"
            text = f"The {some[0]} and {own} {some[1]}. A vek{number} {some[2]} {some[3]}."
            if number >= 40:
                lines["more"].append(json.dumps({"id": f"d{number}", "text": text}))
                continue
            record = {"_id": f"d{number}", "title": f"About {some[0]}", "text": text}
            lines["corpus"].append(json.dumps(record))
            for split in ("train", "dev", "test"):
                query = {"_id": f"{split}{number}", "text": f"where is {own} {rng.choice(some)}"}
                lines["queries"].append(json.dumps(query))
        for name in ("corpus", "queries"):
            (beir / f"{name}.jsonl").write_text("\n".join(lines[name]) + "\n")
        (folder / "more.jsonl").write_text("\n".join(lines["more"]) + "\n")
        asked = [f"{n}\twhere is {word}zor{n}\n" for n, word in enumerate(words)]
        (folder / "asked.tsv").write_text("".join(asked))
        for split in ("train", "dev", "test"):
            rows = [f"{split}{number}\td{number}\t1" for number in range(40)]
            head = "query-id\tcorpus-id\tscore"
            (beir / "qrels" / f"{split}.tsv").write_text("\n".join([head, *rows]) + "\n")

    def _prepared(self, folder: Path) -> None:
        self._grow(
            folder,
            "source",
            ["prepare", "beir", "--out", "ds"],
            ["queries", "ds", "--generator", "extractive", "--per_doc", "3"],
            ["docids", "ds", "--kind", "naive", "--out", "ids"],
        )

    def _split(self, folder: Path) -> None:
        self._grow(folder, "prepared", ["split", "ds", "--out", "parts", "--increments", "2"])

    def _trained(self, folder: Path) -> None:
        self._grow(folder, "prepared", TRAIN)

    def _trained_bf16(self, folder: Path) -> None:
        self._grow(folder, "prepared", TRAIN_BF16)

    def _empty(self, folder: Path) -> None:
        """An empty folder; the fake hub has the index."""
        index = self.of("trained") / "index"
        files = {
            str(path.relative_to(index)): path.read_bytes()
            for path in sorted(index.rglob("*"))
            if path.is_file() and path.name not in ("lock", "newest")
        }
        self.hub.repositories[f"models/{REPOSITORY}"] = False
        self.hub.commit(f"models/{REPOSITORY}", files)
        folder.mkdir()

    def _deleted(self, folder: Path) -> None:
        self._grow(folder, "trained", ["delete", "index", "d1"], ["delete", "index", "d2"])

    def _kept(self, folder: Path) -> None:
        """A dataset with pseudo-queries that no command makes again, and a generative memory."""
        self._grow(folder, "prepared")
        pseudo = folder / "ds" / "pseudo"
        shutil.copytree(pseudo / "extractive", pseudo / "seq2seq")
        (folder / "ds" / "memory").mkdir()
        (folder / "ds" / "memory" / "weights").write_bytes(b"learned")


def tree(folder: Path) -> dict[str, str]:
    """Returns what is compared: the hash of each file by its name, and empty folders."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if "tensorboard" in name:
            continue
        if path.name == "lock":
            found[name] = "who had it last"
            continue
        if path.is_dir():
            found[name] = ""
        elif path.name == "manifest.json":
            content = json.loads(path.read_text())
            content.pop("created")
            found[name] = json.dumps(content, sort_keys=True)
        elif name == "grid/results.jsonl":
            found[name] = json.dumps(measured(folder))
        elif name == "results/report.html":  # the last column of its table is a duration
            found[name] = re.sub(r"[\d,]+(?=</td>\s*</tr>)", "", path.read_text("utf-8"))
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


class Campaign:
    """Kills one command again and again.

    Args:
        name: Of the command, in `CASES`.
        folders: What it starts from.
        runner: Runs it.
        root: Where to work.
        seed: Of the moments.
        state: File of the outcomes, a line each; those in it are not repeated. None for no file.
    """

    def __init__(
        self,
        name: str,
        folders: Folders,
        runner: Runner,
        root: Path,
        seed: int = 0,
        state: Path | None = None,
    ) -> None:
        self.name, self.case, self.runner, self.root = name, CASES[name], runner, root
        self.seed, self.state = seed, state
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.unlike: set[str] = set()
        self.number = 0
        self._resume()
        self.folders = folders

    def _resume(self) -> None:
        """Counts what the file of outcomes has."""
        from data_prep.files import read_json_lines

        for row in read_json_lines(self.state) if self.state is not None else []:
            if (row["command"], row["seed"]) == (self.name, self.seed):
                self.number = row["number"] + 1
                self._count(row["counts"], row["wrong"])

    def _count(self, counts: list[str], wrong: str | None) -> None:
        self.counts.update(counts)
        if wrong is not None:
            self.wrong.append(wrong)

    def _record(self, counts: list[str], wrong: str | None) -> None:
        """Counts an outcome and adds it to the file."""
        self._count(counts, wrong)
        row = {"command": self.name, "seed": self.seed, "number": self.number}
        if self.state is not None:
            with self.state.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**row, "counts": counts, "wrong": wrong}) + "\n")
        self.number += 1

    def _leave_alone(self) -> None:
        """Runs the command undisturbed, twice: what differs by itself is not compared."""
        self.start = self.folders.of(self.case.start)
        self.before = self.case.answer(self.start)
        ends = []
        for pause in (0.0, 1.1):
            time.sleep(pause)  # times of whole seconds differ, too
            folder = self._fresh()
            assert self.runner.run(folder, self.case.words) == 0, self.name
            ends.append(tree(folder))
        self.after = self.case.answer(folder)
        self.end = ends[1]
        self.unlike = {name for name in ends[1] if ends[0].get(name) != ends[1][name]}
        self.seconds, self.steps = self.runner.seconds.value, self.runner.steps.value
        self.renames = [n for n, is_one in enumerate(self.runner.renames) if is_one]

    def _fresh(self) -> Path:
        folder = self.root / "under-way"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.start, folder)
        return folder

    def moment(self, number: int) -> Moment:
        """Returns the moment of a kill: of ten, four are random, four at renames, two at a step.

        The last renames, by which the outcome gets its name, come first.
        """
        rng = random.Random(f"{self.name} {self.seed} {number}")
        if number % 10 < 4:
            around = [Moment(step=n, after=after) for n in self.renames for after in (False, True)]
            last, rest = around[-_LAST:], around[:-_LAST]
            order = random.Random(f"{self.name} {self.seed}")
            order.shuffle(last)
            order.shuffle(rest)
            return [*last, *rest][(number // 10 * 4 + number % 10) % len(around)]
        if number % 10 < 8:
            return Moment(seconds=rng.uniform(0.001, self.seconds))
        return Moment(step=rng.randint(1, self.steps))

    def run(self, kills: int) -> None:
        """Kills so many times; a command that ends before its moment does not count."""
        if self.counts["kills"] < kills:
            self._leave_alone()
        while self.counts["kills"] < kills and self.counts["ended before"] <= kills:
            moment, folder = self.moment(self.number), self._fresh()
            if self.runner.run(folder, self.case.words, moment) >= 0:
                self._record(["ended before"], None)
                continue
            try:
                self._record(["kills", *self._check(folder)], None)
            except AssertionError as error:
                self._record(["kills"], f"{self.name}, {moment}: {error}")
                print(f"  {self.wrong[-1]}", file=sys.stderr, flush=True)

    def _check(self, folder: Path) -> list[str]:
        """Returns what readers see in a folder, and how it ends when the command is run again."""
        answer, seen = self.case.answer(folder), "answers as after"
        if answer != self.after:
            seen = "answers as before"
        if answer not in (self.before, self.after):
            seen = "missing until run again"
            missing = answer == MISSING and self.case.may_be_missing
            begun = self.case.grows and answer == self.after[: len(answer)]
            assert missing or begun, f"readers find {answer!r:.200}"
        words = self.case.words
        if self.case.is_done(folder):
            # Another writer cleans up: a rollback to the live version.
            live = (folder / "index" / "live").read_text().strip()
            words = ["rollback", "index", "--to", live]
        code = self.runner.run(folder, words)
        assert code == 0, f"run again, it ends with {code}"
        assert self.case.answer(folder) == self.after, "run again, it answers otherwise"
        end = tree(folder)
        more, less = sorted(end.keys() - self.end.keys()), sorted(self.end.keys() - end.keys())
        assert not more, f"left behind: {more[:5]}"
        assert not less, f"lost: {less[:5]}"
        other = [n for n in end if end[n] != self.end[n] and n not in self.unlike]
        assert not other, f"other bytes: {other[:5]}"
        return [seen, "bit-equal ends"]


def report(campaign: Campaign) -> str:
    """Returns a line of counts."""
    names = ("answers as before", "answers as after", "missing until run again", "bit-equal ends")
    told = ", ".join(f"{campaign.counts[name]} {name}" for name in names)
    return f"{campaign.name}: {campaign.counts['kills']} kills, {told}, {len(campaign.wrong)} wrong"


def main(argv: list[str] | None = None) -> int:
    """Runs the campaign; returns 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, help="of each command; default 100 or 50")
    parser.add_argument("--only", default=",".join(CASES), help="commands, with commas between")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="file of outcomes, to continue from")
    parser.add_argument("--record", action="store_true", help="add the counts to the record")
    chosen = parser.parse_args(argv)
    wrong = 0
    with tempfile.TemporaryDirectory() as scratch, serving() as hub:
        os.environ.update(HF_ENDPOINT=hub.url, HF_HOME=f"{scratch}/hub", HF_HUB_DISABLE_XET="1")
        runner = Runner()
        folders = Folders(Path(scratch), runner, hub)
        for name in chosen.only.split(","):
            campaign = Campaign(name, folders, runner, Path(scratch), chosen.seed, chosen.state)
            campaign.run(chosen.kills or (100 if name in OFTEN else 50))
            print(report(campaign), flush=True)
            if chosen.record:
                figures = {**campaign.counts, "wrong": len(campaign.wrong)}
                record.write_measured("reliability", f"kills of {name}", figures)
            if campaign.unlike:
                print(f"  not compared: {sorted(campaign.unlike)}", flush=True)
            wrong += len(campaign.wrong)
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
