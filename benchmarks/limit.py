"""A corpus in the manner of LIMIT (Weller et al., 2025, arXiv 2508.21038).

Documents say what people like, and a query asks who likes one thing. Each thing that is asked for
is liked by two people, and every two of some people have a thing in common: for vectors to rank all
of that right, every pair of documents has to be the nearest two of some query. With 46 people there
are 1,035 pairs; the rest of the corpus are people who like other things. A thing is a compound
written as one word (`amberanchors`), so that words tell all documents apart.
"""

from __future__ import annotations

import itertools
import random

from data_prep.dataset import Document, InMemorySource, Qrel, Query

PEOPLE = 46
"""How many have something in common with each other."""
LIKED = 50
"""Things that each person likes."""
QUERIES = 1000

_COLORS = """
amber azure beige black blue bronze brown crimson coral cream cyan golden green grey indigo
ivory jade lavender lemon lilac magenta maroon mustard olive orange orchid pearl pink purple red
ruby rust salmon sapphire scarlet sepia silver tan teal turquoise umber violet white yellow
"""
_THINGS = """
anchors apples baskets beetles bells boats books bottles bridges brooms butterflies candles
carpets castles chairs clocks coats cups curtains doors drums engines falcons feathers fences
flutes foxes gardens gloves guitars hammers hats horses kettles kites ladders lamps lanterns
maps mirrors mugs needles paddles parrots pencils pianos pillows planes plates radios rivers
robots ropes saddles scarves shells ships shoes spoons stamps stones swans tables tents towers
trains trees trumpets tulips turtles umbrellas vases violins wagons walls watches whales
"""
_FIRST = """
Ada Amir Anna Boris Carla Chen Dana Diego Elena Emeka Fatima Felix Gina Hans Hiro Ines Ivan Jana
Jorge Kaya Kofi Lena Liam Mara Marco Nadia Nils Olga Omar Paula Pedro Quinn Rosa Sami Tara Tomas
Uma Vera Viktor Wanda Xenia Yara Yusuf Zoe
"""
_LAST = """
Abbot Baker Carver Dyer Fisher Fletcher Gardner Glover Harper Hunter Keller Mason Mercer Miller
Naylor Palmer Parker Piper Porter Potter Ranger Sadler Sawyer Shepherd Skinner Slater Smith
Spencer Tanner Taylor Thatcher Turner Tyler Walker Weaver Wheeler Wright
"""


def limit_source(documents: int, seed: int) -> InMemorySource:
    """Returns a corpus with queries of split test, each with two relevant documents.

    Args:
        documents: How many people there are; `PEOPLE` or more.
        seed: Of who likes what.

    Raises:
        ValueError: Fewer documents than `PEOPLE`, or more than there are names.
    """
    names = [f"{first} {last}" for first in _FIRST.split() for last in _LAST.split()]
    if not PEOPLE <= documents <= len(names):
        raise ValueError(f"{documents} documents; {PEOPLE} to {len(names)} can be made")
    draw = random.Random(f"limit {seed}")
    draw.shuffle(names)
    things = [color + thing for color in _COLORS.split() for thing in _THINGS.split()]
    draw.shuffle(things)
    pairs = list(itertools.combinations(range(PEOPLE), 2))
    draw.shuffle(pairs)
    asked, others = things[: len(pairs)], things[len(pairs) :]
    likes: list[list[str]] = [[] for _ in range(documents)]
    for thing, pair in zip(asked, pairs, strict=True):
        for person in pair:
            likes[person].append(thing)
    for liked in likes:
        liked += draw.sample(others, LIKED - len(liked))
        draw.shuffle(liked)
    corpus = [
        Document(f"p{person}", names[person], f"{names[person]} likes {', '.join(liked)}.")
        for person, liked in enumerate(likes)
    ]
    chosen = list(zip(asked, pairs, strict=True))[:QUERIES]
    queries = [Query(f"q{n}", f"Who likes {thing}?") for n, (thing, _) in enumerate(chosen)]
    qrels = [
        Qrel(f"q{n}", f"p{person}", 1, "test")
        for n, (_, pair) in enumerate(chosen)
        for person in pair
    ]
    draw.shuffle(corpus)
    return InMemorySource(corpus, queries, qrels, name=f"limit-{documents}")
