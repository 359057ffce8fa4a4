#!/bin/sh
# What the service must not be able to do, and what it must: one line for each, `NAME yes` or `NAME no`. Started by the
# unit in place of the agent, and once more outside of its sandbox, where everything here works for the same user.
attempt() {
	name=$1
	shift
	if "$@" >/dev/null 2>"$TMP/said"; then echo "$name yes"; else echo "$name no $(tail -n 1 "$TMP/said")"; fi
}
TMP=$(mktemp -d)

# Files outside of what it owns. The test makes them writable for everybody.
attempt write-etc touch /etc/cassandra-cdc-probe
attempt write-usr touch /usr/share/cassandra-cdc-probe
attempt write-var-lib touch /var/lib/cassandra-cdc-probe
attempt read-home cat /home/probe
attempt see-processes test -e /proc/1
attempt see-tmp test -e /tmp/probe-of-the-test
attempt see-kernel-symbols test -r /proc/kallsyms

# System calls.
attempt unshare unshare --user true
attempt personality setarch --addr-no-randomize true
attempt schedule chrt --batch 0 true
attempt renice renice -n 19 -p $$
attempt set-user-id sh -c "touch $TMP/file && chmod u+s $TMP/file"
attempt netlink perl -e 'socket(my $s, 16, 3, 0) or die $!'
attempt inet perl -e 'socket(my $s, 2, 1, 0) or die $!'
# An anonymous page to write to and to execute: mmap(0, 4096, READ|WRITE|EXEC, PRIVATE|ANONYMOUS, -1, 0).
attempt write-and-execute perl -e '
	my %mmap = (x86_64 => 9, aarch64 => 222);
	chomp(my $machine = `uname -m`);
	syscall($mmap{$machine} // die("no number of mmap for $machine"), 0, 4096, 7, 0x22, -1, 0) == -1 and die $!'

# What it lives from.
attempt spool ln -f /var/lib/cassandra/cdc_raw/probe /var/lib/cassandra/cdc_spool/probe
attempt delete rm /var/lib/cassandra/cdc_spool/probe
attempt state touch /var/lib/cassandra-cdc/probe
attempt delete-state rm /var/lib/cassandra-cdc/probe
attempt tmp touch /tmp/mine

grep -E '^(Uid|Gid|Umask|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status
