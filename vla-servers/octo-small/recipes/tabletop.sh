#!/usr/bin/env bash
# `bundled://tabletop` from nothing, in a folder of its own: about three hours on two CPU cores.
#
#     cd vla-servers/octo-small && uv sync --no-dev --extra train && uv run --no-sync recipes/tabletop.sh FOLDER
#
# What is there already is not made again, so that a run that was stopped goes on where it was.
set -euo pipefail
mkdir -p "${1:?where to}" && cd "$1"

# Large pages for large arrays: a step of training takes two thirds of the time (glibc alone knows the setting).
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1

demonstrate() { # FOLDER PICK_UP PUSH PUT_ON PUT_NEXT_TO FIRST_SEED FLAGS...: so many episodes of each task
    local out=$1 pick_up=$2 push=$3 put_on=$4 put_next_to=$5 seed=$6 verb
    shift 6
    for verb in pick_up push put_on put_next_to; do
        octo-service demonstrate --out "$out" --sizes primary=128 wrist=96 --tasks "$verb" --episodes-per-task "${!verb}" \
            --seed "$seed" "$@"
    done
}

finetune() { # RUN FLAGS...
    local run=$1
    shift
    [ -e "$run/done" ] && return
    # All runs share one cache of decoded episodes.
    mkdir -p episodes "$run" && ln -sfn ../episodes "$run/episodes"
    octo-service finetune --out "$run" --resume "$([ -e "$run/run.json" ] && echo true || echo false)" \
        --augment false --keep-image-prob 0 --batch-size 32 --ema-decay 0.999 --validation 0.01 --save-every 1000 \
        --validate-every 1000 --log-every 100 --keep 2 "$@"
    touch "$run/done"
}

# Experts alone, and random views.
demonstrate demos 180 60 114 75 0 --random-views 1

# First to see what is where and to hear what is named, then what to do about it.
finetune see --from random://octo-tabletop --data demos demos-random-views --learn environment_state --horizon 1 --window 1 \
    --steps 6000 --learning-rate 1e-3 --warmup-steps 300 --final-learning-rate 2e-5 --seed 0
finetune act --from see --data demos demos-random-views --horizon 4 --window 1 --word-dropout 0.03 \
    --steps 8000 --learning-rate 6e-4 --warmup-steps 100 --final-learning-rate 1e-5 --seed 1

# Where the policy leads itself, what the expert would have done there (DAgger).
demonstrate corrections 50 10 30 30 10000 --policy act --policy-share 0.8 --policy-steps 40
finetune corrected --from act --data demos demos-random-views corrections --statistics checkpoint --horizon 4 --window 1 --word-dropout 0.03 \
    --steps 4000 --learning-rate 4e-4 --warmup-steps 100 --final-learning-rate 1e-5 --seed 2

# What was seen before, which it may also be without.
finetune tabletop --from corrected --data demos demos-random-views corrections --statistics checkpoint --horizon 4 --window 2 \
    --history-dropout 0.3 --word-dropout 0.03 --steps 2500 --learning-rate 3e-4 --warmup-steps 100 --final-learning-rate 1e-5 --seed 3
