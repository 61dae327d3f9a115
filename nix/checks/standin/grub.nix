# A stand-in for nixpkgs' options of GRUB, and for what it makes of them.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  inherit (import ./declare.nix { inherit lib; })
    bool
    lines
    maybe
    of
    str
    ;
  cfg = config.boot.loader.grub;
in
{
  options.boot.loader.grub = {
    enable = bool false;
    device = str "";
    devices = of (types.listOf types.str) [ ];
    mirroredBoots = mkOption {
      default = [ ];
      type = types.listOf (
        types.submodule {
          options = {
            path = mkOption { type = types.str; };
            efiSysMountPoint = maybe types.str null;
            efiBootloaderId = maybe types.str null;
            devices = of (types.listOf types.str) [ ];
          };
        }
      );
    };
    efiSupport = bool false;
    efiInstallAsRemovable = bool false;
    forcei686 = bool false;
    zfsSupport = bool false;
    zfsPackage = of types.str "/zfs";
    enableCryptodisk = bool false;
    forceInstall = bool false;
    useOSProber = bool false;
    extraGrubInstallArgs = of (types.listOf types.str) [ ];
    extraInstallCommands = lines;
    extraPrepareConfig = lines;

    default = of (types.either types.ints.unsigned types.str) "0";
    timeoutStyle = str "menu";
    configurationLimit = of types.ints.unsigned 100;
    copyKernels = bool false;
    storePath = str "/nix/store";
    fsIdentifier = str "uuid";
    extraConfig = lines;
    extraPerEntryConfig = lines;
    extraEntries = lines;
    extraEntriesBeforeNixOS = bool false;
    entryOptions = maybe types.str "--class nixos --unrestricted";
    subEntryOptions = maybe types.str "--class nixos";
    extraFiles = of (types.attrsOf types.path) { };
    users = mkOption {
      default = { };
      type = types.attrsOf (
        types.submodule {
          options = {
            hashedPasswordFile = maybe types.str null;
            hashedPassword = maybe types.str null;
            passwordFile = maybe types.str null;
            password = maybe types.str null;
          };
        }
      );
    };

    font = maybe types.path "${pkgs.grub2}/share/grub/unicode.pf2";
    fontSize = maybe types.ints.unsigned null;
    splashImage = maybe types.path "${pkgs.writeText "wallpaper" ""}/wallpaper.png";
    splashMode = str "stretch";
    backgroundColor = maybe types.str null;
    theme = maybe types.path null;
    gfxmodeEfi = str "auto";
    gfxmodeBios = str "1024x768";
    gfxpayloadEfi = str "keep";
    gfxpayloadBios = str "text";
  };

  config.boot.loader.grub = lib.mkIf cfg.enable {
    devices = lib.mkIf (cfg.device != "") [ cfg.device ];
    mirroredBoots = lib.mkIf (cfg.devices != [ ]) [
      {
        path = "/boot";
        inherit (cfg) devices;
        inherit (config.boot.loader.efi) efiSysMountPoint;
      }
    ];
    extraPrepareConfig = lib.concatMapStringsSep "" (
      name:
      lib.concatMapStringsSep "" (args: ''
        /coreutils/bin/install -Dp ${lib.escapeShellArg cfg.extraFiles.${name}} ${lib.escapeShellArg args.efiSysMountPoint}/${lib.escapeShellArg name}
      '') cfg.mirroredBoots
    ) (lib.attrNames cfg.extraFiles);
  };
}
