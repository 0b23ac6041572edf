#!/bin/sh
# Installs the system packages that the functional tests and `make hybrid` need, where they are missing.
# mongod is not among them: it comes as a Python package.
set -eu

# Tests run on a later RabbitMQ too, which lies beside the installed one.
"$(dirname "$0")/unpack-rabbitmq.sh" "$(dirname "$0")/../var/rabbitmq-4"

# And on Qpid Broker-J, which is fetched once.
"$(dirname "$0")/fetch-qpid.sh" "$(dirname "$0")/../var/qpid-10.1.0"

missing=""
[ -x /usr/sbin/rabbitmq-server ] || command -v rabbitmq-server >/dev/null 2>&1 || missing="rabbitmq-server"
# Slow disks are simulated with it.
command -v strace >/dev/null 2>&1 || missing="$missing strace"
# A cache for tokens.
command -v memcached >/dev/null 2>&1 || missing="$missing memcached"
command -v redis-server >/dev/null 2>&1 || missing="$missing redis-server"
# It is a program of its own in Debian's packages, and in others the server under another name.
command -v redis-sentinel >/dev/null 2>&1 || missing="$missing redis-sentinel"
# Browsers read live feeds, too.
command -v chromium >/dev/null 2>&1 || command -v google-chrome >/dev/null 2>&1 || missing="$missing chromium"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "Missing: $missing. Install it with this system's package manager." >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then as_root=""; else as_root="sudo"; fi

echo "Installing $missing (the tests start private nodes of their own; the system's service is not started)"
$as_root apt-get update -qq
# RUNLEVEL=1: the package's service stays down (invoke-rc.d starts nothing in single-user mode).
$as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
