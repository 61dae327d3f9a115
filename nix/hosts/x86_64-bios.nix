# A PC or virtual machine with a BIOS, as many virtual servers have it.
#
# The BIOS starts GRUB, which lies in the first sector and in a small partition of its own, and reads its menu
# and the kernel from the root filesystem. There is no ESP, and /boot is a plain directory.
{
  imports = [ ./common/base.nix ];

  nixpkgs.hostPlatform = "x86_64-linux";
  # The disk to which the machine itself installs newer versions of GRUB.
  boot.loader.grub.device = "/dev/sda";

  fileSystems."/" = {
    device = "/dev/disk/by-uuid/2d9b6f41-7c58-4e0a-b3d2-90a1c4e7f586";
    fsType = "ext4";
  };
}
