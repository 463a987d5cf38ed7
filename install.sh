#!/bin/bash
# Installs or upgrades infoscreen on Debian 12 or 13: sudo ./install.sh --help
# Safe to run again at any time: what is as it should be is left alone.
set -euo pipefail

# The same result from any shell: neither its umask, nor its language, nor its settings for infoscreen, Python or pip count.
umask 022
for variable in $(compgen -e); do
    case $variable in
        HOME | TERM | USER | TMPDIR | *_proxy | *_PROXY | SSL_CERT_* | PIP_INDEX_URL | PIP_EXTRA_INDEX_URL | PIP_CERT | PIP_TRUSTED_HOST) ;;
        *) unset "$variable" 2>/dev/null || true ;;
    esac
done
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8

readonly PREFIX=/opt/infoscreen ETC=/etc/infoscreen STATE=/var/lib/infoscreen UNITS=/etc/systemd/system
readonly COMMAND=/usr/local/bin/infoscreen MOSQUITTO=/etc/mosquitto LOCK=/run/infoscreen-install.lock
readonly KEPT_BACKUPS=3
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly SOURCE

role='' action=install dry_run='' purge='' broker=yes http_host='' http_port='' wheels='' enrolment=''
admin='' admin_password_file='' app_command='' app_user='' start=yes
broker_names=() changes=0 generated_password='' stopped_at=''

usage() {
    cat <<'USAGE'
sudo ./install.sh [--role server|device] [OPTION]...

Installs infoscreen, or upgrades it: the same command. The server gets a daemon, a broker with TLS, a private CA, daily
backups and a first admin; a device gets the agent. Asks nothing that has a default unless it runs on a terminal.

  --role server|device    what this host is; default: what is installed, else server
  --dry-run               show what would be done
  --roll-back             go back to the release before the last upgrade, with its database
  --uninstall             remove the programs; settings, database and broker accounts stay
  --uninstall --purge     remove everything

server:
  --name NAME             name or address under which devices reach the broker; may be repeated
                          (default: this host's name)
  --http-host ADDRESS     where the panel listens (default: 127.0.0.1)
  --http-port PORT        (default: 8080)
  --admin NAME            first admin (default: admin); only where there is none yet
  --admin-password-file FILE   its password; default: asked for on a terminal, else generated and shown once
  --no-broker             the broker is elsewhere: set the MQTT_ settings in /etc/infoscreen/infoscreen.env

device:
  --enroll FILE           enrolment file of this device, from `infoscreen broker add-device --output DIR UUID`
  --app-command COMMAND   also set up infoscreen-app.service, which keeps this command running
  --app-user USER         as this user (default: signage, which is created)

both:
  --wheels DIR            install Python packages from this directory, without a network
  --no-start              start nothing
USAGE
}

say() { printf '%s\n' "$*"; }
warn() { printf 'install.sh: %s\n' "$*" >&2; }
die() {
    warn "$@"
    exit 1
}

# Does something that changes the host, or only says so.
change() {
    changes=$((changes + 1))
    say "- $1"
    shift
    [[ $dry_run ]] || "$@"
}

take() {
    case $1 in
        --role) role=$2 ;;
        --name) broker_names+=("$2") ;;
        --http-host) http_host=$2 ;;
        --http-port) http_port=$2 ;;
        --admin) admin=$2 ;;
        --admin-password-file) admin_password_file=$2 ;;
        --enroll) enrolment=$2 ;;
        --app-command) app_command=$2 ;;
        --app-user) app_user=$2 ;;
        --wheels) wheels=$2 ;;
    esac
}

