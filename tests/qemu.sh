# QEMU with this project's engine in place of its own MSI-X, for `tests/run`, which sources this: QEMU's own
# tests and a Linux guest, on the original and on ours.
#
# The source comes from Debian's package `qemu`, through this machine's own apt configuration, and stays in
# the cache with what is built of it: 0.5 GB in ${XDG_CACHE_HOME:-~/.cache}/msix-qemu, which may be removed at
# any time. No line of it is in this project.

# What `provide` of tests/run is to install, a line each.
qemu_wanted() {
    cat <<'END'
cc=gcc
c++=g++
make=make
ninja=ninja-build
meson=meson
pkg-config=pkg-config
flex=flex
bison=bison
patch=patch
xz=xz-utils
python3=python3
setpriv=util-linux
nm=binutils
dpkg-source=dpkg-dev
/usr/include/glib-2.0=libglib2.0-dev
/usr/include/pixman-1=libpixman-1-dev
/usr/include/libfdt.h=libfdt-dev
/usr/share/seabios/bios-256k.bin=seabios
/usr/lib/ipxe/qemu/pxe-e1000.rom=ipxe-qemu
/usr/share/qemu/kvmvapic.bin=qemu-system-data
END
}

# Runs a step that says much, and shows the end of it if it fails.
qemu_quietly() { # longest time, log, command
    local limit=$1 log=$2
    shift 2
    timeout -k 10 "$limit" "$@" >"$log" 2>&1 || {
        tail -n 30 "$log" >&2
        return 1
    }
}

# Fetches and unpacks the source into $1/src. Needs a mirror of bookworm among apt's sources: there 7.2 is.
qemu_fetch() { # folder
    local key=/usr/share/keyrings/debian-archive-keyring.gpg signed=
    [ ! -e "$key" ] || signed="[signed-by=$key] "
    # apt's own variables, not the shell's.
    # shellcheck disable=SC2016
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' 'Origin: Debian' |
        sed -n "s|.* bookworm main\$|deb-src $signed&|p" | sort -u >"$1/sources.list"
    [ -s "$1/sources.list" ] || { echo "apt has no source of Debian 12" >&2 && return 1; }
    mkdir -p "$1/lists/partial"
    local own=(-qq -o "Dir::Etc::sourcelist=$1/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$1/lists" -o APT::Sandbox::User=)
    qemu_quietly 300 "$1/log" apt-get "${own[@]}" update &&
        (cd "$1" && qemu_quietly 600 "$1/log" apt-get "${own[@]}" source --download-only qemu) || return 1
    local packages=("$1"/qemu_7.2*.dsc)
    [ -e "${packages[0]}" ] || { echo "the source package is not of QEMU 7.2" >&2 && return 1; }
    qemu_quietly 300 "$1/log" dpkg-source -x "${packages[0]}" "$1/src"
}

# Prints the folder of the original's build. Fetches and builds it once.
qemu_original() {
    local cache=${XDG_CACHE_HOME:-$HOME/.cache}/msix-qemu new
    mkdir -p "$cache"
    (
        # Whoever comes second finds what the first has made.
        flock 9
        if ! [ -e "$cache/src" ]; then
            rm -rf "$cache"/new.*
            new=$(mktemp -d "$cache/new.XXXXXX")
            if ! qemu_fetch "$new"; then
                rm -rf "$new"
                exit 77
            fi
            mv "$new/src" "$cache/src"
            rm -rf "$new"
        fi
        if ! [ -e "$cache/built" ]; then
            rm -rf "$cache/build"
            mkdir "$cache/build"
            cd "$cache/build"
            qemu_quietly 600 "$cache/log" ../src/configure --target-list=x86_64-softmmu --disable-docs \
                --disable-tools --disable-user --disable-guest-agent --without-default-features \
                --enable-kvm --enable-tcg &&
                qemu_quietly 5400 "$cache/log" ninja qemu-system-x86_64 tests/qtest/{ivshmem,qos}-test &&
                touch "$cache/built" || exit 1
        fi
    ) 9>"$cache/lock" || return
    echo "$cache/build"
}

# Links the original once more, with our file and the engine instead of its own.
qemu_ours() { # build of the original, program
    local ours=$2 shim=$PWD/backends/capi/examples/qemu/msix.c include=$PWD/backends/capi/include
    local object=libcommon.fa.p/hw_pci_msix.c.o
    cargo rustc --quiet -p msix-capi --release --lib --crate-type staticlib
    local library=$PWD/target/release/libmsix_capi.a
    (
        cd "$1"
        compile=$(ninja -t commands "$object" | tail -n 1)
        link=$(ninja -t commands qemu-system-x86_64 | tail -n 1)
        compile=${compile/-o $object/-o $ours.o -Werror -I$include}
        compile=${compile/-MQ $object/-MQ $ours.o}
        compile=${compile/-MF $object.d/-MF $ours.d}
        link=${link/-o qemu-system-x86_64/-o $ours}
        # What follows is the system's: what Rust's library asks for.
        link="${link/ $object / $ours.o } $library -lgcc_s -lutil -lrt -lpthread -lm -ldl"
        timeout 300 sh -c "${compile/-c ..\/src\/hw\/pci\/msix.c/-c $shim}"
        timeout 300 sh -c "$link"
    )
    # The original would be as green.
    if ! nm "$ours" | grep ' T msix_engine_notify$' >/dev/null; then
        echo "$ours has no engine in it" >&2
        return 1
    fi
}

