"""The terms of the loss in plain Python, over lists: one loop per sum."""

from __future__ import annotations

import math


def softmax(values):
    total = sum(math.exp(value) for value in values)
    return [math.exp(value) / total for value in values]


def divergence(first, second):
    """KL(first || second) of two distributions."""
    return sum(a * math.log(a / b) for a, b in zip(first, second, strict=True) if a > 0)


def r_drop(logits, others, codes, ignored):
    total = 0.0
    for one, other, line in zip(logits, others, codes, strict=True):
        pairs = [
            (softmax(p), softmax(q))
            for p, q, code in zip(one, other, line, strict=True)
            if code != ignored
        ]
        both = sum(divergence(p, q) + divergence(q, p) for p, q in pairs)
        total += both / 2 / len(pairs)
    return total


def distillation(teacher_scores, logs, over):
    """`None` stands for a document that is not there."""
    total = 0.0
    for scores, line in zip(teacher_scores, logs, strict=True):
        there = [place for place, score in enumerate(scores) if score is not None]
        teacher = softmax([scores[place] for place in there])
        model = [math.exp(line[place]) for place in there]
        if over == "candidates":
            model = [value / sum(model) for value in model]
        total += divergence(teacher, model)
    return total


def rank_margin(teacher_scores, logs, margin):
    total = 0.0
    for scores, line in zip(teacher_scores, logs, strict=True):
        wrong = [line[place] for place in range(1, len(line)) if scores[place] is not None]
        hinges = [max(0.0, value - line[0] + margin) for value in wrong]
        if hinges:
            total += max(hinges) + sum(hinges) / len(hinges)
    return total


def listmle(teacher_scores, logs):
    total = 0.0
    for scores, line in zip(teacher_scores, logs, strict=True):
        others = [place for place in range(1, len(line)) if scores[place] is not None]
        order = [0, *sorted(others, key=lambda place: -scores[place])]
        for first in range(len(order)):
            left = [line[place] for place in order[first:]]
            total -= math.log(math.exp(left[0]) / sum(math.exp(value) for value in left))
    return total


def prefix_margin(teacher_scores, code_logits, codes, prefixes):
    total = 0.0
    for scores, logits, lines in zip(teacher_scores, code_logits, codes, strict=True):
        wrong = [place for place in range(1, len(lines)) if scores[place] is not None]
        for length, alpha in prefixes:
            for place in wrong:
                if lines[place][:length] == lines[0][:length]:
                    continue
                ours = sum(logits[0][:length]) - sum(logits[place][:length])
                theirs = scores[0] - scores[place]
                total += (ours - alpha * theirs) ** 2 / len(wrong)
    return total


def contrastive(states, codes, temperature, ignored):
    """Khosla et al. 2020, equation 2, at each position."""
    total = 0.0
    for place in range(len(codes[0])):
        there = [n for n in range(len(codes)) if codes[n][place] != ignored]

        def cosine(a, b, place=place):
            one, other = states[a][place], states[b][place]
            product = sum(x * y for x, y in zip(one, other, strict=True))
            return product / math.hypot(*one) / math.hypot(*other)

        for n in there:
            others = [m for m in there if m != n]
            alike = [m for m in others if codes[m][place] == codes[n][place]]
            below = sum(math.exp(cosine(n, m) / temperature) for m in others)
            for m in alike:
                total -= (cosine(n, m) / temperature - math.log(below)) / len(alike)
    return total
