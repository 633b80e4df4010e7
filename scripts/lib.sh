# shellcheck shell=bash disable=SC2034
# Shared by all scripts: messages to the user, packages, nginx's trees, the tally of checks.
# Sourced, never run.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/.cache
module_so=ngx_http_websocket_module.so

say() { printf '%s\n' "$*" >&2; }
die() {
    say "${0##*/}: $*"
    exit 1
}

# help_wanted "$@": prints the caller's first comment and exits, if --help is among the arguments.
help_wanted() {
    local argument
    for argument; do
        case $argument in
        -h | --help)
            sed -n '2,${/^#/!q;s/^# \{0,1\}//p;}' "$0"
            exit 0
            ;;
        esac
    done
}

# --- packages -------------------------------------------------------------------------------------

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif [[ -t 0 ]]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# Debian starts the services it installs. policy-rc.d forbids that; an existing one is kept.
# shellcheck disable=SC2016
apt_install='
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap "rm -f $policy" EXIT
        trap "exit 1" HUP INT TERM
        printf "#!/bin/sh\nexit 101\n" >"$policy" && chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    install() { apt-get install -y -q --no-install-recommends "$@" </dev/null; }
    install "$@" || { apt-get update -q && install "$@"; }
'

# need PACKAGE...: installs those that are missing, or says in one line why it cannot.
need() {
    local package missing=()
    for package; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null ||
        die "missing: ${missing[*]}. Only Debian's apt-get is known here: install them yourself."
    if ((EUID != 0)) && ! command -v sudo >/dev/null; then
        die "missing: ${missing[*]}. As root: apt-get install ${missing[*]}"
    fi
    say "Installing ${missing[*]}"
    as_root sh -c "$apt_install" sh "${missing[@]}" >"$(log_file apt)" 2>&1 ||
        die "cannot install ${missing[*]}: see $(log_file apt). As root: apt-get install ${missing[*]}"
}

# need_cargo [SUBCOMMAND...]: the Rust toolchain, with fmt or clippy if they are asked for.
need_cargo() {
    local part
    command -v cargo >/dev/null || die "cargo is missing: install a Rust toolchain (1.88 or newer)."
    for part; do
        cargo "$part" --version >/dev/null 2>&1 ||
            die "cargo $part is missing: rustup component add ${part/fmt/rustfmt}"
    done
}

log_file() {
    mkdir -p "$cache/log"
    printf '%s\n' "$cache/log/$1.log"
}

# --- nginx ----------------------------------------------------------------------------------------

# The Debian packages that the module's build and nginx's own build need.
build_packages=(gcc libc6-dev make libclang-dev libpcre2-dev zlib1g-dev libssl-dev)

# nginx_headers NAME|DIRECTORY: sets and exports NGINX_SOURCE_DIR and NGINX_BUILD_DIR.
nginx_headers() {
    local lines
    lines=$("$root/scripts/nginx-headers" "$1")
    eval "$lines"
    export NGINX_SOURCE_DIR NGINX_BUILD_DIR
}

# nginx_binary debian|1.28.3|asan: the path of that nginx.
nginx_binary() {
    case $1 in
    debian)
        need nginx
        printf '%s\n' /usr/sbin/nginx
        ;;
    1.28.3) "$root/scripts/nginx-1.28.3" ;;
    asan) "$root/scripts/nginx-1.28.3" --asan ;;
    esac
}

# under_lock NAME COMMAND...: lets two scripts at once build a cached thing only once.
under_lock() {
    local lock_fd
    mkdir -p "$cache"
    exec {lock_fd}>"$cache/$1.lock"
    shift
    flock "$lock_fd"
    "$@" {lock_fd}>&-
    exec {lock_fd}>&-
}

# --- ports ----------------------------------------------------------------------------------------

# port_answers PORT: whether somebody listens there on the loopback address.
port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# --- the demo -------------------------------------------------------------------------------------

# demo_prefix PREFIX MODULE PORT TLS-PORT REDIS-PORT: lays out nginx-conf as nginx's prefix, with
# these ports instead of those in the files.
demo_prefix() {
    local prefix=$1 file
    mkdir -p "$prefix/modules" "$prefix/logs" "$prefix/temp" "$prefix/tls"
    ln -sf "$2" "$prefix/modules/$module_so"
    ln -sfn "$root/nginx-conf/pages" "$prefix/pages"
    for file in "$root"/nginx-conf/*.conf; do
        sed -e "s/:8080\b/:$3/g; s/:8443\b/:$4/g; s/\b6380\b/$5/g" "$file" >"$prefix/${file##*/}"
    done
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
        -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
        -keyout "$prefix/tls/key.pem" -out "$prefix/tls/cert.pem" 2>/dev/null
}

