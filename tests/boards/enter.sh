#!/bin/sh
# enter.sh COMMAND...                              run COMMAND where this kernel runs Arm programs
# BASE=DIR LAYER=DIR ROOT=DIR enter.sh COMMAND...  the same, inside the board made of BASE and LAYER
#
# Mounts, processes and the host name are the command's own: all of it is gone when enter.sh or its caller ends, whichever way.
# Nothing is written to BASE and LAYER: what the board writes stays in memory. HOME_OPTIONS are tmpfs's, for /home/pi.
set -eu
if [ "${ENTERED:-}" != yes ]; then
  exec setpriv --pdeathsig KILL unshare --mount --uts --pid --fork --kill-child --propagation private env ENTERED=yes "$0" "$@"
fi

binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
for name in aarch64 arm; do
  # Two boards may start at once: what counts is that one of them registered it.
  [ -e $binfmt/qemu-$name ] || cat /usr/lib/binfmt.d/qemu-$name.conf >$binfmt/register 2>/dev/null || [ -e $binfmt/qemu-$name ]
done
[ -n "${BASE:-}" ] || exec "$@"

# Whatever the caller's umask is, the user pi can read what is not secret.
umask 022
chmod -R go+rX "$LAYER"
chmod 600 "$LAYER/etc/ssh/host_key"
mount -t tmpfs tmpfs "$ROOT"
mkdir "$ROOT/written" "$ROOT/work" "$ROOT/board"
mount -t overlay -o "lowerdir=$LAYER:$BASE,upperdir=$ROOT/written,workdir=$ROOT/work" overlay "$ROOT/board"
cd "$ROOT/board"
mkdir -p proc dev run/sshd home/pi
mount -t proc proc proc
mount --bind "$LAYER/cpuinfo" proc/cpuinfo
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o "uid=1000,gid=1000,mode=755,$HOME_OPTIONS" tmpfs home/pi
hostname raspberrypi
exec env -i PATH=/usr/sbin:/usr/bin QEMU_CPU="$QEMU_CPU" chroot . "$@"
