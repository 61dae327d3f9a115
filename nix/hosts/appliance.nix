# An appliance: a system that cannot be changed, proves each block that it reads, and is replaced as a whole.
#
# All that is written goes to memory and is gone after a reboot. For what must stay, add a partition of your own, such as
# one for /var: sane.image.extraPartitions.
{ pkgs, ... }:
{
  nixpkgs.hostPlatform = "x86_64-linux";
  system.stateVersion = "26.05";

  # The version of the image. Count up with each one that machines are to get.
  system.image = {
    id = "kiosk";
    version = "1";
  };

  boot.loader.systemd-boot = {
    enable = true;
    # It could change the command line, and so the root hash.
    editor = false;
  };
  boot.initrd.systemd = {
    enable = true;
    dmVerity.enable = true;
  };

  fileSystems."/" = {
    device = "none";
    fsType = "tmpfs";
    options = [
      "size=50%"
      "mode=755"
    ];
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-uuid/7C3D-E14B";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };
  # What the initrd opens once the kernel command line has told it the root hash.
  fileSystems."/nix/store" = {
    device = "/dev/mapper/usr";
    fsType = "erofs";
    options = [ "ro" ];
    # fsck would read all of it at each boot, and could mend nothing.
    noCheck = true;
  };

  sane.image = {
    erofsCompression = "zstd:3";
    verity.enable = true;
    uki.enable = true;
    # A version that does not come up three times gives way to the one before it.
    uki.tries = 3;
    updates = {
      enable = true;
      # Two of these, for this version and the next one.
      slotSize = 2 * 1024 * 1024 * 1024;
      url = "https://updates.example.org/kiosk/";
    };
  };

  # Tries run out on a machine that reboots, and not on one that waits for somebody at its console.
  boot.kernelParams = [
    "panic=10"
    "boot.panic_on_fail"
  ];
  systemd.services.reboot-from-emergency = {
    wantedBy = [ "emergency.target" ];
    unitConfig = {
      DefaultDependencies = false;
      SuccessAction = "reboot-force";
    };
    serviceConfig = {
      Type = "oneshot";
      ExecStart = "${pkgs.coreutils}/bin/sleep 10";
    };
  };

  # No nixos-rebuild runs here.
  system.switch.enable = false;
  # For a first login at the console. Set a hash of yours instead.
  users.users.root.initialPassword = "nixos";
}
