# The engine on other processors, for `tests/run`, which sources this: its tests on 32-bit and big-endian
# machines, and the images of firmware linked for processors without an operating system.
#
# Debian's compiler comes with the library's sources, from which cargo builds the library for any target.

# The processor, Debian's name of its C library, and what runs a program. That of i686 runs natively,
# by the loader that comes with the library.
readonly PORTABLE_TARGETS="
powerpc powerpc qemu-ppc-static -L /usr/powerpc-linux-gnu
s390x s390x qemu-s390x-static -L /usr/s390x-linux-gnu
i686 i386 /usr/i686-linux-gnu/lib/ld-linux.so.2 --library-path /usr/i686-linux-gnu/lib
aarch64 arm64 qemu-aarch64-static -L /usr/aarch64-linux-gnu"

# Rust's name, the most bytes of machine code and of constants: 5 % above what it was on 2026-11-26.
readonly PORTABLE_IMAGES="
thumbv7em-none-eabi 35059 1234
riscv32imac-unknown-none-elf 41550 1268
aarch64-unknown-none 39526 1239"

# Debian's compiler and its library's sources, a line each. A compiler that is older than the workspace asks
# for, as the first one of a release of Debian can be, counts as none.
debians_rust_wanted() {
    local least has where=
    least=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    has=$({ /usr/bin/rustc --version || true; } 2>/dev/null | sed 's/^rustc \([^ ]*\).*/\1/')
    printf '%s\n' "$least" "$has" | sort -V -C || where=/no/newer
    echo "$where/usr/bin/rustc=rustc-web"
    echo "$where/usr/lib/rustlib/src/rust/library=rust-web-src"
}

# What `provide` of tests/run is to install, a line each.
portable_wanted() {
    debians_rust_wanted
    echo ld.lld=lld
    echo readelf=binutils
    echo qemu-s390x-static=qemu-user-static
    local name library
    while read -r name library _; do
        [ -n "$name" ] || continue
        echo "$name-linux-gnu-gcc=gcc-$name-linux-gnu"
        echo "/usr/$name-linux-gnu/lib/libc.so.6=libc6-dev-$library-cross"
    done <<<"$PORTABLE_TARGETS"
}

# The packages that are missing, if any.
portable_missing() {
    # Each line is a word.
    # shellcheck disable=SC2046
    missing $(portable_wanted)
}

# Runs cargo with Debian's compiler, for the target named first.
portable_cargo() { # target, arguments
    local target=$1 upper runner
    shift
    upper=$(tr a-z- A-Z_ <<<"$target")
    runner=$(sed -n "s/^${target%%-*} [^ ]* //p" <<<"$PORTABLE_TARGETS")
    env RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc RUSTC_BOOTSTRAP=1 \
        "CARGO_TARGET_${upper}_LINKER=${target%%-*}-linux-gnu-gcc" \
        ${runner:+"CARGO_TARGET_${upper}_RUNNER=$runner"} \
        cargo "$1" --target "$target" "${@:2}"
}

portable() {
    local name most_text most_constants
    while read -r name _; do
        [ -n "$name" ] || continue
        note "the engine on $name"
        portable_cargo "$name-unknown-linux-gnu" test --quiet -p msix-core --all-features --lib --tests \
            -Zbuild-std=std,panic_abort,test --target-dir target/portable
    done <<<"$PORTABLE_TARGETS"
    while read -r name most_text most_constants; do
        [ -n "$name" ] || continue
        note "the images for $name"
        portable_image "$name" "$most_text" "$most_constants"
    done <<<"$PORTABLE_IMAGES"
}

# The suites that need neither KVM nor a QEMU machine.
readonly PORTABLE_SUITES="--lib --test reference --test properties --test whole_function --test snapshots
--test conformance --test conformance_function --test conformance_faults"

# What an emulated kernel lacks: asynchronous I/O. Loom's stacks are too small for an emulated processor.
readonly PORTABLE_SKIPPED="--skip eventfd_gate::model --skip a_bell_that_many_threads_ring_loses_none
--skip k14_a_ring_never_waits_however_soon_a_peer_fills_the_counter
--skip a_descriptor_says_itself_whether_it_is_an_eventfd_and_is_left_as_it_was"

# The models, properties, snapshots, cases and fuzz corpus on 32-bit and big-endian machines, and the
# backends on Arm, with a VM that pretends. Optimised, because an emulated processor is slow; with the
# checks for overflow all the same. Word splitting makes the arguments.
# shellcheck disable=SC2086
portable_long() {
    local target
    local -x CARGO_PROFILE_DEV_OPT_LEVEL=2 CARGO_PROFILE_TEST_OPT_LEVEL=2
    for target in i686-unknown-linux-gnu s390x-unknown-linux-gnu; do
        note "models, properties, snapshots and cases on ${target%%-*}"
        PROPTEST_CASES=${PROPTEST_CASES:-32} portable_cargo "$target" test --quiet -p msix-tests \
            --no-default-features $PORTABLE_SUITES -Zbuild-std=std,panic_abort,test --target-dir target/portable
        note "the corpus of the fuzz targets on ${target%%-*}"
        portable_cargo "$target" test --quiet -p msix-fuzz --no-default-features \
            -Zbuild-std=std,panic_abort,test --target-dir target/portable
    done
    note "the backends on aarch64"
    PROPTEST_CASES=${PROPTEST_CASES:-8} portable_cargo aarch64-unknown-linux-gnu test --quiet -p msix-backends \
        --all-features --lib -Zbuild-std=std,panic_abort,test --target-dir target/portable \
        -- $PORTABLE_SKIPPED
}

# Links every input and query, which fails where a panic can be reached, and looks at the size.
portable_image() { # target, most bytes of machine code, most bytes of constants
    local target=$1 image name sizes text constants
    local roots=()
    (cd tests/image && portable_cargo "$target" build --quiet --release --features function \
        -Zbuild-std=core --target-dir ../../target/portable-image)
    for name in $(grep -ho '^pub fn [a-z_]*' tests/image/src/{lib,function}.rs | cut -d' ' -f3); do
        [ "$name" = seeded_panic ] || roots+=(-u "$name")
    done
    image=$(mktemp)
    ld.lld -static --gc-sections -e msix_write_table "${roots[@]}" --whole-archive \
        "target/portable-image/$target/release/libmsix_image.a" -o "$image"
    sizes=$(readelf -SW "$image" | sed 's/^ *\[ *[0-9]*\] *//')
    rm "$image"
    text=$((16#$(awk '$1 == ".text" { print $5 }' <<<"$sizes")))
    constants=$((16#$(awk '$1 == ".rodata" { print $5 }' <<<"$sizes")))
    echo "$target: $text bytes of machine code, $constants of constants"
    if [ "$text" -gt "$most_text" ] || [ "$constants" -gt "$most_constants" ]; then
        echo "more than $most_text and $most_constants bytes"
        return 1
    fi
}
