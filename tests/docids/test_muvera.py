"""Fixed-dimensional encodings: the formula, number by number, and the error in practice."""

import dataclasses

import numpy as np
import pytest
import tiny_encoders
from hypothesis import given, settings
from hypothesis import strategies as st

import dsi
from data_prep.errors import InputError
from docids import muvera as muvera_module
from docids.embeddings import EmbeddingOptions, fit_embedder, open_embedder, save_embedder
from docids.muvera import Muvera, MuveraOptions, TokenVectors, chamfer, chamfer_matrix
from docids.token_vectors import TokenEncoder

WIDTH = 6


def unit_tokens(lengths, seed, width=WIDTH):
    rng = np.random.default_rng(seed)
    texts = [rng.normal(size=(length, width)).astype(np.float32) for length in lengths]
    return TokenVectors.of(
        [text / np.linalg.norm(text, axis=1, keepdims=True) for text in texts], width
    )


def product(one, other):
    return sum(float(a) * float(b) for a, b in zip(one, other, strict=True))


def encoded_by_hand(muvera, vectors, document):
    """The encoding of one text, from the definition."""
    times, _, bits = muvera.planes.shape
    kept = muvera.inner.shape[2]
    whole = []
    for time in range(times):
        planes, inner = muvera.planes[time].T, muvera.inner[time].T
        signs = [[product(vector, plane) > 0 for plane in planes] for vector in vectors]
        short = [[product(vector, direction) for direction in inner] for vector in vectors]
        for partition in range(1 << bits):
            wanted = [bool(partition >> bit & 1) for bit in range(bits)]
            there = [row for row, sign in enumerate(signs) if sign == wanted]
            cell = [sum(short[row][place] for row in there) for place in range(kept)]
            if document and there:
                cell = [value / len(there) for value in cell]
            elif document and vectors.size:
                differing = [
                    sum(a != b for a, b in zip(sign, wanted, strict=True)) for sign in signs
                ]
                cell = short[differing.index(min(differing))]
            whole += cell
    if muvera.final:
        final = [0.0] * muvera.final
        for value, bucket, sign in zip(whole, muvera.bucket, muvera.sign, strict=True):
            final[bucket] += float(sign) * value
        whole = final
    return whole if document else [value / times for value in whole]


@settings(max_examples=25)
@given(
    lengths=st.lists(st.integers(0, 5), max_size=4),
    bits=st.integers(1, 3),
    projection=st.sampled_from([2, WIDTH]),
    final=st.sampled_from([0, 7]),
    seed=st.integers(0, 5),
)
def test_encodings_are_those_of_the_definition(lengths, bits, projection, final, seed):
    options = MuveraOptions(bits=bits, projection=projection, repetitions=2, final=final)
    muvera = Muvera.draw(WIDTH, options, seed)
    tokens = unit_tokens(lengths, seed)
    for document, encode in ((True, muvera.documents), (False, muvera.queries)):
        encoded = encode(tokens)
        assert encoded.shape == (len(lengths), muvera.dimensions)
        for row, one in enumerate(encoded):
            by_hand = encoded_by_hand(muvera, tokens[row], document)
            np.testing.assert_allclose(one, by_hand, atol=1e-5)


def chamfer_by_hand(query, document):
    return sum(max(product(q, p) for p in document) for q in query)


def test_chamfer_by_hand():
    query, documents = unit_tokens([3], 0)[0], unit_tokens([2, 0, 4], 1)
    found = chamfer(query, documents, np.array([2, 1, 0]))
    by_hand = [chamfer_by_hand(query, documents[2]), 0, chamfer_by_hand(query, documents[0])]
    np.testing.assert_allclose(found, by_hand, atol=1e-5)
    assert chamfer(query[:0], documents, np.array([0])).tolist() == [0]


