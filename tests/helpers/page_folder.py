"""A folder with everything that the commands in the documentation name."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
from pathlib import Path

from tiny_checkpoints import write_encoder_decoder, write_language_model
from tiny_encoders import write_bert

import dsi
from data_prep.dataset import Document, InMemorySource, Qrel, Query
from data_prep.dataset_writer import write_dataset

ROOT = Path(__file__).parents[2]
ANIMALS = ("fox", "owl", "whale", "badger", "falcon", "otter", "hare", "crane")
HABITS = ("sleeps by day", "hunts at night", "sings in spring", "builds in autumn", "eats berries")
DOCUMENTS = [
    Document(
        f"d{place * len(HABITS) + number}",
        f"{animal.title()} {number + 1}",
        f"The {animal} {habit}. Its young learn it in {number + 2} weeks. Few people see it.",
    )
    for place, animal in enumerate(ANIMALS)
    for number, habit in enumerate(HABITS)
]
TEXTS = [document.text for document in DOCUMENTS]
NEW = [Document("new-1", "Moles", "The mole digs a tunnel below the lawn.")]


def write(folder: Path) -> None:
    """Writes files of every format, a dataset, an index of four versions, and checkpoints.

    Args:
        folder: An empty folder.
    """
    _write_collections(folder)
    dataset = write_dataset(folder / "ds", _judged())
    shutil.copytree(folder / "ds", folder / "DATASET")
    options = dsi.TrainingOptions(loop=dsi.LoopOptions(steps=2, batch=16), per_doc=3)
    dsi.build(dataset, folder / "index", options)
    for number in (1, 2):
        shutil.copytree(folder / "index", folder / f"index-{number}")
    for doc_id in ("d37", "d38", "d39"):
        dsi.delete(folder / "index", [doc_id], audit=False)
    (folder / "other.trec").write_text("q61 Q0 d30 1 2.5 other\nq63 Q0 d1 1 1.5 other\n", "utf-8")
    for name in ("NAME_OR_PATH", "MODEL"):
        write_encoder_decoder("flan-t5", folder / name, TEXTS)
        settings = json.dumps({"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0})
        (folder / name / "generation_config.json").write_text(settings, "utf-8")
    for name in ("CAUSAL_MODEL", "PATH/TO/SmolLM2-135M-Instruct"):
        write_language_model("llama", folder / name, TEXTS)
    words = sorted({word for text in TEXTS for word in text.split()})
    write_bert(folder / "PATH/TO/all-MiniLM-L6-v2", words)
    (folder / "configs").symlink_to(ROOT / "configs")


def _judged() -> InMemorySource:
    """Two training queries for thirty documents, and dev and test queries for the rest."""
    queries, qrels = [], []
    for number, document in enumerate(DOCUMENTS):
        subject, habit = document.text.split(".")[0].split()[1:2], document.text.split()[2:4]
        for turn, text in enumerate((f"{subject[0]} {' '.join(habit)}", f"which {subject[0]}")):
            split = "train" if number < 30 else ("dev", "test")[turn]
            name = f"q{2 * number + turn}"
            queries.append(Query(name, f"{text} {number}"))
            qrels.append(Qrel(name, document.doc_id, 1, split))
    return InMemorySource(DOCUMENTS, queries, qrels, name="animals")


def _write_collections(folder: Path) -> None:
    """Writes the documents as text files, tables, a database, a BEIR folder and TREC files."""
    records = [{"id": d.doc_id, "title": d.title, "text": d.text} for d in DOCUMENTS]
    lines = "".join(json.dumps(record) + "\n" for record in records)
    new = [{"id": d.doc_id, "title": d.title, "text": d.text} for d in NEW]
    rows = "".join(f"{d.doc_id},{d.text}\n" for d in DOCUMENTS)
    judged = "".join(f"q{n} 0 d{n} 1\n" for n in range(4))
    asked = "".join(f"q{n}\twhere is animal {n}\n" for n in range(9))
    files = {
        "docs.jsonl": lines,
        "new.jsonl": "".join(json.dumps(record) + "\n" for record in new),
        "docs.csv": f"number,body\n{rows}",
        "docs.tsv": "".join(f"{d.doc_id}\t{d.title}\t{d.text}\n" for d in DOCUMENTS),
        "queries.tsv": asked,
        "train.tsv": "".join(f"q{n}\td{n}\t1\n" for n in range(3)),
        "dev.tsv": "".join(f"q{n}\td{n}\t1\n" for n in range(3, 6)),
        "test.tsv": "".join(f"q{n}\td{n}\t1\n" for n in range(6, 9)),
        "topics.txt": "".join(f"<top>\n<num> {n}\n<title> animal {n}\n</top>\n" for n in range(4)),
        "qrels.txt": judged.replace("q", ""),
        "notes/fox.md": "# Foxes\n\nA fox sleeps by day.\n\n## Food\n\nIt eats berries.\n",
        "notes/birds/owl.txt": "An owl hunts at night.\n",
        "notes/birds/crane.html": "<h1>Cranes</h1><p>A crane builds in autumn.</p>",
        "collection/one.txt": "".join(
            f"<DOC>\n<DOCNO>{d.doc_id}</DOCNO>\n<TEXT>{d.text}</TEXT>\n</DOC>\n" for d in DOCUMENTS
        ),
        "path/to/scifact/corpus.jsonl": lines.replace('"id"', '"_id"'),
        "path/to/scifact/queries.jsonl": '{"_id": "q0", "text": "which fox"}\n',
        "path/to/scifact/qrels/test.tsv": "query-id\tcorpus-id\tscore\nq0\td0\t1\n",
    }
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    (folder / "dump.csv.gz").write_bytes(gzip.compress(f"id,text\n{rows}".encode()))
    with sqlite3.connect(folder / "notes.sqlite") as base:
        base.execute("create table articles (id text, text text)")
        base.execute("create table authors (name text)")
        base.executemany(
            "insert into articles values (?, ?)", [(d.doc_id, d.text) for d in DOCUMENTS]
        )
    base.close()
