# A single-board computer with a Rockchip RK3328, here the Rock64, that boots from SD card or eMMC.
#
# Its boot ROM reads U-Boot's first stage from a fixed place on the disk, and that the second from another.
# Both lie in the gap between the partition table and the first partition, where nothing else is. U-Boot then
# finds extlinux.conf on /boot.
{ pkgs, ... }:
let
  uBoot = pkgs.ubootRock64;
in
{
  imports = [ ./common/base.nix ];

  nixpkgs.hostPlatform = "aarch64-linux";
  # To build it on another machine without emulation:
  # nixpkgs.buildPlatform = "x86_64-linux";
  boot.loader.grub.enable = false;
  boot.loader.generic-extlinux-compatible.enable = true;

  fileSystems."/boot" = {
    device = "/dev/disk/by-uuid/7B3D-15C8";
    fsType = "vfat";
  };
  fileSystems."/" = {
    device = "/dev/disk/by-uuid/b7f2d9a0-1c64-4e0e-8a35-2f9b6c0d4e71";
    fsType = "ext4";
  };

  sane.image = {
    # At sector 64 and, 8 MiB from the start, at sector 16384. Unless told otherwise, the gap reaches to
    # 16 MiB. (U-Boot's u-boot-rockchip.bin is both in one, for sector 64.)
    installBootloader = ''
      dd if=${uBoot}/idbloader.img of=$out/nixos.img bs=512 seek=64 conv=notrunc
      dd if=${uBoot}/u-boot.itb of=$out/nixos.img bs=512 seek=16384 conv=notrunc
    '';
  };
}
