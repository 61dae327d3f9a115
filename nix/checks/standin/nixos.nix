# A stand-in for the options of NixOS that ../../module.nix touches, for the real `lib` and for ours.
{ lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
in
{
  imports = [ ./grub.nix ];

  options = {
    fileSystems = mkOption {
      default = { };
      type = types.attrsOf (
        types.submodule (
          { name, ... }:
          {
            options = {
              enable = mkOption {
                type = types.bool;
                default = true;
              };
              mountPoint = mkOption {
                type = types.str;
                default = name;
              };
              device = mkOption {
                type = types.nullOr types.str;
                default = null;
              };
              fsType = mkOption { type = types.str; };
              options = mkOption {
                type = types.listOf types.str;
                default = [ "defaults" ];
              };
              noCheck = mkOption {
                type = types.bool;
                default = false;
              };
              # One of the many that an image has no use for.
              neededForBoot = mkOption {
                type = types.bool;
                default = false;
              };
            };
          }
        )
      );
    };

    swapDevices = mkOption {
      default = [ ];
      type = types.listOf (
        types.submodule {
          options = {
            device = mkOption { type = types.str; };
            options = mkOption {
              type = types.listOf types.str;
              default = [ "defaults" ];
            };
            size = mkOption {
              type = types.nullOr types.ints.unsigned;
              default = null;
            };
            randomEncryption.enable = mkOption {
              type = types.bool;
              default = false;
            };
          };
        }
      );
    };
    boot.initrd.luks.devices = mkOption {
      default = { };
      type = types.attrsOf (
        types.submodule { options.device = mkOption { type = types.str; }; }
      );
    };
    boot.kernelParams = mkOption {
      type = types.listOf types.str;
      default = [ ];
    };
    environment.etc = mkOption {
      type = types.attrsOf types.raw;
      default = { };
    };
    boot.isContainer = mkOption {
      type = types.bool;
      default = false;
    };

    boot.loader.timeout = mkOption {
      type = types.nullOr types.ints.unsigned;
      default = 5;
    };
    boot.loader.efi.efiSysMountPoint = mkOption {
      type = types.str;
      default = "/boot";
    };
    boot.loader.efi.canTouchEfiVariables = mkOption {
      type = types.bool;
      default = false;
    };
    # What it had in all versions; today.nix has the rest.
    boot.loader.systemd-boot = {
      enable = mkOption {
        type = types.bool;
        default = false;
      };
      editor = mkOption {
        type = types.bool;
        default = true;
      };
      consoleMode = mkOption {
        type = types.str;
        default = "keep";
      };
      extraFiles = mkOption {
        type = types.attrsOf types.path;
        default = { };
      };
      extraEntries = mkOption {
        type = types.attrsOf types.lines;
        default = { };
      };
      extraInstallCommands = mkOption {
        type = types.lines;
        default = "";
      };
    };
    hardware.deviceTree.name = mkOption {
      type = types.nullOr types.str;
      default = null;
    };
    hardware.deviceTree.package = mkOption { type = types.path; };
    systemd.package = mkOption {
      type = types.package;
      default = pkgs.writeText "systemd" "";
    };

    boot.loader.generic-extlinux-compatible = {
      enable = mkOption {
        type = types.bool;
        default = false;
      };
      # Defined where the loader is enabled, as in NixOS.
      populateCmd = mkOption { type = types.str; };
    };

    users = mkOption {
      type = types.raw;
      default = { };
    };

    nix.enable = mkOption {
      type = types.bool;
      default = true;
    };
    nix.package = mkOption { type = types.package; };
    nix.settings = mkOption {
      default = { };
      type = types.attrsOf types.raw;
    };

    system.build = mkOption {
      default = { };
      type = types.lazyAttrsOf types.raw;
    };

    systemd.services = mkOption {
      default = { };
      type = types.attrsOf types.raw;
    };
  };
}
