# A phone with an Allwinner A64, such as the PinePhone, that boots from SD card or eMMC.
#
# Its boot ROM reads U-Boot from 8 KiB on, where a partition table usually has its entries (1 KiB to
# 17 KiB). So the entries move out of the way: extraGPTPadding leaves 16 MiB free before them.
{ pkgs, ... }:
let
  # For its processor; a phone of yours may want its own configuration of U-Boot.
  uBoot = pkgs.ubootPine64LTS;
in
{
  imports = [ ./common/base.nix ];

  nixpkgs.hostPlatform = "aarch64-linux";
  boot.loader.grub.enable = false;
  boot.loader.generic-extlinux-compatible.enable = true;
  hardware.deviceTree.name = "allwinner/sun50i-a64-pinephone-1.2.dtb";

  fileSystems."/boot" = {
    device = "/dev/disk/by-uuid/2178-694E";
    fsType = "vfat";
  };
  fileSystems."/" = {
    device = "/dev/disk/by-uuid/3e5f7b21-8c4d-4f19-b6a0-9d1e2c3f4a5b";
    fsType = "ext4";
  };

  sane.image = {
    # The entries start at 16 MiB, not at 1 KiB. No further gap: the first partition follows them.
    extraGPTPadding = 16 * 1024 * 1024 - 1024;
    firstPartGap = null;
    installBootloader = ''
      dd if=${uBoot}/u-boot-sunxi-with-spl.bin of=$out/nixos.img bs=1024 seek=8 conv=notrunc
    '';
  };
}
