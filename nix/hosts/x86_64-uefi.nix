# A PC or virtual machine with UEFI.
{
  imports = [ ./common/base.nix ];

  nixpkgs.hostPlatform = "x86_64-linux";
  boot.loader.systemd-boot.enable = true;

  # These say what the image's filesystems are called, not only where they are mounted. Make your own
  # UUIDs: uuidgen, and for FAT eight digits of one.
  fileSystems."/boot" = {
    device = "/dev/disk/by-uuid/4A1C-9E02";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };
  fileSystems."/" = {
    device = "/dev/disk/by-uuid/6c1a9c4e-3f0b-4b57-9a2e-5d8f0e7b1a34";
    fsType = "ext4";
  };
}
