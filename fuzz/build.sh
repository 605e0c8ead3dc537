#!/usr/bin/env bash
# Builds the targets as OSS-Fuzz and ClusterFuzzLite want them: programs in $OUT, each with its seeds
# beside it. $SRC holds the checkout as `msix`. Tried by hand:
#   SRC=$(dirname "$PWD") OUT=$(mktemp -d) fuzz/build.sh
set -euo pipefail

cd "$SRC/${MSIX_CHECKOUT:-msix}/fuzz"
# The engine's own assertions check after each input what it touched.
cargo "+${MSIX_NIGHTLY:-nightly}" fuzz build --release --debug-assertions

built=$(cargo metadata --no-deps --format-version 1 | python3 -c \
    'import json, sys; print(json.load(sys.stdin)["target_directory"])')
host=$(rustc -vV | sed -n 's/^host: //p')
for target in fuzz_targets/*.rs; do
    name=$(basename "$target" .rs)
    cp "$built/$host/release/$name" "$OUT/"
    (cd "corpus/$name" && python3 -m zipfile -c "$OUT/${name}_seed_corpus.zip" ./*)
done
