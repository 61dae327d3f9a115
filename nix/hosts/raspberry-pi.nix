# A Raspberry Pi 3 (or a Zero 2 W) that boots from SD card.
#
# Its boot ROM reads firmware files from the first FAT partition, and knows the MBR alone: a hybrid MBR
# tells it where that partition is. Everything else keeps to the GPT. The firmware starts U-Boot in place of
# a kernel, and U-Boot finds extlinux.conf beside it.
{ pkgs, ... }:
let
  configTxt = pkgs.writeText "config.txt" ''
    kernel=u-boot.bin
    arm_64bit=1
    # U-Boot needs the serial line's clock, even if nothing is connected to it.
    enable_uart=1
    # Leaves the screen as Linux has set it up.
    avoid_warnings=1
  '';

  firmware = pkgs.runCommand "raspberry-pi-firmware" { } ''
    mkdir "$out"
    cd ${pkgs.raspberrypifw}/share/raspberrypi/boot
    cp bootcode.bin start*.elf fixup*.dat bcm2710-rpi-3-*.dtb bcm2710-rpi-zero-2*.dtb "$out"
    cp ${pkgs.ubootRaspberryPi3_64bit}/u-boot.bin "$out"
    cp ${configTxt} "$out/config.txt"
  '';
in
{
  imports = [ ./common/base.nix ];

  nixpkgs.hostPlatform = "aarch64-linux";
  # To build it on another machine without emulation:
  # nixpkgs.buildPlatform = "x86_64-linux";
  boot.loader.grub.enable = false;
  boot.loader.generic-extlinux-compatible.enable = true;

  fileSystems."/boot" = {
    device = "/dev/disk/by-uuid/9D07-E3A5";
    fsType = "vfat";
  };
  fileSystems."/" = {
    device = "/dev/disk/by-uuid/58c4d2e7-0b9f-4361-8f7a-c15e92d3a604";
    fsType = "ext4";
  };

  sane.image = {
    extraBootFiles = [ firmware ];
    # FAT32 by LBA. The boot ROM of the Pi 4 and later ones reads the GPT, too, and needs none of this.
    hybridMbr = [
      {
        partition = "boot";
        type = "0x0c";
      }
    ];
  };
}
