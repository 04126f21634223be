#!/usr/bin/env bash
# The multilayer leave-one-out experiment with logging. Further flags are passed on:
#   bash run_full_multilayer_experiment.sh --model gpt2 --n-contexts 20
# The same command goes on with a run that was stopped.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p logs
python experiments/core/run_multilayer_loo_experiment.py "$@" 2>&1 | tee -a logs/multilayer_loo.log