parse() {
    while (($#)); do
        case $1 in
            --role | --name | --http-host | --http-port | --admin | --admin-password-file | --enroll | --app-command | \
                --app-user | --wheels)
                [[ ${2-} && ${2-} != --* ]] || die "$1 needs a value"
                take "$1" "$2"
                shift
                ;;
            --no-broker) broker='' ;;
            --no-start) start='' ;;
            --dry-run) dry_run=yes ;;
            --roll-back) action=roll_back ;;
            --uninstall) action=uninstall ;;
            --purge) purge=yes ;;
            -h | --help)
                usage
                exit 0
                ;;
            *)
                usage >&2
                die "unknown option: $1"
                ;;
        esac
        shift
    done
    if [[ ! $role ]]; then
        role=server
        if [[ -e $UNITS/infoscreen-agent.service && ! -e $UNITS/infoscreen.service ]]; then role=device; fi
    fi
    [[ $role == server || $role == device ]] || die "--role is server or device, not '$role'"
    [[ ! $wheels || -d $wheels ]] || die "--wheels: there is no directory $wheels"
    [[ ! $enrolment || -f $enrolment ]] || die "--enroll: there is no file $enrolment"
    [[ ! $admin_password_file || -f $admin_password_file ]] || die "--admin-password-file: there is no such file"
    [[ ! $http_port || ($http_port =~ ^[1-9][0-9]{0,4}$ && $http_port -le 65535) ]] || die "--http-port: $http_port is no port"
    if [[ $role == device && (${#broker_names[@]} -gt 0 || $admin || $admin_password_file || $http_host || $http_port) ]]; then
        die "--name, --admin... and --http-... are for --role server"
    fi
    if [[ $role == server && ($enrolment || $app_command || $app_user) ]]; then
        die "--enroll and --app-... are for --role device"
    fi
    [[ ! $app_user || $app_command ]] || die "--app-user needs --app-command"
    [[ ! $purge || $action == uninstall ]] || die "--purge is for --uninstall"
}

# --- What must be there before --------------------------------------------------------------------------------------

check_host() {
    [[ $EUID -eq 0 || $dry_run ]] || die "run it as root: sudo $0"
    if [[ ! $dry_run ]]; then
        exec 9>"$LOCK"
        flock --nonblock 9 || die "another install.sh is running here. Wait for its end"
        local directory
        for directory in /etc /opt /usr/lib /usr/local /var/lib; do
            [[ -w $directory ]] || die "$directory cannot be written: is its file system mounted read-only?"
        done
    fi
    command -v apt-get >/dev/null || die "this is for Debian 12 or 13; docs/operations.md says how to install elsewhere"
    if [[ $start && ! -d /run/systemd/system ]]; then
        die "systemd does not run here; with --no-start everything but the start is done"
    fi
    if dpkg-query --status infoscreen >/dev/null 2>&1; then
        die "infoscreen is installed from a Debian package here: upgrade it with apt, or remove it first"
    fi
}

# Half an installation is worse than none. In MB: a release, what pip unpacks on the way, a backup and a migration.
check_space() {
    local file size=0
    if [[ $release_is_new ]]; then
        has_space /opt 300
        has_space "${TMPDIR:-/tmp}" 200
    fi
    if [[ $role == server && $(setting DATABASE_URL sqlite) == sqlite* ]]; then
        file=$(database_file)
        if [[ -e $file ]]; then size=$(du --block-size=1M "$file" | cut -f1); fi
        has_space /var/lib $((100 + 2 * size))
    fi
}

has_space() {
    local free
    free=$(df --output=avail --block-size=1M "$1" | tail -n 1)
    ((free >= $2)) || die "only $((free)) MB are free in $1, and $2 MB are needed. Make room; nothing was changed"
}

install_packages() {
    local wanted=(python3 python3-venv) missing=() package
    if [[ $role == device ]]; then wanted+=(polkitd dbus); fi
    if [[ $role == server && $broker ]]; then wanted+=(mosquitto iproute2); fi
    for package in "${wanted[@]}"; do
        [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    change "install the Debian packages ${missing[*]}" apt_install "${missing[@]}"
}

apt_install() {
    local log
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "$@"; } \
        >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        die "apt-get could not install $*"
    fi
    rm -f "$log"
}

check_python() {
    local ask='import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'
    if ! python3 -c "$ask" 2>/dev/null; then
        [[ $dry_run ]] && return 0
        die "Python 3.11, 3.12 or 3.13 with venv is needed; this host has $(python3 --version 2>&1)"
    fi
}

listens() { ss --no-header --listening --tcp --numeric "sport = :$1" 2>/dev/null | grep -q .; }

who_listens() { ss --no-header --listening --tcp --numeric --processes "sport = :$1" | grep -o 'users:.*' || true; }

check_ports() {
    local port
    port=${http_port:-$(setting HTTP_PORT 8080)}
    if ! systemctl is-active --quiet infoscreen 2>/dev/null && listens "$port"; then
        die "port $port is in use: $(who_listens "$port"). Stop what uses it, or choose another one with --http-port"
    fi
    [[ $broker ]] || return 0
    for port in 1883 8883; do
        if listens "$port" && ! who_listens "$port" | grep -q '"mosquitto"'; then
            die "port $port is in use by something else than mosquitto: $(who_listens "$port"). Stop it, or use --no-broker"
        fi
    done
}

# A second file that sets the same things would win over ours, or be contradicted by it.
check_broker() {
    [[ $broker ]] || return 0
    local file found
    for file in "$MOSQUITTO"/mosquitto.conf "$MOSQUITTO"/conf.d/*.conf; do
        [[ -f $file && $(basename "$file") != infoscreen*.conf ]] || continue
        found=$(grep -oE '^[[:space:]]*(password_file|acl_file|allow_anonymous|listener|port|bind_address|plugin|per_listener_settings|use_username_as_clientid)\b.*' "$file" | head -n 1 || true)
        [[ $found ]] || continue
        local way="mv $file $file.disabled"
        [[ $file == */conf.d/* ]] || way="sed -i 's/^[[:space:]]*${found%% *}/#&/' $file"
        die "$file says '$found', which contradicts the rules of infoscreen. If nothing else needs it:
    $way
and run this again. If another service uses this broker, give infoscreen a broker of its own and use --no-broker."
    done
}

# --- Files ----------------------------------------------------------------------------------------------------------

# put SOURCE TARGET [MODE]: nothing is written that is there already.
put() {
    local mode=${3-0644}
    if [[ -f $2 ]] && cmp --silent "$1" "$2" && [[ $(stat --format=%a "$2") == "${mode#0}" ]]; then return 0; fi
    change "write $2" install -D --mode="$mode" "$1" "$2"
}

# put_text TARGET MODE, with the text from standard input.
put_text() {
    local text
    text=$(mktemp)
    cat >"$text"
    put "$text" "$1" "$2"
    rm -f "$text"
}

remove() {
    local path
    for path in "$@"; do
        if [[ -e $path || -L $path ]]; then change "remove $path" rm -rf "$path"; fi
    done
}

# --- The release: a virtual environment of its own for each version --------------------------------------------------

release_id() {
    local version digest
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$SOURCE/infoscreen/__init__.py")
    digest=$(cd "$SOURCE" && {
        python3 --version
        find infoscreen templates migrations mosquitto pyproject.toml requirements.lock -type f \
            ! -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum
    } | sha256sum | cut -c1-8)
    echo "$version-$digest"
}

make_release() {
    local target=$PREFIX/$1 index=() log
    rm -rf "$target"
    mkdir -p "$PREFIX"
    if [[ $wheels ]]; then index=(--no-index --find-links "$(cd "$wheels" && pwd)"); fi
    log=$(mktemp)
    if ! {
        python3 -m venv "$target" &&
            "$target/bin/pip" install --disable-pip-version-check --no-cache-dir "${index[@]}" \
                --require-hashes --only-binary :all: --requirement "$SOURCE/requirements.lock" &&
            "$target/bin/pip" install --disable-pip-version-check --no-cache-dir --no-index --no-deps \
                --no-build-isolation "$SOURCE"
    } >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -rf "$target"
        die "the Python packages could not be installed. Without a network use --wheels DIR"
    fi
    rm -f "$log"
    touch "$target/.complete"
}

current_release() { basename "$(readlink "$PREFIX/current" 2>/dev/null || true)"; }

switch_to() {
    ln -sfn "$1" "$PREFIX/current.new"
    mv --no-target-directory "$PREFIX/current.new" "$PREFIX/current"
}

drop_old_releases() {
    local directory name
    for directory in "$PREFIX"/*/; do
        name=$(basename "$directory")
        if [[ -L ${directory%/} || $name == "$(current_release)" || $name == "$(previous release)" ]]; then continue; fi
        if [[ -e $directory/pyvenv.cfg ]]; then remove "${directory%/}"; fi
    done
}

# What an upgrade left for the way back: previous release|backup.
previous() { sed -n "s/^$1=//p" "$PREFIX/previous" 2>/dev/null || true; }

# The same of an upgrade that has begun.
begun() { sed -n "s/^$1=//p" "$PREFIX/upgrading" 2>/dev/null || true; }

drop_old_backups() {
    local file kept=0
    while IFS= read -r file; do
        kept=$((kept + 1))
        if ((kept > KEPT_BACKUPS)) && [[ $file != "$(previous backup)" ]]; then remove "$file"; fi
    done < <(find "$STATE/backups" -maxdepth 1 -name 'before-*.db' -printf '%T@ %p\n' 2>/dev/null | sort -rn | cut -d' ' -f2-)
}

# What the release itself has to say takes seconds, so before anything is stopped.
prepare_release() {
    local made=$PREFIX/$1/share
    [[ ! -e $made/infoscreen.1 && ! $dry_run ]] || return 0
    mkdir -p "$made"
    _INFOSCREEN_COMPLETE=bash_source "$PREFIX/$1/bin/infoscreen" >"$made/infoscreen.bash"
    "$PREFIX/$1/bin/infoscreen" describe man >"$made/infoscreen.1.new"
    mv "$made/infoscreen.1.new" "$made/infoscreen.1"
}

install_command() {
    put_text "$COMMAND" 0755 <<'WRAPPER'
#!/bin/sh
# Written by install.sh of infoscreen.
venv=/opt/infoscreen/current
if ! "$venv/bin/python3" -c 'import infoscreen' 2>/dev/null; then
    echo "infoscreen: its virtual environment $(readlink -f "$venv") does not work with this host's Python" \
        "($(python3 --version 2>&1)). It was made for $(sed -n 's/^version = /Python /p' "$venv/pyvenv.cfg")." \
        "Run install.sh again." >&2
    exit 1
fi
exec "$venv/bin/infoscreen" "$@"
WRAPPER
    local made=$PREFIX/current/share
    if [[ $dry_run ]]; then return 0; fi
    prepare_release "$(current_release)"
    put "$made/infoscreen.1" /usr/local/share/man/man1/infoscreen.1
    put "$made/infoscreen.bash" /usr/local/share/bash-completion/completions/infoscreen
}

# --- The server -----------------------------------------------------------------------------------------------------

# setting NAME DEFAULT: what infoscreen.env says.
setting() {
    local value
    value=$(sed -n "s/^$1=//p" "$ETC/infoscreen.env" 2>/dev/null | tail -n 1)
    echo "${value:-$2}"
}

as_release() { (cd "$STATE" && runuser -u infoscreen -- "$PREFIX/$1/bin/infoscreen" "${@:2}"); }

as_daemon() { as_release current "$@"; }

# set_default FILE NAME VALUE: add the setting unless it has a value already.
set_default() {
    if grep -qE "^$2=." "$1" 2>/dev/null; then return 0; fi
    change "set $2 in $1" append "$1" "$2=$3"
}

append() { if [[ $(tail -c 1 "$1") ]]; then echo >>"$1"; fi && printf '%s\n' "$2" >>"$1"; }

# set_value FILE NAME VALUE: as an option says.
set_value() {
    if [[ $(sed -n "s/^$2=//p" "$1" 2>/dev/null | tail -n 1) == "$3" ]]; then return 0; fi
    change "set $2 in $1" replace "$1" "$2" "$3"
}

replace() {
    sed -i "/^$2=/d" "$1"
    append "$1" "$2=$3"
}

prepare_server() {
    put "$SOURCE/systemd/infoscreen.sysusers.conf" /usr/lib/sysusers.d/infoscreen.conf
    put "$SOURCE/systemd/infoscreen.tmpfiles.conf" /usr/lib/tmpfiles.d/infoscreen.conf
    if [[ ! $dry_run ]]; then
        systemd-sysusers infoscreen.conf
        take_over_dynamic_user
        systemd-tmpfiles --create infoscreen.conf
    fi
    local env=$ETC/infoscreen.env
    if [[ ! -e $env ]]; then
        change "make $env" install --mode=0600 --owner=infoscreen --group=infoscreen /dev/null "$env"
    fi
    if [[ ! $dry_run && $(stat --format=%U:%a "$env") != infoscreen:600 ]]; then
        change "let only the daemon read $env" chown infoscreen:infoscreen "$env"
        chmod 0600 "$env"
    fi
    set_default "$env" DATABASE_URL "sqlite+aiosqlite:///$STATE/infoscreen.db"
    set_default "$env" SECRETS_KEY "$(head -c 32 /dev/urandom | base64)"
    if [[ $http_host ]]; then set_value "$env" HTTP_HOST "$http_host"; fi
    if [[ $http_port ]]; then set_value "$env" HTTP_PORT "$http_port"; fi
}

# Versions before 0.2 ran as a dynamic user, whose state systemd keeps elsewhere.
take_over_dynamic_user() {
    if [[ ! -L $STATE ]]; then return 0; fi
    systemctl stop infoscreen 2>/dev/null || true
    change "move $(readlink -f "$STATE") to $STATE" move_state
}

move_state() {
    local place
    place=$(readlink -f "$STATE")
    rm "$STATE"
    mv "$place" "$STATE"
    chown --recursive infoscreen:infoscreen "$STATE"
}

set_up_broker() {
    [[ $broker ]] || return 0
    local before names=() name
    put "$SOURCE/mosquitto/mosquitto.service.d/infoscreen.conf" "$UNITS/mosquitto.service.d/infoscreen.conf"
    if [[ -e $MOSQUITTO/conf.d/infoscreen.conf && ! $release_is_new && ${#broker_names[@]} -eq 0 ]]; then return 0; fi
    if [[ ! -e $MOSQUITTO/conf.d/infoscreen.conf && ${#broker_names[@]} -eq 0 && -t 0 && ! $dry_run ]]; then
        read -rp "Name or address under which devices reach this host [$(hostname --fqdn 2>/dev/null || hostname)]: " name
        if [[ $name ]]; then broker_names+=("$name"); fi
    fi
    for name in "${broker_names[@]}"; do names+=(--name "$name"); done
    if [[ $dry_run ]]; then
        change "write the broker's rules, certificates and accounts in $MOSQUITTO and $ETC/pki"
        return 0
    fi
    before=$(broker_digest)
    "$PREFIX/$release/bin/infoscreen" broker init "$MOSQUITTO" --refresh --no-restart "${names[@]}" >/dev/null
    if [[ $before != "$(broker_digest)" ]]; then
        change "write the broker's rules, certificates and accounts in $MOSQUITTO and $ETC/pki" true
        if [[ $start ]]; then
            systemctl daemon-reload
            systemctl enable --quiet mosquitto
            systemctl restart mosquitto
        fi
    fi
    local line
    while IFS= read -r line; do
        if [[ $line =~ ^([A-Z_]+)=(.*)$ ]]; then set_default "$ETC/infoscreen.env" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"; fi
    done <"$MOSQUITTO/infoscreen-accounts/server.env"
}

broker_digest() {
    { find "$MOSQUITTO"/conf.d "$MOSQUITTO"/infoscreen* "$ETC/pki" -type f -exec sha256sum {} + 2>/dev/null || true; } |
        sort | sha256sum
}

is_sqlite() { [[ $(setting DATABASE_URL '') == sqlite* ]]; }

database_file() { setting DATABASE_URL '' | sed 's|^sqlite+aiosqlite:///||'; }

stop_server() {
    local now
    now=$(date +%s%3N)
    case $(systemctl is-active infoscreen 2>/dev/null || true) in active | activating | reloading) stopped_at=$now ;; esac
    systemctl stop infoscreen 2>/dev/null || true
}

# Whatever goes wrong, and also after Ctrl-C, a daemon that ran before runs again.
at_end() {
    local status=$?
    if ((status != 0)) && [[ $stopped_at ]]; then systemctl start --no-block infoscreen || true; fi
    exit "$status"
}

knows_schema() { as_release "$1" db current --json 2>/dev/null | grep -q '"fitness": *"current"'; }

# Stop, save, migrate, start: all that can be prepared has been. Cut off at any moment, the next run goes on from there.
upgrade_server() {
    local old backup=''
    old=$(current_release)
    if [[ $old == "$release" ]] && knows_schema "$release"; then
        if [[ -e $PREFIX/upgrading && ! $dry_run ]]; then mv "$PREFIX/upgrading" "$PREFIX/previous"; fi
        return 0
    fi
    if [[ $dry_run ]]; then
        change "back up and upgrade the database, and switch from ${old:-nothing} to $release"
        return 0
    fi
    if is_sqlite && [[ $old && ! -s $(database_file) ]]; then
        die "the database $(database_file) is missing or empty although infoscreen $old is installed: it is lost.
Restore a backup, infoscreen db restore --yes FILE, and run this again"
    fi
    stop_server
    if is_sqlite && [[ -s $(database_file) ]]; then
        backup=$(begun backup)
        if [[ ! $backup || ! -s $backup ]] || knows_schema "$old"; then
            backup=$STATE/backups/before-$release-$(date --utc +%Y%m%dT%H%M%SZ).db
            change "back up the database to $backup" as_release "$release" db backup "$backup" ||
                die "the database could not be backed up, and so was not upgraded"
        fi
    fi
    if [[ $old && $old != "$release" ]]; then
        printf 'release=%s\nbackup=%s\n' "$old" "$backup" >"$PREFIX/upgrading.new"
        mv "$PREFIX/upgrading.new" "$PREFIX/upgrading"
    fi
    if ! as_release "$release" db upgrade; then
        if [[ $backup && $old && $old != "$release" ]] && ! knows_schema "$old"; then
            as_release "$release" db restore --yes "$backup"
        fi
        rm -f "$PREFIX/upgrading"
        die "the database could not be upgraded; everything is as it was before"
    fi
    change "switch from ${old:-nothing} to $release" switch_to "$release"
    if [[ -e $PREFIX/upgrading ]]; then mv "$PREFIX/upgrading" "$PREFIX/previous"; fi
}

install_server_units() {
    local unit
    for unit in infoscreen.service infoscreen-backup.service infoscreen-backup.timer \
        infoscreen-certificates.service infoscreen-certificates.timer \
        infoscreen-broker-helper.service infoscreen-broker-helper.socket; do
        put "$SOURCE/systemd/$unit" "$UNITS/$unit"
    done
    if [[ $(systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p') -ge 254 ]]; then
        put "$SOURCE/systemd/restart-steps.conf" "$UNITS/infoscreen.service.d/10-restart-steps.conf"
    fi
}

make_admin() {
    if [[ $dry_run ]]; then return 0; fi
    if as_daemon user list --json | python3 -c 'import json, sys
sys.exit(not any(user["role"] == "admin" and not user["disabled"] for user in json.load(sys.stdin)))'; then
        return 0
    fi
    if [[ ! $admin && ! $admin_password_file && -t 0 ]]; then read -rp "Name of the first admin [admin]: " admin; fi
    admin=${admin:-admin}
    if [[ $admin_password_file ]]; then
        change "add the admin $admin" as_daemon user add "$admin" --role admin <"$admin_password_file"
    elif [[ -t 0 ]]; then
        local name
        until change "add the admin $admin" as_daemon user add "$admin" --role admin; do
            read -rp "Name of the first admin [$admin]: " name
            admin=${name:-$admin}
        done
    else
        generated_password=$(python3 -c 'import secrets; print(secrets.token_urlsafe(18))')
        change "add the admin $admin" as_daemon user add "$admin" --role admin <<<"$generated_password"
    fi
}

is_active() { systemctl is-active --quiet infoscreen; }

# 1 is a warning, as of a certificate that ends next week: no reason to go back.
is_healthy() { "$PREFIX/current/bin/infoscreen" health >/dev/null 2>&1 || (($? == 1)); }

wait_for_server() {
    until "$1"; do
        ((SECONDS < $2)) && sleep 0.2 && continue
        "$PREFIX/current/bin/infoscreen" doctor || true
        journalctl --unit=infoscreen --priority=err --lines=10 --no-pager || true
        die "infoscreen does not become ready. Go back with: $0 --roll-back"
    done
}

start_server() {
    if [[ ! $start || $dry_run ]]; then return 0; fi
    if [[ ! $(setting MQTT_USER '') ]]; then
        warn "set MQTT_USER, MQTT_PASSWORD and where the broker is in $ETC/infoscreen.env, then run this again"
        start=''
        return 0
    fi
    local before=$changes unit
    local units=(infoscreen-backup.timer infoscreen-certificates.timer)
    if [[ $broker ]]; then units+=(infoscreen-broker-helper.socket); fi
    for unit in infoscreen.service "${units[@]}"; do
        if ! systemctl is-enabled --quiet "$unit" 2>/dev/null; then
            change "enable $unit" systemctl enable --quiet "$unit"
        fi
    done
    if ((before > 0)); then systemctl daemon-reload; fi
    for unit in "${units[@]}"; do
        systemctl is-active --quiet "$unit" || change "start $unit" systemctl start "$unit"
    done
    if ! systemctl is-active --quiet infoscreen; then
        change "start infoscreen" systemctl start --no-block infoscreen
    elif ((before > 0)); then
        change "restart infoscreen" systemctl restart --no-block infoscreen
    fi
    local end=$((SECONDS + 120))
    wait_for_server is_active "$end"
    if [[ $stopped_at ]]; then say "  the daemon was away for $(($(date +%s%3N) - stopped_at)) ms; the broker kept what devices said"; fi
    stopped_at=''
    wait_for_server is_healthy "$end"
    if [[ $release_is_new ]] && systemctl is-active --quiet infoscreen-agent; then
        change "restart infoscreen-agent" systemctl restart infoscreen-agent
    fi
    if is_sqlite && ! compgen -G "$STATE/backups/infoscreen-*.db" >/dev/null; then
        change "make the first backup" systemctl start infoscreen-backup
    fi
}

install_server() {
    check_ports
    prepare_server
    set_up_broker
    prepare_release "$release"
    upgrade_server
    install_server_units
    install_command
    if [[ $stopped_at ]]; then
        start_server
        make_admin
    else
        make_admin
        start_server
    fi
    drop_old_releases
    drop_old_backups
    if [[ $dry_run ]]; then return 0; fi
    say ""
    if [[ $start ]]; then "$COMMAND" doctor || true; fi
    say ""
    say "Panel: http://$(setting HTTP_HOST 127.0.0.1):$(setting HTTP_PORT 8080)"
    if [[ $generated_password ]]; then say "Sign in as $admin with the password $generated_password (shown only now)."; fi
    say "Devices: infoscreen broker add-device --output DIR UUID..., then on each: ./install.sh --role device --enroll DIR/UUID.enrol"
}

# --- A device -------------------------------------------------------------------------------------------------------

install_device() {
    local client=$SOURCE/systemd/client old
    if [[ -e $UNITS/infoscreen.service && $(current_release) != "$release" ]]; then
        die "this host is a server as well, of another release: upgrade that first, with --role server"
    fi
    put "$client/infoscreen-agent.sysusers.conf" /usr/lib/sysusers.d/infoscreen-agent.conf
    put "$client/infoscreen-agent.service" "$UNITS/infoscreen-agent.service"
    put "$client/infoscreen-service-failed@.service" "$UNITS/infoscreen-service-failed@.service"
    put "$client/infoscreen-agent.rules" /etc/polkit-1/rules.d/50-infoscreen-agent.rules
    put "$client/watchdog.conf" /etc/systemd/system.conf.d/infoscreen-watchdog.conf
    if [[ ! $dry_run ]]; then systemd-sysusers infoscreen-agent.conf; fi
    old=$(current_release)
    if [[ $old != "$release" ]]; then
        change "switch from ${old:-nothing} to $release" switch_to "$release"
        if [[ $old && ! $dry_run ]]; then printf 'release=%s\nbackup=\n' "$old" >"$PREFIX/previous"; fi
    fi
    install_command
    enrol
    set_up_app
    start_device
    drop_old_releases
}

enrol() {
    local env=$ETC/agent.env
    if [[ ! -e $env ]]; then
        change "make $env" install -D --mode=0600 "$SOURCE/systemd/client/agent.env" "$env"
    fi
    if [[ $dry_run ]]; then
        [[ ! $enrolment ]] || change "enrol this device with $enrolment"
        return 0
    fi
    if [[ $(stat --format=%U:%a "$env") != infoscreen-agent:600 ]]; then
        change "let only the agent read $env" chown infoscreen-agent:infoscreen-agent "$env"
        chmod 0600 "$env"
    fi
    [[ $enrolment ]] || return 0
    local before
    before=$(enrolled)
    "$PREFIX/current/bin/infoscreen" agent enroll "$enrolment" >/dev/null
    if [[ $before != "$(enrolled)" ]]; then
        change "enrol this device with $enrolment" true
    fi
}

enrolled() { { cat "$ETC/agent.env" "$ETC/ca.crt" 2>/dev/null || true; } | sha256sum; }

set_up_app() {
    local unit=$UNITS/infoscreen-app.service
    if [[ ! $app_command ]]; then
        [[ -e $unit ]] || say "  (no infoscreen-app.service yet: --app-command sets one up; docs/agent.md says more)"
        return 0
    fi
    app_user=${app_user:-signage}
    if ! id "$app_user" >/dev/null 2>&1; then
        change "make the user $app_user" useradd --system --create-home "$app_user"
        local group
        for group in video audio input render; do
            if getent group "$group" >/dev/null; then change "let $app_user use $group" usermod -aG "$group" "$app_user"; fi
        done
    fi
    # & and \ mean something to sed.
    local command=${app_command//\\/\\\\}
    command=${command//&/\\&}
    sed -e "s|^ExecStart=.*|ExecStart=${command//|/\\|}|" -e "s|^User=.*|User=$app_user|" \
        "$SOURCE/systemd/client/infoscreen-app.service" | put_text "$unit" 0644
}

start_device() {
    if [[ ! $start || $dry_run ]]; then return 0; fi
    local before=$changes unit units=(infoscreen-agent.service)
    if [[ -e $UNITS/infoscreen-app.service ]]; then units+=(infoscreen-app.service); fi
    for unit in "${units[@]}"; do
        systemctl is-enabled --quiet "$unit" 2>/dev/null || change "enable $unit" systemctl enable --quiet "$unit"
    done
    if ((before > 0)); then systemctl daemon-reload; fi
    if ! grep -qE '^AGENT_UUID=.' "$ETC/agent.env"; then
        warn "this device has no account yet: run this again with --enroll FILE"
        return 0
    fi
    for unit in "${units[@]}"; do
        if ! systemctl is-active --quiet "$unit"; then
            change "start $unit" systemctl start "$unit"
        elif ((before > 0)) && [[ $unit == infoscreen-agent.service ]]; then
            change "restart $unit" systemctl restart "$unit"
        fi
    done
}

# --- Back, and away -------------------------------------------------------------------------------------------------

roll_back() {
    local target backup now
    if [[ -e $PREFIX/upgrading ]]; then die "an upgrade was cut off: run install.sh again to end it, then --roll-back"; fi
    target=$(previous release) backup=$(previous backup) now=$(current_release)
    [[ $target && -e $PREFIX/$target ]] || die "there is no earlier release to go back to"
    if [[ -e $UNITS/infoscreen.service ]]; then
        change "stop infoscreen" stop_server
        # The earlier release may not know the schema; what came in since the upgrade is then in the file that is kept.
        if [[ ! $dry_run ]] && ! knows_schema "$target"; then
            [[ $backup ]] || die "$target does not know the schema of the database, and there is no backup from before"
            change "restore the database from $backup" as_daemon db restore --yes "$backup"
        fi
        change "switch from $now to $target" switch_to "$target"
        change "start infoscreen" systemctl start --no-block infoscreen
        stopped_at=''
    else
        change "switch from $now to $target" switch_to "$target"
        change "restart infoscreen-agent" systemctl restart infoscreen-agent
    fi
    remove "$PREFIX/previous"
}

uninstall() {
    local unit units=(infoscreen.service infoscreen-backup.timer infoscreen-certificates.timer infoscreen-agent.service
        infoscreen-broker-helper.socket infoscreen-broker-helper.service)
    # The application's unit stays, and runs: it may have been written by hand.
    if [[ $purge ]]; then units+=(infoscreen-app.service); fi
    for unit in "${units[@]}"; do
        if [[ -e $UNITS/$unit ]]; then change "stop $unit" systemctl disable --quiet --now "$unit"; fi
    done
    remove "$UNITS"/infoscreen.service "$UNITS"/infoscreen.service.d "$UNITS"/infoscreen-backup.* \
        "$UNITS"/infoscreen-certificates.* "$UNITS"/infoscreen-broker-helper.* "$UNITS"/infoscreen-agent.service \
        "$UNITS/infoscreen-service-failed@.service" \
        /usr/lib/sysusers.d/infoscreen.conf /usr/lib/sysusers.d/infoscreen-agent.conf /usr/lib/tmpfiles.d/infoscreen.conf \
        /etc/polkit-1/rules.d/50-infoscreen-agent.rules /etc/systemd/system.conf.d/infoscreen-watchdog.conf \
        "$UNITS/mosquitto.service.d/infoscreen.conf" "$COMMAND" "$PREFIX" \
        /usr/local/share/man/man1/infoscreen.1 /usr/local/share/bash-completion/completions/infoscreen
    if [[ $purge ]]; then
        remove "$ETC" "$STATE" /var/lib/infoscreen-agent "$MOSQUITTO"/infoscreen* "$MOSQUITTO"/conf.d/infoscreen*.conf \
            "$UNITS/infoscreen-app.service"
        for unit in infoscreen infoscreen-agent; do
            if id "$unit" >/dev/null 2>&1; then change "remove the user $unit" userdel "$unit"; fi
        done
    fi
    if [[ ! $dry_run && -d /run/systemd/system ]]; then
        systemctl daemon-reload
        systemctl try-restart mosquitto 2>/dev/null || true
    fi
    if [[ ! $purge ]]; then say "Kept: $ETC, $STATE and the broker's files in $MOSQUITTO. --purge removes them as well."; fi
}

main() {
    parse "$@"
    check_host
    trap at_end EXIT
    trap 'exit 130' INT TERM HUP
    case $action in
        roll_back | uninstall)
            "$action"
            if ((changes == 0)); then say "Nothing had to be changed."; fi
            return
            ;;
    esac
    release='' release_is_new=yes
    if command -v python3 >/dev/null; then release=$(release_id); fi
    if [[ $release && -e $PREFIX/$release/.complete && $(current_release) == "$release" ]]; then release_is_new=''; fi
    if [[ ! $dry_run ]]; then check_space; fi
    if [[ $role == server ]]; then
        check_ports
        check_broker
    fi
    install_packages
    check_python
    release=$(release_id)
    if [[ ! -e $PREFIX/$release/.complete ]]; then
        change "install infoscreen $release into $PREFIX/$release" make_release "$release"
    fi
    "install_$role"
    if ((changes == 0)); then say "Nothing had to be changed."; fi
}

main "$@"
