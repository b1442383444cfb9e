#!/usr/bin/env bash
# Every check of this repository, and a summary: run it before a commit.
#
#   ./test.sh            a check that cannot run here is named in the summary
#   CI=true ./test.sh    such a check fails the run, but for the two that want another toolchain
#
# It needs Rust and a C linker, and for the etcd servers of the tests Go or apt
# (CONTRIBUTING.md). A failed check does not stop the ones behind it. What is
# built or cached already is not fetched again, so a second run needs no network.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
exec </dev/null
# Where rustup and Go put their programs, for shells that were not told.
export PATH="$PATH:${CARGO_HOME:-${HOME:-}/.cargo}/bin:/usr/local/go/bin"
export RUST_BACKTRACE=1
# Nothing here may need protoc: whatever looks for one finds none.
export PROTOC=/nonexistent/protoc

readonly CRATES_MAX=36
# Of the program that connects, locks and unlocks. The goal is 740 KB (BENCHMARKS.md); until then it does not grow.
readonly SMALL_BYTES_MAX=950000
# The features that docs.rs is told of, beside the default ones.
readonly OPTIONAL=metrics,srv,tracing,unstable
readonly MUSL=x86_64-unknown-linux-musl

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
summary=()
failed=0

main() {
    need_rust
    need_linker
    component rustfmt "format" check_format
    component clippy "clippy, warnings denied" check_clippy
    step "docs, warnings denied" check_docs
    step "etcd servers" prepare_etcd
    local lines newest line
    lines=$(cat "$scratch/lines" 2>/dev/null || true)
    newest=${lines##* }
    step "all tests${newest:+, on etcd $newest}" on_etcd "$newest" tests --workspace --no-fail-fast
    for line in $lines; do
        step "API tests on etcd $line" on_etcd "$line" tests -p tenure --test api
    done
    step "API tests on the embedded server" embedded on_etcd "$newest" tests -p tenure --test api
    step "API tests in a namespace" namespace embedded on_etcd "$newest" tests -p tenure --test api
    step "API tests on a current-thread runtime" current_thread on_etcd "$newest" tests -p tenure --test api
    step "tests of what is optional" optional_tests
    step "tests of simulated time" tests -p tenure --features unstable --lib simulation
    step "mixed recipes, simulated" tests -p tenure --features unstable --test mixed simulated
    step "rules put out of force are noticed" tests -p tenure --features rules-off --test rules
    step "raw calls, on the embedded server" raw_call
    step "examples, on the embedded server" examples
    step "a page for Prometheus, on the embedded server" prometheus
    alert_rules "alert rules and that page, by promtool"
    step "quick start, on the embedded server" quick_start
    step "quick start${newest:+, on etcd $newest}" on_etcd "$newest" quick_start_on_etcd
    step "fuzz targets compile" check_fuzz
    step "build without default features" cargo build --locked -p tenure --no-default-features
    oldest_rust "the library on its oldest Rust"
    step "the package builds by itself, with its documentation" check_package
    musl "build for musl"
    step "dependencies: $CRATES_MAX crates at most, none to build" check_dependencies
    step "the small program: $((SMALL_BYTES_MAX / 1000)) KB at most, and it locks" on_etcd "$newest" check_small
    report
}

check_format() {
    cargo fmt --all --check
    cargo fmt --manifest-path fuzz/Cargo.toml --check
    cargo fmt --manifest-path crates/bench/peers/Cargo.toml --all --check
}

check_clippy() {
    cargo clippy --locked --workspace --all-targets -- -D warnings
    cargo clippy --locked -p tenure --features "$OPTIONAL,rules-off" --all-targets -- -D warnings
    cargo clippy --locked -p tenure --no-default-features --lib -- -D warnings
    cargo clippy --locked -p tenure-cli --features srv --all-targets -- -D warnings
}

# Once as everybody builds them, once with the features that docs.rs is told of.
check_docs() {
    export RUSTDOCFLAGS="-D warnings"
    cargo doc --locked --workspace --no-deps
    cargo doc --locked -p tenure --no-deps --features "$OPTIONAL"
}

# The command fails where a server is missing that has to be there; the tests
# still run on those that it names.
prepare_etcd() {
    cargo build --locked -q -p tenure-etcd
    local status=0
    cargo run --locked -q -p tenure-etcd -- prepare --lines >"$scratch/lines" || status=$?
    # A line reads `3.5  3.5.30  /path/to/etcd`.
    cargo run --locked -q -p tenure-etcd -- prepare 2>/dev/null | awk '$2 ~ /^[0-9]/ { print $2 }' >"$scratch/versions" || true
    return "$status"
}

# What runs to its end on a line of etcd has run on that line's version.
on_etcd() {
    if [[ -n $1 ]]; then export TENURE_ETCD_LINE=$1; fi
    "${@:2}"
    grep -F "$1." "$scratch/versions" >>"$scratch/ran" || true
}

current_thread() {
    export TENURE_TEST_RUNTIME=current_thread
    "$@"
}

namespace() {
    export TENURE_TEST_VIEW=namespace
    "$@"
}

embedded() {
    export TENURE_TEST_SERVER=embedded
    "$@"
}

tests() {
    cargo test --locked "$@" 2>&1 | tee -a "$scratch/tests"
}

# What a call and a lock allocate is counted again with the features on.
optional_tests() {
    local name targets=()
    for name in srv raw storm metrics trace allocs wire_allocs lease_allocs lock_allocs; do
        targets+=(--test "$name")
    done
    tests -p tenure --features "$OPTIONAL" "${targets[@]}"
    tests -p tenure --features "$OPTIONAL" --lib client::metrics
    tests -p tenure-cli --features srv --test cli connection::
}

# But for the quick start, and those that need a feature.
examples() {
    local file name
    unset ETCD_ENDPOINTS
    cargo build --locked -p tenure --examples
    for file in examples/*.rs; do
        name=$(basename "$file" .rs)
        case $name in quickstart | raw_call | prometheus) continue ;; esac
        echo "-- $name"
        timeout 300 cargo run --locked -q -p tenure --example "$name" || return
    done
}

quick_start() {
    unset ETCD_ENDPOINTS
    timeout 300 cargo run --locked -q --example quickstart
}

quick_start_on_etcd() {
    timeout 300 cargo run --locked -q -p tenure-etcd -- run cargo run --locked -q --example quickstart
}

raw_call() {
    unset ETCD_ENDPOINTS
    timeout 300 cargo run --locked -q --features unstable --example raw_call
}

prometheus() {
    unset ETCD_ENDPOINTS
    timeout 300 cargo run --locked -q --features metrics --example prometheus | tee "$scratch/page"
}

alert_rules() {
    local title=$1 tool
    if tool=$(find_promtool); then
        step "$title" check_alerts "$tool"
    else
        note "-" "$title" "did not run: no promtool (apt-get install prometheus)"
        if [[ ${CI:-} == true ]]; then failed=1; fi
    fi
}

# One on PATH, or Debian's, unpacked into the cache of the etcd servers and not installed.
find_promtool() {
    if type -P promtool; then return; fi
    local cache=${TENURE_CACHE:-${XDG_CACHE_HOME:-${HOME:-}/.cache}/tenure}/promtool
    if [[ ! -x $cache/promtool ]]; then
        mkdir -p "$cache" && fetch_promtool "$scratch/prometheus" >&2 || return
        # By a rename at last, so that it is there as a whole or not at all.
        mv "$scratch/prometheus/usr/bin/promtool" "$cache/promtool.$$" && mv "$cache/promtool.$$" "$cache/promtool" || return
    fi
    echo "$cache/promtool"
}

# Where the system has no lists of packages, with lists of its own: neither needs root.
fetch_promtool() (
    mkdir -p "$1/lists/partial" "$1/cache/partial" && cd -- "$1" || return
    own=(-o "Dir::State::lists=$1/lists" -o "Dir::Cache=$1/cache" -o APT::Sandbox::User=)
    apt-get -q download prometheus ||
        { apt-get -q "${own[@]}" update && apt-get -q "${own[@]}" download prometheus; } || return
    dpkg-deb -x prometheus_*.deb .
)

check_alerts() {
    "$1" check rules docs/alerts.yml
    "$1" test rules docs/alerts_test.yml
    grep -E '^(#|tenure_)' "$scratch/page" | "$1" check metrics
}

# libFuzzer is C++, and only linking a target needs it: where no compiler is
# there, its build script is told that somebody else built it.
check_fuzz() {
    if ! command -v c++ >/dev/null; then export CUSTOM_LIBFUZZER_PATH=/nonexistent/libfuzzer.a; fi
    cargo check --locked --manifest-path fuzz/Cargo.toml --all-targets
}

# The library alone, which is what others build. This one and the one for musl want more of Rust than its latest
# release for this machine, which not every network has: the summary says so then, and nothing fails.
oldest_rust() {
    local title=$1 oldest
    oldest=$(rust_versions Cargo.toml)
    if rustup run "$oldest" cargo --version >/dev/null 2>&1 ||
        rustup toolchain install "$oldest" --profile minimal --no-self-update >&2; then
        step "$title, $oldest" check_oldest "$oldest"
    else
        note "-" "$title" "did not run: no Rust $oldest (rustup toolchain install $oldest --profile minimal)"
    fi
}

check_oldest() {
    local features
    for features in "" --no-default-features --all-features; do
        rustup run "$1" cargo check --locked -p tenure $features
    done
}

musl() {
    local title=$1
    if [[ -d $(rustc --print target-libdir --target "$MUSL" 2>/dev/null) ]] || rustup target add "$MUSL" >&2; then
        step "$title" cargo build --locked -p tenure --no-default-features --target "$MUSL"
    else
        note "-" "$title" "did not run: rustup target add $MUSL"
    fi
}

# As it would be published, and from that its pages, some of which are files beside the sources.
check_package() {
    local target version
    cargo package --locked --allow-dirty -q -p tenure
    target=$(target_directory)
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
    export RUSTDOCFLAGS="-D warnings"
    cargo doc --locked --no-deps --target-dir "$target" --manifest-path "$target/package/tenure-$version/Cargo.toml"
}

# Counted with derive macros and what they are made of, as the peers' crates are in BENCHMARKS.md, although
# those run in the compiler.
check_dependencies() {
    local direct all run_time count
    direct=$(crates -e build --depth 1)
    all=$(crates --no-default-features -e normal,build)
    run_time=$(crates --no-default-features -e normal)
    count=$(wc -l <<<"$run_time")
    echo "$count crates at run time:" $run_time
    if [[ $direct != tenure ]]; then
        echo "a plain build has build dependencies, put them behind a feature:" $direct
        return 1
    elif [[ $all != "$run_time" ]]; then
        echo "a dependency brings build dependencies:"
        diff <(echo "$run_time") <(echo "$all")
    elif ((count > CRATES_MAX)); then
        echo "more than $CRATES_MAX: find what brought them with \`cargo tree -p tenure -e normal\`"
        return 1
    fi
}

# Beside what it is for, that a program of one thread without TLS does lock.
check_small() {
    local program size
    cargo build --locked -q --profile small -p tenure-small
    program=$(target_directory)/small/tenure-small
    cargo run --locked -q -p tenure-etcd -- run sh -c '"$0" "$ETCD_ENDPOINTS"' "$program"
    size=$(wc -c <"$program")
    echo "$size bytes"
    ((size <= SMALL_BYTES_MAX))
}

target_directory() {
    cargo metadata --locked --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p'
}

# The names of the crates in the tree, this one included, each version a line.
crates() {
    cargo tree --locked -p tenure --prefix none --format '{p}' "$@" | awk '{ print $1 == "tenure" ? $1 : $1 "-" $2 }' | sort -u
}

need_rust() {
    local wanted found
    # What is beside the library may need a newer one than the library.
    wanted=$(rust_versions Cargo.toml crates/*/Cargo.toml)
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        echo "test.sh: no cargo and rustc on PATH. Rust $wanted or newer is needed: https://rustup.rs," >&2
        echo "  or on Debian 13 and later: apt-get install rustup && rustup default stable" >&2
        exit 1
    fi
    found=$(rustc --version | cut -d' ' -f2)
    if [[ $(printf '%s\n' "$wanted" "$found" | sort -V | head -n1) != "$wanted" ]]; then
        echo "test.sh: Rust $found is too old, $wanted or newer is needed: rustup update, or https://rustup.rs" >&2
        exit 1
    fi
}

