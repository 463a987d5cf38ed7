#!/bin/sh
# A server that is not ours: it talks to one device by the contract alone, with mosquitto_pub and mosquitto_sub.
# Says what went wrong and fails, or prints "all well".
#
#   v1_server.sh PORT USER PASSWORD UUID DIRECTORY
set -u
port=$1 user=$2 password=$3 uuid=$4 heard=$5/heard
base=infoscreen/$uuid

fail() {
    echo "FAILED: $*"
    tail -n 15 "$heard"
    exit 1
}

# Waits until a line of what was heard matches; a line is "RETAINED TOPIC PAYLOAD".
expect() {
    tries=0
    until grep -qE "$1" "$heard"; do
        tries=$((tries + 1))
        [ "$tries" -lt 400 ] || fail "never heard: $1"
        sleep 0.05
    done
}

count() { grep -cE "$1" "$heard"; }

later() { date -u -d "+$1 seconds" +%Y-%m-%dT%H:%M:%SZ; }

# command ID ACTION EXPIRES: the eight fields.
command() {
    printf '{"schema_version":"1.0","command_id":"%s","client_uuid":"%s","action":"%s","issued_at":"%s",' \
        "$1" "$uuid" "$2" "$(later 0)"
    printf '"expires_at":"%s","requested_by":7,"reason":"from the old server"}' "$3"
}

send() { mosquitto_pub -h 127.0.0.1 -p "$port" -u "$user" -P "$password" -q 1 -t "$base/commands" -s; }

# ack ID STATUS: on both topics.
expect_acks() {
    for topic in commands/ack command/ack; do
        expect "^0 $base/$topic .*\"command_id\": ?\"$1\".*\"status\": ?\"$2\""
    done
}

set --
for topic in discovery heartbeat health service_failed presence logs/+ screenshot commands/ack command/ack; do
    set -- "$@" -t "$base/$topic"
done
stdbuf -oL mosquitto_sub -h 127.0.0.1 -p "$port" -u "$user" -P "$password" -q 1 -F '%r %t %p' "$@" >"$heard" &
trap 'kill $!' EXIT

time='"[0-9]{4}-[0-9-]{5}T[0-9:.]+Z"'
expect "^[01] $base/presence online$"
expect "^0 $base/heartbeat .*\"timestamp\": ?$time"
expect "^0 $base/heartbeat .*\"process_status\": ?\"running\""
expect "^0 $base/heartbeat .*\"app_started_at\": ?$time"
expect "^0 $base/health .*\"health_metrics\": ?\{.*\"cpu_percent\": ?[0-9.]+"
expect "^0 $base/health .*\"broker_connection\": ?\{\"broker_reachable\": ?true"
grep -E "^0 $base/(heartbeat|health|discovery)" "$heard" | grep -vqE "\"uuid\": ?\"$uuid\"" \
    && fail "a message without its uuid"

first=$(cat /proc/sys/kernel/random/uuid)
command "$first" restart_app "$(later 240)" | send
for status in accepted execution_started completed; do expect_acks "$first" $status; done

# A repeat is answered with the ack given, and not carried out.
command "$first" restart_app "$(later 240)" | send
done_ack="^0 $base/commands/ack .*$first.*completed"
tries=0
until [ "$(count "$done_ack")" -ge 2 ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 400 ] || fail "a repeat was not answered"
    sleep 0.05
done
[ "$(count "^0 $base/commands/ack .*$first.*execution_started")" -eq 1 ] || fail "a repeat was carried out"

# Whatever is not exactly the eight fields is ignored; an expired command is refused.
extra=$(cat /proc/sys/kernel/random/uuid)
command "$extra" reboot_host "$(later 240)" | sed 's/}$/,"priority":1}/' | send
stale=$(cat /proc/sys/kernel/random/uuid)
command "$stale" reboot_host "$(later -5)" | send
expect "^0 $base/commands/ack .*$stale.*\"status\": ?\"failed\".*\"error_code\": ?\"expired\""
[ "$(count "ack .*$extra")" -eq 0 ] || fail "a command with a ninth field was taken"

off=$(cat /proc/sys/kernel/random/uuid)
command "$off" shutdown_host "$(later 240)" | send
for status in accepted execution_started completed; do expect_acks "$off" $status; done
echo "all well"