@settings(max_examples=25)
@given(
    asked=st.lists(st.integers(0, 4), max_size=5),
    said=st.lists(st.integers(0, 4), max_size=6),
    blocks=st.sampled_from([(1, 1), (3, 5), (1024, 1024)]),
    seed=st.integers(0, 99),
)
def test_all_chamfer_similarities_at_once_are_those_of_the_definition(asked, said, blocks, seed):
    queries, documents = unit_tokens(asked, seed), unit_tokens(said, seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(muvera_module, "_QUERY_TOKENS", blocks[0])
        patch.setattr(muvera_module, "_DOCUMENT_TOKENS", blocks[1])
        found = chamfer_matrix(queries, documents)
    assert found.shape == (len(asked), len(said))
    for row, column in np.ndindex(found.shape):
        nearest = [
            max((product(token, other) for other in documents[column]), default=0.0)
            for token in queries[row]
        ]
        assert found[row, column] == pytest.approx(sum(nearest), abs=1e-5)


@pytest.mark.parametrize("bits", [1, 3])
def test_without_projections_an_encoding_never_exceeds_chamfer(bits):
    # A query token meets the mean of document tokens, which are no nearer than the nearest.
    options = MuveraOptions(bits=bits, projection=WIDTH, repetitions=3, final=0)
    muvera = Muvera.draw(WIDTH, options, 0)
    queries, documents = unit_tokens([3] * 30, 0), unit_tokens([5] * 30, 1)
    products = muvera.queries(queries) @ muvera.documents(documents).T
    for row in range(30):
        exact = chamfer(queries[row], documents, np.arange(30))
        assert (products[row] <= exact + 1e-4).all()


def test_the_error_is_within_the_bound_of_the_paper():
    # Theorem 2.1: for unit vectors, with probability 1 - delta, the product divided by the number
    # of query tokens is within epsilon of Chamfer divided by it, for some number of hyperplanes of
    # the order of log(m / delta) / epsilon and projections of the order of log(m / (epsilon delta))
    # / epsilon^2; here with the constants 1 and 1, m tokens, and one repetition.
    epsilon, delta, m, width = 0.5, 0.1, 8, 24
    bits = int(np.ceil(np.log(m / delta) / epsilon))
    projection = int(np.ceil(np.log(m / (epsilon * delta)) / epsilon**2))
    queries, documents = unit_tokens([m] * 20, 0, width), unit_tokens([m] * 20, 1, width)
    options = MuveraOptions(bits=bits, projection=projection, repetitions=1, final=0)
    muvera = Muvera.draw(width, options, 0)
    products = (muvera.queries(queries) @ muvera.documents(documents).T) / m
    exact = np.array([chamfer(queries[row], documents, np.arange(20)) for row in range(20)]) / m
    assert (np.abs(products - exact) <= epsilon).mean() >= 1 - delta


def test_hyperplanes_reduce_the_error_and_repetitions_the_variance():
    # Query tokens that have a near document token, as those of relevant documents do.
    documents = unit_tokens([6] * 40, 1, 16)
    noise = 0.1 * np.random.default_rng(2).normal(size=documents.vectors.shape)
    near = documents.vectors + noise.astype(np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    queries = TokenVectors(near, documents.offsets)
    exact = np.array([chamfer(queries[row], documents, np.array([row]))[0] for row in range(40)])

    def products(seed=0, **size):
        muvera = Muvera.draw(16, MuveraOptions(**{"projection": 16, "final": 0, **size}), seed)
        return (muvera.queries(queries) * muvera.documents(documents)).sum(axis=1)

    errors = [
        float(np.abs(products(bits=bits, repetitions=8) - exact).mean()) for bits in (1, 2, 4, 6)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]
    spread = {
        times: np.std(
            [products(seed, bits=2, repetitions=times, projection=4) for seed in range(8)], axis=0
        ).mean()
        for times in (1, 9)
    }
    assert spread[9] < 0.5 * spread[1]


def test_final_projections_preserve_products_on_average():
    queries, documents = unit_tokens([4] * 50, 0), unit_tokens([6] * 50, 1)
    options = MuveraOptions(bits=2, projection=WIDTH, repetitions=4, final=0)
    whole = Muvera.draw(WIDTH, options, 0)
    exact = whole.queries(queries) @ whole.documents(documents).T
    estimates = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        total = whole.dimensions
        short = dataclasses.replace(
            whole,
            bucket=rng.integers(32, size=total),
            sign=rng.choice([-1.0, 1.0], size=total).astype(np.float32),
            final=32,
        )
        estimates.append(short.queries(queries) @ short.documents(documents).T)
    assert abs(float((np.mean(estimates, axis=0) - exact).mean())) < 0.05


def test_the_seed_decides_and_directions_are_stored():
    options = MuveraOptions(bits=2, projection=3, repetitions=2, final=5)
    tokens = unit_tokens([3, 1], 0)
    one, again, other = (Muvera.draw(WIDTH, options, seed) for seed in (0, 0, 1))
    assert (one.documents(tokens) == again.documents(tokens)).all()
    assert (one.documents(tokens) != other.documents(tokens)).any()
    assert (Muvera.of(one.arrays()).queries(tokens) == one.queries(tokens)).all()


def test_sizes_and_vectors_that_do_not_fit_are_refused():
    for options, message in (
        ({"bits": 11}, "--embedding.bits 11 is not at least 1 and at most 10"),
        ({"projection": 0}, "--embedding.projection 0 is less than 1"),
        ({"final": -1}, "--embedding.final -1 is negative"),
    ):
        with pytest.raises(InputError, match=message):
            MuveraOptions(**options)
    with pytest.raises(
        InputError, match=r"--embedding.bits \d+ has no effect with --embedding.mod"
    ):
        EmbeddingOptions(bits=3)
    muvera = Muvera.draw(WIDTH, MuveraOptions(bits=1), 0)
    with pytest.raises(InputError, match="2 dimensions, but the encoding expects 6"):
        muvera.documents(unit_tokens([1], 0, 2))


WORDS = ["sea", "whale", "tide", "anchor", "sky", "cloud", "comet", "moss", "fern", "cedar"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    checkpoint = tiny_encoders.write_bert(folder / "bert", WORDS)
    return tiny_encoders.write_sentence_transformer(folder / "st", checkpoint, pooling="mean")


def test_token_vectors_have_norm_1_and_end_where_the_encoder_does(encoder):
    tokens = TokenEncoder(encoder)
    found = tokens.documents(["sea whale", "", " ".join(WORDS * 5)])
    # [CLS] and [SEP] are tokens; 16 positions are the most that the encoder reads.
    assert np.diff(found.offsets).tolist() == [4, 2, 16]
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, rtol=1e-5)
    alone = tokens.queries(["sea whale"])
    np.testing.assert_allclose(alone[0], found[0], atol=1e-5)
    assert tokens.documents(["sea"], np.float16).vectors.dtype == np.float16


def test_the_mean_of_token_states_is_the_vector_of_a_mean_pooled_encoder(encoder):
    tokens = TokenEncoder(encoder)._module.encode(["sea whale"], output_value="token_embeddings")
    mean = np.asarray(tokens[0]).mean(axis=0)
    plain = fit_embedder([], EmbeddingOptions(model=encoder), 0).encode(["sea whale"])[0]
    np.testing.assert_allclose(mean / np.linalg.norm(mean), plain, atol=1e-5)


def test_static_embeddings_have_no_token_vectors(tmp_path):
    static = tiny_encoders.write_static(tmp_path / "static", {"sea": [1.0, 0.0]})
    with pytest.raises(InputError, match="does not return token vectors"):
        TokenEncoder(static)


def test_an_embedder_of_token_vectors_is_stored_with_its_directions(encoder, tmp_path):
    options = EmbeddingOptions(model=f"muvera:{encoder}", bits=2, projection=4, repetitions=3)
    texts = ["sea whale tide", "sea", "cloud comet sky", ""]
    embedder = fit_embedder(texts, options, 0)
    vectors = embedder.encode(texts)
    assert vectors.shape == (4, 48)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    save_embedder(embedder, options, tmp_path / "embedder")
    opened, stored = open_embedder(tmp_path / "embedder")
    assert stored == options
    np.testing.assert_allclose(opened.encode(texts), vectors, atol=1e-5)


DOCUMENTS = [
    {"id": "whale", "text": "sea whale tide"},
    {"id": "comet", "text": "comet sky cloud"},
    {"id": "fern", "text": "fern moss cedar"},
    {"id": "one", "text": "anchor"},
    {"id": "long", "text": " ".join(["cloud", "tide"] * 20)},  # 16 tokens are read
]
NEW = [{"id": "new", "text": "moss sky"}, {"id": "new-one", "text": "tide"}]


@pytest.mark.parametrize("kind", ["semantic", "rq", "pq"])
def test_identifiers_from_encodings_from_a_corpus_to_an_update(kind, encoder, tmp_path):
    embedding = EmbeddingOptions(
        model=f"muvera:{encoder}", bits=1, projection=4, repetitions=2, final=16
    )
    loop = dsi.LoopOptions(steps=2, batch=4)
    options = dsi.TrainingOptions(docids=kind, embedding=embedding, loop=loop)
    index = dsi.build(DOCUMENTS, tmp_path / "index", options)
    assert {hit.doc_id for hit in index.search("sea whale", 5)} == {d["id"] for d in DOCUMENTS}
    assert index.search("anchor")[0].doc_id == "one"
    # New documents are encoded with the directions that the index has stored.
    grown = dsi.update(tmp_path / "index", NEW, dsi.UpdateOptions(strategy="append"))
    kept = {row["id"]: grown.table.sequences(grown.table.row_of(row["id"])) for row in DOCUMENTS}
    before = {row["id"]: index.table.sequences(index.table.row_of(row["id"])) for row in DOCUMENTS}
    assert kept == before
    assert {hit.doc_id for hit in grown.search("moss sky", 7)} >= {"new", "new-one"}


def test_output_rows_from_encodings_rank_by_their_products(encoder, tmp_path):
    options = dsi.TrainingOptions(
        model=dsi.ModelOptions(encoder=f"muvera:{encoder}"),
        lexical=dsi.LexicalOptions(enabled=False),
        generator="none",
        loop=dsi.LoopOptions(steps=0),
    )
    index = dsi.build(DOCUMENTS, tmp_path / "index", options)
    tokens = TokenEncoder(encoder)
    muvera = Muvera.draw(tokens.width, MuveraOptions(), 0)
    grown = dsi.update(tmp_path / "index", NEW, dsi.UpdateOptions(strategy="append"))
    for opened, documents in ((index, DOCUMENTS), (grown, [*DOCUMENTS, *NEW])):
        encoded = muvera.documents(tokens.documents([row["text"] for row in documents]))
        for query in ("whale tide", "anchor", "moss", " ".join(["comet"] * 40)):
            products = encoded @ muvera.queries(tokens.queries([query]))[0]
            ranked = [documents[row]["id"] for row in np.argsort(-products)]
            assert [hit.doc_id for hit in opened.search(query, len(documents))] == ranked


def test_a_late_interaction_model_brings_its_head(tmp_path):
    from sentence_transformers import MultiVectorEncoder

    checkpoint = tiny_encoders.write_bert(tmp_path / "bert", WORDS)
    model = MultiVectorEncoder(checkpoint, device="cpu")  # with a random head
    model.save_pretrained(str(tmp_path / "late"), create_model_card=False)
    tokens = TokenEncoder(str(tmp_path / "late"))
    texts = ["sea whale", "tide"]
    for ours, theirs in (
        (tokens.documents(texts), model.encode_document(texts)),
        (tokens.queries(texts), model.encode_query(texts)),
    ):
        for row, wanted in enumerate(theirs):
            vectors = wanted.detach().numpy()
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            np.testing.assert_allclose(ours[row], vectors, atol=1e-5)
    assert tokens.width == 128