# If root starts nginx, its workers run as nobody by default, which may not read the checkout.
nginx_user() {
    ((EUID != 0)) || printf 'user root;'
}

# --- end-to-end tests -----------------------------------------------------------------------------

# nginx_and_module NGINX release|debug: builds both, and sets the variables that the tests read.
nginx_and_module() {
    WS_FLAVOR=$1
    WS_BUILD=$2
    WS_NGINX=$(nginx_binary "$1")
    WS_MODULE=$("$root/scripts/build" --nginx "$1" "--${2/debug/testing}")
    export WS_FLAVOR WS_BUILD WS_NGINX WS_MODULE
}

# Python's client libraries, in an environment of their own.
python_client() {
    local venv=$cache/venv
    if ! "$venv/bin/python" -c 'import tornado, websockets' 2>/dev/null; then
        say "Installing Python's websockets and Tornado"
        rm -rf "$venv"
        { /usr/bin/python3 -m venv "$venv" && "$venv/bin/pip" install -q websockets tornado; } \
            >"$(log_file venv)" 2>&1 || die "no Python websockets or Tornado: see $(log_file venv)"
    fi
    WS_PYTHON=$venv/bin/python
    export WS_PYTHON
}

# end_to_end NGINX PROFILE [CARGO-TEST-ARGUMENT...]: runs the tests of t/ with that nginx.
end_to_end() {
    local nginx=$1 profile=$2
    shift 2
    need nginx libnginx-mod-http-lua redis-server openssl iproute2
    # The third-party clients.
    need chromium chromium-driver python3 python3-venv openjdk-17-jdk-headless libnetty-java \
        libmojolicious-perl
    python_client
    nginx_and_module "$nginx" "$profile"
    # The browser tests save their screenshots here.
    export WS_PICTURES=$root/target/pictures
    mkdir -p "$WS_PICTURES"
    CARGO_TARGET_DIR=$root/target/tests cargo_tests "end to end, nginx $nginx ($profile${WS_IO_URING:+, io_uring $WS_IO_URING})" \
        cargo test --locked --no-fail-fast --package t "$@"
}

# --- the tally ------------------------------------------------------------------------------------
# Lines "PASSED FAILED NAME" in $TALLY. The outermost script creates the file and prints the sum,
# and its exit status tells whether all passed. Scripts that it calls only add to the file.

tally_begin() {
    tally_is_ours=
    [[ -n ${TALLY:-} ]] && return
    TALLY=$(mktemp)
    export TALLY
    tally_is_ours=yes
    trap 'rm -f "$TALLY"' EXIT
}

tally() { printf '%s %s %s\n' "$1" "$2" "$3" >>"$TALLY"; }

# check NAME COMMAND...: one check, passed if the command succeeds.
check() {
    local name=$1
    shift
    say "== $name"
    if "$@" >&2; then
        tally 1 0 "$name"
    else
        say "FAILED: $name"
        tally 0 1 "$name"
    fi
}

# cargo_tests NAME COMMAND...: runs a `cargo test` and adds its counts to the tally. It is a
# failure, too, if nothing ran or if it broke before the tests.
cargo_tests() {
    local name=$1 output passed failed status=0
    shift
    say "== $name"
    output=$(mktemp)
    "$@" 2>&1 | tee "$output" >&2 || status=$?
    read -r passed failed < <(
        awk '/^test result: / { p += $4; f += $6 } END { print p + 0, f + 0 }' "$output"
    )
    rm -f "$output"
    if ((failed == 0 && (status != 0 || passed == 0))); then
        failed=1
    fi
    tally "$passed" "$failed" "$name"
}

tally_end() {
    [[ -n $tally_is_ours ]] || return 0
    awk '$2 { failed = $2; $1 = $2 = ""; print "failed:" $0 " (" failed ")" }' "$TALLY" >&2
    awk '{ p += $1; f += $2 } END { print p + 0 " passed, " f + 0 " failed"; exit f > 0 }' "$TALLY"
}
