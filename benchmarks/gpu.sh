#!/usr/bin/env bash
# What does a GPU give? At most ten minutes on one of them, without a network.
#
#     benchmarks/gpu.sh            on a machine with a GPU
#     benchmarks/gpu.sh --small    tiny shapes, on any machine: does everything run?
#
# Search beside `generate` (T5-base, the shape of Qwen3-0.6B), training beside Seq2SeqTrainer and
# Trainer, the cost of SAM, and 500 cases of the exactness of the search. Rows go to
# benchmarks/results/, or with --small to a folder of their own. PYTHON names the interpreter.
set -u
cd "$(dirname "$0")" || exit 1
python=${PYTHON:-python}
export PYTHONPATH="$PWD/..:${PYTHONPATH:-}" HF_HUB_OFFLINE=1 TQDM_DISABLE=1
began=$SECONDS failed=0
limit=580

step() { # seconds at most, then the script and its options
    local most=$1 left=$((limit - (SECONDS - began)))
    shift
    if ((left < 20)); then
        echo "== left out, no time: $*"
        failed=1
        return
    fi
    echo "== $* (${left} s left)"
    timeout $((most < left ? most : left)) "$python" "$@" || {
        echo "== failed or out of time: $*"
        failed=1
    }
}

if [[ ${1:-} == --small ]]; then
    DSI_BENCHMARK_RESULTS=$(mktemp -d)
    export DSI_BENCHMARK_RESULTS
    step 200 decode.py --shapes tiny,qwen3-0.6b:1 --documents 200 --kinds semantic --beams 2 \
        --batches 1,2 --precisions fp32 --rounds 1 --methods ours,generate-trie,floor
    for network in "--size tiny" "--language_model qwen3-0.6b:1"; do
        # shellcheck disable=SC2086
        step 200 train.py --source docstrings $network --batch 2 --steps 5 --turns 1 \
            --precision fp32 --documents 50
    done
    step 100 sam.py cost --source docstrings --variants plain,sam --batch 4 --turns 1 --documents 50
    step 100 exactness.py --cases 20 --block 20
    echo "== rows in $DSI_BENCHMARK_RESULTS, $((SECONDS - began)) s"
else
    step 270 decode.py --shapes base,qwen3-0.6b --kinds semantic --beams 10,50 --batches 1,16,64 \
        --precisions bf16 --rounds 3 --methods ours,generate-trie --suffix -gpu
    step 90 train.py --source docstrings --size base --batch 64 --turns 2
    step 90 train.py --source docstrings --language_model qwen3-0.6b --batch 32 --turns 2
    step 60 sam.py cost --source docstrings --size base --turns 2
    step 60 exactness.py --cases 500 --block 500
    echo "== $((SECONDS - began)) s"
fi
exit $failed
