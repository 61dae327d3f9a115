# The example as a PC whose GRUB, the one of the machine that checks, starts by a BIOS, and by UEFI where there
# is an ESP.
{ example, pkgs }:
fileSystems:
let
  kernel = pkgs.runCommand "kernel" { } ''
    mkdir "$out"
    seq 50000 > "$out/bzImage"
  '';
  initrd = pkgs.runCommand "initrd" { } ''
    mkdir "$out"
    seq 60000 > "$out/initrd"
  '';
  system =
    name: more:
    pkgs.runCommand name { } ''
      mkdir "$out"
      printf '#!/bin/sh\n' > "$out/init"
      chmod +x "$out/init"
      ln -s ${kernel}/bzImage "$out/kernel"
      ln -s ${initrd}/initrd "$out/initrd"
      printf console=ttyS0 > "$out/kernel-params"
      printf 26.05 > "$out/nixos-version"
      : > "$out/configuration-name"
      ${more}
    '';
  specialisation = system "nixos-system-special" "";
  hasEsp = fileSystems ? "/boot" || fileSystems ? "/boot/efi";
in
{
  inherit fileSystems;
  boot.loader.efi.efiSysMountPoint = if fileSystems ? "/boot/efi" then "/boot/efi" else "/boot";
  boot.loader.grub = {
    enable = true;
    device = "/dev/sda";
    efiSupport = hasEsp;
    efiInstallAsRemovable = hasEsp;
    users.root.hashedPassword = "grub.pbkdf2.sha512.10000.AA.BB";
    extraFiles."memtest.bin" = pkgs.writeText "memtest.efi" "memtest of the example\n";
    splashImage = null;
  };
  system.build.toplevel = system "nixos-system-grub" ''
    mkdir "$out/specialisation"
    ln -s ${specialisation} "$out/specialisation/special"
  '';
  sane.image = {
    inherit (example.sane.image) bootPartSize nixFreeSpace;
  };
}
