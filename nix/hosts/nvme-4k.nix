# A PC with UEFI whose NVMe disk is formatted with sectors of 4096 bytes (`nvme id-ns -H` tells).
#
# Firmware and kernel find no partitions on such a disk if the table is written for 512. Besides that,
# it is as the other PC; the filesystems are known by their labels here.
{
  imports = [ ./common/base.nix ];

  nixpkgs.hostPlatform = "x86_64-linux";
  boot.loader.systemd-boot.enable = true;
  boot.initrd.availableKernelModules = [ "nvme" ];

  fileSystems."/boot" = {
    device = "/dev/disk/by-label/ESP";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };

  sane.image = {
    sectorSize = 4096;
    # FAT32 on such sectors needs more than 257 MiB.
    bootPartSize = 1024 * 1024 * 1024;
  };
}
