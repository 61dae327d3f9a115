# A Chromebook whose firmware is still its own, depthcharge, in developer mode: here the Samsung Chromebook
# Plus, called Kevin.
#
# Depthcharge knows no filesystems. It starts what lies in a partition of its own type: a signed bundle of
# kernel, initrd, device tree and command line, which comes before all else in the image. Later generations
# need a system.build.installBootLoader of your own that writes theirs there.
{ config, pkgs, ... }:
let
  inherit (config.system) build;
  inherit (config.system.boot.loader) initrdFile kernelFile;

  commandLine = toString ([ "init=${build.toplevel}/init" ] ++ config.boot.kernelParams);
in
{
  imports = [ ./common/base.nix ];

  nixpkgs.hostPlatform = "aarch64-linux";
  boot.loader.grub.enable = false;
  hardware.deviceTree.name = "rockchip/rk3399-gru-kevin.dtb";

  system.build.platformPartition =
    pkgs.runCommand "platform.img"
      {
        nativeBuildInputs = with pkgs.buildPackages; [
          depthcharge-tools
          vboot-utils
        ];
      }
      ''
        mkdepthcharge --arch arm64 --compress lzma --output "$out" \
          --keydir ${pkgs.buildPackages.vboot-utils}/share/vboot/devkeys \
          --cmdline ${pkgs.lib.escapeShellArg commandLine} \
          --vmlinuz ${build.kernel}/${kernelFile} \
          --initramfs ${build.initialRamdisk}/${initrdFile} \
          --dtbs ${config.hardware.deviceTree.package}/${config.hardware.deviceTree.name}
      '';

  # Depthcharge has no use for an ESP, so there is none.
  fileSystems."/" = {
    device = "/dev/disk/by-uuid/a90d3c7b-6e15-4d82-92f0-384b7c1e5fd6";
    fsType = "ext4";
  };

  sane.image = {
    # As much as this machine's firmware loads. A bundle that does not fit is an error.
    platformPartSize = 32 * 1024 * 1024;
  };
}