# Makes a program that finds what QEMU loads. QEMU's tests want that name.
qemu_wrap() { # folder, program, policy
    mkdir -p "$1"
    cat >"$1/qemu-system-x86_64" <<END
#!/bin/sh
export MSIX_POLICY=$3
exec '$2' -L /usr/share/seabios -L /usr/lib/ipxe/qemu -L /usr/share/qemu "\$@"
END
    chmod +x "$1/qemu-system-x86_64"
}

# Runs a test of QEMU's and prints the names of what passed.
qemu_passed() { # build, program of QEMU, test with its options
    local build=$1 program=$2 log status=0
    shift 2
    log=$(mktemp)
    (cd "$build" && QTEST_QEMU_BINARY=$program timeout -k 10 600 "$@" --tap -k) >"$log" 2>&1 || status=$?
    if [ "$status" != 0 ] || grep -q '^not ok' "$log"; then
        grep -v '^#' "$log" | tail -n 30 >&2
    fi
    sed -n 's/^ok [0-9]* //p' "$log" | sort
    rm -f "$log"
    return "$status"
}

qemu_tests() { # build, folder of the programs
    local test name original passed
    for test in "tests/qtest/ivshmem-test -m slow" "tests/qtest/qos-test"; do
        # Word splitting makes it the arguments.
        # shellcheck disable=SC2086
        original=$(qemu_passed "$1" "$2/stock/qemu-system-x86_64" $test)
        [ -n "$original" ]
        for name in ours spec; do
            # shellcheck disable=SC2086
            passed=$(qemu_passed "$1" "$2/$name/qemu-system-x86_64" $test)
            echo "$test: $(wc -l <<<"$passed") of $(wc -l <<<"$original") pass ($name)"
            diff <(echo "$original") <(echo "$passed")
        done
    done
}

# Runs QEMU's test of its ivshmem devices on `msix qtest` in QEMU's place. The two that plug a device in
# while the machine runs do not fit: that is ACPI's and the buses', and there is neither.
qemu_front() { # build, folder of the programs
    local policy program passed
    cargo build --quiet -p msix-sim
    for policy in qemu spec; do
        program=$2/front-$policy/qemu-system-x86_64
        mkdir -p "$2/front-$policy"
        printf '#!/bin/sh\nexec "%s" qtest --policy %s "$@"\n' "$PWD/target/debug/msix" "$policy" >"$program"
        chmod +x "$program"
        passed=$(qemu_passed "$1" "$program" tests/qtest/ivshmem-test -m slow \
            -s /x86_64/ivshmem/hotplug -s /x86_64/ivshmem/hotplug-q35 | sed '/# SKIP/d; s|.*/||' | xargs)
        echo "ivshmem-test on msix qtest ($policy): $passed"
        [ "$passed" = "memdev pair server single" ]
    done
}

qemu() {
    local build lacking programs=$PWD/target/qemu status=0
    # Each line is a word.
    # shellcheck disable=SC2046
    lacking=$(missing $(qemu_wanted))
    if [ -n "$lacking" ]; then
        skip "QEMU with the engine in it" "needs ${lacking//$'\n'/, }"
        return
    fi
    note "QEMU, built from Debian's source"
    build=$(qemu_original) || status=$?
    if [ "$status" = 77 ]; then
        skip "QEMU with the engine in it" "needs Debian's source package of QEMU 7.2, through apt"
        return
    fi
    [ "$status" = 0 ]
    note "QEMU with the engine in it"
    rm -rf "$programs"
    mkdir -p "$programs"
    qemu_ours "$build" "$programs/with-engine"
    qemu_wrap "$programs/stock" "$build/qemu-system-x86_64" none
    qemu_wrap "$programs/ours" "$programs/with-engine" qemu
    qemu_wrap "$programs/spec" "$programs/with-engine" spec
    note "QEMU's own tests, on the original and on ours"
    qemu_tests "$build" "$programs"
    note "QEMU's own test of its ivshmem devices, on ours behind qtest"
    qemu_front "$build" "$programs"
    note "random inputs on ours, beside the engine in this process"
    timeout -k 10 600 cargo run --release --quiet -- diff --ops 100000 --devices 8 --seed 7 \
        --qemu "$programs/ours/qemu-system-x86_64"
    note "a Linux guest on both, and from one to the other"
    MSIX_QEMUS=$programs timeout -k 10 3600 \
        cargo test -p msix-tests --test inside_qemu -- --ignored --nocapture --test-threads=1
}
