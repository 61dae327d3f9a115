#!/bin/sh
# Grows the partition that holds the store to the end of the disk, or to the partition behind it, and then its
# filesystem. Writes nothing where there is nothing to gain.
#
#   grow.sh MOUNT_POINT FS_TYPE
#
# Uses util-linux, and e2fsprogs for ext4 or btrfs-progs for btrfs.
#
# Each step looks at what is there, and not at what the step before did: after a failure or a power cut, the next
# boot goes on.
set -eu
mount_point=$1
fs_type=$2

# The store may be mounted read-only. In the service's own mounts, it is not.
mount -o remount,bind,rw "$mount_point"
if [ ! -w "$mount_point" ]; then
  echo "$mount_point does not grow, for its filesystem is read-only"
  exit 0
fi

device=$(findmnt --direction backward --first-only --noheadings --nofsroot --output SOURCE "$mount_point")
device=$(realpath "$device")

# The disk and the partition's number as the kernel has them: no name tells them reliably.
name=$(printf %s "${device#/dev/}" | tr / '!')
partition=$(realpath "/sys/class/block/$name")

# In sectors of 512 bytes, whatever the disk's are: what is free behind the partition.
free_behind() {
  start=$(cat "$partition/start")
  end=$((start + $(cat "$partition/size")))
  limit=$(cat "$partition/../size")
  for other in "$partition"/../*/start; do
    other=$(cat "$other")
    if [ "$other" -gt "$start" ] && [ "$other" -lt "$limit" ]; then limit=$other; fi
  done
  echo $((limit - end))
}

# Whether sfdisk, asked to make the partition as large as can be, would make it any larger. The kinds of tables
# differ in how far they reach. Of the lines on the partition, the last is on what would be.
would_grow() {
  plan=$(echo ', +' | sfdisk --no-act --no-reread --output device,sectors --partno "$number" "$disk" 2>&1) || {
    echo "$plan" >&2
    exit 1
  }
  before=$(echo "$plan" | sed -n "s|^$device  *||p" | head -n 1)
  after=$(echo "$plan" | sed -n "s|^$device  *||p" | tail -n 1)
  [ "$after" -gt "$before" ]
}

# A filesystem may also be on a whole disk or on a device that something else has made.
if [ -e "$partition/partition" ]; then
  number=$(cat "$partition/partition")
  disk=/dev/$(sed -n s/^DEVNAME=//p "$partition/../uevent")
  # Up to 2 MiB are for the backup of the partition table and for alignment.
  if [ "$(free_behind)" -gt 4096 ] && would_grow; then
    echo ', +' | sfdisk --no-reread --no-tell-kernel --partno "$number" "$disk"
    partx --update --nr "$number" "$disk"
  fi
fi

case $fs_type in
  btrfs) btrfs filesystem resize max "$mount_point" ;;
  *) resize2fs "$device" ;;
esac
