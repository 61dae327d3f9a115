# A stand-in for the options of NixOS that an appliance has to do with.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  of =
    type: default:
    mkOption {
      inherit type default;
    };
  bool = of types.bool false;
  text = of (types.nullOr types.str) null;
in
{
  options = {
    boot.initrd = {
      availableKernelModules = of (types.listOf types.str) [ ];
      kernelModules = of (types.listOf types.str) [ ];
      secrets = of (types.attrsOf types.raw) { };
      # As in NixOS, those that the boot needs, whatever is at /boot and elsewhere.
      supportedFilesystems = of (types.attrsOf types.bool) (
        lib.genAttrs (map (fs: fs.fsType) (lib.attrValues config.fileSystems)) (_: true)
      );
      systemd.enable = bool;
      systemd.dmVerity.enable = bool;
    };
    boot.kernelPackages = of types.raw {
      kernel = pkgs.writeText "linux" "" // {
        version = "6.18";
        modDirVersion = "6.18.0";
      };
    };
    hardware.deviceTree.enable = of types.bool true;
    system.boot.loader.kernelFile = of types.str "bzImage";
    system.boot.loader.initrdFile = of types.str "initrd";
    system.image.id = text;
    system.image.version = text;
    systemd.sysupdate.enable = bool;
    systemd.sysupdate.transfers = of (types.attrsOf types.raw) { };
  };

  config.environment.etc."os-release".source = pkgs.writeText "os-release" "ID=nixos\nPRETTY_NAME=NixOS\n";
}