# The newest Rust that these manifests ask for.
rust_versions() {
    sed -n 's/^rust-version = "\(.*\)"/\1/p' "$@" | sort -V | tail -n1
}

need_linker() {
    if command -v cc >/dev/null; then return; fi
    echo "test.sh: no C linker (cc) on PATH" >&2
    if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
        apt-get install -y gcc libc6-dev || { apt-get update && apt-get install -y gcc libc6-dev; }
    else
        echo "  on Debian: apt-get install gcc libc6-dev" >&2
        exit 1
    fi
}

# Runs a step that needs a component of the toolchain, and fetches that where it can.
component() {
    local name=$1 program=cargo-${1#rust} title=$2
    if "$program" --version >/dev/null 2>&1 || rustup component add "$name" >&2; then
        step "$title" "${@:3}"
    else
        note "-" "$title" "did not run: no $name (rustup component add $name)"
        if [[ ${CI:-} == true ]]; then failed=1; fi
    fi
}

# Runs a command in a shell of its own, under its title, and notes how it ended.
step() {
    local title=$1 begun=$SECONDS status
    printf '\n== %s\n' "$title"
    set +e
    (set -e; "${@:2}")
    status=$?
    set -e
    if ((status == 0)); then
        note "ok" "$title" "$((SECONDS - begun)) s"
    else
        note "FAILED" "$title" "$((SECONDS - begun)) s, exit status $status"
        failed=1
    fi
}

note() {
    line=$(printf '%-6s  %s (%s)' "$1" "$2" "$3")
    summary+=("$line")
    printf -- '-- %s\n' "$line"
}

report() {
    printf '\n== summary, %d min %d s\n' "$((SECONDS / 60))" "$((SECONDS % 60))"
    printf '%s\n' "${summary[@]}"
    awk '/^test result: / { passed += $4; failed += $6; ignored += $8 }
         END { printf "tests: %d passed, %d failed, %d ignored\n", passed, failed, ignored }' "$scratch/tests"
    echo "etcd versions that ran:" $(sort -uV "$scratch/ran" 2>/dev/null || true)
    exit "$failed"
}

main
