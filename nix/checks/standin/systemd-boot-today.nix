# A stand-in for the options of NixOS that ../../boot-loaders.nix reads where there are such.
{ lib, ... }:
let
  inherit (lib) mkOption types;
in
{
  options = {
    boot.loader.systemd-boot = {
      installDeviceTree = mkOption {
        type = types.bool;
        default = false;
      };
      xbootldrMountPoint = mkOption {
        type = types.nullOr types.str;
        default = null;
      };
      bootCounting.enable = mkOption {
        type = types.bool;
        default = false;
      };
      bootCounting.tries = mkOption {
        type = types.ints.positive;
        default = 3;
      };
      rebootForBitlocker = mkOption {
        type = types.bool;
        default = false;
      };
    };
    system.nixos.distroName = mkOption {
      type = types.str;
      default = "NixOS";
    };
  };
}
