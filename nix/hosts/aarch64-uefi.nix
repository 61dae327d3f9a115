# A server or virtual machine with UEFI and a 64-bit ARM processor.
{
  imports = [ ./common/base.nix ];

  nixpkgs.hostPlatform = "aarch64-linux";
  # To build it on another machine without emulation:
  # nixpkgs.buildPlatform = "x86_64-linux";
  boot.loader.systemd-boot.enable = true;
  # Many have their console on a serial line alone.
  boot.kernelParams = [ "console=ttyAMA0" ];
  boot.initrd.availableKernelModules = [
    "nvme"
    "virtio_pci"
    "virtio_blk"
  ];

  fileSystems."/boot" = {
    device = "/dev/disk/by-uuid/C83B-41F6";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };
  fileSystems."/" = {
    device = "/dev/disk/by-uuid/1f8e6a53-92d7-4c0b-b5e4-7a36c0d9e218";
    fsType = "ext4";
  };
}
