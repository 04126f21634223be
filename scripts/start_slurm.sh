#!/bin/sh
# One-node SLURM on this machine, for tests: munge, slurmctld and slurmd from Debian's packages.
#
#   scripts/start_slurm.sh          start (as root; installs the packages if they are missing)
#   scripts/start_slurm.sh stop     stop
#
# Everything it writes is under /etc/slurm and $STATE. Accounting is off: Peira asks squeue.
set -eu
PATH=$PATH:/usr/sbin:/sbin
STATE=${STATE:-/var/tmp/peira-slurm}
HOST=$(hostname -s)

stop() {
    for name in slurmctld slurmd munged; do
        if [ -s "$STATE/$name.pid" ]; then kill "$(cat "$STATE/$name.pid")" 2>/dev/null || true; fi
    done
}

[ "$(id -u)" = 0 ] || { echo "$0: needs root, on Debian; or try --executor-option cluster=local" >&2; exit 2; }

install() {
    if command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null; then
        return
    fi
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends \
        slurmctld slurmd slurm-client munge
}

configure() {
    memory=$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
    cat > /etc/slurm/slurm.conf <<CONF
ClusterName=peira
SlurmctldHost=$HOST(127.0.0.1)
AuthType=auth/munge
CryptoType=crypto/munge
SlurmUser=root
SlurmctldPidFile=$STATE/slurmctld.pid
SlurmdPidFile=$STATE/slurmd.pid
StateSaveLocation=$STATE/state
SlurmdSpoolDir=$STATE/spool
SlurmctldLogFile=$STATE/slurmctld.log
SlurmdLogFile=$STATE/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=sched_interval=2,batch_sched_delay=0,sched_min_interval=0
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
JobRequeue=1
MinJobAge=60
KillWait=5
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
    mkdir -p "$STATE/state" "$STATE/spool" /run/munge
    chown munge:munge /run/munge
    # A socket others can reach, whatever the umask.
    chmod 755 /run/munge
    if ! [ -S /run/munge/munge.socket.2 ] || ! munge -n >/dev/null 2>&1; then
        rm -f /run/munge/munge.socket.2*
        setpriv --reuid=munge --regid=munge --clear-groups munged --force
        pgrep -x -n munged > "$STATE/munged.pid"
    fi
    slurmctld
    slurmd
    tries=0
    until sinfo -h -o %T 2>/dev/null | grep -q idle; do
        tries=$((tries + 1))
        if [ "$tries" -gt 60 ]; then
            echo "slurm did not start; see $STATE/slurmctld.log and slurmd.log" >&2
            exit 1
        fi
        sleep 0.5
    done
    sinfo
}

case "${1:-start}" in
    start) install; configure; stop; sleep 1; start ;;
    stop) stop ;;
    *) echo "usage: $0 [start|stop]" >&2; exit 2 ;;
esac
