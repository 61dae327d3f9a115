# The example as a PC with UEFI and systemd-boot, whose image has partitions of its own besides.
{ example, pkgs }:
let
  file = name: pkgs.writeText name "${name} of the example\n";
  kernel = pkgs.runCommand "kernel" { } ''
    mkdir "$out"
    seq 50000 > "$out/bzImage"
  '';
  initrd = pkgs.runCommand "initrd" { } ''
    mkdir "$out"
    seq 60000 > "$out/initrd"
  '';
in
removeAttrs example [ "boot" ]
// {
  boot.loader.timeout = null;
  boot.loader.systemd-boot = {
    enable = true;
    extraFiles."efi/memtest86/memtest.efi" = file "memtest.efi";
    extraEntries."memtest86.conf" = "efi /efi/memtest86/memtest.efi\n";
  };
  # No program that a machine could start; the image holds it as it is.
  systemd.package = pkgs.runCommand "systemd" { } ''
    mkdir --parents "$out/lib/systemd/boot/efi"
    seq 1000 > "$out/lib/systemd/boot/efi/systemd-bootx64.efi"
  '';

  system.build.toplevel = pkgs.runCommand "nixos-system-uefi" { } ''
    mkdir "$out"
    printf '#!/bin/sh\n' > "$out/init"
    chmod +x "$out/init"
    cat > "$out/boot.json" << END
    {
      "org.nixos.bootspec.v1": {
        "system": "x86_64-linux",
        "label": "NixOS of the example",
        "toplevel": "$out",
        "init": "$out/init",
        "kernel": "${kernel}/bzImage",
        "kernelParams": [ "console=ttyS0" ],
        "initrd": "${initrd}/initrd"
      },
      "org.nixos.specialisation.v1": { },
      "org.nixos.systemd-boot": { "sortKey": "nixos" }
    }
    END
  '';
  system.build.platformPartition = file "platform.img";

  sane.image = {
    inherit (example.sane.image) bootPartSize nixFreeSpace;
    platformPartSize = 2 * 1024 * 1024;
    extraPartitions = [
      {
        name = "swap";
        typeGuid = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f";
        size = 3 * 1024 * 1024;
        swapDevice = "/dev/disk/by-label/swap";
      }
      {
        name = "data";
        typeGuid = "0fc63daf-8483-4772-8e79-3d69d8477de4";
        uuid = "9f2c7b44-5a1e-4d0b-8c36-e1d7a0b95f28";
        attributes = "0x8000000000000000";
        contents = file "data.img";
        place = "beforeBoot";
      }
    ];
    hybridMbr = [
      {
        partition = "boot";
        type = "0x0c";
        bootable = true;
      }
    ];
  };
}
