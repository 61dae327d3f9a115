# A PC with UEFI that keeps nothing but what lies on btrfs: its root is empty at each boot.
#
# Every mount of one device with `subvol=` makes that subvolume; the one on /nix holds the store, written
# compressed. The others are empty.
let
  subvolume = name: {
    device = "/dev/disk/by-uuid/d4c3b2a1-5e6f-4a7b-8c9d-0e1f2a3b4c5d";
    fsType = "btrfs";
    options = [
      "subvol=${name}"
      "compress=zstd:3"
      "noatime"
    ];
  };
in
{
  imports = [ ./common/base.nix ];

  nixpkgs.hostPlatform = "x86_64-linux";
  boot.loader.systemd-boot.enable = true;

  fileSystems."/" = {
    device = "none";
    fsType = "tmpfs";
    options = [
      "size=2G"
      "mode=755"
    ];
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-uuid/5F20-B7D4";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };
  fileSystems."/nix" = subvolume "@nix";
  fileSystems."/home" = subvolume "@home";
  fileSystems."/persist" = subvolume "@persist";

  sane.image = {
    # Room for new generations, and for what btrfs itself needs.
    nixFreeSpace = 2 * 1024 * 1024 * 1024;
  };
}
