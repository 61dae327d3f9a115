# A stand-in for NixOS's module of this name, which variants of images import.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
in
{
  options.image = {
    baseName = mkOption {
      type = types.str;
      default = "nixos-image";
    };
    extension = mkOption { type = types.str; };
    filePath = mkOption {
      type = types.str;
      default = "${config.image.baseName}.${config.image.extension}";
    };
  };
}
