# ThreadSanitizer, for `tests/run`, which sources this.

# The threaded tests of the backends under ThreadSanitizer, with a standard library that is instrumented
# as well; then a race that it must report. The threads of the model checker are none, so those tests are
# left out.
sanitize_threads() {
    if [ "$install" = yes ] && has_nightly; then
        rustup component add rust-src --toolchain nightly >/dev/null 2>&1 || true
    fi
    if ! has_nightly || ! [ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust" ]; then
        skip "ThreadSanitizer" "needs a nightly toolchain with rust-src"
        return
    fi
    host=$(rustc -vV | sed -n 's/^host: //p')
    sanitized() {
        RUSTFLAGS=-Zsanitizer=thread CARGO_TARGET_DIR=target/tsan TSAN_OPTIONS=halt_on_error=1 \
            cargo +nightly test -Zbuild-std --target "$host" -p msix-backends --all-features --lib \
            -- --skip eventfd_gate::model "$@"
    }
    note "no race in the threads of the backends"
    sanitized kvm::tests::calls kvm::tests::neighbours kvm::tests::flow eventfd::shared
    note "a seeded race is reported"
    found=$(mktemp)
    if sanitized --ignored a_seeded_race >"$found" 2>&1 || ! grep 'ThreadSanitizer: data race' "$found"; then
        cat "$found"
        echo "ThreadSanitizer did not report the race of testing::a_seeded_race"
        exit 1
    fi
    rm -f "$found"
}
