#!/usr/bin/env bash
# Watch the multilayer run: contexts done by checkpoint, and the last lines of the log.
#   bash monitor_full_experiment.sh [RESULTS_DIR] [SECONDS between looks; 0: look once]
set -euo pipefail
cd "$(dirname "$0")"
dir="${1:-results/loo_multilayer}"
every="${2:-60}"
while true; do
  date
  grep -H -E '"contexts_(done|planned)"' "$dir"/checkpoint_*.json 2>/dev/null || echo "no checkpoint in $dir yet"
  tail -n 3 logs/multilayer_loo.log 2>/dev/null || true
  [ "$every" = 0 ] && break
  sleep "$every"
done
