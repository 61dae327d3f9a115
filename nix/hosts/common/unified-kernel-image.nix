# How a machine with UEFI boots an image: a unified kernel image, which holds this system's kernel, initrd
# and command line, lies where firmware looks on a removable disk. It needs no entry in the firmware's
# memory.
#
# On the machine, the first `nixos-rebuild boot --install-bootloader` puts systemd-boot in its place, and
# from then on there are generations to choose from.
{
  config,
  lib,
  pkgs,
  ...
}:
{
  boot.loader.systemd-boot.enable = true;

  sane.image.extraBootFiles = [
    (pkgs.runCommand "unified-kernel-image" { } ''
      install -D --mode=444 ${config.system.build.uki}/${config.system.boot.loader.ukiFile} \
        $out/EFI/BOOT/BOOT${lib.toUpper pkgs.stdenv.hostPlatform.efiArch}.EFI
    '')
  ];
}
