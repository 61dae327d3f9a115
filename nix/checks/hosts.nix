# Hosts that show what the module makes of them: their specs, or their errors.
{ lib, pkgs }:
let
  esp = {
    device = "/dev/disk/by-uuid/2178-694E";
    fsType = "vfat";
  };
  nix = {
    device = "/dev/disk/by-uuid/0d0f3b5e-6c6e-4a51-9d7a-3f6b5f5a9c11";
    fsType = "ext4";
  };
  tmpfs = {
    device = "none";
    fsType = "tmpfs";
    options = [
      "size=2G"
      "mode=755"
    ];
  };
  on = fileSystems: { inherit fileSystems; };
  base = on {
    "/boot" = esp;
    "/" = nix;
  };
  baseWith = image: base // { sane = { inherit image; }; };
  package = name: pkgs.writeText name "";
in
{
  # Each has a golden of its name: its whole spec.
  specs = {
    boot-and-root = base;
    boot-and-nix = on {
      "/boot" = esp;
      "/" = nix // {
        device = "/dev/disk/by-label/root";
        neededForBoot = true;
      };
      "/nix" = nix;
    };
    boot-and-nix-store = on {
      "/boot" = esp;
      "/" = nix // {
        device = "/dev/disk/by-label/root";
      };
      "/nix/store" = nix // {
        options = [ "noatime" ];
      };
    };
    tmpfs-root = on {
      "/boot" = esp;
      "/" = tmpfs;
      "/nix" = nix;
      "/off" = nix // {
        enable = false;
      };
    };
    by-label = on {
      # The name of an entry is no more than the default of its mount point.
      esp = esp // {
        mountPoint = "/boot";
        device = "/dev/disk/by-label/ESP";
      };
      "/" = nix // {
        device = "/dev/disk/by-partlabel/system";
      };
    };
    btrfs = on {
      "/boot" = esp;
      "/" = tmpfs;
      "/nix" = nix // {
        fsType = "btrfs";
        options = [
          "subvol=@nix"
          "compress=zstd"
        ];
      };
      "/home" = nix // {
        fsType = "btrfs";
        options = [ "subvol=@home" ];
      };
    };
  };

  # Each changes one thing of boot-and-root: the golden options.diff shows what that does.
  options = {
    name = baseWith { name = "host"; };
    storeContents = baseWith { storeContents = [ (package "other-root") ]; };
    populateCmd = baseWith { populateCmd = "populate --flag"; };
    extlinux = base // {
      boot.loader.generic-extlinux-compatible = {
        enable = true;
        populateCmd = "extlinux-builder -g 20 -t 5";
      };
    };
    extraBootFiles = baseWith {
      extraBootFiles = [
        (package "firmware")
        ./standin/image
      ];
    };
    extraDirectories = baseWith { extraDirectories = [ "/var/log" ]; };
    extraGPTPadding = baseWith { extraGPTPadding = 8 * 1024 * 1024; };
    extraGPTPadding-past-16-MiB = baseWith { extraGPTPadding = 20 * 1024 * 1024; };
    firstPartGap = baseWith { firstPartGap = 1024 * 1024; };
    firstPartGap-none = baseWith { firstPartGap = null; };
    bootPartSize = baseWith { bootPartSize = 1024 * 1024 * 1024; };
    nixFreeSpace = baseWith { nixFreeSpace = 0; };
    sectorSize = baseWith { sectorSize = 4096; };
    installBootloader = baseWith {
      installBootloader = ''
        dd if=${package "u-boot"} of=$out/nixos.img conv=notrunc bs=1024 seek=8
      '';
    };
    # These have nothing to do with the image itself.
    extraBuildFlags = baseWith {
      extraBuildFlags = [
        "--io"
        "buffered"
      ];
    };
    verify = baseWith { verify = true; };
    registerNixPaths = baseWith { registerNixPaths = false; };
    growNixPartition = baseWith { growNixPartition = true; };
  };

  # Each cannot have an image: the golden errors.txt shows what is said of that.
  errors = {
    nothing = { };
    no-boot = on { "/" = nix; };
    no-nix = on { "/boot" = esp; };
    xfs = on {
      "/boot" = esp;
      "/nix" = nix // {
        fsType = "xfs";
      };
    };
    device-names = on {
      "/boot" = esp // {
        device = "/dev/sda1";
      };
      "/" = nix // {
        device = null;
      };
    };
    all-at-once = on {
      "/boot" = esp // {
        fsType = "ext4";
        device = "UUID=2178-694E";
      };
      "/" = tmpfs;
    };
  };

  # Each is refused for the option of its name.
  refused = {
    sectorSize = baseWith { sectorSize = 2048; };
    bootPartSize = baseWith { bootPartSize = 0; };
    extraDirectories = baseWith { extraDirectories = [ "var/log" ]; };
    installBootLoader = baseWith { installBootLoader = "true"; };
  };

  disabled = baseWith { enable = false; };
}
