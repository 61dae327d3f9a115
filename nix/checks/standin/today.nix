# A stand-in for the options of NixOS and of other projects that ../../module.nix reads where there are such.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  no = mkOption {
    type = types.bool;
    default = false;
  };
in
{
  imports = [
    ./appliance.nix
    ./limine.nix
  ];

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
    boot.kernel.enable = no // {
      default = true;
    };
    boot.lanzaboote.enable = no;
    boot.loader.external.enable = no;
    boot.loader.refind.enable = no;
    systemd.repart.enable = no;
    system.nixos.distroName = mkOption {
      type = types.str;
      default = "NixOS";
    };
  };
}
