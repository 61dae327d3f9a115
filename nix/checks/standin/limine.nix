# A stand-in for nixpkgs' options of Limine.
{ config, lib, ... }:
let
  inherit (lib) types;
  inherit (import ./declare.nix { inherit lib; })
    bool
    lines
    maybe
    of
    str
    ;
  cfg = config.boot.loader.limine;
  text = maybe types.str null;
  int = maybe types.ints.unsigned null;
in
{
  options.boot.loader.limine = {
    enable = bool false;
    package = of types.path "/limine";
    enableEditor = bool false;
    extraConfig = lines;
    extraEntries = lines;
    resolution = text;
    additionalFiles = of (types.attrsOf types.path) { };
    validateChecksums = bool true;
    panicOnChecksumMismatch = bool false;
    efiSupport = bool true;
    efiInstallAsRemovable = bool (!config.boot.loader.efi.canTouchEfiVariables);
    biosSupport = bool (!cfg.efiSupport);
    biosDevice = str "nodev";
    partitionIndex = int;
    enrollConfig = bool cfg.panicOnChecksumMismatch;
    extraInstallCommands = lines;
    secureBoot.enable = bool false;
    style = {
      wallpapers = of (types.listOf types.path) [ ];
      wallpaperStyle = str "stretched";
      backdrop = text;
      interface = {
        resolution = text;
        branding = text;
        brandingColor = text;
        helpColor = text;
        helpColorBright = text;
        helpHidden = bool false;
      };
      graphicalTerminal = {
        font.scale = text;
        font.spacing = int;
        palette = text;
        brightPalette = text;
        foreground = text;
        background = text;
        brightForeground = text;
        brightBackground = text;
        margin = int;
        marginGradient = int;
      };
    };
  };
}
