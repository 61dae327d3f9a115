#!/bin/sh
# Grows the partition that holds the store, the last of its disk, to the disk's end, and then its filesystem.
# Does nothing where there is nothing to gain.
#
#   grow.sh MOUNT_POINT FS_TYPE
#
# Uses util-linux, and e2fsprogs for ext4 or btrfs-progs for btrfs.
set -eu
mount_point=$1
fs_type=$2

# The store may be mounted read-only. In the service's own mounts, it is not.
mount -o remount,bind,rw "$mount_point"

device=$(findmnt --direction backward --first-only --noheadings --nofsroot --output SOURCE "$mount_point")
device=$(realpath "$device")

# The disk and the partition's number as the kernel has them: no name tells them reliably.
name=$(printf %s "${device#/dev/}" | tr / '!')
partition=$(realpath "/sys/class/block/$name")
if [ ! -e "$partition/partition" ]; then
  echo "$device is not a partition of a disk" >&2
  exit 1
fi
number=$(cat "$partition/partition")
disk=/dev/$(sed -n s/^DEVNAME=//p "$partition/../uevent")

# In sectors of 512 bytes, whatever the disk's are. Up to 2 MiB at its end are for the backup of the
# partition table and for alignment.
free=$(($(cat "$partition/../size") - $(cat "$partition/start") - $(cat "$partition/size")))
if [ "$free" -gt 4096 ]; then
  echo ', +' | sfdisk --no-reread --no-tell-kernel --partno "$number" "$disk"
  partx --update --nr "$number" "$disk"
fi

case $fs_type in
  btrfs) btrfs filesystem resize max "$mount_point" ;;
  *) resize2fs "$device" ;;
esac
