#!/bin/sh
# enter.sh COMMAND...                              run COMMAND on a kernel that can run Arm programs
# BASE=DIR LAYER=DIR ROOT=DIR enter.sh COMMAND...  the same, inside a board that consists of BASE and LAYER
#
# COMMAND has its own mounts, processes and host name. All end with enter.sh or its caller, however these end.
# BASE and LAYER do not change: the files that the board writes stay in memory. HOME_OPTIONS are the mount options of
# the tmpfs at /home/pi.
set -eu
if [ "${ENTERED:-}" != yes ]; then
  exec setpriv --pdeathsig KILL unshare --mount --uts --pid --fork --kill-child --propagation private env ENTERED=yes "$0" "$@"
fi

binfmt=/proc/sys/fs/binfmt_misc
[ -e $binfmt/register ] || mount -t binfmt_misc binfmt_misc $binfmt
for name in aarch64 arm; do
  # If two boards start at the same time, one registration fails. It is enough that the other succeeds.
  [ -e $binfmt/qemu-$name ] || cat /usr/lib/binfmt.d/qemu-$name.conf >$binfmt/register 2>/dev/null || [ -e $binfmt/qemu-$name ]
done
[ -n "${BASE:-}" ] || exec "$@"

# The user pi must be able to read all files except the host key, whatever the umask of the caller is.
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
